"""The pooled figures of `benchmarks.learning`: every seed and task is one pair, and nothing is left out unsaid."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from tests.benchmarks.learning import draw, pool, told


def seed(start: str, grpo: str, other: str = "", attempts: int = 1) -> dict[str, dict[str, list[str]]]:
    status = {"1": "resolved", "0": "unresolved", "x": "not graded"}
    arms = {"start": start, "grpo": grpo, **({"demonstrations": other} if other else {})}
    marks = {arm: [row[at : at + attempts] for at in range(0, len(row), attempts)] for arm, row in arms.items()}
    return {arm: {f"t{i}": [status[c] for c in task] for i, task in enumerate(row)} for arm, row in marks.items()}


def test_seeds_are_pooled_in_pairs_of_seed_and_task() -> None:
    found = pool({0: seed("0101", "1111", "0000"), 3: seed("00x1", "1011")})
    assert found["seeds"] == [0, 3]
    assert set(found["rates"]) == {"start", "grpo"}  # the third arm is not there for every seed
    assert found["rates"]["start"]["n"] == 7  # what was not graded is no zero
    assert found["gains"]["start"]["value"] == pytest.approx(3 / 7)  # of the seven pairs three are won, none is lost
    assert found["by_seed"] == {"start": [0.5, 1 / 3], "grpo": [1.0, 0.75]}
    assert "grpo is +42.9%" in told(found)
    assert len(draw(found, [[(1, 0.1), (2, 0.2)], [(i, i / 20) for i in range(1, 12)]]).axes) == 2


def test_several_attempts_at_a_task_are_one_pair() -> None:
    found = pool({0: seed("01001x", "111001", attempts=2)})
    assert found["rates"]["start"] == pytest.approx(found["rates"]["start"] | {"value": 0.5, "n": 3})
    assert found["by_seed"]["grpo"] == [pytest.approx(2 / 3)] and found["gains"]["start"]["n"] == 3
    assert found["gains"]["start"]["value"] == pytest.approx((0.5 + 0.5 - 0.5) / 3)


def test_arms_at_temperature_0_are_compared_with_grpo_at_temperature_0_as_well() -> None:
    arms = seed("0011", "0111")
    found = pool({0: arms | {f"{arm}, greedy": known for arm, known in seed("0001", "1111").items()}})
    assert found["gains"]["start, greedy"]["value"] == 0.5 and found["greedy"]["start, greedy"]["value"] == 0.75
    assert set(found["greedy"]) == {"start, greedy"}
    assert "grpo, greedy is +75.0%" in told(found)
