"""Turns: from the calls and messages of any format to Steps, and from Steps back to calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from swebench_lab.agents.tools import by_name as tools
from swebench_lab.errors import FormatError, RecordError
from swebench_lab.formats.calls import FORMATS, Call, JsonValue, render_json, render_xml
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step, ToolCall
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.foreign.fields import field, text_of

SHELLS = ("bash", "execute_bash")
"""Names under which the field has a tool that takes one shell command."""
ENDS = ("submit", "finish")
"""Names under which the field has a tool that hands the work in."""


# --- reading --------------------------------------------------------------------------------------------------------


def arguments_of(value: Any, where: str) -> dict[str, str]:
    """Return a call's arguments as texts: JSON is read once, and what is null was not given.

    Raises:
        RecordError: They are no object.
    """
    try:
        values = json.loads(value, strict=False) if isinstance(value, str) else value
    except ValueError as error:
        raise RecordError(f"{where}, field 'arguments': not JSON: {error}") from error
    if values is None or values == "":
        values = {}
    if not isinstance(values, Mapping):
        raise RecordError(f"{where}, field 'arguments': expected an object, found {type(values).__name__}")
    return {
        str(k): v if isinstance(v, str) else JsonValue(json.dumps(v, ensure_ascii=False))
        for k, v in values.items()
        if v is not None
    }


def native_calls(message: Mapping[str, Any], where: str) -> list[Call]:
    """Return the tool calls of an assistant's message, in the form that chat endpoints have."""
    calls = []
    for number, raw in enumerate(field(message, "tool_calls", list, where, ())):
        at = f"{where}, tool call {number}"
        function = raw.get("function", raw) if isinstance(raw, Mapping) else None
        if not isinstance(function, Mapping) or not function.get("name"):
            raise RecordError(f"{at}: expected an object with 'function' and its 'name', found {str(raw)[:60]!r}")
        calls.append(Call(str(function["name"]), unbroken(function.get("arguments"), at)))
    return calls


def ids_of(message: Mapping[str, Any]) -> list[str]:
    """Return what an assistant's message calls its tool calls, in order; empty where it gives one no name."""
    return [str(raw.get("id") or "") if isinstance(raw, Mapping) else "" for raw in message.get("tool_calls") or ()]


def unbroken(value: Any, where: str) -> dict[str, str]:
    """Return a call's arguments; a text that its model left broken is kept whole under the name `arguments`."""
    try:
        return arguments_of(value, where)
    except RecordError:
        if isinstance(value, str):
            return {"arguments": value}
        raise


def reply_text(words: str, calls: Sequence[Call], own: str = "") -> str:
    """Return the text of a reply whose calls were not part of its words.

    Args:
        words: What it said besides.
        calls: Its calls.
        own: A text that may be the reply, calls included; taken where it holds the same call.
    """
    if not calls:
        return own or words
    if own and own != words and len(calls) == 1 and _holds(own, calls[0]):
        return own
    texts = []
    for number, call in enumerate(calls):
        spoken = Call(call.name, call.arguments, words.strip() if number == 0 else "")
        try:
            texts.append(render_xml(spoken))
        except FormatError:
            texts.append(_as_json(spoken))
    return "\n".join(texts)


def _as_json(call: Call) -> str:
    try:
        return render_json(call)
    except FormatError:  # half characters, or words that look like a call: nothing could read it back
        return f"{call.thought}\n\n{json.dumps({'name': call.name, 'arguments': dict(call.arguments)})}".strip()


def _holds(text: str, call: Call) -> bool:
    for call_format in FORMATS.values():
        try:
            read = call_format.parse(text)
        except FormatError:
            continue
        if read.name == call.name and dict(read.arguments) == dict(call.arguments):
            return True
    return False


def spoken_call(text: str, formats: Iterable[str]) -> Call | None:
    """Return the one call that a reply's text holds in one of these formats; None where there is none."""
    for name in formats:
        try:
            return FORMATS[name].parse(text)
        except FormatError:
            continue
    return None


def typed_out(call: Call) -> str:
    """Return a call as one would type it in a shell."""
    if call.name in SHELLS:
        return call.arguments.get("command", "")
    words = [f"--{key} {json.dumps(str(value), ensure_ascii=False)}" for key, value in call.arguments.items()]
    return " ".join([call.name, *words])


_LIMITS = (
    (("turn", "message", "step"), Stop.MAX_STEPS),
    (("token", "context", "too_long", "length"), Stop.MAX_TOKENS),
    (("time", "working", "deadline"), Stop.TIMEOUT),
    (("cost", "budget"), Stop.MAX_COST),
    (("operator", "user_closed"), Stop.CANCELLED),
)


def limit_of(name: str) -> str:
    """Return how an attempt ended that a limit of this name cut off; empty where it is the name of none."""
    ends = (stop.value for words, stop in _LIMITS if any(word in name.lower() for word in words))
    return next(ends, "")


def step(
    index: int,
    reply: Reply,
    words: str,
    calls: Sequence[Call],
    shown: Sequence[str] = (),
    *,
    ids: Sequence[str] = (),
    command: str = "",
    output: str | None = None,
    exit_code: int | None = None,
    timed_out: bool = False,
    seconds: float = 0.0,
    **more: Any,
) -> Step:
    """Return a Step: what is known of a reply and of what came of it.

    Args:
        index: Its position.
        reply: The reply, its text whole.
        words: What it said besides its call.
        calls: Its calls: none, one, or several made at once.
        shown: The texts shown back, in the order of the calls; what is left over belongs to the last one.
        ids: Names of the calls, where their endpoint gave them some.
        command: The only call as it was typed, where the format says so.
        output: What the commands printed, where that is not what was shown.
        exit_code: Of the last call.
        timed_out: Whether the last call was killed by its timeout.
        seconds: Of all calls; kept with the last one.
        **more: Further fields of the Step.
    """
    texts = [*shown[: len(calls) - 1], "\n".join(shown[len(calls) - 1 :])] if calls else []
    texts += [""] * (len(calls) - len(texts))
    entries = [
        ToolCall(
            call.name,
            dict(call.arguments),
            command if command and len(calls) == 1 else typed_out(call),
            text,
            id=name,
            json_arguments=tuple(key for key, value in call.arguments.items() if isinstance(value, JsonValue)),
        )
        for call, text, name in zip(calls, texts, [*ids, *[""] * len(calls)], strict=False)
    ]
    if entries:
        entries[-1] = replace(entries[-1], exit_code=exit_code, timed_out=timed_out, seconds=seconds)
    whole = Step(index, reply, tuple(entries), words, "" if calls else "\n".join(shown), **more)
    return whole if output is None or output == whole.observation else replace(whole, extra={"output": output})


def is_demonstration(message: Mapping[str, Any]) -> bool:
    """Say whether a message belongs to a demonstration: as SWE-agent marks it, or beside a message in our words."""
    extra = message.get("extra")
    return bool(message.get("is_demo")) or (isinstance(extra, Mapping) and extra.get("demonstration") is True)


def opening_message(message: Mapping[str, Any]) -> Message:
    """Return a message that came before the first reply."""
    return {"role": "system" if message.get("role") == "system" else "user", "content": text_of(message.get("content"))}


def opening_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Return the messages before the first reply; those of a demonstration that holds replies stay what they were there."""
    is_talk = any(is_demonstration(m) and m["role"] == "assistant" for m in messages)
    return tuple(_demonstrated(m) if is_talk and is_demonstration(m) else opening_message(m) for m in messages)


def _demonstrated(message: Mapping[str, Any]) -> Message:
    role = message["role"] if message["role"] in ("system", "assistant", "tool") else "user"
    text = reply_text(text_of(message.get("content")), native_calls(message, "a demonstration"))
    return {"role": role, "content": text, "demonstration": True}


# --- writing --------------------------------------------------------------------------------------------------------


def calls_of(step: Step) -> list[Call]:
    """Return the calls of a step, as a reply makes them."""
    return [
        Call(one.tool, {k: JsonValue(v) if k in one.json_arguments else v for k, v in one.arguments.items()})
        for one in step.calls
    ]


def words_of(step: Step) -> str:
    """Return what a reply said besides its call; all of it where it held none."""
    return step.thought if step.tool else step.reply.text


def typed(call: Call) -> dict[str, Any]:
    """Return a call's arguments as JSON values: by the tool's own schema where it is one of ours, else as recorded."""
    schema = _properties().get(call.name, {})
    values: dict[str, Any] = {}
    for key, value in call.arguments.items():
        kind = schema.get(key, {}).get("type", "string")
        values[key] = _value(value) if isinstance(value, JsonValue) or kind != "string" else value
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a model gave a text where the schema asks for a number
        return str(text)


def _properties() -> dict[str, Mapping[str, Any]]:
    """Return the parameters' schemas of this package's tools: the one source that calls are written by."""
    return {
        tool.name: tool.parameters.get("properties", {}) for tool in tools.resolve(("str_replace_editor", "search"))
    }


def tool_calls(step: Step) -> list[dict[str, Any]]:
    """Return a step's calls as chat endpoints have them: arguments encoded once, no null in them."""
    return [
        {
            "function": {"name": call.name, "arguments": json.dumps(typed(call), ensure_ascii=False)},
            "id": call_id(step, number),
            "type": "function",
        }
        for number, call in enumerate(calls_of(step))
    ]


def call_id(step: Step, number: int = 0) -> str:
    """Return what a step's call is called: its own id, or a name that is the same each time."""
    return step.calls[number].id or f"call_{step.index}_{number}"


def output_of(step: Step) -> str:
    """Return what a step's command printed, or what was shown of it."""
    return str(step.extra.get("output", step.observation))


def alike(one: Trajectory, other: Trajectory) -> bool:
    """Say whether two trajectories tell the same conversation; what a replay adds (layers, directories) does not count."""
    return one.opening == other.opening and _essentials(one) == _essentials(other)


def _essentials(trajectory: Trajectory) -> list[Step]:
    return [replace(entry, layer="", cwd="", env={}) for entry in trajectory.steps]


def opening_entries(opening: Sequence[Message], convert: bool = False) -> list[dict[str, Any]]:
    """Return the messages of an opening for another format: calls of demonstrations as chat endpoints have calls.

    Args:
        opening: The messages. Those of a demonstration keep the marker `demonstration`, which formats write in their own way.
        convert: Whether calls that stood in the text of a demonstration's reply are taken out of it too, as `tool_calls`
            where a result follows, and always as `thought` and `action`.
    """
    entries: list[dict[str, Any]] = []
    due = ""
    for number, message in enumerate(opening):
        entry: dict[str, Any] = dict(message)
        if not message.get("demonstration"):
            due = ""
        elif message["role"] != "assistant":
            entry |= {"role": "tool", "tool_call_ids": [due]} if due else {"role": "user"}
            due = ""
        else:
            after = opening[number + 1] if number + 1 < len(opening) else None
            is_answered = after is not None and bool(after.get("demonstration")) and after["role"] != "assistant"
            is_native = is_answered and after is not None and after["role"] == "tool"
            call = spoken_call(text_of(message["content"]), ("json", *FORMATS)) if convert or is_native else None
            if call:
                due = f"call_demonstration_{number}" if is_answered else ""
                function = {"name": call.name, "arguments": json.dumps(typed(call), ensure_ascii=False)}
                entry |= {"content": call.thought, "thought": call.thought, "action": typed_out(call)}
                entry |= {"tool_calls": [{"function": function, "id": due, "type": "function"}]} if due else {}
        entries.append(entry)
    return entries


# --- how attempts ended ---------------------------------------------------------------------------------------------

_ENDINGS: Mapping[str, Stop] = {
    "": Stop.CANCELLED,
    "submitted": Stop.SUBMITTED,
    "finished": Stop.SUBMITTED,
    "limitsexceeded": Stop.MAX_STEPS,
    "timeexceeded": Stop.TIMEOUT,
    "repeatedformaterror": Stop.FORMAT,
    "userinterruption": Stop.CANCELLED,
    "early_exit": Stop.CANCELLED,
    "skipped": Stop.CANCELLED,
    "exit_cost": Stop.MAX_COST,
    "exit_context": Stop.MAX_TOKENS,
    "exit_format": Stop.FORMAT,
    "exit_forfeit": Stop.CANCELLED,
    "exit_command_timeout": Stop.TIMEOUT,
    "exit_total_execution_time": Stop.TIMEOUT,
    **{stop.value: stop for stop in Stop},
}


def ending(status: Any) -> tuple[str, str]:
    """Return the stop reason and the error that another project's exit status stands for."""
    name = str(status or "").strip().lower()
    inner = name.removeprefix("submitted (").removesuffix(")") if name.startswith("submitted (") else name
    if inner in _ENDINGS:
        return _ENDINGS[inner].value, ""
    if "maximum iteration" in inner:
        return Stop.MAX_STEPS.value, ""
    return Stop.ERROR.value, str(status)


_STATUSES: Mapping[str, str] = {
    Stop.SUBMITTED.value: "submitted",
    Stop.MAX_COST.value: "exit_cost",
    Stop.MAX_TOKENS.value: "exit_context",
    Stop.FORMAT.value: "exit_format",
    Stop.TIMEOUT.value: "exit_total_execution_time",
    Stop.CANCELLED.value: "early_exit",
    Stop.ERROR.value: "exit_error",
    Stop.MAX_STEPS.value: "max_steps",
}


def exit_status(trajectory: Trajectory) -> str:
    """Return SWE-agent's word for how an attempt ended; what a limit ended with a patch is `submitted (...)`."""
    status = _STATUSES.get(trajectory.stop, trajectory.stop)
    return f"submitted ({status})" if trajectory.patch and status not in ("submitted", "exit_error") else status
