"""Witness: runs a command and says, on its own stderr, what in the box could have ended it by a signal.

A signal does not tell who sent it. So a second run of tests that died of SIGKILL or SIGTERM is watched: a filter has the
kernel ask here before any call goes on that could send, or arrange for, such a signal, or that ends a process with a
status that looks like one. Where nothing of the kind was asked for, whoever ended the tests is outside the box.

It is copied into the box and run by the task's Python: it may only use what Python 3.5 has, and imports nothing of this
package. The command's processes have no descriptor of its stderr, and cannot open its own: it is not dumpable.

A shell that runs the tests as its child can be rewritten by that child, in memory, to end with any status. So the tests
take the shell's place wherever their command allows it (`BECOMES`), and then no status that looks like a signal's is
taken for one.
"""

import array
import ctypes
import os
import select
import signal
import socket
import struct
import sys

READY, BLIND, INSIDE = "watching", "not watching", "inside: "
"""What it prints before the command starts, and before each call that could have ended it."""

BECOMES = "--becomes"
"""Its first argument where the shell that it starts becomes the test runner."""

OUTSIDE = (9, 15)  # SIGKILL and SIGTERM, which not every system's Python names
"""Signals that come from outside; every other one that ends a process can be had from the kernel in too many ways."""

_EXIT, _FCNTL, _PRCTL, _LIMIT, _TIMER, _CLONE = "exit", "fcntl", "prctl", "limit", "timer", "clone"
_KILL = "kill"
# name: (number on x86_64, number on aarch64, kind, which argument is the signal or tells whether it matters)
_CALLS = {
    "kill": (62, 129, _KILL, 1),
    "tkill": (200, 130, _KILL, 1),
    "tgkill": (234, 131, _KILL, 2),
    "rt_sigqueueinfo": (129, 138, _KILL, 1),
    "rt_tgsigqueueinfo": (297, 240, _KILL, 2),
    "pidfd_send_signal": (424, 424, _KILL, 1),
    "timer_create": (222, 107, _TIMER, 1),
    "mq_notify": (244, 184, _TIMER, 1),
    "fcntl": (72, 25, _FCNTL, 1),
    "prctl": (157, 167, _PRCTL, 0),
    "setrlimit": (160, 164, _LIMIT, 0),
    "prlimit64": (302, 261, _LIMIT, 1),
    "clone": (56, 220, _CLONE, 0),
    "exit": (60, 93, _EXIT, 0),
    "exit_group": (231, 94, _EXIT, 0),
}
_SET_SIGNAL, _PARENT_DEATH, _OF_PROCESSOR = 10, 1, 0  # F_SETSIG, PR_SET_PDEATHSIG, RLIMIT_CPU
_VALUES = {
    _KILL: [int(one) for one in OUTSIDE],
    _FCNTL: [_SET_SIGNAL],
    _PRCTL: [_PARENT_DEATH],
    _LIMIT: [_OF_PROCESSOR],
}

# linux/bpf_common.h, linux/seccomp.h
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_MOST_LINES = 50
_SHELLS = ("sh", "bash", "dash")

if sys.platform == "linux":  # elsewhere this file is imported, and never run
    _LIBC = ctypes.CDLL(None, use_errno=True)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _rule(kind: str, argument: int) -> bytes:
    """Return the part of the filter for one call: asks here where its argument matters, and lets it go on elsewhere."""
    load, ask, allow = _op(_LOAD, 16 + 8 * argument), _op(_RETURN, _NOTIFY), _op(_RETURN, _ALLOW)
    if kind == _TIMER:
        return ask
    if kind == _EXIT:
        return load + _op(_AND, 0xFF) + _op(_AT_LEAST, 128, 0, 1) + ask + allow
    if kind == _CLONE:  # the signal that a child's end sends its parent
        usual = _op(_EQUAL, 0, 2, 0) + _op(_EQUAL, int(signal.SIGCHLD), 1, 0)
        return load + _op(_AND, 0xFF) + usual + ask + allow
    return load + b"".join(_op(_EQUAL, value, 0, 1) + ask for value in _VALUES[kind]) + allow


def program() -> bytes:
    """Return the filter for this machine; empty where its calls are not known."""
    machine = os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        return b""
    arch = 0xC000003E if machine == "x86_64" else 0xC00000B7
    parts = [_op(_LOAD, 4), _op(_EQUAL, arch, 1, 0), _op(_RETURN, _ALLOW), _op(_LOAD, 0)]
    for x86_64, aarch64, kind, argument in _CALLS.values():
        body = _rule(kind, argument)
        parts.append(_op(_EQUAL, x86_64 if machine == "x86_64" else aarch64, 0, len(body) // 8) + body)
    return b"".join([*parts, _op(_RETURN, _ALLOW)])


def _listen() -> int:
    """Install the filter for this process and all it starts; returns where the kernel asks, or -1."""

    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    text = program()
    _LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if not text:
        return -1
    number = 317 if os.uname().machine == "x86_64" else 277
    value = Program(len(text) // 8, text)
    return int(_LIBC.syscall(ctypes.c_long(number), ctypes.c_uint(1), ctypes.c_uint(8), ctypes.byref(value)))


# --- whether a call could have ended the command ---------------------------------------------------------------------


def _status(pid: int) -> "dict[str, str]":
    try:
        with open("/proc/" + str(pid) + "/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except OSError:
        return {}


def _descends(pid: int, ancestor: int) -> bool:
    """Whether a process was started by another, or by what that has started; of one that is gone nothing is to be feared."""
    for _ in range(1000):
        status = _status(pid)
        if not status:
            return True
        pid = int(status["PPid"])
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
    return False


def _in_group(group: int) -> "list[int]":
    processes = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        try:
            if name.isdigit() and os.getpgid(int(name)) == group:
                processes.append(int(name))
        except OSError:
            continue
    return processes


def _harmless(name: str, kind: str, sender: int, arguments: "list[int]", shell: int) -> bool:
    """Whether a call cannot be what ended the command: a process that ends what it has started, a shell that says how.

    The shell is -1 where it becomes the test runner: then no process speaks for another.
    """
    if kind == _TIMER:
        return arguments[1] == 0
    if name == "prlimit64":
        return arguments[2] == 0
    if kind == _EXIT:
        try:
            return sender == shell and os.path.basename(os.readlink("/proc/" + str(sender) + "/exe")) in _SHELLS  # noqa: PTH115, PTH119
        except OSError:
            return False
    if kind != _KILL or name == "pidfd_send_signal":
        return False
    target = ctypes.c_int32(arguments[0] & 0xFFFFFFFF).value
    if target > 1:
        return _descends(target, sender)
    return target < -1 and all(_descends(member, sender) for member in _in_group(-target))


class _Watch(object):  # noqa: UP004
    """Answers the kernel's questions: notes what could have ended the command, and lets every call go on."""

    def __init__(self, listener: int, shell: int) -> None:
        self.listener = listener
        self.shell = shell
        self.lines = 0
        first = os.uname().machine == "x86_64"
        self.names = {x if first else a: (name, kind) for name, (x, a, kind, _) in _CALLS.items()}

    def answer(self) -> None:
        import fcntl  # the host may be a system without it, which only imports this file

        request = array.array("B", bytes(_NOTIFICATION.size))
        try:
            fcntl.ioctl(self.listener, _RECEIVE, request)
        except OSError:
            return  # the caller is gone
        numbers = _NOTIFICATION.unpack(request)
        try:
            self._note(numbers[1], numbers[3], list(numbers[6:]))
        finally:
            try:
                fcntl.ioctl(self.listener, _SEND, array.array("B", _ANSWER.pack(numbers[0], 0, 0, 1)))
            except OSError:
                pass  # as above

    def _note(self, thread: int, number: int, arguments: "list[int]") -> None:
        name, kind = self.names[number]
        sender = int(_status(thread).get("Tgid", thread))
        if self.lines < _MOST_LINES and not _harmless(name, kind, sender, arguments, self.shell):
            self.lines += 1
            say(INSIDE + name + " by " + str(sender) + str(arguments[:3]))


def say(line: str) -> None:
    """Print a line past every buffer."""
    os.write(2, (line + "\n").encode())


def _run(command: "list[str]", channel: socket.socket) -> None:
    """In the child: begin to be watched, and become the command, its errors where its output goes."""
    os.setsid()
    listener = _listen()
    ready = struct.pack("=i", listener)
    if listener >= 0:
        channel.sendmsg([ready], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ready)])
        os.close(listener)
    else:
        channel.send(ready)
    channel.recv(1)
    channel.close()
    os.dup2(1, 2)
    os.execvp(command[0], command)


def main(command: "list[str]") -> int:
    """Run a command; returns its status as a shell would give it."""
    becomes = command[:1] == [BECOMES]
    command = command[becomes:]
    _LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: its descriptors are nobody else's
    wake, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    shell = os.fork()
    if shell == 0:
        try:
            ours.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(command, theirs)
        finally:
            os._exit(126)
    theirs.close()
    _, rights, _, _ = ours.recvmsg(4, socket.CMSG_SPACE(4))
    waiting = select.poll()
    waiting.register(wake, select.POLLIN)
    watch = None
    if rights:
        watch = _Watch(struct.unpack("=i", rights[0][2])[0], -1 if becomes else shell)
        waiting.register(watch.listener, select.POLLIN)
    say(READY if rights else BLIND)
    ours.send(b"x")
    ours.close()
    while True:
        for descriptor, _ in waiting.poll():
            if watch is not None and descriptor == watch.listener:
                watch.answer()
                continue
            os.read(wake, 512)
            pid, status = os.waitpid(shell, os.WNOHANG)
            if pid == shell:
                return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
