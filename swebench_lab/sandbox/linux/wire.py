"""Messages between client, zygote and init: one JSON object per packet with descriptors, large ones in a memfd.

Bytes may be attached to a message, which whoever only passes them on need not read.
"""

from __future__ import annotations

import json
import os
import socket

from swebench_lab._unix import fcntl
from swebench_lab.sandbox.linux import kernel

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_INLINE = 64 * 1024  # bytes; a packet must fit the send buffer of a Unix socket (about 200 KiB by default)
_LARGE = b"large"
_ATTACHED = b"\0"  # which JSON never holds


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that keep message boundaries and carry descriptors."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(
    channel: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = (), attached: bytes = b""
) -> None:
    """Send one message; safe from several threads at once, because a packet is written whole."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if attached:
        body += _ATTACHED + attached
    if len(body) <= _INLINE:
        socket.send_fds(channel, [body], list(descriptors))
        return
    large = memory_file(body)
    try:
        socket.send_fds(channel, [_LARGE], [large, *descriptors])
    finally:
        os.close(large)


def receive(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive one message and its descriptors (all close-on-exec); None when the other end is gone.

    What was attached to it is its "attached".
    """
    try:
        body, descriptors = kernel.receive(channel)
    except ConnectionResetError:
        return None, []
    if not body:
        return None, descriptors
    if body == _LARGE:
        with open(descriptors.pop(0), "rb") as large:
            body = large.read()
    text, separator, attached = body.partition(_ATTACHED)
    message = json.loads(text)
    if separator:
        message["attached"] = attached
    return message, descriptors


def memory_file(content: bytes) -> int:
    """A descriptor of an anonymous file in memory, positioned at its start, that nobody can change any more."""
    descriptor = os.memfd_create("lab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def close_all(descriptors: Sequence[int]) -> None:
    """Close every descriptor of a list."""
    for descriptor in descriptors:
        os.close(descriptor)
