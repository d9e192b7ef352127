"""News: the rows that come into the index after a moment, of whichever process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swebench_lab.rollouts.store import lines


class Tail:
    """The complete rows of a file of lines, each given once.

    Args:
        path: The file; it need not be there.
        start: Byte from which on rows are given.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        self.path = path
        self._read = start
        self._inode = self._stat()[0] if start else 0

    def _stat(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size

    @property
    def anew(self) -> bool:
        """Whether the file was replaced, so that its rows are given again; then that begins."""
        inode, size = self._stat()
        if inode and self._inode and (inode != self._inode or size < self._read):
            self._inode, self._read = inode, 0
            return True
        self._inode = inode
        return False

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what is new; lines that are no rows are passed over."""
        for row, end in lines.complete(self.path, self._read):
            self._read = end
            if row is not None:
                yield row


class News:
    """Rows that came since this was made.

    Args:
        index: The file of the index.
    """

    def __init__(self, index: Path) -> None:
        self._tail = Tail(index, index.stat().st_size if index.exists() else 0)
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def of(self, task: str, attempt: int, seed: int, agent: str) -> dict[str, Any] | None:
        """Return the newest row of an attempt that came since; None where none did."""
        with self._lock:
            _ = self._tail.anew
            for row in self._tail.rows():
                key = (row.get("task"), row.get("attempt"), row.get("seed"), row.get("agent", ""))
                self._rows[key] = row
            return self._rows.get((task, attempt, seed, agent))
