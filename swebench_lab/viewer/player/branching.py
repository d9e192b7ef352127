"""Branching: continue from a step in a sandbox of that state, keep every layer, grade; and replay a record."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swebench_lab.errors import LabError, PolicyError, describe
from swebench_lab.records.reply import text_of
from swebench_lab.records.rollout import Rollout, Rollouts, rescore
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict
from swebench_lab.rollouts import rewards
from swebench_lab.sandbox.checkpoints import passing_store

if TYPE_CHECKING:
    from swebench_lab.agents.external.cli_agent import AnyAgent, CLIAgent
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.policies.policy import Policy
    from swebench_lab.records.task import Task
    from swebench_lab.rollouts.run_directory import RunDirectory
    from swebench_lab.sandbox.checkpoints import Layer
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.viewer.player.branches import Branch, Branches


def agent_of(policy: Policy | AnyAgent | None, default: AnyAgent | None, flavour: str) -> AnyAgent:
    """Return the agent of a branch.

    Args:
        policy: An agent, or a policy, which takes the place of the default agent's.
        default: The agent of the player; None: the policy gets an agent of this flavour.
        flavour: Prompts and call format of the attempt.

    Raises:
        PolicyError: There is no agent, or the flavour is not bundled and needs an agent that brings it.
    """
    from swebench_lab.agents.agent import Agent
    from swebench_lab.agents.external.cli_agent import CLIAgent

    if isinstance(policy, Agent | CLIAgent):
        return policy
    if default is not None:
        return default if policy is None else default.using(policy)
    if policy is None:
        raise PolicyError("branching: there is no agent; give branch(policy=…) or Stepper(…, agent=…)")
    try:
        return Agent(policy, flavour)
    except ValueError as error:  # custom prompts, or those of another program's file
        raise PolicyError(f"branching: {error}; give Stepper(…, agent=…) with its prompts and tools") from error


def ready_policies(rollout: Rollout) -> dict[str, Policy]:
    """Return the policies that any attempt can be continued with, by name; they need no model.

    Args:
        rollout: The attempt: its own replies go on after a hint or an edit, and its task's gold patch is taken from it.
    """
    from swebench_lab.policies.scripted import NullPolicy, ReplayPolicy
    from swebench_lab.policies.teachers.teacher import Teacher

    policies: dict[str, Policy] = {
        "the recorded replies": ReplayPolicy(rollout.trajectory),
        "submit as it is": NullPolicy(),
    }
    if rollout.task.gold_patch:
        policies["the gold patch"] = Teacher([rollout.task])
    return policies


@dataclass(frozen=True)
class BranchStart:
    """Where branches leave their parent.

    Args:
        parent: Id of the parent; empty: the attempt itself.
        step: Last shared step.
        hint: Text appended to the last observation.
        beginning: The shared steps, with the hint in the last observation.
        layers: Layers of the shared steps.
        edit: Changes made by hand on top of them; None: none.
        edited: Paths of those changes.
    """

    parent: str
    step: int
    hint: str
    beginning: Trajectory
    layers: Sequence[Layer]
    edit: Layer | None
    edited: tuple[str, ...]


def beginning(rollout: Rollout, step: int, hint: str) -> Trajectory:
    """Return the shared steps of a branch; without a hint they are the original's, token for token.

    Raises:
        ValueError: The attempt was submitted at this step.
    """
    trajectory = rollout.trajectory
    if 0 <= step < len(trajectory.steps) and trajectory.steps[step].tool == "submit":
        raise ValueError(f"branching after step {step}: the work was submitted there; branch from step {step - 1}")
    shared = trajectory[: step + 1]
    if not hint:
        return shared
    if shared.steps:
        last = shared.steps[-1]
        hinted = _add_hint(last, hint)
        return replace(shared, steps=(*shared.steps[:-1], hinted))
    if not shared.opening:
        raise ValueError("branching from the start with a hint: the attempt's opening messages were not recorded")
    message = {**shared.opening[-1], "content": f"{text_of(shared.opening[-1])}\n\n{hint}"}
    return replace(shared, opening=(*shared.opening[:-1], message))  # type: ignore[arg-type]


def _add_hint(step: Step, hint: str) -> Step:
    """Return a step whose observation ends with a hint."""
    observation = step.calls[-1].observation if step.calls else step.correction
    return step.with_call(observation=f"{observation}\n\n{hint}")


def grow(
    start: BranchStart,
    task: Task,
    agent: AnyAgent,
    sandboxes: SandboxFactory,
    branches: Branches,
    evaluator: Evaluator | None,
    number: tuple[int, int],
) -> Branch:
    """Make one branch: run, keep its layers, grade, store."""
    from swebench_lab.agents.external.cli_agent import CLIAgent

    if isinstance(agent, CLIAgent):
        return _repeat(start, task, agent, sandboxes, branches, evaluator, number)
    layers = [*start.layers, *([start.edit] if start.edit else [])]
    renamed: dict[str, str] = {}
    shared = len(start.beginning.steps)
    if agent.max_steps <= shared:  # its limit counts the shared steps too, and would end it before it begins
        agent = replace(agent, max_steps=shared + agent.max_steps)
    with sandboxes.open(task, layers=layers) as box:
        trajectory = agent.run(
            task,
            box,
            attempt=number[0],
            seed=number[1],
            resume=start.beginning if start.beginning.opening or shared else None,
            layer_sink=_sink(start, branches, renamed),
        )
    # The first new step's layer holds the person's edit as well: a branch is entered by its steps' layers alone.
    steps = [
        replace(s, layer=renamed.get(s.layer, s.layer)) if n == shared else s for n, s in enumerate(trajectory.steps)
    ]
    rollout = Rollout(task, replace(trajectory, steps=tuple(steps)), _empty_verdict(trajectory), None)
    if evaluator is not None:
        rollout = graded(rollout, evaluator)
    return branches.add(start.parent, start.step, start.hint, start.edited, rollout)


def _repeat(
    start: BranchStart,
    task: Task,
    agent: CLIAgent,
    sandboxes: SandboxFactory,
    branches: Branches,
    evaluator: Evaluator | None,
    number: tuple[int, int],
) -> Branch:
    """Make one branch of an agent of others: it begins anew, is answered what was recorded, and then by its policy.

    Raises:
        ValueError: The branch has changes made by hand, which cannot be part of what is repeated.
    """
    if start.edit is not None:
        raise ValueError(
            f"branching {agent.resolved_kit.name} after manual changes: it repeats its own work only; undo them"
        )
    shared = len(start.beginning.steps)
    if agent.max_steps <= shared:
        agent = replace(agent, max_steps=shared + agent.max_steps)
    with agent.open(sandboxes, task) as box:
        trajectory = agent.run(
            task,
            box,
            attempt=number[0],
            seed=number[1],
            resume=start.beginning,
            hint=start.hint,
            layer_sink=branches.home.put_layer,
        )
    rollout = Rollout(task, trajectory, _empty_verdict(trajectory), None)
    if evaluator is not None:
        rollout = graded(rollout, evaluator)
    return branches.add(start.parent, start.step, start.hint, start.edited, rollout)


def _sink(start: BranchStart, branches: Branches, renamed: dict[str, str]) -> Callable[[Layer], None]:
    """Return the function that stores each new layer; the first one is stored together with the manual edit below it."""
    waiting = [start.edit] if start.edit else []

    def keep(layer: Layer) -> None:
        if waiting:
            both = _merge(waiting.pop(), layer)
            renamed[layer.digest] = both.digest
            layer = both
        branches.home.put_layer(layer)

    return keep


def _merge(lower: Layer, upper: Layer) -> Layer:
    """Return one layer that means the same as two; packed once, because a digest is over what a packed layer holds."""
    store = passing_store()
    both = store.make("squash", layers=[str(lower.path), str(upper.path)])
    with tempfile.NamedTemporaryFile(prefix="swebench-lab-") as file:
        both.pack(file.name)
        return store.make("unpack", [file.fileno()], parents=lower.parents, cwd=upper.cwd, env=upper.env)


def _empty_verdict(trajectory: Trajectory) -> Verdict:
    return Verdict(NOT_GRADED, "grading was not requested", tier=trajectory.tier)


def graded(rollout: Rollout, evaluator: Evaluator) -> Rollout:
    """Return a rollout with its verdict and reward; an infrastructure error is *not graded*, with its reason."""
    trajectory = rollout.trajectory
    if trajectory.stop in (Stop.ERROR, Stop.CANCELLED):
        reason = f"the attempt ended in an error: {trajectory.error}"
        verdict = Verdict(NOT_GRADED, reason, tier=trajectory.tier, cause=Cause.INFRASTRUCTURE)
    else:
        try:
            verdict = evaluator.grade(rollout.task, trajectory.patch)
        except (LabError, OSError) as error:
            reason = f"grading failed: {describe(error)}"
            verdict = Verdict(NOT_GRADED, reason, tier=trajectory.tier, cause=Cause.INFRASTRUCTURE)
    return rescore(Rollouts([replace(rollout, verdict=verdict)]), rewards.of_verdict)[0]


# --- replay ---------------------------------------------------------------------------------------------------------


def replay(rollout: Rollout, sandboxes: SandboxFactory, home: RunDirectory) -> tuple[Rollout, tuple[int, ...]]:
    """Execute a record's calls again and keep each step's layer.

    Returns:
        The same record with layers, and the steps whose observation differed.

    Raises:
        SandboxError: The sandbox failed before all steps were executed.
    """
    from swebench_lab.traces.replay import replay as execute

    with sandboxes.open(rollout.task) as box:
        replayed = execute(rollout.trajectory, box, run_dir=home.path)
    result = replace(rollout, trajectory=replayed.trajectory, layers=replayed.layers)
    home.append(result)
    return result, replayed.drifted
