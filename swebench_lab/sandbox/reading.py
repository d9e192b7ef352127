"""How much of a box's files is read into memory, and the error that says it was too much."""

from collections.abc import Iterator

from swebench_lab.errors import SandboxPathError

MOST_READ = 256 << 20
"""Bytes of a file of a box that are read into memory when nothing else is said."""


def bounded(pieces: Iterator[bytes], path: str, most: int) -> Iterator[bytes]:
    """The pieces of a file; an error once there is more than `most` bytes of it."""
    read = 0
    for piece in pieces:
        read += len(piece)
        if read > most:
            raise too_large(path, most)
        yield piece


def too_large(path: str, most: int) -> SandboxPathError:
    """Say that a file of a box holds more than may be read."""
    return SandboxPathError(f"read {path} in the box: it holds more than {most} bytes; say how much is fine with most=")
