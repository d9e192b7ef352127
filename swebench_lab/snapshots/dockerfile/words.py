"""Words of a Dockerfile: quotes, escapes and variables, as its instructions other than RUN understand them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")
_SIGNS = ":-", ":+", ":?", "-", "+", "?"


class WordError(ValueError):
    """A word cannot be understood, or is outside the subset; the message says why."""


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", strict: bool = True) -> str:
    """Return one word or sentence with its quotes removed and its variables replaced.

    Args:
        text: As it is in the file.
        variables: Their values; a name that is not there is empty.
        escape: The escape character.
        strict: Whether `${x:?message}` of an empty variable is an error, as it is when the file is built.

    Raises:
        WordError: A quote or brace is not closed, a variable that has to be set is not, or a form such as `${x#pattern}`
            is outside the subset.
    """
    return _Reader(text, variables, escape, strict).read("")


def split(text: str, escape: str = "\\") -> list[str]:
    """Return the words of a text, quotes and escapes still in them; whitespace in quotes does not separate."""
    words: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if not quote and char.isspace():
            if word:
                words.append(word)
            word = ""
        elif char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 1
        else:
            if char in "'\"" and quote in ("", char):
                quote = "" if quote else char
            word += char
        at += 1
    return [*words, word] if word else words


class _Reader:
    """A text read from its beginning to its end."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str, strict: bool) -> None:
        self._text = text
        self._at = 0
        self._variables = variables
        self._escape = escape
        self._strict = strict

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def read(self, end: str) -> str:
        """Everything up to an unquoted character, which is passed over; to the end of the text where it is empty."""
        result = ""
        handlers: dict[str, Callable[[], str]] = {"'": self._single, '"': self._double, "$": self._variable}
        while char := self._next():
            if end and char == end:
                self._at += 1
                return result
            if char == self._escape:
                result += self._text[self._at + 1 : self._at + 2]
                self._at += 2
            elif char in handlers:
                result += handlers[char]()
            else:
                result += char
                self._at += 1
        if end:
            raise WordError(f"{self._text!r} has a brace that is not closed")
        return result

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise WordError(f"{self._text!r} has a quote that is not closed")
        inside = self._text[self._at + 1 : end]
        self._at = end + 1
        return inside

    def _double(self) -> str:
        self._at += 1
        result = ""
        while char := self._next():
            following = self._text[self._at + 1 : self._at + 2]
            if char == '"':
                self._at += 1
                return result
            if char == "$":
                result += self._variable()
            elif char == self._escape and following in ('"', "$", self._escape):
                result += following
                self._at += 2
            else:
                result += char
                self._at += 1
        raise WordError(f"{self._text!r} has a quote that is not closed")

    def _variable(self) -> str:
        self._at += 1
        if self._next() != "{":
            match = _NAME.match(self._text, self._at)
            if match is None:
                return "$"
            self._at = match.end()
            return self._variables.get(match[0], "")
        match = _NAME.match(self._text, self._at + 1)
        if match is None:
            raise WordError(f"{self._text!r} names no variable after '${{'")
        self._at, name = match.end(), match[0]
        value = self._variables.get(name)
        if self._next() == "}":
            self._at += 1
            return value or ""
        sign = next((sign for sign in _SIGNS if self._text.startswith(sign, self._at)), "")
        if not sign:
            raise WordError(f"'${{{name}{self._next()}…}}' is outside the subset, which has ${{x}} and :- :+ :? - + ?")
        self._at += len(sign)
        word = self.read("}")
        is_set = value is not None and (not sign.startswith(":") or value != "")
        if sign[-1] == "?" and not is_set and self._strict:
            raise WordError(f"the variable {name} has to be set: {word or 'it is empty'}")
        return {"-": value if is_set else word, "+": word if is_set else "", "?": value}[sign[-1]] or ""
