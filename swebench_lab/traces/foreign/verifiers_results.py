"""verifiers' results: rows of its evaluations, and the episodes of 0.4 (`traces.jsonl`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import sft_rows
from swebench_lab.traces.foreign.fields import as_list, as_object, is_message, messages_in, shortly
from swebench_lab.traces.foreign.steps import limit_of

NAME = "verifiers"
SUFFIX = ".jsonl"


# --- rows -----------------------------------------------------------------------------------------------------------


def is_one(record: Any) -> bool:
    """Say whether a record is a row of verifiers' results: `prompt`, `completion`, `reward` and what the task knew."""
    if not isinstance(record, Mapping) or "reward" not in record or "prompt" not in record:
        return False
    completion = _read(record.get("completion"))
    return messages_in(completion) or completion == [] or (isinstance(completion, str) and "example_id" in record)


def version(record: Mapping[str, Any]) -> str:  # noqa: ARG001
    """Return nothing: rows name no version."""
    return ""


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a row as a Trajectory, its reward in `extra`; no reward is taken for a verdict.

    Raises:
        RecordError: Its prompt or completion is no conversation.
    """
    prompt, completion, info = (_read(record.get(field)) for field in ("prompt", "completion", "info"))
    info = as_object(info)
    opening = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else as_list(prompt)
    reply = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else as_list(completion)
    if not all(map(is_message, [*opening, *reply])):
        raise RecordError(f"{where}, field 'prompt': expected a text or a list of messages, found {shortly(prompt)}")
    number = record.get("example_id", record.get("id"))
    about = as_object(record.get("task")).get("id") or record.get("task") or name
    known = info.get("instance_id") or record.get("instance_id")
    task = str(known or "-".join(str(part) for part in (about, number) if part not in (None, "")))
    shown = [
        {**_message(message), "weight": 0} if message["role"] == "assistant" else _message(message)
        for message in opening
    ]
    row = {"messages": [*shown, *map(_message, reply)], "instance_id": task, "model": record.get("model")}
    trajectory = sft_rows.read(row, where, name) if row["messages"] else Trajectory(task)
    error = _error(record.get("error"))
    limit = limit_of(str(record.get("stop_condition") or "")) or (
        "max_tokens" if record.get("is_truncated") is True else ""
    )
    return replace(
        trajectory,
        stop="error" if error else limit or trajectory.stop,
        error=error or trajectory.error,
        extra={**trajectory.extra, "reward": record["reward"]},
    )


def _read(value: Any) -> Any:
    """Return a field that a table may hold as JSON."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message whose calls, which tables hold as JSON each, are objects in the form of chat endpoints."""
    calls = [as_object(_read(call)) for call in as_list(_read(message.get("tool_calls")))]
    formed = [
        call
        if "function" in call
        else {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": call.get("arguments")},
        }
        for call in calls
    ]
    rest = {name: value for name, value in message.items() if name != "tool_calls" and value is not None}
    return {"content": "", **rest, **({"tool_calls": formed} if formed else {})}


def _error(error: Any) -> str:
    if isinstance(error, Mapping):
        return str(
            error.get("message") or error.get("error_chain_str") or error.get("error") or "an error without words"
        )
    return str(error or "")


# --- episodes -------------------------------------------------------------------------------------------------------


def is_episode(record: Any) -> bool:
    """Say whether a record is an episode of verifiers 0.4, a line of its `traces.jsonl`."""
    traces = record.get("traces") if isinstance(record, Mapping) else None
    if traces == []:
        return {"env", "task", "ok", "errors"} <= set(record)
    return isinstance(traces, list) and all(isinstance(as_object(trace).get("nodes"), list) for trace in traces)


def traces_of(episode: Mapping[str, Any], where: str) -> list[Trajectory]:
    """Return the attempts of an episode of verifiers: of each the branch that ends last; what others hold is counted.

    An episode that an error ended before anybody was asked is an attempt without steps.
    """
    traces = episode["traces"] or [{"nodes": [], **{name: episode.get(name) for name in ("task", "errors", "ok")}}]
    return [_trace(as_object(one), f"{where}, trace {number}") for number, one in enumerate(traces, 1)]


def _trace(record: Mapping[str, Any], where: str) -> Trajectory:
    nodes = [as_object(node) for node in record["nodes"]]
    path = _last_branch(nodes)
    task = as_object(record.get("task"))
    data_id = as_object(task.get("data")).get("id")
    name = str(task.get("key") or "" if data_id is None else data_id)
    errors = "; ".join(_error(error) for error in as_list(record.get("errors")))
    counts = {
        "messages of other branches": len(nodes) - len(path),
        "messages with token ids": sum(bool(nodes[place].get("token_ids")) for place in path),
    }
    facts = {
        "format": NAME, "version": str(record.get("version") or ""), "record": dict(record),
        "rewards": record.get("rewards"), "dropped": {what: count for what, count in counts.items() if count},
    }  # fmt: skip
    if not path:
        return Trajectory(name, stop="error", error=errors or "nothing was said", extra=facts)
    calls = as_list(record.get("calls"))
    model = str(as_object(calls[0]).get("model") or "") if calls else ""
    row = {"messages": [_from_node(nodes[place]) for place in path], "instance_id": name, "model": model}
    trajectory = sft_rows.read(row, where)
    patch = str(as_object(as_object(record.get("info")).get("swebench_lab")).get("patch") or "")
    limit = "timeout" if record.get("is_timeout") is True else limit_of(str(record.get("stop_condition") or ""))
    stop = "error" if errors and not record.get("ok") else limit or trajectory.stop
    dropped = {**as_object(trajectory.extra.get("dropped")), **as_object(facts["dropped"])}
    return replace(
        trajectory, stop=stop, error=errors, patch=patch, extra={**trajectory.extra, **facts, "dropped": dropped}
    )


def _last_branch(nodes: list[Mapping[str, Any]]) -> list[int]:
    """Return the places of the messages that led to the last one."""
    path: list[int] = []
    at: Any = len(nodes) - 1 if nodes else None
    while isinstance(at, int) and 0 <= at < len(nodes) and at not in path:
        if isinstance(as_object(nodes[at].get("message")).get("role"), str):
            path.insert(0, at)
        at = nodes[at].get("parent")
    return path


def _from_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's message as chat endpoints have it; replies that were not sampled here are not trained on."""
    message = _message(as_object(node.get("message")))
    return {**message, "weight": 0} if message["role"] == "assistant" and not node.get("sampled") else message
