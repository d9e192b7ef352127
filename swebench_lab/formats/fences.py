"""Fences: the fenced blocks of a reply, and whether one of them is all of the command that was meant.

A command that holds a line of back-ticks (a README written by a heredoc) ends, to a reader of fences, at that line. What
is then read is the beginning of a command, and running it does what nobody wrote. So a block is only taken where
nothing speaks against its being whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from swebench_lab.errors import FormatError
from swebench_lab.formats.shell_text import unfinished

Block = tuple[str, str, int, int]
"""Info string, content, and where the block begins and ends."""

_FENCE = re.compile(r"(`{3,})[ \t]*([^`]*)")
_SHELLS = ("", "bash", "sh", "shell", "console", "zsh", "mswea_bash_command")

_ADVICE = (
    "Nothing was run. A command that itself holds a line of back-ticks must stand between longer fences: four "
    "back-ticks (````) before and after it, or one more than the longest line of back-ticks in it."
)


def fenced_blocks(text: str, start: int) -> list[Block]:
    """Return the closed fenced blocks of a text, in one pass over its lines."""
    return _scan(text, start)[0]


def _scan(text: str, start: int) -> tuple[list[Block], bool]:
    """Return the closed blocks, and whether one more is opened that nothing closes."""
    blocks: list[Block] = []
    opening: tuple[str, str, int, int] | None = None  # fence, info, start of the block, start of its content
    position = start
    for line in text[start:].split("\n"):
        fence = _FENCE.fullmatch(line)
        if opening is None and fence:
            opening = (fence[1], fence[2].strip(), position, position + len(line) + 1)
        elif opening and fence and not fence[2].strip() and len(fence[1]) >= len(opening[0]):
            blocks.append((opening[1], text[opening[3] : position], opening[2], position + len(line)))
            opening = None
        position += len(line) + 1
    return blocks, opening is not None


def check_whole(text: str, start: int, blocks: Sequence[Block], block: Block) -> None:
    """Refuse a block that may be a part of the command that was meant.

    Args:
        text: The reply.
        start: Where its thinking ends.
        blocks: Its closed blocks.
        block: The one that would be run.

    Raises:
        FormatError: A fence has no partner, a heredoc has no end, or a quotation is cut by a fence.
    """
    if _scan(text, start)[1]:
        raise FormatError(
            "The reply holds a line of back-ticks without a partner, so where its command ends is unclear. " + _ADVICE
        )
    for other in blocks:
        if other is block or other[0] not in _SHELLS or other[2] > block[2]:
            continue
        missing = unfinished(other[1])
        if missing and missing.kind == "heredoc" and _has_line(text[other[3] :], missing.wanted):
            raise FormatError(f"A heredoc that begins in one block ({missing.wanted!r}) ends behind it. {_ADVICE}")
    missing = unfinished(block[1])
    if missing and missing.kind == "heredoc":
        raise FormatError(
            f"The command begins a heredoc that has no end: there is no line {missing.wanted!r}. {_ADVICE}"
        )
    if missing and len(blocks) > 1:
        raise FormatError(f"The command ends inside a quotation ({missing.wanted}) where a fence stands. {_ADVICE}")


def _has_line(text: str, line: str) -> bool:
    return any(other.strip() == line for other in text.split("\n"))
