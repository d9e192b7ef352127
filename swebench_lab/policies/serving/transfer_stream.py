"""Stream: weights to vLLM's workers over TCP, one tensor after the other; see `engine_plugin` for the other side."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import struct
import time
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from swebench_lab.errors import ServingError
from swebench_lab.policies.serving.replicas import TIMEOUT, Replicas
from swebench_lab.policies.serving.tensors import raw
from swebench_lab.policies.trainable import Weight


class StreamTransfer:
    """Listens, and sends every tensor to each worker that connects with the right token."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._token = secrets.token_hex(16)
        self._weights: Sequence[Weight] = ()
        self._workers: dict[str, int] = {}

    def open(self, replicas: Replicas, weights: Sequence[Weight]) -> None:
        """Listen where the servers can reach this process, and tell them."""
        self._weights = weights
        host = own_address(replicas.urls[0])
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = self._listener.getsockname()[1]
        replicas.each("/init_weight_transfer_engine", {"init_info": {"host": host, "port": port, "token": self._token}})
        self._workers = {url: int(replicas.ask(url, "/get_world_size").get("world_size", 1)) for url in replicas.urls}

    def send(self, replicas: Replicas, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Let the workers connect and send them all tensors.

        Raises:
            ServingError: They did not come for them, or broke off.
        """
        replicas.each("/start_weight_update")
        info = {"update_info": {"count": len(self._weights)}}
        with ThreadPoolExecutor(len(replicas.urls)) as pool:
            asked = {url: pool.submit(replicas.ask, url, "/update_weights", info) for url in replicas.urls}
            connections = self._accept(asked)
            try:
                for name, tensor in weights:
                    connections = _send(connections, name, tensor)
                connections = [one for one in connections if _sent(one, _frame({}))]
                for one in connections:
                    with suppress(OSError):  # it is gone: its server's own answer says why
                        one.settimeout(TIMEOUT)
                        one.recv(1)  # the worker has loaded all
            finally:
                for one in connections:
                    one.close()
        replicas.answers(asked)
        replicas.each("/finish_weight_update", {"weight_version": str(version)})

    def _accept(self, asked: Mapping[str, Future[Any]]) -> list[socket.socket]:
        """Return connections of all workers that will come; those of servers that failed meanwhile will not."""
        assert self._listener is not None
        self._listener.settimeout(0.2)
        ends = time.monotonic() + TIMEOUT
        here: list[socket.socket] = []
        while len(here) < sum(self._workers[url] for url, future in asked.items() if not future.done()):
            if time.monotonic() > ends:
                raise ServingError(f"weights over TCP: {len(here)} workers came for them within {TIMEOUT:g} seconds")
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(TIMEOUT)
            if hmac.compare_digest(connection.makefile("rb").readline(64).strip(), self._token.encode()):
                here.append(connection)
            else:
                connection.close()
        return here

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _send(connections: list[socket.socket], name: str, tensor: Any) -> list[socket.socket]:
    """Send one tensor to all; return those that took it."""
    data = raw(tensor)
    kind = str(tensor.dtype).removeprefix("torch.")
    frame = _frame({"name": name, "dtype": kind, "shape": list(tensor.shape), "bytes": len(data)})
    return [one for one in connections if _sent(one, frame, data)]


def _sent(connection: socket.socket, *parts: bytes | memoryview) -> bool:
    """Whether a connection took all of it; where it did not, the server's own answer says why."""
    try:
        for part in parts:
            connection.sendall(part)
    except OSError:
        connection.close()
        return False
    return True


def _frame(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text


def own_address(url: str) -> str:
    """Return this machine's address as a server sees it."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    kind, _, _, _, address = socket.getaddrinfo(host, parts.port or 80, type=socket.SOCK_DGRAM)[0]
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing
        return str(probe.getsockname()[0])
