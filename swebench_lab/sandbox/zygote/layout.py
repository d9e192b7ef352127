"""The box as data: a list of small operations, each of which can say what it does and do it.

A layout is planned without touching anything (`plan.py`), can be printed (`describe`), travels as JSON, and is executed
by one loop inside fresh namespaces. Operations name places *in the box*; they are found from the descriptor of its root
without following a single symbolic link, because the layers below may have been written by an agent.
"""

from __future__ import annotations

import errno
import os
import stat

from swebench_lab.sandbox.linux import kernel
from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, ClassVar, Protocol

    class Operation(Protocol):
        """One step of making a box."""

        def describe(self) -> str:
            """What it does, in one line."""

        def execute(self, root: int) -> None:
            """Do it, below the directory that the descriptor names."""


_PAGE = 4096  # the most bytes mount(2) takes as options
_FSCONFIG_LIMIT = 255  # the most bytes fsconfig(2) takes as one string


@record
class Dir:
    """A directory; it is fine if it exists."""

    at: str
    mode: int = 0o755

    def describe(self) -> str:
        return f"directory {self.at} mode {self.mode:o}"

    def execute(self, root: int) -> None:
        parent = kernel.open_beneath(root, os.path.dirname(self.at))
        try:
            os.mkdir(os.path.basename(self.at), dir_fd=parent)
            os.chmod(os.path.basename(self.at), self.mode, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)


@record
class File:
    """A new file with this text."""

    at: str
    text: str = ""
    mode: int = 0o644

    def describe(self) -> str:
        return f"file {self.at} ({len(self.text)} characters)"

    def execute(self, root: int) -> None:
        parent = kernel.open_beneath(root, os.path.dirname(self.at))
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(os.path.basename(self.at), flags, self.mode, dir_fd=parent), "w") as file:
                file.write(self.text)
        finally:
            os.close(parent)


@record
class Symlink:
    """A new symbolic link."""

    at: str
    target: str

    def describe(self) -> str:
        return f"link {self.at} -> {self.target}"

    def execute(self, root: int) -> None:
        parent = kernel.open_beneath(root, os.path.dirname(self.at))
        try:
            os.symlink(self.target, os.path.basename(self.at), dir_fd=parent)
        finally:
            os.close(parent)


@record
class Copy:
    """A copy of a file or directory of the host (links stay links, what cannot be read is left out)."""

    source: str
    at: str

    def describe(self) -> str:
        return f"copy of {self.source} at {self.at}"

    def execute(self, root: int) -> None:
        if os.path.isdir(self.source):
            Dir(self.at).execute(root)
            for name in sorted(os.listdir(self.source)):
                source = f"{self.source}/{name}"
                if os.path.islink(source):
                    Symlink(f"{self.at}/{name}", os.readlink(source)).execute(root)
                else:
                    Copy(source, f"{self.at}/{name}").execute(root)
        elif os.access(self.source, os.R_OK):
            with open(self.source, "rb") as file:
                content = file.read()
            parent = kernel.open_beneath(root, os.path.dirname(self.at))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(os.path.basename(self.at), flags, 0o644, dir_fd=parent), "wb") as copy:
                copy.write(content)
            os.close(parent)


@record
class Tmpfs:
    """A new file system in memory."""

    at: str
    size: int = 1 << 20
    mode: int = 0o755
    inodes: int = 0

    def describe(self) -> str:
        return f"memory file system on {self.at}, at most {self.size} bytes"

    def execute(self, root: int) -> None:
        options = [("source", "tmpfs"), ("size", str(self.size)), ("mode", f"{self.mode:o}")]
        if self.inodes:
            options.append(("nr_inodes", str(self.inodes)))
        mount = kernel.detached("tmpfs", options, kernel.ATTR_NOSUID | kernel.ATTR_NODEV)
        _attach(mount, root, self.at)


@record
class Overlay:
    """Read-only layers (top first) under one private writable directory; without one the whole is read-only."""

    at: str
    lower: tuple[str, ...]
    upper: str
    work: str
    userxattr: bool = False

    def describe(self) -> str:
        writes = f"writes to {self.upper}" if self.upper else "read-only"
        return f"overlay on {self.at} of {len(self.lower)} layers, {writes}"

    def execute(self, root: int) -> None:
        flags: list[tuple[str, str | None]] = [
            ("redirect_dir", "nofollow"),
            ("index", "off"),
            ("metacopy", "off"),
            ("volatile", None),
        ]
        if self.userxattr:
            flags.append(("userxattr", None))
        descriptors: list[int] = []
        try:
            options: list[tuple[str, str | None]] = [("source", "lab")]
            options += [("lowerdir+", _short(path, descriptors)) for path in self.lower]
            if self.upper:
                options += [("upperdir", _short(self.upper, descriptors)), ("workdir", _short(self.work, descriptors))]
            options += flags if self.upper else [flag for flag in flags if flag[0] != "volatile"]
            mount = kernel.detached("overlay", options, kernel.ATTR_NOSUID | kernel.ATTR_NODEV)
            _attach(mount, root, self.at)
        except OSError as error:
            if error.errno != errno.EINVAL or "lowerdir+" not in str(error):
                raise
            self._execute_by_string(flags)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _execute_by_string(self, flags: Sequence[tuple[str, str | None]]) -> None:
        """Mount as kernels before 6.7 want it: all layers in one option string."""
        layers = ":".join(path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for path in self.lower)
        words = [f"lowerdir={layers}"]
        if self.upper:
            words += [f"upperdir={self.upper}", f"workdir={self.work}"]
        else:
            flags = [flag for flag in flags if flag[0] != "volatile"]
        words += [key if value is None else f"{key}={value}" for key, value in flags]
        text = ",".join(words)
        if len(os.fsencode(text)) >= _PAGE:
            raise OSError(
                errno.E2BIG, f"{len(self.lower)} layers do not fit the mount options of this kernel; squash them"
            )
        kernel.mount_overlay(self.at, text)


@record
class Bind:
    """A file or directory of the host, seen at a place in the box."""

    source: str
    at: str
    writable: bool = False

    def describe(self) -> str:
        return f"{self.source} on {self.at}, {'writable' if self.writable else 'read-only'}"

    def execute(self, root: int) -> None:
        mount = kernel.detached_bind(self.source)
        kernel.set_attributes(mount, kernel.ATTR_NOSUID | (0 if self.writable else kernel.ATTR_RDONLY))
        _attach(mount, root, self.at)


@record
class Proc:
    """The processes of this pid namespace and the kernel's figures, to be read only."""

    at: str

    def describe(self) -> str:
        return f"own process table on {self.at}, read-only"

    def execute(self, root: int) -> None:
        safe = kernel.ATTR_RDONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV | kernel.ATTR_NOEXEC
        _attach(kernel.detached("proc", [("source", "proc")], safe), root, self.at)


@record
class Mask:
    """A file or directory in the box hidden behind an empty one, where it exists."""

    at: str

    def describe(self) -> str:
        return f"{self.at} hidden"

    def execute(self, root: int) -> None:
        try:
            place = kernel.open_beneath(root, self.at)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(os.fstat(place).st_mode):
            mount = kernel.detached("tmpfs", [("source", "empty"), ("size", "0")], kernel.ATTR_RDONLY)
        else:
            mount = kernel.detached_bind("/dev/null")
            kernel.set_attributes(mount, kernel.ATTR_RDONLY)
        kernel.attach(mount, place, self.at)
        os.close(place)
        os.close(mount)


@record
class Devices:
    """The part of /dev that all boxes may share, because none can change it: harmless devices and links."""

    at: str

    NODES: ClassVar[tuple[str, ...]] = ("null", "zero", "full", "random", "urandom", "tty")
    LINKS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    )

    def describe(self) -> str:
        return f"devices at {self.at}: {' '.join(self.NODES)}"

    def execute(self, root: int) -> None:
        Dir(self.at).execute(root)
        _attach(kernel.detached("tmpfs", [("source", "dev"), ("mode", "755")], kernel.ATTR_NOSUID), root, self.at)
        for name in self.NODES:
            File(f"{self.at}/{name}").execute(root)
            _attach(kernel.detached_bind(f"/dev/{name}"), root, f"{self.at}/{name}")
        for name, target in self.LINKS:
            Symlink(f"{self.at}/{name}", target).execute(root)
        for name in ("pts", "shm"):
            Dir(f"{self.at}/{name}").execute(root)


@record
class Dev:
    """A /dev of shared harmless devices (read-only, or boxes could change the host's modes), own terminals, memory."""

    source: str
    at: str
    shared_memory: int

    def describe(self) -> str:
        return f"devices of {self.source} on {self.at}, own pts, own shm of at most {self.shared_memory} bytes"

    def execute(self, root: int) -> None:
        Bind(self.source, self.at).execute(root)
        terminals = [("source", "devpts"), ("ptmxmode", "0666"), ("mode", "620")]
        _attach(kernel.detached("devpts", terminals, kernel.ATTR_NOSUID | kernel.ATTR_NOEXEC), root, f"{self.at}/pts")
        Tmpfs(f"{self.at}/shm", self.shared_memory, 0o1777).execute(root)


_OPERATIONS: dict[str, Any] = {
    kind.__name__: kind for kind in (Bind, Copy, Dev, Devices, Dir, File, Mask, Overlay, Proc, Symlink, Tmpfs)
}


def describe(operations: Iterable[Operation]) -> str:
    """A layout in words, one line per operation, in the order of execution."""
    return "\n".join(operation.describe() for operation in operations)


def execute(operations: Iterable[Operation], root: int) -> None:
    """Carry out a layout; an error says at which operation it stopped."""
    for operation in operations:
        try:
            operation.execute(root)
        except OSError as error:
            raise OSError(error.errno, f"{operation.describe()}: {error.strerror}") from None


def to_wire(operations: Iterable[Operation]) -> list[list[Any]]:
    """A layout as JSON values."""
    return [[type(operation).__name__, vars(operation)] for operation in operations]


def from_wire(values: Iterable[Sequence[Any]]) -> list[Operation]:
    """A layout from JSON values."""
    return [_OPERATIONS[name](**fields) for name, fields in values]


def _short(path: str, descriptors: list[int]) -> str:
    """The path, or where it is too long for fsconfig a short name for it through an open descriptor."""
    if len(os.fsencode(path)) <= _FSCONFIG_LIMIT:
        return path
    descriptors.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return f"/proc/self/fd/{descriptors[-1]}"


def _attach(mount: int, root: int, at: str) -> None:
    """Attach a detached mount at a place in the box, and close its descriptor."""
    try:
        place = kernel.open_beneath(root, at)
        try:
            kernel.attach(mount, place, at)
        finally:
            os.close(place)
    finally:
        os.close(mount)
