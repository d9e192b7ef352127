"""TRLTasks: tasks as environments of TRL's trainers: a data set, and environments that own the reward."""

from __future__ import annotations

from functools import partial
from typing import Any

from swebench_lab.integrations.shared import (
    evaluator_for,
    issue_message,
    needs,
    run_shell,
    sandboxes_for,
    task_for,
    tasks_for,
)
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Verdict
from swebench_lab.sandbox.contract import Sandbox

try:
    from datasets import Dataset
except ImportError as error:
    raise needs("TRL", "train", error) from error


class TaskEnvironment:
    """One attempt after the other, each in a fresh sandbox over the task of its row.

    TRL offers the model every public method but `reset` and `get_reward` as a tool.

    Args:
        tasks: Where the tasks come from: whatever `load_tasks` takes by name or path.
        backend: Kind of sandbox, as `SandboxFactory` has it.
        cache: Folder of the Snapshots; empty: that of the user.
        timeout: Seconds that one command may take.
        most: Characters of a command's output that the model is shown, half from each end.
    """

    def __init__(self, tasks: str, backend: str, cache: str, timeout: float, most: int) -> None:
        self._tasks = tasks
        self._sandboxes = sandboxes_for(backend, cache)
        self._timeout = timeout
        self._most = most
        self._task: Task | None = None
        self._box: Sandbox | None = None
        self._verdict: Verdict | None = None

    def reset(self, **row: Any) -> None:
        """Begin an attempt at the task of a row, with what went before closed."""
        if self._box is not None:
            self._box.close()
        self._verdict = None
        self._task = task_for(self._tasks, row["task_id"])
        self._box = self._sandboxes.open(self._task)

    def bash(self, command: str) -> str:
        """Run a command in a new shell in the repository and return what it writes, and its exit code.

        Args:
            command: The text of the command, for bash.

        Returns:
            Its output and its exit code.
        """
        if self._box is None:
            raise RuntimeError("running a command: no attempt has begun; reset comes first")
        return run_shell(self._box, command, self._timeout, self._most)

    def get_reward(self) -> float | None:
        """Grade what changed: 1 resolved, 0 unresolved, None (left out of training) not graded. Ends the sandbox."""
        if self._box is None or self._task is None:
            raise RuntimeError("grading an attempt: none has begun; reset comes first")
        if self._verdict is None:
            self._verdict = evaluator_for(self._sandboxes).grade(self._task, self._box.diff())
            self._box.close()
        return float(self._verdict.resolved) if self._verdict.graded else None


class TRLTasks:
    """What a trainer of TRL is given to train on tasks: `train_dataset` and `environment_factory`.

    Args:
        tasks: Where the tasks come from: whatever `load_tasks` takes by name or path.
        select: A regular expression that ids must match.
        backend: Kind of sandbox, as `SandboxFactory` has it.
        cache: Folder of the Snapshots; empty: that of the user.
        timeout: Seconds that one command may take.
        most: Characters of a command's output that the model is shown.
    """

    def __init__(
        self, tasks: str = "demo", select: str = "", backend: str = "namespace", cache: str = "", timeout: float = 60,
        most: int = 10_000,
    ) -> None:  # fmt: skip
        self._selection = tasks_for(tasks).filter(select or None)
        self.environment_factory = partial(TaskEnvironment, tasks, backend, cache, timeout, most)

    @property
    def train_dataset(self) -> Dataset:
        """One row a task: `prompt` (a user message with the issue) and `task_id`; nothing of the answer."""
        rows = [{"prompt": [issue_message(task)], "task_id": task.id} for task in self._selection]
        return Dataset.from_list(rows)


__all__ = ["TRLTasks", "TaskEnvironment"]
