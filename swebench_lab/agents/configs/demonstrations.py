"""Demonstrations: recorded attempts that a file of SWE-agent shows before the task, as one text or as a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from swebench_lab.agents.configs.options import Settings, load
from swebench_lab.agents.configs.replies import READERS
from swebench_lab.agents.configs.templates import template
from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import parse_json
from swebench_lab.policies import chat_messages

_PATHS = "agent.templates.demonstrations"
NATIVE = "function_calling"
"""The parser whose calls are the endpoint's own."""


def in_history(settings: Settings) -> bool:
    """Say whether the file wants each message of a demonstration as one of the conversation."""
    return bool(settings.get("agent.templates.put_demos_in_history", False, bool))


def as_texts(settings: Settings) -> tuple[str, ...]:
    """Return each recorded attempt as the text of one message; none where they are wanted as conversations.

    Raises:
        ConfigError: A file is no record, or there is no frame for it.
    """
    if in_history(settings):
        return ()
    frame = settings.text("agent.templates.demonstration_template")
    texts = []
    for name, path in _records(settings):
        if not frame:
            raise settings.wrong(
                name, "a demonstration needs a demonstration_template, its frame, or put_demos_in_history: true"
            )
        contents = [_content(entry["content"]) for entry in _history(settings, name, path)]
        texts.append(template(frame).render(demonstration="\n".join(contents)))
    return tuple(texts)


def as_turns(settings: Settings, parser: str) -> tuple[tuple[str, str], ...]:
    """Return the messages of the recorded attempts, role and text; none where they are wanted as texts.

    A reply that made its call through its endpoint is written in the agent's own call format. Where the agent's calls are
    the endpoint's too, a policy that shows tools sends it as a call again, and what came of it as that call's result.

    Args:
        settings: The file.
        parser: How the agent reads replies: a name in `replies.READERS`.

    Raises:
        ConfigError: A file is no record, or a message of it cannot be shown as it was.
    """
    if not in_history(settings):
        return ()
    turns: list[tuple[str, str]] = []
    for name, path in _records(settings):
        entries = _history(settings, name, path)
        for number, entry in enumerate(entries):
            try:
                turns.append(_turn(entry, parser))
                if parser == NATIVE:
                    _check_pair(entry, entries[number + 1 : number + 2], entries[number - 1 : number])
            except FormatError as error:
                raise settings.wrong(
                    name,
                    f"message {number} of {path} cannot be put into the history: {error}; leave put_demos_in_history "
                    "out, and the demonstration is one text",
                ) from error
    return tuple(turns)


def _records(settings: Settings) -> list[tuple[str, str]]:
    """Return the option and the path of each record."""
    return [(f"{_PATHS}[{i}]", path) for i, path in enumerate(settings.strings(_PATHS))]


def _history(settings: Settings, name: str, written: str) -> list[Mapping[str, Any]]:
    """Return the messages of a record, its system prompt left out.

    Args:
        settings: The file.
        name: The option that names the record.
        written: The record's path there: a `.traj`, `.json` or `.yaml` file with a `history`.

    Raises:
        ConfigError: It is no record.
    """
    record = load(settings.path(name, written))  # JSON is YAML
    history = record.get("history")
    if not isinstance(history, list) or not all(isinstance(entry, dict) and "content" in entry for entry in history):
        raise settings.wrong(name, f"{written} holds no history of messages")
    return [entry for entry in history if entry.get("role") != "system"]


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def _turn(entry: Mapping[str, Any], parser: str) -> tuple[str, str]:
    """Return a message's role and text; raises FormatError."""
    role, content = entry.get("role"), entry["content"]
    if role not in ("user", "assistant", "tool"):
        raise FormatError(f"its role is {role!r}, not user, assistant or tool")
    if isinstance(content, list) and not all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        raise FormatError("it holds something that is no text, and messages hold text only")
    text = "" if content is None else _content(content)
    if role == "assistant":
        return role, _spoken(text, entry.get("tool_calls") or (), parser)
    return "tool" if role == "tool" and parser == NATIVE else "user", text


def _spoken(words: str, calls: Sequence[Any], parser: str) -> str:
    """Return a reply's text with its call in the agent's format; raises FormatError."""
    if not calls:
        if parser == NATIVE and chat_messages.calls_of({"role": "assistant", "content": words}):
            raise FormatError("its words read as a call, and it made none")
        return words
    if len(calls) > 1:
        raise FormatError(f"it makes {len(calls)} calls at once, and a reply of this agent makes one")
    try:
        name = calls[0]["function"]["name"]
        text = chat_messages.text({"content": words, "tool_calls": list(calls)})
    except (KeyError, TypeError) as error:
        raise FormatError(f"its tool_calls are no calls of an endpoint: {error!r}") from error
    call = parse_json(text)
    if call.name != name or call.thought != words.strip():
        raise FormatError("its words hold what would be read as another call")
    return text if parser == NATIVE else READERS[parser].write(call)


def _check_pair(entry: Mapping[str, Any], after: Sequence[Any], before: Sequence[Any]) -> None:
    """Refuse a call without its result, or a result without its call, which endpoints do not take."""
    if entry["role"] == "assistant" and entry.get("tool_calls") and [e.get("role") for e in after] != ["tool"]:
        raise FormatError("its call has no result behind it, and endpoints refuse such a conversation")
    if entry["role"] == "tool" and not (before and before[0].get("tool_calls")):
        raise FormatError("it is a result without a call before it, and endpoints refuse such a conversation")
