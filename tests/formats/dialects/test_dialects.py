"""Dialects: what is written is read back, streams hold what single answers hold, nothing unexpected breaks a reader."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swebench_lab.formats.dialects import anthropic, chat, google, responses
from swebench_lab.formats.dialects.exchange import Answer, Refused, Request, ToolUse
from swebench_lab.formats.dialects.routes import Route, count, key, read, route
from tests.formats.dialects.strategies import answers, bodies, requests
from tests.formats.dialects.streams import assemble

MODULES = {"chat": chat, "responses": responses, "anthropic": anthropic, "google": google}
EVERY = pytest.mark.parametrize("dialect", MODULES)


def some(count: int):
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def check_request(dialect: str, request: Request) -> None:
    body = json.loads(json.dumps(MODULES[dialect].write_request(request)))
    assert MODULES[dialect].read(body) == request


def check_answer(dialect: str, answer: Answer) -> None:
    module, request = MODULES[dialect], Request(dialect, "m", (), usage=True)
    assert module.read_answer(json.loads(json.dumps(module.write(answer, request)))) == answer
    assert assemble(dialect, module.events(answer, request)) == answer


def check_body(dialect: str, body: object) -> None:
    with suppress(Refused):
        request = read(Route("reply", dialect, "m", True, True), json.dumps(body).encode())
        for message in request.messages:
            assert isinstance(message["content"], str) and message["role"] in ("system", "user", "assistant", "tool")
        json.dumps(MODULES[dialect].write_request(request))


@EVERY
def test_requests_are_read_as_they_were_written(dialect):
    some(60)(given(requests(dialect))(lambda request: check_request(dialect, request)))()


@EVERY
def test_answers_are_read_as_they_were_written_whole_or_streamed(dialect):
    some(60)(given(answers(dialect))(lambda answer: check_answer(dialect, answer)))()


@EVERY
def test_no_body_breaks_a_reader(dialect):
    some(60)(given(bodies)(lambda body: check_body(dialect, body)))()


@pytest.mark.slow
@EVERY
def test_two_thousand_requests_answers_and_bodies(dialect):
    some(700)(given(requests(dialect))(lambda request: check_request(dialect, request)))()
    some(700)(given(answers(dialect))(lambda answer: check_answer(dialect, answer)))()
    some(700)(given(bodies)(lambda body: check_body(dialect, body)))()


@some(100)
@given(st.binary(max_size=40), st.sampled_from(list(MODULES)))
def test_no_bytes_break_a_reader(body, dialect):
    with suppress(Refused):
        read(Route("reply", dialect), body)


@pytest.mark.parametrize("depth", [150, 900, 100_000])
@EVERY
def test_a_nested_body_is_refused(depth, dialect):
    start = b'{"input":"x","contents":"x","messages":[{"role":"user","content":"x"}],"a":'
    assert read(Route("reply", dialect), start + b"[" * 50 + b"]" * 50 + b"}").messages
    with pytest.raises(Refused, match=r"nested|recursion"):
        read(Route("reply", dialect), start + b"[" * depth + b"]" * depth + b"}")


@EVERY
def test_a_conversation_without_a_message_is_refused(dialect):
    for body in (b"{}", b'{"messages":[],"input":[],"contents":[]}'):
        with pytest.raises(Refused, match="at least one message"):
            read(Route("reply", dialect), body)


@EVERY
def test_halves_of_characters_are_replaced(dialect):
    text = rb"cut \ud83d, whole \ud83d\ude00"
    body = b'{"input":"%b","contents":"%b","messages":[{"role":"user","content":"%b"}]}' % (text, text, text)
    (message,) = read(Route("reply", dialect), body).messages
    assert message["content"] == "cut \ufffd, whole \U0001f600"


# --- what each dialect is read as ---------------------------------------------------------------------------------------


def test_anthropic_requests_lose_what_changes_and_keep_their_order():
    body = {
        "model": "m",
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=abc;"},
            {"type": "text", "text": "You fix bugs.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "system", "content": "agent types"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "a", "name": "Bash", "input": {"command": "ls"}},
                    {"type": "tool_use", "id": "b", "name": "Bash", "input": {"command": "pwd"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "b",
                        "content": [{"type": "text", "text": "no"}],
                        "is_error": True,
                    },
                    {"type": "tool_result", "tool_use_id": "a", "content": "x"},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        "tools": [
            {"name": "Bash", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "mcp_servers": [{"name": "outside", "url": "https://example.org"}],
        "max_tokens": 32000,
    }
    request = anthropic.read(body)
    assert [m["role"] for m in request.messages] == ["system", "user", "system", "assistant", "tool", "tool", "user"]
    assert request.messages[0]["content"] == "You fix bugs."
    assert request.messages[1]["content"] == "one\ntwo"
    assert request.messages[3]["reasoning"] == "hm"
    assert [call["id"] for call in request.messages[3]["tool_calls"]] == ["a", "b"]
    assert request.messages[4] == {"role": "tool", "tool_call_id": "b", "content": "[Tool Error] no"}
    assert request.stripped == ("tool web_search_20250305", "mcp server outside")
    assert [tool["name"] for tool in request.tools] == ["Bash"]
    assert request.asked == {"max_tokens": 32000}


def test_calls_in_a_row_are_one_message_of_a_responses_request():
    body = {
        "model": "m",
        "instructions": "Fix.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "do it"}]},
            {
                "type": "reasoning",
                "id": "r",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "e",
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Both."}]},
            {"type": "function_call", "call_id": "a", "name": "exec_command", "arguments": '{"cmd": "ls"}'},
            {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch", "input": "*** Begin"},
            {"type": "function_call_output", "call_id": "a", "output": "x"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "done"}]},
            {"type": "web_search_call", "id": "w"},
        ],
        "tools": [
            {"type": "function", "name": "exec_command", "parameters": {"type": "object"}},
            {"type": "custom", "name": "apply_patch", "description": "patches"},
            {"type": "namespace", "name": "multi_agent_v1", "tools": []},
            {"type": "web_search", "external_web_access": True},
        ],
    }
    request = responses.read(body)
    assert [m["role"] for m in request.messages] == ["system", "system", "user", "assistant", "tool", "tool"]
    turn = request.messages[3]
    assert (turn["content"], turn["reasoning"], turn["signature"]) == ("Both.", "hm", "e")
    assert [(c["id"], c["name"]) for c in turn["tool_calls"]] == [("a", "exec_command"), ("b", "apply_patch")]
    assert json.loads(turn["tool_calls"][1]["arguments"]) == {"input": "*** Begin"}
    assert request.stripped == ("content web_search_call", "tool namespace multi_agent_v1", "tool web_search")
    answer = Answer("1", "", (ToolUse("b", "apply_patch", '{"input": "*** End"}'),), "tool_calls")
    assert responses.write(answer, request)["output"][0]["input"] == "*** End"
    with pytest.raises(Refused, match="send the whole input"):
        responses.read({"input": "x", "previous_response_id": "resp_1"})
    with pytest.raises(Refused, match="send the whole item"):
        responses.read({"input": [{"type": "item_reference", "id": "fc_1"}]})


def test_google_calls_without_ids_find_their_results():
    body = {
        "systemInstruction": {"parts": [{"text": "Fix."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "do it"}]},
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f", "args": {}}}, {"functionCall": {"name": "f", "args": {}}}],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "f", "response": {"output": "1"}}},
                    {"functionResponse": {"name": "f", "response": {"output": "2", "more": 3}}},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}}
                ]
            },
            {"googleSearch": {}},
        ],
    }
    request = google.read(body, "gemini", True, True)
    assert [m.get("tool_call_id") for m in request.messages[-2:]] == ["call_0", "call_1"]
    assert [m["content"] for m in request.messages[-2:]] == ["1", '{"output": "2", "more": 3}']
    assert request.tools[0]["parameters"] == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert request.stripped == ("tool googleSearch",) and request.model == "gemini" and request.stream


def test_pictures_and_hosted_tools_of_a_chat_are_left_out_and_named():
    body = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "rules"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "https://example.org"}},
                ],
            },
        ],
        "tools": [{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}],
        "web_search_options": {},
    }
    request = chat.read(body)
    assert request.messages == (
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "see\n[image_url left out]"},
    )
    assert request.stripped == ("content image_url", "tool web_search")
    with pytest.raises(Refused, match="only one choice"):
        chat.read({"messages": [], "n": 2})
    with pytest.raises(Refused, match="send tools"):
        chat.read({"messages": [], "functions": [{"name": "f"}]})


# --- routes, keys, errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "headers", "kind", "dialect"),
    [
        ("POST", "/v1/chat/completions", {}, "reply", "chat"),
        ("POST", "/openai/v1/chat/completions?x=1", {}, "reply", "chat"),
        ("POST", "/v1/responses", {}, "reply", "responses"),
        ("POST", "/v1/messages?beta=true", {}, "reply", "anthropic"),
        ("POST", "/v1/messages/count_tokens", {}, "count", "anthropic"),
        ("POST", "/v1beta/models/gemini-3:generateContent", {}, "reply", "google"),
        ("POST", "/v1beta/models/a%2Fb:StreamGenerateContent?alt=sse", {}, "reply", "google"),
        ("POST", "/v1beta/models/gemini-3:countTokens", {}, "count", "google"),
        ("GET", "/v1/models", {}, "models", "chat"),
        ("GET", "/v1/models", {"anthropic-version": "2023-06-01"}, "models", "anthropic"),
        ("HEAD", "/", {}, "health", "chat"),
        ("POST", "/v1/embeddings", {}, "unknown", "chat"),
    ],
)
def test_routes(method, target, headers, kind, dialect):
    found = route(method, target, headers)
    assert (found.kind, found.dialect) == (kind, dialect)


def test_what_the_path_of_google_says_is_kept():
    found = route("POST", "/v1beta/models/a%2Fb:streamGenerateContent?alt=sse", {})
    assert (found.model, found.stream, found.events) == ("a/b", True, True)
    listed = replace(Request("google", "m", ()), stream=True, events=False)
    assert isinstance(json.loads(b"".join(google.events(Answer("1", "x"), listed))), list)


def test_the_key_is_found_wherever_a_dialect_puts_it():
    assert key("/", {"x-api-key": "k"}) == key("/", {"authorization": "Bearer k"}) == "k"
    assert key("/", {"x-goog-api-key": "k"}) == key("/v1beta/models?key=k", {}) == "k"
    assert key("/", {}) == ""


@EVERY
def test_errors_have_the_shape_and_the_words_that_agents_look_for(dialect):
    module = MODULES[dialect]
    words = module.overflow(5000, 4096)
    shown = json.dumps(module.error(Refused(400, words, "overflow")))
    assert "5000" in shown and "4096" in shown
    looked_for = {
        "chat": ["maximum context length", "context_length_exceeded"],
        "responses": ["maximum context length", "context_length_exceeded"],
        "anthropic": ["prompt is too long: 5000 tokens > 4096 maximum", "invalid_request_error"],
        "google": ["exceeds the maximum number of tokens", "INVALID_ARGUMENT"],
    }
    assert all(word in shown for word in looked_for[dialect])
    assert json.dumps(module.error(Refused(429, "slow down", "rate"))).lower().count("rate") or dialect == "google"
    assert b"data: " in module.error_event(Refused(500, "broken", "internal"))


def test_counting_tokens_answers_in_the_dialect():
    assert count(Route("count", "anthropic"), b"x" * 400) == {"input_tokens": 100}
    assert count(Route("count", "google"), b"x" * 400) == {"totalTokens": 100}


# --- what agents sent -------------------------------------------------------------------------------------------------

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text("utf-8"))
"""The latest request of a short run of each agent; its words are replaced, most of its tools are left out."""

SHAPES = {
    "codex": ("system system user user assistant tool", ["exec_command"], 2),
    "claude-code": ("system user system assistant tool", ["Agent", "Bash"], 0),
    "opencode": ("system user assistant tool", ["bash"], 0),
    "qwen-code": ("system user assistant user assistant user", ["read_file", "run_shell_command"], 0),
    "gemini-cli": ("system user assistant tool", ["update_topic", "run_shell_command"], 0),
    "mini-swe-agent": ("system user assistant tool", ["bash"], 0),
}
"""Agent to the roles of its messages, its tools, and how many hosted tools are left out."""


@pytest.mark.parametrize("agent", SHAPES)
def test_requests_that_agents_sent_are_read_and_written_again(agent):
    dialect, body = RECORDED[agent]["dialect"], RECORDED[agent]["body"]
    request = read(Route("reply", dialect, "m", True, True), json.dumps(body).encode())
    roles, tools, stripped = SHAPES[agent]
    assert [message["role"] for message in request.messages] == roles.split()
    assert [tool["name"] for tool in request.tools] == tools and len(request.stripped) == stripped
    calls = [call for message in request.messages for call in message.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in request.messages if message["role"] == "tool"]
    assert [call["id"] for call in calls] == answered
    again = read(Route("reply", dialect, "m", True, True), json.dumps(MODULES[dialect].write_request(request)).encode())
    assert again.messages == request.messages and again.tools == request.tools
