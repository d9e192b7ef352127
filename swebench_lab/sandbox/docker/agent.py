"""The first process of a container: serves one client over its standard input and output, and ends when that goes.

It brings `init`, which knows how to run, mark, stop and end commands, together with a client of it: the same
`DescriptorBox` that other kinds of sandboxes are on the outside. Whatever the client of the container asks is one call
to that. Standard library only. It runs in an interpreter of its own (`bundle`), so an image needs neither Python nor libc.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
from contextlib import suppress

if __name__ == "__main__":
    # The package by its folder alone: its own file would load the whole library.
    sys.modules["swebench_lab"] = type(sys)("swebench_lab")
    sys.modules["swebench_lab"].__path__ = [os.path.abspath(__file__).rsplit(os.sep, 3)[0]]

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.sandbox.descriptors import DescriptorBox
from swebench_lab.sandbox.docker import changes, work_tree
from swebench_lab.sandbox.docker.mux import Call, Gone, Mux
from swebench_lab.sandbox.first_process import FirstProcess, InitCommand
from swebench_lab.sandbox.layers.tree import unlimited
from swebench_lab.sandbox.linux import kernel, seccomp, wire
from swebench_lab.sandbox.linux.oom import Scores
from swebench_lab.sandbox.shell.commands import read_rest
from swebench_lab.sandbox.zygote import init

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    from swebench_lab.sandbox.shell.bash_session import BashSession
    from swebench_lab.sandbox.shell.commands import Exit, Result, Running

_COUNTERS = (
    ("memory", "/sys/fs/cgroup/memory.events", b"oom_kill"),
    ("memory", "/sys/fs/cgroup/memory/memory.oom_control", b"oom_kill"),
    ("processes", "/sys/fs/cgroup/pids.events", b"max"),
    ("processes", "/sys/fs/cgroup/pids/pids.events", b"max"),
)
WORKERS = 4
"""Threads that are there before the box can take all the room for processes; more are started where there is room."""


class Inside(DescriptorBox):
    """The box as its own first process sees it."""

    def __init__(self, control: socket.socket, workdir: str) -> None:
        self.workdir = workdir
        self.first = FirstProcess(control, lambda doing: SandboxClosed(f"the first process is gone during {doing!r}"))
        self.sessions: dict[int, BashSession] = {}
        self._hits: dict[str, int] = {}

    def _launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> InitCommand:
        return self.first.launch(argv, cwd, env, descriptors)

    def _open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        return self.first.open(path, flags, mode, parents)

    def _connect(self, port: int) -> socket.socket:
        return socket.socket(fileno=self.first.ask({"op": "connect", "port": port})[1][0])

    def listen(self, port: int) -> socket.socket:
        """Listen on a port of the box's own loopback."""
        return socket.socket(fileno=self.first.ask({"op": "listen", "port": port})[1][0])

    def sweep(self) -> None:
        """End every process whose command has ended."""
        self.first.ask({"op": "sweep"})

    def _limit_hit(self, killed: bool) -> str:
        before, self._hits = self._hits, _hits()
        rose = [name for name, count in self._hits.items() if count > before.get(name, 0)]
        if "processes" in rose:
            self.sweep()
        return next((name for name in ("memory", "processes") if name in rose and (killed or name == "processes")), "")


def _hits() -> dict[str, int]:
    """How often bounds were hit."""
    hits = {}
    for name, path, key in _COUNTERS:
        try:
            with open(path, "rb") as file:
                hits[name] = next((int(line.split()[1]) for line in file if line.startswith(key + b" ")), 0)
        except OSError:
            continue
    return hits


class Service:
    """Answers calls, each on a thread.

    Args:
        box: What it serves.
    """

    def __init__(self, box: Inside) -> None:
        self._box = box
        self._clock = work_tree.Clock()
        self._callers: dict[int, socket.socket] = {}
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the first threads."""
        for _ in range(WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def take(self, call: Call) -> None:
        """Have a call answered by the next thread that is free, or by a new one."""
        with self._lock:
            self._idle -= 1
            crowded = self._idle < 0
        self._calls.put(call)
        if crowded:
            try:
                threading.Thread(target=self._work, args=(False,), daemon=True).start()
            except RuntimeError:
                pass  # the box has no room for a thread; one of those there will come to it

    def _work(self, idle: bool = True) -> None:
        if idle:
            self._free()
        while True:
            call = self._calls.get()
            try:
                call.end(self._answer(call))
            except Gone:
                os._exit(0)
            call.forget()
            self._free()

    def _free(self) -> None:
        with self._lock:
            self._idle += 1

    def _answer(self, call: Call) -> Mapping[str, Any]:
        try:
            result: Mapping[str, Any] = getattr(self, f"_op_{call.request['op']}")(call, **call.request["with"])
            return result
        except SandboxPathError as error:
            return {"no_path": str(error)}
        except OSError as error:
            return {"error": [error.errno or errno.EIO, error.strerror or str(error)]}
        except Exception as error:  # a boundary: whoever asked would wait for ever, and cannot see what is written here
            return {"failed": f"{call.request['op']} in the box: {type(error).__name__}: {error}"}

    # --- commands -----------------------------------------------------------------------------------------------------

    def _op_exec(self, call: Call, **options: Any) -> Mapping[str, Any]:
        """Run a command; the body is what it reads."""

        def on_start(running: Running) -> None:
            call.on_cancel = running.kill

        options["stdin"] = _pipe_of(call) if options["stdin"] else None
        run = self._box.exec if "argv" in options else self._box._exec_script
        return _send_result(call, run(**options, on_start=on_start))

    def _op_pack(self, call: Call, path: str) -> Mapping[str, Any]:
        """Send a directory, packed by tar."""
        keep = _Sending(call)
        result = self._box._pack(path, keep)
        return {"ok": result.ok, "stderr": result.stderr.decode(errors="replace")}

    def _op_sweep(self, call: Call) -> Mapping[str, Any]:
        self._box.sweep()
        return {"swept": True}

    def _op_session(self, call: Call, cwd: str, env: Mapping[str, str], or_above: bool) -> Mapping[str, Any]:
        self._box.sessions[call.number] = session = self._box._session(cwd, env, or_above)
        return {"session": call.number, "cwd": session.cwd}

    def _op_session_run(self, call: Call, session: int, **options: Any) -> Mapping[str, Any]:
        shell = self._box.sessions[session]
        return {**_send_result(call, shell.run(**options)), "cwd": shell.cwd, "alive": shell.alive}

    def _op_session_env(self, call: Call, session: int) -> Mapping[str, Any]:
        return {"env": self._box.sessions[session].env()}

    def _op_session_state(self, call: Call, session: int) -> Mapping[str, Any]:
        return {"state": self._box.sessions[session].state()}

    def _op_session_close(self, call: Call, session: int) -> Mapping[str, Any]:
        self._box.sessions.pop(session).close()
        return {"closed": session}

    def _op_stream(self, call: Call, argv: Sequence[str], cwd: str, env: Mapping[str, str | None]) -> Mapping[str, Any]:
        call.pump(self._box._stream(argv, cwd, env))
        return {"ended": True}

    def _op_connect(self, call: Call, port: int) -> Mapping[str, Any]:
        call.pump(self._box._connect(port))
        return {"ended": True}

    def _op_listen(self, call: Call, port: int) -> Mapping[str, Any]:
        """Listen on a port; sends the port, then the number of each caller, which `_op_accepted` takes on."""
        with self._box.listen(port) as listener:
            call.on_cancel = lambda: listener.shutdown(socket.SHUT_RDWR)
            call.write(b"%d\n" % listener.getsockname()[1])
            with suppress(OSError):  # it was cancelled
                while not call.unwanted:
                    caller = listener.accept()[0]
                    self._callers[caller.fileno()] = caller
                    call.write(b"%d\n" % caller.fileno())
        return {"ended": True}

    def _op_accepted(self, call: Call, number: int) -> Mapping[str, Any]:
        """Carry the bytes of one caller."""
        call.pump(self._callers.pop(number))
        return {"ended": True}

    def _op_start(self, call: Call, argv: Sequence[str], cwd: str, env: Mapping[str, str | None]) -> Mapping[str, Any]:
        """Start a program and send what it writes until it has ended; whoever gives up ends it."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                running = self._box._launch(argv, cwd, env, {1: writer, 2: writer})
            finally:
                os.close(writer)
            call.on_cancel = running.kill
            if call.unwanted:
                running.kill()
            outcome = _follow(call, running, reader)
            running.close()
        finally:
            os.close(reader)
        limit = outcome.limit or (self._box._limit_hit(outcome.status == -signal.SIGKILL) if outcome.status else "")
        return {"exit": [outcome.status, outcome.cpu, limit]}

    # --- files --------------------------------------------------------------------------------------------------------

    def _op_get(self, call: Call, path: str, most: int) -> Mapping[str, Any]:
        """Send the content of a regular file."""
        for data in self._box._get(path, most):
            call.write(data)
        return {"read": path}

    def _op_put(self, call: Call, path: str, mode: int | None) -> Mapping[str, Any]:
        """Make a regular file of the body."""
        self._box._put(path, call.pieces(), mode)
        return {"written": path}

    def _op_names(self, call: Call, path: str) -> Mapping[str, Any]:
        return {"names": self._box._names(path)}

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _op_pause(self, call: Call) -> Mapping[str, Any]:
        self._box.first.ask({"op": "pause"})
        return {"paused": True}

    def _op_resume(self, call: Call) -> Mapping[str, Any]:
        self._box.first.ask({"op": "resume"})
        return {"resumed": True}

    def _op_look(self, call: Call) -> Mapping[str, Any]:
        """Send what was written in the work tree."""
        _send_json(call, work_tree.look(self._box.workdir, self._clock))
        return {"looked": True}

    def _op_seen(self, call: Call) -> Mapping[str, Any]:
        """Send how the paths of the body are now, so that `capture` tells what changes from now on."""
        _send_json(call, changes.states(_json_of(call)))
        return {"seen": True}

    def _op_capture(self, call: Call) -> Mapping[str, Any]:
        """Send what changed as one packed layer."""
        request = _json_of(call)
        now = changes.capture(request["changes"], request["before"], _Sending(call))
        return {"seen": now}

    def _op_apply(self, call: Call) -> Mapping[str, Any]:
        """Lay the packed layer that the body is over the files as they are."""
        return {"applied": changes.apply(_Body(call.pieces()))}


def _follow(call: Call, running: Running, reader: int) -> Exit:
    """Send what a program writes until it has ended."""
    output, poll = _Sending(call), select.poll()
    for descriptor in (running.fileno(), reader):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if reader in ready:
            data = os.read(reader, 1 << 16)
            output.add(data)
            if not data:
                poll.unregister(reader)
        if running.fileno() in ready:
            outcome = running.finish()
            if not read_rest(reader, output):
                running.drain([reader])
            return outcome


def _send_result(call: Call, result: Result) -> Mapping[str, Any]:
    """Send the outputs of a result; returns the rest of it."""
    call.write(result.stdout)
    call.write(result.stderr)
    return {"result": {**vars(result), "stdout": len(result.stdout), "stderr": len(result.stderr)}}


def _json_of(call: Call) -> Any:
    return json.loads(b"".join(call.pieces()))


def _send_json(call: Call, value: object) -> None:
    call.write(json.dumps(value).encode())


def _pipe_of(call: Call) -> int:
    """A descriptor to read the body of a call from."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        threading.Thread(target=_feed, args=(call, writer), daemon=True).start()
    except RuntimeError:
        wire.close_all([reader, writer])
        raise OSError(errno.EAGAIN, "the box has no room for a process") from None
    return reader


def _feed(call: Call, writer: int) -> None:
    try:
        for data in call.pieces():
            view = memoryview(data)
            while view:
                view = view[os.write(writer, view) :]
    except (BrokenPipeError, Gone):
        for _ in call.pieces():
            pass  # the command reads no more
    finally:
        os.close(writer)


class _Sending:
    """A file that is written as the answer of a call, and what takes the output of a command."""

    dropped = 0

    def __init__(self, call: Call) -> None:
        self._call = call

    def write(self, data: bytes) -> int:
        """Send data."""
        self._call.write(data)
        return len(data)

    def add(self, data: bytes) -> None:
        """Send data."""
        self._call.write(data)

    def value(self) -> bytes:
        """Nothing: all was sent."""
        return b""

    def flush(self) -> None:
        """Nothing is kept back."""


class _Body:
    """The body of a call as a file to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        """Up to so many bytes; fewer at the end only."""
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        data, self._left = self._left[:size], self._left[size:]
        return data


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _serve(source: int, sink: int, control: socket.socket) -> Mapping[str, Any]:
    """Start to answer calls once the first one has said what this box is; returns what it said."""
    settings: queue.SimpleQueue[Call] = queue.SimpleQueue()
    take: list[Callable[[Call], None]] = [lambda call: settings.put(call)]
    mux = Mux(lambda: os.read(source, 1 << 16), lambda data: _write_all(sink, data), lambda call: take[0](call))

    def run() -> None:
        try:
            mux.run()
        finally:
            os._exit(0)  # the client is gone; the kernel ends every process of the pid namespace with its first

    threading.Thread(target=run, name="mux", daemon=True).start()
    first = settings.get()
    service = Service(Inside(control, first.request["cwd"]))
    service.begin()
    take[0] = service.take
    first.end({"ready": True})
    return first.request


def main() -> NoReturn:
    """Run as a script, as the first process of a container."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # any other is ignored for a first process without a handler
    source, sink = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in (0, 1))
    ours, theirs = wire.pair()
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    os.umask(0o022)
    unlimited()
    sys.setrecursionlimit(10_000)  # a thread's stack is smaller than a process's
    kernel.no_new_privileges()
    kernel.hide_from_ptrace()
    if call_filter := seccomp.program():
        kernel.seccomp(call_filter)
    kernel.set_title("lab-init")
    threading.stack_size(64 << 20)
    settings = _serve(source, sink, ours)
    os.dup2(null, 2)  # what is wrong until here is said
    os.close(null)
    # What is in a container may write to its /proc, and so lower a score again; few programs do.
    table = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    init.main(theirs, settings, Scores(table))


if __name__ == "__main__":
    main()
