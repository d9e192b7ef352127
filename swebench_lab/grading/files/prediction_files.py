"""Prediction files: which files hold predictions, alone or in the run folders that agents and harnesses leave.

| folder of | what is read |
|---|---|
| SWE-agent, mini-swe-agent | `preds.json`, else every `<task>.pred` |
| OpenHands | `output.jsonl` |
| Agentless and others | `all_preds.jsonl`, `preds.jsonl`, `predictions.json(l)` |
| SWE-bench's harness, and `Verdicts.save` | `logs/run_evaluation/<run>/<model>/<task>/patch.diff` |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecordError

_NAMED = (
    "preds.json",
    "preds.jsonl",
    "predictions.json",
    "predictions.jsonl",
    "all_preds.json",
    "all_preds.jsonl",
    "output.jsonl",
)
_ENDINGS = (".json", ".jsonl", ".pred")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line or file that is no JSON.

    Args:
        reason: Where it is, and what is wrong.
    """

    reason: str


def read_files(path: Path) -> Iterator[tuple[str, Any, bool]]:
    """Yield where, what, and whether it is one row: a line of a `.jsonl` file is; the content of a `.json` file need not be.

    Args:
        path: A file, or a folder as listed above.

    Raises:
        RecordError: The path cannot be read, its ending is unknown, or the folder holds no predictions, or several files
            that could be them.
    """
    if not path.is_dir():
        yield from _file(path)
        return
    candidates = [path / name for name in _NAMED if (path / name).is_file()]
    if len(candidates) > 1:
        raise RecordError(
            f"reading predictions from {path}: {', '.join(file.name for file in candidates)} could all be them; name one file"
        )
    if candidates:
        yield from _file(candidates[0])
        return
    files = sorted(path.rglob("*.pred"))
    for file in files:
        yield from _file(file, alone=False)
    if files:
        return
    patches = sorted(path.glob("logs/run_evaluation/*/*/*/patch.diff"))
    if runs := sorted({patch.parts[-4] for patch in patches})[1:]:
        raise RecordError(
            f"reading predictions from {path}: it holds {len(runs) + 1} runs ({patches[0].parts[-4]}, {runs[0]} …); name "
            f"the file of predictions of one"
        )
    for patch in patches:
        text = patch.read_bytes().decode("utf-8", "surrogateescape")
        yield (
            str(patch),
            {"instance_id": patch.parts[-2], "model_name_or_path": patch.parts[-3], "model_patch": text},
            True,
        )
    if not patches:
        raise RecordError(
            f"reading predictions from the folder {path}: it holds none of {', '.join(_NAMED)}, no .pred file and no "
            "logs/run_evaluation; give the file of predictions itself"
        )


def _file(path: Path, alone: bool = True) -> Iterator[tuple[str, Any, bool]]:
    """Yield what one file holds; one of many that cannot be read is an `Unreadable`, and does not lose the others."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # bytes: a patch may hold carriage returns that must survive
    except OSError as error:
        raise RecordError(f"reading predictions: {error}") from error
    except UnicodeDecodeError as error:
        if alone:
            raise RecordError(f"reading predictions from {path}: not UTF-8 text at byte {error.start}") from error
        yield str(path), Unreadable(f"{path}: not UTF-8 text at byte {error.start}"), True
        return
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"{path}:{number}", _json(line, f"{path}:{number}"), True
        return
    if path.suffix not in _ENDINGS:
        raise RecordError(f"reading predictions from {path}: the ending must be .json or .jsonl, or .pred")
    content = _json(text, str(path))
    if alone and isinstance(content, Unreadable):
        raise RecordError(f"reading predictions: {content.reason}")
    yield str(path), content, path.suffix == ".pred"


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return Unreadable(f"{where}, line {error.lineno}, column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        return Unreadable(f"{where}: not JSON that can be read: {error}")
