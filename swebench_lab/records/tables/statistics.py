"""Estimates over tasks and attempts: pass@k, pass^k, intervals, and the paired comparison of two collections.

Everything here is a pure function of counts or values, and seeded. scipy is imported at first use, so that importing
records stays cheap. Sources: pass@k after Chen et al. 2021 (arXiv 2107.03374, eq. 1), pass^k after Yao et al. 2024 (arXiv
2406.12045), the percentile bootstrap after Efron 1979, Wilson's interval 1927, McNemar's exact test 1947.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swebench_lab import _html

if TYPE_CHECKING:
    import polars as pl

RESAMPLES = 2000
"""Bootstrap resamples: the 2.5 % point then moves by about 3 % of the interval's width from seed to seed."""


class Estimate(float):
    """A number with its interval; it behaves as a float in arithmetic, comparisons and formatting.

    Attributes:
        low: Lower end of the interval; NaN where there is none.
        high: Upper end.
        n: How many tasks (or trials) it rests on.
        level: Coverage the interval aims at.
        what: What is estimated, in words.
    """

    low: float
    high: float
    n: int
    level: float
    what: str

    def __new__(
        cls,
        value: float,
        low: float = math.nan,
        high: float = math.nan,
        n: int = 0,
        level: float = 0.95,
        what: str = "",
    ) -> Estimate:
        """Make the number; see the class for what the arguments mean."""
        self = super().__new__(cls, value)
        self.low, self.high, self.n, self.level, self.what = low, high, n, level, what
        return self

    def __getnewargs__(self) -> tuple[float, float, float, int, float, str]:  # type: ignore[override]
        return (float(self), self.low, self.high, self.n, self.level, self.what)

    def __repr__(self) -> str:
        """Return the value with its interval: `0.625 [0.500, 0.750] (n=48)`."""
        name = f"{self.what} " if self.what else ""
        if math.isnan(self):
            return f"{name}unknown (n={self.n})"
        return f"{name}{float(self):.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"

    def _repr_html_(self) -> str:
        if math.isnan(self):
            return f"<span>{_html.text(repr(self))}</span>"
        name = f"{self.what}: " if self.what else ""
        return (
            f"<span>{_html.text(name)}<b>{float(self):.3f}</b> "
            f"<small>[{self.low:.3f}, {self.high:.3f}] at {self.level:.0%}, n={self.n}</small></span>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for `metrics.json`."""
        plain = {"value": float(self), "low": self.low, "high": self.high}
        numbers = {name: None if math.isnan(value) else value for name, value in plain.items()}
        return {**numbers, "n": self.n, "level": self.level, "what": self.what}


# --- one task ---------------------------------------------------------------------------------------------------------


def chance_of_any(attempts: int, resolved: int, k: int) -> float:
    """Return the unbiased estimate that at least one of `k` attempts resolves a task: 1 - C(n-c, k) / C(n, k).

    Args:
        attempts: n, how many attempts were graded; at least `k`.
        resolved: c, how many of them resolved.
        k: At least 1.

    Raises:
        ValueError: The three do not fit together.
    """
    _check(attempts, resolved, k)
    return 1.0 - math.comb(attempts - resolved, k) / math.comb(attempts, k)


def chance_of_all(attempts: int, resolved: int, k: int) -> float:
    """Return the unbiased estimate that all of `k` attempts resolve a task: C(c, k) / C(n, k); see `chance_of_any`."""
    _check(attempts, resolved, k)
    return math.comb(resolved, k) / math.comb(attempts, k)


def _check(attempts: int, resolved: int, k: int) -> None:
    if not (0 <= resolved <= attempts and 1 <= k <= attempts):
        raise ValueError(f"{resolved} resolved of {attempts} attempts cannot give an estimate for k={k}")


# --- over tasks -------------------------------------------------------------------------------------------------------


def pass_at_k(tallies: Iterable[tuple[int, int]], k: int = 1, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return pass@k averaged over tasks, with a bootstrap interval over tasks.

    Args:
        tallies: (graded attempts, resolved attempts) of each task; a task with fewer than `k` does not count.
        k: Number of attempts, at least 1.
        level: Coverage of the interval, in (0, 1).
        seed: Seed of the bootstrap.

    Returns:
        The estimate; `.n` is how many tasks count, NaN when none does.
    """
    return _over_tasks(chance_of_any, tallies, k, level, seed, f"pass@{k}")


def all_pass_k(tallies: Iterable[tuple[int, int]], k: int = 1, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return pass^k averaged over tasks: the chance that all of `k` attempts resolve a task; see `pass_at_k`."""
    return _over_tasks(chance_of_all, tallies, k, level, seed, f"pass^{k}")


def _over_tasks(
    chance: Callable[[int, int, int], float],
    tallies: Iterable[tuple[int, int]],
    k: int,
    level: float,
    seed: int,
    what: str,
) -> Estimate:
    if k < 1:
        raise ValueError(f"{what}: k must be at least 1")
    return mean([chance(n, c, k) for n, c in tallies if n >= k], level=level, seed=seed, what=what)


def mean(values: Sequence[float], *, level: float = 0.95, seed: int = 0, what: str = "mean") -> Estimate:
    """Return the mean with a percentile bootstrap interval, resampling the values.

    Resampling equal values shows no spread, and an interval of zero width would claim certainty; where all values are
    0 or all are 1, the interval is Wilson's instead.

    Args:
        values: One number a task.
        level: Coverage of the interval, in (0, 1).
        seed: Seed of the bootstrap.
        what: What is estimated, in words.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level!r} must lie between 0 and 1")
    n = len(values)
    if not n:
        return Estimate(math.nan, n=0, level=level, what=what)
    value = math.fsum(values) / n
    if set(values) in ({0.0}, {1.0}):
        interval = wilson(round(value * n), n, level=level)
        return Estimate(value, interval.low, interval.high, n, level, what)
    low, high = bootstrap(values, level=level, seed=seed)
    return Estimate(value, low, high, n, level, what)


def bootstrap(
    values: Sequence[float], *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean.

    Args:
        values: At least one number.
        level: Coverage aimed at, in (0, 1).
        seed: The same seed gives the same interval.
        resamples: How many resamples to draw.
    """
    import numpy as np

    draw = random.Random(seed)
    n = len(values)
    means = [math.fsum(draw.choices(values, k=n)) / n for _ in range(resamples)]
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Estimate:
    """Return a single rate with Wilson's interval, for trials that are independent (one attempt a task).

    Args:
        successes: How many succeeded.
        trials: Of how many.
        level: Coverage aimed at, in (0, 1).
    """
    if trials == 0:
        return Estimate(math.nan, n=0, level=level, what="rate")
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(level, "wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high), trials, level, "rate")


# --- two collections --------------------------------------------------------------------------------------------------


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p-value that two paired arms resolve equally often.

    Args:
        only_first: Tasks that only the first resolves.
        only_second: Tasks that only the second resolves.
    """
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Return the mean of `second - first` over the same tasks, with a bootstrap interval over tasks.

    Raises:
        ValueError: The two do not have one value for each task.
    """
    if len(first) != len(second):
        raise ValueError(f"comparing pairs: {len(first)} values against {len(second)}")
    differences = [b - a for a, b in zip(first, second, strict=True)]
    if not differences:
        return Estimate(math.nan, n=0, level=level, what="difference")
    low, high = bootstrap(differences, level=level, seed=seed)
    return Estimate(math.fsum(differences) / len(differences), low, high, len(differences), level, "difference")


@dataclass(frozen=True)
class Comparison:
    """Two collections of rollouts, paired by task.

    Attributes:
        first: Resolved rate of the first over the common tasks, each task counting once.
        second: The same of the second.
        difference: `second - first`, with a bootstrap interval over tasks.
        p_value: McNemar's exact test over the tasks of which each side resolves more than half of its attempts or not.
        only_first: Those tasks that only the first resolves so.
        only_second: Those that only the second does.
        per_task: Task id to the two rates.
        left_out: Tasks that one side lacks, or has no graded attempt of.
        names: What the two are called.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    p_value: float
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    per_task: Mapping[str, tuple[float, float]] = field(repr=False)
    left_out: tuple[str, ...] = field(repr=False, default=())
    names: tuple[str, str] = ("first", "second")

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a common task: both rates and their difference."""
        import polars as pl

        rows = [(task, a, b, b - a) for task, (a, b) in self.per_task.items()]
        schema = {"task": pl.String, self.names[0]: pl.Float64, self.names[1]: pl.Float64, "difference": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for `metrics.json`."""
        sides = {name: side.to_dict() for name, side in zip(self.names, (self.first, self.second), strict=True)}
        return {
            **sides,
            "difference": self.difference.to_dict(),
            "p_value": self.p_value,
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "tasks": len(self.per_task),
            "left_out": list(self.left_out),
        }

    def __repr__(self) -> str:
        """Return one line: both rates, the difference with its interval, and the p-value."""
        left = f", {len(self.left_out)} tasks left out" if self.left_out else ""
        a, b = self.names
        return (
            f"Comparison({a} {float(self.first):.3f}, {b} {float(self.second):.3f}, {self.difference!r}, "
            f"p={self.p_value:.3g}; only {a} {len(self.only_first)}, only {b} {len(self.only_second)}{left})"
        )

    def _repr_html_(self) -> str:
        d = self.difference
        facts = {
            self.names[0]: f"{float(self.first):.3f} [{self.first.low:.3f}, {self.first.high:.3f}]",
            self.names[1]: f"{float(self.second):.3f} [{self.second.low:.3f}, {self.second.high:.3f}]",
            "difference": f"{float(d):+.3f} [{d.low:+.3f}, {d.high:+.3f}] at {d.level:.0%}, {d.n} tasks",
            "McNemar's exact p": f"{self.p_value:.3g}",
            f"only {self.names[0]}": len(self.only_first),
            f"only {self.names[1]}": len(self.only_second),
            "tasks left out": len(self.left_out),
        }
        return _html.card("Comparison, paired by task", _html.facts(facts))


def compare(
    first: Any, second: Any, *, level: float = 0.95, seed: int = 0, names: tuple[str, str] = ("first", "second")
) -> Comparison:
    """Compare two collections of rollouts over the tasks they have in common.

    Args:
        first: Rollouts, or anything iterable over objects with `.task.id` and `.verdict` (`.graded`, `.resolved`); or
            Verdicts, or another mapping of task ids to such verdicts, or to a sequence of them, one for each attempt.
        second: The same of the other arm.
        level: Coverage of the intervals, in (0, 1).
        seed: Seed of the bootstrap.
        names: What the two are called in reprs and frames.

    Returns:
        Rates, paired difference, McNemar's exact p-value, and the tasks on which the two differ.

    Raises:
        ValueError: No task is graded in both.
    """
    sides = _rates(first), _rates(second)
    common = [task for task in sides[0] if task in sides[1]]
    if not common:
        raise ValueError(
            f"comparing rollouts: no task is graded in both ({len(sides[0])} tasks in the first, {len(sides[1])} in "
            "the second); collect both over the same tasks"
        )
    per_task = {task: (sides[0][task], sides[1][task]) for task in common}
    a, b = ([rates[i] for rates in per_task.values()] for i in (0, 1))
    only_first = tuple(t for t, (x, y) in per_task.items() if x > 0.5 >= y)
    only_second = tuple(t for t, (x, y) in per_task.items() if y > 0.5 >= x)
    return Comparison(
        first=mean(a, level=level, seed=seed, what=names[0]),
        second=mean(b, level=level, seed=seed, what=names[1]),
        difference=paired_difference(a, b, level=level, seed=seed),
        p_value=mcnemar(len(only_first), len(only_second)),
        only_first=only_first,
        only_second=only_second,
        per_task=per_task,
        left_out=tuple(sorted((_task_ids(first) | _task_ids(second)) - set(common))),
        names=names,
    )


def _rates(rollouts: Any) -> dict[str, float]:
    """Return the share of resolved among the graded attempts of each task."""
    if isinstance(rollouts, Mapping):
        several = {task: entry if isinstance(entry, Sequence) else (entry,) for task, entry in rollouts.items()}
        attempts = [(task, verdict) for task, verdicts in several.items() for verdict in verdicts]
    else:
        attempts = [(rollout.task.id, rollout.verdict) for rollout in rollouts]
    graded: dict[str, list[bool]] = {}
    for task, verdict in attempts:
        if verdict.graded:
            graded.setdefault(task, []).append(verdict.resolved)
    return {task: sum(outcomes) / len(outcomes) for task, outcomes in graded.items()}


def _task_ids(rollouts: Any) -> set[str]:
    return set(rollouts) if isinstance(rollouts, Mapping) else {rollout.task.id for rollout in rollouts}
