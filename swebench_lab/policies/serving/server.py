"""Server: a model behind an endpoint, started with the right flags, watched while it loads, and always stopped.

    with lab.serve("Qwen/Qwen3-4B", tensor_parallel=2, replicas=4) as server:
        rollouts = collector.collect(lab.Agent(server.policy()), tasks)

A server is ended when its `with` block is left, when `close` is called, and when the process that started it is gone,
however it ended. `serve("http://host:8000/v1")` attaches to a server that is there already and leaves it running.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from swebench_lab import _html
from swebench_lab.errors import ServingError, closing_on_error
from swebench_lab.policies.chat import ChatPolicy

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEAD_REFUSED = "fallback to model dtype"
"""How vLLM tells its log that the last layer's type is not to be had; older ones say so of every model that writes."""

_GRACE = 20.0
"""Seconds a server has to stop by itself."""


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served.

    Args:
        replicas: Servers of the same model; conversations are spread over them.
        tensor_parallel: GPUs of one replica.
        host: Address to listen on.
        port: Port of the first replica, the next ones follow; 0: free ones.
        name: What requests call the model; empty: the last part of its path.
        dtype: Type of the weights.
        head: Type in which the last layer makes logits; empty: that of the weights. `float32` lets a bfloat16 model's
            logprobs be recomputed by a trainer that does the same (TRL's `cast_lm_head_to_fp32`): a bfloat16 logit of
            8 to 16 is rounded to sixteenths, and two ways of computing round differently.
        max_length: Longest conversation, in tokens; None: what the model was made for.
        gpu_memory: Share of each GPU's memory that is used.
        tool_parser: vLLM's parser of tool calls, such as `hermes` or `qwen3_coder`; empty: no native tool calls.
        lora: Whether adapters can be loaded while it runs.
        updates: Whether weights can be replaced while it runs (vLLM's development mode); on loopback only.
        eager: Whether nothing is compiled: starts sooner, runs slower.
        api_key: Key that requests must carry; empty: none.
        extra: Further flags, as the engine knows them.
        env: Further variables of its environment.
        executable: The engine's program; empty: `vllm` beside this Python or on the PATH.
        timeout: Seconds until a server that does not answer is given up.
    """

    replicas: int = 1
    tensor_parallel: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    name: str = ""
    dtype: str = "auto"
    head: str = ""
    max_length: int | None = None
    gpu_memory: float = 0.9
    tool_parser: str = ""
    lora: bool = False
    updates: bool = False
    eager: bool = False
    api_key: str = ""
    extra: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    executable: str = ""
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.tensor_parallel < 1 or self.timeout <= 0:
            raise ValueError("serve: replicas, tensor_parallel and timeout must be positive")
        if self.head and any(flag.startswith("--hf-overrides") for flag in self.extra):
            raise ValueError(
                f"serve(head={self.head!r}): it is one of the --hf-overrides, which extra sets too; say all there"
            )
        if self.updates and self.host not in _LOOPBACK:
            raise ValueError(
                f"serve(updates=True, host={self.host!r}): whoever reaches the server could replace its weights; "
                "listen on 127.0.0.1, and reach it from elsewhere through a tunnel"
            )


def serve(
    model: str | Path,
    engine: str = "vllm",
    *,
    log_dir: str | Path | None = None,
    follow: Callable[[str], None] | None = None,
    progress: bool = True,
    env: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
    **options: Any,
) -> Server:
    """Start serving a model, and return when it answers; or attach to a server.

    Args:
        model: A folder, a hub id, or the address of a server that is there already, such as `http://host:8000/v1`.
        engine: What serves it: `vllm`.
        log_dir: Folder for the logs, one a replica; None: a temporary one.
        follow: Called with each new line of the logs while the servers start.
        progress: Whether a bar shows that they are starting.
        env: Further variables of the servers' environment.
        extra: Further flags, as the engine knows them.
        **options: See `ServeOptions`.

    Returns:
        A Server, which is a context manager too.

    Raises:
        ServingError: The engine is not installed, or a server did not start: shows the end of its log.
        ValueError: An option is unknown or makes no sense.
    """
    if str(model).startswith(("http://", "https://")):
        if more := sorted(options.keys() - {"api_key"}):
            raise ValueError(f"serve({str(model)!r}, {more[0]}=…): that server runs already, with options of its own")
        return Server.attach(str(model), api_key=str(options.get("api_key", "")))
    if engine != "vllm":
        raise ValueError(
            f"serve(engine={engine!r}): known is 'vllm'; anything else that speaks OpenAI's API: its address"
        )
    try:
        chosen = ServeOptions(extra=tuple(extra), env=tuple((env or {}).items()), **options)
    except TypeError as error:
        raise ValueError(f"serve: {error}; see ServeOptions") from error
    folder = Path(log_dir) if log_dir is not None else Path(tempfile.mkdtemp(prefix="swebench-lab-serve-"))
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(str(model), chosen, folder)
    with closing_on_error(server.close):
        server._start()
        server._wait(follow, progress)
    return server


class Server:
    """A model behind one or several endpoints.

    Made by `serve`; leaving its `with` block, or `close`, ends what it started.
    """

    def __init__(self, model: str, options: ServeOptions, folder: Path) -> None:
        self.model = model
        self.options = options
        self.name = options.name or Path(model).name or model
        """What requests call the model."""
        self.urls: tuple[str, ...] = ()
        """The endpoints, up to and with `/v1`."""
        self.logs: tuple[Path, ...] = ()
        """The servers' logs."""
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    @classmethod
    def attach(cls, url: str, api_key: str = "") -> Server:
        """Return a Server for one that is there already; closing it leaves that running.

        Raises:
            ServingError: It does not answer, or serves no model.
        """
        server = cls("", ServeOptions(api_key=api_key), Path())
        bare = not urllib.parse.urlsplit(url).path.strip("/")
        server.urls = (url.rstrip("/") + ("/v1" if bare else ""),)
        models = server._get(server.urls[0], "/models").get("data") or []
        if not models:
            raise ServingError(f"attaching to {url}: it serves no model")
        server.name, server.model = str(models[0]["id"]), str(models[0].get("root") or models[0]["id"])
        return server

    def policy(self, exact: bool = True, **settings: Any) -> ChatPolicy:
        """Return a policy that asks this server, spread over its replicas.

        Args:
            exact: Whether it is token-exact, which training needs; its tokenizer is the served model's.
            **settings: As of `ChatPolicy`.
        """
        known: dict[str, Any] = {"api_key": self.options.api_key}
        if exact:
            known |= {"tokenizer": self.model, "max_length": self.max_length}
        return ChatPolicy(self.urls, self.name, **{**known, **settings})

    @property
    def max_length(self) -> int | None:
        """Longest conversation that the server takes, in tokens; None where it does not say."""
        models = self._get(self.urls[0], "/models").get("data") or [{}]
        found = models[0].get("max_model_len")
        return int(found) if found else None

    @property
    def healthy(self) -> bool:
        """Whether every endpoint answers."""
        return bool(self.urls) and all(self._answers(url) for url in self.urls)

    @property
    def alive(self) -> bool:
        """Whether no process that was started here has ended; of what was attached to, whether it answers."""
        return all(guard.poll() is None for guard in self._running) if self._running else self.healthy

    def update(self, folder: str | Path) -> None:
        """Replace the weights by those of a saved model of the same shape, on every replica.

        Replies under way are broken off by the server, or go on with the new weights; what it had read before is
        forgotten. Give policies made afterwards another `revision` or `version`.

        Args:
            folder: Where the model was saved; the servers must see it too.

        Raises:
            ServingError: The server was not started with `updates=True`, or the weights are shared between the
                embedding and the last layer, which vLLM would load wrongly without a word.
        """
        path = Path(folder).resolve()
        try:
            config = json.loads((path / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ServingError(f"updating {self.name}: {path} holds no saved model: {error}") from error
        if config.get("tie_word_embeddings"):
            raise ServingError(
                f"updating {self.name}: the embedding and the last layer of {path} are one tensor, which vLLM reloads "
                "wrongly without a word; serve and save a copy with tie_word_embeddings=False"
            )
        for url in self.urls:
            call = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
            self._post(url, "/collective_rpc", call)
            self._post(url, "/reset_prefix_cache", {})

    def tail(self, lines: int = 30, replica: int = 0) -> str:
        """Return the last lines of a server's log."""
        if replica >= len(self.logs):
            return ""
        return "\n".join(self.logs[replica].read_text("utf-8", "replace").splitlines()[-lines:])

    def close(self) -> None:
        """End what was started here and wait until it is gone; may be called more than once."""
        running, self._running = self._running, []
        for guard in running:
            if guard.stdin is not None:
                guard.stdin.close()
        for guard in running:
            guard.wait(_GRACE + 10)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return one line: the model and where it is served."""
        return f"Server({self.name!r}, {', '.join(self.urls) or 'not running'})"

    def _repr_html_(self) -> str:
        facts = {"model": self.model, "endpoints": ", ".join(self.urls), "logs": ", ".join(map(str, self.logs))}
        return _html.card(repr(self), _html.facts(facts) + _html.folded("end of the log", self.tail()))

    # --- starting ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        options = self.options
        program = options.executable or _program()
        devices = _devices()
        guarded = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(_GRACE)]
        urls, logs = [], []
        for number in range(options.replicas):
            port = options.port + number if options.port else _free_port(options.host)
            log = self._folder / f"{self.name.replace('/', '_')}-{number}.log"
            environment = {**os.environ, **_environment(options), **_share(devices, options, number)}
            with log.open("wb") as output:
                guard = subprocess.Popen(
                    [*guarded, program, *command(self.model, self.name, port, options)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # Ctrl-C in a notebook is not meant for the server
                )
            self._running.append(guard)
            urls.append(f"http://{options.host}:{port}/v1")
            logs.append(log)
        self.urls, self.logs = tuple(urls), tuple(logs)

    def _wait(self, follow: Callable[[str], None] | None, progress: bool) -> None:
        """Wait until every server answers; raise as soon as one is gone."""
        from tqdm.auto import tqdm

        ends = time.monotonic() + self.options.timeout
        shown = [0] * len(self.logs)
        waiting = set(range(len(self.urls)))
        with tqdm(total=len(self.urls), desc=f"starting {self.name}", unit="server", disable=not progress) as bar:
            while waiting:
                for number in sorted(waiting):
                    shown[number] = _follow(self.logs[number], shown[number], follow)
                    if self._running[number].poll() is not None:
                        code = self._running[number].returncode
                        raise self._failed(number, f"it ended with exit code {code}")
                    if self._answers(self.urls[number]):
                        waiting.remove(number)
                        bar.update()
                if waiting and time.monotonic() > ends:
                    raise self._failed(min(waiting), f"it did not answer within {self.options.timeout:g} seconds")
                if waiting:
                    time.sleep(0.3)
                bar.refresh()
        for number in range(len(self.urls)) if self.options.head else ():
            if _HEAD_REFUSED in self.logs[number].read_text("utf-8", "replace"):
                raise self._failed(number, f"it cannot make logits in {self.options.head} (head=) and would do without")

    def _failed(self, number: int, what: str) -> ServingError:
        return ServingError(
            f"serving {self.model} at {self.urls[number]}: {what}; its log is {self.logs[number]}, which ends:\n"
            f"{self.tail(replica=number)}"
        )

    # --- asking -----------------------------------------------------------------------------------------------------

    def _answers(self, url: str) -> bool:
        try:
            with urllib.request.urlopen(self._request(url, "/models"), timeout=10) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def _get(self, url: str, path: str) -> dict[str, Any]:
        return self._ask(self._request(url, path))

    def _post(self, url: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask something that is not part of OpenAI's API, and so stands beside its `/v1`."""
        return self._ask(self._request(url.removesuffix("/v1"), path, body))

    def _request(self, url: str, path: str, body: Mapping[str, Any] | None = None) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if self.options.api_key:
            headers["Authorization"] = f"Bearer {self.options.api_key}"
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(f"{url}{path}", data, headers)

    def _ask(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                text = answer.read()
            found = json.loads(text) if text.strip() else {}
        except urllib.error.HTTPError as error:
            told = " ".join(error.read().decode("utf-8", "replace").split())[:300]
            asked_more = request.data is not None  # beside OpenAI's API, which is only read from here
            hint = "; start it with serve(…, updates=True)" if error.code == 404 and asked_more else ""
            raise ServingError(f"asking {request.full_url}: {error.code} {told}{hint}") from error
        except (OSError, ValueError) as error:
            raise ServingError(f"asking {request.full_url}: {error}; see whether the server is up") from error
        return found if isinstance(found, dict) else {}


def command(model: str, name: str, port: int, options: ServeOptions) -> list[str]:
    """Return the arguments with which vLLM serves a model as policies here expect it."""
    flags: dict[str, str | None] = {
        "--host": options.host,
        "--port": str(port),
        "--served-model-name": name,
        "--dtype": options.dtype,
        # A model's own defaults (top_k, repetition penalty) would change what is sampled behind a policy's back.
        "--generation-config": "vllm",
        # Logprobs at the temperature that was sampled at, which is what training divides by.
        "--logprobs-mode": "processed_logprobs",
    }
    if options.tensor_parallel > 1:
        flags["--tensor-parallel-size"] = str(options.tensor_parallel)
    if options.head:
        flags["--hf-overrides"] = json.dumps({"head_dtype": options.head})
    if options.max_length is not None:
        flags["--max-model-len"] = str(options.max_length)
    if _devices():
        flags["--gpu-memory-utilization"] = str(options.gpu_memory)
    else:
        # vLLM's CPU build dies when a request with a seed is read in parts: it steps a generator back that cannot.
        flags["--no-enable-chunked-prefill"] = None
    if options.tool_parser:
        flags |= {"--enable-auto-tool-choice": None, "--tool-call-parser": options.tool_parser}
    if options.lora:
        flags["--enable-lora"] = None
    if options.eager:
        flags["--enforce-eager"] = None
    written = [part for flag, value in flags.items() for part in (flag, value) if part is not None]
    return ["serve", model, *written, *options.extra]


def _environment(options: ServeOptions) -> dict[str, str]:
    own = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    if options.updates:
        own["VLLM_SERVER_DEV_MODE"] = "1"
    if options.api_key:
        own["VLLM_API_KEY"] = options.api_key  # a flag could be read by everybody on the machine
    if options.lora:
        own["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return {**own, **dict(options.env)}


def _devices() -> list[str]:
    """Return the GPUs that may be used, as `CUDA_VISIBLE_DEVICES` names them; none on a machine without."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device for device in named.split(",") if device.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, _ in enumerate(listed.stdout.splitlines())] if listed.returncode == 0 else []


def _share(devices: list[str], options: ServeOptions, number: int) -> dict[str, str]:
    """Return the variables that give a replica its own GPUs."""
    if options.replicas == 1 or not devices:
        return {}
    width = options.tensor_parallel
    if len(devices) < options.replicas * width:
        raise ServingError(
            f"serving {options.replicas} replicas on {width} GPUs each needs {options.replicas * width}, and there are "
            f"{len(devices)}; lower replicas or tensor_parallel"
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[number * width : (number + 1) * width])}


def _program() -> str:
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.exists() else shutil.which("vllm")
    if not found:
        raise ServingError(
            "serving with vLLM: there is no program 'vllm'; pip install 'swebench-lab[vllm]', give executable=…, or "
            "the address of a server that is there already"
        )
    return found


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _follow(log: Path, start: int, follow: Callable[[str], None] | None) -> int:
    """Hand on the whole lines of a log after a position; return the position after them."""
    if follow is None:
        return start
    with log.open("rb") as file:
        file.seek(start)
        new = file.read()
    whole = new.rfind(b"\n") + 1
    for line in new[:whole].decode("utf-8", "replace").splitlines():
        follow(line)
    return start + whole
