"""The verdict on arms: right on average, calibrated where nothing differs, and able to see what does."""

from __future__ import annotations

import math
import random

import pytest

from swebench_lab.experiments.effects import effects, holm


def simulated(rng, arms, tasks, seeds, effect, seed_sd=0.0):
    """Arms of 0/1 outcomes, four attempts a task; the last arm is better by `effect` in log-odds; seeds have luck."""
    base = [rng.gauss(0, 1.5) for _ in range(tasks)]
    found = {}
    for arm in range(arms):
        shift = effect if arm == arms - 1 else 0.0
        runs = {}
        for seed in range(seeds):
            luck = rng.gauss(0, seed_sd)
            chances = [1 / (1 + math.exp(-(b + shift + luck))) for b in base]
            runs[seed] = {str(t): sum(rng.random() < p for _ in range(4)) / 4 for t, p in enumerate(chances)}
        found[str(arm)] = runs
    return found


def rates(*, arms, tasks, seeds, effect, seed_sd, times, number=7):
    """How often any equal arm is called different, and how often the better one is."""
    rng = random.Random(number)
    wrong = right = 0
    for _ in range(times):
        told = effects(simulated(rng, arms, tasks, seeds, effect, seed_sd), "0")
        called = {name: one.corrected < 0.05 for name, one in told.items()}
        better = called.pop(str(arms - 1))
        right += better and told[str(arms - 1)].difference > 0
        wrong += any(called.values())
    return wrong / times, right / times


@pytest.mark.parametrize("seed_sd", [0.0, 0.3])
def test_over_200_simulated_sweeps_nulls_are_rarely_called_significant_and_a_large_effect_is_found(seed_sd):
    wrong, right = rates(arms=6, tasks=80, seeds=3, effect=1.3, seed_sd=seed_sd, times=200)
    assert wrong <= 0.07
    assert right >= 0.80


def test_two_arms_with_lucky_seeds_are_not_called_different():
    wrong = 0
    rng = random.Random(3)
    for _ in range(200):
        told = effects(simulated(rng, 2, 60, 3, 0.0, 0.4), "0")["1"]
        wrong += told.p_value < 0.05
    assert wrong / 200 <= 0.08


def test_a_difference_is_the_mean_over_shared_tasks_and_seeds():
    first = {0: {"a": 0.0, "b": 1.0}, 1: {"a": 0.0, "b": 0.5}}
    second = {0: {"a": 1.0, "b": 1.0, "c": 0.0}, 1: {"a": 0.5, "b": 0.5}, 2: {"a": 0.0}}
    told = effects({"x": first, "y": second}, "x")["y"]
    assert told.difference == pytest.approx(0.375)
    assert (told.tasks, told.seeds, told.difference.n) == (2, 2, 4)
    assert told.difference.low < 0.375 < told.difference.high


def test_equal_runs_differ_by_nothing_and_surely():
    runs = {0: {"a": 0.5, "b": 1.0}, 1: {"a": 0.5, "b": 1.0}}
    told = effects({"x": runs, "y": runs}, "x")["y"]
    assert told.difference == 0
    assert told.p_value == 1.0


def test_one_number_a_run_is_judged_over_seeds():
    first, second = ({s: {"": v} for s, v in enumerate(vs)} for vs in ([1.0, 1.1, 0.9, 1.0], [2.0, 2.1, 1.9, 2.05]))
    told = effects({"x": first, "y": second}, "x")["y"]
    assert told.p_value < 0.001
    assert told.seeds == 4


def test_a_single_number_of_a_single_seed_tells_nothing():
    told = effects({"x": {0: {"": 1.0}}, "y": {0: {"": 2.0}}}, "x")["y"]
    assert told.difference == 1.0
    assert math.isnan(told.p_value)
    assert math.isnan(told.corrected)


def test_arms_with_nothing_in_common_give_no_number():
    told = effects({"x": {0: {"a": 1.0}}, "y": {1: {"a": 1.0}}}, "x")["y"]
    assert math.isnan(told.difference)


def test_an_unknown_baseline_is_an_error():
    with pytest.raises(ValueError, match="no arm 'z'; known: x"):
        effects({"x": {}}, "z")


def test_holms_correction_is_the_one_of_the_paper():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = holm([math.nan, 0.02])
    assert math.isnan(corrected[0])
    assert corrected[1] == 0.02
