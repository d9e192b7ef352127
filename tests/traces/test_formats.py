"""Every format is recognised by its content, read for what it says, written back as it was, and turned into every other."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import RecordError
from swebench_lab.records.step import Step
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.reading import read_record
from tests.conftest import make_rollout
from tests.samples import a_rollout
from tests.tokens import plain
from tests.traces import records
from tests.traces.records import FILES, LOOK, PATCH, SOURCE, put

ALL = pytest.mark.parametrize("name", FILES)
EXPECTED = {
    "sweagent-0": ("swe-agent", "0.x", 3, "submitted"),
    "sweagent-1.0": ("swe-agent", "1.0", 3, "submitted"),
    "sweagent-1.1": ("swe-agent", "1.1", 3, "submitted"),
    "demonstration": ("swe-agent", "demonstration", 3, "cancelled"),
    "mini-2-tools": ("mini-swe-agent", "mini-swe-agent-1.1", 4, "submitted"),
    "mini-2-text": ("mini-swe-agent", "mini-swe-agent-1.1", 4, "submitted"),
    "mini-2-responses": ("mini-swe-agent", "mini-swe-agent-1.1", 4, "submitted"),
    "mini-1": ("mini-swe-agent", "messages", 2, "submitted"),
    "openhands": ("openhands", "events", 1, "max_steps"),
    "openhands-pairs": ("openhands", "pairs", 2, "submitted"),
    "ticks": ("ticks", "ticks", 2, "submitted"),
    "xml": ("xml", "xml", 2, "submitted"),
    "tool": ("tool", "tool", 2, "submitted"),
    "atif": ("atif", "ATIF-v1.4", 2, "submitted"),
}


@ALL
def test_the_content_decides_what_a_file_is_not_its_name(name: str, tmp_path: Path) -> None:
    file = put(tmp_path, name)
    file = file.rename(tmp_path / f"whatever{'.jsonl' if file.suffix == '.jsonl' else '.json'}")
    (trace,) = lab.load_trajectories(file)
    assert (trace.extra["format"], trace.extra["version"], len(trace), trace.stop) == EXPECTED[name]
    first = trace.steps[0]
    assert first.tool in ("bash", "execute_bash") and first.arguments["command"] == LOOK
    assert first.extra.get("output", first.observation).removeprefix("OBSERVATION:\n").startswith(SOURCE)
    assert trace.opening[0]["content"] == records.SYSTEM and records.ISSUE in trace.opening[-1]["content"]
    if name not in ("demonstration", "mini-1", "atif"):
        assert trace.patch == PATCH


@ALL
def test_what_is_saved_in_its_own_format_has_the_same_bytes_and_the_same_values(name: str, tmp_path: Path) -> None:
    file = put(tmp_path, name)
    traces = lab.load_trajectories(file)
    again = traces.save(tmp_path / "again" / file.name)
    assert again.read_bytes() == file.read_bytes()
    assert lab.load_trajectories(again) == traces


def told(trace: lab.Trajectory) -> list[tuple[Any, ...]]:
    """What every format can hold of a trace."""
    return [(s.thought.strip(), turns.calls_of(s), s.observation) for s in trace.steps]


@ALL
@pytest.mark.parametrize("target", ["swe-agent", "mini-swe-agent", "openhands", "atif", "lab"])
def test_every_format_becomes_every_other_with_what_was_said_called_and_seen(
    name: str, target: str, tmp_path: Path
) -> None:
    (trace,) = lab.load_trajectories(put(tmp_path, name))
    ending = {"openhands": "x.jsonl", "lab": "x.jsonl", "atif": "x.json"}.get(target, "x.traj")
    bare = replace(trace, extra={})  # without its record nothing can be copied
    (back,) = lab.load_trajectories(bare.save(tmp_path / ending, target))
    assert told(back) == told(trace) and back.opening == trace.opening
    assert (back.task_id, back.patch, back.stop) == (trace.task_id or back.task_id, trace.patch, trace.stop)
    if target == "lab":
        assert back == bare


@ALL
@pytest.mark.parametrize("form", ["ticks", "xml", "tool"])
def test_every_format_becomes_rows_to_fine_tune_on(name: str, form: str, tmp_path: Path) -> None:
    (trace,) = lab.load_trajectories(put(tmp_path, name))
    for ending in ("rows.jsonl", "rows.parquet"):
        (row,) = lab.load_trajectories(trace.save(tmp_path / ending, form))
        assert row.extra["format"] == form
        assert len(row) == len(trace) - (name == "sweagent-1.1"), "whose last reply SWE-smith leaves out"
        assert (row.steps[-1].observation == "") == (name != "sweagent-1.1"), "a row ends with the last reply"
        several = any(len(step.calls) > 1 for step in trace.steps)
        assert several or all(row.steps[i].tool for i, s in enumerate(trace.steps[: len(row)]) if s.tool)
        assert "null" not in json.dumps(row.extra["record"]["messages"]), "no table puts nulls into messages"


def test_rows_are_those_that_swe_smith_makes_of_the_same_record() -> None:
    trace = read_record(records.sweagent_1(query=False))  # the converter's rules, worked out by hand for a small record
    seen = f"OBSERVATION:\n{SOURCE}"
    action = "str_replace_editor str_replace /testbed/half.py --old_str 'x * 2' --new_str 'x / 2'"
    ticks = trace.to_sft("ticks")["messages"]
    assert ticks[2] == {"role": "assistant", "content": f"I look.\n\n```\n{LOOK}\n```"}
    assert ticks[3] == {"role": "user", "content": seen}
    assert ticks[4]["content"] == f"I mend it.\n\n```\n{action}\n```"
    xml = trace.to_sft("xml", system="Mend.")["messages"]
    assert xml[0] == {"role": "system", "content": "Mend."}
    assert xml[4]["content"] == (
        "I mend it.\n\n<function=str_replace_editor>\n<parameter=command>str_replace</parameter>\n"
        "<parameter=path>/testbed/half.py</parameter>\n<parameter=old_str>\nx * 2\n</parameter>\n"
        "<parameter=new_str>\nx / 2\n</parameter>\n</function>"
    )
    assert trace.to_sft("tool")["messages"] == records.sweagent_1(query=False)["trajectory"][-1]["messages"][:-1]
    with pytest.raises(RecordError, match="unknown form 'json'; known are ticks, xml, tool"):
        trace.to_sft("json")


def test_an_edited_trace_is_written_as_it_is_now_not_as_it_was_read(tmp_path: Path) -> None:
    (trace,) = lab.load_trajectories(put(tmp_path, "sweagent-1.1"))
    edited = replace(trace, steps=(trace.steps[0].with_call(observation="nothing"), *trace.steps[1:]))
    (back,) = lab.load_trajectories(edited.save(tmp_path / "edited.traj"))
    assert back.steps[0].observation == "nothing"
    assert edited.to_sft("xml")["messages"][3]["content"] == "nothing"


def test_our_own_attempts_survive_the_formats_that_can_hold_them(tmp_path: Path) -> None:
    own = a_rollout().trajectory
    for target, ending in (("atif", "x.json"), ("swe-agent", "x.traj"), ("mini-swe-agent", "x.traj.json")):
        (back,) = lab.load_trajectories(own.save(tmp_path / ending, target))
        assert [(s.tool, dict(s.arguments), s.observation) for s in back.steps] == [
            (s.tool, dict(s.arguments), s.observation) for s in own.steps
        ]
    hard = make_rollout().trajectory
    (back,) = lab.load_trajectories(hard.save(tmp_path / "hard.jsonl"))
    assert back == hard and plain(hard.steps[0].reply.token_ids) == (1, 2, 3)


def test_tokens_and_their_logprobs_survive_the_interchange_format(tmp_path: Path) -> None:
    (trace,) = lab.load_trajectories(put(tmp_path, "atif"))
    assert (plain(trace.steps[0].reply.token_ids), plain(trace.steps[0].reply.logprobs)) == ((5, 6), (-0.5, -1.0))
    (back,) = lab.load_trajectories(replace(trace, extra={}).save(tmp_path / "b.json", "atif"))
    assert (plain(back.steps[0].reply.token_ids), plain(back.steps[0].reply.logprobs)) == ((5, 6), (-0.5, -1.0))


@ALL
def test_what_is_written_for_interchange_keeps_its_rules(name: str) -> None:
    from swebench_lab.traces.saving import record_of

    written = record_of(replace(read_record(FILES[name][1]), extra={}), "atif")
    assert {"schema_version", "session_id", "agent", "steps"} <= set(written)
    assert set(written["agent"]) >= {"name", "version"}
    assert [step["step_id"] for step in written["steps"]] == list(range(1, len(written["steps"]) + 1))
    assert written["final_metrics"]["total_steps"] == len(written["steps"])
    for step in written["steps"]:
        assert isinstance(step["message"], str)
        if step["source"] != "agent":
            assert set(step) == {"step_id", "source", "message"}, "calls, metrics and the like are an agent's only"
        ids = [call["tool_call_id"] for call in step.get("tool_calls", ())]
        assert len(set(ids)) == len(ids) and all(isinstance(c["arguments"], dict) for c in step.get("tool_calls", ()))
        for result in step.get("observation", {}).get("results", ()):
            assert result.get("source_call_id", None) in (*ids, None)


def test_arguments_are_encoded_once_and_hold_no_null(tmp_path: Path) -> None:
    (trace,) = lab.load_trajectories(put(tmp_path, "openhands"))
    second = turns.calls_of(trace.steps[0])[1]
    assert second.arguments["view_range"] == "[1, 2]"
    row = replace(trace, extra={}).to_sft("tool")
    arguments = json.loads(row["messages"][2]["tool_calls"][1]["function"]["arguments"])
    assert arguments == {"command": "view", "path": "/workspace/half/half.py", "view_range": [1, 2]}


def test_columns_of_a_table_are_read_without_the_nulls_it_put_in(tmp_path: Path) -> None:
    import polars as pl

    row = records.sft("tool")
    for message in row["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    pl.DataFrame([row], infer_schema_length=None).write_parquet(tmp_path / "rows.parquet")
    stored = pl.read_parquet(tmp_path / "rows.parquet")["messages"].to_list()[0]
    assert stored[0]["tool_calls"] is None, "a table has every field in every message"
    (trace,) = lab.load_trajectories(tmp_path / "rows.parquet")
    assert trace.extra["record"]["messages"][0] == row["messages"][0]
    assert [s.tool for s in trace.steps] == ["bash", "submit"] and trace.steps[1].arguments == {}


def test_numbers_among_a_foreign_tool_s_arguments_stay_numbers(tmp_path: Path) -> None:
    record = records.sft("tool")
    arguments = {"url": "7", "depth": 7, "deep": {"a": [None, True]}}
    record["messages"][2]["tool_calls"] = [records.openai_call(0, "browse", arguments)]
    trace = read_record(record)
    assert trace.steps[0].arguments["depth"] == "7"
    (kept,) = lab.load_trajectories(replace(trace, extra={}).save(tmp_path / "kept.jsonl", "lab"))
    for target, ending in (("tool", "x.jsonl"), ("swe-agent", "x.traj"), ("atif", "x.json"), ("openhands", "y.jsonl")):
        (back,) = lab.load_trajectories(kept.save(tmp_path / ending, target))
        assert turns.typed(turns.calls_of(back.steps[0])[0]) == arguments


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ('{"name": "Ann", "age": 7}', "x.json", r"x\.json: of no known format: found an object with name, age"),
        ("[1, 2]", "x.json", r"row 1: of no known format: found int '1'"),
        ("hello", "x.traj", r"x\.traj: not JSON"),
        ("", "x.traj", "the file is empty"),
        ('{"history": [], "trajectory": [{"action": "ls"}], "info": 7}', "x.traj", "field 'info': expected an object"),
        ('{"a": {"model_patch": "d", "instance_id": "a"}}', "preds.json", "These are predictions"),
        (
            '{"schema_version": "ATIF-v1.4", "steps": [{"source": "moon"}]}',
            "x.json",
            "step 1, field 'source': expected",
        ),
    ],
    ids=["object", "numbers", "words", "empty", "field", "predictions", "atif"],
)
def test_what_cannot_be_read_names_file_row_field_and_what_was_seen(
    content: str, name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordError, match=said):
        lab.load_trajectories(tmp_path / name)


def test_a_broken_row_of_many_is_named(tmp_path: Path) -> None:
    file = put(tmp_path, "xml", copies=3)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:50], lines[2]]))
    with pytest.raises(RecordError, match=r"xml\.jsonl:2: not JSON"):
        lab.load_trajectories(file)
    with pytest.raises(RecordError, match="there is no file or folder"):
        lab.load_trajectories(tmp_path / "gone")
    (tmp_path / "none").mkdir()
    with pytest.raises(RecordError, match=r"no traces in .* it holds nothing"):
        lab.load_trajectories(tmp_path / "none")


def test_several_attempts_at_one_task_are_told_apart(tmp_path: Path) -> None:
    traces = lab.load_trajectories(put(tmp_path, "xml", copies=3))
    assert [trace.attempt for trace in traces] == [0, 1, 2]
    traces.save(tmp_path / "run", "swe-agent")
    again = lab.load_trajectories(tmp_path / "run")
    assert [trace.attempt for trace in again] == [0, 1, 2]
    with pytest.raises(RecordError, match="two are of attempt 0 at 'acme__half-1', and one would overwrite the other"):
        lab.Trajectories([traces[0], traces[0]]).save(tmp_path / "twice", "swe-agent")


def test_what_cannot_be_saved_says_why(tmp_path: Path) -> None:
    traces = lab.load_trajectories(put(tmp_path, "xml", copies=2))
    with pytest.raises(RecordError, match="unknown format 'word'"):
        traces.save(tmp_path / "x.doc", "word")
    with pytest.raises(RecordError, match=r"must end in \.jsonl or \.parquet"):
        traces.save(tmp_path / "x.txt", "xml")
    with pytest.raises(RecordError, match="a file of this format holds one"):
        traces.save(tmp_path / "x.jsonl", "swe-agent")
    both = lab.Trajectories([*traces, *lab.load_trajectories(put(tmp_path, "ticks"))])
    with pytest.raises(RecordError, match=r"several formats \(ticks, xml\)"):
        both.save(tmp_path / "x.jsonl")


def damaged(record: Any, chance: random.Random) -> Any:
    """Return a record of which one to three places are gone, or hold something else."""
    record = copy.deepcopy(record)
    for _ in range(chance.randint(1, 3)):
        holder, places = None, list(record) if isinstance(record, dict) else list(range(len(record)))
        inner = record
        while places and (holder is None or chance.random() < 0.7):
            holder, place = inner, chance.choice(places)
            inner = holder[place]
            places = (
                list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
            )
        if holder is None:
            return record
        if chance.random() < 0.25:
            del holder[place]
        else:
            holder[place] = chance.choice([None, 7, "x", [], {}, [1], {"a": 1}, True, 1.5, "", [[]]])
    return record


@ALL
def test_a_damaged_record_is_read_or_refused_in_words(name: str) -> None:
    chance = random.Random(name)
    refused = 0
    for _ in range(150):
        try:
            trace = read_record(damaged(FILES[name][1], chance))
            for form in ("ticks", "xml", "tool"):
                trace.to_sft(form)
        except RecordError:
            refused += 1
    assert 0 < refused < 150


# --- run directories ------------------------------------------------------------------------------------------------


def test_the_run_directory_of_another_project_is_read_with_its_predictions_and_exit_statuses(tmp_path: Path) -> None:
    record = records.sweagent_1()
    record["info"] = {}
    for name in ("acme__half-1", "acme__half-2"):
        record["environment"] = name
        record["replay_config"] = json.dumps({"problem_statement": {"id": name}})
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.traj").write_text(json.dumps(record))
    (tmp_path / "acme__half-2" / "acme__half-2.pred").write_text(json.dumps({"model_patch": "other", "reward": 0.0}))
    (tmp_path / "preds.json").write_text(
        json.dumps({"acme__half-1": {"instance_id": "acme__half-1", "model_patch": PATCH}})
    )
    statuses = "instances_by_exit_status:\n  submitted: [acme__half-1]\n  exit_cost: [acme__half-2]\n"
    (tmp_path / "run_batch_exit_statuses.yaml").write_text(statuses)
    one, two = lab.load_trajectories(tmp_path)
    assert (one.patch, one.stop, two.patch, two.stop) == (PATCH, "submitted", "other", "max_cost")
    assert two.extra["resolved"] is False and "resolved" not in one.extra


def test_a_run_is_exported_as_another_projects_users_expect_it_and_read_back(tmp_path: Path) -> None:
    rollouts = lab.Rollouts([make_rollout(attempt=0), make_rollout(attempt=1, status="not graded")])
    lab.Rollouts(rollouts[:1]).export(tmp_path / "one")
    task = rollouts[0].task.id
    here = tmp_path / "one"
    names = sorted(str(p.relative_to(here)) for p in here.rglob("*") if p.is_file())
    assert names == [f"{task}/{task}.pred", f"{task}/{task}.traj", "preds.json", "run_batch_exit_statuses.yaml"]
    assert json.loads((here / "preds.json").read_text())[task]["model_patch"] == rollouts[0].trajectory.patch
    pred = json.loads((here / task / f"{task}.pred").read_text())
    assert pred["reward"] == rollouts[0].reward and pred["resolved"] is True
    (back,) = lab.load_trajectories(here)
    assert (back.task_id, back.patch, back.extra["resolved"]) == (task, rollouts[0].trajectory.patch, True)
    rollouts.export(tmp_path / "two", "mini-swe-agent")
    ungraded = json.loads((tmp_path / "two" / "attempt-1" / task / f"{task}.pred").read_text())
    assert ungraded["reward"] is None and "resolved" not in ungraded, "an infrastructure error is not a reward of 0"
    rollouts.export(tmp_path / "rows.jsonl", "xml")
    scored, fault = lab.load_trajectories(tmp_path / "rows.jsonl")
    assert scored.extra["resolved"] is True and "resolved" not in fault.extra
    mixed = lab.Rollouts([rollouts[0], make_rollout(attempt=1, agent="b" * 16)])
    with pytest.raises(RecordError, match="overwrite each other"):
        mixed.export(tmp_path / "three")


def test_our_own_run_directories_and_saved_rollouts_load(tmp_path: Path) -> None:
    from swebench_lab.rollouts.run_directory import RunDirectory

    rollout = make_rollout()
    RunDirectory(tmp_path / "run").append(rollout)
    lab.Rollouts([rollout]).save(tmp_path / "saved.parquet")
    for source in (tmp_path / "run", tmp_path / "saved.parquet"):
        (found,) = lab.load_trajectories(source)
        assert found == replace(rollout.trajectory, extra={"resolved": True})


def test_a_stored_step_keeps_what_a_foreign_trace_says_beyond_it() -> None:
    step = Step(0, lab.Reply("x"), extra={"output": "y"})
    trace = lab.Trajectory("t", steps=(step,), extra={"format": "xml"})
    row = json.loads(json.dumps(trace.to_dict()))
    assert lab.Trajectory.from_dict(row) == trace
    bare = lab.Trajectory("t").to_dict()
    assert bare == {"schema": 1, "task_id": "t", "steps": []} and lab.Trajectory.from_dict(bare) == lab.Trajectory("t")


def test_each_call_of_a_reply_that_makes_several_has_its_own_name_arguments_and_observation(tmp_path: Path) -> None:
    calls = [
        {"id": "a1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}},
        {"id": "a2", "type": "function", "function": {"name": "open", "arguments": '{"path": "x", "lines": [1, 2]}'}},
    ]
    messages = [
        {"role": "user", "content": "It breaks."},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a1", "content": "README"},
        {"role": "tool", "tool_call_id": "a2", "content": "1: x"},
        {"role": "user", "content": "Go on."},
    ]
    trace = read_record({"messages": messages, "instance_id": "t"})
    (step,) = trace.steps
    assert [(call.id, call.tool, call.observation) for call in step.calls] == [
        ("a1", "bash", "README"),
        ("a2", "open", "1: x\nGo on."),
    ]
    assert dict(step.calls[1].arguments) == {"path": "x", "lines": "[1, 2]"}
    assert step.calls[1].json_arguments == ("lines",)
    for target, ending in (("atif", "x.json"), ("swe-agent", "x.traj"), ("tool", "x.jsonl"), ("lab", "y.jsonl")):
        (back,) = lab.load_trajectories(trace.save(tmp_path / ending, target))
        assert [(c.id, c.tool, dict(c.arguments), c.json_arguments) for c in back.steps[0].calls] == [
            (c.id, c.tool, dict(c.arguments), c.json_arguments) for c in step.calls
        ], target


def test_the_folder_above_runs_loads_what_each_of_them_holds_and_says_what_its_tests_said(tmp_path: Path) -> None:
    from swebench_lab.rollouts.run_directory import RunDirectory

    runs = tmp_path / "runs"
    for name, status in (("a", "resolved"), ("deep/b", "unresolved"), ("deep/c", "not graded")):
        RunDirectory(runs / name).append(make_rollout(status=status))
    make = lab.Rollouts([make_rollout()])
    make.to_frame().write_parquet(runs / "a" / "frame.parquet")  # as recipes leave it beside their attempts
    make.to_frame().write_parquet(runs / "deep" / "frame.parquet")
    assert lab.load_trajectories(runs).to_frame()["resolved"].to_list() == [True, False, None]
    with pytest.raises(RecordError, match=r"no run directory, .*; below it are the runs a, deep/b, deep/c"):
        lab.load_rollouts(runs)
    with pytest.raises(RecordError, match=r"no run directory itself; below it are the runs b, c"):
        lab.attach(runs / "deep")
