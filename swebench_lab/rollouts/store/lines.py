"""Files of JSON lines that several processes append to: whole lines, and nothing lost where a writer died or a disk filled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swebench_lab._unix import lock
from swebench_lab.errors import RecordError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write into an error that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"writing {path}: {error.strerror}; rows written before this are safe. Make room or fix the folder, and "
            "run the same again: it goes on from there"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[Any]:
    """Open a file for appending under an exclusive lock that other processes and threads wait for."""
    with writing(path):
        while True:
            with path.open("a+b", buffering=0) as file:
                lock(file)
                # A repair may have put a new file in place while this one was waited for.
                if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    continue
                file.seek(0)
                yield file
                return


def add(file: Any, data: bytes) -> int:
    """Append one line to an open file, and return where it begins.

    Half a line that a killed writer left is ended first, so that it does not swallow this one. What a full disk took of
    this line is taken back.
    """
    end: int = file.seek(0, os.SEEK_END)
    try:
        start = end
        if end and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            write_all(file, b"\n")
            start += 1
        write_all(file, data)
        return start
    except OSError:
        file.truncate(end)
        raise


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row to a file; when this returns, killing this process no longer loses it.

    Raises:
        RecordError: It cannot be written; the file is as it was.
    """
    with locked(path) as file:
        add(file, line(row))


def line(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line."""
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def write_all(file: Any, data: bytes) -> None:
    """Write all of it: a disk that fills up takes a part and only then refuses."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def complete(path: Path, start: int) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Yield each complete line from an offset on, with the offset after it; None for what is no row."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            for text in file:
                if not text.endswith(b"\n"):
                    return  # still being written
                start += len(text)
                yield row_of(text), start
    except FileNotFoundError:
        return


def row_of(text: bytes) -> dict[str, Any] | None:
    """Return a line as a row; None where it is none."""
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
