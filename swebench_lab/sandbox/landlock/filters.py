"""The further system calls that a box without namespaces of its own must not use, as filters on top of `seccomp`.

Landlock restricts opening files, TCP and signals. It says nothing of sockets other than TCP, of connecting to socket files,
of System V and POSIX shared objects, of limits and priorities of other processes, or of modes, owners, times and
attributes of files. The first are refused here; the last are put before a supervisor (`supervisor.py`).
"""

import errno
import platform
from collections.abc import Iterator

from swebench_lab.sandbox.landlock import ruleset
from swebench_lab.sandbox.linux.seccomp import (
    _ALLOW,
    _AND,
    _ANY_BIT,
    _EQUAL,
    _LOAD,
    _RETURN,
    _argument,
    _op,
    _refuse,
    _when,
)

_NOTIFY = 0x7FC00000  # SECCOMP_RET_USER_NOTIF
_X86 = platform.machine() == "x86_64"

# name -> number on x86_64, on aarch64 (None: does not exist there)
_REFUSED = {
    "connect": (42, 203), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "inotify_add_watch": (254, 27),
}  # fmt: skip
_ONLY_ITSELF = {  # name -> numbers, argument that names a process
    "prlimit64": ((302, 261), 0), "sched_setaffinity": ((203, 122), 0), "sched_setscheduler": ((144, 119), 0),
    "sched_setparam": ((142, 118), 0), "sched_setattr": ((314, 274), 0), "setpriority": ((141, 140), 1),
    "ioprio_set": ((251, 30), 1),
}  # fmt: skip
_OF_PROCESSES = {"setpriority": 0, "ioprio_set": 1}  # PRIO_PROCESS, IOPRIO_WHO_PROCESS
_MARKED = 15  # RLIMIT_RTTIME
_NEWER = (
    452,
    463,
    466,
    469,
)  # fchmodat2, setxattrat, removexattrat, file_setattr: programs fall back to the older ones
_IOCTL, _FILE_FLAGS = (16, 29), (0x40086602, 0x401C5820, 0x40806685)  # FS_IOC_SETFLAGS, FSSETXATTR, ENABLE_VERITY
_SOCKET, _SENDTO, _SENDMSG, _SENDMMSG, _TRUNCATE = (41, 198), (44, 206), (46, 211), (307, 269), (76, 45)
_FASTOPEN = 0x20000000  # MSG_FASTOPEN: connects without connect(2)
_UNIX, _INET, _INET6 = 1, 2, 10
_STREAM, _SEQPACKET, _KIND, _TCP = 1, 5, 0xF, 6

METADATA = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
"""Calls that change what is kept about a file, through a path or through a descriptor opened for reading."""
FORKS = {"clone": (56, 220), "fork": (57, None), "vfork": (58, None)}
"""Calls that make processes and threads; watched where neither a cgroup nor the kernel bounds their number."""
MARKING = {"setrlimit": (160, 164), "prlimit64": (302, 261)}
SIGNALS = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
}  # fmt: skip
"""Calls that reach other processes; watched where Landlock does not keep signals inside."""


def number(pair: tuple[int, int | None]) -> int | None:
    """The number of a system call on this machine."""
    return pair[0] if _X86 else pair[1]


def refusing(version: int) -> bytes:
    """The filter that refuses, for a version of Landlock that leaves the rest to it."""
    parts = [_op(_LOAD, 0)]
    parts += [_when(_sure(pair), _refuse(errno.EACCES)) for pair in _REFUSED.values()]
    for name, (pair, argument) in _ONLY_ITSELF.items():
        own = _argument(argument) + _op(_EQUAL, 0, 0, 1) + _op(_RETURN, _ALLOW) + _refuse()
        if name in _OF_PROCESSES:  # of a group or a user, 0 means the caller's own: all processes of the user, for one
            own = _argument(0) + _op(_EQUAL, _OF_PROCESSES[name], 1, 0) + _refuse() + own
        parts.append(_when(_sure(pair), own))
    parts += [_when(call, _refuse(errno.ENOSYS)) for call in _NEWER]
    flags = b"".join(_op(_EQUAL, request, 0, 1) + _refuse() for request in _FILE_FLAGS)
    parts.append(_when(_sure(_IOCTL), _argument(1) + flags + _op(_RETURN, _ALLOW)))
    parts += _sockets(version)
    if version < ruleset.TRUNCATE_SINCE:
        parts.append(_when(_sure(_TRUNCATE), _refuse(errno.EACCES)))
    parts.append(_op(_RETURN, _ALLOW))
    return b"".join(parts)


def notifying(version: int, forks: bool = False) -> bytes:
    """The filter that puts calls before a supervisor.

    Args:
        version: Of Landlock; what it does not restrict is watched.
        forks: Whether making processes is watched too.
    """
    watched = [*METADATA.values(), *(SIGNALS.values() if version < ruleset.SIGNALS_SINCE else ())]
    watched += FORKS.values() if forks else ()
    parts = [_op(_LOAD, 0)]
    parts += [_when(syscall, _op(_RETURN, _NOTIFY)) for pair in watched if (syscall := number(pair)) is not None]
    parts += _marks()
    parts.append(_op(_RETURN, _ALLOW))
    return b"".join(parts)


def _sure(pair: tuple[int, int | None]) -> int:
    syscall = number(pair)
    assert syscall is not None
    return syscall


def _marks() -> Iterator[bytes]:
    """Setting the limit by which commands are told apart (see `init`): for the first process of the box only."""
    allow, ask = _op(_RETURN, _ALLOW), _op(_RETURN, _NOTIFY)
    yield _when(_sure(MARKING["setrlimit"]), _argument(0) + _op(_EQUAL, _MARKED, 0, 1) + ask + allow)
    rule = _argument(1) + _op(_EQUAL, _MARKED, 1, 0) + allow
    yield _when(_sure(MARKING["prlimit64"]), rule + _argument(2) + _op(_EQUAL, 0, 0, 1) + allow + ask)


def _sockets(version: int) -> Iterator[bytes]:
    """Streams between own processes, and TCP where Landlock rules over it; no datagrams, no other protocols."""
    allow, refuse = _op(_RETURN, _ALLOW), _refuse(errno.EACCES)
    kind = _argument(1) + _op(_AND, _KIND)
    local = kind + _op(_EQUAL, _STREAM, 0, 1) + allow + _op(_EQUAL, _SEQPACKET, 0, 1) + allow + refuse
    tcp = refuse
    if version >= ruleset.NETWORK_SINCE:
        protocol = _argument(2) + _op(_EQUAL, 0, 0, 1) + allow + _op(_EQUAL, _TCP, 0, 1) + allow + refuse
        tcp = kind + _op(_EQUAL, _STREAM, 1, 0) + refuse + protocol
    bodies = b"".join(
        _op(_EQUAL, family, 0, len(body) // 8) + body for family, body in ((_UNIX, local), (_INET, tcp), (_INET6, tcp))
    )
    yield _when(_sure(_SOCKET), _argument(0) + bodies + _refuse(errno.EAFNOSUPPORT))
    for pair, flags in ((_SENDTO, 3), (_SENDMSG, 2), (_SENDMMSG, 3)):
        yield _when(_sure(pair), _argument(flags) + _op(_ANY_BIT, _FASTOPEN, 0, 1) + refuse + allow)
