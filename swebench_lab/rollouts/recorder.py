"""Recorder: takes in what becomes of attempts, rewards each finished one, and keeps it in the run directory."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import describe, outcome_of
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict
from swebench_lab.rollouts import rewards
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.store.index import Entry
from swebench_lab.rollouts.store.journals import Journal

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Layer

_log = logging.getLogger(__name__)


class Recorder:
    """What executors report to. All of it happens on their threads: what is finished survives a stop of the main one.

    The reward function is called once for each graded attempt, when it finishes. A stored row keeps its reward for as
    long as the reward function is the same by `rewards.identity`; under another one it is rewarded anew when it is
    read, and that row takes the place of the old one. What the function raises is kept in the batch as `error`, and the
    attempt is kept without a reward.

    Args:
        directory: Where everything is kept; None: nowhere, the batch alone is given the rollouts.
        reward: Function of a graded Rollout.
    """

    def __init__(self, directory: RunDirectory | None, reward: rewards.Reward) -> None:
        self.directory, self.reward = directory, reward
        self.rewarded_by = rewards.identity(reward)
        self._journals: dict[int, Journal] = {}

    # --- what executors report --------------------------------------------------------------------------------------

    @property
    def layers(self) -> bool:
        """Whether step layers are kept."""
        return self.directory is not None

    def keep_layer(self, layer: Layer) -> None:
        """Keep what a step changed."""
        if self.directory:
            self.directory.put_layer(layer)

    def keep_packed(self, digest: str, packed: bytes) -> None:
        """Keep a step layer that a node has packed."""
        if self.directory:
            self.directory.put_packed(digest, packed)

    def event(self, what: str, **facts: Any) -> None:
        """Note something that happened, other than to one attempt."""
        if self.directory:
            self.directory.event(what, **facts)

    def began(self, job: Job, trajectory: Trajectory) -> None:
        """Open the journal of an attempt."""
        if self.directory:
            journal = self._journals[id(job)] = self.directory.journal()
            journal.begin(trajectory)

    def stepped(self, job: Job, step: Step) -> None:
        """Write a step to its attempt's journal."""
        if journal := self._journals.get(id(job)):
            journal.step(step)

    def retried(self, job: Job, trajectory: Trajectory | None, reason: str) -> None:
        """Note that an attempt, or its grading, starts again; keep how far it had come."""
        if self.directory:
            facts = {"task": job.task.id, "attempt": job.attempt, "tries": job.tries, "reason": reason}
            self.directory.event("again", **facts)
            if trajectory is not None and trajectory.steps:
                self.directory.keep_partial(trajectory, reason)
        self._end_journal(job)

    def finished(self, job: Job, trajectory: Trajectory, verdict: Verdict, node: str = "") -> None:
        """Reward an attempt, keep its one row, and hand it to its batch."""
        sharing = job.batch.sharing
        if sharing is not None and not sharing.holds(job):  # it is cut off here, and may have been made elsewhere
            entry = sharing.finished_elsewhere(job)
            if entry is not None:
                job.batch.add(self.restore(entry, job.task, job.batch), made=False)
                return
        layers = str(self.directory.layers) if self.directory else ""
        rollout = Rollout(job.task, trajectory, verdict, None, layers, node, job.tries + 1)
        rollout = self._keep(rollout, job.batch)
        self._end_journal(job)
        if sharing is not None:
            sharing.release(job)
        job.batch.add(rollout)

    # --- rewards ----------------------------------------------------------------------------------------------------

    def restore(self, entry: Entry, task: Task, batch: Batch) -> Rollout:
        """Return a stored rollout, rewarded by this recorder's function.

        Raises:
            RecordError: It cannot be read any more.
        """
        assert self.directory is not None
        rollout = self.directory.read(entry, task)
        if not entry.graded or entry.rewarded_by == self.rewarded_by:
            return rollout
        return self._keep(replace(rollout, reward=None), batch, entry)

    def _keep(self, rollout: Rollout, batch: Batch, entry: Entry | None = None) -> Rollout:
        """Reward a rollout and keep it; one that has an entry is stored already, but for its reward."""
        rewarded_by = self.rewarded_by
        if rollout.verdict.graded:
            reward = outcome_of(partial(self.reward, rollout))
            if isinstance(reward, Exception):  # a user's function: its error is raised when all attempts are made
                _log.warning("rewarding %s, attempt %d: %s", *rollout.key[:2], describe(reward))
                batch.error = batch.error or reward
                rewarded_by = ""
            else:
                rollout = replace(rollout, reward=reward)
        if self.directory and entry is not None:
            self.directory.reward_again(rollout, entry, rewarded_by)
        elif self.directory:
            self.directory.append(rollout, rewarded_by)
        return rollout

    def _end_journal(self, job: Job) -> None:
        if journal := self._journals.pop(id(job), None):
            journal.end()
