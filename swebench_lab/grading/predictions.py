"""Predictions: patches that somebody offers for tasks, in every form in which SWE-bench's harness reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from swebench_lab.errors import RecordError

Predictions: TypeAlias = str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]]
"""A `.json` or `.jsonl` file, a mapping by task id, or rows."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One patch somebody offers for one task.

    Args:
        task_id: The task.
        patch: The patch; empty when there is none.
        model: Who made it, as the file says.
        missing: The file says `null`, which SWE-bench tells from an empty text.
    """

    task_id: str
    patch: str
    model: str = ""
    missing: bool = False


def read_predictions(source: Predictions) -> dict[str, Prediction]:
    """Read predictions in every form the harness takes.

    Args:
        source: A `.json` file (an object by id, or a list), a `.jsonl` file, or the same as Python values; the values
            of a mapping may also be the patches themselves.

    Returns:
        Task id to prediction; of two for one task the later counts, as in the harness.

    Raises:
        RecordError: The file cannot be read, or a prediction lacks its id or is of the wrong type.
    """
    where, rows = (str(source), _read_file(Path(source))) if isinstance(source, str | Path) else ("predictions", source)
    predictions: dict[str, Prediction] = {}
    named: list[tuple[str, Any]]
    if isinstance(rows, Mapping) and {"instance_id", "model_patch"} <= rows.keys():
        named = [(where, rows)]
    elif isinstance(rows, Mapping):
        named = [(f"{where}, {name!r}", {"instance_id": name, **_as_row(row)}) for name, row in rows.items()]
    elif isinstance(rows, Iterable):
        named = [(f"{where}, number {i}", row) for i, row in enumerate(rows, 1)]
    else:
        raise RecordError(f"{where}: expected an object by id or a list of predictions, found {type(rows).__name__}")
    for place, row in named:
        prediction = _prediction(row, place)
        if isinstance(rows, Mapping) and row is not rows and place != f"{where}, {prediction.task_id!r}":
            raise RecordError(f"{place}, field 'instance_id': it is {prediction.task_id!r}, another than its key")
        predictions[prediction.task_id] = prediction
    return predictions


def _as_row(row: Any) -> Mapping[str, Any]:
    """Return a prediction given by its id alone as a row; what is no object is left for `_prediction` to refuse."""
    return row if isinstance(row, Mapping) else {"model_patch": row}


def _read_file(path: Path) -> Any:
    try:
        text = path.read_bytes().decode("utf-8")  # bytes: a patch may hold carriage returns that must survive
    except OSError as error:
        raise RecordError(f"reading predictions: {error}") from error
    if path.suffix == ".jsonl":
        return [_json(line, f"{path}:{n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix != ".json":
        raise RecordError(f"reading predictions from {path}: the ending must be .json or .jsonl")
    return _json(text, str(path))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"reading predictions: {where}, line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error


def _prediction(row: Any, where: str) -> Prediction:
    if not isinstance(row, Mapping):
        raise RecordError(f"{where}: a prediction must be an object, found {type(row).__name__}")
    name, patch = row.get("instance_id"), row.get("model_patch")
    if not isinstance(name, str) or not name:
        raise RecordError(f"{where}, field 'instance_id': missing, or not a text")
    if "model_patch" not in row or not isinstance(patch, (str, type(None))):
        raise RecordError(f"{where}, field 'model_patch': missing, or neither a text nor null")
    return Prediction(name, patch or "", str(row.get("model_name_or_path") or ""), patch is None)


def patch_bytes(patch: str) -> bytes:
    """Return the bytes of a patch: those that were no UTF-8 when it was read come back as they were."""
    try:
        return patch.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other lone surrogates, which JSON can hold and no file can
        return patch.encode("utf-8", "surrogatepass")
