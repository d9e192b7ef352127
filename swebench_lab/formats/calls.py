"""Call: what a reply asks for, and the whitespace-exact ways of reading and writing it in text.

Six formats are known, each with one call per reply (`fences.py` says when a fenced block is no whole command):

- `xml`: `<function=bash>`, then for each parameter a line `<parameter=command>`, the value on lines of its own, and
  `</parameter>`, then `</function>`; the format of SWE-agent's XML calls. One newline after `<parameter=...>` and one
  before `</parameter>` are framing; nothing else is stripped.
- `coder`: the same between `<tool_call>` and `</tool_call>`, as Qwen3-Coder writes it. `xml` and `coder` read both.
- `json`: `<tool_call>`, `{"name": "bash", "arguments": {"command": "ls"}}`, `</tool_call>`; the format of Hermes and
  Qwen. Strings may hold line breaks as they are; tags inside strings are text.
- `fenced`: one bash command in a fenced block marked `bash` (or `mswea_bash_command`, as mini-swe-agent has it); other
  blocks are prose. The lone command `submit` hands the work in.
- `ticks`: a thought and a fenced block, marked or not, that is the command; of several, the last, as in SWE-agent's
  thought-and-action prompts, whose format this is.
- `line`: one line, a function's name and behind a space its one parameter; for models of a few million parameters.

Reading never guesses. What is not one whole call is a `FormatError` that tells the policy what to write instead, so
that no command runs that was not written. What a reply thinks (`<think>...</think>` at its beginning, or all before a
lone `</think>` where the prompt opened the thought) is never searched for calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from swebench_lab.errors import FormatError
from swebench_lab.formats.fences import Block, check_whole, fenced_blocks


@dataclass(frozen=True, slots=True)
class Call:
    """One function call, as it was written.

    Args:
        name: The tool's name.
        arguments: Parameter to value, to the letter.
        thought: The text before the call.
        raw: The text of the call itself; empty for a call that was not read from a reply.
    """

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    thought: str = ""
    raw: str = field(default="", compare=False)


class JsonValue(str):
    """The text of an argument that was written as a JSON value other than a string: `[1, 2]`, `7`, `true`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CallFormat:
    """A way to write calls in text.

    Args:
        name: What flavours and policies call it.
        parse: Reads the one call of a reply; raises FormatError.
        render: Writes a call so that `parse` reads it back; raises FormatError where the format cannot express it.
    """

    name: str
    parse: Callable[[str], Call]
    render: Callable[[Call], str]


_OPEN = re.compile(r"<function=([^<>\s]*)>")
_PARAMETER = re.compile(r"\s*<parameter=([A-Za-z_][\w.-]*)>")
_VALUE_END = re.compile(r"</parameter>(?=\s*(?:<parameter=[^<>\s]+>|</function>))")
_CLOSE = re.compile(r"\s*</function>")
_TAG = re.compile(r"<(?:function|parameter)=[^<>\s]*>?|</(?:function|parameter)\b>?")  # damaged ones too
_THINK = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_WRAPPED = re.compile(r"<tool_call>\s*\Z")


def parse_xml(text: str) -> Call:
    """Read the one XML function call of a reply.

    A `<function=...>` in the middle of a line that starts no whole call counts as prose; one that begins a line must
    be the call. A pair of `<tool_call>` tags around the call is accepted, as some models are trained to write it.

    Args:
        text: All that the policy said.

    Returns:
        The call, with the text before it as its thought.

    Raises:
        FormatError: There is no call, more than one, something after it, or a call that is not whole.
    """
    call, rest, wrapped = find_xml(text)
    _check_rest(rest, wrapped)
    return call


def find_xml(text: str) -> tuple[Call, str, bool]:
    """Return the first XML function call of a reply, what follows it, and whether `<tool_call>` stands before it.

    Raises:
        FormatError: There is no call, or one that is not whole.
    """
    problem: FormatError | None = None
    text = _with_plain_ends(text)
    for opening in _OPEN.finditer(text, after_thinking(text)):
        try:
            arguments, end = _body(text, opening)
        except FormatError as error:
            problem = error
            if _begins_line(text, opening.start()):
                break
            continue
        thought = text[: opening.start()]
        call = Call(opening[1], arguments, _WRAPPED.sub("", thought).strip(), text[opening.start() : end])
        return call, text[end:], bool(_WRAPPED.search(thought))
    raise problem or FormatError("The reply holds no function call.")


def _with_plain_ends(text: str) -> str:
    """Return a reply all of whose lines end in CRLF with plain line ends: its writer's, and no part of a command."""
    lines = text.count("\n")
    return text.replace("\r\n", "\n") if lines and text.count("\r\n") == lines else text


def after_thinking(text: str) -> int:
    """Return where a leading `<think>` block ends; calls are only looked for after it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FormatError("The reply holds half a character (a lone surrogate), which no program can read.") from error
    if block := _THINK.match(text):
        return block.end()
    if text.lstrip().startswith("<think>"):
        raise FormatError("The reply ends before </think>: it was cut off while thinking, so nothing was run.")
    closing = text.find("</think>")
    opened_before = closing < 0 or "<think>" in text[:closing]
    return 0 if opened_before else closing + len("</think>")


def _begins_line(text: str, position: int) -> bool:
    return not text[text.rfind("\n", 0, position) + 1 : position].strip()


def _body(text: str, opening: re.Match[str]) -> tuple[dict[str, str], int]:
    """Read parameters from the end of `<function=...>` on; return them and where the call ends."""
    name, position = opening[1], opening.end()
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
        raise FormatError(f"{name!r} is not a function's name.")
    arguments: dict[str, str] = {}
    while parameter := _PARAMETER.match(text, position):
        key = parameter[1]
        if key in arguments:
            raise FormatError(f"The parameter {key!r} of the function {name!r} is given twice.")
        end = _VALUE_END.search(text, parameter.end())
        if end is None:
            raise FormatError(f"The parameter {key!r} of the function {name!r} is not closed by </parameter>.")
        arguments[key] = _value(text[parameter.end() : end.start()], key)
        position = end.end()
    close = _CLOSE.match(text, position)
    if close is None:
        raise FormatError(
            f"In the call of {name!r}, only <parameter=...>...</parameter> may stand before </function>, "
            "and </function> must close it."
        )
    return arguments, close.end()


def _value(raw: str, key: str) -> str:
    """Take the framing off a value, and refuse one that may be a damaged call.

    A value may hold the format's own tags (a file that documents it does), but only inside a line of a value that
    has its own lines: a tag at the edge of a line is more likely a forgotten closing tag.
    """
    framed = raw.startswith("\n")
    value = raw[1:] if framed else raw
    for tag in _TAG.finditer(value):
        before = value[value.rfind("\n", 0, tag.start()) + 1 : tag.start()]
        after = value[tag.end() :].split("\n", 1)[0]
        if not framed or not before.strip() or not after.strip():
            raise FormatError(
                f"The parameter {key!r} holds the tag {tag[0]}, so where it ends is unclear. Close every parameter by "
                "</parameter>, and write text that must hold such tags with another tool."
            )
    return value.removesuffix("\n")


def _check_rest(rest: str, wrapped: bool) -> None:
    if wrapped:
        rest = re.sub(r"\A\s*</tool_call>", "", rest)
    if _OPEN.search(rest):
        raise FormatError("The reply holds more than one function call; make one, and wait for what it shows.")
    if rest.strip():
        raise FormatError("There is text after </function>; reason before the call, and write nothing after it.")


def render_xml(call: Call) -> str:
    """Write a call, with its thought before it, as `parse_xml` reads it.

    Raises:
        FormatError: The format cannot hold one of the values.
    """
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in call.arguments.items())
    thought = f"{call.thought}\n\n" if call.thought else ""
    return _verify(call, f"{thought}<function={call.name}>\n{parameters}</function>", parse_xml)


def render_coder(call: Call) -> str:
    """Write a call as `render_xml` does, between `<tool_call>` tags.

    Raises:
        FormatError: The format cannot hold one of the values.
    """
    inner = render_xml(Call(call.name, call.arguments))
    thought = f"{call.thought}\n\n" if call.thought else ""
    return _verify(call, f"{thought}<tool_call>\n{inner}\n</tool_call>", parse_xml)


_SPACE = re.compile(r"[ \t\n\r]*")
_TOOL_CALL = re.compile(r"<tool_call>")


def parse_json(text: str) -> Call:
    """Read the one JSON tool call of a reply.

    A `<tool_call>` in the middle of a line that starts no whole call counts as prose; one that begins a line must be
    the call. Arguments that are no strings are kept as they were written, as `JsonValue`.

    Raises:
        FormatError: There is no call, more than one, something after it, or a call that is not whole.
    """
    problem: FormatError | None = None
    for opening in _TOOL_CALL.finditer(text, after_thinking(text)):
        try:
            name, arguments, end = _json_call(text, opening.end())
        except FormatError as error:
            problem = error
            if _begins_line(text, opening.start()):
                break
            continue
        rest = text[end:]
        if _TOOL_CALL.search(rest):
            raise FormatError("The reply holds more than one tool call; make one, and wait for what it shows.")
        if rest.strip():
            raise FormatError("There is text after </tool_call>; reason before the call, and write nothing after it.")
        return Call(name, arguments, text[: opening.start()].strip(), text[opening.start() : end])
    raise problem or FormatError("The reply holds no <tool_call>.")


def parse_json_calls(text: str) -> list[Call]:
    """Read all JSON tool calls of a reply, one directly after the other; the first holds the thought before them.

    Raises:
        FormatError: There is no call, something between or after them, or one that is not whole.
    """
    opening = _TOOL_CALL.search(text, after_thinking(text))
    if opening is None:
        raise FormatError("The reply holds no <tool_call>.")
    calls: list[Call] = []
    thought = text[: opening.start()].strip()
    while opening is not None:
        name, arguments, end = _json_call(text, opening.end())
        calls.append(Call(name, arguments, "" if calls else thought, text[opening.start() : end]))
        after = _TOOL_CALL.search(text, end)
        if text[end : after.start() if after else len(text)].strip():
            raise FormatError(
                "There is text after </tool_call>; reason before the calls, and write nothing after them."
            )
        opening = after
    return calls


def _json_call(text: str, start: int) -> tuple[str, dict[str, str], int]:
    """Read a call behind `<tool_call>`; return its name, its arguments, and where its closing tag ends."""
    try:
        whole, end = _members(text, start)
        if set(whole) - {"name", "arguments"} or "name" not in whole:
            raise FormatError('A tool call is an object with "name" and "arguments", and nothing else.')
        name = json.loads(whole["name"][1], strict=False)
        members = _members(whole["arguments"][1], 0) if "arguments" in whole else ({}, 0)
        arguments = {key: _json_argument(raw) for key, (_, raw) in members[0].items()}
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"The tool call is no JSON object: {error}.") from error
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
        raise FormatError(f"{whole['name'][1][:60]} is not a function's name.")
    close = re.compile(r"[ \t\n\r]*</tool_call>").match(text, end)
    if close is None:
        raise FormatError("</tool_call> must follow the object of the tool call at once.")
    return name, arguments, close.end()


def _members(text: str, start: int) -> tuple[dict[str, tuple[int, str]], int]:
    """Read a JSON object; return key to where its value begins and the value's own text, and where the object ends."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_no_constant)
    members: dict[str, tuple[int, str]] = {}
    at = _token(text, start, "{")
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        key, at = decoder.raw_decode(text, _token(text, at, '"', skip=False) - 1)
        if key in members:
            raise FormatError(f"The tool call gives {key!r} twice.")
        begins = _token(text, at, ":")
        _, at = decoder.raw_decode(text, begins)
        members[key] = (begins, text[begins:at])
        at = _behind_space(text, at)
        if text[at : at + 1] == "}":
            return members, at + 1
        at = _token(text, at, ",")


def _token(text: str, at: int, sign: str, skip: bool = True) -> int:
    """Return the place behind a sign and the white space around it."""
    at = _behind_space(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign!r} at character {at}, found {text[at : at + 1]!r}")
    return _behind_space(text, at + 1) if skip else at + 1


def _behind_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _json_argument(raw: str) -> str:
    """Return a string's content, or the text of another value; refuse half characters, which nothing can read."""
    value = json.loads(raw, strict=False) if raw.startswith('"') else None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FormatError("A string of the tool call holds half a character (a lone surrogate).") from None
        return value
    return JsonValue(raw)


def json_arguments(call: Call) -> str:
    """Return a call's arguments as a JSON object: what is no `JsonValue` as strings."""
    items = call.arguments.items()
    members = (f"{_quote(key)}: {value if isinstance(value, JsonValue) else _quote(value)}" for key, value in items)
    return "{" + ", ".join(members) + "}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def render_json(call: Call) -> str:
    """Write a call, with its thought before it, as `parse_json` reads it.

    Raises:
        FormatError: The thought looks like a call, or a value cannot be read by any program.
    """
    thought = f"{call.thought}\n\n" if call.thought else ""
    body = f'{{"name": {_quote(call.name)}, "arguments": {json_arguments(call)}}}'
    return _verify(call, f"{thought}<tool_call>\n{body}\n</tool_call>", parse_json)


def parse_fenced(text: str) -> Call:
    """Read the one fenced bash command of a reply; other fenced blocks are prose.

    A command that itself holds a line of three back-ticks is written between fences of four.

    Raises:
        FormatError: There is no block marked `bash`, more than one, or one that may be the beginning of a longer one.
    """
    text = _with_plain_ends(text)
    start = after_thinking(text)
    all_blocks = fenced_blocks(text, start)
    blocks = [block for block in all_blocks if block[0] in ("bash", "mswea_bash_command")]
    if not blocks:
        raise FormatError("The reply holds no closed block that begins with ```bash.")
    if len(blocks) > 1:
        raise FormatError(f"The reply holds {len(blocks)} bash blocks; write one, and wait for what it shows.")
    check_whole(text, start, all_blocks, blocks[0])
    return shell_call(text, blocks[0])


def shell_call(text: str, block: Block) -> Call:
    """Return the call that a fenced block stands for."""
    _, content, start, end = block
    command, thought, raw = content.removesuffix("\n"), text[:start].strip(), text[start:end]
    if command.strip() == "submit":
        return Call("submit", {}, thought, raw)
    return Call("bash", {"command": command}, thought, raw)


def render_fenced(call: Call) -> str:
    """Write a `bash` or `submit` call as `parse_fenced` reads it.

    Raises:
        FormatError: It is another tool's call, or the format cannot hold the command.
    """
    return _verify(call, in_fence(call, "bash"), parse_fenced)


def parse_ticks(text: str) -> Call:
    """Read the last fenced block of a reply as a command, whatever it is marked; what stands around it is thought.

    Raises:
        FormatError: There is no block, or the last one may be a part of a longer one.
    """
    text = _with_plain_ends(text)
    start = after_thinking(text)
    blocks = fenced_blocks(text, start)
    if not blocks:
        raise FormatError("The reply holds no closed block between lines of three back-ticks.")
    check_whole(text, start, blocks, blocks[-1])
    call, after = shell_call(text, blocks[-1]), text[blocks[-1][3] :].strip()
    return replace(call, thought="\n".join(part for part in (call.thought, after) if part))


def render_ticks(call: Call) -> str:
    """Write a `bash` or `submit` call as `parse_ticks` reads it.

    Raises:
        FormatError: It is another tool's call, or the format cannot hold the command.
    """
    return _verify(call, in_fence(call, ""), parse_ticks)


def in_fence(call: Call, mark: str) -> str:
    """Return a `bash` or `submit` call in a fenced block, its thought before it; raises FormatError for another's."""
    if call.name not in ("bash", "submit"):
        raise FormatError(f"the fenced formats hold bash commands only, not a call of {call.name!r}")
    command = call.arguments.get("command", "") if call.name == "bash" else "submit"
    runs = [len(run) for run in re.findall(r"^`{3,}", command, re.MULTILINE)]
    fence = "`" * max([3, *(length + 1 for length in runs)])
    thought = f"{call.thought}\n\n" if call.thought else ""
    return f"{thought}{fence}{mark}\n{command}\n{fence}"


_LINE = re.compile(r"([a-z_]+)(?: (\S[^\n]*))?")


def parse_line(text: str) -> Call:
    """Read a reply that is one line: a name, and after a space what becomes the parameter `text`.

    Raises:
        FormatError: It is anything else.
    """
    match = _LINE.fullmatch(text, after_thinking(text))
    if match is None:
        raise FormatError("The reply is not one line with a name and a value.")
    return Call(match[1], {} if match[2] is None else {"text": match[2]}, "", text)


def render_line(call: Call) -> str:
    """Write a call with at most the parameter `text`.

    Raises:
        FormatError: It has other parameters or a thought, or the value is no line.
    """
    if call.thought or set(call.arguments) - {"text"}:
        raise FormatError(f"the line format holds a name and one value, not this call of {call.name!r}")
    return _verify(call, " ".join([call.name, *call.arguments.values()]), parse_line)


def _verify(call: Call, text: str, parse: Callable[[str], Call]) -> str:
    """Return the text if it reads back as the same call."""
    read = parse(text)
    if (read.name, dict(read.arguments)) != (call.name, dict(call.arguments)):
        raise FormatError(f"the call of {call.name!r} cannot be written in this format: it would be read otherwise")
    return text


FORMATS: Mapping[str, CallFormat] = {
    "xml": CallFormat("xml", parse_xml, render_xml),
    "coder": CallFormat("coder", parse_xml, render_coder),
    "json": CallFormat("json", parse_json, render_json),
    "fenced": CallFormat("fenced", parse_fenced, render_fenced),
    "ticks": CallFormat("ticks", parse_ticks, render_ticks),
    "line": CallFormat("line", parse_line, render_line),
}
"""Format name → how it is read and written."""
