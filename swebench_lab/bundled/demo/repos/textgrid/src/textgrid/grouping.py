"""Group rows and summarise their columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from .errors import ColumnError
from .table import Table

Summary = Callable[[list[Any]], Any]


def _mean(values: list[Any]) -> Decimal | None:
    if not values:
        return None
    total = sum(Decimal(str(value)) for value in values)
    return (total / len(values)).normalize() + 0


def _distinct(values: list[Any]) -> int:
    return len(set(values))


SUMMARIES: dict[str, Summary] = {
    "count": len,
    "sum": sum,
    "mean": _mean,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
    "distinct": _distinct,
}


def summary_named(how: str | Summary) -> Summary:
    """Return the function for a way to summarise; a callable is returned as it is."""
    if callable(how):
        return how
    if how not in SUMMARIES:
        raise ValueError(f"unknown summary {how!r}, known are {', '.join(sorted(SUMMARIES))}")
    return SUMMARIES[how]


def split_groups(table: Table, keys: Iterable[str]) -> dict[tuple[Any, ...], Table]:
    """Return one table per combination of key values, in order of first appearance."""
    positions = [table.index(key) for key in keys]
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in table.rows:
        key = tuple(row[position] for position in positions)
        groups.setdefault(key, []).append(row)
    types = dict(zip(table.header, table.types, strict=True))
    return {key: Table(table.header, rows, types) for key, rows in groups.items()}


def group_by(table: Table, keys: str | Iterable[str], **summaries: tuple[str, str | Summary]) -> Table:
    """Return one row per group with the keys and the summaries.

    Args:
        table: The table to group.
        keys: One column name or several.
        **summaries: New column name to ``(column, how)``; without any, the
            rows of every group are counted in a column ``count``.
    """
    names = [keys] if isinstance(keys, str) else list(keys)
    if not names:
        raise ColumnError("grouping needs at least one column")
    plans = [(name, table.index(column), summary_named(how)) for name, (column, how) in summaries.items()]
    rows = []
    for key, group in split_groups(table, names).items():
        row = list(key)
        for _, position, summarise in plans:
            row.append(summarise([cells[position] for cells in group.rows if cells[position] is not None]))
        if not plans:
            row.append(len(group))
        rows.append(row)
    header = [*names, *([name for name, _, _ in plans] or ["count"])]
    return Table(header, rows, {name: table.type_of(name) for name in names})
