"""Agent: a policy with prompts, tools and limits, and the loop that lets it work in a sandbox."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from swebench_lab import _html
from swebench_lab.agents.attempt import Attempt
from swebench_lab.agents.running import SlotOf, at_once
from swebench_lab.agents.settings import AgentSettings
from swebench_lab.policies.policy import Policy
from swebench_lab.records._late import late
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox

ConfigFiles = str | Path | Sequence[str | Path]
"""A configuration file, or several to merge, in order."""


class AttemptOptions(TypedDict, total=False):
    """Keywords of `Agent.attempt` that `run` and `steps` take as well."""

    deadline: float | None
    layer_sink: Callable[[Layer], object] | None
    resume: Trajectory | None


@dataclass(frozen=True, repr=False)
class Agent(AgentSettings):
    """A policy with prompts, tools and limits: everything that changes what an attempt does.

    Args:
        policy: What answers.
        flavour: Prompts and call format: `"xml"`, `"tool-calling"`, `"parallel-calling"`, `"coder"`, `"mini"`, or
            a Flavour.
        tools: Names of tools, or Tools; empty: those of the flavour.
        max_steps: Replies after which the attempt ends, malformed ones included.
        wall_time: Seconds after which the attempt ends.
        command_timeout: Seconds after which one command is killed.
        max_tokens: Sampled tokens, over the whole attempt, after which it ends; None: no limit.
        max_cost: US dollars, over the whole attempt, after which it ends; None: no limit.
        max_format_errors: Malformed replies in a row that end the attempt.
        observation_limit: Characters of an observation that are shown; of longer ones, the head and the tail.
        max_timeouts: Commands in a row that are killed by their timeout, after which the attempt ends as `timeout`;
            None: no limit.
        tool_time: Seconds of commands, over the whole attempt, after which it ends as `timeout`; None: no limit.
        keep_observations: Latest observations that the policy is shown whole; of those before, it is shown a line that
            says how long they were. None: all. An attempt then becomes several segments to train on.
        history: Processors that change what the policy sees of the conversation, applied in order; see history.py.
        setup: What is done in the sandbox before the first reply.
        reminder: Added to every observation; `{{left}}` is the number of replies that are left.
        submit_on_limit: Whether an attempt that a limit ended still hands in what it changed.
        keep_layers: Whether what each step changed is handed to the `layer_sink` of `run`; changes no attempt.

    Raises:
        ValueError: A limit is not positive, or a flavour or tool is unknown.
    """

    def attempt(
        self,
        task: Task,
        sandbox: Sandbox,
        attempt: int = 0,
        seed: int = 0,
        *,
        deadline: float | None = None,
        layer_sink: Callable[[Layer], object] | None = None,
        resume: Trajectory | None = None,
        slot: SlotOf = at_once,
    ) -> Attempt:
        """Return an attempt that is ready to begin: iterating over it yields the steps, `trajectory()` is the record.

        Args:
            task: The problem; the policy sees its view only.
            sandbox: An open sandbox of the task. It stays open, as the attempt leaves it; between two steps it is the
                caller's, to look at or to change.
            attempt: Which of several attempts this is, from 0.
            seed: All randomness of the attempt is drawn from it.
            deadline: Moment on the clock of `time.monotonic()` at which the attempt ends as `timeout`.
            layer_sink: Called with the layer of each step, if the agent keeps layers.
            resume: The beginning of another attempt at the task, which this one goes on from. The sandbox must be
                what those steps left; their replies count towards the limits on steps and tokens.
            slot: Entered around each call of the model (`"model"`) and each use of the sandbox (`"tool"`); yields the
                seconds that were waited for it, which do not count against the attempt.

        Raises:
            ValueError: `resume` is of another task.
        """
        return Attempt(
            self, task, sandbox, attempt, seed, deadline=deadline, layer_sink=layer_sink, resume=resume, slot=slot
        )

    def run(
        self,
        task: Task,
        sandbox: Sandbox,
        attempt: int = 0,
        seed: int = 0,
        *,
        on_step: Callable[[Step], None] | None = None,
        **options: Unpack[AttemptOptions],
    ) -> Trajectory:
        """Make one attempt at a task.

        Args:
            task: The problem.
            sandbox: An open sandbox of the task; it stays open.
            attempt: Which of several attempts this is, from 0.
            seed: All randomness of the attempt is drawn from it.
            on_step: Called with each step as soon as it is over; what it raises is raised here.
            **options: `deadline`, `layer_sink` and `resume`, as `attempt` takes them.

        Returns:
            The record, whatever happened: failures end it with the stop reason `error`.

        Raises:
            ValueError: `resume` is of another task.
        """
        running = self.attempt(task, sandbox, attempt, seed, **options)
        for step in running:
            if on_step:
                on_step(step)
        return running.trajectory()

    def steps(
        self, task: Task, sandbox: Sandbox, attempt: int = 0, seed: int = 0, **options: Unpack[AttemptOptions]
    ) -> Generator[Step, None, Trajectory]:
        """Make one attempt, as `run` does, and yield each step as it ends; the generator returns the Trajectory."""
        running = self.attempt(task, sandbox, attempt, seed, **options)
        yield from running
        return running.trajectory()

    def using(self, policy: Policy) -> Agent:
        """Return the same agent with another policy."""
        return replace(self, policy=policy)

    @classmethod
    def from_config(
        cls, path: ConfigFiles, policy: Policy | None = None, *, root: str | Path | None = None, **changes: Any
    ) -> Agent:
        """Return an agent that works as SWE-agent or mini-swe-agent configuration files say.

        Prompts, parsers, history processors, limits and tool bundles are the files' own; docs/configs.md says what
        becomes of every option. Bundles are read now, and installed in each attempt's sandbox as they are.

        Args:
            path: The YAML file; or several, of which each overrides those before it, option by option, and values such
                as `agent.step_limit=50`.
            policy: What answers; None: the model that the files name, at the endpoint that they name.
            root: Folder that relative paths in the files start from; None: `$SWE_AGENT_CONFIG_ROOT`, a file's folder
                or the first above it that holds what is named, the last file's first.
            **changes: Fields of the Agent to set otherwise than the files, such as `max_steps`.

        Raises:
            ConfigError: An option is unknown or cannot be taken over; names the files and the option.
        """
        read: Callable[..., Agent] = late("Agent.from_config")
        return replace(read(path, policy, root), **changes)

    def __repr__(self) -> str:
        """Return one line: the policy, the flavour and the step limit."""
        return f"Agent({self.policy.name!r}, {self.resolved_flavour.name!r}, max_steps={self.max_steps})"

    def _repr_html_(self) -> str:
        flavour, names = self.resolved_flavour, ", ".join(tool.name for tool in self.resolved_tools)
        facts = {"policy": self.policy.fingerprint, "tools": names, **self.limits(), "fingerprint": self.fingerprint}
        return _html.card(repr(self), _html.facts(facts) + _html.folded("system prompt", flavour.system))
