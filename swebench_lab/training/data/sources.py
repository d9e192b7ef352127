"""Sources: several sets of tasks that are trained on together, each with its share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from swebench_lab.errors import TrainingError
from swebench_lab.records.task import Task, Tasks


@dataclass(frozen=True)
class Sources:
    """Named sets of tasks and how often each is drawn from: `grpo.fit(Sources({"easy": a, "hard": b}, {"hard": 3}))`.

    Args:
        tasks: Name → tasks.
        weights: Name → weight of the source, above 0; 1 where none is given. A source of weight 3 gives three times as
            many groups of attempts as one of weight 1, however many tasks each has.

    Raises:
        TrainingError: A weight is not positive or of no source, a source is empty, or a task is in two of them.
    """

    tasks: Mapping[str, Tasks]
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", {name: Tasks(tasks) for name, tasks in self.tasks.items()})
        weights = {name: float(self.weights.get(name, 1.0)) for name in self.tasks}
        if unknown := sorted(set(self.weights) - set(self.tasks)):
            raise TrainingError(f"Sources: a weight is given for {unknown[0]!r}, which is none of the sources")
        for name, tasks in self.tasks.items():
            if not weights[name] > 0:
                raise TrainingError(f"Sources: the weight of {name!r} must be above 0; leave the source out instead")
            if not len(tasks):
                raise TrainingError(f"Sources: {name!r} has no tasks")
        object.__setattr__(self, "weights", weights)
        home: dict[str, str] = {}
        for name, task in ((name, task) for name, tasks in self.tasks.items() for task in tasks):
            if home.setdefault(task.id, name) != name:
                raise TrainingError(f"Sources: the task {task.id} is in {home[task.id]!r} and in {name!r}")

    @classmethod
    def of(cls, tasks: Iterable[Task] | Sources) -> Sources:
        """Return sources as they are, and any other tasks as the only source."""
        return tasks if isinstance(tasks, Sources) else cls({"tasks": Tasks(tasks)})

    @property
    def all(self) -> Tasks:
        """The tasks of all sources, one source after the other."""
        return Tasks(task for tasks in self.tasks.values() for task in tasks)

    def only(self, chosen: Tasks) -> Sources:
        """Return the same sources with only some of their tasks."""
        ids = {task.id for task in chosen}
        return Sources({name: tasks.filter(lambda task: task.id in ids) for name, tasks in self.tasks.items()},
                       self.weights)  # fmt: skip

    def share(self, name: str) -> float:
        """Return the share of all groups that a source gives."""
        return self.weights[name] / sum(self.weights.values())

    def __iter__(self) -> Iterator[Task]:
        return iter(self.all)

    def __repr__(self) -> str:
        """Return one line: each source, its tasks and its share."""
        parts = (f"{name!r}: {len(tasks)} tasks, {self.share(name):.0%}" for name, tasks in self.tasks.items())
        return f"Sources({'; '.join(parts)})"
