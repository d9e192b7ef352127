"""Weights: the tensors of a model in training under the names that a checkpoint has, one at a time, on all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swebench_lab.policies.trainable import Weight

_WRAPPERS = ("module.", "_checkpoint_wrapped_module.", "_orig_mod.", "base_model.model.", "base_layer.")


def manifest(model: Any, untied: bool = False) -> list[Weight]:
    """Return what `stream` yields, without gathering anything.

    Args:
        model: The model, bare of what a trainer wraps around it; an adapter may be on it.
        untied: Whether a last layer that shares its tensor with the embedding is named as well.
    """
    return [
        Weight(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in _parameters(model, untied)
    ]


def stream(model: Any, untied: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield name and whole tensor of every weight, an adapter merged into it; one is held at a time.

    Every process that shares the model has to read it to its end, since sharded weights are gathered by all.

    Args:
        model: The model, bare of what a trainer wraps around it; an adapter may be on it.
        untied: Whether a last layer that shares its tensor with the embedding is sent as well.
    """
    with _fold_adapter(model):
        for name, value in _parameters(model, untied):
            whole = value.full_tensor() if hasattr(value, "full_tensor") else value
            yield name, whole.detach()


def _parameters(model: Any, untied: bool) -> Iterator[tuple[str, Any]]:
    prefix = getattr(model, "prefix", "lora_") if hasattr(model, "peft_config") else ""
    for name, value in model.named_parameters():
        if (prefix and prefix in name) or "original_module" in name:
            continue
        yield _plain(name), value
    head = model.get_output_embeddings()
    if untied and head is not None and head.weight is model.get_input_embeddings().weight:
        yield "lm_head.weight", head.weight


def _plain(name: str) -> str:
    """Return a weight's name in a checkpoint."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.replace("modules_to_save.default.", "")


@contextmanager
def _fold_adapter(model: Any) -> Iterator[None]:
    """Fold an adapter into the weights meanwhile."""
    if not hasattr(model, "peft_config"):
        yield
        return
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()
