"""Sampler: many threads ask one model of transformers, which answers them in batches, token by token.

There is no thread of its own: whoever waits longest leads, computes a batch for all who wait, and hands out the
results. Each request has its own stream of chance, so what a reply says does not hang on who else was in its batch,
up to rounding; `deterministic` takes that last doubt away by computing every request alone and from its beginning.

What a conversation has computed (its keys and values) is kept from turn to turn, for models whose cache is a plain
one for each layer; others read the whole prompt at every turn. Needs torch, imported when the first batch is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import numpy as np

from swebench_lab.errors import PolicyError
from swebench_lab.records.arrays import Ids, Logprobs, concatenate
from swebench_lab.records.arrays import logprobs as as_logprobs


@dataclass(slots=True)
class Kept:
    """What a model has computed of a row of ids.

    Args:
        ids: The ids.
        layers: Keys and values of each layer, each of shape (1, heads, len(ids), width).
        weights: Which weights computed them.
    """

    ids: Ids
    layers: list[tuple[Any, Any]]
    weights: int


@dataclass(slots=True)
class Request:
    """One reply that is asked for, and what came of it.

    Args:
        prompt: Ids of the whole prompt.
        limit: Most tokens to sample.
        dice: The request's own chance.
        stop_ids: Ids that end a reply.
        temperature: Sampling temperature; 0: greedy.
        deadline: Moment on the monotonic clock at which sampling is cut off.
        kept: What is known of a beginning of the prompt; replaced by what is known when the reply is there.
    """

    prompt: Ids
    limit: int
    dice: Random
    stop_ids: frozenset[int]
    temperature: float = 1.0
    deadline: float = float("inf")
    kept: Kept | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str = ""
    version: int = -1
    reused: int = 0
    error: Exception | None = None
    done: bool = False


class Sampler:
    """Answers requests from any number of threads with one model.

    Args:
        model: A causal language model of transformers.
        batch_size: Most requests computed together.
        patience: Seconds to wait for others before a batch that is not full.
        deterministic: Whether each request is computed alone and from its beginning.
    """

    def __init__(self, model: Any, batch_size: int = 32, patience: float = 0.005, deterministic: bool = False) -> None:
        self.model = model
        self.batch_size = 1 if deterministic else batch_size
        self.patience = 0.0 if deterministic else patience
        self.deterministic = deterministic
        self.version = 0
        """Version of the weights, as their trainer counts them; kept with every reply."""
        self.on_batch: Callable[[float, float], None] | None = None
        """Told when each batch began and ended, in seconds of the monotonic clock."""
        self._weights = 0  # counts changes of the weights: what was computed before one is not used after it
        self._talks = 0
        self._waiting: list[Request] = []
        self._turn = threading.Condition()
        self._busy = False
        self._demand = 0

    def ask(self, request: Request) -> Request:
        """Sample one reply; returns when it is there.

        Raises:
            PolicyError: The model failed on the batch.
        """
        with self._turn:
            self._waiting.append(request)
            self._turn.notify_all()
        while not request.done:
            batch = self._next_batch(request)
            if batch:
                self._lead(batch)
        if request.error is not None:
            raise PolicyError(
                f"sampling a reply after {len(request.prompt)} tokens: {type(request.error).__name__}: {request.error}"
            ) from request.error
        return request

    def count(self, change: int) -> None:
        """Count conversations that are open: a batch waits for no more requests than that."""
        with self._turn:
            self._talks += change

    @contextmanager
    def exclusive(self, changes: bool = True) -> Iterator[Any]:
        """Let the running batch end, keep all others waiting, and give the model.

        Args:
            changes: Whether its weights are changed meanwhile.
        """
        with self._turn:
            self._demand += 1  # goes before all who wait for a batch, or it might wait for many
            try:
                while self._busy:
                    self._turn.wait()
                self._busy = True
            finally:
                self._demand -= 1
                self._turn.notify_all()
        try:
            yield self.model
        finally:
            with self._turn:
                self._weights += changes
                self._busy = False
                self._turn.notify_all()

    def _next_batch(self, own: Request) -> list[Request]:
        """Wait until the own request is done (nothing is returned) or it is our turn to lead."""
        with self._turn:
            while (self._busy or self._demand) and not own.done:
                self._turn.wait()
            if own.done:
                return []
            self._busy = True
            until = time.monotonic() + self.patience
            while len(self._waiting) < min(self.batch_size, self._talks) and time.monotonic() < until:
                self._turn.wait(max(0.0, until - time.monotonic()))
            batch, self._waiting = self._waiting[: self.batch_size], self._waiting[self.batch_size :]
            return batch

    def _lead(self, batch: list[Request]) -> None:
        began = time.monotonic()
        try:
            for request in batch:
                request.version = self.version
            sample(self.model, batch, self._weights, reuse=not self.deterministic)
        except Exception as error:  # any fault of the model ends the replies of this batch, not the threads
            for request in batch:
                request.error = error
        finally:
            if self.on_batch is not None:
                self.on_batch(began, time.monotonic())
            with self._turn:
                for request in batch:
                    # Cut off by Ctrl-C in the leading thread: the others ask again, from the beginning.
                    request.done = bool(request.finish or request.error)
                    if not request.done:
                        request.ids, request.logprobs = [], []
                        self._waiting.append(request)
                self._busy = False
                self._turn.notify_all()


def sample(model: Any, batch: Sequence[Request], weights: int = 0, reuse: bool = True) -> None:
    """Sample the replies of a batch, filling in each request.

    Args:
        model: A causal language model of transformers.
        batch: What is asked for.
        weights: Which weights these are.
        reuse: Whether kept keys and values are used and made.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            _sample(torch, model, list(batch), weights, reuse)
    finally:
        model.train(training)


def _sample(torch: Any, model: Any, rows: list[Request], weights: int, reuse: bool) -> None:
    logits, cache, mask = _read_prompts(torch, model, rows, weights, reuse)
    plain = _is_plain(cache)
    while True:
        _draw(torch, logits, rows)
        going = [i for i, row in enumerate(rows) if not row.finish]
        if plain:
            for i, row in enumerate(rows):
                if row.finish:
                    row.kept = _keep(row, cache, mask[i], i, weights) if reuse else None
        if not going:
            return
        if plain and len(going) < len(rows):
            selection = torch.tensor(going, device=mask.device)
            rows, mask = [rows[i] for i in going], mask[selection]
            cache.batch_select_indices(selection)
        last = [[row.ids[-1]] for row in rows]
        places = [[len(row.prompt) + len(row.ids) - 1] for row in rows]
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
        logits, cache = _forward(torch, model, last, places, mask, cache)


def _read_prompts(torch: Any, model: Any, rows: Sequence[Request], weights: int, reuse: bool) -> tuple[Any, Any, Any]:
    """Run the model over what is new of each prompt; return the logits after each, the cache and the mask.

    Rows are of different lengths, so each is laid out as: empty places, what is kept, empty places, what is new.
    """
    for row in rows:
        row.reused = _reuse_length(row, weights) if reuse else 0
    old = max(row.reused for row in rows)
    new = max(len(row.prompt) - row.reused for row in rows)
    ids, places = np.zeros((2, len(rows), new), "int64")
    mask = np.zeros((len(rows), old + new), "int64")
    for number, row in enumerate(rows):
        gap = new - (len(row.prompt) - row.reused)
        ids[number, gap:] = row.prompt[row.reused :]
        places[number, gap:] = np.arange(row.reused, len(row.prompt))
        mask[number, old - row.reused : old] = 1
        mask[number, old + gap :] = 1
    attention = torch.from_numpy(mask).to(model.device)
    cache = _stack(torch, rows, old) if old else None
    logits, cache = _forward(torch, model, ids, places, attention, cache)
    return logits, cache, attention


def _reuse_length(row: Request, weights: int) -> int:
    """Return how much of a prompt is kept; at least its last token is always read anew."""
    if row.kept is None or row.kept.weights != weights:
        return 0
    longest = min(len(row.kept.ids), len(row.prompt) - 1)
    differs = row.kept.ids[:longest] != row.prompt[:longest]
    return int(differs.argmax()) if differs.any() else longest


def _stack(torch: Any, rows: Sequence[Request], old: int) -> Any:
    """Return a cache that holds what is kept of each row, empty places first."""
    from transformers import DynamicCache

    some = next(row.kept for row in rows if row.reused and row.kept is not None)
    cache = DynamicCache()
    for layer, (key, _) in enumerate(some.layers):
        parts: list[list[Any]] = [[], []]
        for row in rows:
            for side in (0, 1):
                empty = key.new_zeros((1, key.shape[1], old - row.reused, key.shape[3]))
                content = (
                    row.kept.layers[layer][side][:, :, : row.reused] if row.kept and row.reused else empty[:, :, :0]
                )
                parts[side].append(torch.cat([empty, content], dim=2))
        cache.update(torch.cat(parts[0]), torch.cat(parts[1]), layer)
    return cache


def _keep(row: Request, cache: Any, mask: Any, index: int, weights: int) -> Kept:
    """Take one row out of a batch's cache, without its empty places."""
    places = mask.bool()
    layers = [
        (layer.keys[index : index + 1][:, :, places].clone(), layer.values[index : index + 1][:, :, places].clone())
        for layer in cache.layers
    ]
    # The last sampled token was never read by the model.
    return Kept(concatenate(row.prompt, row.ids)[: int(places.sum())], layers, weights)


def _is_plain(cache: Any) -> bool:
    """Say whether a cache holds all keys and values of every layer, and nothing else."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def _forward(torch: Any, model: Any, ids: Any, places: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
    """Run the model over some ids of each row; return the logits after the last of each, and the cache."""
    device = model.device
    result = model(
        input_ids=torch.as_tensor(ids, device=device),
        attention_mask=mask,
        position_ids=torch.as_tensor(places, device=device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return result.logits[:, -1].float(), result.past_key_values


def _draw(torch: Any, logits: Any, rows: Sequence[Request]) -> None:
    """Draw one token for each row that is not finished, each from its own chance."""
    warmth = torch.tensor([[row.temperature or 1.0] for row in rows], device=logits.device)
    logprobs = (logits / warmth).log_softmax(dim=-1)
    best = logprobs.argmax(dim=-1)
    shares = logprobs.double().exp().cumsum(dim=-1)
    throws = [[row.dice.random()] for row in rows]
    points = torch.tensor(throws, device=logits.device, dtype=torch.float64) * shares[:, -1:]
    samples = torch.searchsorted(shares, points, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    greedy = torch.tensor([row.temperature == 0 for row in rows], device=logits.device)
    tokens = torch.where(greedy, best, samples)
    scores = logprobs.gather(1, tokens[:, None])[:, 0]
    now = time.monotonic()
    for row, token, logprob in zip(rows, tokens.tolist(), scores.tolist(), strict=True):
        if row.finish:
            continue
        row.ids.append(token)
        row.logprobs.append(logprob)
        if token in row.stop_ids:
            row.finish = "stop"
        elif len(row.ids) >= row.limit:
            row.finish = "length"
        elif now >= row.deadline:
            row.finish = "deadline"


def score(model: Any, ids: Sequence[int] | Ids, temperature: float = 1.0) -> Logprobs:
    """Return the natural-log probability of each id after those before it, read in one go; 0.0 for the first.

    Args:
        model: A causal language model of transformers.
        ids: A row of ids.
        temperature: What the logits are divided by; 0 counts as 1.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            row = torch.from_numpy(np.array(ids, dtype="int64"))[None].to(model.device)
            logprobs = (model(input_ids=row).logits[0, :-1].float() / (temperature or 1.0)).log_softmax(dim=-1)
            values = logprobs.gather(1, row[0, 1:, None])[:, 0].cpu().numpy()
    finally:
        model.train(training)
    return as_logprobs(np.concatenate([np.zeros(1, "float32"), values]))


def widen_head(model: Any, dtype: str = "float32") -> None:
    """Let the last layer of a model make its logits in another type; its weights stay as they are.

    In bfloat16 a logit between 8 and 16 is rounded to sixteenths, so that two ways of computing the same model, such as
    a server's and a trainer's, give logprobs that differ by as much. It does what vLLM's `head_dtype` and TRL's
    `cast_lm_head_to_fp32` do.

    Raises:
        PolicyError: The last layer is no plain linear one.
    """
    import torch

    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        raise PolicyError(f"the last layer is a {type(head).__name__}; only a plain Linear can be computed in {dtype}")
    head.__class__ = _wide_linear()  # not a function of this head: copies of the model must have their own
    head.logits_in = getattr(torch, dtype)


@cache
def _wide_linear() -> type:
    import torch

    class WideLinear(torch.nn.Linear):
        """A linear layer that is computed in another type than its weights have."""

        def forward(self, hidden: Any) -> Any:
            """Return the logits."""
            kind = self.logits_in
            bias = None if self.bias is None else self.bias.to(kind)
            with torch.autocast(hidden.device.type, enabled=False):
                return torch.nn.functional.linear(hidden.to(kind), self.weight.to(kind), bias)

    return WideLinear
