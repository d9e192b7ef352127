"""Evaluator: grades patches in fresh sandboxes, and certifies the tasks themselves."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from swebench_lab.errors import LabError, RecordError
from swebench_lab.grading import leak_audit as leaks
from swebench_lab.grading.certificates import (
    AUDITS,
    FAILED,
    FLAKY,
    PASSED,
    Certificate,
    Certificates,
    certify,
    failed_build,
    frame_rows,
    task_digest,
)
from swebench_lab.grading.judge import Grade, TestRun, grade_log, judge
from swebench_lab.grading.leak_audit import Audit
from swebench_lab.grading.test_run import NOT_RUN, Bench, NotApplied, expectation
from swebench_lab.grading.verdicts import KeptVerdicts, Prediction, Verdicts, read_predictions, verdict_key
from swebench_lab.records.task import Task, Tasks, answer_digest
from swebench_lab.records.verdict import NOT_GRADED, UNRESOLVED, Verdict
from swebench_lab.snapshots.environment.specs import Spec, spec_for, spec_of

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory

EMPTY = "the patch is empty; SWE-bench counts that as unresolved, so nothing was run"

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class Evaluator:
    """Grades patches by the tasks' own tests, each in a fresh sandbox over the task's Snapshot.

    A patch never meets the sandbox it was written in. It is applied as SWE-bench applies it; then every test and
    harness file is put back as it was, files it planted to steer pytest or Python are removed (the Verdict's notes name
    them), and SWE-bench's own parsers and rules read the log. A fault of ours is *not graded*, never *unresolved*.

    Args:
        sandboxes: Where tests run.
        timeout: Seconds that one test run may take; None: as the task's Spec says.
        workers: How many patches are graded at once; None: one for each processor.
        certificates: Folder of the certificates that `check` writes; None: beside the Snapshots.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        timeout: float | None = None,
        *,
        workers: int | None = None,
        certificates: str | Path | None = None,
    ) -> None:
        self.sandboxes = sandboxes
        self.timeout = timeout
        self.workers = workers or os.cpu_count() or 1
        self._thread = threading.local()
        self._scans = leaks.Scans(Path(sandboxes.cache.root) / "scans")
        self.certificates = Certificates(certificates or Path(sandboxes.cache.root) / "certificates")

    # --- grading ----------------------------------------------------------------------------------------------------

    @overload
    def grade(self, what: Task, patch: str, /) -> Verdict: ...
    @overload
    def grade(
        self,
        what: str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]],
        tasks: Iterable[Task],
        /,
        *,
        workers: int | None = None,
        keep: str | Path | None = None,
        progress: bool = True,
        backend: str = "",
        folder: str | Path | None = None,
    ) -> Verdicts: ...
    def grade(
        self,
        what: Any,
        other: Any,
        /,
        *,
        workers: int | None = None,
        keep: str | Path | None = None,
        progress: bool = True,
        backend: str = "",
        folder: str | Path | None = None,
    ) -> Verdict | Verdicts:
        """Grade one patch, or a file or collection of predictions.

        Args:
            what: The task; or predictions: a `preds.json` or `.jsonl` path, a mapping by task id, or a list.
            other: The patch; or the tasks that the predictions are for.
            workers: How many predictions are graded at once; None: as the Evaluator was made.
            keep: A `.jsonl` file to which each verdict is appended as it comes; a rerun takes from it what was graded
                already, of the same patch and task in the same Snapshot. What is not graded is tried again.
            progress: Whether a bar with the counts of each status is shown.
            backend: `"swebench"`: predictions are graded by SWE-bench's official harness on a container engine instead;
                `grade_officially` compares the two.
            folder: Where the official harness writes its logs, and finds them on a rerun.

        Returns:
            A Verdict; or Verdicts by task id, which also write the harness's reports.

        Raises:
            ValueError: The backend is unknown, or the official harness is given no folder or a single patch.
            RecordError: The predictions cannot be read, or name a task that is not among the tasks.
        """
        if backend not in ("", "swebench"):
            raise ValueError(f"grade(backend={backend!r}): must be 'swebench'; other sandboxes are the Evaluator's own")
        if backend and (folder is None or isinstance(what, Task)):
            raise ValueError("grade(backend='swebench'): takes predictions, and a folder= where the harness may write")
        if isinstance(what, Task):
            return self._grade_one(what, other)
        if folder is not None and backend:
            from swebench_lab.grading.harness import grade_officially

            return grade_officially(what, other, folder, workers=workers or self.workers)
        predictions, tasks = read_predictions(what), Tasks(other)
        if unknown := sorted(set(predictions) - set(tasks.ids)):
            more = f" and {len(unknown) - 1} more" * (len(unknown) > 1)
            raise RecordError(
                f"grading predictions: no task has the id {unknown[0]!r}{more}; give the tasks they are for"
            )

        kept = KeptVerdicts(keep) if keep else None

        def one(prediction: Prediction) -> Verdict:
            task = tasks[prediction.task_id]
            name = verdict_key(task, prediction, self.sandboxes.key(task) if kept else "")
            if kept and (found := kept.get(name)):
                return found
            made = self._grade_one(task, prediction.patch)
            if kept:
                # the key is asked for again: only now is the Snapshot there for certain
                kept.put(verdict_key(task, prediction, self.sandboxes.key(task)), task.id, made)
            return made

        ordered = [predictions[task.id] for task in tasks if task.id in predictions]
        done = self._each(ordered, one, lambda v: v.status, "grade", workers, progress)
        made = {ordered[i].task_id: verdict for i, verdict in done}
        return Verdicts({p.task_id: made[p.task_id] for p in ordered}, predictions, tasks)

    def grade_officially(
        self, predictions: str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]], tasks: Iterable[Task],
        folder: str | Path, **options: Any,
    ) -> tuple[Verdicts, pl.DataFrame]:  # fmt: skip
        """Grade the same predictions here and by the official harness on a container engine.

        Args:
            predictions: As for `grade`.
            tasks: Rows of SWE-bench 5, which name an image and an evaluation script.
            folder: Where the harness writes.
            **options: As for `official.grade_officially`.

        Returns:
            The harness's Verdicts, and a table of both side by side.
        """
        from swebench_lab.grading.harness import agreement, grade_officially

        chosen = Tasks(tasks)
        theirs = grade_officially(predictions, chosen, folder, **options)
        return theirs, agreement(self.grade(predictions, chosen), theirs)

    def regrade(self, task: Task, log: str | Verdict) -> Verdict:
        """Grade a stored log anew, without running anything.

        Args:
            task: The task.
            log: A Verdict with its log, the log itself, or the `test_output.txt` of SWE-bench's harness.
        """
        before = log if isinstance(log, Verdict) else Verdict(NOT_GRADED, log=log)
        if isinstance(log, Verdict) and not before.log:
            return before  # nothing was run then, so there is nothing to read anew
        grade = grade_log(before.log, expectation(task, self._spec(task)))
        run = TestRun.from_log(before.log)
        made = _verdict(grade, replace(run, notes=run.notes or before.notes), before.log)
        applied = grade.applied if grade.applied is not None else before.patch_applied
        return replace(made, patch_applied=applied, seconds=before.seconds, snapshot=before.snapshot, tier=before.tier)

    def _grade_one(self, task: Task, patch: str | None, *, untouched: bool = False) -> Verdict:
        """Grade one patch; `untouched` runs the tests on the tree as it is."""
        started = time.monotonic()
        verdict = Verdict(UNRESOLVED, EMPTY, official=UNRESOLVED)
        if untouched or (patch or "").strip():
            try:
                verdict = self._run(task, None if untouched else patch)
            except (LabError, OSError) as error:
                verdict = Verdict(NOT_GRADED, f"{NOT_RUN}: {error}")
        return replace(verdict, seconds=time.monotonic() - started, tier=verdict.tier or self.sandboxes.tier)

    def _run(self, task: Task, patch: str | None) -> Verdict:
        snapshot = self.sandboxes.snapshot(task)
        with self.sandboxes.open(snapshot) as box, self._noted(box):
            bench = Bench(box, snapshot, task, self.timeout)
            try:
                run = bench.run(patch)
            except NotApplied as error:
                made = Verdict(UNRESOLVED, str(error), False, log=error.log, notes=error.notes, official=UNRESOLVED)
            else:
                made = replace(
                    _verdict(judge(run, bench.expected), run, run.to_log()), patch_applied=True if patch else None
                )
            other = str(snapshot.meta.get("python_note", ""))
            return replace(made, snapshot=snapshot.key, tier=box.tier, notes=(*filter(None, [other]), *made.notes))

    # --- certifying -------------------------------------------------------------------------------------------------

    def check(
        self,
        tasks: Iterable[Task] | Task,
        repeats: int = 1,
        *,
        workers: int | None = None,
        again: bool = False,
        audit: str = "own",
        delete_after: bool = False,
        progress: bool = True,
    ) -> pl.DataFrame:
        """Certify tasks: gold → resolved, untouched → unresolved, empty patch → unresolved, the same on every repeat.

        A box in which the fix can be found certifies nothing: a file that holds another copy of the repaired code is
        hidden from the task's boxes from then on, and where that is not enough the task fails.

        Certificates are kept beside the Snapshots, so a rerun checks only what is new or was asked for more repeats.

        Args:
            tasks: The tasks.
            repeats: How often gold and untouched are each run.
            workers: How many tasks are checked at once; None: as the Evaluator was made.
            again: Whether tasks that hold a certificate are checked all the same.
            audit: What is looked through for the fix: `"own"` (git, the repository, the venv), `"all"` (every file that
                a box shows, /usr included: some minutes for the first task, then a second or two), or `"none"`.
            delete_after: Whether Snapshots are removed when the last task of their environment was checked, so that
                thousands of tasks need the room of one environment's; certificates and logs stay.
            progress: Whether a bar with the counts of each status is shown.

        Returns:
            A polars frame, one row a task in the tasks' order: status, reason, what each run said, flaky tests.
        """
        import polars as pl

        if audit not in AUDITS:
            raise ValueError(f"check(audit={audit!r}): must be one of {', '.join(map(repr, AUDITS))}")
        if repeats < 1:
            raise ValueError(f"check(repeats={repeats}): at least one run is needed")
        chosen = Tasks([tasks] if isinstance(tasks, Task) else tasks)

        ordered = _environments_first(chosen) if not delete_after else sorted(chosen, key=_environment)
        deleting = _Deleting(self.sandboxes, ordered) if delete_after else None

        def one(task: Task) -> Certificate:
            before = self.sandboxes.key(task)
            made = self.certificate(task, repeats, again=again, audit=audit)
            if deleting:
                deleting.done(task, {before, made.snapshot})
            return made

        done = self._each(ordered, one, lambda c: c.status, "check", workers, progress)
        made = {ordered[i].id: certificate for i, certificate in done}
        return pl.DataFrame(frame_rows(made[task.id] for task in chosen), schema=_CHECK)

    def certificate(self, task: Task, repeats: int = 1, *, again: bool = False, audit: str = "own") -> Certificate:
        """Return a task's certificate: the one kept beside its Snapshot when it fits, else a new one; see `check`."""
        started = time.monotonic()
        if not again and (kept := self._fitting(task, repeats, audit)):  # also when its Snapshot was removed since
            return kept
        try:
            snapshot = self.sandboxes.snapshot(task)
        except (LabError, OSError) as error:
            return replace(failed_build(task.id, error), seconds=time.monotonic() - started)
        digest = task_digest(task, spec_of(snapshot))
        if not again and (kept := self._fitting(task, repeats, audit)):
            return kept
        snapshot, leak, audited, before = self._audit(task, snapshot, audit)
        gold = [self._grade_one(task, task.gold_patch) for _ in range(repeats)]
        if before is not None and not any(verdict.resolved for verdict in gold):
            self.sandboxes.cache.unmask(task, before)  # its tests need what gives it away
            snapshot = self.sandboxes.snapshot(task)
            leak = "leak: other files of its box hold the repaired code, and without them its tests do not run"
            gold = [self._grade_one(task, task.gold_patch) for _ in range(repeats)]
        untouched = [self._grade_one(task, None, untouched=True) for _ in range(repeats)]
        made = certify(task.id, gold, untouched, self._grade_one(task, ""))
        if leak and made.status in (PASSED, FLAKY):
            made = replace(made, status=FAILED, reason=leak)
        made = replace(
            made,
            seconds=time.monotonic() - started,
            snapshot=snapshot.key,
            task_digest=digest,
            answer_digest=answer_digest(task),
            audit=audited,
            audited="" if audit == "none" else audit,
        )
        logs = {f"gold {i}": v.log for i, v in enumerate(gold, 1)} | {
            f"untouched {i}": v.log for i, v in enumerate(untouched, 1)
        }
        self.certificates.put(made, logs)
        return made

    def audit(self, task: Task, scope: str = "all") -> Audit:
        """Look through a fresh box of a task for its fix, as an agent could: git, other copies of the repaired code.

        Args:
            task: The task.
            scope: `"all"`: every file that the box shows; `"own"`: git, the repository and the venv.

        Returns:
            What was found; nothing is hidden because of it (`check` does that).
        """
        snapshot = self.sandboxes.snapshot(task)
        with self.sandboxes.open(snapshot) as box, self._noted(box):
            return leaks.look(box, snapshot, task, scope, self._scans)

    def _audit(
        self, task: Task, snapshot: Snapshot, scope: str
    ) -> tuple[Snapshot, str, tuple[str, ...], tuple[str, ...] | None]:
        """Return the Snapshot without what gives the fix away, why the task cannot be trusted, and what was found.

        The last is what was hidden before, where more is hidden now.
        """
        before = None
        noted = [str(snapshot.meta[name]) for name in ("seal", "python_note") if snapshot.meta.get(name)]
        if scope == "none":
            return snapshot, "", tuple(noted), before
        try:
            found = self.audit(task, scope)
            if found.hits and (paths := leaks.masked(found.hits, str(snapshot.meta["python"]))):
                before = self.sandboxes.cache.masks(task)
                self.sandboxes.cache.mask(task, paths)
                noted += [f"hidden from the box: {hit}" for hit in found.hits]
                snapshot = self.sandboxes.snapshot(task)
                found = self.audit(task, scope)
        except (LabError, OSError) as error:
            return snapshot, f"the audit could not be made: {error}", (*noted, f"no audit: {error}"), before
        said = "; ".join([*map(str, found.hits[:1]), *found.git_faults[:1]])
        return snapshot, said and f"leak: {said}", (*noted, *found.lines()), before

    def logs(self, task: Task) -> dict[str, str]:
        """Return the test logs behind a task's certificate: `gold 1`, `untouched 1` and so on; empty before `check`."""
        key = self.sandboxes.key(task)
        return self.certificates.logs(key, task.id) if key else {}

    def certified(self, tasks: Iterable[Task]) -> Tasks:
        """Return the tasks that hold a certificate which they passed; nothing is run."""
        return Tasks([task for task in tasks if (kept := self._kept(task)) and kept.passed])

    def _kept(self, task: Task) -> Certificate | None:
        key = self.sandboxes.key(task)
        return self.certificates.get(key, task.id, task_digest(task, self._spec(task))) if key else None

    def _fitting(self, task: Task, repeats: int, audit: str) -> Certificate | None:
        """Return the certificate kept of a task when it says all that is asked for; nothing is built."""
        try:
            kept = self._kept(task)
        except (LabError, OSError):  # the build will say it in full
            return None
        fits = kept and kept.decided and kept.tier == self.sandboxes.tier and kept.covers(repeats, audit)
        return kept if fits else None

    def _spec(self, task: Task) -> Spec:
        """Return how a task's tests are run: as its Snapshot says, or else as the task alone does; nothing is built."""
        return self.sandboxes.cache.spec(task) or spec_for(task, tables=self.sandboxes.cache.specs)

    # --- many at once -----------------------------------------------------------------------------------------------

    def _each(
        self,
        items: Sequence[_Item],
        make: Callable[[_Item], _Made],
        status: Callable[[_Made], str],
        name: str,
        workers: int | None,
        progress: bool,
    ) -> Iterator[tuple[int, _Made]]:
        """Yield (index, result) as results come, under a bar with the counts of each status."""
        from tqdm.auto import tqdm

        counts: dict[str, int] = {}
        boxes = OpenBoxes()
        threads = max(1, min(workers or self.workers, len(items)))
        pool = ThreadPoolExecutor(threads, name, initializer=lambda: setattr(self._thread, "boxes", boxes))
        try:
            with tqdm(total=len(items), desc=name, unit="task", disable=not progress) as bar:
                waiting = {pool.submit(make, item): i for i, item in enumerate(items)}
                for future in as_completed(waiting):
                    made = future.result()
                    counts[status(made)] = counts.get(status(made), 0) + 1
                    bar.set_postfix(counts, refresh=False)
                    bar.update()
                    yield waiting[future], made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            boxes.close()  # finds some only when stopped early: else all tests have come to their end
            pool.shutdown(wait=True)

    @contextmanager
    def _noted(self, box: Sandbox) -> Iterator[None]:
        """Let whoever started this thread close the box when it is told to stop."""
        boxes: OpenBoxes = getattr(self._thread, "boxes", None) or OpenBoxes()
        boxes.add(box)
        try:
            yield
        finally:
            boxes.discard(box)

    @contextmanager
    def opening_into(self, boxes: OpenBoxes) -> Iterator[None]:
        """Let what this thread opens in the block be known to `boxes`, so that another thread can close it at once."""
        before = getattr(self._thread, "boxes", None)
        self._thread.boxes = boxes
        try:
            yield
        finally:
            self._thread.boxes = before

    def __reduce__(self) -> tuple[Callable[..., Evaluator], tuple[Any, ...]]:
        return _remake, (self.sandboxes, self.timeout, self.workers, self.certificates.root)

    def __repr__(self) -> str:
        """Return one line: where tests run, and for how long at most."""
        limit = f", timeout={self.timeout:g}" if self.timeout else ""
        return f"Evaluator({self.sandboxes!r}{limit})"


def _remake(sandboxes: SandboxFactory, timeout: float | None, workers: int, certificates: Path) -> Evaluator:
    return Evaluator(sandboxes, timeout, workers=workers, certificates=certificates)


class OpenBoxes:
    """The open sandboxes of one running batch, so that stopping it closes them all at once."""

    def __init__(self) -> None:
        self._open: set[Sandbox] = set()
        self._lock = threading.Lock()
        self._closed = False

    def add(self, box: Sandbox) -> None:
        with self._lock:
            self._open.add(box)
            closed = self._closed
        if closed:
            box.close()

    def discard(self, box: Sandbox) -> None:
        with self._lock:
            self._open.discard(box)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            boxes = list(self._open)
        for box in boxes:
            box.close()


_CHECK: dict[str, Any] = {
    "id": str,
    "status": str,
    "reason": str,
    "gold": list[str],
    "untouched": list[str],
    "empty": str,
    "flaky": list[str],
    "official": str,
    "seconds": float,
    "gold_seconds": float,
    "snapshot": str,
    "tier": str,
    "audit": list[str],
}


def _environment(task: Task) -> tuple[str, str, str]:
    return task.repo, task.version, task.environment_setup_commit


class _Deleting:
    """Removes the Snapshots of an environment when all its tasks are done."""

    def __init__(self, sandboxes: SandboxFactory, tasks: Iterable[Task]) -> None:
        self._sandboxes = sandboxes
        self._left = Counter(map(_environment, tasks))
        self._keys: dict[tuple[str, str, str], set[str]] = {}
        self._lock = threading.Lock()

    def done(self, task: Task, keys: set[str]) -> None:
        kind = _environment(task)
        with self._lock:
            self._keys.setdefault(kind, set()).update(filter(None, keys))
            self._left[kind] -= 1
            last = not self._left[kind]
        if last:
            self._sandboxes.remove(self._keys[kind])


def _environments_first(tasks: Tasks) -> list[Task]:
    """Order tasks so that each environment's first comes before any environment's second: faults show early."""
    seen: dict[tuple[str, str, str], int] = {}
    rounds = []
    for task in tasks:
        kind = _environment(task)
        rounds.append((seen.setdefault(kind, 0), task))
        seen[kind] += 1
    return [task for _, task in sorted(rounds, key=lambda pair: pair[0])]


def _verdict(grade: Grade, run: TestRun, log: str) -> Verdict:
    lists = ({side: tuple(ids) for side, ids in kind.items()} for kind in (grade.fail_to_pass, grade.pass_to_pass))
    fail_to_pass, pass_to_pass = lists
    return Verdict(
        status=grade.status,
        reason=grade.reason,
        tests=dict(grade.tests),
        fail_to_pass=fail_to_pass,
        pass_to_pass=pass_to_pass,
        exit_code=run.exit_code,
        log=log,
        notes=run.notes,
        official=grade.official,
    )
