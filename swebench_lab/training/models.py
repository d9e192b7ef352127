"""Models: loads what is trained, with its tokenizer and adapter, and writes what was trained."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.training.processes import is_main

_log = logging.getLogger(__name__)


def load_tokenizer(source: Any) -> Any:
    """Return the tokenizer of a folder, a hub id or a LocalPolicy.

    Raises:
        TrainingError: It cannot be loaded, or torch and transformers are not there.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise TrainingError("training needs torch, transformers and trl: pip install 'swebench-lab[train]'") from error
    if isinstance(source, LocalPolicy):
        return source.renderer.tokenizer
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        raise TrainingError(f"training: loading the tokenizer of {source}: {error}") from error


def load_model(source: Any, dtype: str = "", load_in_4bit: bool = False) -> Any:
    """Return a model to train.

    Args:
        source: A LocalPolicy, whose model is copied; or a folder or hub id.
        dtype: Type of the weights; empty: a policy's own, else float32 on a CPU and bfloat16 on a GPU.
        load_in_4bit: Whether the weights are loaded in 4 bits.

    Raises:
        TrainingError: It cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if isinstance(source, LocalPolicy):
        model = copy.deepcopy(source.model)  # the policy stays as it is, for comparison
        return model.to(getattr(torch, dtype)) if dtype else model
    kind = getattr(torch, dtype) if dtype else torch.bfloat16 if torch.cuda.is_available() else torch.float32
    more: dict[str, Any] = {}
    if load_in_4bit:
        from transformers import BitsAndBytesConfig

        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind
        )
    try:
        return AutoModelForCausalLM.from_pretrained(str(source), dtype=kind, **more)
    except (OSError, ValueError) as error:
        raise TrainingError(f"training: loading the model {source}: {error}") from error


def adapter(lora: int | Mapping[str, Any]) -> Any:
    """Return the LoRA configuration for a rank or options; None when all weights are trained."""
    if not lora:
        return None
    from peft import LoraConfig

    options = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else dict(lora)
    return LoraConfig(**{"target_modules": "all-linear", "task_type": "CAUSAL_LM", **options})


def save_model(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a model with its tokenizer, an adapter merged into it, on the first process only; return the folder."""
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if is_main():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def save_trained(trainer: Any, tokenizer: Any, folder: Path) -> Path:
    """Write what a trainer of transformers trained; weights that are sharded over processes are gathered.

    With sharded weights an adapter is written alone, not merged.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        trainer.save_model(str(folder))  # all processes take part
        if is_main():
            tokenizer.save_pretrained(folder)
        return folder
    return save_model(trainer.accelerator.unwrap_model(trainer.model), tokenizer, folder)
