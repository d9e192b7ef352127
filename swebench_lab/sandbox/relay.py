"""Relay: the network of a box with an allow-list: a proxy on the box's own loopback that lets listed hosts through, by name.

The box has no network of its own; programs in it that honour the usual variables (curl, pip, npm, apt, git, cargo) ask here.
Each connection is decided by the host that it names, and noted. An address that is not public, such as one of this machine
or its neighbours, is reached only where the list names it as a number: no name may lead there. Not covered: what is
said inside a connection to a host that is let through.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import threading
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from swebench_lab.errors import SandboxError

log = logging.getLogger(__name__)

PORT = 3128
"""Where the relay listens in a box."""
PREFIX = "allow:"
_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_MOST_HEAD = 64 << 10
_SECONDS = 60.0
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AllowList:
    """Which hosts a box may reach.

    Args:
        text: `allow:` and entries joined by commas: names, `*.suffix` (whatever is below a name), addresses, networks in
            CIDR form, or `*` for every public host.

    Raises:
        ValueError: An entry is none of these.
    """

    def __init__(self, text: str) -> None:
        entries = [entry.strip().lower().rstrip(".") for entry in text.removeprefix(PREFIX).split(",") if entry.strip()]
        self.names: set[str] = set()
        self.networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            try:
                self.networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if not _NAME.fullmatch(entry):
                    raise ValueError(f"network={text!r}: {entry!r} is no host, *.suffix, address or network") from None
                self.names.add(entry)
        if not entries:
            raise ValueError(f"network={text!r} names no host; 'none' is no network at all")

    def lets(self, host: str) -> bool:
        """Whether a host may be asked for, by its name or number."""
        name = host.lower().rstrip(".")
        if (number := _number(name)) is not None:
            return self._lists(number) or ("*" in self.names and number.is_global)
        parts = name.split(".")
        below = {f"*.{'.'.join(parts[n:])}" for n in range(1, len(parts))}
        return bool(self.names & {"*", name, *below})

    def reaches(self, address: str) -> bool:
        """Whether an address that a name has led to may be connected to."""
        number = _number(address)
        return number is not None and (number.is_global or self._lists(number))

    def _lists(self, number: _Address) -> bool:
        return any(number.version == network.version and number in network for network in self.networks)


def _number(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


@dataclass(frozen=True)
class Contact:
    """A connection that a program of a box asked for.

    Attributes:
        host: The host that it named.
        port: The port.
        allowed: Whether it was let through.
    """

    host: str
    port: int
    allowed: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port} {'let through' if self.allowed else 'refused'}"


class _Box(Protocol):
    """What a relay needs of a sandbox."""

    id: str
    relay: Relay | None

    def listen(self, port: int = 0) -> socket.socket: ...
    def close(self) -> None: ...


def attach(box: _Box, allowed: AllowList) -> None:
    """Give a box the network of an allow-list; a box that cannot have one is closed.

    Raises:
        SandboxUnavailable: Boxes of this kind have no loopback of their own.
    """
    try:
        box.relay = Relay(box.listen(PORT), allowed, box.id)
    except SandboxError:
        box.close()
        raise


def variables(port: int = PORT) -> dict[str, str]:
    """Return what makes programs of a box ask the relay."""
    return {**dict.fromkeys(_VARIABLES, f"http://127.0.0.1:{port}"), "no_proxy": "localhost,127.0.0.1,::1",
            "NO_PROXY": "localhost,127.0.0.1,::1"}  # fmt: skip


class Relay:
    """Serves one box until it is closed.

    Args:
        listener: A listening socket of the box's loopback; closed with the relay.
        allowed: Which hosts it lets through.
        box: The box's id, for the log.
    """

    def __init__(self, listener: socket.socket, allowed: AllowList, box: str) -> None:
        self._listener, self._allowlist, self._box = listener, allowed, box
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._contacts: list[Contact] = []
        self._closed = False
        threading.Thread(target=self._serve, name=f"relay-{box}", daemon=True).start()

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """What was asked for so far, in order."""
        with self._lock:
            return tuple(self._contacts)

    def close(self) -> None:
        """End all connections and serve no more."""
        with self._lock:
            self._closed = True
            ends = [self._listener, *self._open]
        for end in ends:
            _shut(end)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed, or the box is gone
                return
            threading.Thread(target=self._handle, args=(client,), name=f"relay-{self._box}", daemon=True).start()

    def _handle(self, client: socket.socket) -> None:
        """Serve one connection; whatever its program or its host does ends this connection alone."""
        with client:
            try:
                client.settimeout(_SECONDS)
                head, rest = _head(client)
                host, port, first = _target(head)
                self._through(client, host, port, first + rest)
            except ValueError:
                _answer(client, "400 Bad Request", "not a request that a proxy takes")
            except OSError as error:
                log.debug("relay of box %s: %s", self._box, error)

    def _through(self, client: socket.socket, host: str, port: int, first: bytes) -> None:
        is_allowed = self._allowlist.lets(host)
        places = _addresses(host, port) if is_allowed else []
        reachable = [place for place in places if self._allowlist.reaches(place[0])]
        contact = Contact(host, port, bool(reachable))
        with self._lock:
            self._contacts.append(contact)
        log.info("relay of box %s: %s", self._box, contact)
        if is_allowed and not places:
            _answer(client, "502 Bad Gateway", f"{host}: this machine does not know where that is")
            return
        if not reachable:
            why = (
                "leads to an address that is not public"
                if is_allowed
                else "is not among the hosts that this box may reach"
            )
            _answer(client, "403 Forbidden", f"{host} {why}")
            return
        try:
            server = socket.create_connection(reachable[0], timeout=_SECONDS)
        except OSError as error:
            _answer(client, "502 Bad Gateway", f"{host}: {error}")
            return
        with server:
            with self._lock:
                self._open |= {client, server}
                if self._closed:
                    return
            try:
                if first:
                    server.sendall(first)
                else:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                client.settimeout(None)
                server.settimeout(None)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()
            finally:
                with self._lock:
                    self._open -= {client, server}


def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    """Return where a host is; nothing where this machine does not know."""
    try:
        entries = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [(str(address[0]), port) for *_, address in entries]


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    """Read the head of a request; returns it, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(_MOST_HEAD)
        if not more or len(data) > _MOST_HEAD:
            raise ValueError("no request")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _target(head: bytes) -> tuple[str, int, bytes]:
    """Return host, port, and what is said to the host first: nothing where a tunnel is asked for."""
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, version = line.split(" ")
    if method == "CONNECT":
        place = urlsplit(f"//{target}")
        if not place.hostname or not place.port:
            raise ValueError(target)
        return place.hostname, place.port, b""
    url = urlsplit(target)
    if url.scheme != "http" or not url.hostname:
        raise ValueError(target)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = [field for field in fields if not field.lower().startswith(("proxy-", "connection:"))]
    text = "\r\n".join([f"{method} {path} {version}", *headers, "Connection: close", "", ""])
    return url.hostname, url.port or 80, text.encode("latin-1")


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        _shut(target)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already


def _answer(client: socket.socket, status: str, text: str) -> None:
    body = f"{text}\n".encode()
    try:
        client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    except OSError:
        pass  # who asked is gone
