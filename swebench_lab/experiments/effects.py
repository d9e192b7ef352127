"""The verdict of an ablation: how much each arm differs from a baseline, over tasks and seeds, and many arms at once.

All arms attempt the same tasks under the same seeds, and both are samples of what one wants to speak of: another task,
another training run. A difference is therefore judged with both taken as random. What a seed does to an arm is
estimated from all arms together, as the interaction of a two-way table of run means, because three seeds of one pair
say too little; what a task does to a pair is estimated from that pair. The two add up to the variance of the
difference, with degrees of freedom after Satterthwaite (Biometrics Bulletin 2, 1946). Resampling tasks alone would call
the seed_noise of one seed an effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swebench_lab.records.tables.statistics import Estimate

Runs = Mapping[int, Mapping[str, float]]
"""Of one arm: seed to task to value. A run that gave a single number is one task of any name."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How much one arm differs from the baseline.

    Args:
        difference: Mean of `arm - baseline`, with its interval; `n` counts the pairs of a task and a seed.
        p_value: Two-sided p-value of no difference; NaN when the data do not suffice.
        corrected: The same, corrected for multiple comparisons (Holm); NaN likewise.
        tasks: Tasks that both arms have.
        seeds: Seeds that both arms have. With one seed only the tasks are a sample, and the interval describes these
            runs, not what another seed would give.
    """

    difference: Estimate
    p_value: float
    corrected: float
    tasks: int
    seeds: int


def effects(arms: Mapping[str, Runs], baseline: str, *, level: float = 0.95) -> dict[str, Effect]:
    """Return how much each arm differs from the baseline.

    Args:
        arms: Name to runs. An arm may lack seeds (it was stopped early); it is compared over those it has.
        baseline: Name of the arm that all others are compared with.
        level: Coverage of each interval, in (0, 1).

    Raises:
        ValueError: There is no such baseline.
    """
    if baseline not in arms:
        raise ValueError(f"comparing arms: there is no arm {baseline!r}; known: {', '.join(arms)}")
    seed_noise = _noise_of_seeds(arms)
    others = [name for name in arms if name != baseline]
    differences = [_difference(arms[baseline], arms[name], seed_noise, level) for name in others]
    corrected = holm([p_value for _, p_value, _, _ in differences])
    return {
        name: Effect(estimate, p_value, many, tasks, seeds)
        for name, (estimate, p_value, tasks, seeds), many in zip(others, differences, corrected, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons (Holm, Scandinavian Journal of Statistics 6, 1979); NaN stays NaN."""
    ranking = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = list(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(ranking):
        highest = max(highest, min(1.0, (len(ranking) - rank) * p))
        corrected[i] = highest
    return corrected


def _noise_of_seeds(arms: Mapping[str, Runs]) -> tuple[float, int]:
    """Return the variance of one run's mean about what its arm and its seed give, and its degrees of freedom.

    Estimated over the arms that have every seed; (NaN, 0) where there are not two such arms or not two seeds.
    """
    seeds = sorted({seed for runs in arms.values() for seed in runs})
    whole = [runs for runs in arms.values() if all(seed in runs for seed in seeds)]
    tasks = _common_tasks([run for runs in whole for run in runs.values()])
    if len(whole) < 2 or len(seeds) < 2 or not tasks:
        return math.nan, 0
    table = [[math.fsum(runs[seed][t] for t in tasks) / len(tasks) for seed in seeds] for runs in whole]
    freedom = (len(whole) - 1) * (len(seeds) - 1)
    return math.fsum(x * x for x in _rest(table)) / freedom, freedom


def _difference(
    first: Runs, second: Runs, seed_noise: tuple[float, int], level: float
) -> tuple[Estimate, float, int, int]:
    """Return the difference of two arms, its p-value, and over how many tasks and seeds."""
    seeds = [seed for seed in first if seed in second]
    tasks = _common_tasks([run for seed in seeds for run in (first[seed], second[seed])])
    s, t = len(seeds), len(tasks)
    if not s or not t:
        return Estimate(math.nan, n=0, level=level, what="difference"), math.nan, t, s
    table = [[second[seed][task] - first[seed][task] for task in tasks] for seed in seeds]
    columns = [math.fsum(column) / s for column in zip(*table, strict=True)]
    value = math.fsum(columns) / t
    by_task = math.fsum((x - value) ** 2 for x in columns) / (t - 1) if t > 1 else 0.0
    shares = []
    if seed_noise[1]:
        shares.append((2 * seed_noise[0] / s, seed_noise[1]))
        # What is left of the spread over tasks when the noise within a task is taken off is the tasks' own share.
        within = math.fsum(x * x for x in _rest(table)) / ((s - 1) * (t - 1)) / s if s > 1 and t > 1 else 0.0
        shares.append((max(by_task - within, 0.0) / t, max(t - 1, 1)))
    elif t > 1:
        shares.append((by_task / t, t - 1))
    low, high, p_value = _student(value, shares, level)
    return Estimate(value, low, high, s * t, level, "difference"), p_value, t, s


def _common_tasks(runs: Sequence[Mapping[str, float]]) -> list[str]:
    return [task for task in runs[0] if all(task in run for run in runs)] if runs else []


def _rest(table: Sequence[Sequence[float]]) -> list[float]:
    """Return what the means of rows and columns leave of each cell."""
    rows = [math.fsum(row) / len(row) for row in table]
    columns = [math.fsum(column) / len(table) for column in zip(*table, strict=True)]
    mean = math.fsum(rows) / len(rows)
    return [cell - rows[i] - columns[j] + mean for i, row in enumerate(table) for j, cell in enumerate(row)]


def _student(value: float, shares: Sequence[tuple[float, int]], level: float) -> tuple[float, float, float]:
    """Return the interval and p-value of a mean whose variance is a sum of shares, each with degrees of freedom."""
    from scipy import stats

    variance = math.fsum(share for share, _ in shares)
    if not shares:
        return math.nan, math.nan, math.nan
    if variance == 0:  # nothing varied: equality is certain, the error of a difference is unknown
        return (value, value, 1.0) if value == 0 else (math.nan, math.nan, math.nan)
    freedom = variance**2 / math.fsum(share**2 / df for share, df in shares)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return value - half, value + half, float(2 * stats.t.sf(abs(value) / error, freedom))
