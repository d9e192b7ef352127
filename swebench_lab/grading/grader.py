"""Grader: grades one patch of one task in a fresh sandbox over the task's Snapshot."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from swebench_lab.errors import LabError
from swebench_lab.grading.boxes import OpenBoxes
from swebench_lab.grading.expectation import Expectation
from swebench_lab.grading.grading_cache import GradingCache
from swebench_lab.grading.judge import does_not_apply, judge, judge_log
from swebench_lab.grading.runner import NotApplied, TestRunner
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import NOT_GRADED, UNRESOLVED, Cause, Verdict
from swebench_lab.snapshots.environment.specs import Spec, spec_for

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory

EMPTY = "the patch is empty; SWE-bench counts that as unresolved, so nothing was run"
NOT_RUN = "the tests could not be run"

logger = logging.getLogger(__name__)


class Grader:
    """Grades patches one at a time; safe for many threads.

    Args:
        sandboxes: Where tests run.
        timeout: Seconds that one test run may take; None: as the task's Spec says.
        cache: What is asked for a verdict first; None: every patch is run.
    """

    def __init__(
        self, sandboxes: SandboxFactory, timeout: float | None = None, cache: GradingCache | None = None
    ) -> None:
        self.sandboxes = sandboxes
        self.timeout = timeout
        self.cache = cache

    def grade(self, task: Task, patch: str, boxes: OpenBoxes | None = None) -> Verdict:
        """Grade a patch, or take its verdict from the cache.

        Args:
            task: The task.
            patch: The patch; an empty one is *unresolved*, and nothing is run.
            boxes: What the sandbox is added to while it is open.
        """
        if self.cache is None:
            return self.grade_afresh(task, patch, boxes)
        key = self.sandboxes.key(task)
        return self.cache.verdict(task, key, patch or "", lambda: self.grade_afresh(task, patch, boxes))

    def grade_afresh(self, task: Task, patch: str, boxes: OpenBoxes | None = None) -> Verdict:
        """Grade a patch, whatever a cache may hold."""
        return self._timed(task, patch or "", boxes)

    def grade_untouched(self, task: Task, boxes: OpenBoxes | None = None) -> Verdict:
        """Return what the tests say of the tree as it is, without any patch."""
        return self._timed(task, None, boxes)

    def regrade(self, task: Task, log: str | Verdict) -> Verdict:
        """Grade a stored log anew, without running anything.

        Args:
            task: The task.
            log: A Verdict with its log, the log itself, or the `test_output.txt` of SWE-bench's harness.
        """
        if isinstance(log, str):
            return judge_log(log, self._expectation(task))
        if not log.log:
            return log  # nothing was run then, so there is nothing to read anew
        verdict = judge_log(log.log, self._expectation(task))
        applied = log.patch_applied if verdict.patch_applied is None else verdict.patch_applied
        notes = verdict.notes or log.notes
        return replace(
            verdict, patch_applied=applied, notes=notes, seconds=log.seconds, snapshot=log.snapshot, tier=log.tier
        )

    def spec(self, task: Task) -> Spec:
        """Return how a task's tests are run: as its Snapshot says, or else as the task alone does; nothing is built."""
        return self.sandboxes.cache.spec(task) or spec_for(task, tables=self.sandboxes.cache.specs)

    def _expectation(self, task: Task) -> Expectation:
        return Expectation.of(task, self.spec(task))

    def _timed(self, task: Task, patch: str | None, boxes: OpenBoxes | None) -> Verdict:
        started = time.monotonic()
        logger.debug("grading %s: %s", task.id, "the untouched tree" if patch is None else "a patch")
        try:
            verdict = self._run(task, patch, boxes or OpenBoxes())
        except (LabError, OSError) as error:  # the recording boundary: never held against the patch
            verdict = Verdict(NOT_GRADED, f"{NOT_RUN}: {error}", cause=Cause.INFRASTRUCTURE)
        seconds = time.monotonic() - started
        level = logging.WARNING if verdict.cause is Cause.INFRASTRUCTURE else logging.DEBUG
        facts = (task.id, verdict.status, verdict.cause, seconds, verdict.reason)
        logger.log(level, "graded %s: %s (%s) after %.1f s %s", *facts)
        return replace(verdict, seconds=seconds, tier=verdict.tier or self.sandboxes.tier)

    def _run(self, task: Task, patch: str | None, boxes: OpenBoxes) -> Verdict:
        if patch is not None and not patch.strip():
            return Verdict(UNRESOLVED, EMPTY, official=UNRESOLVED, cause=Cause.NOT_APPLIED)
        snapshot = self.sandboxes.snapshot(task)
        with self.sandboxes.open(snapshot, network=self.sandboxes.grading_network) as box, boxes.holding(box):
            runner = TestRunner(box, snapshot, task, self.timeout)
            try:
                run = runner.run(patch)
            except NotApplied as error:
                verdict = does_not_apply(error.output, error.log, error.notes)
            else:
                verdict = replace(judge(run, runner.expected), patch_applied=True if patch else None)
            python = str(snapshot.meta.get("python_note", ""))
            notes = (*filter(None, [python]), *verdict.notes)
            return replace(verdict, snapshot=snapshot.key, tier=box.tier, notes=notes)
