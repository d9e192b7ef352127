"""Mux: many calls at once over one connection, each with a request, a body, an answer in pieces and a result.

Both ends of a container's connection use it. A piece is sent only where the reader has room for it, so that no call can
hold up another. Standard library only.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

_HEADER = struct.Struct("!BII")  # kind of a frame, number of its call, bytes that follow
_OPEN, _DATA, _END, _CREDIT, _CANCEL = range(5)
_WINDOW = 1 << 18  # bytes of a direction of a call that may be under way
_PIECE = 1 << 16
_NO_RESULT = b"{}"


class Gone(Exception):
    """The connection has ended."""


class Call:
    """One call, as one of its two ends sees it.

    Args:
        mux: What it goes through.
        number: Which call.
        request: What is asked for.

    Attributes:
        on_cancel: At the answering end: called when the asking end gives up.
        result: What the other end said last; None until then.
        asked: Whether this is the end that asks.
    """

    def __init__(self, mux: Mux, number: int, request: Mapping[str, Any], asked: bool) -> None:
        self.number, self.request, self.asked = number, request, asked
        self.on_cancel: Callable[[], object] = lambda: None
        self.result: Mapping[str, Any] | None = None
        self._mux = mux
        self._condition = threading.Condition(mux.lock)
        self._room = _WINDOW
        self._pieces: deque[bytes] = deque()
        self._unwanted = False

    def write(self, data: bytes) -> None:
        """Send some bytes, waiting for room; they are dropped once the other end does not want them any more.

        Raises:
            Gone: The connection has ended.
        """
        view = memoryview(data)
        while view:
            with self._condition:
                while self._room <= 0 and not self._unwanted and not self._mux.gone:
                    self._condition.wait()
                self._mux.check()
                if self._unwanted:
                    return
                size = min(len(view), self._room, _PIECE)
                self._room -= size
            self._mux.send((_DATA, self.number, view[:size]))
            view = view[size:]

    def end(self, result: Mapping[str, Any] | None = None) -> None:
        """Say that nothing more comes."""
        self._mux.send((_END, self.number, json.dumps(result).encode() if result else _NO_RESULT))

    def read(self, deadline: float | None = None) -> bytes:
        """The next piece; empty once there is nothing more.

        Args:
            deadline: By time.monotonic().

        Raises:
            Gone: The connection has ended.
            TimeoutError: The deadline has passed.
        """
        with self._condition:
            while not self._pieces and self.result is None and not self._mux.gone:
                wait = None if deadline is None else deadline - time.monotonic()
                if wait is not None and wait <= 0:
                    raise TimeoutError
                self._condition.wait(wait)
            if not self._pieces:
                if self.result is None:
                    self._mux.check()
                return b""
            piece = self._pieces.popleft()
        self._mux.send((_CREDIT, self.number, b"%d" % len(piece)))
        return piece

    def pieces(self, deadline: float | None = None) -> Iterator[bytes]:
        """All pieces to the end."""
        return iter(lambda: self.read(deadline), b"")

    @property
    def unwanted(self) -> bool:
        """Whether the other end does not wait for it any more."""
        return self._unwanted

    def cancel(self) -> None:
        """Let the other end know that nobody waits any more."""
        self._mux.send((_CANCEL, self.number, b""))

    def forget(self) -> None:
        """Drop whatever still comes."""
        self._mux.forget(self)

    def pump(self, local: socket.socket) -> None:
        """Carry bytes between this call and a socket until both have said all."""
        reader = threading.Thread(target=self._send_all_of, args=(local,), daemon=True)
        reader.start()
        try:
            for piece in self.pieces():
                local.sendall(piece)
            local.shutdown(socket.SHUT_WR)
        except (OSError, Gone):
            self._close(local)
        reader.join()
        local.close()

    def _send_all_of(self, local: socket.socket) -> None:
        try:
            while data := local.recv(_PIECE):
                self.write(data)
        except (OSError, Gone):
            self._close(local)
        try:
            self.end()
        except Gone:
            self._close(local)

    @staticmethod
    def _close(local: socket.socket) -> None:
        try:
            local.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already

    # --- for the mux, which holds the lock ----------------------------------------------------------------------------

    def take(self, kind: int, data: bytes) -> None:
        """Take in a frame."""
        if kind == _DATA:
            self._pieces.append(data)
        elif kind == _CREDIT:
            self._room += int(data)
        elif kind == _END:
            self.result = json.loads(data)
            self._unwanted = self._unwanted or self.asked
        elif kind == _CANCEL:
            self.result = self.result or {}
            self._unwanted = True
        self.wake()

    def wake(self) -> None:
        """Have those who wait look again."""
        self._condition.notify_all()


class Mux:
    """One end of a connection.

    Args:
        receive: Waits for bytes; empty at the end of the connection.
        write: Sends bytes, all of them.
        serve: Called with every call that the other end makes; must not wait.
    """

    def __init__(
        self, receive: Callable[[], bytes], write: Callable[[bytes], None], serve: Callable[[Call], None] | None = None
    ) -> None:
        self.lock = threading.Lock()
        self.gone = ""
        self._receive, self._write, self._serve = receive, write, serve
        self._sending = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._number = 0

    def call(self, request: Mapping[str, Any], without_body: bool = True) -> Call:
        """Make a call; `ended`: without a body."""
        with self.lock:
            self.check()
            self._number += 1
            call = self._calls[self._number] = Call(self, self._number, request, True)
        frames = [(_OPEN, call.number, json.dumps(request, separators=(",", ":")).encode())]
        self.send(*frames, *([(_END, call.number, _NO_RESULT)] if without_body else []))
        return call

    def forget(self, call: Call) -> None:
        """Drop whatever still comes of a call."""
        with self.lock:
            self._calls.pop(call.number, None)

    def send(self, *frames: tuple[int, int, bytes | memoryview]) -> None:
        """Send frames, one after the other.

        Raises:
            Gone: The connection has ended.
        """
        data = b"".join(part for kind, number, body in frames for part in (_HEADER.pack(kind, number, len(body)), body))
        try:
            with self._sending:
                self._write(data)
        except OSError as error:
            raise Gone(self.gone or str(error)) from error

    def check(self) -> None:
        """Raise Gone where the connection has ended."""
        if self.gone:
            raise Gone(self.gone)

    def run(self) -> None:
        """Take in frames until the connection ends; then everybody who waits is told."""
        buffer, why = bytearray(), "a fault in its connection"
        try:
            while data := self._receive():
                buffer += data
                self._take_all(buffer)
            why = "its connection ended"
        except OSError as error:
            why = f"its connection broke: {error}"
        finally:
            with self.lock:
                self.gone = why
                for call in self._calls.values():
                    call.wake()

    def _take_all(self, buffer: bytearray) -> None:
        at = 0
        while len(buffer) - at >= _HEADER.size:
            kind, number, size = _HEADER.unpack_from(buffer, at)
            if len(buffer) - at < _HEADER.size + size:
                break
            at += _HEADER.size + size
            self._take(kind, number, bytes(buffer[at - size : at]))
        del buffer[:at]

    def _take(self, kind: int, number: int, data: bytes) -> None:
        if kind == _OPEN and self._serve is not None:
            call = Call(self, number, json.loads(data), False)
            with self.lock:
                self._calls[number] = call
            self._serve(call)
            return
        with self.lock:
            receiver = self._calls.get(number)
            if receiver is not None:
                receiver.take(kind, data)
        if receiver is not None and kind == _CANCEL:
            receiver.on_cancel()
