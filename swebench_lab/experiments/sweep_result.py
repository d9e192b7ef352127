"""SweepResult: all runs of a sweep, each arm's difference from the baseline, and the verdict on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.experiments.effects import Effect, effects
from swebench_lab.experiments.sweep_worker import COMPLETED
from swebench_lab.records.tables.overview import Overview

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.experiments.plots import Figure

STOPPED, NOT_RUN = "stopped early", "not run"


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One setting under one seed.

    Args:
        arm: Name of the setting: its parameters.
        parameters: The setting.
        seed: The seed.
        folder: Where it ran; a recipe's run directory.
        status: `completed`, `failed`, `stopped early` (the arm could not win any more) or `not run` (the budget was spent).
        value: What was measured; NaN unless completed. The mean over tasks where tasks were measured.
        tasks: Task id to value; empty where a single number was measured.
        seconds: Wall time.
        error: What failed, in a few lines.
    """

    arm: str
    parameters: Mapping[str, Any] = field(hash=False)
    seed: int
    folder: Path
    status: str = NOT_RUN
    value: float = math.nan
    tasks: Mapping[str, float] = field(default_factory=dict, hash=False, repr=False)
    seconds: float = 0.0
    error: str = ""


def without_value(run: SweepRun, status: str) -> SweepRun:
    """Return a run that ended with this status and no value."""
    return SweepRun(run.arm, run.parameters, run.seed, run.folder, status)


def outcome(run: SweepRun) -> SweepRun:
    """Return a run with the outcome that its folder records."""
    try:
        record = json.loads((run.folder / "outcome.json").read_text("utf-8"))
        value = math.nan if record["value"] is None else float(record["value"])
        return SweepRun(
            run.arm,
            run.parameters,
            run.seed,
            run.folder,
            record["status"],
            value,
            record["tasks"],
            record["seconds"],
            record["error"],
        )
    except (OSError, ValueError, KeyError):
        return without_value(run, NOT_RUN)  # it has not run, or was killed while it did


@dataclass(frozen=True)
class SweepResult:
    """All runs of a sweep, and the verdict on each arm.

    Args:
        name: The recipe or function.
        runs: Every run, arm by arm, seed by seed.
        baseline: Name of the arm that the others are compared with.
        what: What was measured.
        level: Coverage of intervals; an arm differs where its corrected p-value is below `1 - level`.
    """

    name: str
    runs: tuple[SweepRun, ...]
    baseline: str
    what: str
    level: float = 0.95

    @property
    def arms(self) -> dict[str, dict[int, Mapping[str, float]]]:
        """Name of each arm → seed → task → value, over completed runs; a single number is the task `""`."""
        arms: dict[str, dict[int, Mapping[str, float]]] = {run.arm: {} for run in self.runs}
        for run in self.runs:
            if run.status == COMPLETED:
                arms[run.arm][run.seed] = run.tasks or {"": run.value}
        return arms

    def effects(self) -> dict[str, Effect]:
        """Return how much each other arm differs from the baseline: see `swebench_lab.experiments.effects`."""
        return effects(self.arms, self.baseline, level=self.level)

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a run: arm, seed, status, value, seconds, error and the parameters."""
        import polars as pl

        rows = [
            {
                "arm": run.arm,
                "seed": run.seed,
                "status": run.status,
                "value": None if math.isnan(run.value) else run.value,
                "tasks": len(run.tasks),
                "seconds": run.seconds,
                "error": run.error,
                "folder": str(run.folder),
                **{name: value if isinstance(value, _PLAIN) else repr(value) for name, value in run.parameters.items()},
            }
            for run in self.runs
        ]
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)

    def verdicts(self) -> Overview:
        """Return a table whose `.frame` has one row an arm: mean, difference from the baseline, interval, p-values, verdict.

        The verdict is `better`, `worse` or `no difference shown`, by the corrected p-value; `no task in common` if
        an arm shares no task with the baseline over all seeds; empty for the baseline itself, and where there are too
        few runs to decide.
        """
        import polars as pl

        differences = self.effects()
        rows = [self._verdict(arm, runs, differences.get(arm)) for arm, runs in self.arms.items()]
        frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
        return Overview(frame, f"{self.what}, against the baseline {self.baseline}")

    def _verdict(self, arm: str, runs: Mapping[int, Mapping[str, float]], effect: Effect | None) -> dict[str, Any]:
        means = [math.fsum(run.values()) / len(run) for run in runs.values()]
        row: dict[str, Any] = {
            "arm": arm,
            "seeds": len(runs),
            "mean": math.fsum(means) / len(means) if means else None,
            "difference": None,
            "low": None,
            "high": None,
            "p_value": None,
            "corrected_p": None,
            "verdict": "",
        }
        if effect is None or math.isnan(effect.difference):
            return row | ({"verdict": "no task in common"} if effect is not None and effect.seeds else {})
        d = effect.difference
        row |= {"difference": float(d), "low": _or_none(d.low), "high": _or_none(d.high)}
        row |= {"p_value": _or_none(effect.p_value), "corrected_p": _or_none(effect.corrected)}
        if not math.isnan(effect.corrected):
            differs = effect.corrected < 1 - self.level
            row["verdict"] = ("better" if d > 0 else "worse") if differs else "no difference shown"
        return row

    def figure(self) -> Figure:
        """Draw each arm's runs and mean, and beside them its difference from the baseline with its interval."""
        from swebench_lab.experiments.plots import arms

        return arms(self.arms, self.effects(), self.baseline, self.what)

    def __repr__(self) -> str:
        """Return one line: how many arms and runs, and how they ended."""
        counts = {status: sum(run.status == status for run in self.runs) for status in dict.fromkeys(_statuses(self))}
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"SweepResult({self.name!r}, {len(self.arms)} arms, {len(self.runs)} runs: {summary}; {self.what})"

    def _repr_html_(self) -> str:
        return _html.card(repr(self), self.verdicts()._repr_html_())


_PLAIN = (str, int, float, bool, type(None))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _statuses(sweep: SweepResult) -> list[str]:
    return [run.status for run in sweep.runs]
