"""Answers with any value in any place: each is read, or refused as none; no policy breaks at one."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.policies.anthropic_messages import AnthropicPolicy
from swebench_lab.policies.hosted import HostedPolicy
from swebench_lab.policies.litellm_models import LiteLLMPolicy
from swebench_lab.policies.openai_responses import ResponsesPolicy
from swebench_lab.policies.refusals import in_body
from swebench_lab.policies.transport import Passing
from swebench_lab.records.reply import Reply
from tests.policies import providers as p

ODD = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "x",
    "[1",
    "{}",
    [],
    {},
    [None],
    [[]],
    {"role": 3},
    {"type": "text"},
    ["a"],
    {"id": None},
    "\ud800",
    10**30,
]
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "cost": 0.1, "prompt_tokens_details": {"cached_tokens": 1}}
DETAILS = [{"type": "reasoning.text", "text": "p"}]
CALLS = [p.call("bash", '{"command": "ls"}'), p.call("bash", {"command": "x"})]
PARTS = [{"type": "text", "text": "x"}, {"type": "thinking", "thinking": [{"type": "text", "text": "y"}]}]
USE = {"type": "tool_use", "id": "1", "name": "bash", "input": {"command": "ls"}}
REASON = {
    "type": "reasoning",
    "id": "r",
    "summary": [{"type": "summary_text", "text": "plan"}],
    "encrypted_content": "x",
}
ASKED = {"type": "function_call", "id": "f", "call_id": "c", "name": "bash", "arguments": "{}", "status": "completed"}
ANSWERS: dict[str, tuple[HostedPolicy, list[Any]]] = {
    "chat": (LiteLLMPolicy("m"), [
        p.chat({"content": "So.", "reasoning_content": "plan", "reasoning_details": DETAILS, "tool_calls": CALLS}, "tool_calls", USAGE),
        p.chat({"content": PARTS}, "length")]),
    "anthropic": (AnthropicPolicy("m"), [p.messages_answer(p.thinking("plan"), {"type": "text", "text": "x"}, USE, stop="tool_use")]),
    "responses": (ResponsesPolicy("m"), [p.response(REASON, p.said("hi"), ASKED)]),
}  # fmt: skip


def places(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield so_far
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*so_far, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return value


def fate(policy: HostedPolicy, answer: Any) -> str:
    if (error := in_body(answer)) is not None:
        return error.kind.value
    try:
        policy.check(answer)
    except (Passing, ContextFull, PolicyError):
        return "refused"
    reply = Reply(**policy.read(answer), seconds=0.1)
    json.dumps([reply.text.encode().decode(), reply.signature, reply.reasoning])
    return "read"


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_with_any_value_in_any_place_is_read_or_refused(name: str) -> None:
    policy, answers = ANSWERS[name]
    draw = random.Random(name)
    fates: Counter[str] = Counter(fate(policy, answer) for answer in answers)
    assert fates == {"read": len(answers)}
    for _ in range(800):
        answer = draw.choice(answers)
        for _ in range(draw.choice([1, 1, 2, 3])):
            answer = changed(answer, draw.choice(list(places(answer))), draw.choice(ODD))
        fates[fate(policy, answer)] += 1
    assert fates["read"] > 200 and fates["refused"] > 100
