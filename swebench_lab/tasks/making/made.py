"""What makes tasks and what it returns: the settings of one call, and the tasks with a record of every candidate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task, Tasks

if TYPE_CHECKING:
    import polars as pl


class MadeTasks(Tasks):
    """Tasks, with a record of every candidate that was tried for them."""

    def __init__(self, tasks: Iterable[Task], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(tasks, name)
        self._rows = tuple(rows)

    @property
    def report(self) -> pl.DataFrame:
        """One row a candidate: what was edited, whether it became a task, and why not."""
        import polars as pl

        texts = ("strategy", "path", "target", "edit", "outcome", "id")
        schema = dict.fromkeys(texts, pl.String) | {"failing": pl.Int64, "passing": pl.Int64, "seconds": pl.Float64}
        return pl.DataFrame(list(self._rows), schema=schema)


@dataclass(frozen=True)
class Settings:
    """What one call of `make_tasks` was asked for; the fields are its arguments."""

    count: int
    seed: int
    combined: float
    strategies: Sequence[str] | None
    repeats: int
    max_failing: float
    progress: bool
    language: str = "python"

    def __post_init__(self) -> None:
        if self.count < 1 or not 0.0 <= self.combined <= 1.0:
            what = f"count={self.count} must be at least 1, and combined={self.combined} within 0 and 1"
            raise TaskError(f"making tasks: {what}")
        if self.combined and self.language != "python":
            raise TaskError(f"making tasks in {self.language}: every task has one edit, so combined must be 0")


def repo_name(source: str) -> str:
    """Return the repository name that tasks of a source carry, `owner/name`."""
    kind, _, rest = source.partition(":")
    if kind in ("demo", "pypi"):
        return f"{kind}/{re.sub(r'[-_.]+', '-', rest.partition('==')[0]).lower() if kind == 'pypi' else rest}"
    parts = [part for part in re.split(r"[/:]", source.removesuffix("/").removesuffix(".git")) if part]
    if "://" in source and len(parts) > 2:
        return f"{parts[-2]}/{parts[-1]}"
    return f"local/{parts[-1] if parts else 'repository'}"
