"""Memory: what a training holds on each GPU, part by part, in bytes.

Weights that are trained lie in float32 with their gradients and AdamW's two moments; on a GPU layers compute in bfloat16
(autocast). Activations are those that the layers of a dense decoder keep for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.training.model.shape import BYTES, Shape

GIB = 1 << 30
HEAD_TOKENS, HEAD_WORDS = 4096, 32768
"""Tokens and vocabulary of a tile of the last layer, which TRL computes piece by piece."""
_MOMENTS = {"adamw_torch": 8, "adamw_torch_fused": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2, "sgd": 0}
"""Optimiser → bytes of state for each trained weight."""


@dataclass(frozen=True)
class Training:
    """What is trained, as far as memory asks.

    Args:
        rank: Rank of the LoRA adapter; 0: all weights are trained.
        frozen: Type of the weights beside an adapter.
        rows: Rows of a forward pass.
        length: Most tokens of a row.
        checkpointing: Whether activations are computed again in the backward pass.
        reference: Whether a second, whole model is held for the KL divergence.
        optimiser: As transformers names it.
        gpu: Whether layers compute in bfloat16.
        mask: Whether attention has a mask as wide as a row is long, in each layer.
    """

    rank: int
    frozen: str
    rows: int
    length: int
    checkpointing: bool = False
    reference: bool = False
    optimiser: str = "adamw_torch_fused"
    gpu: bool = True
    mask: bool = False


def activations_of_layer(shape: Shape, training: Training) -> int:
    """Return the bytes that one layer keeps of one token for the backward pass, masks left out."""
    hidden_size, wide, narrow, inner = shape.hidden, shape.wide, shape.narrow, shape.intermediate
    heads = wide + narrow
    norms = 2 if training.rank else 4  # a norm whose weight is frozen keeps its input alone
    head_norms = norms // 2 * heads if shape.normed_heads else 0
    if training.gpu:  # norms in float32; each matrix keeps its own copy of its input in bfloat16
        return (4 * norms + 10) * hidden_size + 4 * heads + 8 * inner + 4 * head_norms + 4 * 7 * training.rank
    total = (norms + 2) * hidden_size + 2 * heads + 4 * inner + head_norms
    if training.mask:  # keys and values are repeated for each query head
        total += 2 * (wide - narrow)
    return 4 * (total + 7 * training.rank)


def trainer(shape: Shape, training: Training, shards: int, processes: int) -> dict[str, int]:
    """Return what a trainer holds on its GPU: part → bytes.

    Args:
        shape: The model.
        training: How it is trained.
        shards: Processes that weights are sharded over; 1: each holds all.
        processes: Processes that train.

    Raises:
        TrainingError: The optimiser's state is not known.
    """
    if training.optimiser not in _MOMENTS:
        raise TrainingError(
            f"plan: the state of the optimiser {training.optimiser!r} is not known; known are {', '.join(_MOMENTS)}"
        )
    whole, moments = shape.parameters, _MOMENTS[training.optimiser]
    trained = shape.adapter(training.rank) if training.rank else whole
    weights = whole * BYTES[training.frozen] + 4 * trained if training.rank else 4 * whole
    parts = {
        "weights": weights // shards,
        "gradients": 4 * trained // shards,
        "optimiser": moments * trained // shards,
        "reference": 4 * whole // shards if training.reference and not training.rank else 0,
        "copies": _copies(shape, training, trained, shards, processes),
        "activations": activations(shape, training),
        "last layer": _head(shape, training),
    }
    return {name: int(size) for name, size in parts.items()}


def activations(shape: Shape, training: Training) -> int:
    """Return the bytes that a forward pass keeps for the backward pass."""
    tokens = training.rows * training.length
    layer = tokens * activations_of_layer(shape, training)
    if training.mask:
        layer += training.rows * training.length**2 * (2 if training.gpu else 4)
    ends = 3 * 4 * shape.hidden * tokens  # the embedding's output, the last norm's two
    if training.checkpointing:
        return ends + shape.layers * tokens * 4 * shape.hidden + layer
    return ends + shape.layers * layer


def _copies(shape: Shape, training: Training, trained: int, shards: int, processes: int) -> int:
    """Return the bytes of weights in another form: for autocast, gathered from other processes, in DDP's buckets."""
    largest = max(shape.layer, shape.embedding)
    if shards > 1:  # two layers on their way, and the largest tensor whole when weights are brought to servers
        return 2 * (2 if training.gpu else 4) * shape.layer + 4 * largest
    cast = 2 * trained if training.gpu else 0
    return cast + (4 * trained if processes > 1 else 0)


def _head(shape: Shape, training: Training) -> int:
    """Return the bytes of the last layer's backward pass: a tile of logits, and the gradients of its input and weights."""
    tokens, words = training.rows * training.length, min(shape.vocabulary, HEAD_WORDS)
    tile = min(tokens, HEAD_TOKENS) * words
    gradients = 4 * tokens * shape.hidden + (0 if training.rank else 4 * shape.embedding)
    if training.gpu:  # one kernel turns the tile into its gradient in place
        return 2 * tile + 2 * words * shape.hidden + gradients
    return 9 * 4 * tile + gradients  # plain torch, with all that lies between


def local_sampler(shape: Shape, training: Training, attempts: int, twice: bool) -> int:
    """Return the bytes of a LocalPolicy: keys and values of all attempts, twice while they are put together anew.

    Args:
        shape: The model.
        training: Whose rows are the longest that it reads.
        attempts: Attempts at once.
        twice: Whether it holds a model of its own.
    """
    cache = 2 * attempts * training.length * shape.kv_bytes("float32")
    return cache + (4 * shape.parameters if twice else 0)


def training_of(settings: Any, gpu: bool = True, mask: bool = False) -> Training:
    """Return what settings of SFT or GRPO say, as far as memory asks.

    Raises:
        TrainingError: They say something that is not counted here.
    """
    lora = settings.lora
    if not isinstance(lora, int):
        if set(lora) - {"r", "lora_alpha", "lora_dropout"}:
            raise TrainingError(f"plan(lora={dict(lora)!r}): counted are adapters on all linear layers; give a rank")
        lora = int(lora["r"])
    if settings.muon or getattr(settings, "load_in_4bit", False):
        raise TrainingError("plan: muon and load_in_4bit are not counted")
    return Training(
        rank=lora,
        frozen=settings.dtype or ("bfloat16" if gpu else "float32"),
        rows=settings.per_device_train_batch_size,
        length=settings.max_length,
        checkpointing=settings.gradient_checkpointing,
        reference=bool(getattr(settings, "beta", 0.0)),
        optimiser=str(settings.options.get("optim", "adamw_torch_fused")),
        gpu=gpu,
        mask=mask,
    )
