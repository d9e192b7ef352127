"""Figures of attempts: what came out, where, after how many steps, and when.

Every function returns a matplotlib Figure and shows nothing. The figures are plain objects, never pyplot's: they may be
made in a widget's handler while a cell runs, and none of them is left open. A notebook shows the one a cell ends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from math import isfinite
from typing import TYPE_CHECKING, Any

from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure as _Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from swebench_lab.experiments.effects import Effect
from swebench_lab.records.rollout import Rollouts
from swebench_lab.records.step_kind import Kind, kind_of
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, STATUSES, UNRESOLVED

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which stays apart for the colour-blind.
_STATUS = {RESOLVED: "#009E73", UNRESOLVED: "#D55E00", NOT_GRADED: "#999999"}
_KIND = {
    Kind.READ: "#56B4E9",
    Kind.RUN: "#E69F00",
    Kind.EDIT: "#CC79A7",
    Kind.SUBMIT: "#009E73",
    Kind.MALFORMED: "#D55E00",
}
_SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


class Figure(_Figure):
    """A matplotlib Figure that a notebook shows without pyplot having been imported."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=110, bbox_inches="tight")
        return file.getvalue()


def outcomes(**rollouts: Rollouts) -> Figure:
    """Draw how many attempts of each collection are resolved, unresolved and not graded.

    Args:
        **rollouts: Name on the axis → collection.

    Returns:
        Stacked bars, beside each `pass_at(1)` over its tasks with the 95 % bootstrap interval.

    Raises:
        ValueError: No collection was given.
    """
    _some(rollouts)
    figure, axes = _figure(7.5, 1.1 + 0.55 * len(rollouts))
    names = list(rollouts)
    left = [0] * len(names)
    for status in STATUSES:
        counts = [rollouts[name].counts[status] for name in names]
        bars = axes.barh(names, counts, left=left, color=_STATUS[status], label=status, height=0.62)
        axes.bar_label(
            bars, [str(c) if c else "" for c in counts], label_type="center", color="white", fontweight="bold"
        )
        left = [before + count for before, count in zip(left, counts, strict=True)]
    for row, name in enumerate(names):
        axes.text(left[row], row, f"  {_rate(rollouts[name])}", va="center")
    axes.set_xlim(0, max([*left, 1]) * 1.45)
    axes.set_xticks([tick for tick in MaxNLocator(integer=True).tick_values(0, max(left)) if tick <= max(left)])
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set_xlabel("attempts")
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return figure


def _rate(rollouts: Rollouts) -> str:
    estimate = rollouts.pass_at(1)
    if not estimate.n:
        return "no graded attempt"
    return f"pass@1 {estimate:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def resolved_by_repo(**rollouts: Rollouts) -> Figure:
    """Draw the resolved rate of each repository, with an interval over its tasks.

    Args:
        **rollouts: Name in the legend → collection.

    Returns:
        One row a repository, one point a collection: `pass_at(1)` with its 95 % bootstrap interval.

    Raises:
        ValueError: No collection was given.
    """
    _some(rollouts)
    repos = sorted({r.task.repo for group in rollouts.values() for r in group})
    figure, axes = _figure(7.5, 1.4 + len(repos) * (0.22 + 0.14 * len(rollouts)))
    for series, (name, group) in enumerate(rollouts.items()):
        rows, values, below, above = [], [], [], []
        for row, repo in enumerate(repos):
            estimate = group.filter(lambda r, repo=repo: r.task.repo == repo).pass_at(1)  # type: ignore[misc]
            if estimate.n:
                rows.append(row + 0.6 * ((series + 1) / (len(rollouts) + 1) - 0.5))
                values.append(float(estimate))
                below.append(max(estimate - estimate.low, 0.0))
                above.append(max(estimate.high - estimate, 0.0))
        colour = _SERIES[series % len(_SERIES)]
        axes.errorbar(values, rows, xerr=[below, above], fmt="o", color=colour, label=name, capsize=3, markersize=5)
    axes.set_yticks(range(len(repos)), repos)
    axes.set_ylim(len(repos) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("resolved rate, 95 % interval over tasks")
    figure.legend(loc="outside upper left", ncols=4, frameon=False)
    return figure


_CERTIFIED = {"passed": "#009E73", "failed": "#D55E00", "flaky": "#E69F00", "timeout": "#CC79A7",
              "build failed": "#0072B2", "not graded": "#999999"}  # fmt: skip


def certificates(checked: pl.DataFrame, repos: Mapping[str, str]) -> Figure:
    """Draw what checking tasks showed, by repository.

    Args:
        checked: What `Evaluator.check` returned.
        repos: Task id → repository, `{task.id: task.repo for task in tasks}`.

    Returns:
        Stacked bars of the certificates' statuses.

    Raises:
        ValueError: No task was checked.
    """
    if not checked.height:
        raise ValueError("nothing to draw: no task was checked")
    names = sorted(set(repos.values()))
    figure, axes = _figure(7.5, 1.2 + 0.45 * len(names))
    pairs = [(repos[row["id"]], row["status"]) for row in checked.iter_rows(named=True)]
    left = [0] * len(names)
    for status, colour in _CERTIFIED.items():
        counts = [pairs.count((name, status)) for name in names]
        if any(counts):
            bars = axes.barh(names, counts, left=left, color=colour, label=status, height=0.62)
            axes.bar_label(bars, [str(c) if c else "" for c in counts], label_type="center", color="white")
        left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.set_xlabel("tasks")
    figure.legend(loc="outside upper left", ncols=4, frameon=False)
    return figure


def rates(table: pl.DataFrame) -> Figure:
    """Draw the resolved rates of a table that `Verdicts.table` made.

    Args:
        table: One row a group: its name, `tasks`, `graded`, `resolved`, `of_all`, `of_graded`, `low`, `high`.

    Returns:
        One row a group: the rate over graded predictions with its 95 % interval, and the rate over all tasks.

    Raises:
        ValueError: The table is empty.
    """
    if not table.height:
        raise ValueError("nothing to draw: the table has no row")
    figure, axes = _figure(7.5, 1.3 + 0.38 * table.height)
    for at, row in enumerate(table.iter_rows()):
        _, tasks, _, graded, resolved, of_all, of_graded, low, high = row
        if graded:
            reach = [[max(of_graded - low, 0.0)], [max(high - of_graded, 0.0)]]
            axes.errorbar([of_graded], [at], xerr=reach, fmt="o", color=_SERIES[0], capsize=3, markersize=5)
        axes.plot([of_all], [at], "|", color=_SERIES[5], markersize=12)
        axes.text(1.05, at, f"{resolved}/{graded} graded of {tasks}", va="center")
    axes.set_yticks(range(table.height), [str(name) for name in table.get_column(table.columns[0])])
    axes.set_ylim(table.height - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("resolved: point, of graded with 95 % interval; bar, of all tasks")
    return figure


def arms(
    values: Mapping[str, Mapping[int, Mapping[str, float]]], differences: Mapping[str, Effect], baseline: str, what: str
) -> Figure:
    """Draw the runs of a sweep's arms, and how much each arm differs from the baseline.

    Args:
        values: Arm → seed → task → what was measured.
        differences: Arm → its effect.
        baseline: The arm the others are compared with.
        what: What was measured, for the axis.

    Returns:
        Left one dot a run and a bar at the arm's mean; right the differences with their intervals, filled where the
        corrected p-value is below 5 %.
    """
    figure = Figure(figsize=(9.0, 1.6 + 0.42 * len(values)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row, (arm, runs) in enumerate(values.items()):
        means = [sum(run.values()) / len(run) for run in runs.values()]
        if means:
            left.plot(means, [row] * len(means), "o", color=_SERIES[0], alpha=0.5, markersize=5)
            left.plot([sum(means) / len(means)], [row], "|", color=_SERIES[0], markersize=16, markeredgewidth=2.5)
        effect = differences.get(arm)
        if effect and isfinite(effect.difference.low):
            d = effect.difference
            face = _SERIES[1] if effect.corrected < 0.05 else "white"
            reach = [[d - d.low], [d.high - d]]
            right.errorbar(
                [d], [row], xerr=reach, fmt="o", color=_SERIES[1], markerfacecolor=face, capsize=3, markersize=6
            )
    left.set_yticks(range(len(values)), [f"{arm} (baseline)" if arm == baseline else arm for arm in values])
    left.invert_yaxis()
    left.set_xlabel(f"{what}: runs and mean")
    right.axvline(0, color="#888888", linewidth=1)
    right.set_xlabel("difference from the baseline, with interval")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(axis="x", alpha=0.25)
    return figure


def steps(rollouts: Rollouts) -> Figure:
    """Draw how long attempts are, in steps, by verdict.

    Args:
        rollouts: One collection.

    Returns:
        A histogram with one bar a number of steps, stacked by verdict.
    """
    figure, axes = _figure(7.5, 3.2)
    lengths = {status: [len(r.trajectory.steps) for r in rollouts if r.verdict.status == status] for status in STATUSES}
    longest = max((length for group in lengths.values() for length in group), default=0)
    width = max(1, -(-(longest + 1) // 40))
    edges = [edge - 0.5 for edge in range(0, longest + 1 + width, width)]
    axes.hist(
        list(lengths.values()),
        bins=edges,
        stacked=True,
        color=[_STATUS[s] for s in lengths],
        label=list(lengths),
        rwidth=0.9,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps")
    axes.set_ylabel("attempts")
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return figure


def timeline(rollouts: Rollouts) -> Figure:
    """Draw when each attempt ran, step by step.

    Args:
        rollouts: One collection, best of one run: times are counted from its first attempt.

    Returns:
        One row an attempt, coloured by the kind of step (tool time) with the policy's time in between in pale grey; the
        dot at the end is the verdict.
    """
    attempts = sorted(rollouts, key=lambda r: r.trajectory.started_at)
    origin = attempts[0].trajectory.started_at if attempts else 0.0
    figure, axes = _figure(9.0, min(1.6 + 0.16 * len(attempts), 12.0))
    for row, rollout in enumerate(attempts):
        t = rollout.trajectory
        start = t.started_at - origin
        axes.broken_barh([(start, t.seconds)], (row - 0.35, 0.7), color="#e4e6ea")
        for kind, colour in _KIND.items():
            axes.broken_barh(_spans(rollout, kind, origin), (row - 0.35, 0.7), color=colour)
        axes.plot([start + t.seconds], [row], "o", color=_STATUS[rollout.verdict.status], markersize=4)
    axes.set_ylim(len(attempts) - 0.3, -0.7)
    axes.set_xlabel("seconds since the first attempt")
    axes.set_ylabel("attempts")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, {**{str(kind): colour for kind, colour in _KIND.items()}, "policy and rest": "#e4e6ea"})
    return figure


_STAGES = {"model": "#0072B2", "tool": "#E69F00", "sandbox": "#009E73", "grade": "#CC79A7", "queue": "#e4e6ea"}


def stages(rollouts: Rollouts) -> Figure:
    """Draw what the time of each attempt went into: the model, tools, the sandbox, grading, or waiting for a turn.

    Args:
        rollouts: One collection, best of one run: times are counted from its first interval.

    Returns:
        Above, one row an attempt, coloured as `rollouts.timeline()` says; below, the sum of each kind over all. The
        sums have a fixed height; rows get thinner where there are more than fit on a page.

    Raises:
        ValueError: No attempt says what its time went into.
    """
    import polars as pl

    frame = rollouts.timeline()
    if not frame.height:
        raise ValueError("nothing to draw: no attempt says what its time went into")
    attempts = frame.group_by("task", "attempt", maintain_order=True).agg(pl.col("start").min())
    rows = {(task, attempt): row for row, (task, attempt, _) in enumerate(attempts.iter_rows())}
    height = min(max(1.2, 0.16 * len(rows)), 11.0)
    figure = Figure(figsize=(9.0, height + _SUMS + 1.1), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[height, _SUMS])
    thick = 0.7 if len(rows) <= 60 else 1.0  # thin rows without gaps, which would be all that is seen
    for kind, colour in _STAGES.items():
        selection = frame.filter(pl.col("kind") == kind).select("task", "attempt", "start", "seconds")
        above.add_collection(_bars(selection.iter_rows(), rows, thick, colour), autolim=False)
    ends = max(frame["start"] + frame["seconds"], default=0.0)
    above.set_xlim(min(0.0, min(frame["start"], default=0.0)), max(ends, 1e-9) * 1.02)
    above.set_ylim(len(rows) - 0.3, -0.7)
    above.set_xlabel("seconds")
    above.set_ylabel("attempts")
    above.yaxis.set_major_locator(MaxNLocator(integer=True))
    sums = [sum(frame.filter(pl.col("kind") == kind)["seconds"].to_list()) for kind in _STAGES]
    bars = below.barh(list(_STAGES), sums, color=list(_STAGES.values()), height=0.7)
    below.bar_label(bars, [f"{value:.1f} s" for value in sums], padding=3)
    below.set_xlim(0, max(sums) * 1.15 or 1)
    below.set_xlabel("seconds over all attempts")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
    below.invert_yaxis()
    _legend(figure, _STAGES)
    return figure


_SUMS = 1.6
"""Inches of the panel with the sums."""


def _bars(
    spans: Iterable[tuple[str, int, float, float]], rows: Mapping[tuple[str, int], int], thick: float, colour: str
) -> PolyCollection:
    """Return all spans of one kind as one collection of rectangles: linear in their number."""
    corners = []
    for task, attempt, start, seconds in spans:
        low, high = rows[task, attempt] - thick / 2, rows[task, attempt] + thick / 2
        corners.append([(start, low), (start + seconds, low), (start + seconds, high), (start, high)])
    return PolyCollection(corners, facecolors=colour, edgecolors="none", antialiaseds=False)


def _spans(rollout: Any, kind: Kind, origin: float) -> list[tuple[float, float]]:
    """Return (start, length) of the tool time of each step of one kind, in seconds."""
    return [
        (step.started_at - origin + step.reply.seconds, step.seconds)
        for step in rollout.trajectory.steps
        if kind_of(step) == kind and step.started_at
    ]


def _legend(figure: Figure, colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of `width` × `height` inches, with quiet axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    return figure, axes


def _some(rollouts: dict[str, Rollouts] | Sequence[Rollouts]) -> None:
    if not rollouts:
        raise ValueError("nothing to draw: give at least one collection by name, e.g. outcomes(teacher=rollouts)")
