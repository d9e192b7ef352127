"""Read tables from delimited and aligned text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import ParseError
from .table import Table
from .width import char_width

DELIMITERS = (",", ";", "\t", "|")


def sniff_delimiter(text: str) -> str:
    """Guess the delimiter: the one that appears most often and equally often in every line.

    Text with none of the known delimiters is a single column, for which a
    comma is as good as any.
    """
    lines = [line for line in text.splitlines() if line.strip()][:20]
    best, best_score = ",", 0
    for candidate in DELIMITERS:
        counts = [_count_outside_quotes(line, candidate) for line in lines]
        if not counts or min(counts) == 0:
            continue
        score = min(counts) * (2 if min(counts) == max(counts) else 1)
        if score > best_score:
            best, best_score = candidate, score
    return best


def parse_delimited(text: str, delimiter: str | None = None, *, header: bool = True, typed: bool = True) -> Table:
    """Read comma separated values and their relatives.

    Args:
        text: The table. Cells may be quoted with ``"``, in which case they may
            hold delimiters, line breaks and doubled quotes. Blank lines are skipped.
        delimiter: One character; guessed when ``None``.
        header: Whether the first line names the columns; if not they are ``c1``, ``c2``, ...
        typed: Whether to give columns types; if not, all cells stay text.

    Raises:
        ParseError: For a quote that does not end, text after a closing quote,
            or a row with more cells than columns.
    """
    if delimiter is None:
        delimiter = sniff_delimiter(text)
    elif len(delimiter) != 1 or delimiter in '"\r\n':
        raise ValueError(f"not a usable delimiter: {delimiter!r}")
    records = list(_read_records(text, delimiter))
    if not records:
        raise ParseError("no table in empty text")
    if header:
        names = [cell or f"c{number}" for number, cell in enumerate(records[0][1], start=1)]
        body = records[1:]
    else:
        widest = max(len(cells) for _, cells in records)
        names = [f"c{number}" for number in range(1, widest + 1)]
        body = records
    for line, cells in body:
        if len(cells) > len(names):
            raise ParseError(f"{len(cells)} cells for {len(names)} columns", line)
    return Table.from_text(names, [cells for _, cells in body], typed)


def parse_aligned(text: str, *, typed: bool = True) -> Table:
    """Read text whose columns line up, separated by blanks that run through all lines.

    A line of dashes and blanks under the header is skipped.
    """
    lines = [line.rstrip() for line in text.expandtabs().splitlines() if line.strip()]
    if not lines:
        raise ParseError("no table in empty text")
    if len(lines) > 1 and set(lines[1]) <= set("-= "):
        spans = [_span(match.start(), match.end(), lines[1]) for match in re.finditer(r"[-=]+", lines[1])]
        del lines[1]
    else:
        spans = list(_gaps_to_spans(lines))
    rows = [_cut(line, spans) for line in lines]
    names = [cell or f"c{number}" for number, cell in enumerate(rows[0], start=1)]
    return Table.from_text(names, rows[1:], typed)


def _count_outside_quotes(line: str, char: str) -> int:
    count, quoted = 0, False
    for current in line:
        if current == '"':
            quoted = not quoted
        elif current == char and not quoted:
            count += 1
    return count


def _read_records(text: str, delimiter: str) -> Iterator[tuple[int, list[str | None]]]:
    """Yield the number of the first line and the cells of every record that is not blank."""
    position, line = 0, 1
    while position < len(text):
        start = line
        cells: list[str | None] = []
        while True:
            cell, position, line = _read_cell(text, position, line, delimiter)
            cells.append(cell)
            if position >= len(text) or text[position] != delimiter:
                break
            position += 1
        if text[position : position + 2] == "\r\n":
            position += 1
        position += 1
        line += 1
        if cells != [None]:
            yield start, cells


def _read_cell(text: str, position: int, line: int, delimiter: str) -> tuple[str | None, int, int]:
    """Read one cell; return it with the position of what follows and the line that is on."""
    stops = delimiter + "\r\n"
    while position < len(text) and text[position] == " ":
        position += 1
    if position >= len(text) or text[position] != '"':
        end = position
        while end < len(text) and text[end] not in stops:
            end += 1
        return text[position:end].strip() or None, end, line
    opened = line
    parts = []
    position += 1
    while True:
        end = text.find('"', position)
        if end < 0:
            raise ParseError("quote is never closed", opened)
        parts.append(text[position:end])
        line += text.count("\n", position, end)
        position = end + 1
        if text[position : position + 1] != '"':
            break
        parts.append('"')
        position += 1
    while position < len(text) and text[position] == " ":
        position += 1
    if position < len(text) and text[position] not in stops:
        raise ParseError(f"unexpected {text[position]!r} after a closing quote", line)
    return "".join(parts), position, line


def _gaps_to_spans(lines: list[str]) -> Iterator[tuple[int, int | None]]:
    """Yield the cell ranges that are separated by at least two common blank cells."""
    widest = max(_cell_count(line) for line in lines)
    filled = [False] * widest
    for line in lines:
        for cell, char in _cells(line):
            if char != " ":
                filled[cell] = True
    start = 0
    for cell in range(1, widest):
        if filled[cell] and not filled[cell - 1] and not filled[max(cell - 2, 0)] and any(filled[start:cell]):
            yield start, cell
            start = cell
    yield start, None


def _span(start: int, end: int, rule: str) -> tuple[int, int | None]:
    return start, (None if end >= len(rule) else end)


def _cells(line: str) -> Iterator[tuple[int, str]]:
    cell = 0
    for char in line:
        yield cell, char
        cell += char_width(char)


def _cell_count(line: str) -> int:
    return sum(char_width(char) for char in line)


def _cut(line: str, spans: list[tuple[int, int | None]]) -> list[str | None]:
    cells: list[str | None] = []
    for start, end in spans:
        chars = [char for cell, char in _cells(line) if cell >= start and (end is None or cell < end)]
        cells.append("".join(chars).strip() or None)
    return cells
