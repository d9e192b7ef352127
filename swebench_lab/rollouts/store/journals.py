"""Journals: the steps of running attempts as they come, for when their process dies before they have their row."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from swebench_lab._unix import lock
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.rollouts.store import lines


class Journals:
    """The journals of a run directory: a folder for each process, locked while it lives.

    Args:
        folder: Where they are; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine: Path | None = None
        self._lock_file: Any = None
        self._lock = threading.Lock()

    def new(self) -> Journal:
        """Return a journal for one attempt of this process."""
        with self._lock:
            if self._mine is None:
                self._mine = self._claim()
        return Journal(self._mine / f"{secrets.token_hex(8)}.jsonl")

    def _claim(self) -> Path:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        folder, draft = self.folder / name, self.folder / f".{name}"
        with lines.writing(folder):
            draft.mkdir(parents=True)
            self._lock_file = (draft / ".lock").open("w")
            lock(self._lock_file)
            draft.rename(folder)  # only now may others ask whether its process lives
        return folder

    def release(self) -> None:
        """Give up the journals of this process."""
        with self._lock:
            if self._mine is not None:
                self._lock_file.close()
                self._mine = self._lock_file = None

    def running(self) -> dict[str, Trajectory]:
        """Return the attempts that are being made, as far as they are, by the name of their journal."""
        going: dict[str, Trajectory] = {}
        for folder in sorted(self.folder.glob("[!.]*")):
            if not _alive(folder):
                continue
            for file in sorted(folder.glob("*.jsonl")):
                with suppress(OSError, ValueError):  # it ended meanwhile, or its first line is being written
                    if (trajectory := read(file)) is not None:
                        going[file.stem] = trajectory
        return going

    def recover(self, keep: Callable[[Trajectory, str], None]) -> int:
        """Hand over the attempts that dead processes left in their journals; return how many those were."""
        count = 0
        for folder in sorted(self.folder.glob("[!.]*")):
            try:
                with (folder / ".lock").open("w") as lock_file:
                    lock(lock_file, wait=False)
                    for file in folder.glob("*.jsonl"):
                        if (trajectory := read(file)) is not None:
                            keep(trajectory, "its process ended before the attempt did")
                            count += 1
                    shutil.rmtree(folder)
            except OSError:
                continue  # its process lives
        return count


def _alive(folder: Path) -> bool:
    """Return whether the process that writes the journals of a folder lives: it holds the folder's lock."""
    try:
        with (folder / ".lock").open("rb") as lock_file:
            lock(lock_file, wait=False, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class Journal:
    """The file in which one attempt's steps are written down as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with lines.writing(path):
            self._file = path.open("ab", buffering=0)

    def begin(self, trajectory: Trajectory) -> None:
        """Write down how the attempt begins."""
        self._write({"trajectory": trajectory.to_dict()})

    def step(self, step: Step) -> None:
        """Write down a step."""
        self._write({"step": step.to_dict()})

    def end(self) -> None:
        """Forget it: the attempt has its row."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _write(self, row: Mapping[str, Any]) -> None:
        if not self._file.closed:  # the attempt may have been cut off meanwhile
            with lines.writing(self._path):
                lines.write_all(self._file, lines.line(row))


def read(path: Path) -> Trajectory | None:
    """Return as much of an attempt as its journal holds; nothing when not even its beginning was written."""
    try:
        rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]
    except ValueError:
        rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]  # the last was cut off
    if not rows or "trajectory" not in rows[0]:
        return None
    row = dict(rows[0]["trajectory"])
    row["steps"] = [line["step"] for line in rows[1:] if "step" in line]
    return Trajectory.from_dict(row)
