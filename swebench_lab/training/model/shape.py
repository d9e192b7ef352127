"""Shape: what a model is made of, read from its configuration alone: parameters, layers and widths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
"""Values of `model_type`: dense decoders with gated layers, whose parts are counted here."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """A dense decoder.

    Args:
        kind: Its `model_type`.
        layers: Number of layers.
        hidden: Width of the stream between layers.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a head.
        intermediate: Width of a layer's gated part.
        vocabulary: Rows of the embedding.
        tied: Whether the embedding and the last layer are one tensor.
        biases: Biases of a layer, in elements.
    """

    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    biases: int = 0

    @classmethod
    def of(cls, model: Any) -> Shape:
        """Return the shape of a folder, a hub id, a configuration of transformers, or the values of a config.json.

        Raises:
            TrainingError: There is no such configuration, or it is of a kind whose parts are not known here.
        """
        if isinstance(model, Shape):
            return model
        values = _values(model)
        kind = values.get("model_type", "")
        if kind not in KNOWN:
            raise TrainingError(
                f"plan: the memory of model_type={kind!r} is not known; known are {', '.join(KNOWN)} (dense decoders)"
            )
        heads = int(values["num_attention_heads"])
        hidden_size, intermediate = int(values["hidden_size"]), int(values["intermediate_size"])
        kv_heads = int(values.get("num_key_value_heads") or heads)
        head_dim = int(values.get("head_dim") or hidden_size // heads)
        wide, narrow = heads * head_dim, kv_heads * head_dim
        biases = wide + 2 * narrow if kind == "qwen2" else 0
        if values.get("attention_bias"):
            biases += wide + 2 * narrow + hidden_size
        if values.get("mlp_bias"):
            biases += 2 * intermediate + hidden_size
        return cls(
            kind,
            int(values["num_hidden_layers"]),
            hidden_size,
            heads,
            kv_heads,
            head_dim,
            intermediate,
            int(values["vocab_size"]),
            bool(values.get("tie_word_embeddings", kind not in ("llama", "mistral", "qwen2", "qwen3"))),
            biases,
        )

    @property
    def wide(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def narrow(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_dim

    @property
    def normed_heads(self) -> bool:
        """Whether queries and keys have norms of their own."""
        return self.kind == "qwen3"

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        matrices = self.hidden * (2 * self.wide + 2 * self.narrow + 3 * self.intermediate)
        return matrices + 2 * self.hidden + self.biases + (2 * self.head_dim if self.normed_heads else 0)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Parameters in all; a shared tensor counts once."""
        return self.embedding * (1 if self.tied else 2) + self.layers * self.layer + self.hidden

    def adapter(self, rank: int) -> int:
        """Return the parameters of a LoRA adapter on all linear layers but the last."""
        widths = 2 * (self.hidden + self.wide) + 2 * (self.hidden + self.narrow)
        return self.layers * rank * (widths + 3 * (self.hidden + self.intermediate))

    def kv_bytes(self, dtype: str = "bfloat16", tensor_parallel: int = 1) -> int:
        """Return the bytes of keys and values of one token on one GPU."""
        heads = max(1, -(-self.kv_heads // tensor_parallel))
        return 2 * self.layers * heads * self.head_dim * BYTES[dtype]

    def kv_tokens(self, room: float, dtype: str = "bfloat16", tensor_parallel: int = 1, block: int = 16) -> int:
        """Return how many tokens' keys and values a server keeps, in whole blocks as vLLM lays them out.

        Args:
            room: Bytes for them on each GPU.
            dtype: Their type.
            tensor_parallel: GPUs that share a server.
            block: Tokens of a block; vLLM takes 16 on GPUs and 128 on CPUs.
        """
        return int(room // (self.kv_bytes(dtype, tensor_parallel) * block)) * block


def _values(model: Any) -> Mapping[str, Any]:
    """Return what a configuration says."""
    if isinstance(model, Mapping):
        return model
    if hasattr(model, "to_dict"):
        values: Mapping[str, Any] = model.to_dict()
        return values
    file = Path(str(model)) / "config.json"
    if file.exists():
        read: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        return read
    try:
        from transformers import AutoConfig

        return _values(AutoConfig.from_pretrained(str(model)))
    except (ImportError, OSError, ValueError) as error:
        raise TrainingError(f"plan: reading the configuration of {model}: {error}") from error
