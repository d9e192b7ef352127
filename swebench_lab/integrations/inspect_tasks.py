"""Inspect's side of tasks: `swebench_lab/issues`, a Task of Inspect over tasks of ours, and the scorer that grades it."""

from __future__ import annotations

from typing import Any

from swebench_lab.integrations.shared import evaluator_for, needs, tasks_for
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Verdict

try:
    import anyio
    from inspect_ai import Task as InspectTask
    from inspect_ai import task as inspect_task
    from inspect_ai.agent import react
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import Score, accuracy, scorer, stderr
    from inspect_ai.tool import bash
    from inspect_ai.util import SandboxEnvironmentSpec, sandbox

    from swebench_lab.integrations.inspect_sandbox import InspectSandbox, InspectSandboxConfig
except ImportError as error:
    raise needs("Inspect", "inspect", error) from error

_PROMPT = """\
The repository is in {workdir}. This is the issue to resolve:

<issue>
{issue}
</issue>

Change the code in {workdir} so that what the issue asks for holds. Tests that you cannot see decide whether it does; what \
worked before must go on working. Leave the existing tests as they are. Submit when you are done.
"""


def sample(task: Task, settings: InspectSandboxConfig) -> Sample:
    """Return a task as a Sample: the issue, and a sandbox over the task; nothing of the answer is in it."""
    return Sample(
        id=task.id,
        input=_PROMPT.format(workdir="/testbed", issue=task.issue.strip()),
        metadata={"instance_id": task.id, "repo": task.repo},
        sandbox=SandboxEnvironmentSpec("swebench_lab", settings.model_copy(update={"task": task.id})),
    )


@inspect_task
def issues(
    tasks: str = "demo", select: str = "", limit: int = 0, backend: str = "namespace", cache: str = "",
    network: str = "none", command_timeout: int = 180,
) -> InspectTask:  # fmt: skip
    """Issues to resolve, each in a sandbox of its own, graded by the tests of its repository.

    Args:
        tasks: Where the tasks come from: whatever `load_tasks` takes by name or path.
        select: A regular expression that ids must match.
        limit: How many of them, from the first; 0: all.
        backend: Kind of sandbox, as `SandboxFactory` has it.
        cache: Folder of the Snapshots; empty: that of the user.
        network: `none` or `host`.
        command_timeout: Seconds that one command of the default solver may take.
    """
    selection = tasks_for(tasks).filter(select or None)
    settings = InspectSandboxConfig(tasks=tasks, backend=backend, cache=cache, network=network)
    return InspectTask(
        dataset=MemoryDataset(
            [sample(each, settings) for each in (selection[:limit] if limit else selection)], name=tasks
        ),
        solver=react(tools=[bash(timeout=command_timeout)]),
        scorer=tests(),
    )


@scorer(metrics=[accuracy(), stderr()])
def tests() -> Any:
    """Grade what changed in the sandbox by the task's own tests, in a fresh sandbox.

    Resolved is 1, unresolved 0. What could not be graded is unscored, which metrics leave out.
    """

    async def score(state: Any, target: Any) -> Score:
        environment = sandbox().as_type(InspectSandbox)
        patch = await anyio.to_thread.run_sync(environment.box.diff)
        grade = evaluator_for(environment.sandboxes).grade
        return _score(await anyio.to_thread.run_sync(grade, environment.task, patch), patch)

    return score


def _score(verdict: Verdict, patch: str) -> Score:
    facts = {
        "status": verdict.status,
        "cause": str(verdict.cause or ""),
        "fail_to_pass": {k: list(v) for k, v in verdict.fail_to_pass.items()},
        "pass_to_pass_failure": list(verdict.pass_to_pass.get("failure", ())),
    }
    if not verdict.graded:
        return Score.unscored(reason=verdict.reason or verdict.status, answer=patch, metadata=facts)
    return Score(
        value=float(verdict.resolved), answer=patch, explanation=verdict.reason or verdict.status, metadata=facts
    )


__all__ = ["issues", "sample", "tests"]
