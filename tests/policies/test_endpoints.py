"""Chat endpoints as the field has them: full contexts in any words, replies broken off, reasoning, odd calls, costs, waits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.policies import transport
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.policies.policy import Brief
from swebench_lab.policies.refusals import Kind, Refusal, wait_asked
from swebench_lab.policies.usage import Price, Usage, price_of
from swebench_lab.records.reply import Message
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.rollouts.collector import RolloutCollector
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.tasks.loading import load_tasks
from swebench_lab.testing.conformance.policies import check_policy
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.policies import providers as p

pytest.importorskip("httpx", reason="ChatPolicy is in the extra 'chat'")

TASK = make_task()
OPENING: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
SUBMIT = p.chat({"content": "```bash\nsubmit\n```"})
WORK = p.chat({"content": "```bash\necho y > a.py\n```"})
NATIVE_SUBMIT = p.chat({"content": None, "tool_calls": [p.call("submit", "{}")]}, "tool_calls")
LIST = p.call("bash", '{"command": "ls"}')


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as opened:
        yield opened


def chat(server: p.Provider, **settings: Any) -> ChatPolicy:
    return ChatPolicy(f"{server.url}/v1", "m", **{"pause": 0.01, "retries": 1, **settings})


def attempt(server: p.Provider, box: Sandbox, native: bool = False, **settings: Any) -> Trajectory:
    limits = {"max_cost": settings.pop("max_cost", None), "max_steps": settings.pop("max_steps", 5)}
    policy = chat(server, tool_calls=native, **settings)
    return Agent(policy, "tool-calling" if native else "mini", keep_layers=False, **limits).run(TASK, box)


# --- a full context -------------------------------------------------------------------------------------------------

WORDINGS: list[tuple[int, str]] = [
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
    (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    (400, "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens in the messages."),
    (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    (
        400,
        "You passed 5000 input tokens and requested 0 output tokens. However, the model's context length is only 4096.",
    ),
    (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    (400, "Input length (5000 tokens) exceeds the maximum allowed length (4090 tokens)."),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens"),
    (422, "Input validation error: `inputs` must have less than 8193 tokens. Given: 9000"),
    (400, "the request exceeds the available context size, try increasing it"),
    (500, "the request exceeds the available context size. try increasing the context size or enable context shift"),
    (500, "context size has been exceeded"),
    (400, "prompt is too long: 215000 tokens > 200000 maximum"),
    (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length"),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    (
        400,
        "Unable to submit request because the input token count is 40000 but the model only supports up to 32768. Reduce the input",
    ),
    (400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"),
    (400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]"),
    (400, "Invalid request: Your request exceeded model token limit: 262144"),
    (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    (400, "Prompt exceeds max length"),
    (400, "invalid params, context window exceeds limit"),
    (400, "Input is too long for requested model."),
    (413, "Request Entity Too Large"),
    (413, "Request too large for model in organization on tokens per minute (TPM): Limit 6000, Requested 9000"),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
    (400, "Please reduce the length of the messages or completion."),
    (400, "The sequence length 5000 is greater than the maximum sequence length 4096"),
    (400, "Requested tokens (5000) exceed context window of 4096"),
    (400, "input (5000 tokens) is too large to process. increase the physical batch size"),
    (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens."),
    (400, "The prompt is too long: 140000, model maximum context length: 131072"),
    (400, "This endpoint's maximum context length is 128000 tokens. However, you requested about 150000 tokens."),
    (
        400,
        "Token indices sequence length is longer than the specified maximum sequence length for this model (5000 > 4096)",
    ),
    (422, "inputs tokens + max_new_tokens must be <= 32769. Given: 40000"),
    (400, "The total number of tokens in your conversation is over the model's limit."),
    (400, "max_seq_len exceeded: prompt has 5000 tokens, model takes 4096"),
    (400, "The message you submitted was too long, please reload the conversation and submit something shorter."),
    (400, "prompt token count of 140000 exceeds the limit of 128000"),
    (400, "Your prompt does not fit the context window of the model"),
    (400, "the prompt (5000 tokens) cannot fit in the KV cache of this instance"),
    (400, "Conversation history is longer than n_ctx (4096)"),
    (400, "This request would exceed your model's context limit of 200000 tokens"),
]


@pytest.mark.parametrize(("status", "words"), WORDINGS, ids=[words[:40] for _, words in WORDINGS])
def test_a_full_context_is_known_by_its_wording(status: int, words: str) -> None:
    for body in ({"error": {"message": words, "type": "invalid_request_error"}}, {"detail": words}, words):
        text = body if isinstance(body, str) else json.dumps(body)
        assert Refusal.of(status, text).kind is Kind.FULL


def test_an_attempt_ends_by_max_tokens_whatever_the_wording(box: Sandbox) -> None:
    assert len(WORDINGS) >= 40
    for status, words in WORDINGS:
        with p.serving([WORK, (status, {}, {"error": {"message": words, "type": "invalid_request_error"}})]) as server:
            trajectory = attempt(server, box)
        assert (trajectory.stop, len(trajectory)) == ("max_tokens", 1), (words, trajectory.error)
        assert "+y" in trajectory.patch


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": "?"},
        {"type": "exceed_context_size_error", "n_ctx": 4096, "message": "?"},
        {"type": "request_too_large", "message": "?"},
        {"status": 400, "reason": "PROMPT_TOO_LONG"},
        {"code": "tokens_limit_reached"},
    ],
)
def test_a_code_decides_before_the_wording(error: dict[str, Any]) -> None:
    assert Refusal.of(400, json.dumps({"error": error})).kind is Kind.FULL


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "max_tokens is too large: 32768. This model supports at most 16384 completion tokens"),
        (400, "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for claude"),
        (400, "Invalid 'tools': the number of tools exceeds the limit of 128"),
        (401, "Incorrect API key provided"),
        (402, "Insufficient credits"),
        (404, "The model `m` does not exist"),
        (400, "Your credit balance is too low to access the API"),
        (400, "Unsupported parameter: 'seed'"),
        (400, "The response was filtered due to the prompt triggering the content management policy"),
        (400, "thinking is enabled but reasoning_content is missing in assistant tool call message"),
        (429, "You exceeded your current quota, please check your plan and billing details"),
    ],
)
def test_what_no_shorter_prompt_would_change_is_an_error_at_once(status: int, words: str, box: Sandbox) -> None:
    with p.serving([WORK, (status, {}, {"error": {"message": words}})]) as server:
        trajectory = attempt(server, box, retries=3)
    assert (trajectory.stop, len(server.requests)) == ("error", 2)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_rate_limit_is_no_full_context(status: int) -> None:
    words = "Rate limit reached: tokens per minute exceed the limit of 30000 tokens"
    assert Refusal.of(status, json.dumps({"error": {"message": words}})).kind is Kind.PASSING


UNSEEN = [
    "Le texte fourni est trop volumineux",
    "Eingabe zu lang",
    "E1207",
    "太多了",
    "The input does not fit",
    "ValidationException",
    "no more room for this conversation",
    "Bad Request",
    "no",
    "",
]


@pytest.mark.parametrize("words", UNSEEN)
def test_an_unknown_refusal_that_repeats_on_a_long_prompt_is_a_full_context(words: str, box: Sandbox) -> None:
    show = p.chat({"content": "```bash\necho y > a.py; seq 9000\n```"})
    with p.serving([show, (400, {}, {"error": {"message": words}})]) as server:
        trajectory = attempt(server, box)
    assert (trajectory.stop, len(server.requests)) == ("max_tokens", 3), "asked again once"
    assert "+y" in trajectory.patch
    with p.serving([show, (400, {}, {"error": {"message": words}}), SUBMIT]) as server:
        assert attempt(server, box).stop == "submitted", "one that does not repeat was passing trouble"
    with p.serving([WORK, (400, {}, {"error": {"message": words}})]) as server:
        assert attempt(server, box).stop == "error", "on a short prompt, its length is not why"


def test_a_known_window_decides_what_is_long(box: Sandbox) -> None:
    for limit, stop in ((400, "max_tokens"), (100_000, "error")):
        usage = {"prompt_tokens": 350, "completion_tokens": 20}
        with p.serving([{**WORK, "usage": usage}, (400, {}, {"error": "no"})]) as server:
            assert attempt(server, box, max_length=limit).stop == stop


def test_a_collections_pass_rate_does_not_depend_on_the_wording(tmp_path: Path) -> None:
    """Of four attempts, two submit the fix and two run full: pass@1 is 0.5 in every endpoint's words."""
    task = load_tasks("demo")[0]
    sandboxes = SandboxFactory("namespace")
    patch = f"```bash\ngit apply <<'EOF'\n{task.gold_patch.rstrip()}\nEOF\n```"
    rates = []
    for number, words in enumerate([WORDINGS[0][1], WORDINGS[17][1], "输入过长"]):
        served = {"attempts": 0}

        def order(body: Any, words: str = words, served: dict[str, int] = served) -> Any:
            if len(body["messages"]) == 2:
                served["attempts"] += 1
                filling = (
                    "seq 9000" if served["attempts"] % 2 else patch.removeprefix("```bash\n").removesuffix("\n```")
                )
                return p.chat({"content": f"```bash\n{filling}\n```"})
            full = "8999" in body["messages"][3]["content"]
            return (400, {}, {"error": {"message": words}}) if full else SUBMIT

        with p.serving([order]) as server:
            agent = Agent(chat(server), "mini", observation_limit=60_000)
            collector = RolloutCollector(sandboxes, Evaluator(sandboxes), workers=1, run_dir=tmp_path / str(number))
            rollouts = collector.collect(agent, [task], attempts=4)
        stops = sorted(rollout.trajectory.stop for rollout in rollouts)
        assert stops == ["max_tokens"] * 2 + ["submitted"] * 2
        rates.append(float(rollouts.pass_at(1)))
    assert rates == [0.5, 0.5, 0.5]


# --- replies broken off ---------------------------------------------------------------------------------------------

REASONS = [
    "error",
    "content_filter",
    "abort",
    "insufficient_system_resource",
    "MALFORMED_FUNCTION_CALL",
    "SAFETY",
    "sensitive",
]
BROKEN = [
    *(p.chat({"content": "I wa"}, reason) for reason in REASONS),
    p.chat({"content": None, "refusal": "no"}),
    p.chat({"content": ""}, None),
    {"choices": []},
    {"error": {"message": "Provider returned error", "code": 502}},
    {"choices": [{"message": {"content": ""}, "finish_reason": "stop", "error": {"code": 502}}]},
    "data: {}\n\ndata: [DONE]\n\n",
]


@pytest.mark.parametrize("answer", BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_a_reply_that_the_endpoint_broke_off_is_asked_again_and_is_never_the_models(answer: Any, box: Sandbox) -> None:
    broken = (200, {}, answer)
    with p.serving([broken, SUBMIT]) as server:
        assert attempt(server, box).stop == "submitted"
    with p.serving([broken]) as server:
        trajectory = attempt(server, box)
    assert (trajectory.stop, len(trajectory), len(server.requests)) == ("error", 0, 2)


@pytest.mark.parametrize("answer", [p.chat({"content": ""}), p.chat({"content": None, "reasoning": "hm"}, "length")])
def test_an_empty_reply_that_the_model_ended_itself_is_the_models(answer: Any, box: Sandbox) -> None:
    with p.serving([answer, SUBMIT]) as server:
        trajectory = attempt(server, box)
    assert trajectory.steps[0].malformed and trajectory.stop == "submitted"


# --- reasoning and calls --------------------------------------------------------------------------------------------

DETAILS = [
    {"type": "reasoning.text", "text": "plan", "signature": "s1"},
    {"type": "reasoning.encrypted", "data": "xyz"},
]
THOUGHTS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"reasoning_content": "plan"}, "plan", {"reasoning_content": "plan"}),
    ({"reasoning": "plan"}, "plan", {"reasoning": "plan"}),
    ({"reasoning": "plan", "reasoning_details": DETAILS}, "plan", {"reasoning": "plan", "reasoning_details": DETAILS}),
    ({"reasoning_details": DETAILS}, "plan", {"reasoning_details": DETAILS}),
    (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "plan"}]}]},
        "plan",
        {"reasoning_content": "plan"},
    ),
    (
        {"reasoning_content": "plan", "thinking_blocks": [p.thinking("plan")]},
        "plan",
        {"thinking_blocks": [p.thinking("plan")]},
    ),
]


@pytest.mark.parametrize(("given", "recorded", "back"), THOUGHTS)
def test_reasoning_is_recorded_and_sent_back_with_its_call(
    given: dict[str, Any], recorded: str, back: dict[str, Any], box: Sandbox
) -> None:
    first = p.chat({"content": "So.", "tool_calls": [LIST], **given}, "tool_calls")
    with p.serving([first, NATIVE_SUBMIT], p.chat_rules) as server:
        trajectory = attempt(server, box, native=True)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert trajectory.steps[0].reply.reasoning == trajectory.messages[2]["reasoning"] == recorded
    sent = server.requests[1]["messages"][2]
    assert {name: value for name, value in sent.items() if "reasoning" in name or "thinking" in name} == back
    stored = Trajectory.from_dict(json.loads(json.dumps(trajectory.to_dict())))
    assert stored.messages == trajectory.messages


def test_reasoning_without_a_native_call_is_recorded_and_stays_here(box: Sandbox) -> None:
    with p.serving([p.chat({"content": "```bash\nls\n```", "reasoning_content": "plan"}), SUBMIT]) as server:
        trajectory = attempt(server, box)
    assert trajectory.steps[0].reply.reasoning == "plan"
    assert server.requests[1]["messages"][2] == {"role": "assistant", "content": "```bash\nls\n```"}


@pytest.mark.parametrize(
    "arguments",
    ['{"command": "ls"}', {"command": "ls"}, json.dumps('{"command": "ls"}'), ' {"command": "ls"}\n'],
)
def test_arguments_are_read_in_every_form(arguments: Any, box: Sandbox) -> None:
    for message in (
        {"tool_calls": [p.call("bash", arguments)]},
        {"function_call": {"name": "bash", "arguments": arguments}},
    ):
        with p.serving([p.chat({"content": None, **message}, "tool_calls"), NATIVE_SUBMIT], p.chat_rules) as server:
            trajectory = attempt(server, box, native=True)
        assert (trajectory.stop, trajectory.steps[0].command) == ("submitted", "ls")


@pytest.mark.parametrize(
    ("arguments", "whole"), [({"command": "ls"}, False), ('{"command": "ls"}', True), ('{"command": "l', False)]
)
def test_a_call_that_the_token_limit_cut_is_not_run(arguments: Any, whole: bool, box: Sandbox) -> None:
    cut = p.chat({"content": None, "tool_calls": [p.call("bash", arguments)]}, "length")
    with p.serving([cut, NATIVE_SUBMIT], p.chat_rules) as server:
        trajectory = attempt(server, box, native=True)
    assert (trajectory.stop, trajectory.steps[0].malformed) == ("submitted", not whole)


@pytest.mark.parametrize("arguments", [None, "", "null", "{}", {}])
def test_a_call_without_arguments_is_read_in_every_form(arguments: Any, box: Sandbox) -> None:
    content = [{"type": "text", "text": "I am "}, {"type": "text", "text": "done."}]
    with p.serving([p.chat({"content": content, "tool_calls": [p.call("submit", arguments)]})]) as server:
        trajectory = attempt(server, box, native=True)
    assert (trajectory.stop, trajectory.steps[0].thought) == ("submitted", "I am done.")


@pytest.mark.parametrize(
    "calls",
    [
        [LIST, p.call("bash", '{"command": "pwd"}', "call_b")],
        [LIST, p.call("submit", "{}", "call_a")],
        [LIST, p.call("bash", '{"command": "pwd"}', ""), p.call("submit", "{}", "c")],
        [p.call("browse", "{}", "functions.browse:0")],
        [{**LIST, "extra_content": {"google": {"thought_signature": "abc"}}}],
    ],
)
def test_every_call_of_a_reply_is_answered_under_an_id_of_its_own(calls: list[Any], box: Sandbox) -> None:
    with p.serving(
        [p.chat({"content": None, "tool_calls": calls}, "tool_calls"), NATIVE_SUBMIT], p.chat_rules
    ) as server:
        trajectory = attempt(server, box, native=True)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    sent = server.requests[1]["messages"][2]["tool_calls"]
    assert [one["function"]["name"] for one in sent] == [one["function"]["name"] for one in calls]
    results = server.requests[1]["messages"][3:]
    assert [result["tool_call_id"] for result in results] == [one["id"] for one in sent]
    assert sent[0].get("extra_content") == calls[0].get("extra_content")
    assert trajectory.steps[0].malformed == (len(calls) > 1 or calls[0]["function"]["name"] == "browse")


@pytest.mark.parametrize(
    "message",
    [
        {"content": "caf\ud83d"},
        {"content": [{"type": "text", "text": "caf\udcff"}]},
        {"content": "caf\udfff", "reasoning_content": "\ud800"},
        {"content": None, "tool_calls": [p.call("bash", '{"command": "echo caf\ud83d"}')]},
        {"content": "caf\ud83d", "tool_calls": [p.call("bash", {"command": "echo \udc00"})]},
    ],
)
def test_half_characters_of_a_reply_are_sent_back_whole(message: Any, box: Sandbox) -> None:
    with p.serving([p.chat(message), NATIVE_SUBMIT]) as server:
        trajectory = attempt(server, box, native=True)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert "\ufffd" in json.dumps(server.requests[1], ensure_ascii=False)


def test_half_characters_are_replaced_on_both_ways(box: Sandbox) -> None:
    odd = "```bash\nmkdir -p $'/tmp/caf\\351' && cd $'/tmp/caf\\351' && sleep 9\n```"
    answers = [p.chat({"content": "caf\ud83d", "reasoning": "\udc00"}), p.chat({"content": odd}), SUBMIT]
    with p.serving(answers) as server:
        policy = chat(server)
        trajectory = Agent(policy, "mini", command_timeout=1, keep_layers=False).run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert trajectory.steps[0].reply.text == "caf\ufffd"
    assert "caf\ufffd" in server.requests[2]["messages"][-1]["content"]


def test_a_policy_with_native_calls_keeps_the_contract() -> None:
    with p.serving([NATIVE_SUBMIT]) as server:
        assert check_policy(chat(server, tool_calls=True), TASK.view(), OPENING) == []


# --- costs ----------------------------------------------------------------------------------------------------------


def test_costs_are_read_computed_or_unknown_and_never_zero_for_unknown(tmp_path: Path, monkeypatch: Any) -> None:
    table = {"*": {"input": 9, "output": 9}, "org/m*": {"input": 1, "cached_input": 0.1, "cache_write": 2, "output": 4}}
    assert price_of("org/m-1", table) == Price(1, 0.1, 4, 2)
    assert price_of("other", {"org/*": table["*"]}) is None
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(table))
    assert price_of("org/m", str(file)) == price_of("org/m", table)
    assert price_of("org/m", None) is None
    monkeypatch.setenv("SWEBENCH_LAB_PRICES", str(file))
    assert price_of("org/m", None) == price_of("org/m", table)
    details = {"cached_tokens": 60, "cache_write_tokens": 10}
    usage = Usage.of_chat({"prompt_tokens": "100", "completion_tokens": 20.0, "prompt_tokens_details": details})
    assert usage.fields("org/m", table)["cost"] == pytest.approx((30 * 1 + 60 * 0.1 + 10 * 2 + 20 * 4) / 1e6)
    assert (
        Usage.of_chat({"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.25}).fields("org/m", table)["cost"] == 0.25
    )
    for odd in (None, [], {"prompt_tokens": None}, {"prompt_tokens": "many", "cost": "?"}, {"prompt_tokens": True}):
        assert Usage.of_chat(odd).fields("org/m", table)["cost"] is None
    for wrong in ({"m": {"input": 1}}, {"m": {"input": 1, "output": 2, "out": 3}}, {"m": 3}, [1, 2]):
        with pytest.raises(PolicyError, match="prices of m"):
            price_of("m", wrong)  # type: ignore[arg-type]


def test_a_limit_on_cost_binds_by_what_the_endpoint_says_and_is_refused_where_nobody_knows(box: Sandbox) -> None:
    with p.serving([{**WORK, "usage": {"prompt_tokens": 9, "completion_tokens": 5, "cost": 0.25}}]) as server:
        trajectory = attempt(server, box, max_cost=0.3)
    assert (trajectory.stop, len(trajectory), trajectory.cost) == ("max_cost", 2, 0.5)
    with p.serving([WORK]) as server:
        trajectory = attempt(server, box, max_cost=0.3)
    assert (trajectory.stop, len(trajectory)) == ("error", 1)
    assert "max_cost=0.3 cannot bind" in trajectory.error and "prices" in trajectory.error


# --- waits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "300"}, 0.3),
        ({"retry-after-ms": "300", "retry-after": "1"}, 0.3),
        ({"retry-after": "soon"}, 0.0),
        ({"retry-after": "inf"}, 0.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({}, 0.0),
    ],
)
def test_every_header_that_says_how_long_to_wait_is_read(headers: dict[str, str], seconds: float) -> None:
    assert wait_asked(headers) == pytest.approx(seconds)


def test_a_date_to_wait_for_is_read() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 28 <= wait_asked({"retry-after": date}) <= 30
    assert wait_asked({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}) == 0.0


def test_a_wait_is_obeyed_whole_and_one_beyond_the_attempts_time_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", slept.append)
    busy = (429, {"retry-after": "120"}, {"error": {"message": "wait"}})
    with p.serving([busy, SUBMIT]) as server:
        assert chat(server).start(TASK.view(), 0, 0).reply(OPENING).text == "```bash\nsubmit\n```"
        assert slept == [120.0]
        server.requests.clear()
        talk = chat(server).start(TASK.view(), 0, 0)
        ends = time.monotonic() + 60
        talk.brief(Brief(deadline=lambda: ends))
        with pytest.raises(PolicyError, match=r"asks to wait 120.0 seconds, and the attempt has \d+"):
            talk.reply(OPENING)
    assert slept == [120.0]
    assert not issubclass(PolicyError, ContextFull)
