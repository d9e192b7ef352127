"""Terminal: an interactive shell in a sandbox, on a terminal device of the sandbox's own."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxError, SandboxPathError
from swebench_lab.sandbox.shell.terminal import resize

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox

_BATCH = 0.02  # seconds for which output is gathered before it is passed on
_CHUNK = 1 << 16
_MOST_UNACKNOWLEDGED = 1 << 20
"""Bytes passed on but not acknowledged, after which the terminal stops reading, and its programs wait."""


class Terminal:
    """A bash with a terminal in a box.

    The device is from the box's own /dev/pts; this side holds only its controlling end. Output is passed on as bytes:
    whoever draws them decides what an escape sequence may do.

    Args:
        box: A sandbox of namespaces.
        on_output: Called with bytes as they come, on a thread of the terminal; with empty bytes at the end.
        cwd: Where the shell starts.
        rows: Height in characters.
        columns: Width in characters.

    Raises:
        SandboxError: This kind of sandbox has no terminals of its own.
    """

    def __init__(
        self, box: Sandbox, on_output: Callable[[bytes], None], cwd: str = "", rows: int = 24, columns: int = 80
    ) -> None:
        self._on_output = on_output
        self._wake, self._waker = os.pipe()
        self._unacknowledged = 0
        self._lock = threading.Lock()
        self.closed = False
        self._master = -1
        argv = ["setsid", "--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]
        env = {"TERM": "xterm-256color", "PS1": r"\w $ ", "HISTFILE": None, "COLUMNS": None, "LINES": None}
        try:
            self._running, self._master = box.start_on_terminal(argv, cwd=cwd, env=env, size=(rows, columns))
        except (OSError, SandboxPathError) as error:
            self._drop()
            raise SandboxError(f"opening a terminal in the sandbox: {error}") from error
        except SandboxError:
            self._drop()
            raise
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Send bytes to the shell as from a keyboard; what it does not accept within a second is dropped."""
        view = memoryview(data)
        while view and not self.closed:
            if not select.select([], [self._master], [], 1.0)[1]:
                return
            with suppress(BlockingIOError):
                view = view[os.write(self._master, view[:1024]) :]

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal, in characters."""
        if not self.closed:
            resize(self._master, rows, columns)

    def acknowledge(self, count: int) -> None:
        """Say that `count` bytes of output have been drawn."""
        with self._lock:
            self._unacknowledged = max(0, self._unacknowledged - count)
        if not self.closed:
            os.write(self._waker, b".")

    def close(self) -> None:
        """End the shell and everything started in it; calling it again does nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        os.write(self._waker, b".")
        with suppress(SandboxError):
            self._running.kill()
            self._running.finish()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        self._running.close()
        self._drop()

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Pass output on in batches, and pause while too much of it has not been drawn."""
        while not self.closed:
            watched = [self._wake] + ([self._master] if self._unacknowledged < _MOST_UNACKNOWLEDGED else [])
            ready = select.select(watched, [], [])[0]
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._master in ready:
                data = self._gather()
                if not data:
                    break
                with self._lock:
                    self._unacknowledged += len(data)
                self._on_output(data)
        self._on_output(b"")

    def _gather(self) -> bytes:
        output = bytearray()
        wait = _BATCH
        while len(output) < _CHUNK:
            try:
                data = os.read(self._master, _CHUNK)
            except BlockingIOError:
                data = b""
            except OSError:  # the last program that held the terminal is gone
                break
            output += data
            if not select.select([self._master], [], [], wait)[0]:
                break
            wait = 0.002
        return bytes(output)

    def _drop(self) -> None:
        for descriptor in (self._master, self._wake, self._waker):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = -1
