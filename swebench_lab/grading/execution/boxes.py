"""OpenBoxes: the open sandboxes of one piece of work, so that another thread can close them all at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox


class OpenBoxes:
    """The sandboxes that a batch or an attempt holds open; safe for many threads."""

    def __init__(self) -> None:
        self._open: set[Sandbox] = set()
        self._lock = threading.Lock()
        self._closed = False

    def add(self, box: Sandbox) -> None:
        """Add a sandbox; it is closed at once where `close` was called before."""
        with self._lock:
            self._open.add(box)
            is_closed = self._closed
        if is_closed:
            box.close()

    def discard(self, box: Sandbox) -> None:
        """Forget a sandbox, which stays as it is."""
        with self._lock:
            self._open.discard(box)

    @contextmanager
    def holding(self, box: Sandbox) -> Iterator[None]:
        """Hold a sandbox for the length of a block."""
        self.add(box)
        try:
            yield
        finally:
            self.discard(box)

    def close(self) -> None:
        """Close every sandbox that is open, and from now on each that is added."""
        with self._lock:
            self._closed = True
            boxes = list(self._open)
        for box in boxes:
            box.close()
