"""Trajectory, Verdict and Rollout: stored and read back without loss, and refused when they are not what they say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import RecordError
from swebench_lab.records.reply import Reply
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict
from tests.conftest import make_rollout, make_task


def through_json(row: object) -> dict[str, object]:
    return json.loads(json.dumps(row))  # type: ignore[no-any-return]


def test_every_record_survives_json_to_the_letter(rollout: Rollout) -> None:
    assert Trajectory.from_dict(through_json(rollout.trajectory.to_dict())) == rollout.trajectory
    assert Verdict.from_dict(through_json(rollout.verdict.to_dict())) == rollout.verdict
    assert Rollout.from_dict(through_json(rollout.to_dict())) == rollout


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_rollouts_survive_both_files_to_the_letter(tmp_path: Path, ending: str) -> None:
    rollouts = Rollouts(
        [make_rollout(attempt=i, status=s) for i, s in enumerate(["resolved", "unresolved", "not graded"])]
    )
    assert lab.load_rollouts(rollouts.save(tmp_path / f"r{ending}")) == rollouts


def test_a_damaged_row_names_file_and_line(tmp_path: Path, rollout: Rollout) -> None:
    path = Rollouts([rollout]).save(tmp_path / "r.jsonl")
    path.write_text(path.read_text() + '{"schema": 1}\n')
    with pytest.raises(RecordError, match=r"r\.jsonl:2, field 'trajectory': missing"):
        lab.load_rollouts(path)


@pytest.mark.parametrize("record", [Trajectory, Verdict])
def test_newer_schemas_and_unknown_fields_are_refused(rollout: Rollout, record: type) -> None:
    row = (rollout.trajectory if record is Trajectory else rollout.verdict).to_dict()
    with pytest.raises(RecordError, match="schema 99"):
        record.from_dict({**row, "schema": 99})  # type: ignore[attr-defined]
    with pytest.raises(RecordError, match="colour"):
        record.from_dict({**row, "colour": "red"})  # type: ignore[attr-defined]


def test_logprobs_must_match_their_tokens() -> None:
    with pytest.raises(RecordError, match="2 token ids but 1 logprobs"):
        Reply("x", token_ids=(1, 2), logprobs=(-1.0,))


def test_a_verdict_has_three_outcomes_and_no_fourth() -> None:
    with pytest.raises(RecordError, match="must be one of resolved, unresolved, not graded"):
        Verdict("maybe")
    assert not Verdict("not graded").graded and not Verdict("not graded").resolved


def test_messages_are_the_opening_and_then_each_reply_and_observation(rollout: Rollout) -> None:
    roles = [m["role"] for m in rollout.trajectory.messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert rollout.trajectory.messages[2]["content"] == rollout.trajectory.steps[0].reply.text


# --- Rollouts -------------------------------------------------------------------------------------------------------


def group(outcomes: dict[int, str]) -> Rollouts:
    """Rollouts by task number: r resolved, u unresolved, n not graded, one letter an attempt."""
    status = {"r": "resolved", "u": "unresolved", "n": "not graded"}
    return Rollouts(
        make_rollout(make_task(number), attempt, status[letter])
        for number, letters in outcomes.items()
        for attempt, letter in enumerate(letters)
    )


def test_selections_and_counts_keep_not_graded_apart() -> None:
    rollouts = group({0: "ru", 1: "n", 2: "r"})
    assert rollouts.counts == {"resolved": 2, "unresolved": 1, "not graded": 1}
    assert (len(rollouts.resolved), len(rollouts.unresolved), len(rollouts.not_graded), len(rollouts.graded)) == (
        2,
        1,
        1,
        3,
    )
    assert {k: len(v) for k, v in rollouts.by_task().items()} == {
        "owner__name-0": 2,
        "owner__name-1": 1,
        "owner__name-2": 1,
    }
    assert rollouts.resolved_rate == 0.5 and rollouts.graded_resolved_rate == pytest.approx(2 / 3)


def test_pass_at_is_the_unbiased_estimator_over_graded_attempts() -> None:
    rollouts = group({0: "ruuu", 1: "rruu", 2: "nuuuu"})
    assert rollouts.pass_at(1) == pytest.approx((1 / 4 + 2 / 4 + 0) / 3)
    assert rollouts.pass_at(2) == pytest.approx(((1 - 3 / 6) + (1 - 1 / 6) + 0) / 3)
    assert rollouts.all_pass(2) == pytest.approx((0 + 1 / 6 + 0) / 3)
    estimate = rollouts.pass_at(1)
    assert estimate.low <= estimate <= estimate.high and estimate.n == 3


def test_pass_at_more_than_there_are_attempts_is_not_a_number() -> None:
    assert math.isnan(group({0: "ru"}).pass_at(3))
    with pytest.raises(ValueError, match="k"):
        group({0: "ru"}).pass_at(0)


def test_predictions_hold_one_patch_a_task_in_the_harness_form(tmp_path: Path) -> None:
    rollouts = group({0: "ur", 1: "u"})
    found = json.loads(rollouts.to_predictions(tmp_path / "preds.json").read_text())
    assert set(found) == {"owner__name-0", "owner__name-1"}
    assert set(found["owner__name-0"]) == {"model_name_or_path", "instance_id", "model_patch"}
    lines = (rollouts.to_predictions(tmp_path / "preds.jsonl", attempt=1)).read_text().strip().split("\n")
    assert [json.loads(line)["instance_id"] for line in lines] == ["owner__name-0"]


def test_predictions_of_two_agents_in_one_file_are_refused(tmp_path: Path) -> None:
    mixed = Rollouts([make_rollout(agent="one"), make_rollout(attempt=1, agent="two")])
    with pytest.raises(RecordError, match="2 agents in one file"):
        mixed.to_predictions(tmp_path / "preds.json")


def test_frames_have_one_row_an_attempt_and_plain_columns() -> None:
    frame = group({0: "run"}).to_frame()
    assert frame["verdict"].to_list() == ["resolved", "unresolved", "not graded"]
    assert frame["reward"].to_list() == [1.0, 0.0, None]
    assert Rollouts().to_frame().schema == frame.schema


def test_rich_reprs_are_inert(rollout: Rollout) -> None:
    html = rollout._repr_html_() + Rollouts([rollout])._repr_html_()
    assert "<script" not in html and "</script" not in html and "\x1b" not in html and "\x00" not in html


def test_the_beginning_of_a_trajectory_is_a_trajectory_without_its_end(rollout: Rollout) -> None:
    start = rollout.trajectory[:0]
    assert start.steps == () and start.opening == rollout.trajectory.opening and start.patch == start.stop == ""
    assert rollout.trajectory[:5].steps == rollout.trajectory.steps
    with pytest.raises(ValueError, match="only a beginning"):
        rollout.trajectory[1:]
