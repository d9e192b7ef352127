"""Chat completions on the wire: what an answer says (text, thoughts, calls), and how a conversation is sent back.

Reasoning is kept as the provider gave it: the text in `Reply.reasoning`, and in `Reply.signature`, as JSON, all else that
has to come back unchanged: `field` (the name it came under, if not `reasoning_content`), `reasoning_details` and
`thinking_blocks`, and `calls` (the ids of native calls and what a provider attached to them). It is sent back with the
calls that it led to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import Call, json_arguments, parse_json, parse_json_calls
from swebench_lab.policies.transport import Passing, whole
from swebench_lab.records.reply import Message, text_of

_BROKEN_OFF = frozenset(
    (
        "abort",
        "aborted",
        "blocklist",
        "cancelled",
        "canceled",
        "content_filter",
        "content_filtered",
        "error",
        "failed",
        "insufficient_system_resource",
        "malformed_function_call",
        "network_error",
        "other",
        "prohibited_content",
        "recitation",
        "refusal",
        "safety",
        "sensitive",
        "server_error",
        "spii",
        "timeout",
        "unexpected_tool_call",
    )
)
"""Finish reasons of replies that the endpoint broke off or withheld: its doing, not the model's."""

_FULL = frozenset(("context_length_exceeded", "model_context_window_exceeded", "context_window_exceeded"))
_DEFAULT_FIELD = "reasoning_content"
_SIGNED = ("reasoning_details", "thinking_blocks")
"""Fields in which routers hand on what a provider signed."""


def first_choice(answer: Any) -> dict[str, Any]:
    """Return the first choice of an answer that has the form of one.

    Raises:
        Passing: It has not, or the endpoint broke the reply off.
    """
    try:
        choice = answer["choices"][0]
        usage, reason = answer.get("usage") or {}, str(choice.get("finish_reason") or "").lower()
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Passing("the answer holds no message") from None
    if not isinstance(usage, dict):
        raise Passing("the answer's usage is no object")
    if reason in _BROKEN_OFF:
        raise Passing(f"the server broke the reply off (finish_reason {reason!r})")
    if choice.get("error"):
        raise Passing(f"the answer holds an error: {str(choice['error'])[:200]}")
    result: dict[str, Any] = choice
    return result


def is_full(answer: Mapping[str, Any]) -> bool:
    """Say whether a reply ended because the context was full."""
    return str(answer["choices"][0].get("finish_reason") or "").lower() in _FULL


def check(answer: Any) -> None:
    """Raise Passing where an answer holds no reply of the model."""
    choice = first_choice(answer)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Passing("the answer holds no message")
    if not isinstance(message.get("content"), str | list | None):
        raise Passing("the answer's content is no text")
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None) or not all(_is_call(call) for call in _calls(message)):
        raise Passing("the answer's tool calls are none")
    content = words(message) or _calls(message)
    if not content and message.get("refusal"):
        raise Passing(f"the answer is a refusal ({str(message['refusal'])[:200]})")
    if not content and not reasoning(message) and choice.get("finish_reason") is None:
        raise Passing("the answer is empty and says no reason")


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return False
    return isinstance(function.get("arguments"), str | dict | None)


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls") or []
    legacy = message.get("function_call")
    return [*calls] if calls or not isinstance(legacy, dict) else [{"function": legacy}]


def words(message: Mapping[str, Any]) -> str:
    """Return the text of a message: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, Mapping))
        return whole("".join(str(part.get("text") or "") for part in parts if part.get("type") != "thinking"))
    return whole(content or "")


def reasoning(message: Mapping[str, Any]) -> str:
    """Return what the model thought, by whatever name the endpoint calls it."""
    for name in (_DEFAULT_FIELD, "reasoning"):
        if isinstance(message.get(name), str) and message[name]:
            return whole(str(message[name]))
    details = message.get("reasoning_details")
    parts = details if isinstance(details, list) else message.get("content")
    texts = []
    for part in parts if isinstance(parts, list) else ():
        kind = str(part.get("type") or "") if isinstance(part, Mapping) else ""
        if kind in ("reasoning.text", "reasoning.summary"):
            texts.append(str(part.get("text") or part.get("summary") or ""))
        elif kind == "thinking":
            inner = part.get("thinking")
            words = (
                [p.get("text") if isinstance(p, Mapping) else p for p in inner] if isinstance(inner, list) else [inner]
            )
            texts += [one for one in words if isinstance(one, str)]
    return whole("\n".join(filter(None, texts)))


def signature(message: Mapping[str, Any]) -> str:
    """Return what has to come back unchanged with a message, as JSON; empty where that is nothing."""
    extra: dict[str, Any] = {}
    if not message.get(_DEFAULT_FIELD) and isinstance(message.get("reasoning"), str) and message["reasoning"]:
        extra["field"] = "reasoning"
    extra |= {name: message[name] for name in _SIGNED if message.get(name)}
    calls = [
        {key: value for key, value in call.items() if key not in ("function", "type", "index")}
        for call in _calls(message)
    ]
    if any(calls):
        extra["calls"] = calls
    return whole(json.dumps(extra, ensure_ascii=False)) if extra else ""


def text(message: Mapping[str, Any], cut: bool = False) -> str:
    """Return a message as a reply's text: its words, and behind them each call as the flavour `tool-calling` reads it.

    Calls are written to the letter: what is no JSON, or more than one call, is for the parser to refuse.
    """
    content = words(message)
    functions = [call["function"] for call in _calls(message)]
    last = len(functions) - 1
    calls = [call_text(f["name"], f.get("arguments"), cut and at == last) for at, f in enumerate(functions)]
    return "\n".join([*([content] if content or not calls else []), *calls])


def call_text(name: str, arguments: Any, cut: bool = False) -> str:
    """Write a native call as text.

    Args:
        name: The function.
        arguments: An object, its JSON, its JSON in a JSON string, or null for none.
        cut: Whether the reply ended within it, at its token limit: an object is then what the endpoint made of the half
            that was written, and stays open here, for the parser to refuse.
    """
    if isinstance(arguments, str):
        content = arguments.strip() or "{}"
        try:
            inner = json.loads(content, strict=False)
        except (ValueError, RecursionError):
            inner = {}
        if isinstance(inner, str):
            content = inner.strip()
        content = "{}" if inner is None else content
    else:
        content = json.dumps(arguments or {}, ensure_ascii=False)
        content = content.removesuffix("}") if cut else content
    return whole(f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {content}}}\n</tool_call>')


# --- sending it back ------------------------------------------------------------------------------------------------


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a conversation as endpoints without tool calls take it; reasoning, which led to no native call, stays here."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def calls_of(message: Message) -> list[Call]:
    """Return the native calls of a reply, also several, which are refused but have to be answered; empty: none."""
    try:
        return [parse_json(text_of(message))]
    except FormatError:
        pass
    try:
        calls = parse_json_calls(text_of(message))
    except FormatError:
        return []
    return calls if len(calls) > 1 else []


def with_calls(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a conversation in the form of endpoints with tool calls: each call by its id, each result under it."""
    result: list[dict[str, Any]] = []
    due: list[str] = []  # ids of calls that have no result yet
    for number, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message["role"], "content": message["content"]}
        if message["role"] == "assistant":
            calls = calls_of(message)
            extra = _read_signature(message)
            ids = _ids(extra, len(calls), number)
            due = ids
            if calls:
                entry["content"] = calls[0].thought or None
                entry["tool_calls"] = [
                    _call(call, name, more)
                    for call, name, more in zip(calls, ids, _call_extras(extra, len(calls)), strict=True)
                ]
                entry |= _thoughts(message, extra)
            result.append(entry)
        elif due:  # also where the call was read but could not be made: its answer is still due
            answers, due = answer_ids(due, messages, number)
            result += [{**entry, "role": "tool", "tool_call_id": name} for name in answers]
        else:
            result.append({**entry, "role": "user"} if message["role"] == "tool" else entry)
    return result


def answer_ids(due: list[str], messages: Sequence[Message], number: int) -> tuple[list[str], list[str]]:
    """Return the ids of the calls that a message answers, and of those that later ones do.

    Results come in the order of their calls; the last message before a reply, or one that corrects, answers all that are left.
    """
    more = number + 1 < len(messages) and messages[number + 1]["role"] == "tool"
    one = messages[number]["role"] == "tool" and more
    return (due[:1], due[1:]) if one else (due, [])


def _call(call: Call, name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json_arguments(call)}
    return {**more, "id": name, "type": "function", "function": function}


def _read_signature(message: Message) -> Mapping[str, Any]:
    try:
        extra = json.loads(message.get("signature") or "{}")
    except ValueError:  # another provider's, in a conversation that began there
        return {}
    return extra if isinstance(extra, dict) else {}


def _call_extras(extra: Mapping[str, Any], number: int) -> list[Mapping[str, Any]]:
    calls = extra.get("calls")
    return calls if isinstance(calls, list) and len(calls) == number else [{}] * number


def _ids(extra: Mapping[str, Any], calls: int, number: int) -> list[str]:
    """Return the ids of a reply's calls: the endpoint's own if it gave each its own, else some that are."""
    own = [str(call.get("id") or "") for call in _call_extras(extra, calls)]
    if all(own) and len(set(own)) == len(own):
        return own
    return [f"call_{number}" if calls == 1 else f"call_{number}_{at}" for at in range(calls)]


def _thoughts(message: Message, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reasoning of a message with calls, under the names that it came by."""
    result: dict[str, Any] = {}
    if message.get("reasoning"):
        result[str(extra.get("field") or _DEFAULT_FIELD)] = message["reasoning"]
    signed = {name: extra[name] for name in _SIGNED if extra.get(name)}
    if signed:
        result.pop(_DEFAULT_FIELD, None)  # it is in what was signed
    return result | signed
