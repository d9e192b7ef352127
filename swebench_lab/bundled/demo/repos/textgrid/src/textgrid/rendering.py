"""Draw tables as plain text, Markdown and CSV."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TextIO

from .errors import LayoutError
from .table import Table
from .width import display_width, fit, wrap

MIN_WIDTH = 3


class Renderer(ABC):
    """Turns a table into text, line by line."""

    @abstractmethod
    def lines(self, table: Table) -> Iterator[str]:
        """Yield the lines of the drawing without line ends."""

    def render(self, table: Table) -> str:
        """Return the drawing; lines are joined, the last one has no line end."""
        return "\n".join(self.lines(table))


class GridRenderer(Renderer):
    """What all renderers that line up columns share."""

    separator = "  "
    edges = ("", "")

    def __init__(self, max_width: int | None = None) -> None:
        if max_width is not None and max_width < 1:
            raise LayoutError(f"max_width must be positive, not {max_width}")
        self.max_width = max_width

    def prepare(self, table: Table) -> list[list[str]]:
        """Return the cells to draw, the header first."""
        return [list(table.header), *table.texts()]

    def widths(self, cells: Sequence[Sequence[str]]) -> list[int]:
        """Return the width of every column, narrowed so that the table fits."""
        widths = [
            max((display_width(line) for cell in column for line in cell.split("\n")), default=0)
            for column in zip(*cells, strict=True)
        ]
        if self.max_width is None or not widths:
            return widths
        frame = sum(map(display_width, self.edges)) + display_width(self.separator) * (len(widths) - 1)
        while sum(widths) + frame > self.max_width:
            widest = max(widths)
            if widest <= MIN_WIDTH:
                raise LayoutError(f"{len(widths)} columns do not fit into {self.max_width} cells")
            widths[widths.index(widest)] -= 1
        return widths

    def draw_row(self, cells: Sequence[str], widths: Sequence[int], aligns: Sequence[str]) -> Iterator[str]:
        """Yield the lines of one row; long cells go on below."""
        blocks = [
            wrap(cell, width) if display_width(cell) > width or "\n" in cell else [cell]
            for cell, width in zip(cells, widths, strict=True)
        ]
        height = max((len(block) for block in blocks), default=0)
        left, right = self.edges
        for number in range(height):
            parts = [
                fit(block[number] if number < len(block) else "", width, align)
                for block, width, align in zip(blocks, widths, aligns, strict=True)
            ]
            yield (left + self.separator.join(parts) + right).rstrip()

    def aligns(self, table: Table) -> list[str]:
        """Return the alignment of every column."""
        return [kind.align for kind in table.types]


class PlainRenderer(GridRenderer):
    """Columns side by side, the header underlined."""

    def lines(self, table: Table) -> Iterator[str]:
        cells = self.prepare(table)
        widths, aligns = self.widths(cells), self.aligns(table)
        yield from self.draw_row(cells[0], widths, aligns)
        yield self.separator.join("-" * width for width in widths)
        for row in cells[1:]:
            yield from self.draw_row(row, widths, aligns)


class MarkdownRenderer(GridRenderer):
    """A Markdown table with alignment marks; it is never wrapped."""

    separator = " | "
    edges = ("| ", " |")

    def __init__(self) -> None:
        super().__init__(None)

    def prepare(self, table: Table) -> list[list[str]]:
        return [
            [cell.replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in super().prepare(table)
        ]

    def widths(self, cells: Sequence[Sequence[str]]) -> list[int]:
        return [max(width, MIN_WIDTH) for width in super().widths(cells)]

    def lines(self, table: Table) -> Iterator[str]:
        cells = self.prepare(table)
        widths, aligns = self.widths(cells), self.aligns(table)
        marks = [self._mark(width, align) for width, align in zip(widths, aligns, strict=True)]
        for number, row in enumerate(cells):
            yield from self.draw_row(row, widths, aligns)
            if number == 0:
                yield "| " + " | ".join(marks) + " |"

    @staticmethod
    def _mark(width: int, align: str) -> str:
        if align == "right":
            return "-" * (width - 1) + ":"
        if align == "centre":
            return ":" + "-" * (width - 2) + ":"
        return "-" * width


class CsvRenderer(Renderer):
    """Delimited text that ``parse_delimited`` reads back."""

    def __init__(self, delimiter: str = ",", header: bool = True) -> None:
        self.delimiter = delimiter
        self.header = header

    def lines(self, table: Table) -> Iterator[str]:
        if self.header:
            yield self.delimiter.join(self.quote(name) for name in table.header)
        for values, texts in zip(table.rows, table.texts(), strict=True):
            yield self.delimiter.join(
                '""' if value == "" else self.quote(text) for value, text in zip(values, texts, strict=True)
            )

    def quote(self, text: str) -> str:
        """Quote a cell when it would not be read back as it is."""
        special = self.delimiter in text or '"' in text or "\n" in text or "\r" in text
        if special or text != text.strip():
            return '"' + text.replace('"', '""') + '"'
        return text


RENDERERS: dict[str, type[Renderer]] = {
    "plain": PlainRenderer,
    "markdown": MarkdownRenderer,
    "csv": CsvRenderer,
}


def renderer_for(style: str, **options: Any) -> Renderer:
    """Return the renderer of a style; ``tsv`` is ``csv`` with tabs."""
    if style == "tsv":
        return CsvRenderer("\t", **options)
    try:
        kind = RENDERERS[style]
    except KeyError:
        raise LayoutError(f"unknown style {style!r}, known are {', '.join([*RENDERERS, 'tsv'])}") from None
    return kind(**options)


def render(table: Table, style: str = "plain", **options: Any) -> str:
    """Draw a table in a style: ``plain``, ``markdown``, ``csv`` or ``tsv``."""
    return renderer_for(style, **options).render(table)


class TableWriter:
    """Collects rows and writes the drawn table when the block ends without an error.

    >>> with TableWriter(["name", "size"]) as writer:
    ...     writer.add("a.txt", 12)
    name   size
    -----  ----
    a.txt    12
    """

    def __init__(
        self, header: Iterable[str], stream: TextIO | None = None, style: str = "plain", **options: Any
    ) -> None:
        self.header = list(header)
        self.stream = stream
        self.renderer = renderer_for(style, **options)
        self.rows: list[tuple[Any, ...]] = []
        self._open = False

    def __enter__(self) -> TableWriter:
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if kind is None:
            stream = sys.stdout if self.stream is None else self.stream
            stream.write(self.renderer.render(Table(self.header, self.rows)) + "\n")

    def add(self, *values: Any) -> None:
        """Add a row."""
        if not self._open:
            raise LayoutError("rows can be added only inside the with block")
        self.rows.append(values)
