"""Trials: what sandboxes ask of the kernel, each done for real in a process of its own that ends with it.

Started as `python -I -S trials.py NAME FOLDER`; prints what was seen, or ends with an error that says what was refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys

if __name__ == "__main__":
    sys.path.append(os.path.abspath(__file__).rsplit(os.sep, 4)[0])

from swebench_lab.sandbox.landlock import ruleset
from swebench_lab.sandbox.linux import kernel, seccomp

_MOUNT_ATTR_IDMAP = 0x00100000  # linux/mount.h
_AS = 4242  # the owner that an idmapped mount is to show


def user_namespaces(folder: str) -> str:
    """Become root of a user namespace and use the rights that come with it."""
    _become_root()
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC)
    kernel.make_mounts_private()
    return "made, with mount, process, network and ipc namespaces inside"


def overlay(folder: str) -> str:
    """Join two directories, write through, and see that the lower one stays as it was."""
    rootless = os.geteuid() != 0
    if rootless:
        _become_root()
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.make_mounts_private()
    memory = kernel.detached("tmpfs", [("mode", "0700")])
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    kernel.attach(memory, place, folder)
    for name in ("lower", "upper", "work", "root"):
        os.mkdir(f"{folder}/{name}")
    with open(f"{folder}/lower/file", "w") as file:
        file.write("lower")
    options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    kernel.mount_overlay(f"{folder}/root", options + (",userxattr" if rootless else ""))
    with open(f"{folder}/root/file", "w") as file:
        file.write("upper")
    with open(f"{folder}/lower/file") as file:
        if file.read() != "lower":
            raise OSError(errno.EIO, "the lower directory of an overlay was written to")
    return "mounted over memory; the lower directory stays as it is"


def landlock(folder: str) -> str:
    """Shut this process in, and see what it can still open and connect to."""
    version = ruleset.abi()
    if version == 0:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock, or was started without it")
    kernel.no_new_privileges()
    os.mkdir(f"{folder}/inside")
    with open(f"{folder}/outside", "w") as file:
        file.write("x")
    ruleset.enforce([ruleset.Rule(f"{folder}/inside", ruleset.WRITE)], version)
    with open(f"{folder}/inside/file", "w") as file:
        file.write("x")
    _must_fail(lambda: open(f"{folder}/outside").close(), "a file outside was opened")
    if version < ruleset.NETWORK_SINCE:
        return f"version {version}: files are kept in; TCP is refused as a whole (Landlock knows it from version 4, Linux 6.7)"
    with socket.socket() as server:
        _must_fail(lambda: server.bind(("127.0.0.1", 0)), "a TCP port was bound")
    scope = (
        ""
        if version >= ruleset.SIGNALS_SINCE
        else "; signals are judged by a supervisor (before version 6, Linux 6.12)"
    )
    return f"version {version}: files and TCP are kept in{scope}"


def system_call_filter(folder: str) -> str:
    """Install the filter, and see that a call it refuses is refused."""
    program = seccomp.program()
    if not program:
        raise OSError(errno.EOPNOTSUPP, f"no filter is known for {os.uname().machine}")
    kernel.no_new_privileges()
    kernel.seccomp(program)
    _must_fail(lambda: os.mknod(f"{folder}/device", 0o020666, os.makedev(1, 3)), "a device was made")
    _must_fail(lambda: kernel.unshare(kernel.CLONE_NEWUSER), "a namespace was made")
    return f"{len(program) // 8} instructions; devices and namespaces are refused behind it"


def idmapped_mounts(folder: str) -> str:
    """Show a directory with other owners than it has."""
    with open(f"{folder}/file", "w") as file:
        file.write("x")
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.make_mounts_private()
    owner = os.stat(f"{folder}/file").st_uid
    users = _namespace_of(owner)
    mount = kernel.detached_bind(folder)
    value = struct.pack("4Q", _MOUNT_ATTR_IDMAP, 0, 0, users)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_long(442), ctypes.c_int(mount), b"", ctypes.c_uint(0x1000), value, ctypes.c_size_t(32))
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), f"mount_setattr with an id map: {os.strerror(ctypes.get_errno())}")
    uid = os.stat("file", dir_fd=mount).st_uid
    if uid != _AS:
        raise OSError(errno.EIO, f"the file belongs to {uid} where {_AS} was asked for")
    return "a directory is shown with other owners: one cache can serve several users"


TRIALS = {
    "user namespaces": user_namespaces,
    "overlay": overlay,
    "landlock rules": landlock,
    "system call filter": system_call_filter,
    "idmapped mounts": idmapped_mounts,
}


def _become_root() -> None:
    """Make a user namespace in which this user is root."""
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            raise OSError(error.errno, f"write {name} of a user namespace: {error.strerror}") from None


def _namespace_of(owner: int) -> int:
    """A descriptor of a user namespace that shows one user as another."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            kernel.unshare(kernel.CLONE_NEWUSER)
            theirs.send(b"x")
            theirs.recv(1)
        finally:
            os._exit(0)
    theirs.close()
    try:
        if not ours.recv(1):
            raise OSError(errno.EPERM, "unshare a user namespace to map owners with")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(f"{owner} {_AS} 1")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _must_fail(call: object, otherwise: str) -> None:
    try:
        call()  # type: ignore[operator]
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return
        raise
    raise OSError(errno.EIO, otherwise)


def main() -> int:
    """Carry out one trial; prints its outcome, and returns 0 or the number of the error."""
    try:
        sys.stdout.write(TRIALS[sys.argv[1]](sys.argv[2]))
    except OSError as error:
        sys.stdout.write(error.strerror or str(error))
        return error.errno or errno.EIO
    return 0


if __name__ == "__main__":
    sys.exit(main())
