"""Harness: SWE-bench's own evaluation in containers, for comparing its answers with ours.

It runs as a program of its own (`python -m swebench.harness.run_evaluation`), so that what it imports and prints stays
there. It needs a container engine, the program `docker`, and tasks whose rows name an image and an evaluation script.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import GradingError
from swebench_lab.grading.execution.test_run import APPLY_FAILED
from swebench_lab.grading.files.predictions import Prediction, Predictions, read_predictions
from swebench_lab.grading.files.verdicts import Verdicts
from swebench_lab.records.swebench_row import to_swebench
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED, Cause, Verdict

_NEEDED = ("image", "eval_script", "log_parser", "eval_type")
_RUN = "official"
_TIMEOUT = "Timeout error: "

logger = logging.getLogger(__name__)


def harness_row(task: Task) -> dict[str, Any]:
    """Return a task as a row of SWE-bench 5.

    Raises:
        GradingError: The task names no image, or its row had no evaluation script.
        TaskError: Its bug is a setup patch, which such a row cannot say.
    """
    row = to_swebench(task)
    if missing := [name for name in _NEEDED if not row.get(name)]:
        raise GradingError(
            f"giving task {task.id} to the official harness: it has no {missing[0]!r}; the harness needs rows of SWE-bench 5"
        )
    row["environment_setup_commit"] = task.environment_setup_commit or task.base_commit
    return row


def evaluate_officially(
    predictions: Predictions,
    tasks: Iterable[Task],
    folder: str | Path,
    *,
    workers: int = 2,
    timeout: int = 1800,
    host: str = "",
) -> Verdicts:
    """Grade predictions by the official harness; see `Evaluator.evaluate_officially`.

    Args:
        predictions: As `Evaluator.evaluate` takes them.
        tasks: The tasks they are for.
        folder: Where the harness writes its logs and reports; a rerun takes what is there.
        workers: Containers at once.
        timeout: Seconds for the tests of one prediction.
        host: The engine, as `DOCKER_HOST` names it; empty: as the environment says.

    Returns:
        Verdicts by task id. What the harness calls a failure of its infrastructure, or reports nothing of, is not graded.

    Raises:
        GradingError: The harness cannot be run, or a task lacks what it needs.
    """
    read = read_predictions(predictions)
    by_task = {name: prediction for name, prediction in read.items() if not prediction.fault}
    subset = Tasks([task for task in Tasks(tasks) if task.id in by_task])
    place = Path(folder).expanduser().absolute()
    place.mkdir(parents=True, exist_ok=True)
    (place / "rows.json").write_text(json.dumps([harness_row(task) for task in subset]))
    rows = [_row(by_task[task.id]) for task in subset]
    (place / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    logger.info("grading %d predictions by the official harness in %s", len(rows), place)
    if any(row["model_patch"] for row in rows):
        _run(place, workers, timeout, host)
    verdicts = {task.id: _verdict(place, by_task[task.id]) for task in subset}
    return Verdicts(verdicts, {task.id: by_task[task.id] for task in subset}, subset)


def _row(prediction: Prediction) -> dict[str, Any]:
    patch = None if prediction.missing else prediction.patch
    return {"instance_id": prediction.task_id, "model_name_or_path": _model(prediction), "model_patch": patch}


def _model(prediction: Prediction) -> str:
    return prediction.model or "model"


def _run(place: Path, workers: int, timeout: int, host: str) -> None:
    if shutil.which("docker") is None:
        raise GradingError("running the official harness: it needs the program docker on PATH; install Docker's client")
    command = [sys.executable, "-m", "swebench.harness.run_evaluation", "--dataset_name", "rows.json", "--split", "test",
               "--predictions_path", "predictions.jsonl", "--run_id", _RUN, "--max_workers", str(workers),
               "--timeout", str(timeout)]  # fmt: skip
    env = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    with (place / "harness.log").open("ab") as log:
        process = subprocess.run(command, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT, check=False)
    if process.returncode:
        tail = (place / "harness.log").read_text("utf-8", "replace").strip()[-800:]
        raise GradingError(f"running the official harness ended with status {process.returncode}: {tail}")


def _verdict(place: Path, prediction: Prediction) -> Verdict:
    """Return what the harness left about one prediction."""
    if not prediction.patch:
        return _apply_failure("the patch is empty; the harness runs nothing for it", None)
    folder = place / "logs" / "run_evaluation" / _RUN / _model(prediction).replace("/", "__") / prediction.task_id
    log, story = _text(folder / "test_output.txt"), _text(folder / "run_instance.log")
    try:
        report = json.loads(_text(folder / "report.json"))[prediction.task_id]
        return _read_report(report, log)
    except (ValueError, LookupError, TypeError, AttributeError):  # none, cut short, or of another shape
        if APPLY_FAILED in story:
            return _apply_failure("the patch does not apply", False, story)
        cause = Cause.TIMED_OUT if _TIMEOUT in log else Cause.INFRASTRUCTURE
        reason = f"the harness left no report that can be read: {story.strip()[-300:]}"
        return Verdict(NOT_GRADED, reason, log=log or story, tier="swebench", cause=cause)


def _apply_failure(reason: str, applied: bool | None, log: str = "") -> Verdict:
    return Verdict(UNRESOLVED, reason, applied, log=log, official=UNRESOLVED, tier="swebench", cause=Cause.NOT_APPLIED)


def _read_report(report: Mapping[str, Any], log: str) -> Verdict:
    """Return what a report of the harness says; one that found no outcomes in the log claims that nothing was applied."""
    official = RESOLVED if report["resolved"] else UNRESOLVED
    applied, has_failure = bool(report.get("patch_successfully_applied")), bool(report.get("infra_failure"))
    reason = (
        f"the harness says: {report.get('infra_failure_reason') or 'its infrastructure failed'}" if has_failure else ""
    )
    unread = Cause.TIMED_OUT if _TIMEOUT in log else Cause.CRASHED
    tests = report.get("tests_status") or {}
    fail_to_pass, pass_to_pass = (
        {side: tuple(tests.get(kind, {}).get(side, ())) for side in ("success", "failure")}
        for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")
    )
    return Verdict(
        NOT_GRADED if has_failure else official,
        reason,
        applied,
        fail_to_pass=fail_to_pass,
        pass_to_pass=pass_to_pass,
        log=log,
        official=official,
        tier="swebench",
        cause=Cause.INFRASTRUCTURE if has_failure else Cause.TESTS if applied or official == RESOLVED else unread,
    )


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""
