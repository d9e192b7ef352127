"""Grader: grades one patch of one task in a fresh sandbox over the task's Snapshot."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from swebench_lab.errors import GradingError, LabError
from swebench_lab.grading.attribution import (
    PATIENCE,
    SECOND_TRY,
    SHARED_LIMITS,
    does_with,
    held_against_the_patch,
    host_kills,
    limit_of,
    may_be_the_patch,
    needs_a_second_try,
    too_busy,
)
from swebench_lab.grading.baseline import Baseline, Baselines
from swebench_lab.grading.canary import OFF, Canary
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.execution.conditions import USUAL, Conditions
from swebench_lab.grading.execution.mutants import Mutator
from swebench_lab.grading.execution.runner import NotApplied, TestRunner
from swebench_lab.grading.execution.test_run import HOST_MEMORY
from swebench_lab.grading.files.certificates import Certificate, Certificates, task_digest
from swebench_lab.grading.grading_cache import GradingCache
from swebench_lab.grading.judge import does_not_apply
from swebench_lab.grading.judge_process import judge_apart, judge_log_apart
from swebench_lab.grading.rules.expectation import Expectation
from swebench_lab.grading.rules.swebench_rules import official_answer_without_a_patch
from swebench_lab.grading.trust import by_certificate, foreign, missing_modules, unsupported
from swebench_lab.grading.verifiers.script_run import VerifierRun, verifier_of
from swebench_lab.grading.verifiers.verdict import judge_reading
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import NOT_GRADED, UNRESOLVED, Cause, Verdict
from swebench_lab.snapshots.environment.specs import Spec, spec_for

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory

EMPTY = "the patch is empty; SWE-bench counts that as unresolved, so nothing was run"
NOTHING_DECIDES = "the task's fail_to_pass is empty, so no test decides; nothing was run"
NOT_RUN = "the tests could not be run"
_HALVED = ("memory", "processes", "disk")

logger = logging.getLogger(__name__)


class Grader:
    """Grades patches; safe for many threads.

    Args:
        sandboxes: Where tests run.
        timeout: Seconds that one test run may take; None: as the task's Spec says.
        cache: What is asked for a verdict first; None: every patch is run.
        baselines: Where it is stored how tasks' tests end without a patch; None: every such run counts for itself.
        certificates: What is asked whether a task's own gold patch is resolved here; None: nothing is.
        canary: What is asked about resolved patches of certified tasks; None: nothing is.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        timeout: float | None = None,
        cache: GradingCache | None = None,
        baselines: Baselines | None = None,
        certificates: Certificates | None = None,
        canary: Canary | None = None,
    ) -> None:
        self.sandboxes = sandboxes
        self.timeout = timeout
        self.cache = cache
        self.baselines = baselines
        self.certificates = certificates
        self.canary = canary if canary and canary.mode != OFF else None
        self._uncertified: set[str] = set()
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def grade(self, task: Task, patch: str, boxes: OpenBoxes | None = None) -> Verdict:
        """Grade a patch, or take its verdict from the cache.

        A run that times out, crashes or is forged is *unresolved* where the task's tests end cleanly without the patch;
        a time-out or crash only if it happens again, with twice the time, while a tree that ends well still does so in
        the usual time (`_again`).

        Args:
            task: The task.
            patch: The patch; an empty one is *unresolved*, and nothing is run.
            boxes: What the sandbox is added to while it is open.
        """
        if self.cache is None:
            return self.consulted(task, self._watched(task, patch, boxes))
        key = self.sandboxes.key(task)
        verdict = self.cache.verdict(task, key, patch or "", lambda: self._watched(task, patch, boxes))
        return self.consulted(task, verdict)

    def consulted(self, task: Task, verdict: Verdict) -> Verdict:
        """Return a verdict as far as the task's certificate supports it; see `trust.by_certificate`."""
        if self.certificates is None:
            return verdict
        certificate = self._certificate(task)
        verdict = by_certificate(verdict, certificate)
        if not (certificate and certificate.passed) and task.id not in self._uncertified:
            self._uncertified.add(task.id)
            logger.warning("grading %s: %s", task.id, next(filter(None, reversed(verdict.notes)), ""))
        return verdict

    def _certificate(self, task: Task) -> Certificate | None:
        """Return the certificate of a task as it is now, or None; nothing is built."""
        if self.certificates is None or not (key := self.sandboxes.key(task)):
            return None
        return self.certificates.get(key, task.id, task_digest(task, self.spec(task)))

    def grade_afresh(self, task: Task, patch: str, boxes: OpenBoxes | None = None) -> Verdict:
        """Run a patch once, whatever a cache may hold; what did not come to its end is *not graded*."""
        return self._timed(task, patch or "", boxes)

    def grade_untouched(self, task: Task, boxes: OpenBoxes | None = None) -> Verdict:
        """Return what the tests say of the tree as it is, without any patch."""
        return self._timed(task, None, boxes)

    def baseline(self, task: Task, limited: bool = False, boxes: OpenBoxes | None = None) -> Baseline:
        """Return how a task's tests end without a patch: as its certificate says, or else by running them once.

        Args:
            task: The task.
            limited: Whether it must say if half of what a sandbox may use would do.
            boxes: What the sandbox is added to while it is open.
        """
        key, digest = self.sandboxes.key(task), task_digest(task, self.spec(task))
        with self._asking[task.id]:
            existing = self.baselines.get(key, task.id, digest) if self.baselines else None
            baseline = existing or Baseline.of([self.grade_untouched(task, boxes)])
            if limited and baseline.clean and baseline.frugal is None:
                limits = self.sandboxes.limits
                half = limits.but(**{name: value // 2 for name in _HALVED if (value := getattr(limits, name))})
                baseline = replace(baseline, frugal=does_with(self._timed(task, None, boxes, Conditions(limits=half))))
            if self.baselines and baseline.clean and baseline != existing:
                self.baselines.put(key, task.id, digest, baseline)
            return baseline

    def _watched(self, task: Task, patch: str, boxes: OpenBoxes | None) -> Verdict:
        """Grade a patch, and where it is resolved ask the canary about it."""
        verdict = self._attributed(task, patch, boxes)
        if not verdict.resolved or not self._has_canary(task) or self.canary is None:
            return verdict
        place = (self.sandboxes.key(task), task.id, task_digest(task, self.spec(task)))

        def run(tree: str | None, mutator: Mutator) -> Verdict:
            return self._timed(task, tree, boxes, Conditions(PATIENCE, mutator=mutator))

        return self.canary.watched(verdict, patch, place, task.gold_patch, run)

    def _has_canary(self, task: Task) -> bool:
        """Whether resolved patches of a task are run against the canary."""
        if self.canary is None or task.verifier is not None:  # no other expectations can be given to a script
            return False
        return bool((certificate := self._certificate(task)) and certificate.passed)

    def _attributed(self, task: Task, patch: str, boxes: OpenBoxes | None) -> Verdict:
        """Grade a patch, and find out who ended a run that did not come to its end."""
        verdict = self._timed(task, patch or "", boxes)
        if task.verifier is None and (lacking := self._lacking(task, verdict, boxes)):
            return unsupported(
                verdict, f"the environment lacks {lacking}, and the untouched tree's tests fail on that too"
            )
        if not may_be_the_patch(verdict):
            return verdict
        baseline = self.baseline(task, limit_of(verdict) in SHARED_LIMITS, boxes)
        if not baseline.clean:
            return replace(verdict, notes=(*verdict.notes, baseline.reason))
        if needs_a_second_try(verdict):
            verdict, busy = self._again(task, patch, verdict, boxes)
            if busy:
                return too_busy(verdict, busy)
        if not may_be_the_patch(verdict) or not self._within_its_means(task, verdict, baseline, boxes):
            return verdict
        logger.info("graded %s: %s is the patch's doing: %s", task.id, verdict.cause, verdict.reason)
        return held_against_the_patch(verdict)

    def _again(self, task: Task, patch: str, first: Verdict, boxes: OpenBoxes | None) -> tuple[Verdict, str]:
        """Run a patch a second time, beside whatever else runs, and find out whether that was fair.

        Nothing waits for it: the same tests of a tree that ends well, run right after it and, where time ran out, right
        before it, show what the load of that time does to them. Unless time ran out, the second run is watched.

        Returns:
            The second verdict, and the tree that did not come to its end beside it; an empty text where all did.
        """
        certificate = self._certificate(task)
        gold = (task.gold_patch or None) if certificate and certificate.ends_cleanly else None
        tree = "the untouched tree" if gold is None else "the gold patch"
        fit = first.cause is not Cause.TIMED_OUT or self._timed(task, gold, boxes).graded
        watched = Conditions(PATIENCE, watched=first.cause is not Cause.TIMED_OUT)
        verdict = self._timed(task, patch or "", boxes, watched)
        verdict = replace(verdict, notes=(*verdict.notes, f"{SECOND_TRY} {first.cause}"))
        if not may_be_the_patch(verdict) or (fit and self._timed(task, gold, boxes).graded):
            return verdict, ""
        return verdict, tree

    def _lacking(self, task: Task, verdict: Verdict, boxes: OpenBoxes | None) -> str:
        """Return the packages for want of which a patch is unresolved, and the untouched tree is no better off."""
        modules = missing_modules(verdict.log) if verdict.status == UNRESOLVED else frozenset()
        modules = foreign(modules, task)
        if not modules or ((certificate := self._certificate(task)) and certificate.passed):
            return ""
        return ", ".join(sorted(modules & set(self.baseline(task, boxes=boxes).missing.split())))

    def _within_its_means(self, task: Task, verdict: Verdict, baseline: Baseline, boxes: OpenBoxes | None) -> bool:
        """Whether a limit that ended a run, if one did, is one that the task's own tests stay well below."""
        limit = limit_of(verdict)
        if limit == "disk" and self.sandboxes.scratch is not None:
            return False  # boxes write to a disk of the host, which others fill too
        if limit not in SHARED_LIMITS:
            return True
        return bool(baseline.frugal if baseline.frugal is not None else self.baseline(task, True, boxes).frugal)

    def gold_patch(self, task: Task, boxes: OpenBoxes | None = None) -> str:
        """Return the patch that solves a task: its gold patch, or what its solution makes of a fresh sandbox.

        Raises:
            GradingError: There is neither, or the solution changes nothing.
        """
        if task.gold_patch.strip():
            return task.gold_patch
        if not task.has_gold:
            raise GradingError(f"task {task.id} has no gold: neither a patch nor a solution")
        return self._verifier_run(task, self.sandboxes.snapshot(task), boxes or OpenBoxes()).gold()

    def regrade(self, task: Task, log: str | Verdict) -> Verdict:
        """Grade a stored log anew, without running anything.

        Args:
            task: The task.
            log: A Verdict with its log, the log itself, or the `test_output.txt` of SWE-bench's harness.

        Raises:
            GradingError: The task is graded by a script of its own, whose outcome is not in its log.
        """
        if task.verifier is not None:
            raise GradingError(
                f"grading the log of task {task.id} anew: it is graded by a script of its own ({task.verifier.kind}), and "
                "its log does not hold the outcome; grade the patch again"
            )
        if isinstance(log, str):
            return self._reattributed(task, judge_log_apart(log, self._expectation(task)))
        if not log.log:
            return log  # nothing was run then, so there is nothing to read anew
        verdict = judge_log_apart(log.log, self._expectation(task))
        if log.graded and may_be_the_patch(verdict):
            verdict = held_against_the_patch(verdict)
        applied = log.patch_applied if verdict.patch_applied is None else verdict.patch_applied
        notes = log.notes or verdict.notes
        return replace(
            verdict, patch_applied=applied, notes=notes, seconds=log.seconds, snapshot=log.snapshot, tier=log.tier
        )

    def spec(self, task: Task) -> Spec:
        """Return how a task's tests are run: as its Snapshot says, or else as the task alone does; nothing is built."""
        return self.sandboxes.cache.spec(task) or spec_for(task, tables=self.sandboxes.cache.specs)

    def _expectation(self, task: Task) -> Expectation:
        return Expectation.of(task, self.spec(task))

    def _reattributed(self, task: Task, verdict: Verdict) -> Verdict:
        """Hold a stored run against its patch where a baseline is at hand; nothing is run."""
        key = self.sandboxes.key(task)
        if not (self.baselines and key and may_be_the_patch(verdict)):
            return verdict
        baseline = self.baselines.get(key, task.id, task_digest(task, self.spec(task)))
        conclusive = baseline and baseline.clean and (limit_of(verdict) not in SHARED_LIMITS or baseline.frugal)
        return held_against_the_patch(verdict) if conclusive else verdict

    def _timed(
        self, task: Task, patch: str | None, boxes: OpenBoxes | None, conditions: Conditions = USUAL
    ) -> Verdict:  # fmt: skip
        """Run the tests once.

        Args:
            task: The task.
            patch: The patch; None: the untouched tree.
            boxes: What the sandbox is added to while it is open.
            conditions: In what this run differs from others.
        """
        start = time.monotonic()
        logger.debug("grading %s: %s", task.id, "the untouched tree" if patch is None else "a patch")
        try:
            verdict = self._run(task, patch, boxes or OpenBoxes(), conditions)
        except (LabError, OSError) as error:  # the recording boundary: never held against the patch
            verdict = Verdict(NOT_GRADED, f"{NOT_RUN}: {error}", cause=Cause.INFRASTRUCTURE)
        seconds = time.monotonic() - start
        level = logging.WARNING if verdict.cause is Cause.INFRASTRUCTURE else logging.DEBUG
        facts = (task.id, verdict.status, verdict.cause, seconds, verdict.reason)
        logger.log(level, "graded %s: %s (%s) after %.1f s %s", *facts)
        return replace(verdict, seconds=seconds, tier=verdict.tier or self.sandboxes.tier)

    def _run(self, task: Task, patch: str | None, boxes: OpenBoxes, conditions: Conditions) -> Verdict:
        if patch is not None and not patch.strip():
            official = "" if task.verifier else official_answer_without_a_patch(self._expectation(task))
            return Verdict(UNRESOLVED, EMPTY, official=official, cause=Cause.NOT_APPLIED)
        if not task.fail_to_pass and task.verifier is None:  # any patch would be resolved
            return Verdict(NOT_GRADED, NOTHING_DECIDES, cause=Cause.INFRASTRUCTURE)
        snapshot = self.sandboxes.snapshot(task)
        if task.verifier is not None:
            return self._run_verifier(task, snapshot, patch, boxes, conditions)
        if conditions.mutator is None and self._has_canary(task):
            conditions = replace(conditions, mutator=Mutator())
        with self._open(task, conditions)(snapshot) as box, boxes.holding(box):
            runner = TestRunner(box, snapshot, task, self.timeout, boxes, conditions)
            kills = host_kills()
            try:
                run = runner.run(patch)
            except NotApplied as error:
                verdict = does_not_apply(error.output, error.log, runner.expected, error.notes)
            else:
                verdict = judge_apart(run, runner.expected)
                if not verdict.graded and not run.limit and not box.counts_kills and host_kills() > kills:
                    verdict = judge_apart(replace(run, limit=HOST_MEMORY), runner.expected)
                verdict = replace(verdict, patch_applied=True if patch else None)
            python = str(snapshot.meta.get("python_note", ""))
            notes = (*filter(None, [python]), *verdict.notes)
            return replace(verdict, snapshot=snapshot.key, tier=box.tier, notes=notes)

    # --- tasks with a verifier of their own -------------------------------------------------------------------------

    def _open(self, task: Task, conditions: Conditions) -> Callable[..., Sandbox]:
        """Return what opens a box for grading."""
        opener = partial(self.sandboxes.open, network=self.sandboxes.network_for(task, grading=True))
        return opener if conditions.limits is None else partial(opener, limits=conditions.limits)

    def _run_verifier(
        self, task: Task, snapshot: Snapshot, patch: str | None, boxes: OpenBoxes, conditions: Conditions
    ) -> Verdict:
        script = self._verifier_run(task, snapshot, boxes, conditions)
        kills = host_kills()
        try:
            run, reading = script.run(patch)
        except NotApplied as error:
            verdict = does_not_apply(error.output, error.log, self._expectation(task), error.notes)
        else:
            if (run.limit or run.fault) and not script.counts_kills and host_kills() > kills:
                run = replace(run, limit=HOST_MEMORY)
            verdict = replace(judge_reading(task, run, reading), patch_applied=True if patch else None)
        base = str(snapshot.meta.get("python_note", ""))
        return replace(verdict, snapshot=snapshot.key, tier=script.tier, notes=(*filter(None, [base]), *verdict.notes))

    def _verifier_run(
        self, task: Task, snapshot: Snapshot, boxes: OpenBoxes, conditions: Conditions = USUAL
    ) -> VerifierRun:
        verifier = verifier_of(task)
        place = self.sandboxes.cache.image_source(task)
        base = self.sandboxes.cache.root_of(place, snapshot) if place else snapshot
        base = replace(base, workdir=snapshot.workdir)
        separate = self.sandboxes.cache.root_of(verifier.source, snapshot) if verifier.source else base
        here = self.sandboxes.cache.root_of("", snapshot)
        timeout = (self.timeout or verifier.timeout) * conditions.patience
        return VerifierRun(task, snapshot, base, separate, here, self._open(task, conditions), timeout, boxes)
