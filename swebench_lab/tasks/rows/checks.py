"""Row checks: what must hold of any task that is read from a row, whatever the row's schema."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from swebench_lab.errors import DiffError, TaskError, shortly
from swebench_lab.records.patches.diff import parse_patch
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import JSON_REPORT, LOG

_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of characters that no file can hold; those in between stand for bytes that were not UTF-8."""

_TEXTS = ("id", "repo", "base_commit", "issue", "hints", "gold_patch", "test_patch", "setup_patch")
_MILLISECONDS = 1e11
"""Numbers of a date from here on count milliseconds: as seconds they would lie in the year 5138."""


def checked(task: Task, where: str) -> Task:
    """Return the task unchanged if it can be graded at all.

    Args:
        task: What a row was read as.
        where: The file and the row, for errors.

    Raises:
        TaskError: The id or the name of the log parser holds a control character, a text holds half a character, no test
            decides, or the test patch or setup patch is not a diff.
    """
    _one_line(task.id, "the id", where)
    _one_line(task.repo, "the repository's name", where)
    _one_line(str((task.spec or {}).get("log_parser") or ""), "'log_parser'", where)
    for name in _TEXTS:
        if half := _SURROGATE.search(getattr(task, name)):
            raise TaskError(
                f"{where}: field {name!r} of task {task.id!r} holds half a character (U+{ord(half[0]):04X}) at "
                f"{half.start()}, which no file can hold; repair the row"
            )
    if not task.fail_to_pass and (task.verifier is None or task.verifier.kind in (JSON_REPORT, LOG)):
        raise TaskError(
            f"{where}: FAIL_TO_PASS of task {task.id!r} is empty, so no test decides and any patch would be resolved"
        )
    for name in ("test_patch", "setup_patch"):
        check_diff(getattr(task, name), f"{where}: field {name!r} of task {task.id!r}")
    return task


def check_diff(text: str, what: str) -> None:
    """Raise a TaskError that begins with `what` when a text is neither empty nor a diff that git could read."""
    try:
        parse_patch(text)
    except DiffError as error:
        raise TaskError(f"{what} is not a diff: {error}") from error


def _one_line(text: str, what: str, where: str) -> None:
    if odd := next((char for char in text if unicodedata.category(char) == "Cc"), ""):
        raise TaskError(
            f"{where}: {what} {text[:60]!r} holds the control character {odd!r}; it must be one line of text"
        )


def date_text(value: Any, column: str, where: str) -> str:
    """Return a date as ISO text: a text as it is, a date or a time, or a number of seconds or milliseconds since 1970.

    Raises:
        TaskError: It is none of these, or lies outside the calendar.
    """
    if isinstance(value, str):
        return value
    if hasattr(value, "isoformat"):  # as parquet files have it
        return str(value.isoformat())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TaskError(f"{where}, field {column!r}: expected a date, found {shortly(value)}")
    try:
        moment = datetime.fromtimestamp(value / 1000 if abs(value) >= _MILLISECONDS else value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise TaskError(f"{where}, field {column!r}: {value!r} is no time since 1970: {error}") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def inner_row(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the row that another program's row wraps, or the row itself.

    NeMo Gym's rows hold a task's own row under `instance`, or as text under `metadata` of their request.

    Raises:
        TaskError: It wraps none.
    """
    if "responses_create_params" in row and "gold_patch" not in row:
        request = row["responses_create_params"]
        metadata = request.get("metadata") if isinstance(request, Mapping) else None
        wrapped = metadata.get("instance_dict") if isinstance(metadata, Mapping) else None
        inner = row.get("instance") or row.get("instance_dict") or wrapped
        if not inner:
            raise TaskError(f"{where}: a row of NeMo Gym without a task in it ('instance'): it cannot be graded here")
        return {"instance": inner, "env_class": "null"}
    return row
