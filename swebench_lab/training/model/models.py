"""Models: loads what is trained, with its tokenizer and adapter, and writes what was trained."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.policies.sampling import widen_head
from swebench_lab.policies.trainable import is_trainable
from swebench_lab.training.model.processes import is_main

_log = logging.getLogger(__name__)


def load_tokenizer(source: Any) -> Any:
    """Return the tokenizer of a folder, a hub id or a policy.

    Raises:
        TrainingError: It cannot be loaded, or torch and transformers are not there.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise TrainingError("training needs torch, transformers and trl: pip install 'swebench-lab[train]'") from error
    if is_trainable(source):
        return source.load_tokenizer()
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        raise TrainingError(f"training: loading the tokenizer of {source}: {error}") from error


def load_model(source: Any, *, frozen: str = "", load_in_4bit: bool = False) -> Any:
    """Return a model to train, on the CPU or where the policy's own copy lies.

    Weights that are trained are float32: at the learning rates of reinforcement a step is smaller than half the last
    place of most bfloat16 weights, and would round to nothing.

    Args:
        source: A policy, whose model is copied; or a folder or hub id.
        frozen: Type of the weights where an adapter is trained beside them, such as `bfloat16`; empty: float32.
        load_in_4bit: Whether the weights are loaded in 4 bits, for an adapter beside them.

    Raises:
        TrainingError: It cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    kind = getattr(torch, frozen or "float32")
    policy = source if is_trainable(source) else None
    origin = policy.source if policy else source
    revision = getattr(policy, "revision", "") if isinstance(origin, str) and not Path(origin).exists() else ""
    if not isinstance(origin, str | Path):
        return copy.deepcopy(origin).to(kind)  # the policy stays as it is, for comparison
    more: dict[str, Any] = {"revision": revision} if revision else {}
    if load_in_4bit:
        from transformers import BitsAndBytesConfig

        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
        kind = torch.bfloat16
    try:
        model = AutoModelForCausalLM.from_pretrained(str(origin), dtype=kind, **more)
    except (OSError, ValueError) as error:
        raise TrainingError(f"training: loading the model {origin}: {error}") from error
    if head := getattr(policy, "head", ""):
        widen_head(model, head)
    return model


def frozen_type(dtype: str, lora: Any) -> str:
    """Return the type of weights that are not trained: as the setting says, else bfloat16 on a GPU; empty: none are."""
    import torch

    if not lora:
        return ""
    return dtype or ("bfloat16" if torch.cuda.is_available() else "float32")


def masters_in_float32(model: Any) -> Any:
    """Turn the weights of a model that are trained into float32, whatever made them otherwise; return the model."""
    import torch

    for weights in model.parameters():
        if weights.requires_grad and weights.dtype != torch.float32:
            weights.data = weights.data.float()
    return model


def adapter(lora: int | Mapping[str, Any]) -> Any:
    """Return the LoRA configuration for a rank or options; None when all weights are trained."""
    if not lora:
        return None
    from peft import LoraConfig

    options = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else dict(lora)
    return LoraConfig(**{"target_modules": "all-linear", "task_type": "CAUSAL_LM", **options})


def save_model(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Write a model with its tokenizer, on the first process only; return the folder."""
    if is_main():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def absolute(source: Any) -> str:
    """Return a folder's whole path, or a hub id as it is: what finds a model from wherever it is asked for."""
    path = Path(str(source))
    return str(path.resolve()) if path.is_dir() else str(source)


def save_trained(trainer: Any, tokenizer: Any, folder: Path, *, base: str, merge: bool = True) -> Path:
    """Write what a trainer of transformers trained; weights that are sharded over processes are gathered.

    Args:
        trainer: Whose model it is.
        tokenizer: Its tokenizer.
        folder: Where to.
        base: Folder or hub id of the model that an adapter belongs to; named in the adapter by its whole path.
        merge: Whether an adapter is merged into the model; else it is written alone.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    configs = getattr(model, "peft_config", None)
    for config in (configs or {}).values():
        config.base_model_name_or_path = absolute(base)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        trainer.save_model(str(folder))  # all processes take part
        if is_main():
            tokenizer.save_pretrained(folder)
            if configs and merge:
                _merge_adapter(folder)
        return folder
    return save_model(model.merge_and_unload() if configs and merge else model, tokenizer, folder)


def _merge_adapter(folder: Path) -> None:
    """Replace an adapter in a folder by its base model with the adapter merged into it."""
    import torch
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).merge_and_unload()
    for file in folder.glob("adapter_*"):
        file.unlink()
    model.save_pretrained(folder)
