"""What is trained is float32 and learns from the first update on; adapters load from anywhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from tests.training import ground
from tests.training.test_engines import grpo

torch = ground.torch
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def sandboxes() -> Any:
    with lab.SandboxFactory("namespace") as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights lie in bfloat16, as those of real models do."""
    from transformers import AutoModelForCausalLM

    source = ground.tiny(str(tmp_path_factory.mktemp("tiny")))
    short = tmp_path_factory.mktemp("bf16") / "tiny"
    shutil.copytree(source, short)
    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(short)
    return short


def weights(source: Any) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32) if isinstance(source, Path) else source
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> float:
    """The share of weights that are not what they were."""
    moved = sum(int((before[name] != after[name]).sum()) for name in before)
    return moved / sum(value.numel() for value in before.values())


def test_at_small_learning_rates_as_many_weights_change_as_in_plain_float32_trl(
    folder: Path, sandboxes: Any, tmp_path: Path
) -> None:
    from trl import GRPOConfig, GRPOTrainer

    from swebench_lab.training.engines.engine_sync import SyncEngine

    small = {"learning_rate": 1e-6, "updates": 4, "warmup_steps": 0}
    answering = lab.LocalPolicy(folder, max_tokens=6)
    assert answering.model.dtype == torch.bfloat16
    run = grpo(folder, sandboxes, tmp_path / "ours", policy=answering, **small).begin(ground.micro())
    trainer = SyncEngine().build(run, answering.load_tokenizer())
    attempts, made = trainer.rollout_func, []
    trainer.rollout_func = lambda prompts, own: made.append((list(prompts), attempts(prompts, own))) or made[-1][1]
    before = weights(trainer.model)
    trainer.train()
    ours = changed(before, weights(trainer.model))

    replayed = iter(made)

    def replay(prompts: list[str], _: Any) -> Any:
        asked, rows = next(replayed)
        assert prompts == asked
        return rows

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain = GRPOTrainer(
        model=model,
        reward_funcs=[lambda outcome, **_: outcome],
        args=GRPOConfig(output_dir=str(tmp_path / "plain"), learning_rate=1e-6, lr_scheduler_type="constant", max_steps=4,
                        num_generations=4, per_device_train_batch_size=4, gradient_accumulation_steps=2,
                        steps_per_generation=2, max_completion_length=run.settings.max_length, bf16=False, use_cpu=True,
                        beta=0.0, report_to="none", save_strategy="no", logging_steps=1, seed=0, data_seed=0,
                        gradient_checkpointing=False),
        train_dataset=trainer.train_dataset,
        processing_class=answering.load_tokenizer(),
        rollout_func=replay,
    )  # fmt: skip
    start = weights(plain.model)
    plain.train()
    theirs = changed(start, weights(plain.model))
    print(f"\n{ours:.2%} of the weights changed in four updates, in plain TRL {theirs:.2%}")
    assert theirs > 0.9
    assert ours == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize("engine", ["sync", "async"])
def test_the_first_update_learns_and_the_trained_weights_are_float32(
    folder: Path, sandboxes: Any, tmp_path: Path, engine: str
) -> None:
    answering = lab.LocalPolicy(folder, max_tokens=6)
    run = grpo(folder, sandboxes, tmp_path, policy=answering, engine=engine, learning_rate=1e-6, updates=1)
    run.fit(ground.micro())
    assert run.settings.warmup_steps == 2
    assert run.table.to_frame()["learning_rate"][0] == pytest.approx(5e-7)
    assert {value.dtype for value in run.trainer.model.parameters()} == {torch.float32}
    final = tmp_path / "final"
    assert changed(weights(folder), weights(final)) > 0.9


@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_loads_from_anywhere(
    folder: Path, sandboxes: Any, tmp_path: Path, merge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    answering = lab.LocalPolicy(folder.name, max_tokens=6)  # by a path that means nothing elsewhere
    run = grpo(folder, sandboxes, tmp_path / "run", policy=answering, lora=4, learning_rate=1e-2, merge_lora=merge)
    run.fit(ground.micro())
    monkeypatch.chdir("/")
    kept = lab.LocalPolicy(tmp_path / "run" / "final", dtype="float32")
    assert (tmp_path / "run" / "final" / "adapter_config.json").exists() is not merge
    ids = answering.load_tokenizer()("a wrong sum")["input_ids"]
    trained = run.trainer.model
    own = lab.LocalPolicy(trained, kept.load_tokenizer()).logprobs(ids)
    assert abs(kept.logprobs(ids) - own).max() < 1e-4
    assert abs(lab.LocalPolicy(folder, dtype="float32").logprobs(ids) - own).max() > 1e-4


def test_sampling_from_a_sharded_model_is_refused_and_does_not_hang(
    folder: Path, sandboxes: Any, tmp_path: Path
) -> None:
    from swebench_lab.training.engines.engine_sync import _Attempts

    run = grpo(folder, sandboxes, tmp_path).begin(ground.micro())
    for sharded in ("is_fsdp_enabled", "is_deepspeed_enabled"):
        trainer = SimpleNamespace(**{"is_fsdp_enabled": False, "is_deepspeed_enabled": False, sharded: True})
        with pytest.raises(TrainingError, match=r"lab\.serve\(…, updates=True\)"):
            _Attempts(run).wire(trainer, None)


def test_processes_have_their_device_before_a_model_is_loaded(
    folder: Path, sandboxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM

    seen: list[bool] = []
    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained",
        lambda *given, **more: (seen.append(bool(PartialState._shared_state)), load(*given, **more))[1],
    )  # fmt: skip
    for engine in ("sync", "async"):
        PartialState._reset_state()
        grpo(folder, sandboxes, tmp_path / engine, policy=lab.LocalPolicy(folder, max_tokens=6), engine=engine).fit(
            ground.micro()
        )
    assert len(seen) >= 2 and all(seen)
