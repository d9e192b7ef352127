"""Unified diffs in git's format as text: make one, reverse one, and say which files one touches.

Pure functions over text. Lines end at a line feed and nowhere else, so carriage returns and other separators inside a
line survive. Only what `git diff` writes is understood; a combined diff (`@@@`) and a copy have no reverse and are
refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from swebench_lab.errors import DiffError
from swebench_lab.records.patches.paths import NULL, header_paths, quoted, split_names

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)$", re.DOTALL)
_INDEX = re.compile(r"^index ([0-9a-f]+)\.\.([0-9a-f]+)(.*)$", re.DOTALL)
_NO_NEWLINE = "\\"
_SWAPPED = {"old mode ": "new mode ", "new file mode ": "deleted file mode ", "rename from ": "rename to "}
_SWAPPED |= {new: old for old, new in _SWAPPED.items()}


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hunk:
    """One `@@` block: where it stands on both sides, the text after the second `@@`, and its lines with their signs."""

    old_start: int
    old_count: int | None
    new_start: int
    new_count: int | None
    heading: str
    lines: tuple[str, ...]

    def reversed(self) -> Hunk:
        """Return the hunk that undoes this one: in each run of changes the old lines come first again."""
        lines: list[str] = []
        removals: list[str] = []
        additions: list[str] = []
        sign = " "
        for line in self.lines:
            sign = sign if line.startswith(_NO_NEWLINE) else line[:1]
            if sign == "-":
                additions.append(_change_sign(line, "+"))
            elif sign == "+":
                removals.append(_change_sign(line, "-"))
            else:
                lines += [*removals, *additions, line]
                removals, additions = [], []
        lines += [*removals, *additions]
        return Hunk(self.new_start, self.new_count, self.old_start, self.old_count, self.heading, tuple(lines))

    def text(self) -> str:
        """Return the hunk as it stands in a patch."""
        old = f"-{self.old_start}" + ("" if self.old_count is None else f",{self.old_count}")
        new = f"+{self.new_start}" + ("" if self.new_count is None else f",{self.new_count}")
        return f"@@ {old} {new} @@{self.heading}" + "".join(self.lines)


def _change_sign(line: str, sign: str) -> str:
    return line if line.startswith(_NO_NEWLINE) else sign + line[1:]


@dataclass(frozen=True)
class FilePatch:
    """What a patch does to one file.

    Args:
        header: Lines before the first hunk, from `diff --git` on.
        hunks: The changes, in order.
        binary: The lines of a `GIT binary patch`, without that line; empty for text.
        trailer: Lines after the last hunk that belong to no file, such as a mail's signature.
        old_path: Path before, None for a new file.
        new_path: Path after, None for a deleted file.
    """

    header: tuple[str, ...]
    hunks: tuple[Hunk, ...] = ()
    binary: tuple[str, ...] = ()
    trailer: tuple[str, ...] = ()
    old_path: str | None = None
    new_path: str | None = None

    def text(self) -> str:
        """Return this file's part of a patch."""
        hunks = "".join(hunk.text() for hunk in self.hunks)
        return "".join(self.header) + hunks + "".join(self.binary) + "".join(self.trailer)

    def reversed(self) -> FilePatch:
        """Return the part that undoes this one.

        Raises:
            DiffError: The part copies a file, or is binary and holds no way back.
        """
        return FilePatch(
            header=tuple(_reversed_header(self.header)),
            hunks=tuple(hunk.reversed() for hunk in self.hunks),
            binary=_reversed_binary(self.binary, self.new_path or self.old_path or ""),
            trailer=self.trailer,
            old_path=self.new_path,
            new_path=self.old_path,
        )


@dataclass
class _Lines:
    """A patch's lines and how far they have been read."""

    lines: list[str]
    at: int = 0

    def peek(self) -> str:
        return self.lines[self.at] if self.at < len(self.lines) else ""

    def next(self) -> str:
        self.at += 1
        return self.lines[self.at - 1]

    def starts_file(self) -> bool:
        """Whether a file's part begins here, with git's header or with a bare `---`, `+++`, `@@`."""
        if self.peek().startswith("diff --git "):
            return True
        following = self.lines[self.at : self.at + 3]
        return [line[:4] for line in following] == ["--- ", "+++ ", "@@ -"]


def parse_patch(text: str) -> tuple[str, tuple[FilePatch, ...]]:
    """Read a patch.

    Args:
        text: The patch; may be empty.

    Returns:
        The text before the first file (a commit message, usually empty) and one `FilePatch` a file, in order.

    Raises:
        DiffError: A hunk is cut short or malformed, or the text holds a combined diff or no diff at all.
    """
    source = _Lines(split_lines(text))
    while source.at < len(source.lines) and not source.starts_file():
        if source.next().startswith(("diff --cc ", "diff --combined ")):
            raise DiffError(f"line {source.at}: a combined diff cannot be read as a patch")
    preamble = "".join(source.lines[: source.at])
    files: list[FilePatch] = []
    while source.at < len(source.lines):
        files.append(_parse_file(source))
    if not files and text.strip():
        raise DiffError(f"no file header in a patch of {len(source.lines)} lines; it begins {text.strip()[:60]!r}")
    return preamble, tuple(files)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text with their ends; only a line feed ends one."""
    lines = text.split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])


def _parse_file(source: _Lines) -> FilePatch:
    header, hunks, binary, trailer = [], list[Hunk](), list[str](), list[str]()
    if source.peek().startswith("diff --git "):
        header.append(source.next())
    while source.at < len(source.lines):
        line = source.peek()
        if line.startswith("@@@"):
            raise DiffError(f"line {source.at + 1}: a combined hunk (@@@) cannot be read as a patch")
        if line.startswith("@@ "):
            hunks.append(_parse_hunk(source))
        elif line.rstrip("\n") == "GIT binary patch":
            header.append(source.next())
            binary = _parse_binary(source)
        elif line.startswith("diff --git ") or ((hunks or binary) and source.starts_file()):
            break
        else:
            (trailer if hunks or binary else header).append(source.next())
    old, new = header_paths(header)
    return FilePatch(tuple(header), tuple(hunks), tuple(binary), tuple(trailer), old, new)


def _parse_hunk(source: _Lines) -> Hunk:
    number = source.at + 1
    match = _HUNK.match(source.next())
    if not match:
        raise DiffError(f"line {number}: not a hunk header: {source.lines[number - 1][:60]!r}")
    old, new = (1 if match[i] is None else int(match[i]) for i in (2, 4))
    lines: list[str] = []
    while old > 0 or new > 0:
        if source.at == len(source.lines):
            raise DiffError(f"line {number}: the hunk ends {old} old and {new} new lines too early")
        line = source.next()
        sign = line[:1]
        if sign not in (" ", "+", "-", _NO_NEWLINE, "\n", "\r"):
            raise DiffError(f"line {source.at}: {line[:40]!r} is no line of a hunk")
        old -= sign not in ("+", _NO_NEWLINE)
        new -= sign not in ("-", _NO_NEWLINE)
        lines.append(line)
    if old < 0 or new < 0:
        raise DiffError(f"line {number}: the hunk's lines do not add up to its header")
    if source.peek().startswith(_NO_NEWLINE):
        lines.append(source.next())
    counts = (None if match[i] is None else int(match[i]) for i in (2, 4))
    return Hunk(int(match[1]), next(counts), int(match[3]), next(counts), match[5], tuple(lines))


def _parse_binary(source: _Lines) -> list[str]:
    """Take the blocks of a binary patch: each `literal N` or `delta N`, its data, and an empty line."""
    blocks: list[str] = []
    while re.match(r"(literal|delta) \d+$", source.peek().rstrip("\n")):
        while source.at < len(source.lines):
            blocks.append(source.next())
            if blocks[-1] == "\n":
                break
    return blocks


# --- paths ----------------------------------------------------------------------------------------------------------


def touched_files(text: str) -> tuple[str, ...]:
    """Return every path that a patch reads or writes, each once, in order of first appearance.

    Args:
        text: The patch.

    Returns:
        Paths relative to the repository; a rename gives both.

    Raises:
        DiffError: The text is not a patch.
    """
    _, files = parse_patch(text)
    return tuple(dict.fromkeys(path for file in files for path in (file.old_path, file.new_path) if path))


def written_files(text: str) -> tuple[str, ...]:
    """Return every path that is there after a patch and that it touched, each once, in order of first appearance.

    Args:
        text: The patch.

    Returns:
        Paths relative to the repository; of a rename the new name alone, and no file that the patch deletes.

    Raises:
        DiffError: The text is not a patch.
    """
    _, files = parse_patch(text)
    last = {path: path == file.new_path for file in files for path in (file.old_path, file.new_path) if path}
    copy_sources = {file.old_path for file in files if any(line.startswith("copy from ") for line in file.header)}
    touched = {file.new_path for file in files}
    return tuple(path for path, there in last.items() if there or (path in copy_sources & touched))


# --- reversing ------------------------------------------------------------------------------------------------------


def reverse_patch(text: str) -> str:
    """Return the patch that undoes `text`; reversing twice gives the same changes back.

    Args:
        text: A patch as `git diff` writes it. Text around the diffs is kept where it stands.

    Raises:
        DiffError: The text is no patch, or holds a part that cannot be reversed (a copy, a combined diff, a binary
            change without data).
    """
    preamble, files = parse_patch(text)
    paths = [path for file in files for path in {file.old_path, file.new_path} if path]
    if len(paths) != len(set(paths)):  # a file changed twice is undone last change first
        files = files[::-1]
    return preamble + "".join(file.reversed().text() for file in files)


def _reversed_header(header: tuple[str, ...]) -> Iterator[str]:
    """Yield the header of the way back, each line where git puts it."""
    names = {line[:4]: line for line in header if line.startswith(("--- ", "+++ "))}
    pending: str | None = None
    for line in header:
        mark = next((mark for mark in _SWAPPED if line.startswith(mark)), "")
        if line.startswith(("copy from ", "copy to ")):
            raise DiffError(f"a copied file cannot be reversed: {line.strip()!r}")
        if line.startswith("Binary files "):
            raise DiffError(f"a binary change without its data cannot be reversed: {line.strip()!r}")
        if line.startswith("diff --git "):
            old, new = split_names(line[len("diff --git ") :].rstrip("\r\n"))
            yield f"diff --git {_swap_prefix(old, new)} {_swap_prefix(new, old)}\n"
        elif match := _INDEX.match(line):
            yield f"index {match[2]}..{match[1]}{match[3]}"
        elif mark in ("old mode ", "rename from "):
            pending = line[len(mark) :]
        elif mark in ("new mode ", "rename to ") and pending is not None:
            yield _SWAPPED[mark] + line[len(mark) :]
            yield mark + pending
            pending = None
        elif mark:
            yield _SWAPPED[mark] + line[len(mark) :]
        elif line.startswith("--- ") and "+++ " in names:
            yield "--- " + _side(names["+++ "][4:], "b/", "a/")
        elif line.startswith("+++ ") and "--- " in names:
            yield "+++ " + _side(names["--- "][4:], "a/", "b/")
        else:
            yield line


def _swap_prefix(here: str, there: str) -> str:
    """Return `there`'s path under `here`'s prefix."""
    prefix = re.match(r'"?([abciow]/)', here)
    other = re.match(r'"?([abciow]/)', there)
    return there.replace(other[1], prefix[1], 1) if prefix and other else there


def _side(name: str, old: str, new: str) -> str:
    """Return a name of a `---` or `+++` line with the other side's prefix."""
    quote = '"' if name.startswith('"') else ""
    return quote + new + name[len(quote + old) :] if name.startswith(quote + old) else name


def _reversed_binary(lines: tuple[str, ...], path: str) -> tuple[str, ...]:
    if not lines:
        return ()
    starts = [i for i, line in enumerate(lines) if re.match(r"(literal|delta) \d+$", line.rstrip("\n"))]
    if len(starts) != 2:
        raise DiffError(f"the binary change of {path!r} holds no way back; make the diff with --binary")
    return lines[starts[1] :] + lines[starts[0] : starts[1]]


# --- making ---------------------------------------------------------------------------------------------------------


def make_patch(before: Mapping[str, str | None], after: Mapping[str, str | None], context: int = 3) -> str:
    """Return the patch from one set of files to another, as `git apply` reads it.

    Args:
        before: Content by path; None or absent where the file does not exist.
        after: The same, afterwards; a path absent here is unchanged.
        context: Unchanged lines kept around a change.

    Returns:
        One part a changed file, sorted by path; empty when nothing differs.
    """
    parts = (file_diff(path, before.get(path), after[path], context) for path in sorted(after))
    return "".join(parts)


def file_diff(path: str, before: str | None, after: str | None, context: int = 3, mode: str = "100644") -> str:
    """Return one file's part of a patch; empty when both sides are the same.

    Args:
        path: Path relative to the repository.
        before: Content before; None for a new file.
        after: Content after; None for a deleted file.
        context: Unchanged lines kept around a change.
        mode: The file's mode, six octal digits.
    """
    if before == after:
        return ""
    old, new = quoted(f"a/{path}"), quoted(f"b/{path}")
    hashes = f"index {blob_hash(before)}..{blob_hash(after)}"
    head = f"diff --git {old} {new}\n"
    if before is None:
        head += f"new file mode {mode}\n{hashes}\n"
    elif after is None:
        head += f"deleted file mode {mode}\n{hashes}\n"
    else:
        head += f"{hashes} {mode}\n"
    body = "".join(_hunks(split_lines(before or ""), split_lines(after or ""), context))
    if not body:
        return head
    names = f"--- {NULL if before is None else _add_tab(old)}\n+++ {NULL if after is None else _add_tab(new)}\n"
    return head + names + body


def blob_hash(content: str | None, digits: int = 10) -> str:
    """Return the first digits of the id that git gives a file's content; zeros for an absent file."""
    if content is None:
        return "0" * digits
    raw = content.encode("utf-8", "surrogateescape")
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()[:digits]


def _add_tab(name: str) -> str:
    """A name with a blank ends in a tab, or `patch` would read the rest as a date."""
    return name + "\t" if " " in name else name


def _hunks(old: list[str], new: list[str], context: int) -> Iterator[str]:
    for group in _hunk_opcodes(_opcodes(old, new), context):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@\n"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (_sign(" ", line) for line in old[i1:i2])
            else:
                yield from (_sign("-", line) for line in old[i1:i2])
                yield from (_sign("+", line) for line in new[j1:j2])


_Opcode = tuple[str, int, int, int, int]


def _opcodes(old: list[str], new: list[str]) -> list[_Opcode]:
    """Return difflib's opcodes; the common ends are set aside first, so that a small edit of a big file is quick."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    matcher = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False)
    codes = [(tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in matcher.get_opcodes()]
    ends = ("equal", len(old) - tail, len(old), len(new) - tail, len(new))
    return [*([("equal", 0, head, 0, head)] if head else []), *codes, *([ends] if tail else [])]


def _hunk_opcodes(codes: list[_Opcode], context: int) -> Iterator[list[_Opcode]]:
    """Yield the opcodes of each hunk, with `context` equal lines at both ends."""
    group: list[_Opcode] = []
    for position, (tag, i1, i2, j1, j2) in enumerate(codes):
        if tag != "equal":
            group.append((tag, i1, i2, j1, j2))
            continue
        last = position == len(codes) - 1
        if group and not last and i2 - i1 <= 2 * context:
            group.append((tag, i1, i2, j1, j2))
            continue
        if group:
            group.append((tag, i1, min(i2, i1 + context), j1, min(j2, j1 + context)))
            yield group
            group = []
        if not last:
            group = [(tag, max(i1, i2 - context), i2, max(j1, j2 - context), j2)]
    if group:
        yield group


def _range(start: int, stop: int) -> str:
    """Return a hunk header's range; an empty one names the line before it."""
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _sign(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"
