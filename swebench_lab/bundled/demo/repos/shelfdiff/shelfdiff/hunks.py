"""Hunks and the unified format."""

import re
from dataclasses import dataclass, field

from .errors import PatchFormatError
from .sequences import edits

_HEADER = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
NO_NEWLINE = "\\ No newline at end of file\n"


@dataclass
class Hunk:
    """A change with its surroundings. Starts count from 0.

    ``lines`` are pairs of a mark (" ", "-" or "+") and a line with its end.
    """

    old_start: int
    new_start: int
    lines: list = field(default_factory=list)

    @property
    def old(self):
        return [line for mark, line in self.lines if mark != "+"]

    @property
    def new(self):
        return [line for mark, line in self.lines if mark != "-"]

    def header(self):
        return f"@@ -{_span(self.old_start, len(self.old))} +{_span(self.new_start, len(self.new))} @@"

    def leading_context(self):
        """Return the number of unchanged lines at the beginning."""
        count = 0
        for mark, _ in self.lines:
            if mark != " ":
                break
            count += 1
        return count

    def trailing_context(self):
        return Hunk(0, 0, self.lines[::-1]).leading_context()

    def trimmed(self, leading, trailing):
        """Return the hunk without some context lines at its ends."""
        leading = min(leading, self.leading_context())
        trailing = min(trailing, self.trailing_context())
        kept = self.lines[leading : len(self.lines) - trailing]
        return Hunk(self.old_start + leading, self.new_start + leading, kept)

    def inverted(self):
        swap = {"+": "-", "-": "+", " ": " "}
        return Hunk(self.new_start, self.old_start, [(swap[mark], line) for mark, line in self.lines])

    def __str__(self):
        pieces = [self.header(), "\n"]
        for mark, line in self.lines:
            pieces.append(mark + line)
            if not line.endswith("\n"):
                pieces.append("\n" + NO_NEWLINE)
        return "".join(pieces)


def _span(start, length):
    # an empty stretch is named by the line before it
    first = start + 1 if length else start
    return str(first) if length == 1 else f"{first},{length}"


def split_lines(text):
    """Split after every line feed, and nowhere else."""
    lines = text.split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])


def make_hunks(old, new, context=3):
    """Return the hunks between two lists of lines.

    Changes with at most twice ``context`` equal lines between them share a hunk.
    """
    hunks = []
    current = None
    equal_before = []
    for edit in edits(old, new):
        if edit.kind == "equal":
            equal_before = old[edit.a_start : edit.a_end]
            if current is not None and len(equal_before) > 2 * context:
                current.lines += [(" ", line) for line in equal_before[:context]]
                current = None
            continue
        if current is None:
            lead = equal_before[-context:] if context else []
            current = Hunk(edit.a_start - len(lead), edit.b_start - len(lead))
            hunks.append(current)
            equal_before = lead
        current.lines += [(" ", line) for line in equal_before]
        current.lines += [("-", line) for line in old[edit.a_start : edit.a_end]]
        current.lines += [("+", line) for line in new[edit.b_start : edit.b_end]]
        equal_before = []
    if current is not None:
        current.lines += [(" ", line) for line in equal_before[:context]]
    return hunks


def unified(old_text, new_text, old_name="old", new_name="new", context=3):
    """Return a unified diff of two texts; "" if they are equal."""
    hunks = make_hunks(split_lines(old_text), split_lines(new_text), context)
    if not hunks:
        return ""
    return f"--- {old_name}\n+++ {new_name}\n" + "".join(map(str, hunks))


def parse_unified(text):
    """Read the hunks of a unified diff; what stands before the first is skipped."""
    lines = split_lines(text)
    hunks = []
    index = 0
    while index < len(lines):
        match = _HEADER.match(lines[index])
        if match is None:
            if hunks and lines[index].strip():
                raise PatchFormatError("expected a hunk header", index + 1)
            index += 1
            continue
        hunk, index = _read_hunk(lines, index, match)
        hunks.append(hunk)
    return hunks


def _read_hunk(lines, index, match):
    old_first, old_length, new_first, new_length = (int(group or 1) for group in match.groups())
    old_left, new_left = old_length, new_length
    hunk = Hunk(old_first - (old_length > 0), new_first - (new_length > 0))
    header_line = index + 1
    index += 1
    while index < len(lines):
        line = lines[index]
        if line.startswith("\\"):
            if not hunk.lines:
                raise PatchFormatError("nothing stands before the end-of-file note", index + 1)
            mark, body = hunk.lines[-1]
            hunk.lines[-1] = (mark, body.removesuffix("\n"))
        elif old_left <= 0 and new_left <= 0:
            break
        else:
            # some programs strip the blank of an empty context line
            mark, body = (" ", line) if line == "\n" else (line[0], line[1:])
            if mark not in " +-":
                raise PatchFormatError(f"unexpected {mark!r} in a hunk", index + 1)
            old_left -= mark != "+"
            new_left -= mark != "-"
            hunk.lines.append((mark, body))
        index += 1
    if old_left != 0 or new_left != 0:
        raise PatchFormatError("the hunk is not as long as its header says", header_line)
    return hunk, index


def statistics(hunks):
    """Return the numbers of added and of deleted lines."""
    marks = [mark for hunk in hunks for mark, _ in hunk.lines]
    return marks.count("+"), marks.count("-")
