"""Servers on the loopback that check requests as providers document them, and answer with what a test orders."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Mapping[str, str], Any]
"""Status, headers, and the body: a text, or plain JSON values."""


class Provider(ThreadingHTTPServer):
    """A server; `rules` returns what is wrong with a request, or an empty text.

    Args:
        answers: One a request, or made from it; the last holds for all that follow.
        rules: Given the path, headers and body.
    """

    daemon_threads = True

    def __init__(self, answers: Sequence[Any], rules: Callable[[str, Mapping[str, str], Any], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.rules = list(answers), rules
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        with self.lock:
            order = self.answers[min(len(self.requests), len(self.answers) - 1)]
            self.requests.append(body)
        if wrong := self.rules(path, headers, body):
            return 400, {}, {"type": "error", "error": {"type": "invalid_request_error", "message": wrong}}
        made = order(body) if callable(order) else order
        return made if isinstance(made, tuple) else (200, {}, made)


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8", "strict"))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, more, answer = self.server.answer(self.path, headers, body)
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **more, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def no_rules(path: str, headers: Mapping[str, str], body: Any) -> str:
    """Take every request."""
    return ""


@contextmanager
def serving(
    answers: Sequence[Any], rules: Callable[[str, Mapping[str, str], Any], str] = no_rules
) -> Iterator[Provider]:
    server = Provider(answers, rules)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- chat completions -----------------------------------------------------------------------------------------------


def chat(message: Mapping[str, Any], finish: str | None = "stop", usage: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
        **more,
    }


def call(name: str, arguments: Any, called: str = "call_a") -> dict[str, Any]:
    return {"id": called, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat_rules(path: str, headers: Mapping[str, str], body: Any) -> str:
    """What OpenAI's reference says of tool calls: each has a result under its id, directly behind it."""
    due: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in due:
                return f"messages with role 'tool' must follow their call: {message['tool_call_id']}"
            due.remove(message["tool_call_id"])
        elif due:
            return f"tool calls without a result: {due}"
        else:
            due = [one["id"] for one in message.get("tool_calls") or ()]
            if len(set(due)) < len(due):
                return "two calls of one id"
            if any(not isinstance(one["function"]["arguments"], str) for one in message.get("tool_calls") or ()):
                return "arguments must be a string"
    return f"tool calls without a result: {due}" if due else ""


# --- Anthropic's Messages -------------------------------------------------------------------------------------------


def messages_answer(*blocks: Mapping[str, Any], stop: str | None = "end_turn", **usage: int) -> dict[str, Any]:
    counts = {"input_tokens": 10, "output_tokens": 5, **usage}
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": list(blocks),
        "stop_reason": stop,
        "usage": counts,
    }


def messages_rules(path: str, headers: Mapping[str, str], body: Any) -> str:
    """What the reference of the Messages API says of requests."""
    if path != "/v1/messages" or headers.get("anthropic-version") != "2023-06-01" or not headers.get("x-api-key"):
        return f"bad path or headers: {path}"
    if not isinstance(body.get("max_tokens"), int) or any(
        m["role"] not in ("user", "assistant") for m in body["messages"]
    ):
        return "max_tokens: field required, roles are user and assistant"
    if json.dumps(body).count('"cache_control"') > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    known = {
        "model",
        "max_tokens",
        "system",
        "messages",
        "tools",
        "tool_choice",
        "thinking",
        "temperature",
        "top_p",
        "stop_sequences",
    }
    if extra := set(body) - known:
        return f"{sorted(extra)}: Extra inputs are not permitted"
    if body.get("thinking") and body.get("temperature", 1) != 1:
        return "temperature may only be set to 1 when thinking is enabled"
    due: list[str] = []
    before = ""
    for turn in body["messages"]:
        if turn["role"] == before:
            return "roles must alternate"
        before = turn["role"]
        if wrong := _wrong_blocks(turn, due, bool(body.get("thinking"))):
            return wrong
        due = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
    return "the last turn must be a user's" if before != "user" else ""


def _wrong_blocks(turn: Mapping[str, Any], due: list[str], thinking: bool) -> str:
    blocks = turn["content"]
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    if results != due:
        return f"`tool_use` ids {due} were found without `tool_result` blocks immediately after"
    if not blocks or any(block["type"] == "text" and not block["text"].strip() for block in blocks):
        return "text content blocks must be non-empty"
    kinds = [block["type"] for block in blocks]
    if thinking and "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking"):
        return "Expected `thinking` or `redacted_thinking`, but found `tool_use`"
    for block in blocks:
        if block["type"] == "thinking" and block.get("signature") != f"signed:{block['thinking']}":
            return "Invalid `signature` in `thinking` block"
        if block["type"] == "tool_use" and not isinstance(block["input"], dict):
            return "tool_use.input must be an object"
    return ""


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": f"signed:{text}"}


def use(name: str, given: Any, called: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": called, "name": name, "input": given}


# --- OpenAI's Responses ---------------------------------------------------------------------------------------------


def response(*items: Mapping[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}
    return {"id": "r", "object": "response", "status": status, "output": list(items), "usage": usage, **more}


def reasoning(number: int) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": f"thought {number}"}]
    return {"type": "reasoning", "id": f"rs_{number}", "summary": summary, "encrypted_content": f"sealed-{number}"}


def function_call(name: str, arguments: Any, called: str = "fc_1") -> dict[str, Any]:
    return {"type": "function_call", "id": f"id_{called}", "call_id": called, "name": name, "arguments": arguments}


def said(text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def responses_rules(path: str, headers: Mapping[str, str], body: Any) -> str:
    """What the reference of the Responses API says of requests that store nothing."""
    if (
        path != "/v1/responses"
        or body.get("store") is not False
        or "reasoning.encrypted_content" not in body["include"]
    ):
        return f"bad path, or items that are not stored cannot be referred to: {path}"
    due: list[str] = []
    before = ""
    for item in body["input"]:
        kind = item["type"]
        if kind == "function_call_output":
            if item["call_id"] not in due or not isinstance(item["output"], str):
                return f"No tool call found for function call output with call_id {item['call_id']}."
            due.remove(item["call_id"])
        elif kind == "function_call":
            due.append(item["call_id"])
        elif due:
            return f"No tool output found for function call {due[0]}."
        if before == "reasoning" and kind not in ("function_call", "message", "reasoning"):
            return "Item of type 'reasoning' was provided without its required following item."
        if kind == "reasoning" and not str(item.get("encrypted_content")).startswith("sealed-"):
            return "The encrypted content could not be verified."
        before = kind
    return f"No tool output found for function call {due[0]}." if due else ""
