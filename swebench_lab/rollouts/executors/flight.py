"""Flight: one job on its way through the stages of an executor."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from swebench_lab.agents.external.cli_agent import AnyAttempt
from swebench_lab.errors import describe, outcome_of
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.records.trajectory import Span, Trajectory
from swebench_lab.rollouts.executors.jobs import Job
from swebench_lab.rollouts.executors.queues import Slot

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox

_log = logging.getLogger(__name__)

_KINDS = {
    "waiting": "queue",
    "ready": "queue",
    "played": "queue",
    "prepare": "sandbox",
    "open": "sandbox",
    "grade": "grade",
}
"""What the time of each stage counts as."""


class Flight:
    """One job on its way through the stages. Whoever settles it first, its thread or the watch, makes its record."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.box: Sandbox | None = None
        self.boxes = OpenBoxes()
        self.attempt: AnyAttempt | None = None
        self.trajectory: Trajectory | None = None
        self.stage = ""
        self.since = self.start = time.monotonic()
        self.entered = time.time()
        job.spans.append(Span("queue", -1, job.since, self.entered))
        self.slot: Slot | None = None
        self.settled = False
        self.abandoned = False
        self._lock = threading.Lock()

    def enter(self, stage: str) -> None:
        """Note which stage it is in from now on, and how long it was in the one before."""
        now = time.time()
        if self.stage in _KINDS and self.attempt is None:  # a running attempt keeps its own time
            self.job.spans.append(Span(_KINDS[self.stage], -1, self.entered, now))
        self.stage, self.since, self.entered = stage, time.monotonic(), now

    def settle(self) -> bool:
        """Claim the right to make its record; true once."""
        with self._lock:
            settled, self.settled = self.settled, True
            return not settled

    def record(self, stop: str, error: str) -> Trajectory:
        """Return its record as far as it got."""
        attempt = self.attempt
        so_far = self.trajectory or (attempt.trajectory() if attempt else None)
        return replace(so_far, stop=stop, error=error) if so_far else self.job.blank(stop, error)

    def release(self) -> None:
        """Close all that it holds; called on threads of their own, since a box may take seconds to die."""
        self.boxes.close()
        conversation = self.attempt.conversation if self.attempt else None
        if conversation is not None:
            error = outcome_of(conversation.close)
            if isinstance(error, Exception):
                _log.warning("closing the conversation of an attempt that is over: %s", describe(error))
        if self.box is not None:
            self.box.close()
