"""Logs of Inspect and results of verifiers as they are in the field: compressed, cut off, refused, stored as tables store them."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.reading import load_trajectories, read_record

USER = {"role": "user", "content": "Fix it."}
DONE = {"role": "assistant", "content": "Done.", "source": "generate"}
Facts = Callable[[Trajectory], Any]


def dropped(trajectory: Trajectory) -> Any:
    return trajectory.extra.get("dropped")


# --- Inspect --------------------------------------------------------------------------------------------------------


def native(**more: Any) -> dict[str, Any]:
    call = {"id": "1", "function": "bash", "arguments": {"command": "ls"}, "type": "function", "view": None}
    return {"role": "assistant", "content": "I look.", "tool_calls": [call], "source": "generate", **more}


def shown(content: Any = "a.py", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": "1", "function": "bash", **more}


def log(*samples: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 2, "status": "success", "eval": {"model": "m"}, "samples": list(samples), **more}


def sample(*messages: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "own-1", "epoch": 1, "input": "Fix it.", "messages": list(messages), **more}


def test_logs_compressed_by_zstandard_are_read_and_what_was_written_again_counts_once() -> None:
    """The file was written by the zipfile that Inspect patches."""
    first, second = load_trajectories(Path(__file__).with_name("zstandard.eval"))
    assert (first.task_id, first.attempt, first.steps[0].reply.text) == ("a/b", 1, "Second." * 300)
    assert (second.task_id, second.attempt, second.steps[0].reply.text) == ("own-1", 0, "First, written again.")
    assert second.opening[0]["content"] == "Fix it: naïve \u2028 ünïcode" and second.extra["scores"] == {"tests": 1.0}


def test_a_damaged_archive_is_refused_by_its_member(tmp_path: Path) -> None:
    data = bytearray(Path(__file__).with_name("zstandard.eval").read_bytes())
    at = data.index(b"samples/a/b_epoch_2.json") + 60
    data[at : at + 8] = b"damaged!"
    (tmp_path / "a.eval").write_bytes(data)
    with pytest.raises(RecordError, match=r"a.eval: the log of Inspect cannot be read: .*(decompressed|damaged)"):
        load_trajectories(tmp_path / "a.eval")


def test_a_log_whose_evaluation_is_not_over_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": {"model": "m"}, "plan": {}}))
        archive.writestr("samples/own-1_epoch_1.json", json.dumps(sample(USER, DONE)))
    (made,) = load_trajectories(tmp_path)
    assert (made.task_id, made.policy, len(made)) == ("own-1", "m", 1)


INSPECT: dict[str, tuple[dict[str, Any], Facts, Any]] = {
    "a number for an id": (sample(USER, DONE, id=0), lambda t: t.task_id, "0"),
    "an example of the dataset": (
        sample(USER, {"role": "assistant", "content": "Like so.", "source": "input"}, USER, DONE),
        lambda t: [step.extra.get("weight") for step in t.steps], [0, None]),
    "an error of a tool beside what it said": (
        sample(USER, native(), shown("half of it", error={"type": "timeout", "message": "it took too long"}), DONE),
        lambda t: t.steps[0].observation, "it took too long"),
    "a sample that died before it began": (
        sample(error={"message": "no docker", "traceback": ""}), lambda t: (t.stop, t.error, len(t)), ("error", "no docker", 0)),
    "a sample without messages or error": (sample(), lambda t: (t.stop, t.error), ("error", "nothing was said")),
    "a limit of messages": (sample(USER, native(), limit={"type": "message", "limit": 3}), lambda t: t.stop, "max_steps"),
    "a limit of tokens": (sample(USER, native(), limit={"type": "token", "limit": 9}), lambda t: t.stop, "max_tokens"),
    "a full context": (sample(USER, native(), limit={"type": "context", "limit": 9}), lambda t: t.stop, "max_tokens"),
    "a limit of time": (sample(USER, native(), limit={"type": "working", "limit": 9}), lambda t: t.stop, "timeout"),
    "a limit of cost": (sample(USER, native(), limit={"type": "cost", "limit": 9}), lambda t: t.stop, "max_cost"),
    "an operator's end": (sample(USER, native(), limit={"type": "operator", "limit": 1}), lambda t: t.stop, "cancelled"),
    "an encrypted thought": (
        sample(USER, {**DONE, "content": [{"type": "reasoning", "reasoning": "gAAAA", "summary": "I plan.", "redacted": True},
                                          {"type": "text", "text": "Done."}]}),
        lambda t: (t.steps[0].reply.reasoning, t.steps[0].reply.text, dropped(t)), ("I plan.", "Done.", {"encrypted thoughts": 1})),
    "an image, and what a provider's own tool did": (
        sample({"role": "user", "content": [{"type": "text", "text": "Fix it."}, {"type": "image", "image": "attachment://a"}]},
               {**DONE, "content": [{"type": "tool_use", "tool_type": "web_search", "id": "1", "name": "s", "arguments": "", "result": ""},
                                    {"type": "text", "text": "Done."}]}, attachments={"a": "data:image/png;base64,x"}),
        lambda t: (t.opening[0]["content"], dropped(t)), ("Fix it.", {"parts of the kind image": 1, "parts of the kind tool_use": 1})),
    "a text among the attachments": (
        sample({"role": "user", "content": [{"type": "text", "text": "attachment://abc"}]}, DONE, attachments={"abc": "A long issue."}),
        lambda t: t.opening[0]["content"], "A long issue."),
    "a call that could not be read": (
        sample(USER, native(tool_calls=[{"id": "1", "function": "bash", "arguments": {}, "parse_error": "no JSON"}]),
               shown("", error={"type": "parsing", "message": "no JSON"})),
        lambda t: (t.steps[0].tool, t.steps[0].observation), ("bash", "no JSON")),
    "a sample that was declared invalid": (
        sample(USER, DONE, invalidation={"author": "me", "reason": "wrong image"}), lambda t: t.extra["invalidated"], "wrong image"),
    "scores of every kind": (
        sample(USER, DONE, scores={"a": {"value": float("nan")}, "b": {"value": {"x": 1}}, "c": {"value": "C"}}),
        lambda t: [str(t.extra["scores"][name]) for name in "abc"], ["nan", "{'x': 1}", "C"]),
}  # fmt: skip


@pytest.mark.parametrize("name", INSPECT)
def test_a_sample_of_inspect_says_what_happened(name: str, tmp_path: Path) -> None:
    record, facts, expected = INSPECT[name]
    (tmp_path / "log.json").write_text(json.dumps(log(record)))
    (made,) = load_trajectories(tmp_path / "log.json")
    assert facts(made) == expected
    assert made.extra["format"] == "inspect" and "resolved" not in made.extra


# --- verifiers ------------------------------------------------------------------------------------------------------

CALL = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
FLAT = {"id": "1", "name": "bash", "arguments": '{"command": "ls"}'}
LOOK = {"role": "assistant", "content": "I look.", "tool_calls": [CALL]}
SEEN = {"role": "tool", "tool_call_id": "1", "content": "a.py"}
ROW = {
    "example_id": 3,
    "prompt": [USER],
    "completion": [LOOK, SEEN, DONE],
    "answer": "",
    "reward": 1.0,
    "task": "own",
    "info": {},
}


def steps(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(step.command, step.observation) for step in trajectory.steps]


BOTH = [("ls", "a.py"), ("", "")]
ROWS: dict[str, tuple[dict[str, Any], Facts, Any]] = {
    "calls that a table holds as JSON": ({"completion": [{**LOOK, "tool_calls": [json.dumps(CALL)]}, SEEN, DONE]}, steps, BOTH),
    "calls that are flat": ({"completion": [{**LOOK, "tool_calls": [FLAT]}, SEEN, DONE]}, steps, BOTH),
    "columns that are JSON": (
        {"prompt": json.dumps([USER]), "completion": json.dumps(ROW["completion"]), "info": json.dumps({"instance_id": "x-1"})},
        lambda t: (t.task_id, steps(t)), ("x-1", BOTH)),
    "nulls in every message": ({"completion": [{**LOOK, "content": None, "refusal": None}, {**SEEN, "tool_calls": None}, DONE]}, steps, BOTH),
    "plain texts": ({"prompt": "2 + 2?", "completion": "4"}, lambda t: (t.opening[0]["content"], t.steps[0].reply.text), ("2 + 2?", "4")),
    "no reply": ({"completion": []}, lambda t: (t.stop, len(t)), ("cancelled", 0)),
    "an example in the prompt": ({"prompt": [USER, DONE, USER]}, lambda t: [s.extra.get("weight") for s in t.steps], [0, None, None]),
    "a reward that is none": ({"reward": float("nan")}, lambda t: math.isnan(t.extra["reward"]), True),
    "an error": (
        {"reward": 0.0, "error": {"error": "ModelError", "error_chain_str": "ModelError -> 500"}, "stop_condition": "has_error"},
        lambda t: (t.stop, t.error), ("error", "ModelError -> 500")),
    "too many turns": ({"stop_condition": "max_turns_reached"}, lambda t: t.stop, "max_steps"),
    "a full context": ({"stop_condition": "prompt_too_long"}, lambda t: t.stop, "max_tokens"),
    "a reply that was cut off": ({"is_truncated": True}, lambda t: t.stop, "max_tokens"),
    "no number of its example": ({"example_id": None}, lambda t: t.task_id, "own"),
    "a task that is an object": ({"task": {"id": "t-1"}}, lambda t: t.task_id, "t-1-3"),
    "arguments that broke off": (
        {"completion": [{**LOOK, "tool_calls": [{**FLAT, "arguments": '{"command": '}]}, SEEN]},
        lambda t: dict(t.steps[0].arguments), {"arguments": '{"command": '}),
    "an image": (
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "u"}, {"type": "image_url", "image_url": {"url": "data:"}}]}]},
        dropped, {"parts of the kind image_url": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_verifiers_says_what_happened(name: str) -> None:
    change, facts, expected = ROWS[name]
    made = read_record({**ROW, **change})
    assert facts(made) == expected
    assert made.extra["format"] == "verifiers" and "resolved" not in made.extra


def node(message: Mapping[str, Any], parent: int | None = None, sampled: bool | None = None) -> dict[str, Any]:
    return {
        "message": message,
        "parent": parent,
        "sampled": message["role"] == "assistant" if sampled is None else sampled,
    }


NODES = [node(USER), node({**LOOK, "tool_calls": [FLAT]}, 0), node(SEEN, 1), node(DONE, 2)]
TRACE = {
    "version": 1,
    "task": {"data": {"id": "own-1"}},
    "nodes": NODES,
    "ok": True,
    "errors": [],
    "calls": [{"model": "m"}],
}
EPISODE = {"id": "e", "env": {}, "task": {"data": {"id": "own-1"}}, "ok": True, "errors": []}
TRACES: dict[str, tuple[dict[str, Any], Facts, Any]] = {
    "all well": ({}, lambda t: (t.task_id, t.stop, steps(t)), ("own-1", "submitted", BOTH)),
    "a number for an id": ({"task": {"data": {"id": 0}, "key": "k"}}, lambda t: t.task_id, "0"),
    "only a key": ({"task": {"key": "k"}}, lambda t: t.task_id, "k"),
    "too many turns": ({"stop_condition": "max_turns"}, lambda t: t.stop, "max_steps"),
    "its agent's time": ({"stop_condition": "agent_timeout", "is_timeout": True}, lambda t: t.stop, "timeout"),
    "an end by itself": ({"stop_condition": "agent_completed"}, lambda t: t.stop, "submitted"),
    "errors before a retry that went well": ({"errors": [{"message": "502"}]}, lambda t: (t.stop, t.error), ("submitted", "502")),
    "an error at the end": ({"errors": [{"message": "502"}, "x"], "ok": False}, lambda t: (t.stop, t.error), ("error", "502; x")),
    "a sub-agent's branch": (
        {"nodes": [*NODES[:3], node(USER), node(DONE, 3), node(DONE, 2)]}, lambda t: (steps(t), dropped(t)),
        (BOTH, {"messages of other branches": 2})),
    "a branch that bites its tail": ({"nodes": [node(USER, 1), node(DONE, 0)]}, lambda t: len(t), 1),
    "a node without a message": ({"nodes": [node(USER), {"parent": 0}, node(DONE, 1)]}, lambda t: (len(t.opening), len(t)), (1, 1)),
    "a reply that was not sampled": (
        {"nodes": [node(USER), node(DONE, 0, sampled=False)]}, lambda t: t.steps[0].extra["weight"], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_of_verifiers_says_what_happened(name: str, tmp_path: Path) -> None:
    change, facts, expected = TRACES[name]
    (tmp_path / "traces.jsonl").write_text(json.dumps({**EPISODE, "traces": [{**TRACE, **change}]}) + "\n")
    (made,) = load_trajectories(tmp_path)
    assert facts(made) == expected


def test_an_episode_that_died_before_its_first_trace_leaves_the_others_readable(tmp_path: Path) -> None:
    died = {**EPISODE, "ok": False, "errors": [{"message": "no sandbox"}], "traces": []}
    lines = [json.dumps(one) for one in (died, {**EPISODE, "traces": [TRACE]})]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines))
    first, second = load_trajectories(tmp_path)
    assert (first.task_id, first.stop, first.error, len(first)) == ("own-1", "error", "no sandbox", 0) and len(
        second
    ) == 2
