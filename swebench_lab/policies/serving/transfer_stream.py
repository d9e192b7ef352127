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
        self._tokens: dict[str, str] = {}  # of each server: a connection says whose it is
        self._weights: Sequence[Weight] = ()
        self._workers: dict[str, int] = {}

    def open(self, replicas: Replicas, weights: Sequence[Weight]) -> None:
        """Listen where the servers can reach this process, and tell them."""
        self._weights = weights
        host = own_address(replicas.urls[0])
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = self._listener.getsockname()[1]
        self._tokens = {url: secrets.token_hex(16) for url in replicas.urls}
        infos = [{"host": host, "port": port, "token": token} for token in self._tokens.values()]
        replicas.each("/init_weight_transfer_engine", [{"init_info": info} for info in infos])
        self._workers = {url: int(replicas.ask(url, "/get_world_size").get("world_size", 1)) for url in replicas.urls}

    def send(self, replicas: Replicas, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Let the workers connect and send them all tensors.

        Raises:
            ServingError: They did not come for them, or broke off.
        """
        replicas.each("/start_weight_update")
        info = {"update_info": {"count": len(self._weights)}}
        with ThreadPoolExecutor(len(replicas.urls)) as pool:
            futures = {url: pool.submit(replicas.ask, url, "/update_weights", info) for url in replicas.urls}
            connections = self._accept(futures)
            try:
                for name, tensor in weights:
                    connections = _send(connections, name, tensor)
                connections = [one for one in connections if _send_parts(one, _frame({}))]
                for one in connections:
                    with suppress(OSError):  # it is gone: its server's own answer says why
                        one.settimeout(TIMEOUT)
                        one.recv(1)  # the worker has loaded all
            finally:
                for one in connections:
                    one.close()
        replicas.answers(futures)
        replicas.each("/finish_weight_update", {"weight_version": str(version)})

    def _accept(self, futures: Mapping[str, Future[Any]]) -> list[socket.socket]:
        """Return connections of all workers that will come; those of servers that failed meanwhile will not."""
        assert self._listener is not None
        self._listener.settimeout(0.2)
        ends = time.monotonic() + TIMEOUT
        here: dict[str, list[socket.socket]] = {url: [] for url in futures}
        while missing := [url for url in futures if len(here[url]) < self._workers[url] and not futures[url].done()]:
            if time.monotonic() > ends:
                waited = f"not all workers of {', '.join(missing)} came for them within {TIMEOUT:g} seconds"
                raise ServingError(f"weights over TCP: {waited}; can they reach this machine?")
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            token = _first_line(connection)
            owners = [url for url in futures if hmac.compare_digest(token, self._tokens[url].encode())]
            if owners:
                connection.settimeout(TIMEOUT)
                here[owners[0]].append(connection)
            else:
                connection.close()
        return [connection for connections in here.values() for connection in connections]

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _first_line(connection: socket.socket) -> bytes:
    """Return the token that a worker starts with; empty where it broke off or says nothing."""
    connection.settimeout(30.0)
    try:
        return connection.makefile("rb").readline(64).strip()
    except OSError:
        return b""


def _send(connections: list[socket.socket], name: str, tensor: Any) -> list[socket.socket]:
    """Send one tensor to all; return those that took it."""
    data = raw(tensor)
    kind = str(tensor.dtype).removeprefix("torch.")
    frame = _frame({"name": name, "dtype": kind, "shape": list(tensor.shape), "bytes": len(data)})
    return [one for one in connections if _send_parts(one, frame, data)]


def _send_parts(connection: socket.socket, *parts: bytes | memoryview) -> bool:
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
