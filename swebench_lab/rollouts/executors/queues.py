"""BoundedQueue, SlotPool and Budget: what attempts wait in and for between their stages."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class BoundedQueue(Generic[_Item]):
    """A first-in-first-out queue between two stages; putting into a full one blocks, which holds back what feeds it.

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
        """Append an item, waiting for room; false when the queue is closed, and the item still the caller's."""
        with self._room:
            while self._most is not None and len(self._items) >= self._most and not self._closed:
                self._room.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._some.notify()
            return True

    def put_back(self, item: _Item) -> bool:
        """Append an item that was taken from here, full or not: if all who take from it blocked, it would stand still."""
        with self._some:
            if self._closed:
                return False
            self._items.append(item)
            self._some.notify()
            return True

    def get(self, timeout: float | None = None) -> _Item | None:
        """Take the first item, waiting for one; None when the queue is closed, or at the timeout."""
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
        """Wake everyone who waits, and return what was left."""
        with self._some:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._some.notify_all()
            self._room.notify_all()
            return left

    def __len__(self) -> int:
        return len(self._items)


class Slot:
    """One holder's place in a SlotPool; released once, whoever does it first."""

    def __init__(self, pool: SlotPool) -> None:
        self._pool = pool
        self.acquired = time.monotonic()
        self.released = False

    def release(self) -> None:
        """Give the slot to the next; calling it again does nothing."""
        self._pool._release(self)


class SlotPool:
    """A bounded number of slots, and counts of how they are used.

    Args:
        limit: How many may be held at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.waiting = 0
        self.released = 0
        self.seconds = 0.0
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()

    def acquire(self) -> Slot:
        """Wait for a slot."""
        if not self._free.acquire(blocking=False):
            with self._lock:
                self.waiting += 1
            try:
                self._free.acquire()
            finally:
                with self._lock:
                    self.waiting -= 1
        with self._lock:
            self.held += 1
        return Slot(self)

    def _release(self, slot: Slot) -> None:
        with self._lock:
            if slot.released:
                return
            slot.released = True
            self.held -= 1
            self.released += 1
            self.seconds += time.monotonic() - slot.acquired
        self._free.release()


class Budget:
    """A number of bytes that may be in flight at once; what is larger than all of it goes alone.

    Args:
        most: Bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.peak = 0
        self._condition = threading.Condition()

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """Wait until so many bytes fit in, and hold them."""
        count = min(count, self.most)
        with self._condition:
            while self.used + count > self.most:
                self._condition.wait()
            self.used += count
            self.peak = max(self.peak, self.used)
        try:
            yield
        finally:
            with self._condition:
                self.used -= count
                self._condition.notify_all()
