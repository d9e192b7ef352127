"""Highlighter: the words of code with their kinds, for views to colour; what is of no known language stays plain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

Piece = tuple[str, str]
"""A kind and a text: `k` keyword, `s` string, `c` comment, `n` number, `f` function or class, `b` builtin; empty: others."""

_LANGUAGES = {
    "py pyi pyx python python3": "python", "js mjs cjs jsx javascript": "javascript", "ts tsx typescript": "typescript",
    "go golang": "go", "rs rust": "rust", "java": "java", "c h": "c", "cc cpp cxx hpp c++": "cpp", "rb ruby": "ruby",
    "php": "php", "sh bash shell": "bash", "json": "json", "yaml yml": "yaml", "toml": "toml", "ini cfg": "ini",
    "css": "css", "pycon": "pycon",
}  # fmt: skip
"""Endings of files and names in fences → pygments' name. A short list, because what is read is hostile."""
_BY_NAME = {name: language for names, language in _LANGUAGES.items() for name in names.split()}
_LONGEST_BLOCK, _LONGEST_LINE = 40_000, 1000
_PATH = re.compile(r"\S+\.\w+")
_NUMBERED = re.compile(r"^( *\d+\t)(.*)$")


class Highlighter:
    """Splits code into words; gives up, and leaves the rest plain, when it has read enough for one page.

    Args:
        most: Characters that it reads in all.
    """

    def __init__(self, most: int = 150_000) -> None:
        self._left = most

    def code(self, text: str, name: str) -> list[list[Piece]] | None:
        """Return the lines of code in pieces; None where they stay plain.

        Args:
            text: The code.
            name: A path, or a language as in a fence of Markdown.
        """
        language = _BY_NAME.get(name.rpartition(".")[2].lower())
        if language is None or len(text) > min(_LONGEST_BLOCK, self._left):
            return None
        if max(map(len, text.split("\n"))) > _LONGEST_LINE:
            return None
        self._left -= len(text)
        lines: list[list[Piece]] = [[]]
        for kind, word in _words(text, language):
            first, *others = word.split("\n")
            _append(lines[-1], kind, first)
            for line in others:
                lines.append([])
                _append(lines[-1], kind, line)
        whole = "\n".join("".join(word for _, word in line) for line in lines)
        return lines if whole == text else None  # nothing that was written may be lost

    def diff(self, lines: Sequence[tuple[str, str]]) -> list[tuple[str, list[Piece]]]:
        """Return the lines of a diff, as `story.signed` has them, in pieces; each side of a hunk is read as one text."""
        rows = [(style, [("", text)]) for style, text in lines]
        path, block = "", list[int]()
        for at, (style, text) in enumerate([*lines, ("f", "")]):
            if style not in "cad":
                self._hunk(lines, block, path, rows)
                block = []
                if style == "f":
                    path = (_PATH.findall(text) or [""])[-1]
            else:
                block.append(at)
        return rows

    def _hunk(
        self, lines: Sequence[tuple[str, str]], block: list[int], path: str, rows: list[tuple[str, list[Piece]]]
    ) -> None:
        for styles in ("cd", "ca"):
            side = [at for at in block if lines[at][0] in styles]
            if not side or (styles == "cd" and len(side) == sum(lines[at][0] == "c" for at in block)):
                continue  # nothing was deleted: the other side has all lines
            for at, pieces in zip(
                side, self.code("\n".join(lines[at][1][1:] for at in side), path) or (), strict=False
            ):
                style, text = lines[at]
                rows[at] = (style, [("", text[:1]), *pieces])

    def numbered_listing(self, text: str, path: str) -> list[list[Piece]] | None:
        """Return a listing of a file, whose lines of code begin with a number and a tab, in pieces; None: it stays plain."""
        lines = text.split("\n")
        parts = [_NUMBERED.match(line) for line in lines]
        coded = self.code("\n".join(part[2] for part in parts if part), path) if any(parts) else None
        if coded is None:
            return None
        rest = iter(coded)
        return [[("", part[1]), *next(rest)] if part else [("", line)] for line, part in zip(lines, parts, strict=True)]


def _append(line: list[Piece], kind: str, text: str) -> None:
    if line and (line[-1][0] == kind or not text.strip()):
        line[-1] = (line[-1][0], line[-1][1] + text)
    elif text:
        line.append((kind, text))


def _words(text: str, language: str) -> Iterator[Piece]:
    for token, word in _lexer(language).get_tokens(text):
        yield _kind(token), word


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(language, stripnl=False, ensurenl=False)


@cache
def _kind(token: Any) -> str:
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    kinds = (
        ("k", (Keyword, Operator.Word)), ("s", (String,)), ("c", (Comment,)), ("n", (Number,)),
        ("f", (Name.Function, Name.Class, Name.Decorator)), ("b", (Name.Builtin, Name.Exception)),
    )  # fmt: skip
    return next((kind for kind, tokens in kinds if any(token in one for one in tokens)), "")
