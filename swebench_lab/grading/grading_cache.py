"""GradingCache: equal patches of the same tree are graded once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Verdict

_Key = tuple[str, str, str]


class GradingCache:
    """Verdicts by task, Snapshot and patch, in memory: give it to an Evaluator. Safe for many threads.

    The attempts of a group often end in the very same patch. Tasks whose tests are certified give it the same verdict
    each time, so running them again would show nothing. A verdict *not graded* is never stored.

    Args:
        most: Verdicts that are kept; the one that was asked for longest ago goes first.
    """

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self._verdicts: dict[_Key, Verdict] = {}
        self._locks: dict[_Key, tuple[threading.Lock, int]] = {}
        self._guard = threading.Lock()
        self.asked = 0
        """Patches it was asked about."""
        self.ran = 0
        """Patches that were graded."""

    def verdict(self, task: Task, snapshot: str, patch: str, grade: Callable[[], Verdict]) -> Verdict:
        """Return the verdict stored of this patch, or else the one that `grade()` gives.

        Args:
            task: The task.
            snapshot: Key of the Snapshot that the tests would run in.
            patch: The patch.
            grade: Runs the tests.
        """
        key = (task.id, snapshot, patch)
        with self._guard:
            self.asked += 1
        with self._alone(key):  # who comes second waits for the first's verdict
            with self._guard:
                if (earlier := self._verdicts.pop(key, None)) is not None:
                    self._verdicts[key] = earlier
                    return earlier
                self.ran += 1
            verdict = grade()
            if verdict.graded:
                with self._guard:
                    self._verdicts[key] = verdict
                    if len(self._verdicts) > self.most:
                        del self._verdicts[next(iter(self._verdicts))]
            return verdict

    @contextmanager
    def _alone(self, key: _Key) -> Iterator[None]:
        """Let one thread at a time be in the block for a key; a lock goes when nobody waits for it."""
        with self._guard:
            lock, count = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, count + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, count = self._locks.pop(key)
                if count > 1:
                    self._locks[key] = lock, count - 1
