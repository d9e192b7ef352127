"""Connection: this side of a container's first process, over the one connection that is attached to the container."""

from __future__ import annotations

import contextlib
import select
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from swebench_lab.errors import SandboxError, SandboxPathError
from swebench_lab.sandbox.docker.mux import Call, Gone, Mux

_PART = struct.Struct("!BxxxI")  # how the engine marks parts of an attached container's outputs
_READY_SECONDS = 60.0


class Connection:
    """Calls to a container's first process.

    Args:
        attached: The attached, hijacked connection to the container.
        name: Of the box, for errors.
    """

    def __init__(self, attached: Any, name: str) -> None:
        self._wrapper = attached  # the SDK's wrapper, which must not be collected
        self._socket = getattr(attached, "_sock", attached)
        self._socket.setblocking(False)
        self._name = name
        self._using = threading.Lock()  # a TLS connection is not for two threads at once
        self._raw, self._errors = bytearray(), b""
        self.mux = Mux(self._receive, self._send)
        self._thread = threading.Thread(target=self._run, name=f"docker-{name}", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the box can no longer be asked."""
        return bool(self.mux.gone)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Tell the first process what it serves, and wait until it does.

        Raises:
            SandboxError: It did not come up.
        """
        try:
            self.ask(settings, deadline=time.monotonic() + _READY_SECONDS)
        except (Gone, TimeoutError, OSError) as error:
            output = self._errors.decode(errors="replace").strip()[-500:]
            raise SandboxError(
                f"starting sandbox {self._name}: its first process did not come up ({error}); it said: {output or 'nothing'}"
            ) from error

    def ask(
        self,
        request: Mapping[str, Any],
        body: Iterable[bytes] | None = None,
        sink: Any = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Make a call and wait for its result.

        Args:
            request: `op`, and what belongs to it.
            body: Bytes that go with it, in pieces.
            sink: Has `write`, and takes the bytes of the answer.
            deadline: By time.monotonic().

        Raises:
            OSError: The box says that it failed.
            SandboxPathError: A program or directory was not there.
            SandboxError: Its first process could not do it.
            Gone: The connection has ended.
            TimeoutError: The deadline has passed.
        """
        call = self.mux.call(request, without_body=body is None)
        try:
            if body is not None:
                for data in body:
                    call.write(data)
                call.end()
            for piece in call.pieces(deadline):
                if sink is not None:
                    sink.write(piece)
        except BaseException:
            with contextlib.suppress(Gone):
                call.cancel()
            raise
        finally:
            call.forget()
        return checked(call)

    def close(self) -> None:
        """End the connection; every call under way ends with `Gone`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(2)
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    def _run(self) -> None:
        try:
            self.mux.run()
        finally:
            with contextlib.suppress(OSError), self._using:
                self._socket.close()
                self._wrapper.close()

    def _receive(self) -> bytes:
        """The next bytes that the first process wrote, out of the engine's parts."""
        while True:
            plain = self._parts()
            if plain:
                return plain
            data = self._try(lambda: self._socket.recv(1 << 18), select.POLLIN)
            if not data:
                return b""
            self._raw += data

    def _parts(self) -> bytes:
        """The output in the whole parts that are there; errors go to where messages find them."""
        outputs, at = [], 0
        while len(self._raw) - at >= _PART.size:
            kind, size = _PART.unpack_from(self._raw, at)
            if len(self._raw) - at < _PART.size + size:
                break
            at += _PART.size + size
            part = bytes(self._raw[at - size : at])
            if kind == 2:
                self._errors = (self._errors + part)[-4000:]
            else:
                outputs.append(part)
        del self._raw[:at]
        return b"".join(outputs)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._try(lambda: self._socket.send(view), select.POLLOUT) :]  # noqa: B023 - called at once

    def _try(self, do: Any, event: int) -> Any:
        """Read or write something, waiting for the connection where it is not ready."""
        while True:
            try:
                with self._using:
                    return do()
            except (BlockingIOError, ssl.SSLWantReadError):
                mask: int = event if not isinstance(self._socket, ssl.SSLSocket) else select.POLLIN
            except ssl.SSLWantWriteError:
                mask = select.POLLOUT
            poll = select.poll()
            poll.register(self._socket, mask)
            poll.poll(1000)


def checked(call: Call) -> dict[str, Any]:
    """The result of a call; an error that it tells is raised."""
    result = dict(call.result or {})
    if "no_path" in result:
        raise SandboxPathError(result["no_path"])
    if "failed" in result:
        raise SandboxError(result["failed"])
    if "error" in result:
        raise OSError(*result["error"])
    return result
