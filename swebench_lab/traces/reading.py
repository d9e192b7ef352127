"""load_trajectories: recognises files and folders of traces by what they hold, whatever they are called."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import read_rollouts
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import RESOLVED, UNRESOLVED
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.run_folders import run_folders
from swebench_lab.traces.collection import Trajectories
from swebench_lab.traces.foreign import (
    atif,
    inspect_logs,
    mini,
    openhands,
    openhands_v1,
    responses,
    sessions,
    sweagent,
    verifiers_results,
)
from swebench_lab.traces.foreign import sft_rows as sft
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.fields import media_in, shortly, style_of

FORMATS: Mapping[str, ModuleType] = {module.NAME: module for module in (atif, mini, openhands, sweagent, sft)}
"""Format to the module that reads and writes it."""

_READERS: Mapping[str, Any] = {
    one.NAME: one for one in (atif, mini, openhands_v1, openhands, responses, verifiers_results, sweagent, sft)
}
"""Format to what reads it, in the order in which a record is looked at."""

_ENDINGS = (".traj", ".json", ".jsonl", ".parquet", ".eval")
_EXPECTED = (
    "SWE-agent .traj, mini-swe-agent .traj.json, OpenHands output.jsonl (also V1), rows with `messages` (SWE-smith's "
    "ticks, xml and tool) or items of Responses, ATIF, sessions of Claude Code and Codex, Inspect's logs, verifiers' "
    "results, and this package's own run directories and rollouts"
)


def load_trajectories(path: str | Path) -> Trajectories:
    """Read traces of any format that is known; the content decides, not the name.

    Args:
        path: A file (`.traj`, `.traj.json`, `.json`, `.jsonl`, `.parquet`), or a folder: a run directory of this package
            or of SWE-agent (`preds.json`, `<id>/<id>.traj`, `<id>.pred`, exit statuses), or any folder of such files
            and folders.

    Returns:
        The traces, in the order of the file, or of the files' names; several at one task are numbered. What a
        format says and a Trajectory does not hold is kept in `extra`, so that `save` writes the same bytes again.

    Raises:
        RecordError: There is nothing there, a record is of no known format, or a field is not what it should be: names
            the file, the row and the field, and what was expected.
    """
    source = Path(path).expanduser()
    if source.is_dir():
        traces = list(_folder(source))
        if not traces:
            raise RecordError(f"loading trajectories: no traces in {source}; it holds {_list_names(source)}. {_hint()}")
        return Trajectories(_number(traces), source.name)
    if not source.is_file():
        raise RecordError(f"loading trajectories: there is no file or folder {source}")
    return Trajectories(_number(_file(source)), source.name)


def _number(traces: Sequence[Trajectory]) -> Iterator[Trajectory]:
    """Tell several foreign attempts at one task apart by their number, in the order in which they were found."""
    counts: Counter[str] = Counter()
    for trace in traces:
        if not trace.extra.get("format"):
            yield trace
            continue
        yield replace(trace, attempt=counts[trace.task_id]) if counts[trace.task_id] else trace
        counts[trace.task_id] += 1


def _hint() -> str:
    return f"Known are {_EXPECTED}"


def _list_names(folder: Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"


# --- files ----------------------------------------------------------------------------------------------------------


def _file(path: Path) -> list[Trajectory]:
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".eval":
        return inspect_logs.read_archive(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise RecordError(
            f"loading trajectories from {path}: not UTF-8 text at byte {error.start}. {_hint()}"
        ) from error
    if not text.strip():
        raise RecordError(f"loading trajectories from {path}: the file is empty. {_hint()}")
    name = _stem(path)
    try:
        whole = json.loads(text)
    except ValueError as error:
        return _lines(path, text, error)
    if inspect_logs.is_log(whole):
        return inspect_logs.samples_of(whole, str(path))
    if verifiers_results.is_episode(whole):
        return verifiers_results.traces_of(whole, str(path))
    if kind := sessions.kind_of(whole):
        return [_count_media(sessions.read([whole], f"{path} ({kind})", name), [whole])]
    if isinstance(whole, list) and not mini.is_one(whole):
        traces = [read_record(row, f"{path}, row {i}") for i, row in enumerate(whole, 1)]
        if not traces:
            raise RecordError(f"loading trajectories from {path}: the list is empty. {_hint()}")
        return traces
    return [read_record(whole, str(path), name, text)]


def _stem(path: Path) -> str:
    """Return what a file is called without its ending: the task's id in the folders of a run."""
    return path.name.removesuffix(mini.SUFFIX) if path.name.endswith(mini.SUFFIX) else path.stem


def _lines(path: Path, text: str, error: ValueError) -> list[Trajectory]:
    """Read JSON lines; a file whose first line is no JSON either was meant to be one value."""
    traces: list[Trajectory] = []
    session: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except ValueError as fault:
            if number == 1 or path.suffix in (".traj", ".json"):
                raise RecordError(f"loading trajectories from {path}: not JSON: {error}. {_hint()}") from error
            raise RecordError(
                f"{where}: not JSON: {fault}. If its writer was cut off there, remove that line and read it again"
            ) from fault
        if sessions.kind_of(record) or session:
            session.append(record)
            continue
        if verifiers_results.is_episode(record):
            traces += verifiers_results.traces_of(record, where)
            continue
        last = number == text.count("\n") + 1
        traces.append(read_record(record, where, "", line + ("" if last else "\n")))
    return [*traces, _count_media(sessions.read(session, str(path), _stem(path)), session)] if session else traces


def _parquet(path: Path) -> list[Trajectory]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecordError(f"loading trajectories from {path}: cannot be read as parquet: {error}") from error
    if "record" in frame.columns:
        return [_add_verdict(rollout.trajectory, rollout.verdict.status) for rollout in read_rollouts(path)]
    rows = enumerate(frame.iter_rows(named=True), 1)
    return [read_record(_without_nulls(row), f"{path}, row {i}") for i, row in rows]


def _without_nulls(value: Any) -> Any:
    """Take out the nulls that a table put where a row had no such field."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def read_record(record: Any, where: str = "a record", name: str = "", text: str = "") -> Trajectory:
    """Return one record of whatever format as a Trajectory that keeps it.

    Args:
        record: What was read from JSON or a table's row.
        where: Where it came from, for errors.
        name: The task's id, where the record does not say it.
        text: Its JSON text, from which `save` learns the layout; empty: not known.

    Raises:
        RecordError: It is of no known format, or a field is not what it should be.
    """
    if (own := _own(record, where)) is not None:
        return own
    for format, module in _READERS.items():
        if module.is_one(record):
            read: Trajectory = module.read(record, where, name)
            version = module.form(record) if module is sft else module.version(record)
            facts = {"format": version or format if module is sft else format, "version": version, "record": record}
            if isinstance(record, Mapping) and (resolved := record.get("resolved")) is not None:
                facts["resolved"] = resolved in (True, 1, "True", "true")
            if text:
                facts["layout"] = style_of(text, record)
            return _count_media(replace(read, extra={**facts, **read.extra}), record)
    raise RecordError(f"{where}: of no known format: found {_describe(record)}. {_hint()}{_advice(record)}")


def _count_media(trajectory: Trajectory, record: Any) -> Trajectory:
    """Add the images, sounds and files of a record's conversation, each once, to what was dropped of it."""
    names = ("history", "messages", "steps", "items", "prompt")
    parts = [record.get(name) for name in names] if isinstance(record, Mapping) else []
    media = media_in([part for part in parts if isinstance(part, list)][:1] or record)
    if not media:
        return trajectory
    dropped = {**(trajectory.extra.get("dropped") or {}), **media}
    return replace(trajectory, extra={**trajectory.extra, "dropped": dropped})


def _own(record: Any, where: str) -> Trajectory | None:
    """Return a record of this package: a Trajectory, or the row of a rollout."""
    if not isinstance(record, Mapping):
        return None
    if _is_row(record):
        trajectory = Trajectory.from_dict(record["trajectory"], f"{where}, trajectory")
        return _add_verdict(trajectory, record["verdict"].get("status"))
    return Trajectory.from_dict(record, where) if {"schema", "task_id", "steps"} <= set(record) else None


def _is_row(record: Mapping[str, Any]) -> bool:
    """Say whether a record is the row of a rollout."""
    return isinstance(record.get("trajectory"), Mapping) and isinstance(record.get("verdict"), Mapping)


def _describe(record: Any) -> str:
    if isinstance(record, list) and record:
        return f"a list of {len(record)}, the first {shortly(record[0])}"
    return shortly(record)


def _advice(record: Any) -> str:
    """Return what to do with what is often taken for a trace."""
    if isinstance(record, Mapping) and (
        {"model_patch", "fix_patch"} & set(record)
        or any(isinstance(v, Mapping) and "model_patch" in v for v in record.values())
    ):
        return ". These are predictions: Evaluator.grade takes their patches; traces lie beside them"
    if isinstance(record, Mapping) and {"instance_id", "problem_statement"} <= set(record):
        return ". This is a task: load_tasks reads it"
    return _looks_like(record)


_OTHERS: tuple[tuple[str, frozenset[str]], ...] = (
    ("a chat of Gemini CLI", frozenset(("sessionId", "messages", "startTime"))),
    ("Gemini's contents", frozenset(("contents",))),
    ("a request or an answer of a chat endpoint", frozenset(("choices",))),
    ("a trace of OpenTelemetry", frozenset(("resourceSpans",))),
    ("a run of LangSmith", frozenset(("run_type", "inputs"))),
    ("an asciinema recording", frozenset(("width", "height", "version"))),
    ("a result of a Harbor trial, whose agent/trajectory.json is the trace", frozenset(("trial_name", "task_name"))),
    ("an event of an OpenHands event stream", frozenset(("id", "timestamp", "source", "message"))),
    ("an anonymous preference pair", frozenset(("chosen", "rejected"))),
)
"""What records look like that are not read, and the fields they are known by."""


def _looks_like(record: Any) -> str:
    if not isinstance(record, Mapping):
        return ""
    names = set(record)
    guess = next((name for name, fields in _OTHERS if fields <= names), "")
    return f". It looks like {guess}, which is not read" if guess else ""


# --- folders --------------------------------------------------------------------------------------------------------


def _folder(folder: Path) -> Iterator[Trajectory]:
    runs = set(run_folders(folder).values())
    for run in sorted(runs):
        for rollout in RunDirectory(run, create=False).rollouts():
            yield _add_verdict(rollout.trajectory, rollout.verdict.status)
    if folder in runs:
        return
    beside = _Beside(folder)
    for path in sorted(_files(folder, runs)):
        certain = path.suffix in (".traj", ".eval") or path.name.endswith(mini.SUFFIX) or path.name == "output.jsonl"
        if not certain and not _begins_like_one(path):
            continue
        for trajectory in _file(path):
            yield beside.completed(trajectory, path)


def _add_verdict(trajectory: Trajectory, status: Any) -> Trajectory:
    """Return the trajectory of a rollout, which says what its tests said."""
    if status not in (RESOLVED, UNRESOLVED):
        return trajectory
    return replace(trajectory, extra={**trajectory.extra, "resolved": status == RESOLVED})


def _files(folder: Path, leave: Container[Path]) -> Iterator[Path]:
    """Yield the files of a folder that may hold traces; folders in `leave` are not looked into."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(place, name) not in leave)
        yield from (Path(place, name) for name in sorted(names) if name.endswith(_ENDINGS))


def _begins_like_one(path: Path) -> bool:
    """Say whether a file beside others is worth reading: its first record must be of a known format."""
    try:
        if path.suffix == ".parquet":
            import polars as pl

            rows = pl.read_parquet(path, n_rows=1).to_dicts()
            first: Any = rows[0] if rows else None
            return first is not None and ("record" in first or _is_readable(_without_nulls(first)))
        text = path.read_text("utf-8")
        first = json.loads(text.split("\n", 1)[0] if path.suffix == ".jsonl" else text)
    except (ValueError, OSError):
        return False
    if isinstance(first, list) and first and not mini.is_one(first):
        first = first[0]
    return _is_readable(first)


def _is_readable(record: Any) -> bool:
    own = isinstance(record, Mapping) and ({"schema", "task_id", "steps"} <= set(record) or _is_row(record))
    is_foreign = any(module.is_one(record) for module in _READERS.values())
    others = (sessions.kind_of, inspect_logs.is_log, verifiers_results.is_episode)
    return own or is_foreign or any(known(record) for known in others)


class _Beside:
    """What lies beside the traces of a run: predictions, verdicts and exit statuses.

    ```
    run/preds.json                      id → model_patch
    run/<id>/<id>.traj, <id>.pred       the trace; its patch, and where it was graded its reward
    run/run_batch_exit_statuses.yaml    exit status → ids; mini-swe-agent calls it exit_statuses_<time>.yaml
    ```
    """

    def __init__(self, folder: Path) -> None:
        self._patches: dict[Path, dict[str, str]] = {}
        self._statuses: dict[Path, dict[str, str]] = {}
        self._root = folder

    def completed(self, trajectory: Trajectory, path: Path) -> Trajectory:
        """Return a trace with what the files beside it know and it does not say."""
        name = trajectory.task_id
        facts: dict[str, Any] = {}
        patch, stop, error = trajectory.patch, trajectory.stop, trajectory.error
        prediction = self._prediction(path, name)
        if prediction:
            facts["pred"] = prediction
            patch = patch or str(prediction.get("model_patch") or "")
            reward = prediction.get("reward")
            if isinstance(reward, (int, float)) and "resolved" not in trajectory.extra:
                facts["resolved"] = reward > 0
        for folder in self._above(path):
            patch = patch or self._patches_of(folder).get(name, "")
            status = self._statuses_of(folder).get(name)
            if status and not (trajectory.extra.get("record") or {}).get("info", {}).get("exit_status"):
                stop, error = turns.ending(status)
                facts["exit_status"] = status
        same = not facts and (patch, stop, error) == (trajectory.patch, trajectory.stop, trajectory.error)
        if same:
            return trajectory
        return replace(trajectory, patch=patch, stop=stop, error=error, extra={**trajectory.extra, **facts})

    def _above(self, path: Path) -> Sequence[Path]:
        """Return the folders of a file, from its own up to the one that is read."""
        return [folder for folder in path.parents if folder == self._root or self._root in folder.parents]

    def _prediction(self, path: Path, name: str) -> dict[str, Any]:
        file = path.parent / f"{_stem(path)}.pred"
        content = _json(file) if file.is_file() else {}
        return content if isinstance(content, dict) else {}

    def _patches_of(self, folder: Path) -> dict[str, str]:
        if folder not in self._patches:
            content = _json(folder / "preds.json") if (folder / "preds.json").is_file() else {}
            rows = content.values() if isinstance(content, dict) else content
            self._patches[folder] = {
                str(row.get("instance_id")): str(row.get("model_patch") or "")
                for row in rows
                if isinstance(row, Mapping)
            }
        return self._patches[folder]

    def _statuses_of(self, folder: Path) -> dict[str, str]:
        if folder not in self._statuses:
            import yaml

            statuses: dict[str, str] = {}
            for file in sorted(folder.glob("*exit_statuses*.yaml")):
                try:
                    content = yaml.safe_load(file.read_text("utf-8"))
                except (yaml.YAMLError, UnicodeDecodeError) as error:
                    raise RecordError(f"reading the exit statuses {file}: {error}") from error
                groups = content.get("instances_by_exit_status") if isinstance(content, Mapping) else None
                for status, names in (groups or {}).items():
                    statuses |= {str(name): str(status) for name in names or ()}
            self._statuses[folder] = statuses
        return self._statuses[folder]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RecordError(f"{path}: not JSON: {error}; mend or remove it, and read the folder again") from error
