"""The tables of the viewer's index: columns of an attempt, the version of the index, how a row becomes one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from swebench_lab.records.attempts import FRAME, KEY

VERSION = 3
"""Of the tables; an index of another version is built again."""

OWN: dict[str, type] = {"run": str, "id": str, "advantage": float, "tags": str, "note": str}
"""Columns of the viewer beside those of `Rollouts.to_frame`."""

COLUMNS: dict[str, type] = {**OWN, **FRAME}
"""Every column of the table of attempts, with its Python type; text columns are never null."""

PLACE = ("segment", "at")
"""Columns that tell where the attempt's body lies."""

_SQL = {str: "TEXT NOT NULL DEFAULT ''", int: "INTEGER", float: "REAL"}

SCRIPT = (
    "CREATE TABLE attempts (place INTEGER PRIMARY KEY, "
    + ", ".join(f'"{name}" {_SQL[kind]}' for name, kind in COLUMNS.items())
    + ", segment TEXT NOT NULL, at INTEGER NOT NULL, words INTEGER NOT NULL DEFAULT 0, UNIQUE (run, id));"
    "CREATE INDEX by_task ON attempts (run, task);"
    "CREATE INDEX by_words ON attempts (words);"
    "CREATE INDEX by_tags ON attempts (tags) WHERE tags != '';"
    "CREATE TABLE runs (run TEXT PRIMARY KEY, inode INTEGER NOT NULL, read INTEGER NOT NULL, notes INTEGER NOT NULL);"
    "CREATE VIRTUAL TABLE texts USING fts5(body, content='', tokenize='unicode61');"
    "INSERT INTO texts (texts, rank) VALUES ('hashsize', 67108864);"
    f"PRAGMA user_version = {VERSION};"
)
"""`words` is the row of `texts` that holds the attempt's words; 0: not read yet."""


def attempt_id(row: Mapping[str, Any]) -> str:
    """Return what an attempt is called in links: a digest of its key, the same in every index."""
    key = "\x1f".join(str(row.get(name) or "") for name in KEY)
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:16]


def values_of(run: str, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a row of a run's index as columns of the table; None where it is no row of an attempt."""
    if not isinstance(row.get("segment"), str) or not isinstance(row.get("at"), int) or not row.get("task"):
        return None
    values: dict[str, Any] = {"run": run, "id": attempt_id(row), "segment": row["segment"], "at": row["at"]}
    for name, kind in FRAME.items():
        value = row.get(name)
        if kind is str:
            values[name] = value if isinstance(value, str) else ""
        else:
            values[name] = value if isinstance(value, int | float) else None
    return values
