"""Applying hunks to texts that may have moved on."""

from typing import NamedTuple

from .errors import HunkError
from .hunks import parse_unified, split_lines


class Placement(NamedTuple):
    """Where a hunk went: its line (from 0), the offset from its header, the fuzz."""

    line: int
    offset: int
    fuzz: int


class Patcher:
    """Applies hunks one by one to a list of lines.

    >>> patcher = Patcher(lines, fuzz=1)
    >>> for hunk in hunks: patcher.apply(hunk)
    >>> patcher.lines, patcher.placements
    """

    def __init__(self, lines, fuzz=0, max_offset=200):
        if fuzz < 0:
            raise ValueError("fuzz cannot be negative")
        self.lines = list(lines)
        self.fuzz = fuzz
        self.max_offset = max_offset
        self.placements = []
        self._shift = 0  # how far the text has grown by earlier hunks
        self._drift = 0  # how far earlier hunks were from their headers
        self._done = 0  # hunks may not go above the end of the last one

    def apply(self, hunk):
        """Apply one hunk and return its placement; HunkError if it fits nowhere."""
        for fuzz in range(self.fuzz + 1):
            candidate = hunk.trimmed(fuzz, fuzz)
            if fuzz and candidate.lines == hunk.trimmed(fuzz - 1, fuzz - 1).lines:
                break
            expected = candidate.old_start + self._shift + self._drift
            line = self._find(candidate.old, expected)
            if line is not None:
                return self._replace(candidate, line, line - expected, fuzz)
        raise HunkError(len(self.placements) + 1, hunk)

    def _replace(self, hunk, line, offset, fuzz):
        new = hunk.new
        self.lines[line : line + len(hunk.old)] = new
        self._shift += len(new) - len(hunk.old)
        self._drift += offset
        self._done = line + len(new)
        placement = Placement(line, self._drift, fuzz)
        self.placements.append(placement)
        return placement

    def _find(self, wanted, expected):
        for line in self._positions(expected):
            if line >= self._done and self.lines[line : line + len(wanted)] == wanted:
                return line
        return None

    def _positions(self, expected):
        """Yield the lines to try, nearest first, above before below."""
        last = len(self.lines)
        for distance in range(self.max_offset + 1):
            if 0 <= expected - distance <= last:
                yield expected - distance
            if distance and 0 <= expected + distance <= last:
                yield expected + distance


def apply(patch, text, fuzz=0, reverse=False, max_offset=200):
    """Apply a unified diff (text or hunks) to a text and return the new text.

    With ``reverse`` the patch is undone. Nothing is returned unless every hunk
    fits; the first that does not raises HunkError.
    """
    hunks = parse_unified(patch) if isinstance(patch, str) else patch
    patcher = Patcher(split_lines(text), fuzz, max_offset)
    for hunk in hunks:
        patcher.apply(hunk.inverted() if reverse else hunk)
    return "".join(patcher.lines)


def can_apply(patch, text, **options):
    """Return whether :func:`apply` would succeed."""
    try:
        apply(patch, text, **options)
    except HunkError:
        return False
    return True
