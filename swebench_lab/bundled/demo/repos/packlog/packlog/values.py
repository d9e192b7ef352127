"""Values as bytes: a tag and a payload.

========  ==========================================
tag       payload
========  ==========================================
``N``     none
``T F``   none: true, false
``i``     signed varint
``I``     an integer of any size: sign byte, bytes
``d``     eight bytes, a float
``s b``   string, bytes
``l``     number of items, the items
``m``     number of items, keys and items in turn
========  ==========================================
"""

import struct
from collections.abc import Iterator
from typing import Any

from .errors import DecodeError
from .varint import Reader, encode_bytes, encode_text, encode_uint, zigzag

MAX_DEPTH = 64
_SMALL = 1 << 62


def encode_value(value: Any) -> bytes:
    """Encode a value.

    Raises:
        TypeError: For a type that cannot be stored, naming where it is.
        ValueError: For values nested too deeply.
    """
    return b"".join(_encode(value, "value", 0))


def _encode(value: Any, where: str, depth: int) -> Iterator[bytes]:
    if depth > MAX_DEPTH:
        raise ValueError(f"values are nested more than {MAX_DEPTH} deep")
    if value is None:
        yield b"N"
    elif value is True or value is False:
        yield b"T" if value else b"F"
    elif isinstance(value, int):
        yield _encode_int(value)
    elif isinstance(value, float):
        yield b"d" + struct.pack("<d", value)
    elif isinstance(value, str):
        yield b"s" + encode_text(value)
    elif isinstance(value, (bytes, bytearray)):
        yield b"b" + encode_bytes(bytes(value))
    elif isinstance(value, (list, tuple)):
        yield b"l" + encode_uint(len(value))
        for index, item in enumerate(value):
            yield from _encode(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, dict):
        yield b"m" + encode_uint(len(value))
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys must be strings: {where} has {key!r}")
            yield encode_text(key)
            yield from _encode(item, f"{where}[{key!r}]", depth + 1)
    else:
        raise TypeError(f"cannot store {where} of type {type(value).__name__}")


def _encode_int(number: int) -> bytes:
    if -_SMALL <= number < _SMALL:
        return b"i" + encode_uint(zigzag(number))
    size = (abs(number).bit_length() + 7) // 8
    sign = b"-" if number < 0 else b"+"
    return b"I" + sign + encode_bytes(abs(number).to_bytes(size, "little"))


def decode_value(data: bytes) -> Any:
    """Decode what :func:`encode_value` made. Tuples come back as lists."""
    reader = Reader(data)
    value = read_value(reader)
    reader.finish()
    return value


def read_value(reader: Reader, depth: int = 0) -> Any:
    """Read one value."""
    start = reader.position
    if depth > MAX_DEPTH:
        raise DecodeError("values are nested too deeply", start)
    tag = reader.take(1)
    if tag in _CONSTANTS:
        return _CONSTANTS[tag]
    if tag == b"i":
        return reader.sint()
    if tag == b"I":
        sign = -1 if reader.take(1) == b"-" else 1
        return sign * int.from_bytes(reader.bytes(), "little")
    if tag == b"d":
        return struct.unpack("<d", reader.take(8))[0]
    if tag == b"s":
        return reader.text()
    if tag == b"b":
        return reader.bytes()
    if tag == b"l":
        return [read_value(reader, depth + 1) for _ in range(reader.uint())]
    if tag == b"m":
        return {reader.text(): read_value(reader, depth + 1) for _ in range(reader.uint())}
    raise DecodeError(f"unknown tag {tag!r}", start)


_CONSTANTS = {b"N": None, b"T": True, b"F": False}
