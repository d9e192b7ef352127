"""ATIF, the agent trajectory interchange format (versions 1.0 to 1.7): steps of system, user and agent with tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call
from swebench_lab.records import arrays
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces import steps as turns
from swebench_lab.traces.fields import (
    amount,
    field,
    known_amount,
    known_count,
    moment,
    shortly,
    stamp,
    text_of,
    without_unknown,
)

NAME = "atif"
SUFFIX = ".json"
VERSION = "ATIF-v1.4"
"""What is written: the first version that can hold a prompt's token ids, which readers of later ones read too."""
_SOURCES = ("system", "user", "agent")


def is_one(record: Any) -> bool:
    """Say whether a record has this format's shape."""
    return isinstance(record, Mapping) and str(record.get("schema_version", "")).upper().startswith("ATIF")


def version(record: Mapping[str, Any]) -> str:
    """Return the version a record names."""
    return str(record.get("schema_version", ""))


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory; see `sweagent.read`."""
    opening: list[Message] = []
    steps: list[Step] = []
    agent = field(record, "agent", Mapping, where, {})
    model = str(agent.get("model_name") or "")
    for number, raw in enumerate(field(record, "steps", list, where, [])):
        at = f"{where}, step {number + 1}"
        if not isinstance(raw, Mapping) or raw.get("source") not in _SOURCES:
            raise RecordError(
                f"{at}, field 'source': expected one of {', '.join(_SOURCES)}, found "
                f"{shortly(raw.get('source') if isinstance(raw, Mapping) else raw)}"
            )
        if raw["source"] == "agent":
            steps.append(_step(len(steps), raw, model, at))
        elif not steps:
            text = text_of(raw.get("message"))
            opening.append({"role": "system" if raw["source"] == "system" else "user", "content": text})
        else:
            steps[-1] = _told(steps[-1], raw, at)
    extra = field(record, "extra", Mapping, where, {})
    stop, error = turns.ending(extra["exit_status"]) if "exit_status" in extra else (_stop(steps), "")
    return Trajectory(
        str(extra.get("instance_id") or extra.get("task_id") or name or record.get("session_id") or ""),
        opening=tuple(opening),
        steps=tuple(steps),
        stop=stop,
        patch=str(extra.get("patch") or ""),
        error=str(extra.get("error") or error),
        policy=model or str(agent.get("name") or NAME),
        flavour="xml",
        started_at=next((made.started_at for made in steps if made.started_at), 0.0),
    )


def _stop(steps: Sequence[Step]) -> str:
    ended = bool(steps) and (not steps[-1].tool or steps[-1].tool in turns.ENDS)
    return Stop.SUBMITTED.value if ended else Stop.CANCELLED.value


def _step(index: int, raw: Mapping[str, Any], model: str, where: str) -> Step:
    calls = []
    for number, given in enumerate(field(raw, "tool_calls", list, where, ())):
        if not isinstance(given, Mapping) or not given.get("function_name"):
            raise RecordError(f"{where}, tool call {number}, field 'function_name': missing in {shortly(given)}")
        arguments = turns.unbroken(given.get("arguments"), f"{where}, tool call {number}")
        calls.append(Call(str(given["function_name"]), arguments))
    metrics = field(raw, "metrics", Mapping, where, {})
    extra = field(raw, "extra", Mapping, where, {})
    message = text_of(raw.get("message"))
    words = message or text_of(raw.get("reasoning_content"))
    at = moment(raw.get("timestamp"))
    ids = _numbers(metrics, "completion_token_ids", where)
    logprobs = _numbers(metrics, "logprobs", where)
    reply = Reply(
        turns.said(words, calls, str(extra.get("reply") or "")),
        token_ids=arrays.ids([int(i) for i in ids]) if ids else None,
        logprobs=arrays.logprobs(logprobs) if ids and len(logprobs) == len(ids) else None,
        prompt_tokens=known_count(metrics, "prompt_tokens", where),
        completion_tokens=known_count(metrics, "completion_tokens", where),
        cached_tokens=known_count(metrics, "cached_tokens", where),
        cost=known_amount(metrics, "cost_usd", where),
        model=str(raw.get("model_name") or model),
    )
    code = extra.get("exit_code")
    return turns.step(
        index,
        reply,
        words,
        calls,
        _results(raw, where),
        ids=[str(given.get("tool_call_id") or "") for given in raw.get("tool_calls") or ()],
        command=str(extra.get("command") or ""),
        exit_code=code if isinstance(code, int) else None,
        seconds=amount(extra, "seconds", where),
        cwd=str(extra.get("cwd") or ""),
        started_at=at,
        role="tool" if calls else "user",
    )


def _numbers(metrics: Mapping[str, Any], name: str, where: str) -> list[float]:
    found: list[Any] = field(metrics, name, list, where, [])
    if all(isinstance(value, (int, float)) for value in found):
        return found
    raise RecordError(f"{where}, field {name!r}: expected a list of numbers")


def _results(raw: Mapping[str, Any], where: str) -> list[str]:
    observation = field(raw, "observation", Mapping, where, {})
    results = field(observation, "results", list, f"{where}, observation", ())
    return [text_of(result.get("content")) for result in results if isinstance(result, Mapping)]


def _told(made: Step, raw: Mapping[str, Any], where: str) -> Step:
    """Return a step with what a user or the system said after it."""
    shown = made.calls[-1].observation if made.calls else made.correction
    text = "\n".join(filter(None, [shown, text_of(raw.get("message")), *_results(raw, where)]))
    return made.with_call(observation=text)


# --- writing --------------------------------------------------------------------------------------------------------


def write(trajectory: Trajectory) -> dict[str, Any]:
    """Return a trajectory in version 1.4 of the format."""
    from swebench_lab import __version__

    steps: list[dict[str, Any]] = []
    for message in trajectory.opening:
        source = "system" if message["role"] == "system" else "user"
        steps.append({"step_id": len(steps) + 1, "source": source, "message": message["content"]})
    for made in trajectory.steps:
        steps.append(_written(made, len(steps) + 1))
    return {
        "schema_version": VERSION,
        "session_id": f"{trajectory.task_id}.{trajectory.attempt}",
        "agent": {
            "name": trajectory.flavour or "swebench-lab",
            "version": __version__,
            **({"model_name": trajectory.policy} if trajectory.policy else {}),
        },
        "steps": steps,
        "final_metrics": {
            **without_unknown(
                total_prompt_tokens=trajectory.prompt_tokens,
                total_completion_tokens=trajectory.tokens,
                total_cached_tokens=trajectory.cached_tokens,
                total_cost_usd=trajectory.cost,
            ),
            "total_steps": len(steps),
        },
        "extra": {
            "instance_id": trajectory.task_id,
            "exit_status": trajectory.stop,
            "patch": trajectory.patch,
            **({"error": trajectory.error} if trajectory.error else {}),
        },
    }


def _written(made: Step, number: int) -> dict[str, Any]:
    calls = [
        {"tool_call_id": turns.call_id(made, i), "function_name": call.name, "arguments": turns.typed(call)}
        for i, call in enumerate(turns.calls_of(made))
    ]
    reply = made.reply
    metrics = without_unknown(
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cached_tokens=reply.cached_tokens,
        cost_usd=reply.cost,
    )
    if reply.token_ids is not None:
        metrics["completion_token_ids"] = reply.token_ids.tolist()
    if reply.logprobs is not None:
        metrics["logprobs"] = reply.logprobs.tolist()
    result: dict[str, Any] = {"content": made.observation}
    if calls:
        result = {"source_call_id": calls[-1]["tool_call_id"], **result}
    extra = {"reply": reply.text, "command": made.command, "exit_code": made.exit_code}
    return {
        "step_id": number,
        **({"timestamp": stamp(made.started_at)} if made.started_at else {}),
        "source": "agent",
        **({"model_name": reply.model} if reply.model else {}),
        "message": turns.words_of(made),
        **({"tool_calls": calls} if calls else {}),
        **({"observation": {"results": [result]}} if made.observation else {}),
        "metrics": metrics,
        "extra": extra | {"seconds": made.seconds, "cwd": made.cwd},
    }
