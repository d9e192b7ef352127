"""What the table is asked: a search, filters of columns, an order, and a page; as one SQL condition with its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from swebench_lab.errors import RecordError
from swebench_lab.viewer.app.schema import COLUMNS

_BOUNDS = re.compile(r"^\s*(<=|>=|<|>|=|!=)?\s*(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)\s*$")
_RANGE = re.compile(r"^\s*(-?\d+(?:\.\d+)?)\s*\.\.\s*(-?\d+(?:\.\d+)?)\s*$")
_WORDS = re.compile(r'"([^"]*)"|(\S+)')
MOST = 500
"""Rows of one page."""


@dataclass(frozen=True, slots=True)
class Query:
    """What the table of attempts shows.

    Args:
        search: Words that all occur in an attempt, in any place; `"two words"` are looked for as a phrase, and a word's
            last star stands for any ending.
        filters: Column → what it must be. A text column contains the text; `=text` is equal to it, `!=text` is not, `!text` does
            not contain it. A column of numbers takes `5`, `>5`, `<=0.2`, `3..8`, and `none` for unknown.
        sort: Column that orders the rows; empty: as they were made.
        descending: Whether the largest come first.
        offset: Rows that are left out before the page.
        limit: Rows of the page, at most 500.
    """

    search: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)
    sort: str = ""
    descending: bool = False
    offset: int = 0
    limit: int = 100

    def __post_init__(self) -> None:
        for name in (*self.filters, *([self.sort] if self.sort else ())):
            if name not in COLUMNS:
                raise RecordError(f"asking for attempts: {name!r} is no column; known are {', '.join(COLUMNS)}")

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Query:
        """Return the query of a request: `q`, `sort` (with a minus: descending), `offset`, `limit`, `f.<column>`.

        Raises:
            RecordError: A column or a number is none.
        """
        try:
            offset, limit = int(asked.get("offset") or 0), int(asked.get("limit") or 100)
        except ValueError as error:
            raise RecordError(f"asking for attempts: offset and limit are whole numbers: {error}") from error
        sort = asked.get("sort", "")
        filters = {name[2:]: value for name, value in asked.items() if name.startswith("f.") and value.strip()}
        return cls(
            asked.get("q", ""),
            filters,
            sort.removeprefix("-"),
            sort.startswith("-"),
            max(0, offset),
            max(1, min(limit, MOST)),
        )

    def where(self, hits: Callable[[str], str]) -> tuple[str, list[object]]:
        """Return the condition of the rows, and its values.

        Args:
            hits: Returns the texts that match a search, as JSON.
        """
        parts, values = ["1"], list[object]()
        if words := match_of(self.search):
            parts.append("words IN (SELECT value FROM json_each(?))")
            values.append(hits(words))
        for name, text in self.filters.items():
            part, more = _condition(name, text.strip())
            parts.append(part)
            values += more
        return " AND ".join(parts), values

    @property
    def of_notes(self) -> bool:
        """Whether its rows depend on notes, which people may write at any time."""
        return bool({"tags", "note"} & self.filters.keys())

    def order(self) -> str:
        """Return the order of the rows; unknown values come last."""
        if not self.sort:
            return "place DESC" if self.descending else "place"
        way = "DESC" if self.descending else "ASC"
        column = f'"{self.sort}"'
        if COLUMNS[self.sort] is str:
            return f"{column} COLLATE NOCASE {way}, place {way}"
        return f"{column} IS NULL, {column} {way}, place {way}"


def match_of(search: str) -> str:
    """Return a search as FTS5 reads it; every word is quoted, so no character of it has a meaning of its own."""
    terms = []
    for phrase, word in _WORDS.findall(search):
        text = phrase or word.rstrip("*")
        if not any(c.isalnum() for c in text):
            continue  # the index holds words: a sign alone is nowhere in it
        quoted = '"' + text.replace('"', '""') + '"'
        terms.append(quoted + (" *" if word.endswith("*") else ""))
    return " AND ".join(terms)


def _condition(name: str, text: str) -> tuple[str, list[object]]:
    column = f'"{name}"'
    if COLUMNS[name] is str:
        if text.startswith(("=", "!=")):
            sign, _, value = text.partition("=")
            return f"{column} {sign}= ?", [value]
        term, negated = (text[1:], " NOT") if text.startswith("!") else (text, "")
        pattern = "%" + re.sub(r"([\\%_])", r"\\\1", term) + "%"
        return f"{column}{negated} LIKE ? ESCAPE '\\'", [pattern]
    if text.casefold() in ("none", "unknown"):
        return f"{column} IS NULL", []
    if within := _RANGE.match(text):
        return f"{column} BETWEEN ? AND ?", [float(within[1]), float(within[2])]
    if limit := _BOUNDS.match(text):
        return f"{column} {limit[1] or '='} ?", [float(limit[2])]
    raise RecordError(f"filtering by {name}: {text!r} is no number; write 5, >5, <=0.2, 3..8 or none")
