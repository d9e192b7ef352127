"""Test commands: which runner they start, and which steps they take before it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_OF_PYTEST = re.compile(r"(^|[\s/])(pytest|py\.test)(\s|$)")
_OF_SYMPY = re.compile(r"(^|[\s/])bin/test(\s|$)")
_OF_UNITTEST = re.compile(
    r"(^|[\s/])(-m\s+(unittest|nose|django\s+test)|runtests\.py|manage\.py\s+test|django-admin\s+test|nosetests[\d.-]*)(\s|$)"
)
_KINDS = (_OF_PYTEST, _OF_SYMPY, _OF_UNITTEST)
_STATE = re.compile(r"^(export|cd|source|\.|set|unset|ulimit|umask|shopt|:|true)(\s|$)|^[A-Za-z_]\w*=\S*$|^#|^$")
"""Steps that only change the shell itself, and run no program of the repository."""
_OTHER = re.compile(r"^\s*(\S*python\S*\s+-m\s+pip|pip\S*|uv|echo|printf|apt-get|conda|which|#)\s")
"""Programs that name a test runner among their arguments without running it."""
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OF_THE_SHELL = re.compile(
    r"(if|for|while|until|case|select|function|[{!]|\[\[?|time|coproc|eval|exec|command|builtin)$"
)
"""Words at a command's beginning that no program is called by."""
_MODULE = re.compile(r"\s-m\s+([A-Za-z_]\w*)")


def runs_pytest(command: str) -> bool:
    """Say whether a test command runs pytest itself."""
    return _OF_PYTEST.search(command) is not None


def runs_sympy(command: str) -> bool:
    """Say whether a test command runs sympy's own runner."""
    return _OF_SYMPY.search(command) is not None


def reports_separately(command: str) -> bool:
    """Say whether a test command's own process is a runner that reports results over the separate descriptor."""
    return any(kind.search(command) for kind in _KINDS)


def modules(command: str) -> frozenset[str]:
    """Return the modules that a test command runs by `python -m`."""
    return frozenset(_MODULE.findall(command))


def in_place_of_the_shell(command: str) -> str:
    """Return a test command with which its shell becomes the test runner; empty where it runs more than one program."""
    *first, (runner, _) = _parts(command.strip())
    if not _is_one_program(runner) or not all(_STATE.match(text.strip()) for text, _ in first):
        return ""
    env = "env " if _ASSIGNMENT.match(runner.strip()) else ""
    return "".join(text + mark for text, mark in first) + f" exec {env}{runner.strip()}"


def _is_one_program(command: str) -> bool:
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    words.commenters = ""
    try:
        tokens = list(words)
    except ValueError:  # a quote that is not closed
        return False
    program = next((token for token in tokens if not _ASSIGNMENT.match(token)), "")
    if _OF_THE_SHELL.match(program) or _STATE.match(command.strip()) or "`" in command:
        return False
    return not any(token == "&" or (set(token) <= set("();<>|&") and set(token) & set("();|")) for token in tokens)


@dataclass(frozen=True)
class Steps:
    """A test command in two parts.

    Attributes:
        before: What runs before the test runner, programs of the repository perhaps; empty where nothing does.
        state: What of it changes the shell alone, so that the runner needs it too.
        runner: The command that runs the tests.
        needed: Whether the runner only starts where what is before it succeeds.
    """

    before: str
    state: str
    runner: str
    needed: bool = False

    @property
    def leaves_services(self) -> bool:
        """Whether something is left running in the background on purpose."""
        return re.search(r"(?<![&>])&(?![&>\d])", self.before) is not None

    @classmethod
    def of(cls, command: str) -> Steps:
        """Cut a test command before its test runner."""
        command = command.strip()
        if not reports_separately(command):
            return cls("", "", command)
        parts = _parts(command)
        running = (i for i, (text, _) in reversed(list(enumerate(parts))) if _runs_tests(text))
        runner = next(running, len(parts) - 1)
        first, last = parts[:runner], parts[runner:]
        rest = "".join(text + mark for text, mark in last).strip()
        state = "\n".join(text.strip() for text, _ in first if _STATE.match(text.strip()))
        if all(_STATE.match(text.strip()) for text, _ in first):
            return cls("", "", command)
        before = "".join(text + mark for text, mark in first[:-1]) + first[-1][0]
        return cls(before.strip(), state, rest, first[-1][1] == "&&")


def _runs_tests(part: str) -> bool:
    return reports_separately(part) and _OTHER.match(part) is None


def _parts(command: str) -> list[tuple[str, str]]:
    """Return the simple commands of a shell text, each with the mark that ends it: `;`, `&&`, or a newline.

    Marks in quotes, in brackets and after a backslash separate nothing.
    """
    parts, text, quote, depth, at = [], "", "", 0, 0
    while at < len(command):
        char = command[at]
        if char == "\\" and quote != "'":
            text += command[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"`":
            quote = char
        elif char in "({":
            depth += 1
        elif char in ")}":
            depth -= 1
        elif depth == 0 and (char in ";\n" or command.startswith("&&", at)):
            mark = "&&" if char == "&" else char
            parts.append((text, mark))
            text, at = "", at + len(mark)
            continue
        text += char
        at += 1
    return [*parts, (text, "")]
