"""The dialect of Anthropic's messages: requests, answers, events and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from swebench_lab.formats.dialects.exchange import (
    Answer,
    Json,
    Refused,
    Request,
    Stripping,
    ToolUse,
    Usage,
    arguments_of,
    assistant_message,
    called,
    canonical_json,
    event,
    function,
    list_of,
    object_of,
    result,
    text_of,
)

NAME = "anthropic"

_READ = ("model", "messages", "system", "tools", "stream", "mcp_servers", "metadata")
_BILLING = re.compile(r"^x-anthropic-billing-header:[^\n]*\n?", re.MULTILINE)
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_FINISHES = {**{stop: finish for finish, stop in _STOPS.items()}, "stop_sequence": "stop"}
TOOL_ERROR = "[Tool Error] "
"""Stands before the result of a call that failed."""


def read(body: Json) -> Request:
    """Read a request.

    Raises:
        Refused: It cannot be answered.
    """
    strip = Stripping()
    messages: list[Json] = []
    if system := _system(body.get("system"), strip):
        messages.append({"role": "system", "content": system})
    for message in list_of(body.get("messages"), "messages"):
        messages += _messages(object_of(message, "messages"), strip)
    tools = []
    for tool in list_of(body.get("tools"), "tools"):
        kind = object_of(tool, "tools").get("type") or "custom"
        if kind == "custom" and "name" in tool:
            tools.append(function(tool["name"], tool.get("description"), tool.get("input_schema")))
        else:
            strip.add(f"tool {kind}")
    for server in list_of(body.get("mcp_servers"), "mcp_servers"):
        strip.add(f"mcp server {object_of(server, 'mcp_servers').get('name', '')}".strip())
    return Request(
        NAME,
        str(body.get("model") or ""),
        tuple(messages),
        tuple(tools),
        bool(body.get("stream")),
        {key: value for key, value in body.items() if key not in _READ and value is not None},
        tuple(strip.names),
    )


def _system(system: Any, strip: Stripping) -> str:
    """Return the system prompt without the line that differs from one request to the next."""
    return _BILLING.sub("", strip.text(system, "system")).strip("\n") if system is not None else ""


def _messages(message: Json, strip: Stripping) -> list[Json]:
    role, content = text_of(message.get("role"), "messages: role"), message.get("content")
    if role == "assistant":
        return [_assistant(content, strip)]
    if role not in ("user", "system"):
        raise Refused(400, f"messages: Unexpected role {role!r}")
    if not isinstance(content, list):
        return [{"role": role, "content": strip.text(content, "messages: content")}]
    results, rest = [], []
    for block in content:
        if object_of(block, "messages: content").get("type") == "tool_result":
            text = strip.text(block.get("content"), "tool_result: content")
            results.append(result(block.get("tool_use_id"), (TOOL_ERROR if block.get("is_error") else "") + text))
        else:
            rest.append(block)
    left = [{"role": role, "content": strip.text(rest, "messages: content")}] if rest or not results else []
    return [*results, *left]


def _assistant(content: Any, strip: Stripping) -> Json:
    if not isinstance(content, list):
        return assistant_message(strip.text(content, "messages: content"))
    texts, thoughts, calls, signature = [], [], [], ""
    for block in content:
        kind = object_of(block, "messages: content").get("type")
        if kind == "text":
            texts.append(text_of(block.get("text"), "text"))
        elif kind == "thinking":
            thoughts.append(text_of(block.get("thinking"), "thinking"))
            signature = str(block.get("signature") or "")
        elif kind == "tool_use":
            calls.append(called(block.get("id"), block.get("name"), block.get("input")))
        else:
            strip.add(f"content {kind}")
    return assistant_message("\n".join(texts), "\n".join(thoughts), signature, calls)


def write_request(request: Request) -> Json:
    """Return the body that `read` reads as this request."""
    body: Json = {"model": request.model, **request.asked}
    messages = list(request.messages)
    if messages and messages[0]["role"] == "system" and messages[0]["content"]:
        body["system"] = [{"type": "text", "text": messages.pop(0)["content"]}]
    body["messages"] = []
    open_results: list[Json] | None = None
    for message in messages:
        if message["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
            if open_results is None:
                open_results = []
                body["messages"].append({"role": "user", "content": open_results})
            open_results.append(block)
            continue
        open_results = None
        content: Any = _blocks(message) if message["role"] == "assistant" else message["content"]
        body["messages"].append({"role": message["role"], "content": content})
    if request.tools:
        body["tools"] = [
            {"name": t["name"], "description": t["description"], "input_schema": t["parameters"]} for t in request.tools
        ]
    if request.stream:
        body["stream"] = True
    return body


def _blocks(message: Json) -> list[Json]:
    calls = tuple(ToolUse(c["id"], c["name"], c["arguments"]) for c in message.get("tool_calls", ()))
    return _content(message["content"], message.get("reasoning", ""), message.get("signature", ""), calls)


def _content(text: str, reasoning: str, signature: str, calls: tuple[ToolUse, ...]) -> list[Json]:
    blocks: list[Json] = []
    if reasoning:
        blocks.append({"type": "thinking", "thinking": reasoning, "signature": signature})
    if text or not (calls or reasoning):
        blocks.append({"type": "text", "text": text})
    for call in calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call.arguments)})
    return blocks


def write(answer: Answer, request: Request) -> Json:  # noqa: ARG001 - the other dialects need it
    """Return an answer as one object."""
    blocks = _content(answer.text, answer.reasoning, answer.signature, answer.calls)
    ending = {"stop_reason": _STOPS.get(answer.finish, "end_turn"), "stop_sequence": None}
    return {**_head(answer), "content": blocks, **ending, "usage": _usage(answer.usage)}


def _head(answer: Answer) -> Json:
    return {"id": f"msg_{answer.id}", "type": "message", "role": "assistant", "model": answer.model}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": max(0, usage.prompt - usage.cached),
        "output_tokens": usage.completion,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
    }


def events(answer: Answer, request: Request) -> Iterator[bytes]:
    """Yield an answer as a stream of events."""

    def named(kind: str, **fields: Any) -> bytes:
        return event({"type": kind, **fields}, kind)

    whole = write(answer, request)
    start = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 0}}
    yield named("message_start", message=start)
    for index, block in enumerate(whole["content"]):
        yield named("content_block_start", index=index, content_block=_opening(block))
        for delta in _deltas(block):
            yield named("content_block_delta", index=index, delta=delta)
        yield named("content_block_stop", index=index)
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield named("message_delta", delta=ending, usage={"output_tokens": answer.usage.completion})
    yield named("message_stop")


def _opening(block: Json) -> Json:
    if block["type"] == "tool_use":
        return {**block, "input": {}}
    return {**block, **{k: "" for k in ("text", "thinking", "signature") if k in block}}


def _deltas(block: Json) -> Iterator[Json]:
    if block["type"] == "text":
        yield {"type": "text_delta", "text": block["text"]}
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}


def read_answer(body: Json) -> Answer:
    """Read an answer that `write` wrote."""
    texts, thoughts, calls, signature = [], [], [], ""
    for block in body["content"]:
        if block["type"] == "text":
            texts.append(block["text"])
        elif block["type"] == "thinking":
            thoughts.append(block["thinking"])
            signature = block.get("signature", "")
        else:
            calls.append(ToolUse(block["id"], block["name"], canonical_json(block["input"])))
    usage = body["usage"]
    cached = usage.get("cache_read_input_tokens") or 0
    return Answer(
        str(body["id"]).removeprefix("msg_"),
        "\n".join(texts),
        tuple(calls),
        _FINISHES.get(body["stop_reason"], "stop"),
        "\n".join(thoughts),
        signature,
        Usage(usage["input_tokens"] + cached, usage["output_tokens"], cached),
        body["model"],
    )


_TYPES = {
    "unauthorized": "authentication_error",
    "unknown": "not_found_error",
    "rate": "rate_limit_error",
    "overloaded": "overloaded_error",
    "internal": "api_error",
}


def error(refused: Refused) -> Json:
    """Return an error as this dialect words it."""
    kind = _TYPES.get(refused.kind, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refused.message}}


def overflow(tokens: int, limit: int) -> str:
    """Return what is said of a conversation that is too long."""
    return f"prompt is too long: {tokens} tokens > {limit} maximum"


def error_event(refused: Refused) -> bytes:
    """Return the event that ends a stream with an error."""
    return event(error(refused), "error")


def models(name: str) -> Any:
    """Return the list of models: the one that is served."""
    one = {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
    return {"data": [one], "has_more": False, "first_id": name, "last_id": name}
