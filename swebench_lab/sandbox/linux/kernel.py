"""One thin function per system call that Python lacks; a failure is an OSError that names the call and its subject."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import signal
import socket
import struct
import sys

from swebench_lab._unix import fcntl

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Sequence

if sys.platform != "win32":  # elsewhere this can be imported, and not used
    _LIBC = ctypes.CDLL(None, use_errno=True)
    _LIBC_HOLDING_GIL = ctypes.PyDLL(None, use_errno=True)
_PATH = getattr(os, "O_PATH", 0)

# linux/sched.h
CLONE_PIDFD = 0x1000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
_MNT_DETACH = 2
ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_FROM_FD, _MOVE_TO_FD = 0x4, 0x40
_FSCONFIG_FLAG, _FSCONFIG_STRING, _FSCONFIG_CREATE = 0, 1, 6

# linux/openat2.h
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_SECCOMP = 1, 4, 15, 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2

# Numbers that differ between machines; those from 424 on are the same everywhere.
_ARCHITECTURE = {"x86_64": {"clone": 56, "pivot_root": 155}, "aarch64": {"clone": 220, "pivot_root": 41}}
_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
}


_MACHINE = os.uname().machine if hasattr(os, "uname") else ""
_NUMBERS = {name: ctypes.c_long(number) for name, number in {**_COMMON, **_ARCHITECTURE.get(_MACHINE, {})}.items()}


def _number(name: str) -> ctypes.c_long:
    """The number of a system call on this machine."""
    try:
        return _NUMBERS[name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: no system call number known for {_MACHINE}") from None


def _check(result: int, what: str) -> int:
    """Turn the -1 of a C call into an OSError whose text starts with what was being done."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(name: str, what: str, *arguments: object) -> int:
    result = int(_LIBC.syscall(_number(name), *arguments))
    return result if result >= 0 else _check(result, f"{name} {what}")


# --- processes ---------------------------------------------------------------------------------------------------


def clone(flags: int) -> tuple[int, int]:
    """Fork into new namespaces; (pid, pidfd) in the parent, (0, -1) in the child. For single-threaded processes."""
    pidfd = ctypes.c_int(-1)
    _LIBC_HOLDING_GIL.PyOS_BeforeFork()
    pid = int(
        _LIBC_HOLDING_GIL.syscall(
            _number("clone"),
            ctypes.c_long(flags | CLONE_PIDFD | signal.SIGCHLD),
            None,
            ctypes.byref(pidfd),
            None,
            None,
        )
    )
    if pid == 0:
        _LIBC_HOLDING_GIL.PyOS_AfterFork_Child()
        return 0, -1
    code = ctypes.get_errno()
    _LIBC_HOLDING_GIL.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, f"clone into new namespaces (flags {flags:#x}): {os.strerror(code)}")
    os.set_inheritable(pidfd.value, False)
    return pid, pidfd.value


def unshare(flags: int) -> None:
    """Move this process into new namespaces."""
    _check(_LIBC.unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def die_with_parent() -> None:
    """Have the kernel kill this process when the *thread* that made it ends."""
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl parent death signal")


def hide_from_ptrace() -> None:
    """Close /proc/<self> and ptrace to every process without CAP_SYS_PTRACE, until the next exec."""
    _check(_LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl dumpable")


def no_new_privileges() -> None:
    """Nothing executed from here on gains a right by set-user-id bits or file capabilities."""
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl no_new_privs")


def drop_from_bounds(capabilities: Sequence[int]) -> None:
    """Keep whatever this process executes from having any capability but these; its own stay."""
    prctl = _LIBC.prctl
    for capability in range(64):
        if capability not in capabilities and prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # past the last one this kernel knows
            _check(-1, f"drop capability {capability}")


def keep_capabilities(capabilities: Sequence[int], bounded: bool = False) -> None:
    """Give up every capability but these, for this process and everything it executes.

    Args:
        capabilities: The capabilities that stay.
        bounded: Whether `drop_from_bounds` was called already, here or before a fork into the same user namespace.
    """
    if not bounded:
        drop_from_bounds(capabilities)
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    low = sum(1 << capability for capability in capabilities)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, 0, 0, 0)
    _check(_LIBC.capset(ctypes.byref(header), ctypes.byref(data)), f"capset {low:#x}")


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def seccomp(program: bytes) -> None:
    """Install a system call filter (packed `sock_filter` instructions) for this process and its children."""
    value = _Program(len(program) // 8, program)
    _check(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(value), 0, 0), "install seccomp filter")


_commands: list[tuple[int, int]] = []


def _command_line() -> tuple[int, int]:
    """Where in this process's memory its command line is; a fork has it at the same place."""
    if not _commands:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        _commands.append((int(fields[45]), int(fields[46])))  # arg_start, arg_end of proc(5)
    return _commands[0]


def set_title(title: str) -> None:
    """Replace this process's name and command line, which every process of its pid namespace can read."""
    name = title.encode()
    _check(_LIBC.prctl(_PR_SET_NAME, name, 0, 0, 0), "prctl set name")
    start, end = _command_line()
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, name, min(len(name), end - start - 1))


def landlock_version() -> int:
    """The version of landlock's interface; OSError where the kernel has none."""
    return _syscall("landlock_create_ruleset", "version", None, ctypes.c_size_t(0), ctypes.c_uint(1))


# --- names and network -------------------------------------------------------------------------------------------


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    encoded = name.encode()
    _check(_LIBC.sethostname(encoded, ctypes.c_size_t(len(encoded))), f"sethostname {name}")


def loopback_up() -> None:
    """Bring up 127.0.0.1 and ::1 in this network namespace."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        reply = fcntl.ioctl(control, get_flags, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack_from("16sh", reply)[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh22x", b"lo", flags | up))


DROPPED = ("10.255.255.0", "192.0.2.0")
"""Networks (of 256 addresses each) that suites connect to in order to time out: one unassigned, one for documentation."""


def drop_routes() -> None:
    """Have packets to the networks of `DROPPED` vanish in this network namespace, so that connecting to them hangs.

    They go to the loopback device, where nobody takes them: without a route, connecting fails at once.
    """
    family, new_route, loopback, bits = 2, 24, 1, 24  # AF_INET, RTM_NEWROUTE
    request, acknowledge, create = 0x1, 0x4, 0x400
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as channel:
        for number, network in enumerate(DROPPED, 1):
            facts = struct.pack("=8BI", family, bits, 0, 0, 254, 4, 253, 1, 0)  # main table, static, link, unicast
            for kind, value in (
                (1, socket.inet_aton(network)), (4, struct.pack("=I", loopback)), (7, socket.inet_aton("127.0.0.1")),
            ):  # fmt: skip
                facts += struct.pack("=HH", 4 + len(value), kind) + value
            head = struct.pack("=IHHII", 16 + len(facts), new_route, request | acknowledge | create, number, 0)
            channel.sendto(head + facts, (0, 0))
            code = struct.unpack_from("=i", channel.recv(4096), 16)[0]
            if code:
                raise OSError(-code, f"route {network}/{bits} to nowhere: {os.strerror(-code)}")


# --- mounts: made detached, given their attributes, and only then attached ------------------------------------------


def make_mounts_private() -> None:
    """Stop every mount of this namespace from spreading to others."""
    _check(_LIBC.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "make / private")


def detached_bind(source: str | int) -> int:
    """A detached copy of the mounts at and below a path (or an open descriptor), as a descriptor."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    if isinstance(source, int):
        return _syscall(
            "open_tree", f"descriptor {source}", ctypes.c_int(source), b"", ctypes.c_uint(flags | _AT_EMPTY_PATH)
        )
    return _syscall("open_tree", source, ctypes.c_int(-100), os.fsencode(source), ctypes.c_uint(flags))


def detached(fstype: str, options: Sequence[tuple[str, str | None]] = (), attributes: int = 0) -> int:
    """A new detached file system, as a descriptor; an option whose value is None is a flag."""
    context = _syscall("fsopen", fstype, fstype.encode(), ctypes.c_uint(1))
    try:
        for key, value in options:
            kind = _FSCONFIG_FLAG if value is None else _FSCONFIG_STRING
            _configure(
                context, f"{fstype} {key}={value}", kind, key.encode(), None if value is None else os.fsencode(value)
            )
        _configure(context, f"create {fstype}", _FSCONFIG_CREATE, None, None)
        return _syscall("fsmount", fstype, ctypes.c_int(context), ctypes.c_uint(1), ctypes.c_uint(attributes))
    finally:
        os.close(context)


def _configure(context: int, what: str, kind: int, key: bytes | None, value: bytes | None) -> None:
    """One fsconfig call; the kernel's own explanation, when it left one, is part of the error."""
    try:
        _syscall("fsconfig", what, ctypes.c_int(context), ctypes.c_uint(kind), key, value, ctypes.c_int(0))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{_explanation(context)}") from None


def _explanation(context: int) -> str:
    """The messages the kernel queued on a file system context."""
    messages = []
    while True:
        try:
            messages.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError:
            return f" ({'; '.join(messages)})" if messages else ""


def mount_overlay(target: str, options: str) -> None:
    """Mount an overlay by one option string (at most a page): for kernels that take no layer at a time."""
    _check(
        _LIBC.mount(
            b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(_MS_NODEV | _MS_NOSUID), os.fsencode(options)
        ),
        f"mount overlay at {target}",
    )


def set_attributes(mount: int, attributes: int) -> None:
    """Add ATTR_* flags to a detached mount and everything below it; flags that are there already stay."""
    value = struct.pack("4Q", attributes, 0, 0, 0)
    _syscall(
        "mount_setattr",
        f"{attributes:#x}",
        ctypes.c_int(mount),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
        value,
        ctypes.c_size_t(len(value)),
    )


def attach(mount: int, target: int, what: str) -> None:
    """Attach a detached mount on the file or directory that a descriptor names."""
    _syscall(
        "move_mount",
        what,
        ctypes.c_int(mount),
        b"",
        ctypes.c_int(target),
        b"",
        ctypes.c_uint(_MOVE_FROM_FD | _MOVE_TO_FD),
    )


def enter_root(path: str) -> None:
    """Make a mount point the root directory and let go of everything that was outside it."""
    os.chdir(path)
    _syscall("pivot_root", path, b".", b".")
    _check(_LIBC.umount2(b".", ctypes.c_int(_MNT_DETACH)), "detach the old root")
    os.chdir("/")


# --- files -----------------------------------------------------------------------------------------------------------


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open a path below a directory under the given RESOLVE_* rules."""
    how = struct.pack("3Q", flags | os.O_CLOEXEC, mode, resolve)
    return _syscall("openat2", path, ctypes.c_int(directory), os.fsencode(path), how, ctypes.c_size_t(len(how)))


def open_beneath(directory: int, path: str, flags: int = _PATH) -> int:
    """Open a path below a directory, refusing every symbolic link on the way and at the end."""
    return openat2(directory, path.lstrip("/") or ".", flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


# --- messages with descriptors ----------------------------------------------------------------------------------------


def receive(channel: socket.socket, size: int = 1 << 17, most: int = 8) -> tuple[bytes, list[int]]:
    """One message and its descriptors, all close-on-exec (`socket.recv_fds` ignores the flag that asks for it)."""
    space = socket.CMSG_SPACE(most * 4)
    body, ancillary, _, _ = channel.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    received = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
    return body, list(received)
