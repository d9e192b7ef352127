"""The codec: every record comes back from its row to the letter, and a row that is wrong is refused by name."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swebench_lab.errors import RecordError, TaskError
from swebench_lab.records import _codec
from swebench_lab.records.reply import Message, Reply, VersionRun
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step, Thread, ToolCall
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Span, Stop, Trajectory
from swebench_lab.records.verdict import Verdict
from tests.conftest import make_rollout, make_task

text = st.text(st.characters(exclude_categories=()), max_size=12)
"""Texts with half characters, NULs and separators in them."""
number = st.integers(0, 2**40)
real = st.floats(allow_nan=False, width=64).map(lambda value: value + 0.0)
json_value = st.recursive(
    st.none() | st.booleans() | number | real | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, json_value, max_size=3)
texts = st.dictionaries(text, text, max_size=3)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    ids = draw(st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5))
    logprobs = st.lists(st.floats(max_value=0, width=32), min_size=len(ids or ()), max_size=len(ids or ()))
    return Reply(
        draw(text),
        token_ids=ids,  # type: ignore[arg-type]
        logprobs=None if ids is None else draw(st.none() | logprobs),  # type: ignore[arg-type]
        context_ids=draw(st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5)),  # type: ignore[arg-type]
        prompt_tokens=draw(st.none() | number),
        completion_tokens=draw(st.none() | number),
        cached_tokens=draw(st.none() | number),
        cost=draw(st.none() | real),
        seconds=draw(real),
        model=draw(text),
        finish_reason=draw(text),
        restart=draw(st.booleans()),
        versions=(VersionRun(len(ids), draw(number)),) if ids and draw(st.booleans()) else (),
        reasoning=draw(text),
        signature=draw(text),
        sampling_asked=draw(objects),
        sampling_sent=draw(objects),
    )


calls = st.builds(
    ToolCall, text, texts, text, text, st.none() | st.integers(), st.booleans(), text, real, text,
    st.lists(text, max_size=2).map(tuple),
)  # fmt: skip
steps = st.builds(
    Step, number, replies(), st.lists(calls, max_size=3).map(tuple), text, text, text, st.none() | number,
    st.sampled_from(Thread), text, texts, real, text, objects,
)  # fmt: skip
parts = st.lists(st.fixed_dictionaries({"type": text}, optional={"text": text}), max_size=2)
messages: st.SearchStrategy[Message] = st.fixed_dictionaries(
    {"role": text, "content": text | parts}, optional={"reasoning": text, "signature": text}
)  # type: ignore[assignment]
trajectories = st.builds(
    Trajectory, text, number, number, st.lists(messages, max_size=2).map(tuple), st.lists(steps, max_size=2).map(tuple),
    st.sampled_from([str(stop.value) for stop in Stop]), text, text, text, text, text, text, text, real, real, objects,
    st.lists(st.builds(Span, text, st.integers(), real, real), max_size=2).map(tuple),
)  # fmt: skip
tests = st.lists(text, max_size=2).map(tuple)
name = text.filter(str.strip)
tasks = st.builds(
    Task, name, name, text, text, text, tests, tests, text, text, text, st.booleans(), text, text, text, text, text, text,
    text, text, st.none() | objects, objects,
)  # fmt: skip


def through_json(row: Any) -> Any:
    return json.loads(json.dumps(row))


@settings(max_examples=150, deadline=None)
@given(record=replies() | calls | steps)
def test_parts_of_an_attempt_come_back_to_the_letter(record: Any) -> None:
    assert _codec.decode(type(record), through_json(_codec.encode(record)), "here") == record


@settings(max_examples=80, deadline=None)
@given(trajectory=trajectories, task=tasks, reward=st.none() | real, node=text, tries=number)
def test_attempts_and_tasks_come_back_to_the_letter(
    trajectory: Trajectory, task: Task, reward: float | None, node: str, tries: int
) -> None:
    assert Trajectory.from_dict(through_json(trajectory.to_dict())) == trajectory
    assert Task.from_dict(through_json(task.to_dict())) == task
    whole = replace(make_rollout(), task=task, trajectory=replace(trajectory, task_id=task.id))
    whole = replace(whole, reward=reward, node=node, tries=tries)
    assert Rollout.from_dict(through_json(whole.to_dict())) == whole
    assert Rollout.from_dict(through_json(whole.to_row()), task) == whole


@pytest.mark.parametrize("status", ["resolved", "unresolved", "not graded"])
def test_verdicts_come_back_to_the_letter(status: str) -> None:
    verdict = make_rollout(status=status).verdict
    assert Verdict.from_dict(through_json(verdict.to_dict())) == verdict


def test_what_is_as_it_is_by_default_takes_no_room() -> None:
    assert _codec.encode(Step(0, Reply("x"))) == {"index": 0, "reply": {"text": "x"}}
    assert Trajectory("t").to_dict() == {"schema": 1, "task_id": "t", "steps": []}


def test_every_stored_record_has_the_one_schema() -> None:
    rollout = make_rollout()
    row = rollout.to_dict()
    assert {row["schema"], row["task"]["schema"], row["trajectory"]["schema"]} == {_codec.SCHEMA} == {1}


@pytest.mark.parametrize(
    ("path", "value", "field", "expected"),
    [
        (("steps", 0, "reply", "text"), 5, "steps[0].reply.text", "expected text, found int 5"),
        (("steps", 0, "reply", "token_ids"), ["a"], "steps[0].reply.token_ids", "expected a row of whole numbers"),
        (("steps", 0, "reply", "token_ids"), [2**40, 1, 2], "steps[0].reply.token_ids", "of 32 bits"),
        (("steps", 0, "reply", "token_ids"), [1], "steps[0].reply", "1 token ids but 3 logprobs"),
        (("steps", 0, "calls", 0, "exit_code"), True, "steps[0].calls[0].exit_code", "expected a whole number"),
        (("steps", 0, "calls", 0, "arguments"), {"a": 1}, "steps[0].calls[0].arguments.a", "expected text"),
        (("steps", 0, "thread"), "side", "steps[0].thread", "expected one of 'main', 'sub-agent', 'auxiliary'"),
        (("steps", 0, "colour"), "red", "steps[0].colour", "not a field of a Step"),
        (("opening", 1), {"role": "user"}, "opening[1].content", "missing"),
        (("opening", 1), {"role": "user", "content": "a", "b": 1}, "opening[1].b", "not a field of a Message"),
        (("spans",), [["model", 0, 1.0]], "spans[0]", "expected a list of kind, step, start, end"),
        (("attempt",), None, "attempt", "expected a whole number"),
        (("seconds",), "long", "seconds", "expected a number"),
    ],
)
def test_a_wrong_row_is_refused_with_its_file_and_field(path: Any, value: Any, field: str, expected: str) -> None:
    row = through_json(make_rollout().trajectory.to_dict())
    inner = row
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(RecordError) as caught:
        Trajectory.from_dict(row, "rollouts.jsonl:7")
    assert str(caught.value).startswith(f"rollouts.jsonl:7, field {field!r}: ") and expected in str(caught.value)


def test_a_missing_field_is_named() -> None:
    row = through_json(make_rollout().trajectory.to_dict())
    del row["steps"][0]["reply"]
    with pytest.raises(RecordError, match=r"a:1, field 'steps\[0\]\.reply': missing"):
        Trajectory.from_dict(row, "a:1")
    with pytest.raises(TaskError, match="a:1, field 'issue': missing"):
        Task.from_dict({name: value for name, value in make_task().to_dict().items() if name != "issue"}, "a:1")


def test_the_place_of_layers_is_not_part_of_a_row() -> None:
    rollout = replace(make_rollout(), layers="/somewhere")
    assert "layers" in {f.name for f in fields(Rollout)} and "layers" not in rollout.to_row()
    assert Rollout.from_dict(rollout.to_dict(), layers="/elsewhere").layers == "/elsewhere"
