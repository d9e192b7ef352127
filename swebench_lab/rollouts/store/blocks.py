"""Blocks: files of records with a length and a checksum each, so that a torn end is seen and set aside."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.rollouts.store import lines

_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"lab\x02"
HEAD_BYTES = _HEAD.size
"""Bytes before the content of a block: what it is, its checksum, its length."""


def framed(content: bytes) -> bytes:
    """Return a block of some content."""
    return _HEAD.pack(_MAGIC, zlib.crc32(content), len(content)) + content


def append(file: Any, content: bytes) -> int:
    """Append a block to an unbuffered file that nobody else writes to now; return where it begins.

    Raises:
        OSError: It cannot be written; what the disk took of it is taken back.
    """
    end: int = file.seek(0, os.SEEK_END)
    try:
        lines.write_all(file, framed(content))
    except OSError:
        file.truncate(end)
        raise
    return end


def read(path: Path, at: int) -> bytes:
    """Return the content of the block that begins at a byte.

    Raises:
        RecordError: There is none, it ends too early, or its checksum is another.
    """
    with path.open("rb") as file:
        file.seek(at)
        content = _content(file)
    if content is None:
        raise RecordError(
            f"reading {path}, byte {at}: no whole block; the file was cut off or changed after it was written"
        )
    return content


def scan(path: Path, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """Yield where each block begins, with its content; last the start of what is no whole block, with None."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while start < end:
            file.seek(start)
            content = _content(file)
            yield start, content
            if content is None:
                return
            start += HEAD_BYTES + len(content)


def _content(file: Any) -> bytes | None:
    head = file.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    magic, checksum, size = _HEAD.unpack(head)
    if magic != _MAGIC or size > os.fstat(file.fileno()).st_size - file.tell():
        return None
    content: bytes = file.read(size)
    return content if len(content) == size and zlib.crc32(content) == checksum else None
