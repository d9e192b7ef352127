"""Driver: shares jobs out to the nodes of a Ray cluster, and gives those of a node that dies to the others."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from swebench_lab.errors import LabError, describe
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.rollouts.executors.cluster import Cluster
from swebench_lab.rollouts.executors.jobs import AttemptSink, Batch, Job, Source, not_graded
from swebench_lab.rollouts.executors.node import NodeAgent, Order, Setup
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from swebench_lab.rollouts.executors.threads import start_thread

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory

_log = logging.getLogger(__name__)

IO_BYTES = 100_000_000
"""Bytes of cold environments in flight that one unit of the resource `io` stands for."""

_LOOK_SECONDS = 2.0
_POLL_SECONDS = 0.5
_SILENT_SECONDS = 30.0
_NO_NODE_SECONDS = 180.0
_REJOIN_SECONDS = 30.0
"""How long a node that died stays out: the cluster lists it as alive until it notices."""


class ClusterSink(AttemptSink, Protocol):
    """What a driver reports to."""

    def keep_packed(self, digest: str, packed: bytes) -> None:
        """Keep a step layer that a node has packed."""

    def event(self, what: str, **facts: Any) -> None:
        """Note something that happened."""


class _Node:
    """One node: its actor, the jobs it has, and its latest status."""

    def __init__(self, node_id: str, name: str, workers: int, actor: Any) -> None:
        self.node_id, self.name, self.workers, self.actor = node_id, name, workers, actor
        self.jobs: dict[int, Job] = {}
        self.so_far: dict[int, Trajectory] = {}
        self.batches: set[int] = set()
        self.status: dict[str, Any] = {}
        self.state = "starting"
        self.done = 0


class Driver:
    """Runs attempts on the nodes of a cluster.

    Nodes take work when they have room for it, so a slow one takes less. Each has one actor, placed on it by name:
    Ray's own spreading could put two on one node and none on another.

    Args:
        cluster: The cluster.
        sandboxes: How sandboxes are made; the nodes make their own.
        evaluator: How patches are graded; the nodes have their own.
        workers: Attempts that are played at once, on each node.
        stages: How much of each stage runs at once, on each node.
        deadlines: How long anything may take.
        sink: What is told how attempts and nodes go.
    """

    def __init__(
        self,
        cluster: Cluster,
        sandboxes: SandboxFactory,
        evaluator: Evaluator,
        workers: int,
        stages: Stages,
        deadlines: Deadlines,
        sink: ClusterSink,
    ) -> None:
        from swebench_lab.places import default_root

        self.sink, self.workers, self.stages, self.deadlines = sink, workers, stages, deadlines
        self.error: BaseException | None = None
        self.retries = self.cut = self.done = 0
        self._cluster = cluster
        self._sandboxes, self._timeout = sandboxes.to_dict(), evaluator.timeout
        self._canary = evaluator.canary
        self._own_cache = sandboxes.cache.root != default_root()
        self._source = Source()
        self._numbers = itertools.count()
        self._batches: dict[int, Batch] = {}
        self._batch_numbers: dict[int, int] = {}
        self._nodes: dict[str, _Node] = {}
        self._gone: list[_Node] = []
        self._died_at: dict[str, float] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._last_node_time = time.monotonic()
        start_thread("lab-nodes", self._look, self._fail)

    # --- from outside -----------------------------------------------------------------------------------------------

    def submit(self, batch: Batch, jobs: Iterable[Job]) -> None:
        """Take a batch in."""
        with self._lock:
            number = next(self._numbers)
            self._batches[number], self._batch_numbers[id(batch)] = batch, number
        self._source.add(batch, jobs)

    def put_back(self, job: Job) -> None:
        """Take in an attempt of a batch that another collector was making."""
        self._source.put_first(job)

    def drop(self, batch: Batch) -> None:
        """End one batch; its unfinished attempts have no row."""
        batch.cancelled = True
        for _ in self._source.take_all(batch):
            pass
        self._forget(batch)
        batch.results.close()

    def stop(self) -> None:
        """End everything at once."""
        import ray

        self._stopped.set()
        self._source.close()
        with self._lock:
            nodes = list(self._nodes.values())
            batches = list(self._batches.values())
        for batch in batches:
            batch.results.close()
        replies = [node.actor.stop.remote() for node in nodes]
        if replies:
            ray.wait(replies, num_returns=len(replies), timeout=5)
        for node in nodes:
            ray.kill(node.actor)

    def status(self) -> dict[str, Any]:
        """Return what goes on now: stages over all nodes, and each node."""
        with self._lock:
            nodes, dead = list(self._nodes.values()), list(self._gone)
        stages: dict[str, dict[str, Any]] = {}
        for node in nodes:
            for name, values in node.status.get("stages", {}).items():
                total = stages.setdefault(name, dict.fromkeys(values, 0))
                for key, value in values.items():
                    total[key] = total.get(key, 0) + value
        running = [g for node in nodes for g in node.status.get("going", [])]
        return {
            "stages": stages,
            "going": sorted(running, key=lambda g: -g["seconds"])[:8],
            "waiting": self._source.waiting(),
            "in_flight": sum(len(node.jobs) for node in nodes),
            "retries": self.retries,
            "cut": self.cut,
            "done": self.done,
            "nodes": [_node_status(node) for node in (*nodes, *dead)],
        }

    # --- nodes ------------------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        if self._stopped.is_set():
            return
        _log.error("the collection ends: %s", describe(error))
        self.error = self.error or error
        for batch in list(self._batches.values()):
            batch.results.close()

    def _look(self) -> None:
        """Find nodes that have joined, and batches whose time is over."""
        while not self._stopped.is_set():
            for machine in self._cluster.machines():
                with self._lock:
                    is_member = machine["id"] in self._nodes
                is_member = is_member or time.monotonic() - self._died_at.get(machine["id"], -1e9) < _REJOIN_SECONDS
                if not is_member:
                    self._join(machine)
            with self._lock:
                if self._nodes:
                    self._last_node_time = time.monotonic()
            if time.monotonic() - self._last_node_time > _NO_NODE_SECONDS:
                raise LabError(
                    f"collecting on {self._cluster!r}: no node with the resource 'sandbox' for {_NO_NODE_SECONDS:g} s; "
                    "start one with `swebench-lab cluster worker --address …`; running the same again goes on from here"
                )
            for batch in list(self._batches.values()):
                if not batch.over:
                    self._watch_batch(batch, time.monotonic())
            self._stopped.wait(_LOOK_SECONDS)

    def _join(self, machine: dict[str, Any]) -> None:
        """Start the actor of a node."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        workers = int(min(self.workers, machine["sandbox"]))
        if workers < 1:
            return
        share = machine["io"] * workers / machine["sandbox"]
        stages = replace(self.stages, io_bytes=max(1, int(share * IO_BYTES))) if share else self.stages
        # Stragglers and the end of the run are the driver's matter: only it knows what still waits elsewhere.
        deadlines = replace(self.deadlines, run=None, straggler=None)
        setup = Setup(machine["name"], self._sandboxes, self._timeout, self._own_cache, workers, stages, deadlines,
                      self.sink.layers, self._canary)  # fmt: skip
        actor = (
            ray.remote(NodeAgent)
            .options(
                num_cpus=0,
                resources={"sandbox": workers, **({"io": share} if share else {})},
                max_concurrency=16,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine["id"], soft=False),
            )
            .remote(setup)
        )
        node = _Node(machine["id"], machine["name"], workers, actor)
        with self._lock:
            self._nodes[node.node_id] = node
        start_thread("lab-node", partial(self._serve, node), self._fail)

    def _serve(self, node: _Node) -> None:
        """Feed a node and take its results until it dies or all is over."""
        import ray
        from ray.exceptions import RayError

        try:
            facts = ray.get(node.actor.ready.remote(), timeout=_NO_NODE_SECONDS)
            _log.info("the node %s joined with %d workers", node.name, node.workers)
            self.sink.event("node joined", node=node.name, workers=node.workers, **facts)
            node.state = "up"
            self._introduce()
            while not self._stopped.is_set():
                self._feed(node)
                events, status, error = ray.get(
                    node.actor.poll.remote(_POLL_SECONDS if node.jobs else 0.05), timeout=_SILENT_SECONDS
                )
                node.status = status
                for event in events:
                    self._take(node, event)
                if error:
                    raise LabError(f"its workers ended: {error}")
                if not node.jobs:
                    self._stopped.wait(0.1)
        except (RayError, LabError, TimeoutError) as error:
            if not self._stopped.is_set():
                self._lose(node, error)

    def _introduce(self) -> None:
        """Tell every node of the others, from which it can bring Snapshots."""
        with self._lock:
            up = [node for node in self._nodes.values() if node.state == "up"]
        for node in up:
            node.actor.know.remote([other.actor for other in up if other is not node])

    def _feed(self, node: _Node) -> None:
        """Give a node as much as it can work on, and a little ahead."""
        import ray

        window = node.workers + self.stages.limits(node.workers)["ready"] + 1
        orders, news = [], []
        while len(node.jobs) < window and (job := self._source.take()) is not None:
            number = next(self._numbers)
            batch = self._batch_numbers[id(job.batch)]
            if batch not in node.batches:
                node.batches.add(batch)
                news.append((batch, job.batch.agent, job.batch.fingerprint))
            with self._lock:
                node.jobs[number] = job
            orders.append(Order(number, batch, job.task, job.attempt, job.seed))
        if orders:
            # Calls of an actor with threads may overtake each other, so what belongs together goes in one.
            ray.get(node.actor.submit.remote(orders, news), timeout=_SILENT_SECONDS)

    def _take(self, node: _Node, event: tuple[Any, ...]) -> None:
        """Do what a node's event says; those of jobs that were taken from it mean nothing any more."""
        what = event[0]
        if what == "layer":
            self.sink.keep_packed(event[1], event[2])
            return
        if what == "event":
            self.sink.event(event[1], **event[2])
            return
        number = event[1]
        with self._lock:
            job = node.jobs.pop(number, None) if what == "finished" else node.jobs.get(number)
        if job is None:
            return
        if what == "began":
            node.so_far[number] = event[2]
            self.sink.began(job, event[2])
        elif what == "step":
            so_far = node.so_far[number]
            node.so_far[number] = replace(so_far, steps=(*so_far.steps, event[2]))
            self.sink.stepped(job, event[2])
        elif what == "retried":
            self.retries += 1
            self.sink.retried(job, event[2], event[3])
        else:
            node.so_far.pop(number, None)
            node.done += 1
            self.done += 1
            job.tries += event[4]
            self.sink.finished(job, event[2], event[3], node.name)

    def _lose(self, node: _Node, error: BaseException) -> None:
        """Give the jobs of a node that died to the others."""
        import ray
        from ray.exceptions import RayError

        with self._lock:
            self._nodes.pop(node.node_id, None)
            self._gone.append(node)
            self._died_at[node.node_id] = time.monotonic()
            orphans, node.jobs = list(node.jobs.items()), {}
        node.state = "died"
        reason = f"the machine {node.name} died or fell silent ({type(error).__name__})"
        _log.warning("%s: %s; %d attempts go to other nodes", reason, error, len(orphans))
        self.sink.event("node died", node=node.name, reason=f"{reason}: {str(error)[:300]}", attempts=len(orphans))
        with contextlib.suppress(RayError, RuntimeError, ValueError):  # it is gone
            ray.kill(node.actor)  # should it still run, it must not go on with what others do now
        for number, job in orphans:
            so_far = node.so_far.get(number)
            job.tries += 1
            self.retries += 1
            self.sink.retried(job, so_far, f"{reason}; retried elsewhere")
            if job.tries > self.deadlines.retries:
                self._cut(job, so_far, f"{reason}, as on {job.tries} machines before")
            else:
                self._source.put_first(job)

    # --- ends -------------------------------------------------------------------------------------------------------

    def _watch_batch(self, batch: Batch, now: float) -> None:
        limit = self.deadlines.straggler
        reason = ""
        if batch.ends_at is not None and now >= batch.ends_at:
            reason = "cut off: the time for the whole run was over"
        elif limit is not None and now - batch.last_start > limit and not self._source.waiting(batch):
            reason = f"cut off: a straggler, {limit:g} s after the last attempt had begun"
        if reason:
            for job in self._source.take_all(batch):
                self._cut(job, None, reason)
            for job, so_far in self._forget(batch):
                self._cut(job, so_far, reason)

    def _forget(self, batch: Batch) -> list[tuple[Job, Trajectory | None]]:
        """Take a batch's jobs from the nodes, and return them as far as they got."""
        pairs: list[tuple[Job, Trajectory | None]] = []
        with self._lock:
            for node in self._nodes.values():
                for number in [number for number, job in node.jobs.items() if job.batch is batch]:
                    pairs.append((node.jobs.pop(number), node.so_far.pop(number, None)))
                number = self._batch_numbers[id(batch)]
                if number in node.batches:
                    node.batches.discard(number)
                    node.actor.drop.remote(number)
        return pairs

    def _cut(self, job: Job, so_far: Trajectory | None, reason: str) -> None:
        self.cut += 1
        _log.warning("%s, attempt %d: %s", job.task.id, job.attempt, reason)
        stop = Stop.TIMEOUT.value
        record = replace(so_far, stop=stop, error=reason) if so_far else job.blank(stop, reason)
        self.sink.finished(job, record, not_graded(reason))


def _node_status(node: _Node) -> dict[str, Any]:
    names = ("load", "processors", "io_bytes", "retries", "cut")
    return {"node": node.name, "state": node.state, "done": node.done, "in_flight": len(node.jobs),
            **{name: node.status[name] for name in names if name in node.status}}  # fmt: skip
