"""GradingCache: equal patches of the same tree are graded once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Verdict


class GradingCache:
    """Verdicts by task, Snapshot and patch, in memory: give it to an Evaluator. Safe for many threads.

    The attempts of a group often end in the very same patch. Tasks whose tests are certified give it the same verdict
    each time, so running them again would show nothing. A verdict *not graded* is never stored.
    """

    def __init__(self) -> None:
        self._verdicts: dict[tuple[str, str, str], Verdict] = {}
        self._locks: defaultdict[tuple[str, str, str], threading.Lock] = defaultdict(threading.Lock)
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
            lock = self._locks[key]
        with lock:  # who comes second waits for the first's verdict
            if key not in self._verdicts:
                with self._guard:
                    self.ran += 1
                verdict = grade()
                if not verdict.graded:
                    return verdict
                self._verdicts[key] = verdict
            return self._verdicts[key]
