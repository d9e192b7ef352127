"""Saving traces in any of the field's formats: to one file, to rows, or as the folders of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab._files import LONGEST_NAME, safe_name
from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import atif, mini, openhands, sweagent, training_trace
from swebench_lab.traces.foreign import sft_rows as sft
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.fields import LINE, json_text
from swebench_lab.traces.reading import FORMATS

KNOWN = (sweagent.NAME, mini.NAME, openhands.NAME, *sft.FORMS, atif.NAME, training_trace.NAME, "lab")
"""What `format` may be."""
_ROWS = (openhands.NAME, *sft.FORMS, sft.NAME, "lab")
"""Formats of which a file holds many."""
_ALONE = (atif.NAME, training_trace.NAME)
"""Formats whose files lie side by side in a folder, without predictions."""


def save(trajectories: Iterable[Trajectory], path: str | Path, format: str = "", **options: Any) -> Path:
    """Write traces in one of the field's formats.

    A trace that was read from this very format and is still what it was is written as it was read: byte for byte, where
    the file was written by a JSON library. Everything else is written from what a Trajectory holds.

    Args:
        trajectories: The traces.
        path: Formats of many rows (`openhands`, `ticks`, `xml`, `tool`, `lab`) go to a `.jsonl` or `.parquet` file.
            The others go to the file, if it has an ending and there is one trace; else to a folder: `<id>/<id>.traj` and
            `preds.json` for the formats of SWE-agent and mini-swe-agent, `<id>.json` for ATIF and TrainingTrace.
        format: One of `KNOWN`; empty: the one the traces were read from, else `"lab"`.
        **options: For `ticks`, `xml` and `tool`: see `sft.row`.

    Returns:
        The path written.

    Raises:
        RecordError: The format is unknown, the traces are of several formats and none is named, or the ending does not
            fit.
    """
    traces = list(trajectories)
    kind = format or _format_of(traces)
    if kind not in (*KNOWN, sft.NAME):
        raise RecordError(f"saving traces: unknown format {kind!r}; known are {', '.join(KNOWN)}")
    if options and kind not in sft.FORMS:
        raise RecordError(f"saving traces as {kind!r}: no option {sorted(options)[0]!r} is known for this format")
    target = Path(path)
    if kind in _ROWS:
        return _save_rows(traces, target, kind, options)
    if len(traces) == 1 and target.suffix:
        return _put(target, _text(traces[0], kind))
    if target.suffix in (".jsonl", ".parquet"):
        raise RecordError(
            f"saving {len(traces)} traces as {kind!r} to {target}: a file of this format holds one; give a folder's name"
        )
    _refuse_twice(traces, target)
    for trajectory in traces:
        name = _file_name(trajectory.task_id)
        folder = target / _attempt_folder(trajectory, traces)
        inside = folder / f"{name}.json" if kind in _ALONE else folder / name / f"{name}{FORMATS[kind].SUFFIX}"
        _put(inside, _text(trajectory, kind))
    if kind not in _ALONE:
        _predictions(traces, target)
    return target


def _format_of(trajectories: Sequence[Trajectory]) -> str:
    formats = sorted({str(t.extra.get("format", "lab")) for t in trajectories}) or ["lab"]
    if len(formats) > 1:
        raise RecordError(f"saving traces of several formats ({', '.join(formats)}): say which, save(path, format=...)")
    return formats[0]


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


def _file_name(task_id: str) -> str:
    """Return a task's id as a file's name; what could leave the folder becomes an underscore."""
    name = re.sub(r"[^\w.+-]", "_", task_id).lstrip(".") or "unnamed"
    return name if len(name.encode()) <= LONGEST_NAME else safe_name(task_id)


def _refuse_twice(traces: Sequence[Trajectory], target: Path) -> None:
    seen: set[tuple[str, int]] = set()
    for trajectory in traces:
        place = (_file_name(trajectory.task_id), trajectory.attempt)
        if place in seen:
            raise RecordError(
                f"saving traces to {target}: two are of attempt {trajectory.attempt} at {trajectory.task_id!r}, and one "
                "would overwrite the other; number them: replace(trajectory, attempt=n)"
            )
        seen.add(place)


def _attempt_folder(trajectory: Trajectory, among: Sequence[Trajectory]) -> str:
    """Return the folder that keeps several attempts at one task apart; empty where there is one each."""
    several = len({t.task_id for t in among}) < len(among)
    return f"attempt-{trajectory.attempt}" if several else ""


# --- one record -----------------------------------------------------------------------------------------------------


def record_of(trajectory: Trajectory, format: str, **options: Any) -> Any:
    """Return a trace as a record of a format: the one it was read from if it still says that, else one made of it."""
    if (original := _original(trajectory, format, options)) is not None:
        return original
    if format == "lab":
        return trajectory.to_dict()
    if format in (*sft.FORMS, sft.NAME):
        return sft.row(trajectory, format if format in sft.FORMS else "xml", **options)
    if format == training_trace.NAME:
        return training_trace.write(trajectory)
    return FORMATS[format].write(trajectory)


def _original(trajectory: Trajectory, format: str, options: Mapping[str, Any]) -> Any:
    """Return the record a trace was read from, if it is of this format and the trace was not changed since."""
    facts = trajectory.extra
    if facts.get("format") != format or "record" not in facts or options:
        return None
    module = FORMATS.get(format, sft)
    again: Trajectory = module.read(facts["record"], "a record", trajectory.task_id)
    same = all(
        getattr(again, name) in ("", getattr(trajectory, name)) for name in ("task_id", "patch", "policy", "error")
    )
    same_stop = again.stop == trajectory.stop or "exit_status" in facts
    return facts["record"] if same and same_stop and turns.alike(again, trajectory) else None


def _text(trajectory: Trajectory, format: str) -> str:
    original = _original(trajectory, format, {})
    return (
        json_text(original, trajectory.extra.get("layout"))
        if original is not None
        else json_text(record_of(trajectory, format))
    )


# --- many rows ------------------------------------------------------------------------------------------------------


def _save_rows(traces: Sequence[Trajectory], target: Path, format: str, options: Mapping[str, Any]) -> Path:
    if target.suffix == ".parquet":
        return _save_table([record_of(t, format, **options) for t in traces], target)
    if target.suffix != ".jsonl":
        raise RecordError(f"saving traces as {format!r} to {target}: the file's name must end in .jsonl or .parquet")
    lines = []
    for number, trajectory in enumerate(traces, 1):
        original = _original(trajectory, format, options)
        layout = trajectory.extra.get("layout", LINE) if original is not None else LINE
        if layout["indent"] is not None:
            layout = LINE
        if number < len(traces) and not layout["end"]:
            layout = {**layout, "end": "\n"}
        lines.append(json_text(original if original is not None else record_of(trajectory, format, **options), layout))
    return _put(target, "".join(lines))


def _save_table(records: Sequence[Mapping[str, Any]], target: Path) -> Path:
    """Write rows as parquet; what is no plain value is JSON text, so that no table puts nulls into messages."""
    import polars as pl

    names = dict.fromkeys(name for record in records for name in record)
    plain = [
        {
            name: json.dumps(value) if isinstance(value, (list, Mapping)) else value
            for name, value in ((name, record.get(name)) for name in names)
        }
        for record in records
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        pl.DataFrame(plain, infer_schema_length=None).write_parquet(target)
    except UnicodeEncodeError as error:
        raise RecordError(f"saving traces to {target}: a text holds half a character; save them as .jsonl") from error
    return target


# --- run directories ------------------------------------------------------------------------------------------------


def _predictions(traces: Sequence[Trajectory], target: Path) -> None:
    """Write `preds.json` and the exit statuses of a run, one of each for every attempt folder."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in traces:
        groups.setdefault(_attempt_folder(trajectory, traces), []).append(trajectory)
    for folder, group in groups.items():
        rows = {t.task_id: prediction(t) for t in group}
        _put(target / folder / "preds.json", json.dumps(rows, indent=4) + "\n")
        _put(target / folder / "run_batch_exit_statuses.yaml", _statuses(group))


def prediction(trajectory: Trajectory) -> dict[str, Any]:
    """Return what the SWE-bench harness reads of an attempt."""
    return {
        "model_name_or_path": trajectory.policy,
        "instance_id": trajectory.task_id,
        "model_patch": trajectory.patch,
    }


def _statuses(traces: Sequence[Trajectory]) -> str:
    """Return which attempts ended how, as SWE-agent's batch runs write it."""
    import yaml

    groups: dict[str, list[str]] = {}
    for trajectory in traces:
        record = trajectory.extra.get("record")
        info = record.get("info") if isinstance(record, Mapping) else None
        recorded = info.get("exit_status") if isinstance(info, Mapping) else None
        status = trajectory.extra.get("exit_status") or recorded or turns.exit_status(trajectory)
        groups.setdefault(str(status), []).append(trajectory.task_id)
    text: str = yaml.safe_dump({"instances_by_exit_status": groups}, sort_keys=True)
    return text


def export(rollouts: Iterable[Rollout], folder: str | Path, format: str = sweagent.NAME) -> Path:
    """Write scored attempts as the folders of a run, or as rows that say what was resolved; see `Rollouts.export`."""
    items = list(rollouts)
    if format not in (sweagent.NAME, mini.NAME):
        return save((_with_verdict(rollout) for rollout in items), folder, format)
    traces = [rollout.trajectory for rollout in items]
    agents = sorted({(t.agent, t.policy) for t in traces})
    if len(agents) > 1:
        raise RecordError(
            f"exporting rollouts of {len(agents)} agents to one folder: they would overwrite each other; filter first, "
            f"e.g. rollouts.filter(lambda r: r.trajectory.agent == {agents[0][0]!r})"
        )
    target = Path(folder)
    _refuse_twice(traces, target)
    for rollout, trajectory in zip(items, traces, strict=True):
        name = _file_name(trajectory.task_id)
        place = target / _attempt_folder(trajectory, traces) / name
        _put(place / f"{name}{FORMATS[format].SUFFIX}", _text(trajectory, format))
        _put(
            place / f"{name}.pred", json.dumps({**_verdict_fields(rollout), **prediction(trajectory)}, indent=1) + "\n"
        )
    _predictions(traces, target)
    return target


def _with_verdict(rollout: Rollout) -> Trajectory:
    """Return an attempt with what its tests said; nothing where they said nothing."""
    trajectory, verdict = rollout.trajectory, rollout.verdict
    if not verdict.graded:
        return trajectory
    return replace(trajectory, extra={**trajectory.extra, "resolved": verdict.resolved})


def _verdict_fields(rollout: Rollout) -> dict[str, Any]:
    """Return the verdict's part of a `.pred` file; an attempt that was not graded has none, never a reward of 0."""
    verdict = rollout.verdict
    if not verdict.graded:
        return {"reward": None, "reason": verdict.reason}
    return {
        "reward": rollout.reward,
        "resolved": verdict.resolved,
        "test_out": verdict.log,
        "f2p": {name: list(tests) for name, tests in verdict.fail_to_pass.items()},
        "p2p": {name: list(tests) for name, tests in verdict.pass_to_pass.items()},
    }
