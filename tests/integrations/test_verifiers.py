"""verifiers itself evaluates our taskset: its own command, a scripted endpoint, our sandboxes, our grading."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab import places
from swebench_lab.records.task import Task

pytest.importorskip("verifiers.v1", reason="needs verifiers: make integrations")

from swebench_lab.errors import GradingError
from swebench_lab.integrations.verifiers import LabTaskset, LabTasksetConfig
from swebench_lab_verifiers import LabHarness
from tests.agents.external.agent_of_ours import kit
from tests.policies.providers import call, chat, serving

ROOT = Path(__file__).parents[2]
ID = "swebench-lab-verifiers"
USED = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def demo() -> list[Task]:
    tasks = lab.load_tasks("demo")
    return [tasks.filter(repo=repo)[0] for repo in tasks.repos[:3]]


def by_issue(body: dict[str, Any]) -> dict[str, Any]:
    """Answer as one who knows the fix of the first two tasks, and gives up on the others; who is slow if so asked."""
    text = json.dumps(body["messages"])
    steps = sum(message["role"] == "assistant" for message in body["messages"])
    known = [task for task in demo()[:2] if json.dumps(task.issue.strip()[:60])[1:-1] in text]
    commands = [f"git apply - <<'PATCH'\n{task.gold_patch}PATCH" for task in known]
    if body["model"] == "slow":
        commands.append("sleep 600")
    name = body["tools"][0]["function"]["name"]
    if steps < len(commands):
        return chat(
            {"content": None, "tool_calls": [call(name, json.dumps({"command": commands[steps]}))]}, "tool_calls", USED
        )
    if len(body["tools"]) == 1:  # an agent that ends by saying so
        return chat({"content": "Done."}, "stop", USED)
    return chat({"content": None, "tool_calls": [call("submit", "{}")]}, "tool_calls", USED)


def theirs(policy: lab.Policy) -> lab.CLIAgent:
    """Return somebody else's agent, which runs in the box."""
    return lab.CLIAgent(kit(), policy, wall_time=60.0)


def evaluate(folder: Path, url: str, *options: str, model: str = "m") -> list[dict[str, Any]]:
    """Run verifiers' command; return the traces that it wrote."""
    pattern = "|".join(task.id for task in demo())
    command = [
        str(Path(sys.executable).with_name("vf-eval")), ID, "--client.base-url", url, "--client.api-key-var", "NONE",
        "--env.agent.runtime.type", "subprocess", "--env.taskset.pattern", pattern, "--output-dir", str(folder), "--run.name",
        "run", "--no-rich", "--no-push", "--model", model, *options,
    ]  # fmt: skip
    env = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT), "SWEBENCH_LAB_CACHE": str(places.default_root())}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=900)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    (traces,) = folder.rglob("traces.jsonl")
    return [trace for line in traces.read_text().splitlines() for trace in json.loads(line)["traces"]]


def scores(traces: list[dict[str, Any]]) -> list[float | None]:
    order = [task.id for task in demo()]
    found = sorted(traces, key=lambda trace: order.index(trace["task"]["key"]))
    return [
        None if reward is None else reward["score"] for reward in (trace["rewards"].get("resolved") for trace in found)
    ]


def test_its_command_evaluates_our_tasks_with_our_agent_and_our_grading(tmp_path: Path) -> None:
    with serving([by_issue]) as server:
        traces = evaluate(tmp_path, f"{server.url}/v1", "--sampling.temperature", "0.25")
    assert scores(traces) == [1.0, 1.0, 0.0] and all(trace["ok"] for trace in traces)
    assert {request["temperature"] for request in server.requests} == {0.25}
    solved = next(trace for trace in traces if trace["task"]["key"] == demo()[0].id)
    note = solved["info"]["swebench_lab"]
    assert (note["stop"], note["steps"], note["verdict"]["status"]) == ("submitted", 2, "resolved")
    assert len(solved["calls"]) == 2 and demo()[0].issue.strip() in json.dumps(
        solved["nodes"], ensure_ascii=False
    ).replace("\\n", "\n")
    assert demo()[0].gold_patch not in json.loads(json.dumps(solved["task"]))["data"].values()


@pytest.mark.parametrize(
    ("model", "options", "stop"),
    [
        ("m", ["--env.agent.max-turns", "1"], "max_turns"),
        ("slow", ["--env.agent.timeout.rollout", "60"], "agent_timeout"),
    ],
)
def test_what_was_changed_when_its_limit_cut_the_attempt_off_is_graded(
    tmp_path: Path, model: str, options: list[str], stop: str
) -> None:
    with serving([by_issue]) as server:
        traces = evaluate(tmp_path, f"{server.url}/v1", *options, model=model)
    assert stop in {trace["stop_condition"] for trace in traces}
    assert scores(traces) == [1.0, 1.0, 0.0]


def test_an_agent_of_others_in_the_box_without_a_network_is_evaluated_too(tmp_path: Path) -> None:
    with serving([by_issue]) as server:
        traces = evaluate(
            tmp_path,
            f"{server.url}/v1",
            "--env.agent.harness.id",
            ID,
            "--env.agent.harness.agent",
            f"{__name__}:theirs",
        )
    assert scores(traces) == [1.0, 1.0, 0.0]
    assert {len(trace["calls"]) for trace in traces} == {1, 2}


def test_an_endpoint_that_fails_is_an_error_of_verifiers_and_no_reward(tmp_path: Path) -> None:
    with serving([(401, {}, {"error": {"message": "no such key"}})]) as server:
        traces = evaluate(tmp_path, f"{server.url}/v1")
    assert not any(trace["ok"] for trace in traces) and scores(traces) == [None] * 3


def test_gold_patches_validate_and_what_is_not_graded_is_no_reward() -> None:
    (task,) = LabTaskset(LabTasksetConfig(id=ID, pattern=demo()[0].id))
    assert asyncio.run(task.validate(None)) is True
    trace = SimpleNamespace(info={})
    with pytest.raises(GradingError, match="no patch was left"):
        asyncio.run(task.resolved(trace))
    asyncio.run(task.setup(trace, None))
    trace.info["swebench_lab"]["patch"] = ""
    assert asyncio.run(task.resolved(trace)) == 0.0
    assert LabHarness.NEEDS_CONTAINER is False
