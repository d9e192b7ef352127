"""Where the bytes of a log are: in memory or in a file."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType


class Storage(ABC):
    """A growing row of bytes."""

    @abstractmethod
    def size(self) -> int:
        """Return the number of bytes."""

    @abstractmethod
    def read(self) -> bytes:
        """Return all bytes."""

    @abstractmethod
    def append(self, data: bytes) -> None:
        """Add bytes at the end."""

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Cut off what is behind the first ``size`` bytes."""

    @abstractmethod
    def replace(self, data: bytes) -> None:
        """Put these bytes in the place of all bytes, at once."""

    def sync(self) -> None:
        """Make sure that what was written stays."""

    def close(self) -> None:
        """Let go of the storage; it can be called twice."""

    def __enter__(self) -> "Storage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryStorage(Storage):
    """Keeps the bytes in memory; they survive ``close``, so that a log can be opened again."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.syncs = 0

    def size(self) -> int:
        return len(self.data)

    def read(self) -> bytes:
        return bytes(self.data)

    def append(self, data: bytes) -> None:
        self.data += data

    def truncate(self, size: int) -> None:
        del self.data[size:]

    def replace(self, data: bytes) -> None:
        self.data = bytearray(data)

    def sync(self) -> None:
        self.syncs += 1


class FileStorage(Storage):
    """Keeps the bytes in a file, which is made when it is not there."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self.path.open("a+b")

    def size(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    def truncate(self, size: int) -> None:
        self._file.truncate(size)

    def replace(self, data: bytes) -> None:
        # a crash leaves either the old file or the new one, never a half
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._file.close()
        fresh.replace(self.path)
        self._file = self.path.open("a+b")

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
