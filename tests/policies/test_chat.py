"""ChatPolicy against a real server on the loopback: what it sends, what it survives, and what it gives up on."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import segments
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.policies.policy import Brief
from swebench_lab.policies.routes import routes
from swebench_lab.records.reply import Message
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing.conformance.policies import check_policy
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.tokens import PairTokenizer, plain

pytest.importorskip("openai", reason="ChatPolicy is in the extra 'chat'")

TASK = make_task()
OPENING: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
SUBMIT = render_xml(Call("submit"))


class Endpoint(ThreadingHTTPServer):
    """A server that does what it is told, one order a request; the last order holds for all that follow."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.orders: list[Any] = [SUBMIT]
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients that leave in the middle are what is tested."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_order(self, request: dict[str, Any]) -> Any:
        with self.lock:
            self.requests.append(request)
            order = self.orders.pop(0) if len(self.orders) > 1 else self.orders[0]
        return order(request) if callable(order) else order


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        order = self.server.next_order({**request, "path": self.path, "key": self.headers["Authorization"]})
        if order == "hang":
            self.server.over.wait(10)
            return
        if order == "drip":  # a byte now and then: no single read ever runs into a time-out
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            while not self.server.over.wait(0.05):
                self.wfile.write(b" ")
            return
        if order == "die":
            self.connection.close()
            return
        status, body = order[:2] if isinstance(order, tuple) else (200, answer(order))
        if order == "drop":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in order[2:] if isinstance(order, tuple) else ():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def answer(text: str) -> bytes:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}}
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}).encode()


@contextmanager
def serving() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


def chat(endpoint: Endpoint, **settings: Any) -> ChatPolicy:
    return ChatPolicy(endpoint.url, "tiny", **{"revision": "v1", "pause": 0.01, "retries": 2, **settings})


def test_the_request_holds_the_messages_and_the_sampling(endpoint: Endpoint) -> None:
    policy = chat(endpoint, temperature=0.5, max_tokens=64, stop=("END",), body={"top_k": 20}, api_key="secret")
    policy.start(TASK.view(), 0, 7).reply(OPENING)
    (request,) = endpoint.requests
    assert (request["path"], request["key"]) == ("/v1/chat/completions", "Bearer secret")
    assert (request["model"], request["messages"], request["temperature"]) == ("tiny", OPENING, 0.5)
    assert (request["max_tokens"], request["stop"], request["top_k"]) == (64, ["END"], 20)
    assert "secret" not in repr(policy)


def test_tokens_and_cost_are_counted(endpoint: Endpoint) -> None:
    reply = chat(endpoint, prices=(1.0, 0.1, 10.0)).start(TASK.view(), 0, 0).reply(OPENING)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens) == (100, 60, 20)
    assert reply.cost == pytest.approx((40 * 1.0 + 60 * 0.1 + 20 * 10.0) / 1e6)
    assert (reply.model, reply.finish_reason) == ("tiny@v1", "stop")


def test_seeds_differ_by_attempt_and_step_and_repeat(endpoint: Endpoint) -> None:
    later: list[Message] = [*OPENING, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    for attempt, said in ((0, OPENING), (0, later), (1, OPENING), (0, OPENING)):
        chat(endpoint).start(TASK.view(), attempt, 3).reply(said)
    seeds = [request["seed"] for request in endpoint.requests]
    assert seeds[0] == seeds[3]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        (429, b"slow down"),
        (500, b"oops"),
        (503, b""),
        (200, b"not json"),
        (200, b"{}"),
        (200, b"[" * 99999),
        "drop",
        "hang",
        "drip",
    ],
)
def test_passing_trouble_is_tried_again(endpoint: Endpoint, trouble: Any) -> None:
    endpoint.orders = [trouble, trouble, SUBMIT]
    assert chat(endpoint, timeout=0.3).start(TASK.view(), 0, 0).reply(OPENING).text == SUBMIT
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "told"),
    [((500, b"oops"), "answered 500"), ("drop", "connection broke"), ((200, b"[1]"), "no message"), ("hang", "0.2 s")],
)
def test_lasting_trouble_ends_in_an_error_that_says_so(endpoint: Endpoint, trouble: Any, told: str) -> None:
    endpoint.orders = [trouble]
    with pytest.raises(PolicyError, match=told):
        chat(endpoint, timeout=0.2, retries=1).start(TASK.view(), 0, 0).reply(OPENING)
    assert len(endpoint.requests) == 2


def test_a_refusal_is_not_tried_again(endpoint: Endpoint) -> None:
    endpoint.orders = [(401, b'{"error": "who are you?"}')]
    with pytest.raises(PolicyError, match=r"401.*who are you.*OPENAI_API_KEY"):
        chat(endpoint).start(TASK.view(), 0, 0).reply(OPENING)
    assert len(endpoint.requests) == 1


def test_a_key_that_the_endpoint_repeats_gets_into_no_row_and_no_page(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.orders = [lambda request: (401, json.dumps({"error": f"no such key: {request['key']}"}).encode())]
    address = endpoint.url.replace("//", "//ada:pass-word@")
    policy = replace(chat(endpoint, api_key="sk-1234-5678"), base_url=address)
    with open_namespace(make_snapshot(tmp_path / "box", {"a.txt": "a"})) as box:
        trajectory = Agent(policy, keep_layers=False).run(TASK, box)
    told = trajectory.error
    assert "(the key)" in told and "127.0.0.1" in told
    written = [trajectory.to_json() if hasattr(trajectory, "to_json") else json.dumps(trajectory.to_dict()), told]
    for shown in (*written, repr(policy), repr(trajectory), trajectory._repr_html_(), policy.fingerprint):
        assert "sk-1234" not in shown and "pass-word" not in shown


def test_a_server_that_is_not_there_is_named() -> None:
    policy = ChatPolicy("http://127.0.0.1:9/v1", "tiny", retries=0)
    with pytest.raises(PolicyError, match=r"127\.0\.0\.1:9"):
        policy.start(TASK.view(), 0, 0).reply(OPENING)


def test_a_full_context_is_told_apart(endpoint: Endpoint) -> None:
    endpoint.orders = [(400, b"This model's maximum context length is 8192 tokens")]
    with pytest.raises(ContextFull):
        chat(endpoint).start(TASK.view(), 0, 0).reply(OPENING)


def test_the_last_reply_before_a_full_context_is_as_long_as_it_may_be(endpoint: Endpoint) -> None:
    full = (400, b"maximum context length is 8192 tokens, and you requested 8000 in the messages and 512 more")
    endpoint.orders = [lambda request: full if "max_tokens" in request else SUBMIT]
    assert chat(endpoint, max_tokens=512).start(TASK.view(), 0, 0).reply(OPENING).text == SUBMIT
    assert [request.get("max_tokens") for request in endpoint.requests] == [512, None]
    endpoint.orders = [full]
    with pytest.raises(ContextFull):
        chat(endpoint, max_tokens=512).start(TASK.view(), 0, 0).reply(OPENING)
    assert len(endpoint.requests) == 4


def test_a_field_that_an_endpoint_does_not_take_can_be_left_out(endpoint: Endpoint) -> None:
    body = {"seed": None, "max_tokens": None, "max_completion_tokens": 64}
    chat(endpoint, max_tokens=64, body=body).start(TASK.view(), 0, 0).reply(OPENING)
    (request,) = endpoint.requests
    assert "seed" not in request and "max_tokens" not in request and request["max_completion_tokens"] == 64


def test_the_contract_is_kept_and_the_fingerprint_follows_the_model(endpoint: Endpoint) -> None:
    policy = chat(endpoint)
    assert check_policy(policy, TASK.view(), OPENING) == []
    assert policy.fingerprint == chat(endpoint, retries=9, timeout=1.0, api_key="k").fingerprint
    assert policy.fingerprint != chat(endpoint, revision="v2").fingerprint
    assert policy.fingerprint != chat(endpoint, temperature=0.0).fingerprint


def test_an_endpoint_that_says_how_long_to_wait_is_obeyed(endpoint: Endpoint) -> None:
    endpoint.orders = [(429, b"slow down", ("Retry-After", "0.4")), SUBMIT]
    before = time.monotonic()
    assert chat(endpoint).start(TASK.view(), 0, 0).reply(OPENING).text == SUBMIT
    assert time.monotonic() - before >= 0.4


def test_no_try_outlasts_the_attempt(endpoint: Endpoint) -> None:
    endpoint.orders = ["hang"]
    talk = chat(endpoint, timeout=30.0, retries=50).start(TASK.view(), 0, 0)
    before = time.monotonic()
    talk.brief(Brief(deadline=lambda: before + 0.3))
    with pytest.raises(PolicyError, match="until the attempt's time was over"):
        talk.reply(OPENING)
    assert time.monotonic() - before < 2


def test_a_reply_that_the_server_broke_off_is_asked_for_again(endpoint: Endpoint) -> None:
    broken = json.dumps({"choices": [{"message": {"content": "I wa"}, "finish_reason": "abort"}]}).encode()
    endpoint.orders = [(200, broken), SUBMIT]
    assert chat(endpoint).start(TASK.view(), 0, 0).reply(OPENING).text == SUBMIT


# --- several replicas -----------------------------------------------------------------------------------------------


def test_conversations_go_to_the_replica_with_the_fewest_and_stay_there() -> None:
    with serving() as one, serving() as two:
        policy = ChatPolicy((one.url, two.url), "tiny", retries=0)
        talks = [policy.start(TASK.view(), number, 0) for number in range(4)]
        for talk in talks * 3:
            talk.reply(OPENING)
        assert (len(one.requests), len(two.requests)) == (6, 6)
        seeds = [{request["seed"] for request in server.requests} for server in (one, two)]
        assert not seeds[0] & seeds[1], "a conversation stays with its replica"
        for talk in talks:
            talk.close()
            talk.close()
        assert set(routes(policy.urls).load.values()) == {0}


def test_a_replica_that_fails_is_left_for_another() -> None:
    with serving() as one, serving() as two:
        one.orders = [(500, b"dead")]
        policy = ChatPolicy((one.url, two.url), "tiny", retries=2, pause=0.01)
        for number in range(4):
            assert policy.start(TASK.view(), number, 0).reply(OPENING).text == SUBMIT


def test_a_replica_that_hangs_costs_one_conversation_its_time_not_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as one, serving() as two:
        one.orders = ["hang", SUBMIT]
        policy = ChatPolicy((one.url, two.url), "tiny", retries=2, pause=0.01, timeout=0.3)

        def attempt(number: int) -> None:
            talk = policy.start(TASK.view(), number, 0)
            assert talk.reply(OPENING).text == SUBMIT
            talk.close()

        for number in range(6):
            attempt(number)
        assert (len(one.requests), len(two.requests)) == (1, 6)
        monkeypatch.setattr("swebench_lab.policies.routes._REST", 0.0)
        one.orders = ["hang", SUBMIT]
        routes(policy.urls)._resting[one.url] = 0.0  # the time of rest is over: it is tried again, and hangs again
        attempt(6)
        assert (len(one.requests), len(two.requests)) == (2, 7)
        attempt(7)  # and answers: from now on both are asked
        talks = [policy.start(TASK.view(), number, 0) for number in range(8, 12)]
        for talk in talks:
            talk.reply(OPENING)
        assert (len(one.requests), len(two.requests)) == (5, 9)


# --- calls of the endpoint's own kind -------------------------------------------------------------------------------


def with_calls(*calls: tuple[str, str], content: str | None = None) -> tuple[int, bytes]:
    said = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    message = {"content": content, "tool_calls": said}
    return 200, json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode()


def test_calls_of_the_endpoint_are_made_to_the_letter_and_sent_back_as_calls(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    command = "cat > made.py <<'E'\nif a:\n    b = '</tool_call>'\nE"
    endpoint.orders = [
        with_calls(("bash", json.dumps({"command": command})), content="I write."),
        with_calls(("bash", '{"command": ')),
        with_calls(("browse", "{}")),
        with_calls(("submit", "")),
    ]
    agent = Agent(chat(endpoint, tool_calls=True), "tool-calling", keep_layers=False)
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = agent.run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    assert [step.tool for step in trajectory.steps] == ["bash", "", "", "submit"]
    assert trajectory.steps[0].command == command
    assert "+    b = '</tool_call>'" in trajectory.patch
    first, *_, last = endpoint.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["bash", "str_replace_editor", "submit"]
    assert "ls -la" not in first["messages"][0]["content"], "the endpoint shows the tools itself"
    said, result = last["messages"][2:4]
    assert (said["role"], said["content"], result["role"]) == ("assistant", "I write.", "tool")
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"command": command}
    assert result["tool_call_id"] == said["tool_calls"][0]["id"]
    unread, correction, unknown, answer_to_it = last["messages"][4:8]
    assert "tool_calls" not in unread and correction["role"] == "user"
    assert answer_to_it["tool_call_id"] == unknown["tool_calls"][0]["id"]
    assert trajectory.messages[3]["role"] == "tool"


def test_several_calls_at_once_are_refused_and_none_is_made(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.orders = [with_calls(*[("bash", '{"command": "touch made"}')] * 2), with_calls(("submit", "{}"))]
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(chat(endpoint, tool_calls=True), "tool-calling", keep_layers=False).run(TASK, box)
    assert trajectory.steps[0].malformed
    assert trajectory.patch == ""


def test_calls_need_a_flavour_that_reads_them(endpoint: Endpoint, tmp_path: Path) -> None:
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(chat(endpoint, tool_calls=True), "xml", keep_layers=False).run(TASK, box)
    assert trajectory.stop == "error"
    assert "tool-calling" in trajectory.error


# --- token by token -------------------------------------------------------------------------------------------------

RENDERER = Renderer.from_frame(PairTokenizer())


def exact(prompt: list[int], text: str, seed: int, **changes: Any) -> tuple[int, bytes]:
    """What vLLM's completions answer when they are asked for token ids."""
    dice = random.Random(seed)
    ids = [*RENDERER.tokenizer.loosely(text, dice), RENDERER.stop_ids[0]]
    choice = {
        "text": text,
        "token_ids": ids,
        "prompt_token_ids": prompt,
        "logprobs": {"token_logprobs": [-dice.random() for _ in ids]},
        "finish_reason": "stop",
        **changes,
    }
    usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
    return 200, json.dumps({"choices": [choice], "usage": usage}).encode()


class Exact(list[Any]):
    """Orders that answer each prompt with the next text, in ids of their own."""

    def __init__(self, texts: list[str], **changes: Any) -> None:
        super().__init__([None])
        self.texts, self.changes, self.sent = texts, changes, []

    def __getitem__(self, index: Any) -> Any:
        return lambda request: self.answer(request)

    def answer(self, request: dict[str, Any]) -> tuple[int, bytes]:
        self.sent.append(request["prompt"])
        return exact(request["prompt"], self.texts[len(self.sent) - 1], len(self.sent), **self.changes)


def test_a_token_exact_attempt_is_trained_on_as_it_was_sampled(endpoint: Endpoint, tmp_path: Path) -> None:
    texts = [render_xml(Call("bash", {"command": f"ls {i}"}, "I look.")) for i in range(3)]
    orders = endpoint.orders = Exact([*texts, SUBMIT])
    policy = chat(endpoint, tokenizer=RENDERER, max_tokens=99, version=4)
    with open_namespace(make_snapshot(tmp_path, {"a.py": "x = 1\n"})) as box:
        trajectory = Agent(policy, keep_layers=False).run(TASK, box)
    assert (trajectory.stop, trajectory.error) == ("submitted", "")
    (segment,) = segments(trajectory)
    for sent, step in zip(orders.sent, trajectory.steps, strict=True):
        whole = (*sent, *plain(step.reply.token_ids))
        assert plain(segment.ids)[: len(whole)] == whole
        assert step.reply.text == texts[step.index] if step.index < 3 else SUBMIT
    assert segment.scored
    assert {v for v, m in zip(segment.versions, segment.mask, strict=True) if m} == {4}
    request = endpoint.requests[0]
    assert (request["path"], request["return_token_ids"], request["max_tokens"]) == ("/v1/completions", True, 99)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt_token_ids": [1, 2]}, "not the"),
        ({"token_ids": None}, "return_token_ids"),
        ({"token_ids": [1]}, "do not fit"),
        ({"logprobs": None}, "do not fit"),
    ],
)
def test_an_endpoint_that_is_not_token_exact_is_found_out(endpoint: Endpoint, changes: Any, told: str) -> None:
    endpoint.orders = Exact(["ls"] * 9, **changes)
    with pytest.raises(PolicyError, match=told):
        chat(endpoint, tokenizer=RENDERER, retries=1).start(TASK.view(), 0, 0).reply(OPENING)


def test_an_endpoint_says_how_likely_given_ids_are_or_that_it_cannot(endpoint: Endpoint) -> None:
    tables = [None, {"7": {"logprob": -0.5, "rank": 1}}, {"3": {"logprob": -0.1}, "9": {"logprob": -2.0}}]
    endpoint.orders = Exact(["x"] * 3, prompt_logprobs=tables)
    policy = chat(endpoint, tokenizer=RENDERER)
    assert plain(policy.logprobs([5, 7, 9])) == (0.0, -0.5, -2.0)
    assert (endpoint.requests[0]["prompt"], endpoint.requests[0]["prompt_logprobs"]) == ([5, 7, 9], 0)
    with pytest.raises(PolicyError, match="no prompt_logprobs"):
        policy.logprobs([5, 7, 8])
    endpoint.orders = Exact(["x"])
    with pytest.raises(PolicyError, match="no prompt_logprobs"):
        policy.logprobs([5, 7, 9])
    with pytest.raises(PolicyError, match="no tokenizer"):
        chat(endpoint).load_tokenizer()


def test_the_length_is_checked_before_asking(endpoint: Endpoint) -> None:
    endpoint.orders = Exact(["ls"])
    length = len(RENDERER.opening(OPENING))
    chat(endpoint, tokenizer=RENDERER, max_length=length + 7, max_tokens=50).start(TASK.view(), 0, 0).reply(OPENING)
    assert endpoint.requests[0]["max_tokens"] == 7
    with pytest.raises(ContextFull):
        chat(endpoint, tokenizer=RENDERER, max_length=length).start(TASK.view(), 0, 0).reply(OPENING)
    assert len(endpoint.requests) == 1


def test_a_length_that_only_the_server_knows_cuts_the_last_reply(endpoint: Endpoint) -> None:
    length = len(RENDERER.opening(OPENING))

    def order(request: dict[str, Any]) -> Any:
        whole = len(request["prompt"]) + request["max_tokens"]
        if whole > length + 9:
            return 400, f"maximum context length is {length + 9} tokens, and {whole} were requested".encode()
        return exact(request["prompt"], "ls", 1)

    endpoint.orders = [order]
    assert chat(endpoint, tokenizer=RENDERER, max_tokens=50).start(TASK.view(), 0, 0).reply(OPENING).text == "ls"
    assert [request["max_tokens"] for request in endpoint.requests] == [50, 9]
    with pytest.raises(ContextFull):
        longer: list[Message] = [*OPENING, {"role": "user", "content": "and more"}]
        chat(endpoint, tokenizer=RENDERER, max_tokens=50).start(TASK.view(), 0, 0).reply(longer)


# --- trouble, and what becomes of the attempts ----------------------------------------------------------------------


@pytest.mark.parametrize("exactly", [False, True], ids=["chat", "token-exact"])
def test_trouble_ends_its_own_attempt_as_an_error_and_others_go_on(exactly: bool, tmp_path: Path) -> None:
    """Each task's conversation meets one kind of trouble, at its second reply; two meet none."""
    troubles: dict[str, Any] = {
        "hang": "hang", "drip": "drip", "slow": (429, b"slow down"), "oops": (500, b"oops"), "drop": "drop",
        "noise": (200, b"\x00\xff garbage"), "list": (200, b"[1, 2]"), "die": "die", "fine": None, "well": None,
    }  # fmt: skip
    fix = render_xml(Call("bash", {"command": "echo x > made"}))

    def order(request: dict[str, Any]) -> Any:
        said = RENDERER.tokenizer.decode(request["prompt"]) if exactly else json.dumps(request["messages"])
        kind = next(kind for kind in troubles if f"trouble: {kind}" in said)
        second = "OBSERVATION" in said
        if second and troubles[kind]:
            return troubles[kind]
        text = SUBMIT if second else fix
        return exact(request["prompt"], text, 1) if exactly else text

    snapshot = make_snapshot(tmp_path, {"a.py": "x = 1\n"})
    with serving() as server:
        server.orders = [order]
        policy = chat(server, retries=0, timeout=2.0, **({"tokenizer": RENDERER} if exactly else {}))

        def run(kind: str) -> Trajectory:
            task = replace(TASK, id=f"task-{kind}", issue=f"trouble: {kind}")
            with open_namespace(snapshot) as box:
                return Agent(policy, keep_layers=False).run(task, box)

        with ThreadPoolExecutor(len(troubles)) as pool:
            ended = dict(zip(troubles, pool.map(run, troubles), strict=True))
    for kind, trajectory in ended.items():
        if troubles[kind] is None:
            assert (trajectory.stop, trajectory.error) == ("submitted", "")
            assert "+x" in trajectory.patch
        else:
            assert (trajectory.stop, trajectory.patch, len(trajectory)) == ("error", "", 1), kind
            assert trajectory.error.startswith("asking tiny at http://127.0.0.1:")


def test_attempts_at_a_dying_endpoint_end_as_errors_and_others_go_on(endpoint: Endpoint, tmp_path: Path) -> None:
    fix = render_xml(Call("bash", {"command": "echo x > made"}))
    endpoint.orders = [fix, (500, b"dead"), (500, b"dead"), fix, SUBMIT]
    agent = Agent(chat(endpoint, retries=1), keep_layers=False)
    snapshot = make_snapshot(tmp_path, {"a.py": "x = 1\n"})
    ends = []
    for attempt in range(2):
        with open_namespace(snapshot) as box:
            trajectory = agent.run(TASK, box, attempt)
            ends.append((trajectory.stop, bool(trajectory.patch), len(trajectory)))
    assert ends == [("error", False, 1), ("submitted", True, 2)]
