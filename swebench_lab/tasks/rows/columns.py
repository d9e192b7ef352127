"""Columns: what a column of a row holds, checked: text, an object, a list of names."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from typing import Any

from swebench_lab.errors import TaskError, shortly
from swebench_lab.tasks.rows.checks import date_text


def text_of(row: Mapping[str, Any], column: str, where: str) -> str:
    """Return a column that is text."""
    value = row.get(column)
    if not isinstance(value, str):
        raise TaskError(f"{where}, field {column!r}: expected text, found {shortly(value)}")
    return value


def texts_of(row: Mapping[str, Any], columns: Iterable[str], filled: Iterable[str], where: str) -> dict[str, str]:
    """Return columns that are text, some of which must not be empty."""
    values = {name: text_of(row, name, where) for name in columns}
    if empty := next((name for name in filled if not values[name].strip()), ""):
        raise TaskError(f"{where}, field {empty!r}: empty")
    return values


def as_object(row: Mapping[str, Any], column: str, where: str) -> Mapping[str, Any]:
    """Return a column that is an object, or the JSON text of one."""
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise TaskError(f"{where}, field {column!r}: expected a JSON object: {error}") from error
    if not isinstance(value, Mapping):
        raise TaskError(f"{where}, field {column!r}: expected an object, found {shortly(value)}")
    return value


def renamed(row: Mapping[str, Any], names: Mapping[str, str], required: Iterable[str], where: str) -> dict[str, Any]:
    """Return our field names with the row's values, each checked; absent optional columns are left out."""
    values: dict[str, Any] = {}
    for name, column in names.items():
        value = row.get(column)
        if value is None:
            if name in required:
                raise TaskError(f"{where}, field {column!r}: missing")
            continue
        if name in ("fail_to_pass", "pass_to_pass"):
            value = test_ids(value, column, where)
        elif name == "created_at":
            value = date_text(value, column, where)
        elif not isinstance(value, str):
            raise TaskError(f"{where}, field {column!r}: expected text, found {shortly(value)}")
        elif name in ("id", "repo", "base_commit") and not value.strip():
            raise TaskError(f"{where}, field {column!r}: empty")
        values[name] = value
    return values


def test_ids(value: Any, column: str, where: str) -> tuple[str, ...]:
    """Return test ids from a list, an array or a JSON string of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            value = _literal(value.strip())
            if value is None:
                raise TaskError(f"{where}, field {column!r}: expected a JSON list of test ids: {error}") from error
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TaskError(f"{where}, field {column!r}: expected a list of test ids, found {shortly(value)}")
    return tuple(value)


def _literal(text: str) -> Any:
    """Return a list written as Python writes one, or None."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def other_columns(row: Mapping[str, Any], fields: set[str]) -> dict[str, Any]:
    """Return the columns that no field of a Task holds, and that are not empty."""
    return {key: value for key, value in row.items() if key not in fields and value is not None}


def list_of(value: Any) -> list[str]:
    """Return the texts of a list, an array or a single text; none of an empty column."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return [value] if isinstance(value, str) and value else [str(v) for v in value or () if v is not None]
