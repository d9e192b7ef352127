"""Landlock rulesets: what a process and all it starts may touch, enforced by the kernel without any privilege.

What the kernel can restrict has grown with its versions; `abi()` says which one this kernel has:

| version | kernel | adds |
|---|---|---|
| 1 | 5.13 | opening, making and removing files |
| 2 | 5.19 | linking and renaming between directories |
| 3 | 6.2 | truncating by path |
| 4 | 6.7 | binding and connecting TCP sockets |
| 5 | 6.10 | device ioctls |
| 6 | 6.12 | signals and abstract Unix sockets |
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on all architectures
_VERSION, _BENEATH = 1, 1

# linux/landlock.h
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

READ = EXECUTE | READ_FILE | READ_DIR
WRITE = (
    READ
    | WRITE_FILE
    | TRUNCATE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
)
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # all others speak of directories

SIGNALS_SINCE, NETWORK_SINCE, TRUNCATE_SINCE, REFER_SINCE = 6, 4, 3, 2
"""The versions from which on each of these is restricted by Landlock itself."""


def abi() -> int:
    """The version of Landlock that this kernel offers; 0 when it has none, or was started without it."""
    return max(0, int(_LIBC.syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))))


@dataclass(frozen=True)
class Rule:
    """Rights on a file, or on a directory and everything below it."""

    path: str
    rights: int


def rules(readable: Iterable[str] = (), writable: Iterable[str] = (), usable: Iterable[str] = ()) -> list[Rule]:
    """Rules from lists of paths; paths that do not exist are left out.

    Args:
        readable: May be read and executed.
        writable: May be read, executed, written, made and removed, but no devices be made.
        usable: Files that may be read and written, such as /dev/null.
    """
    kinds = ((readable, READ), (writable, WRITE), (usable, READ_FILE | WRITE_FILE))
    return [Rule(path, rights) for paths, rights in kinds for path in paths if os.path.exists(path)]


def enforce(allowed: Iterable[Rule], version: int) -> None:
    """Restrict this process, for good, to what is allowed; no TCP, no signal and no abstract socket leaves its domain.

    Args:
        allowed: All else is refused with EACCES.
        version: At most `abi()`; what a version does not know stays unrestricted.
    """
    fs = (1 << (16 if version >= 5 else 15 if version >= 3 else 14 if version >= 2 else 13)) - 1
    net = _BIND_TCP | _CONNECT_TCP if version >= NETWORK_SINCE else 0
    scoped = _ABSTRACT_SOCKETS | _SIGNALS if version >= SIGNALS_SINCE else 0
    attributes = struct.pack("=3Q", fs, net, scoped)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = _call(_CREATE, "make a Landlock ruleset", attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        for rule in allowed:
            _add(ruleset, rule, fs)
        _call(_RESTRICT, "enforce a Landlock ruleset", ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def keep_signals_inside() -> None:
    """Have this thread, and all it starts, reach with signals only what it starts; from version `SIGNALS_SINCE` on."""
    # What is not spoken of is allowed, save for moving files between directories: that is refused unless it is allowed.
    attributes = struct.pack("=3Q", REFER, 0, _SIGNALS)
    ruleset = _call(_CREATE, "make a Landlock ruleset", attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    try:
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            beneath = struct.pack("=Qi", REFER, root)
            _call(_ADD, "allow moves", ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), beneath, ctypes.c_uint(0))
        finally:
            os.close(root)
        _call(_RESTRICT, "enforce a Landlock ruleset", ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)


def _add(ruleset: int, rule: Rule, fs: int) -> None:
    place = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = rule.rights & fs & (fs if os.path.isdir(f"/proc/self/fd/{place}") else _OF_FILES)
        beneath = struct.pack("=Qi", rights, place)
        _call(_ADD, f"allow {rule.path}", ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), beneath, ctypes.c_uint(0))
    finally:
        os.close(place)


def _call(number: int, what: str, *arguments: object) -> int:
    result = int(_LIBC.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        hint = " (the kernel has no Landlock, or it is not enabled)" if code in (errno.ENOSYS, errno.EOPNOTSUPP) else ""
        raise OSError(code, f"{what}: {os.strerror(code)}{hint}")
    return result
