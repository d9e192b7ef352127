"""ThreadExecutor: attempts go through prepare, open, play and grade on threads of this process.

```
jobs → [prepare: cold environments] → [open] → ready → [play: model and tool calls through slots] → [grade] → rows
```

Each stage is bounded by itself. One more thread watches: it cuts off what overruns a deadline and retries what an
infrastructure error ended. It can do so while a call hangs, because the thread of that call is abandoned and another
takes its place.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.errors import RecordError, describe, is_transient, outcome_of
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.records.verdict import Verdict
from swebench_lab.rollouts.executors.admission import Admission
from swebench_lab.rollouts.executors.flight import Flight
from swebench_lab.rollouts.executors.jobs import AttemptSink, Batch, Job, Source, not_graded
from swebench_lab.rollouts.executors.queues import BoundedQueue, Budget, SlotPool
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from swebench_lab.rollouts.executors.threads import start_thread
from swebench_lab.sandbox import quotas

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory

_log = logging.getLogger(__name__)

COLD_BYTES = 500_000_000
"""What an environment counts for while it is built: a venv with a scientific stack takes about as much."""

_TICK = 0.2
_SHOWN = 8


class ThreadExecutor:
    """Runs attempts on threads.

    Args:
        sandboxes: Where attempts run.
        evaluator: What grades them.
        workers: Attempts that are played at once.
        stages: How much of each stage runs at once.
        deadlines: How long anything may take.
        sink: What is told how attempts go and end.
        node: Name of this machine in a cluster.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        evaluator: Evaluator,
        workers: int,
        stages: Stages,
        deadlines: Deadlines,
        sink: AttemptSink,
        node: str = "",
    ) -> None:
        self.sandboxes, self.evaluator, self.sink, self.node = sandboxes, evaluator, sink, node
        self.workers, self.deadlines = workers, deadlines
        limits = self.limits = stages.limits(workers)
        self.source = Source()
        self.slots = {name: SlotPool(limits[name]) for name in ("prepare", "open", "model", "tools", "grade")}
        self.budget = Budget(stages.io_bytes)
        self.admission = Admission()
        self.bring: Callable[[Any], None] | None = None
        """Brings a task's Snapshot onto this machine, where a cluster has one that can be brought."""
        self.error: BaseException | None = None
        self.retries = self.cut = self.done = 0
        self._cold: BoundedQueue[Job] = BoundedQueue()
        self._ready: BoundedQueue[Flight] = BoundedQueue(limits["ready"])
        self._grade_queue: BoundedQueue[Flight] = BoundedQueue(2 * workers)
        self._later: list[tuple[float, int, Job]] = []
        self._number = itertools.count()
        self._flights: dict[int, Flight] = {}
        self._batches: list[Batch] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        for name, count, work in (
            ("prepare", limits["prepare"], self._prepare),
            ("open", limits["open"], self._open),
            ("play", workers, self._play),
            ("grade", limits["grade"], self._grade),
            ("watch", 1, self._watch),
        ):
            for _ in range(count):
                self._start(name, work)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        thread = start_thread(f"lab-{name}", work, self.fail)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]

    # --- from outside -----------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, jobs: Iterable[Job]) -> None:
        """Take a batch in."""
        with self._lock:
            self._batches = [other for other in self._batches if not other.over] + [batch]
        self.source.add(batch, jobs)

    def put_back(self, job: Job) -> None:
        """Take in an attempt of a batch that another collector was making."""
        self.source.put_first(job)

    def fail(self, error: BaseException) -> None:
        """End everything because of an error that no record could hold."""
        _log.error("the collection ends: %s", describe(error))
        self.error = self.error or error
        self._stopped.set()
        for batch in self._batches:
            batch.results.close()

    def stop(self, wait: float = 5.0) -> None:
        """End everything at once: all boxes are closed, unfinished attempts have no row."""
        self._stopped.set()
        self.source.close()
        left = [*self._ready.close(), *self._grade_queue.close()]
        self._cold.close()
        for batch in self._batches:
            batch.results.close()
        with self._lock:
            flights = [*self._flights.values(), *left]
        for flight in flights:
            flight.settle()
        closers = [threading.Thread(target=flight.release, daemon=True) for flight in flights]
        for thread in closers:
            thread.start()
        until = time.monotonic() + wait
        for thread in (*closers, *self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def drop(self, batch: Batch) -> None:
        """End one batch; its unfinished attempts have no row."""
        batch.cancelled = True
        for _ in self.source.take_all(batch):
            pass
        for flight in self._flying(batch):
            if flight.settle():
                self._abandon(flight)
        batch.results.close()

    def _flying(self, batch: Batch | None = None) -> list[Flight]:
        with self._lock:
            return [f for f in self._flights.values() if batch is None or f.job.batch is batch]

    # --- the stages -------------------------------------------------------------------------------------------------

    @contextmanager
    def _slot(self, flight: Flight, name: str) -> Iterator[float]:
        """Hold a slot of a stage on behalf of a flight; yield the seconds that were waited for it."""
        before, since = flight.stage, time.monotonic()
        flight.enter("waiting")
        slot = flight.slot = self.slots[name].acquire()
        flight.enter(name)
        try:
            yield slot.acquired - since
        finally:
            slot.release()
            flight.enter(before)

    def _prepare(self) -> None:
        while (job := self._cold.get()) is not None:
            flight = self._track(job)
            error = outcome_of(partial(self._build, flight))
            if isinstance(error, Exception):
                self._fail_attempt(flight, error)
            elif flight.settle():
                job.prepared, job.since = True, time.time()
                self._untrack(flight)
                self.source.put_first(job)

    def _build(self, flight: Flight) -> None:
        """Bring or build the environment of a flight's task."""
        with self._slot(flight, "prepare"), self.budget.of(COLD_BYTES):
            if self.bring:
                self.bring(flight.job.task)
            self.sandboxes.snapshot(flight.job.task)

    def _open(self) -> None:
        while (job := self.source.get()) is not None:
            snapshot = self.sandboxes.present(job.task)
            if snapshot is None and not job.prepared:
                self._cold.put(job)
                continue
            flight = self._track(job)
            error = outcome_of(partial(self._open_box, flight, snapshot))
            if isinstance(error, Exception):
                self._fail_attempt(flight, error)
            elif flight.settled and flight.box is not None:
                flight.box.close()
            else:
                flight.enter("ready")
                if not self._ready.put(flight):
                    flight.release()
            if flight.abandoned:
                return

    def _open_box(self, flight: Flight, snapshot: Snapshot | None) -> None:
        agent, given_up = flight.job.batch.agent, partial(self._is_moot, flight)
        if isinstance(agent, CLIAgent) and self.sandboxes.backend.startswith("namespace"):  # others cannot be measured
            self.admission.enter(flight, given_up)
        with quotas.reserved(given_up), self._slot(flight, "open"):
            if isinstance(agent, CLIAgent):
                flight.box = agent.open(self.sandboxes, flight.job.task)
            else:
                flight.box = self.sandboxes.open(snapshot or flight.job.task)

    def _is_moot(self, flight: Flight) -> bool:
        """Whether nobody waits for the sandbox of an attempt any more."""
        return flight.settled or self._stopped.is_set()

    def _play(self) -> None:
        while (flight := self._ready.get()) is not None:
            if flight.settled:
                flight.release()
                continue
            self._play_one(flight)
            if flight.abandoned:
                return

    def _play_one(self, flight: Flight) -> None:
        flight.enter("play")
        outcome = outcome_of(partial(self._run_attempt, flight))
        if isinstance(outcome, Exception):
            outcome = flight.record(Stop.ERROR.value, describe(outcome)), outcome
        trajectory, failure = outcome
        flight.box = None
        if not flight.settled:
            flight.trajectory = trajectory
            flight.attempt = None  # each holds the other: the record would wait for the collector of cycles
            flight.enter("played")
            self._conclude(flight, trajectory, failure)

    def _run_attempt(self, flight: Flight) -> tuple[Trajectory, Exception | None]:
        """Make an attempt in a flight's sandbox; return its record, and the error that ended it if one did."""
        job, box, limit = flight.job, flight.box, self.deadlines.attempt
        assert box is not None
        _log.info("%s, attempt %d: started (try %d)", job.task.id, job.attempt, job.tries + 1)
        try:
            attempt = flight.attempt = job.batch.agent.attempt(
                job.task,
                box,
                job.attempt,
                job.seed,
                deadline=time.monotonic() + limit if limit is not None else None,
                layer_sink=self.sink.keep_layer if self.sink.layers else None,
                slot=lambda name: self._slot(flight, "model" if name == "model" else "tools"),
            )
            if not flight.settled:
                self.sink.began(job, attempt.trajectory())
            for step in attempt:
                if flight.settled:
                    break
                self.sink.stepped(job, step)
            return attempt.trajectory(), attempt.failure
        finally:
            box.close()
            self.admission.leave(flight)

    def _fail_attempt(self, flight: Flight, error: Exception) -> None:
        """Conclude an attempt that did not get to its first step."""
        if not flight.settled:
            _log.warning("%s, attempt %d: %s", flight.job.task.id, flight.job.attempt, describe(error))
        self._conclude(flight, flight.job.blank(Stop.ERROR.value, describe(error)), error)

    def _conclude(self, flight: Flight, trajectory: Trajectory, failure: Exception | None) -> None:
        """Send an attempt on: to be retried, to be graded, or to its record."""
        if isinstance(failure, RecordError):
            raise failure
        job = flight.job
        if failure is not None and is_transient(failure) and job.tries < self.deadlines.retries:
            if flight.settle():
                self._retry(flight, trajectory, describe(failure))
        elif trajectory.stop in (Stop.ERROR, Stop.CANCELLED):
            if flight.settle():
                reason = f"the attempt ended in an error: {trajectory.error}"
                self._finish(flight, trajectory, not_graded(reason, trajectory.tier))
        else:
            flight.trajectory = trajectory
            self._grade_queue.put(flight)

    def _grade(self) -> None:
        while (flight := self._grade_queue.get()) is not None:
            if flight.settled:
                continue
            trajectory, job = flight.trajectory, flight.job
            assert trajectory is not None
            verdict = outcome_of(partial(self._grade_patch, flight, trajectory.patch))
            if isinstance(verdict, Exception):  # an infrastructure error is "not graded", never reward 0
                verdict = not_graded(f"grading failed: {describe(verdict)}", trajectory.tier)
            if not verdict.graded and not flight.settled and job.grade_tries < self.deadlines.retries:
                job.grade_tries += 1
                self.retries += 1
                self.sink.retried(job, None, f"grading again: {verdict.reason}")
                time.sleep(self.deadlines.backoff * 2 ** (job.grade_tries - 1))
                flight.enter("played")
                self._grade_queue.put_back(flight)
            elif flight.settle():
                self._finish(flight, trajectory, verdict)
            elif flight.abandoned:
                return

    def _grade_patch(self, flight: Flight, patch: str) -> Verdict:
        with self._slot(flight, "grade"):
            return self.evaluator.grade(flight.job.task, patch, boxes=flight.boxes)

    # --- tracking and ends ----------------------------------------------------------------------------------------

    def _track(self, job: Job) -> Flight:
        flight = Flight(job)
        with self._lock:
            self._flights[id(flight)] = flight
        return flight

    def _untrack(self, flight: Flight) -> None:
        self.admission.leave(flight)
        with self._lock:
            self._flights.pop(id(flight), None)

    def _finish(self, flight: Flight, trajectory: Trajectory, verdict: Verdict) -> None:
        """Keep the one row of a settled flight."""
        if not self._stopped.is_set():
            spans = sorted({*flight.job.spans, *trajectory.spans}, key=lambda span: span.start)
            self.sink.finished(flight.job, replace(trajectory, spans=tuple(spans)), verdict, self.node)
            self.done += 1
        self._untrack(flight)

    def _retry(self, flight: Flight, trajectory: Trajectory | None, reason: str) -> None:
        """Put a settled flight's job back in line, after a while."""
        job = flight.job
        self._untrack(flight)
        self.retries += 1
        job.tries += 1
        _log.warning("%s, attempt %d: retry %d: %s", job.task.id, job.attempt, job.tries, reason)
        job.prepared, job.since, job.spans = False, time.time(), []
        self.sink.retried(job, trajectory, reason)
        due = time.monotonic() + self.deadlines.backoff * 2 ** (job.tries - 1)
        with self._lock:
            heapq.heappush(self._later, (due, next(self._number), job))

    # --- the watch --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK):
            now = time.monotonic()
            self.admission.measure()
            with self._lock:
                due = []
                while self._later and self._later[0][0] <= now:
                    due.append(heapq.heappop(self._later)[2])
            for job in due:
                self.source.put_first(job)
            for batch in [batch for batch in self._batches if not batch.over]:
                self._watch_batch(batch, now)
            for flight in self._flying():
                self._watch_flight(flight, now)

    def _watch_batch(self, batch: Batch, now: float) -> None:
        """Cut off what is left of a batch whose time is over, and stragglers that all others wait for."""
        limit = self.deadlines.straggler
        reason = ""
        if batch.ends_at is not None and now >= batch.ends_at:
            reason = "cut off: the time for the whole run was over"
        elif limit is not None and now - batch.last_start > limit and not self.source.waiting(batch):
            reason = f"cut off: a straggler, {limit:g} s after the last attempt had begun"
        if not reason:
            return
        with self._lock:
            waiting = [job for _, _, job in self._later if job.batch is batch]
            self._later = [entry for entry in self._later if entry[2].batch is not batch]
            heapq.heapify(self._later)
        for job in (*self.source.take_all(batch), *waiting):
            flight = self._track(job)
            flight.settle()
            self._cut_off(flight, reason)
        for flight in self._flying(batch):
            if flight.settle():
                self._cut_off(flight, reason)
                self._abandon(flight)

    def _watch_flight(self, flight: Flight, now: float) -> None:
        """Cut off a flight whose call hangs or whose end is long over."""
        limits, took = self.deadlines, now - flight.since
        if flight.stage == "open" and took > limits.open:
            self._stalled(flight, f"opening its sandbox took more than {limits.open:g} s")
        elif flight.stage == "model" and limits.model is not None and took > limits.model:
            self._stalled(flight, f"a call of the policy took more than {limits.model:g} s: the endpoint is stalled")
        elif flight.stage == "grade" and limits.grade is not None and took > limits.grade and flight.settle():
            self._cut_off(flight, f"cut off: grading took more than {limits.grade:g} s")
            self._abandon(flight)
        elif self._overdue(flight, now) and flight.settle():
            self._cut_off(flight, f"cut off: {limits.grace:g} s after its time was over, in the stage {flight.stage!r}")
            self._abandon(flight)

    def _overdue(self, flight: Flight, now: float) -> bool:
        attempt = flight.attempt if flight.stage in ("play", "model", "tools") else None
        return attempt is not None and now > attempt.ends_at + self.deadlines.grace

    def _stalled(self, flight: Flight, reason: str) -> None:
        if not flight.settle():
            return
        if flight.job.tries < self.deadlines.retries:
            attempt = flight.attempt
            so_far = attempt.trajectory() if attempt else None
            self._abandon(flight)
            self._retry(flight, so_far, reason)
        else:
            self._cut_off(flight, reason)
            self._abandon(flight)

    def _cut_off(self, flight: Flight, reason: str) -> None:
        """Record a settled flight as cut off."""
        self.cut += 1
        _log.warning("%s, attempt %d: %s", flight.job.task.id, flight.job.attempt, reason)
        self._finish(flight, flight.record(Stop.TIMEOUT.value, reason), not_graded(reason))

    def _abandon(self, flight: Flight) -> None:
        """Give the place of a flight's thread to another one: nobody knows when, or whether, its call returns."""
        self._untrack(flight)
        kind = {"open": "open", "grade": "grade", "prepare": "prepare"}.get(flight.stage, "play")
        replaces = flight.stage not in ("ready", "played", "")
        if replaces and not self._stopped.is_set():
            work = {"open": self._open, "grade": self._grade, "prepare": self._prepare, "play": self._play}[kind]
            flight.abandoned = True
            self._start(kind, work)
        if flight.slot:
            flight.slot.release()
        threading.Thread(target=flight.release, daemon=True).start()

    # --- status -----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return the state of every stage and the longest running attempts, as plain values."""
        flights, now = self._flying(), time.monotonic()
        stages = {
            name: {"running": p.held, "waiting": p.waiting, "limit": p.limit, "done": p.released, "seconds": p.seconds}
            for name, p in self.slots.items()
        }
        playing = [(f, attempt) for f in flights if (attempt := f.attempt) and f.trajectory is None]
        stages["prepare"]["waiting"] += len(self._cold)
        stages["grade"]["waiting"] += len(self._grade_queue)
        stages["play"] = {"running": len(playing), "waiting": len(self._ready), "limit": self.workers}
        slowest = sorted(playing, key=lambda pair: pair[0].start)[:_SHOWN]
        rows = [
            {
                "task": f.job.task.id,
                "attempt": f.job.attempt,
                "stage": f.stage,
                "steps": len(attempt.steps),
                "seconds": now - f.start,
                "node": self.node,
            }
            for f, attempt in slowest
        ]
        return {
            "node": self.node,
            "pid": os.getpid(),
            "stages": stages,
            "going": rows,
            "waiting": self.source.waiting(),
            "in_flight": len(flights),
            "io_bytes": self.budget.used,
            "retries": self.retries,
            "cut": self.cut,
            "done": self.done,
            "load": os.getloadavg()[0],
            "processors": len(os.sched_getaffinity(0)),
        }
