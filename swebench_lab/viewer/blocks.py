"""Blocks of a static page: long texts, diffs, badges and filters, with everything that others wrote escaped."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.viewer import story

if TYPE_CHECKING:
    from swebench_lab.records.verdict import Verdict

_HEAD_LINES, _TAIL_LINES = 14, 8
"""How much of a long text stays in sight; what lies between is one click away."""
_EDGE_CHARACTERS = 3000
"""The same in characters, for texts of few and endless lines."""
_COLOURED_LINES = 5000
"""Lines of a patch that get colours; a longer patch goes on plainly."""

safe = _html.text
"""Escapes text, and makes control characters and terminal sequences in it harmless."""


def folded_text(text: str, classes: str = "", packs: list[str] | None = None) -> str:
    """Return text; of a long one the first and last lines, with the middle folded between them.

    Args:
        text: The text.
        classes: Its style classes.
        packs: Receives the middle in compressed form, for the page's script to unpack when it is opened or searched;
            None: the middle stays in place.
    """
    plain = _html.plain(text)
    lines = plain.split("\n")
    if len(lines) <= _HEAD_LINES + _TAIL_LINES + 6 and len(plain) <= 3 * _EDGE_CHARACTERS:
        return pre(plain, classes)
    head = "\n".join(lines[:_HEAD_LINES])[:_EDGE_CHARACTERS]
    tail = "\n".join(lines[-_TAIL_LINES:])[-_EDGE_CHARACTERS:]
    middle = plain[len(head) : len(plain) - len(tail)].removeprefix("\n").removesuffix("\n")
    hidden = f"… {middle.count(chr(10)) + 1:,} more lines, {len(middle):,} characters"
    style = classes if classes == "said" else ""
    return (
        f"{pre(head, f'{classes} first')}<details class='rest'><summary>{hidden}</summary>"
        f"{pre(middle, style or 'cont') if packs is None else _packed(middle, packs)}</details>{pre(tail, style or 'last')}"
    )


def _packed(text: str, packs: list[str]) -> str:
    """Store a text after everything else in the page, which can be used before it has loaded."""
    packs.append(base64.b64encode(gzip.compress(text.encode(), 4, mtime=0)).decode())
    return (
        f'<div class="packed" data-pack="{len(packs) - 1}"><noscript><p>This attempt is so long that the middle of long '
        "texts is stored compressed, and shown with JavaScript only.</p></noscript></div>"
    )


def issue_text(text: str) -> str:
    """Return an issue with its headings and fenced blocks marked up; the rest stays as written."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    for line in _html.plain(text).strip().split("\n"):
        if line.lstrip().startswith("```"):
            parts.append((not parts[-1][0], []))
        else:
            parts[-1][1].append(line)
    return "".join(_fenced("\n".join(lines)) if fenced else _prose(lines) for fenced, lines in parts)


def _fenced(text: str) -> str:
    return folded_text(text) if text.strip() else ""


def _prose(lines: Sequence[str]) -> str:
    drawn = []
    for line in "\n".join(lines).strip("\n").split("\n"):
        heading = re.match(r"#{1,6} +(.+)", line)
        drawn.append(f"<strong>{safe(heading[1])}</strong>" if heading else safe(line))
    text = "\n".join(drawn)
    return f'<pre class="said prose">{text}</pre>' if text else ""


def pre(text: str, classes: str = "") -> str:
    """Return preformatted text."""
    return f'<pre class="{classes.strip()}">{safe(text)}</pre>' if classes.strip() else f"<pre>{safe(text)}</pre>"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it needs one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def facts(values: Mapping[str, Any]) -> str:
    """Return a list of names and values."""
    drawn = "".join(f"<div><dt>{name}</dt><dd>{safe(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{drawn}</dl>'


def badge(verdict: Verdict) -> str:
    """Return a verdict's sign and status."""
    sign = story.SIGNS[verdict.status]
    return f'<span class="badge {verdict.status.replace(" ", "-")}">{sign} {safe(verdict.status)}</span>'


def filter_boxes(legend: str, boxes: Iterable[tuple[str, str, str]]) -> str:
    """Return checkboxes that hide rows by style rules alone: (name, label, class)."""
    inner = "".join(
        f'<label class="{style}"><input type="checkbox" id="f-{name}" checked>{label}</label>'
        for name, label, style in boxes
    )
    return f'<fieldset class="filters"><legend>{legend}</legend>{inner}</fieldset>'


def coloured_diff(lines: Sequence[tuple[str, str]], shown: int) -> str:
    """Return the lines of a diff in colours, folded after the first `shown`."""

    def block(part: Sequence[tuple[str, str]]) -> str:
        spans = "".join(f'<span class="{style}">{safe(line)}</span>' for style, line in part[:_COLOURED_LINES])
        plain = "\n".join(line for _, line in part[_COLOURED_LINES:])
        return f'<pre class="diff">{spans}{safe(plain)}</pre>'

    if len(lines) <= shown + 6:
        return block(lines)
    more = f"{len(lines)} lines in all: show the rest"
    return f"{block(lines[:shown])}<details class='rest'><summary>{more}</summary>{block(lines[shown:])}</details>"
