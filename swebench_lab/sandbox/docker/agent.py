"""The first process of a container: serves one client over its standard input and output, and ends when that goes.

It brings `init`, which knows how to run, mark, stop and end commands, together with a client that has no descriptors to
give: streams travel as frames, each bounded by the bytes its reader has room for, so that none can hold up another.
Standard library only. It runs in an interpreter of its own (`bundle`), so an image needs neither Python nor libc.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import termios
import threading
import time

if __name__ == "__main__":
    # The package by its folder alone: its own file would load the whole library.
    sys.modules["swebench_lab"] = type(sys)("swebench_lab")
    sys.modules["swebench_lab"].__path__ = [os.path.abspath(__file__).rsplit(os.sep, 3)[0]]

from swebench_lab.sandbox.docker import changes
from swebench_lab.sandbox.layers.tree import unlimited
from swebench_lab.sandbox.linux import kernel, seccomp, wire
from swebench_lab.sandbox.linux.oom import Scores
from swebench_lab.sandbox.zygote import init

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

HEADER = struct.Struct("!BII")
"""Kind of a frame, number of its request or stream, bytes that follow."""

MESSAGE, DATA, CREDIT = 0, 1, 2
"""A JSON object; bytes of a stream (none: its end); bytes that may be sent on top of earlier ones."""

WINDOW = 1 << 18
"""Bytes of a stream that may be under way from the beginning."""

_CHUNK = 1 << 16
_COUNTERS = (
    ("memory", "/sys/fs/cgroup/memory.events", b"oom_kill"),
    ("memory", "/sys/fs/cgroup/memory/memory.oom_control", b"oom_kill"),
    ("processes", "/sys/fs/cgroup/pids.events", b"max"),
    ("processes", "/sys/fs/cgroup/pids/pids.events", b"max"),
)


class _Out:
    """A stream towards the client: what a command writes, or the content of a file."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number, self.descriptor = number, descriptor
        self.credit = WINDOW
        self.unwanted = False


class _In:
    """A stream from the client: what a command reads."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number, self.descriptor = number, descriptor
        self.waiting = bytearray()
        self.ended = False


class Bridge(threading.Thread):
    """Turns frames into requests of `init`, and what comes back into frames.

    Args:
        source: Where frames come from; its end ends the box.
        sink: Where frames go to.
        control: The client's end of the channel to `init`.
    """

    def __init__(self, source: int, sink: int, control: socket.socket) -> None:
        super().__init__(name="bridge", daemon=True)
        self._source, self._sink, self._control = source, sink, control
        self._buffer = bytearray()
        self._outs: dict[int, _Out] = {}
        self._ins: dict[int, _In] = {}
        self._replies: dict[int, tuple[socket.socket, int, list[_Out]]] = {}
        self._limits: dict[int, str] = {}
        self._stashed: list[tuple[int, int, bytes]] = []

    # --- frames -------------------------------------------------------------------------------------------------------

    def frame(self, kind: int, number: int, data: bytes) -> None:
        """Send one frame; the client always reads, so this does not wait for long."""
        view = memoryview(HEADER.pack(kind, number, len(data)) + data)
        while view:
            view = view[os.write(self._sink, view) :]

    def tell(self, number: int, message: dict[str, Any]) -> None:
        """Send one message."""
        self.frame(MESSAGE, number, json.dumps(message).encode())

    def read_frame(self) -> tuple[int, int, bytes]:
        """Wait for the next frame."""
        while True:
            if len(self._buffer) >= HEADER.size:
                kind, number, size = HEADER.unpack_from(self._buffer)
                if len(self._buffer) >= HEADER.size + size:
                    data = bytes(self._buffer[HEADER.size : HEADER.size + size])
                    del self._buffer[: HEADER.size + size]
                    return kind, number, data
            self._fill()

    def _fill(self) -> None:
        data = os.read(self._source, _CHUNK)
        if not data:
            os._exit(0)  # the client is gone; the kernel ends every process of the pid namespace with its first
        self._buffer += data

    def _complete(self) -> bool:
        if len(self._buffer) < HEADER.size:
            return False
        size: int = HEADER.unpack_from(self._buffer)[2]
        return len(self._buffer) >= HEADER.size + size

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the client is gone; a fault of this program ends the box."""
        try:
            while True:
                self._turn()
        finally:
            os._exit(1)

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        outs = {out.descriptor: out for out in self._outs.values() if out.credit > 0 or out.unwanted}
        ins = {stream.descriptor: stream for stream in self._ins.values() if stream.waiting}
        for descriptor in (*outs, *self._replies):
            poll.register(descriptor, select.POLLIN)
        for descriptor in ins:
            poll.register(descriptor, select.POLLOUT)
        for descriptor, _ in poll.poll():
            if descriptor == self._source:
                self._hear()
            elif descriptor in self._replies:
                self._report(descriptor)
            elif descriptor in outs and outs[descriptor].number in self._outs:
                self._forward(outs[descriptor])
            elif descriptor in ins and ins[descriptor].number in self._ins:
                self._feed(ins[descriptor])

    def _hear(self) -> None:
        self._fill()
        while self._complete() or self._stashed:
            self._take(*(self._stashed.pop(0) if self._stashed else self.read_frame()))

    def _take(self, kind: int, number: int, data: bytes) -> None:
        if kind == MESSAGE:
            self._answer(number, json.loads(data))
        elif kind == CREDIT:
            if number in self._outs:
                self._outs[number].credit += int(data)
        elif number in self._ins:
            stream = self._ins[number]
            stream.waiting += data
            stream.ended = stream.ended or not data
            self._feed(stream)

    def _forward(self, out: _Out) -> None:
        """Send on what can be read from an output."""
        try:
            data = os.read(out.descriptor, _CHUNK if out.unwanted else min(_CHUNK, out.credit))
        except BlockingIOError:
            return
        if not out.unwanted:
            out.credit -= len(data)
            self.frame(DATA, out.number, data)
        if not data:
            self._drop(out)

    def _drop(self, out: _Out) -> None:
        if self._outs.pop(out.number, None):
            os.close(out.descriptor)

    def _feed(self, stream: _In) -> None:
        """Give a command what there is for it to read."""
        while stream.waiting:
            try:
                written = os.write(stream.descriptor, stream.waiting[:_CHUNK])
            except BlockingIOError:
                return
            except BrokenPipeError:
                written = len(stream.waiting)
            del stream.waiting[:written]
            self.frame(CREDIT, stream.number, b"%d" % written)
        if stream.ended:
            del self._ins[stream.number]
            os.close(stream.descriptor)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _answer(self, number: int, message: dict[str, Any]) -> None:
        try:
            handler = getattr(self, f"_op_{message['op']}", None)
            if handler is not None:
                handler(number, message)
            else:
                self._pass_on(number, message, [], [])
        except OSError as error:
            self.tell(number, {"error": [error.errno, error.strerror or str(error)]})

    def _pass_on(self, number: int, message: dict[str, Any], descriptors: list[int], outs: list[_Out]) -> None:
        """Have `init` do it."""
        ours, theirs = wire.pair()
        with theirs:
            wire.send(self._control, message, [theirs.fileno(), *descriptors])
        self._replies[ours.fileno()] = ours, number, outs

    def _report(self, descriptor: int) -> None:
        """Tell what `init` replied; of a command that ended, after all that it wrote."""
        reply, number, outs = self._replies[descriptor]
        message, _ = wire.receive(reply)
        if message is not None and "limit" in message:
            self._limits[number] = message["limit"]
            return
        del self._replies[descriptor]
        reply.close()
        for out in outs:
            self._rest(out)
        limit = self._limits.pop(number, "")
        self.tell(number, {**(message or {"error": [errno.EPIPE, "the first process let go of it"]}), "limit": limit})

    def _rest(self, out: _Out) -> None:
        """Send what is in a pipe right now, at most one pipe full."""
        if out.number not in self._outs or out.unwanted:
            return
        room = fcntl.fcntl(out.descriptor, fcntl.F_GETPIPE_SZ)
        out.credit += room
        while room > 0 and out.number in self._outs and _readable(out.descriptor):
            before = out.credit
            self._forward(out)
            room -= before - out.credit

    def _op_run(self, number: int, message: dict[str, Any]) -> None:
        """Start a command whose descriptors are streams: `ins` and `outs`, each (number in the command, stream)."""
        given: dict[int, int] = {}
        outs: dict[int, _Out] = {}
        theirs: list[int] = []
        for place, stream in message.pop("ins"):
            given[place], ours = os.pipe2(os.O_CLOEXEC)
            theirs.append(given[place])
            os.set_blocking(ours, False)
            self._ins[stream] = _In(stream, ours)
        for place, stream in message.pop("outs"):
            if stream not in outs:
                ours, end = os.pipe2(os.O_CLOEXEC)
                theirs.append(end)
                os.set_blocking(ours, False)
                outs[stream] = self._outs[stream] = _Out(stream, ours)
                outs[stream].theirs = end  # type: ignore[attr-defined]
            given[place] = outs[stream].theirs  # type: ignore[attr-defined]
        try:
            self._pass_on(
                number, {**message, "id": number, "numbers": list(given)}, list(given.values()), list(outs.values())
            )
        finally:
            wire.close_all(theirs)

    def _op_drain(self, number: int, message: dict[str, Any]) -> None:
        """Read and forget some outputs from now on."""
        for stream in message["streams"]:
            if stream in self._outs:
                self._outs[stream].unwanted = True

    def _op_read(self, number: int, message: dict[str, Any]) -> None:
        """Send the content of a regular file as a stream."""
        descriptor = os.open(message["path"], os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file")
        self.tell(number, {"size": os.fstat(descriptor).st_size})
        self._outs[message["stream"]] = _Out(message["stream"], descriptor)

    def _op_write(self, number: int, message: dict[str, Any]) -> None:
        """Make a regular file of a stream."""
        path, flags = (
            message["path"],
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK,
        )
        content = self.stream(message["stream"])
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "it is no regular file")
                if message["mode"] is not None:
                    os.fchmod(descriptor, message["mode"])
                for data in content:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
            finally:
                os.close(descriptor)
        finally:
            for _ in content:
                pass  # to its end, whatever came of it
        self.tell(number, {"written": path})

    def stream(self, number: int) -> Iterator[bytes]:
        """The parts of a stream that is read to its end before anything else is done."""
        while True:
            kind, which, data = self.read_frame()
            if (kind, which) != (DATA, number):
                self._stashed.append((kind, which, data))
            elif not data:
                return
            else:
                yield data

    def _op_list(self, number: int, message: dict[str, Any]) -> None:
        """Tell the names in a directory."""
        with os.scandir(message["path"]) as entries:
            names = sorted(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in entries)
        self.tell(number, {"names": names})

    def _op_state(self, number: int, message: dict[str, Any]) -> None:
        """Tell how often bounds were hit, and the room on the disk."""
        hits = {}
        for name, path, key in _COUNTERS:
            try:
                with open(path, "rb") as file:
                    hits[name] = next((int(line.split()[1]) for line in file if line.startswith(key + b" ")), 0)
            except OSError:
                continue
        self.tell(number, {"hits": hits})

    def _op_seen(self, number: int, message: dict[str, Any]) -> None:
        """Remember how paths are now, so that `capture` tells what changes from now on."""
        self.tell(number, {"seen": changes.seen(json.loads(b"".join(self.stream(message["stream"]))))})

    def _op_capture(self, number: int, message: dict[str, Any]) -> None:
        """Send what changed as one packed layer."""
        wanted = json.loads(b"".join(self.stream(message["stream"])))
        now = changes.capture(wanted["changes"], wanted["before"], _Sending(self, message["layer"]))
        self.frame(DATA, message["layer"], b"")
        self.tell(number, {"seen": now})

    def _op_apply(self, number: int, message: dict[str, Any]) -> None:
        """Lay a packed layer over the files as they are."""
        parts = _Parts(self.stream(message["stream"]))
        try:
            count = changes.apply(parts)
        finally:
            parts.finish()
        self.tell(number, {"applied": count})


class _Sending:
    """A file that is written as a stream of frames."""

    def __init__(self, bridge: Bridge, number: int) -> None:
        self._bridge, self._number = bridge, number

    def write(self, data: bytes) -> int:
        """Send data, in parts."""
        for start in range(0, len(data), 1 << 20):
            if part := bytes(data[start : start + (1 << 20)]):
                self._bridge.frame(DATA, self._number, part)
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""


class _Parts:
    """A stream as a file to read from."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = b""

    def read(self, size: int) -> bytes:
        """Up to so many bytes; fewer at the end only."""
        while len(self._left) < size:
            part = next(self._parts, b"")
            if not part:
                break
            self._left += part
        data, self._left = self._left[:size], self._left[size:]
        return data

    def finish(self) -> None:
        """Read the rest and forget it."""
        for _ in self._parts:
            pass


def _readable(descriptor: int) -> bool:
    """Whether a pipe holds something, or nobody can write to it any more."""
    room = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, room)
    if room[0]:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & (select.POLLIN | select.POLLHUP) for _, event in poll.poll(0))


def main() -> NoReturn:
    """Run as a script, as the first process of a container."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # any other is ignored for a first process without a handler
    source, sink = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in (0, 1))
    ours, theirs = wire.pair()
    bridge = Bridge(source, sink, ours)
    _, number, data = bridge.read_frame()
    settings = json.loads(data)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    os.umask(0o022)
    unlimited()
    sys.setrecursionlimit(10_000)  # a thread's stack is smaller than a process's
    kernel.no_new_privileges()
    kernel.hide_from_ptrace()
    if call_filter := seccomp.program():
        kernel.seccomp(call_filter)
    kernel.set_title("lab-init")
    threading.stack_size(64 << 20)
    bridge.tell(number, {"ready": True, "boot": time.clock_gettime(time.CLOCK_BOOTTIME)})
    bridge.start()
    # What is in a container may write to its /proc, and so lower a score again; few programs do.
    table = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    init.main(theirs, settings, Scores(table))


if __name__ == "__main__":
    main()
