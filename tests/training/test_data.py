"""Rows to train on: the ids the driver sends, the policy's tokens and no others; what is left out is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.errors import RecordError, TrainingError
from swebench_lab.formats.calls import Call, parse_xml, render_fenced, render_xml
from swebench_lab.formats.renderer import CHATML, Renderer
from swebench_lab.formats.token_ledger import Episode
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict
from swebench_lab.traces.reading import load_trajectories, read_record
from swebench_lab.training.data.corpus import IGNORED, Corpus, Curation, foreign, rows_of
from tests.conftest import make_task
from tests.tokens import PairTokenizer, plain
from tests.traces.records import put


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.from_frame(PairTokenizer(), CHATML)


OPENING: tuple[Message, ...] = ({"role": "system", "content": "Repair."}, {"role": "user", "content": "It is broken."})
BASH = Call("bash", {"command": "ls  -l\n\techo '```'"}, "I look.")


def attempt(*said: str, number: int = 0, task: str = "owner__name-0", **changes: Any) -> Rollout:
    steps = tuple(Step.of(i, Reply(text), tool="bash", observation=f"seen {i}") for i, text in enumerate(said))
    trajectory = Trajectory(task, number, opening=OPENING, steps=steps, policy="teacher", **changes)
    return Rollout(make_task(id=task), trajectory, Verdict("resolved"), 1.0)


@pytest.mark.parametrize(
    "said",
    [
        [render_xml(BASH), render_xml(Call("submit"))],
        [render_fenced(BASH), render_fenced(Call("submit"))],
        ['{"name":"bash","arguments":{"command":"ls"}}', '{"name": "submit", "arguments": {}}'],
    ],
    ids=["xml", "fenced", "json"],
)
def test_a_row_begins_with_what_the_driver_sends_and_trains_what_was_said(renderer: Renderer, said: list[str]) -> None:
    (row,) = rows_of(attempt(*said).trajectory, renderer)
    talk = Episode(renderer)
    messages: list[Message] = list(OPENING)
    trained: list[tuple[int, ...]] = []
    for i, text in enumerate(said):
        prompt = talk.extend(messages)
        assert plain(row.ids)[: len(prompt)] == plain(prompt)
        ids = renderer.spoken(text)
        assert plain(row.ids)[len(prompt) : len(prompt) + len(ids)] == ids
        assert set(row.mask[len(prompt) : len(prompt) + len(ids)]) == {1}
        trained.append(ids)
        talk.spoke(ids, text=text)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": f"seen {i}"}]
    assert sum(row.mask) == sum(map(len, trained))
    assert [label for label in row.labels if label != IGNORED] == [token for ids in trained for token in ids]


def test_what_is_left_out_is_counted_by_reason(renderer: Renderer) -> None:
    good = attempt("one")
    looked = good.trajectory.steps[0].with_call(command="git fetch origin")
    leaking = replace(good, trajectory=replace(good.trajectory, steps=(looked,)))
    rollouts = [
        good,
        attempt("one", number=1),
        attempt("two", number=2),
        attempt("three", number=3),
        attempt("x" * 400, number=4),
        replace(attempt("four"), verdict=Verdict("unresolved")),
        replace(attempt("five"), verdict=Verdict("not graded", "the box died")),
        attempt("six", stop="max_steps"),
        attempt("seven", task="owner__name-1"),
        leaking,
    ]
    made = Corpus.of_rollouts(rollouts, renderer, Curation(max_length=300, per_task=2, certified={"owner__name-0"}))
    assert made.kept == len(made) == 2
    assert made.dropped == {
        "duplicate": 1,
        "above the cap of its task": 1,
        "longer than 300 tokens": 1,
        "unresolved": 1,
        "not graded": 1,
        "ended by max_steps": 1,
        "its task is not certified": 1,
        "leak: it looks elsewhere for the answer": 1,
    }
    assert made.report()["attempts"].sum() == len(rollouts)


def test_the_gold_patch_shown_before_it_was_written_is_a_leak(renderer: Renderer) -> None:
    gold = "--- a/f.py\n+++ b/f.py\n@@ -1 +1 @@\n-    return one\n+    return compute_the_right_answer(one, two)\n"
    told = attempt("cat notes", "sed ...")
    steps = told.trajectory.steps
    shown = steps[0].with_call(observation="see:\n    return compute_the_right_answer(one, two)\n")
    leaking = replace(
        told, task=make_task(gold_patch=gold), trajectory=replace(told.trajectory, steps=(shown, *steps[1:]))
    )
    wrote = replace(steps[0], reply=Reply("sed -i 's/x/    return compute_the_right_answer(one, two)/' f.py"))
    honest = replace(leaking, trajectory=replace(leaking.trajectory, steps=(wrote, shown, steps[1])))
    made = Corpus.of_rollouts([leaking, honest], renderer)
    assert made.dropped == {"leak: the gold patch was shown before it was written": 1}


def test_rows_are_saved_and_split_by_task(renderer: Renderer, tmp_path: Path) -> None:
    made = Corpus.of_rollouts([attempt(f"say {i}", task=f"owner__name-{i}") for i in range(10)], renderer)
    assert Corpus.load(made.save(tmp_path / "rows.jsonl")).rows == made.rows
    train, held = made.split(0.3)
    assert len(held) == 3 and not {r.task for r in train} & {r.task for r in held}
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(TrainingError, match=r"bad\.jsonl:1"):
        Corpus.load(tmp_path / "bad.jsonl")


ARGUMENTS = {"command": "view", "path": "/a.py", "view_range": [1, 9], "old_str": None}


def trace(arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "id": "c1", "function": {"name": "str_replace_editor", "arguments": arguments}}
    return {
        "instance_id": "x-1",
        "resolved": True,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "You repair."}]},
            {"role": "user", "content": "Broken."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "     1\tx = 1", "tool_call_id": "c1"},
            {"role": "assistant", "content": "Done."},
        ],
    }


@pytest.mark.parametrize("arguments", [json.dumps(ARGUMENTS), ARGUMENTS], ids=["text", "object"])
def test_foreign_calls_hold_no_null_and_are_encoded_once(renderer: Renderer, arguments: Any) -> None:
    said = read_record(trace(arguments)).steps[0].reply.text
    assert parse_xml(said).arguments == {"command": "view", "path": "/a.py", "view_range": "[1, 9]"}
    assert "null" not in said and "None" not in said and '\\"' not in said
    made = foreign([trace(arguments), {**trace(arguments), "resolved": False}, {"messages": []}], renderer)
    assert len(made) == 1 and sum(made.dropped.values()) == 2
    row = made[0]
    trained = renderer.tokenizer.decode([t for t, m in zip(row.ids, row.mask, strict=True) if m])
    assert trained == f"{said}<|im_end|>Done.<|im_end|>"
    assert "<|im_start|>" not in trained  # no token of a header is learned


def test_a_trace_that_makes_no_sense_is_an_error(renderer: Renderer) -> None:
    with pytest.raises(RecordError, match="unknown role"):
        read_record({"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]})
    two = trace({})
    two["messages"][2]["tool_calls"] *= 2
    assert "several calls at once" in str(foreign([two], renderer).dropped)


@pytest.mark.parametrize("name", ["sweagent-1.1", "mini-2-text", "xml", "tool", "atif", "openhands"])
def test_loaded_traces_of_any_format_become_rows(name: str, renderer: Renderer, tmp_path: Path) -> None:
    traces = load_trajectories(put(tmp_path, name))
    made = foreign(traces, renderer)
    if name == "openhands":
        assert "several calls at once" in str(made.dropped)
        return
    trained = renderer.tokenizer.decode([t for row in made for t, m in zip(row.ids, row.mask, strict=True) if m])
    assert trained == "".join(f"{step.reply.text}<|im_end|>" for step in traces[0].steps)
    assert "null" not in trained and '\\"' not in trained
    lost = replace(traces[0], extra={**traces[0].extra, "resolved": False})
    assert foreign([lost], renderer).dropped == {"unresolved": 1}
