"""Lazy tasks: of many tasks, what choices are made by is in memory; the rest lies in a file, and is read when it is touched."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from array import array
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from swebench_lab.records.task import HeldTasks, Task, TaskRows

HELD = 2000
"""Tasks that are held as they are; more of them are kept in a file."""

_COLUMNS = ("id", "repo", "split", "family", "version", "source", "difficulty")
_OPEN = 64
_BATCH = 256


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file of UTF-8 text, one at a time.

    Raises:
        UnicodeDecodeError: Some of it is none; `start` counts from the beginning of the file.
    """
    at = 0
    with path.open("rb") as file:
        for data in file:
            try:
                text = data.decode("utf-8").rstrip("\n")
                yield text if at else text.removeprefix("\ufeff")
            except UnicodeDecodeError as error:
                start, end = at + error.start, at + error.end
                raise UnicodeDecodeError(error.encoding, data, start, end, error.reason) from None
            at += len(data)


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet file, some of them in memory at a time."""
    import polars as pl

    scan = pl.scan_parquet(path)
    batches = scan.collect_batches(chunk_size=_BATCH) if hasattr(scan, "collect_batches") else [scan.collect()]
    for batch in batches:
        yield from batch.iter_rows(named=True)


class Gathered:
    """Tasks as they are read from a source: held while they are few, written to a file when they become many."""

    def __init__(self) -> None:
        self._few: dict[str, Task] = {}
        self._many: _Spool | None = None

    def setdefault(self, task_id: str, task: Task) -> Task:
        """Take a task in, unless there is one with its id; return the one that is there."""
        if self._many is not None:
            return self._many.setdefault(task)
        result = self._few.setdefault(task_id, task)
        if len(self._few) > HELD:
            self._many = _Spool()
            for one in self._few.values():
                self._many.setdefault(one)
            self._few.clear()
        return result

    def rows(self, leave: Container[str] = ()) -> TaskRows:
        """Return the tasks in their order.

        Args:
            leave: Ids of those that are left out.
        """
        if self._many is None:
            return HeldTasks(task for task in self._few.values() if task.id not in leave)
        ids = self._many.columns["id"]
        return SpooledTasks(self._many, array("q", (place for place, name in enumerate(ids) if name not in leave)))


class _Spool:
    """A nameless file of tasks; it is gone with this object, or with its process."""

    def __init__(self) -> None:
        self.columns: dict[str, list[str]] = {name: [] for name in _COLUMNS}
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="swebench-lab-tasks-")  # noqa: SIM115 - as long as this
        self._ends = array("q", [0])
        self._places: dict[str, int] = {}
        self._same: dict[str, str] = {}
        self._cache: dict[int, Task] = {}

    def setdefault(self, task: Task) -> Task:
        if (place := self._places.get(task.id)) is not None:
            return self.open(place)
        data = zlib.compress(json.dumps(task.to_dict()).encode(), 1)
        self._file.seek(self._ends[-1])
        self._file.write(data)
        self._places[task.id] = len(self._ends) - 1
        self._ends.append(self._ends[-1] + len(data))
        for name, column in self.columns.items():
            value = getattr(task, name)
            column.append(value if name == "id" else self._same.setdefault(value, value))
        return task

    def open(self, place: int) -> Task:
        if place in self._cache:
            return self._cache[place]
        start, end = self._ends[place], self._ends[place + 1]
        self._file.flush()
        data = os.pread(self._file.fileno(), end - start, start)
        task = Task.from_dict(json.loads(zlib.decompress(data)))
        while len(self._cache) >= _OPEN:
            self._cache.pop(next(iter(self._cache)), None)
        self._cache[place] = task
        return task


class SpooledTasks(TaskRows):
    """Tasks that lie in a file.

    Args:
        spool: The file.
        places: Which of its tasks these are, in order.
        split: What their `split` says in place of what is stored; None: as stored.
    """

    def __init__(self, spool: _Spool, places: array[int], split: str | None = None) -> None:
        self._spool, self._places, self._split = spool, places, split

    def __len__(self) -> int:
        return len(self._places)

    def open(self, place: int) -> Task:
        task = self._spool.open(self._places[place])
        return task if self._split in (None, task.split) else replace(task, split=self._split)

    def pick(self, places: Sequence[int]) -> TaskRows:
        return SpooledTasks(self._spool, array("q", (self._places[place] for place in places)), self._split)

    def labelled(self, split: str) -> TaskRows:
        return SpooledTasks(self._spool, self._places, split)

    def column(self, name: str) -> list[Any]:
        if name == "split" and self._split is not None:
            return [self._split] * len(self)
        if name not in _COLUMNS:
            return super().column(name)
        values = self._spool.columns[name]
        return [values[place] for place in self._places]

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldTasks, (tuple(self),)  # another machine does not have the file
