"""Catalogue: which Snapshots a cache holds, what they take, whether they are as they were built, and removing them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.environment.venv import WORKDIR
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.parts import folders_of
from swebench_lab.snapshots.repository import history, start
from swebench_lab.snapshots.repository.seal import verify_seal
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.transfer import export

if TYPE_CHECKING:
    import polars as pl

_UNDER_WAY = 86_400.0  # seconds that a build may take


class Catalogue:
    """The Snapshots of a cache: one record each, which names its parts.

    Args:
        root: Of the cache.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, snapshot: Snapshot) -> None:
        """Note which parts make a Snapshot, or that it was used again."""
        path = self._record(snapshot.key)
        try:
            os.utime(path, follow_symlinks=False)  # a shared cache's record is not ours to touch
        except FileNotFoundError:
            _files.write_json(path, {"key": snapshot.key, **snapshot.meta})

    def use(self, snapshot: Snapshot) -> IO[str]:
        """Keep a Snapshot from being removed, until the file that is returned is closed, or this process ends."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._record(snapshot.key), follow_symlinks=False)
        return store.use(self._root, snapshot.key)

    def records(self) -> list[tuple[dict[str, Any], float]]:
        """Return the record of every Snapshot that is complete, with the time of its last use."""
        complete: list[tuple[dict[str, Any], float]] = []
        for path in sorted((self._root / "snapshots").glob("*.json")):
            record = _files.read_json(path)
            if record and all(store.read_marker(folder) is not None for folder in folders_of(self._root, record)):
                complete.append((record, path.lstat().st_mtime))
        return complete

    def frame(self) -> pl.DataFrame:
        """Return one row a Snapshot; see `SnapshotCache.ls`."""
        import polars as pl

        rows = []
        for record, last_use in self.records():
            folders = folders_of(self._root, record)
            sizes = [(store.read_marker(folder) or {}).get("bytes", 0) for folder in folders]
            rows.append({
                "key": record["key"], "task": record["task"], "repo": record["repo"], "commit": record["base_commit"],
                "python": record["python"], "packages": len(record["pins"]), "tree_bytes": sizes[0],
                "env_bytes": sum(sizes[1:]), "used_at": last_use, "env": record["env"],
            })  # fmt: skip
        schema = {"key": pl.String, "task": pl.String, "repo": pl.String, "commit": pl.String, "python": pl.String,
                  "packages": pl.Int64, "tree_bytes": pl.Int64, "env_bytes": pl.Int64, "used_at": pl.Float64,
                  "env": pl.String}  # fmt: skip
        frame = pl.DataFrame(rows, schema=schema)
        return frame.with_columns(pl.from_epoch(pl.col("used_at").cast(pl.Int64), time_unit="s"))

    def sizes(self) -> dict[str, int]:
        """Return the bytes on the disk by kind, and their total; what several trees share counts once."""
        seen: set[tuple[int, int]] = set()
        folders = self._root.iterdir() if self._root.is_dir() else ()
        kinds = sorted(p.name for p in folders if p.is_dir() and not p.is_symlink())
        sizes = {kind: _files.size_of(self._root / kind, seen) for kind in kinds}
        return sizes | {"total": sum(sizes.values())}

    def verify(self, key: str) -> str:
        """Check a Snapshot's layers and its seal, and return the audit line of the seal.

        Raises:
            SnapshotError: There is no such Snapshot, a layer has changed, or the seal does not hold.
        """
        record = next((record for record, _ in self.records() if record["key"] == key), None)
        if record is None:
            raise SnapshotError(f"verifying Snapshot {key!r}: {self._root} holds none with this key")
        for folder in folders_of(self._root, record):
            marker = store.read_marker(folder) or {}
            start.same_content(folder / "layer", str(marker.get("digest")), f"Snapshot {key}")
        if not record["tree"]:
            return f"{len(record['image_layers'])} layers of an image, no repository"
        workdir = str(record.get("workdir", f"/{WORKDIR}")).strip("/")
        return verify_seal(self._root / "trees" / record["tree"] / "layer" / workdir / ".git")

    def export(self, file: Path, keys: Iterable[str] | None) -> dict[str, int]:
        """Write Snapshots into one compressed file; see `SnapshotCache.export`.

        Raises:
            SnapshotError: There is none with such a key.
        """
        key_set = None if keys is None else set(keys)
        selected = [record for record, _ in self.records() if key_set is None or record["key"] in key_set]
        if missing := (key_set or set()) - {record["key"] for record in selected}:
            raise SnapshotError(f"exporting Snapshot {min(missing)!r}: {self._root} holds none with this key")
        folders = [folder for record in selected for folder in folders_of(self._root, record)]
        kinds = ("conda", "metadata", "pins")
        folders += [mark.parent for kind in kinds for mark in sorted((self._root / kind).glob(f"*/{store.MARKER}"))]
        return export.write(self._root, selected, folders, file)

    def evict(self, keys: Iterable[str] | None, older_than: float | None) -> list[str]:
        """Remove Snapshots that nobody uses; see `SnapshotCache.evict`."""
        key_set = None if keys is None else set(keys)
        now = time.time()
        records = {record["key"]: (record, last_use) for record, last_use in self.records()}
        selected = [
            key for key, (_, last_use) in records.items()
            if (key_set is None or key in key_set) and (older_than is None or now - last_use >= older_than)
        ]  # fmt: skip
        with store.unused(self._root, selected) as free:
            victims = [record for key, (record, _) in records.items() if key in free]
            self._remove(victims, [record for key, (record, _) in records.items() if key not in free])
        return [record["key"] for record in victims]

    def _remove(self, victims: Sequence[Mapping[str, Any]], remaining: Sequence[Mapping[str, Any]]) -> None:
        for record in victims:
            self._record(record["key"]).unlink(missing_ok=True)
        in_use = {folder for record in remaining for folder in self._all_folders(record)}
        for folder in {folder for record in victims for folder in self._all_folders(record)} - in_use:
            store.evict(folder)
        self._remove_steps(in_use)
        history.drop_unused(self._root)
        for commit in {r["base_commit"] for r in victims} - {r["base_commit"] for r in remaining}:
            store.evict(self._root / "bases" / commit)
        store.drop_unused(self._root / "files")

    def _remove_steps(self, in_use: set[Path]) -> None:
        """Remove the layers of builds that no Snapshot needs any more, but those of a build that may be under way."""
        for folder in (self._root / oci.KIND).glob("*"):
            marker = store.read_marker(folder) if folder not in in_use and not folder.is_symlink() else None
            if marker and marker.get(oci.STEP) and time.time() - marker["built_at"] > _UNDER_WAY:
                store.evict(folder)

    def _all_folders(self, record: Mapping[str, Any]) -> list[Path]:
        """The folders of a Snapshot, and those that only its build needed."""
        return folders_of(
            self._root, {**record, "image_layers": [*record.get("image_layers", ()), *record.get("stage_layers", ())]}
        )

    def _record(self, key: str) -> Path:
        return self._root / "snapshots" / f"{key}.json"
