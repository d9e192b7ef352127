"""Rows and sessions that hold items of OpenAI's Responses: rows with `messages` or `items`, and Codex' session files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import sft_rows
from swebench_lab.traces.foreign.fields import text_of

NAME = "responses"
SUFFIX = ".jsonl"
_COLUMNS = ("messages", "items", "input", "trajectory")
_ITEMS = frozenset(
    ("reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output")
)
_ITEMS |= {"local_shell_call", "local_shell_call_output"}


def is_one(record: Any) -> bool:
    """Say whether a record holds items of Responses."""
    return isinstance(record, Mapping) and bool(_items(record))


def version(record: Mapping[str, Any]) -> str:  # noqa: ARG001
    """Return nothing: items name no version."""
    return ""


def _items(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for name in _COLUMNS:
        items = record.get(name)
        if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
            continue
        if any(str(item.get("type")) in _ITEMS for item in items) and all("role" in i or "type" in i for i in items):
            more = record.get("output") if name == "input" else None
            return [*items, *(more if isinstance(more, list) else ())]
    return []


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory; see `sft_rows.read`."""
    row = {key: value for key, value in record.items() if key not in (*_COLUMNS, "output")}
    if isinstance(record.get("instructions"), str):
        row.setdefault("system", record["instructions"])
    return sft_rows.read({**row, "messages": messages_of(_items(record))}, where, name)


def is_item(item: Mapping[str, Any]) -> bool:
    """Say whether an item is a message, or one of those that belong to a reply and its calls."""
    return item.get("type") == "message" or str(item.get("type")) in _ITEMS


def messages_of(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return items as chat messages: a reply with its reasoning and calls, and each result under its call's id."""
    messages: list[dict[str, Any]] = []
    for item in items:
        kind = str(item.get("type") or "message")
        if kind in ("function_call_output", "custom_tool_call_output", "local_shell_call_output"):
            output = item.get("output")
            text = text_of(output.get("content", output)) if isinstance(output, Mapping) else text_of(output)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
        elif kind == "message" and item.get("role") not in ("assistant", None):
            role = {"developer": "system"}.get(str(item["role"]), str(item["role"]))
            messages.append({"role": role, "content": text_of(item.get("content"))})
        else:
            _add(_reply(messages), item, kind)
    return messages


def _reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the reply that an item belongs to: the last message, or a new one behind what the environment said."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _add(reply: dict[str, Any], item: Mapping[str, Any], kind: str) -> None:
    if kind == "reasoning":
        thought = text_of(item.get("content")) or text_of(item.get("summary"))
        reply["reasoning_content"] = "\n".join(filter(None, [reply.get("reasoning_content", ""), thought]))
    elif kind in ("function_call", "custom_tool_call", "local_shell_call"):
        arguments: Any = item.get("arguments")
        if kind == "custom_tool_call":
            arguments = {"input": item.get("input")}
        elif kind == "local_shell_call":
            arguments = item.get("action")
        function = {"name": str(item.get("name") or "shell"), "arguments": arguments}
        reply.setdefault("tool_calls", []).append({"id": item.get("call_id"), "type": "function", "function": function})
    else:
        reply["content"] = "\n".join(filter(None, [reply["content"], text_of(item.get("content"))]))
