"""LabSessions: tasks as sessions of OpenEnv, which TRL's HarnessRolloutWorker trains on.

Either TRL samples and calls the one tool of the session, or an agent of ours, a command-line agent too, owns its loop and
the session hands over the very ids that its policy sampled.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from swebench_lab.agents.agent import Agent
from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.errors import AgentError, ConfigError
from swebench_lab.integrations.shared import (
    evaluator_for,
    issue_message,
    needs,
    run_shell,
    sandboxes_for,
    task_for,
    tasks_for,
)
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.records.step import Thread
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.traces.foreign import training_trace

try:
    from openenv.core.env_server.mcp_types import Tool
    from openenv.core.harness import (
        ResourceSession,
        ResourceSessionFactory,
        ToolResult,
        TrainingTrace,
        VerifyResult,
    )
except ImportError as error:
    raise needs("OpenEnv", "openenv", error) from error

_TASK = "task_id"
_SCHEMA = {
    "type": "object",
    "properties": {"command": {"type": "string", "description": "The text of the command, for bash."}},
    "required": ["command"],
}
_BASH = Tool(
    name="bash",
    description="Run a command in a new shell in the repository and return what it writes, and its exit code.",
    input_schema=_SCHEMA,
)


class LabSession(ResourceSession):
    """One attempt at a task, in a sandbox of its own.

    Args:
        task: The task.
        sandboxes: Opens the sandbox, and the one it is graded in.
        agent: Owns the loop; None: somebody else does, and calls the tool `bash`.
        seed: All chance of the agent is drawn from it.
        timeout: Seconds that one command of the tool may take.
        most: Characters of its output that are shown, half from each end.
    """

    def __init__(
        self, task: Task, sandboxes: SandboxFactory, agent: Agent | CLIAgent | None, seed: int, timeout: float, most: int
    ) -> None:  # fmt: skip
        self.task = task
        self.box: Sandbox = agent.open(sandboxes, task) if isinstance(agent, CLIAgent) else sandboxes.open(task)
        self.trajectory: Trajectory | None = None
        self._sandboxes, self._agent, self._seed = sandboxes, agent, seed
        self._timeout, self._most = timeout, most

    # --- where somebody else owns the loop ----------------------------------------------------------------------------

    def initial_messages(self) -> list[dict[str, Any]]:
        """Return the issue, as a message of the user."""
        return [issue_message(self.task)]

    def list_tools(self) -> list[Tool]:
        """Return the one tool, `bash`; none where an agent of ours has its own."""
        return [] if self._agent else [_BASH]

    def call_tool(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run a command; a call that names something else, or no command, is told so and runs nothing."""
        command = arguments.get("command")
        if name != _BASH.name or not isinstance(command, str) or self._agent:
            problem = (
                f"there is one tool, bash, and its argument is the text `command`; this call of {name!r} ran nothing"
            )
            return ToolResult(data=problem, error=problem)
        return ToolResult(data=run_shell(self.box, command, self._timeout, self._most))

    # --- where an agent of ours owns it -------------------------------------------------------------------------------

    def wait_for_completion(self, timeout_s: float | None = None) -> int:
        """Let the agent work to its end, in this thread.

        Args:
            timeout_s: Seconds after which it is ended, if its own limits do not before.

        Returns:
            0: it handed its work in, or a limit on steps or tokens ended it.

        Raises:
            TimeoutError: Its time was over.
            AgentError: It ended by an error of the model, the sandbox or the agent, or nothing was said.
        """
        if self._agent is None:
            raise ConfigError(
                "a LabSession without an agent owns no loop: LabSessions(agent=…), or HarnessRolloutWorker(harness_adapter=…)"
            )
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.trajectory = self._agent.run(self.task, self.box, seed=self._seed, deadline=deadline)
        if self.trajectory.stop == Stop.ERROR or not self.trajectory.steps:
            why = self.trajectory.error or f"it ended as {self.trajectory.stop} before anything was said"
            raise AgentError(f"attempt at {self.task.id!r} in a session of OpenEnv: {why}")
        if self.trajectory.stop == Stop.TIMEOUT:
            raise TimeoutError(f"attempt at {self.task.id!r} in a session of OpenEnv: its time was over")
        return 0

    def fetch_training_trace(self) -> TrainingTrace:
        """Return the calls of the agent's main line: whole prompts, sampled ids and their logprobs as they were recorded.

        Raises:
            ValueError: A reply came without ids or logprobs, or nothing has run or was said.
        """
        if self.trajectory is None:
            raise ValueError(f"reading the tokens of an attempt at {self.task.id!r}: it has not run")
        trace = training_trace.write(self.trajectory)
        main = [turn for turn in trace["turns"] if turn["metadata"]["thread"] == Thread.MAIN.value]
        return TrainingTrace.model_validate({**trace, "turns": main})

    # --- the end ------------------------------------------------------------------------------------------------------

    def verify(self, transcript: list[dict[str, Any]], final_state: Any | None = None) -> VerifyResult:
        """Grade what changed by the task's own tests: 1 resolved, 0 unresolved, None not graded."""
        patch = self.box.diff() if self.trajectory is None else self.trajectory.patch
        verdict = evaluator_for(self._sandboxes).grade(self.task, patch)
        facts = {"status": verdict.status, "cause": str(verdict.cause or ""), "reason": verdict.reason}
        reward = float(verdict.resolved) if verdict.graded else None
        return VerifyResult(env_reward=reward, done=True, metrics=facts, artifacts={"patch": patch})

    def close(self) -> None:
        """End the sandbox, and with it an attempt under way."""
        self.box.close()


class LabSessions(ResourceSessionFactory[LabSession]):
    """Sessions over tasks; `functools.partial(LabSessions, …)` is what HarnessRolloutWorker takes.

    Args:
        tasks: Where the tasks come from: whatever `load_tasks` takes by name or path.
        select: A regular expression that ids must match.
        agent: An agent that owns its loop, with a `ChatPolicy` that has a tokenizer, so that its replies come with the ids
            that were sampled; None: TRL samples, by `harness_adapter`.
        sampling: What TRL says of its policy; the agent's is set to it.
        backend: Kind of sandbox, as `SandboxFactory` has it.
        cache: Folder of the Snapshots; empty: that of the user.
        timeout: Seconds that one command of the tool `bash` may take.
        most: Characters of its output that are shown, half from each end.

    Raises:
        ConfigError: The agent's replies would have no ids to train on.
    """

    def __init__(
        self, tasks: str = "demo", select: str = "", agent: Agent | CLIAgent | None = None, *,
        sampling: Mapping[str, Any] | None = None, backend: str = "namespace", cache: str = "", timeout: float = 60,
        most: int = 10_000,
    ) -> None:  # fmt: skip
        self._source = tasks
        self.tasks = tasks_for(tasks).filter(select or None)
        self._sandboxes = sandboxes_for(backend, cache)
        self._timeout, self._most = timeout, most
        self.agent = agent.using(_exact(agent.policy, sampling or {})) if agent is not None else None

    @property
    def train_dataset(self) -> Any:
        """One row a task, as `datasets.Dataset`: `prompt`, a message with the issue and the task's id."""
        from datasets import Dataset

        return Dataset.from_list([{"prompt": [{**issue_message(task), _TASK: task.id}]} for task in self.tasks])

    def create(self, task: Any, seed: int | None = None, episode_id: str | None = None) -> LabSession:
        """Open a sandbox for one attempt.

        Args:
            task: The prompt of a row of `train_dataset`, or a task's id.
            seed: The same for all attempts of a group; the agent's chance is drawn from it and `episode_id`.
            episode_id: Tells this attempt from the others.

        Raises:
            ConfigError: The prompt names no task.
        """
        name = _task_id(task)
        chance = Random(f"{seed}/{episode_id}").randrange(2**31)
        return LabSession(task_for(self._source, name), self._sandboxes, self.agent, chance, self._timeout, self._most)


def _task_id(task: Any) -> str:
    if isinstance(task, str):
        return task
    messages = task if isinstance(task, Sequence) else [task]
    for message in messages:
        if isinstance(message, Mapping) and message.get(_TASK):
            return str(message[_TASK])
    raise ConfigError(
        f"opening a session of OpenEnv: the prompt names no task; its message needs {_TASK!r}, as in train_dataset"
    )


def _exact(policy: Any, sampling: Mapping[str, Any]) -> ChatPolicy:
    """Return the policy as TRL samples, token-exact."""
    if not isinstance(policy, ChatPolicy) or not policy.tokenizer:
        raise ConfigError(
            f"training with {policy!r} in sessions of OpenEnv: its replies come without the ids that were sampled; use "
            "ChatPolicy(url, model=…, tokenizer=…)"
        )
    own = {name: sampling[name] for name in ("temperature", "top_p") if name in sampling}
    others = {name: value for name, value in sampling.items() if name not in own}
    return replace(policy, **own, body={**policy.body, **others})


__all__ = ["LabSession", "LabSessions"]
