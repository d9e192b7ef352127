"""Engine: attempts go through prepare, open, play and grade on threads of this process, each stage bounded by itself.

```
jobs → [prepare: cold environments] → [open] → ready → [play: model and tool calls through gates] → [grade] → rows
```

One more thread watches: it cuts off what overruns a deadline, begins again what a fault of ours ended, and can do so
while a call hangs, because a thread that hangs is left behind and another takes its place.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from swebench_lab.agents.agent import Attempt
from swebench_lab.errors import (
    LabError,
    QuotaExceeded,
    RecordError,
    SandboxError,
    SandboxPathError,
    SandboxUnavailable,
)
from swebench_lab.grading.boxes import OpenBoxes
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.trajectory import Span, Stop, Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Cause, Verdict
from swebench_lab.rollouts.executors.jobs import Batch, Job, Keeper, Source
from swebench_lab.rollouts.executors.queues import Budget, Gate, Line, Turn
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from swebench_lab.sandbox import quotas

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.snapshots.factory import SandboxFactory

COLD_BYTES = 500_000_000
"""What an environment counts for while it is built: a venv with a scientific stack takes about as much."""

_KINDS = {"waiting": "queue", "ready": "queue", "played": "queue", "prepare": "sandbox", "open": "sandbox",
          "grade": "grade"}  # fmt: skip
"""What the time of each stage counts as."""

_TICK = 0.2
_SHOWN = 8
_OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN)


class Flight:
    """One job on its way through the stages. Whoever settles it first, its thread or the watch, makes its record."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.box: Sandbox | None = None
        self.boxes = OpenBoxes()
        self.going: Attempt | None = None
        self.trajectory: Trajectory | None = None
        self.stage = ""
        self.since = self.began = time.monotonic()
        self.entered = time.time()
        job.spans.append(Span("queue", -1, job.since, self.entered))
        self.turn: Turn | None = None
        self.settled = False
        self.left_behind = False
        self._lock = threading.Lock()

    def enter(self, stage: str) -> None:
        """Note which stage it is in from now on, and how long it was in the one before."""
        now = time.time()
        if self.stage in _KINDS and self.going is None:  # an attempt that is going on keeps its own time
            self.job.spans.append(Span(_KINDS[self.stage], -1, self.entered, now))
        self.stage, self.since, self.entered = stage, time.monotonic(), now

    def settle(self) -> bool:
        """Claim the right to make its record; true once."""
        with self._lock:
            settled, self.settled = self.settled, True
            return not settled

    def record(self, stop: str, error: str) -> Trajectory:
        """Return its record as far as it got."""
        going = self.going
        so_far = self.trajectory or (going.trajectory() if going else None)
        return replace(so_far, stop=stop, error=error) if so_far else self.job.blank(stop, error)


class Engine:
    """Runs attempts on threads.

    Args:
        sandboxes: Where attempts run.
        evaluator: What grades them.
        workers: Attempts that are played at once.
        stages: How much of each stage runs at once.
        deadlines: How long anything may take.
        keeper: What results are handed to.
        node: Name of this machine in a cluster.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        evaluator: Evaluator,
        workers: int,
        stages: Stages,
        deadlines: Deadlines,
        keeper: Keeper,
        node: str = "",
    ) -> None:
        self.sandboxes, self.evaluator, self.keeper, self.node = sandboxes, evaluator, keeper, node
        self.workers, self.deadlines = workers, deadlines
        limits = self.limits = stages.limits(workers)
        self.source = Source()
        self.gates = {name: Gate(limits[name]) for name in ("prepare", "open", "model", "tools", "grade")}
        self.budget = Budget(stages.io_bytes)
        self.bring: Callable[[Any], None] | None = None
        """Brings a task's Snapshot onto this machine, where a cluster has one that can be brought."""
        self.error: BaseException | None = None
        self.retries = self.cut = self.done = 0
        self._cold: Line[Job] = Line()
        self._ready: Line[Flight] = Line(limits["ready"])
        self._played: Line[Flight] = Line(2 * workers)
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
        thread = threading.Thread(target=self._guarded, args=(work,), name=f"lab-{name}", daemon=True)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive() or not other.ident] + [thread]
        thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # a mistake of this class or a full disk: nothing may go on as if all were well
            self.fail(error)

    # --- from outside -----------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, jobs: Iterable[Job]) -> None:
        """Take a batch in."""
        with self._lock:
            self._batches = [other for other in self._batches if not other.over] + [batch]
        self.source.add(batch, jobs)

    def fail(self, error: BaseException) -> None:
        """End everything because of an error that no record could hold."""
        self.error = self.error or error
        self._stopped.set()
        for batch in self._batches:
            batch.results.close()

    def stop(self, wait: float = 5.0) -> None:
        """End everything at once: all boxes are closed, what was going on has no row."""
        self._stopped.set()
        self.source.close()
        left = [*self._ready.close(), *self._played.close()]
        self._cold.close()
        for batch in self._batches:
            batch.results.close()
        with self._lock:
            flights = [*self._flights.values(), *left]
        for flight in flights:
            flight.settle()
        closers = [threading.Thread(target=_release, args=(flight,), daemon=True) for flight in flights]
        for thread in closers:
            thread.start()
        until = time.monotonic() + wait
        for thread in (*closers, *self._threads):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def drop(self, batch: Batch) -> None:
        """End one batch: what of it is going on has no row."""
        batch.cancelled = True
        for _ in self.source.take_all(batch):
            pass
        for flight in self._flying(batch):
            if flight.settle():
                self._leave_behind(flight)
        batch.results.close()

    def _flying(self, batch: Batch | None = None) -> list[Flight]:
        with self._lock:
            return [f for f in self._flights.values() if batch is None or f.job.batch is batch]

    # --- the stages -------------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, flight: Flight, name: str) -> Iterator[float]:
        """Hold a turn at a gate on behalf of a flight."""
        before, since = flight.stage, time.monotonic()
        flight.enter("waiting")
        turn = flight.turn = self.gates[name].enter()
        flight.enter(name)
        try:
            yield turn.entered - since
        finally:
            turn.leave()
            flight.enter(before)

    def _prepare(self) -> None:
        while (job := self._cold.get()) is not None:
            flight = self._take_off(job)
            try:
                with self._turn(flight, "prepare"), self.budget.of(COLD_BYTES):
                    if self.bring:
                        self.bring(job.task)
                    self.sandboxes.snapshot(job.task)
            except Exception as error:  # the recording boundary: what cannot be built is a row
                self._ended(flight, job.blank(Stop.ERROR.value, told(error)), error)
                continue
            if flight.settle():
                job.prepared, job.since = True, time.time()
                self._land(flight)
                self.source.put_first(job)

    def _open(self) -> None:
        while (job := self.source.get()) is not None:
            snapshot = self.sandboxes.present(job.task)
            if snapshot is None and not job.prepared:
                self._cold.put(job)
                continue
            flight = self._take_off(job)
            try:
                with quotas.reserved(partial(self._given_up, flight)), self._turn(flight, "open"):
                    flight.box = self.sandboxes.open(snapshot or job.task)
            except Exception as error:  # the recording boundary
                self._ended(flight, job.blank(Stop.ERROR.value, told(error)), error)
                if flight.left_behind:
                    return
                continue
            if flight.settled:
                flight.box.close()
                if flight.left_behind:
                    return
                continue
            flight.enter("ready")
            if not self._ready.put(flight):
                _release(flight)

    def _given_up(self, flight: Flight) -> bool:
        """Whether nobody waits for the sandbox of an attempt any more."""
        return flight.settled or self._stopped.is_set()

    def _play(self) -> None:
        while (flight := self._ready.get()) is not None:
            if flight.settled:
                _release(flight)
                continue
            self._play_one(flight)
            if flight.left_behind:
                return

    def _play_one(self, flight: Flight) -> None:
        job, agent = flight.job, flight.job.batch.agent
        assert flight.box is not None
        flight.enter("play")
        fault: BaseException | None = None
        limit = self.deadlines.attempt
        try:
            going = flight.going = agent.begin(
                job.task,
                flight.box,
                job.attempt,
                job.seed,
                deadline=time.monotonic() + limit if limit is not None else None,
                layer_sink=self.keeper.keep_layer if self.keeper.layers else None,
                stage=lambda name: self._turn(flight, "model" if name == "model" else "tools"),
            )
            if not flight.settled:
                self.keeper.begun(job, going.trajectory())
            for step in going.play():
                if flight.settled:
                    break
                self.keeper.stepped(job, step)
            trajectory, fault = going.trajectory(), going.fault
        except Exception as error:  # the recording boundary
            trajectory, fault = flight.record(Stop.ERROR.value, told(error)), error
        finally:
            flight.box.close()
        flight.box = None
        if not flight.settled:
            flight.trajectory = trajectory
            flight.going = None  # each holds the other: the record would wait for the collector of cycles
            flight.enter("played")
            self._ended(flight, trajectory, fault)

    def _ended(self, flight: Flight, trajectory: Trajectory, fault: BaseException | None) -> None:
        """Send an attempt on: to be begun again, to be graded, or to its record."""
        if isinstance(fault, RecordError):
            raise fault
        job = flight.job
        if fault is not None and ours(fault) and job.tries < self.deadlines.retries:
            if flight.settle():
                self._again(flight, trajectory, told(fault))
        elif trajectory.stop in (Stop.ERROR, Stop.CANCELLED):
            if flight.settle():
                reason = f"the attempt ended in an error: {trajectory.error}"
                verdict = Verdict(NOT_GRADED, reason, tier=trajectory.tier, cause=Cause.INFRASTRUCTURE)
                self._finish(flight, trajectory, verdict)
        else:
            flight.trajectory = trajectory
            self._played.put(flight)

    def _grade(self) -> None:
        while (flight := self._played.get()) is not None:
            if flight.settled:
                continue
            trajectory, job = flight.trajectory, flight.job
            assert trajectory is not None
            try:
                with self._turn(flight, "grade"):
                    verdict = self.evaluator.grade(job.task, trajectory.patch, boxes=flight.boxes)
            except Exception as error:  # the recording boundary: an infrastructure error is "not graded", never a zero
                reason = f"grading failed: {told(error)}"
                verdict = Verdict(NOT_GRADED, reason, tier=trajectory.tier, cause=Cause.INFRASTRUCTURE)
            if not verdict.graded and not flight.settled and job.grade_tries < self.deadlines.retries:
                job.grade_tries += 1
                self.retries += 1
                self.keeper.again(job, None, f"grading again: {verdict.reason}")
                time.sleep(self.deadlines.backoff * 2 ** (job.grade_tries - 1))
                flight.enter("played")
                self._played.put_back(flight)
            elif flight.settle():
                self._finish(flight, trajectory, verdict)
            elif flight.left_behind:
                return

    # --- beginnings and ends ----------------------------------------------------------------------------------------

    def _take_off(self, job: Job) -> Flight:
        flight = Flight(job)
        with self._lock:
            self._flights[id(flight)] = flight
        return flight

    def _land(self, flight: Flight) -> None:
        with self._lock:
            self._flights.pop(id(flight), None)

    def _finish(self, flight: Flight, trajectory: Trajectory, verdict: Verdict) -> None:
        """Keep the one row of a settled flight."""
        if not self._stopped.is_set():
            spans = sorted({*flight.job.spans, *trajectory.spans}, key=lambda span: span.start)
            self.keeper.finish(flight.job, replace(trajectory, spans=tuple(spans)), verdict, self.node)
            self.done += 1
        self._land(flight)

    def _again(self, flight: Flight, trajectory: Trajectory | None, reason: str) -> None:
        """Begin a settled flight's job again, after a while."""
        job = flight.job
        self._land(flight)
        self.retries += 1
        job.tries += 1
        job.prepared, job.since, job.spans = False, time.time(), []
        self.keeper.again(job, trajectory, reason)
        due = time.monotonic() + self.deadlines.backoff * 2 ** (job.tries - 1)
        with self._lock:
            heapq.heappush(self._later, (due, next(self._number), job))

    # --- the watch --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK):
            now = time.monotonic()
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
        elif limit is not None and now - batch.last_began > limit and not self.source.waiting(batch):
            reason = f"cut off: a straggler, {limit:g} s after the last attempt had begun"
        if not reason:
            return
        with self._lock:
            waiting = [job for _, _, job in self._later if job.batch is batch]
            self._later = [entry for entry in self._later if entry[2].batch is not batch]
            heapq.heapify(self._later)
        for job in (*self.source.take_all(batch), *waiting):
            flight = self._take_off(job)
            flight.settle()
            self._cut(flight, reason)
        for flight in self._flying(batch):
            if flight.settle():
                self._cut(flight, reason)
                self._leave_behind(flight)

    def _watch_flight(self, flight: Flight, now: float) -> None:
        """Cut off a flight whose call hangs or whose end is long over."""
        limits, took = self.deadlines, now - flight.since
        if flight.stage == "open" and took > limits.open:
            self._stalled(flight, f"opening its sandbox took more than {limits.open:g} s")
        elif flight.stage == "model" and limits.model is not None and took > limits.model:
            self._stalled(flight, f"a call of the policy took more than {limits.model:g} s: the endpoint is stalled")
        elif flight.stage == "grade" and limits.grade is not None and took > limits.grade and flight.settle():
            self._cut(flight, f"cut off: grading took more than {limits.grade:g} s")
            self._leave_behind(flight)
        elif self._overdue(flight, now) and flight.settle():
            self._cut(flight, f"cut off: {limits.grace:g} s after its time was over, in the stage {flight.stage!r}")
            self._leave_behind(flight)

    def _overdue(self, flight: Flight, now: float) -> bool:
        playing = flight.going if flight.stage in ("play", "model", "tools") else None
        return playing is not None and now > playing.ends_at + self.deadlines.grace

    def _stalled(self, flight: Flight, reason: str) -> None:
        if not flight.settle():
            return
        if flight.job.tries < self.deadlines.retries:
            going = flight.going
            so_far = going.trajectory() if going else None
            self._leave_behind(flight)
            self._again(flight, so_far, reason)
        else:
            self._cut(flight, reason)
            self._leave_behind(flight)

    def _cut(self, flight: Flight, reason: str) -> None:
        """Record a settled flight as cut off."""
        self.cut += 1
        verdict = Verdict(NOT_GRADED, reason, cause=Cause.INFRASTRUCTURE)
        self._finish(flight, flight.record(Stop.TIMEOUT.value, reason), verdict)

    def _leave_behind(self, flight: Flight) -> None:
        """Give the place of a flight's thread to another one: nobody knows when, or whether, its call returns."""
        self._land(flight)
        kind = {"open": "open", "grade": "grade", "prepare": "prepare"}.get(flight.stage, "play")
        replaces = flight.stage not in ("ready", "played", "")
        if replaces and not self._stopped.is_set():
            work = {"open": self._open, "grade": self._grade, "prepare": self._prepare, "play": self._play}[kind]
            flight.left_behind = True
            self._start(kind, work)
        if flight.turn:
            flight.turn.leave()
        threading.Thread(target=_release, args=(flight,), daemon=True).start()

    # --- what can be seen -------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what goes on now, as plain values."""
        flights, now = self._flying(), time.monotonic()
        stages = {
            name: {"running": g.inside, "waiting": g.waiting, "limit": g.limit, "done": g.passed, "seconds": g.seconds}
            for name, g in self.gates.items()
        }
        playing = [(f, going) for f in flights if (going := f.going) and f.trajectory is None]
        stages["prepare"]["waiting"] += len(self._cold)
        stages["grade"]["waiting"] += len(self._played)
        stages["play"] = {"running": len(playing), "waiting": len(self._ready), "limit": self.workers}
        slowest = sorted(playing, key=lambda pair: pair[0].began)[:_SHOWN]
        shown = [
            {
                "task": f.job.task.id,
                "attempt": f.job.attempt,
                "stage": f.stage,
                "steps": len(attempt.steps),
                "seconds": now - f.began,
                "node": self.node,
            }
            for f, attempt in slowest
        ]
        return {
            "node": self.node,
            "pid": os.getpid(),
            "stages": stages,
            "going": shown,
            "waiting": self.source.waiting(),
            "in_flight": len(flights),
            "io_bytes": self.budget.used,
            "retries": self.retries,
            "cut": self.cut,
            "done": self.done,
            "load": os.getloadavg()[0],
            "processors": len(os.sched_getaffinity(0)),
        }


def _release(flight: Flight) -> None:
    """Close all that a flight holds; used on threads of their own, since a box may take seconds to die."""
    flight.boxes.close()
    going = flight.going
    conversation = going.conversation if going else None
    if conversation is not None:
        with contextlib.suppress(Exception):  # a user's code, whose attempt is over anyway
            conversation.close()
    if flight.box is not None:
        flight.box.close()


def ours(error: BaseException) -> bool:
    """Say whether an error is a fault of ours that may pass: a box that died, a machine that ran out of something."""
    if isinstance(error, SandboxError):
        return not isinstance(error, SandboxPathError | SandboxUnavailable | QuotaExceeded)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OUT_OF)


def told(error: BaseException) -> str:
    """Return an error as a record keeps it: the package's own speak for themselves, others need their type."""
    return str(error) if isinstance(error, LabError) and str(error) else f"{type(error).__name__}: {error}"
