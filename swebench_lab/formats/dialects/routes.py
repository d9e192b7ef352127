"""Routes: which dialect and which question a request is, told by its path first, then by its headers and its body."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from swebench_lab.formats.dialects import anthropic, chat, google, responses
from swebench_lab.formats.dialects.exchange import DEPTH, Answer, Json, Refused, Request, canonical_json, is_deeper

_GOOGLE = re.compile(r"/models/(.+):(generatecontent|streamgeneratecontent|counttokens)$", re.IGNORECASE)
_MODELS = re.compile(r"/models(/[^/]+(/[^/]+)?)?$")
_BYTES_PER_TOKEN = 4
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Dialect(Protocol):
    """What a module of a dialect offers, `read` aside."""

    def write(self, answer: Answer, request: Request) -> Json:
        """Return an answer as one object."""

    def events(self, answer: Answer, request: Request) -> Iterator[bytes]:
        """Yield an answer as a stream."""

    def error(self, refused: Refused) -> Json:
        """Return an error."""

    def error_event(self, refused: Refused) -> bytes:
        """Return the event that ends a stream with an error."""

    def overflow(self, tokens: int, limit: int) -> str:
        """Return what is said of a conversation that is too long."""

    def models(self, name: str) -> Any:
        """Return the list of models."""


DIALECTS: Mapping[str, Dialect] = {
    "chat": chat,
    "responses": responses,
    "anthropic": anthropic,
    "google": google,
}
"""The dialects by name."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a request is about.

    Args:
        kind: `reply` (a model call), `count` (of tokens), `models`, `model`, `health` or `unknown`.
        dialect: Name of its dialect.
        model: The model that the path names; empty where the body does.
        stream: Whether the path asks for a stream.
        events: Whether that stream is to be of server-sent events.
    """

    kind: str
    dialect: str
    model: str = ""
    stream: bool = False
    events: bool = True


def route(method: str, target: str, headers: Mapping[str, str]) -> Route:
    """Return what a request is about.

    Args:
        method: Of HTTP.
        target: Path and query.
        headers: By names in lower case.
    """
    url = urlsplit(target)
    path = unquote(url.path).rstrip("/")
    if matched := _GOOGLE.search(path):
        verb = matched[2].lower()
        events = parse_qs(url.query).get("alt", [""])[0] == "sse"
        kind = "count" if verb == "counttokens" else "reply"
        return Route(kind, "google", matched[1], verb == "streamgeneratecontent", events)
    dialect = "anthropic" if "anthropic-version" in headers else "google" if "x-goog-api-key" in headers else "chat"
    if method in ("GET", "HEAD"):
        if matched := _MODELS.search(path):
            return Route("model" if matched[1] else "models", "google" if "/v1beta" in path else dialect)
        return Route("health" if path in ("", "/v1", "/health") else "unknown", dialect)
    for end, kind, name in (
        ("/chat/completions", "reply", "chat"),
        ("/responses", "reply", "responses"),
        ("/messages", "reply", "anthropic"),
        ("/messages/count_tokens", "count", "anthropic"),
    ):
        if path.endswith(end):
            return Route(kind, name)
    return Route("unknown", dialect)


def key(target: str, headers: Mapping[str, str]) -> str:
    """Return the key that a request came with; empty without one."""
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if headers.get(name):
            return headers[name].strip()
    bearer = headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    return parse_qs(urlsplit(target).query).get("key", [""])[0]


def read(route: Route, body: bytes) -> Request:
    """Read the body of a model call.

    Raises:
        Refused: It is no JSON object, or cannot be answered.
    """
    try:
        content = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body of the request is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise Refused(400, "the body of the request is not a JSON object")
    if is_deeper(content, DEPTH):
        raise Refused(400, f"the body of the request is nested more than {DEPTH} levels deep")
    if _ESCAPED_HALF.search(body):  # agents cut texts, and some cut a character in two: no tokenizer takes a half
        content = json.loads(_HALF.sub("\ufffd", canonical_json(content)))
    if route.dialect == "google":
        request = google.read(content, route.model, route.stream, route.events)
    else:
        request = {"chat": chat.read, "responses": responses.read, "anthropic": anthropic.read}[route.dialect](content)
    if not request.messages:
        raise Refused(400, "the conversation is empty: at least one message is required")
    return request


def count(route: Route, body: bytes) -> Json:
    """Answer how many tokens a request has: an estimate by its length, as no model is asked."""
    tokens = max(1, len(body) // _BYTES_PER_TOKEN)
    return {"totalTokens": tokens} if route.dialect == "google" else {"input_tokens": tokens}


def models(route: Route, name: str) -> Any:
    """Answer which models there are: the one that is served, whatever the agent calls it; or what that one is."""
    listed = DIALECTS[route.dialect].models(name)
    return listed if route.kind == "models" else next(value[0] for value in listed.values() if isinstance(value, list))
