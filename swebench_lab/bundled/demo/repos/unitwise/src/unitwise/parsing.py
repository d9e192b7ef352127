"""Reading unit expressions ("kg*m/s^2") and quantities ("5 km/h")."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from .errors import UnitSyntaxError
from .units import ONE

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<power>\*\*|\^)
  | (?P<mul>[*·])
  | (?P<div>/)
  | (?P<open>\()
  | (?P<close>\))
  | (?P<super>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)
  | (?P<number>[+-]?\d+)
  | (?P<name>%|°?[^\W\d⁰¹²³⁴⁵⁶⁷⁸⁹]+)
    """,
    re.VERBOSE,
)

_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*")


class Token(NamedTuple):
    kind: str
    text: str
    position: int


def tokenize(text: str):
    """Yield the tokens of a unit expression, white space left out."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise UnitSyntaxError(f"unexpected {text[position]!r}", text, position)
        if match.lastgroup != "space":
            yield Token(match.lastgroup, match.group(), position)
        position = match.end()
    yield Token("end", "", position)


class UnitParser:
    """Recursive descent over one expression; ``lookup`` turns names into units."""

    def __init__(self, text: str, lookup):
        self.text = text
        self.lookup = lookup
        self.tokens = list(tokenize(text))
        self.index = 0

    @property
    def current(self) -> Token:
        return self.tokens[self.index]

    def advance(self) -> Token:
        token = self.current
        self.index += 1
        return token

    def fail(self, reason: str):
        raise UnitSyntaxError(reason, self.text, self.current.position)

    def parse(self):
        if self.current.kind == "end":
            return ONE
        unit = self.expression()
        if self.current.kind != "end":
            self.fail(f"unexpected {self.current.text!r}")
        return unit

    def expression(self):
        unit = self.factor()
        while self.current.kind not in ("end", "close"):
            kind = self.current.kind
            if kind in ("mul", "div"):
                self.advance()
            if kind == "div":
                unit = unit / self.factor()
            else:
                unit = unit * self.factor()
        return unit

    def factor(self):
        token = self.current
        if token.kind == "open":
            self.advance()
            unit = self.expression()
            if self.current.kind != "close":
                self.fail("missing ')'")
            self.advance()
        elif token.kind == "name":
            self.advance()
            unit = self.lookup(token.text)
        elif token.kind == "number" and token.text == "1":
            self.advance()
            unit = ONE
        elif token.kind == "end":
            self.fail("expected a unit")
        else:
            self.fail(f"expected a unit, not {token.text!r}")
        exponent = self.exponent()
        return unit if exponent == 1 else unit**exponent

    def exponent(self) -> Fraction:
        token = self.current
        if token.kind == "super":
            self.advance()
            return Fraction(token.text.translate(_SUPERSCRIPTS))
        if token.kind != "power":
            return Fraction(1)
        self.advance()
        if self.current.kind == "number":
            return Fraction(self.advance().text)
        if self.current.kind == "open":
            self.advance()
            numerator = self.integer()
            denominator = 1
            if self.current.kind == "div":
                self.advance()
                denominator = self.integer()
            if self.current.kind != "close" or denominator == 0:
                self.fail("malformed exponent")
            self.advance()
            return Fraction(numerator, denominator)
        self.fail("expected an exponent")

    def integer(self) -> int:
        if self.current.kind != "number":
            self.fail("expected an integer")
        return int(self.advance().text)


def split_number(text: str):
    """Split ``"1.5e3 km/h"`` into ``(1500.0, "km/h")``.

    A number without point and exponent is an int. Raises UnitSyntaxError when
    the text does not start with a number.
    """
    match = _NUMBER.match(text)
    if match is None:
        raise UnitSyntaxError("expected a number", text, 0)
    digits = match.group(1).replace("_", "")
    is_whole = digits.lstrip("+-").isdigit()
    return (int(digits) if is_whole else float(digits)), text[match.end() :].strip()
