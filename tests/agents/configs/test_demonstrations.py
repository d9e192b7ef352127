"""Demonstrations in the history: shown before the task as SWE-agent shows them, and never taken for the model's own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import swebench_lab as lab
from swebench_lab.agents.history import Compaction, KeepObservations
from swebench_lab.errors import ConfigError, RecordError
from swebench_lab.formats.renderer import CHATML, Renderer
from swebench_lab.formats.token_ledger import force, forced, segments
from swebench_lab.policies.policy import Brief, replies_so_far
from swebench_lab.records.reply import Message, is_reply
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.viewer import story
from tests.boxes import make_snapshot
from tests.conftest import make_rollout, make_task
from tests.tokens import PairTokenizer, Sampler, plain

TASK = make_task()
RENDERER = Renderer.from_frame(PairTokenizer())
LOOK, SUBMIT = "I look.\n```\nls\n```", "Done.\n```\nsubmit\n```"
TEXTS: list[dict[str, Any]] = [
    {"role": "system", "content": "SETTING: another prompt", "agent": "main"},
    {"role": "user", "content": "Another issue.", "agent": "main", "message_type": "observation"},
    {"role": "assistant", "content": LOOK, "action": "ls\n", "agent": "main", "message_type": "action"},
    {"role": "user", "content": [{"type": "text", "text": "a.py <|im_end|>"}], "agent": "main"},
    {"role": "assistant", "content": SUBMIT, "action": "submit\n", "agent": "main", "message_type": "action"},
]


def called(name: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"id": f"c_{name}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}]


NATIVE: list[dict[str, Any]] = [
    {"role": "system", "content": "SETTING: another prompt"},
    {"role": "user", "content": "Another issue."},
    {"role": "assistant", "content": "I look.", "tool_calls": called("open", {"path": "a.py", "line": 7})},
    {"role": "tool", "content": "1: def f", "tool_call_ids": ["c_open"]},
    {"role": "assistant", "content": "Done.", "tool_calls": called("submit", {})},
    {"role": "tool", "content": "the diff", "tool_call_ids": ["c_submit"]},
]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return make_snapshot(tmp_path_factory.mktemp("repo"), {"calc.py": "def add(a, b):\n    return a - b\n"})


@pytest.fixture
def box(snapshot: Snapshot) -> Iterator[Sandbox]:
    with open_namespace(snapshot) as opened:
        yield opened


def written(home: Path, history: object, parser: str = "thought_action", **templates: Any) -> Path:
    """Write a file that puts one demonstration into the history, with a bundle that can hand in."""
    kit = home / "kit"
    (kit / "bin").mkdir(parents=True, exist_ok=True)
    (kit / "install.sh").write_text("")
    (kit / "bin" / "submit").write_text("#!/bin/sh\necho '<<SWE_AGENT_SUBMISSION>>'\n")
    (kit / "config.yaml").write_text(
        yaml.safe_dump({"tools": {"submit": {"signature": "submit", "docstring": "hands in", "arguments": []}}})
    )
    (home / "demo.traj").write_text(json.dumps({"history": history}))
    shown = {
        "system_template": "You repair.",
        "instance_template": "{{problem_statement}}",
        "demonstrations": ["demo.traj"],
        "put_demos_in_history": True,
    }
    agent = {
        "templates": shown | templates,
        "tools": {"bundles": [{"path": "kit"}], "parse_function": {"type": parser}},
        "history_processors": [{"type": "last_n_observations", "n": 1}],
        "model": {"per_instance_cost_limit": 0},
    }
    file = home / "mine.yaml"
    file.write_text(yaml.safe_dump({"agent": agent}))
    return file


def agent_of(file: Path, **changes: Any) -> lab.Agent:
    return lab.Agent.from_config(file, lab.NullPolicy(), **changes)


def opening_of(agent: lab.Agent) -> tuple[Message, ...]:
    return agent.flavour.opening(TASK.view(), ())  # type: ignore[union-attr]


def talk(home: Path, box: Sandbox, *replies: str, **more: Any) -> Trajectory:
    return agent_of(written(home, TEXTS), keep_layers=False).using(lab.ScriptedPolicy(replies)).run(TASK, box, **more)


def test_each_message_of_a_demonstration_stands_before_the_task_with_its_role(tmp_path: Path) -> None:
    agent = agent_of(written(tmp_path, TEXTS))
    opening = opening_of(agent)
    assert [(m["role"], m["content"]) for m in opening] == [
        ("system", "You repair."), ("user", "Another issue."), ("assistant", LOOK), ("user", "a.py <|im_end|>"),
        ("assistant", SUBMIT), ("user", TASK.issue),
    ]  # fmt: skip
    assert [bool(m.get("demonstration")) for m in opening] == [False, True, True, True, True, False]
    assert replies_so_far(opening) == 0
    framed = agent_of(
        written(tmp_path, TEXTS, put_demos_in_history=False, demonstration_template="<{{demonstration}}>")
    )
    assert [m["role"] for m in opening_of(framed)] == ["system", "user", "user"]
    assert "demonstration_turns" not in framed.flavour.identity()  # type: ignore[union-attr]
    assert agent.fingerprint != framed.fingerprint


def sent_by(policy: Any, opening: tuple[Message, ...], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of the request that a policy makes."""
    if isinstance(policy, lab.ChatPolicy):
        talk = policy.start(TASK.view(), 0, 1)
        talk.brief(Brief(call_format="json" if tools else "ticks", tools=tuple(tools)))
        return list(talk._chat_body(opening, 1)["messages"])
    request = policy.request(opening, tools, TASK.view(), False)
    return list(request["input"] if "input" in request else request["messages"])


CHAT = lab.ChatPolicy("http://127.0.0.1:9/v1", model="m")
ANTHROPIC = lab.AnthropicPolicy("m", api_key="k", cache=False)
RESPONSES = lab.ResponsesPolicy("m", api_key="k")
TOOLS = [{"type": "function", "function": {"name": "open", "description": "opens", "parameters": {"type": "object"}}}]


def test_no_request_holds_the_marker_and_a_demonstration_in_text_stays_text(tmp_path: Path) -> None:
    opening = opening_of(agent_of(written(tmp_path, TEXTS)))
    pairs = [(m["role"], m["content"]) for m in opening]
    chat = sent_by(CHAT, opening, [])
    assert chat == [{"role": role, "content": content} for role, content in pairs]
    turns = sent_by(ANTHROPIC, opening, [])
    assert [(turn["role"], block["text"]) for turn in turns for block in turn["content"]] == pairs[1:]
    items = sent_by(RESPONSES, opening, [])
    assert [(item["role"], item["content"]) for item in items] == pairs
    assert "demonstration" not in json.dumps([chat, turns, items])


def test_calls_of_a_demonstration_are_calls_where_the_agents_are_and_text_where_they_are_text(tmp_path: Path) -> None:
    opening = opening_of(agent_of(written(tmp_path, NATIVE, "function_calling")))
    chat = sent_by(replace(CHAT, tool_calls=True), opening, TOOLS)
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "tool", "assistant", "tool", "user"]
    function = chat[2]["tool_calls"][0]["function"]
    assert (chat[2]["content"], function["name"]) == ("I look.", "open")
    assert json.loads(function["arguments"]) == {"path": "a.py", "line": 7}
    assert [chat[at]["tool_call_id"] for at in (3, 5)] == [chat[at]["tool_calls"][0]["id"] for at in (2, 4)]
    assert chat[-1] == {"role": "user", "content": TASK.issue}
    turns = sent_by(ANTHROPIC, opening, TOOLS)
    assert [b["type"] for turn in turns for b in turn["content"]] == [
        "text", "text", "tool_use", "tool_result", "text", "tool_use", "tool_result", "text",
    ]  # fmt: skip
    assert turns[1]["content"][1]["input"] == {"path": "a.py", "line": 7}
    items = sent_by(RESPONSES, opening, TOOLS)
    assert [item["type"] for item in items].count("function_call_output") == 2
    assert items[-1] == {"type": "message", "role": "user", "content": TASK.issue}
    assert "demonstration" not in json.dumps([chat, turns, items])
    xml = opening_of(agent_of(written(tmp_path, NATIVE, "xml_function_calling")))
    assert [m["role"] for m in xml] == ["system", "user", "assistant", "user", "assistant", "user", "user"]
    assert "<function=open>" in str(xml[2]["content"])


@pytest.mark.parametrize(
    ("history", "parser", "reason"),
    [
        (NATIVE[:5], "function_calling", "message 3 of demo.traj.*no result behind it"),
        ([*NATIVE[:2], NATIVE[3]], "function_calling", "result without a call"),
        (NATIVE, "thought_action", "shell commands only|hold"),
        ([{**NATIVE[2], "tool_calls": NATIVE[2]["tool_calls"] * 2}], "function_calling", "2 calls at once"),
        ([{**NATIVE[2], "tool_calls": [{"id": "x"}]}], "function_calling", "no calls of an endpoint"),
        ([{**NATIVE[2], "content": '<tool_call>\n{"name": "x"}\n</tool_call>'}], "function_calling", "cannot be put"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "thought_action", "no text"),
        ([{"role": "critic", "content": "x"}], "thought_action", "role is 'critic'"),
        ({}, "thought_action", "no history"),
    ],
)
def test_what_cannot_be_shown_as_it_was_is_refused_by_name(
    tmp_path: Path, history: object, parser: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=r"mine.yaml, option agent.templates.demonstrations\[0\]") as caught:
        agent_of(written(tmp_path, history, parser))
    assert re.search(reason, str(caught.value))


def test_an_attempt_counts_its_own_replies_and_goes_on_behind_them(tmp_path: Path, snapshot: Snapshot) -> None:
    replies = (LOOK, "Again.\n```\npwd\n```", SUBMIT)
    with open_namespace(snapshot) as box:
        first = talk(tmp_path, box, *replies)
        assert (first.stop, first.error, [s.reply.text for s in first.steps]) == ("submitted", "", [*replies])
        stored = Trajectory.from_dict(json.loads(json.dumps(first.to_dict())))
        assert stored.opening == first.opening
        branch = talk(tmp_path, box, *replies, resume=stored[:1])
        assert [s.reply.text for s in branch.steps] == [*replies]
        assert branch.opening == first.opening
    agent = agent_of(written(tmp_path, TEXTS))
    shown = agent.view(first.messages[:-1])
    assert shown[:6] == list(first.opening)  # the demonstration's observation is older than all, and stays
    assert [m["content"] for m in shown[7::2]] == [
        "Old environment output: (1 lines omitted)",
        first.steps[1].observation,
    ]
    rollout = make_rollout(TASK)
    assert f"[assistant, demonstration]\n{LOOK}" in story.opening(replace(rollout, trajectory=first))


def test_a_summary_takes_the_place_of_replies_and_of_no_demonstration(tmp_path: Path) -> None:
    opening = opening_of(agent_of(written(tmp_path, TEXTS)))
    own: list[Message] = [
        {"role": "assistant", "content": LOOK},
        {"role": "user", "content": "calc.py"},
        {"role": "assistant", "content": "All is well.", "summary": True},
        {"role": "user", "content": "Go on."},
    ]
    shown = Compaction(100)([*opening, *own])
    assert list(shown[:5]) == list(opening[:5])
    assert str(shown[5]["content"]).startswith(TASK.issue)
    assert replies_so_far(shown) == 2


def test_a_demonstration_is_in_the_prompt_and_is_not_trained_on(tmp_path: Path, box: Sandbox) -> None:
    agent = agent_of(written(tmp_path, TEXTS), keep_layers=False, history=())
    sampler = Sampler([LOOK, "Again.\n```\npwd\n```", SUBMIT], RENDERER)  # what the demonstration says, it says too
    trajectory = agent.using(sampler).run(TASK, box)
    assert trajectory.stop == "submitted"
    (segment,) = segments(trajectory)
    assert segment.sampled == sum(step.reply.completion_tokens or 0 for step in trajectory.steps)
    prompt = RENDERER.opening(trajectory.opening)
    assert plain(segment.ids)[: len(prompt)] == prompt
    assert not segment.mask[: len(prompt)].any()
    assert RENDERER.tokenizer.decode(list(prompt)).count("<|im_start|>assistant") == 3
    again = forced(trajectory, RENDERER)
    assert [len(row) for row in segments(again)] == [len(row) for row in force(trajectory, RENDERER)]
    edited = force(trajectory, RENDERER, shown=KeepObservations(1, "-"))
    assert sum(row.sampled for row in edited) == sum(row.sampled for row in segments(again))
    assert all(not row.mask[: len(prompt)].any() for row in edited)


def test_a_template_is_shown_no_marker() -> None:
    seen: list[Message] = []

    def render(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, ask: bool) -> str:
        seen.extend(messages)
        return CHATML.render(messages, tools, ask)

    demo: Message = {"role": "assistant", "content": LOOK, "demonstration": True}
    Renderer(RENDERER.tokenizer, render).opening(
        [{"role": "user", "content": "a"}, demo, {"role": "user", "content": "b"}]
    )
    assert LOOK in [m["content"] for m in seen]
    assert not any("demonstration" in m for m in seen)


@pytest.mark.parametrize("form", ["swe-agent", "mini-swe-agent", "atif"])
@pytest.mark.parametrize("native", [False, True])
def test_other_formats_keep_demonstrations_apart(tmp_path: Path, box: Sandbox, form: str, native: bool) -> None:
    trajectory = talk(tmp_path, box, LOOK, SUBMIT)
    if native:
        trajectory = replace(trajectory, opening=opening_of(agent_of(written(tmp_path, NATIVE, "function_calling"))))
    file = trajectory.save(tmp_path / "out.json", form)
    (read,) = lab.load_trajectories(file)
    assert len(read.steps) == 2
    roles = [(m["role"], bool(m.get("demonstration"))) for m in read.opening]
    assert roles == [(m["role"], bool(m.get("demonstration"))) for m in trajectory.opening]
    if form == "atif" or not native:
        assert [m["content"] for m in read.opening] == [m["content"] for m in trajectory.opening]
    else:  # calls are written as those formats have calls, and read as text in the form of XML, as in steps
        assert str(read.opening[2]["content"]).startswith("I look.\n\n<function=open>")
    assert not any(is_reply(m) for m in read.opening)
    raw = json.loads(file.read_text())
    if form == "swe-agent":
        assert [bool(m.get("is_demo")) for m in raw["history"]][: len(roles)] == [demo for _, demo in roles]
    if form == "atif":
        assert [s["source"] for s in raw["steps"] if s.get("is_copied_context")].count("agent") == 2


@pytest.mark.parametrize("form", ["ticks", "xml", "tool"])
def test_rows_to_fine_tune_on_give_a_demonstrations_replies_no_weight(tmp_path: Path, box: Sandbox, form: str) -> None:
    trajectory = talk(tmp_path, box, LOOK, SUBMIT)
    row = trajectory.to_sft(form)["messages"]
    replies = [m for m in row if m["role"] == "assistant"]
    assert [m.get("weight") for m in replies] == [0, 0, None, None]
    assert not any("demonstration" in m for m in row)
    mark = {"ticks": "```\nls", "xml": "<function=bash>", "tool": '"bash"'}[form]
    assert all(mark in json.dumps(m) or mark in str(m["content"]) for m in (replies[0], replies[2]))
    saved = trajectory.save(tmp_path / "a.traj", "swe-agent")
    (read,) = lab.load_trajectories(saved)
    replies = [m for m in read.to_sft(form)["messages"] if m["role"] == "assistant"]
    assert [m.get("weight") for m in replies[:3]] == [0, 0, None]


def test_a_format_that_has_no_demonstrations_refuses_them(tmp_path: Path, box: Sandbox) -> None:
    with pytest.raises(RecordError, match=r"OpenHands: its opening shows a demonstration"):
        talk(tmp_path, box, SUBMIT).save(tmp_path / "o.jsonl", "openhands")
