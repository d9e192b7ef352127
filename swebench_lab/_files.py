"""Files and folders: locks that a dead process lets go, JSON that appears whole, digests and sizes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swebench_lab._unix import lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; threads and processes wait for each other, and a dead holder lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        lock(file)
        yield


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object a file holds; None when there is no such file or it holds something else."""
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object to a file that appears whole, and make sure that it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    with temporary.open("w") as file:
        json.dump(values, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text to a file, whose folders are made; return its path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")
    return target


def digest_of(*values: Any) -> str:
    """Return a hash of plain values: 32 hexadecimal digits of sha256 over their canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def walk(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder, links not followed."""
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield Path(where, name)


def size_of(folder: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Return the bytes a folder takes on the disk; a file with several names counts once within `seen`."""
    seen = set() if seen is None else seen
    total = 0
    for path in walk(folder):
        try:
            status = path.lstat()
        except FileNotFoundError:  # a builder may be renaming
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


LONGEST_NAME = 200
"""Bytes of a file's name that leave room for endings below the 255 that file systems allow."""


def safe_name(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a text as the name of a file or folder; two different texts never get the same name.

    Letters, digits and `._+-` stay; a text of nothing else that is short enough and begins with none of `.-` is its own
    name. Any other gets a digest at its end.

    Args:
        text: The text, such as a task's id.
        longest: Bytes that the name may have.
    """
    harmless = "".join(c if c.isalnum() or c in "._+-" else "_" for c in text)
    if harmless == text and text[:1] not in ("", ".", "-") and "~" not in text and len(text.encode()) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    head = harmless.lstrip(".-").encode("utf-8", "replace")[: longest - 17].decode("utf-8", "ignore")
    return f"{head}~{digest}"
