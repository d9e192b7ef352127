"""ServedPolicy: the token-exact policy of servers whose weights can be replaced, so that it can be trained.

Replies go on while weights are replaced: the servers freeze them, take the weights, drop what they had computed with
the old ones and go on. A reply counts as of the weights it was asked with, the older ones where they changed meanwhile.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from swebench_lab.errors import PolicyError, ServingError
from swebench_lab.policies.chat import ChatPolicy, Talk
from swebench_lab.policies.policy import fingerprint
from swebench_lab.policies.routes import routes
from swebench_lab.policies.serving.replicas import Gone, Replicas
from swebench_lab.policies.serving.transfer import Transfer, transfer_for
from swebench_lab.policies.trainable import Probed, Weight
from swebench_lab.records.arrays import Ids
from swebench_lab.records.reply import Message, Reply, VersionRun
from swebench_lab.records.task import TaskView

_log = logging.getLogger(__name__)

KEPT_ADAPTERS = 3
"""Adapters that stay loaded, for replies that were asked with an older one."""
_ROUNDING = {"float32": 1e-3}
_COARSE = 0.1
"""Mean difference of logprobs that rounding explains where the server's weights are not float32."""


@dataclass
class Served:
    """What the servers hold now; one value for all copies of a policy in this process.

    Args:
        version: Version of the weights; -1 where nobody here replaces them.
        model: What requests call the model; empty: as the policy does. An adapter has a name of its own.
        broken: Why the servers are not to be trusted any more; empty: they are.
        here: Whether this process is the one that replaces the weights; another has to ask the servers.
        on_request: Called with the begin and end of each request that this process made, in seconds of the monotonic clock.
    """

    version: int = -1
    model: str = ""
    broken: str = ""
    here: bool = True
    on_request: Callable[[float, float], None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"version": self.version, "model": self.model, "broken": self.broken, "here": False}


@dataclass(frozen=True, repr=False)
class ServedPolicy(ChatPolicy):
    """A model behind servers that take other weights; made by `Server.policy()` of `lab.serve(…, updates=True)`.

    Args:
        base: Folder or hub id of the model whose weights the servers hold at first, as this process finds it.
        transfer_dir: Folder that trainer and servers see, for weights that travel by files; empty: shared memory.
        served: What the servers hold now.
    """

    base: str = ""
    transfer_dir: str = ""
    served: Served = field(default_factory=Served, repr=False, compare=False)

    def __repr__(self) -> str:
        """Return the settings, as ChatPolicy does, under the own name."""
        return super().__repr__().replace("ChatPolicy", "ServedPolicy", 1)

    @property
    def fingerprint(self) -> str:
        """A hash over the model, its revision, the version of its weights and all that shapes its replies."""
        return fingerprint("served", of=super().fingerprint, base=self.base, version=self.served.version)

    @property
    def source(self) -> str:
        """Folder or hub id of the model."""
        return self.base

    def in_training(self, temperature: float) -> ServedPolicy:
        """Return a policy that asks the same servers while their weights change, which this one asks as well."""
        return replace(self, temperature=temperature)

    def trained(self, folder: Path) -> ServedPolicy:
        """Return a policy of the weights that the servers hold after training, which were saved in a folder."""
        name = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:8]
        return replace(self, base=str(folder), revision="-".join(filter(None, (self.revision, name))))

    def sink(self) -> ServedSink:
        """Return what replaces the servers' weights."""
        return ServedSink(self)

    def start(self, view: TaskView, attempt: int, seed: int) -> ServedTalk:
        """Begin one attempt; nothing is asked yet."""
        return ServedTalk(self, Random(f"{seed}/{view.id}/{attempt}").randrange(2**31 - 1000))


class ServedTalk(Talk):
    """One attempt's conversation with servers whose weights may change under it."""

    policy: ServedPolicy

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Ask for the next message; its version is the one that the servers held when it was asked for.

        Raises:
            ContextFull: The conversation is longer than the model can read.
            PolicyError: There was no answer, or the servers hold weights that are not to be trusted.
        """
        version = self._version()
        began = time.monotonic()
        try:
            reply = super().reply(messages)
        finally:
            if (note := self.policy.served.on_request) is not None:
                note(began, time.monotonic())
        self._trust()
        if version < 0 or not reply.completion_tokens or reply.token_ids is None:
            return reply
        return replace(reply, versions=(VersionRun(len(reply.token_ids), version),))

    def _trust(self) -> None:
        if self.policy.served.broken:
            raise PolicyError(f"asking {self.policy.model}: {self.policy.served.broken}")

    def _version(self) -> int:
        self._trust()
        served = self.policy.served
        if served.here or served.version < 0:
            return served.version
        replicas = Replicas(self.policy.urls, self.policy.api_key)
        trouble: ServingError | None = None
        for url in self.policy.urls:
            try:
                version = replicas.ask(url, "/weight_info").get("weight_version", "")
                return int(version) if str(version).isdigit() else served.version
            except Gone as error:
                trouble = error
            except ServingError as error:
                raise PolicyError(f"asking {self.policy.model} for the version of its weights: {error}") from error
        raise PolicyError(f"asking {self.policy.model} for the version of its weights: {trouble}") from trouble

    def _exact_body(self, prompt: Ids, seed: int) -> dict[str, Any]:
        body = super()._exact_body(prompt, seed)
        return body | {"model": self.policy.served.model or self.policy.model}


class ServedSink:
    """Replaces the weights of a policy's servers, on every replica.

    Args:
        policy: Whose servers they are.
    """

    untied = True
    """vLLM loads a shared tensor wrongly into a running model unless the last layer is sent as well."""

    def __init__(self, policy: ServedPolicy) -> None:
        self.policy = policy
        self.replicas = Replicas(policy.urls, policy.api_key)
        self.adapter_only = False
        self.tolerance = _COARSE
        self._dtype = "float32"
        self._transfer: Transfer | None = None
        self._adapters: list[tuple[str, Path]] = []
        self._unloaded = Path("/nonexistent")
        self._run = secrets.token_hex(4)  # a server keeps the adapters of trainings before

    def open(self, weights: Sequence[Weight], adapter: bool = False) -> None:
        """Ask the servers how they take weights, and set the way up.

        Raises:
            ServingError: They take none, or not this way.
        """
        configuration = self._configuration()
        self.policy.served.broken = ""  # all weights are sent anew
        self._dtype = str(configuration["model_config"]["dtype"]).removeprefix("torch.")
        self.tolerance = _ROUNDING.get(self._dtype, _COARSE)
        if adapter and configuration.get("lora_config"):
            self.adapter_only = True
            return
        backend = (configuration.get("weight_transfer_config") or {}).get("backend")
        self._transfer = transfer_for(backend, self.policy.transfer_dir)
        self._transfer.open(self.replicas, [replace(weight, dtype=self._dtype) for weight in weights])

    def _configuration(self) -> dict[str, Any]:
        """Return what the first server that is there says of itself."""
        for url in list(self.replicas.urls):
            try:
                configuration: dict[str, Any] = self.replicas.ask(url, "/server_info?config_format=json")["vllm_config"]
                return configuration
            except Gone as error:
                self.replicas.urls.remove(url)
                _log.warning("the server %s is gone, and left out: %s", url, error)
            except KeyError:
                raise ServingError(f"{url} does not say how it takes weights; it must be vLLM 0.22 or later") from None
        raise ServingError(f"updating weights: none of {', '.join(self.policy.urls)} can be reached")

    def take(self, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Replace the weights everywhere, one tensor at a time, while the replies under way wait.

        Raises:
            ServingError: They did not arrive; the policy answers no more.
        """
        assert self._transfer is not None
        served = self.policy.served
        if served.broken:
            raise ServingError(f"updating weights: {served.broken}")
        self.replicas.each("/pause?mode=keep")
        try:
            self._transfer.send(self.replicas, self._cast(weights), version)
            self._forget(version)
        except BaseException as error:
            served.broken = f"its weights were replaced in part only: {error}"
            with suppress(ServingError):  # what waits is to end, with an error of its own
                self.replicas.each("/resume")
            raise
        self.replicas.each("/resume")
        self._drop_routes()
        served.version = version

    def _drop_routes(self) -> None:
        """Let nobody ask a replica that was left out: should it come back, it holds other weights."""
        routes(self.policy.urls).drop([url for url in self.policy.urls if url not in self.replicas.urls])

    def _forget(self, version: int) -> None:
        """Drop what was computed with other weights, that of the replies under way included."""
        answers = self.replicas.each("/reset_prefix_cache?reset_running_requests=true")
        if any(answer.get("success") is False for answer in answers):
            raise ServingError(f"updating weights to {version}: a server kept what it had computed with the old ones")

    def _cast(self, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        import torch

        kind = getattr(torch, self._dtype)
        for name, tensor in weights:
            yield name, tensor.to(kind)

    def take_adapter(self, folder: Path, version: int) -> None:
        """Have an adapter loaded everywhere and ask for it from now on; replies under way end with theirs.

        Raises:
            ServingError: It cannot be loaded.
        """
        name = f"{self.policy.model}-{self._run}-{version}"
        body = {"lora_name": name, "lora_path": str(folder), "load_inplace": False}
        self.replicas.each("/v1/load_lora_adapter", body)
        self._adapters.append((name, folder))
        self._drop_routes()
        self.policy.served.model, self.policy.served.version = name, version
        if len(self._adapters) > KEPT_ADAPTERS:
            shutil.rmtree(self._unloaded, ignore_errors=True)  # a server may read files of one that is just unloaded
            old, self._unloaded = self._adapters.pop(0)
            self.replicas.each("/v1/unload_lora_adapter", {"lora_name": old})

    def probe(self, ids: Sequence[int], tokens: int) -> list[Probed]:
        """Sample a few tokens after a prompt on every replica, at the policy's own settings.

        Raises:
            ServingError: One does not answer as vLLM does.
        """
        policy = self.policy
        body = {
            "model": policy.served.model or policy.model,
            "prompt": list(ids),
            "temperature": policy.temperature,
            "top_p": policy.top_p,
            "seed": 0,
            "max_tokens": tokens,
            "logprobs": 0,
            "return_token_ids": True,
            "ignore_eos": True,
            **{name: value for name, value in policy.body.items() if name not in ("seed", "max_tokens")},
        }
        before = list(self.replicas.urls)
        answers = self.replicas.each("/v1/completions", body)
        probes = []
        for url, answer in zip([url for url in before if url in self.replicas.urls], answers, strict=True):
            try:
                choice = answer["choices"][0]
                sample, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
            except (KeyError, IndexError, TypeError) as error:
                raise ServingError(f"probing the weights of {url}: its answer holds no ids and logprobs") from error
            probes.append(Probed(_bare(url), (*ids, *sample), len(ids), tuple(map(float, logprobs))))
        return probes

    def close(self) -> None:
        """Release the way."""
        if self._transfer is not None:
            self._transfer.close()


def _bare(url: str) -> str:
    """Return an address without the name and password in it."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
