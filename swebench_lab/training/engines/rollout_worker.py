"""Rollout worker: makes groups of attempts in the background.

What TRL calls RolloutWorkerProtocol. Groups are made several at once, each on its own
threads; what each sampled is queued with ids, masks, logprobs and advantage. A slow sandbox holds up its own group only.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.policies.policy import Policy
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task
from swebench_lab.training.engines.batches import Sample, samples
from swebench_lab.training.engines.run import Run
from swebench_lab.training.engines.table import about

_log = logging.getLogger(__name__)

CURSOR = "rollout_cursor.json"
"""File in a checkpoint that says with which group the worker goes on."""
BARREN = 64
"""Groups in a row without one sample to train on, after which the run gives up instead of waiting for ever."""


class Worker:
    """Makes groups of attempts in the background; what TRL calls a RolloutWorkerProtocol.

    Args:
        run: Whose tasks, collector and rules are used.
        policy: Who attempts; its weights change under it.
    """

    def __init__(self, run: Run, policy: Policy) -> None:
        self.run, self.policy = run, policy
        self._ahead = run.size.tasks * max(1, run.settings.max_staleness)
        self.rollout_buffer: queue.Queue[Any] = queue.Queue(maxsize=self._ahead * run.settings.num_generations)
        self.metrics_queue: queue.Queue[dict[str, float]] = queue.Queue()
        self.version = 0
        self.first = 0
        self.barren = 0
        self.finished: set[int] = set()
        """Groups that had nothing to train on."""
        self._next = 0
        self._in_flight = 0
        self._room = threading.Condition()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._versions: dict[int, tuple[float, list[list[Sample]]]] = {}
        self._begun: Counter[int] = Counter()

    # --- what TRL calls ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to make groups: as many attempts at once as the collector has workers, whichever groups they are of.

        A group whose last attempt is slow leaves the others' places to the next groups; how far those get ahead is
        bounded by `max_staleness`.
        """
        self._next = self.first
        for number in range(max(1, min(self.run.collector.workers, self._ahead))):
            thread = threading.Thread(target=self._work, name=f"group-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Close what is running; attempts under way are cut off."""
        self._stop.set()
        while True:  # a thread may wait for room in the queue
            try:
                self.rollout_buffer.get_nowait()
            except queue.Empty:
                break
        for thread in self._threads:
            thread.join(timeout=60)

    def update_model_version(self, version: int) -> None:
        """Note which weights answer from now on."""
        self.version = version

    def check_health(self, stale_after_s: float) -> None:
        """Raise what ended the worker, if anything did.

        Raises:
            TrainingError: A thread of the worker failed, or nothing it makes can be trained on.
        """
        if self._error is not None:
            raise TrainingError(f"GRPO: making attempts failed: {self._error}") from self._error
        if self.barren >= BARREN:
            raise TrainingError(
                f"GRPO: {self.barren} groups in a row hold nothing to train on (see updates.jsonl for the reasons); "
                "choose tasks of middling difficulty with by_difficulty, or a reward with more steps"
            )

    # --- groups -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._enter() and self.barren < BARREN:
                with self._lock:
                    number, self._next = self._next, self._next + 1
                self._group(number, self.run.schedule.task(number))
        except BaseException as error:  # recorded for the trainer, which asks check_health
            self._error = error

    def _enter(self) -> bool:
        """Wait until there is room for the attempts of one more group; false when it is time to stop."""
        size, most = self.run.settings.num_generations, self.run.collector.workers
        with self._room:
            while not self._stop.is_set() and self._in_flight and self._in_flight + size > most:
                self._room.wait(0.5)
            self._in_flight += size
        return not self._stop.is_set()

    def _leave(self, attempts: int) -> None:
        with self._room:
            self._in_flight -= attempts
            self._room.notify_all()

    def _group(self, number: int, task: Task) -> None:
        began, size = time.monotonic(), self.run.settings.num_generations
        with self._lock:
            version = self.version
            self._begun[version] += 1
        agent = self.run.agent.using(self.policy)
        collector = self.run.update_collector(number + 1, min(size, self.run.collector.workers))
        rollouts: list[Rollout] = []
        try:
            for rollout in collector.stream(agent, [task], size):
                if self._stop.is_set():
                    return  # leaving the stream closes its sandboxes
                rollouts.append(rollout)
                self._leave(1)
        finally:
            self._leave(size - len(rollouts))
            collector.close()
        group = samples(Rollouts(sorted(rollouts, key=lambda r: r.trajectory.attempt)), self.run.settings)
        self.run.schedule.learn(str(number), task, [s.reward for s in group if s.reward is not None])
        self._note(version, group, began)
        usable = [s for s in group if not s.masked]
        self.barren = 0 if usable else self.barren + 1
        _log.debug("group %d, task %s: %d of %d attempts to train on", number, task.id, len(usable), len(group))
        if not usable:
            self.finished.add(number)
        for sample in usable:
            for row in rows(sample, number):
                self._put(row)

    def _put(self, row: Any) -> None:
        while not self._stop.is_set():
            try:
                self.rollout_buffer.put(row, timeout=0.5)
                return
            except queue.Full:
                continue

    def _note(self, version: int, group: list[Sample], began: float) -> None:
        """Add a group to the row of the update whose weights it began with; what no group can join is let go."""
        with self._lock:
            start, groups = self._versions.setdefault(version, (began, []))
            groups.append(group)
            self.run.table.note(version, about(groups, time.monotonic() - start))
            self._begun[version] -= 1
            self._begun = +self._begun
            oldest = min([self.version, *self._begun])
            self._versions = {number: row for number, row in self._versions.items() if number >= oldest}

    # --- cursor -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path, trained_groups: set[int]) -> None:
        """Write down the first group that was neither trained on nor had nothing to train on."""
        at = self.first
        while at in trained_groups or at in self.finished:
            at += 1
        (folder / CURSOR).write_text(json.dumps({"group": at, "version": self.version}))

    def restore(self, folder: Path) -> int:
        """Go on where a checkpoint says; return the version of its weights.

        Raises:
            TrainingError: The checkpoint holds no cursor of ours.
        """
        try:
            cursor = json.loads((folder / CURSOR).read_text())
        except FileNotFoundError as error:
            raise TrainingError(f"GRPO: resuming from {folder}: {CURSOR} is missing; take an earlier one") from error
        self.first, self.version = int(cursor["group"]), int(cursor["version"])
        if isinstance(self.policy, LocalPolicy):
            with self.policy.exclusive(self.version):
                pass
        _log.info("resuming at group %d with weights %d", self.first, self.version)
        return self.version


def rows(sample: Sample, group: int) -> Iterator[Any]:
    """Yield what TRL trains on: one RolloutSample a segment, with the ids and logprobs that were sampled."""
    import numpy as np
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

    for part in sample.segments:
        if part.sampled:
            yield RolloutSample(
                prompt=[],
                completion=[],
                input_ids=part.ids.astype(np.int64),
                completion_mask=part.mask.astype(np.int64),
                old_log_probs=part.logprobs.copy(),
                advantage=float(sample.advantage),
                model_version=int(part.versions[part.mask == 1].min()),
                group_id=group,
                metrics={"reward": float(sample.reward or 0.0)},
                enqueued_at=time.time(),
            )
