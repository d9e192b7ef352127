"""Evaluation: grades a whole file or collection of predictions, many at once, and goes on where it was stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from swebench_lab.errors import RecordError
from swebench_lab.grading.batch import batch
from swebench_lab.grading.boxes import OpenBoxes
from swebench_lab.grading.grader import Grader
from swebench_lab.grading.predictions import Prediction, Predictions, read_predictions
from swebench_lab.grading.verdict_file import VerdictFile, verdict_key
from swebench_lab.grading.verdicts import Verdicts
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.verdict import Verdict

logger = logging.getLogger(__name__)


def evaluate(
    grader: Grader,
    predictions: Predictions,
    tasks: Iterable[Task],
    *,
    workers: int,
    keep: str | Path | None = None,
    progress: bool = True,
) -> Verdicts:
    """Grade predictions; see `Evaluator.evaluate`.

    Raises:
        RecordError: The predictions cannot be read, or name a task that is not among the tasks.
    """
    by_task, tasks = read_predictions(predictions), Tasks(tasks)
    if unknown := sorted(set(by_task) - set(tasks.ids)):
        more = f" and {len(unknown) - 1} more" * (len(unknown) > 1)
        raise RecordError(f"grading predictions: no task has the id {unknown[0]!r}{more}; give the tasks they are for")
    ordered = [by_task[task.id] for task in tasks if task.id in by_task]
    store = VerdictFile(keep) if keep else None
    logger.info("grading %d predictions for %d tasks", len(ordered), len(tasks))

    def grade(prediction: Prediction, boxes: OpenBoxes) -> Verdict:
        task = tasks[prediction.task_id]
        if store and (verdict := store.get(verdict_key(task, prediction, grader.sandboxes.key(task)))):
            return verdict
        verdict = grader.grade(task, prediction.patch, boxes)
        if store:
            # the key is asked for again: only now is the Snapshot there for certain
            store.put(verdict_key(task, prediction, grader.sandboxes.key(task)), task.id, verdict)
        return verdict

    results = batch(ordered, grade, lambda verdict: verdict.status, "grade", workers, progress)
    verdicts = {ordered[i].task_id: verdict for i, verdict in results}
    return Verdicts({p.task_id: verdicts[p.task_id] for p in ordered}, by_task, tasks)
