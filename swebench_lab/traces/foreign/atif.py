"""ATIF, the agent trajectory interchange format (versions 1.0 to 1.8): steps of system, user and agent with tool calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call
from swebench_lab.records import arrays
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.atif_writing import VERSION, write
from swebench_lab.traces.foreign.fields import (
    amount,
    as_list,
    field,
    known_amount,
    known_count,
    moment,
    shortly,
    text_of,
)

NAME = "atif"
SUFFIX = ".json"
_NEWEST = 8
_SOURCES = ("system", "user", "agent")


def is_one(record: Any) -> bool:
    """Say whether a record has this format's shape."""
    return isinstance(record, Mapping) and str(record.get("schema_version", "")).upper().startswith("ATIF")


def version(record: Mapping[str, Any]) -> str:
    """Return the version a record names."""
    return str(record.get("schema_version", ""))


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory; see `sweagent.read`.

    Steps that were copied from an earlier segment, and those that no model was called for, have the weight 0 and no cost:
    they are seen and not trained on. Steps of sub-agents stay in the record, and are counted in `extra["dropped"]`.
    """
    _check_version(version(record), where)
    opening: list[Message] = []
    steps: list[Step] = []
    copies = 0
    agent = field(record, "agent", Mapping, where, {})
    model = str(agent.get("model_name") or "")
    for number, raw in enumerate(field(record, "steps", list, where, [])):
        at = f"{where}, step {number + 1}"
        if not isinstance(raw, Mapping) or raw.get("source") not in _SOURCES:
            raise RecordError(
                f"{at}, field 'source': expected one of {', '.join(_SOURCES)}, found "
                f"{shortly(raw.get('source') if isinstance(raw, Mapping) else raw)}"
            )
        if not steps and turns.is_demonstration(raw):
            opening.append(_demonstrated(raw))
        elif raw["source"] != "agent" and steps and raw.get("is_copied_context") is True:
            copies += 1
        elif raw["source"] == "agent":
            steps.append(_step(len(steps), raw, model, at))
        elif not steps:
            text = text_of(raw.get("message"))
            opening.append({"role": "system" if raw["source"] == "system" else "user", "content": text})
        else:
            steps[-1] = _with_results(steps[-1], raw, at)
    steps = _with_prompts(steps, field(record, "steps", list, where, []), where)
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
        started_at=next((step.started_at for step in steps if step.started_at), 0.0),
        extra=_beside(record, agent, copies, where),
    )


def _demonstrated(raw: Mapping[str, Any]) -> Message:
    """Return a message of a demonstration, as `atif_writing` writes it."""
    extra = raw.get("extra")
    is_result = isinstance(extra, Mapping) and extra.get("role") == "tool"
    role = "assistant" if raw["source"] == "agent" else "tool" if is_result else "user"
    return {"role": role, "content": text_of(raw.get("message")), "demonstration": True}


def _check_version(label: str, where: str) -> None:
    """Refuse a version that is not known.

    Raises:
        RecordError: It is newer, or none.
    """
    match = re.fullmatch(r"ATIF-v1\.(\d+)", label, re.IGNORECASE)
    if match is None or int(match[1]) > _NEWEST:
        raise RecordError(
            f"{where}, field 'schema_version': {label!r} is not known; ATIF is read from ATIF-v1.0 to ATIF-v1.{_NEWEST}"
        )


def _beside(record: Mapping[str, Any], agent: Mapping[str, Any], copies: int, where: str) -> dict[str, Any]:
    """Return what a record says beside its steps: the tools, the next file, and how many steps were left out."""
    facts: dict[str, Any] = {}
    if agent.get("tool_definitions"):
        facts["tools"] = agent["tool_definitions"]
    if record.get("continued_trajectory_ref"):
        facts["continued"] = record["continued_trajectory_ref"]
    inner = [sub for sub in field(record, "subagent_trajectories", list, where, ()) if isinstance(sub, Mapping)]
    dropped = {"steps of sub-agents": sum(len(as_list(sub.get("steps"))) for sub in inner), "copied messages": copies}
    if any(dropped.values()):
        facts["dropped"] = {name: count for name, count in dropped.items() if count}
    return facts


def _stop(steps: Sequence[Step]) -> str:
    is_complete = bool(steps) and (not steps[-1].tool or steps[-1].tool in turns.ENDS)
    return Stop.SUBMITTED.value if is_complete else Stop.CANCELLED.value


def _step(index: int, raw: Mapping[str, Any], model: str, where: str) -> Step:
    calls = []
    for number, call in enumerate(field(raw, "tool_calls", list, where, ())):
        if not isinstance(call, Mapping) or not call.get("function_name"):
            raise RecordError(f"{where}, tool call {number}, field 'function_name': missing in {shortly(call)}")
        arguments = turns.unbroken(call.get("arguments"), f"{where}, tool call {number}")
        calls.append(Call(str(call["function_name"]), arguments))
    metrics = field(raw, "metrics", Mapping, where, {})
    extra = field(raw, "extra", Mapping, where, {})
    message = text_of(raw.get("message"))
    reasoning = text_of(raw.get("reasoning_content"))
    words = message if message or calls else reasoning
    is_copy, called = raw.get("is_copied_context") is True, raw.get("llm_call_count") != 0
    at = moment(raw.get("timestamp"))
    ids = _numbers(metrics, "completion_token_ids", where)
    logprobs = _numbers(metrics, "logprobs", where)
    reply = Reply(
        turns.reply_text(words, calls, str(extra.get("reply") or "")),
        token_ids=arrays.ids([int(i) for i in ids]) if ids else None,
        logprobs=arrays.logprobs(logprobs) if ids and len(logprobs) == len(ids) else None,
        model=str(raw.get("model_name") or model),
        reasoning=reasoning if words != reasoning else "",
        signature=str(extra.get("signature") or ""),
        **_counts({} if is_copy or not called else metrics, where, none=is_copy or not called),
    )
    code = extra.get("exit_code")
    return turns.step(
        index,
        reply,
        words,
        calls,
        _results(raw, where),
        ids=[str(call.get("tool_call_id") or "") for call in raw.get("tool_calls") or ()],
        command=str(extra.get("command") or ""),
        exit_code=code if isinstance(code, int) else None,
        seconds=amount(extra, "seconds", where),
        cwd=str(extra.get("cwd") or ""),
        started_at=at,
        role="tool" if calls else "user",
        **_marks(is_copy, called, extra),
    )


def _with_prompts(steps: Sequence[Step], raw: Sequence[Mapping[str, Any]], where: str) -> list[Step]:
    """Return steps with the ids of their prompts, each as what it added to the step before; where all have them."""
    records = [one for one in raw if one["source"] == "agent"]
    records = records[len(records) - len(steps) :]  # those before are of demonstrations
    prompts = [_numbers(field(one, "metrics", Mapping, where, {}), "prompt_token_ids", where) for one in records]
    result: list[Step] = []
    whole = arrays.ids(())
    for step, numbers in zip(steps, prompts, strict=True):
        reply_ids = step.reply.token_ids
        if not numbers or reply_ids is None:
            result.append(step)
            continue
        prompt = arrays.ids([int(number) for number in numbers])
        goes_on = 0 < len(whole) <= len(prompt) and bool((prompt[: len(whole)] == whole).all())
        context = prompt[len(whole) :] if goes_on else prompt
        result.append(replace(step, reply=replace(step.reply, context_ids=context, restart=not goes_on)))
        whole = arrays.concatenate(prompt, reply_ids)
    return result


def _counts(metrics: Mapping[str, Any], where: str, none: bool) -> dict[str, Any]:
    """Return what a reply took; nothing where none was asked for in this segment."""
    if none:
        return {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "cost": 0.0}
    return {
        "prompt_tokens": known_count(metrics, "prompt_tokens", where),
        "completion_tokens": known_count(metrics, "completion_tokens", where),
        "cached_tokens": known_count(metrics, "cached_tokens", where),
        "cost": known_amount(metrics, "cost_usd", where),
    }


def _marks(is_copy: bool, called: bool, extra: Mapping[str, Any]) -> dict[str, Any]:
    marks: dict[str, Any] = {"copied": True} if is_copy else {}
    marks |= {} if called else {"llm_calls": 0}
    if marks or extra.get("weight") == 0:
        marks["weight"] = 0
    return {"extra": marks} if marks else {}


def _numbers(metrics: Mapping[str, Any], name: str, where: str) -> list[float]:
    values: list[Any] = field(metrics, name, list, where, [])
    if all(isinstance(value, (int, float)) for value in values):
        return values
    raise RecordError(f"{where}, field {name!r}: expected a list of numbers")


def _results(raw: Mapping[str, Any], where: str) -> list[str]:
    observation = field(raw, "observation", Mapping, where, {})
    results = field(observation, "results", list, f"{where}, observation", ())
    return [text_of(result.get("content")) for result in results if isinstance(result, Mapping)]


def _with_results(step: Step, raw: Mapping[str, Any], where: str) -> Step:
    """Return a step with what a user or the system said after it."""
    observation = step.calls[-1].observation if step.calls else step.correction
    text = "\n".join(filter(None, [observation, text_of(raw.get("message")), *_results(raw, where)]))
    return step.with_call(observation=text)


__all__ = ["NAME", "SUFFIX", "VERSION", "is_one", "read", "version", "write"]
