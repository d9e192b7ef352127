"""Inspect's logs (`.eval`, `.json`): each sample is an attempt."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import sft_rows
from swebench_lab.traces.foreign.fields import as_list, as_object, is_message
from swebench_lab.traces.foreign.steps import limit_of

NAME = "inspect"
_ZSTANDARD = 93
"""The compression of logs that Inspect 0.3.285 writes, which Python's zipfile reads from 3.14 on."""


def is_log(record: Any) -> bool:
    """Say whether a record is a whole log of Inspect."""
    return isinstance(record, Mapping) and isinstance(record.get("eval"), Mapping) and "status" in record


def samples_of(log: Mapping[str, Any], where: str) -> list[Trajectory]:
    """Return the samples of a log of Inspect.

    Raises:
        RecordError: It holds none.
    """
    model = str(log["eval"].get("model") or NAME)
    samples = [one for one in as_list(log.get("samples")) if isinstance(one, Mapping)]
    if not samples:
        raise RecordError(f"{where}: the log of Inspect holds no samples (status {log.get('status')!r})")
    return [
        sample(one, model, f"{where}, sample {number}", log.get("version")) for number, one in enumerate(samples, 1)
    ]


def read_archive(path: Path) -> list[Trajectory]:
    """Return the samples of an `.eval` file, a ZIP archive with `header.json` and `samples/*.json`.

    Of a sample that was written again the last writing counts. A log whose evaluation is not over has no header.

    Raises:
        RecordError: It is no such archive, or a member cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            start = next((name for name in ("header.json", "_journal/start.json") if name in members), "")
            header = as_object(_member(archive, members[start])) if start else {}
            inside = sorted(name for name in members if name.startswith("samples/") and name.endswith(".json"))
            samples = [_member(archive, members[name]) for name in inside]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise RecordError(f"loading trajectories from {path}: the log of Inspect cannot be read: {error}") from error
    log = {"eval": as_object(header.get("eval")), "status": header.get("status"), "version": header.get("version")}
    return samples_of({**log, "samples": samples}, str(path))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """Return the JSON of a member."""
    try:
        return json.loads(archive.read(info))
    except NotImplementedError:
        if info.compress_type != _ZSTANDARD or archive.fp is None:
            raise
    archive.fp.seek(info.header_offset)
    head = archive.fp.read(30)
    archive.fp.seek(sum(struct.unpack("<HH", head[26:30])), 1)
    text = _decompressed(archive.fp.read(info.compress_size))
    if zlib.crc32(text.encode()) != info.CRC:
        raise ValueError(f"{info.filename} is damaged")
    return json.loads(text)


def _decompressed(data: bytes) -> str:
    """Return a text from Zstandard, by polars, which decompresses tables: read as one of one cell."""
    import polars as pl

    options: dict[str, Any] = {"has_header": False, "quote_char": None, "infer_schema": False}
    try:  # control characters, which no JSON holds, part its columns and rows
        return str(pl.read_csv(io.BytesIO(data), separator="\x1f", eol_char="\x1e", **options).item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"a member cannot be decompressed: {error}") from error


def sample(record: Mapping[str, Any], model: str, where: str, version: Any = "") -> Trajectory:
    """Return a sample of Inspect as a Trajectory."""
    messages = record.get("messages", [])
    if not isinstance(messages, list) or not all(map(is_message, messages)):
        raise RecordError(f"{where}, field 'messages': expected a list of messages, each with a 'role'")
    name = "" if record.get("id") is None else str(record["id"])
    dropped: Counter[str] = Counter()
    attachments = as_object(record.get("attachments"))
    plain = [_message(message, attachments, dropped) for message in messages]
    row = {"messages": plain, "instance_id": name, "model": model}
    trajectory = (
        sft_rows.read(row, where) if plain else Trajectory(name, policy=model, stop="error", error="nothing was said")
    )
    facts: dict[str, Any] = {"format": NAME, "version": str(version or ""), "record": dict(record)}
    if isinstance(record.get("scores"), Mapping):
        facts["scores"] = {name: as_object(s).get("value") for name, s in record["scores"].items()}
    if record.get("invalidation"):
        facts["invalidated"] = str(as_object(record["invalidation"]).get("reason") or True)
    counts = {**as_object(trajectory.extra.get("dropped")), **dropped}
    epoch, error = record.get("epoch"), as_object(record.get("error")).get("message")
    text = str(error or trajectory.error)
    kind = str(as_object(record.get("limit")).get("type") or "")
    limit = "cancelled" if kind == "custom" else limit_of(kind)
    return replace(
        trajectory,
        attempt=epoch - 1 if isinstance(epoch, int) and epoch > 0 else 0,
        stop="error" if error else limit or trajectory.stop,
        error=text,
        extra={**trajectory.extra, **facts, **({"dropped": counts} if counts else {})},
    )


def _message(message: Mapping[str, Any], attachments: Mapping[str, Any], dropped: Counter[str]) -> dict[str, Any]:
    """Return a message as chat endpoints have it: reasoning beside the text, an error of a tool as what the model saw of it."""
    content = message.get("content")
    parts = [as_object(part) for part in content] if isinstance(content, list) else [{"type": "text", "text": content}]
    words = [_text(part.get("text"), attachments) for part in parts if part.get("type") == "text"]
    thoughts = [_thought(part, dropped) for part in parts if part.get("type") == "reasoning"]
    others = Counter(str(part.get("type")) for part in parts if part.get("type") not in ("text", "reasoning"))
    dropped.update({f"parts of the kind {kind}": count for kind, count in others.items()})
    result: dict[str, Any] = {"role": message["role"], "content": "\n".join(filter(None, words))}
    if any(thoughts):
        result["reasoning_content"] = "\n".join(filter(None, thoughts))
    if message.get("tool_calls"):
        result["tool_calls"] = [_call(as_object(call)) for call in as_list(message["tool_calls"])]
    if message["role"] == "assistant" and message.get("source") == "input":
        result["weight"] = 0  # the sample's own example, which no model said
    if isinstance(message.get("error"), Mapping):
        result["content"] = str(message["error"].get("message") or result["content"])
    if isinstance(message.get("tool_call_id"), str):
        result["tool_call_id"] = message["tool_call_id"]
    return result


def _text(text: Any, attachments: Mapping[str, Any]) -> str:
    """Return a text, also one that stands among the sample's attachments."""
    words = "" if text is None else str(text)
    return (
        str(attachments.get(words.removeprefix("attachment://"), words)) if words.startswith("attachment://") else words
    )


def _thought(part: Mapping[str, Any], dropped: Counter[str]) -> str:
    """Return what can be read of a thought: of one that is encrypted, its summary."""
    if not part.get("redacted"):
        return str(part.get("reasoning") or part.get("summary") or "")
    dropped["encrypted thoughts"] += 1
    return str(part.get("summary") or "")


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call.get("function"), "arguments": call.get("arguments")}
    return {"id": call.get("id"), "type": "function", "function": function}
