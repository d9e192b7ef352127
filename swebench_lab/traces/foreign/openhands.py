"""OpenHands' `output.jsonl`: one attempt a row, its history a list of events, or of (action, observation) pairs in old rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.foreign import fields as of
from swebench_lab.traces.foreign import steps as turns

NAME = "openhands"
SUFFIX = ".jsonl"
_SILENT = ("system", "message", "recall", "null", "change_agent_state")
"""Actions that are no call of a tool."""


def is_one(record: Any) -> bool:
    """Say whether a record has this format's shape."""
    if not isinstance(record, Mapping) or not isinstance(record.get("history"), list):
        return False
    if "test_result" in record or "instruction" in record:
        return True
    return any(
        "source" in event and ("action" in event or "observation" in event) for event in _flat(record["history"])
    )


def version(record: Mapping[str, Any]) -> str:
    """Return which of the format's shapes a record has: `events` or `pairs`."""
    return "pairs" if any(isinstance(item, list) for item in record.get("history") or ()) else "events"


def _flat(history: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Return the events in order; old rows hold them in pairs."""
    events: list[Mapping[str, Any]] = []
    for item in history:
        events += [e for e in item if isinstance(e, Mapping)] if isinstance(item, list) else [item]
    return [event for event in events if isinstance(event, Mapping)]


@dataclass
class _Turn:
    """A reply as it is put together from events."""

    words: str
    calls: list[Call] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    command: str = ""
    response: str = ""
    events: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    exit_code: int | None = None
    cwd: str = ""
    began: float = 0.0
    ended: float = 0.0
    model: str = ""


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a record as a Trajectory; see `sweagent.read`."""
    events = _flat(of.field(record, "history", list, where, []))
    if not events and record.get("history"):
        raise RecordError(f"{where}, field 'history': expected a list of events, found {of.shortly(record['history'])}")
    opening, replies = _turns(events, where)
    if not opening and record.get("instruction"):
        opening = [{"role": "user", "content": str(record["instruction"])}]
    costs = _accounts(record.get("metrics"), where)
    metadata = of.field(record, "metadata", Mapping, where, {})
    result = of.field(record, "test_result", Mapping, where, {})
    policy = of.field(metadata, "llm_config", Mapping, where, {}).get("model") or metadata.get("model_name") or NAME
    stop, error = _stop(record, replies)
    return Trajectory(
        str(record.get("instance_id") or name),
        opening=tuple(opening),
        steps=tuple(_step(index, turn, costs) for index, turn in enumerate(replies)),
        stop=stop,
        patch=str(result.get("git_patch") or record.get("git_patch") or ""),
        error=error,
        policy=str(policy),
        flavour="xml",
        seconds=replies[-1].ended - replies[0].began if replies and replies[-1].ended and replies[0].began else 0.0,
        started_at=replies[0].began if replies else 0.0,
    )


def _turns(events: Sequence[Mapping[str, Any]], where: str) -> tuple[list[Message], list[_Turn]]:
    opening: list[Message] = []
    replies: list[_Turn] = []
    for number, event in enumerate(events):
        at = f"{where}, history {number}"
        if event.get("action"):
            _add_action(event, opening, replies, at)
        elif event.get("observation") and event["observation"] not in ("null", "recall", "agent_state_changed"):
            _add_observation(event, replies)
    return opening, replies


def _add_action(event: Mapping[str, Any], opening: list[Message], replies: list[_Turn], where: str) -> None:
    action, arguments = str(event["action"]), of.field(event, "args", Mapping, where, {})
    if action in ("system", "message") and not (action == "message" and event.get("source") == "agent"):
        text = of.text_of(arguments.get("content")) or of.text_of(event.get("message"))
        if replies:
            replies[-1].seen.append(text)
        else:
            opening.append({"role": "system" if action == "system" else "user", "content": text})
        return
    if action in _SILENT and action != "message":
        return
    began = of.moment(event.get("timestamp"))
    words, call, response, model = _call(event, action, arguments, where)
    if response and replies and replies[-1].response == response:
        turn = replies[-1]
    else:
        turn = _Turn(words, response=response, began=began, model=model)
        replies.append(turn)
    if call:
        call_id = of.field(event, "tool_call_metadata", Mapping, where, {}).get("tool_call_id")
        turn.calls.append(call)
        turn.ids.append(str(call_id or ""))
    if call and call.name in turns.SHELLS:
        turn.command = "\n".join(filter(None, [turn.command, call.arguments.get("command", "")]))
    turn.events.add(str(event.get("id")))
    turn.ended = began


def _call(
    event: Mapping[str, Any], action: str, arguments: Mapping[str, Any], where: str
) -> tuple[str, Call | None, str, str]:
    """Return the words, the call, the response's id and the model of an action: as the model wrote it where that is kept."""
    metadata = of.field(event, "tool_call_metadata", Mapping, where, {})
    response = of.field(metadata, "model_response", Mapping, where, {})
    for choice in of.objects(response, "choices", where):
        message = of.field(choice, "message", Mapping, where, {})
        for raw in of.objects(message, "tool_calls", where):
            if raw.get("id") == metadata.get("tool_call_id"):
                calls = turns.native_calls({"tool_calls": [raw]}, where)
                words = of.text_of(message.get("content"))
                return words, calls[0], str(response.get("id") or ""), str(response.get("model") or "")
    words = str(arguments.get("thought") or "")
    if action == "message":
        return of.text_of(arguments.get("content")) or of.text_of(event.get("message")), None, "", ""
    if action == "run":
        return words, Call("execute_bash", {"command": str(arguments.get("command") or "")}), "", ""
    internal = ("thought", "confirmation_state", "security_risk", "hidden", "blocking", "is_static", "is_input")
    values = {k: v for k, v in arguments.items() if k not in internal}
    return words, Call(str(metadata.get("function_name") or action), turns.arguments_of(values, where)), "", ""


def _add_observation(event: Mapping[str, Any], replies: list[_Turn]) -> None:
    """Add what was seen to the reply it answers; what answers none (a reply that was no call) to the latest."""
    turn = next((t for t in reversed(replies) if str(event.get("cause")) in t.events), replies[-1] if replies else None)
    if turn is None:
        return
    turn.seen.append(of.text_of(event.get("content")) or of.text_of(event.get("message")))
    extras = event.get("extras")
    extras = extras if isinstance(extras, Mapping) else {}
    metadata = extras.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    code = metadata.get("exit_code", extras.get("exit_code"))
    turn.exit_code = code if isinstance(code, int) and code >= 0 else turn.exit_code
    turn.cwd = str(metadata.get("working_dir") or turn.cwd)
    turn.ended = of.moment(event.get("timestamp")) or turn.ended


def _accounts(metrics: Any, where: str) -> dict[str, dict[str, Any]]:
    """Return tokens and seconds of each response, by its id."""
    accounts: dict[str, dict[str, Any]] = {}
    if not isinstance(metrics, Mapping):
        return accounts
    for usage in of.objects(metrics, "token_usages", where):
        accounts.setdefault(str(usage.get("response_id")), {}).update(
            prompt_tokens=of.known_count(usage, "prompt_tokens", where),
            completion_tokens=of.known_count(usage, "completion_tokens", where),
            cached_tokens=of.known_count(usage, "cache_read_tokens", where),
        )
    for latency in of.objects(metrics, "response_latencies", where):
        account = accounts.setdefault(str(latency.get("response_id")), {})
        account["seconds"] = of.amount(latency, "latency", where)
    return accounts


def _step(index: int, turn: _Turn, accounts: Mapping[str, Mapping[str, Any]]) -> Step:
    return turns.step(
        index,
        Reply(turns.reply_text(turn.words, turn.calls), model=turn.model, **accounts.get(turn.response, {})),
        turn.words,
        turn.calls,
        turn.seen,
        ids=turn.ids,
        command=turn.command,
        exit_code=turn.exit_code,
        cwd=turn.cwd,
        started_at=turn.began,
        seconds=max(0.0, turn.ended - turn.began),
        role="tool" if turn.calls else "user",
    )


def _stop(record: Mapping[str, Any], replies: Sequence[_Turn]) -> tuple[str, str]:
    """Return how it ended: by an error, as its agent's state says, by its call of `finish`, or by the limit on steps."""
    if record.get("error"):
        return turns.ending(record["error"])
    for event in reversed(_flat(record.get("history") or ())):
        extras = event.get("extras")
        if event.get("observation") == "agent_state_changed" and isinstance(extras, Mapping):
            stops = {state: stop for stop, state in _STATES.items()}
            if stop := stops.get(str(extras.get("agent_state"))):
                return stop, ""
    is_over = bool(replies) and (not replies[-1].calls or any(call.name in turns.ENDS for call in replies[-1].calls))
    return (Stop.SUBMITTED.value if is_over else Stop.MAX_STEPS.value), ""


# --- writing --------------------------------------------------------------------------------------------------------

_ACTIONS = {"bash": "run", "execute_bash": "run", "submit": "finish", "finish": "finish", "think": "think"}


_STATES: Mapping[str, str] = {Stop.SUBMITTED.value: "finished", Stop.CANCELLED.value: "stopped"}
"""How an attempt ended, as the state that its agent went into."""


def write(trajectory: Trajectory) -> dict[str, Any]:
    """Return a trajectory as a row of `output.jsonl`, with the events that its policy and its tools made."""
    if any(message.get("demonstration") for message in trajectory.opening):
        raise RecordError(
            f"writing attempt {trajectory.attempt} at {trajectory.task_id} as events of OpenHands: its opening shows a "
            "demonstration, whose replies would be events of the agent there; write it as swe-agent, atif or lab"
        )
    events: list[dict[str, Any]] = []
    for message in trajectory.opening:
        system = message["role"] == "system"
        _event(
            events,
            "agent" if system else "user",
            action="system" if system else "message",
            args={"content": message["content"]},
        )
    usages: list[dict[str, Any]] = []
    latencies: list[dict[str, Any]] = []
    for step in trajectory.steps:
        response_id = f"response-{step.index}"
        usages.append(
            {
                "model": step.reply.model,
                **of.without_unknown(
                    prompt_tokens=step.reply.prompt_tokens,
                    completion_tokens=step.reply.completion_tokens,
                    cache_read_tokens=step.reply.cached_tokens,
                ),
                "response_id": response_id,
            }
        )
        latencies.append({"model": step.reply.model, "latency": step.reply.seconds, "response_id": response_id})
        _write_step(events, step, response_id)
    if trajectory.stop in _STATES:
        state = {"agent_state": _STATES[trajectory.stop]}
        _event(events, "environment", observation="agent_state_changed", content="", extras=state)
    limit = f"RuntimeError: Agent reached maximum iteration ({len(trajectory.steps)})"
    endings = {Stop.SUBMITTED.value: None, Stop.CANCELLED.value: None, Stop.MAX_STEPS.value: limit}
    error = trajectory.error or endings.get(trajectory.stop, trajectory.stop)
    user = next((m["content"] for m in trajectory.opening if m["role"] == "user"), "")
    return {
        "instance_id": trajectory.task_id,
        "test_result": {"git_patch": trajectory.patch},
        "instruction": user,
        "metadata": {"llm_config": {"model": trajectory.policy}},
        "history": events,
        "metrics": {"token_usages": usages, "response_latencies": latencies},
        "error": error,
    }


def _event(events: list[dict[str, Any]], source: str, at: float = 0.0, **values: Any) -> int:
    number = len(events)
    when = {"timestamp": of.stamp(at)} if at else {}
    events.append({"id": number, **when, "source": source, **values})
    return number


def _write_step(events: list[dict[str, Any]], step: Step, response_id: str) -> None:
    calls = turns.calls_of(step)
    raw = turns.tool_calls(step)
    message = {"role": "assistant", "content": turns.words_of(step), "tool_calls": raw}
    response = {"id": response_id, "model": step.reply.model, "choices": [{"index": 0, "message": message}]}
    began, cause = step.started_at, -1
    for call, entry in zip(calls, raw, strict=True):
        metadata = {
            "function_name": call.name,
            "tool_call_id": entry["id"],
            "model_response": response,
            "total_calls_in_response": len(calls),
        }
        action = _ACTIONS.get(call.name, call.name)
        cause = _event(events, "agent", began, action=action, args=turns.typed(call), tool_call_metadata=metadata)
    if not calls:
        cause = _event(events, "agent", began, action="message", args={"content": step.reply.text})
    if step.observation:
        kind = _ACTIONS.get(step.tool, step.tool or "error")
        extras = {"metadata": {"exit_code": -1 if step.exit_code is None else step.exit_code, "working_dir": step.cwd}}
        end = began + step.seconds if began else 0.0
        _event(events, "agent", end, observation=kind, content=step.observation, extras=extras, cause=cause)
