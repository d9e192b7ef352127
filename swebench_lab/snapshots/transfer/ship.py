"""Snapshots on their way to another machine: packed by the keys of their parts, checked when they arrive."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers.archive import PARTS, extract
from swebench_lab.sandbox.layers.pack import Form, Packer
from swebench_lab.sandbox.layers.tree import DIRECTORY
from swebench_lab.snapshots.cache import Snapshot, SnapshotCache
from swebench_lab.snapshots.environment.specs import needs_checkout
from swebench_lab.snapshots.environment.venv import _pins_folder
from swebench_lab.snapshots.repository.start import same_content
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task

_TREES = ("trees", "envs", "packages", "installs")


def parts(cache: SnapshotCache, task: Task) -> tuple[str, ...]:
    """Return the folders, relative to a cache's root, that make a task's Snapshot; nothing when it is not there."""
    snapshot = cache.get(task)
    return _parts(cache, task, snapshot) if snapshot else ()


def _parts(cache: SnapshotCache, task: Task, snapshot: Snapshot) -> tuple[str, ...]:
    meta, spec = snapshot.meta, snapshot.spec
    found = [f"trees/{meta['tree']}", f"envs/{meta['env']}"]
    found += [f"packages/{key}" for key in meta.get("packages", ())]
    if meta["install"]:
        found.append(f"installs/{meta['install']}")
    if needs_checkout(task):
        found.append(f"metadata/{cache._metadata_key(str(meta['base_commit']))}")
    if spec.packages or spec.pins:
        interpreter = cache._interpreter(spec)
        pins = _pins_folder(spec.packages, interpreter, spec.exclude_newer, cache.root, spec.pins)
        found.append(str(pins.relative_to(cache.root)))
    return tuple(name for name in found if (cache.root / name).is_dir())


def size(cache: SnapshotCache, task: Task, there: Collection[str] = ()) -> int:
    """Return the bytes on the disk of what would be packed."""
    seen: set[tuple[int, int]] = set()
    return sum(store.size_of(cache.root / name, seen) for name in parts(cache, task) if name not in there)


def pack(cache: SnapshotCache, task: Task, there: Collection[str] = ()) -> IO[bytes] | None:
    """Pack a task's Snapshot, without the parts that are there already.

    Args:
        cache: Where it is.
        task: The task.
        there: Parts that the other machine has.

    Returns:
        An open file, to be read from its beginning; nothing when the Snapshot is not here.
    """
    wanted = parts(cache, task)
    if not wanted:
        return None
    file = tempfile.TemporaryFile()
    with Packer(file, Form()) as packer:
        for name in wanted:
            if name not in there:
                packer.add_tree(str(cache.root / name), name)
    file.seek(0)
    return file


def unpack(cache: SnapshotCache, packed: IO[bytes] | bytes) -> list[str]:
    """Bring packed parts into a cache, each whole or not at all, its content checked against its digest.

    Returns:
        The parts that were not there before.

    Raises:
        SnapshotError: It is no such archive, or a part is not what its digest says.
    """
    file = io.BytesIO(packed) if isinstance(packed, bytes) else packed
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
