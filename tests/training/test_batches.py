"""Rules: what of an update's attempts is trained on, and which of their tokens."""

from __future__ import annotations

from collections import Counter

import pytest

from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Reply, Step, Stop, Trajectory
from swebench_lab.records.verdict import RESOLVED, UNRESOLVED, Verdict
from swebench_lab.tasks.micro import build
from swebench_lab.training.batches import Rules, Sample, masked_counts, samples

TASK = build.load("train", train=1)[0]


def rollout(attempt: int, exits: list[int], resolved: bool) -> Rollout:
    """An attempt whose step i says the one token 10 + i, after a context of the token 1."""
    said = [
        Reply("x", token_ids=(10 + i,), logprobs=(-0.5,), context_ids=(1,), restart=i == 0) for i in range(len(exits))
    ]
    steps = tuple(Step(i, reply, exit_code=code) for i, (reply, code) in enumerate(zip(said, exits, strict=True)))
    trajectory = Trajectory(TASK.id, attempt, steps=steps, stop=Stop.SUBMITTED.value)
    verdict = Verdict(RESOLVED if resolved else UNRESOLVED, "")
    return Rollout(TASK, trajectory, verdict, float(resolved))


GROUP = [rollout(0, [0, 1, 0], True), rollout(1, [0, 1, 1], False)]


def trained(sample: Sample) -> list[int]:
    (part,) = sample.segments
    return [] if sample.masked else [i for i, on in zip(part.ids, part.mask, strict=True) if on]


@pytest.mark.parametrize(
    ("rules", "better", "worse"),
    [
        (Rules(), [10, 11, 12], [10, 11, 12]),
        (Rules(in_vain="spared"), [10, 12], [10, 11, 12]),
        (Rules(worse="masked"), [10, 11, 12], []),
        (Rules(worse="masked", in_vain="spared"), [10, 12], []),
    ],
)
def test_the_rules_say_which_tokens_are_trained_on(rules: Rules, better: list[int], worse: list[int]) -> None:
    good, bad = samples(GROUP, rules)
    assert [trained(good), trained(bad)] == [better, worse]
    assert good.segments[0].ids == (1, 10, 1, 11, 1, 12)  # what is spared is still seen
    assert good.advantage > 0 >= bad.advantage
    assert masked_counts([good, bad]) == Counter({"worse": 1} if rules.worse == "masked" else {})


def test_a_group_without_spread_teaches_nothing_and_a_fault_is_no_zero() -> None:
    same = samples([GROUP[0], rollout(1, [0], True)], Rules(worse="masked"))
    assert masked_counts(same) == Counter({"no spread": 2})
    fault = Rollout(TASK, GROUP[1].trajectory, Verdict("not graded", "the machine"), None)
    found = samples([*GROUP, fault], Rules())
    assert [s.masked for s in found] == ["", "", "fault"]
    assert found[0].advantage == pytest.approx(-found[1].advantage)  # the mean is that of two
