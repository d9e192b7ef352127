"""convert: a run directory of an earlier layout becomes one of this layout; its old files stay beside the new ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab._unix import lock
from swebench_lab.errors import LabError, RecordError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Task
from swebench_lab.rollouts.store import lines, version
from swebench_lab.rollouts.store.store import ASIDE, INDEX, Store

OLD = "converted-from"
"""Folder that the old files are moved to."""
_PARTS = ("tasks.jsonl", "segments", "shared.blocks", INDEX)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a run directory.

    Args:
        path: The run directory.
        attempts: Rows that were converted.
        aside: Rows that could not be read, and were set aside.
        bytes_before: Size of the old rows.
        bytes_after: Size of the new files.
    """

    path: Path
    attempts: int
    aside: int
    bytes_before: int
    bytes_after: int


def convert(path: str | Path, progress: bool = False) -> Conversion | None:
    """Convert a run directory where it lies; attempts are read one at a time. Killed in the middle, it can be called again.

    Rows of the layout of before are converted without loss, and a collection goes on from there. Rows of a still older
    shape (commit 97d816b) become readable: amounts that it wrote as 0 because they were unknown become None.

    Args:
        path: The run directory.
        progress: Whether a bar is shown where it takes more than five seconds.

    Returns:
        What was done; None where it is of this layout already.

    Raises:
        RecordError: There is no run directory of a known layout, or it cannot be written.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir() or (layout := version.version_of(folder)) is None:
        raise RecordError(f"converting {folder}: it is no run directory: it holds no attempts")
    if layout == version.VERSION:
        return None
    if layout != 1:
        raise RecordError(
            f"converting {folder}: its layout is of version {layout}, which this swebench_lab does not know"
        )
    with lines.writing(folder), (folder / ".convert.lock").open("w") as lock_file:
        try:
            lock(lock_file, wait=False)
        except BlockingIOError:
            raise RecordError(f"converting {folder}: another process is converting it") from None
        return _convert(folder, progress)


def _convert(folder: Path, progress: bool) -> Conversion:
    from tqdm.auto import tqdm

    draft, rows = folder / ".converting", folder / version.OLD
    with suppress(FileNotFoundError):
        shutil.rmtree(draft)
    draft.mkdir()
    old_tasks = folder / OLD / "tasks.jsonl"
    tasks = _tasks(old_tasks if old_tasks.exists() else folder / "tasks.jsonl")
    store = Store(draft, folder / "layers")
    count = aside = 0
    bar = tqdm(total=rows.stat().st_size, desc="convert", unit="B", unit_scale=True, delay=5, disable=not progress)
    for number, text in enumerate(_texts(rows), 1):
        bar.update(len(text))
        try:
            rollout, rewarded_by = _rollout(json.loads(text), tasks)
        except (LabError, ValueError, KeyError, TypeError, AttributeError) as error:
            row = {"file": version.OLD, "line": number, "reason": f"converting it: {error}"}
            lines.append(draft / ASIDE, {**row, "text": text.decode("utf-8", "replace")})
            aside += 1
            continue
        store.append(rollout, rewarded_by)
        count += 1
    bar.close()
    store.segments.release()
    before, after = rows.stat().st_size, _size(draft)
    _put_in_place(folder, draft)
    return Conversion(folder, count, aside, before, after)


def _texts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (text for text in file if text.strip())


def _tasks(path: Path) -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for text in _texts(path) if path.exists() else ():
        with suppress(LabError, ValueError):  # the rows of this task then name it as missing, and are set aside
            task = Task.from_dict(json.loads(text), str(path))
            tasks[task.id] = task
    return tasks


def _put_in_place(folder: Path, draft: Path) -> None:
    """Move the new files to where they belong, and the old ones out of the way; until the last step it is the old layout."""
    old = folder / OLD
    old.mkdir(exist_ok=True)
    if (folder / "tasks.jsonl").exists() and not (old / "tasks.jsonl").exists():
        (folder / "tasks.jsonl").rename(old / "tasks.jsonl")
    for name in _PARTS:
        target = folder / name
        if target.is_dir():
            shutil.rmtree(target)
        if (draft / name).exists():
            (draft / name).replace(target)
    if (draft / ASIDE).exists():
        with lines.locked(folder / ASIDE) as file:
            lines.add(file, (draft / ASIDE).read_bytes())
    version.mark(folder)
    (folder / version.OLD).rename(old / version.OLD)
    shutil.rmtree(draft)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# --- rows -------------------------------------------------------------------------------------------------------------


def _rollout(row: dict[str, Any], tasks: Mapping[str, Task]) -> tuple[Rollout, str]:
    """Return the rollout of an old row, and the identity of the function that its reward is from."""
    rewarded_by = str(row.pop("rewarded_by", ""))
    task_id = row["task_id"]
    if task_id not in tasks:
        raise RecordError(f"its task {task_id!r} is not in tasks.jsonl")
    if row["trajectory"]["schema"] in (2, 3):
        row = {**row, "trajectory": _trajectory(row["trajectory"]), "verdict": _verdict(row["verdict"])}
    return Rollout.from_dict(row, tasks[task_id], where="converting a row"), rewarded_by


def _trajectory(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trajectory of 97d816b in this version's form."""
    return {**row, "schema": 1, "steps": [_step(step) for step in row["steps"]]}


def _step(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step of 97d816b, which held one call, in this version's form."""
    call_fields = ("tool", "arguments", "command", "observation", "exit_code", "timed_out", "limit", "seconds")
    step = {name: value for name, value in row.items() if name not in call_fields}
    step["reply"] = _reply(row["reply"])
    if row["tool"]:
        step["calls"] = [{name: row[name] for name in call_fields}]
    else:
        step["correction"] = row["observation"]
    return step


def _reply(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reply of 97d816b in this version's form: what it wrote as 0 or -1 for want of a number is unknown."""
    reply = dict(row)
    weights = reply.pop("version", -1)
    if weights != -1 and reply.get("token_ids"):
        reply["versions"] = [{"count": len(reply["token_ids"]), "version": weights}]
    has_counts = bool(reply.get("prompt_tokens") or reply.get("completion_tokens"))
    for name in () if has_counts else ("prompt_tokens", "completion_tokens", "cached_tokens"):
        reply[name] = None
    reply["cost"] = reply.get("cost") or None
    return reply


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verdict of 97d816b in this version's form; of what was not graded nobody knows the cause any more."""
    unapplied = row["status"] == "unresolved" and row.get("patch_applied") is False
    return {**row, "schema": 1, **({"cause": "not_applied"} if unapplied else {})}
