"""A Task as a row of SWE-bench: the columns, and the one direction that grading needs as well as reading does."""

from __future__ import annotations

import json
from typing import Any

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task

COLUMNS = {
    "id": "instance_id",
    "repo": "repo",
    "base_commit": "base_commit",
    "issue": "problem_statement",
    "gold_patch": "patch",
    "fail_to_pass": "FAIL_TO_PASS",
    "pass_to_pass": "PASS_TO_PASS",
    "test_patch": "test_patch",
    "version": "version",
    "created_at": "created_at",
    "environment_setup_commit": "environment_setup_commit",
    "hints": "hints_text",
    "image": "image",
    "difficulty": "difficulty",
}
"""Field of a Task to SWE-bench's column."""

SPEC_COLUMNS = ("log_parser", "eval_type")
"""Columns of SWE-bench 5 that say how a log is read."""


def to_swebench(task: Task) -> dict[str, Any]:
    """Return the row that SWE-bench has for a task, with the columns of SWE-bench 5 that are known.

    Raises:
        TaskError: The task's START tree carries an introduced bug, which this schema cannot say.
    """
    if task.setup_patch:
        raise TaskError(
            f"writing {task.id!r} as a SWE-bench row: its bug is a setup patch; use schema='swe-smith' or 'lab'"
        )
    row = {column: getattr(task, name) for name, column in COLUMNS.items()}
    row["FAIL_TO_PASS"], row["PASS_TO_PASS"] = json.dumps(task.fail_to_pass), json.dumps(task.pass_to_pass)
    spec = {name: str((task.spec or {})[name]) for name in SPEC_COLUMNS if (task.spec or {}).get(name)}
    return {**row, **spec, **task.extra}
