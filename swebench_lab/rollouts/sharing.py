"""Sharing: which attempts of a batch this collector makes, and which another collector on the same folder is making."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from swebench_lab.errors import describe, outcome_of
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.rollouts.recorder import Recorder
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.store.index import Entry, entry_of
from swebench_lab.rollouts.store.news import News

_log = logging.getLogger(__name__)

_EVERY = 0.5
"""Seconds between two looks at what others have finished."""


class Sharing:
    """The claims of one batch on its attempts.

    An attempt that somebody else is making is left to them; its result is taken over when it has come. Should its
    maker die, it is made here.

    Args:
        directory: The run directory.
        recorder: What reads and rewards stored attempts.
        batch: The batch.
        news: What came into the directory since it was decided what is missing.
        seen: Which row of an attempt was there when that was decided, by task id and attempt: it is being made again.
    """

    def __init__(
        self,
        directory: RunDirectory,
        recorder: Recorder,
        batch: Batch,
        news: News,
        seen: Mapping[tuple[str, int], Entry],
    ) -> None:
        self._directory, self._recorder, self._batch, self._news, self._entries = directory, recorder, batch, news, seen
        self._elsewhere: list[Job] = []
        self._jobs: dict[int, Job] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    def _name(self, job: Job) -> tuple[object, ...]:
        return (job.task.id, job.attempt, job.seed, self._batch.fingerprint)

    def take(self, job: Job) -> bool:
        """Claim an attempt before it is begun; false when somebody else makes it, or has made it."""
        with self._lock:
            if id(job) in self._jobs:
                return True  # a retry
            if self._directory.claims.take(self._name(job)):
                if self.finished_elsewhere(job) is None:
                    self._jobs[id(job)] = job
                    return True
                self._directory.claims.release(self._name(job))
            self._elsewhere.append(job)
            return False

    def holds(self, job: Job) -> bool:
        """Return whether an attempt is claimed for this batch."""
        return id(job) in self._jobs

    def release(self, job: Job) -> None:
        """Give the claim of an attempt up: it has its row."""
        with self._lock:
            if self._jobs.pop(id(job), None) is not None:
                self._directory.claims.release(self._name(job))

    def left(self) -> list[Job]:
        """Take out the attempts that others are making."""
        with self._lock:
            jobs, self._elsewhere = self._elsewhere, []
            return jobs

    def waiting(self) -> int:
        """Return how many attempts others are making."""
        return len(self._elsewhere)

    def finished_elsewhere(self, job: Job) -> Entry | None:
        """Return the entry of an attempt that somebody else has finished since; None where nobody has."""
        row = self._news.of(job.task.id, job.attempt, job.seed, self._batch.fingerprint)
        entry = entry_of(row) if row is not None else None
        old = self._entries.get((job.task.id, job.attempt))
        return None if entry is None or (old is not None and entry.at == old.at) else entry

    def watch(self, put_back: Callable[[Job], None]) -> None:
        """Begin to look after what others are making.

        Args:
            put_back: Puts an attempt in line again, when whoever was making it has died.
        """
        threading.Thread(target=self._watch, args=(put_back,), name="lab-sharing", daemon=True).start()

    def _watch(self, put_back: Callable[[Job], None]) -> None:
        while not self._over.wait(_EVERY) and not self._batch.over:
            error = outcome_of(lambda: self._look(put_back))
            if isinstance(error, Exception):  # a full disk, a damaged row: it is tried again
                _log.warning("looking for attempts of other collectors: %s", describe(error))
                time.sleep(_EVERY)

    def _look(self, put_back: Callable[[Job], None]) -> None:
        for job in list(self._elsewhere):
            entry = self.finished_elsewhere(job)
            rollout = self._recorder.restore(entry, job.task, self._batch) if entry is not None else None
            if rollout is None and not self._directory.claims.free(self._name(job)):
                continue
            with self._lock:
                if job not in self._elsewhere:
                    continue  # it was cut off meanwhile
                self._elsewhere.remove(job)
            if rollout is not None:
                self._batch.add(rollout, made=False)
            else:
                put_back(job)

    def close(self) -> None:
        """Give all claims of the batch up."""
        self._over.set()
        with self._lock:
            jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            self._directory.claims.release(self._name(job))
