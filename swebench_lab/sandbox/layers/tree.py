"""Trees of files that an agent may have written: what changed is captured, merged, packed and removed.

Every function works from open directories and follows no link, so nothing outside a tree is ever read, changed or
run. They run in a child of the zygote, which has the rights over the files that the box's root had.

A tree of changes is what an overlay keeps: a character device 0:0 for what was deleted, an attribute on a directory
that hides everything below it. Trees are read-only once made, so merging them can share files by hard links.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

from swebench_lab._unix import resource
from swebench_lab.sandbox.linux import kernel

_DIRECTORY = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
"""How a directory of a layer says that it hides what is below it: as overlays made by root read it, and all others."""

_PRIVATE = ("trusted.overlay.", "user.overlay.")
BLOCK = 1 << 16
LEASE = ".lease"
"""The file of a leased folder that says whose it is, and so has to go last."""

_MARK, _TIME, _INODE, _SPARSE = "LAB.mark", "LAB.time", "LAB.inode", "LAB.sparse"  # headers of a packed tree

Entry = dict[str, Any]
Seen = dict[str, list[int]]


def unlimited() -> None:
    """Prepare this process for trees nested as deep as an agent may nest them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setrecursionlimit(100_000)


# --- reading -------------------------------------------------------------------------------------------------------


def walk(directory: int, prefix: str = "") -> Iterator[tuple[Entry, int]]:
    """Every entry below an open directory, parents first and names in order, each with the directory that holds it."""
    for name in sorted(os.listdir(directory)):
        entry = entry_of(directory, name, f"{prefix}{name}")
        if entry is None:
            continue
        yield entry, directory
        if entry["kind"] == "dir":
            child = os.open(name, _DIRECTORY, dir_fd=directory)
            try:
                yield from walk(child, f"{prefix}{name}/")
            finally:
                os.close(child)


def entry_of(directory: int, name: str, path: str, marks: Sequence[str] = OPAQUE) -> Entry | None:
    """What one name stands for; None for what no layer can hold (sockets, devices).

    Args:
        directory: The open directory that has the name.
        name: In the directory.
        path: In the tree.
        marks: The attributes by which a directory of this tree says that it hides what is below it.
    """
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = _kind(status)
    if kind is None:
        return None
    entry: Entry = {"path": path, "kind": kind}
    if kind == "deleted":
        return entry | {"state": [0]}  # an overlay keeps all deletions as links of one inode, whose times say nothing
    entry |= {
        "mode": stat.S_IMODE(status.st_mode),
        "user": status.st_uid,
        "group": status.st_gid,
        "time": status.st_mtime_ns,
        "state": [status.st_ino, status.st_ctime_ns],
        "inode": f"{status.st_dev}:{status.st_ino}",
        "links": status.st_nlink,
    }
    if kind == "file":
        entry["size"] = status.st_size
    elif kind == "link":
        entry["target"] = os.readlink(name, dir_fd=directory)
    elif kind == "dir":
        entry["opaque"] = bool(marks) and _is_opaque(directory, name, marks)
    return entry


def _kind(status: os.stat_result) -> str | None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "dir"
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "deleted" if stat.S_ISCHR(mode) and status.st_rdev == 0 else None


def _is_opaque(directory: int, name: str, marks: Sequence[str]) -> bool:
    child = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        return any(_attribute(child, key) == b"y" for key in marks)
    finally:
        os.close(child)


def _attribute(descriptor: int, key: str) -> bytes | None:
    try:
        return os.getxattr(descriptor, key)
    except OSError:
        return None


# --- writing -------------------------------------------------------------------------------------------------------


class Writer:
    """A new tree of changes below an open directory, with the digest of what goes in.

    Args:
        root: The directory, empty and seen by nobody else.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._folders: list[tuple[str, int]] = [("", os.dup(root))]
        self._times: list[tuple[str, int]] = []
        self._linked: dict[str, str] = {}
        self._digest = hashlib.sha256()  # of the entry being written
        self._digests: list[tuple[str, Any]] = []
        self.entries: list[tuple[str, str]] = []
        self.size = 0

    def folder(self, path: str) -> int:
        """The open directory of the tree that will hold a path; directories are entered as they come."""
        parent = os.path.dirname(path)
        while not (
            parent == self._folders[-1][0]
            or parent.startswith(f"{self._folders[-1][0]}/")
            or self._folders[-1][0] == ""
        ):
            os.close(self._folders.pop()[1])
        at, descriptor = self._folders[-1]
        for name in parent[len(at) :].strip("/").split("/") if parent != at else ():
            at = f"{at}/{name}" if at else name
            descriptor = os.open(name, _DIRECTORY, dir_fd=descriptor)
            self._folders.append((at, descriptor))
        return descriptor

    def share(self, entry: Entry, source: int) -> None:
        """Write a file as another name of one in a read-only tree, or as a copy where the file system cannot."""
        folder, name = self.folder(entry["path"]), os.path.basename(entry["path"])
        try:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            self.add(entry, source=source)
            return
        self.entries.append((entry["kind"], entry["path"]))
        self.size += entry["size"]

    def add(self, entry: Entry, source: int | None = None, content: IO[bytes] | None = None) -> None:
        """Write one entry; a file's content comes from the directory that holds it, or from a stream."""
        path, kind = entry["path"], entry["kind"]
        folder, name = self.folder(path), os.path.basename(path)
        self.entries.append((kind, path))
        first = self._linked.get(entry["inode"]) if kind == "file" and entry["links"] > 1 else None
        self._hash(entry, first)
        if kind == "deleted":
            os.mknod(name, stat.S_IFCHR | 0o000, os.makedev(0, 0), dir_fd=folder)
            return
        if first is not None and self._link(first, name, folder, source):
            return
        getattr(self, f"_make_{kind}")(entry, folder, name, source, content)

    def _link(self, first: str, name: str, folder: int, source: int | None) -> bool:
        """Make another name of a file; False where it has as many as the file system allows, and can be copied."""
        try:
            os.link(first, name, src_dir_fd=self._root, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK or source is None:
                raise
            return False
        return True

    def _hash(self, entry: Entry, first: str | None) -> None:
        """Hash all of an entry but its content."""
        keys = (
            ("path", "kind") if first else ("path", "kind", "mode", "user", "group", "time", "size", "target", "opaque")
        )
        head = {key: entry[key] for key in keys if key in entry}
        if entry["kind"] == "dir":
            head.pop("time")  # the time of a directory says only when its names changed
        self._digest = hashlib.sha256(json.dumps([head, first], sort_keys=True).encode() + b"\n")
        self._digests.append((entry["path"], self._digest))

    def _own(self, entry: Entry, folder: int, name: str) -> None:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if (status.st_uid, status.st_gid) == (entry["user"], entry["group"]):
            return
        try:
            os.chown(name, entry["user"], entry["group"], dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):  # without root, every file of a box is its user's
                raise

    def _make_dir(self, entry: Entry, folder: int, name: str, source: int | None, content: IO[bytes] | None) -> None:
        os.mkdir(name, dir_fd=folder)
        self._own(entry, folder, name)
        child = os.open(name, _DIRECTORY, dir_fd=folder)
        try:
            os.fchmod(child, entry["mode"])
            if entry["opaque"]:
                make_opaque(child)
        finally:
            os.close(child)
        self._times.append((entry["path"], entry["time"]))

    def _make_link(self, entry: Entry, folder: int, name: str, source: int | None, content: IO[bytes] | None) -> None:
        os.symlink(entry["target"], name, dir_fd=folder)
        self._own(entry, folder, name)
        os.utime(name, ns=(entry["time"], entry["time"]), dir_fd=folder, follow_symlinks=False)

    def _make_fifo(self, entry: Entry, folder: int, name: str, source: int | None, content: IO[bytes] | None) -> None:
        os.mkfifo(name, dir_fd=folder)
        self._own(entry, folder, name)
        os.chmod(name, entry["mode"], dir_fd=folder)
        os.utime(name, ns=(entry["time"], entry["time"]), dir_fd=folder, follow_symlinks=False)

    def _make_file(self, entry: Entry, folder: int, name: str, source: int | None, content: IO[bytes] | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            if source is not None:
                opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
                try:
                    self._copy(opened, target)
                    _copy_attributes(opened, target)
                finally:
                    os.close(opened)
            elif content is not None:
                self._pour(content, target, entry)
            self._own(entry, folder, name)
            os.fchmod(target, entry["mode"])
            os.utime(target, ns=(entry["time"], entry["time"]))
        finally:
            os.close(target)
        self.size += entry["size"]
        if entry["links"] > 1:
            self._linked[entry["inode"]] = entry["path"]

    def _copy(self, source: int, target: int) -> None:
        """Copy a file block by block, passing over its holes."""
        for position, data in _blocks(source):
            self._put(data, target, position)
        os.ftruncate(target, os.fstat(source).st_size)

    def _pour(self, content: IO[bytes], target: int, entry: Entry) -> None:
        """Write a file from a stream, whose blocks follow each other or go to the places that are named."""
        places = iter(entry["blocks"]) if "blocks" in entry else itertools.count(0, BLOCK)
        while data := content.read(BLOCK):
            self._put(data, target, next(places))
        os.ftruncate(target, entry["size"])

    def _put(self, data: bytes, target: int, position: int) -> None:
        """Write and hash one block; blocks of zeros are neither, so holes make no difference."""
        if not data.strip(b"\0"):
            return
        self._digest.update(b"%d:" % position)
        self._digest.update(data)
        while data:
            written = os.pwrite(target, data, position)
            data, position = data[written:], position + written

    def finish(self) -> Entry:
        """Set the times of directories and say what was written."""
        for path, time in reversed(self._times):
            folder = self.folder(path)
            os.utime(os.path.basename(path), ns=(time, time), dir_fd=folder, follow_symlinks=False)
        for _, descriptor in self._folders:
            os.close(descriptor)
        self._digests.sort(key=lambda pair: pair[0])
        whole = hashlib.sha256(b"".join(digest.digest() for _, digest in self._digests))
        return {"digest": whole.hexdigest(), "entries": self.entries, "size": self.size}


def make_opaque(directory: int) -> None:
    """Hide everything below a directory of a tree, for either kind of overlay."""
    made = 0
    for key in OPAQUE:
        try:
            os.setxattr(directory, key, b"y")
            made += 1
        except OSError as error:
            refused = error
    if not made:
        raise OSError(
            refused.errno, f"mark a replaced directory: {refused.strerror} (this file system keeps no attributes)"
        )


def _copy_attributes(source: int, target: int) -> None:
    """Copy the attributes that are a user's own, as far as the file system of the layers has room for them."""
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        if name.startswith("user.") and not name.startswith(_PRIVATE):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:  # a box in memory may hold more of them than a file system on disk
                if error.errno not in (errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EOPNOTSUPP):
                    raise


# --- what changed --------------------------------------------------------------------------------------------------


def capture(upper: int, memory: int, target: str, marks: Sequence[str]) -> Entry:
    """Copy what changed in a writable directory since the last time into a new tree.

    Args:
        upper: The overlay's writable directory; nothing writes to it meanwhile.
        memory: A file that remembers between calls what was seen; empty the first time.
        target: Where the tree is made; does not exist.
        marks: Those of `OPAQUE` that the overlay itself sets there; a box may have set the others, which mean nothing.

    Returns:
        `digest`, `entries` and `size` of the tree.
    """
    before = _recall(memory)
    os.mkdir(target, 0o755)
    root = os.open(target, _DIRECTORY)
    try:
        os.fchmod(root, stat.S_IMODE(os.fstat(upper).st_mode))
        changes = _Changes(before, Writer(root), marks)
        changes.directory(upper, "", False)
        result = changes.writer.finish()
    finally:
        os.close(root)
    os.ftruncate(memory, 0)
    os.pwrite(memory, json.dumps(changes.now).encode(), 0)
    return result


def _recall(memory: int) -> Seen:
    size = os.fstat(memory).st_size
    value: Seen = json.loads(os.pread(memory, size, 0)) if size else {}
    return value


class _Changes:
    """The difference between what a directory held before and what it holds now."""

    def __init__(self, before: Seen, writer: Writer, marks: Sequence[str]) -> None:
        self.writer = writer
        self.now: Seen = {}
        self._marks = marks
        self._before = before
        self._names: dict[str, list[str]] = {}
        for path in before:
            self._names.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
        self._waiting: list[tuple[Entry, int]] = []

    def directory(self, directory: int, prefix: str, all_new: bool) -> None:
        """Write what changed below an open directory (everything, below one that is new)."""
        present = sorted(os.listdir(directory))
        for name in present:
            path = f"{prefix}{name}"
            entry = entry_of(directory, name, path, self._marks)
            if entry is None:
                continue
            known = self._before.get(path)
            state = state_of(entry)
            self.now[path] = state
            if entry["kind"] == "dir":
                self._enter(entry, known, state, directory, all_new)
            elif all_new or known != state:
                self._write(entry, directory)
        if not all_new:
            self.deletions(prefix, present)

    def _enter(self, entry: Entry, known: list[int] | None, state: list[int], directory: int, all_new: bool) -> None:
        same = not all_new and known is not None and len(known) == len(state) and known[:2] == state[:2]
        # A directory that replaced something hides all that earlier layers have below its name.
        replaced = not all_new and known is not None and not same
        entry["opaque"] = not same and (entry["opaque"] or replaced)
        self._waiting.append((entry, directory))
        if not same or known != state:
            self._flush()
        child = os.open(os.path.basename(entry["path"]), _DIRECTORY, dir_fd=directory)
        try:
            self.directory(child, f"{entry['path']}/", not same)
        finally:
            os.close(child)
        if self._waiting and self._waiting[-1][0] is entry:
            self._waiting.pop()

    def deletions(self, prefix: str, present: list[str]) -> None:
        """Write a deletion for every name that was there before and is gone."""
        here = set(present)
        for name in sorted(set(self._names.get(prefix.rstrip("/"), ())) - here):
            self._write({"path": f"{prefix}{name}", "kind": "deleted"}, None)

    def _write(self, entry: Entry, directory: int | None) -> None:
        self._flush()
        self.writer.add(entry, source=directory)

    def _flush(self) -> None:
        """Write the directories on the way to a change."""
        for entry, directory in self._waiting:
            self.writer.add(entry, source=directory)
        self._waiting.clear()


def state_of(entry: Entry) -> list[int]:
    """What tells whether an entry changed: inode and change time; of a directory all but its times."""
    if entry["kind"] != "dir":
        inode_and_time: list[int] = entry["state"]
        return inode_and_time
    return [entry["state"][0], int(entry["opaque"]), entry["mode"], entry["user"], entry["group"]]


def remember(upper: int, memory: int) -> int:
    """Remember what a directory holds, so that `capture` tells what changes from now on; returns how many entries."""
    seen = {entry["path"]: state_of(entry) for entry, _ in walk(upper)}
    os.ftruncate(memory, 0)
    os.pwrite(memory, json.dumps(seen).encode(), 0)
    return len(seen)


# --- merging -------------------------------------------------------------------------------------------------------


def squash(layers: list[str], target: str) -> Entry:
    """Merge read-only trees of changes (oldest first) into one new tree that means the same."""
    merged = _merge(layers)
    os.mkdir(target, 0o755)
    roots = {layer: os.open(layer, _DIRECTORY) for layer in layers}
    root = os.open(target, _DIRECTORY)
    writer = Writer(root)
    for path in sorted(merged, key=lambda path: path.split("/")):
        entry, layer = merged[path]
        if entry["kind"] != "file":
            writer.add(entry)
            continue
        holder = kernel.open_beneath(roots[layer], os.path.dirname(path), _DIRECTORY)
        writer.share(entry, holder)
        os.close(holder)
    result = writer.finish()
    for descriptor in (root, *roots.values()):
        os.close(descriptor)
    return result


def flatten(layers: list[str], target: str) -> int:
    """Copy layers (oldest first) into one ordinary tree, as an overlay would show them; returns how many entries."""
    merged = _merge(layers)
    os.mkdir(target, 0o755)
    roots = {layer: os.open(layer, _DIRECTORY) for layer in layers}
    root = os.open(target, _DIRECTORY)
    writer = Writer(root)
    for path in sorted(merged, key=lambda path: path.split("/")):
        entry, layer = merged[path]
        if entry["kind"] != "deleted":
            holder = kernel.open_beneath(roots[layer], os.path.dirname(path), _DIRECTORY)
            writer.add({**entry, "opaque": False, "inode": f"{layer}:{entry['inode']}"}, source=holder)
            os.close(holder)
    writer.finish()
    for descriptor in (root, *roots.values()):
        os.close(descriptor)
    return len(merged)


def _merge(layers: list[str]) -> dict[str, tuple[Entry, str]]:
    """What layers (oldest first) come to: for every path its entry and the layer that has it."""
    merged: dict[str, tuple[Entry, str]] = {}
    for layer in layers:
        root = os.open(layer, _DIRECTORY)
        try:
            for entry, _ in walk(root):
                _lay(merged, entry, layer)
        finally:
            os.close(root)
    return merged


def _lay(merged: dict[str, tuple[Entry, str]], entry: Entry, layer: str) -> None:
    """Put one entry of a newer tree on top of what older ones came to."""
    path = entry["path"]
    old = merged.get(path, ({"kind": ""}, ""))[0]
    if entry["kind"] == "dir" and old["kind"] == "dir" and not entry["opaque"]:
        entry["opaque"] = old["opaque"]
    else:
        if old["kind"] == "dir":
            for below in [other for other in merged if other.startswith(f"{path}/")]:
                del merged[below]
        elif entry["kind"] == "dir" and old["kind"]:
            entry["opaque"] = True  # what was hidden below the name stays hidden
    merged[path] = (entry, layer)


# --- one file ------------------------------------------------------------------------------------------------------


def pack(file: int, tree: str, level: int = 9) -> int:
    """Write a tree as a tar.gz, the same bytes for the same tree and level; returns how many entries.

    Deletions are entries ".wh.NAME", a replaced directory holds one ".wh..wh..opq" (the names container images use); an
    extra header tells them from files that happen to be called so.
    """
    import gzip
    import tarfile

    count = 0
    root = os.open(tree, _DIRECTORY)
    try:
        with (
            os.fdopen(os.dup(file), "wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=level) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            names: dict[str, str] = {}
            for entry, holder in walk(root):
                count += 1
                pack_entry(archive, entry, holder, names)
    finally:
        os.close(root)
    return count


def pack_entry(archive: Any, entry: Entry, holder: int, names: dict[str, str]) -> None:
    """Add one entry to a packed tree; `names` remembers the first name of files that have several."""
    import tarfile

    path, kind = entry["path"], entry["kind"]
    folder, name = os.path.split(path)
    if kind == "deleted":
        member = tarfile.TarInfo(os.path.join(folder, f".wh.{name}"))
        member.pax_headers = {_MARK: "deleted"}
        archive.addfile(member)
        return
    member = tarfile.TarInfo(path)
    member.mode, member.uid, member.gid = entry["mode"], entry["user"], entry["group"]
    member.pax_headers = {_TIME: str(entry["time"])}
    member.type = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}[
        kind
    ]
    if kind == "link":
        member.linkname = entry["target"]
    if kind == "file" and entry["links"] > 1:
        first = names.setdefault(entry["inode"], path)
        member.pax_headers = {**member.pax_headers, _INODE: first}
        if first != path:
            member.type, member.linkname = tarfile.LNKTYPE, first
    if member.type == tarfile.REGTYPE:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=holder), "rb") as content:
            _pack_content(archive, member, content, entry["size"])
        return
    archive.addfile(member)
    if kind == "dir" and entry["opaque"]:
        opaque = tarfile.TarInfo(f"{path}/.wh..wh..opq")
        opaque.pax_headers = {_MARK: "opaque"}
        archive.addfile(opaque)


def _pack_content(archive: Any, member: Any, content: IO[bytes], size: int) -> None:
    """Write a file; of one with holes only the blocks that hold something, with a header that says where they go."""
    if os.fstat(content.fileno()).st_blocks * 512 >= size:
        member.size = size
        archive.addfile(member, content)
        return
    blocks = [position for position, data in _blocks(content.fileno()) if data.strip(b"\0")]
    parts = [os.pread(content.fileno(), BLOCK, position) for position in blocks]
    member.size = sum(len(part) for part in parts)
    member.pax_headers = {**member.pax_headers, _SPARSE: " ".join(map(str, (size, *blocks)))}
    archive.addfile(member, io.BytesIO(b"".join(parts)))


def _blocks(source: int) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file that are not holes, with their places."""
    size, position = os.fstat(source).st_size, 0
    while position < size:
        try:
            data_starts = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: nothing but a hole up to the end
                raise
            return
        position = max(position, data_starts - data_starts % BLOCK)
        data = os.pread(source, BLOCK, position)
        if not data:
            return
        yield position, data
        position += len(data)


def unpack(file: int, target: str, mine: bool = False) -> Entry:
    """Make the tree that a packed one describes; nothing it says can reach outside the target.

    Args:
        file: A packed tree.
        target: Where the tree is made; does not exist.
        mine: Have everything belong to this user, whoever it belonged to.

    Returns:
        `digest`, `entries` and `size`, computed from what was written.
    """
    import tarfile
    import zlib

    os.mkdir(target, 0o755)
    root = os.open(target, _DIRECTORY)
    writer = Writer(root)
    waiting: list[Entry] = []
    try:
        with os.fdopen(os.dup(file), "rb") as raw, tarfile.open(fileobj=raw, mode="r:gz") as archive:
            for member in archive:
                if is_opaque_mark(member) and waiting:
                    waiting[0]["opaque"] = True
                    continue
                for entry in waiting:
                    writer.add(entry)
                waiting.clear()
                entry = unpack_entry(member)
                if mine and entry["kind"] != "deleted":
                    entry |= {"user": os.geteuid(), "group": os.getegid()}
                if entry["kind"] == "dir":
                    waiting.append(entry)  # its mark, if it has one, comes next
                else:
                    writer.add(entry, content=archive.extractfile(member) if member.isreg() else None)
            for entry in waiting:
                writer.add(entry)
        return writer.finish()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise OSError(errno.EINVAL, f"unpack a layer: {error}") from None
    finally:
        os.close(root)


def is_opaque_mark(member: Any) -> bool:
    """Whether a member of an archive says that the directory it is in replaced an earlier one."""
    return bool(member.pax_headers.get(_MARK) == "opaque")


def unpack_entry(member: Any) -> Entry:
    """What a member of an archive stands for; OSError for anything a layer cannot hold."""
    path = member.name
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")):
        raise OSError(errno.EINVAL, f"unpack a layer: the name {path!r} is not one of a layer")
    if member.pax_headers.get(_MARK) == "deleted":
        folder, name = os.path.split(path)
        return {"path": os.path.join(folder, name.removeprefix(".wh.")), "kind": "deleted"}
    kinds = {"isreg": "file", "islnk": "file", "isdir": "dir", "issym": "link", "isfifo": "fifo"}
    kind = next((kind for test, kind in kinds.items() if getattr(member, test)()), None)
    if kind is None:
        raise OSError(errno.EINVAL, f"unpack a layer: {path!r} is neither file, directory, link nor fifo")
    time = int(member.pax_headers.get(_TIME, int(member.mtime) * 10**9))
    first = member.pax_headers.get(_INODE, path)
    entry: Entry = {
        "path": path,
        "kind": kind,
        "mode": member.mode & 0o7777,
        "user": member.uid,
        "group": member.gid,
        "time": time,
        "inode": first,
        "links": 2 if _INODE in member.pax_headers else 1,
    }
    if kind == "file":
        entry["size"] = member.size
        if _SPARSE in member.pax_headers:
            entry["size"], *entry["blocks"] = map(int, member.pax_headers[_SPARSE].split())
    elif kind == "link":
        entry["target"] = member.linkname
    elif kind == "dir":
        entry["opaque"] = False
    return entry


# --- removal -------------------------------------------------------------------------------------------------------


def remove(tree: str) -> int:
    """Delete a directory with all it holds, whatever its modes; returns how many entries went."""
    try:
        parent = os.open(os.path.dirname(tree), _DIRECTORY)
    except FileNotFoundError:
        return 0
    try:
        return _remove(os.path.basename(tree), parent)
    except FileNotFoundError:
        return 0
    finally:
        os.close(parent)


def remove_all(folders: list[str]) -> int:
    """Delete several directories; returns how many entries went."""
    return sum(remove(folder) for folder in folders)


def clear(parent: int, name: str) -> bool:
    """Delete a folder below an open one, be it of files or of cgroups; whether it is gone."""
    try:
        folder = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return True
    try:
        for below in sorted(os.listdir(folder), key=lambda below: below == LEASE):
            if stat.S_ISDIR(os.stat(below, dir_fd=folder, follow_symlinks=False).st_mode):
                clear(folder, below)
            else:
                with contextlib.suppress(PermissionError):  # files of a cgroup go with it
                    os.unlink(below, dir_fd=folder)
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    finally:
        os.close(folder)
    return True


def _remove(name: str, parent: int) -> int:
    count = 1
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return count
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent)
    child = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        for below in os.listdir(child):
            count += _remove(below, child)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=parent)
    return count
