"""Schedule: which task the next group of attempts is made at, by the weights of sources and by measured difficulty.

A group's task depends on its number, the seed and, with `curriculum`, on what came of earlier groups. Those draws and
outcomes are kept in a file, so that a resumed training goes on with the tasks it had drawn.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from random import Random

from swebench_lab.errors import TrainingError
from swebench_lab.records.task import Task, Tasks
from swebench_lab.training.data.sources import Sources
from swebench_lab.training.options.settings import GRPOSettings

PRIOR = 0.5
"""Successes and failures that a task counts before it is measured; half of each, as Jeffreys has it."""
DECAY = 0.5
"""What is left of a task's earlier outcomes when it is measured again, since the policy has changed."""
FLOOR = 0.05
"""Weight of a task whose outcome is certain, beside 1 for one that succeeds half of the time: it comes back at times."""


class Schedule:
    """Draws the task of each group.

    Args:
        sources: What is drawn from.
        settings: Seed, order and curriculum.
        per_update: Tasks of an update.
        file: Where draws and outcomes are kept; read where it exists. Used by `curriculum` only.

    Raises:
        TrainingError: A source has fewer tasks than its share of one update.
    """

    def __init__(self, sources: Sources, settings: GRPOSettings, per_update: int, file: Path) -> None:
        self.sources, self.settings, self.file = sources, settings, file
        for name, tasks in sources.tasks.items():
            several = len(sources.tasks) if len(sources.tasks) > 1 else 0  # shares of a short stretch are not exact
            most = min(per_update, math.floor(per_update * sources.share(name)) + several)
            if len(tasks) < most:
                raise TrainingError(f"GRPO: {len(tasks)} tasks of {name!r} are fewer than the {most} that an update may "
                                    "take of it")  # fmt: skip
        self._order: list[tuple[str, int]] = []
        self._counts = dict.fromkeys(sources.tasks, 0)
        self._draws: dict[int, str] = {}
        self._evidence: dict[str, tuple[float, float]] = {}
        self._learnt: set[str] = set()
        self._lock = threading.RLock()
        self._by_id = {task.id: task for task in sources}
        if settings.curriculum and file.is_file():
            for line in file.read_text("utf-8").splitlines():
                entry = json.loads(line)
                if "rewards" in entry:
                    self._learn(entry["group"], entry["task"], entry["rewards"])
                else:
                    self._draws[entry["number"]] = entry["task"]

    @property
    def own(self) -> bool:
        """Whether it draws otherwise than TRL's own order, each task once and then all again."""
        return len(self.sources.tasks) > 1 or self.settings.curriculum

    def task(self, number: int, taken: Collection[str] = ()) -> Task:
        """Return the task of a group.

        Args:
            number: Number of the group in the training, from 0.
            taken: Ids of tasks that may not be drawn, since their groups belong to the same update.
        """
        with self._lock:
            name, before = self._source(number)
            tasks = self.sources.tasks[name]
            if not self.settings.curriculum:
                return self._next(name, tasks, before, taken)
            if number not in self._draws:
                self._draws[number] = self._uncertain(number, tasks, taken).id
                self._keep({"number": number, "task": self._draws[number], "source": name})
            return self._by_id[self._draws[number]]

    def update(self, number: int, count: int) -> list[Task]:
        """Return the tasks of an update, all different.

        Args:
            number: Number of the update, from 1.
            count: Tasks of an update.
        """
        tasks: dict[str, Task] = {}
        for place in range((number - 1) * count, number * count):
            task = self.task(place, tasks)
            tasks[task.id] = task
        return list(tasks.values())

    def spares(self, taken: Collection[str], random: Random) -> dict[str, Iterator[Task]]:
        """Return task id → what may stand in for the task: others of its source that are not taken, in random order.

        Tasks of a source share one iterator, so that nothing stands in twice.
        """
        found: dict[str, Iterator[Task]] = {}
        for tasks in self.sources.tasks.values():
            rest = [task for task in tasks if task.id not in taken]
            random.shuffle(rest)
            found |= dict.fromkeys((task.id for task in tasks), iter(rest))
        return found

    def learn(self, group: str, task: Task, rewards: Sequence[float]) -> None:
        """Note what came of a group's attempts; a group that was noted before is passed over.

        Args:
            group: What identifies the group in this training.
            task: Its task.
            rewards: Rewards of its graded attempts; below 0 counts as 0, and above 1 as 1.
        """
        if not self.settings.curriculum or not rewards:
            return
        with self._lock:
            if group not in self._learnt:
                self._learn(group, task.id, rewards)
                self._keep({"group": group, "task": task.id, "rewards": list(rewards)})

    def chance(self, task: Task) -> float:
        """Return how likely an attempt at a task succeeds, as far as it was measured; 0.5 where it was not."""
        good, bad = self._evidence.get(task.id, (0.0, 0.0))
        return (good + PRIOR) / (good + bad + 2 * PRIOR)

    def weight(self, task: Task) -> float:
        """Return how much a task weighs when one is drawn: the more, the less certain its outcome is."""
        chance = self.chance(task)
        return FLOOR + (1 - FLOOR) * 4 * chance * (1 - chance)

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _source(self, number: int) -> tuple[str, int]:
        """Return a group's source, and how many groups before it are of that source.

        The source that is furthest behind its share comes next, so that shares are right in every stretch of groups.
        """
        while len(self._order) <= number:
            due = len(self._order) + 1
            behind = {name: self.sources.share(name) * due - count for name, count in self._counts.items()}
            name = max(behind, key=lambda name: behind[name])
            self._order.append((name, self._counts[name]))
            self._counts[name] += 1
        return self._order[number]

    def _next(self, name: str, tasks: Tasks, before: int, exclusions: Collection[str]) -> Task:
        """Return a source's next task: every one once, in an order drawn from the seed, then all again."""
        cycle, place = divmod(before, len(tasks))
        order = list(range(len(tasks)))
        if self.settings.shuffle_dataset:
            several = f"/{name}" if len(self.sources.tasks) > 1 else ""
            Random(f"{self.settings.seed}/{cycle}{several}").shuffle(order)
        candidates = (tasks[at] for at in [*order[place:], *order[:place]])
        return next(task for task in candidates if task.id not in exclusions)

    def _uncertain(self, number: int, tasks: Tasks, exclusions: Collection[str]) -> Task:
        free = [task for task in tasks if task.id not in exclusions]
        weights = [self.weight(task) for task in free]
        return Random(f"{self.settings.seed}/{number}/curriculum").choices(free, weights)[0]

    def _learn(self, group: str, task: str, rewards: Sequence[float]) -> None:
        share = [min(max(reward, 0.0), 1.0) for reward in rewards]
        good, bad = self._evidence.get(task, (0.0, 0.0))
        self._evidence[task] = (good * DECAY + sum(share), bad * DECAY + len(share) - sum(share))
        self._learnt.add(group)

    def _keep(self, entry: dict[str, object]) -> None:
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry) + "\n")
