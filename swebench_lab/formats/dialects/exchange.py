"""Request and Answer: what an agent asked and what it is answered, in one form for all dialects.

A message is a plain object: `role` (`system`, `user`, `assistant` or `tool`) and `content` (a text); an assistant's may
have `reasoning`, `signature` and `tool_calls` (objects of `id`, `name` and `arguments`, a JSON text), a tool's has
`tool_call_id`. Reading keeps the order of messages, and equal requests are read alike, so that a conversation that goes
on begins with what it was before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

FUNCTION_NAME = 64
"""Characters that every endpoint takes as the name of a function."""

DEPTH = 100
"""Lists and objects inside each other, in a body: schemas have less, and records are written by recursion."""


class Refused(ValueError):
    """A request that cannot be answered as it is.

    Args:
        status: HTTP status.
        message: What is wrong, in the words agents look for.
        kind: `invalid`, `unauthorized`, `unknown`, `rate`, `overflow`, `overloaded` or `internal`.
    """

    def __init__(self, status: int, message: str, kind: str = "invalid") -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a function.

    Args:
        id: What its result will name.
        name: The function.
        arguments: A JSON object, as text.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one exchange; `prompt` counts the `cached` ones, and `completion` those of the reasoning."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent asked.

    Args:
        dialect: Which dialect it asked in.
        model: The model's name, as the agent has it.
        messages: The conversation, in the form above.
        tools: Functions that may be called: `name`, `description`, `parameters` (a JSON schema).
        stream: Whether the answer is to come as events.
        asked: Sampling parameters and other wishes, as the agent wrote them.
        stripped: What was left out because a provider would carry it out outside of the box, or no text can hold it.
        custom: Functions that take one free text, and are answered so: their names.
        shell: Whether the agent has the dialect's own shell tool.
        usage: Whether a stream ends with the tokens (a wish of the chat dialect).
        events: Whether a stream is of server-sent events; only Google's has another form.
    """

    dialect: str
    model: str
    messages: tuple[Json, ...]
    tools: tuple[Json, ...] = ()
    stream: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)
    stripped: tuple[str, ...] = ()
    custom: frozenset[str] = frozenset()
    shell: bool = False
    usage: bool = False
    events: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent is answered.

    Args:
        id: A name that no other answer has, of letters, digits and underscores.
        text: What is said.
        calls: What is called.
        finish: `stop`, `length` or `tool_calls`.
        reasoning: What was thought before.
        signature: What the agent sends back with the reasoning.
        usage: Tokens.
        model: Who answered.
        created: Unix time, in whole seconds.
    """

    id: str
    text: str = ""
    calls: tuple[ToolUse, ...] = ()
    finish: str = "stop"
    reasoning: str = ""
    signature: str = ""
    usage: Usage = Usage()
    model: str = ""
    created: int = 0


class Stripping:
    """Collects what is left out of a request while it is read."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, name: str) -> None:
        """Note one thing, once."""
        if name not in self.names:
            self.names.append(name)

    def text(self, parts: Any, where: str) -> str:
        """Return the text of a content: a text, or a list of parts of which only texts are kept.

        Raises:
            Refused: It is neither.
        """
        if parts is None:
            return ""
        if isinstance(parts, str):
            return parts
        if not isinstance(parts, list):
            raise Refused(400, f"{where}: expected a text or a list of parts")
        texts = []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                texts.append(self.placeholder(part))
        return "\n".join(texts)

    def placeholder(self, part: Any) -> str:
        """Note a part that is no text, and return what stands in its place."""
        kind = str(part.get("type") or next(iter(part), "part")) if isinstance(part, dict) else type(part).__name__
        self.add(f"content {kind}")
        return f"[{kind} left out]"


def object_of(value: Any, where: str) -> Json:
    """Return a value that has to be an object.

    Raises:
        Refused: It is none.
    """
    if not isinstance(value, dict):
        raise Refused(400, f"{where}: expected an object")
    return value


def list_of(value: Any, where: str) -> list[Any]:
    """Return a value that has to be a list, or nothing.

    Raises:
        Refused: It is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refused(400, f"{where}: expected a list")
    return value


def text_of(value: Any, where: str) -> str:
    """Return a value that has to be a text.

    Raises:
        Refused: It is none.
    """
    if not isinstance(value, str):
        raise Refused(400, f"{where}: expected a text")
    return value


def arguments_of(text: str) -> Json:
    """Return the arguments of a call as an object; what is none, under the name `input`."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"input": text}
    return value if isinstance(value, dict) else {"input": text}


def canonical_json(value: Any) -> str:
    """Return a JSON value as text, always in the same way."""
    return json.dumps(value, ensure_ascii=False)


def function(name: Any, description: Any, parameters: Any) -> Json:
    """Return a tool of a request."""
    schema = parameters if isinstance(parameters, dict) else {"type": "object", "properties": {}}
    return {"name": text_of(name, "tools: name"), "description": str(description or ""), "parameters": schema}


def free_text(name: Any, description: Any) -> Json:
    """Return a tool that takes one free text, as a function with one argument."""
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return function(name, description, schema)


def assistant_message(
    text: str, reasoning: str = "", signature: str = "", calls: Sequence[Mapping[str, str]] = ()
) -> Json:
    """Return an assistant's message."""
    message: Json = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning"] = reasoning
    if signature:
        message["signature"] = signature
    if calls:
        message["tool_calls"] = [dict(call) for call in calls]
    return message


def called(identity: Any, name: Any, arguments: Any) -> dict[str, str]:
    """Return one call of an assistant's message."""
    return {
        "id": text_of(identity, "call: id"),
        "name": text_of(name, "call: name"),
        "arguments": arguments if isinstance(arguments, str) else canonical_json(arguments or {}),
    }


def result(identity: Any, text: str) -> Json:
    """Return a tool's message."""
    return {"role": "tool", "tool_call_id": text_of(identity, "tool result: id"), "content": text}


def event(data: Any, name: str = "") -> bytes:
    """Return one server-sent event."""
    head = f"event: {name}\n" if name else ""
    body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return f"{head}data: {body}\n\n".encode()


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects lie inside each other more than so many levels deep."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(one, levels - 1) for one in inner)
