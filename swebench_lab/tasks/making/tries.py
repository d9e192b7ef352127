"""Tries: the recording boundary of makers. What goes wrong with one candidate is its row, with many in a row an error."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from swebench_lab.errors import describe, outcome_of

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Tries:
    """Tries the candidates of one call, from several threads.

    Args:
        source: What tasks are made from, for messages.
        most: Candidates in a row that may go wrong by an error; after them the machine is at fault.
    """

    def __init__(self, source: str, most: int) -> None:
        self.source, self.most = source, most
        self._lock = threading.Lock()
        self._failures = 0
        self._error: Exception | None = None

    def check(self) -> None:
        """Raise what went wrong last, once that was too often."""
        if self._failures >= self.most and self._error is not None:
            raise self._error

    def outcome(self, examine: Callable[[], T], description: str) -> T | str:
        """Return what `examine` gives, or why it gives nothing."""
        if self._failures >= self.most:
            return "not tried"
        for _ in range(2):  # a busy machine gets a second chance
            result = outcome_of(examine)
            if not isinstance(result, Exception):
                with self._lock:
                    self._failures = 0
                return result
        assert isinstance(result, Exception)
        _log.warning("making tasks from %s: trying %r: %s", self.source, description, describe(result))
        with self._lock:
            self._failures, self._error = self._failures + 1, result
        return f"trying it went wrong: {describe(result)}"
