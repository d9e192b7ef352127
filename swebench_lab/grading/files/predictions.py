"""Predictions: patches that somebody offers for tasks, in every form in which SWE-bench's harness reads them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from swebench_lab.errors import RecordError, shortly
from swebench_lab.grading.files.prediction_files import Unreadable, read_files

Predictions: TypeAlias = str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]]
"""A `.json`, `.jsonl` or `.pred` file, a run folder with such files, a mapping by task id, or rows."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One patch somebody offers for one task.

    Args:
        task_id: The task.
        patch: The patch; empty when there is none.
        model: Who made it, as the file says.
        missing: The file says `null`, which SWE-bench tells from an empty text.
        fault: Why the row cannot be read as a patch, so that it is not graded; empty for one that can.
    """

    task_id: str
    patch: str
    model: str = ""
    missing: bool = False
    fault: str = ""


class PredictionSet(dict[str, Prediction]):
    """Predictions by task id.

    Attributes:
        refused: Rows that name no task, each with its place and the reason.
    """

    refused: tuple[str, ...] = ()


def read_predictions(source: Predictions, model: str | None = None) -> PredictionSet:
    """Read predictions in every form the harness takes, and in those of a few agents' run folders.

    Args:
        source: A `.json` file (an object by id, or a list), a `.jsonl` or `.pred` file, a folder (see
            `prediction_files`), or the same as Python values; the values of a mapping may also be the patches themselves.
        model: Whose predictions are wanted, by `model_name_or_path`; None: all, if no two models have the same task.

    Returns:
        Task id to prediction; of two by one model for one task the later counts, as in the harness. A row that names its
        task but holds no patch that can be read has a `fault`; one that names no task is in `refused`. Neither loses the
        others, and both are in the log.

    Raises:
        RecordError: The file cannot be read, no row can, or several models have predictions for the same task and none
            of them is chosen.
    """
    rows = [_row(row, place, key) for place, key, row in _places(source)]
    refused = tuple(row for row in rows if isinstance(row, str))
    predictions = [row for row in rows if isinstance(row, Prediction)]
    faults = [p.fault for p in predictions if p.fault]
    if rows and not any(not p.fault for p in predictions):
        problem = [*refused, *faults]
        raise RecordError(problem[0] + (f" (and {len(problem) - 1} more such rows)" if len(problem) > 1 else ""))
    for message in (*refused, *faults):
        logger.warning("reading predictions: %s", message)
    result = PredictionSet(_of_one_model(predictions, model, source))
    result.refused = refused
    return result


def _places(source: Predictions) -> Iterator[tuple[str, str, Any]]:
    """Yield each row's place, the key it stands under (or nothing), and the row."""
    if isinstance(source, str | Path):
        for place, content, single in read_files(Path(source)):
            if single:
                yield place, "", content
            else:
                yield from _rows_of(place, content)
        return
    yield from _rows_of("predictions", source)


def _rows_of(where: str, rows: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(rows, Mapping) and "instance_id" in rows:
        yield where, "", rows
    elif isinstance(rows, Mapping):
        for name, row in rows.items():
            yield f"{where}, {name!r}", str(name), row if isinstance(row, Mapping) else {"model_patch": row}
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        for i, row in enumerate(rows, 1):
            yield f"{where}, number {i}", "", row
    else:
        raise RecordError(f"{where}: expected an object by id or a list of predictions, found {type(rows).__name__}")


def _of_one_model(predictions: list[Prediction], model: str | None, source: Predictions) -> dict[str, Prediction]:
    what = str(source) if isinstance(source, str | Path) else "predictions"
    names = sorted({p.model for p in predictions})
    if model is not None:
        if model not in names:
            raise RecordError(f"{what}: no prediction is by {model!r}; they are by {', '.join(map(repr, names))}")
        predictions = [p for p in predictions if p.model == model]
    result: dict[str, Prediction] = {}
    for prediction in predictions:
        earlier = result.get(prediction.task_id)
        if earlier and earlier.model != prediction.model:
            raise RecordError(
                f"{what}: {prediction.task_id!r} has predictions by several models; choose one of "
                f"{', '.join(map(repr, names))}: model={names[-1]!r}"
            )
        if earlier:
            which = "say the same" if earlier == prediction else "differ; the later counts"
            logger.warning("%s: two predictions for %s %s", what, prediction.task_id, which)
        result[prediction.task_id] = prediction
    return result


# --- one row ----------------------------------------------------------------------------------------------------------


def _row(row: Any, where: str, key: str) -> Prediction | str:
    """Return a row's prediction, or why it names no task."""
    if isinstance(row, Unreadable):
        return row.reason
    if not isinstance(row, Mapping):
        return f"{where}: a prediction must be an object, found {type(row).__name__}"
    name = _task_of(row) or key
    if not isinstance(name, str) or not name:
        return f"{where}, field 'instance_id': missing, or not a text"
    model = str(row.get("model_name_or_path") or "")
    if key and name != key:
        return Prediction(key, "", model, fault=f"{where}, field 'instance_id': it is {name!r}, another than its key")
    patch = _patch_of(row)
    if isinstance(patch, str | None):
        return Prediction(name, patch or "", model, patch is None)
    return Prediction(name, "", model, fault=f"{where}, field 'model_patch': {_wrong_patch(row)}")


def _task_of(row: Mapping[str, Any]) -> Any:
    """Return the id that a row states; Multi-SWE-bench states its parts."""
    if "instance_id" not in row and "fix_patch" in row and {"org", "repo", "number"} <= row.keys():
        return f"{row['org']}__{row['repo']}-{row['number']}"
    return row.get("instance_id")


_NO_PATCH = object()


def _patch_of(row: Mapping[str, Any]) -> Any:
    """Return a row's patch under the name that its writer gives it; anything but a text or None is wrong."""
    if "model_patch" in row:
        return row["model_patch"]
    if "fix_patch" in row and "test_patch" not in row:  # Multi-SWE-bench
        return row["fix_patch"]
    if "patch" in row and "prefix" in row:  # SWE-bench Pro
        return row["patch"]
    if isinstance(result := row.get("test_result"), Mapping):  # OpenHands
        return result.get("git_patch", _NO_PATCH)
    return _NO_PATCH


def _wrong_patch(row: Mapping[str, Any]) -> str:
    if "model_patch" in row:
        return f"missing, or neither a text nor null: {shortly(row['model_patch'])}"
    if "patch" in row:
        return "missing; 'patch' is the solution in rows of datasets, and is not taken for a prediction"
    return f"missing, or neither a text nor null; the row has {', '.join(sorted(map(str, row))) or 'no field'}"


def patch_bytes(patch: str) -> bytes:
    """Return the bytes of a patch: those that were no UTF-8 when it was read come back as they were."""
    try:
        return patch.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other lone surrogates, which JSON can hold and no file can
        return patch.encode("utf-8", "surrogatepass")
