"""The static view of attempts: one self-contained HTML page each, and an index of many.

A page loads nothing from anywhere, and its Content-Security-Policy allows no script but our own, by its hash.
Everything an agent, a task or a test wrote is hostile: escaped, its terminal sequences and control characters removed,
characters that turn the direction of text made visible. Without JavaScript the page shows all the same.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from swebench_lab import _html
from swebench_lab.records.step_kind import Kind, kind_of
from swebench_lab.viewer import story

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.trajectory import Step
    from swebench_lab.records.verdict import Verdict
    from swebench_lab.viewer.story import TestGroup

_HEAD_LINES, _TAIL_LINES = 14, 8
"""How much of a long text stays in sight; what lies between is one click away."""
_EDGE_CHARACTERS = 3000
"""The same in characters, for texts of few and endless lines."""
_PACKED_FROM = 4_000_000
"""Characters of observations from which the folded parts are stored compressed, so that the page opens sooner."""
_COLOURED_LINES = 5000
"""Lines of a patch that get colours; a longer patch goes on plainly."""

_safe = _html.text
_UNSAFE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


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
    articles = "".join(_step(n, *parts, packs) for n, parts in enumerate(zip(steps, kinds, changes, strict=True)))
    bars, styles = _bar(steps, kinds)
    body = (
        f'<a class="skip" href="#steps">Skip to the steps</a>{_head(rollout, bars)}'
        f'<div class="body">{_rail(steps, kinds)}<main>'
        f'<section id="issue"><h2>Issue</h2>{_issue(rollout.task.issue)}{_opening(rollout)}</section>'
        f'<section id="steps"><h2>Steps</h2>{articles or "<p>No step was taken.</p>"}</section>'
        f"{_patches(rollout)}{_tests(rollout)}{_log(rollout.verdict)}</main></div>"
        f'<div id="live" class="unseen" role="status" aria-live="polite"></div>{_HELP}'
    )
    stored = "".join(f'<script type="text/plain" id="pack-{n}">{data}</script>' for n, data in enumerate(packs or ()))
    return _document(f"{rollout.task.id} · {rollout.verdict.status}", body, styles, stored)


def index_page(rollouts: Iterable[Rollout], links: Sequence[str]) -> str:
    """Return one self-contained HTML page that lists attempts and links to the page of each.

    Args:
        rollouts: The attempts, in order.
        links: For each attempt the address of its page, relative to this one.

    Returns:
        A whole HTML document.
    """
    found = list(rollouts)
    rows = "".join(_index_row(rollout, link) for rollout, link in zip(found, links, strict=True))
    columns = ("task", "policy", "attempt", "verdict", "reward", "stop", "steps", "seconds", "why")
    head = "".join(f'<th scope="col"{_numeric(name)}>{name}</th>' for name in columns)
    filters = _filters("Show", [(s.replace(" ", "-"), s, "") for s in ("resolved", "unresolved", "not graded")])
    body = (
        f'<header class="head"><p class="over">swebench_lab</p><h1>{len(found)} attempts</h1></header>'
        f'<main class="sheet"><section>{_summary(found)}</section><section>{filters}<div class="tables"><table>'
        f"<caption>Attempts</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section></main>"
    )
    return _document(f"{len(found)} attempts", body)


def write_pages(rollouts: Iterable[Rollout], folder: str | Path) -> Path:
    """Write the page of every attempt to `folder/<policy>/<task>-<attempt>.html`, and an index beside them.

    Args:
        rollouts: The attempts.
        folder: Where to; made when missing. Pages of the same attempts are written over.

    Returns:
        Path of `index.html`.
    """
    found = list(rollouts)
    target = Path(folder)
    links = page_names(found)
    for rollout, link in zip(found, links, strict=True):
        rollout.to_html(target / link)
    index = target / "index.html"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(index_page(found, links), "utf-8")
    return index


def page_names(rollouts: Iterable[Rollout]) -> list[str]:
    """Return where `write_pages` puts the page of each attempt, relative to its folder."""
    links: list[str] = []
    for rollout in rollouts:
        links.append(_page_name(rollout, links))
    return links


def compared_page(
    names: Sequence[str],
    rows: Iterable[tuple[str, str, Sequence[Sequence[tuple[Rollout, str]]]]],
    counts: Mapping[str, int],
) -> str:
    """Return one self-contained page that sets two evaluations side by side.

    Args:
        names: What the two are called.
        rows: A task, how its outcome changed, and for each side its attempts with the addresses of their pages.
        counts: Number of tasks of each change.

    Returns:
        A whole HTML document.
    """
    drawn = "".join(
        f'<tr><td class="id">{_safe(task)}</td><td>{_safe(change)}</td>'
        + "".join(f"<td>{' '.join(_linked_badge(*attempt) for attempt in side)}</td>" for side in sides)
        + "</tr>"
        for task, change, sides in rows
    )
    head = "".join(f'<th scope="col">{_safe(name)}</th>' for name in ("task", "change", *names))
    said = " · ".join(f"{number} {change}" for change, number in counts.items() if number)
    body = (
        f'<header class="head"><p class="over">swebench_lab</p><h1>{_safe(" → ".join(names))}</h1><p>{_safe(said)}</p>'
        f'</header><main class="sheet"><section><div class="tables"><table><caption>Tasks</caption><thead><tr>{head}'
        f"</tr></thead><tbody>{drawn}</tbody></table></div></section></main>"
    )
    return _document(" → ".join(names), body)


def _linked_badge(rollout: Rollout, link: str) -> str:
    return f'<a href="{_safe(quote(link, errors="replace"))}">{_badge(rollout.verdict)}</a>'


def _page_name(rollout: Rollout, taken: Sequence[str]) -> str:
    """Return a relative path made of harmless characters only, told apart by the attempt's key where two would meet."""
    t = rollout.trajectory
    folder = _UNSAFE_NAME.sub("_", t.policy).strip(".") or "attempts"
    name = f"{folder}/{_UNSAFE_NAME.sub('_', rollout.task.id).lstrip('.')}-{t.attempt}"
    if f"{name}.html" in taken:
        name += "-" + hashlib.sha256(repr(rollout.key).encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name}.html"


# --- text of others -------------------------------------------------------------------------------------------------


def _long(text: str, classes: str = "", packs: list[str] | None = None) -> str:
    """Return text as it stands; of a long one the first and last lines, with the middle folded between them.

    Args:
        text: What is shown.
        classes: Style of it.
        packs: Where the middle is stored compressed, for the page's script to unpack when it is opened or searched;
            None: it stands where it belongs.
    """
    plain = _html.plain(text)
    lines = plain.split("\n")
    if len(lines) <= _HEAD_LINES + _TAIL_LINES + 6 and len(plain) <= 3 * _EDGE_CHARACTERS:
        return _pre(plain, classes)
    head = "\n".join(lines[:_HEAD_LINES])[:_EDGE_CHARACTERS]
    tail = "\n".join(lines[-_TAIL_LINES:])[-_EDGE_CHARACTERS:]
    middle = plain[len(head) : len(plain) - len(tail)].removeprefix("\n").removesuffix("\n")
    hidden = f"… {middle.count(chr(10)) + 1:,} more lines, {len(middle):,} characters"
    said = classes if classes == "said" else ""
    return (
        f"{_pre(head, f'{classes} first')}<details class='rest'><summary>{hidden}</summary>"
        f"{_pre(middle, said or 'cont') if packs is None else _packed(middle, packs)}</details>{_pre(tail, said or 'last')}"
    )


def _packed(text: str, packs: list[str]) -> str:
    """Put a text among those that come after all else, so that the page can be used before they are there."""
    packs.append(base64.b64encode(gzip.compress(text.encode(), 4, mtime=0)).decode())
    return (
        f'<div class="packed" data-pack="{len(packs) - 1}"><noscript><p>This attempt is so long that the middle of long '
        "texts is stored compressed, and shown with JavaScript only.</p></noscript></div>"
    )


def _issue(text: str) -> str:
    """Return an issue with its headings and fenced blocks told apart; all else stays as it was written."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    for line in _html.plain(text).strip().split("\n"):
        if line.lstrip().startswith("```"):
            parts.append((not parts[-1][0], []))
        else:
            parts[-1][1].append(line)
    return "".join(_fenced("\n".join(lines)) if fenced else _prose(lines) for fenced, lines in parts)


def _fenced(text: str) -> str:
    return _long(text) if text.strip() else ""


def _prose(lines: Sequence[str]) -> str:
    found = []
    for line in "\n".join(lines).strip("\n").split("\n"):
        heading = re.match(r"#{1,6} +(.+)", line)
        found.append(f"<strong>{_safe(heading[1])}</strong>" if heading else _safe(line))
    said = "\n".join(found)
    return f'<pre class="said prose">{said}</pre>' if said else ""


def _pre(text: str, classes: str = "") -> str:
    return f'<pre class="{classes.strip()}">{_safe(text)}</pre>' if classes.strip() else f"<pre>{_safe(text)}</pre>"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _facts(values: Mapping[str, Any]) -> str:
    shown = "".join(f"<div><dt>{name}</dt><dd>{_safe(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="facts">{shown}</dl>'


# --- parts of an attempt's page -------------------------------------------------------------------------------------


def _head(rollout: Rollout, bars: str) -> str:
    t, v = rollout.trajectory, rollout.verdict
    error = f'<p class="error">{_safe(t.error)}</p>' if t.error else ""
    return (
        f'<header class="head"><p class="over">{_safe(rollout.task.repo)} · attempt {_safe(t.attempt)}</p>'
        f"<h1>{_safe(rollout.task.id)}</h1><div class='verdict'>{_badge(v)}<span>{_safe(v.reason)}</span></div>"
        f"{error}{_facts(story.header(rollout))}{bars}</header>"
    )


def _badge(verdict: Verdict) -> str:
    sign = story.SIGNS[verdict.status]
    return f'<span class="badge {verdict.status.replace(" ", "-")}">{sign} {_safe(verdict.status)}</span>'


def _bar(steps: Sequence[Step], kinds: Sequence[Kind]) -> tuple[str, str]:
    """Return a strip whose pieces are as long as the steps took, and the style rules of their lengths."""
    if not steps:
        return "", ""
    spent = [story.spent(step) for step in steps]
    pieces = "".join(f'<a id="b{n}" class="{kind} of-{kind}" href="#step-{n}"></a>' for n, kind in enumerate(kinds))
    rules = "".join(f"#b{n}{{flex-grow:{max(share, 0.001):.3f}}}" for n, share in enumerate(_shares(spent)))
    return f'<div class="bar" aria-hidden="true">{pieces}</div>', rules


def _shares(values: Sequence[float]) -> list[float]:
    total = sum(values) or 1.0
    return [100 * value / total for value in values]


def _rail(steps: Sequence[Step], kinds: Sequence[Kind]) -> str:
    counts = [(kind, kinds.count(kind)) for kind in Kind if kind in kinds]
    filters = _filters("Show steps that", [(k.value, f"{k} {n}", k.value) for k, n in counts]) if counts else ""
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


def _filters(legend: str, boxes: Iterable[tuple[str, str, str]]) -> str:
    """Return checkboxes that hide rows by style rules alone: (name, label, class)."""
    inner = "".join(
        f'<label class="{style}"><input type="checkbox" id="f-{name}" checked>{label}</label>'
        for name, label, style in boxes
    )
    return f'<fieldset class="filters"><legend>{legend}</legend>{inner}</fieldset>'


def _rail_row(number: int, step: Step, kind: Kind) -> str:
    style = "failed" if story.went_wrong(step) else ""
    return (
        f'<li class="of-{kind}"><a href="#step-{number}" class="{style}"><span class="n">{number}</span>'
        f'<span class="dot {kind}" role="img" aria-label="{kind}"></span><span class="what">{_safe(story.heading(step))}</span>'
        f'<span class="t">{story.seconds(story.spent(step))}</span></a></li>'
    )


def _step(number: int, step: Step, kind: Kind, diff: str, packs: list[str] | None) -> str:
    endings = "".join(f'<span class="chip {style}">{_safe(words)}</span>' for style, words in story.endings(step))
    aside = " · ".join(map(_safe, story.asides(step)))
    return (
        f'<article class="step of-{kind}" id="step-{number}" data-kind="{kind}" tabindex="-1" '
        f'aria-labelledby="title-{number}"><header class="{kind}"><h3 id="title-{number}">Step {number}</h3>'
        f'<span class="chip {kind}">{kind}</span>{endings}<span class="aside">{aside}</span></header>'
        f'<div class="inside">{_said(step)}{_called(step)}{_seen(step, packs)}{_changed(diff)}</div></article>'
    )


def _said(step: Step) -> str:
    label, text = story.said(step)
    return (f'<span class="label">{label}</span>' if label else "") + (
        _long(text, "" if label else "said") if text else ""
    )


def _called(step: Step) -> str:
    call = story.called(step)
    if not call.label:
        return ""
    if call.form == "diff":
        drawn = _coloured(story.edit_lines(step.arguments), 40)
    else:
        drawn = _long(call.text, "prompt" if call.form == "prompt" else "") if call.text else ""
    return f'<span class="label">{_safe(call.label)}</span>{drawn}'


def _seen(step: Step, packs: list[str] | None) -> str:
    if not step.observation:
        return '<span class="label">no observation</span>'
    return '<span class="label">observation</span>' + _long(step.observation, packs=packs)


def _changed(diff: str) -> str:
    if not diff:
        return ""
    summary = f"what it changed: {_counted(diff.count(chr(10)), 'line')}"
    return f"<details class='changed'><summary>{summary}</summary>{_coloured(list(story.signed(diff)), 200)}</details>"


def _opening(rollout: Rollout) -> str:
    said = "\n\n".join(f"[{m.get('role', '')}]\n{m.get('content', '')}" for m in rollout.trajectory.opening)
    return f"<details><summary>What the policy was told at the start</summary>{_pre(said)}</details>" if said else ""


# --- patches and tests ----------------------------------------------------------------------------------------------


def _patches(rollout: Rollout) -> str:
    ours, gold = rollout.trajectory.patch, rollout.task.gold_patch
    same = "<p>The attempt's patch is the gold patch to the letter.</p>" if ours and ours == gold else ""
    return (
        f'<section id="patch"><h2>Patch</h2>{same}<div class="sides">'
        f'<div class="side"><h3>This attempt</h3>{_diff(ours)}</div>'
        f'<div class="side"><h3>Gold</h3>{_diff(gold)}</div></div></section>'
    )


def _diff(patch: str) -> str:
    if not patch.strip():
        return "<p>Empty: no file was changed.</p>"
    return _coloured(list(story.signed(patch)), 400)


def _coloured(lines: Sequence[tuple[str, str]], shown: int) -> str:
    def block(part: Sequence[tuple[str, str]]) -> str:
        spans = "".join(f'<span class="{style}">{_safe(line)}</span>' for style, line in part[:_COLOURED_LINES])
        plain = "\n".join(line for _, line in part[_COLOURED_LINES:])
        return f'<pre class="diff">{spans}{_safe(plain)}</pre>'

    if len(lines) <= shown + 6:
        return block(lines)
    more = f"{len(lines)} lines in all: show the rest"
    return f"{block(lines[:shown])}<details class='rest'><summary>{more}</summary>{block(lines[shown:])}</details>"


def _tests(rollout: Rollout) -> str:
    notes = "".join(f"<p>{_safe(note)}</p>" for note in rollout.verdict.notes)
    groups = "".join(_test_group(group) for group in story.test_groups(rollout))
    return f'<section id="tests"><h2>Tests</h2>{notes}{groups}</section>'


def _test_group(group: TestGroup) -> str:
    """Return one set of tests: those that fail in sight, the passing ones folded when they are many."""
    summary = f"<summary>{_counted(len(group.others), 'test')}</summary>"
    opened = "" if len(group.others) > 12 else " open"
    folded = f"<details{opened}>{summary}{_outcomes(group.others)}</details>" if group.others else ""
    return f"<h3>{group.title}</h3>{_outcomes(group.failing) if group.failing else ''}{folded}"


def _outcomes(rows: Iterable[tuple[str, str, str]]) -> str:
    drawn = "".join(
        f'<tr><td class="id">{_safe(test)}</td><td class="{style}">{_safe(outcome)}</td></tr>'
        for test, outcome, style in rows
    )
    return f'<div class="tables"><table class="outcomes"><tbody>{drawn}</tbody></table></div>'


def _log(verdict: Verdict) -> str:
    log = f"<details><summary>{len(verdict.log):,} characters</summary>{_pre(verdict.log)}</details>"
    return f'<section id="log"><h2>Test log</h2>{log if verdict.log else "<p>There is none.</p>"}</section>'


# --- parts of the index ---------------------------------------------------------------------------------------------


def _summary(rollouts: Sequence[Rollout]) -> str:
    policies: dict[str, list[str]] = {}
    for rollout in rollouts:
        policies.setdefault(rollout.trajectory.policy, []).append(rollout.verdict.status)
    columns = ("policy", "attempts", "resolved", "unresolved", "not graded", "resolved rate")
    head = "".join(f'<th scope="col"{_numeric(name)}>{name}</th>' for name in columns)
    rows = []
    for policy, statuses in policies.items():
        counts = [statuses.count(status) for status in ("resolved", "unresolved", "not graded")]
        cells = "".join(f'<td class="num">{count}</td>' for count in (len(statuses), *counts))
        share = counts[0] / len(statuses)
        meter = f'<meter min="0" max="1" value="{share:.3f}">{share:.0%}</meter> {share:.0%}'
        rows.append(f'<tr><th scope="row">{_safe(policy)}</th>{cells}<td class="num">{meter}</td></tr>')
    return f"<table><caption>Policies</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _numeric(column: str) -> str:
    named = {
        "attempt",
        "attempts",
        "reward",
        "steps",
        "seconds",
        "resolved",
        "unresolved",
        "not graded",
        "resolved rate",
    }
    return ' class="num"' if column in named else ""


def _index_row(rollout: Rollout, link: str) -> str:
    t, v = rollout.trajectory, rollout.verdict
    reward = "" if rollout.reward is None else f"{rollout.reward:g}"
    why = v.reason.strip().split("\n")[-1][:160]
    return (
        f'<tr class="of-{v.status.replace(" ", "-")}"><td class="id"><a href="{_safe(quote(link, errors="replace"))}">'
        f'{_safe(rollout.task.id)}</a></td><td>{_safe(t.policy)}</td><td class="num">{_safe(t.attempt)}</td>'
        f'<td>{_badge(v)}</td><td class="num">{reward}</td><td>{_safe(t.stop)}</td><td class="num">{len(t.steps)}</td>'
        f'<td class="num">{t.seconds:.1f}</td><td>{_safe(why)}</td></tr>'
    )


# --- the document ---------------------------------------------------------------------------------------------------

_KEYS = story.KEYS | {"i, p, t": "issue, patch, tests", "?": "this list", "Esc": "close it"}
_HELP = (
    '<dialog id="help" aria-label="Keys"><h2>Keys</h2><table><tbody>'
    + "".join(f"<tr><td><kbd>{key}</kbd></td><td>{what}</td></tr>" for key, what in _KEYS.items())
    + '</tbody></table><form method="dialog"><button>Close</button></form></dialog>'
)


def _document(title: str, body: str, styles: str = "", stored: str = "") -> str:
    """Return a whole document that allows its own style and script, by their hashes, and nothing else.

    Args:
        title: Of the document.
        body: What it shows.
        styles: Rules of its own.
        stored: Data for the script, which does not wait for it.
    """
    style = _asset("page.css") + styles
    script = _asset("page.js") if body.endswith(_HELP) else ""
    allowed = f"script-src {_hash(script)}" if script else "script-src 'none'"
    policy = f"default-src 'none'; style-src {_hash(style)}; {allowed}; base-uri 'none'; form-action 'none'"
    code = f"<script>{script}</script>" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{style}</style></head>\n<body>{body}{code}{stored}</body></html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    return resources.files("swebench_lab").joinpath("bundled", "assets", name).read_text("utf-8")
