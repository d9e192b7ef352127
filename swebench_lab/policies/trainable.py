"""Trainable policies: what training needs of a policy, and how new weights reach what samples.

A trainable policy keeps the ids it sampled, their logprobs and the version of the weights that sampled them, and takes
other weights while attempts go on. `LocalPolicy` is one, and so is what `lab.serve(…, updates=True).policy()` returns.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from swebench_lab.policies.policy import Policy


@dataclass(frozen=True)
class Weight:
    """One tensor of a model, by name.

    Args:
        name: Its name in a checkpoint.
        dtype: Its type, such as `float32`.
        shape: Its whole shape, whatever processes it is sharded over.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Probed:
    """What one sampler said when it was asked for a few tokens after a prompt, to be compared with the trainer's view.

    Args:
        where: The sampler's address.
        ids: The prompt, then what was sampled.
        prompt: How many of `ids` are the prompt.
        logprobs: Natural-log probability of each sampled id under the sampler, at the policy's temperature.
    """

    where: str
    ids: tuple[int, ...]
    prompt: int
    logprobs: tuple[float, ...]


class WeightSink(Protocol):
    """Where a trainer's weights go: whatever samples takes them over, and goes on with the replies under way."""

    adapter_only: bool
    """Whether it takes a LoRA adapter by `take_adapter`, and never whole weights; known once it is open."""
    untied: bool
    """Whether the last layer is a tensor of its own there, so that a model that shares it sends it as well."""
    tolerance: float
    """Largest mean difference of logprobs between sampler and trainer that rounding explains; known once it is open."""

    def open(self, weights: Sequence[Weight], adapter: bool = False) -> None:
        """Set up the way for tensors of these names and shapes; called once, before the first update.

        Args:
            weights: All of the model, an adapter merged into it.
            adapter: Whether an adapter is what is trained, so that it could travel by itself.

        Raises:
            ServingError: The sampler takes no weights this way.
        """

    def take(self, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Replace the weights by those of an iterator, one tensor at a time, and forget what was computed with others.

        Args:
            weights: Name and whole tensor, in the order of `open`.
            version: What they count as afterwards.

        Raises:
            ServingError: They did not arrive everywhere; what samples is not to be trusted any more.
        """

    def take_adapter(self, folder: Path, version: int) -> None:
        """Answer through a LoRA adapter saved in a folder from now on.

        Raises:
            ServingError: It cannot be loaded.
        """

    def probe(self, ids: Sequence[int], tokens: int) -> list[Probed]:
        """Sample a few tokens after a prompt with every sampler, at the policy's temperature."""

    def close(self) -> None:
        """Release what the way needed; may be called more than once."""


class TrainablePolicy(Policy, Protocol):
    """A policy whose model can be trained: token-exact, with versions, and with a way for other weights."""

    temperature: float
    """Sampling temperature; logprobs are those at this temperature."""

    @property
    def source(self) -> Any:
        """The model: a folder, a hub id, or the model itself."""

    def load_tokenizer(self) -> Any:
        """Return the model's tokenizer."""

    def in_training(self, temperature: float) -> TrainablePolicy:
        """Return a policy that samples as this one does while its weights change.

        A model in this process is copied for it, and this policy stays as it is; servers are shared, so it changes too.
        """

    def trained(self, folder: Path) -> TrainablePolicy:
        """Return a policy that samples as this one does, from the weights that training left in a folder."""

    def sink(self) -> WeightSink:
        """Return where new weights go."""


def is_trainable(policy: Any) -> TypeGuard[TrainablePolicy]:
    """Whether something is a policy that can be trained; nothing is loaded to find out."""
    return all(inspect.getattr_static(policy, name, None) for name in ("start", "in_training", "trained", "sink"))
