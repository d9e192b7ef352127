from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass
from statistics import NormalDist

import pytest

from swebench_lab.records.tables import statistics
from swebench_lab.records.tables.statistics import Estimate, chance_of_all, chance_of_any, compare, mcnemar, wilson


@pytest.mark.parametrize(("n", "c"), [(n, c) for n in range(1, 7) for c in range(n + 1)])
def test_estimators_equal_the_average_over_all_subsets(n: int, c: int) -> None:
    outcomes = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        chosen = list(itertools.combinations(outcomes, k))
        assert chance_of_any(n, c, k) == pytest.approx(sum(any(s) for s in chosen) / len(chosen))
        assert chance_of_all(n, c, k) == pytest.approx(sum(all(s) for s in chosen) / len(chosen))


def test_estimators_are_unbiased() -> None:
    p, n, k = 0.3, 5, 3
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    assert sum(w * chance_of_any(n, c, k) for c, w in enumerate(weights)) == pytest.approx(1 - (1 - p) ** k)
    assert sum(w * chance_of_all(n, c, k) for c, w in enumerate(weights)) == pytest.approx(p**k)


def test_published_values_of_pass_at_k() -> None:
    # the closed form 1 - prod(1 - k / (n - c + i)) of Chen et al. 2021, figure 3
    for n, c, k in [(100, 10, 5), (200, 1, 10), (10, 9, 2)]:
        closed = 1.0 if n - c < k else 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
        assert chance_of_any(n, c, k) == pytest.approx(closed)


@pytest.mark.parametrize(("n", "c", "k"), [(2, 3, 1), (2, -1, 1), (2, 1, 3), (2, 1, 0)])
def test_counts_that_do_not_fit_are_errors(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="cannot give an estimate"):
        chance_of_any(n, c, k)


def test_tasks_with_too_few_attempts_do_not_count() -> None:
    estimate = statistics.pass_at_k([(4, 2), (1, 1), (0, 0)], 2)
    assert estimate.n == 1
    assert estimate == pytest.approx(chance_of_any(4, 2, 2))


def test_no_task_gives_nan() -> None:
    estimate = statistics.pass_at_k([], 1)
    assert math.isnan(estimate)
    assert math.isnan(estimate.low)
    assert estimate.n == 0
    assert "unknown (n=0)" in repr(estimate)
    assert json.loads(json.dumps(estimate.to_dict()))["value"] is None


def test_wrong_k_and_level_are_errors() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        statistics.pass_at_k([(1, 1)], 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.mean([1.0, 0.0], level=95)


def test_intervals_are_the_same_for_the_same_seed() -> None:
    tallies = [(7, c) for c in (0, 1, 2, 3, 4, 4, 0, 6, 7, 2, 1, 5, 3)]
    one, two, other = (statistics.pass_at_k(tallies, 1, seed=s) for s in (7, 7, 8))
    assert (one.low, one.high) == (two.low, two.high)
    assert (one.low, one.high) != (other.low, other.high)
    assert one.low < one < one.high


@pytest.mark.slow
def test_bootstrap_interval_covers_as_often_as_it_says() -> None:
    draw, truth, covered, repeats = random.Random(0), 0.4, 0, 200
    for seed in range(repeats):
        low, high = statistics.bootstrap([float(draw.random() < truth) for _ in range(60)], seed=seed, resamples=300)
        covered += low <= truth <= high
    assert 0.88 <= covered / repeats <= 0.99


def test_all_or_nothing_still_has_a_width() -> None:
    for value in (0.0, 1.0):
        estimate = statistics.mean([value] * 10)
        assert estimate == value
        assert estimate.high - estimate.low == pytest.approx(0.2775, abs=1e-3)


def test_wilson_matches_published_values() -> None:
    # Newcombe 1998, Stat Med 17, table I: 81/263, 15/148, 0/20, 1/29
    for successes, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        rate = wilson(successes, trials)
        assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert math.isnan(wilson(0, 0))


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(6, 0) == mcnemar(0, 6)
    assert mcnemar(1, 9) == pytest.approx(2 * 11 / 1024)


def test_estimate_is_the_float_it_is() -> None:
    estimate = Estimate(0.5, 0.25, 0.75, 8, 0.95, "pass@1")
    assert estimate + 0.5 == 1.0
    assert f"{estimate:.2f}" == "0.50"
    assert json.dumps(estimate) == "0.5"
    assert repr(estimate) == "pass@1 0.500 [0.250, 0.750] (n=8)"
    assert "0.500" in estimate._repr_html_()
    for again in (pickle.loads(pickle.dumps(estimate)), copy.deepcopy(estimate)):
        assert (again, again.low, again.high, again.n, again.what) == (0.5, 0.25, 0.75, 8, "pass@1")


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    id: str


@dataclass(frozen=True)
class Said:
    resolved: bool
    graded: bool = True


@dataclass(frozen=True)
class Attempt:
    task: Named
    verdict: Said


def attempts(**outcomes: str) -> list[Attempt]:
    """`a="10-"`: three attempts at task a, of which the last is not graded."""
    return [Attempt(Named(name), Said(c == "1", c != "-")) for name, text in outcomes.items() for c in text]


def test_comparison_is_paired_by_task() -> None:
    found = compare(attempts(a="11", b="10", c="00", only="11"), attempts(a="11", b="11", c="01-", lone="1"))
    assert found.difference == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert found.first == pytest.approx(0.5)
    assert found.second == pytest.approx(2.5 / 3)
    assert found.per_task == {"a": (1.0, 1.0), "b": (0.5, 1.0), "c": (0.0, 0.5)}
    assert found.left_out == ("lone", "only")
    assert found.only_second == ("b",)
    assert found.only_first == ()
    assert found.difference.low <= found.difference <= found.difference.high


def test_a_mapping_may_hold_several_attempts_of_a_task() -> None:
    first, second = attempts(a="10-", b="0", c="-"), attempts(a="11", b="1", c="1")
    known = [{task: [r.verdict for r in side if r.task.id == task] for task in "abc"} for side in (first, second)]
    mapped, listed = compare(*known), compare(first, second)
    assert mapped.per_task == listed.per_task == {"a": (0.5, 1.0), "b": (0.0, 1.0)}
    assert mapped.difference == listed.difference == 0.75 and mapped.left_out == ("c",)


def test_comparison_with_itself_shows_no_difference() -> None:
    side = attempts(a="1", b="0", c="10")
    found = compare(side, side)
    assert (found.difference, found.difference.low, found.difference.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_exchanging_the_sides_turns_the_sign() -> None:
    one, two = attempts(a="1", b="0", c="0", d="0"), attempts(a="0", b="1", c="1", d="1")
    there, back = compare(one, two), compare(two, one)
    assert there.difference == -back.difference
    assert there.p_value == back.p_value
    assert there.only_first == back.only_second


def test_no_task_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="no task is graded in both"):
        compare(attempts(a="1"), attempts(b="1"))
    with pytest.raises(ValueError, match="no task is graded in both"):
        compare(attempts(a="1"), attempts(a="-"))


def test_comparison_shows_itself() -> None:
    found = compare(attempts(a="1", b="0"), attempts(a="1", b="1"), names=("before", "after"))
    assert "before 0.500" in repr(found)
    assert "McNemar" in found._repr_html_()
    assert found.to_frame().columns == ["task", "before", "after", "difference"]
    assert json.loads(json.dumps(found.to_dict()))["tasks"] == 2


def formula_of_wilson(successes: int, trials: int, level: float) -> tuple[float, float]:
    """Wilson's interval written out, as in his paper of 1927."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, zz = successes / trials, z * z / trials
    middle = (p + zz / 2) / (1 + zz)
    half = z * math.sqrt(p * (1 - p) / trials + zz / (4 * trials)) / (1 + zz)
    return max(0.0, middle - half), min(1.0, middle + half)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
def test_wilson_s_interval_is_the_formula_s(level: float) -> None:
    for trials in (1, 2, 3, 5, 10, 48, 500):
        for successes in range(trials + 1):
            estimate = wilson(successes, trials, level=level)
            assert float(estimate) == successes / trials
            assert (estimate.low, estimate.high) == pytest.approx(
                formula_of_wilson(successes, trials, level), rel=0, abs=1e-12
            )
            assert 0.0 <= estimate.low <= estimate <= estimate.high <= 1.0


def test_mcnemar_s_p_value_is_the_sum_of_binomial_tails() -> None:
    for n in range(60):
        for first in range(n + 1):
            tail = sum(math.comb(n, i) for i in range(min(first, n - first) + 1)) / (1 << n)
            assert mcnemar(first, n - first) == pytest.approx(min(1.0, 2 * tail), rel=0, abs=1e-12)


def test_bootstrap_ends_are_quantiles_interpolated_linearly() -> None:
    def quantile(ordered: list[float], q: float) -> float:
        at = q * (len(ordered) - 1)
        below = math.floor(at)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (ordered[above] - ordered[below]) * (at - below)

    values = [0.0, 0.25, 1.0, 1.0, 0.5, 0.125, 0.75]
    for level in (0.5, 0.9, 0.95):
        draw = random.Random(3)
        means = sorted(math.fsum(draw.choices(values, k=len(values))) / len(values) for _ in range(500))
        expected = quantile(means, (1 - level) / 2), quantile(means, (1 + level) / 2)
        assert statistics.bootstrap(values, level=level, seed=3, resamples=500) == pytest.approx(
            expected, rel=0, abs=1e-12
        )


def test_importing_records_imports_neither_scipy_nor_numpy() -> None:
    code = (
        "import sys\nfrom swebench_lab.records import rollout, task, trajectory, verdict\n"
        "from swebench_lab.records.tables import statistics\n"
        "print([m for m in ('scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
