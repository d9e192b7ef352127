"""This side of a container's first process: requests and streams over the one attached connection of a box."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import ssl
import stat
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from swebench_lab.errors import SandboxClosed, SandboxError
from swebench_lab.sandbox.docker.agent import CREDIT, DATA, HEADER, MESSAGE, WINDOW

_PART = struct.Struct("!BxxxI")  # how the engine marks parts of an attached container's outputs
_CHUNK = 1 << 16
_READY_SECONDS = 60.0

Sink = Callable[[bytes], object]


class _Stream:
    """A stream from the box, on its way into a pipe of this side."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.waiting = bytearray()
        self.ended = False


class _Source:
    """A descriptor of this side that the box reads from."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.credit = WINDOW
        self.regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self.position = 0  # of a regular file, whose own position is the caller's


class Asked:
    """A request under way; `descriptor` is readable once it was answered, or the box is gone."""

    def __init__(self, streams: Sequence[int]) -> None:
        self.streams = tuple(streams)
        self.answer: dict[str, Any] | None = None
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._closing = threading.Lock()

    def finish(self) -> None:
        """Let whoever waits go on."""
        with self._closing:
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Let go of it."""
        with self._closing:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1


class Link:
    """One connection, served by a thread of its own.

    Args:
        connection: The attached, hijacked connection to the container.
        name: Of the box, for errors.
    """

    def __init__(self, connection: Any, name: str) -> None:
        self._held = connection  # the SDK's wrapper, which must not be collected
        self._socket = getattr(connection, "_sock", connection)
        self._socket.settimeout(None)
        self._socket.setblocking(False)
        self._name = name
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waking = threading.Lock()
        self._outbox: deque[bytes] = deque()
        self._sending = b""
        self._raw, self._plain = bytearray(), bytearray()
        self._errors = bytearray()
        self._asked: dict[int, Asked] = {}
        self._finishing: dict[int, Asked] = {}
        self._streams: dict[int, _Stream | Sink] = {}
        self._sources: dict[int, _Source] = {}
        self._number = 0
        self._gone = ""
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=f"docker-{name}", daemon=True)
        self._thread.start()

    # --- for callers --------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """A number for a request or a stream."""
        with self._lock:
            self._number += 1
            return self._number

    def send(self, message: Mapping[str, Any], streams: Sequence[int] = ()) -> tuple[int, Asked]:
        """Send a request; returns its number, and what to wait for."""
        number, asked = self.number(), Asked(streams)
        with self._lock:
            if self._gone:
                asked.close()
                raise SandboxClosed(f"sandbox {self._name} {self._gone}")
            self._asked[number] = asked
        self._post(MESSAGE, number, json.dumps(message, separators=(",", ":")).encode())
        return number, asked

    def ask(self, message: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a request and wait for its answer; OSError when the box says it failed."""
        _, asked = self.send(message)
        return self.wait(asked, str(message.get("op", "begin")), timeout)

    def wait(self, asked: Asked, doing: str, timeout: float | None = None) -> dict[str, Any]:
        """The answer to a request."""
        poll = select.poll()
        poll.register(asked.descriptor, select.POLLIN)
        try:
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise SandboxError(f"sandbox {self._name}: no answer to {doing!r} within {timeout:g} s{self._said()}")
        finally:
            asked.close()
        answer = asked.answer
        if answer is None:
            raise SandboxClosed(f"sandbox {self._name} {self._gone or 'is gone'} during {doing!r}{self._said()}")
        if "error" in answer:
            raise OSError(*answer["error"])
        return answer

    def begin(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Tell the first process what it serves; returns its greeting."""
        return self.ask(settings, _READY_SECONDS)

    def receive_into(self, sink: int | Sink) -> int:
        """A stream whose bytes go into a pipe (of which a copy is kept), or to a function, which gets b"" at its end."""
        number = self.number()
        with self._lock:
            if callable(sink):
                self._streams[number] = sink
            else:
                copy = fcntl.fcntl(sink, fcntl.F_DUPFD_CLOEXEC, 3)
                os.set_blocking(copy, False)
                self._streams[number] = _Stream(copy)
        return number

    def read_from(self, descriptor: int) -> int:
        """A stream that the box reads from a descriptor of this side, of which a copy is kept."""
        number = self.number()
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        source = _Source(copy)
        if not source.regular:
            os.set_blocking(copy, False)
        with self._lock:
            self._sources[number] = source
        return number

    def pour(self, number: int, content: bytes | IO[bytes]) -> None:
        """Send all of a stream that the box reads to its end at once."""
        if isinstance(content, bytes):
            for start in range(0, len(content), 1 << 20):
                self._post(DATA, number, content[start : start + (1 << 20)])
        else:
            while data := content.read(1 << 20):
                self._post(DATA, number, data)
                while len(self._outbox) > 64 and not self._gone:
                    time.sleep(0.002)
        self._post(DATA, number, b"")

    def drop(self, number: int) -> None:
        """Forget a stream of which nothing will come."""
        with self._lock:
            stream = self._streams.pop(number, None)
        if isinstance(stream, _Stream):
            os.close(stream.descriptor)

    def credit(self, number: int, count: int) -> None:
        """Let the box send so many bytes more of a stream that goes to a function."""
        self._post(CREDIT, number, b"%d" % count)

    def forget(self, streams: Sequence[int]) -> None:
        """Have the box read and drop what still comes of some streams."""
        with self._lock:
            if self._gone:
                return
        self._post(MESSAGE, 0, json.dumps({"op": "drain", "streams": list(streams)}).encode())

    def close(self) -> None:
        """End the connection; every request under way ends without an answer."""
        self._stop = True
        self._rouse()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    @property
    def closed(self) -> bool:
        """Whether the box can no longer be asked."""
        return bool(self._gone)

    def _said(self) -> str:
        text = bytes(self._errors).decode(errors="replace").strip()
        return f"; its first process said: {text[-500:]}" if text else ""

    def _post(self, kind: int, number: int, data: bytes) -> None:
        self._outbox.append(HEADER.pack(kind, number, len(data)) + data)
        self._rouse()

    def _rouse(self) -> None:
        with self._waking:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        why = "died of a fault in its connection"
        try:
            while not self._stop:
                self._turn()
            why = "was closed"
        except (OSError, EOFError) as error:
            why = f"died: its container is gone or the engine let go of it ({error})"
        finally:
            self._end(why)  # or whoever waits would wait for ever

    def _turn(self) -> None:
        poll = select.poll()
        busy = bool(self._sending or self._outbox)
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if busy else 0))
        poll.register(self._wake, select.POLLIN)
        with self._lock:
            streams = {s.descriptor: n for n, s in self._streams.items() if isinstance(s, _Stream) and s.waiting}
            sources = {s.descriptor: n for n, s in self._sources.items() if s.credit > 0}
        for descriptor in streams:
            poll.register(descriptor, select.POLLOUT)
        for descriptor in sources:
            poll.register(descriptor, select.POLLIN)
        for descriptor, event in poll.poll():
            if descriptor == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            elif descriptor in streams:
                self._flush(streams[descriptor])
            elif descriptor in sources:
                self._feed(sources[descriptor])
            elif event & ~select.POLLOUT:
                self._receive()
        self._send()

    def _send(self) -> None:
        while self._sending or self._outbox:
            if not self._sending:
                parts: list[bytes] = []
                while self._outbox and sum(len(part) for part in parts) < _CHUNK:
                    parts.append(self._outbox.popleft())
                self._sending = b"".join(parts)
            try:
                sent = self._socket.send(self._sending)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            self._sending = self._sending[sent:]

    def _receive(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 18)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise EOFError("its output ended")
            self._raw += data
            self._split()
            if len(data) < _CHUNK and not isinstance(self._socket, ssl.SSLSocket):
                return

    def _split(self) -> None:
        """Take the parts of the engine's stream apart, then the frames in it."""
        while len(self._raw) >= _PART.size:
            kind, size = _PART.unpack_from(self._raw)
            if len(self._raw) < _PART.size + size:
                break
            part = self._raw[_PART.size : _PART.size + size]
            del self._raw[: _PART.size + size]
            if kind == 2:
                self._errors = (self._errors + part)[-4000:]
            else:
                self._plain += part
        while len(self._plain) >= HEADER.size:
            kind, number, size = HEADER.unpack_from(self._plain)
            if len(self._plain) < HEADER.size + size:
                break
            data = bytes(self._plain[HEADER.size : HEADER.size + size])
            del self._plain[: HEADER.size + size]
            self._take(kind, number, data)

    def _take(self, kind: int, number: int, data: bytes) -> None:
        if kind == MESSAGE:
            asked = self._asked.pop(number, None)
            if asked is not None:
                asked.answer = json.loads(data)
                self._finishing[number] = asked
                self._try_finish(number)
        elif kind == CREDIT:
            if number in self._sources:
                self._sources[number].credit += int(data)
        else:
            self._deliver(number, data)

    def _deliver(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if not isinstance(stream, _Stream):
            stream(data)
            if not data:
                del self._streams[number]
            return
        stream.waiting += data
        stream.ended = stream.ended or not data
        self._flush(number)

    def _flush(self, number: int) -> None:
        """Write what waits into a pipe, as far as there is room."""
        stream = self._streams[number]
        assert isinstance(stream, _Stream)
        while stream.waiting:
            try:
                written = os.write(stream.descriptor, stream.waiting[: 1 << 18])
            except BlockingIOError:
                return
            except BrokenPipeError:
                self.forget([number])
                stream.waiting.clear()
                stream.ended = True
                break
            del stream.waiting[:written]
            if not stream.ended:
                self._post(CREDIT, number, b"%d" % written)
        if stream.ended:
            del self._streams[number]
            os.close(stream.descriptor)
        for waiting in [n for n, asked in self._finishing.items() if number in asked.streams]:
            self._try_finish(waiting)

    def _try_finish(self, number: int) -> None:
        """Let a caller go on once all that its command wrote is where it can read it."""
        asked = self._finishing[number]
        if not any(isinstance(s := self._streams.get(n), _Stream) and s.waiting for n in asked.streams):
            del self._finishing[number]
            asked.finish()

    def _feed(self, number: int) -> None:
        """Send what can be read from a source."""
        source = self._sources[number]
        most = min(_CHUNK, source.credit)
        try:
            data = (
                os.pread(source.descriptor, most, source.position)
                if source.regular
                else os.read(source.descriptor, most)
            )
        except BlockingIOError:
            return
        source.position += len(data)
        source.credit -= len(data)
        self._post(DATA, number, data)
        if not data:
            with self._lock:
                del self._sources[number]
            os.close(source.descriptor)

    def _end(self, why: str) -> None:
        """Tell everybody who waits that nothing will come any more."""
        with self._lock:
            self._gone = why
            waiting = [*self._asked.values(), *self._finishing.values()]
            self._asked.clear()
            self._finishing.clear()
            streams, sources = list(self._streams.values()), list(self._sources.values())
            self._streams.clear()
            self._sources.clear()
        for stream in streams:
            if isinstance(stream, _Stream):
                os.close(stream.descriptor)
        for source in sources:
            os.close(source.descriptor)
        for asked in waiting:
            asked.answer = None
            asked.finish()
        with contextlib.suppress(OSError):
            self._socket.close()
            self._held.close()
        with self._waking:
            os.close(self._wake)
            self._wake = -1
