"""Line, Gate and Budget: what attempts wait in and for between their stages."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Line(Generic[_Item]):
    """A first-in-first-out line between two stages; who puts into a full one waits, which holds back what feeds it.

    Args:
        most: How many may wait in it; None: any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._items: deque[_Item] = deque()
        lock = threading.Lock()
        self._some, self._room = threading.Condition(lock), threading.Condition(lock)
        self._closed = False

    def put(self, item: _Item) -> bool:
        """Append an item, waiting for room; false when the line is closed, and the item still the caller's."""
        with self._room:
            while self._most is not None and len(self._items) >= self._most and not self._closed:
                self._room.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._some.notify()
            return True

    def put_back(self, item: _Item) -> bool:
        """Append an item that was taken from this line, full or not: if all who take from it waited, it would stand still."""
        with self._some:
            if self._closed:
                return False
            self._items.append(item)
            self._some.notify()
            return True

    def get(self, timeout: float | None = None) -> _Item | None:
        """Take the first item, waiting for one; None when the line is closed, or at the timeout."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._some:
            while not self._items and not self._closed:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._some.wait(left)
            if self._closed:
                return None
            self._room.notify()
            return self._items.popleft()

    def close(self) -> list[_Item]:
        """Let nobody wait any more, and return what was left."""
        with self._some:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._some.notify_all()
            self._room.notify_all()
            return left

    def __len__(self) -> int:
        return len(self._items)


class Turn:
    """One holder's turn at a Gate; left once, whoever leaves it first."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.entered = time.monotonic()
        self.left = False

    def leave(self) -> None:
        """Give the turn to the next; calling it again does nothing."""
        self._gate._leave(self)


class Gate:
    """Lets a bounded number through at once, and counts.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self.waiting = 0
        self.passed = 0
        self.seconds = 0.0
        self._turns = threading.Semaphore(limit)
        self._lock = threading.Lock()

    def enter(self) -> Turn:
        """Wait for a turn."""
        if not self._turns.acquire(blocking=False):
            with self._lock:
                self.waiting += 1
            try:
                self._turns.acquire()
            finally:
                with self._lock:
                    self.waiting -= 1
        with self._lock:
            self.inside += 1
        return Turn(self)

    def _leave(self, turn: Turn) -> None:
        with self._lock:
            if turn.left:
                return
            turn.left = True
            self.inside -= 1
            self.passed += 1
            self.seconds += time.monotonic() - turn.entered
        self._turns.release()


class Budget:
    """A number of bytes that may be in flight at once; what is larger than all of it goes alone.

    Args:
        most: Bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.peak = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """Wait until so many bytes fit in, and hold them."""
        count = min(count, self.most)
        with self._changed:
            while self.used + count > self.most:
                self._changed.wait()
            self.used += count
            self.peak = max(self.peak, self.used)
        try:
            yield
        finally:
            with self._changed:
                self.used -= count
                self._changed.notify_all()
