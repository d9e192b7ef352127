"""Tiny models of transformers, random and made on the spot, over the tokenizer of tokens.py."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swebench_lab.agents.flavour import Flavour
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import force
from swebench_lab.records.trajectory import Trajectory
from tests.tokens import CONTROL, PairTokenizer


def tiny_model(kind: str = "qwen3", seed: int = 0, context: int = 2048, vocab: int = 0) -> Any:
    """Return a random model of about 30,000 weights, in fp32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": vocab or len(PairTokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": context,
        "initializer_range": 0.3,  # sharp enough to have an opinion
        "bos_token_id": None,
        "eos_token_id": 256,
        "pad_token_id": 256,
        "tie_word_embeddings": False,
    }
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape)).eval()
    return Qwen3ForCausalLM(Qwen3Config(**shape)).eval()


SHORT = Flavour(
    "short",
    "fenced",
    ("bash", "submit"),
    system="You repair code with bash.",
    instance="{{issue}}",
    observation="{{observation}}",
    format_error="Nothing was run. {{problem}} Write one bash block.",
)
"""A flavour whose prompts fit a very small model."""

COMMANDS = (
    "ls",
    "pwd",
    "cat a.py",
    "head -3 b.py",
    "wc -l a.py b.py",
    "git status -s",
    "grep -n x a.py",
    "ls -la | head -5",
)


def bpe_tokenizer(texts: Sequence[str], size: int = 512) -> Any:
    """Return a byte-level BPE tokenizer of transformers, trained on texts, with ChatML's control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(CONTROL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    made.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return made


def teach(folder: Path, taught: Sequence[Trajectory], steps: int = 90, seed: int = 0, batch: int = 8) -> float:
    """Make a small model, teach it what others said, and save it with its tokenizer; return the last loss.

    The model has heads of width 64 and no shared tensors, which is what vLLM's CPU build can serve and update.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    texts = [message["content"] for trajectory in taught for message in trajectory.messages]
    tokenizer = bpe_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    renderer = Renderer.of(tokenizer)
    rows = [segment for trajectory in taught for segment in force(trajectory, renderer)]
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=64, max_position_embeddings=4096,
            tie_word_embeddings=False, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    dice, loss = random.Random(seed), torch.zeros(())
    for step in range(steps):
        chosen = dice.sample(rows, min(batch, len(rows)))
        longest = max(len(row) for row in chosen)
        ids = torch.tensor([[*row.ids, *[0] * (longest - len(row))] for row in chosen])
        wanted = [[i if m else -100 for i, m in zip(row.ids, row.mask, strict=True)] for row in chosen]
        labels = torch.tensor([[*row, *[-100] * (longest - len(row))] for row in wanted])
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 10) * (1 - step / steps)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return float(loss)
