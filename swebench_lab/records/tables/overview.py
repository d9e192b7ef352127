"""Overview: a frame that shows as a small readable table, in a terminal and in a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from swebench_lab import _html

if TYPE_CHECKING:
    import polars as pl

_ROWS = 40


class Overview:
    """What a batch of work came to: a frame, with the columns that matter shown. What a frame can do, it can do.

    Args:
        frame: Everything, one row an item.
        title: What it is, in one line.
        columns: The columns that are shown, where they say anything; all of them when there are none here.
    """

    def __init__(self, frame: pl.DataFrame, title: str, columns: Sequence[str] = ()) -> None:
        self.frame, self.title = frame, title
        self._columns = tuple(columns)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "frame":
            raise AttributeError(name)
        return getattr(self.frame, name)

    def __getitem__(self, key: Any) -> Any:
        """Return what the frame has there: `overview["status"]` is a column."""
        return self.frame[key]

    def __len__(self) -> int:
        return self.frame.height

    def __iter__(self) -> Iterator[pl.Series]:
        return iter(self.frame)

    def _preview(self) -> tuple[list[str], list[list[Any]]]:
        """Return the columns that say anything, and their first rows."""
        columns = [name for name in self._columns or self.frame.columns if name in self.frame.columns]
        filled = [name for name in columns if any(map(_html.brief, self.frame[name].to_list()))]
        return filled, [list(row) for row in self.frame.select(filled).head(_ROWS).iter_rows()]

    def _rest(self) -> str:
        more = self.frame.height - _ROWS
        return f"… and {more} more: .frame has all" if more > 0 else ""

    def __repr__(self) -> str:
        """Return the title, then one line a row."""
        columns, rows = self._preview()
        return "\n".join(filter(None, [self.title, *aligned(columns, rows), self._rest()]))

    def _repr_html_(self) -> str:
        columns, rows = self._preview()
        others = [name for name in self.frame.columns if name not in columns]
        note = f"in .frame as well: {', '.join(others)}" if others else ""
        return _html.card(self.title, _html.table(columns, rows) + _html.note(self._rest()) + _html.note(note))


def count_title(what: str, frame: pl.DataFrame) -> str:
    """Return a title that says how many rows of a frame have each status."""
    counts = Counter(frame["status"].to_list()).most_common()
    return f"{what}: {', '.join(f'{number} {status}' for status, number in counts) or 'no task'}"


def aligned(columns: Sequence[str], rows: Iterable[Sequence[Any]], width: int = 72, ids: int = 56) -> list[str]:
    """Return a table as lines of plain text: numbers right, texts cut after `width` characters, ids in their middle."""
    contents = list(rows)
    if not columns or not contents:
        return []
    cells = [[_cell(name, value, width, ids) for name, value in zip(columns, row, strict=True)] for row in contents]
    right = [all(_html.is_number(row[at]) or row[at] in (None, "") for row in contents) for at in range(len(columns))]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]

    def line(values: Sequence[str]) -> str:
        parts = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    return [line(columns), *map(line, cells)]


def _cell(column: str, value: Any, width: int, ids: int) -> str:
    text = " ".join(_html.plain(_html.brief(value)).split())
    if column in _html.IDS:
        return _html.middle(text, ids)
    return text[: width - 1] + "…" if len(text) > width else text
