"""Moving Snapshots: any number of them as one compressed file in which every content is stored once.

The file is a tar, compressed by xz: `index.json` says which folders there are and what each holds, and the contents follow,
named by their digest. On arrival equal files become hard links of each other, and each folder is checked against the digest
noted when it was built before anybody can see it.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers.archive import DAMAGE, EXPORT, Extraction
from swebench_lab.sandbox.layers.pack import Form, Packer
from swebench_lab.sandbox.layers.source import Source, members
from swebench_lab.sandbox.layers.tree import DIRECTORY
from swebench_lab.sandbox.layers.view import is_opaque
from swebench_lab.snapshots.storage import store

SCHEMA = 1
_MOST_INDEX = 512 << 20  # bytes
_PRESET = 1  # of xz; higher ones take many times as long for a few per cent

Members = Iterator[tuple[tarfile.TarInfo, "Callable[[], IO[bytes]] | None"]]
Entry = list[Any]
"""Kind (`file`, `dir`, `link`, `deleted`), path, mode, modification time in ns, and content's digest, target or opaqueness."""


def write(root: Path, records: Iterable[Mapping[str, Any]], folders: Iterable[Path], file: Path) -> dict[str, int]:
    """Write Snapshots into one file, which appears when it is complete.

    Args:
        root: Of the cache.
        records: What the cache notes of each Snapshot.
        folders: Everything that they are made of, below the root.
        file: Where to.

    Returns:
        `snapshots`, `files` (names), `contents` (different ones) and `bytes` of the file.
    """
    rows = list(records)
    contents: dict[str, Path] = {}
    digests: dict[tuple[int, int], str] = {}
    parts = {}
    for folder in sorted(set(folders)):
        marker = store.read_marker(folder)
        if marker is None:
            raise SnapshotError(f"exporting {folder}: it is not complete; prepare it again")
        entries = [
            _entry(path, folder, digests, contents) for path in sorted(_files.walk(folder)) if path.name != store.MARKER
        ]
        parts[folder.relative_to(root).as_posix()] = {"marker": marker, "entries": [e for e in entries if e]}
    index = json.dumps({"schema": SCHEMA, "snapshots": rows, "parts": parts}).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", delete=False) as draft:
        try:
            with lzma.open(draft, "wb", preset=_PRESET) as archive, Packer(archive, Form()) as packer:
                packer.add_bytes("index.json", io.BytesIO(index), len(index))
                # Alike next to alike: by ending, then by place.
                for digest, path in sorted(
                    contents.items(), key=lambda pair: (pair[1].suffix, pair[1].name, str(pair[1]))
                ):
                    with path.open("rb") as content:
                        packer.add_bytes(digest, content, path.stat().st_size)
            Path(draft.name).chmod(0o644)
            Path(draft.name).rename(file)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
    names = sum(entry[0] == "file" for part in parts.values() for entry in part["entries"])
    return {"snapshots": len(rows), "files": names, "contents": len(contents), "bytes": file.stat().st_size}


def _entry(path: Path, folder: Path, digests: dict[tuple[int, int], str], contents: dict[str, Path]) -> Entry | None:
    status = path.lstat()
    name, mode = path.relative_to(folder).as_posix(), stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return ["dir", name, mode, status.st_mtime_ns, is_opaque(str(path))]
    if stat.S_ISLNK(status.st_mode):
        return ["link", name, 0, status.st_mtime_ns, os.readlink(path)]
    if stat.S_ISCHR(status.st_mode):
        return ["deleted", name, 0, 0, ""]
    if not stat.S_ISREG(status.st_mode):
        return None
    place = (status.st_dev, status.st_ino)
    if place not in digests:
        digests[place] = hashlib.sha256(path.read_bytes()).hexdigest()
        contents.setdefault(digests[place], path)
    return ["file", name, mode, status.st_mtime_ns, digests[place]]


# --- arriving ---------------------------------------------------------------------------------------------------------


def read(root: Path, file: Path) -> list[str]:
    """Take in the Snapshots of a file; what is there already stays. Returns their keys.

    Raises:
        SnapshotError: The file is no export, is damaged, or holds a folder that is not what its digest says.
    """
    try:
        with lzma.open(file, "rb") as stream:
            archive = members(Source(stream), whole=True)
            index = _index(archive, file)
            missing = {n: p for n, p in index["parts"].items() if store.read_marker(_place(root, n, file)) is None}
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as pool:
                _contents(archive, missing, Path(pool), file)
                for name, part in missing.items():
                    _build(_place(root, name, file), part, Path(pool), file)
        records = index["snapshots"]
        keys = [store.checked_name(record["key"], "key of a Snapshot") for record in records]
    except SnapshotError:
        raise
    except (*DAMAGE, lzma.LZMAError, LookupError, TypeError, AttributeError) as error:
        raise SnapshotError(f"importing {file}: it is damaged ({error})") from error
    except OSError as error:
        raise SnapshotError(f"importing {file} into {root}: {error.strerror or error}") from error
    for key, record in zip(keys, records, strict=True):
        _files.write_json(root / "snapshots" / f"{key}.json", record)
    return keys


def _index(archive: Members, file: Path) -> dict[str, Any]:
    """What an export says it holds."""
    member, content = next(archive, (None, None))
    if member is None or content is None or member.name != "index.json":
        raise SnapshotError(f"importing {file}: it is no export of Snapshots")
    if member.size > _MOST_INDEX:
        raise SnapshotError(f"importing {file}: its index is longer than any honest one")
    index: dict[str, Any] = json.loads(content().read())
    if index.get("schema") != SCHEMA:
        raise SnapshotError(f"importing {file}: another version wrote it; export it again with this one")
    return index


def _place(root: Path, name: str, file: Path) -> Path:
    kind, _, key = name.partition("/")
    return root / store.checked_name(kind, f"importing {file}") / store.checked_name(key, f"importing {file}")


def _contents(archive: Members, parts: Mapping[str, Any], pool: Path, file: Path) -> None:
    """Write the contents that are needed, each under its digest, which is checked."""
    missing = {str(entry[4]) for part in parts.values() for entry in part["entries"] if entry[0] == "file"}
    for member, content in archive:
        if member.name not in missing or content is None or not re.fullmatch("[0-9a-f]{64}", member.name):
            continue
        digest, stream = hashlib.sha256(), content()
        with (pool / member.name).open("xb") as target:
            while data := stream.read(1 << 20):
                digest.update(data)
                target.write(data)
        if digest.hexdigest() != member.name:
            raise SnapshotError(f"importing {file}: it is damaged: a content is not what its digest says")
        missing.discard(member.name)
    if missing:
        raise SnapshotError(f"importing {file}: it is damaged: {len(missing)} contents are missing")


def _build(folder: Path, part: Mapping[str, Any], pool: Path, file: Path) -> None:
    def build(place: Path) -> dict[str, Any]:
        _lay(place, part["entries"], pool)
        noted: dict[str, Any] = dict(part["marker"])
        digest = store.digest_tree(place / "layer") if (place / "layer").is_dir() else noted.get("digest")
        if digest != noted.get("digest"):
            raise SnapshotError(f"importing {file}: {folder.name} is not what its digest says")
        return noted

    store.build_once(folder, build)


def _in_tree(name: str) -> str:
    """Return a file's path in its tree, the same for a task's tree, its true tests, and the clean files of its commit."""
    for start in ("layer/testbed/", "tests/", "tree/"):
        if name.startswith(start):
            return name.removeprefix(start)
    return name


def _lay(place: Path, entries: list[Entry], pool: Path) -> None:
    """Make the folder that a list of entries describes; files are hard links to the pool's."""
    root, contents = os.open(place, DIRECTORY), os.open(pool, DIRECTORY)
    try:
        extraction = Extraction(root, EXPORT)
        with extraction.writer as writer:

            def write(entry: dict[str, Any]) -> None:
                if entry["kind"] != "file":
                    writer.add(entry)
                    return
                twin = store.twin(pool / entry["content"], _in_tree(entry["path"]), entry["mode"], entry["time"])
                writer.share(entry, contents, twin.name)

            for entry in entries:
                extraction.add_entry(_unfold(entry, pool), write)
            extraction.finish()
    finally:
        os.close(root)
        os.close(contents)


def _unfold(entry: Entry, pool: Path) -> dict[str, Any]:
    """One entry of an index, as trees are written of."""
    kind, name, mode, when, what = entry
    if kind not in ("file", "dir", "link", "deleted"):
        raise SnapshotError(f"importing: {name!r} is of the unknown kind {kind!r}")
    full = {"kind": kind, "path": str(name), "mode": int(mode), "time": int(when)}
    if kind == "file":
        return full | {"content": str(what), "size": (pool / str(what)).stat().st_size}
    return full | ({"target": str(what)} if kind == "link" else {"opaque": bool(what)})
