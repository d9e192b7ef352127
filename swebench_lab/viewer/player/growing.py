"""Growing branches: go on from a step in a sandbox of that state, keep every layer, grade; and replay a record."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swebench_lab.errors import LabError
from swebench_lab.records.rollout import Rollout, Rollouts, rescore
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict
from swebench_lab.rollouts import rewards
from swebench_lab.sandbox.checkpoints import passing_store

if TYPE_CHECKING:
    from swebench_lab.agents.agent import Agent
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.records.task import Task
    from swebench_lab.rollouts.run_directory import RunDirectory
    from swebench_lab.sandbox.checkpoints import Layer
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.viewer.player.branches import Branch, Branches


@dataclass(frozen=True)
class Start:
    """Where branches leave their parent.

    Args:
        parent: Id of the parent; empty: the attempt itself.
        step: Last shared step.
        hint: What is added after it.
        beginning: The shared steps, the hint in the last thing the policy saw.
        layers: Layers of the shared steps.
        edit: What a person changed on top of them; None: nothing.
        edited: The paths of it.
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
        ValueError: The attempt was handed in at this step.
    """
    trajectory = rollout.trajectory
    if 0 <= step < len(trajectory.steps) and trajectory.steps[step].tool == "submit":
        raise ValueError(f"branching after step {step}: the work was handed in there; branch from step {step - 1}")
    shared = trajectory[: step + 1]
    if not hint:
        return shared
    if shared.steps:
        last = shared.steps[-1]
        told = replace(last, observation=f"{last.observation}\n\n{hint}")
        return replace(shared, steps=(*shared.steps[:-1], told))
    if not shared.opening:
        raise ValueError("branching from the start with a hint: the attempt's opening messages were not recorded")
    said = {**shared.opening[-1], "content": f"{shared.opening[-1]['content']}\n\n{hint}"}
    return replace(shared, opening=(*shared.opening[:-1], said))  # type: ignore[arg-type]


def grow(
    start: Start,
    task: Task,
    agent: Agent,
    sandboxes: SandboxFactory,
    branches: Branches,
    evaluator: Evaluator | None,
    number: tuple[int, int],
) -> Branch:
    """Make one branch: run, keep its layers, grade, store."""
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
    made = Rollout(task, replace(trajectory, steps=tuple(steps)), _not_asked(trajectory), None)
    if evaluator is not None:
        made = graded(made, evaluator)
    return branches.add(start.parent, start.step, start.hint, start.edited, made)


def _sink(start: Start, branches: Branches, renamed: dict[str, str]) -> Callable[[Layer], None]:
    """Return what keeps each new layer; the first one together with a person's edit below it."""
    waiting = [start.edit] if start.edit else []

    def keep(layer: Layer) -> None:
        if waiting:
            both = _merged(waiting.pop(), layer)
            renamed[layer.digest] = both.digest
            layer = both
        branches.home.put_layer(layer)

    return keep


def _merged(lower: Layer, upper: Layer) -> Layer:
    """Return one layer that means the same as two; packed once, because a digest is over what a packed layer holds."""
    store = passing_store()
    both = store.make("squash", layers=[str(lower.path), str(upper.path)])
    with tempfile.NamedTemporaryFile(prefix="swebench-lab-") as file:
        both.pack(file.name)
        return store.make("unpack", [file.fileno()], parents=lower.parents, cwd=upper.cwd, env=upper.env)


def _not_asked(trajectory: Trajectory) -> Verdict:
    return Verdict(NOT_GRADED, "it was not asked for", tier=trajectory.tier)


def graded(rollout: Rollout, evaluator: Evaluator) -> Rollout:
    """Return a rollout with its verdict and reward; a fault of ours is *not graded*, with its reason."""
    trajectory = rollout.trajectory
    if trajectory.stop in (Stop.ERROR, Stop.CANCELLED):
        reason = f"the attempt ended in an error: {trajectory.error}"
        verdict = Verdict(NOT_GRADED, reason, tier=trajectory.tier, cause=Cause.INFRASTRUCTURE)
    else:
        try:
            verdict = evaluator.grade(rollout.task, trajectory.patch)
        except (LabError, OSError) as error:
            reason = f"grading failed: {error}"
            verdict = Verdict(NOT_GRADED, reason, tier=trajectory.tier, cause=Cause.INFRASTRUCTURE)
    return rescore(Rollouts([replace(rollout, verdict=verdict)]), rewards.resolved)[0]


# --- replay ---------------------------------------------------------------------------------------------------------


def replay(rollout: Rollout, sandboxes: SandboxFactory, home: RunDirectory) -> tuple[Rollout, tuple[int, ...]]:
    """Execute a record's calls again and keep each step's layer.

    Returns:
        The same record with layers, and the steps whose observation came out differently.

    Raises:
        SandboxError: The sandbox failed before all steps were executed.
    """
    from swebench_lab.traces.replay import replay as execute

    with sandboxes.open(rollout.task) as box:
        made = execute(rollout.trajectory, box, run_dir=home.path)
    found = replace(rollout, trajectory=made.trajectory, layers=made.layers)
    home.append(found)
    return found, made.drifted
