"""Results of evaluation frameworks: Inspect's logs (`.eval`, `.json`), the rows of verifiers and its episodes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import sft_rows
from swebench_lab.traces.foreign.fields import as_list, as_object, messages_in

INSPECT, VERIFIERS = "inspect", "verifiers"


def is_log(record: Any) -> bool:
    """Say whether a record is a whole log of Inspect."""
    return isinstance(record, Mapping) and isinstance(record.get("eval"), Mapping) and "status" in record


def samples_of(log: Mapping[str, Any], where: str) -> list[Trajectory]:
    """Return the samples of a log of Inspect.

    Raises:
        RecordError: It holds none.
    """
    model = str(log["eval"].get("model") or INSPECT)
    samples = [one for one in as_list(log.get("samples")) if isinstance(one, Mapping)]
    if not samples:
        raise RecordError(f"{where}: the log of Inspect holds no samples (status {log.get('status')!r})")
    return [
        sample(one, model, f"{where}, sample {number}", log.get("version")) for number, one in enumerate(samples, 1)
    ]


def read_archive(path: Path) -> list[Trajectory]:
    """Return the samples of an `.eval` file, a ZIP archive with `header.json` and `samples/*.json`.

    Raises:
        RecordError: It is no such archive, or a member cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            start = next((name for name in ("header.json", "_journal/start.json") if name in names), "")
            header = as_object(json.loads(archive.read(start))) if start else {}
            inside = sorted(name for name in names if name.startswith("samples/") and name.endswith(".json"))
            samples = [json.loads(archive.read(name)) for name in inside]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise RecordError(f"loading trajectories from {path}: the log of Inspect cannot be read: {error}") from error
    log = {"eval": as_object(header.get("eval")), "status": header.get("status"), "version": header.get("version")}
    return samples_of({**log, "samples": samples}, str(path))


def sample(record: Mapping[str, Any], model: str, where: str, version: Any = "") -> Trajectory:
    """Return a sample of Inspect as a Trajectory."""
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages_in(messages):
        raise RecordError(f"{where}, field 'messages': expected a list of messages, each with a 'role'")
    epoch = record.get("epoch")
    plain = [_from_inspect(message) for message in messages]
    row = {"messages": plain, "instance_id": str(record.get("id") or ""), "model": model}
    trajectory = sft_rows.read(row, where)
    facts: dict[str, Any] = {"format": INSPECT, "version": str(version or ""), "record": dict(record)}
    if isinstance(record.get("scores"), Mapping):
        facts["scores"] = {name: as_object(s).get("value") for name, s in record["scores"].items()}
    attempt = epoch - 1 if isinstance(epoch, int) and epoch > 0 else 0
    error = record.get("error")
    text = str(error.get("message") or "") if isinstance(error, Mapping) else ""
    return replace(
        trajectory,
        attempt=attempt,
        stop="error" if text else trajectory.stop,
        error=text,
        extra={**trajectory.extra, **facts},
    )


def _from_inspect(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of Inspect as chat endpoints have it: reasoning beside the text, errors of tools as what they said."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    thoughts = [str(p.get("reasoning") or "") for p in parts if isinstance(p, Mapping) and p.get("type") == "reasoning"]
    words = [p for p in parts if not (isinstance(p, Mapping) and p.get("type") == "reasoning")] if parts else content
    result: dict[str, Any] = {"role": message["role"], "content": words}
    if thoughts:
        result["reasoning_content"] = "\n".join(thoughts)
    if message.get("tool_calls"):
        result["tool_calls"] = [
            {
                "id": call.get("id"),
                "type": "function",
                "function": {"name": call.get("function"), "arguments": call.get("arguments")},
            }
            for call in map(as_object, as_list(message["tool_calls"]))
        ]
    error = message.get("error")
    if isinstance(error, Mapping) and not content:
        result["content"] = str(error.get("message") or "")
    if message.get("tool_call_id"):
        result["tool_call_id"] = message["tool_call_id"]
    return result


def is_episode(record: Any) -> bool:
    """Say whether a record is an episode of verifiers 0.4, a line of its `traces.jsonl`."""
    traces = record.get("traces") if isinstance(record, Mapping) else None
    return (
        bool(traces) and isinstance(traces, list) and all(isinstance(as_object(t).get("nodes"), list) for t in traces)
    )


def traces_of(episode: Mapping[str, Any], where: str) -> list[Trajectory]:
    """Return the attempts of an episode of verifiers: of each the branch that ends last; what others hold is counted."""
    return [_trace(as_object(one), f"{where}, trace {number}") for number, one in enumerate(episode["traces"], 1)]


def _trace(record: Mapping[str, Any], where: str) -> Trajectory:
    nodes = [as_object(node) for node in record["nodes"]]
    path: list[int] = []
    at = len(nodes) - 1 if nodes else None
    while isinstance(at, int) and 0 <= at < len(nodes) and at not in path:
        path.insert(0, at)
        at = nodes[at].get("parent")
    task = as_object(record.get("task"))
    name = str(as_object(task.get("data")).get("id") or task.get("key") or "")
    errors = "; ".join(str(as_object(error).get("message") or "") for error in as_list(record.get("errors")))
    counts = {
        "messages of other branches": len(nodes) - len(path),
        "messages with token ids": sum(bool(nodes[place].get("token_ids")) for place in path),
    }
    facts = {
        "format": VERIFIERS, "version": str(record.get("version") or ""), "record": dict(record),
        "rewards": record.get("rewards"), "dropped": {what: count for what, count in counts.items() if count},
    }  # fmt: skip
    if not path:
        return Trajectory(name, stop="error", error=errors or "nothing was said", extra=facts)
    calls = as_list(record.get("calls"))
    model = str(as_object(calls[0]).get("model") or "") if calls else ""
    row = {"messages": [_from_node(nodes[place]) for place in path], "instance_id": name, "model": model}
    trajectory = sft_rows.read(row, where)
    patch = str(as_object(as_object(record.get("info")).get("swebench_lab")).get("patch") or "")
    stop = "error" if errors and not record.get("ok") else trajectory.stop
    dropped = {**as_object(trajectory.extra.get("dropped")), **as_object(facts["dropped"])}
    return replace(
        trajectory, stop=stop, error=errors, patch=patch, extra={**trajectory.extra, **facts, "dropped": dropped}
    )


def _from_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's message as chat endpoints have it; replies that were not sampled here are not trained on."""
    message = dict(as_object(node.get("message")))
    if message.get("tool_calls"):
        message["tool_calls"] = [
            {
                "id": c.get("id"),
                "type": "function",
                "function": {"name": c.get("name"), "arguments": c.get("arguments")},
            }
            for c in map(as_object, as_list(message["tool_calls"]))
        ]
    if message.get("role") == "assistant":
        message = {"content": "", **message, **({} if node.get("sampled") else {"weight": 0})}
    return message


class Verifiers:
    """Reads a row of verifiers' results: `prompt`, `completion`, `reward` and what the task knew."""

    NAME = VERIFIERS
    SUFFIX = ".jsonl"

    @staticmethod
    def is_one(record: Any) -> bool:
        """Say whether a record is a row of verifiers' results."""
        return isinstance(record, Mapping) and messages_in(record.get("completion")) and "reward" in record

    @staticmethod
    def version(record: Mapping[str, Any]) -> str:  # noqa: ARG004
        """Return nothing: rows name no version."""
        return ""

    @staticmethod
    def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
        """Return a row as a Trajectory, its reward in `extra`; no reward is taken for a verdict."""
        prompt = record.get("prompt")
        opening = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else as_list(prompt)
        info = as_object(record.get("info"))
        task = str(
            info.get("instance_id")
            or record.get("instance_id")
            or f"{record.get('task') or name}-{record.get('example_id')}"
        )
        row = {"messages": [*opening, *record["completion"]], "instance_id": task}
        trajectory = sft_rows.read(row, where, name)
        return replace(trajectory, extra={**trajectory.extra, "reward": record["reward"]})
