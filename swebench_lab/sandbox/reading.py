"""How files of a box are read, at most so much of them, and how folders go in and out as one archive."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from swebench_lab.errors import SandboxPathError
from swebench_lab.sandbox.layers.archive import unpack_download
from swebench_lab.sandbox.shell.commands import Result, Spool

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


def pack_directory(source: Path) -> bytes:
    """A folder of the host as an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, arcname=".")
    return buffer.getvalue()


def save_directory(pack: Callable[[Spool], Result], path: str, host: Path, most: int) -> None:
    """Unpack a directory of a box into a folder of the host, which it cannot leave."""
    spool = Spool(most)
    with spool.file as archive:
        result = pack(spool)
        if not result.ok or spool.dropped:
            reason = f"more than {most} bytes" if spool.dropped else result.stderr.decode(errors="replace").strip()
            raise SandboxPathError(f"download {path}: {reason}")
        archive.seek(0)
        try:
            unpack_download(archive, str(host))
        except OSError as error:
            raise SandboxPathError(f"download {path} to {host}: {error.strerror}") from error
