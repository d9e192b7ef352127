"""The body of an attempt on disk: its steps as columns, its texts compressed, its tokens and logprobs as arrays."""

from __future__ import annotations

import itertools
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from swebench_lab.errors import RecordError
from swebench_lab.records import _codec, timeline
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

ARRAYS = {"token_ids": "ids", "context_ids": "ids", "logprobs": "reals"}
"""Fields of a Reply that are arrays → the column that they lie in, one after the other."""

_SIZES = struct.Struct("<IIII")
_DTYPES = {"ids": "<i4", "reals": "<f4"}
_PLANES = {"ids": 4, "reals": 2}
"""How many of the four bytes of a number are worth compressing, from the most significant on."""
_LEVEL = 1


class Sections(NamedTuple):
    """Parts of a body in their order; each can be read without the others.

    Args:
        row: The attempt's row in the index, as it was when the body was written.
        steps: The frame of its steps.
        texts: All that is no array.
        arrays: The arrays.
    """

    row: bytes
    steps: bytes
    texts: bytes
    arrays: bytes


def join(sections: Sections) -> bytes:
    """Return a body of its sections."""
    return b"".join((_SIZES.pack(*map(len, sections)), *sections))


def part(content: bytes) -> Sections:
    """Return the sections of a body."""
    sizes = _SIZES.unpack_from(content)
    ends = [_SIZES.size]
    for size in sizes:
        ends.append(ends[-1] + size)
    return Sections(*(content[start:end] for start, end in itertools.pairwise(ends)))


def steps_at(row_bytes: int) -> int:
    """Return where the frame of steps begins in a body."""
    return _SIZES.size + row_bytes


# --- writing ----------------------------------------------------------------------------------------------------------


def pack(rollout: Rollout, row: bytes, share: Callable[[str], str], least: int) -> Sections:
    """Return an attempt as the sections of its body.

    Args:
        rollout: The attempt; its reward, node and tries are in its row alone.
        row: Its row in the index.
        share: Keeps a text that other attempts hold as well, and returns its digest.
        least: Characters from which on a text is shared.
    """
    columns: dict[str, list[Any]] = {"ids": [], "reals": []}
    trajectory = _codec.encode(rollout.trajectory, ("opening",), arrays_too=False)
    for step in trajectory.get("steps", ()):
        for name in ARRAYS.keys() & step["reply"].keys():
            array, column = step["reply"][name], columns[ARRAYS[name]]
            step["reply"][name] = len(column)
            column.append(array)
    opening = [
        {**m, "content": {"shared": share(m["content"])}} if isinstance(m["content"], str) and len(m["content"]) >= least else m
        for m in rollout.trajectory.opening
    ]  # fmt: skip
    texts = {
        "schema": _codec.SCHEMA,
        "trajectory": trajectory,
        "opening": opening,
        "verdict": _codec.encode(rollout.verdict),
        "lengths": {name: [len(array) for array in column] for name, column in columns.items()},
    }
    parts = [_pack_column(column, name) for name, column in columns.items()]
    arrays = struct.pack("<I", len(parts[0])) + b"".join(parts)
    return Sections(row, _pack_steps(rollout), zlib.compress(_json(texts), _LEVEL), arrays)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _pack_steps(rollout: Rollout) -> bytes:
    rows = list(timeline.step_rows(rollout))
    return zlib.compress(_json([[row[name] for row in rows] for name in _STEP_COLUMNS]), _LEVEL)


_STEP_COLUMNS = tuple(name for name in timeline.STEPS if name not in ("task", "attempt"))


def _pack_column(arrays: list[Any], name: str) -> bytes:
    """Return arrays one after the other: bytes of the same weight side by side, the even ones compressed."""
    import numpy as np

    if not arrays:
        return b""
    numbers = np.ascontiguousarray(np.concatenate(arrays), _DTYPES[name])
    planes = np.ascontiguousarray(numbers.view("u1").reshape(-1, 4).T[::-1])
    high = zlib.compress(planes[: _PLANES[name]].tobytes(), _LEVEL)
    return struct.pack("<I", len(high)) + high + planes[_PLANES[name] :].tobytes()


# --- reading ----------------------------------------------------------------------------------------------------------


def unpack(
    sections: Sections, row: Mapping[str, Any], task: Task, layers: str, shared: Callable[[str], str], where: str
) -> Rollout:
    """Return the attempt of a body.

    Args:
        sections: Of the body.
        row: The attempt's row in the index.
        task: Its task.
        layers: Folder of the step layers.
        shared: Returns a shared text by its digest.
        where: The file and place, for errors.

    Raises:
        RecordError: It is of another schema, or cannot be read.
    """
    try:
        texts = json.loads(zlib.decompress(sections.texts))
        if (schema := texts["schema"]) != _codec.SCHEMA:
            raise RecordError(f"{where}: its records are of schema {schema!r}; this version reads {_codec.SCHEMA}")
        trajectory = texts["trajectory"]
        split = 4 + struct.unpack_from("<I", sections.arrays)[0]
        columns = {"ids": sections.arrays[4:split], "reals": sections.arrays[split:]}
        arrays = {name: _unpack_column(data, texts["lengths"][name], name) for name, data in columns.items()}
        for step in trajectory.get("steps", ()):
            for name in ARRAYS.keys() & step["reply"].keys():
                step["reply"][name] = arrays[ARRAYS[name]][step["reply"][name]]
        for message in texts["opening"]:
            if isinstance(message["content"], dict):
                message["content"] = shared(message["content"]["shared"])
        trajectory["opening"], verdict = texts["opening"], {**texts["verdict"]}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, zlib.error) as error:
        raise RecordError(f"{where}: its body cannot be read: {error!r}") from error
    record = {
        "trajectory": {"schema": _codec.SCHEMA, **trajectory},
        "verdict": {"schema": _codec.SCHEMA, **verdict},
        "reward": row.get("reward"),
        "node": row.get("node") or "",
        "tries": row["tries"],
    }
    return Rollout.from_dict(record, task, layers, where)


def _unpack_column(data: bytes, lengths: list[int], name: str) -> list[npt.NDArray[np.generic]]:
    import numpy as np

    if not lengths:
        return []
    total, split = sum(lengths), 4 + struct.unpack_from("<I", data)[0]
    planes = np.frombuffer(zlib.decompress(data[4:split]) + data[split:], "u1").reshape(4, total)
    numbers = np.ascontiguousarray(planes[::-1].T).view(_DTYPES[name]).reshape(-1)
    numbers.flags.writeable = False
    arrays, at = [], 0
    for length in lengths:
        arrays.append(numbers[at : at + length])
        at += length
    return arrays


def steps_frame(sections: Iterable[tuple[bytes, str, int]]) -> pl.DataFrame:
    """Return the frame of the steps of several attempts, of each its section, its task and its number."""
    import polars as pl

    values: dict[str, list[Any]] = {name: [] for name in timeline.STEPS}
    places = list(sections)
    try:
        for section, task, attempt in places:
            columns = json.loads(zlib.decompress(section))
            for name, column in zip(_STEP_COLUMNS, columns, strict=True):
                values[name] += column
            values["task"] += [task] * len(columns[0])
            values["attempt"] += [attempt] * len(columns[0])
        return pl.DataFrame(values, schema=timeline.STEPS)
    except (ValueError, KeyError, TypeError, OverflowError, zlib.error, pl.exceptions.PolarsError) as error:
        of = ", ".join(f"{task} attempt {attempt}" for _, task, attempt in places[:3])
        raise RecordError(
            f"reading steps of {len(places)} attempts ({of} …): a frame of them is damaged: {error}"
        ) from error
