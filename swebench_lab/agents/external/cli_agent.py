"""CLIAgent: an agent that somebody else wrote, unmodified, with a policy of ours; the rest is as with an Agent."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

from swebench_lab import _html
from swebench_lab.agents.agent import Agent, AttemptOptions
from swebench_lab.agents.attempt import Attempt
from swebench_lab.agents.external import installing
from swebench_lab.agents.external.cli_attempt import CLIAttempt
from swebench_lab.agents.external.cli_settings import CLISettings
from swebench_lab.agents.running import SlotOf, at_once
from swebench_lab.errors import SandboxUnavailable
from swebench_lab.policies.policy import Policy
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory


@dataclass(frozen=True, repr=False)
class CLIAgent(CLISettings):
    """A command-line agent in our sandbox, its model calls answered by a policy.

    Nothing of the agent is changed. It finds a model server on its box's own loopback, which this process answers; the
    box reaches nothing else. Every model call is a step: with its calls, tokens, cost, and the layer of what changed until
    the next one. An agent that ends by itself, with exit code 0, has handed its work in.

    Args:
        kit: Name of a bundled kit, such as `"codex"` or `"claude-code"`, or a Kit.
        policy: What answers.
        version: Of the agent; empty: the one that the kit was tried with.
        max_steps: Model calls after which the attempt ends.
        wall_time: Seconds after which the attempt ends.
        max_tokens: Sampled tokens, over the whole attempt, after which it ends; None: no limit.
        max_cost: US dollars, over the whole attempt, after which it ends; None: no limit.
        prompt: What the agent is told; `{{issue}}`, `{{workdir}}` and `{{repo}}` are filled in.
        arguments: Further arguments of the agent's command line.
        env: Further variables of the agent.
        submit_on_limit: Whether an attempt that a limit ended still hands in what it changed.
        keep_layers: Whether the box is kept at each model call, where somebody takes layers.

    Raises:
        ValueError: A limit is not positive, or the kit is unknown.
    """

    def using(self, policy: Policy) -> CLIAgent:
        """Return the same agent with another policy."""
        return replace(self, policy=policy)

    # --- boxes ------------------------------------------------------------------------------------------------------

    def install(self) -> str:
        """Install the agent, once for each version, and return its folder; needs the network the first time.

        Raises:
            AgentError: It cannot be installed.
        """
        return str(installing.install(self.resolved_kit, self.version))

    def furnished(self, snapshot: Snapshot) -> Snapshot:
        """Return a Snapshot whose boxes see the installed agent, read-only.

        Raises:
            AgentError: The agent is not there and cannot be installed.
        """
        folder = installing.install(self.resolved_kit, self.version)
        return installing.furnished(snapshot, folder) if self.resolved_kit.source else snapshot

    def open(self, sandboxes: SandboxFactory, task: Task, layers: Sequence[Layer] = ()) -> Sandbox:
        """Open a sandbox that this agent can work in.

        Args:
            sandboxes: Opens it.
            task: The task.
            layers: Checkpoints to start on top of, oldest first.

        Raises:
            SandboxUnavailable: Boxes of this kind have no loopback of their own.
        """
        self.check(sandboxes.backend, sandboxes.network)
        return sandboxes.open(self.furnished(sandboxes.snapshot(task)), layers=layers)

    def check(self, backend: str, network: str = "none") -> None:
        """Refuse, before anything starts, backends whose boxes cannot be listened in.

        Raises:
            SandboxUnavailable: This is one of them; says which are not.
        """
        if not backend.startswith(("namespace", "docker")) or network == "host":
            raise SandboxUnavailable(
                f"running {self.resolved_kit.name} in boxes of {backend!r} with network {network!r}: they have no loopback "
                "of their own for its model calls; use SandboxFactory('namespace'), as root or not, or 'docker', with "
                "network='none'"
            )

    # --- attempts -----------------------------------------------------------------------------------------------------

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
        hint: str = "",
    ) -> CLIAttempt:
        """Return an attempt that is ready to begin: iterating over it yields the steps, `trajectory()` is the record.

        Args:
            task: The problem; the policy sees its view, the agent the prompt.
            sandbox: An open sandbox that sees the agent, such as `open` returns. It stays open.
            attempt: Which of several attempts this is, from 0.
            seed: All chance of the policy is drawn from it.
            deadline: Moment on the clock of `time.monotonic()` at which the attempt ends as `timeout`.
            layer_sink: Called with the layer of each step, if the agent keeps layers.
            resume: The beginning of another attempt of this agent at the task. The sandbox must be as the task starts:
                the agent begins anew and is answered what was recorded, its requests being compared; from the first
                call after that on, the policy answers.
            slot: Entered around each question to the policy; yields the seconds that were waited for it.
            hint: What the policy is told behind the last message of its first question, with `resume`.

        Raises:
            ValueError: `resume` is of another task or another agent.
        """
        return CLIAttempt(
            self,
            task,
            sandbox,
            attempt,
            seed,
            deadline=deadline,
            layer_sink=layer_sink,
            resume=resume,
            slot=slot,
            hint=hint,
        )

    def run(
        self,
        task: Task,
        sandbox: Sandbox,
        attempt: int = 0,
        seed: int = 0,
        *,
        on_step: Callable[[Step], None] | None = None,
        hint: str = "",
        **options: Unpack[AttemptOptions],
    ) -> Trajectory:
        """Make one attempt at a task; arguments are those of `attempt`, and `on_step` is called with each step.

        Returns:
            The record, whatever happened: failures end it with the stop reason `error`.
        """
        running = self.attempt(task, sandbox, attempt, seed, hint=hint, **options)
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

    def __repr__(self) -> str:
        """Return one line: the agent, its version, the policy and the step limit."""
        kit = self.resolved_kit
        version = self.version or kit.version
        return f"CLIAgent({kit.name!r}, {self.policy.name!r}, version={version!r}, max_steps={self.max_steps})"

    def _repr_html_(self) -> str:
        kit = self.resolved_kit
        facts = {
            "policy": self.policy.fingerprint,
            "dialect": kit.dialect,
            **self.limits(),
            "fingerprint": self.fingerprint,
        }
        return _html.card(repr(self), _html.facts(facts) + _html.folded("prompt", self.prompt))


AnyAgent = Agent | CLIAgent
"""Whoever attempts tasks."""

AnyAttempt = Attempt | CLIAttempt
"""One of their attempts."""
