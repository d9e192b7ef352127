"""Removing trees that an agent may have written: no link is followed, and no depth is too much.

A tree may be nested deeper than a process may open files or than Python may recurse, so the way down is a list of
names, and only the directory at its end is open.
"""

import contextlib
import errno
import os
import stat

from swebench_lab.sandbox.layers.tree import DIRECTORY

LEASE = ".lease"
"""The file of a leased folder that says whose it is, and so has to go last."""


def remove(tree: str) -> int:
    """Delete a directory with all it holds, whatever its modes; returns how many entries went."""
    try:
        parent = os.open(os.path.dirname(tree), DIRECTORY)
    except FileNotFoundError:
        return 0
    try:
        return remove_name(parent, os.path.basename(tree))
    finally:
        os.close(parent)


def remove_all(folders: list[str]) -> int:
    """Delete several directories; returns how many entries went."""
    return sum(remove(folder) for folder in folders)


def remove_name(parent: int, name: str) -> int:
    """Delete what has a name in an open directory, if something has; returns how many entries went."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return 1
        count = empty(_enter(name, parent), close=True)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return 0
    return count + 1


def clear(parent: int, name: str) -> bool:
    """Delete a folder below an open one, be it of files or of cgroups; whether it is gone."""
    try:
        folder = os.open(name, DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return True
    try:
        empty(folder, close=True, cgroups=True)
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


class _Level:
    """A directory on the way down: the name it has in the one above, what it is, and the names not looked at yet."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        status = os.fstat(descriptor)
        self.identity = status.st_dev, status.st_ino
        self.names = sorted(os.listdir(descriptor), key=lambda below: below != LEASE)


def empty(folder: int, close: bool = False, cgroups: bool = False) -> int:
    """Delete all that an open directory holds; at most three descriptors are open at a time.

    Args:
        folder: The directory, which stays.
        close: Whether it is closed at the end, also after an error.
        cgroups: Whether files that cannot be deleted are passed over: those of a cgroup go with it.

    Returns:
        How many entries went.

    Raises:
        OSError: Something cannot be deleted, or was moved meanwhile.
    """
    at, count = os.dup(folder), 0
    try:
        levels = [_Level("", at)]
        while True:
            level = levels[-1]
            if level.names:
                name = level.names.pop()
                if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                    left, at = at, _enter(name, at)
                    os.close(left)
                    levels.append(_Level(name, at))
                else:
                    _unlink(name, at, cgroups)
                    count += 1
            elif len(levels) > 1:
                levels.pop()
                left, at = at, _leave(at, levels[-1])
                os.close(left)
                os.rmdir(level.name, dir_fd=at)
                count += 1
            else:
                return count
    finally:
        os.close(at)
        if close:
            os.close(folder)


def _enter(name: str, directory: int) -> int:
    """Open a directory that is to be emptied."""
    if os.geteuid() != 0:
        with contextlib.suppress(PermissionError):  # somebody else's: opening it says whether that matters
            os.chmod(name, 0o700, dir_fd=directory)
    return os.open(name, DIRECTORY, dir_fd=directory)


def _leave(directory: int, above: _Level) -> int:
    """Open the directory above, which has to be the one that was come from."""
    up = os.open("..", DIRECTORY, dir_fd=directory)
    status = os.fstat(up)
    if (status.st_dev, status.st_ino) != above.identity:
        os.close(up)
        raise OSError(errno.ESTALE, "remove a tree: a directory of it was moved meanwhile; try again")
    return up


def _unlink(name: str, directory: int, cgroups: bool) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except PermissionError:
        if not cgroups:
            raise
