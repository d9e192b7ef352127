"""Collecting: the handle of attempts that were asked for together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Tasks
from swebench_lab.rollouts.executors.jobs import Batch
from swebench_lab.rollouts.recorder import Recorder
from swebench_lab.rollouts.sharing import Sharing
from swebench_lab.rollouts.store.index import Entry, Key
from swebench_lab.rollouts.workers import Workers


class Collecting:
    """Attempts that were asked for: iterate over it for Rollouts as they come, or ask for all of them.

    Args:
        batch: The attempts that have to be made.
        recorder: What keeps them, and reads those that were stored before.
        workers: What makes them; None when there is nothing to make.
        tasks: What is attempted.
        attempts: Attempts at each task.
        stored: Entries of the rollouts that were there already, by task id and attempt.
        sharing: Who makes which attempt, where results are kept in a run directory.
    """

    def __init__(
        self,
        batch: Batch,
        recorder: Recorder,
        workers: Workers | None,
        tasks: Tasks,
        attempts: int,
        stored: Mapping[tuple[str, int], Entry],
        sharing: Sharing | None = None,
    ) -> None:
        self._batch, self._recorder, self._workers = batch, recorder, workers
        self._tasks, self._attempts, self._sharing = tasks, attempts, sharing
        self._entries, self._entry_count = dict(stored), len(stored)
        self._rollouts: Rollouts | None = None
        self._keys: dict[tuple[str, int], Key] = {}
        self._yielded = 0
        self._left = workers is None

    def __len__(self) -> int:
        return len(self._tasks) * self._attempts

    def __iter__(self) -> Iterator[Rollout]:
        """Yield those that are there already, then each new one when it is graded; each rollout once."""
        for task_id, attempt in list(self._entries):
            entry = self._entries.pop((task_id, attempt))
            yield self._recorder.restore(entry, self._tasks[task_id], self._batch)
        yield from self._new_rollouts()

    def _new_rollouts(self) -> Iterator[Rollout]:
        """Yield each attempt that was not there already, when it is graded."""
        while self._workers and self._yielded < self._batch.count:
            rollout = self._batch.results.get()
            if rollout is None:
                break
            self._yielded += 1
            yield rollout
        self._leave()
        self._raise()

    def _raise(self) -> None:
        """Raise what ended the workers, or what the reward function raised."""
        if self._workers and self._workers.executor.error is not None:
            raise self._workers.executor.error
        if error := self._batch.error:
            error.add_note("raised by the reward function; every attempt is kept, and a rerun computes its reward anew")
            raise error

    def result(self, timeout: float | None = None) -> Rollouts:
        """Wait until all attempts have ended, and return them, ordered by task, then attempt.

        Raises:
            TimeoutError: They have not after so many seconds; they go on, and asking again waits on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._workers and not self.done:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"{self._batch.finished} of {self._batch.count} attempts have ended")
            if self._workers.executor.error is not None:
                break
            time.sleep(0.02)
        if self._rollouts is None:
            self._rollouts = self._all()
        return self._rollouts

    def _all(self) -> Rollouts:
        if self._recorder.directory is not None:
            for _ in self.statuses():
                pass
            return self.stored_rollouts()
        order = {task.id: place for place, task in enumerate(self._tasks)}
        rollouts = sorted(self, key=lambda r: (order[r.task.id], r.trajectory.attempt))
        return Rollouts(rollouts, self._batch.agent.policy.name)

    def statuses(self) -> Iterator[str]:
        """Yield the status of each attempt as it comes, without reading those stored ones that keep their reward."""
        for (task_id, attempt), entry in self._entries.items():
            if entry.graded and entry.rewarded_by != self._recorder.rewarded_by:
                self._recorder.restore(entry, self._tasks[task_id], self._batch)
            self._keys[task_id, attempt] = entry.key
            yield entry.status
        self._entries.clear()
        for rollout in self._new_rollouts():
            self._keys[rollout.task.id, rollout.trajectory.attempt] = rollout.key
            yield rollout.verdict.status

    def stored_rollouts(self) -> Rollouts:
        """Return the attempts whose statuses were yielded, as they lie in the run directory: none is read yet."""
        assert self._recorder.directory is not None
        keys = [self._keys[task.id, attempt] for task in self._tasks for attempt in range(self._attempts)]
        return Rollouts(self._recorder.directory.rollouts(keys), self._batch.agent.policy.name)

    @property
    def done(self) -> bool:
        """Whether all attempts have ended."""
        return self._batch.over

    def cancel(self) -> None:
        """End the attempts that are still being made; finished ones are kept."""
        if self._workers and not self._left and not self.done:
            self._workers.executor.drop(self._batch)
        self._leave()

    def _leave(self) -> None:
        if self._batch.report is not None:
            self._batch.report.close()
        if self._workers and not self._left:
            self._left = True
            if self._sharing is not None:
                self._sharing.close()
            self._workers.leave(self._batch)

    def __repr__(self) -> str:
        """Return one line: how many attempts have ended."""
        return f"Collecting({self._entry_count} were there, {self._batch.finished} of {self._batch.count} others ended)"
