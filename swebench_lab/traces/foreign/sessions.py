"""Session files of Claude Code and Codex: JSON lines that are one attempt together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import responses, sft_rows
from swebench_lab.traces.foreign.fields import as_list, moment, text_of

CLAUDE_CODE, CODEX = "claude-code", "codex"
_CODEX_LINES = frozenset(("session_meta", "response_item", "event_msg", "turn_context", "compacted"))


def kind_of(line: Any) -> str:
    """Return whose session a line is of: `claude-code`, `codex`, or nobody's."""
    if not isinstance(line, Mapping):
        return ""
    if str(line.get("type")) in _CODEX_LINES and isinstance(line.get("payload"), Mapping):
        return CODEX
    if {"id", "timestamp", "instructions"} <= set(line) and "type" not in line:
        return CODEX  # its first lines had no kinds
    names = {"summary": "leafUuid", "file-history-snapshot": "messageId"}
    named = names.get(str(line.get("type")), "sessionId") in line
    return CLAUDE_CODE if named and isinstance(line.get("type"), str) else ""


def read(lines: Sequence[Mapping[str, Any]], where: str, name: str = "") -> Trajectory:
    """Return the lines of a session as one Trajectory; what is beside the attempt is counted in `extra["dropped"]`.

    Args:
        lines: The file's lines, in order.
        where: The file, for errors.
        name: The task's id.

    Raises:
        RecordError: It holds no reply.
    """
    kind = next(filter(None, map(kind_of, lines)), "")
    dropped: Counter[str] = Counter()
    objects = [line for line in lines if isinstance(line, Mapping)]
    if len(objects) < len(lines):
        dropped["lines that are no objects"] = len(lines) - len(objects)
    if kind == CODEX:
        messages, facts = _codex(objects, dropped)
    else:
        messages, facts = _claude(objects, dropped)
    error = str(facts.get("error") or "")
    if not error and not any(message["role"] == "assistant" for message in messages):
        raise RecordError(f"{where}: the session of {kind} holds no reply")
    trajectory = sft_rows.read(
        {"messages": messages, "instance_id": name, "model": facts.get("model") or kind}, where, name
    )
    moments = [m for line in objects if (m := moment(line.get("timestamp")))]
    counts = {**dropped, **trajectory.extra.get("dropped", {})}
    facts_kept = {
        "format": kind,
        "version": str(facts.get("version") or ""),
        "record": list(lines),
        "traj_id": facts.get("id", ""),
    }
    extra = {**trajectory.extra, **facts_kept, **({"dropped": counts} if counts else {})}
    start = moments[0] if moments else 0.0
    seconds = moments[-1] - start if moments else 0.0
    is_open = bool(trajectory.steps) and any(not call.observation for call in trajectory.steps[-1].calls)
    stop = "error" if error else "cancelled" if is_open else trajectory.stop  # who was done says so without a call
    return replace(trajectory, stop=stop, error=error, started_at=start, seconds=seconds, extra=extra)


def _codex(lines: Sequence[Mapping[str, Any]], dropped: Counter[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    facts: dict[str, Any] = {}
    items: list[Mapping[str, Any]] = []
    for line in lines:
        payload = line if kind_of(line) == CODEX and "payload" not in line else line.get("payload")
        if not isinstance(payload, Mapping) and responses.is_item(line):
            items.append(line)
        elif not isinstance(payload, Mapping):
            dropped["lines of an unknown kind"] += 1
        elif line.get("type") == "session_meta" or payload is line:
            facts |= {"version": payload.get("cli_version"), "id": payload.get("id")}
            if isinstance(payload.get("instructions"), str):
                items.append({"type": "message", "role": "system", "content": payload["instructions"]})
        elif line.get("type") == "response_item":
            items.append(payload)
        elif line.get("type") == "turn_context":
            facts.setdefault("model", payload.get("model"))
        else:
            dropped[f"lines of the kind {line.get('type')}"] += 1
    valid = [item for item in items if responses.is_item(item)]
    if len(valid) < len(items):
        dropped["items of an unknown kind"] += len(items) - len(valid)
    return responses.messages_of(valid), facts


def _claude(lines: Sequence[Mapping[str, Any]], dropped: Counter[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    facts: dict[str, Any] = {}
    messages: list[dict[str, Any]] = []
    last_id = ""
    seen: set[str] = set()
    for line in lines:
        message = line.get("message")
        name = json.dumps([line["uuid"], message]) if line.get("uuid") else ""
        if name and name in seen:
            dropped["lines that stand there twice"] += 1
            continue
        seen.add(name)
        if line.get("isSidechain"):
            dropped["messages of sub-agents"] += 1
        elif (
            str(line.get("type")) not in ("user", "assistant") or not isinstance(message, Mapping) or line.get("isMeta")
        ):
            dropped[f"lines of the kind {line.get('type')}{' (meta)' * bool(line.get('isMeta'))}"] += 1
        elif line.get("isApiErrorMessage") or message.get("model") == "<synthetic>":
            dropped["messages of the program itself"] += 1  # which no model said
            facts["error"] = text_of(message.get("content"))
        elif line["type"] == "assistant":
            facts.pop("error", None)
            facts |= {"model": message.get("model"), "version": line.get("version"), "id": line.get("sessionId")}
            same = bool(last_id) and message.get("id") == last_id and messages[-1]["role"] == "assistant"
            last_id = str(message.get("id") or "")
            if not same:
                messages.append({"role": "assistant", "content": ""})
            _blocks(messages[-1], message.get("content"))
        else:
            messages += _user_messages(message.get("content"))
    return messages, facts


def _blocks(reply: dict[str, Any], content: Any) -> None:
    """Add the blocks of Anthropic's Messages to a reply."""
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            reply["content"] = "\n".join(filter(None, [reply["content"], str(block.get("text") or "")]))
        elif kind == "thinking":
            thought = str(block.get("thinking") or "")
            reply["reasoning_content"] = "\n".join(filter(None, [reply.get("reasoning_content", ""), thought]))
            reply.setdefault("thinking_blocks", []).append(dict(block))
        elif kind == "redacted_thinking":
            reply.setdefault("thinking_blocks", []).append(dict(block))
        elif kind == "tool_use":
            function = {"name": str(block.get("name") or ""), "arguments": block.get("input")}
            reply.setdefault("tool_calls", []).append({"id": block.get("id"), "type": "function", "function": function})


def _user_messages(content: Any) -> list[dict[str, Any]]:
    """Return what a user's message shows: results under the ids of their calls, and texts."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    messages = []
    for block in as_list(content):
        if isinstance(block, Mapping) and block.get("type") == "tool_result":
            text = text_of(block.get("content"))
            messages.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
        else:
            messages.append({"role": "user", "content": text_of(block)})
    return messages
