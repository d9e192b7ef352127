"""IndexRelay: a package index for one box, answered on the host from the indexes that this user has set, and nothing else.

A build runs what a repository's author wrote. It sees one address on its own loopback: no other machine, no service of
this one, no password of an index. Pages come without what was published after a date, so pip, uv and setup.py obey it
alike. Links in pages lead back here; only what a page has named is fetched.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import logging
import netrc
import os
import re
import secrets
import shutil
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

PUBLIC = "https://pypi.org/simple"
"""The index where this user has set none."""

_JSON, _HTML = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html"
_ASK = f"{_JSON}, {_HTML};q=0.2, text/html;q=0.1"
_SECONDS = 120.0
_MOST_PAGE = 256 << 20  # bytes
_FORWARDED = ("Content-Type", "Content-Length", "Content-Range", "ETag", "Last-Modified")


@dataclass(frozen=True)
class Upstream:
    """An index or a page of links.

    Attributes:
        url: Its address, with whatever login is in it.
        is_index: Whether it has a page for each project; otherwise it is one page of links.
    """

    url: str
    is_index: bool = True


def upstreams(settings: Mapping[str, str]) -> tuple[Upstream, ...]:
    """Return the indexes of other machines that the settings of uv and pip name, the first one first.

    Args:
        settings: Variables such as `UV_DEFAULT_INDEX`; those of `uv_runs.index_settings` among them.
    """
    first = settings.get("UV_DEFAULT_INDEX") or settings.get("UV_INDEX_URL") or settings.get("PIP_INDEX_URL") or PUBLIC
    extra = " ".join(
        settings.get(name, "") for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
    ).split()
    links = " ".join(settings.get(name, "") for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS")).replace(",", " ").split()
    candidates = [Upstream(re.sub(r"^[\w-]+=(?=https?:)", "", url)) for url in (first, *extra)]
    candidates += [Upstream(url, is_index=False) for url in links]
    return tuple(dict.fromkeys(one for one in candidates if one.url.startswith(("http://", "https://"))))


class IndexRelay:
    """Serves a listening socket for as long as it is open.

    Args:
        listener: Where a box connects to; closed with the relay.
        indexes: What may be asked.
        exclude_newer: `YYYY-MM-DD`; files published after that day are left out. Empty: none are. What an index does
            not date stays, and is named in the log.
    """

    def __init__(self, listener: socket, indexes: Iterable[Upstream], exclude_newer: str = "") -> None:
        self._indexes = tuple(indexes)
        # As uv reads a date: that day is still part of it.
        self._newest = (date.fromisoformat(exclude_newer) + timedelta(days=1)).isoformat() if exclude_newer else ""
        self._port = int(listener.getsockname()[1])
        self._addresses: dict[str, str] = {}  # token to address
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._openers = _opener()
        handler = type("Handler", (_Handler,), {"relay": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.server_address = listener.getsockname()
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="index-relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def variables(self) -> dict[str, str]:
        """Return what makes pip and uv in the box use it."""
        base = f"http://127.0.0.1:{self._port}"
        pages = [f"{base}/index/{number}/" for number, one in enumerate(self._indexes) if one.is_index]
        links = " ".join(f"{base}/links/{number}/" for number, one in enumerate(self._indexes) if not one.is_index)
        first, rest = (pages or [f"{base}/none/"])[0], " ".join(pages[1:])
        result = {"UV_DEFAULT_INDEX": first, "PIP_INDEX_URL": first, "UV_INSECURE_HOST": "127.0.0.1"}
        result |= (
            {"UV_INDEX": rest, "PIP_EXTRA_INDEX_URL": rest, "UV_INDEX_STRATEGY": "unsafe-best-match"} if rest else {}
        )
        return result | ({"UV_FIND_LINKS": links, "PIP_FIND_LINKS": links} if links else {})

    # --- pages --------------------------------------------------------------------------------------------------------

    def page(self, number: int, project: str, accept: str) -> tuple[str, bytes]:
        """Return the type and content of a page, for one who accepts some types.

        Raises:
            OSError: The index cannot be reached, or has no such page.
            ValueError: There is no such index.
        """
        if not 0 <= number < len(self._indexes):
            raise ValueError(f"no index {number}")
        one = self._indexes[number]
        url = f"{one.url.rstrip('/')}/{project}/" if one.is_index else one.url
        with self._fetch(url, {"Accept": _ASK}) as answer:
            text = answer.read(_MOST_PAGE).decode("utf-8", "replace")
            kind, final = answer.headers.get_content_type(), answer.geturl()
        files = _files_of_json(text, final) if kind == _JSON else _files_of_html(text, final)
        files = [{**file, "url": self._local(file["url"], file)} for file in self._in_time(files, project)]
        if _JSON in accept:
            body = {"meta": {"api-version": "1.1"}, "name": project, "files": files, "versions": []}
            return _JSON, json.dumps(body).encode()
        return "text/html; charset=utf-8", _as_html(files).encode()

    def _in_time(self, files: list[dict[str, Any]], project: str) -> list[dict[str, Any]]:
        if not self._newest:
            return files
        undated = sum(not file.get("upload-time") for file in files)
        if undated:
            log.warning("%s: %d files of the index bear no date, and are not left out", project or "links", undated)
        return [file for file in files if str(file.get("upload-time") or "") < self._newest]

    def _local(self, url: str, file: Mapping[str, Any]) -> str:
        """Return where the box finds a file; its name stays last, for whoever reads it off the address."""
        plain = url.partition("#")[0]
        with self._lock:
            token = self._tokens.setdefault(plain, secrets.token_hex(8))
            self._addresses[token] = plain
        name = str(file.get("filename") or plain.rpartition("/")[2])
        return f"http://127.0.0.1:{self._port}/file/{token}/{urllib.parse.quote(name)}"

    # --- files --------------------------------------------------------------------------------------------------------

    def file(self, token: str, name: str, headers: Mapping[str, str]) -> Any:
        """Open a file that a page has named, or the metadata beside it.

        Raises:
            OSError: It cannot be had.
            KeyError: No page has named it.
        """
        url = self._addresses[token] + (".metadata" if name.endswith(".metadata") else "")
        return self._fetch(url, headers)

    def _fetch(self, url: str, headers: Mapping[str, str]) -> Any:
        plain, login = _without_login(url)
        if not plain.startswith(("http://", "https://")):
            raise OSError("not an address of the web")
        if not login and (match := self._login_of(plain)):
            login = match
        request_headers = {"User-Agent": "swebench_lab", **headers, **({"Authorization": login} if login else {})}
        return self._openers.open(urllib.request.Request(plain, headers=request_headers), timeout=_SECONDS)

    def _login_of(self, url: str) -> str:
        """Return the login of the index that a file's address is of the same machine as; else what `.netrc` has."""
        host = urllib.parse.urlsplit(url).netloc
        for one in self._indexes:
            plain, login = _without_login(one.url)
            if login and urllib.parse.urlsplit(plain).netloc == host:
                return login
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if entry := netrc.netrc(os.environ.get("NETRC")).hosts.get(host.partition(":")[0]):
                return _basic(entry[0], entry[2] or "")
        return ""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection from the box."""

    relay: IndexRelay
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
        try:
            if (
                parts[0] in ("index", "links")
                and len(parts) == (3 if parts[0] == "index" else 2)
                and parts[1].isdigit()
            ):
                project = re.sub(r"[^A-Za-z0-9._-]", "", parts[2]) if parts[0] == "index" else ""
                self._say(200, *self.relay.page(int(parts[1]), project, self.headers.get("Accept", "")), body)
            elif parts[0] == "file" and len(parts) == 3:
                self._pass_on(parts[1], parts[2], body)
            else:
                self._say(404, "text/plain", b"no such page", body)
        except urllib.error.HTTPError as error:
            self._say(error.code, "text/plain", b"the index refused", body)
        except (KeyError, ValueError):
            self._say(404, "text/plain", b"no page has named this", body)
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True
        except OSError as error:
            log.warning("package index: %s", error)
            self._say(502, "text/plain", b"the index does not answer", body)

    def _pass_on(self, token: str, name: str, body: bool) -> None:
        headers = {key: self.headers[key] for key in ("Range", "If-None-Match") if key in self.headers}
        with self.relay.file(token, name, headers) as answer:
            self.send_response(answer.status)
            for key in _FORWARDED:
                if key in answer.headers:
                    self.send_header(key, answer.headers[key])
            self.send_header("Accept-Ranges", "bytes")
            if "Content-Length" not in answer.headers:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if body:
                shutil.copyfileobj(answer, self.wfile)

    def _say(self, code: int, kind: str, content: bytes, body: bool) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        log.debug("index relay: %s", format % values)


# --- pure helpers -----------------------------------------------------------------------------------------------------


def _files_of_json(text: str, base: str) -> list[dict[str, Any]]:
    files = json.loads(text).get("files", [])
    return [{**file, "url": urllib.parse.urljoin(base, str(file["url"]))} for file in files if isinstance(file, dict)]


def _files_of_html(text: str, base: str) -> list[dict[str, Any]]:
    files = []
    for tag, name in re.findall(r"<a\s([^>]*)>(.*?)</a>", text, re.IGNORECASE | re.DOTALL):
        facts = {
            key.lower(): html.unescape(value) for key, _, value in re.findall(r"([\w-]+)\s*=\s*([\"'])(.*?)\2", tag)
        }
        url, _, mark = urllib.parse.urljoin(base, facts.get("href", "")).partition("#")
        kind, _, value = mark.partition("=")
        file: dict[str, Any] = {"filename": html.unescape(name.strip()) or url.rpartition("/")[2], "url": url,
                                "hashes": {kind: value} if value else {}}  # fmt: skip
        if "data-requires-python" in facts:
            file["requires-python"] = facts["data-requires-python"]
        if "data-yanked" in facts:
            file["yanked"] = facts["data-yanked"] or True
        if beside := facts.get("data-core-metadata") or facts.get("data-dist-info-metadata"):
            kind, _, value = beside.partition("=")
            file["core-metadata"] = {kind: value} if value else True
        files.append(file)
    return files


def _as_html(files: Iterable[Mapping[str, Any]]) -> str:
    lines = ["<!DOCTYPE html><html><head><meta name='pypi:repository-version' content='1.0'></head><body>"]
    for file in files:
        mark = next((f"#{kind}={value}" for kind, value in (file.get("hashes") or {}).items()), "")
        facts = f' href="{html.escape(str(file["url"]) + mark)}"'
        if requires := file.get("requires-python"):
            facts += f' data-requires-python="{html.escape(str(requires))}"'
        if yanked := file.get("yanked"):
            facts += f' data-yanked="{html.escape(yanked if isinstance(yanked, str) else "")}"'
        beside = file.get("core-metadata")
        if beside:
            values = [f"{kind}={value}" for kind, value in beside.items()] if isinstance(beside, Mapping) else ["true"]
            facts += f' data-core-metadata="{html.escape(values[0] if values else "true")}"'
        lines.append(f"<a{facts}>{html.escape(str(file.get('filename', '')))}</a><br>")
    return "\n".join([*lines, "</body></html>"])


def _without_login(url: str) -> tuple[str, str]:
    """Return an address without user and password, and the header that they make."""
    parts = urllib.parse.urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    user, _, password = login.partition(":")
    plain = urllib.parse.urlunsplit(parts._replace(netloc=host))
    return plain, _basic(urllib.parse.unquote(user), urllib.parse.unquote(password))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, and leaves the login behind where they lead to another machine."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        after = super().redirect_request(req, fp, code, msg, headers, newurl)
        if after is not None and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            after.remove_header("Authorization")
        return after


def _opener() -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"):
        file = os.environ.get(name, "")
        if file and Path(file).is_file():
            context.load_verify_locations(cafile=file)
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Redirects())
