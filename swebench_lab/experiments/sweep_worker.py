"""Sweep worker: does the one run that a folder describes, and records its outcome.

`python -m swebench_lab.experiments.sweep_worker FOLDER` reads `call.pkl` and writes `outcome.json`.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from swebench_lab.errors import SweepError

COMPLETED, FAILED = "completed", "failed"


def _do(folder: Path) -> None:
    """Do the run that a folder describes, and record its outcome, success or failure."""
    import cloudpickle

    call = cloudpickle.loads((folder / "call.pkl").read_bytes())
    with suppress(FileNotFoundError):  # on another node the folder may not exist
        os.chdir(call["cwd"])
    began = time.monotonic()
    try:
        value, tasks = _measure(_invoke(call, folder))
        keep(folder, COMPLETED, value, tasks, time.monotonic() - began, "")
    except Exception as error:  # the recording boundary: a run's failure is its outcome
        traceback.print_exc()
        keep(folder, FAILED, None, {}, time.monotonic() - began, f"{type(error).__name__}: {error}"[:2000])


def _invoke(call: Mapping[str, Any], folder: Path) -> Any:
    """Call the function or run the recipe; return what was measured."""
    what, metric = call["what"], call["metric"]
    if callable(what):
        wants = inspect.signature(what).parameters
        extra = {"run_dir": folder} if "run_dir" in wants else {}
        result = what(**call["values"], **extra)
        return metric(result) if callable(metric) else result
    from swebench_lab.experiments.recipe_runs import run_recipe

    run = run_recipe(what, call["preset"], folder, False, **call["values"])
    if callable(metric):
        return metric(run)
    if metric is None:
        from swebench_lab.viewer.board import attach

        return attach(folder)
    if metric.startswith("frame:"):
        if run.frame is None:
            raise SweepError(f"measuring {metric!r}: the recipe wrote no frame.parquet")
        return dict(run.frame.group_by("task").mean().select("task", metric.removeprefix("frame:")).iter_rows())
    value: Any = run.metrics
    for part in metric.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise SweepError(f"measuring {metric!r}: metrics.json has no {part!r}; known: {', '.join(value)}")
        value = value[part]
    return value


def _measure(result: Any) -> tuple[float, dict[str, float]]:
    """Return one number, and one per task where tasks were measured."""
    from swebench_lab.records.rollout import Rollouts

    if isinstance(result, Rollouts):
        graded: dict[str, list[bool]] = {}
        for rollout in result.graded:
            graded.setdefault(rollout.task.id, []).append(rollout.verdict.resolved)
        result = {task: sum(outcomes) / len(outcomes) for task, outcomes in graded.items()}
    tasks = {str(task): float(value) for task, value in result.items()} if isinstance(result, Mapping) else {}
    if isinstance(result, Mapping) and not tasks:
        raise SweepError("measuring a run: no task of it is graded")
    value = math.fsum(tasks.values()) / len(tasks) if tasks else float(result)
    if not all(math.isfinite(x) for x in (value, *tasks.values())):
        raise SweepError(f"measuring a run: {value!r} is not a finite number")
    return value, tasks


def keep(
    folder: Path, status: str, value: float | None, tasks: Mapping[str, float], seconds: float, error: str
) -> None:
    """Record how a run ended, atomically."""
    outcome = {"status": status, "value": value, "tasks": tasks, "seconds": round(seconds, 3), "error": error}
    write(folder / "outcome.json", json.dumps(outcome))


def write(path: Path, text: str) -> None:
    """Write a file atomically, so that no reader sees half of it."""
    part = path.with_suffix(".part")
    part.write_text(text + "\n", "utf-8")
    part.replace(path)


def _end_when_alone(parent: int) -> None:
    """End this process and those of its session soon after the sweep that started it was killed."""
    while os.getppid() == parent:
        time.sleep(0.25)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_when_alone, args=(os.getppid(),), daemon=True).start()
    _do(Path(sys.argv[1]))
