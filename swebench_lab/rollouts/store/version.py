"""The version of a run directory's layout: written with its first row, and checked before anything is read."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from swebench_lab.errors import RecordError

VERSION = 2
"""Of this layout. 1 was one JSON line an attempt in rollouts.jsonl, of two shapes; `runs convert` reads both."""

NAME = "layout.json"
OLD = "rollouts.jsonl"


def version_of(path: Path) -> int | None:
    """Return the version of the layout of a folder; None where no attempt was kept in it yet.

    Raises:
        RecordError: What says so cannot be read.
    """
    mark = path / NAME
    if not mark.exists():
        return 1 if (path / OLD).is_file() else None
    try:
        return int(json.loads(mark.read_bytes())["layout"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RecordError(f"opening the run directory {path}: {NAME} cannot be read: {error!r}") from error


def check(path: Path) -> None:
    """Refuse a run directory of another version.

    Raises:
        RecordError: It is of another version; says what to do.
    """
    version = version_of(path)
    if version == 1:
        raise RecordError(
            f"opening the run directory {path}: an earlier version of swebench_lab wrote it ({OLD}). Convert it with "
            f"`swebench-lab runs convert {path}`; the old files stay beside the new ones"
        )
    if version is not None and version != VERSION:
        raise RecordError(
            f"opening the run directory {path}: its layout is of version {version}, and this swebench_lab reads "
            f"{VERSION}. Open it with the version that wrote it"
        )


def mark(path: Path) -> None:
    """Say of which version a run directory is."""
    if not (path / NAME).exists():
        part = path / f".{NAME}.{secrets.token_hex(4)}.part"
        part.write_text(json.dumps({"layout": VERSION}) + "\n", "utf-8")
        part.replace(path / NAME)
