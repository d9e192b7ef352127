"""Digests: short names of requests and messages, by which calls that go on from each other are found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from swebench_lab.agents.external import translation
from swebench_lab.formats.dialects.exchange import Request, ToolUse, canonical_json

_NUMBERS = re.compile(r"\d+")
_OTHER = re.compile(r"(?:\\[nrt]|\W)+")  # agents quote prompts, and fold their lines
_OPENING = 8  # messages among which an agent's prompt is: some put their rules before it, as a talk
_PROMPT = 300  # characters that it is known by


def frame_of(request: Request) -> str:
    """Return a digest of the tools and the system prompt, which tell one kind of work from another; numbers aside."""
    system = []
    for message in request.messages:
        if message["role"] != "system":
            break
        system.append(_NUMBERS.sub("0", message["content"]))
    return digest([system, [tool["name"] for tool in request.tools]])


def begins_work(request: Request, prompt: str) -> bool:
    """Return whether a request has tools, and a conversation that begins with a prompt; letters and digits count."""
    start = _OTHER.sub("", prompt)[:_PROMPT]
    users = [message["content"] for message in request.messages[:_OPENING] if message["role"] == "user"]
    return bool(start and request.tools) and any(start in _OTHER.sub("", text) for text in users)


def digest(value: Any) -> str:
    """Return a short name of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def message_digest(message: Mapping[str, Any]) -> str:
    """Return a short name of a message of a request, whatever its calls are named."""
    if message["role"] == "assistant":
        return digest(["assistant", translation.identity_of(dict(message))])
    return digest([message["role"], message["content"].strip()])


def reply_digest(text: str, calls: Sequence[ToolUse]) -> str:
    """Return the `message_digest` of what was answered, as it will come back."""
    return digest(["assistant", translation.identity(text, [(call.name, call.arguments) for call in calls])])
