"""RunningAttempt: what every attempt keeps while it goes on, whoever decides on its steps: time, outcome, record."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

from swebench_lab.errors import LabError, PatchError
from swebench_lab.policies.policy import Policy
from swebench_lab.records.reply import Message
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Span, Stop, Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox

_log = logging.getLogger(__name__)

SlotOf = Callable[[str], AbstractContextManager[float]]
"""Given "model" or "tool": what is held while it is used; entering it yields the seconds that were waited for it."""

_LIMITS = (Stop.MAX_STEPS, Stop.MAX_TOKENS, Stop.MAX_COST, Stop.TIMEOUT, Stop.FORMAT)


def at_once(_: str) -> AbstractContextManager[float]:
    """Return a slot that nobody waits for."""
    return nullcontext(0.0)


class Settings(Protocol):
    """What an attempt asks its agent for, of whichever kind it is."""

    @property
    def policy(self) -> Policy: ...
    @property
    def wall_time(self) -> float: ...
    @property
    def keep_layers(self) -> bool: ...
    @property
    def submit_on_limit(self) -> bool: ...
    @property
    def fingerprint(self) -> str: ...


class RunningAttempt(ABC):
    """An attempt as it goes; iterate over it once. Other threads may ask for its `trajectory()` at any moment.

    Args:
        agent: Whose it is.
        task: The problem.
        sandbox: Where it works.
        number: Which of several attempts this is.
        seed: All randomness is drawn from it.
        deadline: Moment on the clock of `time.monotonic()` at which it ends as `timeout`.
        layer_sink: Called with the layer of each step, if the agent keeps layers.
        slot: Entered around each call of the model and each use of the sandbox.
    """

    def __init__(
        self,
        agent: Settings,
        task: Task,
        sandbox: Sandbox,
        number: int,
        seed: int,
        deadline: float | None,
        layer_sink: Callable[[Layer], object] | None,
        slot: SlotOf,
    ) -> None:
        self.task, self.sandbox, self.number, self.seed = task, sandbox, number, seed
        self.fingerprint, self.policy_name = agent.fingerprint, agent.policy.name
        self.view = replace(task.view(), workdir=sandbox.workdir)
        self.layer_sink = layer_sink if agent.keep_layers else None
        self.slot = slot
        self.started_at, self.start = time.time(), time.monotonic()
        self.ends_at = self.start + agent.wall_time
        if deadline is not None:
            self.ends_at = min(self.ends_at, deadline)
        self.stop, self.error, self.patch = Stop.CANCELLED, "", ""
        self.failure: Exception | None = None
        """What ended the attempt as `error`, as it was raised."""
        self.spans: list[Span] = []
        """What the time went into so far."""
        self._hands_in = (Stop.SUBMITTED, *(_LIMITS if agent.submit_on_limit else ()))

    @abstractmethod
    def __iter__(self) -> Iterator[Step]:
        """Yield each step until the attempt is over, then take the patch."""

    @abstractmethod
    def trajectory(self) -> Trajectory:
        """Return the record so far."""

    def fail(self, error: Exception, text: str) -> None:
        """End the attempt with an error."""
        self.stop, self.error, self.failure = Stop.ERROR, text, error
        _log.warning("%s, attempt %d: %s", self.task.id, self.number, text)

    def keep_layer(self, step: int) -> Layer | None:
        """Freeze what a step changed, hand it over and return it; None when layers are not kept."""
        if self.layer_sink is None:
            return None
        with self.clock("sandbox", step):
            layer = self.sandbox.checkpoint()
            self.layer_sink(layer)
        return layer

    @contextmanager
    def stage(self, kind: str, step: int = -1) -> Iterator[float]:
        """Wait for a slot at the model or the sandbox, then note how long it is used.

        Args:
            kind: `"model"`, `"tool"` or `"sandbox"`; the latter two share the slots of the sandbox.
            step: Index of the step that the time belongs to; -1: none.

        Yields:
            Seconds that were waited, which do not count against the attempt.
        """
        start = time.time()
        with self.slot("model" if kind == "model" else "tool") as waited:
            self.ends_at += waited
            if waited:
                self.spans.append(Span("queue", step, start, start + waited))
            with self.clock(kind, step):
                yield waited

    @contextmanager
    def clock(self, kind: str, step: int) -> Iterator[None]:
        """Note how long something takes."""
        start = time.time()
        try:
            yield
        finally:
            self.spans.append(Span(kind, step, start, time.time()))

    def take_patch(self) -> None:
        """Take what was changed as a patch, if the attempt hands anything in."""
        if self.stop not in self._hands_in:
            return
        try:
            with self.stage("sandbox"):
                self.patch = self.sandbox.diff()
        except PatchError as error:  # the attempt's own doing, so it is graded: as one that hands in nothing
            self.error = f"taking the patch: {error}"
        except LabError as error:
            self.fail(error, f"taking the patch: {error}")

    def recorded(self, opening: Sequence[Message], steps: Sequence[Step], flavour: str, **more: Any) -> Trajectory:
        """Return the record of these steps."""
        return Trajectory(
            task_id=self.task.id,
            attempt=self.number,
            seed=self.seed,
            opening=tuple(opening),
            steps=tuple(steps),
            stop=self.stop.value,
            patch=self.patch,
            error=self.error,
            agent=self.fingerprint,
            policy=self.policy_name,
            flavour=flavour,
            snapshot=self.sandbox.snapshot.key,
            tier=self.sandbox.tier,
            seconds=time.monotonic() - self.start,
            started_at=self.started_at,
            spans=tuple(self.spans),
            **more,
        )
