"""RolloutCollector: an agent × tasks × attempts → graded Rollouts, resumable from the run directory."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from swebench_lab.agents.external.cli_agent import AnyAgent, CLIAgent
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.trackers import Report, check_tracker
from swebench_lab.records.verdict import NOT_GRADED
from swebench_lab.rollouts import rewards
from swebench_lab.rollouts.collecting import Collecting
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from swebench_lab.rollouts.executors.thread_executor import ThreadExecutor
from swebench_lab.rollouts.manifest import git_state, machine_facts, versions
from swebench_lab.rollouts.recorder import Recorder
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.sharing import Sharing
from swebench_lab.rollouts.store.index import Entry
from swebench_lab.rollouts.workers import Executor, Workers
from swebench_lab.sandbox.quotas import quota_of

if TYPE_CHECKING:
    from swebench_lab.rollouts.executors.cluster import Cluster
    from swebench_lab.snapshots.factory import SandboxFactory

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


class RolloutCollector:
    """Makes attempts in private sandboxes, grades each in a fresh one, and keeps every result as it comes.

    A failed attempt is a record: whatever breaks in the policy, the sandbox or the grader becomes a rollout that is
    *not graded*, with its reason, and the others go on. Infrastructure errors are retried first.

    Each graded attempt is rewarded once, when it finishes. A rerun takes rewards from the run directory as they are,
    unless `reward` is another function than the one they are from, by `rewards.identity`, or that one raised: those
    rows are rewarded anew and take the place of the old ones.

    Args:
        sandboxes: Where attempts run.
        evaluator: What grades them; None: an `Evaluator` over the same sandboxes.
        workers: Attempts in flight, on each node; None: four for each processor.
        run_dir: Folder that keeps rollouts and step layers. A rerun with the same agent and tasks resumes: what is
            there is not executed again. None: results live in memory only, and step layers are not kept.
        reward: Function of a graded Rollout; `rewards.of_verdict` by default. It is not called for those not graded.
        seed: What each attempt's own seed is derived from.
        stages: How much of each stage runs at once: cold environments, sandbox starts, model calls, commands, grading.
        deadlines: How long anything may take, and how often an infrastructure error is retried.
        executor: `"threads"` of this process, `"ray"` (the cluster this process is connected to, or a new one), or
            what `lab.cluster` returned.
        layers_bytes: Bytes of packed step layers that the run directory keeps.
        report_to: Where the counts go while they grow, a run for each call: `"trackio"`, `"wandb"`, `"mlflow"`,
            `"tensorboard"` or `"none"`.

    Raises:
        ConfigError: The tracker is unknown, or its package is not installed.
        ValueError: There are no workers, or the executor is unknown.
    """

    def __init__(
        self,
        sandboxes: SandboxFactory,
        evaluator: Evaluator | None = None,
        *,
        workers: int | None = None,
        run_dir: str | Path | None = None,
        reward: rewards.Reward = rewards.of_verdict,
        seed: int = 0,
        stages: Stages | None = None,
        deadlines: Deadlines | None = None,
        executor: str | Cluster = "threads",
        layers_bytes: int = 20_000_000_000,
        report_to: str = "none",
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"RolloutCollector(workers={workers}): at least one worker is needed")
        if isinstance(executor, str) and executor not in ("threads", "ray"):
            raise ValueError(f"unknown executor {executor!r}; known are 'threads', 'ray', and what lab.cluster returns")
        self.sandboxes = sandboxes
        self.evaluator = evaluator or Evaluator(sandboxes)
        self.workers = workers or 4 * (os.cpu_count() or 1)
        self.run_directory = RunDirectory(run_dir, layers_bytes=layers_bytes) if run_dir is not None else None
        self.recorder = Recorder(self.run_directory, reward)
        self.seed = seed
        self.stages = stages or Stages()
        self.deadlines = deadlines or Deadlines()
        self.executor = executor
        self.report_to = check_tracker(report_to)
        self.remarks: tuple[str, ...] = ()
        """What the latest call did with attempts that an earlier run left *not graded*: a sentence each."""
        self._latest: Batch | None = None
        self._running: Workers | None = None
        self._lock = threading.Lock()

    @property
    def reward(self) -> rewards.Reward:
        """The function of a graded Rollout that gives its reward."""
        return self.recorder.reward

    @property
    def executed(self) -> int:
        """Attempts that the latest `collect` has really made; the others were there already."""
        return self._latest.recorded if self._latest else 0

    # --- what users call --------------------------------------------------------------------------------------------

    def collect(
        self,
        agent: AnyAgent,
        tasks: Iterable[Task] | Task,
        attempts: int = 1,
        *,
        progress: bool = True,
        retry: bool = False,
    ) -> Rollouts:
        """Make the attempts that are not stored yet, and return all of them, ordered by task, then attempt.

        Ctrl-C stops at once and loses nothing that was finished; calling again goes on. Attempts of an earlier run whose
        set-up failed (no clone, no build: they had no Snapshot to begin from) are made again, and `remarks` says so.
        Several collectors on one run directory share the work: each attempt is made by one of them.

        Args:
            agent: Who attempts.
            tasks: What is attempted.
            attempts: Attempts at each task.
            progress: Whether a bar with the counts of resolved, unresolved and not graded is shown.
            retry: Whether attempts that an earlier run left *not graded* are made again.

        Returns:
            One rollout for each task and attempt. With a run directory they lie there, and are read as they are asked for.
        """
        selection = Tasks([tasks] if isinstance(tasks, Task) else tasks)
        if self.run_directory is None:
            rollouts = {
                (r.task.id, r.trajectory.attempt): r for r in self.stream(agent, selection, attempts, progress, retry)
            }
            sequence = [rollouts[task.id, attempt] for task in selection for attempt in range(attempts)]
            return self._explain(Rollouts(sequence, agent.policy.name), progress)
        handle = self._begin(agent, selection, attempts, retry, bounded=True)
        try:
            for _ in self._with_progress(handle, handle.statuses(), str, progress):
                pass
        finally:
            handle.cancel()
        return self._explain(handle.stored_rollouts(), progress)

    def _explain(self, rollouts: Rollouts, progress: bool) -> Rollouts:
        """Say what kept attempts of this call from being graded."""
        from tqdm.auto import tqdm

        if self._latest and self._latest.failures and (groups := rollouts.reasons):
            count = sum(group.count for group in groups)
            remark = (
                f"{count} of {len(rollouts)} attempts were not graded, most often by this: {groups[0].brief(400)}\n"
                "once the cause is gone, the same call makes them again with `retry`"
            )
            if progress:
                tqdm.write(remark, file=sys.stderr)
            else:
                _log.warning("%s", remark)
        return rollouts

    def stream(
        self,
        agent: AnyAgent,
        tasks: Iterable[Task] | Task,
        attempts: int = 1,
        progress: bool = False,
        retry: bool = False,
    ) -> Iterator[Rollout]:
        """Yield rollouts as they come: first those that are there already, then each new one when it is graded.

        Nothing is held that was yielded. Who takes results slowly slows the making of new ones down.
        """
        handle = self._begin(agent, Tasks([tasks] if isinstance(tasks, Task) else tasks), attempts, retry, bounded=True)
        try:
            yield from self._with_progress(handle, iter(handle), lambda rollout: rollout.verdict.status, progress)
        finally:
            handle.cancel()

    def _with_progress(
        self, handle: Collecting, items: Iterator[Item], status: Callable[[Item], str], progress: bool
    ) -> Iterator[Item]:
        """Yield items of a collection while a bar counts them."""
        from tqdm.auto import tqdm

        counts = {"resolved": 0, "unresolved": 0, NOT_GRADED: 0}
        name = self._latest.agent.policy.name if self._latest else ""
        with tqdm(total=len(handle), desc=name, unit="attempt", disable=not progress) as bar:
            if progress and self.remarks:
                bar.write("\n".join(self.remarks), file=sys.stderr)
            for item in items:
                counts[status(item)] += 1
                bar.set_postfix(counts, refresh=False)
                bar.update()
                yield item

    def submit(
        self, agent: AnyAgent, tasks: Iterable[Task] | Task, attempts: int = 1, *, retry: bool = False
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
            workers, self._running = self._running, None
        if workers:
            workers.stop()

    # --- beginning and ending ---------------------------------------------------------------------------------------

    def _begin(self, agent: AnyAgent, tasks: Tasks, attempts: int, retry: bool, bounded: bool) -> Collecting:
        if isinstance(agent, CLIAgent):
            self._check_cli(agent)
        fingerprint = agent.fingerprint
        news = None
        existing: dict[tuple[str, int], Entry] = {}
        previous: dict[tuple[str, int], Entry] = {}
        if self.run_directory:
            self.run_directory.recover()
            news = self.run_directory.news()
            existing, previous = self._find_entries(self.run_directory, fingerprint, tasks, attempts, retry)
        self._remark(existing, previous, retry)
        missing = [
            (task, attempt)
            for attempt in range(attempts)  # every task once before any task twice
            for task in tasks
            if (task.id, attempt) not in existing
        ]
        if missing and self.run_directory:
            quota_of().check_disk("collecting", self.sandboxes.cache.root, self.run_directory.path)
        self._note(agent, fingerprint, tasks, attempts, len(missing))
        window = 2 * self.workers if bounded else None
        batch = self._latest = Batch(agent, fingerprint, len(missing), window, self.deadlines.run)
        jobs = [Job(task, attempt, self._seed(task, attempt), batch) for task, attempt in missing]
        _log.info("%s: %d attempts to make, %d stored", agent.policy.name, len(jobs), len(existing))
        if self.report_to != "none":
            batch.report = self._report(agent, fingerprint, tasks, attempts, existing.values())
        sharing = None
        if self.run_directory and news is not None and jobs:
            batch.sharing = sharing = Sharing(self.run_directory, self.recorder, batch, news, previous)
        workers = self._work(batch, jobs) if jobs else None
        if sharing is not None and workers is not None:
            sharing.watch(workers.executor.put_back)
        return Collecting(batch, self.recorder, workers, tasks, attempts, existing, sharing)

    def _report(
        self, agent: AnyAgent, fingerprint: str, tasks: Tasks, attempts: int, existing: Iterable[Entry]
    ) -> Report:
        """Begin a run of the tracker, which counts what is stored already."""
        folder = self.run_directory.path if self.run_directory else None
        facts = {"policy": agent.policy.name, "agent": fingerprint, "tasks": len(tasks), "attempts": attempts}
        name = f"{agent.policy.name}, {folder.name}" if folder else agent.policy.name
        report = Report(self.report_to, name, {**facts, "seed": self.seed, "tier": self.sandboxes.tier}, folder)
        for entry in existing:
            report.add(entry.status)
        return report

    def _remark(
        self, existing: dict[tuple[str, int], Entry], previous: dict[tuple[str, int], Entry], retry: bool
    ) -> None:
        """Say what is done about attempts that an earlier run left not graded."""
        left = sum(not entry.graded for entry in existing.values())
        again = sum(not entry.graded for entry in previous.values())
        why = "were not graded" if retry else "ended in a set-up failure"
        remarks = [f"{again} attempts of an earlier run {why}: they are made again"] if again else []
        remarks += [
            f"{left} attempts of an earlier run were not graded and stay so; retry=True makes them again"
        ] * bool(left)
        self.remarks = tuple(remarks)
        for remark in remarks:
            _log.info("%s", remark)

    def _check_cli(self, agent: CLIAgent) -> None:
        """Refuse what an agent of others cannot work in, and install it, before anything starts."""
        agent.check(self.sandboxes.backend, self.sandboxes.network)
        if self.executor == "threads":
            agent.install()  # each node of a cluster installs it for itself

    def _work(self, batch: Batch, jobs: list[Job]) -> Workers:
        """Begin a batch on the workers that are there, or on new ones."""
        with self._lock:
            if self._running is None or not self._running.add(batch, jobs):
                self._running = Workers(self._start_executor(), self.run_directory)
                self._running.add(batch, jobs)
            return self._running

    def _start_executor(self) -> Executor:
        arguments = (self.sandboxes, self.evaluator, self.workers, self.stages, self.deadlines, self.recorder)
        if self.executor == "threads":
            return ThreadExecutor(*arguments)
        from swebench_lab.rollouts.executors.cluster import cluster
        from swebench_lab.rollouts.executors.driver import Driver

        return Driver(cluster("auto") if isinstance(self.executor, str) else self.executor, *arguments)

    def _find_entries(
        self, directory: RunDirectory, fingerprint: str, tasks: Tasks, attempts: int, retry: bool
    ) -> tuple[dict[tuple[str, int], Entry], dict[tuple[str, int], Entry]]:
        """Return the wanted attempts that are there, and those that are there but made again; by task id and attempt."""
        ids = set(tasks.ids)
        existing: dict[tuple[str, int], Entry] = {}
        again: dict[tuple[str, int], Entry] = {}
        keys: dict[str, str] = {}
        for (task_id, attempt, seed, snapshot, agent), entry in directory.entries().items():
            if not (task_id in ids and attempt < attempts and agent == fingerprint):
                continue
            task = tasks[task_id]
            if task_id not in keys:
                keys[task_id] = self.sandboxes.key(task)
            # An attempt that failed before it had a Snapshot still counts as made; another tree's attempt does not.
            # Where no Snapshot can be known of, as on a hub whose cluster has them all, any is the task's own.
            if seed == self._seed(task, attempt) and (snapshot in ("", keys[task_id]) or not keys[task_id]):
                made_again = entry.set_up_failed or (retry and not entry.graded)
                (again if made_again else existing)[task_id, attempt] = entry
        return existing, {place: entry for place, entry in again.items() if place not in existing}

    def _seed(self, task: Task, attempt: int) -> int:
        """Derive an attempt's seed; it depends on nothing but the run's seed, the task and the attempt."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{task.id}/{attempt}".encode()).digest()[:4])

    def _note(self, agent: AnyAgent, fingerprint: str, tasks: Tasks, attempts: int, missing: int) -> None:
        if self.run_directory:
            self.run_directory.recover_partial()
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
                    "reward": self.recorder.rewarded_by,
                    "sandboxes": self.sandboxes.to_dict(),
                    "tier": self.sandboxes.tier,
                    "versions": versions(),
                    "git": git_state(),
                    "machine": machine_facts(),
                }
            )

    def __repr__(self) -> str:
        """Return one line: where attempts run, how many at once, and where results are kept."""
        place = f"run_dir={str(self.run_directory.path)!r}" if self.run_directory else "in memory"
        return f"RolloutCollector({self.sandboxes!r}, workers={self.workers}, {place})"
