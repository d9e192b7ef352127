"""Tiny: a model of about a million parameters and its tokenizer, made from nothing in a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_PIECES = r"@\d+|\d+|\n *| (?:in|if|for|or|and|=) |_[A-Za-z]+| ?[A-Za-z]+| [<>=!+*/%-]+|[^\w\s@]+|\s+|_|@"
"""Words of code; a number, and an operator between spaces, is the same token wherever it stands."""


def make_tiny_model(
    folder: str | Path,
    texts: Iterable[str] | None = None,
    *,
    hidden: int = 128,
    layers: int = 4,
    heads: int = 4,
    vocabulary: int = 1024,
    length: int = 512,
    seed: int = 0,
) -> Path:
    """Write a small random Qwen3 and a byte-level tokenizer trained on texts into a folder.

    Args:
        folder: Where to.
        texts: What the tokenizer is trained on; None: demonstrations of training families.
        hidden: Width.
        layers: Depth.
        heads: Attention heads.
        vocabulary: Most tokens; bytes and the six control tokens are always among them.
        length: Longest conversation, in tokens.
        seed: Of the weights.

    Returns:
        The folder.

    Raises:
        TrainingError: torch or transformers is not there.
    """
    try:
        import torch
        from transformers import Qwen3Config, Qwen3ForCausalLM
    except ImportError as error:
        raise TrainingError(f"making a model needs {error.name}: pip install 'swebench-lab[train]'") from error

    from swebench_lab.training.data.demonstrations import texts_for_tokenizer

    tokenizer = train_tokenizer(texts_for_tokenizer() if texts is None else texts, vocabulary)
    stop, filler = tokenizer.convert_tokens_to_ids(["<|end|>", "<|pad|>"])
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        initializer_range=0.06,
        eos_token_id=stop,
        pad_token_id=filler,
        bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )
    model = Qwen3ForCausalLM(config).float()
    for layer in model.model.layers:  # what a head looks at passes through it as it is, so copying need not be found
        for projection in (layer.self_attn.v_proj, layer.self_attn.o_proj):
            projection.weight.data += 0.7 * torch.eye(hidden)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1024) -> Any:
    """Return a tokenizer of transformers: byte-level pairs within words, numbers and runs of punctuation."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[2:]),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
