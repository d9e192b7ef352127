"""Values that belong to one process: a forked child starts with none of them, and with a lock that nobody holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class PerProcess(Generic[Key, Value]):
    """A table of this process's own values, to be kept in a module.

    A forked child gets an empty table. What its parent held stays referenced there and is never used: dropping it would
    run finalizers that end, in the child, what still serves the parent.

    Attributes:
        lock: Held while the table is looked at or changed. A thread may take it again, for several operations that must
            not be interrupted by another thread.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._values: dict[Key, Value] = {}
        self._of_parents: list[dict[Key, Value]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        # The old lock may be held by a thread that does not exist in the child.
        self.lock = threading.RLock()
        self._of_parents.append(self._values)
        self._values = {}

    def get(self, key: Key) -> Value | None:
        """Return a value; None when there is none."""
        with self.lock:
            return self._values.get(key)

    def get_or_make(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return a value, made when it is first asked for; other threads wait meanwhile."""
        with self.lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]

    def set(self, key: Key, value: Value) -> Value:
        """Replace a value; return the new one."""
        with self.lock:
            self._values[key] = value
            return value

    def pop(self, key: Key) -> Value | None:
        """Take a value out of the table; None when there is none."""
        with self.lock:
            return self._values.pop(key, None)

    def items(self) -> list[tuple[Key, Value]]:
        """Return all values with their keys, as they are now."""
        with self.lock:
            return list(self._values.items())
