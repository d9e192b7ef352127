"""`serve` with a stand-in for the engine's program: started with the right flags, watched, and always stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.policies.serving.options import ServeOptions, command, devices, share

ENGINE = f"""\
#!{sys.executable}
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

flags = dict(zip(sys.argv, sys.argv[1:]))
print("loading", sys.argv[2], flush=True)
if "head_dtype" in flags.get("--hf-overrides", "") and os.environ.get("BEHAVIOUR") == "old":
    print("`head_dtype` is for pooling models, fallback to model dtype [bfloat16].", flush=True)
behaviour = os.environ.get("BEHAVIOUR", "")
if behaviour == "fail":
    print("ValueError: the model does not fit")
    sys.exit(3)
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen(["sleep", "1000"], start_new_session=True)
with open(os.environ["PIDS"], "a") as file:
    print(os.getpid(), helper.pid, file=file)
if behaviour == "hang":
    time.sleep(1000)


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        keyed = self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"] if "VLLM_API_KEY" in os.environ else True
        served = {{"id": flags["--served-model-name"], "root": sys.argv[2], "max_model_len": 512}}
        body = json.dumps({{"data": [served]}}).encode()
        known = self.path == "/v1/models" or (self.command == "POST" and os.environ.get("VLLM_SERVER_DEV_MODE"))
        self.send_response((200 if keyed else 401) if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


HTTPServer((flags["--host"], int(flags["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    program = tmp_path / "engine"
    program.write_text(ENGINE)
    program.chmod(0o755)
    return program


@pytest.fixture
def start(engine: Path, tmp_path: Path) -> Callable[..., object]:
    def started(behaviour: str = "", **options: object) -> object:
        env = {"PIDS": str(tmp_path / "pids"), "BEHAVIOUR": behaviour}
        settings = {"executable": str(engine), "env": env, "progress": False, "log_dir": tmp_path / "logs", **options}
        return lab.serve("org/tiny", **settings)  # type: ignore[arg-type]

    return started


def living(folder: Path) -> list[int]:
    """Those of the engine's processes that are alive."""
    pids = [int(word) for word in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []
    return [
        pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()
    ]


def test_a_server_is_there_in_the_block_and_gone_after_it(start: Callable[..., object], tmp_path: Path) -> None:
    lines: list[str] = []
    with start(follow=lines.append, api_key="k3y") as server:  # type: ignore[attr-defined]
        assert server.healthy
        assert len(living(tmp_path)) == 2
        assert (server.name, server.max_length) == ("tiny", 512)
        policy = server.policy(exact=False, temperature=0.3)
        assert (policy.urls, policy.model, policy.api_key) == (server.urls, "tiny", "k3y")
        command_lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in living(tmp_path)]
        assert not any("k3y" in line for line in command_lines), "a key on the command line is no secret"
    assert living(tmp_path) == []
    assert "loading org/tiny" in lines
    assert "loading org/tiny" in server.tail()


def test_replicas_are_servers_of_their_own(start: Callable[..., object], tmp_path: Path) -> None:
    with start(replicas=3) as server:  # type: ignore[attr-defined]
        assert len(set(server.urls)) == 3 and server.healthy
        assert server.policy(exact=False).urls == server.urls
        assert server.alive
        os.kill(living(tmp_path)[0], signal.SIGKILL)
        ends = time.monotonic() + 20
        while server.alive and time.monotonic() < ends:
            time.sleep(0.05)
        assert not server.healthy and not server.alive
    assert living(tmp_path) == []


def test_a_server_that_does_not_start_is_an_error_with_the_end_of_its_log(
    start: Callable[..., object], tmp_path: Path
) -> None:
    with pytest.raises(lab.ServingError, match=r"(?s)exit code 3.*the model does not fit"):
        start("fail")
    with pytest.raises(lab.ServingError, match=r"(?s)within 3 seconds.*loading"):
        start("hang", timeout=3)
    assert living(tmp_path) == []


def test_one_of_several_that_fails_ends_all(start: Callable[..., object], engine: Path, tmp_path: Path) -> None:
    text = engine.read_text().replace(
        'behaviour == "fail"', 'behaviour == "fail" and os.path.exists(os.environ["PIDS"])'
    )
    engine.write_text(text)
    (tmp_path / "pids").write_text("")
    with pytest.raises(lab.ServingError, match="exit code 3"):
        start("fail", replicas=2)
    assert living(tmp_path) == []


def test_a_server_that_will_not_stop_is_killed(engine: Path, tmp_path: Path) -> None:
    guard = Path(lab.__file__).parent / "policies" / "serving" / "guard.py"
    env = {**os.environ, "PIDS": str(tmp_path / "pids"), "BEHAVIOUR": "stubborn"}
    flags = ["serve", "m", "--host", "127.0.0.1", "--port", "0", "--served-model-name", "m"]
    running = subprocess.Popen([sys.executable, str(guard), "0.3", str(engine), *flags], stdin=subprocess.PIPE, env=env)
    while len(living(tmp_path)) < 2:
        time.sleep(0.05)
    running.communicate(timeout=20)
    assert running.returncode == 0
    assert living(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_does_not_outlive_the_process_that_started_it(
    engine: Path, tmp_path: Path, how: signal.Signals
) -> None:
    code = f"""
        import os, swebench_lab as lab, time
        server = lab.serve("m", executable={str(engine)!r}, env={{"PIDS": {str(tmp_path / "pids")!r}}}, progress=False)
        if not os.fork():
            time.sleep(600)  # a child of ours that holds all we held open
        print("up", flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
    assert len(living(tmp_path)) == 2
    os.kill(owner.pid, how)
    owner.wait()
    ends = time.monotonic() + 30
    while living(tmp_path) and time.monotonic() < ends:
        time.sleep(0.1)
    os.killpg(owner.pid, signal.SIGKILL)
    owner.stdout.close()
    assert living(tmp_path) == []


def test_attaching_leaves_the_server_running(start: Callable[..., object]) -> None:
    with start() as server:  # type: ignore[attr-defined]
        for address in (server.urls[0], server.urls[0].removesuffix("/v1")):
            with lab.serve(address) as attached:
                assert (attached.name, attached.model, attached.logs) == ("tiny", "org/tiny", ())
                assert attached.urls == server.urls and attached.alive
        with pytest.raises(ValueError, match="runs already"):
            lab.serve(server.urls[0], replicas=2)
        with pytest.raises(lab.ServingError, match=r"404 (?!.*updates)"):
            lab.serve(f"{server.urls[0]}/v2")
        assert server.healthy
    with pytest.raises(lab.ServingError, match="see whether the server is up"):
        lab.serve(server.urls[0])


def test_replicas_that_are_there_are_attached_to_by_all_their_addresses(start: Callable[..., object]) -> None:
    with start(replicas=2) as server:  # type: ignore[attr-defined]
        attached = lab.serve(", ".join(server.urls))
        assert attached.urls == server.urls and attached.policy(exact=False).urls == server.urls
        with start(name="other") as other, pytest.raises(lab.ServingError, match="it serves"):  # type: ignore[attr-defined]
            lab.serve(f"{server.urls[0]},{other.urls[0]}")


def test_weights_are_replaced_only_where_that_was_asked_for(start: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}')
    with start() as server, pytest.raises(lab.ServingError, match="updates=True"):  # type: ignore[attr-defined]
        server.update(tmp_path)
    with start(updates=True) as server:  # type: ignore[attr-defined]
        server.update(tmp_path)
        (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
        with pytest.raises(lab.ServingError, match="one tensor"):
            server.update(tmp_path)


def test_logits_in_another_type_are_had_or_told_to_be_missing(start: Callable[..., object], tmp_path: Path) -> None:
    with start(head="float32") as server:  # type: ignore[attr-defined]
        assert server.healthy
    with pytest.raises(lab.ServingError, match=r"(?s)cannot make logits in float32.*fallback"):
        start("old", head="float32")
    assert living(tmp_path) == []


def test_the_flags_are_those_that_policies_need() -> None:
    options = ServeOptions(
        tensor_parallel=2,
        max_length=512,
        tool_parser="hermes",
        lora=True,
        eager=True,
        head="float32",
        extra=("--x", "1"),
    )
    written = " ".join(command("m", "name", 9, options))
    for flag in (
        "serve m", "--served-model-name name", "--port 9", "--generation-config vllm", "--tensor-parallel-size 2",
        "--logprobs-mode processed_logprobs", "--max-model-len 512", "--enable-auto-tool-choice",
        "--tool-call-parser hermes", "--enable-lora", "--enforce-eager", '--hf-overrides {"head_dtype": "float32"}', "--x 1",
    ):  # fmt: skip
        assert flag in written
    assert ("--no-enable-chunked-prefill" in written) == (not devices()), "the CPU build dies of seeds otherwise"


@pytest.mark.parametrize(
    "options",
    [
        *({"engine": "llama"}, {"replicas": 0}, {"colour": "red"}, {"updates": True, "host": "0.0.0.0"}),
        {"head": "float32", "extra": ["--hf-overrides", "{}"]},
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"serve"):
        lab.serve("m", **options)  # type: ignore[arg-type]


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    code = "import swebench_lab as lab; lab.serve('m')"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)}
    )
    if Path(sys.executable).with_name("vllm").exists():
        pytest.skip("vLLM is installed here")
    assert "pip install 'swebench-lab[vllm]'" in ran.stderr


def test_the_command_serves_until_it_is_stopped(engine: Path, tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-c",
        "from swebench_lab.cli.main import main; main()",
        "serve",
        "m",
        "--executable",
        str(engine),
        "--port",
        str(free_port()),
    ]
    env = {**os.environ, "PIDS": str(tmp_path / "pids")}
    running = subprocess.Popen([*argv, "--", "--more", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert running.stdout is not None
    lines = []
    while not lines or b"is ready" not in lines[-1]:
        lines.append(running.stdout.readline())
        assert lines[-1], (lines, running.communicate(), running.returncode)
    assert b"loading m\n" in lines
    assert any("--more" in Path(f"/proc/{pid}/cmdline").read_text() for pid in living(tmp_path))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert living(tmp_path) == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_replicas_take_their_gpus_from_those_that_were_named() -> None:
    named = ServeOptions(gpus=("4", "5", "6", "7"), replicas=2, tensor_parallel=2)
    taken = [share(list(named.gpus), named, number)["CUDA_VISIBLE_DEVICES"] for number in (0, 1)]
    assert taken == ["4,5", "6,7"]
    assert share(["6"], ServeOptions(gpus=("6",)), 0) == {"CUDA_VISIBLE_DEVICES": "6"}
    assert share(["0", "1"], ServeOptions(), 0) == {}  # one replica may use all
    with pytest.raises(lab.ServingError, match="needs 4, and there are 2"):
        share(["6", "7"], named, 0)


def test_weights_are_taken_beyond_loopback_only_where_the_network_is_trusted() -> None:
    with pytest.raises(ValueError, match="whoever reaches the server could replace its weights"):
        ServeOptions(updates=True, host="10.0.0.1")
    options = ServeOptions(updates=True, host="10.0.0.1", trusted=True)
    assert command("m", "m", 8000, options)[2:4] == ["--host", "10.0.0.1"]
