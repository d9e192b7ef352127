"""Policies of providers' own APIs against servers that check requests as the providers document them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.policies.anthropic_messages import AnthropicPolicy
from swebench_lab.policies.openai_responses import ResponsesPolicy
from swebench_lab.policies.policy import Brief
from swebench_lab.records.reply import Message
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing.conformance.policies import check_policy
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.policies import providers as p

pytest.importorskip("httpx", reason="policies of endpoints are in the extra 'chat'")

TASK = make_task()
OPENING: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
SUBMIT = render_xml(Call("submit"))


@pytest.fixture
def box(tmp_path: Any) -> Iterator[Sandbox]:
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as opened:
        yield opened


def claude(server: p.Provider, **settings: Any) -> AnthropicPolicy:
    return AnthropicPolicy("claude", base_url=server.url, **{"pause": 0.01, "retries": 1, **settings})


def gpt(server: p.Provider, **settings: Any) -> ResponsesPolicy:
    return ResponsesPolicy("gpt", base_url=f"{server.url}/v1", **{"pause": 0.01, "retries": 1, **settings})


def attempt(policy: Any, box: Sandbox, flavour: str = "tool-calling", resume: Trajectory | None = None) -> Trajectory:
    return Agent(policy, flavour, keep_layers=False, max_steps=6).run(TASK, box, resume=resume)


KINDS = {
    "anthropic": (claude, p.messages_rules, lambda text: p.messages_answer({"type": "text", "text": text})),
    "responses": (gpt, p.responses_rules, lambda text: p.response(p.said(text))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_of_policies_is_kept(kind: str) -> None:
    make, rules, answer = KINDS[kind]
    with p.serving([answer(SUBMIT)], rules) as server:
        policy = make(server)
        assert check_policy(policy, TASK.view(), OPENING) == []
        assert policy.fingerprint == replace(policy, retries=9, api_key="k").fingerprint
        assert policy.fingerprint != replace(policy, revision="v2").fingerprint
        assert "secret" not in repr(replace(policy, api_key="secret"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flavour", ["xml", "mini", "coder"])
def test_flavours_that_write_calls_as_text_are_spoken(kind: str, flavour: str, box: Sandbox) -> None:
    make, rules, answer = KINDS[kind]
    texts = ["", "```bash\nls\n```", "```bash\nsubmit\n```"] if flavour == "mini" else ["", SUBMIT]
    with p.serving([answer(text) for text in texts], rules) as server:
        trajectory = attempt(make(server), box, flavour)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert "tools" not in server.requests[0]


def test_thoughts_go_back_with_their_signatures_and_results_under_their_ids(box: Sandbox) -> None:
    redacted = {"type": "redacted_thinking", "data": "abc"}
    answers = [
        p.messages_answer(
            p.thinking("I list."), redacted, {"type": "text", "text": "So."}, p.use("bash", {"command": "ls"})
        ),
        p.messages_answer(
            p.thinking("Two."), p.use("bash", {"command": "ls"}, "a"), p.use("submit", {}, "b"), stop="tool_use"
        ),
        p.messages_answer(p.thinking("Odd."), p.use("bash", {"command": 7}, "c")),
        p.messages_answer(
            p.thinking("Done."), p.use("submit", {}, "d"), cache_read_input_tokens=90, cache_creation_input_tokens=3
        ),
    ]
    with p.serving(answers, p.messages_rules) as server:
        policy = claude(server, thinking=1024, prices={"cla*": {"input": 1, "cached_input": 0.5, "output": 2}})
        trajectory = attempt(policy, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert [step.tool for step in trajectory.steps] == ["bash", "", "", "submit"]
    assert [step.reply.reasoning for step in trajectory.steps] == ["I list.", "Two.", "Odd.", "Done."]
    assert trajectory.steps[0].thought == "So."
    last = server.requests[-1]["messages"]
    assert last[1]["content"][:2] == [p.thinking("I list."), redacted]
    assert [block["tool_use_id"] for block in last[4]["content"]] == ["a", "b"]
    reply = trajectory.steps[-1].reply
    assert (reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens) == (103, 90, 5)
    assert reply.cost == pytest.approx((10 * 1 + 90 * 0.5 + 3 * 1 + 5 * 2) / 1e6)
    stored = Trajectory.from_dict(json.loads(json.dumps(trajectory.to_dict())))
    assert stored.messages == trajectory.messages, "thoughts and signatures are stored"


def test_a_call_that_the_token_limit_cut_is_not_run(box: Sandbox) -> None:
    half = {"type": "tool_use", "id": "t1", "name": "bash", "input": {"command": "echo half > half.txt"}}
    done = {"type": "tool_use", "id": "t2", "name": "submit", "input": {}}
    answers = [p.messages_answer(half, stop="max_tokens"), p.messages_answer(done, stop="tool_use")]
    with p.serving(answers, p.messages_rules) as server:
        trajectory = attempt(claude(server), box)
    assert (trajectory.stop, trajectory.error, trajectory.patch) == ("submitted", "", "")
    assert trajectory.steps[0].malformed and trajectory.steps[0].reply.finish_reason == "length"
    with p.serving([p.messages_answer(half, stop="tool_use"), answers[1]], p.messages_rules) as server:
        assert "half.txt" in attempt(claude(server), box).patch, "one that is whole is"


def test_the_prompt_is_marked_for_the_cache_at_most_four_times(box: Sandbox) -> None:
    calls = [p.messages_answer(p.use("bash", {"command": "ls"}, f"t{i}")) for i in range(4)]
    with p.serving([*calls, p.messages_answer(p.use("submit", {}))], p.messages_rules) as server:
        assert attempt(claude(server), box).stop == "submitted"
        marked = [json.dumps(request).count("cache_control") for request in server.requests]
        assert marked == [3, 4, 4, 4, 4]
        server.requests.clear()
        claude(server, cache=False).start(TASK.view(), 0, 0).reply(OPENING)
        assert "cache_control" not in json.dumps(server.requests[0])


def test_reasoning_items_go_back_in_front_of_what_they_led_to(box: Sandbox) -> None:
    answers = [
        p.response(p.reasoning(1), p.said("I look."), p.function_call("bash", '{"command": "ls"}')),
        p.response(
            p.reasoning(2),
            p.reasoning(3),
            p.function_call("bash", '{"command": "ls"}', "a"),
            p.function_call("submit", "", "b"),
        ),
        p.response(p.reasoning(4), p.function_call("submit", "{}", "c")),
    ]
    with p.serving(answers, p.responses_rules) as server:
        trajectory = attempt(gpt(server, effort="high"), box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert [step.reply.reasoning for step in trajectory.steps] == ["thought 1", "thought 2\nthought 3", "thought 4"]
    items = server.requests[-1]["input"]
    kinds = [item["type"] for item in items]
    assert kinds[2:6] == ["reasoning", "message", "function_call", "function_call_output"]
    assert kinds[6:] == ["reasoning", "reasoning", *["function_call"] * 2, *["function_call_output"] * 2]
    assert [item for item in items if item["type"] == "reasoning"] == [p.reasoning(n) for n in (1, 2, 3)]
    assert server.requests[0]["reasoning"] == {"effort": "high", "summary": "auto"}
    assert server.requests[0]["prompt_cache_key"] == TASK.id
    assert trajectory.steps[0].reply.cached_tokens == 4 and trajectory.steps[0].reply.cost is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_attempt_that_is_entered_in_the_middle_sends_the_same(kind: str, box: Sandbox) -> None:
    make, rules, _ = KINDS[kind]
    first = {
        "anthropic": p.messages_answer(p.thinking("I list."), p.use("bash", {"command": "ls"})),
        "responses": p.response(p.reasoning(1), p.function_call("bash", '{"command": "ls"}')),
    }[kind]
    last = {
        "anthropic": p.messages_answer(p.use("submit", {})),
        "responses": p.response(p.function_call("submit", "{}")),
    }[kind]
    with p.serving([first, last], rules) as server:
        whole = attempt(make(server), box)
        entered = attempt(make(server), box, resume=whole[:1])
    assert entered.stop == "submitted"
    assert server.requests[1] == server.requests[2]


BROKEN = {
    "anthropic": [
        p.messages_answer({"type": "text", "text": "no"}, stop="refusal"),
        p.messages_answer({"type": "text", "text": "x"}, stop="pause_turn"),
        p.messages_answer(stop=None),
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        (529, {}, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        "not json",
        {"content": "text"},
    ],
    "responses": [
        p.response(status="failed", error={"code": "server_error", "message": "oops"}),
        p.response(status="incomplete", incomplete_details={"reason": "content_filter"}),
        p.response({"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}),
        p.response(status="cancelled"),
        (500, {}, {"error": {"message": "oops"}}),
        {"output": None},
        "[",
    ],
}
ORDERS = [(kind, answer) for kind, answers in BROKEN.items() for answer in answers]


@pytest.mark.parametrize(("kind", "answer"), ORDERS)
def test_what_the_provider_broke_off_is_asked_again_and_then_an_error(kind: str, answer: Any, box: Sandbox) -> None:
    make, rules, good = KINDS[kind]
    with p.serving([(200, {}, answer) if isinstance(answer, str) else answer, good(SUBMIT)], rules) as server:
        assert attempt(make(server), box, "xml").stop == "submitted"
        assert len(server.requests) == 2
        server.requests.clear()
        server.answers.pop()
        trajectory = attempt(make(server), box, "xml")
        assert (trajectory.stop, trajectory.patch, len(server.requests)) == ("error", "", 2)


FULL: list[tuple[str, Any]] = [
    (
        "anthropic",
        (
            400,
            {},
            {
                "error": {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 215000 tokens > 200000 maximum",
                }
            },
        ),
    ),
    ("anthropic", (413, {}, {"error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}})),
    ("anthropic", p.messages_answer({"type": "text", "text": "x"}, stop="model_context_window_exceeded")),
    (
        "responses",
        (400, {}, {"error": {"code": "context_length_exceeded", "message": "Your input exceeds the context window"}}),
    ),
    ("responses", p.response(status="failed", error={"code": "context_length_exceeded", "message": "too much"})),
]


@pytest.mark.parametrize(("kind", "answer"), FULL)
def test_a_full_context_ends_the_attempt_like_the_token_limit(kind: str, answer: Any, box: Sandbox) -> None:
    make, rules, good = KINDS[kind]
    fix = render_xml(Call("bash", {"command": "echo y > a.py"}))
    with p.serving([good(fix), answer], rules) as server:
        trajectory = attempt(make(server), box, "xml")
    assert trajectory.stop == "max_tokens"
    assert "+y" in trajectory.patch, "the work is handed in"


def test_settings_that_the_api_refuses_are_refused_before() -> None:
    with pytest.raises(ValueError, match="less than max_tokens"):
        AnthropicPolicy("claude", thinking=9000, max_tokens=9000)
    with pytest.raises(ValueError, match="temperature"):
        AnthropicPolicy("claude", thinking=1024, temperature=0.5)
    with p.serving([p.messages_answer({"type": "text", "text": "x"})], p.messages_rules) as server:
        with pytest.raises(PolicyError, match="Extra inputs"):
            claude(server, body={"seed": 1}).start(TASK.view(), 0, 0).reply(OPENING)
        talk = claude(server, body={"top_p": 0.5}).start(TASK.view(), 0, 0)
        talk.brief(Brief())
        assert talk.reply(OPENING).text == "x"
    assert server.requests[-1]["top_p"] == 0.5
    assert issubclass(ContextFull, PolicyError)
