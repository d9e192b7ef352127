"""Rollouts that others train on: the sampled ids, masks and logprobs, the groups, and nothing that was not graded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.verdict import NOT_GRADED, Verdict
from tests.training.test_batches import GROUP, TASK, rollout

ERROR = Rollout(TASK, replace(GROUP[1].trajectory, attempt=2), Verdict(NOT_GRADED, "the machine"), None)


def edited(attempt: int) -> Rollout:
    """An attempt whose history was edited before its last step: two rows."""
    whole = rollout(attempt, [0, 0], True)
    last = whole.trajectory.steps[1]
    again = replace(last, reply=replace(last.reply, restart=True, context_ids=(1, 2)))
    return replace(whole, trajectory=replace(whole.trajectory, steps=(whole.trajectory.steps[0], again)))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_verl_gets_one_row_an_attempt(tmp_path: Path) -> None:
    out = tmp_path / "new" / "verl.jsonl"
    assert lab.export_rollouts(Rollouts([*GROUP, ERROR]), out, "verl") == 2
    good, bad = lines(out)
    assert (good["prompt_ids"], good["response_ids"]) == ([1], [10, 1, 11, 1, 12])
    assert good["response_mask"] == [1, 0, 1, 0, 1] and good["response_logprobs"] == [-0.5, 0, -0.5, 0, -0.5]
    assert (good["reward_score"], bad["reward_score"], good["num_turns"]) == (1.0, 0.0, 6)
    assert good["extra_fields"]["uid"] == bad["extra_fields"]["uid"] == TASK.id
    masked = lab.GRPOSettings(rules=lab.Rules(below_mean="mask"))
    lab.export_rollouts(Rollouts(GROUP), out, "verl", masked)
    assert [sum(row["response_mask"]) for row in lines(out)] == [3, 0]  # in the group's mean, and not trained on
    with pytest.raises(TrainingError, match="several rows"):
        lab.export_rollouts(Rollouts([GROUP[0], edited(1)]), out, "verl")


def test_skyrl_gets_rows_that_say_which_ends_an_attempt(tmp_path: Path) -> None:
    out = tmp_path / "skyrl.json"
    assert lab.export_rollouts(Rollouts([GROUP[0], edited(1), ERROR]), out, "skyrl") == 3
    (found,) = lines(out)
    assert found["is_last_step"] == [True, False, True]
    assert [name["repetition_id"] for name in found["trajectory_ids"]] == [0, 1, 1]
    assert found["prompt_token_ids"] == [[1], [1], [1, 2]] and found["response_ids"] == [[10, 1, 11, 1, 12], [10], [11]]
    assert [sum(mask) for mask in found["loss_masks"]] == [3, 1, 1] and found["rewards"] == [1.0, 1.0, 1.0]
    assert [len(row) for row in found["rollout_logprobs"]] == [len(row) for row in found["response_ids"]]


def test_prime_rl_gets_advantages_of_what_grpo_would_train_on(tmp_path: Path) -> None:
    out = tmp_path / "prime.jsonl"
    assert lab.export_rollouts(Rollouts([*GROUP, ERROR]), out, "prime-rl", temperature=0.7) == 2
    good, bad = lines(out)
    assert good[0] == [1, 10, 1, 11, 1, 12] and good[1] == [False, True] * 3 and good[3] == [0.7] * 6
    assert good[12][1] > 0 > bad[12][1] and good[12][0] == 0.0 and good[5:12] == [None] * 7
    with pytest.raises(TrainingError, match="none of 2 attempts is left"):
        lab.export_rollouts(Rollouts([GROUP[0], rollout(1, [0], True)]), out, "prime-rl")
    with pytest.raises(TrainingError, match="'verl', 'skyrl', 'prime-rl'"):
        lab.export_rollouts(Rollouts(GROUP), out, "slime")
