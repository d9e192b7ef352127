"""What changed in a container's files, found out inside it: packed as a layer, and laid over the files of another one.

The engine says which paths differ from the image (`GET /containers/ID/changes`); how they are now is looked up here.
Only the standard library and `layers` are used, because it runs inside the box.
"""

from __future__ import annotations

import gzip
import os

from swebench_lab.sandbox.layers.archive import OVERLAID, extract
from swebench_lab.sandbox.layers.pack import Form, Packer
from swebench_lab.sandbox.layers.tree import DIRECTORY, entry_of, state_of

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_GONE = [0]
_OUTSIDE = ("dev", "proc", "sys", ".lab", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab")
"""What the engine mounts or makes itself; never part of a layer."""
_CHANGED, _ADDED, _DELETED = 0, 1, 2


def states(changes: list[tuple[str, int]]) -> dict[str, list[int]]:
    """How the paths that differ from the image are now: inode and change time; of a directory all but its times.

    Args:
        changes: Path without its leading slash, and kind: 0 changed, 1 added, 2 deleted.
    """
    return {entry["path"]: state_of(entry) for entry in _entries(changes)}


def capture(changes: list[tuple[str, int]], before: dict[str, list[int]], sink: Any) -> dict[str, list[int]]:
    """Pack what changed since `before` into a file-like object; returns how the paths are now."""
    now: dict[str, list[int]] = {}
    entries: dict[str, dict[str, Any]] = {}
    folders: dict[str, dict[str, Any]] = {}
    new: set[str] = set()  # directories that are new or were replaced, so that all below them is new
    for entry in _entries(changes):
        path, state = entry["path"], state_of(entry)
        previous, inside = before.get(path), os.path.dirname(path) in new
        now[path] = state
        if entry["kind"] == "dir":
            folders[path] = entry
            same = not inside and previous is not None and len(previous) == len(state) and previous[:2] == state[:2]
            replaced = previous is not None and not inside and not same
            entry["opaque"] = not same and (entry["opaque"] or replaced)
            if not same and (inside or entry["opaque"] or entry["new"]):
                new.add(path)
        if inside or path in new or previous != state:
            entries |= {folder: folders[folder] for folder in _above(path) if folder in folders}
            entries[path] = entry
    for path in _missing_paths(before, now, new):
        entries |= {folder: folders[folder] for folder in _above(path) if folder in folders}
        entries[path] = {"path": path, "kind": "deleted"}
    _pack(entries, sink)
    return now


def _above(path: str) -> Iterator[str]:
    """The directories on the way to a path, from the top."""
    parts = path.split("/")[:-1]
    return ("/".join(parts[:end]) for end in range(1, len(parts) + 1))


def _missing_paths(before: Iterable[str], now: Iterable[str], new: set[str]) -> list[str]:
    """The topmost paths that were there at the last checkpoint and of which nothing is left, not even a deletion."""
    missing: set[str] = set()
    for path in sorted(set(before) - set(now), key=lambda path: path.split("/")):
        parents = list(_above(path))
        standing = all(os.path.isdir(f"/{folder}") and not os.path.islink(f"/{folder}") for folder in parents)
        if standing and not os.path.lexists(f"/{path}") and not missing & {*parents} and not new & {*parents}:
            missing.add(path)
    return sorted(missing)


def _pack(entries: dict[str, dict[str, Any]], sink: Any) -> None:
    with Packer(sink, Form(level=1)) as packer:
        for path in sorted(entries, key=lambda path: path.split("/")):
            if entries[path]["kind"] == "deleted":
                packer.add(entries[path], -1)
                continue
            holder = _holder(path)
            try:
                packer.add(entries[path], holder)
            finally:
                os.close(holder)


def _holder(path: str) -> int:
    """The open directory that holds a path."""
    return os.open(f"/{os.path.dirname(path)}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _entries(changes: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """What is at each path now, parents first; nothing of what lies below a deleted one."""
    kinds = {path: kind for path, kind in changes if not _is_outside(path)}
    missing: set[str] = set()
    for path in sorted(kinds, key=lambda path: path.split("/")):
        if missing & {*_above(path)}:
            continue
        entry = _lookup(path)
        if entry is None:
            missing.add(path)
            entry = {"path": path, "kind": "deleted", "state": _GONE}
        elif entry["kind"] == "dir":
            # An image's directory that the engine calls deleted, and that is there all the same, was replaced.
            entry["opaque"], entry["new"] = kinds[path] == _DELETED, kinds[path] == _ADDED
        yield entry


def _is_outside(path: str) -> bool:
    return not path or any(path == place or path.startswith(f"{place}/") for place in _OUTSIDE)


def _lookup(path: str) -> dict[str, Any] | None:
    try:
        holder = _holder(path)
    except OSError:
        return None
    try:
        return entry_of(holder, os.path.basename(path), path)
    except OSError:
        return None
    finally:
        os.close(holder)


# --- the other way -------------------------------------------------------------------------------------------------


def apply(source: Any) -> int:
    """Lay a packed layer over the root directory; returns how many entries it had."""
    root = os.open("/", DIRECTORY)
    try:
        with gzip.GzipFile(fileobj=source) as plain:
            return int(extract(plain, root, OVERLAID)["count"])
    finally:
        os.close(root)
