"""Masks: files that the boxes of a task do not show, because they give its fix away."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab import _files
from swebench_lab.records.task import answer_digest

if TYPE_CHECKING:
    from swebench_lab.records.task import Task


class Masks:
    """The masks of a cache: one file a task, named after the task with its answer; another gold patch is another task.

    Args:
        root: Of the cache.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "masks"

    def of(self, task: Task) -> tuple[str, ...]:
        """Return the paths that are hidden from the boxes of a task."""
        record = _files.read_json(self._file(task))
        return tuple(record["paths"]) if record else ()

    def add(self, task: Task, paths: Iterable[str]) -> None:
        """Hide further paths."""
        self._write(task, {*self.of(task), *paths})

    def keep_only(self, task: Task, paths: Iterable[str]) -> None:
        """Hide these paths and no others."""
        if remaining := set(paths):
            self._write(task, remaining)
        else:
            self._file(task).unlink(missing_ok=True)

    def _write(self, task: Task, paths: set[str]) -> None:
        _files.write_json(self._file(task), {"task": task.id, "paths": sorted(paths)})

    def _file(self, task: Task) -> Path:
        return self._folder / f"{answer_digest(task)}.json"
