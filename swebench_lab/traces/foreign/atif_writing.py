"""Writing ATIF 1.8: an attempt as steps of system, user and agent; sub-agents and calls beside the work as embedded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.agents.external.replaying import requests_of
from swebench_lab.formats.token_ledger import prompts
from swebench_lab.records import arrays
from swebench_lab.records.step import Step, Thread
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.fields import stamp, text_of, without_unknown
from swebench_lab.traces.foreign.lines import Line, is_captured, lines_of

VERSION = "ATIF-v1.8"
"""What is written."""

_Ids = Mapping[int, arrays.Ids | None]


def write(trajectory: Trajectory) -> dict[str, Any]:
    """Return a trajectory in version 1.8 of the format.

    Of a captured attempt the steps are the main work. Where the agent shortened its history, what it went on with stands
    there as copied context. Each sub-agent and each call beside the work is a trajectory of its own in
    `subagent_trajectories`, named at the call that began it where the arguments tell which that was.
    """
    ids = {step.index: prompt for step, prompt in zip(trajectory.steps, prompts(trajectory), strict=True)}
    whole = f"{trajectory.task_id}.{trajectory.attempt}"
    if not is_captured(trajectory):
        opening = [_input_step(message) for message in trajectory.opening]
        return _document(trajectory, whole, [*opening, *(_write(step, ids) for step in trajectory.steps)])
    requests = requests_of(trajectory.steps)
    main, *others = lines_of(trajectory)
    names = {number: f"{whole}.{line.thread.value}-{line.steps[0].index}" for number, line in enumerate(others)}
    entries = _line(main, requests, ids)
    for number, line in enumerate(others):
        _refer(entries, line, names[number])
    record = _document(replace(trajectory, steps=main.steps), whole, entries, trajectory)
    if others:
        record["subagent_trajectories"] = [
            _embed(trajectory, line, names[number], _line(line, requests, ids)) for number, line in enumerate(others)
        ]
    return record


def _document(
    trajectory: Trajectory, name: str, steps: Sequence[dict[str, Any]], captured: Trajectory | None = None
) -> dict[str, Any]:
    """Return a trajectory with steps that are written already; they are numbered here."""
    from swebench_lab import __version__

    facts = trajectory.extra
    tools = facts.get("tools") or (_tools(trajectory.steps) if captured else None)
    return {
        "schema_version": VERSION,
        "session_id": f"{trajectory.task_id}.{trajectory.attempt}",
        "trajectory_id": name,
        "agent": {
            "name": trajectory.flavour or "swebench-lab",
            "version": str(facts.get("version") or __version__) if captured else __version__,
            **({"model_name": trajectory.policy} if trajectory.policy else {}),
            **({"tool_definitions": tools} if tools else {}),
        },
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, 1)],
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


def _embed(trajectory: Trajectory, line: Line, name: str, steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the line of a sub-agent, or a call beside the work, as a trajectory of its own."""
    record = _document(replace(trajectory, steps=line.steps), name, steps, trajectory)
    return {**record, "extra": {"thread": line.thread.value}}


def _tools(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the tools that a line's first request declares."""
    declared = next((step.extra["request"]["tools"] for step in steps if "tools" in step.extra["request"]), ())
    return [{"type": "function", "function": dict(tool)} for tool in declared]


# --- the steps of a captured line ---------------------------------------------------------------------------------------


def _line(line: Line, requests: Sequence[Sequence[dict[str, Any]]], ids: _Ids) -> list[dict[str, Any]]:
    """Return the steps of a line: what each conversation of it began with, then its calls."""
    entries: list[dict[str, Any]] = []
    for number, step in enumerate(line.steps):
        if step.parent is None or number == 0:
            entries += _began_with(requests[step.index], copied=number > 0)
        entries.append(_write(step, ids))
    return entries


def _began_with(messages: Sequence[Mapping[str, Any]], copied: bool) -> list[dict[str, Any]]:
    """Return the messages of a request as steps; replies among them were said earlier, and are copied context."""
    entries: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "assistant":
            entries.append(_copy_reply(message))
        elif message["role"] == "tool" and _answers(message, entries):
            result = {"source_call_id": message["tool_call_id"], "content": text_of(message["content"])}
            entries[-1].setdefault("observation", {"results": []})["results"].append(result)
        else:
            entries.append({**_input_step(message), **({"is_copied_context": True} if copied else {})})
    return entries


def _answers(message: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> bool:
    calls = entries[-1].get("tool_calls", ()) if entries else ()
    return any(call["tool_call_id"] == message.get("tool_call_id") for call in calls)


def _copy_reply(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [
        {
            "tool_call_id": call["id"],
            "function_name": call["name"],
            "arguments": turns.unbroken(call["arguments"], "a recorded request"),
        }
        for call in message.get("tool_calls", ())
    ]
    return {
        "source": "agent",
        "message": text_of(message["content"]),
        **({"tool_calls": calls} if calls else {}),
        "is_copied_context": True,
        "llm_call_count": 0,
    }


def _refer(steps: Sequence[dict[str, Any]], line: Line, name: str) -> None:
    """Name a sub-agent's trajectory at the call that began it."""
    if line.thread is not Thread.SUB_AGENT or line.called_by is None:
        return
    index, number = line.called_by
    caller = next((step for step in steps if step.get("extra", {}).get("step") == index), None)
    if caller is None:
        return
    call = caller["tool_calls"][number]["tool_call_id"]
    results = caller.setdefault("observation", {"results": []})["results"]
    result = next((one for one in results if one.get("source_call_id") == call), None)
    if result is None:
        result = {"source_call_id": call}
        results.append(result)
    result.setdefault("subagent_trajectory_ref", []).append({"trajectory_id": name})


# --- one step -----------------------------------------------------------------------------------------------------------


def _input_step(message: Mapping[str, Any]) -> dict[str, Any]:
    if message.get("demonstration"):
        return _demonstrated_step(message)
    source = "system" if message["role"] == "system" else "user"
    return {"source": source, "message": text_of(message["content"])}


def _demonstrated_step(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of a demonstration as copied context: no model was called for it in this attempt."""
    is_agent = message["role"] == "assistant"
    return {
        "source": "agent" if is_agent else "user",
        "message": text_of(message["content"]),
        "is_copied_context": True,
        **({"llm_call_count": 0} if is_agent else {}),
        "extra": {"demonstration": True, "role": message["role"]},
    }


def _write(step: Step, ids: _Ids) -> dict[str, Any]:
    calls = [
        {"tool_call_id": turns.call_id(step, i), "function_name": call.name, "arguments": turns.typed(call)}
        for i, call in enumerate(turns.calls_of(step))
    ]
    results = [
        {"source_call_id": call["tool_call_id"], "content": one.observation}
        for call, one in zip(calls, step.calls, strict=True)
        if one.observation
    ]
    if not calls and step.observation:
        results = [{"content": step.observation}]
    reply, marks = step.reply, step.extra
    from_model = marks.get("llm_calls") != 0
    metrics = _metrics(step, ids.get(step.index))
    extra = {"reply": reply.text, "command": step.command, "exit_code": step.exit_code}
    extra |= {"signature": reply.signature} if reply.signature else {}
    extra |= {"weight": 0} if marks.get("weight") == 0 else {}
    extra |= {"step": step.index} if "request" in marks else {}
    return {
        **({"timestamp": stamp(step.started_at)} if step.started_at else {}),
        "source": "agent",
        **({"model_name": reply.model} if reply.model else {}),
        "message": turns.words_of(step),
        **({"reasoning_content": reply.reasoning} if reply.reasoning and from_model else {}),
        **({"tool_calls": calls} if calls else {}),
        **({"observation": {"results": results}} if results else {}),
        **({"metrics": metrics} if metrics and from_model else {}),
        **({"is_copied_context": True} if marks.get("copied") else {}),
        "llm_call_count": 1 if from_model else 0,
        "extra": extra | {"seconds": step.seconds, "cwd": step.cwd},
    }


def _metrics(step: Step, prompt: arrays.Ids | None) -> dict[str, Any]:
    reply = step.reply
    metrics = without_unknown(
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cached_tokens=reply.cached_tokens,
        cost_usd=reply.cost,
    )
    if prompt is not None:
        metrics["prompt_token_ids"] = prompt.tolist()
    if reply.token_ids is not None:
        metrics["completion_token_ids"] = reply.token_ids.tolist()
    if reply.logprobs is not None:
        metrics["logprobs"] = reply.logprobs.tolist()
    return metrics
