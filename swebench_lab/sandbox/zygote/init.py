"""The first process of a box: runs commands, opens files, ends processes, and ends the box when its client goes.

It is single-threaded and has no more rights than the commands it starts, so opening what an agent planted gives nothing
that the agent's own commands could not open.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
import sys
import time

from swebench_lab._unix import fcntl, resource
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.linux.oom import Scores
from swebench_lab.sandbox.linux.processes import STILL, STOP_SECONDS, USUAL, Newcomers, Process, end, send, table
from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

# Every command is marked, with all it starts, by a bound that is inherited across fork, exec and setsid, that nothing
# else uses (it binds real-time scheduling, which a box cannot have), and that a process can only lower. So marks count
# down, by steps that cannot be guessed: what carries a mark that was never given has tampered with it, and ends with
# the next timeout.
_MARKED_LIMIT = 15  # RLIMIT_RTTIME, asm-generic/resource.h
_FIRST_MARK = 1 << 60
_STEP = 1 << 24

_FIRST_SPARE = 200  # descriptors are moved above this before they take their final numbers


@record
class _Command:
    """A command whose first process lives."""

    number: int
    mark: int
    reply: socket.socket


class Init:
    """The event loop of a box.

    Args:
        control: Where requests come from; its end of file ends the box.
        settings: `env`, `cwd` and `rlimits` of every command.
        scores: Who ends first when memory is short.
    """

    def __init__(self, control: socket.socket, settings: Mapping[str, Any], scores: Scores) -> None:
        self._control = control
        self._scores = scores
        self._env: dict[str, str] = settings["env"]
        self._cwd: str = settings["cwd"]
        self._running: dict[int, _Command] = {}
        hard = resource.getrlimit(_MARKED_LIMIT)[1]
        self._mark = _FIRST_MARK if hard == resource.RLIM_INFINITY else hard
        self._marks: set[int] = set()
        for kind, soft, hard in settings["rlimits"]:
            resource.setrlimit(kind, (soft, hard))
        self._paused = False
        self._backlog: list[tuple[dict[str, Any], list[int]]] = []
        self._prior_stops: set[int] = set()

    def serve(self) -> NoReturn:
        """Answer requests until the client is gone."""
        wake, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == wake:
                    os.read(wake, 512)
                    self._reap()
                elif descriptor == self._control.fileno():
                    self._request()
                else:
                    self._drain(descriptor)

    def _request(self) -> None:
        message, descriptors = wire.receive(self._control)
        if message is None:
            os._exit(0)  # the kernel ends every process of the pid namespace with its first
        if self._paused and message["op"] != "resume":
            self._backlog.append((message, descriptors))
            return
        self._answer(message, descriptors)

    def _answer(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Carry out one request; the first descriptor is where its reply goes."""
        reply = socket.socket(fileno=descriptors.pop(0))
        try:
            handler = getattr(self, f"_op_{message['op']}")
            handler(message, descriptors, reply)
        except OSError as error:
            _tell(reply, {"error": [error.errno, error.strerror or str(error)]})
        finally:
            wire.close_all(descriptors)

    # --- commands ----------------------------------------------------------------------------------------------------

    def _op_run(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Start a command; its reply, sent when its first process exits, is `{"exit": status, ...}`."""
        env = {name: value for name, value in {**self._env, **message["env"]}.items() if value is not None}
        numbers: list[int] = message["numbers"]
        sources = [
            fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_SPARE) if descriptor in numbers else descriptor
            for descriptor in descriptors
        ]
        actions = [
            (os.POSIX_SPAWN_DUP2, descriptor, number) for descriptor, number in zip(sources, numbers, strict=True)
        ]
        self._mark -= 1 + int.from_bytes(os.urandom(8), "little") % _STEP
        self._marks.add(self._mark)
        resource.setrlimit(_MARKED_LIMIT, (self._mark, self._mark))
        try:
            os.chdir(message["cwd"])
            program = _find(message["argv"][0], env.get("PATH", os.defpath))
            try:
                pid = self._spawn(program, message["argv"], env, actions)
            except BlockingIOError:
                # The box is full of processes. Those that commands left behind when they ended have to go.
                _tell(reply, {"limit": "processes"})
                pid = self._spawn_instead_of_leftovers(program, message["argv"], env, actions)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: {error.filename or message['argv'][0]}") from None
        finally:
            os.chdir("/")
            wire.close_all([descriptor for descriptor in sources if descriptor not in descriptors])
        self._running[pid] = _Command(message["id"], self._mark, reply)

    def _spawn(
        self, program: str, argv: list[str], env: Mapping[str, str], actions: Sequence[tuple[int, int, int]]
    ) -> int:
        """Start a program in a session of its own, with the signals a fresh program expects."""
        self._scores.begin()
        try:
            pid = os.posix_spawn(
                program,
                argv,
                env,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=USUAL,
            )
        finally:
            self._scores.end()
        self._scores.give(pid)
        return pid

    def _reap(self) -> None:
        """Collect every dead child, and report those that were commands."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._running:
                reply = self._running.pop(pid).reply
                _tell(
                    reply,
                    {
                        "exit": os.waitstatus_to_exitcode(status),
                        "cpu": usage.ru_utime + usage.ru_stime,
                        "memory": usage.ru_maxrss * 1024,
                    },
                )
                reply.close()

    def _op_kill(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """End a running command with every process it started, daemons included.

        With `since` (seconds since boot) its first process lives on, and only what it started from then on ends.
        """
        since = message.get("since")
        for leader, command in list(self._running.items()):
            if command.number == message["id"]:
                if since is None:
                    send(-leader, signal.SIGKILL)  # all that stayed in its group, at one instant
                newcomers = None if since is None else Newcomers(leader, since, message.get("spared", ()))
                self._end_by_mark(command.mark, newcomers)
        self._reap()  # or a daemon that was ended would still be there to be asked after
        _tell(reply, {"ended": message["id"]})
        reply.close()

    def _spawn_instead_of_leftovers(
        self, program: str, argv: list[str], env: Mapping[str, str], actions: Sequence[tuple[int, int, int]]
    ) -> int:
        """End every process whose command has ended, and start a command in the room they leave."""
        living = {command.mark for command in self._running.values()}
        end(lambda process: process.pid not in self._running and _mark_of(process.pid) not in living, whole_groups=True)
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            self._reap()
            try:
                return self._spawn(program, argv, env, actions)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def _op_living(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Tell the processes that a running command has now."""
        marks = {command.mark for command in self._running.values() if command.number == message["id"]}
        living = [process.pid for process in table() if process.pid != 1 and _mark_of(process.pid) in marks]
        _tell(reply, {"living": living})
        reply.close()

    def _end_by_mark(self, mark: int, newcomers: Newcomers | None) -> None:
        """End what carries a mark, or of that the newcomers only; and what carries one that was never given."""

        def chosen(process: Process) -> bool:
            own_mark = _mark_of(process.pid)
            if own_mark != mark:
                return own_mark is not None and own_mark not in self._marks
            return newcomers is None or newcomers.include(process)

        end(chosen, whole_groups=newcomers is None)

    def _end_leftovers(self) -> None:
        living = {command.mark for command in self._running.values()}
        end(lambda process: process.pid not in self._running and _mark_of(process.pid) not in living, whole_groups=True)

    def _op_sweep(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """End every process whose command has ended."""
        self._end_leftovers()
        _tell(reply, {"swept": True})
        reply.close()

    def _op_drain(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Read and forget what background processes still write, so that they neither block nor die of it."""
        while descriptors:
            descriptor = descriptors.pop()
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)
        reply.close()

    def _drain(self, descriptor: int) -> None:
        try:
            if os.read(descriptor, 1 << 16):
                return
        except BlockingIOError:
            return
        self._poll.unregister(descriptor)
        os.close(descriptor)

    # --- files -------------------------------------------------------------------------------------------------------

    def _op_open(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Open a path as a command of the box would; the reply carries the descriptor."""
        path = os.path.join(self._cwd, message["path"])
        if message.get("parents"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = message["flags"] | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o666)
        try:
            mode = message.get("mode")
            if mode is not None and stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.fchmod(descriptor, mode)
            wire.send(reply, {"opened": path}, [descriptor])
        finally:
            os.close(descriptor)
        reply.close()

    def _op_connect(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Connect to a port of the box's own loopback; the reply carries the connection, which may still be under way."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.setblocking(False)
            status = connection.connect_ex(("127.0.0.1", message["port"]))
            if status not in (0, errno.EINPROGRESS):
                raise OSError(status, os.strerror(status))
            connection.setblocking(True)
            wire.send(reply, {"connected": message["port"]}, [connection.fileno()])
        reply.close()

    def _op_listen(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Listen on a port of the box's own loopback; the reply carries the socket, and the box keeps no copy of it."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", message["port"]))
            listener.listen(128)
            wire.send(reply, {"port": listener.getsockname()[1]}, [listener.fileno()])
        reply.close()

    # --- holding still -----------------------------------------------------------------------------------------------

    def _op_pause(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Stop every process of the box; requests wait until `resume`."""
        self._prior_stops = {process.pid for process in table() if process.state in "Tt"}
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            send(-1, signal.SIGSTOP)
            moving = [p for p in table() if p.pid != 1 and p.state not in STILL]
            if not moving or time.monotonic() > deadline:
                break
            time.sleep(0.0005)
        self._paused = True
        _tell(reply, {"moving": len(moving), "live": sum(p.pid != 1 and p.state not in "ZX" for p in table())})
        reply.close()

    def _op_resume(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Let go what `pause` stopped (not what had been stopped before), then do what was asked meanwhile."""
        self._paused = False
        for process in table():
            if process.pid != 1 and process.pid not in self._prior_stops:
                send(process.pid, signal.SIGCONT)
        _tell(reply, {"resumed": True})
        reply.close()
        requests, self._backlog = self._backlog, []
        for request in requests:
            self._answer(*request)


def _tell(reply: socket.socket, message: Mapping[str, Any]) -> None:
    """Send a reply; a client that no longer wants it is no error."""
    try:
        wire.send(reply, message)
    except (BrokenPipeError, ConnectionResetError):
        pass


def _mark_of(pid: int) -> int | None:
    """The mark of the command that a process came from."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            line = next(line for line in file if line.startswith(b"Max realtime timeout"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    value = line.split()[4]
    return int(value) if value.isdigit() else None


def _find(program: str, path: str) -> str:
    """The file that a command's first word names."""
    if "/" in program:
        return program
    for folder in path.split(":"):
        candidate = os.path.join(folder, program)
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "no such program in the box's PATH", program)


def main(control: socket.socket, settings: Mapping[str, Any], scores: Scores) -> NoReturn:
    """Serve a box as its first process; never returns."""
    try:
        Init(control, settings, scores).serve()
    finally:
        sys.stderr.flush()
        os._exit(1)
