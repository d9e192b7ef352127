"""Shared: what a neighbour's configuration file says in plain values, as tasks, sandboxes and an evaluator."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from swebench_lab.errors import SandboxPathError, TaskError
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.task import Task, Tasks
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.tasks.loading import load_tasks

_lock = threading.Lock()

_PROMPT = """\
The repository is in {workdir}. This is the issue to resolve:

<issue>
{issue}
</issue>

Change the code with the function `bash` so that what the issue asks for holds. Tests that you cannot see decide \
whether it does. Leave the existing tests as they are. Answer without a call when you are done.
"""


def needs(package: str, extra: str, error: ImportError) -> ImportError:
    """Return the error to raise where a neighbour's package is not installed.

    Args:
        package: Name of its distribution.
        extra: The extra of this package that installs it.
        error: What Python said.
    """
    return ImportError(
        f"using swebench_lab from {package}: {error}; pip install 'swebench-lab[{extra}]' in the Python that runs it",
        name=error.name,
    )


def sandboxes_for(
    backend: str = "namespace", cache: str = "", options: Mapping[str, Any] | None = None
) -> SandboxFactory:
    """Return the SandboxFactory of this process for these settings; equal settings share one.

    Args:
        backend: As `SandboxFactory` has it.
        cache: Folder of the Snapshots; empty: that of the user.
        options: Further keywords of `SandboxFactory`, as pairs that can be hashed.
    """
    with _lock:
        return _factory(backend, cache, tuple(sorted((options or {}).items())))


@cache
def _factory(backend: str, cache: str, options: tuple[tuple[str, Any], ...]) -> SandboxFactory:
    return SandboxFactory(backend, cache=cache or None, **dict(options))


def tasks_for(source: str | Tasks) -> Tasks:
    """Return the tasks that `load_tasks` reads from a source, read once a process."""
    if isinstance(source, Tasks):
        return source
    with _lock:
        return _tasks(source)


@cache
def _tasks(source: str) -> Tasks:
    return load_tasks(source)


def task_for(source: str | Tasks, task_id: str) -> Task:
    """Return one task of a source.

    Raises:
        TaskError: The source has no task with this id.
    """
    tasks = tasks_for(source)
    if task_id not in tasks.ids:
        name = "given" if isinstance(source, Tasks) else repr(source)
        raise TaskError(
            f"opening task {task_id!r}: the tasks {name} have none with this id; they begin with {tasks.ids[:3]}"
        )
    return tasks[task_id]


@cache
def evaluator_for(sandboxes: SandboxFactory) -> Evaluator:
    """Return the Evaluator over a SandboxFactory, one for each."""
    return Evaluator(sandboxes)


def issue_message(task: Task) -> dict[str, Any]:
    """Return the message that gives a task to a model with the one tool `bash`; nothing of the answer is in it."""
    return {"role": "user", "content": _PROMPT.format(workdir=task.workdir or "/testbed", issue=task.issue.strip())}


def run_shell(box: Sandbox, command: str, timeout: float, most: int) -> str:
    """Run a command in a new shell and return what a model is shown of it: its output, and how it ended.

    Args:
        box: Where.
        command: Text for bash.
        timeout: Seconds after which it is stopped.
        most: Bytes of output that are kept, half from each end.
    """
    try:
        ran = box.run(command, timeout=timeout, max_output=most)
    except SandboxPathError as error:
        return str(error)
    end = f"stopped after {timeout:g} seconds" if ran.timed_out else f"exit code {ran.exit_code}"
    return f"{ran.output}\n[{end}]"
