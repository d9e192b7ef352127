"""Sweep worker: does the one run that a folder describes, and writes down what came of it.

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
    """Do the run that a folder describes, and write down what came out, whatever it was."""
    import cloudpickle

    call = cloudpickle.loads((folder / "call.pkl").read_bytes())
    with suppress(FileNotFoundError):  # on another node the folder may not exist
        os.chdir(call["cwd"])
    began = time.monotonic()
    try:
        value, tasks = _measured(_called(call, folder))
        keep(folder, COMPLETED, value, tasks, time.monotonic() - began, "")
    except Exception as error:  # the recording boundary: a run's failure is its outcome
        traceback.print_exc()
        keep(folder, FAILED, None, {}, time.monotonic() - began, f"{type(error).__name__}: {error}"[:2000])


def _called(call: Mapping[str, Any], folder: Path) -> Any:
    """Call the function or run the recipe; return what was measured."""
    what, metric = call["what"], call["metric"]
    if callable(what):
        wants = inspect.signature(what).parameters
        extra = {"run_dir": folder} if "run_dir" in wants else {}
        given = what(**call["values"], **extra)
        return metric(given) if callable(metric) else given
    from swebench_lab.experiments.recipes import run_recipe

    ran = run_recipe(what, call["preset"], folder, False, **call["values"])
    if callable(metric):
        return metric(ran)
    if metric is None:
        from swebench_lab.viewer.board import attach

        return attach(folder)
    if metric.startswith("frame:"):
        if ran.frame is None:
            raise SweepError(f"measuring {metric!r}: the recipe wrote no frame.parquet")
        return dict(ran.frame.group_by("task").mean().select("task", metric.removeprefix("frame:")).iter_rows())
    found: Any = ran.metrics
    for part in metric.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise SweepError(f"measuring {metric!r}: metrics.json has no {part!r}; known: {', '.join(found)}")
        found = found[part]
    return found


def _measured(given: Any) -> tuple[float, dict[str, float]]:
    """Return one number, and one a task where tasks were measured."""
    from swebench_lab.records.rollout import Rollouts

    if isinstance(given, Rollouts):
        graded: dict[str, list[bool]] = {}
        for rollout in given.graded:
            graded.setdefault(rollout.task.id, []).append(rollout.verdict.resolved)
        given = {task: sum(found) / len(found) for task, found in graded.items()}
    tasks = {str(task): float(value) for task, value in given.items()} if isinstance(given, Mapping) else {}
    if isinstance(given, Mapping) and not tasks:
        raise SweepError("measuring a run: no task of it is graded")
    value = math.fsum(tasks.values()) / len(tasks) if tasks else float(given)
    if not all(math.isfinite(x) for x in (value, *tasks.values())):
        raise SweepError(f"measuring a run: {value!r} is not a finite number")
    return value, tasks


def keep(
    folder: Path, status: str, value: float | None, tasks: Mapping[str, float], seconds: float, error: str
) -> None:
    """Write down how a run ended, in one move."""
    told = {"status": status, "value": value, "tasks": tasks, "seconds": round(seconds, 3), "error": error}
    write(folder / "outcome.json", json.dumps(told))


def write(path: Path, text: str) -> None:
    """Write a file in one move, so that nobody reads half of it."""
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
