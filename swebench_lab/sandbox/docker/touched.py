"""Which paths of a container's work tree may have changed, from what its first process has seen (`work_tree.look`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from swebench_lab.sandbox.diffs.changes import CACHE, LARGE, WorkTreeChanges, checked, leaves_out_caches, tracked


def touched(found: Any, git_dir: Path) -> WorkTreeChanges | None:
    """The changes that git has to look at; None where it has to look at everything.

    Args:
        found: What `work_tree.look` returned.
        git_dir: The sealed repository.
    """
    index = tracked(git_dir / "index")
    if found is None or index is None:
        return None
    caches, changes = not leaves_out_caches(git_dir), WorkTreeChanges()
    for path, kind, size in found["written"]:
        name = os.fsencode(path)
        if not caches and CACHE in name.split(b"/"):
            continue
        if kind in ("file", "link"):
            changes.written.add(name)
            changes.odd = changes.odd or size > LARGE
        else:
            changes.gone.add(name)
            changes.odd = True
    for path, names in found["folders"].items():
        _add_deletions(os.fsencode(path), {os.fsencode(name) for name in names}, index.names, changes)
    return checked(changes)


def _add_deletions(folder: bytes, names: set[bytes], index_paths: tuple[bytes, ...], changes: WorkTreeChanges) -> None:
    """Add what git follows in a directory and is not there any more, or was no directory."""
    prefix = folder + b"/" if folder else b""
    if folder in index_paths:
        changes.gone.add(folder)
    below = {path[len(prefix) :].split(b"/", 1)[0] for path in index_paths if path.startswith(prefix)}
    changes.gone |= {prefix + name for name in below - names}
