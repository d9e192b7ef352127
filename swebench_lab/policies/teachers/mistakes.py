"""Mistakes: what a careless person makes of a right patch; pure functions over its changes.

Each returns the changes to make instead, or None where this mistake is not possible with this patch. Changed files
lose their `patch`, so that nothing can make them the right way by accident.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random

from swebench_lab.policies.teachers.patchwork import Edit, FileChange

Spoil = Callable[[Sequence[FileChange], Random], tuple[FileChange, ...] | None]


def wrong_edit(files: Sequence[FileChange], dice: Random) -> tuple[FileChange, ...] | None:
    """Write one of the new lines wrong, and everything else right."""
    places = [(i, j) for i, change in enumerate(files) for j in range(len(change.edits)) if _is_python(change.path)]
    dice.shuffle(places)
    for i, j in places:
        edit = files[i].edits[j]
        for new in _spoiled_lines(edit, dice):
            if new not in (edit.new, edit.old):
                edits = (*files[i].edits[:j], replace(edit, new=new), *files[i].edits[j + 1 :])
                return (*files[:i], replace(files[i], edits=edits, patch=""), *files[i + 1 :])
    return None


def _spoiled_lines(edit: Edit, dice: Random) -> Iterator[tuple[str, ...]]:
    """Yield the edit's new lines with one that differs from the old ones spoiled, or left out."""
    ours = [k for k, line in enumerate(edit.new) if line not in edit.old and _is_code(line)]
    dice.shuffle(ours)
    for k in ours:
        if (line := spoil_line(edit.new[k], dice)) is not None:
            yield (*edit.new[:k], line, *edit.new[k + 1 :])
    for k in ours:
        indent = edit.new[k][: len(edit.new[k]) - len(edit.new[k].lstrip())]
        yield (*edit.new[:k], f"{indent}pass\n", *edit.new[k + 1 :])


def wrong_place(files: Sequence[FileChange], dice: Random) -> tuple[FileChange, ...] | None:
    """Leave the wrong line as it is, and change one beside it."""
    edits = [edit for change in files for edit in change.edits if _is_python(change.path) and change.kind == "edit"]
    dice.shuffle(edits)
    for edit in edits:
        # Lines above are safe to name: nothing over them is edited in this plan.
        for k in dice.sample(range(len(edit.after)), len(edit.after)):
            line = edit.after[k]
            if _is_code(line) and (spoiled := spoil_line(line, dice)) is not None:
                prefix = edit.old + edit.after[:k]
                detour = replace(
                    edit,
                    before=(*edit.before, *prefix),
                    old=(line,),
                    new=(spoiled,),
                    after=edit.after[k + 1 :],
                    line=edit.start + len(prefix),
                    start=edit.start + len(prefix),
                )
                return (FileChange("edit", edit.path, edit.path, edits=(detour,)),)
    return None


def partial(files: Sequence[FileChange], dice: Random) -> tuple[FileChange, ...] | None:
    """Make one of several changes."""
    single = [
        replace(change, edits=(replace(edit, line=edit.start),), patch="") for change in files for edit in change.edits
    ]
    whole = [change for change in files if not change.edits]
    parts = single + whole
    return (dice.choice(parts),) if len(parts) > 1 else None


SPOILED: Mapping[str, Spoil] = {"wrong edit": wrong_edit, "wrong place": wrong_place, "partial": partial}
"""Name of a mistake → what makes the wrong changes."""


_SWAPS: tuple[tuple[str, str], ...] = (
    (r"<=", "<"),
    (r">=", ">"),
    (r"(?<![<>=!-])<(?![<=])", "<="),
    (r"(?<![<>=!-])>(?![>=])", ">="),
    (r"==", "!="),
    (r"!=", "=="),
    (r"\band\b", "or"),
    (r"\bor\b", "and"),
    (r"\bis not\b", "is"),
    (r"\bis(?! not\b)\b", "is not"),
    (r"\bnot in\b", "in"),
    (r"\bnot (?!in\b)", ""),
    (r"\bif (?!not\b)", "if not "),
    (r"\bTrue\b", "False"),
    (r"\bFalse\b", "True"),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r"(?<=\w) \+ (?=\w)", " - "),
    (r"(?<=\w) - (?=\w)", " + "),
    (r"(?<=\w) \* (?=\w)", " + "),
    (r"(?<![\w.])(\d+)(?![\w.])", "+1"),
    (r"\breturn (?=\S)(?!None\b)[^\n]+", "return None"),
    (r"\.(?=append\()append\(", ".extend("),
    (r"\.startswith\(", ".endswith("),
    (r"\.lower\(\)", ".upper()"),
)
"""Slips of the pen: what is written, as a pattern, and what is written instead; `+1` counts a number up."""


def spoil_line(line: str, dice: Random) -> str | None:
    """Return a line of Python with one slip in it, or None where none of the known slips fits."""
    code = line.split("  #")[0]
    candidates = [(match, wrong) for pattern, wrong in _SWAPS for match in re.finditer(pattern, code)]
    if not candidates:
        return None
    match, wrong = dice.choice(candidates)
    replacement = str(int(match[1]) + 1) if wrong == "+1" else wrong
    spoiled = line[: match.start()] + replacement + line[match.end() :]
    return spoiled if spoiled != line else None


def _is_python(path: str) -> bool:
    return path.endswith(".py")


def _is_code(line: str) -> bool:
    """Whether a line does something: not blank, no comment, no part of a docstring that begins or ends on it."""
    text = line.strip()
    return bool(text) and not text.startswith(("#", '"', "'")) and not text.endswith(('"""', "'''"))


def malformed(reply: str, dice: Random) -> str:
    """Return a reply whose call cannot be read."""
    ways: list[Callable[[str], str]] = [
        lambda text: text.replace("</function>", "").replace("```bash", "bash"),
        lambda text: text.split("<function=")[0].split("```")[0],
        lambda text: text.replace("</parameter>", "").replace("```bash", "```sh"),
        lambda text: text + "\n\n" + text,
    ]
    return dice.choice(ways)(reply)
