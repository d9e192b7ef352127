"""Workers: the executor of one collector for as long as it has batches, and the state of it that a board shows."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

from swebench_lab.errors import describe, outcome_of
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.rollouts.run_directory import RunDirectory

_log = logging.getLogger(__name__)

_SHOW_SECONDS = 1.0


class Executor(Protocol):
    """What makes attempts: threads of this process, or the nodes of a cluster."""

    error: BaseException | None

    def submit(self, batch: Batch, jobs: Iterable[Job]) -> None:
        """Take a batch in."""

    def put_back(self, job: Job) -> None:
        """Take in an attempt of a batch that another collector was making."""

    def drop(self, batch: Batch) -> None:
        """End one batch."""

    def stop(self) -> None:
        """End everything at once."""

    def status(self) -> dict[str, Any]:
        """Return the state of its stages."""
        ...


class Workers:
    """An executor that several batches share. It ends when the last of them leaves, and takes no other afterwards.

    Args:
        executor: What makes the attempts.
        directory: Where the state is shown while batches run; None: nowhere.
    """

    def __init__(self, executor: Executor, directory: RunDirectory | None) -> None:
        self.executor = executor
        self._directory = directory
        self._batches: list[Batch] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._display = threading.Thread(target=self._show, args=(directory,), name="lab-show", daemon=True)
        if directory:
            self._display.start()

    def add(self, batch: Batch, jobs: list[Job]) -> bool:
        """Begin a batch; false, and nothing is begun, when these workers have ended."""
        with self._lock:
            if self._over.is_set():
                return False
            self._batches = [*self._batches, batch]
            self.executor.submit(batch, jobs)
            return True

    def leave(self, batch: Batch) -> None:
        """Forget a batch; the last one ends the workers."""
        with self._lock:
            self._batches = [other for other in self._batches if other is not batch]
            if self._batches or self._over.is_set():
                return
            self._over.set()
        self._end()

    def stop(self) -> None:
        """End all batches at once; what is finished is kept."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
        self._end()

    def _end(self) -> None:
        self.executor.stop()
        if self._directory:
            self._display.join()  # else "running" might be written after "over"
            self._directory.show(self._state("over"))
            self._directory.release()

    def _show(self, directory: RunDirectory) -> None:
        start, reported = time.time(), ""
        while not self._over.wait(_SHOW_SECONDS):
            # What is only looked at must not end what is collected; a full disk ends it when the next row is written.
            error = outcome_of(lambda: directory.show(self._state("running") | {"began": start}))
            if isinstance(error, Exception) and (text := describe(error)) != reported:
                _log.warning("showing the state of a collection: %s", text)
                reported = text

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
