"""Reply and Step: arrays that are no lists of Python objects, sums in which unknown stays unknown, and several calls."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from swebench_lab.errors import RecordError
from swebench_lab.formats.token_ledger import Segment
from swebench_lab.records.reply import Message, Reply, VersionRun, text_of, total
from swebench_lab.records.rollout import Rollouts
from swebench_lab.records.step import Step, ToolCall
from swebench_lab.records.trajectory import Trajectory
from tests.conftest import make_rollout

REPLY = Reply("x", token_ids=[1, 2], logprobs=(-0.5, float("-inf")), context_ids=range(3))  # type: ignore[arg-type]


def test_ids_and_logprobs_are_arrays_however_they_were_given() -> None:
    kinds = [(REPLY.token_ids, "int32"), (REPLY.logprobs, "float32"), (REPLY.context_ids, "int32")]
    for values, kind in kinds:
        assert isinstance(values, np.ndarray) and values.dtype == kind and not values.flags.writeable
    given = np.array([1, 2])
    kept = Reply("x", token_ids=given).token_ids  # type: ignore[arg-type]
    given[0] = 9
    assert kept is not None and kept.tolist() == [1, 2]
    again = replace(REPLY, text="y")
    assert again.token_ids is REPLY.token_ids, "an array that cannot change is not copied"


@pytest.mark.parametrize("ids", [["a"], [1.5], [[1], [2]], [2**31], [None]])
def test_what_is_no_row_of_ids_is_refused(ids: object) -> None:
    with pytest.raises(RecordError, match="expected"):
        Reply("x", token_ids=ids)  # type: ignore[arg-type]


def test_replies_are_compared_hashed_and_pickled_by_value() -> None:
    same = Reply("x", token_ids=(1, 2), logprobs=[-0.5, float("-inf")], context_ids=(0, 1, 2))  # type: ignore[arg-type]
    assert same == REPLY and hash(same) == hash(REPLY) and len({same, REPLY}) == 1
    for other in (replace(REPLY, token_ids=(1, 3)), replace(REPLY, logprobs=None), replace(REPLY, text="y")):  # type: ignore[arg-type]
        assert other != REPLY
    unknown = Reply("x", token_ids=(1,), logprobs=(float("nan"),))  # type: ignore[arg-type]
    assert unknown == copy.deepcopy(unknown)
    loaded = pickle.loads(pickle.dumps(REPLY))
    assert loaded == REPLY and not loaded.token_ids.flags.writeable
    assert "dtype=int32" in repr(REPLY)


def test_segments_are_compared_and_pickled_by_value() -> None:
    one = Segment([1], [1], [-1.0], [3])  # type: ignore[arg-type]
    assert one == pickle.loads(pickle.dumps(one)) != Segment([1], [1], [-1.0], [4])  # type: ignore[arg-type]
    assert [part.dtype.name for part in (one.ids, one.mask, one.logprobs, one.versions)] == [
        "int32", "int8", "float32", "int32",
    ]  # fmt: skip


def test_versions_of_the_weights_are_runs_that_cover_the_ids() -> None:
    mixed = replace(REPLY, versions=((1, 4), (1, 3)))  # type: ignore[arg-type]
    assert mixed.versions == (VersionRun(1, 4), VersionRun(1, 3)) and mixed.version == 3
    assert REPLY.version == -1
    with pytest.raises(RecordError, match="2 token ids but its versions are of 5"):
        replace(REPLY, versions=(VersionRun(5, 1),))


def test_an_unknown_amount_makes_the_sum_unknown_and_never_zero() -> None:
    assert total([]) == 0 and total([1, 2]) == 3 and total([1, None]) is None
    told, silent = Reply("x", prompt_tokens=5, completion_tokens=2, cost=0.5), Reply("y")
    known = Trajectory("t", steps=(Step(0, told), Step(1, told)))
    mixed = Trajectory("t", steps=(Step(0, told), Step(1, silent)))
    assert (known.tokens, known.prompt_tokens, known.cached_tokens, known.cost) == (4, 10, None, 1.0)
    assert (mixed.tokens, mixed.prompt_tokens, mixed.cached_tokens, mixed.cost) == (None, None, None, None)


def test_frames_show_what_is_unknown_as_null() -> None:
    rollout = make_rollout()
    silent = replace(rollout, trajectory=replace(rollout.trajectory, attempt=1, steps=(Step(0, Reply("y")),)))
    made = Rollouts([rollout, silent])
    assert made.to_frame()["cost"].to_list() == [0.001, None]
    assert made.to_frame()["completion_tokens"].to_list() == [3, None]
    assert made.to_steps()["prompt_tokens"].to_list() == [12, None]


def test_a_step_shows_its_only_call_as_its_own() -> None:
    step = Step.of(0, Reply("x"), "I look", "bash", {"command": "ls"}, "ls", "README", 0, seconds=2.0, layer="f")
    assert step.calls == (ToolCall("bash", {"command": "ls"}, "ls", "README", 0, seconds=2.0),)
    assert (step.tool, step.arguments, step.command, step.observation) == ("bash", {"command": "ls"}, "ls", "README")
    assert (step.exit_code, step.timed_out, step.limit, step.seconds, step.layer) == (0, False, "", 2.0, "f")
    assert step.with_call(exit_code=1).exit_code == 1 and not step.malformed


def test_a_step_of_several_calls_tells_of_all_of_them() -> None:
    first = ToolCall("bash", command="ls", observation="a", exit_code=1, seconds=1.0, limit="pids")
    second = ToolCall("search", command="search x", observation="b", exit_code=0, seconds=2.0, timed_out=True)
    step = Step(0, Reply("x"), (first, second))
    assert (step.tool, step.command, step.observation) == ("bash", "ls\nsearch x", "a\nb")
    assert (step.exit_code, step.timed_out, step.limit, step.seconds) == (0, True, "pids", 3.0)
    assert [m["content"] for m in step.messages] == ["x", "a\nb"]


def test_a_reply_without_a_call_is_corrected() -> None:
    step = Step.of(0, Reply("x"), observation="There was no call.")
    assert step.malformed and step.correction == step.observation == "There was no call."
    assert step.with_call(observation="again").observation == "again"
    with pytest.raises(ValueError, match="holds no call"):
        step.with_call(exit_code=0)


def test_reasoning_goes_back_with_its_signature() -> None:
    thought, plain = Step(0, Reply("x", reasoning="hm", signature="s")).messages[0], Step(0, Reply("x")).messages[0]
    assert thought == {"role": "assistant", "content": "x", "reasoning": "hm", "signature": "s"}
    assert plain == {"role": "assistant", "content": "x"}


def test_a_message_in_parts_says_what_its_parts_say() -> None:
    parts: Message = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}
    assert text_of(parts) == "ab" and text_of({"role": "user", "content": "c"}) == "c"
