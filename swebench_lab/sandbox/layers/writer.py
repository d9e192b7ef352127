"""Writing a tree below an open directory, entry by entry: no link is followed, and nothing outside is touched.

What is in an entry may come from an agent. Each directory on the way to a name is opened by itself and refused if it is
a link; a name that is there already is an error, or is removed first, and is never written through.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat

from swebench_lab.sandbox.layers.remove import empty, remove_name
from swebench_lab.sandbox.layers.tree import BLOCK, DIRECTORY, PRIVATE, Entry, blocks, make_opaque
from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `records`
if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Any, Self


def _flags(*names: str) -> int:
    """The flags that this system has; elsewhere than on Linux this can be imported, and not used."""
    return sum(getattr(os, f"O_{name}", 0) for name in names)


_NEW = _flags("WRONLY", "CREAT", "EXCL", "NOFOLLOW", "CLOEXEC")
_READ = _flags("RDONLY", "NOFOLLOW", "NONBLOCK", "CLOEXEC")


class Refused(OSError):
    """An entry is not one that may be written; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)


@record
class Style:
    """How a tree is written.

    Attributes:
        replaces: What goes when its name is written again: "" (nothing: it is an error), "files" (all but
            directories with something in them) or "all".
        parents: Whether directories that are missing on the way to a name are made.
        deletions: Whether deletions are "marks" for an overlay, or "done" at once to what is there.
        owners: Whether entries belong to whom they say, or to this user.
        times: Whether entries get the times that they say.
        digests: Whether a digest of all that is written is computed, and entries are listed.
        hard_links: Whether further names of a file are hard links, or copies.
    """

    replaces: str = ""
    parents: bool = False
    deletions: str = "marks"
    owners: bool = True
    times: bool = True
    digests: bool = True
    hard_links: bool = True


class Writer:
    """A tree below an open directory, with the digest of what goes in.

    An entry that is a further name of a file has its first path as `same`, or shares the `inode` (with `links` over 1)
    of one that was written before.

    Args:
        root: The directory.
        style: How it is written.
    """

    def __init__(self, root: int, style: Style | None = None) -> None:
        self._root = root
        self._style = style or Style()
        self._folders: list[tuple[str, int]] = [("", os.dup(root))]
        self._times: list[tuple[str, int]] = []
        self._inode_paths: dict[str, str] = {}
        self._files: set[str] = set()
        self._digest = hashlib.sha256()  # of the entry being written
        self._digests: list[tuple[str, Any]] = []
        self.entries: list[tuple[str, str]] = []
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._folders:
            os.close(self._folders.pop()[1])

    # --- directories on the way

    def folder(self, path: str) -> int:
        """The open directory of the tree that will hold a path; directories are entered as they come."""
        parent = os.path.dirname(path)
        while not self._is_on_the_way(self._folders[-1][0], parent):
            os.close(self._folders.pop()[1])
        at, descriptor = self._folders[-1]
        for name in parent[len(at) :].strip("/").split("/") if parent != at else ():
            at = f"{at}/{name}" if at else name
            descriptor = self._enter(name, descriptor, at)
            self._folders.append((at, descriptor))
        return descriptor

    @staticmethod
    def _is_on_the_way(at: str, parent: str) -> bool:
        return at in ("", parent) or parent.startswith(f"{at}/")

    def _enter(self, name: str, directory: int, path: str) -> int:
        if self._style.parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=directory)
        try:
            return os.open(name, DIRECTORY, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENOENT):
                raise
            problem = "is missing" if error.errno == errno.ENOENT else "is a link, or no directory"
            raise Refused(f"the way to an entry leads through {path!r}, which {problem}") from None

    # --- entries

    def share(self, entry: Entry, source: int, source_name: str = "") -> None:
        """Write a file as another name of one nobody writes to, or as a copy where the file system cannot.

        Args:
            entry: The file; its mode and time are those of the source.
            source: The open directory that has the source.
            source_name: Its name there; as the entry's when empty.
        """
        folder, name = self.folder(entry["path"]), os.path.basename(entry["path"])
        try:
            os.link(source_name or name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            self.add(entry, source=source, source_name=source_name)
            return
        self.entries.append((entry["kind"], entry["path"]))
        self.size += entry["size"]

    def add(
        self, entry: Entry, source: int | None = None, content: IO[bytes] | None = None, source_name: str = ""
    ) -> None:
        """Write one entry; a file's content comes from the directory that holds it, or from a stream."""
        path, kind = entry["path"], entry["kind"]
        folder, name = self.folder(path), os.path.basename(path)
        first = entry.get("same") or (
            self._inode_paths.get(entry["inode"]) if kind == "file" and entry.get("links", 1) > 1 else None
        )
        if self._style.digests:
            self.entries.append((kind, path))
            self._hash(entry, first)
        if kind == "dir":
            self._make_dir(entry, folder, name)
            return
        if first is not None and entry.get("same"):
            self._check_first(first, path)
        self._make_room(folder, name)
        if kind == "deleted":
            if self._style.deletions == "marks":
                os.mknod(name, stat.S_IFCHR | 0o000, os.makedev(0, 0), dir_fd=folder)
        elif kind == "file":
            if first is None or not self._link(first, name, folder):
                self._make_file(entry, folder, name, source, content, source_name or name, first)
        else:
            {"link": self._make_link, "fifo": self._make_fifo}[kind](entry, folder, name)

    def _check_first(self, first: str, path: str) -> None:
        """Refuse a further name of anything but a file that was written before, here."""
        if first == path or first not in self._files:
            raise Refused(f"{path!r} is a hard link to {first!r}, which is no file that came before it")

    def _make_room(self, folder: int, name: str) -> None:
        """Remove what has a name, as far as the style allows."""
        if self._style.replaces == "all":
            remove_name(folder, name)
        elif self._style.replaces == "files":
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                pass
            except (IsADirectoryError, PermissionError) as error:
                raise Refused(f"{name!r} is a directory already: {error.strerror}") from None

    def _link(self, first: str, name: str, folder: int) -> bool:
        """Make another name of a file; False where it has as many as the file system allows, or copies are wanted."""
        if not self._style.hard_links:
            return False
        holder = open_folder(self._root, os.path.dirname(first))
        try:
            self._check_is_file(first, holder)
            os.link(os.path.basename(first), name, src_dir_fd=holder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            return False
        finally:
            os.close(holder)
        return True

    def _check_is_file(self, path: str, holder: int) -> None:
        if not stat.S_ISREG(os.stat(os.path.basename(path), dir_fd=holder, follow_symlinks=False).st_mode):
            raise Refused(f"a hard link to {path!r}, which is no file any more")

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
        if not self._style.owners:
            return
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if (status.st_uid, status.st_gid) == (entry["user"], entry["group"]):
            return
        try:
            os.chown(name, entry["user"], entry["group"], dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):  # without root, every file of a box is its user's
                raise

    def _set_time(self, entry: Entry, folder: int, name: str) -> None:
        if self._style.times:
            os.utime(name, ns=(entry["time"], entry["time"]), dir_fd=folder, follow_symlinks=False)

    def _make_dir(self, entry: Entry, folder: int, name: str) -> None:
        if not (self._style.replaces and _is_directory(folder, name)):
            self._make_room(folder, name)
            os.mkdir(name, 0o700, dir_fd=folder)
        elif self._style.replaces == "files":
            return  # one that is there stays as it is
        self._own(entry, folder, name)
        child = os.open(name, DIRECTORY, dir_fd=folder)
        try:
            os.fchmod(child, entry["mode"])
            if entry.get("opaque"):
                make_opaque(child) if self._style.deletions == "marks" else empty(child)
        finally:
            os.close(child)
        if self._style.times:
            self._times.append((entry["path"], entry["time"]))

    def _make_link(self, entry: Entry, folder: int, name: str) -> None:
        os.symlink(entry["target"], name, dir_fd=folder)
        self._own(entry, folder, name)
        self._set_time(entry, folder, name)

    def _make_fifo(self, entry: Entry, folder: int, name: str) -> None:
        os.mkfifo(name, dir_fd=folder)
        self._own(entry, folder, name)
        os.chmod(name, entry["mode"], dir_fd=folder)
        self._set_time(entry, folder, name)

    def _make_file(
        self,
        entry: Entry,
        folder: int,
        name: str,
        source: int | None,
        content: IO[bytes] | None,
        source_name: str,
        first: str | None,
    ) -> None:
        target = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            if source is not None:
                self._copy_file(source, source_name, target)
            elif content is not None:
                self._pour(content, target, entry)
            elif first is not None:
                holder = open_folder(self._root, os.path.dirname(first))
                try:
                    self._check_is_file(first, holder)
                    self._copy_file(holder, os.path.basename(first), target)
                finally:
                    os.close(holder)
            self._own(entry, folder, name)
            os.fchmod(target, entry["mode"])
            if self._style.times:
                os.utime(target, ns=(entry["time"], entry["time"]))
        finally:
            os.close(target)
        self.size += entry.get("size", 0)
        self._files.add(entry["path"])
        if entry.get("links", 1) > 1:
            self._inode_paths[entry["inode"]] = entry["path"]

    # --- content

    def _copy_file(self, source: int, name: str, target: int) -> None:
        """Copy the content of a file, passing over its holes, and its user's attributes."""
        reader = os.open(name, _READ, dir_fd=source)
        try:
            for position, data in blocks(reader):
                self._put(data, target, position)
            os.ftruncate(target, os.fstat(reader).st_size)
            _copy_attributes(reader, target)
        finally:
            os.close(reader)

    def _pour(self, content: IO[bytes], target: int, entry: Entry) -> None:
        """Write a file from a stream, whose blocks follow each other or go to the places that are named."""
        places = iter(entry["blocks"]) if "blocks" in entry else itertools.count(0, BLOCK)
        while data := content.read(BLOCK):
            position = next(places, None)
            if position is None:
                raise Refused(f"{entry['path']!r} has more content than places for it")
            self._put(data, target, position)
        os.ftruncate(target, entry["size"])

    def _put(self, data: bytes, target: int, position: int) -> None:
        """Write and hash one block; blocks of zeros are neither, so holes make no difference."""
        if not data.strip(b"\0"):
            return
        if self._style.digests:
            self._digest.update(b"%d:" % position)
            self._digest.update(data)
        while data:
            count = os.pwrite(target, data, position)
            data, position = data[count:], position + count

    # --- the end

    def hide(self, path: str) -> None:
        """Mark a directory that was written before, so that it hides what older trees have in it."""
        make_opaque(self.folder(os.path.join(path, "entry")))

    def finish(self) -> Entry:
        """Set the times of directories and say what was written."""
        for path, time in reversed(self._times):
            # A directory may have become something else by a later entry of its name.
            with contextlib.suppress(*((OSError,) if self._style.replaces else ())):
                folder = self.folder(path)
                os.utime(os.path.basename(path), ns=(time, time), dir_fd=folder, follow_symlinks=False)
        self._digests.sort(key=lambda pair: pair[0])
        whole = hashlib.sha256(b"".join(digest.digest() for _, digest in self._digests))
        return {"digest": whole.hexdigest(), "entries": self.entries, "size": self.size}


def open_folder(root: int, path: str) -> int:
    """Open a directory by its path in a tree; none of the names may be a link."""
    at = os.dup(root)
    try:
        for name in path.split("/") if path else ():
            below = os.open(name, DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
    except OSError:
        os.close(at)
        raise
    return at


def _is_directory(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _copy_attributes(source: int, target: int) -> None:
    """Copy the attributes that are a user's own, as far as the file system of the layers has room for them."""
    try:
        names = os.listxattr(source)
    except OSError:
        return
    for name in names:
        if name.startswith("user.") and not name.startswith(PRIVATE):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError as error:  # a box in memory may hold more of them than a file system on disk
                if error.errno not in (errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EOPNOTSUPP):
                    raise
