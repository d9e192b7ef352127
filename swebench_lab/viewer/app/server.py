"""ViewServer: the viewer over HTTP on the loopback: a token, read-only unless asked, and nothing from anywhere else."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from swebench_lab.errors import ConfigError
from swebench_lab.viewer.app.answers import Answer, Answers
from swebench_lab.viewer.app.assets import FILES, asset, shell

_log = logging.getLogger(__name__)
_KINDS = {"js": "text/javascript", "mjs": "text/javascript", "css": "text/css"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LARGEST = 1_000_000
"""Bytes of a request's body."""


class ViewServer:
    """Serves one viewer.

    Args:
        answers: What it answers with.
        port: The port on 127.0.0.1; 0: any that is free.
        base_url: Path under which a proxy shows it, such as `/user/ada/proxy/8765/`; a proxy may also strip it. With a base
            URL any host name is accepted, because a proxy has its own.
        token: What a browser has to know; None: a new one. Without it nothing is answered.

    Raises:
        ConfigError: The port is taken.
    """

    def __init__(self, answers: Answers, port: int = 0, base_url: str = "/", token: str | None = None) -> None:
        self.answers = answers
        self.base = "/" + "/".join(part for part in base_url.split("/") if part)
        self.base = self.base if self.base.endswith("/") else f"{self.base}/"
        self.token = token or secrets.token_urlsafe(24)
        view = self

        class Handler(_Handler):
            server_of_view = view

        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise ConfigError(
                f"serving the viewer on port {port}: {error.strerror}; choose another with --port"
            ) from error
        self._http.daemon_threads = True

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return f"http://127.0.0.1:{self.port}{self.base}?token={self.token}"

    def start(self) -> None:
        """Serve in the background until `close`."""
        self._thread = threading.Thread(target=self._http.serve_forever, name="viewer-http", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the server is closed, or this thread is interrupted."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server_of_view: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "swebench-lab", ""
    timeout = 60

    def do_GET(self) -> None:
        """Send a file of the page, or an answer."""
        parts = urlsplit(self.path)
        params = dict(parse_qsl(parts.query))
        if not self._welcome():
            return
        if "token" in params and self._matches(params["token"]):
            self._enter()
        elif not self._has_access():
            self._send(Answer("text/plain", "This viewer needs its token: open the address that it printed.\n", 401))
        else:
            self._send_for(self._name(parts.path), params)

    do_HEAD = do_GET  # noqa: N815 - the name that the standard library calls

    def do_POST(self) -> None:
        """Do what is asked; other sites cannot ask, because their requests would not be JSON with our cookie."""
        if self._welcome():
            self._send(self._posted(self.headers.get("Content-Length", "")))

    def _posted(self, length: str) -> Answer:
        if not length.isdigit() or int(length) > _LARGEST:
            self.close_connection = True
            return Answer("text/plain", "too large\n", 413)
        body = self.rfile.read(int(length))
        if not self._has_access() or self.headers.get("Content-Type", "").split(";")[0] != "application/json":
            return Answer("text/plain", "not allowed\n", 401)
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        name = self._name(urlsplit(self.path).path)
        if not name.startswith("api/") or not isinstance(data, dict):
            return Answer("text/plain", "no such thing\n", 404)
        return self.server_of_view.answers.post(name.removeprefix("api/"), data)

    # --- who may ask ------------------------------------------------------------------------------------------------

    def _welcome(self) -> bool:
        """Whether the request was meant for this server: a foreign page may point its own name at the loopback."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0] if "Host" in self.headers else ""
        if host in _LOOPBACK or self.server_of_view.base != "/":
            return True
        self.close_connection = True
        self._send(Answer("text/plain", f"not served under the name {host!r}; see --base-url\n", 421))
        return False

    def _has_access(self) -> bool:
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie)
        except CookieError:
            cookie = None
        return self._matches(bearer) or (cookie is not None and self._matches(cookie.value))

    def _matches(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.server_of_view.token.encode())

    @property
    def _cookie(self) -> str:
        return f"swebench-lab-view-{self.server_of_view.port}"

    def _enter(self) -> None:
        """Trade the token of the address for a cookie, so that it stays in no history."""
        self.send_response(303)
        self.send_header("Location", "./")
        base = quote(self.server_of_view.base)
        self.send_header(
            "Set-Cookie", f"{self._cookie}={self.server_of_view.token}; Path={base}; HttpOnly; SameSite=Strict"
        )
        self.send_header("Content-Length", "0")
        self.end_headers()

    # --- what is sent -----------------------------------------------------------------------------------------------

    def _name(self, path: str) -> str:
        """Return a path without the base, whether or not a proxy has stripped it."""
        base = self.server_of_view.base
        return path.removeprefix(base) if path.startswith(base) else path.removeprefix("/")

    def _send_for(self, name: str, params: dict[str, str]) -> None:
        if name == "":
            self._send(Answer("text/html", shell("swebench_lab · runs")))
        elif name in FILES:
            self._send(Answer(_KINDS[name.rpartition(".")[2]], asset(FILES[name])))
        elif name.startswith("api/"):
            self._send(self.server_of_view.answers.get(name.removeprefix("api/"), params))
        else:
            self._send(Answer("text/plain", "no such page\n", 404))

    def _send(self, answer: Answer) -> None:
        data = answer.text.encode("utf-8", "replace")
        self.send_response(answer.status)
        self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if answer.kind != "text/html" or not self.path.rpartition("/")[2].startswith(
            ("page?", "running-page?", "pair?")
        ):
            self.send_header("Content-Security-Policy", _POLICY)
        else:  # an attempt's page brings its own policy, by the hashes of its script and style
            self.send_header("Content-Security-Policy", "frame-ancestors 'self'; sandbox allow-scripts")
        try:
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True  # the page was closed while it waited

    def log_message(self, format: str, *args: Any) -> None:
        """Log to the library's logger, without the token that the first request holds."""
        line = format % args
        _log.debug("%s", line.replace(self.server_of_view.token, "…"))
