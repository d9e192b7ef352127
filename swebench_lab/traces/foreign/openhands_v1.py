"""OpenHands V1 (its software agent SDK): one attempt a row, its history a list of events with a `kind`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.foreign import sft_rows
from swebench_lab.traces.foreign.fields import as_list, as_object, field, known_count, moment, text_of

NAME = "openhands-v1"
SUFFIX = ".jsonl"
_EVENTS = (
    "SystemPromptEvent",
    "MessageEvent",
    "ActionEvent",
    "ObservationEvent",
    "AgentErrorEvent",
    "UserRejectObservation",
)


def is_one(record: Any) -> bool:
    """Say whether a record has this format's shape."""
    history = record.get("history") if isinstance(record, Mapping) else None
    return isinstance(history, list) and any(isinstance(e, Mapping) and str(e.get("kind")) in _EVENTS for e in history)


def version(record: Mapping[str, Any]) -> str:  # noqa: ARG001
    """Return the format's version."""
    return "1"


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory; events that are no part of the conversation are counted in `extra["dropped"]`."""
    dropped: Counter[str] = Counter()
    messages, tools, exits = _conversation(field(record, "history", list, where, []), dropped, where)
    if not any(m["role"] == "user" for m in messages) and record.get("instruction"):
        messages.insert(
            sum(m["role"] == "system" for m in messages), {"role": "user", "content": str(record["instruction"])}
        )
    metadata = field(record, "metadata", Mapping, where, {})
    policy = as_object(metadata.get("llm") or metadata.get("llm_config")).get("model")
    row = {
        "messages": messages,
        "tools": tools,
        "instance_id": record.get("instance_id") or name,
        "model": policy or NAME,
    }
    trajectory = sft_rows.read(row, where, name)
    result = field(record, "test_result", Mapping, where, {})
    steps = tuple(replace(s, reply=replace(s.reply, model=str(policy or ""))) for s in trajectory.steps)
    for index, (code, cwd) in enumerate(exits[: len(steps)]):
        if steps[index].calls:
            one = replace(steps[index].with_call(exit_code=code), cwd=cwd)
            steps = (*steps[:index], one, *steps[index + 1 :])
    error = str(record.get("error") or "")
    stop = Stop.ERROR.value if error else trajectory.stop
    counts = {**dropped, **trajectory.extra.get("dropped", {})}
    moments = [m for e in record["history"] if isinstance(e, Mapping) and (m := moment(e.get("timestamp")))]
    return replace(
        trajectory,
        attempt=max(0, (known_count(record, "attempt", where) or 1) - 1),
        steps=steps,
        stop=stop,
        error=error,
        patch=str(result.get("git_patch") or record.get("git_patch") or ""),
        started_at=moments[0] if moments else 0.0,
        seconds=moments[-1] - moments[0] if moments else 0.0,
        extra={**trajectory.extra, **({"dropped": counts} if counts else {})},
    )


def _conversation(
    history: Sequence[Any], dropped: Counter[str], where: str
) -> tuple[list[dict[str, Any]], list[Any], list[tuple[int | None, str]]]:
    """Return the chat messages of events, the tools that the system prompt came with, and how each reply's commands ended."""
    messages: list[dict[str, Any]] = []
    tools: list[Any] = []
    exits: list[tuple[int | None, str]] = []
    response = ""
    for number, event in enumerate(history):
        if not isinstance(event, Mapping) or not isinstance(event.get("kind"), str):
            raise RecordError(f"{where}, history {number}: expected an event with a 'kind'")
        kind = event["kind"]
        if kind == "SystemPromptEvent":
            tools = as_list(event.get("tools"))
            messages.append({"role": "system", "content": text_of(event.get("system_prompt"))})
        elif kind == "MessageEvent" and event.get("source") != "agent":
            messages.append({"role": "user", "content": text_of(as_object(event.get("llm_message")).get("content"))})
        elif kind == "MessageEvent":
            message = as_object(event.get("llm_message"))
            messages.append({**_thought(message), "role": "assistant", "content": text_of(message.get("content"))})
            exits.append((None, ""))
            response = ""
        elif kind == "ActionEvent":
            same = (
                bool(response)
                and event.get("llm_response_id") == response
                and bool(messages)
                and messages[-1].get("tool_calls") is not None
            )
            response = str(event.get("llm_response_id") or "")
            if not same:
                words = text_of(event.get("thought"))
                messages.append({**_thought(event), "role": "assistant", "content": words, "tool_calls": []})
                exits.append((None, ""))
            messages[-1]["tool_calls"].append(_call(event))
        elif kind in ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation"):
            messages.append(_observation(event))
            if exits:
                exits[-1] = _exit(event) or exits[-1]
        else:
            dropped[f"events of the kind {kind}"] += 1
    return messages, tools, exits


def _thought(event: Mapping[str, Any]) -> dict[str, Any]:
    reasoning = {"reasoning_content": event["reasoning_content"]} if event.get("reasoning_content") else {}
    return {**reasoning, "thinking_blocks": event["thinking_blocks"]} if event.get("thinking_blocks") else reasoning


def _call(event: Mapping[str, Any]) -> dict[str, Any]:
    call = as_object(event.get("tool_call"))
    function = as_object(call.get("function")) or call
    arguments = function.get("arguments")
    if arguments is None and isinstance(event.get("action"), Mapping):
        arguments = {key: value for key, value in event["action"].items() if key != "kind"}
    name = str(event.get("tool_name") or function.get("name") or "")
    return {"id": event.get("tool_call_id"), "type": "function", "function": {"name": name, "arguments": arguments}}


def _observation(event: Mapping[str, Any]) -> dict[str, Any]:
    observation = event.get("observation")
    text = text_of(event.get("error") or event.get("rejection_reason") or "")
    if isinstance(observation, Mapping):
        text = text_of(
            observation.get("content")
            or observation.get("output")
            or observation.get("text")
            or observation.get("error")
            or ""
        )
    return {"role": "tool", "tool_call_id": event.get("tool_call_id"), "content": text}


def _exit(event: Mapping[str, Any]) -> tuple[int | None, str] | None:
    observation = event.get("observation")
    facts = observation.get("metadata") if isinstance(observation, Mapping) else None
    if not isinstance(facts, Mapping):
        return None
    code = facts.get("exit_code")
    return (code if isinstance(code, int) and code >= 0 else None), str(facts.get("working_dir") or "")
