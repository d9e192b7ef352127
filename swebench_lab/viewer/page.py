"""The static view of an attempt: one self-contained HTML page.

A page loads nothing from anywhere, and its Content-Security-Policy allows no script but ours, by its hash. Everything an
agent, a task or a test wrote is hostile: it is escaped, terminal sequences and control characters are removed, and
characters that change the direction of text are made visible. The page is readable without JavaScript.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from swebench_lab.records.step_kind import Kind, kind_of
from swebench_lab.viewer import story
from swebench_lab.viewer.blocks import (
    badge,
    coloured_diff,
    count_noun,
    facts,
    filter_boxes,
    folded_text,
    issue_text,
    pre,
    safe,
)
from swebench_lab.viewer.document import HELP, document
from swebench_lab.viewer.highlighting import Highlighter

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.step import Step
    from swebench_lab.records.verdict import Verdict
    from swebench_lab.viewer.story import TestGroup

_PACKED_FROM = 4_000_000
"""Characters of observations from which the folded parts are stored compressed, so that the page opens sooner."""


def page(rollout: Rollout, diffs: Sequence[str] = ()) -> str:
    """Return one self-contained HTML page that shows an attempt: steps, patches, tests and log.

    The keys of the page: arrows or `h`/`l` step, `0`/`$` first and last, `e` unfolds, `?` lists them. `#step-7` is a
    link to a step.

    Args:
        rollout: The attempt.
        diffs: What each step changed, as unified diffs, where that is known.

    Returns:
        A whole HTML document.
    """
    steps = rollout.trajectory.steps
    kinds = [kind_of(step) for step in steps]
    packs: list[str] | None = [] if sum(len(step.observation) for step in steps) >= _PACKED_FROM else None
    changes = [diffs[n] if n < len(diffs) else "" for n in range(len(steps))]
    words = Highlighter()
    patches = _patches(rollout, words)  # first: these are coloured whatever the steps hold
    issue = issue_text(rollout.task.issue, words)
    articles = "".join(
        _step(n, *parts, packs, words) for n, parts in enumerate(zip(steps, kinds, changes, strict=True))
    )
    bars, styles = _bar(steps, kinds)
    body = (
        f'<a class="skip" href="#steps">Skip to the steps</a>{_head(rollout, bars)}'
        f'<div class="body">{_rail(steps, kinds)}<main>'
        f'<section id="issue"><h2>Issue</h2>{issue}{_opening(rollout)}</section>'
        f'<section id="steps"><h2>Steps</h2>{articles or "<p>No step was taken.</p>"}</section>'
        f"{patches}{_tests(rollout)}{_log(rollout.verdict)}</main></div>"
        f'<div id="live" class="unseen" role="status" aria-live="polite"></div>{HELP}'
    )
    scripts = "".join(f'<script type="text/plain" id="pack-{n}">{data}</script>' for n, data in enumerate(packs or ()))
    return document(f"{rollout.task.id} · {rollout.verdict.status}", body, styles, scripts)


def _head(rollout: Rollout, bars: str) -> str:
    t, v = rollout.trajectory, rollout.verdict
    error = f'<p class="error">{safe(t.error)}</p>' if t.error else ""
    return (
        f'<header class="head"><p class="over">{safe(rollout.task.repo)} · attempt {safe(t.attempt)}</p>'
        f"<h1>{safe(rollout.task.id)}</h1><div class='verdict'>{badge(v)}<span>{safe(v.reason)}</span></div>"
        f"{error}{facts(story.header(rollout))}{bars}</header>"
    )


def _bar(steps: Sequence[Step], kinds: Sequence[Kind]) -> tuple[str, str]:
    """Return a strip whose pieces are as long as the steps took, and the style rules of their lengths."""
    if not steps:
        return "", ""
    times = [story.spent(step) for step in steps]
    pieces = "".join(f'<a id="b{n}" class="{kind} of-{kind}" href="#step-{n}"></a>' for n, kind in enumerate(kinds))
    rules = "".join(f"#b{n}{{flex-grow:{max(share, 0.001):.3f}}}" for n, share in enumerate(_shares(times)))
    return f'<div class="bar" aria-hidden="true">{pieces}</div>', rules


def _shares(values: Sequence[float]) -> list[float]:
    total = sum(values) or 1.0
    return [100 * value / total for value in values]


def _rail(steps: Sequence[Step], kinds: Sequence[Kind]) -> str:
    counts = [(kind, kinds.count(kind)) for kind in Kind if kind in kinds]
    filters = filter_boxes("Show steps that", [(k.value, f"{k} {n}", k.value) for k, n in counts]) if counts else ""
    rows = "".join(_rail_row(n, step, kind) for n, (step, kind) in enumerate(zip(steps, kinds, strict=True)))
    after = "".join(
        f'<li class="part"><a href="#{part}">{name}</a></li>'
        for part, name in (("patch", "Patch and gold patch"), ("tests", "Tests"), ("log", "Test log"))
    )
    search = (
        '<input type="search" id="search" aria-label="search the steps" placeholder="search the steps ( / )">'
        '<p id="found" class="keys" role="status"></p>'
    )
    return (
        f'<nav class="rail" aria-label="Parts of the attempt">{search if steps else ""}{filters}<ul>'
        f'<li class="part"><a href="#issue">Issue</a></li></ul><ol>{rows}</ol><ul>{after}</ul>'
        '<p class="keys"><kbd>←</kbd> <kbd>→</kbd> step · <kbd>?</kbd> all keys</p></nav>'
    )


def _rail_row(number: int, step: Step, kind: Kind) -> str:
    style = "failed" if story.went_wrong(step) else ""
    return (
        f'<li class="of-{kind}"><a href="#step-{number}" class="{style}"><span class="n">{number}</span>'
        f'<span class="dot {kind}" role="img" aria-label="{kind}"></span><span class="what">{safe(story.heading(step))}</span>'
        f'<span class="t">{story.seconds(story.spent(step))}</span></a></li>'
    )


def _step(number: int, step: Step, kind: Kind, diff: str, packs: list[str] | None, words: Highlighter) -> str:
    endings = "".join(f'<span class="chip {style}">{safe(words)}</span>' for style, words in story.endings(step))
    aside = " · ".join(map(safe, story.asides(step)))
    inside = f"{_reply(step)}{_call(step, words)}{_observation(step, packs, words)}{_diff_details(diff, words)}"
    return (
        f'<article class="step of-{kind}" id="step-{number}" data-kind="{kind}" tabindex="-1" '
        f'aria-labelledby="title-{number}"><header class="{kind}"><h3 id="title-{number}">Step {number}</h3>'
        f'<span class="chip {kind}">{kind}</span>{endings}<span class="aside">{aside}</span></header>'
        f'<div class="inside">{inside}</div></article>'
    )


def _reply(step: Step) -> str:
    label, text = story.words_of(step)
    return (f'<span class="label">{label}</span>' if label else "") + (
        folded_text(text, "" if label else "said") if text else ""
    )


def _call(step: Step, words: Highlighter) -> str:
    call = story.called(step)
    if not call.label:
        return ""
    if call.form == "diff":
        content = coloured_diff(story.edit_lines(step.arguments), 40, words)
    else:
        content = folded_text(call.text, "prompt" if call.form == "prompt" else "") if call.text else ""
    return f'<span class="label">{safe(call.label)}</span>{content}'


def _observation(step: Step, packs: list[str] | None, words: Highlighter) -> str:
    if not step.observation:
        return '<span class="label">no observation</span>'
    return '<span class="label">observation</span>' + folded_text(
        step.observation, packs=packs, read=lambda text: words.numbered_listing(text, step.arguments.get("path", ""))
    )


def _diff_details(diff: str, words: Highlighter) -> str:
    if not diff:
        return ""
    summary = f"what it changed: {count_noun(diff.count(chr(10)), 'line')}"
    content = coloured_diff(list(story.signed(diff)), 200, words)
    return f"<details class='changed'><summary>{summary}</summary>{content}</details>"


def _opening(rollout: Rollout) -> str:
    text = story.opening(rollout)
    return f"<details><summary>The opening messages</summary>{pre(text)}</details>" if text else ""


def _patches(rollout: Rollout, words: Highlighter) -> str:
    ours, gold = rollout.trajectory.patch, rollout.task.gold_patch
    same = "<p>The attempt's patch is identical to the gold patch.</p>" if ours and ours == gold else ""
    return (
        f'<section id="patch"><h2>Patch</h2>{same}<div class="sides">'
        f'<div class="side"><h3>This attempt</h3>{_diff(ours, words)}</div>'
        f'<div class="side"><h3>Gold</h3>{_diff(gold, words)}</div></div></section>'
    )


def _diff(patch: str, words: Highlighter) -> str:
    if not patch.strip():
        return "<p>Empty: no file was changed.</p>"
    return coloured_diff(list(story.signed(patch)), 400, words, split=True)


def _tests(rollout: Rollout) -> str:
    notes = "".join(f"<p>{safe(note)}</p>" for note in rollout.verdict.notes)
    groups = "".join(_test_group(group) for group in story.test_groups(rollout))
    return f'<section id="tests"><h2>Tests</h2>{notes}{groups}</section>'


def _test_group(group: TestGroup) -> str:
    """Return one set of tests: those that fail in sight, the passing ones folded when they are many."""
    summary = f"<summary>{count_noun(len(group.others), 'test')}</summary>"
    attribute = "" if len(group.others) > 12 else " open"
    folded = f"<details{attribute}>{summary}{_outcomes(group.others)}</details>" if group.others else ""
    return f"<h3>{group.title}</h3>{_outcomes(group.failing) if group.failing else ''}{folded}"


def _outcomes(rows: Iterable[tuple[str, str, str]]) -> str:
    body = "".join(
        f'<tr><td class="id">{safe(test)}</td><td class="{style}">{safe(outcome)}</td></tr>'
        for test, outcome, style in rows
    )
    return f'<div class="tables"><table class="outcomes"><tbody>{body}</tbody></table></div>'


def _log(verdict: Verdict) -> str:
    log = f"<details><summary>{len(verdict.log):,} characters</summary>{pre(verdict.log)}</details>"
    return f'<section id="log"><h2>Test log</h2>{log if verdict.log else "<p>There is none.</p>"}</section>'
