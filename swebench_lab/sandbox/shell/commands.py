"""One command from start to end: its pipes, its deadline, and what is kept of its output."""

import os
import select
import signal
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from swebench_lab._unix import fcntl
from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.linux import wire

_CHUNK = 1 << 18
_PART = 1 << 16  # bytes; small pieces of output are kept in parts of this size
_GRACE = 10.0  # seconds from the end of a tree to the report of it
PIPE_SIZE = 1 << 16
"""Bytes that a pipe holds until it is widened."""

_WIDE = 1 << 20


@dataclass(frozen=True)
class Result:
    """What came of a command.

    Attributes:
        exit_code: As a shell reports it (128 + signal for a death by signal); None when a timeout or limit ended it.
        signal: The signal that ended its first process, or None.
        stdout: What it wrote (errors included when merged), capped in the middle.
        stderr: Its errors when not merged.
        seconds: Wall time.
        timed_out: Whether the timeout ended it.
        limit: "" or the bound it ran into: "memory", "processes", "disk", "file size", "output"; or "host memory", when the
            kernel ended it for want of memory although its own bound was not reached.
        truncated_bytes: How many bytes of output were left out of the middle.
        cpu: Processor seconds of its first process and the children that process waited for.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool = False
    limit: str = ""
    truncated_bytes: int = 0
    cpu: float = 0.0

    @property
    def output(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", errors="replace")

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.exit_code == 0

    def __repr__(self) -> str:
        outcome = "timed out" if self.timed_out else f"exit {self.exit_code}"
        limit = f", limit: {self.limit}" if self.limit else ""
        return f"<Result {outcome}{limit}, {len(self.stdout) + len(self.stderr)} bytes, {self.seconds:.3f} s>"


@dataclass(frozen=True)
class Exit:
    """How the first process of a command ended."""

    status: int  # as os.waitstatus_to_exitcode: negative for a signal
    cpu: float = 0.0
    limit: str = ""  # a bound that the backend itself ran into


class Running(Protocol):
    """A command that a backend has started."""

    def fileno(self) -> int:
        """A descriptor that is readable once the first process has ended."""

    def finish(self) -> Exit:
        """How it ended; only called when `fileno()` is readable."""

    def kill(self, since: float | None = None, spared: Sequence[int] = ()) -> None:
        """End it with everything it started.

        Args:
            since: Seconds since boot; its first process lives on, with what began earlier and what that started.
            spared: Processes that count as having begun earlier.
        """

    def living(self) -> Sequence[int]:
        """The processes that it has now, as `kill` wants them spared."""

    def drain(self, descriptors: Sequence[int]) -> None:
        """Keep reading what background processes still write into these pipes; takes copies of them."""

    def close(self) -> None:
        """Let go of it."""


class Capped:
    """The head and the tail of a stream, in bounded memory."""

    def __init__(self, most: int) -> None:
        self._head_room = most - most // 2
        self._tail_room = most // 2
        self._head = bytearray()
        self._tail: deque[bytearray] = deque()
        self._tail_size = 0
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Append to the stream."""
        room = self._head_room - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        if self._tail and len(self._tail[-1]) + len(data) <= _PART:
            self._tail[-1] += data
        else:
            self._tail.append(bytearray(data))
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= self._tail_room:
            part = self._tail.popleft()
            self._tail_size -= len(part)
            self.dropped += len(part)
            if not self._tail:
                break

    def value(self) -> bytes:
        """What was kept, with a line in the middle that says how much was not; ends the stream."""
        surplus = max(0, self._tail_size - self._tail_room)
        if surplus:
            self.dropped += surplus
            self._tail[0] = self._tail[0][surplus:]
        gap = _gap(self.dropped)
        whole = b"".join((self._head, gap, *self._tail))
        self._head = bytearray()
        self._tail.clear()
        return whole


def _gap(dropped: int) -> bytes:
    return b"\n[... %d bytes left out ...]\n" % dropped if dropped else b""


def shortened(content: bytes, dropped: int, most: int, to: int) -> tuple[bytes, int]:
    """Cap an output further that was capped already.

    Args:
        content: What was kept.
        dropped: How many bytes of it were not.
        most: What it was capped to.
        to: What it is to be capped to.

    Returns:
        What is kept of it, and how many bytes are not.
    """
    output, head = Capped(to), most - most // 2
    output.add(content[:head])
    output.dropped = dropped
    output.add(content[head + len(_gap(dropped)) :])
    return output.value(), output.dropped


class Kept(Protocol):
    """What takes a stream.

    Attributes:
        dropped: Bytes of it that were not kept.
    """

    dropped: int

    def add(self, data: bytes) -> None:
        """Append to the stream."""

    def value(self) -> bytes:
        """What of it belongs into a result."""


class Spool:
    """A stream kept in a file of this side, up to a bound."""

    def __init__(self, most: int) -> None:
        self.file = tempfile.TemporaryFile()
        self._room = most
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Append to the stream."""
        self.file.write(data[: self._room])
        self.dropped += max(0, len(data) - self._room)
        self._room = max(0, self._room - len(data))

    def value(self) -> bytes:
        """Nothing: what was kept is in the file."""
        return b""


class Pipes:
    """The descriptors of one command: this side keeps the read ends, the other side is given the rest."""

    def __init__(self, merge: bool) -> None:
        self.read_ends: list[int] = []
        self._child_fds: list[int] = []
        self._write_ends: dict[int, int] = {}
        for number in (1,) if merge else (1, 2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self.read_ends.append(reader)
            self._child_fds.append(writer)
            self._write_ends[number] = writer
        self._write_ends.setdefault(2, self._write_ends[1])

    def write_end(self, number: int) -> int:
        """What the command writes output 1 or 2 to."""
        return self._write_ends[number]

    def reader_of(self, content: bytes | str) -> int:
        """A descriptor to read this content from."""
        data = content.encode("utf-8", errors="surrogateescape") if isinstance(content, str) else content
        descriptor = wire.memory_file(data)
        self._child_fds.append(descriptor)
        return descriptor

    def take(self, descriptor: int) -> int:
        """A descriptor that is the other side's from now on."""
        self._child_fds.append(descriptor)
        return descriptor

    def give(self) -> None:
        """Close what the other side now has."""
        wire.close_all(self._child_fds)
        self._child_fds = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give()
        wire.close_all(self.read_ends)
        self.read_ends = []


def collect(running: Running, pipes: Pipes, timeout: float | None, max_output: int, keep: Kept | None = None) -> Result:
    """Wait for a command to end, keeping its output (the first one in `keep`, if given); at the timeout, end it."""
    start = time.monotonic()
    pipes.give()
    outputs: dict[int, Kept] = {descriptor: Capped(max_output) for descriptor in pipes.read_ends}
    if keep is not None:
        outputs[pipes.read_ends[0]] = keep
    try:
        timed_out = _pump(running, outputs, None if timeout is None else start + timeout)
        outcome = running.finish()
        alive = [descriptor for descriptor, output in outputs.items() if not read_rest(descriptor, output)]
        if alive:
            running.drain(alive)
    except BaseException:
        running.kill()
        raise
    finally:
        running.close()
    streams = [output.value() for output in outputs.values()]
    return result_of(outcome, streams, start, timed_out, sum(output.dropped for output in outputs.values()))


def result_of(exit_: Exit, streams: Sequence[bytes], started: float, timed_out: bool, dropped: int) -> Result:
    """A Result from how a process ended and what was kept of its output."""
    by_signal = -exit_.status if exit_.status < 0 else None
    code = exit_.status if by_signal is None else 128 + by_signal
    limit = exit_.limit or ("output" if dropped else "")
    if signal.SIGXFSZ in (by_signal, code - 128):
        limit = "file size"
    stopped = timed_out or (by_signal is not None and bool(exit_.limit))
    return Result(
        None if stopped else code,
        by_signal,
        streams[0],
        streams[1] if len(streams) > 1 else b"",
        time.monotonic() - started,
        timed_out,
        limit,
        dropped,
        exit_.cpu,
    )


def _pump(running: Running, outputs: Mapping[int, Kept], deadline: float | None) -> bool:
    """Read outputs until the first process has ended; whether that took the deadline."""
    timed_out = False
    poll = select.poll()
    poll.register(running.fileno(), select.POLLIN)
    for descriptor in outputs:
        poll.register(descriptor, select.POLLIN)
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        events = poll.poll(wait)
        if deadline is not None and time.monotonic() >= deadline and not _has_exit(events, running):
            if timed_out:
                raise SandboxError(f"a command did not end within {_GRACE:g} s of being killed; close this sandbox")
            timed_out, deadline = True, time.monotonic() + _GRACE
            running.kill()
            continue
        for descriptor, _ in events:
            if descriptor in outputs:
                data = os.read(descriptor, _CHUNK)
                outputs[descriptor].add(data)
                if not data:
                    poll.unregister(descriptor)
                elif len(data) == PIPE_SIZE:
                    widen(descriptor)
        if _has_exit(events, running):
            return timed_out


def _has_exit(events: Sequence[tuple[int, int]], running: Running) -> bool:
    return any(descriptor == running.fileno() for descriptor, _ in events)


def widen(descriptor: int) -> None:
    """Give a busy pipe more room, where the system still grants it."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _WIDE)
    except OSError:
        pass


def read_rest(descriptor: int, output: Kept) -> bool:
    """Take what is in a pipe right now, at most one pipe full; whether nobody can write to it any more."""
    os.set_blocking(descriptor, False)
    room = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    while room > 0:
        try:
            data = os.read(descriptor, room)
        except BlockingIOError:
            return False
        if not data:
            return True
        output.add(data)
        room -= len(data)
    return False
