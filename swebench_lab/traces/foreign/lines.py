"""Lines: a captured attempt taken apart into its main work and one line for each sub-agent and each call beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swebench_lab.agents.external.replaying import requests_of
from swebench_lab.records.step import Step, Thread
from swebench_lab.records.trajectory import Trajectory


@dataclass(frozen=True)
class Line:
    """Steps that are one conversation, or several where its history was shortened.

    Args:
        thread: What kind of line it is.
        steps: In the order of their calls.
        called_by: The step, and the number of its call, that set a sub-agent to work; None where that is not known.
    """

    thread: Thread
    steps: tuple[Step, ...]
    called_by: tuple[int, int] | None = None


def is_captured(trajectory: Trajectory) -> bool:
    """Say whether an agent of others made the attempt, so that its steps hold their requests."""
    return bool(trajectory.steps) and all("request" in step.extra for step in trajectory.steps)


def lines_of(trajectory: Trajectory) -> list[Line]:
    """Return the lines of a captured attempt: the main work first, then the others in the order in which they began."""
    requests = requests_of(trajectory.steps)
    main = tuple(step for step in trajectory.steps if step.thread is Thread.MAIN)
    groups: dict[int, list[Step]] = {}
    for step in trajectory.steps:
        if step.thread is not Thread.MAIN:
            root = step.index if step.thread is Thread.AUXILIARY else _root(step, trajectory.steps)
            groups.setdefault(root, []).append(step)
    others = [
        Line(
            group[0].thread,
            tuple(group),
            _caller(requests[root], [step for step in trajectory.steps[:root] if step.index not in groups]),
        )
        for root, group in groups.items()
    ]
    return [Line(Thread.MAIN, main), *others]


def _root(step: Step, steps: Sequence[Step]) -> int:
    while step.parent is not None:
        step = steps[step.parent]
    return step.index


def _caller(messages: Sequence[Mapping[str, Any]], before: Sequence[Step]) -> tuple[int, int] | None:
    """Return the one call of the step before a line whose argument, a text of some length, stands in what it was asked."""
    prompt = "\n".join(str(message["content"]) for message in messages if message["role"] == "user")
    for step in reversed(before):
        if step.thread is not Thread.AUXILIARY:
            matches = [
                number
                for number, call in enumerate(step.calls)
                if any(len(text) > 3 and text in prompt for text in call.arguments.values())
            ]
            return (step.index, matches[0]) if len(matches) == 1 else None
    return None
