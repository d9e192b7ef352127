"""Putting an answer together from the events of a stream, as a client of the dialect does."""

from __future__ import annotations

import json
from collections.abc import Iterable

from swebench_lab.formats.dialects import anthropic, chat, google, responses
from swebench_lab.formats.dialects.exchange import Answer


def split(stream: bytes) -> list[tuple[str, str]]:
    """Return the name and the data of each event."""
    events = []
    for block in stream.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append((fields.get("event", ""), fields["data"]))
    return events


def assemble(dialect: str, pieces: Iterable[bytes]) -> Answer:
    """Return the answer that a stream holds."""
    events = split(b"".join(pieces))
    return {"chat": _chat, "anthropic": _anthropic, "responses": _responses, "google": _google}[dialect](events)


def _chat(events):
    assert events[-1] == ("", "[DONE]")
    chunks = [json.loads(data) for _, data in events[:-1]]
    message, calls, finish, usage = {"content": ""}, {}, None, None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    for call in value:
                        calls[call.pop("index")] = call
                elif name != "role":
                    message[name] = message.get(name, "") + value
    message["tool_calls"] = [calls[n] for n in sorted(calls)]
    return chat.read_answer({**chunks[0], "choices": [{"message": message, "finish_reason": finish}], "usage": usage})


def _anthropic(events):
    whole, blocks, ended = None, [], False
    for name, data in events:
        found = json.loads(data)
        assert found["type"] == name and not ended
        if name == "message_start":
            whole = found["message"]
        elif name == "content_block_start":
            assert found["index"] == len(blocks)
            blocks.append({**found["content_block"], "json": ""})
        elif name == "content_block_delta":
            delta, block = found["delta"], blocks[found["index"]]
            kind = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}.get(
                delta["type"]
            )
            if kind:
                block[kind] += delta[kind]
            else:
                block["json"] += delta["partial_json"]
        elif name == "message_delta":
            whole |= found["delta"]
            whole["usage"] |= found["usage"]
        ended = name == "message_stop"
    assert ended
    whole["content"] = [{**b, "input": json.loads(b["json"])} if b["type"] == "tool_use" else b for b in blocks]
    return anthropic.read_answer(whole)


def _responses(events):
    found = [json.loads(data) for _, data in events]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[0]["type"] == "response.created" and found[-1]["type"] in ("response.completed", "response.incomplete")
    items = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert items == found[-1]["response"]["output"]
    deltas = {}
    for event in found:
        if event["type"].endswith(".delta"):
            deltas[event["output_index"]] = deltas.get(event["output_index"], "") + event["delta"]
    for index, item in enumerate(items):
        if item["type"] == "function_call":
            assert deltas[index] == item["arguments"]
        if item["type"] == "message":
            assert deltas[index] == item["content"][0]["text"]
    return responses.read_answer(found[-1]["response"])


def _google(events):
    ((_, data),) = events
    return google.read_answer(json.loads(data))
