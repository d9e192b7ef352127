"""Column types: which text they accept, the values they make of it and how they print them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any


class ColumnType:
    """A kind of column. Subclasses say what they accept and how to convert."""

    name = "text"
    align = "left"

    def accepts(self, text: str) -> bool:
        """Say whether ``parse`` would succeed."""
        return True

    def parse(self, text: str) -> Any:
        """Turn a cell's text into a value."""
        return text

    def format(self, value: Any) -> str:
        """Turn a value into a cell's text; ``None`` is the empty cell."""
        if value is None:
            return ""
        return str(value)

    def sort_key(self, value: Any) -> Any:
        """Return what this type's values are ordered by."""
        return str(value).casefold()

    def __repr__(self) -> str:
        return f"<{self.name} column type>"


class BooleanType(ColumnType):
    """Yes and no."""

    name = "boolean"
    align = "centre"
    _truth = {"true": True, "yes": True, "false": False, "no": False}

    def accepts(self, text: str) -> bool:
        return text.strip().lower() in self._truth

    def parse(self, text: str) -> bool:
        try:
            return self._truth[text.strip().lower()]
        except KeyError:
            raise ValueError(f"not a boolean: {text!r}") from None

    def format(self, value: Any) -> str:
        if value is None:
            return ""
        return "yes" if value else "no"

    def sort_key(self, value: Any) -> Any:
        return bool(value)


class NumberType(ColumnType):
    """What integers and decimals have in common."""

    align = "right"
    _pattern: re.Pattern[str]

    def accepts(self, text: str) -> bool:
        text = text.strip()
        return self._pattern.fullmatch(text) is not None and not _has_leading_zero(text)

    def sort_key(self, value: Any) -> Any:
        return value

    def _clean(self, text: str) -> str:
        text = text.strip()
        if not self._pattern.fullmatch(text):
            raise ValueError(f"not {self.name}: {text!r}")
        return text.replace("_", "").replace(",", "")


class IntegerType(NumberType):
    """Whole numbers, with ``_`` or ``,`` between groups of three digits allowed."""

    name = "integer"
    _pattern = re.compile(r"[+-]?(\d{1,3}([,_]\d{3})+|\d+)")

    def parse(self, text: str) -> int:
        return int(self._clean(text))


class DecimalType(NumberType):
    """Exact decimal numbers and percentages."""

    name = "decimal"
    _pattern = re.compile(r"[+-]?(\d{1,3}([,_]\d{3})+|\d+)?(\.\d+)?([eE][+-]?\d+)?%?")

    def accepts(self, text: str) -> bool:
        return any(char.isdigit() for char in text) and super().accepts(text)

    def parse(self, text: str) -> Decimal:
        cleaned = self._clean(text)
        percent = cleaned.endswith("%")
        number = Decimal(cleaned.rstrip("%"))
        return number / 100 if percent else number

    def format(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, Decimal):
            return f"{value:f}"
        return str(value)


class DateType(ColumnType):
    """Calendar days written as year-month-day."""

    name = "date"
    _pattern = re.compile(r"\d{4}-\d{2}-\d{2}")

    def accepts(self, text: str) -> bool:
        text = text.strip()
        if not self._pattern.fullmatch(text):
            return False
        try:
            date.fromisoformat(text)
        except ValueError:
            return False
        return True

    def parse(self, text: str) -> date:
        return date.fromisoformat(text.strip())

    def format(self, value: Any) -> str:
        return "" if value is None else value.isoformat()

    def sort_key(self, value: Any) -> Any:
        return value.toordinal()


TYPES: tuple[ColumnType, ...] = (BooleanType(), IntegerType(), DecimalType(), DateType(), ColumnType())
TEXT = TYPES[-1]


def type_named(name: str) -> ColumnType:
    """Return the column type called ``name``."""
    for kind in TYPES:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in TYPES)
    raise ValueError(f"unknown column type {name!r}, known are {known}")


def infer_type(cells: Iterable[str | None]) -> ColumnType:
    """Return the narrowest type that accepts every non-empty cell."""
    filled = [cell for cell in cells if cell is not None and cell.strip()]
    if not filled:
        return TEXT
    return next(kind for kind in TYPES if all(kind.accepts(cell) for cell in filled))


def type_of_values(values: Iterable[Any]) -> ColumnType:
    """Return the type for a column of Python values."""
    kinds = {_type_of(value) for value in values if value is not None}
    if not kinds:
        return TEXT
    if kinds == {"integer", "decimal"}:
        return type_named("decimal")
    return type_named(kinds.pop()) if len(kinds) == 1 else TEXT


def _type_of(value: Any) -> str:
    # bool comes first: it is a subclass of int
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, (Decimal, float)):
        return "decimal"
    if isinstance(value, date):
        return "date"
    return "text"


def _has_leading_zero(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
