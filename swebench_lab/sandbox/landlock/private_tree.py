"""The private tree of a box without an overlay: layers copied on top of each other, the venv made to work where it lies.

What an agent may have written is copied like the rest: from open directories to open directories, without following a
link on either side. Files are cloned where the file system can share blocks, and copied otherwise; never hard-linked,
because a program that writes in place would then write into the cache.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from swebench_lab._unix import fcntl
from swebench_lab.sandbox.layers.tree import OPAQUE, walk

_CLONE = 0x40049409  # FICLONE
_CHUNK = 1 << 20
_DIRECTORY = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))

_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EACCES)

VENV, WORKDIR = "opt/venv", "testbed"
_IN_TREE = (f"/{WORKDIR}", f"/{VENV}", "/root", "/tmp")
_LONGEST_INTERPRETER = 250  # bytes of a script's first line that kernels read, and a little less


def lay(source: int, target: int) -> None:
    """Bring what a layer holds into a tree that nobody uses yet, deletions included.

    Several names of one file stay so; directories that their owner could not enter are opened to him.

    Args:
        source: The open directory of the layer, laid out like the root of a box.
        target: The open directory of the tree.
    """
    _lay(source, target, "", _Linked(target, {}))


class _Linked(NamedTuple):
    """Files of a layer that have several names, by what tells them apart, with the first name in the tree."""

    tree: int
    names: dict[tuple[int, int], str]


def _lay(source: int, target: int, path: str, links: _Linked) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            _lay_directory(name, status, source, target, path, links)
            continue
        _clear(name, target)
        if stat.S_ISREG(status.st_mode):
            original = (
                links.names.setdefault((status.st_dev, status.st_ino), path + name) if status.st_nlink > 1 else ""
            )
            if original and original != path + name:
                os.link(original, name, src_dir_fd=links.tree, dst_dir_fd=target, follow_symlinks=False)
            else:
                _copy_file(name, status, source, target)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(name, stat.S_IMODE(status.st_mode), dir_fd=target)


def _lay_directory(name: str, status: os.stat_result, source: int, target: int, path: str, links: _Linked) -> None:
    inner = os.open(name, _DIRECTORY, dir_fd=source)
    try:
        if _is_opaque(inner) or not _is_directory(name, target):
            _clear(name, target)
            os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, _DIRECTORY, dir_fd=target)
        try:
            _lay(inner, below, f"{path}{name}/", links)
            os.fchmod(below, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
            os.utime(below, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(below)
    finally:
        os.close(inner)


def _is_opaque(directory: int) -> bool:
    for key in OPAQUE:
        try:
            if os.getxattr(directory, key) == b"y":
                return True
        except OSError:
            continue
    return False


def _is_directory(name: str, parent: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _clear(name: str, parent: int) -> None:
    """Remove what has a name, if something has."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        inner = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            os.fchmod(inner, 0o700)
            for below in os.listdir(inner):
                _clear(below, inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=parent)


def _copy_file(name: str, status: os.stat_result, source: int, target: int) -> None:
    """Copy one file."""
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            _copy_content(reader, writer, status.st_size)
            os.fchmod(writer, stat.S_IMODE(status.st_mode))
            os.utime(writer, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_content(source: int, target: int, size: int) -> None:
    """Clone or copy a file, passing over its holes."""
    try:
        fcntl.ioctl(target, _CLONE, source)
        return
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
            end = os.lseek(source, position, os.SEEK_HOLE)
        except OSError:
            break  # nothing but a hole up to the end
        while position < end:
            data = os.pread(source, min(_CHUNK, end - position), position)
            if not data:
                break
            position += os.pwrite(target, data, position)
    os.ftruncate(target, size)


# --- making the copy work ---------------------------------------------------------------------------------------------


class Places:
    """Where what a box calls /testbed and /opt/venv really lies.

    Args:
        root: The private tree.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        marker = re.escape(os.path.basename(os.path.dirname(root))[:-12])
        # What another such box wrote names that box's places; they mean this one's now.
        before = rf"(?:/[^\s:;'\"=]*/{marker}[0-9a-f]{{12}}/root)?"
        self._pattern = re.compile(rf"(?<![\w./-]){before}/({VENV}|{WORKDIR})(?![\w.-])")

    def in_text(self, text: str) -> str:
        """The text with every such name replaced."""
        return self._pattern.sub(lambda found: f"{self.root}/{found[1]}", text)

    def directory(self, path: str) -> str:
        """Where a directory of another box lies in this one, if it can be in the tree."""
        return f"{self.root}{path}" if path.startswith(_IN_TREE) else self.in_text(path)

    def anywhere(self, text: str) -> str:
        """The text with this box's places named as every box names them."""
        return text.replace(self.root, "") or "/"


def relocate(root: int, places: Places) -> int:
    """Rewrite the files of the venv that name its place or the repository's; returns how many."""
    count = 0
    try:
        venv = os.open(VENV, _DIRECTORY, dir_fd=root)
    except FileNotFoundError:
        return 0
    try:
        for folder, name in _naming(venv):
            count += _rewrite(folder, name, places)
    finally:
        os.close(venv)
    return count


def _naming(venv: int) -> Iterator[tuple[int, str]]:
    """Files that may hold such names: programs, path files, and what editable installations leave."""
    yield from _files(venv, "bin", lambda name: True)
    yield venv, "pyvenv.cfg"
    try:
        library = os.open("lib", _DIRECTORY, dir_fd=venv)
    except FileNotFoundError:
        return
    try:
        for python in sorted(name for name in os.listdir(library) if name.startswith("python")):
            yield from _files(library, f"{python}/site-packages", _is_naming)
    finally:
        os.close(library)


def _is_naming(name: str) -> bool:
    return name.endswith((".pth", ".egg-link")) or (name.startswith("__editable__") and name.endswith(".py"))


def _files(parent: int, path: str, predicate: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
    """The regular files of a folder that a function wants, with its open directory."""
    try:
        folder = os.open(path, _DIRECTORY, dir_fd=parent)
    except OSError:
        return
    try:
        for name in sorted(os.listdir(folder)):
            if predicate(name) and stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                yield folder, name
    finally:
        os.close(folder)


def _rewrite(folder: int, name: str, places: Places) -> int:
    """Replace the names in one file, if it has any; its mode and time stay."""
    try:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return 0
    with open(source, "rb") as file:
        status = os.fstat(source)
        content = file.read(4 << 20)
    if b"\0" in content:
        return 0
    text = content.decode("utf-8", "surrogateescape")
    new_text = _short_first_line(places.in_text(text))
    if new_text == text:
        return 0
    os.unlink(name, dir_fd=folder)
    target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with open(target, "wb") as file:
        file.write(new_text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    return 1


def _short_first_line(text: str) -> str:
    """A script whose interpreter's name is too long for the kernel, started by the shell instead."""
    first, _, rest = text.partition("\n")
    if not first.startswith("#!") or len(os.fsencode(first)) <= _LONGEST_INTERPRETER:
        return text
    return f"#!/bin/sh\n'''exec' '{first[2:].strip()}' \"$0\" \"$@\"\n' '''\n{rest}"


def remember(root: int, memory: int) -> None:
    """Note what a tree holds, in the form that `capture` compares with."""
    states = {}
    for entry, _ in walk(root):
        state = entry["state"]
        if entry["kind"] == "dir":
            state = [state[0], int(entry["opaque"]), entry["mode"], entry["user"], entry["group"]]
        states[entry["path"]] = state
    os.ftruncate(memory, 0)
    os.pwrite(memory, json.dumps(states).encode(), 0)
