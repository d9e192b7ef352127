"""Runs for tests of the viewer, written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from swebench_lab.records.rollout import Rollout
from swebench_lab.rollouts.run_directory import RunDirectory
from tests.samples import a_rollout, a_step, a_task, some_rollouts

HOSTILE = "</script><img src=x onerror=alert(1)> \x1b[31mred \u202egnp.exe \"' &lt;"


def write_runs(folder: Path, tasks: int = 6) -> Path:
    """Write two runs, `a` and `deep/b`, of which the second resolves what the first did not of its first tasks."""
    first, second = RunDirectory(folder / "a"), RunDirectory(folder / "deep" / "b")
    for number, rollout in enumerate(some_rollouts("noisy", tasks)):
        first.append(rollout if number else a_rollout("unresolved", rollout.task, 0, "noisy"), "r")
    for number, rollout in enumerate(some_rollouts("teacher", tasks)):
        better = a_rollout("resolved", rollout.task, rollout.trajectory.attempt, "teacher")
        second.append(better if number < 4 else rollout, "r")
    return folder


def hostile_attempt() -> Rollout:
    """Return an attempt whose texts try to become live."""
    task = a_task(f"demo__{HOSTILE}", "demo/textgrid", HOSTILE)
    rollout = a_rollout("unresolved", task, 0, HOSTILE, (a_step(0, command=HOSTILE, observation=HOSTILE),), HOSTILE)
    return replace(rollout, verdict=replace(rollout.verdict, reason=HOSTILE, log=HOSTILE))


def said(text: str, number: int = 0, policy: str = "noisy") -> Rollout:
    """Return an attempt that observed a text."""
    return a_rollout("resolved", a_task(f"demo__textgrid.{number:04d}"), number, policy, (a_step(0, observation=text),))
