"""Verdict: a status, what it rests on, and no contradiction between the two."""

from __future__ import annotations

import json

import pytest

from swebench_lab.errors import RecordError
from swebench_lab.records.verdict import STATUSES, Cause, Verdict


def test_the_causes_are_these() -> None:
    assert [str(cause) for cause in Cause] == [
        "tests",
        "not_applied",
        "timed_out",
        "crashed",
        "forged",
        "infrastructure",
    ]


def test_a_cause_left_out_is_the_tests_for_what_was_graded_and_none_for_what_nobody_graded() -> None:
    assert [Verdict(status).cause for status in STATUSES] == [Cause.TESTS, Cause.TESTS, None]


@pytest.mark.parametrize(
    ("status", "causes"),
    [
        ("resolved", {"tests"}),
        ("unresolved", {"tests", "not_applied", "timed_out", "crashed", "forged"}),
        ("not graded", {"timed_out", "crashed", "forged", "infrastructure"}),
    ],
)
def test_a_status_has_only_causes_that_it_can_have(status: str, causes: set[str]) -> None:
    for cause in Cause:
        if cause in causes:
            assert Verdict(status, cause=cause).cause is cause
        else:
            with pytest.raises(RecordError, match=f"cannot be {status!r} because of {str(cause)!r}"):
                Verdict(status, cause=cause)


def test_an_unknown_cause_is_an_error_that_lists_them() -> None:
    with pytest.raises(RecordError, match="it must be one of tests, not_applied"):
        Verdict("unresolved", cause="the weather")  # type: ignore[arg-type]


def test_cause_and_rewards_are_stored_and_read_back() -> None:
    verdict = Verdict("unresolved", "too slow", cause=Cause.TIMED_OUT, rewards={"speed": 0.25, "tests": 1})
    row = json.loads(json.dumps(verdict.to_dict()))
    assert (row["cause"], row["rewards"]) == ("timed_out", {"speed": 0.25, "tests": 1})
    again = Verdict.from_dict(row)
    assert again == verdict and again.cause is Cause.TIMED_OUT
    assert type(verdict.to_dict()["cause"]) is str
    assert Verdict("resolved").rewards == {}
