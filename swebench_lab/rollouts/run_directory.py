"""RunDirectory: where a run's rollouts and step layers live, one append-only row an attempt, safe against any kill.

```
run_dir/
  manifest.jsonl     what was run: one line a call of collect (versions, configuration, seeds, tier)
  tasks.jsonl        each attempted task once
  rollouts.jsonl     one row an attempt; of rows with one key the last counts
  set-aside.jsonl    rows that could not be read, with the reason; nothing is thrown away
  events.jsonl       retries, attempts cut off, machines that died: one line each
  partial.jsonl      as far as attempts got that died with their process or machine, or were begun again
  live.json          the state of a running collection, replaced every second
  going/<process>/   one file for each running attempt: its beginning, then a line a step
  layers/            what each step changed, content-addressed: <digest>.tar.gz
```
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab._unix import lock
from swebench_lab.errors import LabError, RecordError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Step, Trajectory
from swebench_lab.records.verdict import NOT_GRADED
from swebench_lab.sandbox.packed_layers import PackedLayers

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Layer

Key = tuple[str, int, int, str, str]

LAYERS_BYTES = 20_000_000_000
"""Bytes of packed step layers that a run directory keeps."""
LAYER_BYTES = 1_000_000_000
"""Bytes of files in one step layer that is kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored row that is not held.

    Args:
        key: The rollout's key.
        graded: Whether it was graded.
        at: Byte in the file at which its line begins.
        rewarded_by: Identity of the function that its reward is from; empty: unknown, or the function raised.
    """

    key: Key
    graded: bool
    at: int
    rewarded_by: str = ""


class RunDirectory:
    """The files of one run.

    Args:
        path: The folder; made if it is missing and `create` is true.
        create: Whether a missing folder is made.
        layers_bytes: Bytes of packed step layers that are kept; further ones are left out, with an event that says so.

    Raises:
        RecordError: The folder is missing and may not be made, or the path is a file.
    """

    def __init__(self, path: str | Path, create: bool = True, layers_bytes: int = LAYERS_BYTES) -> None:
        self.layers_bytes = layers_bytes
        self._layers_size = -1
        self._size_lock = threading.Lock()
        self._journals: Path | None = None
        self._journals_lock: Any = None
        self.path = Path(path).expanduser().resolve()
        if not self.path.is_dir():
            if not create:
                raise RecordError(f"opening the run directory {self.path}: there is no such folder")
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RecordError(f"making the run directory {self.path}: {error.strerror}") from error
        self._known_tasks: dict[str, Task] = {}
        self._tasks_read = 0

    @property
    def layers(self) -> Path:
        """Folder of the step layers."""
        return self.path / "layers"

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, rollout: Rollout, rewarded_by: str = "") -> None:
        """Keep one rollout; when this returns, killing this process no longer loses it.

        Args:
            rollout: The rollout; it takes the place of an earlier one with the same key.
            rewarded_by: `rewards.identity` of the function that its reward is from; empty: unknown.
        """
        self._keep_task(rollout.task)
        self._append("rollouts.jsonl", {**rollout.to_row(), "rewarded_by": rewarded_by})

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add one line to the manifest."""
        self._append("manifest.jsonl", facts)

    def event(self, what: str, **facts: Any) -> None:
        """Note something that happened: `what` in a word or two, and plain JSON values."""
        self._append("events.jsonl", {"at": time.time(), "what": what, **facts})

    def show(self, state: Mapping[str, Any]) -> None:
        """Replace the state of the running collection, for those who watch it."""
        part = self.path / f".live.{os.getpid()}.part"
        with _writing(self.path / "live.json"):
            part.write_text(json.dumps(state), "utf-8")
            part.replace(self.path / "live.json")

    def put_layer(self, layer: Layer) -> str:
        """Keep what a step changed, under its digest, and return the digest; empty when it is too large to keep."""
        target = PackedLayers(self.layers).path(layer.digest)
        if target.exists():
            return layer.digest
        if layer.size > LAYER_BYTES:
            self.event("layer left out", digest=layer.digest, bytes=layer.size, most=LAYER_BYTES)
            return ""
        with self._new_layer(target) as part:
            layer.pack(part)
        return layer.digest if target.exists() else ""

    def put_packed(self, digest: str, packed: bytes) -> None:
        """Keep a step layer that another machine has packed."""
        target = PackedLayers(self.layers).path(digest)
        if not target.exists():
            with self._new_layer(target) as part:
                part.write_bytes(packed)

    @contextmanager
    def _new_layer(self, target: Path) -> Iterator[Path]:
        """Give a file to write a layer to; it takes its place whole, or not at all, and only under the cap."""
        part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        with _writing(target):
            self.layers.mkdir(exist_ok=True)
            try:
                yield part
                size = part.stat().st_size
                if self._room_for(size):
                    part.replace(target)
                else:
                    self.event("layer left out", digest=target.name.split(".")[0], bytes=size, most=self.layers_bytes)
            finally:
                part.unlink(missing_ok=True)

    def _room_for(self, size: int) -> bool:
        with self._size_lock:
            if self._layers_size < 0:
                self._layers_size = sum(file.stat().st_size for file in self.layers.glob("*.tar.gz"))
            if self._layers_size + size > self.layers_bytes:
                return False
            self._layers_size += size
            return True

    # --- journals of running attempts ---------------------------------------------------------------------------------

    def keep_partial(self, trajectory: Trajectory, reason: str, node: str = "") -> None:
        """Keep how far an attempt came that is not a result: it died, or is begun again."""
        row = {"at": time.time(), "reason": reason, "node": node, "trajectory": trajectory.to_dict()}
        self._append("partial.jsonl", row)

    def journal(self) -> Journal:
        """Return where the steps of an attempt are written down as they come, until it has its row."""
        with self._size_lock:
            if self._journals is None:
                self._journals = self._claim_journals()
        return Journal(self._journals / f"{secrets.token_hex(8)}.jsonl")

    def _claim_journals(self) -> Path:
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        folder, draft = self.path / "going" / name, self.path / "going" / f".{name}"
        with _writing(folder):
            draft.mkdir(parents=True)
            self._journals_lock = (draft / ".lock").open("w")
            lock(self._journals_lock)
            draft.rename(folder)  # only now may others ask whether its process lives
        return folder

    def release(self) -> None:
        """Give up the journals of this process; what is left in them is kept as partial."""
        with self._size_lock:
            if self._journals is not None:
                self._journals_lock.close()
                self._journals = self._journals_lock = None
        self.recover_partial()

    def recover_partial(self) -> int:
        """Keep as partial the attempts that dead processes left in their journals; return how many those were."""
        count = 0
        for folder in sorted((self.path / "going").glob("[!.]*")):
            try:
                with (folder / ".lock").open("w") as held:
                    lock(held, wait=False)
                    for file in folder.glob("*.jsonl"):
                        if (trajectory := read_journal(file)) is not None:
                            self.keep_partial(trajectory, "its process ended before the attempt did")
                            count += 1
                    shutil.rmtree(folder)
            except OSError:
                continue  # its process lives
        return count

    def _keep_task(self, task: Task) -> None:
        stored = self._known_tasks.get(task.id)
        if stored is task or stored == task:
            return
        with self._locked("tasks.jsonl") as file:
            file.seek(self._tasks_read)  # what is before was read already, and nothing there changes
            self._known_tasks.update(self._read_tasks(file.read().decode("utf-8", "replace")))
            self._tasks_read = file.tell()
            if self._known_tasks.get(task.id) != task:
                _add(file, task.to_dict())
                self._known_tasks[task.id] = task

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with self._locked(name) as file:
            _add(file, row)

    @contextmanager
    def _locked(self, name: str) -> Iterator[Any]:
        """Open a file for appending under an exclusive lock that other processes and threads wait for."""
        path = self.path / name
        with _writing(path):
            while True:
                with path.open("a+b", buffering=0) as file:
                    lock(file)
                    # A repair may have put a new file in place while this one was waited for.
                    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        continue
                    file.seek(0)
                    yield file
                    return

    # --- reading ----------------------------------------------------------------------------------------------------

    def entries(self) -> dict[Key, Entry]:
        """Return what rows there are, by key, without holding them; rows that cannot be read are set aside."""
        entries, wrong = self._scan()
        if wrong:
            self.rollouts()
            entries, _ = self._scan()
        return entries

    def _scan(self) -> tuple[dict[Key, Entry], bool]:
        entries: dict[Key, Entry] = {}
        path, at, wrong = self.path / "rollouts.jsonl", 0, False
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    entry = _entry(line, at)
                    if entry is not None:
                        entries[entry.key] = entry
                    wrong = wrong or (entry is None and line.strip() != b"")
                    at += len(line)
        return entries, wrong

    def read(self, entry: Entry, task: Task) -> Rollout:
        """Return the row of an entry.

        Raises:
            RecordError: It cannot be read any more.
        """
        with (self.path / "rollouts.jsonl").open("rb") as file:
            file.seek(entry.at)
            return Rollout.from_dict(json.loads(file.readline()), task, str(self.layers))

    def rollouts(self) -> Rollouts:
        """Return all rollouts; rows that cannot be read are set aside and reported in a warning.

        Returns:
            One rollout for each key, in the order in which the keys were first written.
        """
        rollouts: dict[Key, Rollout] = {}
        path = self.path / "rollouts.jsonl"
        if path.exists():
            tasks = self._read_tasks(self._text("tasks.jsonl"))
            wrong: dict[int, str] = {}
            for number, line in enumerate(self._text("rollouts.jsonl").split("\n"), 1):
                if line.strip():
                    try:
                        rollout = self._rollout(json.loads(line), tasks)
                        rollouts[rollout.key] = rollout
                    except (LabError, ValueError) as error:
                        wrong[number] = str(error)
            if wrong:
                self._set_aside("rollouts.jsonl", wrong)
        return Rollouts(rollouts.values(), self.path.name)

    def _rollout(self, row: Any, tasks: Mapping[str, Task]) -> Rollout:
        task_id = str(row.get("task_id")) if isinstance(row, Mapping) else ""
        if task_id not in tasks:
            raise RecordError(f"its task {task_id!r} is not in tasks.jsonl")
        return Rollout.from_dict(row, tasks[task_id], str(self.layers))

    def _text(self, name: str) -> str:
        path = self.path / name
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""

    def _read_tasks(self, text: str) -> dict[str, Task]:
        tasks: dict[str, Task] = {}
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    task = Task.from_dict(json.loads(line), f"tasks.jsonl:{number}")
                except ValueError:
                    continue  # the rows of this task then name it as missing, and are set aside
                tasks[task.id] = task
        return tasks

    def _set_aside(self, name: str, wrong: Mapping[int, str]) -> None:
        """Move the lines `wrong` (number → reason) of a file to set-aside.jsonl, and say so."""
        with self._locked(name) as file:
            lines = file.read().split(b"\n")
            for number, reason in wrong.items():
                if number > len(lines):
                    continue
                row = {
                    "file": name,
                    "line": number,
                    "reason": reason,
                    "text": lines[number - 1].decode("utf-8", "replace"),
                }
                self._append("set-aside.jsonl", row)
            readable = [line for number, line in enumerate(lines, 1) if number not in wrong and line.strip()]
            part = self.path / f".{name}.part"
            part.write_bytes(b"".join(line + b"\n" for line in readable))
            part.replace(self.path / name)
        first = min(wrong)
        warnings.warn(
            f"{self.path / name}: {len(wrong)} unreadable row(s) set aside in set-aside.jsonl, the first at line {first}: "
            f"{wrong[first]}; those attempts will be executed again, the others are kept",
            stacklevel=3,
        )

    def __repr__(self) -> str:
        """Return one line: where it is."""
        return f"RunDirectory({str(self.path)!r})"


class Journal:
    """The file in which one attempt's steps are written down as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _writing(path):
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
            with _writing(self._path):
                _write_all(self._file, _line(row))


def read_journal(path: Path) -> Trajectory | None:
    """Return as much of an attempt as its journal holds; nothing when not even its beginning was written."""
    try:
        lines = [json.loads(line) for line in path.read_bytes().split(b"\n") if line.strip()]
    except ValueError:
        lines = []
        for line in path.read_bytes().split(b"\n")[:-1]:  # the last was cut off
            lines.append(json.loads(line))
    if not lines or "trajectory" not in lines[0]:
        return None
    row = dict(lines[0]["trajectory"])
    row["steps"] = [line["step"] for line in lines[1:] if "step" in line]
    return Trajectory.from_dict(row)


def _entry(line: bytes, at: int) -> Entry | None:
    """Return what a stored line is; None when it cannot be read."""
    try:
        row = json.loads(line)
        t = row["trajectory"]
        key = (row["task_id"], t["attempt"], t["seed"], t["snapshot"], t["agent"])
        return Entry(key, row["verdict"]["status"] != NOT_GRADED, at, sys.intern(str(row.get("rewarded_by", ""))))
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failed write into an error that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"writing {path}: {error.strerror}; rows written before this are safe. Make room or fix the folder, and "
            "run the same again: it goes on from there"
        ) from error


def _add(file: Any, row: Mapping[str, Any]) -> None:
    """Append one line; half a line that a killed writer or a full disk left must not swallow it."""
    if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
        _write_all(file, b"\n")
    _write_all(file, _line(row))


def _write_all(file: Any, data: bytes) -> None:
    """Write all of it: a disk that fills up takes a part and only then refuses."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
