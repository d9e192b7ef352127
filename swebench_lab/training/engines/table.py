"""Updates: what each update of a training run did, kept as it goes, as a frame and as a figure."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.records.tables.statistics import wilson
from swebench_lab.training.engines.batches import REASONS, Sample, masked_counts

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure


class Updates:
    """Rows about updates, in memory and in a file of the run.

    Args:
        file: Where rows are kept, one JSON object a line; what is there is read. None: in memory only.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._rows: dict[int, dict[str, Any]] = {}
        if file is not None and file.is_file():
            for line in file.read_text("utf-8").splitlines():
                row = json.loads(line)
                self._rows[row["update"]] = {**self._rows.get(row["update"], {}), **row}

    def note(self, update: int, values: Mapping[str, Any]) -> None:
        """Add values of an update; a later value of the same name replaces the earlier."""
        row = {"update": update, **values}
        self._rows[update] = {**self._rows.get(update, {}), **row}
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")

    def __len__(self) -> int:
        return len(self._rows)

    def to_frame(self) -> pl.DataFrame:
        """Return one row an update."""
        import polars as pl

        return pl.DataFrame([self._rows[n] for n in sorted(self._rows)], infer_schema_length=None)

    def figure(self) -> Figure:
        """Return four small plots: reward, resolved rate with its interval, entropy, and where the time went."""
        from matplotlib.figure import Figure

        rows = [self._rows[n] for n in sorted(self._rows)]
        drawn = Figure(figsize=(11, 6), layout="constrained")
        axes = drawn.subplots(2, 2).ravel()
        for axis, names, title in zip(axes, _PANELS.values(), _PANELS, strict=True):
            for name in names:
                points = [(row["update"], row[name]) for row in rows if row.get(name) is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), label=name.replace("_", " "), linewidth=1)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("update")
            if axis.lines:
                axis.legend(fontsize=7)
        bounds = [
            (r["update"], r["resolved_low"], r["resolved_high"]) for r in rows if r.get("resolved_low") is not None
        ]
        if bounds:
            axes[1].fill_between(*zip(*bounds, strict=True), alpha=0.2)
        return drawn

    def __repr__(self) -> str:
        return f"Updates({len(self)} updates)"

    def _repr_html_(self) -> str:
        frame = self.to_frame().tail(10)
        columns = [name for name in _SHOWN if name in frame.columns]
        rows = [[_brief(v) for v in row] for row in frame.select(columns).iter_rows()]
        return _html.card(repr(self), _html.table(columns, rows))


_PANELS: Mapping[str, tuple[str, ...]] = {
    "reward": ("reward", "reward_spread"),
    "resolved rate, with its 95 % interval": ("resolved",),
    "entropy and logprob gap": ("entropy", "logprob_gap"),
    "seconds": ("sampling_seconds", "train_seconds", "idle_seconds", "update_seconds"),
}
_SHOWN = ("update", "reward", "resolved", "reward_spread", "infrastructure error", "steps", "tokens", "entropy", "logprob_gap",
          "ratio", "kl", "clip_rate", "staleness", "update_seconds", "idle_seconds")  # fmt: skip


def _brief(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def about(groups: Sequence[Sequence[Sample]], seconds: float) -> dict[str, Any]:
    """Return what an update's attempts were like.

    Args:
        groups: The samples, by task.
        seconds: Wall time from the first attempt's start to the last verdict.
    """
    every = [sample for group in groups for sample in group]
    rewards = [s.reward for s in every if s.reward is not None]
    spreads = [statistics.stdev(values) for values in map(_rewards, groups) if len(values) > 1]
    graded = [s.rollout for s in every if s.rollout.verdict.graded]
    good = sum(r.verdict.resolved for r in graded)
    rate = wilson(good, len(graded))
    trajectories = [s.rollout.trajectory for s in every]
    stops = Counter(t.stop for t in trajectories)
    model = sum(step.reply.seconds for t in trajectories for step in t.steps)
    tool = sum(step.seconds for t in trajectories for step in t.steps)
    return {
        "attempts": len(every),
        "reward": _mean(rewards),
        "reward_spread": _mean(spreads),
        "resolved": float(rate) if graded else None,
        "resolved_low": rate.low if graded else None,
        "resolved_high": rate.high if graded else None,
        **{reason: masked_counts(every)[reason] for reason in REASONS},
        "steps": _mean([len(t.steps) for t in trajectories]),
        "tokens": _mean([sum(part.sampled for part in s.segments) for s in every]),
        "row_tokens": _mean([sum(map(len, s.segments)) for s in every]),
        **{f"stop_{name}": count for name, count in sorted(stops.items())},
        "model_seconds": model,
        "tool_seconds": tool,
        "sandbox_seconds": sum(t.seconds for t in trajectories) - model - tool,
        "grading_seconds": sum(s.rollout.verdict.seconds for s in every),
        "rollout_seconds": seconds,
    }


def _rewards(group: Sequence[Sample]) -> list[float]:
    return [sample.reward for sample in group if sample.reward is not None]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
