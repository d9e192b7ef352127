"""Shell text: whether a command is whole (quotes closed, heredocs ended), and which programs it starts.

This is no shell: it knows just enough of bash's quoting to tell a whole command from the beginning of one. It never
takes a whole command for an unfinished one because of what stands inside quotes, comments, arithmetic or heredocs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a command waits for when its text is over.

    Args:
        kind: `heredoc` or `quote`.
        wanted: The delimiter of the heredoc, or the quotation mark.
    """

    kind: str
    wanted: str


def unfinished(command: str) -> Unfinished | None:
    """Return what a command lacks at its end: the end of a heredoc, or a closing quotation mark; None: nothing."""
    return _Scan(command).missing


def programs(command: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and arguments of each program that a command starts, as far as its text tells.

    Names are without their directory. Words such as `sudo`, `env` and `then`, and variables set before a program, are
    skipped. Of a command that is not whole, nothing is yielded.
    """
    lexer = shlex.shlex(_Scan(command).text, posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    simple: list[str] = []
    try:
        words = list(lexer)
    except ValueError:
        return
    for word in [*words, ";"]:
        if word and not word.strip(";&|()\n"):
            yield from _program(simple)
            simple = []
        else:
            simple.append(word)


_BEFORE = frozenset(("sudo", "env", "exec", "command", "builtin", "time", "nohup", "nice", "!", "{"))
_BEFORE |= frozenset(("then", "do", "else", "elif", "if", "while", "until"))
_ASSIGNED = re.compile(r"[A-Za-z_]\w*\+?=")


def _program(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    for at, word in enumerate(words):
        if word in _BEFORE or _ASSIGNED.match(word):
            continue
        yield word.rpartition("/")[2], words[at + 1 :]
        return


_DELIMITER = re.compile(r"""-?[ \t]*((?:'[^'\n]*'|"[^"\n]*"|\\.|[^\s;&|<>()'"\\])+)""")


class _Scan:
    """One pass over a command.

    Args:
        command: Shell text.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.text = ""
        """The command without its comments and the bodies of its heredocs."""
        self.missing: Unfinished | None = None
        self._open: list[str] = []  # what each level of nesting ends with
        self._heredocs: list[tuple[str, bool]] = []  # delimiter, and whether tabs before it are skipped
        at = 0
        while at < len(command) and self.missing is None:
            after = self._step(at)
            self.text += command[at:after] if after > at else ""
            at = abs(after)
        if self.missing is None:
            self.missing = self._left_open()

    def _left_open(self) -> Unfinished | None:
        if self._heredocs:
            return Unfinished("heredoc", self._heredocs[0][0])
        marks = [mark for mark in self._open if mark in ('"', "`")]
        return Unfinished("quote", marks[0]) if marks else None

    def _step(self, at: int) -> int:
        """Return where the piece of text that begins here ends; negative: the piece is left out of `text`."""
        char = self.command[at]
        if char == "\\":
            return at + 2
        inside = self._open[-1] if self._open else ""
        if char == inside or (inside == "))" and self.command.startswith("))", at)):
            self._open.pop()
            return at + len(inside)
        if char == "$":
            return self._dollar(at)
        if char == "`":
            self._open.append("`")
            return at + 1
        if inside in ('"', "))", "}"):
            return self._step_in_quotes(at, char, inside)
        return self._plain(at, char)

    def _dollar(self, at: int) -> int:
        for opening, ending in (("$((", "))"), ("$(", ")"), ("${", "}")):
            if self.command.startswith(opening, at):
                self._open.append(ending)
                return at + len(opening)
        if self.command.startswith("$'", at) and '"' not in self._open[-1:]:
            return self._single(at + 2, ansi=True)
        return at + (2 if self.command[at + 1 : at + 2] in ("#", "$", "!", "?") else 1)

    def _step_in_quotes(self, at: int, char: str, inside: str) -> int:
        """Step inside double quotes, arithmetic or braces, where `<<` and `#` mean nothing."""
        if char == '"':
            self._open.append('"')
        elif char == "(" and inside == "))":
            self._open.append(")")
        elif char == "'" and inside == "}" and '"' not in self._open:
            return self._single(at + 1)
        return at + 1

    def _plain(self, at: int, char: str) -> int:
        command = self.command
        word_begins = at == 0 or command[at - 1] in " \t\n;&|()<>"
        if char == "'":
            return self._single(at + 1)
        if char == "#" and word_begins:
            end = command.find("\n", at)
            return -(end if end >= 0 else len(command))
        if char == "\n":
            return self._newline(at)
        if command.startswith("<<<", at):
            return at + 3
        if command.startswith("<<", at) and (match := _DELIMITER.match(command, at + 2)):
            delimiter = re.sub(r"""['"]|\\(?=.)""", "", match[1])
            self._heredocs.append((delimiter, command[at + 2] == "-"))
            return match.end()
        if command.startswith("((", at) and word_begins:
            self._open.append("))")
            return at + 2
        if char in '"(':
            self._open.append('"' if char == '"' else ")")
        return at + 1

    def _single(self, at: int, ansi: bool = False) -> int:
        """Return where a text in single quotes ends."""
        while at < len(self.command):
            if self.command[at] == "'":
                return at + 1
            at += 2 if ansi and self.command[at] == "\\" else 1
        self.missing = Unfinished("quote", "'")
        return at

    def _newline(self, at: int) -> int:
        """Skip the bodies of the heredocs that begin after this line."""
        if not self._heredocs:
            return at + 1
        self.text += "\n"
        position = at + 1
        while self._heredocs:
            delimiter, tabs = self._heredocs[0]
            while True:
                if position > len(self.command) or (position == len(self.command) and delimiter):
                    self.missing = Unfinished("heredoc", delimiter)
                    return -len(self.command)
                end = self.command.find("\n", position)
                end = len(self.command) if end < 0 else end
                line = self.command[position:end]
                position = end + 1
                if (line.lstrip("\t") if tabs else line) == delimiter:
                    break
            self._heredocs.pop(0)
        return -min(position, len(self.command))
