"""The table: named, typed columns and rows of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .errors import ColumnError
from .types import ColumnType, infer_type, type_named, type_of_values

Row = tuple[Any, ...]


class Table:
    """An immutable table. Every method that changes something returns a new table.

    Args:
        header: The column names, all different.
        rows: One sequence of values per row. Short rows are filled with ``None``.
        types: Column types by name; the others follow from the values.
    """

    def __init__(
        self,
        header: Iterable[str],
        rows: Iterable[Sequence[Any]] = (),
        types: Mapping[str, ColumnType | str] | None = None,
    ) -> None:
        self.header = tuple(header)
        duplicates = sorted({name for name in self.header if self.header.count(name) > 1})
        if duplicates:
            raise ColumnError(f"column names must differ, repeated: {', '.join(duplicates)}")
        self.rows = tuple(self._complete(row, number) for number, row in enumerate(rows, start=1))
        chosen = dict(types or {})
        for name in chosen:
            self.index(name)
        self.types = tuple(
            _as_type(chosen[name]) if name in chosen else type_of_values(row[index] for row in self.rows)
            for index, name in enumerate(self.header)
        )

    @classmethod
    def from_text(cls, header: Iterable[str], rows: Iterable[Sequence[str | None]], typed: bool = True) -> Table:
        """Make a table of text cells, giving every column its narrowest type."""
        raw = cls(header, rows)
        if not typed:
            return raw
        kinds = [infer_type(column) for column in raw.columns()]
        converted = [
            [_convert(kind, cell) for kind, cell in zip(kinds, row, strict=True)] for row in raw.rows
        ]
        return cls(raw.header, converted, dict(zip(raw.header, kinds, strict=True)))

    def _complete(self, row: Sequence[Any], number: int) -> Row:
        missing = len(self.header) - len(row)
        if missing < 0:
            raise ColumnError(f"row {number} has {len(row)} cells for {len(self.header)} columns")
        return (*row, *[None] * missing)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            yield dict(zip(self.header, row, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return self.header == other.header and self.rows == other.rows

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Table({', '.join(self.header)}; {len(self)} rows)"

    def index(self, name: str) -> int:
        """Return the position of a column."""
        try:
            return self.header.index(name)
        except ValueError:
            raise ColumnError(f"no column {name!r}, there are {', '.join(self.header)}") from None

    def type_of(self, name: str) -> ColumnType:
        """Return the type of a column."""
        return self.types[self.index(name)]

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, top to bottom."""
        index = self.index(name)
        return [row[index] for row in self.rows]

    def columns(self) -> Iterator[list[Any]]:
        """Yield the values of every column, left to right."""
        for index in range(len(self.header)):
            yield [row[index] for row in self.rows]

    def texts(self) -> list[list[str]]:
        """Return the rows as the text their types print."""
        return [
            [kind.format(value) for kind, value in zip(self.types, row, strict=True)] for row in self.rows
        ]

    def select(self, *names: str) -> Table:
        """Keep these columns, in this order."""
        positions = [self.index(name) for name in names]
        rows = [[row[position] for position in positions] for row in self.rows]
        return Table(names, rows, {name: self.type_of(name) for name in names})

    def drop(self, *names: str) -> Table:
        """Leave out these columns."""
        for name in names:
            self.index(name)
        return self.select(*(name for name in self.header if name not in names))

    def rename(self, **names: str) -> Table:
        """Give columns new names: ``rename(old="new")``."""
        for name in names:
            self.index(name)
        header = [names.get(name, name) for name in self.header]
        return Table(header, self.rows, dict(zip(header, self.types, strict=True)))

    def where(self, condition: Callable[[dict[str, Any]], bool] | None = None, **values: Any) -> Table:
        """Keep the rows that meet the condition and have these values."""
        for name in values:
            self.index(name)
        kept = []
        for row, record in zip(self.rows, self, strict=True):
            if condition is not None and not condition(record):
                continue
            if all(record[name] == value for name, value in values.items()):
                kept.append(row)
        return self._with_rows(kept)

    def with_column(self, name: str, compute: Callable[[dict[str, Any]], Any]) -> Table:
        """Add a computed column at the right, or replace the one of that name."""
        computed = [compute(record) for record in self]
        types = {other: self.type_of(other) for other in self.header if other != name}
        if name in self.header:
            position = self.index(name)
            rows = [
                (*row[:position], value, *row[position + 1 :])
                for row, value in zip(self.rows, computed, strict=True)
            ]
            return Table(self.header, rows, types)
        rows = [(*row, value) for row, value in zip(self.rows, computed, strict=True)]
        return Table((*self.header, name), rows, types)

    def sort_by(self, *names: str) -> Table:
        """Sort by columns; a ``-`` in front of a name sorts falling. Empty cells come last."""
        rows = list(self.rows)
        for name in reversed(names):
            falling = name.startswith("-") and name not in self.header
            index = self.index(name[1:] if falling else name)
            kind = self.types[index]
            filled = [row for row in rows if row[index] is not None]
            empty = [row for row in rows if row[index] is None]
            filled.sort(key=lambda row, index=index, kind=kind: kind.sort_key(row[index]), reverse=falling)
            rows = filled + empty
        return self._with_rows(rows)

    def _with_rows(self, rows: Iterable[Sequence[Any]]) -> Table:
        return Table(self.header, rows, dict(zip(self.header, self.types, strict=True)))


def _as_type(kind: ColumnType | str) -> ColumnType:
    return type_named(kind) if isinstance(kind, str) else kind


def _convert(kind: ColumnType, cell: str | None) -> Any:
    if cell is None or (kind.name != "text" and not cell.strip()):
        return None
    return kind.parse(cell)
