"""The gateway as clients meet it: the official SDKs, bodies of every framing, streams, errors, retries."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from swebench_lab.agents.external import http as serving
from swebench_lab.agents.external.gateway import gateway
from swebench_lab.agents.external.translation import call_text
from swebench_lab.formats.dialects import routes
from swebench_lab.formats.dialects.exchange import Answer, Refused, Request, ToolUse, Usage
from swebench_lab.formats.dialects.routes import Route
from tests.sandbox.test_namespace import wait_until


class Desk:
    """Answers with one call and a sentence, and remembers what it was asked."""

    key, model = "lab-key", "lab-model"

    def __init__(self, seconds: float = 0.0) -> None:
        self.asked: list[Request] = []
        self.seconds = seconds
        self.refused: Refused | None = None

    def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        time.sleep(self.seconds)
        if self.refused:
            raise self.refused
        calls = (ToolUse("call_1", "bash", '{"command": "ls"}'),) if request.tools else ()
        finish = "tool_calls" if calls else "stop"
        return Answer(f"a{len(self.asked)}", "I look.", calls, finish, "hm", "sig", Usage(10, 5, 4), request.model, 1)


@pytest.fixture
def desk():
    desk = Desk()
    listener = socket.create_server(("127.0.0.1", 0))
    desk.port = listener.getsockname()[1]
    desk.url = f"http://127.0.0.1:{desk.port}"
    with gateway().attach(listener, desk):
        yield desk


PARAMETERS = {"type": "object", "properties": {"command": {"type": "string"}}}
FUNCTION = {"name": "bash", "description": "runs", "parameters": PARAMETERS}


def ask(desk: Desk, path: str, body: object, headers: dict[str, str] | None = None, method: str = "POST"):
    """Ask once; return the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=30)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"authorization": f"Bearer {desk.key}", **(headers or {})})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def test_the_openai_sdk_chats_whole_and_streamed(desk):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{desk.url}/v1", api_key=desk.key, max_retries=0)
    tools = [{"type": "function", "function": FUNCTION}]
    whole = client.chat.completions.create(model="m", messages=CHAT["messages"], tools=tools)
    assert whole.choices[0].message.content == "I look." and whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.tool_calls[0].function.arguments == '{"command": "ls"}'
    assert (whole.usage.prompt_tokens, whole.usage.prompt_tokens_details.cached_tokens) == (10, 4)
    options = {"include_usage": True}
    with client.chat.completions.stream(
        model="m", messages=CHAT["messages"], tools=tools, stream_options=options
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "I look." and final.usage.completion_tokens == 5
    assert final.choices[0].message.tool_calls[0].function.name == "bash"
    assert [model.id for model in client.models.list()] == ["lab-model"]


def test_the_openai_sdk_asks_for_responses_whole_and_streamed(desk):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{desk.url}/v1", api_key=desk.key, max_retries=0)
    tools = [{"type": "function", **FUNCTION, "strict": False}]
    whole = client.responses.create(model="m", input="hello", instructions="fix", tools=tools)
    assert whole.output_text == "I look." and whole.output[-1].call_id == "call_1"
    assert [m["role"] for m in desk.asked[0].messages] == ["system", "user"]
    with client.responses.stream(model="m", input="hello", tools=tools) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert final.output_text == "I look." and final.usage.input_tokens_details.cached_tokens == 4


def test_the_anthropic_sdk_asks_for_messages_whole_and_streamed(desk):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.Anthropic(base_url=desk.url, api_key=desk.key, max_retries=0)
    tools = [{"name": "bash", "description": "runs", "input_schema": PARAMETERS}]
    asked = {"model": "m", "max_tokens": 100, "messages": CHAT["messages"], "tools": tools}
    whole = client.messages.create(**asked)
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use"]
    assert whole.content[2].input == {"command": "ls"} and whole.stop_reason == "tool_use"
    assert (whole.usage.input_tokens, whole.usage.cache_read_input_tokens) == (6, 4)
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert [b.model_dump() for b in final.content] == [b.model_dump() for b in whole.content] or (
        final.content[2].input == {"command": "ls"} and final.content[1].text == "I look."
    )
    assert client.messages.count_tokens(model="m", messages=CHAT["messages"]).input_tokens > 0
    desk.refused = Refused(400, "prompt is too long: 5000 tokens > 4096 maximum", "overflow")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 5000 tokens"):
        client.messages.create(**asked)


def test_google_is_answered_whole_and_streamed(desk):
    body = {
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "tools": [{"functionDeclarations": [FUNCTION]}],
    }
    key = {"authorization": "", "x-goog-api-key": desk.key}
    status, _, whole = ask(desk, "/v1beta/models/gemini:generateContent", body, key)
    assert status == 200 and json.loads(whole)["candidates"][0]["content"]["parts"][2]["functionCall"]["name"] == "bash"
    status, headers, streamed = ask(
        desk, f"/v1beta/models/gemini:streamGenerateContent?alt=sse&key={desk.key}", body, {"authorization": ""}
    )
    assert headers["content-type"] == "text/event-stream" and json.loads(streamed.removeprefix(b"data: "))["candidates"]
    assert desk.asked[-1].model == "gemini"
    assert json.loads(ask(desk, "/v1beta/models/gemini:countTokens", body, key)[2])["totalTokens"] > 0


def test_bodies_come_compressed_and_in_chunks(desk):
    packed = gzip.compress(json.dumps(CHAT).encode())
    assert ask(desk, "/v1/chat/completions", packed, {"content-encoding": "gzip"})[0] == 200
    assert ask(desk, "/v1/chat/completions", packed[:-9], {"content-encoding": "gzip"})[0] == 400
    assert ask(desk, "/v1/chat/completions", packed, {"content-encoding": "br"})[0] == 415
    data = json.dumps(CHAT).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:7], data[7:])) + b"0\r\n\r\n"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {desk.key}\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", desk.port), timeout=30) as raw:
        raw.sendall((head.encode() + chunks) * 2)  # one connection, two requests
        answer = b""
        while answer.count(b"I look.") < 2:
            answer += raw.recv(1 << 16)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST //[x/v1/chat/completions HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: \xb2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (serving.LARGEST + 1) + b" " * (1 << 20),
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
        b"POST / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nlong: " + b"x" * (1 << 20) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    ],
    ids=str,
)
def test_what_is_no_request_is_refused_and_the_gateway_goes_on(desk, sent, caplog):
    with socket.create_connection(("127.0.0.1", desk.port), timeout=30) as raw:
        raw.sendall(sent)
        assert raw.recv(100)[9:13] in (b"400 ", b"413 ", b"431 ")
    assert ask(desk, "/v1/chat/completions", CHAT)[0] == 200
    assert not caplog.records


class Gate(Desk):
    """Answers nobody before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        assert self.gate.wait(60)
        return answer


@contextmanager
def attach(desk: Desk) -> Iterator[Desk]:
    listener = socket.create_server(("127.0.0.1", 0))
    desk.port = listener.getsockname()[1]
    with gateway().attach(listener, desk):
        yield desk


def send(desk: Desk, data: bytes, length: int | None = None) -> socket.socket:
    """Send a model call of so many bytes, or the beginning of one, and do not wait."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {desk.key}\r\ncontent-length: "
    raw = socket.create_connection(("127.0.0.1", desk.port), timeout=60)
    raw.sendall(f"{head}{len(data) if length is None else length}\r\n\r\n".encode() + data)
    return raw


def test_an_agent_that_asks_all_at_once_takes_nothing_from_the_others(desk):
    with attach(Gate()) as busy, ExitStack() as stack:
        calls = [
            stack.enter_context(send(busy, json.dumps({**CHAT, "seed": number}).encode())) for number in range(128)
        ]
        with send(busy, b"") as more:
            assert more.recv(12) == b"HTTP/1.1 503"
        wait_until(lambda: len(busy.asked) == 16)
        assert ask(desk, "/v1/chat/completions", CHAT)[0] == 200 and len(busy.asked) == 16
        busy.gate.set()
        assert all(raw.recv(12) == b"HTTP/1.1 200" for raw in calls) and len(busy.asked) == 128


def test_the_bodies_that_a_box_has_under_way_are_bounded(desk):
    with ExitStack() as stack:
        bodies = [stack.enter_context(send(desk, b"{", serving.LARGEST)) for _ in range(4)]
        wait_until(lambda: ask(desk, "/v1/chat/completions", CHAT)[0] == 503)
        bodies[0].close()
        wait_until(lambda: ask(desk, "/v1/chat/completions", CHAT)[0] == 200)


def test_what_was_asked_counts_until_it_is_answered_whether_or_not_somebody_waits(desk, monkeypatch):
    monkeypatch.setattr("swebench_lab.agents.external.gateway._BODIES", 1 << 16)
    long = {"model": "m", "messages": [{"role": "user", "content": "x" * (1 << 14)}]}
    with attach(Gate()) as busy:
        for number in range(2):
            send(busy, json.dumps({**long, "seed": number}).encode()).close()
        wait_until(lambda: len(busy.asked) == 2)
        wait_until(lambda: ask(busy, "/v1/chat/completions", {**long, "pad": "x" * (1 << 15)})[0] == 503)
        busy.gate.set()
        wait_until(lambda: ask(busy, "/v1/chat/completions", {**long, "pad": "x" * (1 << 15)})[0] == 200)


def test_old_clients_are_answered_without_chunks_and_empty_lines_are_skipped(desk):
    data = json.dumps({**CHAT, "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {desk.key}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", desk.port), timeout=30) as raw:
        raw.sendall(b"\r\n" + head.encode() + data)
        answer = b"".join(iter(lambda: raw.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b"chunked" not in answer and answer.endswith(b"data: [DONE]\n\n")


def test_side_routes_ask_no_model(desk):
    assert ask(desk, "/", None, {"authorization": ""}, "HEAD")[0] == 200
    assert ask(desk, "/v1/models", None, method="GET")[0] == 200
    assert json.loads(ask(desk, "/v1/models/a/b", None, method="GET")[2])["id"] == "lab-model"
    found = ask(desk, "/v1beta/models/x", None, {"x-goog-api-key": desk.key}, method="GET")
    assert json.loads(found[2])["name"] == "models/lab-model"
    assert ask(desk, "/v1/embeddings", CHAT)[0] == 404
    assert ask(desk, "/v1/responses", None, {"upgrade": "websocket", "connection": "upgrade"}, "GET")[0] == 404
    assert not desk.asked


def test_errors_are_worded_by_the_dialect(desk):
    status, _, body = ask(desk, "/v1/chat/completions", CHAT, {"authorization": "Bearer other"})
    assert status == 401 and json.loads(body)["error"]["code"] == "invalid_api_key"
    status, _, body = ask(desk, "/v1/messages", {"messages": "x"}, {"x-api-key": desk.key})
    assert status == 400 and json.loads(body)["error"]["type"] == "invalid_request_error"
    desk.refused = Refused(429, "slow down", "rate")
    status, headers, body = ask(desk, "/v1/responses", {"model": "m", "input": "x"})
    assert (
        status == 429 and headers["retry-after"] == "1" and json.loads(body)["error"]["code"] == "rate_limit_exceeded"
    )
    desk.refused = Refused(500, "broken", "internal")
    status, headers, body = ask(desk, "/v1beta/models/m:generateContent", {"contents": "x"})
    assert status == 500 and headers["x-should-retry"] == "false" and json.loads(body)["error"]["status"] == "INTERNAL"
    status, _, body = ask(desk, "/v1/chat/completions", {**CHAT, "stream": True})
    assert status == 500, "what fails at once has a status of its own, even where a stream was asked for"


def test_a_slow_stream_is_kept_alive_and_an_error_ends_it(desk, monkeypatch):
    monkeypatch.setattr("swebench_lab.agents.external.gateway.KEEP_ALIVE", 0.2)
    desk.seconds = 0.9
    _, _, body = ask(desk, "/v1/chat/completions", {**CHAT, "stream": True})
    assert body.startswith(b": waiting\n\n") and body.endswith(b"data: [DONE]\n\n")
    desk.refused = Refused(500, "broken", "internal")
    _, _, body = ask(desk, "/v1/messages", {**CHAT, "stream": True}, {"x-api-key": desk.key})
    assert b"event: error" in body and b"broken" in body


def test_a_retry_while_the_first_is_pending_asks_once(desk):
    desk.seconds = 0.5
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(desk, "/v1/chat/completions", CHAT)[2])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(desk.asked) == 1 and len(set(found)) == 1
    ask(desk, "/v1/chat/completions", CHAT)
    assert len(desk.asked) == 2, "an equal request afterwards is another question"


def test_whoever_went_away_before_the_answer_is_given_it_when_it_asks_again(desk):
    desk.seconds = 0.5
    data = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {desk.key}\r\ncontent-length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", desk.port)) as raw:
        raw.sendall(head.encode() + data)
        time.sleep(0.1)
    time.sleep(0.8)
    assert json.loads(ask(desk, "/v1/chat/completions", CHAT)[2])["id"].endswith("a1") and len(desk.asked) == 1
    ask(desk, "/v1/chat/completions", CHAT)
    assert len(desk.asked) == 2


def test_a_detached_desk_is_not_reached_any_more_and_leaves_no_descriptor():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        desk, listener = Desk(), socket.create_server(("127.0.0.1", 0))
        desk.port = listener.getsockname()[1]
        with gateway().attach(listener, desk):
            ask(desk, "/v1/chat/completions", CHAT)
        with pytest.raises(ConnectionError):
            ask(desk, "/v1/chat/completions", CHAT)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_reply_with_several_calls_is_read_whole():
    from swebench_lab.agents.external.translation import read_reply
    from swebench_lab.records.reply import Reply

    text = call_text("bash", {"command": "ls"}, "<think>hm</think>Both.") + "\n" + call_text("read", {"lines": [1, 2]})
    reasoning, said, calls = read_reply(Reply(text), "1")
    assert (reasoning, said) == ("hm", "Both.")
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("bash", {"command": "ls"}),
        ("read", {"lines": [1, 2]}),
    ]


@pytest.mark.parametrize(("depth", "count"), [(70, 1), (90, 0), (5000, 0)])
def test_a_call_that_could_not_come_back_is_said_as_a_text(depth, count):
    from swebench_lab.agents.external.translation import read_reply
    from swebench_lab.records.reply import Reply

    nested = "[" * depth + "]" * depth
    text = f'<tool_call>\n{{"name": "bash", "arguments": {{"x": {nested}}}}}\n</tool_call>'
    _, said, calls = read_reply(Reply(text), "1")
    assert len(calls) == count and said == ("" if count else text)
    block = [{"type": "tool_use", "id": call.id, "name": "bash", "input": json.loads(call.arguments)} for call in calls]
    body = json.dumps({"messages": [{"role": "assistant", "content": block}]}).encode()
    assert routes.read(Route("reply", "anthropic"), body)
