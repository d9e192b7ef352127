"""The dialect of OpenAI's chat completions: requests, answers, events and errors."""

from __future__ import annotations

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
    free_text,
    function,
    list_of,
    object_of,
    result,
    text_of,
)

NAME = "chat"

_READ = ("model", "messages", "tools", "stream", "stream_options")
_ROLES = {"developer": "system", "function": "tool"}


def read(body: Json) -> Request:
    """Read a request.

    Raises:
        Refused: It cannot be answered.
    """
    if body.get("n") not in (None, 1):
        raise Refused(400, "n: only one choice can be asked for")
    if body.get("functions"):
        raise Refused(400, "functions: this form of tools is not served; send tools")
    strip = Stripping()
    messages = [_message(object_of(m, "messages"), strip) for m in list_of(body.get("messages"), "messages")]
    tools, custom = [], set()
    for tool in list_of(body.get("tools"), "tools"):
        kind = object_of(tool, "tools").get("type", "function")
        if kind == "function":
            inner = object_of(tool.get("function"), "tools: function")
            tools.append(function(inner.get("name"), inner.get("description"), inner.get("parameters")))
        elif kind == "custom":
            inner = object_of(tool.get("custom"), "tools: custom")
            tools.append(free_text(inner.get("name"), inner.get("description")))
            custom.add(inner["name"])
        else:
            strip.add(f"tool {kind}")
    if "web_search_options" in body:
        strip.add("tool web_search")
    options = body.get("stream_options")
    return Request(
        NAME,
        str(body.get("model") or ""),
        tuple(messages),
        tuple(tools),
        bool(body.get("stream")),
        {k: v for k, v in body.items() if k not in _READ and k != "web_search_options" and v is not None},
        tuple(strip.names),
        frozenset(custom),
        usage=isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _message(message: Json, strip: Stripping) -> Json:
    role = text_of(message.get("role"), "messages: role")
    role = _ROLES.get(role, role)
    content = strip.text(message.get("content"), f"messages: content of {role}")
    if role == "tool":
        return result(message.get("tool_call_id") or message.get("name") or "", content)
    if role != "assistant":
        if role not in ("system", "user"):
            raise Refused(400, f"messages: unknown role {role!r}")
        return {"role": role, "content": content}
    calls = []
    for call in list_of(message.get("tool_calls"), "messages: tool_calls"):
        kind = "custom" if isinstance(call, dict) and "custom" in call else "function"
        inner = object_of(object_of(call, "tool_calls").get(kind), f"tool_calls: {kind}")
        arguments = inner.get("arguments") if kind == "function" else {"input": inner.get("input", "")}
        calls.append(called(call.get("id") or "", inner.get("name"), arguments))
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    signature = message.get("reasoning_signature") or ""
    return assistant_message(content, str(reasoning), str(signature), calls)


def write_request(request: Request) -> Json:
    """Return the body that `read` reads as this request."""
    body: Json = {"model": request.model, "messages": [_write(m) for m in request.messages], **request.asked}
    if request.tools:
        body["tools"] = [
            {"type": "custom", "custom": {"name": t["name"], "description": t["description"]}}
            if t["name"] in request.custom
            else {"type": "function", "function": dict(t)}
            for t in request.tools
        ]
    if request.stream:
        body["stream"] = True
    if request.usage:
        body["stream_options"] = {"include_usage": True}
    return body


def _write(message: Json) -> Json:
    entry = {k: v for k, v in message.items() if k in ("role", "content", "tool_call_id")}
    if "reasoning" in message:
        entry["reasoning_content"] = message["reasoning"]
    if "signature" in message:
        entry["reasoning_signature"] = message["signature"]
    if message.get("tool_calls"):
        entry["tool_calls"] = [_call(c["id"], c["name"], c["arguments"]) for c in message["tool_calls"]]
    return entry


def _call(identity: str, name: str, arguments: str) -> Json:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _reply_call(call: ToolUse, request: Request) -> Json:
    if call.name not in request.custom:
        return _call(call.id, call.name, call.arguments)
    text = str(arguments_of(call.arguments).get("input", ""))
    return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}


def write(answer: Answer, request: Request) -> Json:
    """Return an answer as one object."""
    message: Json = {"role": "assistant", "content": answer.text or (None if answer.calls else "")}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.signature:
        message["reasoning_signature"] = answer.signature
    if answer.calls:
        message["tool_calls"] = [_reply_call(call, request) for call in answer.calls]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish, "logprobs": None}
    return {**_head(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer.usage)}


def _head(answer: Answer, kind: str) -> Json:
    return {"id": f"chatcmpl-{answer.id}", "object": kind, "created": answer.created, "model": answer.model}


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def events(answer: Answer, request: Request) -> Iterator[bytes]:
    """Yield an answer as a stream of events."""
    head = _head(answer, "chat.completion.chunk")

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        return event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]})

    yield chunk({"role": "assistant", "content": ""})
    if answer.reasoning:
        yield chunk({"reasoning_content": answer.reasoning})
    if answer.signature:
        yield chunk({"reasoning_signature": answer.signature})
    if answer.text:
        yield chunk({"content": answer.text})
    for index, call in enumerate(answer.calls):
        yield chunk({"tool_calls": [{"index": index, **_reply_call(call, request)}]})
    yield chunk({}, answer.finish)
    if request.usage:
        yield event({**head, "choices": [], "usage": _usage(answer.usage)})
    yield event("[DONE]")


def read_answer(body: Json) -> Answer:
    """Read an answer that `write` wrote."""
    choice = body["choices"][0]
    message, usage = choice["message"], body.get("usage") or {}
    calls = []
    for call in message.get("tool_calls") or ():
        if "custom" in call:
            calls.append(
                ToolUse(call["id"], call["custom"]["name"], canonical_json({"input": call["custom"]["input"]}))
            )
        else:
            calls.append(ToolUse(call["id"], call["function"]["name"], call["function"]["arguments"]))
    return Answer(
        str(body["id"]).removeprefix("chatcmpl-"),
        message.get("content") or "",
        tuple(calls),
        choice["finish_reason"],
        message.get("reasoning_content") or "",
        message.get("reasoning_signature") or "",
        Usage(
            usage.get("prompt_tokens", 0),
            usage.get("completion_tokens", 0),
            (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
        ),
        body.get("model", ""),
        body.get("created", 0),
    )


_TYPES = {
    "unauthorized": "authentication_error",
    "rate": "rate_limit_error",
    "overloaded": "server_error",
    "internal": "server_error",
}
_CODES = {"unauthorized": "invalid_api_key", "rate": "rate_limit_exceeded", "overflow": "context_length_exceeded"}


def error(refused: Refused) -> Json:
    """Return an error as this dialect words it."""
    kind = _TYPES.get(refused.kind, "invalid_request_error")
    return {"error": {"message": refused.message, "type": kind, "param": None, "code": _CODES.get(refused.kind)}}


def overflow(tokens: int, limit: int) -> str:
    """Return what is said of a conversation that is too long."""
    return (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens. "
        "Please reduce the length of the messages."
    )


def error_event(refused: Refused) -> bytes:
    """Return the event that ends a stream with an error."""
    return event(error(refused))


def models(name: str) -> Any:
    """Return the list of models: the one that is served."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "swebench-lab"}]}
