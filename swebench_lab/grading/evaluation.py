"""Evaluation: grades a whole file or collection of predictions, many at once, and goes on where it was stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from swebench_lab.errors import RecordError, describe, outcome_of
from swebench_lab.grading.batch import batch
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.files.predictions import Prediction, Predictions, read_predictions
from swebench_lab.grading.files.verdict_file import VerdictFile, verdict_key
from swebench_lab.grading.files.verdicts import Verdicts
from swebench_lab.grading.grader import NOT_RUN, Grader
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.trackers import Report, check_tracker
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict

logger = logging.getLogger(__name__)


def evaluate(
    grader: Grader,
    predictions: Predictions,
    tasks: Iterable[Task],
    *,
    workers: int,
    keep: str | Path | None = None,
    model: str | None = None,
    progress: bool = True,
    report_to: str = "none",
) -> Verdicts:
    """Grade predictions; see `Evaluator.evaluate`.

    Raises:
        RecordError: The predictions cannot be read, or name a task that is not among the tasks.
    """
    check_tracker(report_to)
    by_task, tasks = read_predictions(predictions, model), Tasks(tasks)
    _check_ids(by_task, tasks)
    queue = [by_task[task.id] for task in tasks if task.id in by_task]
    store = VerdictFile(keep) if keep else None
    logger.info("grading %d predictions for %d tasks", len(queue), len(tasks))

    def grade(prediction: Prediction, boxes: OpenBoxes) -> Verdict:
        task = tasks[prediction.task_id]
        if prediction.fault:
            return Verdict(NOT_GRADED, f"the prediction cannot be read: {prediction.fault}", cause=Cause.INFRASTRUCTURE)
        if store and (verdict := store.get(verdict_key(task, prediction, grader.sandboxes.key(task)))):
            return grader.consulted(task, verdict)
        verdict = grader.grade(task, prediction.patch, boxes)
        if store:
            # the key is asked for again: only now is the Snapshot there for certain
            store.put(verdict_key(task, prediction, grader.sandboxes.key(task)), task.id, verdict)
        return verdict

    def recorded(prediction: Prediction, boxes: OpenBoxes) -> Verdict:
        verdict = outcome_of(lambda: grade(prediction, boxes))
        if isinstance(verdict, Verdict):
            return verdict
        # the recording boundary of a batch: what one task, Snapshot or patch breaks on loses no other verdict
        logger.error("grading %s: %s", prediction.task_id, describe(verdict), exc_info=verdict)
        return Verdict(NOT_GRADED, f"{NOT_RUN}: {describe(verdict)}", cause=Cause.INFRASTRUCTURE)

    folder = Path(keep).resolve().parent if keep else None
    facts = {"predictions": len(queue), "tasks": len(tasks), "tier": grader.sandboxes.tier, "model": model or ""}
    report = Report(report_to, f"evaluation of {len(queue)} predictions", facts, folder)
    verdicts: dict[str, Verdict] = {}
    try:
        for i, verdict in batch(queue, recorded, lambda verdict: verdict.status, "grade", workers, progress):
            verdicts[queue[i].task_id] = verdict
            report.add(verdict.status)
    finally:
        report.close()
    return Verdicts({p.task_id: verdicts[p.task_id] for p in queue}, by_task, tasks, by_task.refused)


def _check_ids(by_task: Iterable[str], tasks: Tasks) -> None:
    """Refuse predictions for tasks that are not there."""
    if unknown := sorted(set(by_task) - set(tasks.ids)):
        more = f" and {len(unknown) - 1} more" * (len(unknown) > 1)
        near = next((name for name in tasks.ids if name.lower() == unknown[0].lower()), "")
        hint = f"did you mean {near!r}?" if near else "give the tasks they are for"
        raise RecordError(f"grading predictions: no task has the id {unknown[0]!r}{more}; {hint}")
