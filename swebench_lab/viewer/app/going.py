"""Running attempts: how far the attempts of live collections are, from the journals beside their run."""

from __future__ import annotations

import time
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Verdict
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.viewer import story


def going(run: str, directory: RunDirectory) -> list[dict[str, Any]]:
    """Return a row for each attempt that is being made in a run, the oldest first.

    Args:
        run: The run's name.
        directory: Its folder.
    """
    now = time.time()
    rows = []
    for name, t in directory.running().items():
        began = t.started_at or (t.steps[0].started_at if t.steps else 0.0)
        rows.append(
            {
                "run": run,
                "id": name,
                "task": t.task_id,
                "attempt": t.attempt,
                "policy": t.policy,
                "agent": t.agent,
                "steps": len(t.steps),
                "seconds": max(0.0, now - began) if began else None,
                "tokens": t.tokens,
                "last": story.heading(t.steps[-1]) if t.steps else "",
            }
        )
    return sorted(rows, key=lambda row: -(row["seconds"] or 0.0))


def running_attempt(directory: RunDirectory, name: str) -> Rollout:
    """Return an attempt as far as it is, not graded.

    Args:
        directory: The folder of its run.
        name: The attempt's, from `going`.

    Raises:
        RecordError: It is not running any more.
    """
    trajectory = directory.running().get(name)
    if trajectory is None:
        raise RecordError(f"following attempt {name!r} of {directory.path}: it is over, or its process is gone")
    task = directory.task(trajectory.task_id) or _task_of(trajectory)
    verdict = Verdict(NOT_GRADED, f"still running: {len(trajectory.steps)} steps so far")
    return Rollout(task, trajectory, verdict)


def _task_of(trajectory: Trajectory) -> Task:
    """Return what a trajectory tells of its task: a run keeps tasks with their first finished attempt."""
    texts = [m.get("content") for m in trajectory.opening if m.get("role") == "user"]
    issue = texts[-1] if texts and isinstance(texts[-1], str) else ""
    return Task(trajectory.task_id, "", "", issue, "", (), ())
