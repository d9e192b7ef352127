"""Just enough of HTTP/1.1 to serve agents on connections out of a box: bodies of every framing, and answers that stream."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 32 << 20
"""Bytes of a request's body, as it comes and after it was unpacked."""

LINE = 64 << 10
"""Bytes of a line of a request's head."""

_HEADERS = 200
_DRAIN = 2.0  # seconds in which the rest of a refused request is read, so that its sender sees why
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Malformed(ValueError):
    """What came is no request that can be read; the connection is closed after saying so.

    Args:
        status: HTTP status.
        message: What is wrong.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request.

    Args:
        method: In capital letters.
        target: Path and query.
        headers: By names in lower case.
        body: Unpacked.
        version: Of HTTP, such as `1.1`.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    version: str = "1.1"

    @property
    def keeps_open(self) -> bool:
        """Whether the connection may be used again."""
        return self.version != "1.0" and "close" not in self.headers.get("connection", "").lower()


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, admit: Callable[[int], None]
) -> HttpRequest | None:
    """Read the next request of a connection; None when it was closed.

    Args:
        reader: Of the connection.
        writer: Of the connection.
        admit: Called with a number of bytes of a body before they are read; may raise Malformed.

    Raises:
        Malformed: It is no request.
    """
    try:
        first = b"\r\n"
        while first == b"\r\n":  # some clients send an empty line behind a body
            first = await reader.readuntil(b"\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise Malformed(400, "the request ends in its first line") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise Malformed(400, "the first line is too long") from error
    words = first.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed(400, "the first line is not one of HTTP/1.1")
    try:
        headers = await _headers(reader)
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, headers, admit)
    except asyncio.IncompleteReadError as error:
        raise Malformed(400, "the request ends in its middle") from error
    except asyncio.LimitOverrunError as error:
        raise Malformed(431, f"a line of the request's head has more than {LINE} bytes") from error
    if encoding := headers.get("content-encoding", ""):
        size = len(body)
        body = await asyncio.to_thread(decompress, body, encoding)
        admit(len(body) - size)
    return HttpRequest(words[0].upper(), words[1], headers, body, words[2].removeprefix("HTTP/"))


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_HEADERS):
        line = (await reader.readuntil(b"\r\n")).decode("latin-1").rstrip("\r\n")
        if not line:
            return headers
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(400, "a header has no colon")
        headers[name.strip().lower()] = value.strip()
    raise Malformed(400, f"more than {_HEADERS} headers")


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str], admit: Callable[[int], None]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader, admit)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Malformed(400, "content-length is no number")
    if len(length) > 18 or int(length) > LARGEST:
        raise Malformed(413, f"the body has more than {LARGEST} bytes")
    admit(int(length))
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader, admit: Callable[[int], None]) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        line = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
        try:
            length = int(line, 16)
        except ValueError as error:
            raise Malformed(400, "a chunk has no length") from error
        size += length
        if length < 0 or size > LARGEST:
            raise Malformed(413, f"the body has more than {LARGEST} bytes")
        if length == 0:
            while (await reader.readuntil(b"\r\n")).strip():
                pass  # trailers
            return b"".join(parts)
        admit(length)
        parts.append(await reader.readexactly(length))
        await reader.readexactly(2)


def decompress(body: bytes, encoding: str) -> bytes:
    """Return a body without its compressions.

    Raises:
        Malformed: The compression is unknown, the body is damaged, or it is larger than it may be.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",") if part.strip()]):
        if name not in _UNPACK:
            raise Malformed(415, f"content-encoding {name} cannot be read; send gzip, deflate or none")
        try:
            body = _UNPACK[name](body)
        except (zlib.error, OSError, EOFError) as error:
            raise Malformed(400, f"the body is not {name}: {error}") from error
    return body


def _inflate(bits: int) -> Callable[[bytes], bytes]:
    def unpack(body: bytes) -> bytes:
        unpacker = zlib.decompressobj(bits)
        whole = unpacker.decompress(body, LARGEST)
        if unpacker.unconsumed_tail:
            raise Malformed(413, f"the unpacked body has more than {LARGEST} bytes")
        if not unpacker.eof:
            raise Malformed(400, "the compressed body ends in its middle")
        return whole

    return unpack


def _zstd(body: bytes) -> bytes:
    try:
        import zstandard  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise Malformed(415, "content-encoding zstd needs the zstandard package; send gzip or none") from error
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            whole: bytes = reader.read(LARGEST + 1)
    except zstandard.ZstdError as error:
        raise Malformed(400, f"the body is not zstd: {error}") from error
    if len(whole) > LARGEST:
        raise Malformed(413, f"the unpacked body has more than {LARGEST} bytes")
    return whole


_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": _inflate(31),
    "x-gzip": _inflate(31),
    "deflate": _inflate(47),
    "zstd": _zstd,
}


def _head(status: int, kind: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", f"content-type: {kind}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def send_json(
    writer: asyncio.StreamWriter,
    status: int,
    body: Any,
    headers: Mapping[str, str] | None = None,
    with_body: bool = True,
) -> None:
    """Send one answer.

    Args:
        writer: Of the connection.
        status: HTTP status.
        body: JSON value.
        headers: Further headers.
        with_body: Whether the body is sent; the answer to HEAD has none.
    """
    text = json.dumps(body).encode()
    head = _head(status, "application/json", {"content-length": str(len(text)), **(headers or {})})
    writer.write(head + text if with_body else head)
    await writer.drain()


async def send_stream(
    writer: asyncio.StreamWriter, kind: str, pieces: AsyncIterator[bytes], chunked: bool = True
) -> None:
    """Send an answer piece by piece, each as soon as it is there; one that is not chunked ends with the connection."""
    framing = {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
    writer.write(_head(200, kind, {**framing, "cache-control": "no-cache"}))
    await writer.drain()
    async for piece in pieces:
        if piece:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: Malformed) -> None:
    """Say what is wrong with a request, then read on for a moment: who still sends would see a broken connection instead."""
    headers = {"connection": "close", **({"retry-after": "1"} if error.status == 503 else {})}
    await send_json(writer, error.status, {"error": {"message": str(error)}}, headers)
    ends = asyncio.get_running_loop().time() + _DRAIN
    while (left := ends - asyncio.get_running_loop().time()) > 0:
        if not await asyncio.wait_for(reader.read(LINE), left):
            break
