"""Traces of the field's newer shapes: read as they are meant, marked where they are not to be trained on, or refused by name."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.errors import RecordError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import force
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import atif, sessions
from swebench_lab.traces.reading import load_trajectories, read_record
from tests.tokens import PairTokenizer
from tests.traces.test_formats import damaged

RENDERER = Renderer.from_frame(PairTokenizer())


def chat_call(name: str, arguments: Any, called: str = "1") -> dict[str, Any]:
    return {"id": called, "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM, TASK = {"role": "system", "content": "You fix bugs."}, {"role": "user", "content": "Fix it."}
LOOK = {"role": "assistant", "content": "I look.", "tool_calls": [chat_call("bash", '{"command": "ls"}')]}
SEEN = {"role": "tool", "tool_call_id": "1", "content": "a.py"}
DONE = {"role": "assistant", "content": None, "tool_calls": [chat_call("submit", "{}", "2")]}


def trained(trajectory: Trajectory) -> str:
    """Return the text that is trained on."""
    rows = force(trajectory, RENDERER)
    ids = [i for row in rows for i, spoke in zip(row.ids.tolist(), row.mask.tolist(), strict=True) if spoke]
    return str(RENDERER.tokenizer.decode(ids, skip_special_tokens=False))


# --- rows with messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        {"system": "Use bash."},
        {"system_prompt": "Use bash."},
        {"system": "Use bash.", "tools": "[]"},
        {"system": "", "system_prompt": "Use bash.", "tools": None},
        {"system": "Use bash.", "system_prompt": "Another."},
    ],
)
def test_a_system_prompt_beside_the_messages_is_shown(beside: dict[str, str]) -> None:
    row = {**beside, "conversations": [{"from": "human", "value": "Fix it."}, {"from": "gpt", "value": "ok"}]}
    assert read_record(row).opening[0] == {"role": "system", "content": "Use bash."}
    told = read_record({**beside, "messages": [SYSTEM, TASK, LOOK]})
    assert [m["content"] for m in told.opening] == ["You fix bugs.", "Fix it."], "the messages' own one counts"


@pytest.mark.parametrize("as_text", [False, True])
def test_tools_beside_the_messages_are_shown(as_text: bool) -> None:
    tools = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]
    made = read_record({"tools": json.dumps(tools) if as_text else tools, "messages": [TASK, LOOK, SEEN, DONE]})
    assert json.dumps(tools[0]) in str(made.opening[0]["content"])
    for none in ("[]", [], None, "not json", {}):
        assert read_record({"tools": none, "messages": [TASK, LOOK, SEEN, DONE]}).opening == (TASK,)


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning_content": "plan"},
        {"reasoning": "plan"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "plan"}]},
        {"content": [{"type": "thinking", "thinking": "plan"}, {"type": "text", "text": "I look."}]},
        {"reasoning_content": "plan", "thinking_blocks": [{"type": "thinking", "thinking": "plan", "signature": "s"}]},
    ],
)
def test_reasoning_is_kept_and_written_again(thought: dict[str, Any]) -> None:
    made = read_record({"instance_id": "a", "messages": [SYSTEM, TASK, {**LOOK, **thought}, SEEN, DONE]})
    assert (made.steps[0].reply.reasoning, made.steps[0].thought) == ("plan", "I look.")
    for form in ("tool", "xml", "ticks"):
        assert made.to_sft(form)["messages"][2]["reasoning_content"] == "plan"
    again = read_record(json.loads(json.dumps(atif.write(made))))
    assert [step.reply.reasoning for step in again.steps] == [step.reply.reasoning for step in made.steps]


@pytest.mark.parametrize(
    "mark",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"train": False},
        {"trainable": False},
        {"training": False},
        {"loss": False},
    ],
)
def test_a_masked_reply_is_kept_and_not_trained_on(mark: dict[str, Any]) -> None:
    made = read_record({"messages": [SYSTEM, TASK, {**LOOK, **mark}, SEEN, {**DONE, "weight": 1}]})
    assert [step.tool for step in made.steps] == ["bash", "submit"]
    assert "submit" in trained(made) and "I look." not in trained(made)
    assert made.to_sft("xml")["messages"][2]["weight"] == 0
    assert "I look." not in trained(read_record(json.loads(json.dumps(made.to_dict()))))


@pytest.mark.parametrize("content", [None, "", " \n", [], [{"type": "text", "text": ""}]])
def test_empty_replies_are_left_out_and_counted(content: Any) -> None:
    empty = {"role": "assistant", "content": content}
    made = read_record({"messages": [SYSTEM, TASK, empty, {"role": "user", "content": "?"}, LOOK, SEEN, empty, DONE]})
    assert [step.tool for step in made.steps] == ["bash", "submit"]
    assert made.extra["dropped"] == {"empty replies": 2}
    assert read_record({"messages": [SYSTEM, TASK, LOOK]}).extra.get("dropped") is None


def test_rows_of_nemotron_and_swe_rebench_are_read() -> None:
    tools = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]
    nemotron = read_record(
        {"uuid": "u-1", "messages": [SYSTEM, TASK, LOOK, SEEN, DONE], "license": "cc", "tools": tools}
    )
    assert (nemotron.task_id, nemotron.extra["traj_id"], len(nemotron.steps)) == ("u-1", "u-1", 2)
    row = {
        "trajectory_id": "t-1",
        "instance_id": "a__b-1",
        "repo": "a/b",
        "trajectory": [SYSTEM, TASK, LOOK, SEEN, DONE],
    }
    rebench = read_record(
        {**row, "tools": json.dumps(tools), "model_patch": "diff", "exit_status": "submit", "resolved": 1}
    )
    assert (rebench.task_id, rebench.patch, rebench.extra["resolved"]) == ("a__b-1", "diff", True)
    assert rebench.extra["traj_id"] == "t-1"


# --- ATIF -----------------------------------------------------------------------------------------------------------


def atif_record(version: str = "ATIF-v1.8", **changes: Any) -> dict[str, Any]:
    call = {"tool_call_id": "c1", "function_name": "bash", "arguments": {"command": "ls"}}
    result = {"results": [{"source_call_id": "c1", "content": "a.py"}]}
    agent = {"source": "agent", "llm_call_count": 1, "tool_calls": [call], "observation": result}
    costs = {"metrics": {"cost_usd": 0.5, "prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 0}}
    return {
        "schema_version": version,
        "trajectory_id": "t",
        "agent": {"name": "a", "version": "1", "model_name": "m"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "Fix it."},
            {"step_id": 2, "message": "old look", **agent, **costs, "is_copied_context": True},
            {"step_id": 3, "message": "dispatched", **agent, "llm_call_count": 0},
            {"step_id": 4, "message": "new look", "reasoning_content": "plan", **agent, **costs},
            {"step_id": 5, "message": "done", "source": "agent", **costs},
        ],
        **changes,
    }


@pytest.mark.parametrize("minor", range(9))
def test_every_version_of_atif_is_read(minor: int) -> None:
    assert len(read_record(atif_record(f"ATIF-v1.{minor}")).steps) == 4


@pytest.mark.parametrize("version", ["ATIF-v2.0", "ATIF-v1.9", "ATIF-2.0", "ATIF", "ATIF-v1.x"])
def test_other_versions_of_atif_are_refused_by_name(version: str) -> None:
    with pytest.raises(RecordError, match=version):
        read_record(atif_record(version))


@pytest.mark.parametrize("minor", range(4, 9))
def test_copied_and_dispatched_steps_are_seen_not_trained_on_and_cost_nothing(minor: int) -> None:
    made = read_record(atif_record(f"ATIF-v1.{minor}"))
    assert made.cost == 1.0 and made.tokens == 6
    said = trained(made)
    assert "new look" in said and "done" in said and "old look" not in said and "dispatched" not in said
    again = atif.write(made)
    assert again["schema_version"] == "ATIF-v1.8"
    steps = again["steps"][1:]
    assert [step.get("is_copied_context", False) for step in steps] == [True, False, False, False]
    assert [step["llm_call_count"] for step in steps] == [1, 0, 1, 1]
    assert "metrics" not in steps[1] and steps[2]["reasoning_content"] == "plan"
    assert [step["step_id"] for step in again["steps"]] == [1, 2, 3, 4, 5]
    read = read_record(json.loads(json.dumps(again)))
    assert trained(read) == said and read.cost == 1.0
    assert read.messages == made.messages


def test_steps_of_sub_agents_stay_in_the_record_and_are_counted(tmp_path: Path) -> None:
    sub = atif_record(trajectory_id="sub")
    record = atif_record(subagent_trajectories=[sub], continued_trajectory_ref="next.json")
    file = tmp_path / "t.json"
    file.write_text(json.dumps(record, indent=1))
    (made,) = load_trajectories(file)
    assert made.extra["dropped"] == {"steps of sub-agents": 5}
    assert made.extra["continued"] == "next.json"
    load_trajectories(file).save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_several_calls_of_a_step_keep_a_result_each() -> None:
    record = atif_record()
    step = record["steps"][3]
    step["tool_calls"] = [{**step["tool_calls"][0], "tool_call_id": name} for name in ("x", "y")]
    step["observation"] = {
        "results": [{"source_call_id": "x", "content": "1"}, {"source_call_id": "y", "content": "2"}]
    }
    written = atif.write(read_record(record))["steps"][3]
    assert written["observation"]["results"] == step["observation"]["results"]


# --- OpenHands V1 ---------------------------------------------------------------------------------------------------


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "id": "e", "timestamp": "2026-01-02T03:04:05", "source": "agent", **more}


def action(command: str, called: str, response: str, **more: Any) -> dict[str, Any]:
    call = {"id": called, "name": "terminal", "arguments": json.dumps({"command": command})}
    facts = {"tool_name": "terminal", "tool_call_id": called, "llm_response_id": response, "thought": [], **more}
    return event("ActionEvent", action={"kind": "ExecuteBashAction", "command": command}, tool_call=call, **facts)


def observed(text: str, called: str, code: int = 0) -> dict[str, Any]:
    seen = {"kind": "ExecuteBashObservation", "output": text, "metadata": {"exit_code": code, "working_dir": "/w"}}
    return event("ObservationEvent", source="environment", tool_call_id=called, observation=seen)


def openhands_v1() -> dict[str, Any]:
    return {
        "instance_id": "own-1",
        "attempt": 2,
        "test_result": {"git_patch": "diff"},
        "metadata": {"llm": {"model": "m"}},
        "history": [
            event(
                "SystemPromptEvent", system_prompt={"type": "text", "text": "You fix."}, tools=[{"name": "terminal"}]
            ),
            event(
                "MessageEvent",
                source="user",
                llm_message={"role": "user", "content": [{"type": "text", "text": "Fix it."}]},
            ),
            action("ls", "c1", "r1", thought=[{"type": "text", "text": "I look."}], reasoning_content="hm"),
            event("ConversationStateUpdateEvent", key="k"),
            observed("a.py", "c1"),
            action("pwd", "c2", "r2"),
            action("false", "c3", "r2"),
            observed("/w", "c2"),
            observed("no", "c3", 1),
            event("AgentErrorEvent", tool_call_id="c9", error="bad call"),
            event("MessageEvent", llm_message={"role": "assistant", "content": [{"type": "text", "text": "Done."}]}),
        ],
    }


def test_openhands_v1_is_read_call_by_call() -> None:
    made = read_record(openhands_v1())
    assert (made.task_id, made.attempt, made.policy, made.patch) == ("own-1", 1, "m", "diff")
    assert made.extra["format"] == "openhands-v1"
    assert "terminal" in str(made.opening[-2]["content"])
    assert [[dict(call.arguments)["command"] for call in step.calls] for step in made.steps] == [
        ["ls"],
        ["pwd", "false"],
        [],
    ]
    assert [call.observation for call in made.steps[1].calls] == ["/w", "no\nbad call"]
    assert (made.steps[0].reply.reasoning, made.steps[0].exit_code, made.steps[1].exit_code) == ("hm", 0, 1)
    assert made.extra["dropped"] == {"events of the kind ConversationStateUpdateEvent": 1}


@pytest.mark.parametrize(
    ("tool", "given", "seen", "text"),
    [
        (
            "str_replace_editor",
            {"command": "view", "path": "/w/a.py"},
            {"kind": "FileEditorObservation", "output": "x"},
            "x",
        ),
        ("file_editor", {"command": "create", "path": "/w/b"}, {"content": [{"type": "text", "text": "made"}]}, "made"),
        ("think", {"thought": "So."}, {"kind": "ThinkObservation", "content": "Noted."}, "Noted."),
        ("finish", {"message": "Done."}, {"kind": "FinishObservation", "content": []}, ""),
        ("task_tracker", {"command": "plan", "task_list": []}, {"text": "planned"}, "planned"),
        ("browser_navigate", {"url": "http://x"}, {"kind": "BrowserObservation", "error": "no network"}, "no network"),
    ],
)
@pytest.mark.parametrize("chat", [False, True])
def test_every_tool_of_openhands_v1_is_read_with_its_arguments(
    tool: str, given: Any, seen: Any, text: str, chat: bool
) -> None:
    function = {"name": tool, "arguments": json.dumps(given)}
    call = {"id": "c1", "type": "function", "function": function} if chat else {"id": "c1", **function}
    said = {"tool_name": tool, "tool_call_id": "c1", "llm_response_id": "r1", "tool_call": call}
    action = event("ActionEvent", **said, thought=[{"type": "text", "text": "I go."}], action={"kind": "X", **given})
    after = event("ObservationEvent", source="environment", tool_call_id="c1", observation=seen)
    record = openhands_v1()
    (step,) = read_record({**record, "history": [*record["history"][:2], action, after]}).steps
    (made,) = step.calls
    assert (step.thought, made.tool, made.observation) == ("I go.", tool, text)
    assert {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()} == {
        key: str(value) for key, value in made.arguments.items()
    }


# --- Responses, Codex, Claude Code ----------------------------------------------------------------------------------

ITEMS: list[dict[str, Any]] = [
    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You fix."}]},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "plan"}], "encrypted_content": "x"},
    {"type": "function_call", "name": "shell", "arguments": '{"command": "ls"}', "call_id": "c1"},
    {"type": "function_call", "name": "shell", "arguments": '{"command": "pwd"}', "call_id": "c2"},
    {"type": "function_call_output", "call_id": "c1", "output": "a.py"},
    {"type": "function_call_output", "call_id": "c2", "output": {"content": "/w", "success": True}},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]},
]


def codex_lines() -> list[dict[str, Any]]:
    at = {"timestamp": "2026-01-02T03:04:05Z"}
    return [
        {**at, "type": "session_meta", "payload": {"id": "s1", "cli_version": "0.90", "instructions": None}},
        {**at, "type": "turn_context", "payload": {"model": "gpt", "cwd": "/w"}},
        *({**at, "type": "response_item", "payload": item} for item in ITEMS),
        {**at, "type": "response_item", "payload": {"type": "ghost_snapshot"}},
        {"timestamp": "2026-01-02T03:05:05Z", "type": "event_msg", "payload": {"type": "token_count"}},
    ]


def claude_lines() -> list[dict[str, Any]]:
    base = {"sessionId": "s1", "uuid": "u", "version": "2.1", "cwd": "/w", "timestamp": "2026-01-02T03:04:05Z"}
    model = {"role": "assistant", "model": "claude", "id": "m1"}
    use = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a.py"}]}
    return [
        {"type": "summary", "summary": "Fixing", "leafUuid": "u"},
        {**base, "type": "user", "message": {"role": "user", "content": "Fix it."}},
        {
            **base,
            "type": "assistant",
            "message": {**model, "content": [{"type": "thinking", "thinking": "plan", "signature": "s"}]},
        },
        {**base, "type": "assistant", "message": {**model, "content": [{"type": "text", "text": "I look."}]}},
        {**base, "type": "assistant", "message": {**model, "content": [use]}},
        {**base, "type": "user", "message": {"role": "user", "content": [result]}},
        {**base, "type": "assistant", "isSidechain": True, "message": {**model, "id": "x", "content": "aside"}},
        {**base, "type": "assistant", "message": {**model, "id": "m2", "content": [{"type": "text", "text": "Done."}]}},
    ]


@pytest.mark.parametrize("column", ["messages", "items", "trajectory", "input"])
def test_items_of_responses_are_read(column: str) -> None:
    row = {column: ITEMS[:-1], "output": [ITEMS[-1]]} if column == "input" else {column: ITEMS}
    made = read_record({**row, "instance_id": "own-1"})
    assert (made.extra["format"], made.task_id) == ("responses", "own-1")
    assert [m["role"] for m in made.opening] == ["system", "user"]
    assert made.steps[0].reply.reasoning == "plan"
    assert [(call.id, call.observation) for call in made.steps[0].calls] == [("c1", "a.py"), ("c2", "/w")]
    assert made.steps[1].reply.text == "Done."


def test_a_session_of_codex_is_one_attempt(tmp_path: Path) -> None:
    file = tmp_path / "rollout-1.jsonl"
    file.write_text("\n".join(map(json.dumps, codex_lines())) + "\n")
    (made,) = load_trajectories(file)
    assert (made.extra["format"], made.extra["version"], made.policy, made.seconds) == ("codex", "0.90", "gpt", 60.0)
    assert [len(step.calls) for step in made.steps] == [2, 0]
    assert made.extra["dropped"] == {"lines of the kind event_msg": 1, "items of an unknown kind": 1}
    assert load_trajectories(tmp_path)[0].messages == made.messages


def test_a_session_of_claude_code_is_one_attempt(tmp_path: Path) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text("\n".join(map(json.dumps, claude_lines())) + "\n")
    (made,) = load_trajectories(file)
    assert (made.extra["format"], made.extra["version"], made.policy) == ("claude-code", "2.1", "claude")
    assert made.opening == ({"role": "user", "content": "Fix it."},)
    (look, done) = made.steps
    assert (look.thought, look.reply.reasoning, look.tool, look.observation) == ("I look.", "plan", "Bash", "a.py")
    assert json.loads(look.reply.signature)["thinking_blocks"][0]["signature"] == "s"
    assert done.reply.text == "Done."
    assert made.extra["dropped"] == {"lines of the kind summary": 1, "messages of sub-agents": 1}


# --- Inspect, verifiers ---------------------------------------------------------------------------------------------


def inspect_sample(number: int = 1) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": "bash", "arguments": {"command": "ls"}}
    content = [{"type": "reasoning", "reasoning": "plan"}, {"type": "text", "text": "I look."}]
    messages = [
        {**SYSTEM, "id": "a"},
        TASK,
        {"role": "assistant", "content": content, "tool_calls": [call], "source": "generate"},
        {
            "role": "tool",
            "tool_call_id": "1",
            "function": "bash",
            "content": "",
            "error": {"type": "timeout", "message": "late"},
        },
        {"role": "assistant", "content": "Done."},
    ]
    return {"id": f"own-{number}", "epoch": number, "messages": messages, "scores": {"tests": {"value": "C"}}}


def inspect_log() -> dict[str, Any]:
    return {
        "version": 2,
        "status": "success",
        "eval": {"model": "m", "task": "swe"},
        "samples": [inspect_sample(1), inspect_sample(2)],
    }


@pytest.mark.parametrize("ending", ["json", "eval"])
def test_logs_of_inspect_are_read_sample_by_sample(ending: str, tmp_path: Path) -> None:
    file, log = tmp_path / f"log.{ending}", inspect_log()
    if ending == "json":
        file.write_text(json.dumps(log))
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps({k: v for k, v in log.items() if k != "samples"}))
            for one in log["samples"]:
                archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    first, second = load_trajectories(tmp_path)
    assert (first.task_id, first.attempt, second.attempt, first.policy) == ("own-1", 0, 1, "m")
    assert (first.steps[0].thought, first.steps[0].reply.reasoning, first.steps[0].observation) == (
        "I look.",
        "plan",
        "late",
    )
    assert first.extra["scores"] == {"tests": "C"}


def test_a_log_of_inspect_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.eval").write_bytes(b"PK no")
    with pytest.raises(RecordError, match="log of Inspect cannot be read"):
        load_trajectories(tmp_path / "a.eval")
    (tmp_path / "b.json").write_text(json.dumps({**inspect_log(), "samples": []}))
    with pytest.raises(RecordError, match="holds no samples"):
        load_trajectories(tmp_path / "b.json")


def test_results_of_verifiers_are_read_and_no_reward_is_a_verdict() -> None:
    row = {
        "example_id": 3,
        "prompt": [SYSTEM, TASK],
        "completion": [LOOK, SEEN, DONE],
        "reward": 1.0,
        "task": "own",
        "info": {},
    }
    made = read_record(row)
    assert (made.task_id, made.extra["format"], made.extra["reward"], len(made.steps)) == ("own-3", "verifiers", 1.0, 2)
    assert "resolved" not in made.extra
    assert read_record({**row, "prompt": "Fix it.", "info": {"instance_id": "x-1"}}).task_id == "x-1"


def test_episodes_of_verifiers_are_read_by_the_branch_that_ends_last(tmp_path: Path) -> None:
    called = {"id": "1", "type": "function", "name": "bash", "arguments": '{"command": "ls"}'}
    said = [SYSTEM, TASK, {"role": "assistant", "content": "Here.", "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "1", "content": "a.py", "name": "bash"}]  # fmt: skip
    said += [
        {"role": "assistant", "content": "Left."},
        {"role": "assistant", "reasoning_content": "hm", "content": "Done."},
    ]
    parents = [None, 0, 1, 2, 3, 3]
    nodes = [
        {"parent": above, "message": m, "sampled": m["role"] == "assistant"}
        for above, m in zip(parents, said, strict=True)
    ]
    nodes[2]["sampled"] = False
    trace = {"version": 1, "task": {"key": "own-1", "data": {"id": "own-1"}}, "nodes": nodes, "ok": True, "errors": [],
             "calls": [{"model": "m"}], "rewards": {"resolved": {"score": 1.0}}}  # fmt: skip
    died = {**trace, "nodes": [], "ok": False, "errors": [{"message": "no such key"}]}
    file = tmp_path / "traces.jsonl"
    file.write_text("\n".join(json.dumps({"id": "e", "traces": [one]}) for one in (trace, died)))
    made, failed = load_trajectories(file)
    assert (made.task_id, made.extra["format"], len(made.steps), made.extra["dropped"]) == (
        "own-1", "verifiers", 2, {"messages of other branches": 1},
    )  # fmt: skip
    assert (made.steps[0].command, made.steps[0].observation) == ("ls", "a.py") and made.steps[0].extra["weight"] == 0
    assert (
        made.steps[1].reply.reasoning == "hm" and "weight" not in made.steps[1].extra and "resolved" not in made.extra
    )
    assert (failed.stop, failed.error, len(failed.steps)) == ("error", "no such key", 0)
    file.write_text(json.dumps({"id": "e", "traces": [trace]}))
    assert len(load_trajectories(file)) == 1


# --- SWE-agent's steps that stand in no history ---------------------------------------------------------------------


def sweagent(*entries: tuple[str, str], said: int) -> dict[str, Any]:
    steps = [
        {
            "action": command,
            "observation": f"saw {command}",
            "response": f"{words}\n```\n{command}\n```",
            "thought": words,
            "state": "{}",
        }
        for command, words in entries
    ]
    history: list[dict[str, Any]] = [SYSTEM, TASK]
    for step in steps[:said]:
        history += [
            {"role": "assistant", "content": step["response"], "thought": step["thought"], "action": step["action"]},
            {"role": "user", "content": step["observation"]},
        ]
    return {"trajectory": steps, "history": history, "info": {"exit_status": "submitted"}, "environment": "own-1"}


@pytest.mark.parametrize("said", [0, 1, 2, 3])
def test_a_last_step_that_stands_in_the_trajectory_only_is_kept(said: int) -> None:
    made = read_record(sweagent(("ls", "I look."), ("pwd", "Where?"), ("submit", "Done."), said=said or 3))
    assert [step.command for step in made.steps] == ["ls", "pwd", "submit"]
    assert made.steps[-1].observation == "saw submit"
    assert "Done." in trained(made)


def test_a_reply_that_was_asked_for_again_is_kept_and_not_trained_on() -> None:
    record = sweagent(("ls", "I look."), ("oops", "Wrong."), ("submit", "Done."), said=3)
    del record["history"][4:6]
    made = read_record(record)
    assert [step.command for step in made.steps] == ["ls", "oops", "submit"]
    assert "Wrong." not in trained(made) and "I look." in trained(made)


# --- all of them ----------------------------------------------------------------------------------------------------

RECORDS: Mapping[str, Any] = {
    "openhands-v1": openhands_v1(),
    "responses": {"messages": ITEMS, "instance_id": "a"},
    "verifiers": {
        "example_id": 0,
        "prompt": [SYSTEM, TASK],
        "completion": [LOOK, SEEN, DONE],
        "reward": 1.0,
        "task": "own",
    },
    "atif-1.8": atif_record(subagent_trajectories=[atif_record()]),
    "beside": {"system": "s", "tools": [{"type": "function"}], "messages": [TASK, LOOK, SEEN, DONE]},
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_is_read_or_refused_in_words(name: str) -> None:
    chance = random.Random(name)
    refused = 0
    for _ in range(200):
        try:
            read_record(damaged(copy.deepcopy(RECORDS[name]), chance)).to_sft("xml")
        except RecordError:
            refused += 1
    assert 0 < refused < 200


@pytest.mark.parametrize("lines", [codex_lines(), claude_lines()], ids=["codex", "claude-code"])
def test_a_damaged_session_is_read_or_refused_in_words(lines: list[Any]) -> None:
    chance = random.Random(1)
    whole = 0
    for _ in range(200):
        broken = [line for line in damaged(lines, chance) if isinstance(line, Mapping)]
        try:
            whole += bool(sessions.read(broken, "a file", "a").steps)
        except RecordError:
            continue
    assert whole > 20


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"sessionId": "a", "messages": "x", "startTime": "t"}, "Gemini CLI"),
        ({"contents": [{"parts": []}]}, "Gemini"),
        ({"choices": [], "id": "x"}, "chat endpoint"),
        ({"resourceSpans": []}, "OpenTelemetry"),
        ({"chosen": [], "rejected": []}, "preference"),
        ({"trial_name": "a", "task_name": "b"}, "Harbor"),
        ({"id": 1, "timestamp": "t", "source": "agent", "message": "m", "action": "run"}, "OpenHands event stream"),
        ({"instance_id": "a", "model_patch": "diff"}, "predictions"),
        ({"org": "a", "repo": "b", "number": 1, "fix_patch": "diff"}, "predictions"),
    ],
)
def test_what_is_not_read_is_named(record: dict[str, Any], name: str) -> None:
    with pytest.raises(RecordError, match=name):
        read_record(record)
