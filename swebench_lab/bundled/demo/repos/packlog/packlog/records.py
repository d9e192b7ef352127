"""Records and the frames around them."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from .errors import CorruptLog, DecodeError, Truncated
from .values import encode_value, read_value
from .varint import Reader, encode_bytes, encode_text, encode_uint

HEADER = b"PLOG\x01"
CHECKSUM_SIZE = 4


class Record(ABC):
    """Something that happened."""

    kind: ClassVar[int]
    kinds: ClassVar[dict[int, type["Record"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.kind in Record.kinds:
            raise TypeError(f"record kind {cls.kind} is taken")
        Record.kinds[cls.kind] = cls

    @abstractmethod
    def payload(self) -> bytes:
        """Return the bytes after the kind."""

    @classmethod
    @abstractmethod
    def read(cls, reader: Reader) -> "Record":
        """Read the bytes after the kind."""

    def parts(self) -> Iterator["Record"]:
        """Yield the puts and deletes this record stands for."""
        yield self

    def encode(self) -> bytes:
        """Return the record as bytes."""
        return bytes([self.kind]) + self.payload()

    @staticmethod
    def decode(data: bytes) -> "Record":
        """Read a record, all of the bytes."""
        reader = Reader(data)
        kind = reader.byte()
        if kind not in Record.kinds:
            raise DecodeError(f"unknown kind of record {kind}", 0)
        record = Record.kinds[kind].read(reader)
        reader.finish()
        return record


@dataclass(frozen=True)
class Put(Record):
    """A key got a value; ``expires`` is a time in milliseconds or ``None``."""

    kind = 1
    key: str
    value: Any
    expires: int | None = None

    def payload(self) -> bytes:
        expires = 0 if self.expires is None else self.expires + 1
        return encode_text(self.key) + encode_uint(expires) + encode_value(self.value)

    @classmethod
    def read(cls, reader: Reader) -> "Put":
        key, expires = reader.text(), reader.uint()
        return cls(key, read_value(reader), expires - 1 if expires else None)


@dataclass(frozen=True)
class Delete(Record):
    """A key lost its value."""

    kind = 2
    key: str

    def payload(self) -> bytes:
        return encode_text(self.key)

    @classmethod
    def read(cls, reader: Reader) -> "Delete":
        return cls(reader.text())


@dataclass(frozen=True)
class Group(Record):
    """Several records that count together or not at all."""

    kind = 3
    records: tuple[Record, ...]

    def payload(self) -> bytes:
        encoded = [encode_bytes(record.encode()) for record in self.records]
        return encode_uint(len(encoded)) + b"".join(encoded)

    @classmethod
    def read(cls, reader: Reader) -> "Group":
        records = []
        for _ in range(reader.uint()):
            start = reader.position
            record = Record.decode(reader.bytes())
            if isinstance(record, Group):
                raise DecodeError("a batch inside a batch", start)
            records.append(record)
        return cls(tuple(records))

    def parts(self) -> Iterator[Record]:
        yield from self.records


def frame(record: Record) -> bytes:
    """Return the record with length and checksum in front."""
    body = record.encode()
    return encode_uint(len(body)) + checksum(body) + body


def checksum(body: bytes) -> bytes:
    """Return the checksum of a frame's body."""
    return zlib.crc32(body).to_bytes(CHECKSUM_SIZE, "little")


def read_frames(data: bytes, start: int = 0) -> Iterator[tuple[int, Record]]:
    """Yield every record with the offset of the byte after its frame.

    Stops silently before a last frame that was not written completely: compare
    the last offset with the length of the data to know.

    Raises:
        CorruptLog: For damage before the last frame, or a body that has the
            right checksum and still makes no sense.
    """
    reader = Reader(data, start)
    while reader.remaining:
        offset = reader.position
        try:
            length = reader.uint()
            expected = reader.take(CHECKSUM_SIZE)
            body = reader.take(length)
        except Truncated:
            return
        except DecodeError as error:
            raise CorruptLog(str(error), offset) from error
        if checksum(body) != expected:
            if not reader.remaining:
                return
            raise CorruptLog("wrong checksum of the frame", offset)
        try:
            record = Record.decode(body)
        except DecodeError as error:
            raise CorruptLog(f"unreadable record ({error})", offset) from error
        yield reader.position, record
