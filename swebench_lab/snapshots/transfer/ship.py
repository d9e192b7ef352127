"""Snapshots on their way to another machine: packed by the keys of their parts, checked when they arrive."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers.archive import PARTS, extract
from swebench_lab.sandbox.layers.pack import Form, Packer
from swebench_lab.sandbox.layers.tree import DIRECTORY
from swebench_lab.snapshots.repository.start import same_content
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task

_TREES = ("trees", "envs", "packages", "installs", "system")


class Cache(Protocol):
    """What shipping needs of a cache of Snapshots."""

    root: Path

    def parts(self, task: Task, /) -> tuple[str, ...]:
        """Return the folders, relative to the root, that make a task's Snapshot; none when it is not there."""


def size(cache: Cache, task: Task, there: Collection[str] = ()) -> int:
    """Return the bytes on the disk of what would be packed."""
    seen: set[tuple[int, int]] = set()
    return sum(_files.size_of(cache.root / name, seen) for name in cache.parts(task) if name not in there)


def pack(cache: Cache, task: Task, there: Collection[str] = ()) -> IO[bytes] | None:
    """Pack a task's Snapshot, without the parts that are there already.

    Args:
        cache: Where it is.
        task: The task.
        there: Parts that the other machine has.

    Returns:
        An open file, to be read from its beginning; nothing when the Snapshot is not here.
    """
    names = cache.parts(task)
    if not names:
        return None
    file = tempfile.TemporaryFile()
    with Packer(file, Form()) as packer:
        for name in names:
            if name not in there:
                packer.add_tree(str(cache.root / name), name)
    file.seek(0)
    return file


def unpack(cache: Cache, parts: IO[bytes] | bytes) -> list[str]:
    """Bring packed parts into a cache, each whole or not at all, its content checked against its digest.

    Returns:
        The parts that were not there before.

    Raises:
        SnapshotError: It is no such archive, or a part is not what its digest says.
    """
    file = io.BytesIO(parts) if isinstance(parts, bytes) else parts
    brought = []
    cache.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".brought-", dir=cache.root) as folder:
        here = Path(folder)
        root = os.open(here, DIRECTORY)
        try:
            extract(file, root, PARTS)
        except OSError as error:
            raise SnapshotError(f"bringing a Snapshot into {cache.root}: {error.strerror}") from error
        finally:
            os.close(root)
        for part in sorted(here.glob("*/*")):
            name = str(part.relative_to(here))
            marker = store.read_marker(part)
            if marker is None:
                raise SnapshotError(f"bringing {name} into {cache.root}: it is not complete")
            if part.parent.name in _TREES:
                same_content(part / "layer", str(marker.get("digest")), f"{name} on its way")
            if _place(part, cache.root / name):
                brought.append(name)
    return brought


def _place(part: Path, target: Path) -> bool:
    if store.read_marker(target) is not None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.rename(target)
    except OSError:  # another one brought it meanwhile
        if store.read_marker(target) is None:
            raise
        return False
    return True
