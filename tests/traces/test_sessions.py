"""Session files of Claude Code and Codex as they are found: other first lines, results in any order, lines twice, errors of the program."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.errors import RecordError
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign.fields import moment
from swebench_lab.traces.reading import load_trajectories

Line = dict[str, Any]
NUMBERS = itertools.count()


def own(kind: str, message: Line, **more: Any) -> Line:
    return {"type": kind, "message": message, "uuid": f"u{next(NUMBERS)}", "sessionId": "S", "version": "2.1.0", **more}


def user(content: Any, **more: Any) -> Line:
    return own("user", {"role": "user", "content": content}, **more)


def said(name: str, *blocks: Line, model: str = "m", **more: Any) -> Line:
    return own("assistant", {"role": "assistant", "id": name, "model": model, "content": list(blocks)}, **more)


def use(name: str, command: str) -> Line:
    return {"type": "tool_use", "id": name, "name": "Bash", "input": {"command": command}}


def result(name: str, content: Any) -> Line:
    return {"type": "tool_result", "tool_use_id": name, "content": content}


TEXT = {"type": "text", "text": "Done."}
BOTH = [user("Fix it."), said("1", use("a", "ls"), use("b", "pwd"))]
LOOK = [user("Fix it."), said("1", use("a", "ls")), user([result("a", "a.py")])]
IMAGE = [{"type": "text", "text": "boom"}, {"type": "image", "source": {"type": "base64", "data": "x"}}]


def codex(payload: Line, kind: str = "response_item") -> Line:
    return {"timestamp": "2026-11-01T00:00:00Z", "type": kind, "payload": payload}


ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]}
ANSWERED = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}


def called(name: str, command: str) -> Line:
    return {"type": "function_call", "name": "shell", "arguments": json.dumps({"command": command}), "call_id": name}


def shown(name: str, output: str) -> Line:
    return {"type": "function_call_output", "call_id": name, "output": output}


def results(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(call.arguments["command"], call.observation) for step in trajectory.steps for call in step.calls]


def dropped(trajectory: Trajectory) -> Any:
    return trajectory.extra.get("dropped")


SWAPPED = [("ls", "a.py"), ("pwd", "/testbed")]
SESSIONS: dict[str, tuple[list[Line], Callable[[Trajectory], Any], Any]] = {
    "a snapshot of files first": ([{"type": "file-history-snapshot", "messageId": "x"}, *LOOK], results, [("ls", "a.py")]),
    "a title first": ([{"type": "custom-title", "customTitle": "x", "sessionId": "S"}, *LOOK], results, [("ls", "a.py")]),
    "a summary of before first": ([{"type": "summary", "summary": "x", "leafUuid": "l"}, *LOOK], results, [("ls", "a.py")]),
    "results in another order": (
        [*BOTH, user([result("b", "/testbed"), result("a", "a.py")]), said("2", TEXT)], results, SWAPPED),
    "a call without a result": ([*BOTH, user([result("b", "/testbed")]), said("2", TEXT)], results, [("ls", ""), ("pwd", "/testbed")]),
    "a result within one reply": (
        [*LOOK, said("1", use("b", "pwd")), user([result("b", "/testbed")]), said("2", TEXT)], results, SWAPPED),
    "lines that stand there twice": ([*LOOK, *LOOK[1:], said("2", TEXT)], lambda t: (results(t), dropped(t)),
                                     ([("ls", "a.py")], {"lines that stand there twice": 2})),
    "an error of the program at the end": (
        [*LOOK, said("2", {"type": "text", "text": "API Error: 529"}, model="<synthetic>", isApiErrorMessage=True)],
        lambda t: (t.stop, t.error, len(t)), ("error", "API Error: 529", 1)),
    "an error of the program before any reply": (
        [user("Fix it."), said("1", {"type": "text", "text": "API Error: 401"}, isApiErrorMessage=True)],
        lambda t: (t.stop, t.error, len(t)), ("error", "API Error: 401", 0)),
    "an error of the program that passed": (
        [user("Fix it."), said("1", TEXT, model="<synthetic>"), said("2", TEXT)],
        lambda t: (t.stop, t.error, len(t), dropped(t)), ("submitted", "", 1, {"messages of the program itself": 1})),
    "a call that was under way when it ended": (LOOK[:2], lambda t: t.stop, "cancelled"),
    "a line that is no object": (
        [*LOOK, ["x"], said("2", TEXT)], lambda t: (results(t), dropped(t)), ([("ls", "a.py")], {"lines that are no objects": 1})),
    "an image in a result": (
        [*LOOK[:2], user([result("a", IMAGE)])], lambda t: (results(t), dropped(t)), ([("ls", "boom")], {"parts of the kind image": 1})),
    "codex: a result that is missing": (
        [codex(one) for one in (ASKED, called("1", "ls"), called("2", "pwd"), shown("2", "/testbed"), ANSWERED)],
        results, [("ls", ""), ("pwd", "/testbed")]),
    "codex: lines without kinds, as its first versions wrote them": (
        [{"id": "s", "timestamp": "2025-07-01T00:00:00Z", "instructions": "You repair.", "git": {}}, ASKED, {"record_type": "state"},
         called("1", "ls"), shown("1", "a.py"), ANSWERED],
        lambda t: (results(t), t.opening[0]["content"], t.extra["traj_id"]), ([("ls", "a.py")], "You repair.", "s")),
    "codex: commits and searches between": (
        [codex(one) for one in (ASKED, {"type": "ghost_snapshot"}, {"type": "web_search_call", "status": "completed"}, ANSWERED)],
        lambda t: (len(t), dropped(t)), (1, {"items of an unknown kind": 2})),
}  # fmt: skip


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_says_what_happened(name: str, tmp_path: Path) -> None:
    lines, facts, expected = SESSIONS[name]
    (tmp_path / "session.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (made,) = load_trajectories(tmp_path)
    assert facts(made) == expected


def test_a_session_without_a_reply_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "session.jsonl").write_text(json.dumps(codex({"id": "s"}, "session_meta")))
    with pytest.raises(RecordError, match="the session of codex holds no reply"):
        load_trajectories(tmp_path / "session.jsonl")


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [(1764000000, 1764000000.0), (1764000000000, 1764000000.0), ("2025-11-24T16:00:00Z", 1764000000.0), (10**30, 0.0), (-5, 0.0), (True, 0.0), ("?", 0.0)],
)  # fmt: skip
def test_times_are_read_in_seconds_and_milliseconds(stamp: Any, seconds: float) -> None:
    assert moment(stamp) == seconds
