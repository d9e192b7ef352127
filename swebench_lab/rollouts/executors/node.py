"""NodeAgent: one machine of a cluster; it owns the zygote and many sandboxes there, and answers when it is asked.

It runs the same ThreadExecutor as a single machine does. Its Snapshots lie on its own disk: what is not there is brought by
content from a folder that both machines see, else from another node that has it, else built.
"""

from __future__ import annotations

import os
import platform
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.agents.external.cli_agent import AnyAgent
from swebench_lab.errors import LabError, describe
from swebench_lab.grading.canary import DECIDE
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.places import default_root
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from swebench_lab.rollouts.executors.thread_executor import ThreadExecutor
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.snapshots.transfer import ship

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Layer

CACHE_VARIABLE = "SWEBENCH_LAB_NODE_CACHE"
"""Where a node keeps its Snapshots, if not where the collector does."""
_MOST_EVENTS = 2_000
_MOST_BYTES = 32_000_000


@dataclass(frozen=True)
class Order:
    """A job as it is sent to a node."""

    number: int
    batch: int
    task: Task
    attempt: int
    seed: int


@dataclass(frozen=True)
class Setup:
    """What a node needs to know before its first job."""

    name: str
    sandboxes: dict[str, Any]
    timeout: float | None
    own_cache: bool
    workers: int
    stages: Stages
    deadlines: Deadlines
    layers: bool
    canary: str = DECIDE


class NodeAgent:
    """What runs on a node.

    Args:
        setup: How attempts are made.
    """

    def __init__(self, setup: Setup) -> None:
        self.name = setup.name
        self.layers = setup.layers
        self._cache_root = Path(setup.sandboxes["cache"])
        root = os.environ.get(CACHE_VARIABLE) or (str(self._cache_root) if setup.own_cache else str(default_root()))
        self.sandboxes = SandboxFactory.from_dict({**setup.sandboxes, "cache": root})
        cache = self.sandboxes.cache
        self._on_shared_folder = SnapshotCache(
            self._cache_root, allow_python=cache.allow_python, specs=cache.specs, repos=cache.repos
        )
        self._peers: list[Any] = []
        self._batches: dict[int, Batch] = {}
        self._numbers: dict[int, int] = {}
        self._jobs: dict[int, Job] = {}
        self._events: list[tuple[Any, ...]] = []
        self._sent_layers: set[str] = set()
        self._bytes = 0
        self._condition = threading.Condition()
        self.brought: list[str] = []
        evaluator = Evaluator(self.sandboxes, setup.timeout, canary=setup.canary)
        stages, deadlines = setup.stages, setup.deadlines
        self.executor = ThreadExecutor(self.sandboxes, evaluator, setup.workers, stages, deadlines, self, setup.name)
        self.executor.bring = self._bring

    # --- what the driver asks ---------------------------------------------------------------------------------------

    def ready(self) -> dict[str, Any]:
        """Say who this is, once it is there."""
        return {"name": self.name, "host": platform.node(), "cache": str(self.sandboxes.cache.root),
                "tier": self.sandboxes.tier, "pid": os.getpid()}  # fmt: skip

    def know(self, peers: Sequence[Any]) -> None:
        """Learn of the other nodes."""
        self._peers = list(peers)

    def submit(self, orders: Sequence[Order], news: Sequence[tuple[int, AnyAgent, str]]) -> None:
        """Take jobs, and learn of the batches (number, agent, fingerprint) that are new with them."""
        for number, agent, fingerprint in news:
            self._batches[number] = Batch(agent, fingerprint, 1 << 60)
        by_batch: dict[int, list[Job]] = {}
        for order in orders:
            job = Job(order.task, order.attempt, order.seed, self._batches[order.batch])
            with self._condition:
                self._numbers[id(job)], self._jobs[order.number] = order.number, job
            by_batch.setdefault(order.batch, []).append(job)
        for number, jobs in by_batch.items():
            self.executor.submit(self._batches[number], jobs)

    def poll(self, wait: float) -> tuple[list[tuple[Any, ...]], dict[str, Any], str]:
        """Return what has happened, waiting a while for something; with the state, and an error that ended it."""
        end = time.monotonic() + wait
        with self._condition:
            while not self._events and self.executor.error is None and (left := end - time.monotonic()) > 0:
                self._condition.wait(min(left, 0.25))
            events, size = [], 0
            while self._events and size < _MOST_BYTES:
                event = self._events.pop(0)
                size += len(event[2]) if event[0] == "layer" else 0
                events.append(event)
            self._bytes -= size
            self._condition.notify_all()
        error = self.executor.error
        return events, self.executor.status(), describe(error) if error else ""

    def drop(self, batch: int) -> None:
        """End a batch."""
        if dropped := self._batches.pop(batch, None):
            self.executor.drop(dropped)

    def stop(self) -> None:
        """End everything."""
        self.executor.stop()
        self.sandboxes.close()

    # --- Snapshots --------------------------------------------------------------------------------------------------

    def holds(self, task: Task) -> bool:
        """Say whether a task's Snapshot is here."""
        return self.sandboxes.present(task) is not None

    def pack(self, task: Task, there: Sequence[str]) -> bytes | None:
        """Return a task's Snapshot as bytes, without the parts that are there already; nothing when it is not here."""
        file = ship.pack(self.sandboxes.cache, task, there)
        if file is None:
            return None
        with file:
            return file.read()

    def contents(self) -> dict[str, Any]:
        """Return what was brought here, and the folders of trees and environments that are here."""
        root = self.sandboxes.cache.root
        parts = sorted(str(p.relative_to(root)) for kind in ("trees", "envs") for p in (root / kind).glob("[!.]*"))
        return {"cache": str(root), "brought": list(self.brought), "parts": parts}

    def _bring(self, task: Task) -> None:
        """Bring a task's Snapshot here, if somebody has it; who has not found it builds it."""
        from ray.exceptions import RayError

        there = self._parts_here()
        if self._cache_root != self.sandboxes.cache.root and self._cache_root.is_dir():
            archive = ship.pack(self._on_shared_folder, task, there)
            if archive is not None:
                with archive:
                    self._note_brought(ship.unpack(self.sandboxes.cache, archive), str(self._cache_root))
                return
        for peer in self._peers:
            try:
                if self._bring_from(peer, task, there):
                    return
            except (RayError, LabError, OSError) as error:  # that node is gone, or its copy is: another's, or a build
                self._put(("event", "not brought", {"task": task.id, "reason": str(error)[:300], "node": self.name}))

    def _bring_from(self, peer: Any, task: Task, there: Sequence[str]) -> bool:
        import ray

        archive = ray.get(peer.pack.remote(task, there), timeout=600)
        if archive is not None:
            self._note_brought(ship.unpack(self.sandboxes.cache, archive), "another node")
        return archive is not None

    def _parts_here(self) -> list[str]:
        root = self.sandboxes.cache.root
        kinds = ("trees", "envs", "packages", "installs", "system", "metadata", "pins")
        return [f"{kind}/{path.name}" for kind in kinds for path in (root / kind).glob("[!.]*")]

    def _note_brought(self, names: Sequence[str], where: str) -> None:
        self.brought += names
        self._put(("event", "brought", {"parts": list(names), "from": where, "node": self.name}))

    # --- what the executor reports ----------------------------------------------------------------------------------

    def keep_layer(self, layer: Layer) -> None:
        """Send what a step changed, once."""
        with self._condition:
            if layer.digest in self._sent_layers:
                return
            self._sent_layers.add(layer.digest)
        with tempfile.NamedTemporaryFile() as file:
            layer.pack(file.name)
            data = Path(file.name).read_bytes()
        self._put(("layer", layer.digest, data), len(data))

    def began(self, job: Job, trajectory: Trajectory) -> None:
        """Send how an attempt begins."""
        self._put(("began", self._numbers[id(job)], trajectory))

    def stepped(self, job: Job, step: Step) -> None:
        """Send a step."""
        self._put(("step", self._numbers[id(job)], step))

    def retried(self, job: Job, trajectory: Trajectory | None, reason: str) -> None:
        """Send that it is retried."""
        self._put(("retried", self._numbers[id(job)], trajectory, reason))

    def finished(self, job: Job, trajectory: Trajectory, verdict: Verdict, node: str = "") -> None:
        """Send how it ended."""
        with self._condition:
            number = self._numbers.pop(id(job))
            self._jobs.pop(number, None)
        self._put(("finished", number, replace(trajectory), verdict, job.tries))
        job.batch.finished += 1

    def _put(self, event: tuple[Any, ...], size: int = 0) -> None:
        with self._condition:
            while len(self._events) >= _MOST_EVENTS or (self._bytes and self._bytes + size > 4 * _MOST_BYTES):
                if self.executor._stopped.is_set():
                    return
                self._condition.wait(1.0)  # the driver is slow: nothing is lost, everything waits
            self._events.append(event)
            self._bytes += size
            self._condition.notify_all()
