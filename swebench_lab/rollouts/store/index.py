"""The index of a run: one small row an attempt, with the columns of its frame and where its body lies."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swebench_lab.records.attempts import FRAME, KEY, TEXTS
from swebench_lab.records.verdict import NOT_GRADED

if TYPE_CHECKING:
    import polars as pl

Key = tuple[str, int, int, str, str]

PLACE: dict[str, Any] = {"segment": str, "at": int, "bytes": int, "row_bytes": int, "steps_bytes": int}
"""Where a body lies: the segment's name, the byte where its block begins, how long the block, its row and its steps are."""

SCHEMA: dict[str, Any] = {**PLACE, "rewarded_by": str, **FRAME}
NEEDED = (
    "segment",
    "at",
    "bytes",
    "row_bytes",
    "steps_bytes",
    "task",
    "verdict",
    "attempt",
    "seed",
    "tries",
    "seconds",
)
"""Columns without which a row is none."""

_PLACE = "place in the index"
_MOST = 1 << 63
_LONGEST = 1000
"""Characters of a reason or an error in the index; its body holds all of them."""
_EMPTY = tuple(name for name in (*TEXTS, "rewarded_by") if name != "cause")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored attempt that is not held.

    Args:
        key: The rollout's key.
        status: What its verdict says.
        at: Segment and byte of its body: which row of this key it is.
        stop: Why it ended.
        rewarded_by: Identity of the function that its reward is from; empty: unknown, or the function raised.
        reward: The reward.
        node: The machine it was made on.
        tries: How often it was begun.
    """

    key: Key
    status: str
    at: tuple[str, int]
    stop: str
    rewarded_by: str
    reward: float | None
    node: str
    tries: int

    @property
    def graded(self) -> bool:
        """Whether it was graded."""
        return self.status != NOT_GRADED

    @property
    def set_up_failed(self) -> bool:
        """Whether the attempt died before it had a Snapshot to begin from: nothing was asked of the policy."""
        return not self.graded and self.stop == "error" and self.key[3] == ""

    @property
    def row(self) -> dict[str, Any]:
        """What reading its body needs of its row."""
        place = {"segment": self.at[0], "at": self.at[1]}
        return {**place, "task": self.key[0], "reward": self.reward, "node": self.node, "tries": self.tries}


def row_of(facts: Mapping[str, Any], rewarded_by: str) -> dict[str, Any]:
    """Return the row of an attempt without the place of its body.

    Args:
        facts: The attempt's row in the frame.
        rewarded_by: Identity of the reward function.
    """
    row = {name: value for name, value in facts.items() if value is not None and value != ""}
    for name in ("reason", "error"):
        if len(row.get(name, "")) > _LONGEST:
            row[name] = row[name][: _LONGEST - 1] + "…"
    return {**row, "rewarded_by": rewarded_by} if rewarded_by else row


def quick_frame(data: bytes) -> pl.DataFrame | None:
    """Return the rows of whole lines as a frame, unfinished; None where not every line is a row."""
    import polars as pl

    if not data:
        return pl.DataFrame(schema=SCHEMA)
    types: dict[type, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64}
    try:
        frame = pl.read_ndjson(io.BytesIO(data), schema={name: types[kind] for name, kind in SCHEMA.items()})
    except (pl.exceptions.PolarsError, ValueError):
        return None
    if frame.height != data.count(b"\n") or any(frame[name].null_count() for name in NEEDED):
        return None
    return frame


def careful_frame(texts: list[bytes]) -> tuple[pl.DataFrame, dict[int, str]]:
    """Return the rows of lines as a frame, unfinished, with null where a line is no row; and why, by line from 1 on."""
    import polars as pl

    wrong: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts, 1):
        row = _check_row(text)
        if isinstance(row, str):
            wrong[number], row = row, {}
        rows.append({name: row.get(name) for name in SCHEMA})
    return pl.DataFrame(rows, schema=SCHEMA), wrong


def _check_row(text: bytes) -> dict[str, Any] | str:
    """Return the row of a line, or why it is none."""
    try:
        row = json.loads(text)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(row, dict):
        return f"expected an object, found {type(row).__name__}"
    for name, kind in SCHEMA.items():
        value = row.get(name)
        if value is None and name in NEEDED:
            return f"field {name!r}: missing"
        if value is not None and not (isinstance(value, kind) or (kind is float and isinstance(value, int))):
            return f"field {name!r}: expected {kind.__name__}, found {type(value).__name__}"
        if kind is int and value is not None and not (0 <= value < _MOST if name in PLACE else abs(value) < _MOST):
            return f"field {name!r}: no such number can be: {str(value)[:30]}"
    return row


def last_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame of rows as it is shown: of rows with one key the last, where the first stood."""
    import polars as pl

    frame = frame.with_columns(pl.col(name).fill_null("") for name in _EMPTY)
    if (frame["snapshot"] == "").any():
        frame = _without_superseded(frame)
    if frame.select(KEY).is_duplicated().any():
        frame = frame.with_row_index(_PLACE).with_columns(pl.col(_PLACE).min().over(KEY))
        frame = frame.unique(KEY, keep="last", maintain_order=True).sort(_PLACE).drop(_PLACE)
    return frame


def _without_superseded(frame: pl.DataFrame) -> pl.DataFrame:
    """Leave out attempts that died before they had a Snapshot and were made again: the later row has another key."""
    import polars as pl

    same = [name for name in KEY if name != "snapshot"]
    last = pl.col(_PLACE) == pl.col(_PLACE).max().over(same)
    died = (pl.col("snapshot") == "") & (pl.col("verdict") == NOT_GRADED)
    return frame.with_row_index(_PLACE).filter(last | ~died).drop(_PLACE)


def entry_of(row: Mapping[str, Any]) -> Entry | None:
    """Return the entry of a row that was just read; None where it is no row."""
    try:
        key = (row["task"], row["attempt"], row["seed"], row.get("snapshot", ""), row.get("agent", ""))
        status, at = row["verdict"], (row["segment"], row["at"])
        rest = (row.get("stop", ""), row.get("rewarded_by", ""), row.get("reward"), row.get("node", ""), row["tries"])
    except KeyError:
        return None
    return Entry(key, status, at, *rest)


def entries(frame: pl.DataFrame) -> dict[Key, Entry]:
    """Return the entries of a frame by key."""
    names = (*KEY, "verdict", "segment", "at", "stop", "rewarded_by", "reward", "node", "tries")
    result: dict[Key, Entry] = {}
    same: dict[str, str] = {}  # agents, Snapshots and segments repeat: one string for each
    for task, attempt, seed, snapshot, agent, verdict, segment, at, stop, by, reward, node, tries in frame.select(
        names
    ).iter_rows():
        snapshot, agent, segment, by = (same.setdefault(text, text) for text in (snapshot, agent, segment, by))
        key = (task, attempt, seed, snapshot, agent)
        result[key] = Entry(key, same.setdefault(verdict, verdict), (segment, at), same.setdefault(stop, stop), by, reward,
                           same.setdefault(node, node), tries)  # fmt: skip
    return result
