"""The text of a Dockerfile as instructions: directives, comments, continued lines, flags, JSON forms and here-documents."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from swebench_lab.errors import SnapshotError

_DIRECTIVE = re.compile(r"^#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*$")
_HEREDOC = re.compile(r"(?:^|(?<=\s))(\d*)<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_.]*)\3(?=\s|$)")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_FLAGGED = ("ADD", "COPY", "FROM", "RUN", "HEALTHCHECK")
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")
_FRONT_END = re.compile(r"^(docker\.io/)?docker/dockerfile(:1(\.\d+)*)?$")


@dataclass(frozen=True)
class Heredoc:
    """A here-document.

    Attributes:
        name: What begins and ends it.
        content: Its lines, tabs at their beginning removed where it was asked for.
        expands: Whether variables are replaced in it.
    """

    name: str
    content: str
    expands: bool


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: Where it begins, counted from 1.
        name: In capitals.
        text: What follows its name and flags.
        flags: In order.
        words: The strings of its JSON form; None in the other form.
        heredocs: Those it has.
    """

    line: int
    name: str
    text: str
    flags: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] | None = None
    heredocs: tuple[Heredoc, ...] = field(default=())

    def flag(self, name: str) -> str:
        """The value of a flag; empty when it is not given."""
        return next((value for flag, value in self.flags if flag == name), "")


@dataclass(frozen=True)
class Syntax:
    """A file that was read.

    Attributes:
        name: Of the file, for messages.
        escape: Its escape character.
        instructions: In order.
    """

    name: str
    escape: str
    instructions: tuple[Instruction, ...]


def error_at(name: str, line: int, problem: str) -> SnapshotError:
    """Return the error of a line."""
    return SnapshotError(f"{name}, line {line}: {problem}")


def read(text: str, name: str = "Dockerfile") -> Syntax:
    """Return the instructions of a Dockerfile; what they mean is not looked at.

    Args:
        text: Of the file.
        name: Of the file, for messages.

    Raises:
        SnapshotError: A directive asks for another language, or a here-document is not closed.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    escape = _directives(lines, name)
    instructions: list[Instruction] = []
    at = 0
    while at < len(lines):
        begin = at
        logical, at = _logical(lines, at, escape)
        if not logical.strip():
            continue
        instruction, at = _instruction(name, begin + 1, logical.strip(), lines, at)
        instructions.append(instruction)
    return Syntax(name, escape, tuple(instructions))


def _directives(lines: Sequence[str], name: str) -> str:
    """Look at the directives at the top of a file; returns the escape character."""
    escape = "\\"
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line.strip())
        if match is None:
            break
        key, value = match[1].lower(), match[2]
        if key == "escape":
            if value not in ("\\", "`"):
                raise error_at(name, number, f"the escape directive knows \\ and `, not {value!r}")
            escape = value
        elif key == "syntax" and not _FRONT_END.match(value):
            raise error_at(
                name, number, f"the syntax directive asks for {value!r}; docker/dockerfile:1 is understood here"
            )
        elif key not in ("syntax", "check"):
            break
    return escape


def _logical(lines: Sequence[str], at: int, escape: str) -> tuple[str, int]:
    """The line that begins at a place with those that continue it, comments left out; and the place after it."""
    ending = re.compile(rf"{re.escape(escape)}[ \t]*$")
    parts: list[str] = []
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.lstrip().startswith("#") or (parts and not line.strip()):
            if parts:
                continue
            return "", at
        if not ending.search(line):
            return "".join([*parts, line]), at
        parts.append(ending.sub("", line))
    return "".join(parts), at


def _instruction(file: str, line: int, logical: str, lines: Sequence[str], at: int) -> tuple[Instruction, int]:
    """An instruction of a logical line, its here-documents taken from the lines after it; and the place after them."""
    head, *others = logical.split(None, 1)
    name, text = head.upper(), others[0] if others else ""
    flags: list[tuple[str, str]] = []
    while name in _FLAGGED and (match := _FLAG.match(text)):
        flags.append((match[1], match[2] or ""))
        text = text[match.end() :]
    heredocs: list[Heredoc] = []
    for match in _HEREDOC.finditer(text) if name in _WITH_HEREDOCS else ():
        content, at = _heredoc(file, line, match[4], bool(match[2]), lines, at)
        heredocs.append(Heredoc(match[4], content, not match[3]))
    return Instruction(line, name, text.strip(), tuple(flags), _json(text), tuple(heredocs)), at


def _heredoc(file: str, line: int, name: str, strips: bool, lines: Sequence[str], at: int) -> tuple[str, int]:
    content: list[str] = []
    while at < len(lines):
        text = lines[at].lstrip("\t") if strips else lines[at]
        at += 1
        if text == name:
            return "".join(f"{part}\n" for part in content), at
        content.append(text)
    raise error_at(file, line, f"the here-document {name} is not closed")


def _json(text: str) -> tuple[str, ...] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        values = json.loads(text)
    except ValueError:
        return None  # as engines do: it is shell text that begins with a bracket
    return tuple(values) if isinstance(values, list) and all(isinstance(value, str) for value in values) else None
