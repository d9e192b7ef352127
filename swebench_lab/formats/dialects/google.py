"""The dialect of Google's generative language API: requests, answers, events and errors."""

from __future__ import annotations

import json
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

NAME = "google"

_READ = ("contents", "systemInstruction", "system_instruction", "tools", "model")
_FINISHES = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"}


def read(body: Json, model: str = "", stream: bool = False, events: bool = True) -> Request:
    """Read a request; the path says which model is asked, and whether for a stream.

    Raises:
        Refused: It cannot be answered.
    """
    strip, reader = Stripping(), _Reader()
    messages: list[Json] = []
    system = body.get("systemInstruction") or body.get("system_instruction")
    if system is not None:
        parts = system if isinstance(system, str) else object_of(system, "systemInstruction").get("parts")
        if text := strip.text([parts] if isinstance(parts, dict) else parts, "systemInstruction"):
            messages.append({"role": "system", "content": text})
    contents = body.get("contents")
    for content in [{"parts": [{"text": contents}]}] if isinstance(contents, str) else list_of(contents, "contents"):
        messages += reader.messages(object_of(content, "contents"), strip)
    tools = []
    for group in list_of(body.get("tools"), "tools"):
        for kind, value in object_of(group, "tools").items():
            if kind in ("functionDeclarations", "function_declarations"):
                for tool in list_of(value, "functionDeclarations"):
                    schema = object_of(tool, "functionDeclarations").get("parametersJsonSchema")
                    schema = schema or _lower_types(tool.get("parameters"))
                    tools.append(function(tool.get("name"), tool.get("description"), schema))
            else:
                strip.add(f"tool {kind}")
    settings = {key: value for key, value in body.items() if key not in _READ and value is not None}
    return Request(
        NAME, model, tuple(messages), tuple(tools), stream, settings, tuple(strip.names), events=events or not stream
    )


def _lower_types(schema: Any) -> Any:
    """Return a schema with the names of its types as JSON schema has them."""
    if isinstance(schema, list):
        return [_lower_types(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _lower_types(value)
        for key, value in schema.items()
    }


class _Reader:
    """Reads contents; calls without an id are named by their order, and results go to the oldest call of their name."""

    def __init__(self) -> None:
        self.count = 0
        self.waiting: list[tuple[str, str]] = []

    def messages(self, content: Json, strip: Stripping) -> list[Json]:
        """Return the messages of one content."""
        parts = [object_of(part, "parts") for part in list_of(content.get("parts"), "parts")]
        if content.get("role") == "model":
            return [self._model(parts, strip)]
        if content.get("role") not in (None, "user", "function", "tool"):
            raise Refused(400, f"contents: Please use a valid role: user, model; got {content.get('role')!r}")
        results, texts = [], []
        for part in parts:
            response = part.get("functionResponse") or part.get("function_response")
            if response is not None:
                results.append(self._result(object_of(response, "functionResponse")))
            else:
                texts.append(part["text"] if isinstance(part.get("text"), str) else strip.placeholder(part))
        return [*results, *([{"role": "user", "content": "\n".join(texts)}] if texts or not results else [])]

    def _model(self, parts: list[Json], strip: Stripping) -> Json:
        texts: list[str] = []
        thoughts: list[str] = []
        calls, signature = [], ""
        for part in parts:
            call = part.get("functionCall") or part.get("function_call")
            signature = str(part.get("thoughtSignature") or signature)
            if call is not None:
                calls.append(self._call(object_of(call, "functionCall")))
            elif isinstance(part.get("text"), str):
                (thoughts if part.get("thought") else texts).append(part["text"])
            elif "thoughtSignature" not in part:
                strip.add(f"content {next(iter(part), 'part')}")
        return assistant_message("\n".join(texts), "\n".join(thoughts), signature, calls)

    def _call(self, call: Json) -> dict[str, str]:
        identity = str(call.get("id") or f"call_{self.count}")
        self.count += 1
        entry = called(identity, call.get("name"), call.get("args"))
        self.waiting.append((entry["name"], identity))
        return entry

    def _result(self, response: Json) -> Json:
        name, identity = text_of(response.get("name"), "functionResponse: name"), response.get("id")
        matching = [entry for entry in self.waiting if entry[1] == identity or (not identity and entry[0] == name)]
        if matching:
            self.waiting.remove(matching[0])
            identity = matching[0][1]
        return result(str(identity or name), _response_text(response.get("response")))


def _response_text(response: Any) -> str:
    """Return the text of a function's response."""
    if isinstance(response, dict) and len(response) == 1:
        (value,) = response.values()
        if isinstance(value, str) and next(iter(response)) in ("output", "result", "error", "content"):
            return value
    return response if isinstance(response, str) else canonical_json(response)


def write_request(request: Request) -> Json:
    """Return the body that `read` reads as this request."""
    body: Json = dict(request.asked)
    messages = list(request.messages)
    if messages and messages[0]["role"] == "system":
        body["systemInstruction"] = {"parts": [{"text": messages.pop(0)["content"]}]}
    names: dict[str, str] = {}
    contents: list[Json] = []
    gathering = False
    for message in messages:
        if message["role"] == "assistant":
            calls = tuple(ToolUse(c["id"], c["name"], c["arguments"]) for c in message.get("tool_calls", ()))
            names |= {call.id: call.name for call in calls}
            parts = _parts(message["content"], message.get("reasoning", ""), message.get("signature", ""), calls)
            contents.append({"role": "model", "parts": parts})
        elif message["role"] == "tool":
            identity = message["tool_call_id"]
            response = {
                "id": identity,
                "name": names.get(identity, identity),
                "response": {"output": message["content"]},
            }
            if not gathering:
                contents.append({"role": "user", "parts": []})
            contents[-1]["parts"].append({"functionResponse": response})
        else:
            contents.append({"role": "user", "parts": [{"text": message["content"]}]})
        gathering = message["role"] == "tool"
    body["contents"] = contents
    if request.tools:
        declared = [
            {"name": t["name"], "description": t["description"], "parametersJsonSchema": t["parameters"]}
            for t in request.tools
        ]
        body["tools"] = [{"functionDeclarations": declared}]
    return body


def _parts(text: str, reasoning: str, signature: str, calls: tuple[ToolUse, ...]) -> list[Json]:
    parts: list[Json] = []
    if reasoning:
        parts.append({"text": reasoning, "thought": True, **({"thoughtSignature": signature} if signature else {})})
    if text or not (calls or reasoning):
        parts.append({"text": text})
    for number, call in enumerate(calls):
        part: Json = {"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call.arguments)}}
        if signature and not reasoning and not number:  # thoughts that nobody was shown are signed at the first call
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def write(answer: Answer, request: Request) -> Json:  # noqa: ARG001 - the other dialects need it
    """Return an answer as one object."""
    parts = _parts(answer.text, answer.reasoning, answer.signature, answer.calls)
    candidate = {
        "content": {"role": "model", "parts": parts},
        "finishReason": _FINISHES.get(answer.finish, "STOP"),
        "index": 0,
    }
    usage = answer.usage
    counts = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.completion - usage.reasoning,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.prompt + usage.completion,
        "cachedContentTokenCount": usage.cached,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": counts,
        "modelVersion": answer.model,
        "responseId": f"resp_{answer.id}",
    }


def events(answer: Answer, request: Request) -> Iterator[bytes]:
    """Yield an answer as a stream: of events, or of the entries of a JSON list."""
    whole = write(answer, request)
    yield event(whole) if request.events else json.dumps([whole]).encode()


def read_answer(body: Json) -> Answer:
    """Read an answer that `write` wrote."""
    candidate, usage = body["candidates"][0], body["usageMetadata"]
    message = _Reader()._model(candidate["content"]["parts"], Stripping())
    calls = tuple(ToolUse(c["id"], c["name"], c["arguments"]) for c in message.get("tool_calls", ()))
    cut = candidate["finishReason"] == "MAX_TOKENS"
    return Answer(
        str(body["responseId"]).removeprefix("resp_"),
        message["content"],
        calls,
        "length" if cut else "tool_calls" if calls else "stop",
        message.get("reasoning", ""),
        message.get("signature", ""),
        Usage(
            usage["promptTokenCount"],
            usage["candidatesTokenCount"] + usage["thoughtsTokenCount"],
            usage["cachedContentTokenCount"],
            usage["thoughtsTokenCount"],
        ),
        body["modelVersion"],
    )


_STATUSES = {
    "unauthorized": "UNAUTHENTICATED",
    "unknown": "NOT_FOUND",
    "rate": "RESOURCE_EXHAUSTED",
    "overloaded": "UNAVAILABLE",
    "internal": "INTERNAL",
}


def error(refused: Refused) -> Json:
    """Return an error as this dialect words it."""
    status = _STATUSES.get(refused.kind, "INVALID_ARGUMENT")
    return {"error": {"code": refused.status, "message": refused.message, "status": status}}


def overflow(tokens: int, limit: int) -> str:
    """Return what is said of a conversation that is too long."""
    return f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit})."


def error_event(refused: Refused) -> bytes:
    """Return the event that ends a stream with an error."""
    return event(error(refused))


def models(name: str) -> Any:
    """Return the list of models: the one that is served."""
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    return {"models": [{"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}]}
