"""LocalPolicy: a model of transformers in this process, asked by many attempts at once, token by token exact.

The policy samples for all attempts in batches, keeps the ids and logprobs it sampled, and its weights can be changed
in place between two batches, so that a trainer and its attempts share one model. Needs torch and transformers
(`pip install swebench-lab[train]`), which are imported at the first reply.
"""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from swebench_lab.errors import PolicyError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import Episode
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.policies.sampling import Kept, Request, Sampler, score, widen_head
from swebench_lab.policies.trainable import Probed, Weight
from swebench_lab.records.arrays import Ids, Logprobs
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import TaskView


class LocalPolicy:
    """A causal language model that answers in this process.

    What an attempt says depends on the weights, the prompt, and a stream of chance keyed by seed, task, attempt and
    step; the batch it was sampled in makes a difference by rounding only, and none with `deterministic`.

    Args:
        model: A folder or hub id, loaded at the first reply; or a model itself, which stays the caller's.
        tokenizer: The model's tokenizer; None: the one beside the model.
        renderer: How messages become ids; None: by the tokenizer's chat template, or ChatML where it has none.
        revision: What tells this model from others of that name; of a hub id, its commit.
        temperature: Sampling temperature; 0 is greedy. Logprobs are those at this temperature.
        max_tokens: Most tokens of one reply.
        max_length: Most tokens of a conversation; None: what the model was made for.
        batch_size: Most replies that are sampled together.
        deterministic: Whether every reply is sampled alone and its prompt read from its beginning, so that it repeats
            to the last bit whatever else is going on; several times slower.
        device: Such as `cuda:0`; empty: a GPU if there is one.
        dtype: Such as `bfloat16`; empty: as the weights are stored.
        head: Type in which the last layer makes logits, whatever the weights are; `float32` is what a server with
            `lab.serve(head="float32")` does. Empty: that of the weights.
        name: What tables call it; empty: the folder's or hub id's last part.
        version: Version of the weights, as their trainer counts them.

    Raises:
        ValueError: A setting makes no sense, or a model came without its tokenizer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        renderer: Renderer | None = None,
        revision: str = "",
        temperature: float = 1.0,
        max_tokens: int = 1024,
        max_length: int | None = None,
        batch_size: int = 32,
        deterministic: bool = False,
        device: str = "",
        dtype: str = "",
        head: str = "",
        name: str = "",
        version: int = 0,
    ) -> None:
        self._source, self._tokenizer, self._renderer = model, tokenizer, renderer
        if not self._is_path and tokenizer is None and renderer is None:
            raise ValueError("LocalPolicy(model): a model itself comes with its tokenizer, or with a renderer")
        if head and not self._is_path:
            raise ValueError(f"LocalPolicy(model, head={head!r}): a model itself stays as it is; give its folder")
        if temperature < 0 or max_tokens < 1 or batch_size < 1 or (max_length is not None and max_length < 1):
            raise ValueError(
                "LocalPolicy: temperature must not be negative; max_tokens, max_length, batch_size positive"
            )
        self.revision, self.temperature, self.max_tokens = revision, temperature, max_tokens
        self.batch_size, self.deterministic, self.device, self.dtype = batch_size, deterministic, device, dtype
        self.head = head
        self._max_length = max_length
        self._name = name
        self.version = version
        """Version of the weights, kept with every reply; `update` counts it up."""
        self._has_new_weights = False
        self._loading = threading.Lock()

    # --- the model --------------------------------------------------------------------------------------------------

    @property
    def _is_path(self) -> bool:
        return isinstance(self._source, str | Path)

    @cached_property
    def sampler(self) -> Sampler:
        """What answers; the model is loaded when this is first read."""
        with self._loading:
            if "sampler" in self.__dict__:  # another thread was first
                existing: Sampler = self.__dict__["sampler"]
                return existing
            model = _load(self._source, self.revision, self.device, self.dtype) if self._is_path else self._source
            if self.head:
                widen_head(model, self.head)
            made = Sampler(model, self.batch_size, deterministic=self.deterministic)
            made.version = self.version
            self.__dict__["sampler"] = made
            return made

    @cached_property
    def renderer(self) -> Renderer:
        """How messages become ids, and ids text."""
        if self._renderer is not None:
            return self._renderer
        if self._tokenizer is not None:
            return Renderer.of(self._tokenizer)
        with self._loading:
            if "renderer" not in self.__dict__:  # no other thread was first
                self.__dict__["renderer"] = Renderer.load(str(self._source), self.revision)
        found: Renderer = self.__dict__["renderer"]
        return found

    @property
    def model(self) -> Any:
        """The model itself; change its weights within `held` only."""
        return self.sampler.model

    @property
    def max_length(self) -> int:
        """Most tokens of a conversation."""
        if self._max_length is not None:
            return self._max_length
        return int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a reply: the frame's, and those the model's own settings name."""
        ends = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        own = [ends] if isinstance(ends, int) else list(ends or ())
        return frozenset([*self.renderer.stop_ids, *own])

    @contextmanager
    def exclusive(self, version: int | None = None) -> Iterator[Any]:
        """Let running replies end, keep others waiting, and give the model, to change its weights in place.

        Args:
            version: Version of the weights afterwards; None: one more than before.
        """
        with self.sampler.exclusive() as model:
            yield model
            self.version = self.sampler.version = self.version + 1 if version is None else version
            self._has_new_weights = True
            self.__dict__.pop("_weights", None)

    def update(self, weights: Mapping[str, Any] | str | Path | None = None, version: int | None = None) -> int:
        """Take over other weights, between two batches; attempts under way go on with them.

        Args:
            weights: Name to tensor, or a folder of a saved model; None: the model was changed in place already.
            version: Their version; None: one more than before.

        Returns:
            The version.

        Raises:
            PolicyError: The weights do not fit the model.
        """
        if isinstance(weights, str | Path):
            weights = _load(weights, "", "cpu", "").state_dict()
        with self.exclusive(version) as model:
            if weights is not None:
                try:
                    model.load_state_dict(weights)
                except RuntimeError as error:
                    raise PolicyError(f"updating {self.name}: the weights do not fit the model: {error}") from error
        return self.version

    def logprobs(self, ids: Sequence[int] | Ids) -> Logprobs:
        """Return the logprob of each id after those before it, at the policy's temperature; 0.0 for the first."""
        with self.sampler.exclusive(changes=False) as model:
            return score(model, ids, self.temperature)

    # --- training ---------------------------------------------------------------------------------------------------

    @property
    def source(self) -> Any:
        """Where the model comes from; the model itself where it was given, or changed in place."""
        return self._source if self._is_path and not self._has_new_weights else self.model

    def load_tokenizer(self) -> Any:
        """Return the model's tokenizer."""
        return self.renderer.tokenizer

    def in_training(self, temperature: float) -> LocalPolicy:
        """Return a policy with a model of its own that samples as this one does, and takes other weights."""
        model = self.source
        options = self.sampling | {"temperature": temperature, "name": self.name, "renderer": self.renderer}
        if isinstance(model, str | Path):
            more: dict[str, Any] = {
                "revision": self.revision,
                "device": self.device,
                "dtype": self.dtype,
                "head": self.head,
            }
            return LocalPolicy(model, self._tokenizer, **options, **more)
        return LocalPolicy(copy.deepcopy(model).eval(), self.load_tokenizer(), **options)

    def trained(self, folder: Path) -> LocalPolicy:
        """Return a policy of a folder that samples as this one does."""
        return LocalPolicy(folder, **self.sampling)

    @property
    def sampling(self) -> dict[str, Any]:
        """How replies are sampled, as arguments of `LocalPolicy`."""
        return {
            "renderer": self._renderer,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "max_length": self._max_length,
            "batch_size": self.batch_size,
            "deterministic": self.deterministic,
        }

    def sink(self) -> LocalSink:
        """Return what overwrites the model's weights between two batches of replies."""
        return LocalSink(self)

    # --- the policy -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model, with its revision."""
        label = self._name or (Path(str(self._source)).name if self._is_path else type(self._source).__name__)
        return f"{label}@{self.revision}" if self.revision else label

    @cached_property
    def _weights(self) -> str:
        """A hash over the weights, or over the files that hold them."""
        return _digest_of_model(self.model) if self._has_new_weights else _digest_of_source(self._source)

    @property
    def fingerprint(self) -> str:
        """A hash over the weights and all that shapes the replies."""
        return fingerprint(
            "local",
            model=self._name or str(self._source) if self._is_path else type(self._source).__name__,
            revision=self.revision,
            weights=self._weights,
            version=self.version,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            max_length=self._max_length,
            dtype=self.dtype,
            deterministic=self.deterministic,
            **({"head": self.head} if self.head else {}),
        )

    def start(self, view: TaskView, attempt: int, seed: int) -> LocalTalk:
        """Begin one attempt; the model is loaded when it is first asked."""
        return LocalTalk(self, f"{seed}/{view.id}/{attempt}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave what belongs to this process behind; a model given as itself travels whole."""
        if self._has_new_weights and self._is_path:
            raise pickle.PicklingError(
                f"{self.name} was changed in place since it was loaded, so its folder is not what it is now; save the "
                "model and make a LocalPolicy of that folder"
            )
        transient = ("sampler", "stop_ids", "_loading", *(() if self._renderer else ("renderer",)))
        return {name: value for name, value in self.__dict__.items() if name not in transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._loading = threading.Lock()

    def __repr__(self) -> str:
        """Return one line: the model, its version and how it samples."""
        return f"LocalPolicy({self.name!r}, version {self.version}, temperature={self.temperature:g})"


class LocalTalk(Conversation):
    """One attempt's conversation with the model of this process.

    Args:
        policy: Whose model it is.
        key: What the attempt's chance is keyed by; the step is added.
    """

    def __init__(self, policy: LocalPolicy, key: str) -> None:
        self.policy = policy
        self.episode = Episode(policy.renderer)
        self._key = key
        self._deadline = Brief().deadline
        self._cache: Kept | None = None
        self._is_open = False

    def brief(self, brief: Brief) -> bool:
        """Take the attempt's deadline, tools and earlier steps over."""
        self._deadline = brief.deadline
        if brief.before is not None:
            self.episode.recall(brief.before)
        if brief.tools and self.policy.renderer.shows_tools == brief.call_format:
            self.episode.tools = brief.tools
            return True
        return False

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Sample the next message.

        Raises:
            ContextFull: The conversation is longer than the model can read.
            PolicyError: The model failed.
        """
        policy, began = self.policy, time.monotonic()
        if not self._is_open:
            self._count(True)
            self.episode.renderer = policy.renderer.stopping_at(policy.stop_ids)  # the model is there from now on
        prompt = self.episode.extend(messages)
        request = Request(
            prompt,
            self.episode.room(policy.max_length, policy.max_tokens),
            Random(f"{self._key}/{replies_so_far(messages)}"),
            policy.stop_ids,
            policy.temperature,
            self._deadline(),
            self._cache,
        )
        policy.sampler.ask(request)
        self._cache = request.kept
        return self.episode.reply(
            request.ids,
            request.logprobs,
            request.version,
            cached_tokens=request.reused,
            seconds=time.monotonic() - began,
            model=policy.name,
            finish_reason=request.finish,
        )

    def close(self) -> None:
        """Let go of what was computed."""
        self._cache = None
        self._count(False)

    def _count(self, here: bool) -> None:
        """Be counted among the open conversations, once."""
        if here != self._is_open:
            self.policy.sampler.count(1 if here else -1)
            self._is_open = here


class LocalSink:
    """Overwrites the weights of a model in this process; what TRL and FSDP call by other names fits by `stream`.

    Args:
        policy: Whose model it is.
    """

    adapter_only = False
    untied = False
    tolerance = math.inf
    """No bound: the sampler's type may be coarser than the trainer's, and nothing is lost on the way."""

    def __init__(self, policy: LocalPolicy) -> None:
        self.policy = policy

    def open(self, weights: Sequence[Weight], adapter: bool = False) -> None:
        """Check that the model has all weights of these names and shapes.

        Raises:
            PolicyError: One is missing, or of another shape.
        """
        own = dict(self.policy.model.named_parameters(remove_duplicate=False))
        for weight in weights:
            if weight.name not in own or tuple(own[weight.name].shape) != weight.shape:
                raise PolicyError(
                    f"updating {self.policy.name}: it has no weight {weight.name!r} of shape {weight.shape}"
                )

    def take(self, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Overwrite the weights, one at a time; running replies end first."""
        import torch

        with self.policy.exclusive(version) as model, torch.no_grad():
            own = dict(model.named_parameters(remove_duplicate=False))
            for name, tensor in weights:
                own[name].copy_(tensor)

    def take_adapter(self, folder: Path, version: int) -> None:
        """Never called: whole weights are taken."""
        raise PolicyError(f"updating {self.policy.name}: it takes whole weights, no adapter")

    def probe(self, ids: Sequence[int], tokens: int) -> list[Probed]:
        """Return nothing: the weights were copied in this process."""
        return []

    def close(self) -> None:
        """Nothing is held."""


def _load(source: Any, revision: str, device: str, dtype: str) -> Any:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise PolicyError("LocalPolicy needs torch and transformers: pip install 'swebench-lab[train]'") from error
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(torch, dtype) if dtype else "auto"
    try:
        model = AutoModelForCausalLM.from_pretrained(str(source), revision=revision or None, dtype=kind)
    except (OSError, ValueError) as error:
        raise PolicyError(f"loading the model {source}: {error}") from error
    return model.to(where).eval()


_EDGE = 1 << 20
"""Bytes at the two ends of a file of weights that its hash is made of; one in between that alone differs is not met."""


def _digest_of_source(source: Any) -> str:
    """Return a hash over a folder's weights, its config and its tokenizer; of a hub id, over its name."""
    if not isinstance(source, str | Path):
        return _digest_of_model(source)
    digest = hashlib.sha256()
    for file in sorted(Path(source).glob("*")) if Path(source).is_dir() else ():
        if file.suffix in (".safetensors", ".bin", ".json", ".jinja"):
            size = file.stat().st_size
            digest.update(f"{file.name}/{size}/".encode())
            with file.open("rb") as content:
                digest.update(content.read(_EDGE))
                content.seek(max(0, size - _EDGE))
                digest.update(content.read(_EDGE))
    return digest.hexdigest()[:16]


def _digest_of_model(model: Any) -> str:
    """Return a hash over two sums of every tensor, which any step of training changes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        wide = tensor.detach().double().flatten()
        digest.update(f"{name}/{tuple(tensor.shape)}/{float(wide.sum())!r}/{float((wide * wide).sum())!r}".encode())
    return digest.hexdigest()[:16]
