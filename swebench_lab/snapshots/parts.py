"""Parts of Snapshots: folders that are built once, within the user's quota, and shared with other users if a cache says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swebench_lab.sandbox.quotas import quota_of
from swebench_lab.snapshots.environment import debian, packages
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.transfer import shared_cache

KINDS = ("trees", "envs", "installs", debian.KIND)
"""What a Snapshot is made of, one folder of a cache each; a record names their keys as tree, env, install and system."""

Part = tuple[str, dict[str, Any]]
"""Key and marker of one such folder."""


def build_part(folder: Path, build: Callable[[Path], Mapping[str, Any]], /) -> tuple[dict[str, Any], bool]:
    """Return a folder's marker, building the folder when it is not complete.

    A cache that shares its parts with other users takes what is packed already, and packs what it had to build.

    Args:
        folder: Final place, `<root>/<kind>/<key>`.
        build: Fills an empty temporary folder and returns what to note in the marker.

    Returns:
        The marker, and whether it was built by this call.

    Raises:
        QuotaExceeded: The cache takes as much of the disk as this user may have.
    """
    root, kind, key = folder.parent.parent, folder.parent.name, folder.name
    packs = shared_cache.packs_of(root) if kind in shared_cache.KINDS else None

    def check_quota() -> None:
        quota_of().check_disk(f"building {kind}/{key[:12]}", root)

    if packs is None:
        return store.build_once(folder, build, before=check_quota)
    return store.build_once(
        folder,
        build,
        before=check_quota,
        source=lambda place: packs.take(kind, key, place),
        built=lambda place: packs.offer(kind, key, place),
    )


def complete_part(root: Path, kind: str, key: str) -> Part | None:
    """Return a part that is there, with all that belongs to it; None when something is missing."""
    marker = store.read_marker(root / kind / key) if key else None
    if marker is None or not packages.complete(root, marker.get("packages", ()), build_part):
        return None
    return key, marker


def folders_of(root: Path, record: Mapping[str, Any]) -> list[Path]:
    """Return the folders that a Snapshot is made of.

    Args:
        root: Of the cache.
        record: What the cache notes of the Snapshot, or the Snapshot's own meta.
    """
    keys = (record["tree"], record["env"], record.get("install", ""), record.get("system", ""))
    own = [root / kind / key for kind, key in zip(KINDS, keys, strict=True) if key]
    own += [root / packages.KIND / key for key in record.get("packages", ())]
    return own + [root / oci.KIND / key for key in record.get("image_layers", ())]
