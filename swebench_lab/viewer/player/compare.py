"""CompareView and Gallery: two collections side by side (tasks gained and lost, attempts of a task), and one at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED
from swebench_lab.viewer import story

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.viewer.player.stepper import Stepper

GAINED, LOST, KEPT, NEVER, UNKNOWN = "gained", "lost", "kept", "never", "not graded"
"""How a task's outcome changed: resolved by B only, by A only, by both, by neither; one side has no graded attempt."""

_COLOURS = {RESOLVED: "#1a7f37", UNRESOLVED: "#c1121f", NOT_GRADED: "#8a5a00"}
_CELL = "padding:2px 8px 2px 0;text-align:left;vertical-align:top"


class CompareView:
    """Changes from one set of attempts to another, task by task.

    A task counts as resolved on a side when at least half of its graded attempts are; `frame` has the shares themselves.
    The statistics of the difference are those of `lab.compare(a, b)`, which are also shown.

    Args:
        a: Attempts before; several at a task are fine.
        b: Attempts after.
        sandboxes: Opens live sandboxes of players opened from here.
        names: Names of the two sides.

    Raises:
        RecordError: They have no task in common.
    """

    def __init__(
        self,
        a: Rollouts,
        b: Rollouts,
        sandboxes: SandboxFactory | None = None,
        names: tuple[str, str] = ("", ""),
    ) -> None:
        self.a, self.b, self.sandboxes = a, b, sandboxes
        self.names = (names[0] or a.name or "A", names[1] or b.name or "B")
        if self.names[0] == self.names[1]:
            self.names = (f"{self.names[0]} (A)", f"{self.names[1]} (B)")
        before, after = a.by_task(), b.by_task()
        self._pairs = {task: (before[task], after[task]) for task in before if task in after}
        self.only = (sorted(set(before) - set(after)), sorted(set(after) - set(before)))
        """Ids of the tasks that only one side attempted: they are not compared."""
        if not self._pairs:
            raise RecordError(f"comparing {self.names[0]} and {self.names[1]}: they have no task in common")

    def __len__(self) -> int:
        """Return the number of tasks that both attempted."""
        return len(self._pairs)

    def change(self, task: str) -> str:
        """Return how a task's outcome changed: `gained`, `lost`, `kept`, `never` or `not graded`."""
        was, now = (_share(side) for side in self._pairs[task])
        if was is None or now is None:
            return UNKNOWN
        return {(False, True): GAINED, (True, False): LOST, (True, True): KEPT, (False, False): NEVER}[
            was >= 0.5, now >= 0.5
        ]

    def tasks(self, change: str) -> list[str]:
        """Return the ids of the tasks of one change, in the order of A's attempts."""
        return [task for task in self._pairs if self.change(task) == change]

    @property
    def gained(self) -> list[str]:
        """Tasks that B resolves and A does not."""
        return self.tasks(GAINED)

    @property
    def lost(self) -> list[str]:
        """Tasks that A resolves and B does not."""
        return self.tasks(LOST)

    @property
    def counts(self) -> dict[str, int]:
        """Number of tasks per change."""
        return {change: len(self.tasks(change)) for change in (GAINED, LOST, KEPT, NEVER, UNKNOWN)}

    @property
    def frame(self) -> pl.DataFrame:
        """One row per task: its change, and each side's resolved share, attempts and mean steps."""
        import polars as pl

        rows = []
        for task, (was, now) in self._pairs.items():
            sides = {
                f"{name}_{what}": value
                for name, side in (("a", was), ("b", now))
                for what, value in (("resolved", _share(side)), ("attempts", len(side)), ("steps", _steps(side)))
            }
            rows.append({"task": task, "change": self.change(task), **sides})
        kinds = {"resolved": pl.Float64, "attempts": pl.Int64, "steps": pl.Float64}
        schema: dict[str, Any] = {"task": pl.String, "change": pl.String}
        schema |= {f"{name}_{what}": kind for name in "ab" for what, kind in kinds.items()}
        return pl.DataFrame(rows, schema=schema)

    def step(self, task: str, side: str = "b", attempt: int = 0, **options: Any) -> Stepper:
        """Open the player on one attempt: the n-th of a task on side `"a"` or `"b"`."""
        from swebench_lab.viewer.player.stepper import Stepper

        return Stepper(self._pairs[task]["ab".index(side)][attempt], self.sandboxes, **options)

    def side_by_side(self, task: str) -> Table:
        """Return all attempts at one task, A's and B's in columns."""
        sides = self._pairs[task]
        rows = [
            [_attempt_cell(side[number]) if number < len(side) else "" for side in sides]
            for number in range(max(map(len, sides)))
        ]
        return Table(f"{task}: {self.change(task)}", self.names, rows)

    def write(self, folder: str | Path) -> Path:
        """Write both sides' pages and a comparison whose cells link to them; returns the path of `index.html`."""
        from swebench_lab.viewer.index import compared_page, page_names, write_pages

        target = Path(folder)
        links: list[dict[tuple[Any, ...], str]] = []
        for name, side in zip("ab", (self.a, self.b), strict=True):
            write_pages(side, target / name)
            pages = page_names(side)
            links.append({r.key: f"{name}/{link}" for r, link in zip(side, pages, strict=True)})
        order = [(change, task) for change in (GAINED, LOST, UNKNOWN, NEVER, KEPT) for task in self.tasks(change)]
        rows = [
            (task, change, [[(r, links[n][r.key]) for r in side] for n, side in enumerate(self._pairs[task])])
            for change, task in order
        ]
        html = compared_page(self.names, rows, self.counts)
        index = target / "index.html"
        index.write_text(html, "utf-8")
        return index

    def __repr__(self) -> str:
        """Return one line: how many tasks were gained, lost, kept, never resolved."""
        summary = ", ".join(f"{number} {change}" for change, number in self.counts.items() if number)
        return f"CompareView({self.names[0]!r} → {self.names[1]!r}, {len(self)} tasks: {summary})"

    def _repr_html_(self) -> str:
        from swebench_lab.records.tables.statistics import compare

        tables = []
        for change in (GAINED, LOST, UNKNOWN, NEVER, KEPT):
            tasks = self.tasks(change)
            if tasks:
                rows = [[f"<code>{_html.text(task)}</code>", *map(_strip, self._pairs[task])] for task in tasks]
                content = Table("", ("task", *self.names), rows)._repr_html_()
                attribute = " open" if change in (GAINED, LOST) else ""
                tables.append(
                    f"<details{attribute}><summary><b>{change}</b>: {len(tasks)}</summary>{content}</details>"
                )
        left = [
            f"{len(ids)} attempted by {_html.text(n)} only" for ids, n in zip(self.only, self.names, strict=True) if ids
        ]
        note = f"<div><small>not compared: {', '.join(left)}</small></div>" if left else ""
        summary = compare(self.a, self.b, names=self.names)._repr_html_()
        return _html.card(repr(self), summary + "".join(tables) + note)


class Gallery:
    """A collection at a glance: one row per task, one sign per attempt for its verdict.

    Args:
        rollouts: The attempts.
        sandboxes: Opens live sandboxes of players opened from here.
    """

    def __init__(self, rollouts: Rollouts, sandboxes: SandboxFactory | None = None) -> None:
        self.rollouts, self.sandboxes = rollouts, sandboxes

    @property
    def frame(self) -> pl.DataFrame:
        """One row per task, one column per attempt, the status in it; null where there is none."""
        import polars as pl

        groups = self.rollouts.by_task()
        most = max(map(len, groups.values()), default=0)
        rows = [
            {"task": task, **{str(n): side[n].verdict.status if n < len(side) else None for n in range(most)}}
            for task, side in groups.items()
        ]
        return pl.DataFrame(rows, schema={"task": pl.String, **{str(n): pl.String for n in range(most)}})

    def step(self, task: str, attempt: int = 0, **options: Any) -> Stepper:
        """Open the player on the n-th attempt at a task."""
        from swebench_lab.viewer.player.stepper import Stepper

        return Stepper(self.rollouts.by_task()[task][attempt], self.sandboxes, **options)

    def write(self, folder: str | Path) -> Path:
        """Write a page for each attempt and an index that links them; returns the path of `index.html`."""
        from swebench_lab.viewer.index import write_pages

        return write_pages(self.rollouts, folder)

    def __repr__(self) -> str:
        """Return one line: what is in it."""
        return f"Gallery({self.rollouts!r})"

    def _repr_html_(self) -> str:
        groups = self.rollouts.by_task()
        rows = [
            [f"<code>{_html.text(task)}</code>", _strip(side), f"{len(side.resolved)}/{len(side)}"]
            for task, side in groups.items()
        ]
        return _html.card(repr(self), Table("", ("task", "attempts", "resolved"), rows)._repr_html_())


class Table:
    """A small table that a notebook shows.

    Args:
        title: Its heading.
        columns: Names of the columns.
        rows: Cells as safe HTML.
    """

    def __init__(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.title, self.columns, self.rows = title, tuple(columns), rows

    def __repr__(self) -> str:
        """Return one line: the title and the size."""
        return f"Table({self.title!r}, {len(self.rows)} rows)"

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{_CELL}">{_html.text(name)}</th>' for name in self.columns)
        body = "".join("<tr>" + "".join(f'<td style="{_CELL}">{c}</td>' for c in row) + "</tr>" for row in self.rows)
        title = f"<div><b>{_html.text(self.title)}</b></div>" if self.title else ""
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _share(side: Rollouts) -> float | None:
    """Return the share of resolved among the graded attempts; None when none was graded."""
    return len(side.resolved) / len(side.graded) if len(side.graded) else None


def _steps(side: Rollouts) -> float:
    return sum(len(r.trajectory.steps) for r in side) / len(side)


def _strip(side: Rollouts) -> str:
    """Return one sign per attempt, distinguished by shape, colour and words."""
    signs = []
    for rollout in side:
        t, status = rollout.trajectory, rollout.verdict.status
        words = escape(
            _html.plain(f"attempt {t.attempt}, {t.policy}: {status}, {len(t.steps)} steps, {t.stop}"), quote=True
        )
        signs.append(
            f'<span title="{words}" aria-label="{words}" style="color:{_COLOURS[status]};font-weight:700">'
            f"{story.SIGNS[status]}</span>"
        )
    return " ".join(signs)


def _attempt_cell(rollout: Rollout) -> str:
    facts: Mapping[str, str] = story.header(rollout)
    words = ", ".join(f"{name} {facts[name]}" for name in ("steps", "stop", "wall time") if name in facts)
    patch = rollout.trajectory.patch
    count = sum(line[:1] in "+-" and line[:3] not in ("+++", "---") for line in patch.split("\n"))
    return (
        f"{_strip(Rollouts([rollout]))} attempt {rollout.trajectory.attempt}: {_html.text(words)}, {count} changed lines"
        f"{_html.folded('patch', patch)}{_html.note(rollout.verdict.reason)}"
    )
