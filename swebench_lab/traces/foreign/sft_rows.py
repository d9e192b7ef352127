"""SWE-smith's rows to fine-tune on (`ticks`, `xml`, `tool`), and rows of other projects that hold a list of messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call
from swebench_lab.policies import chat_messages
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign import sweagent
from swebench_lab.traces.foreign.fields import shortly, text_of

FORMS = ("ticks", "xml", "tool")
NAME = "messages"
SUFFIX = ".jsonl"
_COLUMNS = ("messages", "history", "trajectory", "conversations")
_ASSISTANT = frozenset({"assistant", "ai", "gpt"})
_ENVIRONMENT = frozenset({"user", "tool", "human", "exit"})
_FRAME = "OBSERVATION:\n"
_SILENCE = "Your command ran successfully and did not produce any output."
_OWN_LINES = ("old_str", "new_str", "file_text")
"""Parameters that SWE-smith writes on lines of their own; all others it writes within their tags."""


# --- reading --------------------------------------------------------------------------------------------------------


def is_one(record: Any) -> bool:
    """Say whether a record is a row with a list of messages."""
    return isinstance(record, Mapping) and _column(record) is not None


def _column(record: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    for name in _COLUMNS:
        value = record.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                continue
        if isinstance(value, list) and value and all(_is_message(message) for message in value):
            return [_plain(message) for message in value]
    return None


def _is_message(message: Any) -> bool:
    return isinstance(message, Mapping) and isinstance(message.get("role", message.get("from")), str)


def form(record: Mapping[str, Any]) -> str:
    """Return which form a row has: `tool`, `xml` or `ticks`; empty when its replies hold no call at all."""
    replies = [m for m in _column(record) or () if m["role"] in _ASSISTANT]
    if any(reply.get("tool_calls") for reply in replies):
        return "tool"
    texts = [text_of(reply.get("content")) for reply in replies]
    if any("<function=" in text for text in texts):
        return "xml"
    return "ticks" if any("```" in text for text in texts) else ""


def read(record: Mapping[str, Any], where: str, name: str = "") -> Trajectory:
    """Return a row as a Trajectory; replies that were tool calls are written in the XML form.

    Args:
        record: A row with `messages` (or `history`, `trajectory`, `conversations`; a list, or its JSON).
        where: The file and line, for errors.
        name: The task's id, where the row does not say it.

    Raises:
        RecordError: It holds no messages, no reply, or a message that cannot be read.
    """
    messages = _column(record)
    if messages is None:
        raise RecordError(
            f"{where}: no column ({', '.join(_COLUMNS)}) holds a list of messages; found {shortly(record)}"
        )
    kind = form(record)
    opening: list[Message] = []
    steps: list[Step] = []
    said_at, empty = -1, 0
    for number, message in enumerate(_with_beside(record, messages)):
        role, at = str(message["role"]), f"{where}, message {number}"
        if role in _ASSISTANT and _is_empty(message):
            empty += 1
        elif role in _ASSISTANT:
            steps.append(_reply_step(len(steps), message, kind, at))
            said_at = number
        elif role not in _ENVIRONMENT | {"system"}:
            raise RecordError(
                f"{at}: unknown role {role!r}; known are {', '.join(sorted(_ASSISTANT | _ENVIRONMENT))}, system"
            )
        elif not steps:
            opening.append(turns.opening_message(message))
        else:
            steps[-1] = _add_observation(steps[-1], message, role, number - said_at - 1)
    task = str(
        record.get("instance_id") or record.get("task_id") or record.get("traj_id") or record.get("uuid") or name
    )
    traj_id = record.get("traj_id") or record.get("trajectory_id") or record.get("uuid")
    policy = str(record.get("model") or record.get("model_name") or "foreign")
    return Trajectory(
        task,
        opening=tuple(opening),
        steps=tuple(steps),
        stop=_stop(record, steps),
        patch=str(record.get("patch") or record.get("model_patch") or record.get("generated_patch") or ""),
        policy=policy,
        flavour={"xml": "xml", "tool": "xml"}.get(kind, ""),
        extra={
            **({"traj_id": traj_id} if traj_id else {}),
            **({"dropped": {"empty replies": empty}} if empty else {}),
        },
    )


def _with_beside(record: Mapping[str, Any], messages: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return messages with what stands beside them in the system's message: its prompt, and the tools that may be called."""
    first = messages[0] if messages and messages[0]["role"] == "system" else None
    system = record.get("system") or record.get("system_prompt") or ""
    parts = [text_of(first.get("content"))] if first else [system] if isinstance(system, str) and system.strip() else []
    tools = record.get("tools")
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
    except ValueError:
        tools = None
    if isinstance(tools, list) and tools:
        lines = (tool if isinstance(tool, str) else json.dumps(tool, ensure_ascii=False) for tool in tools)
        parts.append("\n".join(["Tools that may be called:", *lines]))
    rest = messages[1:] if first else messages
    return [{"role": "system", "content": "\n\n".join(parts)}, *rest] if parts else messages


def _is_empty(message: Mapping[str, Any]) -> bool:
    """Say whether a reply says, thinks and calls nothing."""
    names = ("tool_calls", "function_call", "action", "reasoning_content", "reasoning", "reasoning_details")
    return not text_of(message.get("content")).strip() and not any(message.get(name) for name in names)


def _plain(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give dialects with other names (`from`/`value`, `text`, `system_prompt`) the usual ones."""
    if "role" not in message and "from" in message:
        return {**message, "role": message["from"], "content": message.get("value")}
    if "content" not in message and ("text" in message or "system_prompt" in message):
        return {**message, "content": message.get("text") or message.get("system_prompt")}
    return message


def _reply_step(index: int, message: Mapping[str, Any], kind: str, where: str) -> Step:
    words = (
        chat_messages.words(message) if isinstance(message.get("content"), list) else text_of(message.get("content"))
    )
    native = turns.native_calls(message, where)
    thought: dict[str, Any] = {"reasoning": chat_messages.reasoning(message), "signature": _signature(message)}
    extra: dict[str, Any] = {"extra": {"weight": 0}} if _excludes_training(message) else {}
    if native:
        action = str(message.get("action") or "").strip("\n")
        reply = Reply(turns.reply_text(words, native), **thought)
        return turns.step(index, reply, words, native, ids=turns.ids_of(message), command=action, **extra)
    call = turns.spoken_call(words, {"xml": ("xml",), "ticks": ("ticks",)}.get(kind, ("xml", "json", "fenced")))
    reply = Reply(words, **thought)
    return turns.step(index, reply, call.thought if call else words, [call] if call else [], **extra)


def _signature(message: Mapping[str, Any]) -> str:
    """Return what a provider wants back with a reply, where the row keeps it."""
    details = {name: message[name] for name in ("reasoning_details", "thinking_blocks") if message.get(name)}
    return json.dumps(details, ensure_ascii=False) if details else ""


def _excludes_training(message: Mapping[str, Any]) -> bool:
    """Say whether a row marks a reply as one to see and not to train on."""
    weight = message.get("weight")
    marks = (message.get(name) for name in ("train", "trainable", "training", "loss"))
    return (isinstance(weight, int | float) and weight == 0) or any(mark is False for mark in marks)


def _add_observation(step: Step, message: Mapping[str, Any], role: str, number: int) -> Step:
    """Return a step with what was shown after it: under its call's id, else as the `number`-th message since its reply."""
    text = text_of(message.get("content"))
    output = text.removeprefix(_FRAME) if text != _SILENCE else ""
    previous = step.extra.get("output", step.observation)
    full_output = f"{previous}\n{output}" if step.observation else output
    if not step.calls:
        whole = replace(step, correction=f"{step.correction}\n{text}" if step.correction else text)
    else:
        name = message.get("tool_call_id")
        own = [place for place, one in enumerate(step.calls) if name and one.id == name]
        silent = [place for place in own if not step.calls[place].observation]
        at = [*silent, *own[-1:], min(number, len(step.calls) - 1)][0]
        call = step.calls[at]
        call = replace(call, observation=f"{call.observation}\n{text}" if call.observation else text)
        whole = replace(step, calls=(*step.calls[:at], call, *step.calls[at + 1 :]))
    extra = {k: v for k, v in step.extra.items() if k != "output"}
    extra |= {"output": full_output} if full_output != whole.observation else {}
    return replace(whole, role="tool" if role == "tool" else "user", extra=extra)


def _stop(record: Mapping[str, Any], steps: Sequence[Step]) -> str:
    if record.get("exit_status"):
        return turns.ending(record["exit_status"])[0]
    is_complete = bool(steps) and (steps[-1].tool in turns.ENDS or not steps[-1].observation)
    return Stop.SUBMITTED.value if is_complete else Stop.CANCELLED.value


# --- writing --------------------------------------------------------------------------------------------------------


def row(
    trajectory: Trajectory,
    form: str = "xml",
    *,
    system: str | Path = "",
    resolved: bool | None = None,
    traj_id: str = "",
) -> dict[str, Any]:
    """Return a trajectory as a row to fine-tune on.

    Of what SWE-agent recorded, the messages are those that SWE-smith's own converter makes; everything else is written
    in the same way. The row ends with the last reply, since what was shown after it trains nobody; of SWE-agent 1.1, that
    converter leaves the last reply out, which hands the work in, and so does this.

    Args:
        trajectory: An attempt, of whatever origin.
        form: `"ticks"`: thought and back-ticks; `"xml"`: function calls in text; `"tool"`: tool calls.
        system: In the form `xml`, the system prompt that the trained model will be given, which SWE-smith puts in the
            place of the recorded one: its text, or a `Path` to an agent's YAML file (`agent.templates.system_template`)
            or text file. Empty: the recorded one stays.
        resolved: Whether its patch solved the task; None: as the trace says, or left out.
        traj_id: Name of the attempt; empty: as the trace says, or the task's id and the attempt's number.

    Raises:
        RecordError: The form is unknown, or the file holds no system prompt.
    """
    if form not in FORMS:
        raise RecordError(f"writing a row to fine-tune on: unknown form {form!r}; known are {', '.join(FORMS)}")
    originals = _messages(trajectory, form)
    if form == "xml":
        prompt = _prompt(system)
        messages = [_xml(message, prompt) for message in originals]
    else:
        messages = [_ticks(message) if form == "ticks" else dict(message) for message in originals]
    verdict = trajectory.extra.get("resolved") if resolved is None else resolved
    name = traj_id or str(trajectory.extra.get("traj_id") or "") or f"{trajectory.task_id}.{trajectory.attempt}"
    return {
        "messages": messages,
        "instance_id": trajectory.task_id,
        **({} if verdict is None else {"resolved": bool(verdict)}),
        "model": trajectory.policy,
        "traj_id": name,
        "patch": trajectory.patch,
    }


def _prompt(system: str | Path) -> str:
    """Return a system prompt from its text, or from a YAML or text file."""
    if isinstance(system, str):
        return system
    try:
        text = system.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"reading the system prompt {system}: {error}") from error
    if system.suffix not in (".yaml", ".yml"):
        return text
    import yaml

    try:
        template = yaml.safe_load(text)["agent"]["templates"]["system_template"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise RecordError(
            f"reading the system prompt {system}: no 'agent.templates.system_template' in it ({error}); give an agent's "
            "YAML file as SWE-agent has it, or the prompt itself"
        ) from error
    return str(template)


def _messages(trajectory: Trajectory, form: str) -> list[dict[str, Any]]:
    """Return the messages with all that is known of them, up to the last reply.

    What SWE-agent recorded is taken as it is, unless tool calls are wanted and its replies were commands in text.
    """
    record = trajectory.extra.get("record")
    if trajectory.extra.get("format") == sweagent.NAME and isinstance(record, Mapping):
        originals = sweagent.training_messages(record)
        again = sweagent.read(record, "a record", trajectory.task_id)
        native = form != "tool" or any(message.get("tool_calls") for message in originals)
        if originals and native and turns.alike(again, trajectory):
            return [_shown(message) if turns.is_demonstration(message) else dict(message) for message in originals]
    messages = [
        _shown(entry) if entry.pop("demonstration", False) else entry
        for entry in turns.opening_entries(trajectory.opening, convert=True)
    ]
    for number, one in enumerate(trajectory.steps):
        calls = turns.tool_calls(one)
        words = turns.words_of(one)
        reply: dict[str, Any] = {"role": "assistant", "content": words, "thought": words, "action": one.command}
        reply |= {"reasoning_content": one.reply.reasoning} if one.reply.reasoning else {}
        reply |= {"weight": 0} if one.extra.get("weight") == 0 else {}
        messages.append(reply | ({"tool_calls": calls} if calls else {}))
        if number + 1 < len(trajectory.steps):
            ids = {"tool_call_ids": [call["id"] for call in calls]} if calls else {}
            messages.append({"role": "tool" if calls else "user", "content": one.observation, **ids})
    return messages


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of a demonstration, which is read and not trained on."""
    return {**message, "weight": 0} if message["role"] == "assistant" else dict(message)


def _ticks(message: Mapping[str, Any]) -> dict[str, Any]:
    content = text_of(message.get("content"))
    if message["role"] == "assistant" and (message.get("action") or message.get("tool_calls")):
        thought = message.get("thought", content)
        content = f"{thought}\n\n```\n{message.get('action', '')}\n```"
    return {"role": _two_sided(message), "content": content} | _marks(message)


def _xml(message: Mapping[str, Any], system: str) -> dict[str, Any]:
    content = text_of(message.get("content"))
    if message["role"] == "system":
        return {"role": "system", "content": system or content}
    if message["role"] == "assistant":
        calls = turns.native_calls(message, "a reply") or _action_call(message)
        if content == "Exit due to cost limit":
            content = ""  # SWE-agent's own words, said in the model's name when the money was spent
            calls = [Call("submit")]
        spoken = "\n".join(_call(call) for call in calls)
        words = str(message.get("thought", content)) if calls or "thought" in message else content
        content = (f"{words}\n\n{spoken}" if spoken else words).strip()
    return {"role": _two_sided(message), "content": content} | _marks(message)


def _action_call(message: Mapping[str, Any]) -> list[Call]:
    """Return the call of a reply that was a command in text, so that its action is not lost."""
    action = str(message.get("action") or "").strip("\n")
    if not action:
        return []
    return [Call("submit") if action.strip() == "submit" else Call("bash", {"command": action})]


def _call(call: Call) -> str:
    """Write a call as SWE-smith does."""
    lines = [f"<function={call.name}>"]
    for key, value in call.arguments.items():
        framed = f"\n{value}\n" if key in _OWN_LINES else value
        lines.append(f"<parameter={key}>{framed}</parameter>")
    return "\n".join([*lines, "</function>"])


def _marks(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says of a reply beside its text: what was thought before, and that it is not trained on."""
    return {name: message[name] for name in ("reasoning_content", "weight") if name in message}


def _two_sided(message: Mapping[str, Any]) -> str:
    return "user" if message["role"] == "tool" else str(message["role"])
