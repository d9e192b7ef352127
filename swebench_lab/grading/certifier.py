"""Certifier: checks tasks themselves: gold and untouched trees through the tests, and the box through an audit."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import GradingError, LabError, describe, outcome_of
from swebench_lab.grading.baseline import Baseline
from swebench_lab.grading.batch import batch
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.files.certificates import (
    AUDITS,
    CHECK_COLUMNS,
    FAILED,
    FLAKY,
    NO_GOLD,
    NOT_CHECKED,
    PASSED,
    Certificate,
    Certificates,
    certify,
    failed_build,
    frame_rows,
    task_digest,
)
from swebench_lab.grading.grader import Grader
from swebench_lab.grading.leaks import audit as leak_audit
from swebench_lab.grading.leaks.audit import Audit
from swebench_lab.grading.leaks.line_index import Scans
from swebench_lab.grading.verifiers.script_run import verifier_of
from swebench_lab.records.tables.overview import Overview, count_title
from swebench_lab.records.task import Task, Tasks, answer_digest
from swebench_lab.records.verdict import UNRESOLVED, Cause, Verdict
from swebench_lab.snapshots.environment.specs import spec_of

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory

logger = logging.getLogger(__name__)


class Certifier:
    """Certifies tasks, and answers from the certificates that it stored before.

    No cache of verdicts is asked: a repeat that runs nothing shows nothing.

    Args:
        grader: What runs the tests.
        certificates: Where certificates are stored.
    """

    def __init__(self, grader: Grader, certificates: Certificates) -> None:
        self.grader = grader
        self.sandboxes = grader.sandboxes
        self.certificates = certificates
        self._scans = Scans(Path(self.sandboxes.cache.root) / "scans")

    def check(
        self,
        tasks: Iterable[Task] | Task,
        repeats: int,
        *,
        workers: int,
        again: bool,
        audit: str,
        delete_after: bool,
        progress: bool,
    ) -> Overview:
        """Certify many tasks; see `Evaluator.check`."""
        import polars as pl

        if audit not in AUDITS:
            raise ValueError(f"check(audit={audit!r}): must be one of {', '.join(map(repr, AUDITS))}")
        if repeats < 1:
            raise ValueError(f"check(repeats={repeats}): at least one run is needed")
        collection = Tasks([tasks] if isinstance(tasks, Task) else tasks)
        queue = _environments_first(collection) if not delete_after else sorted(collection, key=_environment)
        deletion = _Deletion(self.sandboxes, queue) if delete_after else None

        def one(task: Task, boxes: OpenBoxes) -> Certificate:
            # the recording boundary of a batch: what one task breaks on loses no other certificate
            before = outcome_of(lambda: self.sandboxes.key(task))
            certificate = outcome_of(lambda: self.certificate(task, repeats, again=again, audit=audit, boxes=boxes))
            if isinstance(certificate, Exception):
                logger.error("certifying %s: %s", task.id, describe(certificate), exc_info=certificate)
                certificate = Certificate(task.id, NOT_CHECKED, describe(certificate))
            if deletion:
                deletion.count_task(task, {before if isinstance(before, str) else "", certificate.snapshot})
            return certificate

        results = batch(queue, one, lambda certificate: certificate.status, "check", workers, progress)
        certificates = {queue[i].id: certificate for i, certificate in results}
        frame = pl.DataFrame(frame_rows(certificates[task.id] for task in collection), schema=CHECK_COLUMNS)
        return Overview(frame, count_title("check", frame), ("id", "status", "reason", "seconds", "flaky"))

    def certificate(
        self, task: Task, repeats: int = 1, *, again: bool = False, audit: str = "own", boxes: OpenBoxes | None = None
    ) -> Certificate:
        """Return a task's certificate: the one stored beside its Snapshot when it fits, else a new one."""
        start = time.monotonic()
        if not again and (existing := self._fitting(task, repeats, audit)):  # also when its Snapshot was removed since
            return existing
        try:
            snapshot = self.sandboxes.snapshot(task)
        except (LabError, OSError) as error:
            logger.warning("certifying %s: its Snapshot could not be built: %s", task.id, error)
            return replace(failed_build(task.id, error), seconds=time.monotonic() - start)
        digest = task_digest(task, spec_of(snapshot))
        if not again and (existing := self._fitting(task, repeats, audit)):
            return existing
        logger.debug("certifying %s: %d repeats, audit %s", task.id, repeats, audit)
        certificate, logs = self._certify(task, snapshot, repeats, audit, boxes or OpenBoxes())
        certificate = replace(
            certificate, seconds=time.monotonic() - start, task_digest=digest, answer_digest=answer_digest(task)
        )
        logger.info("certified %s: %s %s", task.id, certificate.status, certificate.reason)
        self.certificates.put(certificate, logs)
        return certificate

    def audit(self, task: Task, scope: str = "all", boxes: OpenBoxes | None = None) -> Audit:
        """Look through a fresh box of a task for its fix; see `Evaluator.audit`."""
        snapshot = self.sandboxes.snapshot(task)
        with (
            self.sandboxes.open(snapshot, network=self.sandboxes.grading_network) as box,
            (boxes or OpenBoxes()).holding(box),
        ):
            return leak_audit.look(box, snapshot, task, scope, self._scans)

    def logs(self, task: Task) -> dict[str, str]:
        """Return the test logs behind a task's certificate, by name; empty before it was checked."""
        key = self.sandboxes.key(task)
        return self.certificates.logs(key, task.id) if key else {}

    def certified(self, tasks: Iterable[Task]) -> Tasks:
        """Return the tasks that hold a certificate which they passed; nothing is run."""
        return Tasks([task for task in tasks if (certificate := self.lookup(task)) and certificate.passed])

    def lookup(self, task: Task) -> Certificate | None:
        """Return the certificate stored of a task as it is now, or None; nothing is run or built."""
        try:
            return self._load(task)
        except (LabError, OSError):  # a build, or a grading, will say it in full
            return None

    def _certify(
        self, task: Task, snapshot: Snapshot, repeats: int, audit: str, boxes: OpenBoxes
    ) -> tuple[Certificate, dict[str, str]]:
        """Run everything that a certificate rests on; return it with the logs behind it."""
        look = self._look(task, snapshot, audit, boxes)
        snapshot, leak = look.snapshot, look.leak
        gold = self._gold(task, repeats, boxes)
        if look.masks_before is not None and gold and not any(verdict.resolved for verdict in gold):
            logger.info("certifying %s: its tests need what was hidden; running them again without hiding it", task.id)
            self.sandboxes.cache.unmask(task, look.masks_before)
            snapshot = self.sandboxes.snapshot(task)
            leak = "leak: other files of its box hold the repaired code, and without them its tests do not run"
            gold = self._gold(task, repeats, boxes)
        untouched = [self.grader.grade_untouched(task, boxes) for _ in range(repeats)]
        certificate = certify(task.id, gold, untouched, self.grader.grade_afresh(task, "", boxes))
        if leak and certificate.status in (PASSED, FLAKY, NO_GOLD):
            certificate = replace(certificate, status=FAILED, reason=leak)
        logs = {f"gold {i}": v.log for i, v in enumerate(gold, 1)}
        logs |= {f"untouched {i}": v.log for i, v in enumerate(untouched, 1)}
        audited = "" if audit == "none" else audit
        if self.grader.baselines:
            digest = task_digest(task, spec_of(snapshot))
            self.grader.baselines.put(snapshot.key, task.id, digest, Baseline.of([*gold, *untouched]))
        return replace(certificate, snapshot=snapshot.key, audit=look.lines, audited=audited), logs

    def _gold(self, task: Task, repeats: int, boxes: OpenBoxes) -> list[Verdict]:
        """Return the verdicts of the gold patch; none where the task has no gold."""
        if not task.has_gold:
            return []
        try:
            patch = self.grader.gold_patch(task, boxes)
        except GradingError as error:
            return [Verdict(UNRESOLVED, str(error), cause=Cause.NOT_APPLIED)]
        return [self.grader.grade_afresh(task, patch, boxes) for _ in range(repeats)]

    def _look(self, task: Task, snapshot: Snapshot, scope: str, boxes: OpenBoxes) -> _Look:
        """Look for the fix, hide what gives it away, and look again."""
        before = None
        lines = [str(snapshot.meta[name]) for name in ("seal", "python_note") if snapshot.meta.get(name)]
        if scope == "none":
            return _Look(snapshot, "", tuple(lines), before)
        if task.verifier is not None:
            return self._look_for_the_verifier(task, snapshot, lines, boxes)
        try:
            audit = self.audit(task, scope, boxes)
            if audit.hits and (paths := leak_audit.masked(audit.hits, str(snapshot.meta["python"]))):
                before = self.sandboxes.cache.masks(task)
                self.sandboxes.cache.mask(task, paths)
                lines += [f"hidden from the box: {hit}" for hit in audit.hits]
                snapshot = self.sandboxes.snapshot(task)
                audit = self.audit(task, scope, boxes)
        except (LabError, OSError) as error:
            logger.warning("certifying %s: the audit could not be made: %s", task.id, error)
            return _Look(snapshot, f"the audit could not be made: {error}", (*lines, f"no audit: {error}"), before)
        first = "; ".join([*map(str, audit.hits[:1]), *audit.git_faults[:1]])
        return _Look(snapshot, first and f"leak: {first}", (*lines, *audit.lines()), before)

    def _look_for_the_verifier(
        self, task: Task, snapshot: Snapshot, lines: list[str], boxes: OpenBoxes
    ) -> _Look:  # fmt: skip
        """Look whether an agent's box shows what only the verifier, or the solution, may have."""
        verifier = verifier_of(task)
        secret = sorted({*verifier.files, *verifier.solution_files, *task.removed})
        with self.sandboxes.open(snapshot) as box, boxes.holding(box):
            leaks = [path for path in secret if box.run(["test", "-e", path]).ok]
        if leaks:
            return _Look(snapshot, f"leak: the box shows {', '.join(leaks)}", (*lines, f"shown: {leaks}"), None)
        return _Look(snapshot, "", (*lines, f"not in the box: {', '.join(secret)}"), None)

    def _load(self, task: Task) -> Certificate | None:
        key = self.sandboxes.key(task)
        return self.certificates.get(key, task.id, task_digest(task, self.grader.spec(task))) if key else None

    def _fitting(self, task: Task, repeats: int, audit: str) -> Certificate | None:
        """Return the certificate stored of a task when it says all that is asked for; nothing is built."""
        certificate = self.lookup(task)
        fits = (
            certificate
            and certificate.decided
            and certificate.tier == self.sandboxes.tier
            and certificate.covers(repeats, audit)
        )
        return certificate if fits else None


@dataclass(frozen=True, slots=True)
class _Look:
    """What an audit came to.

    Attributes:
        snapshot: The Snapshot without what gives the fix away.
        leak: Why the task cannot be trusted; empty when it can.
        lines: What the certificate says of the audit.
        masks_before: What was hidden before, where more is hidden now.
    """

    snapshot: Snapshot
    leak: str
    lines: tuple[str, ...]
    masks_before: tuple[str, ...] | None


# --- the order of many tasks ------------------------------------------------------------------------------------------


def _environment(task: Task) -> tuple[str, str, str]:
    return task.repo, task.version, task.environment_setup_commit


def _environments_first(tasks: Tasks) -> list[Task]:
    """Order tasks so that each environment's first comes before any environment's second: faults show early."""
    counts: Counter[tuple[str, str, str]] = Counter()
    rounds = []
    for task in tasks:
        kind = _environment(task)
        rounds.append((counts[kind], task))
        counts[kind] += 1
    return [task for _, task in sorted(rounds, key=lambda pair: pair[0])]


class _Deletion:
    """Removes the Snapshots of an environment when all its tasks are done."""

    def __init__(self, sandboxes: SandboxFactory, tasks: Iterable[Task]) -> None:
        self._sandboxes = sandboxes
        self._left = Counter(map(_environment, tasks))
        self._keys: dict[tuple[str, str, str], set[str]] = {}
        self._lock = threading.Lock()

    def count_task(self, task: Task, keys: set[str]) -> None:
        """Count a task as done; `keys` are those of its Snapshots."""
        kind = _environment(task)
        with self._lock:
            self._keys.setdefault(kind, set()).update(filter(None, keys))
            self._left[kind] -= 1
            last = not self._left[kind]
        if last:
            self._sandboxes.remove(self._keys[kind])
