"""The index of many attempts and the comparison of two collections, as static pages that link to each attempt's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from swebench_lab._files import LONGEST_NAME, safe_name
from swebench_lab.viewer.blocks import badge, filter_boxes, safe
from swebench_lab.viewer.document import document

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout

_UNSAFE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def index_page(rollouts: Iterable[Rollout], links: Sequence[str]) -> str:
    """Return one self-contained HTML page that lists attempts and links to the page of each.

    Args:
        rollouts: The attempts, in order.
        links: For each attempt the address of its page, relative to this one.

    Returns:
        A whole HTML document.
    """
    attempts = list(rollouts)
    rows = "".join(_index_row(rollout, link) for rollout, link in zip(attempts, links, strict=True))
    columns = ("task", "policy", "attempt", "verdict", "reward", "stop", "steps", "seconds", "why")
    head = "".join(f'<th scope="col"{_numeric(name)}>{name}</th>' for name in columns)
    filters = filter_boxes("Show", [(s.replace(" ", "-"), s, "") for s in ("resolved", "unresolved", "not graded")])
    body = (
        f'<header class="head"><p class="over">swebench_lab</p><h1>{len(attempts)} attempts</h1></header>'
        f'<main class="sheet"><section>{_summary(attempts)}</section><section>{filters}<div class="tables"><table>'
        f"<caption>Attempts</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section></main>"
    )
    return document(f"{len(attempts)} attempts", body)


def write_pages(rollouts: Iterable[Rollout], folder: str | Path, progress: bool = True) -> Path:
    """Write the page of every attempt to `folder/<policy>/<task>-<attempt>.html`, and an index beside them.

    Args:
        rollouts: The attempts.
        folder: Target folder, made if missing; existing pages of the same attempts are overwritten.
        progress: Whether a bar is shown where it takes more than five seconds.

    Returns:
        Path of `index.html`.
    """
    from tqdm.auto import tqdm

    attempts = list(rollouts)
    target = Path(folder)
    links = page_names(attempts)
    pairs = tqdm(zip(attempts, links, strict=True), "pages", len(attempts), delay=5, disable=not progress)
    for rollout, link in pairs:
        rollout.to_html(target / link)
    index = target / "index.html"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(index_page(attempts, links), "utf-8")
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
    """Return one self-contained page that compares two collections task by task.

    Args:
        names: What the two are called.
        rows: A task, how its outcome changed, and for each side its attempts with the addresses of their pages.
        counts: Number of tasks of each change.

    Returns:
        A whole HTML document.
    """
    entries = "".join(
        f'<tr><td class="id">{safe(task)}</td><td>{safe(change)}</td>'
        + "".join(f"<td>{' '.join(_badge_link(*attempt) for attempt in side)}</td>" for side in sides)
        + "</tr>"
        for task, change, sides in rows
    )
    head = "".join(f'<th scope="col">{safe(name)}</th>' for name in ("task", "change", *names))
    totals = " · ".join(f"{number} {change}" for change, number in counts.items() if number)
    body = (
        f'<header class="head"><p class="over">swebench_lab</p><h1>{safe(" → ".join(names))}</h1><p>{safe(totals)}</p>'
        f'</header><main class="sheet"><section><div class="tables"><table><caption>Tasks</caption><thead><tr>{head}'
        f"</tr></thead><tbody>{entries}</tbody></table></div></section></main>"
    )
    return document(" → ".join(names), body)


def _badge_link(rollout: Rollout, link: str) -> str:
    return f'<a href="{safe(quote(link, errors="replace"))}">{badge(rollout.verdict)}</a>'


def _page_name(rollout: Rollout, existing: Sequence[str]) -> str:
    """Return a relative path of harmless characters, with a digest of the attempt's key where two would collide."""
    t = rollout.trajectory
    folder = _UNSAFE_NAME.sub("_", t.policy).strip(".") or "attempts"
    page = _UNSAFE_NAME.sub("_", rollout.task.id).lstrip(".")
    name = f"{folder}/{page if len(page.encode()) <= LONGEST_NAME else safe_name(rollout.task.id)}-{t.attempt}"
    if f"{name}.html" in existing:
        name += "-" + hashlib.sha256(repr(rollout.key).encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name}.html"


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
        rows.append(f'<tr><th scope="row">{safe(policy)}</th>{cells}<td class="num">{meter}</td></tr>')
    return f"<table><caption>Policies</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _numeric(column: str) -> str:
    columns = {
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
    return ' class="num"' if column in columns else ""


def _index_row(rollout: Rollout, link: str) -> str:
    t, v = rollout.trajectory, rollout.verdict
    reward = "" if rollout.reward is None else f"{rollout.reward:g}"
    why = v.reason.strip().split("\n")[-1][:160]
    return (
        f'<tr class="of-{v.status.replace(" ", "-")}"><td class="id"><a href="{safe(quote(link, errors="replace"))}">'
        f'{safe(rollout.task.id)}</a></td><td>{safe(t.policy)}</td><td class="num">{safe(t.attempt)}</td>'
        f'<td>{badge(v)}</td><td class="num">{reward}</td><td>{safe(t.stop)}</td><td class="num">{len(t.steps)}</td>'
        f'<td class="num">{t.seconds:.1f}</td><td>{safe(why)}</td></tr>'
    )
