"""GradingCache: an Evaluator that grades the same patch of the same tree once."""

from __future__ import annotations

import threading
from collections import defaultdict

from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Verdict


class GradingCache(Evaluator):
    """Grades like the Evaluator it is made of, and answers again what it has answered before.

    The attempts of a group often end in the very same patch. Tasks whose tests are certified give it the same verdict
    each time, so running them again would tell nothing. A verdict *not graded* is never remembered.

    Args:
        evaluator: Whose settings are taken over.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__(
            evaluator.sandboxes,
            evaluator.timeout,
            workers=evaluator.workers,
            certificates=evaluator.certificates.root,
        )
        self._known: dict[tuple[str, str, str], Verdict] = {}
        self._locks: defaultdict[tuple[str, str, str], threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self.asked = 0
        """Patches it was asked to grade."""
        self.ran = 0
        """Patches it graded."""

    def _grade_one(self, task: Task, patch: str | None, *, untouched: bool = False) -> Verdict:
        if untouched:
            return super()._grade_one(task, patch, untouched=True)
        key = (task.id, self.sandboxes.key(task), patch or "")
        with self._guard:
            self.asked += 1
            lock = self._locks[key]
        with lock:  # who comes second waits for the first's verdict
            if key not in self._known:
                self.ran += 1
                verdict = super()._grade_one(task, patch)
                if not verdict.graded:
                    return verdict
                self._known[key] = verdict
            return self._known[key]
