"""Weights on their way: the protocol over a real HTTP server and a real connection, every way, and what goes wrong."""

from __future__ import annotations

import importlib.util
import json
import pickle
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import PolicyError, ServingError, TrainingError
from swebench_lab.policies.serving import served
from swebench_lab.policies.serving.transfer import STREAM
from swebench_lab.policies.trainable import Probed, Weight, is_trainable
from tests.conftest import make_task

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

PLUGIN = Path(served.__file__).with_name("engine_plugin") / "swebench_lab_stream.py"
LIFE = ["/pause?mode=keep", "/start_weight_update", "/update_weights", "/finish_weight_update",
        "/reset_prefix_cache?reset_running_requests=true", "/resume"]  # fmt: skip


def plugin() -> Any:
    """The module that vLLM loads; its reading of frames needs no vLLM."""
    found = importlib.util.spec_from_file_location("swebench_lab_stream", PLUGIN)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Taker(ThreadingHTTPServer):
    """Takes weights as vLLM does, by its endpoints and our plug-in's frames; it samples nothing."""

    daemon_threads = True

    def __init__(self, backend: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.backend, self.calls, self.bodies = backend, list[str](), dict[str, Any]()
        self.weights: dict[str, Any] = {}
        self.fails, self.order, self.version = "", list[str](), "default"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def receive(self, count: int) -> None:
        """Read an update with the functions that vLLM's worker reads it with."""
        reader, info = plugin(), self.bodies["/init_weight_transfer_engine"]["init_info"]
        with socket.create_connection((info["host"], info["port"]), 30) as connection:
            connection.sendall(info["token"].encode() + b"\n")
            with connection.makefile("rb") as stream:
                while (header := reader._header(stream)).get("name"):
                    data = bytearray(header["bytes"])
                    reader._fill(stream, data)
                    kind = getattr(torch, header["dtype"])
                    flat = torch.frombuffer(data, dtype=kind) if data else torch.zeros(0, dtype=kind)
                    self.weights[header["name"]] = flat.reshape(header["shape"])
                    self.order.append(header["name"])
            connection.sendall(b"!")
        assert len(self.order) >= count

    def reload(self, folder: str) -> None:
        from safetensors.torch import load_file

        self.weights = load_file(f"{folder}/model.safetensors")


class Answer(BaseHTTPRequestHandler):
    server: Taker

    def answer(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = json.loads(text) if text else {}
        self.server.calls.append(self.path)
        self.server.bodies[self.path] = body
        status, said = 200, dict[str, Any]()
        if self.path == self.server.fails:
            status, said = 500, {"error": "the engine is dead"}
        elif self.path.startswith("/server_info"):
            config = {"backend": self.server.backend} if self.server.backend else None
            said = {"vllm_config": {"model_config": {"dtype": "torch.float32"}, "weight_transfer_config": config}}
        elif self.path == "/get_world_size":
            said = {"world_size": 1}
        elif self.path == "/weight_info":
            said = {"weight_version": self.server.version}
        elif self.path == "/update_weights":
            self.server.receive(body["update_info"]["count"])
        elif self.path == "/finish_weight_update":
            self.server.version = body["weight_version"]
        elif self.path == "/collective_rpc":
            self.server.reload(body["kwargs"]["weights_path"])
        elif self.path.startswith("/reset_prefix_cache"):
            said = {"success": True}
        elif self.path == "/v1/completions":
            choice = {"token_ids": [5, 6], "logprobs": {"token_logprobs": [-0.5, -1.0]}, "finish_reason": "length"}
            said = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        written = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def takers() -> Iterator[Any]:
    made: list[Taker] = []

    def start(count: int, backend: str | None = STREAM) -> list[Taker]:
        made.extend(Taker(backend) for _ in range(count))
        return made[-count:]

    yield start
    for taker in made:
        taker.shutdown()
        taker.server_close()


def tensors(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer.{n}": torch.randn((3, 5 + n), generator=generator) for n in range(4)} | {
        "empty": torch.zeros((0, 2))
    }


def manifest(given: dict[str, Any]) -> list[Weight]:
    return [Weight(name, "float32", tuple(value.shape)) for name, value in given.items()]


def policy(servers: list[Taker], **more: Any) -> Any:
    answering = served.ServedPolicy([taker.url for taker in servers], "m", tokenizer="x", base="x", **more)
    return answering.in_training(1.0)


@pytest.mark.parametrize("backend", [STREAM, None], ids=["stream", "disk"])
def test_every_replica_takes_the_weights_while_its_replies_wait(
    takers: Any, backend: str | None, tmp_path: Path
) -> None:
    servers = takers(2, backend)
    answering = policy(servers, transfer_dir=str(tmp_path))
    sink = answering.sink()
    for version in (1, 2):
        given = tensors(version)
        if version == 1:
            sink.open(manifest(given))
        sink.take(iter(given.items()), version)
        for taker in servers:
            assert set(taker.weights) == set(given)
            assert all(torch.equal(taker.weights[name], value) for name, value in given.items())
        assert answering.served.version == version
    life = LIFE if backend else [LIFE[0], "/collective_rpc", *LIFE[-2:]]
    for taker in servers:
        assert [call for call in taker.calls if call in life] == life * 2
        assert backend is None or taker.version == "2"
    sink.close()
    assert not list(tmp_path.iterdir()), "files of weights are left"


def test_a_replica_that_is_gone_is_left_out_and_the_others_go_on(takers: Any) -> None:
    servers = takers(2)
    sink = policy(servers).sink()
    sink.open(manifest(tensors()))
    sink.take(iter(tensors().items()), 1)
    servers[0].shutdown()
    servers[0].server_close()
    given = tensors(7)
    sink.take(iter(given.items()), 2)
    assert all(torch.equal(servers[1].weights[name], value) for name, value in given.items())
    assert sink.replicas.urls == [servers[1].url]
    servers[1].shutdown()
    servers[1].server_close()
    with pytest.raises(ServingError, match="none of the servers"):
        sink.take(iter(given.items()), 3)


@pytest.mark.parametrize("dies", ["before the other came", "before all arrived", "after all arrived"])
def test_a_replica_that_dies_in_the_middle_of_an_update_is_left_out(
    takers: Any, dies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = takers(2)
    answering = policy(servers)
    sink = answering.sink()
    sink.open(manifest(tensors()))
    sink.take(iter(tensors().items()), 1)

    dead, receive = threading.Event(), servers[1].receive

    def late(count: int) -> None:
        assert dead.wait(30)
        time.sleep(0.5)  # until its death is known to the trainer
        receive(count)

    def die(count: int) -> None:
        info = servers[0].bodies["/init_weight_transfer_engine"]["init_info"]
        connection = socket.create_connection((info["host"], info["port"]), 30)
        connection.sendall(info["token"].encode() + b"\n")
        if dies == "after all arrived":
            while connection.recv(1 << 16)[-2:] != b"{}":  # the frame that ends an update
                pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset, as the kernel does it for a process that was killed
        servers[0].socket.close()
        dead.set()
        raise ConnectionAbortedError  # no answer

    monkeypatch.setattr(servers[0], "receive", die)
    if dies == "before the other came":
        monkeypatch.setattr(servers[1], "receive", late)
    monkeypatch.setattr(servers[0], "handle_error", lambda *_: None)
    given = tensors(7)
    sink.take(iter(given.items()), 2)
    assert all(torch.equal(servers[1].weights[name], value) for name, value in given.items())
    assert (sink.replicas.urls, answering.served.version, answering.served.broken) == ([servers[1].url], 2, "")


def test_nobody_asks_a_replica_that_came_back_with_other_weights(takers: Any) -> None:
    from swebench_lab.formats.renderer import Renderer
    from tests.tokens import PairTokenizer

    servers = takers(2)
    urls = [taker.url for taker in servers]
    answering = served.ServedPolicy(urls, "m", tokenizer=Renderer.of(PairTokenizer()), base="x").in_training(1.0)
    sink = answering.sink()
    sink.open(manifest(tensors()))
    sink.replicas.urls.remove(urls[0])  # it was gone for a while
    sink.take(iter(tensors().items()), 1)
    before = list(servers[0].calls)
    for attempt in range(4):
        answering.start(make_task().view(), attempt, 0).reply([{"role": "user", "content": "go"}])  # type: ignore[arg-type]
    assert servers[0].calls == before
    assert servers[1].calls.count("/v1/completions") == 4
    again = answering.sink()
    again.open(manifest(tensors()))
    again.take(iter(tensors().items()), 2)  # another training brings the weights to both
    for attempt in range(4):
        answering.start(make_task().view(), attempt, 0).reply([{"role": "user", "content": "go"}])  # type: ignore[arg-type]
    assert "/v1/completions" in servers[0].calls


@pytest.mark.parametrize("where", ["/start_weight_update", "/update_weights", "/finish_weight_update"])
def test_after_half_an_update_the_policy_answers_no_more(takers: Any, where: str) -> None:
    (taker,) = takers(1)
    answering = policy([taker])
    sink = answering.sink()
    sink.open(manifest(tensors()))
    taker.fails = where
    with pytest.raises(ServingError, match=r"500 .*the engine is dead"):
        sink.take(iter(tensors().items()), 1)
    assert taker.calls[-1] == "/resume", "replies would wait for ever"
    talk = served.ServedTalk.__new__(served.ServedTalk)
    talk.policy = answering
    with pytest.raises(PolicyError, match="in part only"):
        talk._version()
    with pytest.raises(ServingError, match="in part only"):
        sink.take(iter(tensors().items()), 2)


def test_only_who_knows_the_token_is_sent_weights(takers: Any) -> None:
    (taker,) = takers(1)
    sink = policy([taker]).sink()
    sink.open(manifest(tensors()))
    info = taker.bodies["/init_weight_transfer_engine"]["init_info"]
    with socket.create_connection((info["host"], info["port"])) as stranger:
        stranger.sendall(b"let me in\n")
        sink.take(iter(tensors().items()), 1)
        stranger.settimeout(5)
        assert stranger.recv(1) == b""
    assert taker.weights.keys() == tensors().keys()


def test_a_frame_is_read_however_it_is_cut(tmp_path: Path) -> None:
    reader = plugin()
    near, far = socket.socketpair()
    text = json.dumps({"name": "a", "bytes": 3}).encode()
    whole = struct.pack(">I", len(text)) + text + b"xyz"

    def drip() -> None:
        for byte in whole:
            near.sendall(bytes([byte]))
        near.close()

    threading.Thread(target=drip, daemon=True).start()
    with far.makefile("rb") as stream:
        header = reader._header(stream)
        data = bytearray(header["bytes"])
        reader._fill(stream, data)
        assert bytes(data) == b"xyz"
        with pytest.raises(ConnectionError, match="in the middle"):
            reader._header(stream)
    far.close()


def test_a_reply_counts_as_of_the_weights_it_was_asked_with(takers: Any) -> None:
    from swebench_lab.formats.renderer import Renderer
    from tests.tokens import PairTokenizer

    (taker,) = takers(1)
    made = served.ServedPolicy(taker.url, "m", tokenizer=Renderer.of(PairTokenizer()), base="x")
    assert is_trainable(made) and not is_trainable(lab.ChatPolicy(taker.url))
    answering = made.in_training(0.7)
    assert (answering.temperature, made.temperature, answering.served.version) == (0.7, 1.0, -1)
    ask = [{"role": "user", "content": "go"}]
    answering.served.version = 4
    before = answering.fingerprint
    talk = answering.start(make_task().view(), 0, 0)
    assert talk.reply(ask).version == 4  # type: ignore[arg-type]
    answering.served.version = 5
    assert answering.fingerprint != before != made.fingerprint
    elsewhere = pickle.loads(pickle.dumps(answering))
    taker.version = "9"
    assert elsewhere.start(make_task().view(), 0, 0).reply(ask).version == 9
    assert answering.start(make_task().view(), 0, 0).reply(ask).version == 5  # type: ignore[arg-type]


def test_when_servers_were_asked_is_noted_of_replies_and_of_failures(takers: Any) -> None:
    from swebench_lab.formats.renderer import Renderer
    from tests.tokens import PairTokenizer

    (taker,) = takers(1)
    answering = served.ServedPolicy(taker.url, "m", tokenizer=Renderer.of(PairTokenizer()), base="x", retries=0)
    spans: list[tuple[float, float]] = []
    answering.served.on_request = lambda begin, end: spans.append((begin, end))
    copy = pickle.loads(pickle.dumps(answering.in_training(1.0)))
    ask = [{"role": "user", "content": "go"}]
    began = time.monotonic()
    answering.in_training(0.7).start(make_task().view(), 0, 0).reply(ask)  # type: ignore[arg-type]
    taker.shutdown()
    taker.server_close()
    with pytest.raises(PolicyError):
        answering.start(make_task().view(), 0, 0).reply(ask)  # type: ignore[arg-type]
    (a, b), (c, d) = spans
    assert began < a < b <= c < d < time.monotonic()
    assert copy.served.on_request is None, "another process asks by itself"


def test_a_tied_last_layer_is_sent_by_name_and_sharded_weights_whole() -> None:
    from swebench_lab.training.model.weights import manifest as of
    from swebench_lab.training.model.weights import stream
    from tests.models import tiny_model

    model = tiny_model()
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    sent = dict(stream(model, untied=True))
    assert torch.equal(sent["lm_head.weight"], sent["model.embed_tokens.weight"])
    assert [weight.name for weight in of(model, untied=True)] == list(sent)
    assert "lm_head.weight" not in dict(stream(model))


def test_an_adapter_is_sent_merged_and_the_model_stays_as_it_was() -> None:
    from peft import LoraConfig, get_peft_model

    from swebench_lab.training.model.weights import stream
    from tests.models import tiny_model

    bare = {name: value.clone() for name, value in tiny_model().named_parameters()}
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    before = {name: value.clone() for name, value in model.named_parameters()}
    sent = {name: value.clone() for name, value in stream(model)}
    assert sent.keys() == bare.keys()
    assert not torch.equal(sent["model.layers.0.mlp.up_proj.weight"], bare["model.layers.0.mlp.up_proj.weight"])
    assert all(torch.allclose(value, before[name], atol=1e-6) for name, value in model.named_parameters())


class Wrong:
    """A sampler that says it took the weights, and did not."""

    adapter_only, untied, tolerance = False, False, 1e-3

    def __init__(self, model: Any) -> None:
        self.model = model

    def open(self, weights: Any, adapter: bool = False) -> None:
        """Nothing."""

    def take(self, weights: Any, version: int) -> None:
        for _ in weights:
            pass

    def probe(self, ids: Any, tokens: int) -> list[Probed]:
        from swebench_lab.policies.sampling import score

        whole = [*ids, *range(3, 3 + tokens)]
        return [Probed("http://there", tuple(whole), len(ids), tuple(map(float, score(self.model, whole)[len(ids) :])))]

    def close(self) -> None:
        """Nothing."""


def test_weights_that_did_not_arrive_are_an_error_at_once(tmp_path: Path) -> None:
    from swebench_lab.training.engines.follower import Follower, score_plainly
    from tests.models import tiny_model

    model, sampler = tiny_model(), tiny_model()

    def scores(own: Any, ids: Any) -> list[float]:
        return score_plainly(own, ids, 1.0)

    follower = Follower(Wrong(sampler), [7, 8, 9], scores, tmp_path)  # type: ignore[arg-type]
    follower.bring(model, 1)
    assert follower.gaps[-1] < 1e-4
    with torch.no_grad():
        model.lm_head.weight.add_(torch.randn_like(model.lm_head.weight) * 0.05)
    with pytest.raises(TrainingError, match=r"weights 2 .*http://there.*untied copy"):
        follower.bring(model, 2)
