"""TaskRows: the tasks of a run, each once, found by their id without reading the others."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import IO

from swebench_lab.errors import LabError, RecordError
from swebench_lab.records.task import Task
from swebench_lab.rollouts.store import lines

_ID = re.compile(rb'\{"schema":\d+,"id":("(?:[^"\\]|\\.)*")')
"""How a row begins; one that begins otherwise is parsed."""
_OPEN = 256
"""Tasks that are kept in memory."""


class TaskRows:
    """The file of the tasks; of rows with one id the last counts.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at: dict[str, int] = {}
        self._read = 0
        self._inode = 0
        self._tasks: dict[str, Task] = {}
        self._lock = threading.RLock()  # a page and what it indexes read the same rows at once

    @property
    def ids(self) -> set[str]:
        """The ids of all tasks that are there."""
        with self._lock:
            self.update()
            return set(self._at)

    def update(self) -> None:
        """Take in what others have written since."""
        with self._lock:
            self._update()

    def _update(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._at, self._read = {}, 0
            return
        if status.st_ino != self._inode or status.st_size < self._read:
            self._at, self._read, self._inode = {}, 0, status.st_ino
            self._tasks = {}
        if status.st_size == self._read:
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for text in file:
                if not text.endswith(b"\n"):
                    return
                if (task_id := _id_of(text)) is not None:
                    self._at[task_id] = self._read
                    self._tasks.pop(task_id, None)
                self._read += len(text)

    def put(self, task: Task) -> None:
        """Keep a task, unless it is there as it is."""
        if (current := self._tasks.get(task.id)) is task or (current is not None and current == task):
            return
        with self._lock, lines.locked(self.path) as file:
            self.update()
            data = lines.line(task.to_dict())
            if not self._holds(file, task.id, data):
                self._at[task.id] = lines.add(file, data)
                self._read = self._at[task.id] + len(data)
                self._inode = self.path.stat().st_ino
            self._remember(task)

    def _holds(self, file: IO[bytes], task_id: str, data: bytes) -> bool:
        if task_id not in self._at:
            return False
        file.seek(self._at[task_id])
        row: bytes = file.read(len(data))
        return row == data

    def get(self, task_id: str) -> Task:
        """Return a task.

        Raises:
            RecordError: It is not there, or its row cannot be read.
        """
        with self._lock:
            return self._get(task_id)

    def _get(self, task_id: str) -> Task:
        if task_id in self._tasks:
            return self._tasks[task_id]
        if task_id not in self._at:
            self.update()
        if task_id not in self._at:
            raise RecordError(f"its task {task_id!r} is not in {self.path.name}")
        with self.path.open("rb") as file:
            file.seek(self._at[task_id])
            text = file.readline()
        try:
            task = Task.from_dict(json.loads(text), f"{self.path}, byte {self._at[task_id]}")
        except json.JSONDecodeError as error:
            raise RecordError(f"{self.path}, byte {self._at[task_id]}: not JSON: {error}") from error
        self._remember(task)
        return task

    def _remember(self, task: Task) -> None:
        while len(self._tasks) >= _OPEN:
            self._tasks.pop(next(iter(self._tasks)), None)
        self._tasks[task.id] = task


def _id_of(text: bytes) -> str | None:
    """Return the id in a task's row; None where it cannot be read: its attempts then name it as missing."""
    if (match := _ID.match(text)) and text.endswith(b"}\n"):
        return str(json.loads(match[1]))
    try:
        return Task.from_dict(json.loads(text)).id
    except (LabError, ValueError):
        return None
