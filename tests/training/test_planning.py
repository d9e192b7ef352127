"""The plan counts what there is: parameters, what a backward pass keeps, and vLLM's own figure for keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.experiments.recipes import describe
from swebench_lab.training.model.memory import Training, activations
from swebench_lab.training.model.shape import Shape

SMALL = {"hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 160, "vocab_size": 300, "max_position_embeddings": 512}  # fmt: skip
KINDS = [
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("mistral", {"head_dim": 32}),
    ("qwen2", {"tie_word_embeddings": False}),
    ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
]
QWEN = {
    "3B": {"hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
           "intermediate_size": 11008, "vocab_size": 151936, "tie_word_embeddings": True},
    "7B": {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
           "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False},
    "32B": {"hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8,
            "intermediate_size": 27648, "vocab_size": 152064, "tie_word_embeddings": False},
}  # fmt: skip
"""Configurations of Qwen2.5-Coder-Instruct, which the presets of GPUs train."""
PLACEMENTS = {
    "gpu": lab.Placement(colocated=True, share=0.4),
    "gpus": lab.Placement(trainers=4, sharded=True, replicas=4),
    "nodes": lab.Placement(trainers=8, sharded=True, replicas=4, tensor_parallel=2),
}


def qwen(size: str) -> dict[str, Any]:
    return {"model_type": "qwen2", **QWEN[size]}


def model_of(kind: str, more: dict[str, Any]) -> Any:
    torch = pytest.importorskip("torch", reason="needs the extra 'train'")
    transformers = pytest.importorskip("transformers", reason="needs the extra 'train'")
    config = transformers.AutoConfig.for_model(kind, **SMALL, **more)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.mark.parametrize(("kind", "more"), KINDS)
def test_parameters_are_those_of_the_model(kind: str, more: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    model = model_of(kind, more)
    shape = Shape.of(model.config)
    assert shape.parameters == sum(weights.numel() for weights in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapter(4) == adapted.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize(("kind", "more"), [case for case in KINDS if not case[1].get("mlp_bias")])
@pytest.mark.parametrize("rank", [0, 4])
def test_activations_are_what_the_backward_pass_keeps(kind: str, more: dict[str, Any], rank: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    model = model_of(kind, more)
    shape, length = Shape.of(model.config), 256
    if rank:
        model = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    own = {weights.untyped_storage().data_ptr() for weights in model.parameters()}
    kept: dict[int, Any] = {}

    def pack(value: Any) -> Any:
        place = value.untyped_storage().data_ptr()
        if place not in own and value.is_floating_point():
            kept[place] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        model.get_base_model().model(torch.arange(length)[None]) if rank else model.model(torch.arange(length)[None])
    measured = sum(value.untyped_storage().nbytes() for value in kept.values())
    counted = activations(shape, Training(rank=rank, frozen="float32", rows=1, length=length, gpu=False))
    assert counted == pytest.approx(measured, rel=0.05)


def test_keys_and_values_are_as_many_as_vllm_says() -> None:
    """Its log at VLLM_CPU_KVCACHE_SPACE=1, float32, blocks of 128: see also test_served.py, which asks a running one."""
    tiny = Shape("qwen3", 2, 128, 2, 2, 64, 384, 817, True)
    smol = Shape("llama", 30, 576, 9, 3, 64, 1536, 49152, True)
    assert tiny.kv_tokens(1 << 30, "float32", block=128) == 524_288
    assert smol.kv_tokens(1 << 30, "float32", block=128) == 23_296
    assert smol.kv_bytes("bfloat16", 2) * 3 == smol.kv_bytes("bfloat16") * 2  # three heads on two GPUs: two and one


@pytest.mark.parametrize(("preset", "size"), [("gpu", "3B"), ("gpus", "7B"), ("nodes", "32B")])
def test_what_a_preset_asks_of_its_gpus_fits(preset: str, size: str) -> None:
    from swebench_lab.experiments.launch import settings

    values = describe("grpo").values(preset, {"run_dir": "x"})
    assert str(values["model"]).endswith(f"Coder-{size}-Instruct")
    placement = PLACEMENTS[preset]
    assert values["replicas"] == placement.replicas and values["trainers"] == placement.trainers
    assert values["tensor_parallel"] == placement.tensor_parallel
    plan = lab.plan(qwen(size), placement, lab.GRPOSettings(**settings(values, lab.GRPOSettings)))
    assert plan.rows_at_once >= 8  # else servers would do one attempt after the other
    assert plan.placement.gpus == {"gpu": 1, "gpus": 8, "nodes": 16}[preset]


@pytest.mark.parametrize(("preset", "size", "trainers"), [("gpu", "3B", 1), ("gpus", "7B", 8), ("nodes", "32B", 16)])
def test_what_a_preset_of_sft_asks_of_its_gpus_fits(preset: str, size: str, trainers: int) -> None:
    from swebench_lab.experiments.launch import settings

    values = describe("sft").values(preset, {"run_dir": "x"})
    assert values["trainers"] == trainers
    placement = lab.Placement(trainers=trainers, sharded=trainers > 1, replicas=0)
    assert lab.plan(qwen(size), placement, lab.SFTSettings(**settings(values, lab.SFTSettings))).fits


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    settings = lab.GRPOSettings(max_length=20480, per_device_train_batch_size=1, gradient_checkpointing=True)
    with pytest.raises(TrainingError, match=r"needs 82\.4 .*optimiser 23\.0.*it fits with lora=32"):
        lab.plan(qwen("3B"), lab.Placement(colocated=True, share=0.25), settings)
    long = lab.GRPOSettings(max_length=40960, lora=32, per_device_train_batch_size=1, gradient_checkpointing=True)
    with pytest.raises(TrainingError, match=r"room for the keys and values of \d+ tokens.*tensor_parallel=2"):
        lab.plan(qwen("32B"), lab.Placement(trainers=16, sharded=True), long)
    shown = lab.plan(qwen("3B"), lab.Placement(replicas=0), settings, refuse=False)
    assert not shown.fits and "sampler" in shown.parts["trainer"] and "does not fit" in repr(shown)
    assert "optimiser" in shown._repr_html_() and shown.to_frame()["gib"].sum() > 80


def test_what_is_not_counted_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="model_type='mixtral'"):
        lab.plan({"model_type": "mixtral"})
    with pytest.raises(TrainingError, match="reading the configuration"):
        lab.plan(tmp_path)
    with pytest.raises(TrainingError, match="muon"):
        lab.plan(qwen("3B"), None, lab.GRPOSettings(muon=True))
    with pytest.raises(TrainingError, match="optimiser 'lomo'"):
        lab.plan(qwen("3B"), None, lab.GRPOSettings(options={"optim": "lomo"}))
    with pytest.raises(ValueError, match="more GPUs than the trainers"):
        lab.Placement(colocated=True, replicas=2)
