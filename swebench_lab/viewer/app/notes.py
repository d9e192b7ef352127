"""Notes and tags that people give to attempts: lines of a file beside the run, of which the last one of an attempt counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecordError

NAME = "notes.jsonl"
LONGEST = 20_000
"""Characters of a note."""
MOST_TAGS, LONGEST_TAG = 30, 60


def write(run: Path, attempt: str, task: str, number: int, note: str, tags: Sequence[str]) -> dict[str, Any]:
    """Keep the note and the tags of an attempt, in place of those that it has.

    Args:
        run: The run directory.
        attempt: The attempt's id in the viewer.
        task: Its task's id, for those who read the file.
        number: Which attempt at the task it is.
        note: The note; empty: none.
        tags: The tags.

    Returns:
        The row that was written.

    Raises:
        RecordError: The note or the tags are too long, or the file cannot be written.
    """
    clean = list(dict.fromkeys(" ".join(str(tag).replace(",", " ").split()) for tag in tags))
    clean = [tag for tag in clean if tag]
    if len(note) > LONGEST or len(clean) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in clean):
        raise RecordError(
            f"keeping a note of {attempt}: at most {LONGEST} characters, and {MOST_TAGS} tags of {LONGEST_TAG} characters"
        )
    row = {"at": time.time(), "attempt": attempt, "task": task, "number": number, "note": note, "tags": clean}
    line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
    try:
        with (run / NAME).open("ab", buffering=0) as file:
            file.write(line)
    except OSError as error:
        raise RecordError(f"keeping a note in {run / NAME}: {error.strerror}") from error
    return row


def read(run: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the rows of a run's notes from a byte on, each with the byte after it; what is no row is left out."""
    try:
        with (run / NAME).open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                start += len(line)
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and isinstance(row.get("attempt"), str):
                    yield row, start
    except OSError:
        return


def size(run: Path) -> int:
    """Return the bytes of a run's notes."""
    try:
        return (run / NAME).stat().st_size
    except OSError:
        return 0


def latest(run: Path) -> dict[str, dict[str, Any]]:
    """Return the row that counts of each attempt that has a note or a tag, by the attempt's id."""
    rows = {row["attempt"]: row for row, _ in read(run)}
    return {attempt: row for attempt, row in rows.items() if row.get("note") or row.get("tags")}
