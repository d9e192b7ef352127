"""Supervisor: decides, from outside a box, the calls that Landlock leaves open, and makes them in the box's stead.

A call that changes modes, owners, times or attributes of a file waits in the kernel until it is answered here. The file is
opened first, without reading it; only when that very file lies in the box's own tree is the change made, through the
descriptor. So it does not matter what the box does to the path or to its memory meanwhile. Where signals are not kept
inside by Landlock, they are sent from here, to processes of the box only.
"""

import array
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from swebench_lab.sandbox.landlock import filters

# linux/seccomp.h
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
_LISTENER, _UNINTERRUPTED = 1 << 3, 1 << 5  # SECCOMP_FILTER_FLAG_NEW_LISTENER, WAIT_KILLABLE_RECV
_CONTINUE = 1
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_AT_FDCWD, _NO_FOLLOW, _EMPTY_PATH = -100, 0x100, 0x1000
_MOST_PATH, _MOST_VALUE = 4096, 65536
_LIBC = ctypes.CDLL(None, use_errno=True)

_NAMES = {filters.number(pair): name for pair, name in
          ((pair, name) for calls in (filters.METADATA, filters.SIGNALS, filters.MARKING, filters.FORKS)
           for name, pair in calls.items())}  # fmt: skip

Arguments = Sequence[int]


class Supervisor:
    """Answers the calls that arrive on a listener.

    Args:
        listener: What the kernel gave for the filter that notifies.
        root: The box's own tree, without a link in its path.
        first: The first process of the box, which marks commands.
        members: Tells the processes of the box.
        room: Tells whether the box may have another process.
    """

    def __init__(self, listener: int, root: str, first: int, members: Callable[[], Iterable[int]],
                 room: Callable[[], bool]) -> None:  # fmt: skip
        self._listener = listener
        self._room = room
        self._first = first
        self._inside = root.rstrip("/") + "/"
        self._members = members

    def fileno(self) -> int:
        """Readable when a call waits."""
        return self._listener

    def answer(self) -> None:
        """Take one waiting call, decide it, and let its caller go on."""
        request = array.array("B", bytes(_NOTIFICATION.size))
        try:
            fcntl.ioctl(self._listener, _RECEIVE, request)
        except OSError:
            return  # the caller died, or a signal took it out of the call
        key, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(request)
        name, go_on = _NAMES[number], 0
        try:
            if name in filters.MARKING and pid == self._first:
                code, go_on = 0, _CONTINUE  # safe: what was judged is in registers, and the caller is ours
            elif name in filters.FORKS:
                code, go_on = (0, _CONTINUE) if self._room() else (errno.EAGAIN, 0)  # safe: nothing of it was judged
            else:
                code = self._decide(pid, name, arguments, key)
        except OSError as error:
            code = error.errno or errno.EPERM
        answer = array.array("B", _ANSWER.pack(key, 0, -code, go_on))
        try:
            fcntl.ioctl(self._listener, _SEND, answer)
        except OSError:
            pass  # as above

    def _decide(self, pid: int, name: str, arguments: Arguments, key: int) -> int:
        """Do what was asked, if it may be done; returns the error to answer with, 0 for none."""
        if name in filters.MARKING:
            return errno.EPERM
        if name in filters.SIGNALS:
            return self._signal(pid, name, [_as_int(value) for value in arguments])
        caller = _Caller(pid)
        try:
            place, change = _understand(caller, name, arguments)
            target = caller.open(place)
        finally:
            caller.close()
        try:
            if not self._still_waits(key):
                return errno.EINTR
            if not os.readlink(f"/proc/self/fd/{target}").startswith(self._inside):
                return errno.EPERM
            change(target)
            return 0
        finally:
            os.close(target)

    def _still_waits(self, key: int) -> bool:
        """Whether the caller still waits: what was read belongs to it, not to a later process of the same number."""
        try:
            fcntl.ioctl(self._listener, _VALID, array.array("B", struct.pack("=Q", key)))
        except OSError:
            return False
        return True

    def _signal(self, pid: int, name: str, arguments: Arguments) -> int:
        """Send a signal for a process of the box to processes of the box."""
        target, number = arguments[0], arguments[1]
        if name in ("tgkill", "rt_tgsigqueueinfo"):
            target, number = arguments[0], arguments[2]
        members = set(self._members())
        if name == "pidfd_open":
            return errno.ESRCH  # nothing in a box needs it; programs fall back to process numbers
        targets = [target] if target > 0 else list(_group(members, pid, target))
        targets = [one for one in targets if one in members]
        if not targets:
            return errno.ESRCH if target > 0 and not os.path.exists(f"/proc/{target}") else errno.EPERM
        for one in targets:
            if one != pid or target != -1:
                os.kill(one, number)
        return 0


def _group(members: Iterable[int], pid: int, target: int) -> Iterator[int]:
    """The processes that a signal to 0, -1 or a negative group number means."""
    group = os.getpgid(pid) if target == 0 else -target
    for member in members:
        try:
            if target == -1 or os.getpgid(member) == group:
                yield member
        except ProcessLookupError:
            continue


# --- what a call means ----------------------------------------------------------------------------------------------

Place = tuple[int, str | None, bool]
"""(directory or descriptor, path or None for the descriptor itself, whether links at the end are followed)"""
Change = Callable[[int], None]


def _understand(caller: "_Caller", name: str, arguments: Arguments) -> tuple[Place, Change]:
    """The file that a call is about, and the change that it asks for."""
    numbers = [_as_int(value) for value in arguments]
    if name in ("chmod", "fchmodat", "fchmod"):
        place, rest = _place(caller, name, arguments, "at" in name)
        return place, _chmod(arguments[rest])
    if name in ("chown", "lchown", "fchown", "fchownat"):
        place, rest = _place(caller, name, arguments, "at" in name)
        if name == "fchownat":
            place = _with_flags(place, arguments[4])
        return place, _chown(numbers[rest], numbers[rest + 1])
    if "xattr" in name:
        return _attribute(caller, name, arguments)
    return _times(caller, name, arguments)


def _place(caller: "_Caller", name: str, arguments: Arguments, at: bool) -> tuple[Place, int]:
    """The file named by the first argument (or two), and the index of the next argument."""
    if at:
        return (_as_int(arguments[0]), caller.text(arguments[1]), True), 2
    if name.startswith("f"):
        return (_as_int(arguments[0]), None, True), 1
    return (_AT_FDCWD, caller.text(arguments[0]), not name.startswith("l")), 1


def _with_flags(place: Place, flags: int) -> Place:
    where, path, _ = place
    if flags & _EMPTY_PATH and not path:
        return where, None, True
    return where, path, not flags & _NO_FOLLOW


def _chmod(mode: int) -> Change:
    return lambda target: os.chmod(f"/proc/self/fd/{target}", mode & 0o7777)


def _chown(user: int, group: int) -> Change:
    def change(target: int) -> None:
        _check(_LIBC.fchownat(target, b"", ctypes.c_int(user), ctypes.c_int(group), _EMPTY_PATH))

    return change


def _attribute(caller: "_Caller", name: str, arguments: Arguments) -> tuple[Place, Change]:
    place, rest = _place(caller, name, arguments, False)
    key = caller.text(arguments[rest])
    if "remove" in name:
        return place, lambda target: os.removexattr(f"/proc/self/fd/{target}", key)
    value, flags = caller.data(arguments[rest + 1], min(arguments[rest + 2], _MOST_VALUE)), _as_int(arguments[rest + 3])
    return place, lambda target: os.setxattr(f"/proc/self/fd/{target}", key, value, flags)


def _times(caller: "_Caller", name: str, arguments: Arguments) -> tuple[Place, Change]:
    at = name in ("futimesat", "utimensat")
    path = arguments[1] if at else arguments[0]
    place: Place = (_as_int(arguments[0]) if at else _AT_FDCWD, caller.text(path) if path else None, True)
    if name == "utimensat":
        place = _with_flags(place, arguments[3]) if path else place
    where = arguments[2] if at else arguments[1]
    if not where:
        return place, lambda target: _utime(target, None)
    if name == "utime":
        first, second = struct.unpack("=2q", caller.data(where, 16))
        words = (first, 0, second, 0)
    else:
        words = struct.unpack("=4q", caller.data(where, 32))
    scale = 1 if name == "utimensat" else 1000
    return place, lambda target: _utime(target, (words[0], words[1] * scale, words[2], words[3] * scale))


def _utime(target: int, words: tuple[int, int, int, int] | None) -> None:
    value = None if words is None else struct.pack("=4q", *words)
    _check(_LIBC.utimensat(target, b"", value, _EMPTY_PATH))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def _as_int(value: int) -> int:
    """The low half of an argument as C's int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


class _Caller:
    """A process that waits in a call: its memory, its directory, its descriptors."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def data(self, address: int, size: int) -> bytes:
        """Bytes of its memory."""
        try:
            content = os.pread(self._memory, size, address)
        except (OSError, OverflowError):
            raise OSError(errno.EFAULT, "") from None
        if len(content) < size:
            raise OSError(errno.EFAULT, "")
        return content

    def text(self, address: int) -> str:
        """A C string of its memory, which may end before the next page does."""
        content = b""
        while b"\0" not in content:
            room = 4096 - (address + len(content)) % 4096
            content += self.data(address + len(content), room)
            if len(content) > 2 * _MOST_PATH:
                raise OSError(errno.ENAMETOOLONG, "")
        return os.fsdecode(content.partition(b"\0")[0])

    def open(self, place: Place) -> int:
        """The file that it means, opened without any access to its content."""
        where, path, follow = place
        base = f"/proc/{self._pid}/cwd" if where == _AT_FDCWD else f"/proc/{self._pid}/fd/{where}"
        if path is None:
            return self._open(base, os.O_PATH | os.O_CLOEXEC)
        if not path:
            raise OSError(errno.ENOENT, "")
        for own in ("/proc/self/", "/dev/fd/", "/proc/thread-self/"):
            if path.startswith(own):
                path = f"/proc/{self._pid}/{'fd/' if own == '/dev/fd/' else ''}{path[len(own) :]}"
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        if path.startswith("/"):
            return self._open(path, flags)
        directory = self._open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.open(path, flags, dir_fd=directory)
        finally:
            os.close(directory)

    @staticmethod
    def _open(path: str, flags: int) -> int:
        try:
            return os.open(path, flags)
        except FileNotFoundError as error:
            if "/fd/" in path:
                raise OSError(errno.EBADF, "") from None
            raise error

    def close(self) -> None:
        """Let go of it."""
        os.close(self._memory)


def listen(program: bytes) -> int:
    """Install a filter that notifies, for this process and all it starts; returns the listener."""

    class _Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    value = _Program(len(program) // 8, program)
    call = 317 if filters.number((1, None)) else 277
    for flags in (_LISTENER | _UNINTERRUPTED, _LISTENER):
        listener = int(_LIBC.syscall(ctypes.c_long(call), ctypes.c_uint(1), ctypes.c_uint(flags), ctypes.byref(value)))
        if listener >= 0 or ctypes.get_errno() != errno.EINVAL:  # the second flag came with Linux 5.19
            break
    if listener < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"install a filter that asks a supervisor: {os.strerror(code)}")
    return listener
