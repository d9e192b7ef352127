"""Root file systems that are no image: a folder that debootstrap made, or a tar of one, taken in as an image of one layer."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.checkpoints import remove_tree, run_task
from swebench_lab.sandbox.layers.tree import DIRECTORY, check_depth, entry_of
from swebench_lab.sandbox.layers.writer import Style, Writer
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.image.oci import KIND, Image, facts_of
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

log = logging.getLogger(__name__)

VERSION = 1
"""Part of every key; a change of how folders are taken in must raise it."""


def open_source(source: str, root: Path, build_once: BuildOnce = store.build_once) -> Image:
    """Return an image, or a root file system as one, whose layers are on this machine.

    Args:
        source: What `oci.open_image` takes; or a folder, or a tar (also compressed), that holds a root file system.
        root: The cache's folder.
        build_once: Builds a layer where it is not there.

    Raises:
        SnapshotError: It cannot be found or read.
    """
    path = Path(source).expanduser()
    if path.is_dir() and not (path / "index.json").is_file() and not (path / "manifest.json").is_file():
        return _of_folder(path.resolve(), source, root, build_once)
    if path.is_file() and not _is_image(path, source):
        return _of_tar(path, source, root, build_once)
    return oci.open_image(source, root, build_once)


def _is_image(path: Path, source: str) -> bool:
    """Whether a tar holds an image, and not the files themselves."""
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in ("manifest.json", "index.json", "oci-layout"):
                    return True
                if "/" in name and not name.startswith("blobs/") and name.count("/") > 1:
                    return False
    except (tarfile.TarError, OSError, EOFError):
        with path.open("rb") as file:
            if file.read(4) == oci.ZSTD:
                return False
        raise SnapshotError(
            f"reading the image {source}: it is no archive of an image, nor of a root file system"
        ) from None
    return False


def _of_tar(path: Path, source: str, root: Path, build_once: BuildOnce) -> Image:
    note = root / "image-names" / _files.digest_of(VERSION, source, *oci.stamp(source))
    record = _files.read_json(note)
    if not record or store.read_marker(root / KIND / record["key"]) is None:
        total = hashlib.sha256()
        with path.open("rb") as archive, tempfile.TemporaryFile() as plain:
            for data in oci.plain(archive, source):
                total.update(data)
                plain.write(data)
            build_once(root / KIND / total.hexdigest(), functools.partial(_unpack, plain.fileno(), source))
        record = {"key": total.hexdigest()}
        _files.write_json(note, record)
    return _image(source, root, record["key"])


def _unpack(plain: int, source: str, folder: Path) -> dict[str, Any]:
    folder.chmod(0o700)
    os.lseek(plain, 0, os.SEEK_SET)
    try:
        facts = run_task("unpack_image_layer", [plain], target=str(folder / "layer"))
    except OSError as error:
        remove_tree(folder / "layer")
        raise SnapshotError(f"unpacking the root file system {source}: {error.strerror}") from error
    return {**facts, **facts_of(folder)}


def _of_folder(path: Path, source: str, root: Path, build_once: BuildOnce) -> Image:
    if path == Path("/"):
        raise SnapshotError(
            "taking in a root file system: / is this machine itself; name a folder that holds another one"
        )
    key = _files.digest_of("rootfs", VERSION, str(path), _state(path), os.geteuid() == 0)
    build_once(root / KIND / key, functools.partial(_copy, path))
    return _image(source, root, key)


def _image(source: str, root: Path, key: str) -> Image:
    marker = store.read_marker(root / KIND / key) or {}
    return Image(source, str(marker["digest"]), (root / KIND / key / "layer",), (key,), {}, (), {})


def _state(path: Path) -> str:
    """What tells one state of a folder from another, read without opening a file."""
    total = hashlib.sha256()
    for entry, _ in _walk(path):
        if entry is not None:
            total.update(repr(sorted(entry.items())).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _copy(path: Path, folder: Path) -> dict[str, Any]:
    """Copy a folder as one layer; what this user cannot read is left out and said."""
    folder.chmod(0o700)
    target = folder / "layer"
    target.mkdir(mode=0o755)
    at = os.open(target, DIRECTORY)
    unreadable: list[str] = []
    try:
        with Writer(at, Style(digests=False)) as writer:
            for entry, directory in _walk(path):
                if entry is None:
                    continue
                if entry["kind"] == "file" and not os.access(
                    os.path.basename(entry["path"]), os.R_OK, dir_fd=directory
                ):
                    unreadable.append(entry["path"])
                    continue
                writer.add(entry, source=directory)
            writer.finish()
        status = path.stat()
        os.fchmod(at, stat.S_IMODE(status.st_mode) | 0o700)
        if os.geteuid() == 0:
            os.fchown(at, status.st_uid, status.st_gid)
    except OSError as error:
        remove_tree(target)
        raise SnapshotError(f"taking in the root file system {path}: {error.strerror}") from error
    finally:
        os.close(at)
    if unreadable:
        log.warning(
            "%s: %d files that this user cannot read were left out, /%s the first", path, len(unreadable), unreadable[0]
        )
    return {"left_out": len(unreadable), **facts_of(folder)}


def _walk(path: Path) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Every entry below a folder with its holder, as a layer may have it; what is mounted there is not looked into."""
    top = os.open(path, DIRECTORY)
    try:
        yield from _below(top, "", os.fstat(top).st_dev)
    finally:
        os.close(top)


def _below(directory: int, prefix: str, device: int) -> Iterator[tuple[dict[str, Any] | None, int]]:
    for name in sorted(os.listdir(directory)):
        entry = entry_of(directory, name, f"{prefix}{name}", ())
        if entry is None or entry["kind"] == "deleted":
            continue
        if entry["kind"] in ("file", "dir"):
            mask, least = (0o1777, 0o700) if entry["kind"] == "dir" else (0o777, 0o400)
            entry["mode"] = entry["mode"] & mask | least
        yield entry, directory
        if entry["kind"] != "dir" or os.stat(name, dir_fd=directory, follow_symlinks=False).st_dev != device:
            continue
        check_depth(entry["path"])
        try:
            child = os.open(name, DIRECTORY, dir_fd=directory)
        except PermissionError:
            continue
        try:
            yield from _below(child, f"{prefix}{name}/", device)
        finally:
            os.close(child)
