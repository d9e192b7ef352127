"""LabTaskset and LabHarness: our tasks, sandboxes, agents and grading as an environment of verifiers.

verifiers finds them by the name `swebench-lab-verifiers`: `vf-eval swebench-lab-verifiers`.
"""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from swebench_lab.agents.agent import Agent
from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.errors import GradingError, LabError
from swebench_lab.integrations.shared import evaluator_for, needs, sandboxes_for, task_for, tasks_for
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.policies.policy import Policy
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.snapshots.factory import SandboxFactory

try:
    import verifiers.v1 as vf
except ImportError as error:
    raise needs("verifiers", "verifiers", error) from error

INFO = "swebench_lab"
"""The key of `trace.info` under which the attempt is noted: its task, its patch, how it ended and its verdict."""


class LabTaskConfig(vf.TaskConfig):
    """Where a task's sandboxes come from (`--env.taskset.task.*`)."""

    backend: str = "namespace"
    """Kind of sandbox, as `SandboxFactory` has it."""
    cache: str = ""
    """Folder of the Snapshots; empty: that of the user."""


class LabTasksetConfig(vf.TasksetConfig):
    """Which tasks are loaded (`--env.taskset.*`)."""

    tasks: str = "demo"
    """Where they come from: whatever `load_tasks` takes by name or path."""
    pattern: str = ""
    """A regular expression that ids must match."""
    task: LabTaskConfig = LabTaskConfig()


class LabData(vf.TaskData):
    """A task as verifiers records it: its id, and the issue as the prompt; nothing of the answer."""

    tasks: str = "demo"
    """The source that the id is looked up in."""


class LabTask(vf.Task[LabData, vf.State, LabTaskConfig]):
    """An issue to resolve in a sandbox of ours; `LabHarness` is what works at it."""

    @property
    def key(self) -> str:
        """The task's own id."""
        return str(self.data.id)

    @property
    def task(self) -> Task:
        """The task as we have it."""
        return task_for(self.data.tasks, str(self.data.id))

    @property
    def sandboxes(self) -> SandboxFactory:
        """Where its sandboxes are opened."""
        return sandboxes_for(self.config.backend, self.config.cache)

    async def setup(self, trace: Any, runtime: Any) -> None:
        """Build the tree that attempts start from, once for all of them, and note where the harness finds it."""
        await asyncio.to_thread(self.sandboxes.snapshot, self.task)
        trace.info[INFO] = {
            "task": self.data.id, "tasks": self.data.tasks, "backend": self.config.backend, "cache": self.config.cache,
        }  # fmt: skip

    @vf.reward()
    async def resolved(self, trace: Any) -> float:
        """Grade the patch by the task's own tests, in a fresh sandbox: 1 resolved, 0 unresolved.

        Raises:
            GradingError: It could not be graded; verifiers then records an error and no reward.
        """
        note = trace.info.get(INFO, {})
        if "patch" not in note:
            raise GradingError(
                f"grading {self.data.id}: no patch was left; its attempts must be made by the harness "
                "'swebench-lab-verifiers', in whose sandbox the repository is"
            )
        verdict = await asyncio.to_thread(evaluator_for(self.sandboxes).grade, self.task, note["patch"])
        note["verdict"] = {"status": verdict.status, "cause": str(verdict.cause or ""), "reason": verdict.reason}
        if not verdict.graded:
            raise GradingError(f"grading {self.data.id}: not graded: {verdict.reason}")
        return float(verdict.resolved)

    async def validate(self, runtime: Any) -> bool | None:
        """Whether what is known to solve the task does; None where nobody says what does.

        Raises:
            GradingError: It could not be graded.
        """
        if not self.task.has_gold:
            return None
        evaluator = evaluator_for(self.sandboxes)

        def check() -> Any:
            return evaluator.grade(self.task, evaluator.gold_patch(self.task))

        verdict = await asyncio.to_thread(check)
        if not verdict.graded:
            raise GradingError(f"grading the gold patch of {self.data.id}: not graded: {verdict.reason}")
        return bool(verdict.resolved)


class LabTaskset(vf.Taskset[LabTask, LabTasksetConfig]):
    """Tasks of ours, in the order of their source."""

    def load(self) -> Iterator[LabTask]:
        config = self.config
        for task in tasks_for(config.tasks).filter(config.pattern or None):
            data = LabData(id=task.id, name=task.id, prompt=task.issue.strip(), workdir=task.workdir or None,
                           tasks=config.tasks)  # fmt: skip
            yield LabTask(data, config.task)


class LabHarnessConfig(vf.HarnessConfig):
    """Who works at the task (`--env.agent.harness.*`)."""

    id: str = "swebench-lab-verifiers"
    agent: str = ""
    """A kit of `lab.CLIAgent`, such as `claude-code`; or `module:name` of a function of a policy that returns an agent;
    empty: our own agent."""
    flavour: str = "tool-calling"
    """Prompts and call format of our own agent; with `tool-calling` its calls are the endpoint's own."""
    max_steps: int = 40
    """Model calls of one attempt, except where a function makes the agent."""
    wall_time: float = 1800.0
    """Seconds of one attempt, likewise."""


class LabHarness(vf.Harness[LabHarnessConfig]):
    """Lets an agent work in a sandbox of ours over the task's tree; every model call goes through verifiers.

    The agent runs in this process or, if it is a command-line agent, inside the sandbox, which has no network but this; so
    `runtime` is only where verifiers keeps its own things, and `subprocess` will do.
    """

    NEEDS_CONTAINER = False
    EXECUTES_CODE = False  # not in the runtime: in the sandbox

    async def launch(
        self,
        ctx: Any,
        trace: Any,
        runtime: Any,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: Any,
    ) -> vf.ProgramResult:
        """Make one attempt; what it changed is left in `trace.info`, also where a limit of verifiers cut it off.

        Raises:
            ValueError: The task is none of `LabTaskset`, or brings tools of its own.
        """
        note = trace.info.get(INFO)
        if note is None or mcp_urls:
            raise ValueError(
                "the harness swebench-lab-verifiers runs tasks of the taskset of the same name, without tools"
            )
        _, prompt = self.resolve_text_prompt(data)
        task = replace(task_for(note["tasks"], note["task"]), issue=prompt or "")
        agent = self.agent_over(self.policy(endpoint, secret, ctx.model))
        box = await asyncio.to_thread(_open, agent, sandboxes_for(note["backend"], note["cache"]), task)
        try:
            trajectory = await asyncio.to_thread(agent.run, task, box)
        except asyncio.CancelledError:
            note["patch"] = await asyncio.to_thread(_patch, box)
            raise
        else:
            cut_off = trajectory.stop == "error" and trace.stop_condition is not None
            note["patch"] = await asyncio.to_thread(_patch, box) if cut_off else trajectory.patch
        finally:
            await asyncio.to_thread(box.close)  # which also ends an attempt that was cancelled
        note |= {"stop": trajectory.stop, "steps": len(trajectory.steps), "seconds": trajectory.seconds}
        return _result(trajectory)

    def policy(self, endpoint: str, secret: str, model: str) -> Policy:
        """Return the policy that asks verifiers, which says how is sampled."""
        own = not self.config.agent
        return ChatPolicy(
            endpoint,
            model=model,
            api_key=secret,
            timeout=self.config.wall_time,
            body={"temperature": None, "top_p": None, "seed": None},
            tool_calls=not own or self.config.flavour == "tool-calling",
        )

    def agent_over(self, policy: Policy) -> Agent | CLIAgent:
        """Return the agent that the configuration names."""
        config = self.config
        if ":" in config.agent:
            make: Callable[[Policy], Agent | CLIAgent] = pkgutil.resolve_name(config.agent)
            return make(policy)
        if config.agent:
            return CLIAgent(config.agent, policy, max_steps=config.max_steps, wall_time=config.wall_time)
        return Agent(policy, flavour=config.flavour, max_steps=config.max_steps, wall_time=config.wall_time)


def _open(agent: Agent | CLIAgent, sandboxes: SandboxFactory, task: Task) -> Sandbox:
    return agent.open(sandboxes, task) if isinstance(agent, CLIAgent) else sandboxes.open(task)


def _patch(box: Sandbox) -> str:
    """What was changed so far; nothing where it cannot be taken as a patch, as when an agent hands in nothing."""
    try:
        return str(box.diff())
    except LabError:
        return ""


def _result(trajectory: Trajectory) -> vf.ProgramResult:
    is_error = trajectory.stop == "error"
    return vf.ProgramResult(exit_code=int(is_error), stdout=trajectory.stop, stderr=trajectory.error)


__all__ = ["LabHarness", "LabHarnessConfig", "LabTask", "LabTaskset", "LabTasksetConfig"]
