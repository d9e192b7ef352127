"""Rules: what of an update's attempts is trained on, and which of their tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from swebench_lab.records.reply import Reply
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.records.verdict import RESOLVED, UNRESOLVED, Cause, Verdict
from swebench_lab.tasks.micro import build
from swebench_lab.training.engines.batches import Sample, masked_counts, samples
from swebench_lab.training.options.rules import Rules
from swebench_lab.training.options.settings import GRPOSettings

TASK = build.load("train", train=1)[0]


def rollout(attempt: int, exits: list[int], resolved: bool) -> Rollout:
    """An attempt whose step i says the one token 10 + i, after a context of the token 1."""
    said = [
        Reply("x", token_ids=(10 + i,), logprobs=(-0.5,), context_ids=(1,), restart=i == 0) for i in range(len(exits))
    ]
    steps = tuple(
        Step.of(i, reply, tool="bash", exit_code=code) for i, (reply, code) in enumerate(zip(said, exits, strict=True))
    )
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
        (Rules(failed_commands="mask"), [10, 12], [10, 11, 12]),
        (Rules(below_mean="mask"), [10, 11, 12], []),
        (Rules(below_mean="mask", failed_commands="mask"), [10, 12], []),
    ],
)
def test_the_rules_say_which_tokens_are_trained_on(rules: Rules, better: list[int], worse: list[int]) -> None:
    good, bad = samples(GROUP, GRPOSettings(rules=rules))
    assert [trained(good), trained(bad)] == [better, worse]
    assert good.segments[0].ids.tolist() == [1, 10, 1, 11, 1, 12]  # a masked token is still context
    assert good.advantage > 0 >= bad.advantage
    assert masked_counts([good, bad]) == Counter({"below mean": 1} if rules.below_mean == "mask" else {})


def test_a_group_without_variance_is_dropped_and_an_infrastructure_error_is_no_zero() -> None:
    same = samples([GROUP[0], rollout(1, [0], True)], GRPOSettings(rules=Rules(below_mean="mask")))
    assert masked_counts(same) == Counter({"zero variance": 2})
    error = Rollout(TASK, GROUP[1].trajectory, Verdict("not graded", "the machine"), None)
    batch = samples([*GROUP, error], GRPOSettings())
    assert [s.masked for s in batch] == ["", "", "infrastructure error"]
    assert batch[0].advantage == pytest.approx(-batch[1].advantage)  # the mean is that of two


@pytest.mark.parametrize("cause", ["timed_out", "crashed", "forged"])
def test_a_run_that_the_patch_ended_or_forged_is_pushed_down_like_any_failure(cause: str) -> None:
    ended = Rollout(TASK, GROUP[1].trajectory, Verdict(UNRESOLVED, "it hung", cause=Cause(cause)), 0.0)
    good, bad = samples([GROUP[0], ended], GRPOSettings())
    assert (bad.masked, bad.reward) == ("", 0.0)
    assert bad.advantage == pytest.approx(-good.advantage) and bad.advantage < 0


def test_a_group_without_variance_may_be_kept_and_advantages_left_unscaled() -> None:
    same = samples([GROUP[0], rollout(1, [0], True)], GRPOSettings(rules=Rules(zero_variance="keep")))
    assert [(s.masked, s.advantage) for s in same] == [("", 0.0), ("", 0.0)]
    good, bad = samples(GROUP, GRPOSettings(scale_rewards="none"))
    assert (good.advantage, bad.advantage) == (0.5, -0.5)


def test_a_row_that_is_too_long_is_masked_whole_or_by_its_completion() -> None:
    assert len(GROUP[0].trajectory.steps) == 3  # a row of six tokens, five of them from the first sampled one on
    for bounds, masked in (({"max_length": 5}, "over-long"), ({"max_length": 6}, ""),
                           ({"max_completion_length": 4}, "over-long"), ({"max_completion_length": 5}, "")):  # fmt: skip
        assert {s.masked for s in samples(GROUP, GRPOSettings(**bounds))} == {masked}


def test_an_attempt_that_filled_its_context_counts_where_the_rules_say_so() -> None:
    full = Rollout(TASK, replace(GROUP[1].trajectory, stop=Stop.MAX_TOKENS.value), GROUP[1].verdict, 0.0)
    for rules, masked in ((Rules(), ["zero variance", "over-long"]), (Rules(full_context="grade"), ["", ""]),
                          (Rules(full_context="grade", truncated="mask"), ["", ""])):  # fmt: skip
        assert [s.masked for s in samples([GROUP[0], full], GRPOSettings(rules=rules))] == masked
    long = samples([GROUP[0], full], GRPOSettings(rules=Rules(full_context="grade"), max_length=5))
    assert {s.masked for s in long} == {"over-long"}


def test_rules_refuse_values_that_are_none_of_the_choices() -> None:
    with pytest.raises(ValueError, match="'train' or 'mask'"):
        Rules(below_mean="masked")
