"""LiteLLMPolicy: the real litellm against a server that speaks chat completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.policies.litellm_models import LiteLLMPolicy
from swebench_lab.records.reply import Message
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing.conformance.policies import check_policy
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.policies import providers as p

pytest.importorskip("litellm", reason="LiteLLMPolicy is in the extra 'litellm'")

TASK = make_task()
OPENING: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
SUBMIT = p.chat({"content": None, "tool_calls": [p.call("submit", "{}")]}, "tool_calls", USAGE)
LIST = p.chat(
    {"content": "So.", "reasoning_content": "plan", "tool_calls": [p.call("bash", '{"command": "ls"}')]},
    "tool_calls",
    USAGE,
)


def run(server: p.Provider, folder: Path, **settings: Any) -> Any:
    policy = LiteLLMPolicy("openai/m", base_url=f"{server.url}/v1", api_key="k", pause=0.01, retries=1, **settings)
    with open_namespace(make_snapshot(folder, {"a.py": "x = 1\n"})) as box:
        return Agent(policy, "tool-calling", keep_layers=False, max_steps=4).run(TASK, box)


def test_an_attempt_through_litellm(tmp_path: Path) -> None:
    with p.serving([LIST, SUBMIT], p.chat_rules) as server:
        trajectory = run(server, tmp_path)
        policy = LiteLLMPolicy("openai/m", base_url=f"{server.url}/v1", api_key="k")
        assert check_policy(policy, TASK.view(), OPENING) == []
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert (trajectory.steps[0].reply.reasoning, trajectory.steps[0].reply.cost) == ("plan", None)
    assert server.requests[1]["messages"][2]["tool_calls"][0]["id"] == "call_a"


@pytest.mark.parametrize(
    ("answer", "stop", "asked"),
    [
        (
            (400, {}, {"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}}),
            "max_tokens",
            2,
        ),
        ((429, {}, {"error": {"message": "slow down"}}), "error", 3),
        ((500, {}, {"error": {"message": "oops"}}), "error", 3),
        ((401, {}, {"error": {"message": "who are you"}}), "error", 2),
        (p.chat({"content": "x"}, "content_filter", USAGE), "error", 3),
    ],
)
def test_its_errors_mean_what_those_of_other_policies_mean(answer: Any, stop: str, asked: int, tmp_path: Path) -> None:
    with p.serving([LIST, answer], p.chat_rules) as server:
        trajectory = run(server, tmp_path)
    assert (trajectory.stop, len(server.requests)) == (stop, asked)


def test_prices_of_ones_own_count(tmp_path: Path) -> None:
    with p.serving([SUBMIT], p.chat_rules) as server:
        assert run(server, tmp_path, prices=(1.0, 1.0, 2.0)).cost == pytest.approx(20e-6)
