"""Job, Batch, Source and AttemptSink: attempts to make, their fair order, and what is told how they go."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from swebench_lab.agents.external.cli_agent import AnyAgent
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trackers import Report
from swebench_lab.records.trajectory import Span, Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict
from swebench_lab.rollouts.executors.queues import BoundedQueue

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Layer


class Sharing(Protocol):
    """Who makes which attempt of a batch, where several collectors work on one run directory."""

    def take(self, job: Job) -> bool:
        """Claim an attempt before it is begun; false when somebody else makes it, or has made it."""
        ...

    def holds(self, job: Job) -> bool:
        """Return whether an attempt is claimed for its batch."""
        ...

    def finished_elsewhere(self, job: Job) -> Any:
        """Return the entry of an attempt that somebody else has finished; None where nobody has."""
        ...

    def release(self, job: Job) -> None:
        """Give the claim of an attempt up: it has its row."""
        ...

    def left(self) -> list[Job]:
        """Take out the attempts that others are making."""
        ...

    def waiting(self) -> int:
        """Return how many attempts others are making."""
        ...


class Batch:
    """Attempts that were asked for together.

    Args:
        agent: Who attempts.
        fingerprint: The agent's.
        count: How many attempts there are.
        window: Results that may wait to be taken before graders are held back; None: any number.
        run_seconds: After which what is not finished is cut off.
    """

    def __init__(
        self, agent: AnyAgent, fingerprint: str, count: int, window: int | None = None, run_seconds: float | None = None
    ) -> None:
        self.agent, self.fingerprint, self.count = agent, fingerprint, count
        self.results: BoundedQueue[Rollout] = BoundedQueue(window)
        self.ends_at = time.monotonic() + run_seconds if run_seconds is not None else None
        self.finished = 0
        self.recorded = 0
        self.failures = 0
        """Results made here that were not graded."""
        self.error: Exception | None = None
        """What the reward function raised first."""
        self.last_start = time.monotonic()
        self.cancelled = False
        self.sharing: Sharing | None = None
        """Who makes which of them; None: all are made here."""
        self.report: Report | None = None
        """What counts results for a tracker."""
        self._lock = threading.Lock()

    def add(self, rollout: Rollout, made: bool = True) -> None:
        """Take in one result, which is recorded already; wait while the window is full.

        Args:
            rollout: The result.
            made: Whether it was made here, not by another collector.
        """
        with self._lock:
            self.recorded += made
            self.failures += made and not rollout.verdict.graded
        if self.report is not None:
            self.report.add(rollout.verdict.status, rollout.reward)
        self.results.put(rollout)
        with self._lock:
            self.finished += 1

    @property
    def over(self) -> bool:
        """Whether all of it has ended."""
        return self.finished >= self.count or self.cancelled


@dataclass(slots=True, eq=False)
class Job:
    """One attempt to be made, and what has become of it so far.

    `spans` says what its time went into outside of the attempt itself, and `since` when it began to wait.
    """

    task: Task
    attempt: int
    seed: int
    batch: Batch
    tries: int = 0
    grade_tries: int = 0
    prepared: bool = False
    since: float = field(default_factory=time.time)
    spans: list[Span] = field(default_factory=list)

    def blank(self, stop: str, error: str) -> Trajectory:
        """Return the record of an attempt that did not get to its first step."""
        agent = self.batch.agent
        return Trajectory(
            self.task.id,
            self.attempt,
            self.seed,
            stop=stop,
            error=error,
            agent=self.batch.fingerprint,
            policy=agent.policy.name,
            started_at=time.time(),
        )


def not_graded(reason: str, tier: str = "") -> Verdict:
    """Return the verdict of an attempt that an infrastructure error, or its end from outside, kept from its grade."""
    return Verdict(NOT_GRADED, reason, tier=tier, cause=Cause.INFRASTRUCTURE)


class AttemptSink(Protocol):
    """What an executor reports to: the recorder, or, on a node of a cluster, what sends everything to the driver."""

    @property
    def layers(self) -> bool:
        """Whether step layers are wanted."""
        ...

    def keep_layer(self, layer: Layer) -> None:
        """Keep what a step changed."""

    def began(self, job: Job, trajectory: Trajectory) -> None:
        """Note that an attempt has begun."""

    def stepped(self, job: Job, step: Step) -> None:
        """Note a step of it."""

    def retried(self, job: Job, trajectory: Trajectory | None, reason: str) -> None:
        """Note that an infrastructure error ended it, and that it (or its grading) starts again."""

    def finished(self, job: Job, trajectory: Trajectory, verdict: Verdict, node: str = "") -> None:
        """Note how it ended."""


def _claim(job: Job) -> bool:
    """Return whether an attempt is to be made here."""
    return job.batch.sharing is None or job.batch.sharing.take(job)


class Source:
    """Jobs that wait to be begun. Batches take turns; within one, every task comes once before any comes twice."""

    def __init__(self) -> None:
        self._lines: deque[tuple[Batch, deque[Job]]] = deque()
        self._first: deque[Job] = deque()
        self._condition = threading.Condition()
        self._closed = False

    def add(self, batch: Batch, jobs: Iterable[Job]) -> None:
        """Add a batch."""
        with self._condition:
            self._lines.append((batch, deque(jobs)))
            self._condition.notify_all()

    def put_first(self, job: Job) -> None:
        """Add a job that goes before all others: it was begun already."""
        with self._condition:
            self._first.append(job)
            self._condition.notify()

    def get(self) -> Job | None:
        """Take the next job, waiting for one; None when closed."""
        with self._condition:
            while not self._closed:
                if (job := self._next()) is not None:
                    return job
                self._condition.wait()
            return None

    def take(self) -> Job | None:
        """Take the next job if there is one."""
        with self._condition:
            return None if self._closed else self._next()

    def _next(self) -> Job | None:
        while self._first:
            if _claim(job := self._first.popleft()):
                return job
        while self._lines:
            batch, jobs = self._lines.popleft()
            if not jobs or batch.cancelled:
                continue
            self._lines.append((batch, jobs))
            if _claim(job := jobs.popleft()):
                batch.last_start = time.monotonic()
                return job
        return None

    def waiting(self, batch: Batch | None = None) -> int:
        """Return how many jobs wait, of one batch or of all."""
        with self._condition:
            first = sum(batch is None or job.batch is batch for job in self._first)
            elsewhere = batch.sharing.waiting() if batch is not None and batch.sharing else 0
            return first + elsewhere + sum(len(jobs) for other, jobs in self._lines if batch in (None, other))

    def take_all(self, batch: Batch) -> Iterator[Job]:
        """Take out and yield everything of a batch."""
        with self._condition:
            matches = [job for job in self._first if job.batch is batch]
            self._first = deque(job for job in self._first if job.batch is not batch)
            for other, jobs in self._lines:
                if other is batch:
                    matches += jobs
                    jobs.clear()
        yield from matches
        if batch.sharing:
            yield from batch.sharing.left()

    def close(self) -> None:
        """Wake everyone who waits."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
