"""Server: a model behind an endpoint, started with the right flags, watched while it loads, and always stopped.

    with lab.serve("Qwen/Qwen3-4B", tensor_parallel=2, replicas=4) as server:
        rollouts = collector.collect(lab.Agent(server.policy()), tasks)

A server is ended when its `with` block is left, when `close` is called, and when the process that started it is gone,
however it ended. `serve("http://host:8000/v1")` attaches to a server that is there already and leaves it running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from swebench_lab import _html
from swebench_lab.errors import ServingError, closing_on_error
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.policies.serving.options import ServeOptions, command, devices, environment, free_port, program, share
from swebench_lab.policies.serving.served import ServedPolicy

_HEAD_REFUSED = "fallback to model dtype"
"""How vLLM tells its log that the last layer's type is not to be had; older ones say so of every model that writes."""

_GRACE = 20.0
"""Seconds a server has to stop by itself."""


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
        model: A folder, a hub id, or the address of a server that is there already, such as `http://host:8000/v1`;
            addresses of several replicas with commas between them.
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
        values = {**options, "gpus": tuple(options.get("gpus", ()))}
        settings = ServeOptions(extra=tuple(extra), env=tuple((env or {}).items()), **values)
    except TypeError as error:
        raise ValueError(f"serve: {error}; see ServeOptions") from error
    folder = Path(log_dir) if log_dir is not None else Path(tempfile.mkdtemp(prefix="swebench-lab-serve-"))
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(str(model), settings, folder)
    with closing_on_error(server.close):
        server._start()
        server._wait(follow, progress)
    return server


class Server:
    """A model behind one or several endpoints.

    Made by `serve`; leaving its `with` block, or `close`, ends what it started.
    """

    launcher: ClassVar[tuple[str, ...]] = ()
    """Command that starts each server's guard, which is its arguments; empty: this process does."""

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
        """Return a Server for one that is there already, or for its replicas; closing it leaves them running.

        Args:
            url: Its address; those of several replicas with commas between them.
            api_key: Key that requests must carry; empty: none.

        Raises:
            ServingError: One does not answer, serves no model, or another model than the first.
        """
        server = cls("", ServeOptions(api_key=api_key), Path())
        for address in filter(None, (part.strip() for part in url.split(","))):
            bare = not urllib.parse.urlsplit(address).path.strip("/")
            where = address.rstrip("/") + ("/v1" if bare else "")
            models = server._get(where, "/models").get("data") or []
            if not models:
                raise ServingError(f"attaching to {where}: it serves no model")
            served = str(models[0]["id"]), str(models[0].get("root") or models[0]["id"])
            if server.urls and served != (server.name, server.model):
                raise ServingError(f"attaching to {where}: it serves {served[1]}, and {server.urls[0]} {server.model}")
            server.name, server.model = served
            server.urls = (*server.urls, where)
        return server

    def policy(self, exact: bool = True, **settings: Any) -> ChatPolicy:
        """Return a policy that asks this server, spread over its replicas.

        Args:
            exact: Whether it is token-exact, which training needs; its tokenizer is the served model's.
            **settings: As of `ChatPolicy`, or of `ServedPolicy` where the server takes other weights.

        Returns:
            A ChatPolicy; a ServedPolicy, which can be trained, where it is token-exact and the server takes other weights.
        """
        defaults: dict[str, Any] = {"api_key": self.options.api_key}
        if exact:
            defaults |= {"tokenizer": self.model, "max_length": self.max_length}
        if exact and self.takes_weights:
            return ServedPolicy(self.urls, self.name, **{"base": self.model, **defaults, **settings})
        return ChatPolicy(self.urls, self.name, **{**defaults, **settings})

    @property
    def takes_weights(self) -> bool:
        """Whether its weights can be replaced while it runs; of one that was attached to, what it says."""
        if self._running:
            return self.options.updates
        try:
            return bool(self._get(self.urls[0].removesuffix("/v1"), "/server_info?config_format=json"))
        except ServingError:
            return False

    @property
    def max_length(self) -> int | None:
        """Longest conversation that the server takes, in tokens; None where it does not say."""
        models = self._get(self.urls[0], "/models").get("data") or [{}]
        length = models[0].get("max_model_len")
        return int(length) if length else None

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
        engine = options.executable or program()
        gpus = list(options.gpus) or devices()
        guarded = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(_GRACE)]
        urls, logs = [], []
        for number in range(options.replicas):
            port = options.port + number if options.port else free_port(options.host)
            log = self._folder / f"{self.name.replace('/', '_')}-{number}.log"
            variables = {**os.environ, **environment(options), **share(gpus, options, number)}
            with log.open("wb") as output:
                guard = subprocess.Popen(
                    [*self.launcher, *guarded, engine, *command(self.model, self.name, port, options)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=variables,
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
        offsets = [0] * len(self.logs)
        waiting = set(range(len(self.urls)))
        with tqdm(total=len(self.urls), desc=f"starting {self.name}", unit="server", disable=not progress) as bar:
            while waiting:
                for number in sorted(waiting):
                    offsets[number] = _follow(self.logs[number], offsets[number], follow)
                    if self._running[number].poll() is not None:
                        code = self._running[number].returncode
                        raise self._failure(number, f"it ended with exit code {code}")
                    if self._answers(self.urls[number]):
                        waiting.remove(number)
                        bar.update()
                if waiting and time.monotonic() > ends:
                    raise self._failure(min(waiting), f"it did not answer within {self.options.timeout:g} seconds")
                if waiting:
                    time.sleep(0.3)
                bar.refresh()
        for number in range(len(self.urls)) if self.options.head else ():
            if _HEAD_REFUSED in self.logs[number].read_text("utf-8", "replace"):
                raise self._failure(
                    number, f"it cannot make logits in {self.options.head} (head=) and would do without"
                )

    def _failure(self, number: int, what: str) -> ServingError:
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
            content = json.loads(text) if text.strip() else {}
        except urllib.error.HTTPError as error:
            message = " ".join(error.read().decode("utf-8", "replace").split())[:300]
            asked_more = request.data is not None  # beside OpenAI's API, which is only read from here
            hint = "; start it with serve(…, updates=True)" if error.code == 404 and asked_more else ""
            raise ServingError(f"asking {request.full_url}: {error.code} {message}{hint}") from error
        except (OSError, ValueError) as error:
            raise ServingError(f"asking {request.full_url}: {error}; see whether the server is up") from error
        return content if isinstance(content, dict) else {}


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
