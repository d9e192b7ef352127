"""Recent errors: what has just failed is not tried again at once; a hundred tasks need not wait for one dead network."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from swebench_lab.errors import SnapshotError

_SECONDS = 20.0  # for which an error is repeated instead of tried again

Value = TypeVar("Value")


class RecentErrors:
    """The errors of a moment ago, by what was being made."""

    def __init__(self) -> None:
        self._errors: dict[Hashable, tuple[float, SnapshotError]] = {}

    def make(self, key: Hashable, build: Callable[[], Value]) -> Value:
        """Build something, or repeat the error that building it ended with a moment ago.

        Raises:
            SnapshotError: It cannot be built.
        """
        when, error = self._errors.get(key, (0.0, None))
        if error is not None and time.monotonic() - when < _SECONDS:
            raise SnapshotError(str(error)) from error
        try:
            return build()
        except SnapshotError as failure:
            self._errors[key] = time.monotonic(), failure
            raise
