"""Figures of a report, one for each benchmark: bars on a logarithmic scale, because ratios are large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.benchmarks.report import Headlines, Report, Row, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _OTHERS = "#0072B2", "#B8BCC4"

PANELS: Headlines = {
    "create": [
        *((f"concurrency {n}", "wall") for n in (1, 8, 32, 128)),
        *(("concurrency 1", measure) for measure in ("CPU each", "teardown", "bytes written")),
    ],
    "command": [*((case, "latency") for case in ("echo hi", "/bin/true", "10 MB of output", "100 MB of output"))],
    "fork": [
        *((f"after {n} steps", "checkpoint + fork") for n in (1, 10, 50, 200)),
        ("between steps", "slowest checkpoint (squash)"),
    ],
    "density": [
        ("1024 idle", "live"),
        ("1024 idle", "memory each, first process (PSS)"),
        ("8 mostly idle", "p95"),
        ("128 mostly idle", "p95"),
    ],
    "collect": [
        ("200 attempts, 16 workers", "attempts a minute a core"),
        ("200 attempts, 16 workers", "CPU each attempt"),
    ],
}
"""Benchmark → the (case, measure) pairs that are drawn, one panel each, and told in the README."""


OVERVIEW = (
    ("create", "concurrency 1", "wall"),
    ("create", "concurrency 32", "wall"),
    ("create", "concurrency 128", "wall"),
    ("create", "concurrency 1", "CPU each"),
    ("command", "echo hi", "latency"),
    ("command", "10 MB of output", "latency"),
    ("fork", "after 1 steps", "checkpoint + fork"),
    ("fork", "after 50 steps", "checkpoint + fork"),
    ("fork", "after 200 steps", "checkpoint + fork"),
)
"""What the figure of all benchmarks shows, one panel each."""


def overview(report: Report) -> Figure | None:
    """Return one figure of all benchmarks; None when nothing of them was measured."""
    panels = []
    for benchmark, case, measure in OVERVIEW:
        rows = [r for r in report.rows if (r.benchmark, r.case, r.measure) == (benchmark, case, measure) and r.value]
        if rows:
            panels.append((f"{benchmark}, {case}: {measure}", rows))
    return _panels(panels) if panels else None


def draw(report: Report, benchmark: str) -> Figure | None:
    """Return the figure of a benchmark; None when nothing of it can be drawn."""
    if benchmark == "collect":
        return _memory(report)
    rows = [row for row in report.rows if row.benchmark == benchmark and row.value]
    wanted = PANELS.get(benchmark, ())
    panels = [(pair, [r for r in rows if (r.case, r.measure) == pair]) for pair in wanted]
    panels = [(pair, found) for pair, found in panels if found]
    if not panels:
        panels = [(pair, [r for r in rows if (r.case, r.measure) == pair]) for pair in _pairs(rows)]
    if not panels:
        return None
    return _panels([(f"{case}: {measure}", found) for (case, measure), found in panels])


def _panels(panels: Sequence[tuple[str, Sequence[Row]]]) -> Figure:
    """Draw bars below each other, as high as they have methods."""
    from matplotlib.figure import Figure as Drawn

    heights = [len(found) + 1.6 for _, found in panels]
    figure = Drawn(figsize=(8.0, 0.34 * sum(heights) + 0.3), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for place, (title, found) in zip(axes, panels, strict=True):
        _bars(place, found, title)
    return figure


def _pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.case, row.measure) for row in rows if row.unit == "s"))


def _bars(axes: Axes, rows: Sequence[Row], title: str) -> None:
    """Draw one method a bar, the shortest on top, each with its value and how many times ours that is."""
    ordered = sorted(rows, key=lambda row: row.value or 0.0)
    values = [row.value or 0.0 for row in ordered]
    colours = [_OURS if row.method.startswith("ours") else _OTHERS for row in ordered]
    best = next((row.value for row in ordered if row.method.startswith("ours")), None)
    axes.barh([row.method for row in ordered], values, color=colours, height=0.7)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 12)
    for place, row in enumerate(ordered):
        ratio = f"  ({row.value / best:,.3g}×)" if best and row.value and row.value != best else ""
        axes.text(values[place] * 1.1, place, shown(row.value, row.unit) + ratio, va="center", fontsize=8.5)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    axes.tick_params(axis="x", which="both", labelbottom=False, length=0)


def _memory(report: Report) -> Figure | None:
    """Draw the memory of a collection over time."""
    points = report.series.get("collect memory")
    if not points:
        return None
    from matplotlib.figure import Figure as Drawn

    figure = Drawn(figsize=(8.0, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([at for at, _ in points], [value / 1e6 for _, value in points], color=_OURS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("MB of the collecting process")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure
