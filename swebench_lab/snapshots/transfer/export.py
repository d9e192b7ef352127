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
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.storage import store

SCHEMA = 1
_PRESET = 1  # of xz; higher ones take many times as long for a few per cent

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
    chosen = list(records)
    contents: dict[str, Path] = {}
    known: dict[tuple[int, int], str] = {}
    parts = {}
    for folder in sorted(set(folders)):
        marker = store.read_marker(folder)
        if marker is None:
            raise SnapshotError(f"exporting {folder}: it is not complete; prepare it again")
        entries = [
            _entry(path, folder, known, contents) for path in sorted(_files.walk(folder)) if path.name != store.MARKER
        ]
        parts[folder.relative_to(root).as_posix()] = {"marker": marker, "entries": [e for e in entries if e]}
    index = json.dumps({"schema": SCHEMA, "snapshots": chosen, "parts": parts}).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}-", delete=False) as draft:
        try:
            with lzma.open(draft, "wb", preset=_PRESET) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
                _add(archive, "index.json", index)
                # Alike next to alike: by ending, then by place.
                for digest, path in sorted(
                    contents.items(), key=lambda pair: (pair[1].suffix, pair[1].name, str(pair[1]))
                ):
                    _add(archive, digest, path.read_bytes())
            Path(draft.name).chmod(0o644)
            Path(draft.name).rename(file)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise
    names = sum(entry[0] == "file" for part in parts.values() for entry in part["entries"])
    return {"snapshots": len(chosen), "files": names, "contents": len(contents), "bytes": file.stat().st_size}


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _entry(path: Path, folder: Path, known: dict[tuple[int, int], str], contents: dict[str, Path]) -> Entry | None:
    status = path.lstat()
    name, mode = path.relative_to(folder).as_posix(), stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return ["dir", name, mode, status.st_mtime_ns, oci.is_opaque(path)]
    if stat.S_ISLNK(status.st_mode):
        return ["link", name, 0, status.st_mtime_ns, os.readlink(path)]
    if stat.S_ISCHR(status.st_mode):
        return ["deleted", name, 0, 0, ""]
    if not stat.S_ISREG(status.st_mode):
        return None
    place = (status.st_dev, status.st_ino)
    if place not in known:
        known[place] = hashlib.sha256(path.read_bytes()).hexdigest()
        contents.setdefault(known[place], path)
    return ["file", name, mode, status.st_mtime_ns, known[place]]


# --- arriving ---------------------------------------------------------------------------------------------------------


def read(root: Path, file: Path) -> list[str]:
    """Take in the Snapshots of a file; what is there already stays. Returns their keys.

    Raises:
        SnapshotError: The file is no export, is damaged, or holds a folder that is not what its digest says.
    """
    try:
        with lzma.open(file, "rb") as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
            first = archive.next()
            content = archive.extractfile(first) if first is not None and first.name == "index.json" else None
            if content is None:
                raise SnapshotError(f"importing {file}: it is no export of Snapshots")
            index = json.loads(content.read())
            if index.get("schema") != SCHEMA:
                raise SnapshotError(f"importing {file}: a newer version wrote it; upgrade swebench_lab")
            missing = {n: p for n, p in index["parts"].items() if store.read_marker(_place(root, n, file)) is None}
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".import-") as pool:
                _contents(archive, missing, Path(pool), file)
                for name, part in missing.items():
                    _build(_place(root, name, file), part, Path(pool), file)
    except (lzma.LZMAError, tarfile.TarError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"importing {file}: it is damaged ({error})") from error
    for record in index["snapshots"]:
        _files.write_json(root / "snapshots" / f"{store.checked_name(record['key'], 'key of a Snapshot')}.json", record)
    return [record["key"] for record in index["snapshots"]]


def _place(root: Path, name: str, file: Path) -> Path:
    kind, _, key = name.partition("/")
    return root / store.checked_name(kind, f"importing {file}") / store.checked_name(key, f"importing {file}")


def _contents(archive: tarfile.TarFile, parts: Mapping[str, Any], pool: Path, file: Path) -> None:
    """Write the contents that are needed, each under its digest, which is checked."""
    wanted = {entry[4] for part in parts.values() for entry in part["entries"] if entry[0] == "file"}
    for member in archive:
        opened = archive.extractfile(member) if member.name in wanted else None
        if opened is None:
            continue
        content = opened.read()
        if hashlib.sha256(content).hexdigest() != member.name:
            raise SnapshotError(f"importing {file}: it is damaged: a content is not what its digest says")
        (pool / member.name).write_bytes(content)
        wanted.discard(member.name)
    if wanted:
        raise SnapshotError(f"importing {file}: it is damaged: {len(wanted)} contents are missing")


def _build(folder: Path, part: Mapping[str, Any], pool: Path, file: Path) -> None:
    def build(place: Path) -> dict[str, Any]:
        _lay(place, part["entries"], pool)
        noted: dict[str, Any] = dict(part["marker"])
        found = store.digest_tree(place / "layer") if (place / "layer").is_dir() else noted.get("digest")
        if found != noted.get("digest"):
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
    folders = []
    for kind, name, mode, when, what in entries:
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts:
            raise SnapshotError(f"importing: the name {name!r} leads outside")
        path = place / name
        if path.parent.resolve() != path.parent.absolute() and not path.parent.resolve().is_relative_to(
            place.resolve()
        ):
            raise SnapshotError(f"importing: the name {name!r} leads outside")
        if kind == "dir":
            path.mkdir()
            folders.append((path, mode, when))
            if what:
                store.make_opaque(path)
        elif kind == "link":
            path.symlink_to(what)
            os.utime(path, ns=(when, when), follow_symlinks=False)
        elif kind == "deleted":
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        else:
            store.link_as(pool / what, path, _in_tree(name), mode, when)
    for path, mode, when in reversed(folders):
        path.chmod(mode)
        os.utime(path, ns=(when, when))
