"""The system calls a build-and-test box never needs, as a small filter program for the kernel to run.

Refused calls fail with EPERM. Calls that every machine's programs fall back from (`clone3`, whose flags a filter cannot
read, and every call of a foreign architecture) fail with ENOSYS.

What is shared with the host all the same: `inotify`. Each user of the host has 128 instances by default
(`fs.inotify.max_user_instances`), and those that boxes make count as those of the user who opened them. Test suites and
file watchers need it, so it is not refused; `doctor` says how many are in use.
"""

from __future__ import annotations

import errno
import os
import struct

from swebench_lab.sandbox.linux import kernel

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Iterator

# Per architecture: audit number, then system call numbers (arch/x86/entry/syscalls/syscall_64.tbl;
# asm-generic/unistd.h).
_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7

_COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "statmount": 457,
    "listmount": 458,
    "open_tree_attr": 467,
}

_DENIED = {
    _X86_64: {
        **_COMMON,
        "ptrace": 101,
        "io_setup": 206,  # of requests in flight, all users of the host have one sum
        "syslog": 103,
        "uselib": 134,
        "vhangup": 153,
        "modify_ldt": 154,
        "pivot_root": 155,
        "sysctl": 156,
        "acct": 163,
        "settimeofday": 164,
        "mount": 165,
        "umount2": 166,
        "swapon": 167,
        "swapoff": 168,
        "reboot": 169,
        "sethostname": 170,
        "setdomainname": 171,
        "iopl": 172,
        "ioperm": 173,
        "create_module": 174,
        "init_module": 175,
        "delete_module": 176,
        "quotactl": 179,
        "nfsservctl": 180,
        "lookup_dcookie": 212,
        "clock_settime": 227,
        "kexec_load": 246,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "perf_event_open": 298,
        "fanotify_init": 300,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "clock_adjtime": 305,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "finit_module": 313,
        "kexec_file_load": 320,
        "bpf": 321,
        "userfaultfd": 323,
    },
    _AARCH64: {
        **_COMMON,
        "io_setup": 0,
        "lookup_dcookie": 18,
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "nfsservctl": 42,
        "vhangup": 58,
        "quotactl": 60,
        "acct": 89,
        "kexec_load": 104,
        "init_module": 105,
        "delete_module": 106,
        "clock_settime": 112,
        "syslog": 116,
        "ptrace": 117,
        "reboot": 142,
        "sethostname": 161,
        "setdomainname": 162,
        "settimeofday": 170,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "swapon": 224,
        "swapoff": 225,
        "perf_event_open": 241,
        "fanotify_init": 262,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "clock_adjtime": 266,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "finit_module": 273,
        "bpf": 280,
        "userfaultfd": 282,
        "kexec_file_load": 294,
    },
}

# Calls refused by what they are asked: name -> (number on x86_64, number on aarch64 or None).
_BY_ARGUMENT = {
    "clone": (56, 220),
    "unshare": (272, 97),
    "socket": (41, 198),
    "ioctl": (16, 29),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "prlimit64": (302, 261),
}
_CLONE3 = 435
_NEW_NAMESPACE = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | 0x80
)  # 0x80: CLONE_NEWTIME
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; not vsock, packet, alg, ...
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FILE_TYPE, _CHARACTER, _BLOCK = 0o170000, 0o020000, 0o060000

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCH = 0, 4
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _argument(index: int) -> bytes:
    """Load the low half of an argument (both architectures are little-endian)."""
    return _op(_LOAD, 16 + 8 * index)


def _refuse(code: int = errno.EPERM) -> bytes:
    return _op(_RETURN, _ERROR | code)


def _when(number: int, body: bytes) -> bytes:
    """Run a body that always returns, for one system call."""
    return _op(_EQUAL, number, 0, len(body) // 8) + body


def _by_argument(column: int) -> Iterator[bytes]:
    """The rules that look at arguments, for one architecture's column of `_BY_ARGUMENT`."""
    allow, refuse = _op(_RETURN, _ALLOW), _refuse()
    namespace = _op(_ANY_BIT, _NEW_NAMESPACE, 0, 1) + refuse + allow
    families = b"".join(_op(_EQUAL, family, 0, 1) + allow for family in _FAMILIES) + _refuse(errno.EAFNOSUPPORT)
    injection = b"".join(_op(_EQUAL, request, 0, 1) + refuse for request in _TERMINAL_INJECTION) + allow
    first = _op(_EQUAL, 1, 0, 1) + refuse + allow  # the kernel ends any process for its limits, a box's first one too
    device = _op(_AND, _FILE_TYPE) + _op(_EQUAL, _CHARACTER, 0, 1) + refuse + _op(_EQUAL, _BLOCK, 0, 1) + refuse + allow
    bodies = {
        # Bit 0x80 of clone's flags is part of the exit signal, never CLONE_NEWTIME.
        "clone": _argument(0) + _op(_AND, _NEW_NAMESPACE & ~0xFF) + namespace,
        "unshare": _argument(0) + namespace,
        "socket": _argument(0) + families,
        "ioctl": _argument(1) + injection,
        "mknod": _argument(1) + device,
        "mknodat": _argument(2) + device,
        "prlimit64": _argument(0) + first,
    }
    for name, body in bodies.items():
        number = _BY_ARGUMENT[name][column]
        if number is not None:
            yield _when(number, body)


_GIVES_AWAY = {_X86_64: (92, 93, 94, 260), _AARCH64: (54, 55)}  # chown, fchown, lchown, fchownat


def without_owners(machine: str = "") -> bytes:
    """A further filter under which giving files to others succeeds and does nothing; empty where none is known.

    For builds in boxes with one user: what is made for several users then belongs to that one, as everything does there.
    """
    machine = machine or os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        return b""
    arch, allow = (_X86_64 if machine == "x86_64" else _AARCH64), _op(_RETURN, _ALLOW)
    parts = [_op(_LOAD, _ARCH), _op(_EQUAL, arch, 1, 0), allow, _op(_LOAD, _NUMBER)]
    parts += [_when(number, _refuse(0)) for number in _GIVES_AWAY[arch]]
    return b"".join([*parts, allow])


def program(machine: str = "") -> bytes:
    """The filter as packed instructions for an architecture (default: this machine's); empty where none is known."""
    machine = machine or os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        return b""
    arch = _X86_64 if machine == "x86_64" else _AARCH64
    parts = [_op(_LOAD, _ARCH), _op(_EQUAL, arch, 1, 0), _refuse(errno.ENOSYS), _op(_LOAD, _NUMBER)]
    if arch == _X86_64:  # the x32 calls share the architecture's number
        parts.append(_op(_AT_LEAST, 0x40000000, 0, 1) + _refuse(errno.ENOSYS))
    parts.append(_when(_CLONE3, _refuse(errno.ENOSYS)))
    parts += [_when(number, _refuse()) for number in _DENIED[arch].values()]
    parts += _by_argument(0 if arch == _X86_64 else 1)
    parts.append(_op(_RETURN, _ALLOW))
    return b"".join(parts)
