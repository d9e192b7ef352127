"""The page of two attempts side by side: facts, steps, patches, and the tests that came out differently."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff
from itertools import zip_longest
from typing import TYPE_CHECKING

from swebench_lab.records.step_kind import kind_of
from swebench_lab.viewer import story
from swebench_lab.viewer.blocks import badge, coloured_diff, facts, safe
from swebench_lab.viewer.document import document
from swebench_lab.viewer.highlighting import Highlighter

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.step import Step

_SHOWN = 400
"""Lines of a patch before it is folded."""


def pair_page(a: Rollout, b: Rollout, names: Sequence[str] = ("A", "B")) -> str:
    """Return one self-contained page that shows two attempts side by side.

    Args:
        a: The one on the left.
        b: The one on the right.
        names: What they are called.

    Returns:
        A whole HTML document.
    """
    title = a.task.id if a.task.id == b.task.id else f"{a.task.id} and {b.task.id}"
    sections = (
        ("Outcome", _sides([_outcome(a), _outcome(b)], names)),
        ("Patches", _sides([_patch(a), _patch(b)], names)),
        ("From the left patch to the right one", _between(a, b)),
        ("Tests that came out differently", _tests(a, b, names)),
        ("Steps", _steps(a, b, names)),
    )
    body = "".join(f"<section><h2>{safe(name)}</h2>{content}</section>" for name, content in sections)
    head = (
        f'<header class="head"><p class="over">{safe(names[0])} and {safe(names[1])}</p><h1>{safe(title)}</h1></header>'
    )
    return document(f"{title}: {names[0]} and {names[1]}", f'{head}<main class="sheet">{body}</main>')


def _sides(contents: Sequence[str], names: Sequence[str]) -> str:
    columns = "".join(
        f'<div class="side"><h3>{safe(name)}</h3>{content}</div>' for name, content in zip(names, contents, strict=True)
    )
    return f'<div class="sides">{columns}</div>'


def _outcome(rollout: Rollout) -> str:
    why = f"<span>{safe(rollout.verdict.reason)}</span>"
    return f'<div class="verdict">{badge(rollout.verdict)}{why}</div>{facts(story.header(rollout))}'


def _patch(rollout: Rollout) -> str:
    patch = rollout.trajectory.patch
    return (
        coloured_diff(list(story.signed(patch)), _SHOWN, Highlighter(), split=True)
        if patch.strip()
        else "<p>Empty: no file was changed.</p>"
    )


def _between(a: Rollout, b: Rollout) -> str:
    before, after = a.trajectory.patch, b.trajectory.patch
    if before == after:
        return "<p>The two patches are identical.</p>"
    lines = list(unified_diff(before.splitlines(), after.splitlines(), "left", "right", n=2, lineterm=""))[2:]
    style = {"+": "a", "-": "d", "@": "h"}
    return coloured_diff([(style.get(line[:1], "c"), line) for line in lines], _SHOWN)


def _tests(a: Rollout, b: Rollout, names: Sequence[str]) -> str:
    left, right = a.verdict.tests, b.verdict.tests
    rows = [
        (test, left.get(test, "not run"), right.get(test, "not run"))
        for test in dict.fromkeys((*left, *right))
        if left.get(test) != right.get(test)
    ]
    if not rows:
        return "<p>None.</p>"
    body = "".join(
        f'<tr><td class="id">{safe(test)}</td>{_cell(before)}{_cell(after)}</tr>' for test, before, after in rows
    )
    return _table(("test", *names), body)


def _cell(outcome: str) -> str:
    style = "pass" if outcome in ("PASSED", "XFAIL") else "fail" if outcome in ("FAILED", "ERROR") else "other"
    return f'<td class="{style}">{safe(outcome)}</td>'


def _steps(a: Rollout, b: Rollout, names: Sequence[str]) -> str:
    rows = "".join(
        f'<tr><td class="num">{number}</td>{_step(left)}{_step(right)}</tr>'
        for number, (left, right) in enumerate(zip_longest(a.trajectory.steps, b.trajectory.steps))
    )
    return _table(("step", *names), rows)


def _step(step: Step | None) -> str:
    if step is None:
        return "<td></td>"
    endings = " ".join(f'<span class="chip {style}">{safe(words)}</span>' for style, words in story.endings(step))
    kind = kind_of(step)
    return f'<td><span class="chip {kind}">{kind}</span> <code>{safe(story.heading(step))}</code> {endings}</td>'


def _table(columns: Sequence[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{safe(name)}</th>' for name in columns)
    return f'<div class="tables"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
