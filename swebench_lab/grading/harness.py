"""The official harness: SWE-bench's own evaluation in containers, for comparing its answers with ours.

It runs as a program of its own (`python -m swebench.harness.run_evaluation`), so that what it imports and prints stays
there. It needs a container engine, the program `docker`, and tasks whose rows name an image and an evaluation script.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import GradingError
from swebench_lab.grading.judge import APPLY_FAILED
from swebench_lab.grading.verdicts import Prediction, Verdicts, read_predictions
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED, Verdict
from swebench_lab.tasks.schemas import to_swebench

if TYPE_CHECKING:
    import polars as pl

_NEEDED = ("image", "eval_script", "log_parser", "eval_type")
_RUN = "official"


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


def grade_officially(
    predictions: str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]],
    tasks: Iterable[Task],
    folder: str | Path,
    *,
    workers: int = 2,
    timeout: int = 1800,
    host: str = "",
) -> Verdicts:
    """Grade predictions by the official harness.

    Args:
        predictions: As `Evaluator.grade` takes them.
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
    given, known = read_predictions(predictions), Tasks(tasks)
    chosen = Tasks([task for task in known if task.id in given])
    place = Path(folder).expanduser().absolute()
    place.mkdir(parents=True, exist_ok=True)
    (place / "rows.json").write_text(json.dumps([harness_row(task) for task in chosen]))
    rows = [_row(given[task.id]) for task in chosen]
    (place / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if any(row["model_patch"] for row in rows):
        _run(place, workers, timeout, host)
    made = {task.id: _verdict(place, given[task.id]) for task in chosen}
    return Verdicts(made, {task.id: given[task.id] for task in chosen}, chosen)


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
        done = subprocess.run(command, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = (place / "harness.log").read_text("utf-8", "replace").strip()[-800:]
        raise GradingError(f"running the official harness ended with status {done.returncode}: {said}")


def _verdict(place: Path, prediction: Prediction) -> Verdict:
    """What the harness left about one prediction."""
    if not prediction.patch:
        return Verdict(
            UNRESOLVED, "the patch is empty; the harness runs nothing for it", official=UNRESOLVED, tier="swebench"
        )
    folder = place / "logs" / "run_evaluation" / _RUN / _model(prediction).replace("/", "__") / prediction.task_id
    log, story = _text(folder / "test_output.txt"), _text(folder / "run_instance.log")
    try:
        report = json.loads(_text(folder / "report.json"))[prediction.task_id]
    except (ValueError, KeyError):
        if APPLY_FAILED in story:
            return Verdict(
                UNRESOLVED, "the patch does not apply", False, log=story, official=UNRESOLVED, tier="swebench"
            )
        return Verdict(
            NOT_GRADED, f"the harness left no report: {story.strip()[-300:]}", log=log or story, tier="swebench"
        )
    said = RESOLVED if report.get("resolved") else UNRESOLVED
    fault = (
        str(report.get("infra_failure_reason") or "its infrastructure failed") if report.get("infra_failure") else ""
    )
    tests = report.get("tests_status") or {}
    lists = [
        {side: tuple(tests.get(kind, {}).get(side, ())) for side in ("success", "failure")}
        for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")
    ]
    return Verdict(
        NOT_GRADED if fault else said,
        fault and f"the harness says: {fault}",
        bool(report.get("patch_successfully_applied")),
        fail_to_pass=lists[0],
        pass_to_pass=lists[1],
        log=log,
        official=said,
        tier="swebench",
    )


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def agreement(ours: Mapping[str, Verdict], theirs: Mapping[str, Verdict]) -> pl.DataFrame:
    """Return our Verdicts and the official harness's side by side.

    Returns:
        One row a task both graded: `id`, `ours`, `harness`, `rules` (SWE-bench's rules on our log), `agree`, and
        `differing`: the deciding tests of which the two say different things.
    """
    import polars as pl

    rows = []
    for name in (name for name in ours if name in theirs):
        one, other = ours[name], theirs[name]
        rows.append({
            "id": name, "ours": one.status, "harness": other.status, "rules": one.official,
            "agree": one.status == other.status, "differing": sorted(_succeeded(one) ^ _succeeded(other)),
            "reason": one.reason if one.status == NOT_GRADED else other.reason,
        })  # fmt: skip
    schema: dict[str, Any] = {"id": pl.String, "ours": pl.String, "harness": pl.String, "rules": pl.String, "agree": pl.Boolean,
              "differing": pl.List(pl.String), "reason": pl.String}  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _succeeded(verdict: Verdict) -> set[str]:
    return {*verdict.fail_to_pass.get("success", ()), *verdict.pass_to_pass.get("success", ())}
