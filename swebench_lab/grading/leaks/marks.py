"""Marks: what would give a fix away: the lines that only the repaired code has, and the place that they stand in."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass

from swebench_lab.records.patches.diff import FilePatch, Hunk, parse_patch
from swebench_lab.records.task import Task

_DEF = re.compile(r"^(\s*)(?:async\s+)?(?:def|class|cdef|cpdef)\s+(\w+)")
_EVERYWHERE = re.compile(r"\bdef __\w+__$")  # any two classes have them
_WORD = r"[A-Za-z_]\w{3,}"
_BOILERPLATE = """
    other object self args kwargs name names value values item items data result results text line lines path paths file
    files index count size length node nodes left right first last start stop begin parent child children default options
    config message error errors notimplemented return none true false optional sequence mapping iterable iterator callable
    init repr hash iter next enter exit call contains getitem setitem eq lt le gt ge main test tests func function method
    cached property classmethod staticmethod dataclass typing with from import class raise assert elif else while yield
"""
_ANYBODYS = frozenset(
    [*_BOILERPLATE.split(), *(name.strip("_").lower() for name in dir(builtins)), *(k.lower() for k in keyword.kwlist)]
)
"""Words that say nothing of whose code it is."""
_LEAST_LINE = 20  # characters of a line that says something; "return None" and the like stand everywhere
_LEAST_ALL = 40  # characters of all lines of a mark that has no def around it
_LEAST_WORDS = 2  # words of a project's own that the lines of a mark must hold: twice as many where no def is around
_LEAST_PLACE = 60  # the same, of a place that is known by what stands in it after lines were taken away


@dataclass(frozen=True, slots=True)
class Mark:
    """What a copy of one repaired place would hold.

    Args:
        file: The file of the gold patch.
        place: `def name` or `class name` around it; empty at the top of a module.
        lines: Lines without their indentation, all of which must be there.
        words: Names and texts that compiled code would hold.
        gone: Lines of the code before the repair, which a copy of the repaired code does not hold.
        row: Lines that must follow each other, empty ones aside, where no line alone tells the code before from after.
    """

    file: str
    place: str
    lines: tuple[str, ...]
    words: tuple[str, ...]
    gone: tuple[str, ...] = ()
    row: tuple[str, ...] = ()


def marks(task: Task, before: dict[str, str]) -> tuple[Mark, ...]:
    """Return what tells the repaired code of a task from the code before.

    Args:
        task: The task, of which the gold patch counts.
        before: Text of the files that the gold patch changes, as the START tree has them; new files are left out.
    """
    result: list[Mark] = []
    for part in gold_parts(task):
        path = part.new_path or part.old_path or ""
        old = before.get(part.old_path or "", "").split("\n")
        for hunk in part.hunks:
            mark = _mark(path, hunk, old)
            if mark and mark not in result:
                result.append(mark)
    return tuple(result)


def gold_parts(task: Task) -> tuple[FilePatch, ...]:
    """Return the parts of the gold patch; none where it is no patch, which the gold run will say."""
    try:
        return parse_patch(task.gold_patch)[1]
    except ValueError:
        return ()


def _mark(path: str, hunk: Hunk, old: list[str]) -> Mark | None:
    present = {line.strip() for line in old}
    additions = [line[1:].strip() for line in hunk.lines if line[:1] == "+"]
    removals = tuple(line[1:].strip() for line in hunk.lines if line[:1] == "-" and _says(line[1:]))
    place = _place(hunk, old)
    new = tuple(dict.fromkeys(line for line in additions if _says(line) and line not in present))
    telling = bool(place) and not _EVERYWHERE.search(place)
    enough = len(_own_words((*new, place) if telling else new)) >= (_LEAST_WORDS if telling else 2 * _LEAST_WORDS)
    if new and enough and (telling or sum(map(len, new)) >= _LEAST_ALL):
        removals = ()
    else:
        # Nothing new to read, as where lines were only taken away, or a short line that many a method of this name
        # has: the whole place, as it stands after the repair.
        whole = tuple(dict.fromkeys(s for line in hunk.lines if line[:1] in "+ " and _says(s := line[1:].strip())))
        few = len(_own_words((*whole, place))) < 2 * _LEAST_WORDS
        if few or sum(map(len, whole)) < _LEAST_PLACE or not (removals or new):
            return _in_a_row(path, place, hunk, whole)
        new, removals = whole, () if new else removals
    names = (w for line in new for w in re.findall(_WORD, line.split("#")[0]))
    words = tuple(dict.fromkeys(word for word in names if not keyword.iskeyword(word)))
    return Mark(path, place, new, words, removals)


def _own_words(lines: Iterable[str]) -> set[str]:
    """Return the words of lines that are not everybody's: no keyword, no builtin, no name that any class may use."""
    words = {word.strip("_").lower() for line in lines for word in re.findall(_WORD, line)}
    return {word for word in words if len(word) > 3} - _ANYBODYS


def _in_a_row(path: str, place: str, hunk: Hunk, whole: tuple[str, ...]) -> Mark | None:
    """Return the mark of a change so small that only the order of the lines around it tells it; compiled code cannot."""
    before, after = (
        tuple(s for line in hunk.lines if line[:1] in f"{side} " and (s := line[1:].strip())) for side in "-+"
    )
    if before == after or sum(map(len, after)) < _LEAST_PLACE:
        return None
    return Mark(path, place, whole or (max(after, key=len),), (), (), after)


def _says(line: str) -> bool:
    """Whether a line is worth looking for: long enough, no import and no comment."""
    text = line.strip()
    return len(text) >= _LEAST_LINE and not re.match(r"(from\s+\S+\s+)?import\s|#|\"\"\"|@", text)


def _place(hunk: Hunk, old: list[str]) -> str:
    """Return the `def` or `class` around the first change of a hunk."""
    at = hunk.old_start - 1
    here: list[str] = []
    indent = 10_000
    for line in hunk.lines:
        if line[:1] in "+-" and line[1:].strip():
            indent = len(line[1:]) - len(line[1:].lstrip())
            if own := _DEF.match(line[1:].rstrip("\n")):
                return own[0].strip()
            break
        here.append(line[1:].rstrip("\n"))
    for text in [*reversed(here), *reversed(old[: max(0, at)])]:
        match = _DEF.match(text)
        if match and len(match[1]) < indent:
            return match[0].strip()
    return ""
