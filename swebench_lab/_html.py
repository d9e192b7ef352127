"""Small pieces of HTML for rich reprs; everything that comes from outside is escaped here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CELL = "text-align:left;padding:2px 10px 2px 0;vertical-align:top"


def plain(value: Any) -> str:
    """Return `value` as text that does nothing: no terminal sequence, no control character, no lone surrogate.

    A carriage return becomes a line's end, and a character that turns the direction of text is written out.
    """
    raw = str(value)
    if not _ODD.search(raw):
        return raw  # nearly all text is: one look is enough, which counts for megabytes of observations
    lines = raw.replace("\r\n", "\n").replace("\r", "\n")
    visible = _SURROGATE.sub("\ufffd", _CONTROL.sub("", lines))
    return _TURNING.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", visible)


def text(value: Any) -> str:
    """Return `value` as inert HTML text: plain, and escaped."""
    return escape(plain(value))


def card(title: str, body: str) -> str:
    """Return a titled block."""
    return f'<div class="swebench-lab"><strong>{text(title)}</strong>{body}</div>'


def note(line: str) -> str:
    """Return a small line of text, or nothing."""
    return f"<div><small>{text(line)}</small></div>" if line else ""


def facts(values: Mapping[str, Any]) -> str:
    """Return a two-column table of names and values; empty values are left out."""
    rows = "".join(
        f'<tr><th style="{_CELL}">{text(name)}</th><td style="{_CELL}">{text(value)}</td></tr>'
        for name, value in values.items()
        if value not in ("", None)
    )
    return f"<table>{rows}</table>"


IDS = ("id", "task", "arm")
"""Columns of names that differ at their end, so that they are cut in the middle."""
_STATUS = ("status", "verdict", "state")
_GOOD, _BAD, _OPEN, _QUIET = "#1a7f37", "#b42318", "#8a5a00", "#57606a"  # white on each: a contrast of 5 or more
_COLOURS = {
    **dict.fromkeys(("resolved", "passed", "ok", "better", "completed", "built", "cached"), _GOOD),
    **dict.fromkeys(("unresolved", "failed", "broken", "worse"), _BAD),
    **dict.fromkeys(("not graded", "not checked", "build failed", "flaky", "tight", "no gold", "stopped early"), _OPEN),
    **dict.fromkeys(("absent", "no difference shown", "not run"), _QUIET),
}
_AMOUNT = r"[-+−]?[\d,.]*\d(?: ?(?:%|s|ms|[kMGT]?i?B))?"
_NUMBER = re.compile(rf"{_AMOUNT}(?: (?:of|to) {_AMOUNT})?|–")


def is_number(value: Any) -> bool:
    """Whether a value reads as a number, with a unit or without, as two of them, or as the dash for none."""
    if isinstance(value, str):
        return bool(_NUMBER.fullmatch(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def brief(value: Any) -> str:
    """Return a value for a table: floats with few digits, nothing for None, lists joined."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return "" if value is None else str(value)


def middle(name: str, length: int = 56) -> str:
    """Return a name that is cut in its middle where it is longer than `length`: names of tasks differ at their end."""
    head = length // 3
    return name if len(name) <= length else f"{name[:head]}…{name[head + 1 - length :]}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table with a head: numbers right, words of a status coloured, ids cut in the middle."""
    cells = [list(row) for row in rows]
    numbers = [
        bool(cells) and all(is_number(row[at]) or row[at] in ("", None) for row in cells) for at in range(len(columns))
    ]
    style = [_CELL.replace("left", "right", 1) if right else _CELL for right in numbers]
    head = "".join(f'<th style="{how}">{text(name)}</th>' for name, how in zip(columns, style, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, columns, row, style))}</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(column: str, value: Any, style: str) -> str:
    """Return one cell of a table."""
    label = brief(value)
    if column in IDS and (cut := middle(label)) != label:
        return f'<td style="{style}" title="{text(label)}">{text(cut)}</td>'
    colour = _COLOURS.get(label) if column in _STATUS else None
    if colour is None:
        return f'<td style="{style}">{text(label)}</td>'
    chip = f"background:{colour};color:#fff;border-radius:3px;padding:0 5px;white-space:nowrap"
    return f'<td style="{style}"><span style="{chip}">{text(label)}</span></td>'


def folded(title: str, body: str, open_at_first: bool = False) -> str:
    """Return preformatted text behind a title that opens and closes it."""
    if not body:
        return ""
    return (
        f"<details{' open' if open_at_first else ''}><summary>{text(title)}</summary><pre>{text(body)}</pre></details>"
    )
