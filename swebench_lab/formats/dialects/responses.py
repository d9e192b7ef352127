"""The dialect of OpenAI's responses: requests, answers, events and errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from swebench_lab.formats.dialects import chat
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

NAME = "responses"

_READ = ("model", "input", "instructions", "tools", "stream", "previous_response_id", "conversation")
SHELL = {
    "name": "shell",
    "description": "Runs a command and returns its output.",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "array", "items": {"type": "string"}}},
        "required": ["command"],
    },
}
"""What the dialect's own shell tool is shown as."""


def read(body: Json) -> Request:
    """Read a request.

    Raises:
        Refused: It cannot be answered.
    """
    for name in ("previous_response_id", "conversation"):
        if body.get(name):
            raise Refused(400, f"{name}: nothing is stored here; send the whole input")
    strip = Stripping()
    messages: list[Json] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": text_of(body["instructions"], "instructions")})
    content = body.get("input")
    items = [{"role": "user", "content": content}] if isinstance(content, str) else list_of(content, "input")
    messages += _Reader(strip).messages(items)
    tools, custom, shell = [], set(), False
    for tool in list_of(body.get("tools"), "tools"):
        kind = object_of(tool, "tools").get("type")
        if kind == "function":
            tools.append(function(tool.get("name"), tool.get("description"), tool.get("parameters")))
        elif kind == "custom":
            tools.append(free_text(tool.get("name"), tool.get("description")))
            custom.add(tool["name"])
        elif kind == "local_shell":
            tools.append(SHELL)
            shell = True
        else:
            strip.add(f"tool {kind} {tool.get('name') or tool.get('server_label') or ''}".rstrip())
    return Request(
        NAME,
        str(body.get("model") or ""),
        tuple(messages),
        tuple(tools),
        bool(body.get("stream")),
        {key: value for key, value in body.items() if key not in _READ and value is not None},
        tuple(strip.names),
        frozenset(custom),
        shell,
    )


class _Reader:
    """Reads items: what an assistant thought, said and called in a row is one message."""

    def __init__(self, strip: Stripping) -> None:
        self.strip = strip
        self.made: list[Json] = []
        self.turn: Json | None = None

    def messages(self, items: list[Any]) -> list[Json]:
        """Return the messages of a list of items."""
        for item in items:
            self._item(object_of(item, "input"))
        self._end()
        return self.made

    def _end(self) -> None:
        if self.turn is not None:
            self.made.append(assistant_message(**self.turn))
        self.turn = None

    def _open(self) -> Json:
        if self.turn is None:
            self.turn = {"text": "", "reasoning": "", "signature": "", "calls": []}
        return self.turn

    def _item(self, item: Json) -> None:
        kind = item.get("type") or "message"
        if kind == "message" and item.get("role") == "assistant":
            if self.turn is not None and (self.turn["calls"] or self.turn["text"]):
                self._end()
            self._open()["text"] = self.strip.text(item.get("content"), "input: content")
        elif kind == "message":
            self._end()
            role = text_of(item.get("role"), "input: role")
            role = "system" if role == "developer" else role
            if role not in ("system", "user"):
                raise Refused(400, f"input: unknown role {role!r}")
            self.made.append({"role": role, "content": self.strip.text(item.get("content"), "input: content")})
        elif kind == "reasoning":
            self._end()
            parts = item.get("content") or item.get("summary") or []
            turn = self._open()
            turn["reasoning"] = self.strip.text(parts, "input: reasoning")
            turn["signature"] = str(item.get("encrypted_content") or "")
        elif kind == "item_reference":
            raise Refused(400, "input: item_reference: nothing is stored here; send the whole item")
        elif call := self._call(kind, item):
            self._open()["calls"].append(call)
        elif kind in ("function_call_output", "custom_tool_call_output", "local_shell_call_output"):
            self._end()
            identity = item.get("call_id") or item.get("id")
            self.made.append(result(identity, self.strip.text(item.get("output"), "input: output")))
        else:
            self.strip.add(f"content {kind}")

    @staticmethod
    def _call(kind: str, item: Json) -> dict[str, str] | None:
        identity = item.get("call_id") or item.get("id")
        if kind == "function_call":
            return called(identity, item.get("name"), item.get("arguments"))
        if kind == "custom_tool_call":
            return called(identity, item.get("name"), {"input": item.get("input", "")})
        if kind == "local_shell_call":
            action = object_of(item.get("action"), "local_shell_call: action")
            return called(identity, "shell", {"command": action.get("command", [])})
        return None


def write_request(request: Request) -> Json:
    """Return the body that `read` reads as this request."""
    body: Json = {"model": request.model, **request.asked}
    items: list[Json] = []
    for message in request.messages:
        items += _items_of(message, request)
    body["input"] = items
    if request.tools:
        body["tools"] = [_tool(tool, request) for tool in request.tools]
    if request.stream:
        body["stream"] = True
    return body


def _tool(tool: Json, request: Request) -> Json:
    if tool["name"] in request.custom:
        return {"type": "custom", "name": tool["name"], "description": tool["description"]}
    if request.shell and tool == SHELL:
        return {"type": "local_shell"}
    return {"type": "function", **tool}


def _items_of(message: Json, request: Request) -> list[Json]:
    role = message["role"]
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}]
    if role != "assistant":
        part = {"type": "input_text", "text": message["content"]}
        return [{"type": "message", "role": "developer" if role == "system" else role, "content": [part]}]
    calls = tuple(ToolUse(c["id"], c["name"], c["arguments"]) for c in message.get("tool_calls", ()))
    spoken = Answer("", message["content"], calls, "", message.get("reasoning", ""), message.get("signature", ""))
    return _output(spoken, request)


def _output(answer: Answer, request: Request) -> list[Json]:
    """Return the items of an answer."""
    items: list[Json] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append(
            {
                "id": f"rs_{answer.id}",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": answer.signature or None,
            }
        )
    if answer.text or not (answer.calls or answer.reasoning):
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        items.append(
            {
                "id": f"msg_{answer.id}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    items += [_call_item(call, request) for call in answer.calls]
    return items


def _call_item(call: ToolUse, request: Request) -> Json:
    head = {"id": f"fc_{call.id}", "call_id": call.id, "status": "completed"}
    if call.name in request.custom:
        text = str(arguments_of(call.arguments).get("input", ""))
        return {**head, "id": f"ctc_{call.id}", "type": "custom_tool_call", "name": call.name, "input": text}
    if request.shell and call.name == "shell":
        command = arguments_of(call.arguments).get("command", [])
        argv = [str(word) for word in command] if isinstance(command, list) else ["bash", "-c", str(command)]
        action = {"type": "exec", "command": argv, "env": {}}
        return {**head, "id": f"lsh_{call.id}", "type": "local_shell_call", "action": action}
    return {**head, "type": "function_call", "name": call.name, "arguments": call.arguments}


def write(answer: Answer, request: Request) -> Json:
    """Return an answer as one object."""
    cut = answer.finish == "length"
    return {
        **_head(answer, request),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": _output(answer, request),
        "usage": _usage(answer.usage),
    }


def _head(answer: Answer, request: Request) -> Json:
    """Return what every state of a response says, as the official clients want it."""
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "model": answer.model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": bool(request.asked.get("parallel_tool_calls", True)),
        "temperature": request.asked.get("temperature"),
        "tool_choice": "auto",
        "tools": [],
        "top_p": request.asked.get("top_p"),
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def events(answer: Answer, request: Request) -> Iterator[bytes]:
    """Yield an answer as a stream of events."""
    numbers = itertools.count()

    def named(kind: str, **fields: Any) -> bytes:
        return event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

    whole = write(answer, request)
    start = {**_head(answer, request), "status": "in_progress", "output": [], "usage": None}
    yield named("response.created", response=start)
    yield named("response.in_progress", response=start)
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        yield named("response.output_item.added", output_index=index, item=_opening(item))
        for kind, fields in _steps(item):
            yield named(kind, **place, **fields)
        yield named("response.output_item.done", output_index=index, item=item)
    kind = "response.incomplete" if whole["status"] == "incomplete" else "response.completed"
    yield named(kind, response=whole)


def _opening(item: Json) -> Json:
    empty: Json = {"content": [], "summary": [], "arguments": "", "input": ""}
    start = {**item, **{name: value for name, value in empty.items() if name in item}}
    return {**start, "status": "in_progress"} if "status" in item else start


def _steps(item: Json) -> Iterator[tuple[str, Json]]:
    """Yield the events between the beginning and the end of an item."""
    if item["type"] == "message":
        part = item["content"][0]
        where = {"content_index": 0}
        yield "response.content_part.added", {**where, "part": {**part, "text": ""}}
        yield "response.output_text.delta", {**where, "delta": part["text"], "logprobs": []}
        yield "response.output_text.done", {**where, "text": part["text"], "logprobs": []}
        yield "response.content_part.done", {**where, "part": part}
    elif item["type"] == "reasoning":
        part = item["summary"][0]
        where = {"summary_index": 0}
        yield "response.reasoning_summary_part.added", {**where, "part": {**part, "text": ""}}
        yield "response.reasoning_summary_text.delta", {**where, "delta": part["text"]}
        yield "response.reasoning_summary_text.done", {**where, "text": part["text"]}
        yield "response.reasoning_summary_part.done", {**where, "part": part}
    elif item["type"] == "function_call":
        yield "response.function_call_arguments.delta", {"delta": item["arguments"]}
        yield "response.function_call_arguments.done", {"arguments": item["arguments"], "name": item["name"]}
    elif item["type"] == "custom_tool_call":
        yield "response.custom_tool_call_input.delta", {"delta": item["input"]}
        yield "response.custom_tool_call_input.done", {"input": item["input"]}


def read_answer(body: Json) -> Answer:
    """Read an answer that `write` wrote."""
    texts, thoughts, calls, signature = [], [], [], ""
    for item in body["output"]:
        if item["type"] == "message":
            texts += [part["text"] for part in item["content"]]
        elif item["type"] == "reasoning":
            thoughts += [part["text"] for part in item["summary"]]
            signature = item.get("encrypted_content") or ""
        elif item["type"] == "function_call":
            calls.append(ToolUse(item["call_id"], item["name"], item["arguments"]))
        elif item["type"] == "custom_tool_call":
            calls.append(ToolUse(item["call_id"], item["name"], canonical_json({"input": item["input"]})))
        else:
            calls.append(ToolUse(item["call_id"], "shell", canonical_json({"command": item["action"]["command"]})))
    usage = body["usage"]
    return Answer(
        str(body["id"]).removeprefix("resp_"),
        "\n".join(texts),
        tuple(calls),
        "length" if body["status"] == "incomplete" else "tool_calls" if calls else "stop",
        "\n".join(thoughts),
        signature,
        Usage(
            usage["input_tokens"],
            usage["output_tokens"],
            usage["input_tokens_details"]["cached_tokens"],
            usage["output_tokens_details"]["reasoning_tokens"],
        ),
        body["model"],
        body["created_at"],
    )


error = chat.error
overflow = chat.overflow
models = chat.models


def error_event(refused: Refused) -> bytes:
    """Return the event that ends a stream with an error."""
    code = "context_length_exceeded" if refused.kind == "overflow" else "server_error"
    response = {"status": "failed", "error": {"code": code, "message": refused.message}, "output": []}
    return event({"type": "response.failed", "sequence_number": 0, "response": response}, "response.failed")
