"""Admission: an agent of others begins once memory has room for what those before it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from swebench_lab.sandbox import quotas
from swebench_lab.sandbox.linux import memory

if TYPE_CHECKING:
    from swebench_lab.rollouts.executors.flight import Flight

UNKNOWN = 1 << 30
"""Bytes that an agent counts for until one has come to its end."""

_MARGIN = 1.25  # what an agent counts for, over the most that one took
_RESERVE = 0.1  # share of the memory there was in the beginning that nobody is admitted into
_POLL = 0.2  # seconds


class Admission:
    """Who may begin. What boxes take is measured while they run.

    Args:
        available: Returns the bytes that can still be taken; None: this is not known here, and all are admitted.
    """

    def __init__(self, available: Callable[[], int | None] = memory.available) -> None:
        self._available = available
        self._inside: dict[int, Flight] = {}
        self._usage: dict[int, int] = {}
        self._lock = threading.Lock()
        self._measure_time = 0.0
        self.peak = 0
        """Bytes of the agent that took most, so far."""
        self.ended = False
        """Whether one has come to its end."""
        self._reserve = (available() or 0) * _RESERVE

    def enter(self, flight: Flight, given_up: Callable[[], bool]) -> None:
        """Wait until there is room for one more; at once where none is inside."""
        while not given_up():
            with self._lock:
                self._measure()
                if self._has_room():
                    self._inside[id(flight)] = flight
                    return
            time.sleep(_POLL)

    def leave(self, flight: Flight) -> None:
        """Note that a box has ended; one that never was inside does not matter."""
        with self._lock:
            if self._inside.pop(id(flight), None) is not None and self._usage.pop(id(flight), 0):
                self.ended = True

    def measure(self) -> None:
        """Measure what those inside take; at most once in a while, however often it is called."""
        with self._lock:
            self._measure()

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measure_time < _POLL * len(self._inside) ** 0.5:  # with many, a look takes longer
            return
        self._measure_time = now
        firsts = {key: box.first_pid for key, flight in self._inside.items() if (box := flight.box) and box.first_pid}
        usage = memory.taken_below(firsts.values()) if firsts else {}
        self._usage |= {key: usage[pid] for key, pid in firsts.items()}
        self.peak = max(self.peak, *usage.values(), 0)

    def _has_room(self) -> bool:
        left, most = self._available(), quotas.quota_of().memory
        if not self._inside or left is None:
            return True
        room = left - self._reserve
        if most is not None:
            room = min(room, most - sum(self._usage.values()))
        need = int(self.peak * _MARGIN) if self.ended else max(UNKNOWN, int(self.peak * _MARGIN))
        return room >= need + sum(max(0, need - self._usage.get(key, 0)) for key in self._inside)
