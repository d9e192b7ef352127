"""Reading a tar from a stream, member by member: forwards only, and with a bound on what a header may make it hold."""

from __future__ import annotations

import tarfile

TYPE_CHECKING = False  # see `records`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

MOST_HEADER = 16 << 20
"""Bytes that the headers of one member may have, long names and lists of blocks included."""

_PIECE = 1 << 20
_MOST_PADDING = 1 << 20  # zeros after the end, which round archives up to the records of a tape


class Source:
    """A stream as the `tarfile` module wants it.

    It reads a header of any size at once into memory, so the bytes read between two contents are counted.

    Args:
        stream: Has `read`.
    """

    def __init__(self, stream: IO[bytes] | Any) -> None:
        self._stream = stream
        self._position = 0
        self._left: int | None = MOST_HEADER
        self.last = b""

    def in_header(self) -> None:
        """From here on a header is read."""
        self._left = MOST_HEADER

    def in_content(self) -> None:
        """From here on content is read, piece by piece."""
        self._left = None

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or less at the end of the stream."""
        if self._left is not None:
            if not 0 <= size <= self._left:
                raise tarfile.ReadError("a header is longer than any honest one")
            self._left -= size
        parts = []
        while size > 0 and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        self.last = b"".join(parts)
        self._position += len(self.last)
        return self.last

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Pass over bytes; not backwards."""
        if whence or position < self._position:
            raise tarfile.ReadError("an archive is read forwards only")
        while self._position < position and (part := self._stream.read(min(_PIECE, position - self._position))):
            self._position += len(part)
        return self._position

    def check_end(self) -> None:
        """Refuse an archive that does not end as one, or is followed by something else."""
        if self.last.strip(b"\0") or len(self.last) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends too early")
        self.in_content()
        size = 0
        while part := self.read(_PIECE):  # to the end, where compressed ones have their checksum
            size += len(part)
            if part.strip(b"\0") or size > _MOST_PADDING:
                raise tarfile.ReadError("something follows its end")


def members(source: Source, whole: bool) -> Iterator[tuple[tarfile.TarInfo, Callable[[], IO[bytes]] | None]]:
    """Every member of an archive, with how to read its content if it has some, before the next one is asked for.

    Args:
        source: The archive.
        whole: Whether it has to be there to its end.

    Raises:
        tarfile.TarError: It is damaged.
    """
    with tarfile.TarFile(fileobj=source, mode="r") as archive:  # type: ignore[arg-type]
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            yield member, _opener(archive, source, member) if member.isreg() else None
            source.in_header()
    if whole or source.last.strip(b"\0"):
        source.check_end()


def _opener(archive: tarfile.TarFile, source: Source, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def content() -> IO[bytes]:
        source.in_content()
        stream = archive.extractfile(member)
        assert stream is not None, "a regular file has content"
        return stream

    return content
