"""Variable-length integers, and a reader that walks over bytes."""

from .errors import DecodeError, Truncated

MAX_BYTES = 10


def encode_uint(number: int) -> bytes:
    """Encode a number that is not negative and has at most 70 bits."""
    if number < 0:
        raise ValueError(f"cannot encode the negative number {number}")
    if number >> (7 * MAX_BYTES):
        raise ValueError(f"{number} is too large")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """Map signed numbers to unsigned ones, small ones to small ones."""
    return number * 2 if number >= 0 else -number * 2 - 1


def unzigzag(number: int) -> int:
    """Undo :func:`zigzag`."""
    return -(number + 1) // 2 if number & 1 else number // 2


def encode_bytes(data: bytes) -> bytes:
    """Encode bytes with their length in front."""
    return encode_uint(len(data)) + data


def encode_text(text: str) -> bytes:
    """Encode a string with its length in front."""
    return encode_bytes(text.encode("utf-8"))


class Reader:
    """A position in some bytes that moves on with everything that is read."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self.end - self.position

    def take(self, count: int) -> bytes:
        """Read so many bytes."""
        if count > self.remaining:
            raise Truncated(f"expected {count} bytes, found {self.remaining}", self.position)
        start = self.position
        self.position += count
        return self.data[start : self.position]

    def byte(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def uint(self) -> int:
        """Read an unsigned varint."""
        start, number = self.position, 0
        for index in range(MAX_BYTES):
            byte = self.byte()
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte == 0 and index > 0:
                    raise DecodeError("varint is not minimal", start)
                return number
        raise DecodeError("varint is too long", start)

    def sint(self) -> int:
        """Read a signed varint."""
        return unzigzag(self.uint())

    def bytes(self) -> bytes:
        """Read bytes with their length in front."""
        return self.take(self.uint())

    def text(self) -> str:
        """Read a string."""
        start = self.position
        try:
            return self.bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError("text is not UTF-8", start) from error

    def finish(self) -> None:
        """Raise if something is left."""
        if self.remaining:
            raise DecodeError(f"{self.remaining} bytes too many", self.position)
