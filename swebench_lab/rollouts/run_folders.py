"""The run directories below a folder, each under the name it has in links: its path from there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from swebench_lab.errors import RecordError
from swebench_lab.rollouts.run_directory import is_run_directory

DEEPEST = 4
"""Levels below the folder that are looked at."""
_INSIDE = frozenset({"layers", "segments", "claims", "going", "attempts", "set-aside", "converted-from"})


def run_folders(root: Path) -> dict[str, Path]:
    """Return the run directories at or below a folder, by name; links to folders are not followed.

    Args:
        root: The folder.

    Returns:
        Name → folder. The name is the path from `root`, or the folder's own name where `root` is a run itself.
    """
    return {
        (folder.relative_to(root).as_posix() if folder != root else root.name or "run"): folder
        for folder in _find(root, 0)
    }


def below_hint(folder: Path) -> str:
    """Return the end of a sentence that names the runs below a folder; empty where it is a run itself, or there are none."""
    names = [] if _is_run(folder) else list(run_folders(folder))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"; below it are the runs {', '.join(names[:5])}{more}" if names else ""


def _find(folder: Path, depth: int) -> Iterator[Path]:
    is_run = _is_run(folder)
    if is_run:
        yield folder
    if depth == DEEPEST:
        return
    try:
        below = sorted((e for e in os.scandir(folder) if e.is_dir(follow_symlinks=False)), key=lambda e: e.name)
    except OSError:
        return  # not ours to read
    for entry in below:
        if not entry.name.startswith(".") and not (is_run and entry.name in _INSIDE):
            yield from _find(Path(entry.path), depth + 1)


def _is_run(folder: Path) -> bool:
    try:
        return is_run_directory(folder) or any((folder / "going").glob("*/.lock"))  # begun, nothing finished
    except (OSError, RecordError):
        return False
