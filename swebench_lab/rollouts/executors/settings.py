"""Stages and Deadlines: how much runs at once, how long anything may take, and how often it is retried."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Stages:
    """How many attempts may be in each stage at once, so that none of them holds up another; on a cluster, per node.

    Args:
        prepare: Environments that are built or brought onto the machine at once.
        open: Sandboxes that are started at once; None: twice the processors.
        ready: Sandboxes that are open ahead of need; None: an eighth of the workers.
        model: Calls of the policy at once; None: one for each worker.
        tools: Commands of agents at once; None: eight for each processor.
        grade: Patches that are graded at once; None: one for each processor.
        io_bytes: Bytes of cold environments that are built or brought at once; a larger one goes alone.
    """

    prepare: int = 4
    open: int | None = None
    ready: int | None = None
    model: int | None = None
    tools: int | None = None
    grade: int | None = None
    io_bytes: int = 4_000_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < (0 if field.name == "ready" else 1):
                raise ValueError(f"Stages({field.name}={value}): a stage that takes nothing would hold up all")

    def limits(self, workers: int) -> dict[str, int]:
        """Return the number for each stage, those left open filled in."""
        cores = len(os.sched_getaffinity(0))
        usual: dict[str, Any] = {
            "prepare": self.prepare,
            "open": self.open or 2 * cores,
            "ready": max(1, workers // 8) if self.ready is None else self.ready,
            "model": self.model or workers,
            "tools": self.tools or 8 * cores,
            "grade": self.grade or cores,
        }
        return usual


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long anything may take, in seconds, and how often an infrastructure error is retried.

    Commands have the agent's `command_timeout`, and every attempt its `wall_time`. Time spent waiting for a turn in a
    bounded stage does not count against the attempt.

    Args:
        attempt: An attempt, from its first message on; None: the agent's own limit.
        open: Until a sandbox is open, its environment being there.
        model: One call of the policy; beyond it the endpoint counts as stalled, and the attempt is retried.
        grade: One grading; None: as the task's tests allow.
        run: The whole collection; what is not finished then is cut off and recorded as *not graded*.
        straggler: What the last attempts may take once nothing waits any more; None: no limit of its own.
        grace: What an attempt may overrun its end before it is cut off from outside.
        retries: How often an attempt is retried that an infrastructure error ended; errors of agents are not retried.
        backoff: Before the first retry; it doubles with each further one.
    """

    attempt: float | None = None
    open: float = 180.0
    model: float | None = 900.0
    grade: float | None = None
    run: float | None = None
    straggler: float | None = None
    grace: float = 15.0
    retries: int = 2
    backoff: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            lowest_is_zero = field.name in ("retries", "backoff", "grace")
            if value is not None and (value < 0 or (value == 0 and not lowest_is_zero)):
                raise ValueError(f"Deadlines({field.name}={value}): must be positive")
