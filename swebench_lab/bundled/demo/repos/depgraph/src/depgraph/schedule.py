"""Scheduling tasks with durations over a dependency graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from .graph import Graph


@dataclass(frozen=True, order=True)
class Slot:
    """A stretch of time in which one worker does one task."""

    start: float
    worker: int
    task: str = field(compare=False)
    end: float = field(compare=False)

    @property
    def duration(self) -> float:
        return self.end - self.start


class Schedule:
    """Earliest and latest times of tasks when workers are not scarce."""

    def __init__(self, graph: Graph, durations: Mapping[str, float], default: float | None = None):
        self.graph = graph
        self.durations = {}
        for task in graph:
            duration = durations.get(task, default)
            if duration is None:
                raise ValueError(f"no duration for {task!r}")
            if duration < 0:
                raise ValueError(f"the duration of {task!r} is negative")
            self.durations[task] = duration
        self._order = graph.order()
        self.earliest = self._forward()
        self.total = max((self.earliest[task] + self.durations[task] for task in graph), default=0)
        self.latest = self._backward()

    def _forward(self) -> dict:
        start: dict = {}
        for task in self._order:
            ends = (start[needed] + self.durations[needed] for needed in self.graph.dependencies(task))
            start[task] = max(ends, default=0)
        return start

    def _backward(self) -> dict:
        start: dict = {}
        dependents = self.graph.reversed()
        for task in reversed(self._order):
            deadline = min((start[later] for later in dependents.dependencies(task)), default=self.total)
            start[task] = deadline - self.durations[task]
        return start

    def slack(self, task: str) -> float:
        """Return by how much a task may be late without delaying the whole."""
        return self.latest[task] - self.earliest[task]

    def critical_path(self) -> list:
        """Return one longest chain of tasks, first one first."""
        path: list = []
        time, candidates = self.total, self._order
        while time > 0:
            # some task ends exactly when the next one of the chain starts
            task = next(task for task in candidates if self.earliest[task] + self.durations[task] == time)
            path.append(task)
            time = self.earliest[task]
            candidates = self.graph.dependencies(task)
        return path[::-1]

    def priority(self, task: str) -> float:
        """Return the length of the longest chain that starts with a task."""
        return self.total - self.latest[task]

    def assign(self, workers: int) -> list[Slot]:
        """Plan the tasks for a number of workers, most urgent task first."""
        if workers < 1:
            raise ValueError("at least one worker is needed")
        waiting = {task: len(self.graph.dependencies(task)) for task in self.graph}
        ready = sorted((task for task, count in waiting.items() if count == 0), key=self._urgency)
        idle = list(range(workers))
        running: list = []
        slots = []
        now = 0
        while ready or running:
            while ready and idle:
                task, worker = ready.pop(0), heappop(idle)
                end = now + self.durations[task]
                slots.append(Slot(now, worker, task, end))
                heappush(running, (end, worker, task))
            now = running[0][0]
            while running and running[0][0] == now:
                _, worker, task = heappop(running)
                heappush(idle, worker)
                for later in self.graph.dependents(task):
                    waiting[later] -= 1
                    if waiting[later] == 0:
                        ready.append(later)
            ready.sort(key=self._urgency)
        return sorted(slots)

    def _urgency(self, task):
        return -self.priority(task), self._order.index(task)


def makespan(slots: list[Slot]) -> float:
    """Return when the last slot ends."""
    return max((slot.end for slot in slots), default=0)


def utilisation(slots: list[Slot], workers: int) -> float:
    """Return the share of the workers' time that is spent working, 0 to 1."""
    available = makespan(slots) * workers
    return sum(slot.duration for slot in slots) / available if available else 0.0
