"""The engine `async`: attempts go on while the model trains, on TRL's AsyncGRPOTrainer and a rollout worker of ours.

A copy of the model answers in this process and takes over the trainer's weights between two batches, or servers answer
that the weights are brought to while their replies go on. Needs TRL 1.16: the trainer and
its worker's protocol are experimental there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from swebench_lab._compat import trained_groups
from swebench_lab.training.engines.busy import TRAINING, Busy
from swebench_lab.training.engines.follower import Follower
from swebench_lab.training.engines.rollout_worker import Worker
from swebench_lab.training.engines.run import Run
from swebench_lab.training.engines.watch import watching
from swebench_lab.training.model.models import adapter, frozen_type, masters_in_float32
from swebench_lab.training.model.processes import is_main, last_checkpoint, shared
from swebench_lab.training.model.varlen import without_flash_attention
from swebench_lab.training.options.capabilities import ASYNC
from swebench_lab.training.options.settings import GRPOSettings, UpdateSize


class AsyncEngine:
    """Attempts and training overlap."""

    capabilities = ASYNC

    def build(self, run: Run, tokenizer: Any) -> Any:
        """Return TRL's AsyncGRPOTrainer with our worker and weight transfer."""
        from datasets import Dataset

        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        without_flash_attention()
        settings = run.settings
        config = arguments(settings, run.size, run.temperature)  # accelerate gives each process its GPU here
        policy = run.policy.in_training(run.temperature) if is_main() else None
        run.note_sampling(policy)
        trainer = _following_trainer()(
            model=run.base(),
            args=config,
            train_dataset=Dataset.from_list([{"prompt": task.id} for task in run.tasks]),
            processing_class=tokenizer,
            peft_config=adapter(settings.lora),
            rollout_worker=Worker(run, policy) if policy else None,
            weight_transfer=_Elsewhere(),
            reward_funcs=[],
            callbacks=run.callbacks(),
        )
        masters_in_float32(trainer.model)
        sink = policy.sink() if policy else None
        trainer.follower = Follower(sink, run.probe_prompt(), partial(_scores, trainer), run.folder / "adapters")
        trainer.clip_max, trainer.busy = settings.vllm_importance_sampling_clip_max, run.busy
        if policy is not None:
            trainer.add_callback(_cursor_callback(trainer, trainer.rollout_worker))
        for callback in watching(run.watch, run.folder, run.table.note, run.size.steps, lambda *_: policy):
            trainer.add_callback(callback)  # after TRL's own, which bring the weights to the policy
        return trainer

    def train(self, run: Run, trainer: Any) -> None:
        """Train to the end, from the last checkpoint where there is one."""
        checkpoint = last_checkpoint(run.folder)
        if checkpoint:
            version = shared(lambda: int(trainer.rollout_worker.restore(Path(checkpoint))))
            trainer.model_version = version
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            trainer.follower.close()


def arguments(settings: GRPOSettings, size: UpdateSize, temperature: float) -> Any:
    """Return TRL's AsyncGRPOConfig.

    Args:
        settings: How to train.
        size: How an update is shared out among the processes.
        temperature: Sampling temperature of the attempts.
    """
    import torch
    from trl.experimental.async_grpo import AsyncGRPOConfig

    on_gpu = torch.cuda.is_available()
    values: dict[str, Any] = {
        "output_dir": settings.output_dir,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_steps": settings.updates,
        "num_generations": settings.num_generations,
        "per_device_train_batch_size": settings.per_device_train_batch_size,
        "gradient_accumulation_steps": size.accumulation,
        "max_completion_length": settings.max_completion_length or settings.max_length,
        "temperature": temperature,
        "epsilon": settings.epsilon,
        "epsilon_high": settings.epsilon_high,
        "token_budget": 0,
        "max_staleness": settings.max_staleness,
        "weight_sync_steps": 1,
        "dtype": frozen_type(settings.dtype, settings.lora) or "float32",
        "bf16": on_gpu and settings.dtype != "float32",
        "use_cpu": not on_gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        "save_total_limit": 2,
        "report_to": settings.report_to,
        "seed": settings.seed,
    }
    return AsyncGRPOConfig(**{**values, **settings.options})


class _Selected:
    """Values at the tokens of a batch, where the trainer looks them up."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def flatten(self) -> _Selected:
        return self

    def __getitem__(self, _: Any) -> Any:
        return self._values


class _Outputs:
    """A model's outputs with other logprobs."""

    def __init__(self, outputs: Any, log_probs: Any) -> None:
        self._outputs = outputs
        self.log_probs = _Selected(log_probs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outputs, name)


class _Elsewhere:
    """Stands where TRL expects a way for weights: they travel by the trainer's Follower."""

    def init_weight_transfer(self) -> None:
        """The Follower sets up its way at the first update."""

    def destroy(self) -> None:
        """The Follower releases it."""


def _scores(trainer: Any, model: Any, ids: Sequence[int]) -> list[float]:
    """Return the trainer's logprob of each id of a row but the first, by the very path that its loss takes."""
    import torch
    from trl.experimental.async_grpo.packing import TreeRow

    row = TreeRow()
    whole = np.ones(len(ids), "int64")
    row.add({"input_ids": np.asarray(ids, "int64"), "completion_mask": whole, "old_log_probs": whole * 0.0,
             "advantage": 0.0, "group_id": 0})  # fmt: skip
    tensors = {name: value.to(trainer.accelerator.device) for name, value in row.pack().items()}
    longest = tensors.pop("tree_max_seqlens").tolist()
    tree = {name: tensors[name] for name in ("tree_kv_index", "tree_cu_seqlens_q", "tree_cu_seqlens_k")}
    tree |= {"tree_max_seqlen_q": longest[0], "tree_max_seqlen_k": longest[1]}
    rows = {name: tensors[name][None] for name in ("input_ids", "position_ids", "shift_labels")}
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), trainer.accelerator.autocast():
            outputs = trainer.model(**rows, fused_lm_head=True, **tree)
    finally:
        model.train(training)
    return [float(value) for value in outputs.log_probs.flatten()[tensors["token_index"]]]


def _following_trainer() -> Any:
    """Return AsyncGRPOTrainer whose weights travel by a Follower, with a cap on every token's importance ratio."""
    import math

    import torch
    from trl.experimental.async_grpo import AsyncGRPOTrainer

    class FollowingTrainer(AsyncGRPOTrainer):
        """Cuts the ratio of a token at `clip_max`, which TRL leaves open to one side; what is cut has no gradient."""

        clip_max = math.inf
        model_version: int
        busy: Busy | None = None
        follower: Follower

        def _sync_weight(self) -> None:
            version = self.model_version + 1
            self.follower.bring(self.accelerator.unwrap_model(self.model), version)
            self._metrics["train"]["perf/weight_sync_s"].append(self.follower.seconds[-1])
            if self.follower.gaps:
                self._metrics["train"]["probe/logp_difference_max"].append(self.follower.gaps[-1])
            self.model_version = version
            if self.accelerator.is_main_process:
                self.rollout_worker.update_model_version(version)

        def training_step(self, *given: Any, **options: Any) -> Any:
            with self.busy.doing(TRAINING) if self.busy else nullcontext():
                return super().training_step(*given, **options)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            mask = inputs["token_index"] >= 0
            places, old = inputs["token_index"][mask], inputs["old_log_probs"][mask]

            def forward(**given: Any) -> _Outputs:
                outputs = model(**given)
                log_probs = outputs.log_probs.flatten()[places]
                gap = log_probs.detach() - old
                self._metrics["train"]["sampling/sampling_logp_difference/max"].append(float(gap.abs().max()))
                return _Outputs(outputs, old + torch.clamp(log_probs - old, max=math.log(self.clip_max)))

            return super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)

    return FollowingTrainer


def _cursor_callback(trainer: Any, worker: Worker) -> Any:
    from transformers import TrainerCallback

    class Cursor(TrainerCallback):
        """Saves the worker's cursor with every checkpoint."""

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            worker.save(folder, trained_groups(trainer))

    return Cursor()
