"""One layer of a container image, unpacked below a directory that nothing in it can leave.

One of the tasks on trees. Kept: content, modes, times, links, pipes; deletions as an overlay wants them. Not kept: owners
(all files belong to the user who unpacks, and to root in a box), set-user-id bits, attributes, devices. Every file stays
readable for its owner, or nobody without root could make boxes of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from typing import IO

from swebench_lab.sandbox.layers import tree


def _flags(*names: str) -> int:
    """The flags that this system has; elsewhere than on Linux this can be imported, and not used."""
    return sum(getattr(os, f"O_{name}", 0) for name in names)


_DIRECTORY = _flags("RDONLY", "DIRECTORY", "NOFOLLOW", "CLOEXEC")
_NEW = _flags("WRONLY", "CREAT", "EXCL", "NOFOLLOW", "CLOEXEC")
_HIDES, _OPAQUE = ".wh.", ".wh..wh..opq"
_MOST = 256 << 30  # bytes of one layer


def unpack(file: int, target: str) -> dict[str, int]:
    """Unpack an uncompressed layer from an open file; returns `bytes`, `entries` and `left_out` (devices).

    Raises:
        OSError: A name leads outside, or through something of the layer that is no directory.
    """
    os.mkdir(target, 0o755)
    root = os.open(target, _DIRECTORY)
    try:
        with os.fdopen(os.dup(file), "rb") as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
            layer = _ImageLayer(root)
            for member in archive:
                layer.add(member, archive.extractfile(member) if member.isreg() else None)
            return layer.finish()
    except tarfile.TarError as error:
        raise OSError(errno.EINVAL, f"unpack a layer of an image: {error}") from None
    finally:
        os.close(root)


class _ImageLayer:
    """A layer on its way to the disk."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._deleted: list[list[str]] = []
        self._opaque: list[list[str]] = []
        self._times: list[tuple[list[str], int]] = []
        self._last: tuple[list[str], int] | None = None  # entries of one directory follow each other
        self.bytes = self.entries = self.left_out = 0

    def add(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        """Write one entry."""
        parts = _parts(member.name)
        self.entries += 1
        if not parts:
            return
        name = parts[-1]
        if name == _OPAQUE:
            self._opaque.append(parts[:-1])
        elif name.startswith(_HIDES):
            if not name.startswith(_HIDES * 2):  # marks of older file systems say nothing
                self._deleted.append([*parts[:-1], *_parts(name.removeprefix(_HIDES))])
        elif member.isdir() or member.isreg() or member.issym() or member.islnk() or member.isfifo():
            with self._folder(parts[:-1], make=True) as folder:
                self._make(member, content, folder, name, parts)
        else:
            self.left_out += 1

    def _make(
        self, member: tarfile.TarInfo, content: IO[bytes] | None, folder: int, name: str, parts: list[str]
    ) -> None:
        when = int(float(member.pax_headers.get("mtime", member.mtime)) * 1e9)
        if member.isdir():
            if not _is_directory(folder, name):
                _clear(folder, name)
                os.mkdir(name, 0o700, dir_fd=folder)
            os.chmod(name, (member.mode & 0o1777) | 0o700, dir_fd=folder)
            self._times.append((parts, when))
            return
        _clear(folder, name)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
        elif member.islnk():
            self._link(member, folder, name)
            return
        elif member.isfifo():
            os.mkfifo(name, (member.mode & 0o777) | 0o600, dir_fd=folder)
        elif content is not None:
            self.bytes += member.size
            if self.bytes > _MOST:
                raise OSError(errno.EFBIG, "unpack a layer of an image: it holds more than 256 GB")
            made = os.open(name, _NEW, 0o600, dir_fd=folder)
            with os.fdopen(made, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
                os.fchmod(made, (member.mode & 0o777) | 0o400)
        os.utime(name, ns=(when, when), dir_fd=folder, follow_symlinks=False)

    def _link(self, member: tarfile.TarInfo, folder: int, name: str) -> None:
        target = _parts(member.linkname)
        if not target:
            raise OSError(errno.EINVAL, f"unpack a layer of an image: {member.name!r} is a link to nothing")
        holder = self._open(target[:-1])
        try:
            if not stat.S_ISREG(os.stat(target[-1], dir_fd=holder, follow_symlinks=False).st_mode):
                raise OSError(errno.EINVAL, f"unpack a layer of an image: {member.name!r} is a link to no file")
            os.link(target[-1], name, src_dir_fd=holder, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(holder)

    @contextlib.contextmanager
    def _folder(self, parts: list[str], make: bool = False) -> Iterator[int]:
        """The open directory that a path of names leads to, until the next one is asked for."""
        # One that was opened before has no name any more if a later entry took its place.
        if self._last is None or self._last[0] != parts or os.fstat(self._last[1]).st_nlink == 0:
            opened = self._open(parts, make)
            if self._last is not None:
                os.close(self._last[1])
            self._last = parts, opened
        yield self._last[1]

    def _open(self, parts: list[str], make: bool = False) -> int:
        """Open the directory that a path of names leads to; none of them may be a link."""
        at = os.dup(self._root)
        try:
            for name in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=at)
                below = os.open(name, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
        except NotADirectoryError as error:
            os.close(at)
            place = "/".join(parts)
            raise OSError(errno.EINVAL, f"unpack a layer of an image: {place!r} is a link, or no directory") from error
        except OSError:
            os.close(at)
            raise
        return at

    def finish(self) -> dict[str, int]:
        """Write the deletions, and the times of directories."""
        for parts in self._deleted:
            with self._folder(parts[:-1], make=True) as folder:
                if _is_directory(folder, parts[-1]):
                    self._opaque.append(parts)  # deleted and made anew
                elif not _exists(folder, parts[-1]):
                    os.mknod(parts[-1], stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder)
        for parts in self._opaque:
            with self._folder(parts, make=True) as folder:
                tree.make_opaque(folder)
        for parts, when in reversed(self._times):
            # A directory may have become something else by a later entry of its name.
            with contextlib.suppress(OSError), self._folder(parts) as folder:
                os.utime(folder, ns=(when, when))
        if self._last is not None:
            os.close(self._last[1])
        return {"bytes": self.bytes, "entries": self.entries, "left_out": self.left_out}


def _parts(name: str) -> list[str]:
    """The names on the way to an entry, from the top."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EINVAL, f"unpack a layer of an image: the name {name!r} leads outside")
    return parts


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_directory(folder: int, name: str) -> bool:
    return _exists(folder, name) and stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _clear(folder: int, name: str) -> None:
    """Remove what has a name; an entry may be repeated, and the last one counts."""
    if _is_directory(folder, name):
        shutil.rmtree(name, dir_fd=folder)
    elif _exists(folder, name):
        os.unlink(name, dir_fd=folder)
