"""The providers' own SDKs on both sides: our requests are what their types describe, and their clients take what we answer.

The servers that stand for the providers (`providers.py`) are held against the SDKs too: what they answer is a whole answer to them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.agents.external.gateway import gateway
from swebench_lab.formats.dialects.exchange import Answer, Refused, Request, ToolUse, Usage
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.policies import providers as p

pydantic = pytest.importorskip("pydantic", reason="comes with the SDKs")
TASK = make_task()
USED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4}}
BOTH = (("bash", {"command": "ls"}, "a"), ("bash", {"command": "pwd"}, "b"))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_namespace(make_snapshot(tmp_path_factory.mktemp("repo"), {"a.py": "x = 1\n"})) as opened:
        yield opened


def attempt(policy: Any, box: Sandbox) -> lab.Trajectory:
    made = lab.Agent(policy, "parallel-calling", keep_layers=False, max_steps=4).run(TASK, box)
    assert (made.stop, made.error) == ("submitted", "")
    assert made.steps[0].reply.reasoning == "I look."
    return made


# --- what our policies send, as the SDKs' types have it --------------------------------------------------------------


def check_requests(kind: Any, requests: list[dict[str, Any]]) -> None:
    """Validate requests against the parameters of an SDK's method: no field that it does not know, none of another type."""
    known = kind.__annotations__
    for request in requests:
        assert set(request) <= set(known), set(request) - set(known)
        pydantic.TypeAdapter(kind).validate_json(json.dumps(request))


def test_requests_of_anthropic_policy_are_what_its_sdk_describes(box: Sandbox) -> None:
    anthropic = pytest.importorskip("anthropic", reason="needs the SDK: make integrations")
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    first = p.messages_answer(p.thinking("I look."), *(p.use(*use) for use in BOTH), stop="tool_use")
    answers = [first, p.messages_answer(p.use("submit", {}, "c"), cache_read_input_tokens=9)]
    with p.serving(answers, p.messages_rules) as server:
        attempt(lab.AnthropicPolicy("m", base_url=server.url, thinking=1024, stop=("STOP",)), box)
        check_requests(MessageCreateParamsNonStreaming, server.requests)
    for answer in answers:  # and the server is one to the SDK
        anthropic.types.Message.model_validate_json(json.dumps({"model": "m", "stop_sequence": None, **answer}))


def test_requests_of_responses_policy_are_what_its_sdk_describes(box: Sandbox) -> None:
    pytest.importorskip("openai", reason="needs the SDK: make integrations")
    from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

    thought = {**p.reasoning(1), "summary": [{"type": "summary_text", "text": "I look."}]}
    called = (p.function_call(name, json.dumps(given), number) for name, given, number in BOTH)
    answers = [p.response(thought, p.said("So."), *called), p.response(p.function_call("submit", "{}", "c"))]
    with p.serving(answers, p.responses_rules) as server:
        attempt(lab.ResponsesPolicy("m", base_url=f"{server.url}/v1", effort="high"), box)
        check_requests(ResponseCreateParamsNonStreaming, server.requests)


def test_requests_of_chat_policy_are_what_the_sdk_describes(box: Sandbox) -> None:
    pytest.importorskip("openai", reason="needs the SDK: make integrations")
    from openai.types.chat import ChatCompletion
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    called = [p.call(name, json.dumps(given), number) for name, given, number in BOTH]
    answers = [
        p.chat({"content": "So.", "reasoning_content": "I look.", "tool_calls": called}, "tool_calls", USED),
        p.chat({"content": None, "tool_calls": [p.call("submit", "{}", "c")]}, "tool_calls", USED),
    ]
    with p.serving(answers, p.chat_rules) as server:
        made = attempt(lab.ChatPolicy(f"{server.url}/v1", "m", tool_calls=True, max_tokens=99, stop=("STOP",)), box)
        check_requests(CompletionCreateParamsNonStreaming, server.requests)
    assert made.cached_tokens == 8
    for answer in answers:
        ChatCompletion.model_validate_json(json.dumps(answer))


# --- what their clients make of our gateway --------------------------------------------------------------------------


class Desk:
    """Answers with a thought, a sentence and two calls, or refuses; remembers what it was asked."""

    key, model = "lab-key", "lab-model"

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.refusals: list[Refused] = []

    def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if self.refusals:
            raise self.refusals.pop(0)
        uses = [ToolUse(f"call_{n}", "bash", json.dumps({"command": c})) for n, c in enumerate(("ls", "pwd"))]
        calls = tuple(uses) if request.tools else ()
        finish = "tool_calls" if calls else "stop"
        return Answer(f"a{len(self.asked)}", "So.", calls, finish, "I look.", "sig", Usage(10, 5, 4), request.model, 1)


@pytest.fixture
def desk() -> Iterator[Any]:
    made: Any = Desk()
    listener = socket.create_server(("127.0.0.1", 0))
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with gateway().attach(listener, made):
        yield made


FUNCTION = {
    "name": "bash",
    "description": "runs",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
}
TOOL = {"type": "function", "function": FUNCTION}
HELLO = [{"role": "user", "content": "hello"}]
FULL = Refused(400, "prompt is too long: 5000 tokens > 4096 maximum", "overflow")
SLOW = Refused(429, "slow down", "rate")
BROKEN = Refused(500, "broken", "internal")


def test_anthropics_client_sends_thoughts_and_results_back_as_they_came(desk: Any) -> None:
    anthropic = pytest.importorskip("anthropic", reason="needs the SDK: make integrations")
    client = anthropic.Anthropic(base_url=desk.url, api_key=desk.key, max_retries=2)
    tool = {
        "name": "bash",
        "description": "runs",
        "input_schema": FUNCTION["parameters"],
        "cache_control": {"type": "ephemeral"},
    }
    asked: dict[str, Any] = {
        "model": "m", "max_tokens": 2000, "tools": [tool], "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    }  # fmt: skip
    whole = client.messages.create(messages=HELLO, **asked)
    with client.messages.stream(messages=HELLO, **asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert [block.model_dump(exclude={"id"}) for block in final.content] == [
        block.model_dump(exclude={"id"}) for block in whole.content
    ]
    assert {"thinking", "signature", "text", "input_json", "message_stop"} <= kinds
    assert (final.content[0].thinking, final.content[0].signature) == ("I look.", "sig")
    assert (whole.usage.input_tokens, whole.usage.cache_read_input_tokens, whole.usage.output_tokens) == (6, 4, 5)
    results = [
        {"type": "tool_result", "tool_use_id": b.id, "content": b.id} for b in whole.content if b.type == "tool_use"
    ]
    client.messages.create(
        messages=[*HELLO, {"role": "assistant", "content": whole.content}, {"role": "user", "content": results}],
        **asked,
    )
    said, *came = desk.asked[-1].messages[-3:]
    assert "I look." in json.dumps(said) and "sig" in json.dumps(said)
    assert [message["tool_call_id"] for message in came] == [result["tool_use_id"] for result in results]
    desk.refusals = [SLOW]
    assert client.messages.create(messages=HELLO, **asked).stop_reason == "tool_use", "its own retry is answered"
    desk.refusals = [FULL]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(messages=HELLO, **asked)
    desk.refusals = [BROKEN]
    with pytest.raises(anthropic.InternalServerError, match="broken"):
        client.messages.create(messages=HELLO, **asked)
    assert not desk.refusals, "what we know to be final is not asked again"


def test_openais_client_sends_calls_back_and_tells_errors_apart(desk: Any) -> None:
    openai = pytest.importorskip("openai", reason="needs the SDK: make integrations")
    client = openai.OpenAI(base_url=f"{desk.url}/v1", api_key=desk.key, max_retries=2)
    message = client.chat.completions.create(model="m", messages=HELLO, tools=[TOOL]).choices[0].message
    assert [call.id for call in message.tool_calls] == ["call_0", "call_1"] and message.reasoning_content == "I look."
    results = [{"role": "tool", "tool_call_id": call.id, "content": call.id} for call in message.tool_calls]
    client.chat.completions.create(
        model="m", messages=[*HELLO, message.model_dump(exclude_none=True), *results], tools=[TOOL]
    )
    assert [m["role"] for m in desk.asked[-1].messages] == ["user", "assistant", "tool", "tool"]
    whole = client.responses.create(
        model="m", input="hello", tools=[{"type": "function", "strict": False, **FUNCTION}], store=False
    )
    items = [item.model_dump(exclude_none=True) for item in whole.output]
    outputs = [
        {"type": "function_call_output", "call_id": i["call_id"], "output": "x"}
        for i in items
        if i["type"] == "function_call"
    ]
    client.responses.create(model="m", input=[*HELLO, *items, *outputs], store=False)
    assert [m["role"] for m in desk.asked[-1].messages] == ["user", "assistant", "tool", "tool"]
    desk.refusals = [SLOW]
    assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "So."
    for refused, kind in ((FULL, openai.BadRequestError), (BROKEN, openai.InternalServerError)):
        for ask in (
            lambda: client.chat.completions.create(model="m", messages=HELLO),
            lambda: client.responses.create(model="m", input="hello"),
            lambda: list(client.chat.completions.create(model="m", messages=HELLO, stream=True)),
        ):
            desk.refusals = [refused]
            with pytest.raises(kind) as raised:
                ask()
            assert not desk.refusals and (
                kind is not openai.BadRequestError or raised.value.code == "context_length_exceeded"
            )


def test_litellms_clients_of_every_provider_are_answered(desk: Any) -> None:
    litellm = pytest.importorskip("litellm", reason="needs litellm: make integrations")
    for model, base in (("openai/m", f"{desk.url}/v1"), ("anthropic/m", desk.url), ("hosted_vllm/m", f"{desk.url}/v1")):
        given = {
            "model": model,
            "messages": HELLO,
            "tools": [TOOL],
            "api_base": base,
            "api_key": desk.key,
            "num_retries": 0,
        }
        whole = litellm.completion(**given).choices[0]
        assert [json.loads(call.function.arguments) for call in whole.message.tool_calls] == [
            {"command": "ls"},
            {"command": "pwd"},
        ]
        assert (whole.finish_reason, whole.message.content) == ("tool_calls", "So.")
        chunks = list(litellm.completion(**given, stream=True))
        built = litellm.stream_chunk_builder(chunks).choices[0].message
        assert built.content == "So." and [call.function.name for call in built.tool_calls] == ["bash", "bash"]
        desk.refusals = [FULL]
        with pytest.raises(litellm.ContextWindowExceededError):
            litellm.completion(**given)
