"""Blocks of a static page: long texts, diffs, badges and filters, with everything that others wrote escaped."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.viewer import story
from swebench_lab.viewer.highlighting import Highlighter, Piece

if TYPE_CHECKING:
    from swebench_lab.records.verdict import Verdict

_HEAD_LINES, _TAIL_LINES = 14, 8
"""How much of a long text stays in sight; what lies between is one click away."""
_PARTS = (slice(_HEAD_LINES), slice(_HEAD_LINES, -_TAIL_LINES), slice(-_TAIL_LINES, None))
_EDGE_CHARACTERS = 3000
"""The same in characters, for texts of few and endless lines."""
_COLOURED_LINES = 5000
"""Lines of a patch that get colours; a longer patch goes on plainly."""

safe = _html.text
"""Escapes text, and makes control characters and terminal sequences in it harmless."""


def folded_text(
    text: str,
    classes: str = "",
    packs: list[str] | None = None,
    read: Callable[[str], list[list[Piece]] | None] | None = None,
) -> str:
    """Return text; of a long one the first and last lines, with the middle folded between them.

    Args:
        text: The text.
        classes: Its style classes.
        packs: Receives the middle in compressed form, for the page's script to unpack when it is opened or searched;
            None: the middle stays in place.
        read: Splits the text's lines into pieces, which are coloured; None: they stay plain.
    """
    plain = _html.plain(text)
    lines = plain.split("\n")
    pieces = read(plain) if read else None
    fragments = [coloured(line) for line in pieces] if pieces else None
    if len(lines) <= _HEAD_LINES + _TAIL_LINES + 6 and len(plain) <= 3 * _EDGE_CHARACTERS:
        return pre(plain, classes, fragments)
    head = "\n".join(lines[:_HEAD_LINES])[:_EDGE_CHARACTERS]
    tail = "\n".join(lines[-_TAIL_LINES:])[-_EDGE_CHARACTERS:]
    middle = plain[len(head) : len(plain) - len(tail)].removeprefix("\n").removesuffix("\n")
    if fragments and (head.count("\n"), tail.count("\n")) != (_HEAD_LINES - 1, _TAIL_LINES - 1):
        fragments = None  # cut within a line
    heads, middles, tails = (fragments and fragments[part] for part in _PARTS)
    label = f"… {middle.count(chr(10)) + 1:,} more lines, {len(middle):,} characters"
    style = classes if classes == "said" else ""
    return (
        f"{pre(head, f'{classes} first', heads)}<details class='rest'><summary>{label}</summary>"
        f"{pre(middle, style or 'cont', middles) if packs is None else _pack(middle, packs)}</details>"
        f"{pre(tail, style or 'last', tails)}"
    )


def coloured(pieces: Iterable[Piece]) -> str:
    """Return a line of code with its words in colours."""
    return "".join(f'<i class="{kind}">{safe(text)}</i>' if kind else safe(text) for kind, text in pieces)


def _pack(text: str, packs: list[str]) -> str:
    """Store a text after everything else in the page, which can be used before it has loaded."""
    packs.append(base64.b64encode(gzip.compress(text.encode(), 4, mtime=0)).decode())
    return (
        f'<div class="packed" data-pack="{len(packs) - 1}"><noscript><p>This attempt is so long that the middle of long '
        "texts is stored compressed, and shown with JavaScript only.</p></noscript></div>"
    )


def issue_text(text: str, highlighter: Highlighter | None = None) -> str:
    """Return an issue's Markdown as blocks: headings, lists and quotes as written, with code, bold and fences marked up.

    Args:
        text: The issue. Links are not made, and no HTML in it counts.
        highlighter: Colours fenced code; None: it stays plain.
    """
    parts: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in _html.plain(text).strip().split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            inside = parts[-1][0] is not None
            parts.append((None if inside else line.strip().strip("`~").split(" ")[0], []))
        else:
            parts[-1][1].append(line)
    highlighter = highlighter or Highlighter(0)
    return "".join(
        _prose(lines) if fence is None else _code_block("\n".join(lines), fence, highlighter) for fence, lines in parts
    )


def _code_block(text: str, language: str, highlighter: Highlighter) -> str:
    return folded_text(text, read=lambda code: highlighter.code(code, language)) if text.strip() else ""


def _prose(lines: Sequence[str]) -> str:
    fragments = []
    for line in "\n".join(lines).strip("\n").split("\n"):
        heading = re.match(r"#{1,6} +(.+)", line)
        item = re.match(r"( *)[-*+] +(.*)", line)
        if heading:
            fragments.append(f"<strong>{_inline(heading[1])}</strong>")
        elif item:
            fragments.append(f"{item[1]}• {_inline(item[2])}")
        else:
            fragments.append(_inline(line))
    text = "\n".join(fragments)
    return f'<pre class="said prose">{text}</pre>' if text else ""


def _inline(line: str) -> str:
    """Return a line with `code` and **bold** marked up; marks that have no partner stay as written."""
    parts = re.split(r"(`+)(.+?)\1(?!`)", line)
    fragments = []
    for at in range(0, len(parts), 3):
        fragments.append(re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"<b>\1</b>", safe(parts[at])))
        if at + 2 < len(parts):
            fragments.append(f"<code>{safe(parts[at + 2])}</code>")
    return "".join(fragments)


def pre(text: str, classes: str = "", lines: Sequence[str] | None = None) -> str:
    """Return preformatted text.

    Args:
        text: The text.
        classes: Its style classes.
        lines: The same text as lines of HTML, coloured; None: it stays plain.
    """
    attribute = f' class="{classes.strip()}"' if classes.strip() else ""
    return f"<pre{attribute}>{safe(text) if lines is None else chr(10).join(lines)}</pre>"


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it needs one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def facts(values: Mapping[str, Any]) -> str:
    """Return a list of names and values."""
    entries = "".join(f"<div><dt>{name}</dt><dd>{safe(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{entries}</dl>'


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


def coloured_diff(
    lines: Sequence[tuple[str, str]], shown: int, highlighter: Highlighter | None = None, split: bool = False
) -> str:
    """Return the lines of a diff in colours, folded after the first `shown`.

    Args:
        lines: The lines with their styles, as `story.signed` has them.
        shown: Lines in sight.
        highlighter: Colours words, too; None: they stay plain.
        split: Whether the lines before and after stand side by side as well, folded.
    """
    rows = (highlighter or Highlighter(0)).diff([(style, _html.plain(line)) for style, line in lines])
    beside = f"<details><summary>before and after, side by side</summary>{_split(rows)}</details>" if split else ""

    def block(start: int, end: int) -> str:
        part = rows[start:end]
        spans = "".join(f'<span class="{style}">{coloured(pieces)}</span>' for style, pieces in part[:_COLOURED_LINES])
        plain = "\n".join(line for _, line in lines[start:end][_COLOURED_LINES:])
        return f'<pre class="diff">{spans}{safe(plain)}</pre>'

    if len(lines) <= shown + 6:
        return block(0, len(lines)) + beside
    more = f"{len(lines)} lines in all: show the rest"
    rest = f"<details class='rest'><summary>{more}</summary>{block(shown, len(lines))}</details>"
    return block(0, shown) + rest + beside


def _split(lines: Sequence[tuple[str, list[Piece]]]) -> str:
    """Return a diff as a table of two columns, in which what was deleted stands beside what came in its place."""
    rows: list[str] = []
    removals, come = list[str](), list[str]()
    for style, pieces in [*lines[:_COLOURED_LINES], ("end", [])]:
        cell = f'<td class="{style}">{coloured(pieces)}</td>'
        if style in ("d", "a"):
            (removals if style == "d" else come).append(cell)
            continue
        rows += [f"<tr>{left}{right}</tr>" for left, right in zip_longest(removals, come, fillvalue="<td></td>")]
        removals, come = [], []
        if style == "c":
            rows.append(f"<tr>{cell}{cell}</tr>")
        elif style != "end":
            rows.append(f"<tr>{cell.replace('<td', '<td colspan=2', 1)}</tr>")
    return f'<table class="diff split"><tbody>{"".join(rows)}</tbody></table>'
