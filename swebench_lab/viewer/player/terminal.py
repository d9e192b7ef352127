"""Terminal: an interactive shell in a sandbox over a terminal device of the sandbox's own."""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from swebench_lab._unix import fcntl, termios
from swebench_lab.errors import SandboxError, SandboxPathError

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox

_LOCK_SLAVE = 0x40045431  # TIOCSPTLCK of <asm-generic/ioctls.h>, which termios does not name
_SLAVE_NUMBER = 0x80045430  # TIOCGPTN
_OPEN = os.O_RDWR | getattr(os, "O_NOCTTY", 0)
_BATCH = 0.02  # seconds in which output is gathered before it is handed on
_CHUNK = 1 << 16
_UNSEEN = 1 << 20
"""Bytes handed on but not yet acknowledged, after which the terminal waits: its programs then wait, too."""


class Terminal:
    """A bash with a terminal in a box.

    The terminal device is the box's own, from its own /dev/pts; this side holds its other end and nothing else. What
    programs write is handed on as bytes: whoever draws them decides what an escape sequence may do.

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
        if not box.tier.startswith("namespace"):
            raise SandboxError(
                f"opening a terminal in a sandbox of tier {box.tier!r}: only those of namespaces have terminals of their "
                "own; type commands into the command line instead"
            )
        self._on_output = on_output
        self._wake, self._waker = os.pipe()
        self._unseen = 0
        self._lock = threading.Lock()
        self.closed = False
        self._master = self._slave = -1
        try:
            self._master, self._slave = _pair(box)
            self.resize(rows, columns)
            given = {0: self._slave, 1: self._slave, 2: self._slave}
            argv = ["setsid", "--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]
            env = {"TERM": "xterm-256color", "PS1": r"\w $ ", "HISTFILE": None, "COLUMNS": None, "LINES": None}
            self._running = box._launch(argv, cwd or box.workdir, env, given)
        except (OSError, SandboxPathError) as error:
            self._drop()
            raise SandboxError(f"opening a terminal in the sandbox: {error}") from error
        os.close(self._slave)
        self._slave = -1
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Type: bytes go to the shell as from a keyboard; what it does not take within a second is dropped."""
        view = memoryview(data)
        while view and not self.closed:
            if not select.select([], [self._master], [], 1.0)[1]:
                return
            with suppress(BlockingIOError):
                view = view[os.write(self._master, view[:1024]) :]

    def resize(self, rows: int, columns: int) -> None:
        """Tell programs how large the terminal is."""
        size = struct.pack("HHHH", max(1, min(rows, 500)), max(1, min(columns, 1000)), 0, 0)
        if not self.closed:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def acknowledge(self, count: int) -> None:
        """Say that `count` bytes of output have been drawn."""
        with self._lock:
            self._unseen = max(0, self._unseen - count)
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
        """Hand output on in batches, and wait while too much of it is not drawn yet."""
        while not self.closed:
            watched = [self._wake] + ([self._master] if self._unseen < _UNSEEN else [])
            ready = select.select(watched, [], [])[0]
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._master in ready:
                data = self._gather()
                if not data:
                    break
                with self._lock:
                    self._unseen += len(data)
                self._on_output(data)
        self._on_output(b"")

    def _gather(self) -> bytes:
        found = bytearray()
        wait = _BATCH
        while len(found) < _CHUNK:
            try:
                data = os.read(self._master, _CHUNK)
            except BlockingIOError:
                data = b""
            except OSError:  # the last program that held the terminal is gone
                break
            found += data
            if not select.select([self._master], [], [], wait)[0]:
                break
            wait = 0.002
        return bytes(found)

    def _drop(self) -> None:
        for descriptor in (self._master, self._slave, self._wake, self._waker):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1


def _pair(box: Sandbox) -> tuple[int, int]:
    """Both ends of a new terminal of the box."""
    master = box._open("/dev/ptmx", _OPEN)
    try:
        fcntl.ioctl(master, _LOCK_SLAVE, struct.pack("i", 0))
        number = struct.unpack("i", fcntl.ioctl(master, _SLAVE_NUMBER, b"\0" * 4))[0]
        slave = box._open(f"/dev/pts/{number}", _OPEN)
    except OSError:
        os.close(master)
        raise
    os.set_blocking(master, False)
    return master, slave
