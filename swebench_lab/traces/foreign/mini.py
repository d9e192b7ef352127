"""mini-swe-agent's `.traj.json`: plain lists of messages, 1.x, and 2.x with text, tool calls or responses-API items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call
from swebench_lab.records.reply import Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.fields import (
    field,
    known_amount,
    known_count,
    messages_in,
    moment,
    objects,
    text_of,
    without_unknown,
)

NAME = "mini-swe-agent"
SUFFIX = ".traj.json"
MARK = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""The first line of output that hands the work in; what follows it is the submission."""
_OLD_MARK = "MINI_SWE_AGENT_FINAL_OUTPUT"
_VERSION = "mini-swe-agent-1.1"
_BLOCK = re.compile(r"```(?:mswea_bash_command|bash)\s*\n(.*?)\n```", re.DOTALL)
FRAMED = re.compile(
    r"\A(?:<exception>.*?</exception>\n)?<returncode>(-?\d+)</returncode>\n<output>\n?(.*?)</output>\s*\Z", re.DOTALL
)


def is_one(record: Any) -> bool:
    """Say whether a record has this format's shape."""
    if isinstance(record, list):
        return _talks(record) and any(
            m.get("role") == "assistant" and _BLOCK.search(text_of(m.get("content"))) for m in record
        )
    if not isinstance(record, Mapping) or not _talks(record.get("messages")):
        return False
    info = record.get("info")
    has_version = isinstance(info, Mapping) and "mini_version" in info
    return has_version or str(record.get("trajectory_format", "")).startswith(NAME)


def _talks(messages: Any) -> bool:
    return messages_in([_usual(m) for m in messages] if isinstance(messages, list) and _objects(messages) else messages)


def _objects(messages: Sequence[Any]) -> bool:
    return all(isinstance(m, Mapping) for m in messages)


def version(record: Any) -> str:
    """Return which of the format's shapes a record has."""
    return "messages" if isinstance(record, list) else str(record.get("trajectory_format", "") or "1")


def read(record: Any, where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory; see `sweagent.read`."""
    values: Mapping[str, Any] = {"messages": record} if isinstance(record, list) else record
    info = field(values, "info", Mapping, where, {})
    messages = [_usual(m) for m in field(values, "messages", list, where, [])]
    if not messages_in(messages):
        raise RecordError(f"{where}, field 'messages': expected a list of messages, each with a 'role'")
    messages, last, submission = _without_end(messages, where)
    starts = [i for i, m in enumerate(messages) if m["role"] == "assistant" and not turns.is_demonstration(m)]
    first = starts[0] if starts else len(messages)
    steps = []
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(messages)
        steps.append(_step(number, messages[start], messages[start + 1 : end], f"{where}, message {start}"))
    if submission is not None and steps and not steps[-1].observation and "output" not in steps[-1].extra:
        steps[-1] = _with_output(steps[-1], submission)
    config = field(info, "config", Mapping, where, {})
    stop, error = _stop(info, config, last, steps)
    text = all(step.role == "user" for step in steps)
    return Trajectory(
        str(values.get("instance_id") or name),
        opening=turns.opening_messages(messages[:first]),
        steps=tuple(steps),
        stop=stop,
        patch=str(info.get("submission") or submission or ""),
        error=error,
        policy=str(field(config, "model", Mapping, where, {}).get("model_name") or NAME),
        flavour="mini" if text else "xml",
    )


def _usual(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give messages of the responses API the form of the chat API."""
    if message.get("object") == "response":
        output = message.get("output")
        items = [item for item in output if isinstance(item, Mapping)] if isinstance(output, list) else []
        words = [text_of(item.get("content")) for item in items if item.get("type") == "message"]
        calls = [
            {"id": item.get("call_id"), "function": {"name": item.get("name"), "arguments": item.get("arguments")}}
            for item in items
            if item.get("type") == "function_call"
        ]
        return {**message, "role": "assistant", "content": "".join(words), "tool_calls": calls}
    if message.get("type") == "function_call_output":
        return {**message, "role": "tool", "content": message.get("output")}
    return message


def _without_end(
    messages: Sequence[Mapping[str, Any]], where: str
) -> tuple[list[Mapping[str, Any]], Mapping[str, Any], str | None]:
    """Take the message off that is no observation but the end: role `exit`, or in 1.x what the submission printed."""
    last = messages[-1]
    extra = field(last, "extra", Mapping, where, {})
    if last["role"] == "exit":
        return list(messages[:-1]), extra, extra.get("submission", text_of(last.get("content")))
    if last["role"] == "user" and len(messages) > 2 and _hands_in(messages[-2]):
        return list(messages[:-1]), {"exit_status": "Submitted"}, text_of(last.get("content"))
    return list(messages), extra, None


def _hands_in(message: Mapping[str, Any]) -> bool:
    text = text_of(message.get("content"))
    return message["role"] == "assistant" and (MARK in text or _OLD_MARK in text)


def _stop(
    info: Mapping[str, Any], config: Mapping[str, Any], last: Mapping[str, Any], steps: Sequence[Step]
) -> tuple[str, str]:
    status = info.get("exit_status") or last.get("exit_status")
    stop, error = turns.ending(status)
    if str(status) == "LimitsExceeded":
        limit = (config.get("agent") or {}).get("step_limit") or 0
        stop = Stop.MAX_STEPS.value if 0 < limit <= len(steps) else Stop.MAX_COST.value
    return stop, error and (str(last.get("exception_str") or "") or error)


def _step(number: int, message: Mapping[str, Any], results: Sequence[Mapping[str, Any]], where: str) -> Step:
    words = text_of(message.get("content"))
    extra = field(message, "extra", Mapping, where, {})
    native = turns.native_calls(message, where)
    calls = native or [
        Call("bash", {"command": str(action["command"])})
        for action in objects(extra, "actions", where)
        if "command" in action
    ]
    if not calls and len(blocks := _BLOCK.findall(words)) == 1:
        calls = [Call("bash", {"command": blocks[0]})]
    thought = words if native else _BLOCK.split(words)[0].strip() if calls else words
    outcome = [_outcome(m, where) for m in results]
    codes = [code for code, _ in outcome if code is not None]
    outputs = [output for _, output in outcome if output is not None]
    usage = field(field(extra, "response", Mapping, where, {}), "usage", Mapping, where, {})
    at = moment(extra.get("timestamp"))
    after = [moment(field(m, "extra", Mapping, where, {}).get("timestamp")) for m in results]
    return turns.step(
        number,
        Reply(
            turns.reply_text(words, native),
            cost=known_amount(extra, "cost", where),
            prompt_tokens=known_count(usage, "prompt_tokens", where),
            completion_tokens=known_count(usage, "completion_tokens", where),
        ),
        thought,
        calls,
        [text_of(m.get("content")) for m in results],
        ids=turns.ids_of(message) if native else (),
        output="".join(outputs) if outputs else None,
        exit_code=codes[-1] if codes else None,
        timed_out=any("timed out after" in str((m.get("extra") or {}).get("exception_info") or "") for m in results),
        seconds=max(0.0, after[-1] - at) if after and after[-1] and at else 0.0,
        started_at=at,
        role="tool" if any(m["role"] == "tool" for m in results) or native else "user",
    )


def _outcome(message: Mapping[str, Any], where: str) -> tuple[int | None, str | None]:
    """Return the exit code and the output that an observation tells of."""
    extra = field(message, "extra", Mapping, where, {})
    if "raw_output" in extra:
        code = extra.get("returncode")
        return (code if isinstance(code, int) and code >= 0 else None), str(extra["raw_output"])
    if framed := FRAMED.match(text_of(message.get("content"))):
        return int(framed[1]), framed[2]
    return None, None


def _with_output(step: Step, submission: str) -> Step:
    """Return the step that handed the work in, with what its command must have printed."""
    return replace(
        step.with_call(exit_code=0) if step.calls else step, extra={**step.extra, "output": f"{MARK}\n{submission}"}
    )


# --- writing --------------------------------------------------------------------------------------------------------


def write(trajectory: Trajectory) -> dict[str, Any]:
    """Return a trajectory as mini-swe-agent 2 stores one."""
    messages = [_opening_entry(entry) for entry in turns.opening_entries(trajectory.opening)]
    for step in trajectory.steps:
        messages += _messages(step)
    status = _STATUSES.get(trajectory.stop, trajectory.error or trajectory.stop)
    end = {"exit_status": status, "submission": trajectory.patch}
    messages.append({"role": "exit", "content": trajectory.patch or status, "extra": end})
    info = {
        "model_stats": {
            **without_unknown(instance_cost=trajectory.cost),
            "api_calls": len(trajectory.steps),
        },
        "config": {"agent": {"step_limit": 0}, "model": {"model_name": trajectory.policy}},
        "mini_version": "2",
        **end,
    }
    return {
        "info": info,
        "messages": messages,
        "trajectory_format": _VERSION,
        "instance_id": trajectory.task_id,
    }


_STATUSES: Mapping[str, str] = {
    Stop.SUBMITTED.value: "Submitted",
    Stop.MAX_STEPS.value: "max_steps",
    Stop.MAX_COST.value: "LimitsExceeded",
    Stop.TIMEOUT.value: "TimeExceeded",
    Stop.FORMAT.value: "RepeatedFormatError",
    Stop.CANCELLED.value: "UserInterruption",
}


def _opening_entry(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of the opening; that it is of a demonstration stands beside it, where endpoints are not shown it."""
    entry = dict(message)
    for name in ("thought", "action"):
        entry.pop(name, None)
    if ids := entry.pop("tool_call_ids", ()):
        entry["tool_call_id"] = ids[0]
    return {**entry, "extra": {"demonstration": True}} if entry.pop("demonstration", False) else entry


def _messages(step: Step) -> list[dict[str, Any]]:
    """Return the messages of a step: as text where its reply was one of this format's, else as tool calls."""
    block = _BLOCK.findall(step.reply.text)
    as_text = step.malformed or (step.role == "user" and len(block) == 1)
    calls = [] if as_text else turns.tool_calls(step)
    actions = [
        {"command": call.arguments.get("command", ""), **({} if as_text else {"tool_call_id": turns.call_id(step, i)})}
        for i, call in enumerate(turns.calls_of(step))
        if call.name in turns.SHELLS
    ]
    reply = step.reply
    extra = {"actions": actions, **without_unknown(cost=reply.cost), "timestamp": step.started_at}
    usage = without_unknown(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": step.reply.text if as_text else turns.words_of(step),
        **({"tool_calls": calls} if calls else {}),
        "extra": extra | ({"response": {"usage": usage}} if usage else {}),
    }
    if not step.observation:
        return [message]
    observation: dict[str, Any] = {
        "role": "tool" if calls else "user",
        "content": step.observation,
        **({"tool_call_id": calls[0]["id"]} if calls else {}),
        "extra": {
            "raw_output": turns.output_of(step),
            "returncode": -1 if step.exit_code is None else step.exit_code,
            "timestamp": step.started_at + step.seconds,
        },
    }
    return [message, observation]
