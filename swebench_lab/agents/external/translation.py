"""Translation between what agents send and what policies read: messages, tools, and replies with their calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import Call, JsonValue, json_arguments, parse_json_calls
from swebench_lab.formats.dialects.exchange import (
    DEPTH,
    Json,
    Request,
    ToolUse,
    arguments_of,
    canonical_json,
    is_deeper,
)
from swebench_lab.records.reply import Message, Reply

CALL_FORMAT = "json"
"""How policies write calls for agents of others: the only format that holds several, with arguments of any type."""

_ARGUMENTS = DEPTH - 20  # levels of a call's arguments, which lie inside a body

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


def schemas(request: Request) -> tuple[Json, ...]:
    """Return the tools of a request as endpoints with tool calls want them."""
    return tuple({"type": "function", "function": dict(tool)} for tool in request.tools)


def shown_tools(request: Request) -> str:
    """Return the tools of a request as a text, for policies that do not show them to their model themselves."""
    if not request.tools:
        return ""
    lines = "\n".join(canonical_json(schema) for schema in schemas(request))
    return (
        "You can call these functions, each described by a JSON object:\n"
        f"{lines}\n"
        "To call one, end your reply with:\n"
        '<tool_call>\n{"name": "the function", "arguments": {"parameter": "value"}}\n</tool_call>'
    )


def spoken(message: Json) -> str:
    """Return an assistant's message as one text, its calls in `CALL_FORMAT`."""
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"] or "{}"}}}\n</tool_call>'
        for call in message.get("tool_calls", ())
    ]
    text = message["content"]
    return "\n".join([*([text] if text or not calls else []), *calls])


def identity(text: str, calls: Iterable[tuple[str, str]]) -> str:
    """Return what an assistant's message says, whatever the agent did to its white space and its calls' ids."""
    return json.dumps([text.strip(), [[name, arguments_of(arguments)] for name, arguments in calls]], sort_keys=True)


def identity_of(message: Json) -> str:
    """Return the `identity` of an assistant's message."""
    return identity(message["content"], [(c["name"], c["arguments"]) for c in message.get("tool_calls", ())])


class Memory:
    """The replies that a policy gave, to find its very words again in what an agent sends back."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def keep(self, text: str, calls: Sequence[ToolUse], whole: str) -> None:
        """Remember the whole text of a reply by what the agent was given of it."""
        self._texts[identity(text, [(call.name, call.arguments) for call in calls])] = whole

    def words(self, message: Json) -> str:
        """Return the text of an assistant's message, to the letter where the policy said it."""
        return self._texts.get(identity_of(message)) or spoken(message)


def messages(request: Request, memory: Memory, tools_shown: bool) -> list[Message]:
    """Return a request's conversation as policies read it: one system prompt, then replies and what came of them.

    Args:
        request: What the agent asked.
        memory: The replies so far.
        tools_shown: Whether the policy shows the tools to its model itself, and results under the role `tool`.
    """
    originals = list(request.messages)
    leading = 0
    while leading < len(originals) and originals[leading]["role"] == "system":
        leading += 1
    system = [message["content"] for message in originals[:leading]]
    if not tools_shown and (about := shown_tools(request)):
        system.append(about)
    result: list[Message] = [{"role": "system", "content": "\n\n".join(system)}] if system else []
    for message in originals[leading:]:
        role, content = message["role"], message["content"]
        if role == "assistant":
            content = memory.words(message)
        elif role == "system" or (role == "tool" and not tools_shown):
            role = "user"  # chat templates refuse a system prompt in the middle
        result.append({"role": role, "content": content})
    return result


def read_reply(reply: Reply, number: str) -> tuple[str, str, tuple[ToolUse, ...]]:
    """Return what a reply thinks, says and calls; a text that holds no whole call is said as it is.

    So is one whose arguments are nested so deeply that the agent could not send them back.

    Args:
        reply: The reply.
        number: What the ids of its calls begin with.
    """
    text, reasoning = reply.text, reply.reasoning
    try:
        calls = parse_json_calls(text)
    except FormatError:
        calls = []
    if any(is_deeper(arguments_of(json_arguments(call)), _ARGUMENTS) for call in calls):
        calls = []
    if calls:
        text = text[: text.index(calls[0].raw)].rstrip() if calls[0].raw in text else calls[0].thought
    if matched := _THOUGHT.match(text):
        reasoning, text = reasoning or matched[1].strip(), text[matched.end() :]
    return reasoning, text, tuple(_tool_use(call, f"{number}_{index}") for index, call in enumerate(calls))


def _tool_use(call: Call, identity: str) -> ToolUse:
    return ToolUse(f"call_{identity}", call.name, json_arguments(call))


def call_text(name: str, arguments: Json, thought: str = "") -> str:
    """Return a reply that calls a function, in the form that agents of others are answered from.

    Args:
        name: The function.
        arguments: Its arguments.
        thought: What is said before.
    """
    lines = [
        *([thought] if thought else []),
        "<tool_call>",
        canonical_json({"name": name, "arguments": arguments}),
        "</tool_call>",
    ]
    return "\n".join(lines)


def arguments_as_text(arguments: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the arguments of a call as records keep them: texts, and the names of those that are other JSON values."""
    values = arguments_of(arguments)
    texts = {str(key): value if isinstance(value, str) else canonical_json(value) for key, value in values.items()}
    return texts, tuple(str(key) for key, value in values.items() if not isinstance(value, str))


def as_command(arguments: Json, argument: str) -> str:
    """Return the command that a call of a shell tool runs, as one would type it."""
    value: Any = arguments.get(argument, "")
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


__all__ = ["CALL_FORMAT", "JsonValue", "Memory", "call_text", "messages", "read_reply", "schemas", "spoken"]
