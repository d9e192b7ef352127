"""How many terminal cells text takes, and cutting, padding and wrapping by that measure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_WIDE = frozenset("WF")
_ALIGNMENTS = ("left", "right", "centre")


def strip_styles(text: str) -> str:
    """Remove the escape sequences that colour text in a terminal."""
    return _STYLE.sub("", text)


def char_width(char: str) -> int:
    """Return the cells one character takes: 0, 1 or 2."""
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cc", "Cf", "Me"):
        return 0
    if unicodedata.east_asian_width(char) in _WIDE:
        return 2
    return 1


def display_width(text: str) -> int:
    """Return the cells a single line of text takes, colours not counted."""
    return sum(char_width(char) for char in strip_styles(text))


def truncate(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut text to at most ``width`` cells, ending in ``ellipsis`` when something was cut.

    Colours are dropped from text that has to be cut, because the closing
    sequence would be cut off with the rest.
    """
    if width < 0:
        raise ValueError(f"width must not be negative, not {width}")
    if display_width(text) <= width:
        return text
    room = width - display_width(ellipsis)
    if room < 0:
        ellipsis, room = "", width
    kept, _ = _split_at(strip_styles(text), room)
    return kept + ellipsis


def fit(text: str, width: int, align: str = "left", fill: str = " ") -> str:
    """Pad text to exactly ``width`` cells, cutting it when it is too long.

    Args:
        text: A single line.
        width: The cells the result takes.
        align: ``left``, ``right`` or ``centre``; the odd cell goes to the right.
        fill: The padding character, one cell wide.
    """
    if align not in _ALIGNMENTS:
        raise ValueError(f"unknown alignment {align!r}, use one of {', '.join(_ALIGNMENTS)}")
    text = truncate(text, width)
    gap = width - display_width(text)
    if align == "right":
        return fill * gap + text
    if align == "centre":
        before = gap // 2
        return fill * before + text + fill * (gap - before)
    return text + fill * gap


def wrap(text: str, width: int) -> list[str]:
    """Break text into lines of at most ``width`` cells.

    Existing line breaks stay, runs of blanks inside a line become one blank,
    and a word longer than a line is cut. Empty text is one empty line.
    """
    if width < 1:
        raise ValueError(f"cannot wrap to {width} cells")
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.extend(_wrap_paragraph(paragraph, width))
    return lines


def _wrap_paragraph(paragraph: str, width: int) -> Iterator[str]:
    line = ""
    for word in paragraph.split():
        joined = f"{line} {word}" if line else word
        if display_width(joined) <= width:
            line = joined
            continue
        if line:
            yield line
        while display_width(word) > width:
            head, word = _split_at(word, width)
            yield head
        line = word
    if line or not paragraph.strip():
        yield line


def _split_at(text: str, width: int) -> tuple[str, str]:
    """Split after as many characters as fit, but after at least one when ``width`` is positive."""
    used = 0
    for index, char in enumerate(text):
        used += char_width(char)
        if used > width and (index > 0 or width < 1):
            return text[:index], text[index:]
    return text, ""
