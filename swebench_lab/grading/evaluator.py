"""Evaluator: the one face of grading: patches, files of predictions, stored logs, and the tasks themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.grading.baseline import Baselines
from swebench_lab.grading.canary import DECIDE, Canary
from swebench_lab.grading.certifier import Certifier
from swebench_lab.grading.evaluation import evaluate
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.files.certificates import Certificate, Certificates
from swebench_lab.grading.files.predictions import Predictions
from swebench_lab.grading.files.verdicts import Verdicts
from swebench_lab.grading.grader import Grader
from swebench_lab.grading.grading_cache import GradingCache
from swebench_lab.grading.harness import evaluate_officially
from swebench_lab.grading.leaks.audit import Audit
from swebench_lab.records.tables.overview import Overview
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.verdict import Verdict

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory


class Evaluator:
    """Grades patches by the tasks' own tests, each in a fresh sandbox over the task's Snapshot.

    A patch never meets the sandbox it was written in. It is applied as SWE-bench applies it; then every test and
    harness file is put back as it was, files it planted to steer pytest or Python are removed (the Verdict's notes name
    them), and SWE-bench's own parsers and rules read the log. What the patch did is the patch's: where the task's tests
    end cleanly without it, a time-out, a crash or a forged run is *unresolved*, with its cause. An infrastructure error
    is *not graded*, never *unresolved*.

    Args:
        sandboxes: Where tests run.
        timeout: Seconds that one test run may take; None: as the task's Spec says.
        workers: How many patches are graded at once; None: one for each processor.
        certificates: Folder of the certificates that `check` writes; None: beside the Snapshots.
        cache: What is asked for a verdict before a patch is run (`check` never asks it); None: every patch is run. It
            is not carried along when an Evaluator is pickled.
        canary: What is done about a resolved patch of a certified task that still passes when the values that its tests
            expect are changed, so that nobody compared anything: `"decide"` (*unresolved*, forged, where every such
            change is known to fail with the gold patch and with none, elsewhere a note of the Verdict), `"note"` (that
            note alone) or `"off"` (such tests are not run). It costs one more run of the tests for each resolved patch,
            and two for each task.

    Raises:
        ValueError: The canary is unknown.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        timeout: float | None = None,
        *,
        workers: int | None = None,
        certificates: str | Path | None = None,
        cache: GradingCache | None = None,
        canary: str = DECIDE,
    ) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.certificates = Certificates(certificates or Path(sandboxes.cache.root) / "certificates")
        watch = Canary(canary, self.certificates)
        self._grader = Grader(sandboxes, timeout, cache, Baselines(self.certificates), self.certificates, watch)
        self.canary = canary
        self._certifier = Certifier(self._grader, self.certificates)

    @property
    def sandboxes(self) -> SandboxFactory:
        """Where tests run."""
        return self._grader.sandboxes

    @property
    def timeout(self) -> float | None:
        """Seconds that one test run may take; None: as the task's Spec says."""
        return self._grader.timeout

    # --- patches ----------------------------------------------------------------------------------------------------

    def caching(self, cache: GradingCache | None = None) -> Evaluator:
        """Return an Evaluator with the same settings that grades equal patches of a task once.

        Args:
            cache: Where the verdicts are kept; None: a new cache in memory.
        """
        return Evaluator(
            self.sandboxes,
            self.timeout,
            workers=self.workers,
            certificates=self.certificates.root,
            cache=cache or GradingCache(),
            canary=self.canary,
        )

    def grade(self, task: Task, patch: str, *, boxes: OpenBoxes | None = None) -> Verdict:
        """Grade one patch of one task.

        Args:
            task: The task.
            patch: The patch; an empty one is *unresolved*, and nothing is run for it.
            boxes: What the sandbox is added to while it is open, so that another thread can close it at once.

        Raises:
            TypeError: The first argument is no Task.
        """
        if not isinstance(task, Task):
            raise TypeError(
                f"grade(task, patch) takes a Task, got {type(task).__name__}; predictions are for evaluate(predictions, tasks)"
            )
        return self._grader.grade(task, patch, boxes)

    def gold_patch(self, task: Task) -> str:
        """Return the patch that solves a task: its gold patch, or what its own solution makes of a fresh sandbox.

        Raises:
            GradingError: The task has no gold (`task.has_gold`), or its solution changes nothing of the work directory.
        """
        return self._grader.gold_patch(task)

    def regrade(self, task: Task, log: str | Verdict) -> Verdict:
        """Grade a stored log anew, without running anything.

        Args:
            task: The task.
            log: A Verdict with its log, the log itself, or the `test_output.txt` of SWE-bench's harness.

        Raises:
            GradingError: The task is graded by a script of its own, whose outcome is not in its log.
        """
        return self._grader.regrade(task, log)

    # --- predictions ------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        predictions: Predictions,
        tasks: Iterable[Task],
        *,
        workers: int | None = None,
        keep: str | Path | None = None,
        model: str | None = None,
        progress: bool = True,
        report_to: str = "none",
    ) -> Verdicts:
        """Grade a file or collection of predictions.

        Args:
            predictions: A `.json`, `.jsonl` or `.pred` path, an agent's run folder, a mapping by task id, or a list. A
                prediction that cannot be read is *not graded*, and loses no other.
            tasks: The tasks that the predictions are for.
            workers: How many predictions are graded at once; None: as the Evaluator was made.
            keep: A `.jsonl` file to which each verdict is appended as it comes; a rerun takes from it what was graded
                already, of the same patch and task in the same Snapshot. What is not graded is tried again.
            model: Whose predictions are graded, where a file holds those of several models.
            progress: Whether a bar with the counts of each status is shown.
            report_to: Where the counts go while they grow: `"trackio"`, `"wandb"`, `"mlflow"`, `"tensorboard"`, `"none"`.

        Returns:
            Verdicts by task id, which also write the harness's reports.

        Raises:
            RecordError: No prediction can be read, one names a task that is not among the tasks, or several models have
                predictions for the same task and none of them is chosen.
        """
        return evaluate(
            self._grader,
            predictions,
            tasks,
            workers=workers or self.workers,
            keep=keep,
            model=model,
            progress=progress,
            report_to=report_to,
        )

    def evaluate_officially(
        self,
        predictions: Predictions,
        tasks: Iterable[Task],
        folder: str | Path,
        *,
        workers: int | None = None,
        timeout: int = 1800,
        host: str = "",
    ) -> Verdicts:
        """Grade predictions by SWE-bench's official harness on a container engine.

        `evaluate(predictions, tasks).agreement(...)` sets its verdicts beside ours.

        Args:
            predictions: As for `evaluate`.
            tasks: Rows of SWE-bench 5, which name an image and an evaluation script.
            folder: Where the harness writes its logs and reports; a rerun takes what is there.
            workers: Containers at once; None: as the Evaluator was made.
            timeout: Seconds for the tests of one prediction.
            host: The engine, as `DOCKER_HOST` names it; empty: as the environment says.

        Returns:
            Verdicts by task id. What the harness calls a failure of its infrastructure, or reports nothing of, is not
            graded.

        Raises:
            GradingError: The harness cannot be run, or a task lacks what it needs.
        """
        workers = workers or self.workers
        return evaluate_officially(predictions, tasks, folder, workers=workers, timeout=timeout, host=host)

    # --- tasks ------------------------------------------------------------------------------------------------------

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
    ) -> Overview:
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
            A table; its `.frame` has one row a task in the tasks' order: status, reason, what each run said, flaky tests.

        Raises:
            ValueError: The audit is unknown, or there are no repeats.
        """
        return self._certifier.check(
            tasks,
            repeats,
            workers=workers or self.workers,
            again=again,
            audit=audit,
            delete_after=delete_after,
            progress=progress,
        )

    def certificate(self, task: Task, repeats: int = 1, *, again: bool = False, audit: str = "own") -> Certificate:
        """Return a task's certificate: the one kept beside its Snapshot when it fits, else a new one; see `check`."""
        return self._certifier.certificate(task, repeats, again=again, audit=audit)

    def certified(self, tasks: Iterable[Task]) -> Tasks:
        """Return the tasks that hold a certificate which they passed; nothing is run."""
        return self._certifier.certified(tasks)

    def audit(self, task: Task, scope: str = "all") -> Audit:
        """Look through a fresh box of a task for its fix, as an agent could: git, other copies of the repaired code.

        Args:
            task: The task.
            scope: `"all"`: every file that the box shows; `"own"`: git, the repository and the venv.

        Returns:
            What was found; nothing is hidden because of it (`check` does that).
        """
        return self._certifier.audit(task, scope)

    def logs(self, task: Task) -> dict[str, str]:
        """Return the test logs behind a task's certificate: `gold 1`, `untouched 1` and so on; empty before `check`."""
        return self._certifier.logs(task)

    def __reduce__(self) -> tuple[Callable[..., Evaluator], tuple[Any, ...]]:
        return _remake, (self.sandboxes, self.timeout, self.workers, self.certificates.root, self.canary)

    def __repr__(self) -> str:
        """Return one line: where tests run, and for how long at most."""
        limit = f", timeout={self.timeout:g}" if self.timeout else ""
        return f"Evaluator({self.sandboxes!r}{limit})"


def _remake(
    sandboxes: SandboxFactory, timeout: float | None, workers: int, certificates: Path, canary: str
) -> Evaluator:
    return Evaluator(sandboxes, timeout, workers=workers, certificates=certificates, canary=canary)
