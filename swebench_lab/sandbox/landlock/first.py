"""The first process of a landlock box, behind its walls: it starts the box's commands."""

import contextlib
import ctypes
import errno
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from swebench_lab.sandbox.landlock import filters, private_tree, ruleset
from swebench_lab.sandbox.landlock.supervisor import listen
from swebench_lab.sandbox.linux import kernel, seccomp, wire
from swebench_lab.sandbox.linux.oom import Scores
from swebench_lab.sandbox.zygote import init

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

Message = dict[str, Any]


class Starter:
    """A thread of the first process behind one more wall: what it starts cannot signal this process."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], int]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[int | OSError] = queue.SimpleQueue()
        self._has_thread = False

    def start(self, call: Callable[[], int]) -> int:
        """Have a process started by that thread; its number."""
        if not self._has_thread:  # not before there is somebody to ask whether there may be one more
            threading.Thread(target=self._serve, daemon=True).start()
            self._has_thread = True
        self._calls.put(call)
        result = self._results.get()
        if isinstance(result, OSError):
            raise result
        return result

    def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with contextlib.suppress(OSError):
            ruleset.keep_signals_inside()
        while True:
            call = self._calls.get()
            try:
                self._results.put(call())
            except OSError as error:
                self._results.put(error)


def _tell(reply: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):  # the client no longer wants it
        wire.send(reply, message)


class First(init.Init):
    """The first process of the box, behind the walls; its requests are `run`, `open` and `drain` of `init`."""

    starter: Starter | None = None

    def _spawn(self, *how: Any) -> int:
        start = super()._spawn
        return self.starter.start(lambda: start(*how)) if self.starter is not None else start(*how)

    def _op_run(self, message: Message, descriptors: list[int], reply: socket.socket) -> None:
        # Marking a command waits for the warden; the end of another one must not break into that.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            super()._op_run(message, descriptors, reply)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for pid, command in self._running.items():
            if command.reply is reply:
                _tell(reply, {"pid": pid, "mark": command.mark})

    def _elsewhere(self, message: Message, descriptors: list[int], reply: socket.socket) -> None:
        raise OSError(errno.ENOSYS, "processes of a landlock box are ended and held still by its warden")

    _op_kill = _op_pause = _op_resume = _op_sweep = _elsewhere

    def _spawn_instead_of_leftovers(self, *_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "the box is full of processes; end some of them")


def become_first(commands: socket.socket, parent: socket.socket, settings: Message, root: str) -> NoReturn:
    """In the fork: raise the walls around this process, and serve."""
    try:
        for number in (signal.SIGHUP, signal.SIGTERM):  # what the warden ignores, commands must not inherit
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.umask(0o022)
        adopt_orphans()
        scores = Scores()
        give_up_capabilities(())
        kernel.no_new_privileges()
        version = settings["abi"]
        listener = _filters(version, settings["watch_forks"])
        ruleset.enforce([ruleset.Rule(path, rights) for path, rights in settings["rules"]], version)
        _end_with_warden(version)
        os.chdir(f"{root}/{private_tree.WORKDIR}" if os.path.isdir(f"{root}/{private_tree.WORKDIR}") else root)
        wire.send(parent, {"ready": True}, [listener])
        os.close(listener)
    except OSError as error:
        wire.send(parent, {"error": [error.errno, error.strerror or str(error)]})
        os._exit(1)
    parent.close()
    try:
        first = First(commands, settings, scores)
        if version >= ruleset.SIGNALS_SINCE:
            first.starter = Starter()
        first.serve()
    finally:
        os._exit(1)


def _filters(version: int, forks: bool) -> int:
    """Install the filters, the one that needs a supervisor last; returns its listener."""
    program = seccomp.program()
    if not program:
        raise OSError(38, "no system call filter is known for this architecture")
    kernel.seccomp(program)
    kernel.seccomp(filters.refusing(version))
    return listen(filters.notifying(version, forks))


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that the box can be counted and ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_warden(version: int) -> None:
    """Have the kernel tell this process when the warden has died before it could end the box."""
    number = signal.SIGKILL
    if version >= ruleset.SIGNALS_SINCE:
        number = signal.SIGUSR1
        signal.signal(number, _end_all)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _end_all(*_: object) -> NoReturn:
    """End all that this process may signal: behind these walls that is the box, and nothing else."""
    os.kill(-1, signal.SIGKILL)
    os._exit(1)


def give_up_capabilities(capabilities: tuple[int, ...]) -> None:
    """Keep these of the capabilities that this process has."""
    try:
        kernel.keep_capabilities(capabilities)
    except OSError:  # without the right to narrow what programs may gain; `no_new_privs` does that
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        ctypes.CDLL(None).capset(ctypes.byref(header), ctypes.byref(data))
