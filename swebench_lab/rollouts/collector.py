"""RolloutCollector: an agent × tasks × attempts → graded Rollouts, resumable from the run directory."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from swebench_lab.agents.agent import Agent
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.rollout import Rollout, Rollouts, rescore
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.trajectory import Step, Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Verdict
from swebench_lab.rollouts import rewards
from swebench_lab.rollouts.executors.engine import Engine
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from swebench_lab.rollouts.manifest import git_state, machine_facts, versions
from swebench_lab.rollouts.run_directory import Entry, Journal, RunDirectory
from swebench_lab.sandbox.quotas import quota_of

if TYPE_CHECKING:
    from swebench_lab.rollouts.executors.cluster import Cluster
    from swebench_lab.sandbox.contract import Layer
    from swebench_lab.snapshots.factory import SandboxFactory

Reward = Callable[[Rollout], float | None]

_SHOW_SECONDS = 1.0


class Executor(Protocol):
    """What makes attempts: threads of this process, or the nodes of a cluster."""

    error: BaseException | None

    def submit(self, batch: Batch, jobs: Iterable[Job]) -> None:
        """Take a batch in."""

    def drop(self, batch: Batch) -> None:
        """End one batch."""

    def stop(self) -> None:
        """End everything at once."""

    def status(self) -> dict[str, Any]:
        """Return what goes on now."""
        ...


class RolloutCollector:
    """Makes attempts in private sandboxes, grades each in a fresh one, and keeps every result as it comes.

    A failed attempt is a record: whatever breaks in the policy, the sandbox or the grader becomes a rollout that is
    *not graded*, with its reason, and the others go on. What a fault of ours ended is begun again first, a few times.

    Args:
        sandboxes: Where attempts run.
        evaluator: What grades them; None: an `Evaluator` over the same sandboxes.
        workers: Attempts in flight, on each node; None: four for each processor.
        run_dir: Folder that keeps rollouts and step layers. A rerun with the same agent and tasks resumes: what is
            there is not executed again. None: results live in memory only, and step layers are not kept.
        reward: Function of a graded Rollout; `rewards.resolved` by default. It is not called for those not graded.
        seed: What each attempt's own seed is derived from.
        attempt_timeout: Seconds after which an attempt is cut off, its sandbox closed; None: the agent's own limits.
            The same as `deadlines.attempt`.
        stages: How much of each stage runs at once: cold environments, sandbox starts, model calls, commands, grading.
        deadlines: How long anything may take, and how often a fault of ours is tried again.
        executor: `"threads"` of this process, `"ray"` (the cluster this process is connected to, or a new one), or
            what `lab.cluster` returned.
        layers_bytes: Bytes of packed step layers that the run directory keeps.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        evaluator: Evaluator | None = None,
        *,
        workers: int | None = None,
        run_dir: str | Path | None = None,
        reward: Reward = rewards.resolved,
        seed: int = 0,
        attempt_timeout: float | None = None,
        stages: Stages | None = None,
        deadlines: Deadlines | None = None,
        executor: str | Cluster = "threads",
        layers_bytes: int = 20_000_000_000,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"RolloutCollector(workers={workers}): at least one worker is needed")
        if isinstance(executor, str) and executor not in ("threads", "ray"):
            raise ValueError(f"unknown executor {executor!r}; known are 'threads', 'ray', and what lab.cluster returns")
        self.sandboxes = sandboxes
        self.evaluator = evaluator or Evaluator(sandboxes)
        self.workers = workers or 4 * (os.cpu_count() or 1)
        self.run_directory = RunDirectory(run_dir, layers_bytes=layers_bytes) if run_dir is not None else None
        self.reward = reward
        self.seed = seed
        self.stages = stages or Stages()
        self.deadlines = deadlines or Deadlines()
        if attempt_timeout is not None:
            self.deadlines = replace(self.deadlines, attempt=attempt_timeout)
        self.executor = executor
        self.executed = 0
        """Attempts that the latest `collect` really made; the others were there already."""
        self._running: _Running | None = None
        self._lock = threading.Lock()

    # --- what users call --------------------------------------------------------------------------------------------

    def collect(
        self,
        agent: Agent,
        tasks: Iterable[Task] | Task,
        attempts: int = 1,
        *,
        progress: bool = True,
        retry: bool = False,
    ) -> Rollouts:
        """Make all attempts that are not there yet, and return all of them, ordered by task, then attempt.

        Ctrl-C stops at once and loses nothing that was finished; calling again goes on.

        Args:
            agent: Who attempts.
            tasks: What is attempted.
            attempts: Attempts at each task.
            progress: Whether a bar with the counts of resolved, unresolved and not graded is shown.
            retry: Whether attempts that an earlier run left *not graded* are made again.

        Returns:
            One rollout for each task and attempt.
        """
        chosen = Tasks([tasks] if isinstance(tasks, Task) else tasks)
        found = {(r.task.id, r.trajectory.attempt): r for r in self.stream(agent, chosen, attempts, progress, retry)}
        ordered = [found[task.id, attempt] for task in chosen for attempt in range(attempts)]
        return rescore(Rollouts(ordered, agent.policy.name), self.reward)

    def stream(
        self,
        agent: Agent,
        tasks: Iterable[Task] | Task,
        attempts: int = 1,
        progress: bool = False,
        retry: bool = False,
    ) -> Iterator[Rollout]:
        """Yield rollouts as they come: first those that are there already, then each new one when it is graded.

        Nothing is held that was yielded. Who takes results slowly slows the making of new ones down.
        """
        from tqdm.auto import tqdm

        handle = self._begin(agent, Tasks([tasks] if isinstance(tasks, Task) else tasks), attempts, retry, bounded=True)
        counts = {"resolved": 0, "unresolved": 0, NOT_GRADED: 0}
        try:
            with tqdm(total=len(handle), desc=agent.policy.name, unit="attempt", disable=not progress) as bar:
                for rollout in handle:
                    counts[rollout.verdict.status] += 1
                    bar.set_postfix(counts, refresh=False)
                    bar.update()
                    yield rollout
        finally:
            handle.cancel()

    def submit(
        self, agent: Agent, tasks: Iterable[Task] | Task, attempts: int = 1, *, retry: bool = False
    ) -> Collecting:
        """Begin to collect and return at once: what a training loop asks for its next batch while it uses this one.

        Batches that run at the same time share the workers, in turns.

        Args:
            agent: Who attempts.
            tasks: What is attempted.
            attempts: Attempts at each task.
            retry: Whether attempts that an earlier run left *not graded* are made again.

        Returns:
            A handle: iterate over it for results as they come, or ask for its `result()`.
        """
        return self._begin(agent, Tasks([tasks] if isinstance(tasks, Task) else tasks), attempts, retry, bounded=False)

    def close(self) -> None:
        """End all that was submitted; what is finished is kept."""
        with self._lock:
            running, self._running = self._running, None
        if running:
            running.stop()

    # --- beginning and ending ---------------------------------------------------------------------------------------

    def _begin(self, agent: Agent, tasks: Tasks, attempts: int, retry: bool, bounded: bool) -> Collecting:
        fingerprint = agent.fingerprint
        done = self._finished(fingerprint, tasks, attempts, retry)
        missing = [
            (task, attempt)
            for attempt in range(attempts)  # every task once before any task twice
            for task in tasks
            if (task.id, attempt) not in done
        ]
        self.executed = 0
        if missing and self.run_directory:
            quota_of().check_disk("collecting", self.sandboxes.cache.root, self.run_directory.path)
        self._note(agent, fingerprint, tasks, attempts, len(missing))
        window = 2 * self.workers if bounded else None
        batch = Batch(agent, fingerprint, len(missing), window, self.deadlines.run)
        jobs = [Job(task, attempt, self._seed(task, attempt), batch) for task, attempt in missing]
        running = None
        if jobs:
            with self._lock:
                if self._running is None or self._running.over:
                    self._running = _Running(self)
                running = self._running
                running.add(batch, jobs)
        return Collecting(self, batch, running, tasks, attempts, done)

    def _leave(self, running: _Running, batch: Batch) -> None:
        """End the workers when nothing is left that anybody waits for."""
        with self._lock:
            last = running.remove(batch)
            if last and self._running is running:
                self._running = None
        if last:
            running.stop()

    def _keep(self, rollout: Rollout, running: _Running) -> Rollout:
        """Score and keep one attempt, all in the worker: what is finished survives a stop of the main thread."""
        try:
            rollout = rescore(Rollouts([rollout]), self.reward)[0]
        except Exception as error:  # a user's function: the attempt is kept, its error is raised when all are done
            running.wrong = running.wrong or error
        if self.run_directory:
            rollout = replace(rollout, layers=str(self.run_directory.layers))
            self.run_directory.append(rollout)
        self.executed += 1
        return rollout

    def _finished(self, fingerprint: str, tasks: Tasks, attempts: int, retry: bool) -> dict[tuple[str, int], Entry]:
        """Return the entries of wanted rollouts that the run directory has already, by task id and attempt."""
        if not self.run_directory:
            return {}
        known = set(tasks.ids)
        found: dict[tuple[str, int], Entry] = {}
        keys: dict[str, str] = {}
        for (task_id, attempt, seed, snapshot, agent), entry in self.run_directory.entries().items():
            wanted = task_id in known and attempt < attempts and agent == fingerprint
            if not wanted or (retry and not entry.graded):
                continue
            task = tasks[task_id]
            if task_id not in keys:
                keys[task_id] = self.sandboxes.key(task)
            # An attempt that failed before it had a Snapshot still counts as made; another tree's attempt does not.
            # Where no Snapshot can be known of, as on a hub whose cluster has them all, any is the task's own.
            if seed == self._seed(task, attempt) and (snapshot in ("", keys[task_id]) or not keys[task_id]):
                found[task_id, attempt] = entry
        return found

    def _seed(self, task: Task, attempt: int) -> int:
        """Derive an attempt's seed; it depends on nothing but the run's seed, the task and the attempt."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{task.id}/{attempt}".encode()).digest()[:4])

    def _note(self, agent: Agent, fingerprint: str, tasks: Tasks, attempts: int, missing: int) -> None:
        if self.run_directory:
            self.run_directory.bury()
            self.run_directory.note(
                {
                    "started_at": time.time(),
                    "command": sys.argv[:1],
                    "agent": {"name": agent.policy.name, "fingerprint": fingerprint, "repr": repr(agent)},
                    "tasks": len(tasks),
                    "attempts": attempts,
                    "to_do": missing,
                    "workers": self.workers,
                    "seed": self.seed,
                    "executor": self.executor if isinstance(self.executor, str) else repr(self.executor),
                    "stages": asdict(self.stages),
                    "deadlines": asdict(self.deadlines),
                    "sandboxes": self.sandboxes.to_dict(),
                    "tier": self.sandboxes.tier,
                    "versions": versions(),
                    "git": git_state(),
                    "machine": machine_facts(),
                }
            )

    def __repr__(self) -> str:
        """Return one line: where attempts run, how many at once, and where results are kept."""
        kept = f"run_dir={str(self.run_directory.path)!r}" if self.run_directory else "in memory"
        return f"RolloutCollector({self.sandboxes!r}, workers={self.workers}, {kept})"


class Collecting:
    """Attempts that were asked for: iterate over it for Rollouts as they come, or ask for all of them."""

    def __init__(
        self,
        collector: RolloutCollector,
        batch: Batch,
        running: _Running | None,
        tasks: Tasks,
        attempts: int,
        done: dict[tuple[str, int], Entry],
    ) -> None:
        self._collector, self._batch, self._running = collector, batch, running
        self._tasks, self._attempts, self._there = tasks, attempts, done
        self._taken: list[Rollout] = []
        self._yielded = 0
        self._left = False

    def __len__(self) -> int:
        return len(self._tasks) * self._attempts

    def __iter__(self) -> Iterator[Rollout]:
        """Yield those that are there already, then each new one when it is graded; each rollout once."""
        directory = self._collector.run_directory
        for (task_id, _), entry in list(self._there.items()):
            assert directory is not None
            yield directory.read(entry, self._tasks[task_id])
        self._there = {}
        yield from self._new()

    def _new(self) -> Iterator[Rollout]:
        running, batch = self._running, self._batch
        while running and self._yielded < batch.count:
            rollout = batch.results.get()
            if rollout is None:
                break
            self._yielded += 1
            yield rollout
        if running is None:
            return
        self._leave()
        if running.executor.error is not None:
            raise running.executor.error
        if running.wrong:
            running.wrong.add_note(
                "raised by the reward function; every attempt is kept, and a rerun computes its reward anew"
            )
            raise running.wrong

    def result(self, timeout: float | None = None) -> Rollouts:
        """Wait until all attempts have ended, and return them, ordered by task, then attempt.

        Raises:
            TimeoutError: They have not after so many seconds; they go on, and asking again waits on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._running and not self.done:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"{self._batch.finished} of {self._batch.count} attempts have ended")
            if self._running.executor.error is not None:
                break
            time.sleep(0.02)
        if not self._taken:
            self._taken = list(self)
        order = {task.id: place for place, task in enumerate(self._tasks)}
        ordered = sorted(self._taken, key=lambda r: (order[r.task.id], r.trajectory.attempt))
        return rescore(Rollouts(ordered, self._batch.agent.policy.name), self._collector.reward)

    @property
    def done(self) -> bool:
        """Whether all attempts have ended."""
        return self._batch.over

    def cancel(self) -> None:
        """End what is going on of it; what is finished is kept."""
        if self._running and not self._left:
            if not self.done:
                self._running.executor.drop(self._batch)
            self._leave()

    def _leave(self) -> None:
        if self._running and not self._left:
            self._left = True
            self._collector._leave(self._running, self._batch)

    def __repr__(self) -> str:
        """Return one line: how many attempts have ended."""
        return f"Collecting({len(self._there)} were there, {self._batch.finished} of {self._batch.count} others ended)"


class _Running:
    """The workers of one collector while there is something to do, and what keeps their results."""

    def __init__(self, collector: RolloutCollector) -> None:
        self._collector = collector
        self._directory = collector.run_directory
        self._batches: list[Batch] = []
        self._journals: dict[int, Journal] = {}
        self.wrong: Exception | None = None
        self.over = False
        self.executor = self._make(collector)
        self._ended = threading.Event()
        if self._directory:
            threading.Thread(target=self._show, name="lab-show", daemon=True).start()

    def _make(self, collector: RolloutCollector) -> Executor:
        c = collector
        if c.executor == "threads":
            return Engine(c.sandboxes, c.evaluator, c.workers, c.stages, c.deadlines, self)
        from swebench_lab.rollouts.executors.cluster import cluster
        from swebench_lab.rollouts.executors.driver import Driver

        joined = cluster("auto") if isinstance(c.executor, str) else c.executor
        return Driver(joined, c.sandboxes, c.evaluator, c.workers, c.stages, c.deadlines, self)

    def add(self, batch: Batch, jobs: list[Job]) -> None:
        self._batches.append(batch)
        self.executor.submit(batch, jobs)

    def remove(self, batch: Batch) -> bool:
        """Forget a batch; true when it was the last."""
        self._batches = [other for other in self._batches if other is not batch]
        self.over = self.over or not self._batches
        return not self._batches

    def stop(self) -> None:
        self.over = True
        self._ended.set()
        self.executor.stop()
        if self._directory:
            self._directory.show(self._state("over"))
            self._directory.release()

    # --- what the board reads ---------------------------------------------------------------------------------------

    def _show(self) -> None:
        began = time.time()
        while not self._ended.wait(_SHOW_SECONDS):
            assert self._directory is not None
            try:
                self._directory.show(self._state("running") | {"began": began})
            except Exception:  # what is only looked at must not end what is collected; a full disk will tell by itself
                continue

    def _state(self, state: str) -> dict[str, Any]:
        batches = self._batches
        return {
            "state": state,
            "at": time.time(),
            "pid": os.getpid(),
            "count": sum(batch.count for batch in batches),
            "finished": sum(batch.finished for batch in batches),
            "agents": sorted({batch.fingerprint for batch in batches}),
            **self.executor.status(),
        }

    # --- what the executor hands over -------------------------------------------------------------------------------

    @property
    def layers(self) -> bool:
        return self._directory is not None

    def keep_layer(self, layer: Layer) -> None:
        assert self._directory is not None
        self._directory.put_layer(layer)

    def keep_packed(self, digest: str, packed: bytes) -> None:
        if self._directory:
            self._directory.put_packed(digest, packed)

    def begun(self, job: Job, trajectory: Trajectory) -> None:
        if self._directory:
            journal = self._journals[id(job)] = self._directory.journal()
            journal.begin(trajectory)

    def stepped(self, job: Job, step: Step) -> None:
        if self._directory and (journal := self._journals.get(id(job))):
            journal.step(step)

    def again(self, job: Job, trajectory: Trajectory | None, reason: str) -> None:
        if self._directory:
            facts = {"task": job.task.id, "attempt": job.attempt, "tries": job.tries, "reason": reason}
            self._directory.event("again", **facts)
            if trajectory is not None and trajectory.steps:
                self._directory.keep_partial(trajectory, reason)
            if journal := self._journals.pop(id(job), None):
                journal.end()

    def event(self, what: str, **facts: Any) -> None:
        if self._directory:
            self._directory.event(what, **facts)

    def finish(self, job: Job, trajectory: Trajectory, verdict: Verdict, node: str = "") -> None:
        rollout = Rollout(job.task, trajectory, verdict, None, "", node, job.tries + 1)
        rollout = self._collector._keep(rollout, self)
        if journal := self._journals.pop(id(job), None):
            journal.end()
        job.batch.done(rollout)
