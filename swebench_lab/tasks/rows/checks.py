"""Row checks: what must hold of any task that is read from a row, whatever the row's schema."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from swebench_lab.errors import DiffError, TaskError, shortly
from swebench_lab.records.patches.diff import parse_patch, touched_files
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


def check_assets(row: Mapping[str, Any], where: str) -> None:
    """Refuse rows of SWE-bench Multimodal that cannot be graded: pictures in tests, or no image and script to run in.

    Raises:
        TaskError: It is one.
    """
    assets: Any = row.get("image_assets")
    if assets is None:
        return
    name = f"{where}, field 'image_assets': a row of SWE-bench Multimodal"
    if isinstance(assets, str):
        try:
            assets = json.loads(assets or "{}")
        except ValueError as error:
            raise TaskError(f"{name}: expected a JSON object: {error}") from error
    if not isinstance(assets, Mapping):
        raise TaskError(f"{name}: expected an object, found {shortly(assets)}")
    if any(pictures is not None and len(pictures) for pictures in map(assets.get, ("patch", "test_patch"))):
        raise TaskError(f"{name} whose tests need pictures from elsewhere: not read")
    if missing := next((column for column in ("image", "eval_script", "log_parser") if not row.get(column)), ""):
        raise TaskError(f"{name} without {missing!r}: its tests run in its image, by its own script")


_PYTHON = (".py", ".pyx", ".pyi", ".pxd")
_CODE = {
    ".go": "Go", ".rs": "Rust", ".js": "JavaScript", ".jsx": "JavaScript", ".mjs": "JavaScript", ".cjs": "JavaScript",
    ".ts": "TypeScript", ".tsx": "TypeScript", ".java": "Java", ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".hpp": "C++",
    ".cs": "C#", ".php": "PHP", ".rb": "Ruby",
}  # fmt: skip


def check_language(patch: str, spec: Mapping[str, Any], where: str) -> None:
    """Refuse a bug of SWE-smith in another language than Python whose row does not say how its tests run and are read.

    Raises:
        TaskError: It is one.
    """
    suffixes = {PurePosixPath(path).suffix for path in touched_files(patch)}
    language = next((_CODE[suffix] for suffix in sorted(suffixes) if suffix in _CODE), "")
    if language and not suffixes & {*_PYTHON} and not (spec.get("test_command") and spec.get("log_parser")):
        raise TaskError(
            f"{where}: a row of SWE-smith in {language}: how its tests run and are read is in the set's own package and not "
            "in the row; a column 'spec' with test_command and log_parser says it"
        )


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


_WRAPPING = ("responses_create_params", "agent_ref")
"""Columns of NeMo Gym beside those of a task."""


def inner_row(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the row that another program's row wraps, or the row itself.

    NeMo Gym's rows hold a task's own row under `instance`, as text under `metadata` of their request, or beside the request.

    Raises:
        TaskError: It wraps none.
    """
    if "responses_create_params" in row and "gold_patch" not in row:
        request = row["responses_create_params"]
        metadata = request.get("metadata") if isinstance(request, Mapping) else None
        wrapped = metadata.get("instance_dict") if isinstance(metadata, Mapping) else None
        inner = row.get("instance") or row.get("instance_dict") or wrapped
        if not inner and {"patch", "problem_statement", "repo"} <= row.keys():
            return {key: value for key, value in row.items() if key not in _WRAPPING}
        if not inner:
            raise TaskError(f"{where}: a row of NeMo Gym without a task in it ('instance'): it cannot be graded here")
        return {"instance": inner, "env_class": "null"}
    return row
