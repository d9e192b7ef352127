"""WorkTreeChanges: which paths of a work tree a box can have changed, read off the layers it wrote, without a look at every file.

An overlay keeps what a box writes apart from what it started with. So the list of changed paths is there for the
reading, however large the repository is. It is read from outside, name by name, without following a link.
"""

import bisect
import functools
import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swebench_lab.sandbox.diffs import git_rules
from swebench_lab.sandbox.layers import tree as trees

MOST = 500
"""More paths than this are not worth a list: git finds them itself."""

NOTHING_WRITTEN = hashlib.sha256().digest()
"""What `fingerprint` returns for a box that has written nothing."""

LARGE = 16 << 20
"""Bytes; of larger files git makes something else."""

_MOST_COMPARED = 2_000  # names; with more, a look at them saves little
_MOST_SEEN = 20_000  # names; a box can hold any number
_DIRECTORY = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))

CACHE = b"__pycache__"


@dataclass
class WorkTreeChanges:
    """Paths relative to a work tree, as bytes.

    Attributes:
        written: Files and links that are, or once were, newly written.
        gone: Files and directories of which nothing that was there before is there now.
        odd: Whether there are pipes, sockets, devices, very large files or rules about conversion among them.
    """

    written: set[bytes] = field(default_factory=set)
    gone: set[bytes] = field(default_factory=set)
    odd: bool = False

    def __bool__(self) -> bool:
        """Return whether anything was changed."""
        return bool(self.written or self.gone)


class _TooMuch(Exception):
    """It cannot be told this way."""


def changes(upper: int, layers: Sequence[Path], workdir: str, index: Path) -> WorkTreeChanges | None:
    """Read what may have been changed below a work tree.

    Args:
        upper: The open directory of what the box wrote.
        layers: Checkpoints below it.
        workdir: The work tree, as the box names it.
        index: Git's list of tracked files as they were at the start.

    Returns:
        At least all that was changed; None where only a look at every file can tell: the tree is not where it was, too
        much was written, or rules about ignored files were.
    """
    result = WorkTreeChanges()
    caches = not leaves_out_caches(index.parent)
    try:
        for layer in layers:
            directory = os.open(layer, _DIRECTORY)
            try:
                _read(directory, workdir, result, caches)
            finally:
                os.close(directory)
        _read(upper, workdir, result, caches)
    except (OSError, _TooMuch):
        return None
    return checked(result)


def checked(found: WorkTreeChanges) -> WorkTreeChanges | None:
    """Return changes as git may be told of them; None where only a look at every file can tell."""
    if len(found.written) + len(found.gone) > MOST:
        return None
    names = {path.rsplit(b"/", 1)[-1] for path in found.written | found.gone}
    if git_rules.IGNORED in names:
        return None
    found.odd = found.odd or git_rules.CONVERTED in names
    return found


def _read(directory: int, workdir: str, result: WorkTreeChanges, caches: bool) -> None:
    """Add what one layer tells."""
    current = os.dup(directory)
    try:
        for name in workdir.strip("/").split("/"):
            try:
                below = os.open(name, _DIRECTORY, dir_fd=current)
            except FileNotFoundError:
                return
            os.close(current)
            current = below
            if _is_opaque(current):
                raise _TooMuch
        _descend(current, result, caches)
    finally:
        os.close(current)


def _descend(top: int, result: WorkTreeChanges, caches: bool) -> None:
    """Add every name below an open directory."""
    count, waiting = 0, [b""]
    while waiting:
        prefix = waiting.pop()
        directory = os.open(prefix or b".", _DIRECTORY, dir_fd=top)
        try:
            if prefix and _is_opaque(directory):
                result.gone.add(prefix.rstrip(b"/"))
            names = [os.fsencode(name) for name in os.listdir(directory)]
            count += len(names)
            if count > _MOST_SEEN:
                raise _TooMuch
            for name in names:
                if name.lower() == b".git" or (name == CACHE and not caches):
                    continue
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(prefix + name + b"/")
                elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    result.written.add(prefix + name)
                    result.odd = result.odd or status.st_size > LARGE
                    if status.st_size == 0:
                        result.gone.add(prefix + name)  # a newer overlay may mean a deletion by an empty file
                else:
                    result.gone.add(prefix + name)
                    result.odd = result.odd or not stat.S_ISCHR(status.st_mode) or status.st_rdev != 0
        finally:
            os.close(directory)


def _is_opaque(directory: int) -> bool:
    for name in trees.OPAQUE:
        try:
            if os.getxattr(directory, name):
                return True
        except OSError:
            continue
    return False


@dataclass(frozen=True)
class Tracked:
    """The files that git follows, as they were at the start.

    Attributes:
        names: Their paths, in git's order.
    """

    names: tuple[bytes, ...]

    def touched_by(self, changes: WorkTreeChanges) -> set[bytes]:
        """Return those that changes concern: written anew, gone, or below what is gone or is a file now."""
        touched: set[bytes] = set()
        for path in changes.written | changes.gone:
            at = bisect.bisect_left(self.names, path)
            if at < len(self.names) and self.names[at] == path:
                touched.add(path)
            at = bisect.bisect_left(self.names, path + b"/")
            while at < len(self.names) and self.names[at].startswith(path + b"/"):
                touched.add(self.names[at])
                at += 1
        return touched


@functools.lru_cache(maxsize=32)
def tracked(index: Path) -> Tracked | None:
    """Read the paths of an index file (versions 2 and 3) that this package wrote; None where there is none."""
    try:
        content = index.read_bytes()
    except OSError:
        return None
    mark, version, count = struct.unpack_from(">4sII", content)
    if mark != b"DIRC" or version not in (2, 3):
        return None
    names, at = [], 12
    for _ in range(count):
        flags = struct.unpack_from(">H", content, at + 60)[0]
        begin = at + (64 if flags & 0x4000 else 62)
        end = content.index(b"\0", begin)
        names.append(content[begin:end])
        at += (end - at + 8) & ~7  # one to eight zeros fill each entry up
    return Tracked(tuple(names))


def index_of(paths: Iterable[bytes]) -> bytes:
    """Return an index file (version 2) of paths whose content is taken from the work tree, whatever it is by now."""
    names = sorted(paths)
    parts = [struct.pack(">4sII", b"DIRC", 2, len(names))]
    for name in names:
        # No time, no size, and an object that is none, not even the empty one: nothing on a disk looks like it.
        entry = struct.pack(">24xI12x20sH", 0o100644, b"\1" * 20, min(len(name), 0xFFF)) + name
        parts.append(entry + bytes(8 - len(entry) % 8))
    content = b"".join(parts)
    return content + hashlib.sha1(content, usedforsecurity=False).digest()


@functools.lru_cache(maxsize=256)
def leaves_out_caches(git_dir: Path) -> bool:
    """Whether compiled modules are ignored and none is tracked, so that nobody needs to look at them."""
    index = tracked(git_dir / "index")
    try:
        rules = (git_dir / "info" / "exclude").read_bytes().splitlines()
    except OSError:
        return False
    return CACHE + b"/" in rules and index is not None and not any(CACHE in name for name in index.names)


def fingerprint(upper: int) -> bytes | None:
    """Return what is another after every change of what a box wrote, but for one through a memory map.

    It is told by names, inodes and change times, as `trees.capture` tells what to copy.

    Args:
        upper: The open directory of what the box wrote.

    Returns:
        None where there is too much to look at, or something that must not be looked at.
    """
    digest, count, waiting = hashlib.sha256(), 0, [b""]
    try:
        while waiting:
            prefix = waiting.pop()
            directory = os.open(prefix or b".", _DIRECTORY, dir_fd=upper)
            try:
                names = sorted(map(os.fsencode, os.listdir(directory)))
                count += len(names)
                if count > _MOST_COMPARED:
                    return None
                for name in names:
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    facts = (status.st_mode, status.st_ino, status.st_ctime_ns, status.st_uid, status.st_gid)
                    digest.update(b"%d %d %d %d %d %s/%s\0" % (*facts, prefix, name))
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(prefix + name + b"/")
            finally:
                os.close(directory)
    except OSError:
        return None
    return digest.digest()


@functools.lru_cache(maxsize=256)
def stands_still(layers: tuple[Path, ...], workdir: str) -> bool:
    """Return whether a work tree is a directory by its very name in what a box starts from, not by way of a link."""
    for layer in layers:
        at = layer
        for name in workdir.strip("/").split("/"):
            at = at / name
            try:
                if not stat.S_ISDIR(at.lstat().st_mode):
                    return False
            except FileNotFoundError:
                break
            except OSError:
                return False
    return True
