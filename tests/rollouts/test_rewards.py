"""Rewards: what they say of graded rollouts, and that they say nothing of those not graded."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from swebench_lab.records.reply import Reply
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.verdict import Cause, Verdict
from swebench_lab.rollouts import rewards
from tests.conftest import make_rollout


def judged(f2p: tuple[int, int], p2p: tuple[int, int], **values: object) -> Rollout:
    """A rollout with so many tests passed and failed."""

    def named(counts: tuple[int, int]) -> dict[str, tuple[str, ...]]:
        return {"success": tuple(map(str, range(counts[0]))), "failure": tuple(map(str, range(counts[1])))}

    status = "resolved" if not f2p[1] + p2p[1] else "unresolved"
    verdict = Verdict(status, fail_to_pass=named(f2p), pass_to_pass=named(p2p), **values)  # type: ignore[arg-type]
    return replace(make_rollout(), verdict=verdict)


ALL = (
    rewards.resolved,
    rewards.tests_passed,
    rewards.submitted,
    rewards.format_penalty,
    rewards.StepPenalty(),
    rewards.TokenPenalty(),
    rewards.weighted((rewards.submitted, 1.0)),
)


@pytest.mark.parametrize("reward", ALL)
def test_what_is_not_graded_has_no_reward(reward: rewards.Reward) -> None:
    assert reward(make_rollout(status="not graded")) is None
    assert isinstance(reward(make_rollout()), float)


@pytest.mark.parametrize("cause", [Cause.TIMED_OUT, Cause.CRASHED, Cause.FORGED])
def test_a_run_that_the_patch_ended_or_forged_has_zero_whatever_it_says_of_its_tests(cause: Cause) -> None:
    rollout = judged((2, 0), (5, 0))
    rollout = replace(rollout, verdict=replace(rollout.verdict, status="unresolved", cause=cause))
    assert rewards.tests_passed(rollout) == rewards.resolved(rollout) == 0.0


def test_resolved_is_one_or_nothing() -> None:
    assert rewards.resolved(judged((2, 0), (5, 0))) == 1.0
    assert rewards.resolved(judged((1, 1), (5, 0))) == 0.0


@pytest.mark.parametrize(
    ("f2p", "p2p", "reward"),
    [
        ((2, 0), (4, 0), 1.0),
        ((1, 1), (4, 0), 0.5),
        ((2, 0), (3, 1), 0.75),
        ((0, 2), (4, 0), 0.0),
        ((1, 1), (0, 0), 0.5),
    ],
)
def test_tests_passed_is_a_share_of_both_kinds(f2p: tuple[int, int], p2p: tuple[int, int], reward: float) -> None:
    assert rewards.tests_passed(judged(f2p, p2p)) == reward


def test_a_patch_that_does_not_apply_earns_nothing() -> None:
    assert rewards.tests_passed(judged((1, 1), (4, 0), patch_applied=False)) == 0.0


def test_malformed_replies_and_length_cost() -> None:
    rollout = make_rollout()
    good, bad = Step.of(0, Reply("x", completion_tokens=100), tool="bash"), Step(1, Reply("x", completion_tokens=0))
    rollout = replace(rollout, trajectory=replace(rollout.trajectory, steps=(good, bad, good, bad)))
    assert rewards.format_penalty(rollout) == -0.5
    assert rewards.StepPenalty(free=2, full=6)(rollout) == -0.5
    assert rewards.StepPenalty(free=4, full=6)(rollout) == 0.0
    assert rewards.TokenPenalty(free=0, full=200)(rollout) == -1.0


def test_rewards_are_composed_by_weight() -> None:
    reward = rewards.weighted((rewards.resolved, 1.0), (rewards.tests_passed, 0.5), (rewards.submitted, 0.1))
    assert reward(judged((1, 1), (4, 0))) == pytest.approx(0.35)
    assert pickle.loads(pickle.dumps(reward)) == reward
    for wrong in ((), (rewards.resolved,), ((rewards.resolved, "much"),)):
        with pytest.raises(ValueError, match="composing a reward"):
            rewards.weighted(*wrong)  # type: ignore[arg-type]


def counting(calls: list[str]) -> rewards.Reward:
    def count(rollout: Rollout) -> float:
        calls.append(rollout.task.id)
        return 1.0

    return count


def scaled(by: float) -> rewards.Reward:
    return lambda rollout: by


def test_an_identity_follows_code_and_settings_and_nothing_else() -> None:
    calls: list[str] = []
    count = counting(calls)
    before = rewards.identity(count)
    count(make_rollout())
    assert calls and rewards.identity(count) == before == rewards.identity(counting([]))
    same = rewards.weighted((rewards.resolved, 1.0), (rewards.StepPenalty(), 0.1))
    assert rewards.identity(same) == rewards.identity(pickle.loads(pickle.dumps(same)))
    different = (
        *ALL,
        same,
        count,
        rewards.StepPenalty(free=3),
        rewards.weighted((rewards.submitted, 0.5)),
        scaled(1.0),
        scaled(2.0),
        lambda rollout: 1.0,
        lambda rollout: 2.0,
        partial(scaled, 1.0),
        partial(scaled, by=2.0),
    )
    assert len({rewards.identity(reward) for reward in different}) == len(different)


def test_a_reward_that_refers_to_itself_has_an_identity() -> None:
    def halving(rollout: Rollout, depth: int = 3) -> float:
        return halving(rollout, depth - 1) / 2 if depth else 1.0

    assert rewards.identity(halving) == rewards.identity(halving) != rewards.identity(scaled(1.0))


def test_an_identity_is_the_same_in_another_process() -> None:
    code = (
        "from swebench_lab.rollouts import rewards; print(rewards.identity(rewards.weighted((rewards.resolved, 1.0))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == rewards.identity(rewards.weighted((rewards.resolved, 1.0)))


def test_the_reward_of_a_verdict_is_the_number_that_the_task_gives() -> None:
    def reward(status: str, **rewards_: float) -> float | None:
        verdict = Verdict(status, rewards=rewards_)
        return rewards.of_verdict(replace(make_rollout(), verdict=verdict))

    assert reward("unresolved", reward=0.25, style=0.9) == 0.25
    assert reward("resolved", speed=1.0, style=3.0) == 2.0
    assert (reward("resolved"), reward("unresolved"), reward("not graded")) == (1.0, 0.0, None)
    forged = Verdict("unresolved", cause=Cause.FORGED, rewards={"reward": 1.0})
    assert rewards.of_verdict(replace(make_rollout(), verdict=forged)) == 0.0
