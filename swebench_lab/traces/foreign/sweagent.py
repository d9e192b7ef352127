"""SWE-agent's `.traj`: the shapes of 0.x, 1.0 (`messages` in each step), 1.1 (`query`), and demonstrations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.fields import amount, field, messages_in, text_of, without_unknown

NAME = "swe-agent"
SUFFIX = ".traj"
_CUT_OFF = ("Exit due to cost limit", "Exit due to context window")


def is_one(record: Any) -> bool:
    """Say whether a record has this format's shape."""
    if not isinstance(record, Mapping):
        return False
    steps, history = record.get("trajectory"), record.get("history")
    if isinstance(steps, list) and "history" in record:
        return all(isinstance(s, Mapping) and "action" in s for s in steps)
    return messages_in(history) and not messages_in(record.get("messages")) and "instance" not in record


def version(record: Mapping[str, Any]) -> str:
    """Return which of the format's shapes a record has: `0.x`, `1.0`, `1.1` or `demonstration`."""
    steps = record.get("trajectory") or ()
    if not steps:
        return "demonstration"
    if "query" in steps[-1]:
        return "1.1"
    return "1.0" if "messages" in steps[-1] or "execution_time" in steps[-1] else "0.x"


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory.

    Args:
        record: What the file holds.
        where: The file, for errors.
        name: The task's id, where the record does not say it.

    Raises:
        RecordError: A field is not what it should be.
    """
    entries = field(record, "trajectory", list, where, [])
    opening, steps = _steps(_messages(record, entries, where), entries, where)
    info = field(record, "info", Mapping, where, {})
    config = _config(record, where)
    stop, error = turns.ending(info.get("exit_status"))
    native = any(message.get("tool_calls") for message in record.get("history") or ())
    return Trajectory(
        _task_id(record, config) or name,
        opening=opening,
        steps=steps,
        stop=stop,
        patch=str(info.get("submission") or ""),
        error=error,
        policy=str(_below(config, "agent", "model").get("name") or NAME),
        flavour="xml" if native else "",
        seconds=sum(step.seconds for step in steps),
    )


def _messages(record: Mapping[str, Any], entries: Sequence[Any], where: str) -> list[Mapping[str, Any]]:
    history = record.get("history")
    if not history and entries:
        history = entries[-1].get("messages") or entries[-1].get("query")
    if not history and entries:  # only the steps are left: the conversation is what they say
        history = [
            message
            for entry in entries
            for message in (
                {"role": "assistant", "content": entry.get("response", ""), "action": entry["action"]},
                {"role": "user", "content": entry.get("observation", "")},
            )
        ]
    if history and not messages_in(history):
        raise RecordError(f"{where}, field 'history': expected a list of messages, each with a 'role'")
    return list(history or [])


def _steps(
    messages: Sequence[Mapping[str, Any]], entries: Sequence[Any], where: str
) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
    """Return the messages before the first reply, and one Step for each reply."""
    starts = [i for i, m in enumerate(messages) if m["role"] == "assistant" and not turns.is_demonstration(m)]
    first = starts[0] if starts else len(messages)
    opening = turns.opening_messages(messages[:first])
    matched = _match([messages[i] for i in starts], entries)
    steps: list[Step] = []
    after = 0  # entries up to here belong to replies before
    for number, (start, at) in enumerate(zip(starts, matched, strict=True)):
        if at >= 0:
            steps += _unspoken(len(steps), entries[after:at], f"{where}, trajectory", asked_again=True)
            after = at + 1
        end = starts[number + 1] if number + 1 < len(starts) else len(messages)
        entry = entries[at] if at >= 0 else {}
        steps.append(_step(len(steps), messages[start], messages[start + 1 : end], entry, f"{where}, history {start}"))
    if not starts or matched[-1] >= 0:
        steps += _unspoken(len(steps), entries[after:], f"{where}, trajectory", asked_again=False)
    return opening, tuple(steps)


def _unspoken(number: int, entries: Sequence[Any], where: str, asked_again: bool) -> list[Step]:
    """Return the steps that were executed and stand in no history: a last submission, and replies asked for again.

    Those asked for again were not seen by the replies after them, so they are not trained on.
    """
    steps: list[Step] = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not str(entry.get("action") or "").strip():
            continue
        reply = {"role": "assistant", "content": entry.get("response") or "", "thought": entry.get("thought") or ""}
        observation = text_of(entry.get("observation"))
        messages = [{"role": "user", "content": observation}] if observation else []
        one = _step(number + len(steps), {**reply, "action": entry["action"]}, messages, entry, where)
        steps.append(replace(one, extra={**one.extra, "weight": 0}) if asked_again else one)
    return steps


def _match(replies: Sequence[Mapping[str, Any]], entries: Sequence[Any]) -> list[int]:
    """Return the place of the record's step that each reply belongs to; -1 where there is none."""
    if len(replies) == len(entries):
        return list(range(len(entries)))
    places: list[int] = []
    after = 0
    for reply in replies:
        content = text_of(reply.get("content"))
        at = next((i for i in range(after, len(entries)) if entries[i].get("response") == content), -1)
        places.append(at)
        after = at + 1 if at >= 0 else after
    return places


def _step(
    number: int, message: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], entry: Mapping[str, Any], where: str
) -> Step:
    content = text_of(message.get("content"))
    action = field(message, "action", str, where) or field(entry, "action", str, where)
    calls = turns.native_calls(message, where)
    words = str(message.get("thought", content)) if calls else content
    if not calls and action:
        name = "submit" if action.strip() == "submit" else "bash"
        calls = [Call(name, {} if name == "submit" else {"command": action.strip("\n")})]
        words = str(message.get("thought", entry.get("thought", "")))
        text = content
    else:
        text = turns.reply_text(content, calls, str(entry.get("response") or ""))
    texts = [text_of(m.get("content")) for m in messages]
    return turns.step(
        number,
        Reply(text),
        words,
        calls,
        texts,
        ids=turns.ids_of(message),
        command=str(action or "").strip("\n"),
        output=entry.get("observation"),
        timed_out="was cancelled because it took more than" in "\n".join(texts)[:2000],
        seconds=amount(entry, "execution_time", where),
        cwd=str(_state(entry).get("working_dir", "")),
        role="tool" if any(m["role"] == "tool" for m in messages) else "user",
    )


def _state(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state after a step; 0.x has it as a JSON text."""
    state = entry.get("state")
    try:
        read = json.loads(state) if isinstance(state, str) else state
    except ValueError:
        return {}
    return read if isinstance(read, Mapping) else {}


def _config(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    config = record.get("replay_config")
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError as error:
            raise RecordError(f"{where}, field 'replay_config': not JSON: {error}") from error
    return config if isinstance(config, Mapping) else {}


def _below(values: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        inner = values.get(name)
        values = inner if isinstance(inner, Mapping) else {}
    return values


def _task_id(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the task's id; `environment` holds it in 1.x, and only the name of a container class before."""
    environment = str(record.get("environment") or "")
    return str(_below(config, "problem_statement").get("id") or "") or (
        environment if environment not in ("", "main", "swe_main") else ""
    )


def training_messages(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the messages that SWE-smith's converter takes of a record: up to the last reply, what was shown after it out.

    Where steps hold no messages of their own (0.x, demonstrations) they are the history, to its last reply.
    """
    steps = record.get("trajectory") or ()
    if steps and messages_in(after := steps[-1].get("messages")):
        return list(after[:-1])
    last = -2 if steps and steps[-1].get("response") in _CUT_OFF and len(steps) > 1 else -1
    if steps and messages_in(before := steps[last].get("query")):
        return list(before)
    history = list(record.get("history") or ())
    while history and history[-1]["role"] != "assistant":
        history.pop()
    return history


# --- writing --------------------------------------------------------------------------------------------------------


def write(trajectory: Trajectory) -> dict[str, Any]:
    """Return a trajectory as SWE-agent 1.1 stores one."""
    history = [_opening_entry(entry) for entry in turns.opening_entries(trajectory.opening)]
    entries: list[dict[str, Any]] = []
    for step in trajectory.steps:
        query = list(history)
        history += _step_messages(step)
        entries.append(
            {
                "action": step.command,
                "observation": turns.output_of(step),
                "response": step.reply.text,
                "thought": turns.words_of(step),
                "execution_time": step.seconds,
                "state": {"working_dir": step.cwd},
                "query": query,
                "extra_info": {},
            }
        )
    replay = {"agent": {"model": {"name": trajectory.policy}}, "problem_statement": {"id": trajectory.task_id}}
    info = {
        "exit_status": turns.exit_status(trajectory),
        "submission": trajectory.patch,
        "model_stats": {
            **without_unknown(
                instance_cost=trajectory.cost,
                tokens_sent=trajectory.prompt_tokens,
                tokens_received=trajectory.tokens,
            ),
            "api_calls": len(trajectory.steps),
        },
    }
    return {
        "trajectory": entries,
        "history": history,
        "info": info,
        "replay_config": json.dumps(replay),
        "environment": trajectory.task_id,
    }


def _opening_entry(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of the opening as the history has it."""
    kinds = {"system": "system_prompt", "assistant": "action"}
    entry = {**message, "agent": "main", "message_type": kinds.get(message["role"], "observation")}
    if entry.pop("demonstration", False):
        entry["is_demo"] = True
    return entry


def _step_messages(step: Step) -> list[dict[str, Any]]:
    """Return the two messages of a step, in the form of function calling."""
    calls = turns.tool_calls(step)
    words = turns.words_of(step)
    reply: dict[str, Any] = {
        "role": "assistant",
        "content": words,
        "thought": words,
        "action": step.command,
        "agent": "main",
        **({"tool_calls": calls} if calls else {}),
        "message_type": "action",
    }
    observation: dict[str, Any] = {
        "role": "tool" if calls else "user",
        "content": [{"type": "text", "text": step.observation}],
        "agent": "main",
        "message_type": "observation",
        **({"tool_call_ids": [call["id"] for call in calls]} if calls else {}),
    }
    return [reply, observation] if step.observation or not calls else [reply]
