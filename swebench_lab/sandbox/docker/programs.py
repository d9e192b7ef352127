"""What lives on in a container beside commands: started programs, and ports of its loopback that this process serves."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import SandboxClosed
from swebench_lab.sandbox.docker.connection import checked
from swebench_lab.sandbox.docker.mux import Call, Gone, Mux
from swebench_lab.sandbox.shell.commands import Exit

Closed = Callable[[str], SandboxClosed]
"""Says what happened to a box that is not there any more, given what was being done."""


class Program:
    """A program that was started in a container, as `commands.Running` wants it.

    Args:
        call: The call that started it.
        output: Where its output goes; copied.
        gone: For errors.
    """

    def __init__(self, call: Call, output: int, gone: Closed) -> None:
        self._call, self._gone = call, gone
        self._end_fd, ending = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._carry, args=(os.dup(output), ending), daemon=True)
        self._thread.start()

    def _carry(self, output: int, ending: int) -> None:
        """Write what the program writes until it has ended."""
        try:
            for piece in self._call.pieces():
                with contextlib.suppress(OSError):  # nobody reads it any more
                    write_all(output, piece)
        except Gone:
            pass  # `finish` says so
        finally:
            self._call.forget()
            os.close(output)
            os.write(ending, b".")
            os.close(ending)

    def fileno(self) -> int:
        """Readable once it has ended."""
        return self._end_fd

    def finish(self) -> Exit:
        """How it ended."""
        self._thread.join()
        if self._call.result is None:
            raise self._gone("start")
        return Exit(*checked(self._call)["exit"])

    def kill(self, since: float | None = None, spared: Sequence[int] = ()) -> None:
        """End it with everything it started."""
        with contextlib.suppress(Gone):  # nothing of it is left
            self._call.cancel()

    def living(self) -> Sequence[int]:
        """None that this side knows of."""
        return ()

    def drain(self, descriptors: Sequence[int]) -> None:
        """The first process of the container does this."""

    def close(self) -> None:
        """Let go of it."""
        os.close(self._end_fd)


class Listener(socket.socket):
    """A listening socket of this process whose callers are programs in a container.

    Each caller's connection is a call of its own. Nobody else can call: the socket lies in a folder of this user alone.

    Args:
        mux: Of the container's connection.
        port: On its loopback; 0 takes a free one.
        gone: For errors.

    Raises:
        OSError: The port is taken in the container.
    """

    def __init__(self, mux: Mux, port: int, gone: Closed) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._mux, self._folder = mux, Path(tempfile.mkdtemp(prefix="swebench-lab-listen-"))
        self._call: Call | None = None
        try:
            self.bind(str(self._folder / "socket"))
            self.listen(128)
            try:
                self._call = call = mux.call({"op": "listen", "with": {"port": port}})
                lines = _lines(call)
                self._port = next(lines, 0) or checked(call)["port"]
            except Gone as error:
                raise gone("listen") from error
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._accept_all, args=(lines,), name="docker-listen", daemon=True).start()

    def getsockname(self) -> tuple[str, int]:
        """Where it listens in the container."""
        return "127.0.0.1", self._port

    def close(self) -> None:
        """Stop listening, in the container as well."""
        call, self._call = self._call, None
        if call is not None:
            with contextlib.suppress(Gone):
                call.cancel()
            call.forget()
        shutil.rmtree(self._folder, ignore_errors=True)
        super().close()

    def _accept_all(self, callers: Iterator[int]) -> None:
        with contextlib.suppress(Gone):
            for number in callers:
                threading.Thread(target=self._carry, args=(number,), name="docker-caller", daemon=True).start()

    def _carry(self, number: int) -> None:
        """Carry the bytes of one caller until both sides have ended."""
        with contextlib.suppress(Gone):
            call = self._mux.call({"op": "accepted", "with": {"number": number}}, without_body=False)
            local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                local.connect(str(self._folder / "socket"))
            except OSError:  # closed meanwhile
                local.close()
                call.cancel()
                call.forget()
                return
            carry(call, local)


def _lines(call: Call) -> Iterator[int]:
    """The numbers that a call answers, a line each."""
    rest = b""
    for piece in call.pieces():
        *lines, rest = (rest + piece).split(b"\n")
        yield from map(int, lines)


def carry(call: Call, local: socket.socket) -> None:
    """Carry bytes between a call and a socket until both have ended."""
    call.pump(local)
    call.forget()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of some bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def start_program(
    mux: Mux, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], output: int, gone: Closed
) -> Program:
    """Start a program in a container, as `Sandbox.start` says."""
    arguments: Mapping[str, Any] = {"argv": list(argv), "cwd": cwd, "env": dict(env)}
    try:
        return Program(mux.call({"op": "start", "with": arguments}), output, gone)
    except Gone as error:
        raise gone("start") from error
