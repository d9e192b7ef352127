"""A tree of files that an agent may have written: what each name in it stands for.

Every function here works from open directories and follows no link, so nothing outside a tree is ever read, changed or
run. A tree of changes is what an overlay keeps: a character device 0:0 stands for what was deleted, an attribute on a
directory hides everything below it in older trees.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from swebench_lab._unix import resource

DIRECTORY = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))
"""How a directory is opened: never by way of a link."""

OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
"""How a directory of a layer says that it hides what is below it: as overlays made by root read it, and all others."""

PRIVATE = ("trusted.overlay.", "user.overlay.")
"""How the attributes begin that an overlay keeps for itself."""

BLOCK = 1 << 16

MOST_DEPTH = 256
"""Directories inside each other in any tree that is captured, unpacked or walked through.

A walk keeps one directory open for each level, and the full path of a deep entry is as long as all names above it.
"""

Entry = dict[str, Any]
"""One name of a tree: `path` and `kind` ("file", "dir", "link", "fifo", "deleted"), and what `entry_of` says of it."""


def unlimited() -> None:
    """Let this process open as many files as it may: a walk keeps one directory open for each level."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))


def check_depth(path: str) -> None:
    """Refuse a directory that is nested too deep for a tree; raises OSError."""
    if path.count("/") >= MOST_DEPTH:
        text = f"{path[:60]!r}… is nested deeper than the {MOST_DEPTH} directories that a layer holds"
        raise OSError(errno.EFBIG, text)


def walk(directory: int, prefix: str = "") -> Iterator[tuple[Entry, int]]:
    """Every entry below an open directory, parents first and names in order, each with the directory that holds it.

    Raises:
        OSError: It is nested too deep.
    """
    for name in sorted(os.listdir(directory)):
        entry = entry_of(directory, name, f"{prefix}{name}")
        if entry is None:
            continue
        yield entry, directory
        if entry["kind"] == "dir":
            check_depth(entry["path"])
            child = os.open(name, DIRECTORY, dir_fd=directory)
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
    child = os.open(name, DIRECTORY, dir_fd=directory)
    try:
        return any(_attribute(child, key) == b"y" for key in marks)
    finally:
        os.close(child)


def _attribute(descriptor: int, key: str) -> bytes | None:
    try:
        return os.getxattr(descriptor, key)
    except OSError:
        return None


def state_of(entry: Entry) -> list[int]:
    """What tells whether an entry changed: inode and change time; of a directory all but its times."""
    if entry["kind"] != "dir":
        inode_and_time: list[int] = entry["state"]
        return inode_and_time
    return [entry["state"][0], int(entry["opaque"]), entry["mode"], entry["user"], entry["group"]]


def make_opaque(directory: int) -> None:
    """Hide everything below a directory of a tree, for either kind of overlay."""
    marks = 0
    for key in OPAQUE:
        try:
            os.setxattr(directory, key, b"y")
            marks += 1
        except OSError as error:
            refused = error
    if not marks:
        raise OSError(
            refused.errno, f"mark a replaced directory: {refused.strerror} (this file system keeps no attributes)"
        )


def blocks(source: int) -> Iterator[tuple[int, bytes]]:
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
