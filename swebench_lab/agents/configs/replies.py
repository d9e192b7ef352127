"""Replies: how SWE-agent and mini-swe-agent read a call from what a model said, to the letter.

They are more lenient than `calls.py`: text around a call is thought, and where there are several the first or the last
counts, as it does there. What is read is exact all the same: white space inside a call is kept, and nothing is taken
for a call that is not whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import (
    Call,
    JsonValue,
    after_thinking,
    find_xml,
    in_fence,
    parse_json,
    render_json,
    render_xml,
    shell_call,
)
from swebench_lab.formats.fences import fenced_blocks


@dataclass(frozen=True, slots=True)
class Reader:
    """A way to read replies.

    Args:
        read: Reads the call of a reply; raises FormatError.
        write: Writes a call so that `read` reads it back; raises FormatError where it cannot.
        nearest: The format of `calls.FORMATS` that replies are closest to.
        complaint: Template of what is shown when there is no call; files may set their own.
    """

    read: Callable[[str], Call]
    write: Callable[[Call], str]
    nearest: str
    complaint: str


_OTHER_NAMES = {"execute_bash": "bash", "finish": "submit"}
"""Names of the same functions in a neighbouring data set."""


def read_xml(text: str) -> Call:
    """Read the first `<function=...>` call; what stands around it is thought."""
    call, rest, wrapped = find_xml(text)
    after = (re.sub(r"\A\s*</tool_call>", "", rest) if wrapped else rest).strip()
    thought = "\n".join(part for part in (call.thought, after) if part)
    return replace(call, name=_OTHER_NAMES.get(call.name, call.name), thought=thought)


def read_json(text: str) -> Call:
    """Read the one tool call; the kind of mistake is told to the prompts."""
    try:
        return parse_json(text)
    except FormatError as error:
        calls = text.count("<tool_call>", after_thinking(text))
        code = "missing" if calls == 0 else "multiple" if calls > 1 else "invalid_json"
        raise FormatError(str(error), code) from error


def read_ticks(text: str) -> Call:
    """Read the last fenced block as a command; the rest is thought."""
    blocks = fenced_blocks(text, after_thinking(text))
    if not blocks:
        raise FormatError("The reply holds no closed block between lines of three back-ticks.", "missing")
    call, end = shell_call(text, blocks[-1]), blocks[-1][3]
    return _in_shell(replace(call, thought="\n".join(p for p in (call.thought, text[end:].strip()) if p)))


def _in_shell(call: Call) -> Call:
    """Return a call of `submit` as the command that it is there."""
    return Call("bash", {"command": "submit"}, call.thought, call.raw) if call.name == "submit" else call


def read_command_tags(text: str) -> Call:
    """Read what stands between the last `<command>` and the last `</command>`; the rest is thought."""
    begin, end = text.rfind("<command>", after_thinking(text)), text.rfind("</command>")
    if begin < 0 or end < begin:
        raise FormatError("The reply holds no command between <command> and </command>.", "missing")
    inside = text[begin + len("<command>") : end]
    command = inside.removeprefix("\n").removesuffix("\n")
    thought = "\n".join(p for p in (text[:begin].strip(), text[end + len("</command>") :].strip()) if p)
    return Call("bash", {"command": command}, thought, text[begin : end + len("</command>")])


def write_command_tags(call: Call) -> str:
    """Write a shell command between tags."""
    return _verify(call, f"{_thought(call)}<command>\n{_command(call)}\n</command>", read_command_tags)


def read_one_block(text: str) -> Call:
    """Read the one block marked `bash`; others are thought."""
    blocks = _bash_blocks(text)
    if len(blocks) != 1:
        raise FormatError(
            f"The reply holds {len(blocks)} bash blocks, not one.", "missing" if not blocks else "multiple"
        )
    return _in_shell(shell_call(text, blocks[0]))


def read_all_blocks(text: str) -> Call:
    """Read all blocks marked `bash` as one command, line after line."""
    blocks = _bash_blocks(text)
    if not blocks:
        raise FormatError("The reply holds no closed block that begins with ```bash.", "missing")
    command = "\n".join(content.removesuffix("\n") for _, content, _, _ in blocks)
    return Call("bash", {"command": command}, text[: blocks[0][2]].strip(), text[blocks[0][2] : blocks[-1][3]])


def _fence_writer(mark: str, read: Callable[[str], Call]) -> Callable[[Call], str]:
    return lambda call: _verify(call, in_fence(call, mark), read)


def _bash_blocks(text: str) -> list[tuple[str, str, int, int]]:
    return [block for block in fenced_blocks(text, after_thinking(text)) if block[0] == "bash"]


def read_object(text: str) -> Call:
    """Read a reply that is one JSON object with a thought and a command with a name and arguments."""
    try:
        reply = json.loads(text[after_thinking(text) :], strict=False)
        thought, command = reply["thought"], reply["command"]
        name, values = command["name"], command.get("arguments") or {}
        arguments = {str(key): v if isinstance(v, str) else JsonValue(json.dumps(v)) for key, v in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"The reply is no JSON object with a thought and a command: {error}.") from error
    if not isinstance(name, str) or not isinstance(thought, str):
        raise FormatError("The thought and the command's name must be texts.")
    return Call(name, arguments, thought, json.dumps(command))


def write_object(call: Call) -> str:
    """Write a call as `read_object` reads it."""
    arguments = {k: json.loads(v) if isinstance(v, JsonValue) else v for k, v in call.arguments.items()}
    reply = {"thought": call.thought, "command": {"name": call.name, "arguments": arguments}}
    return _verify(call, json.dumps(reply, ensure_ascii=False), read_object)


def by_pattern(pattern: str) -> Reader:
    """Return the reader of a regular expression whose one group is the command, found exactly once.

    Raises:
        ValueError: It is no regular expression with a group.
    """
    try:
        expression = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    if expression.groups != 1:
        raise ValueError(f"{pattern!r} must have one group, the command")

    def read(text: str) -> Call:
        matches = list(expression.finditer(text, after_thinking(text)))
        if len(matches) != 1:
            raise FormatError(f"Expected one action, found {len(matches)}.", count=str(len(matches)))
        match = matches[0]
        thought = "\n".join(p for p in (text[: match.start()].strip(), text[match.end() :].strip()) if p)
        return Call("bash", {"command": match[1]}, thought, match[0])

    def write(call: Call) -> str:
        before, group, after = pattern.partition("(.*?)")
        plain = [part.replace(r"\s*\n", "\n").replace(r"\n", "\n") for part in (before, after)]
        if not group or re.search(r"[\\\[\](){}*+?|^$]", "".join(plain)):
            raise FormatError(f"a call cannot be written as {pattern!r} reads it")
        return _verify(call, f"{_thought(call)}{plain[0]}{_command(call)}{plain[1]}", read)

    return Reader(read, write, "fenced", "Expected one action in the form that was described.")


def _thought(call: Call) -> str:
    return f"{call.thought}\n\n" if call.thought else ""


def _command(call: Call) -> str:
    """Return a call as the shell command it is."""
    if call.name == "submit" and not call.arguments:
        return "submit"
    if call.name != "bash":
        raise FormatError(f"this format holds shell commands only, not a call of {call.name!r}")
    return call.arguments.get("command", "")


def _verify(call: Call, text: str, read: Callable[[str], Call]) -> str:
    expected = _in_shell(call) if read is not read_object else call
    actual = read(text)
    if (actual.name, dict(actual.arguments)) != (expected.name, dict(expected.arguments)):
        raise FormatError(f"the call of {call.name!r} cannot be written in this format: it would be read otherwise")
    return text


_CALL = (
    "Your last reply could not be taken as a function call: {{exception_message}}\n"
    "Write your reasoning and then exactly one call of a function that is listed, with the arguments it names. "
    "If there is nothing left to do, call `submit`."
)
_BLOCK = (
    "Your last reply could not be read: {{exception_message}}\nWrite what you think and then exactly one command, "
    "in the form that was described; nothing was run."
)

READERS: Mapping[str, Reader] = {
    "xml_function_calling": Reader(read_xml, render_xml, "xml", _CALL),
    "function_calling": Reader(read_json, render_json, "json", _CALL),
    "thought_action": Reader(read_ticks, _fence_writer("", read_ticks), "ticks", _BLOCK),
    "xml_thought_action": Reader(read_command_tags, write_command_tags, "ticks", _BLOCK),
    "single_bash_code_block": Reader(read_one_block, _fence_writer("bash", read_one_block), "fenced", _BLOCK),
    "all_bash_code_blocks": Reader(read_all_blocks, _fence_writer("bash", read_all_blocks), "fenced", _BLOCK),
    "json": Reader(read_object, write_object, "json", _BLOCK),
}
"""Type of a `parse_function` → how it reads."""


def reader(name: str) -> Reader:
    """Return a reader by the name of SWE-agent's parser, or by `regex:` and a regular expression."""
    return by_pattern(name.removeprefix("regex:")) if name.startswith("regex:") else READERS[name]
