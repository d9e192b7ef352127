"""Busy: when a model computed, sampling or training, and how much of a time that covers."""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager

SAMPLING, TRAINING = "sampling", "training"
"""Kinds of spans that both engines note."""


class Busy:
    """Spans of time, kept by kind; what overlaps counts once."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[float, float]]] = {}
        self._lock = threading.Lock()

    def add(self, kind: str, begin: float, end: float) -> None:
        """Note one span, in seconds of the monotonic clock."""
        with self._lock:
            insort(self._spans.setdefault(kind, []), (begin, end))

    @contextmanager
    def doing(self, kind: str) -> Iterator[None]:
        """Note the span of a block."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.add(kind, begin, time.monotonic())

    def seconds(self, begin: float, end: float, *kinds: str) -> float:
        """Return how much of a time was spent on any of some kinds; with none named, on anything."""
        with self._lock:
            spans = sorted(span for kind in kinds or self._spans for span in self._spans.get(kind, ()))
        covered, at = 0.0, begin
        for first, last in spans:
            first, last = max(first, at), min(last, end)
            if last > first:
                covered += last - first
                at = last
        return covered

    @property
    def began(self) -> float:
        """When the first span began; 0.0 where there is none."""
        with self._lock:
            return min((spans[0][0] for spans in self._spans.values() if spans), default=0.0)
