"""A patch as a list of changes that a person at an editor could make: replace these lines, write that file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from swebench_lab.records.patches.diff import FilePatch, Hunk, parse_patch


@dataclass(frozen=True, slots=True)
class Edit:
    """One run of changed lines, with what the patch shows around it.

    Lines keep their ends, so the last line of a file may have none.

    Args:
        path: The file, relative to the repository.
        before: The lines right before, as they are once the edits above are made.
        old: The lines to be replaced; empty for an insertion.
        new: The lines to put there; empty for a removal.
        after: The lines right after, as they are before the edits below are made.
        line: Number, from 1, of the first changed line once the edits above are made.
        start: Number, from 1, of that line before any edit.
    """

    path: str
    before: tuple[str, ...]
    old: tuple[str, ...]
    new: tuple[str, ...]
    after: tuple[str, ...]
    line: int
    start: int

    def texts(self, context: int) -> tuple[str, str]:
        """Return what to replace and what to put there, with up to `context` unchanged lines on each side.

        A line end that both texts close with is left off both.
        """
        head, tail = self.before[-context:] if context else (), self.after[:context]
        old, new = ("".join((*head, *lines, *tail)) for lines in (self.old, self.new))
        if old.endswith("\n") and new.endswith("\n"):
            old, new = old[:-1], new[:-1]
        return old, new

    def contexts(self) -> Iterator[int]:
        """Yield the widths of context that `texts` makes something new of, narrow ones first."""
        widest = max(len(self.before), len(self.after))
        seen = set[str]()
        for width in range(widest + 1):
            old, _ = self.texts(width)
            if old.strip() and old not in seen:
                seen.add(old)
                yield width

    def widened(self, numbered: dict[int, str], width: int) -> tuple[str, str] | None:
        """Return texts with `width` lines of context taken from the file itself, or None if it is otherwise there.

        Args:
            numbered: Lines of the file by number, without their ends, as a view shows them.
            width: Lines of context on each side.
        """
        first, last = self.line, self.line + len(self.old) - 1
        if [numbered.get(n, "") + "\n" for n in range(first, last + 1)] != [_end_line(line) for line in self.old]:
            return None
        head = [numbered[n] + "\n" for n in range(first - width, first) if n in numbered]
        tail = [numbered[n] + "\n" for n in range(last + 1, last + 1 + width) if n in numbered]
        wide = replace(self, before=tuple(head), after=tuple(tail))
        return wide.texts(width)


def _end_line(line: str) -> str:
    return line if line.endswith("\n") else line + "\n"


@dataclass(frozen=True, slots=True)
class FileChange:
    """What happens to one file.

    Args:
        kind: `edit`, `create`, `delete`, `rename` (edits may follow), `link`, `mode`, or `opaque`: a change that only
            a patch can express, such as a binary one.
        path: Where the file is afterwards; for a deletion, where it was.
        old_path: Where it was before.
        content: The whole content of a new file, or the target of a link.
        executable: Whether the change makes it executable (True) or no longer so (False); None: neither.
        edits: The runs of changed lines, top to bottom.
        patch: The file's part of the patch.
    """

    kind: str
    path: str
    old_path: str = ""
    content: str = ""
    executable: bool | None = None
    edits: tuple[Edit, ...] = ()
    patch: str = ""


def changes(patch: str, whole_hunks: bool = True) -> tuple[FileChange, ...]:
    """Return what a patch does, file by file.

    Args:
        patch: A unified diff.
        whole_hunks: Make one edit of each hunk, from its first changed line to its last; otherwise one of each run
            of changed lines.

    Raises:
        ValueError: The text is not a patch.
    """
    _, files = parse_patch(patch)
    return tuple(_change(file, whole_hunks) for file in files)


def _change(file: FilePatch, whole_hunks: bool) -> FileChange:
    modes = dict(re.findall(r"^(new file mode|new mode|old mode) (\d+)$", "".join(file.header), re.MULTILINE))
    patch = file.text()
    patch = patch if patch.endswith("\n") else patch + "\n"
    path, old_path = file.new_path or file.old_path or "", file.old_path or ""
    created = modes.get("new file mode", "")
    executable = {"100755": True, "100644": False}.get(modes.get("new mode", ""))
    opaque = file.binary or any(line.startswith(("copy from ", "Binary files ")) for line in file.header)
    if opaque or created == "160000" or (created != "120000" and modes.get("new mode") == "120000"):
        return FileChange("opaque", path, old_path, patch=patch)
    if file.new_path is None:
        return FileChange("delete", path, old_path, patch=patch)
    if file.old_path is None:
        content = "".join(line for hunk in file.hunks for sign, line in _lines(hunk) if sign == "+")
        kind = "link" if created == "120000" else "create"
        return FileChange(kind, path, "", content, True if created == "100755" else None, patch=patch)
    edits = tuple(edit for hunk in file.hunks for edit in _edits(path, hunk, whole_hunks))
    kind = "rename" if path != old_path else "edit" if edits else "mode"
    return FileChange(kind, path, old_path, "", executable, edits, patch)


def _lines(hunk: Hunk) -> list[tuple[str, str]]:
    """Return a hunk's lines as sign and text; a marker takes the end off the line before it."""
    lines: list[tuple[str, str]] = []
    for line in hunk.lines:
        if line.startswith("\\"):
            sign, text = lines[-1]
            lines[-1] = (sign, text.removesuffix("\n"))
        elif line[:1] in " +-" and line[:1]:
            lines.append((line[0], _end_line(line[1:])))
        else:  # an empty context line whose blank was stripped on the way
            lines.append((" ", _end_line(line)))
    return lines


def _edits(path: str, hunk: Hunk, whole: bool) -> Iterator[Edit]:
    lines = _lines(hunk)
    indices = [i for i, (sign, _) in enumerate(lines) if sign != " "]
    # A header with an empty range names the line before the change.
    new_start = hunk.new_start + (1 if hunk.new_count == 0 else 0)
    old_start = hunk.old_start + (1 if hunk.old_count == 0 else 0)
    for first, stop in [(indices[0], indices[-1] + 1)] if whole and indices else _runs(indices):
        above, inside, below = lines[:first], lines[first:stop], lines[stop:]
        before = tuple(text for sign, text in above if sign != "-")
        yield Edit(
            path,
            before=before,
            old=tuple(text for sign, text in inside if sign != "+"),
            new=tuple(text for sign, text in inside if sign != "-"),
            after=tuple(text for sign, text in below if sign != "+"),
            line=new_start + len(before),
            start=old_start + sum(sign != "+" for sign, _ in above),
        )


def _runs(positions: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of consecutive positions as start and stop."""
    start = 0
    for i in range(1, len(positions) + 1):
        if i == len(positions) or positions[i] != positions[i - 1] + 1:
            yield positions[start], positions[i - 1] + 1
            start = i
