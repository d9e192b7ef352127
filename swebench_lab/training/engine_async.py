"""The engine `async`: attempts go on while the model trains, on TRL's AsyncGRPOTrainer and a rollout worker of ours.

A copy of the model answers, and takes over the trainer's weights between two batches. Needs TRL 1.16: the trainer and
its worker's protocol are experimental there.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from swebench_lab._compat import trained_groups
from swebench_lab.training.busy import SAMPLING, TRAINING, Busy
from swebench_lab.training.capabilities import ASYNC
from swebench_lab.training.models import adapter, load_model, save_model
from swebench_lab.training.processes import is_main, last_checkpoint, together
from swebench_lab.training.rollout_worker import Transfer, Worker
from swebench_lab.training.run import Run
from swebench_lab.training.settings import GRPOSettings, UpdateSize
from swebench_lab.training.varlen import without_flash_attention
from swebench_lab.training.watch import trained


class AsyncEngine:
    """Attempts and training overlap."""

    capabilities = ASYNC

    def build(self, run: Run, tokenizer: Any) -> Any:
        """Return TRL's AsyncGRPOTrainer with our worker and weight transfer."""
        from datasets import Dataset

        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        without_flash_attention()
        settings, start = run.settings, run.folder / "start"
        with together().main_process_first():
            if is_main():
                save_model(load_model(run.policy), tokenizer, start)
        policy = trained(run.policy, load_model(run.policy).eval(), tokenizer, settings.temperature)
        policy.sampler.on_batch = partial(run.busy.add, SAMPLING)
        worker = Worker(run, policy)
        trainer = _capped_trainer()(
            model=str(start),
            args=arguments(settings, run.size, run.temperature),
            train_dataset=Dataset.from_list([{"prompt": task.id} for task in run.tasks]),
            processing_class=tokenizer,
            peft_config=adapter(settings.lora),
            rollout_worker=worker,
            weight_transfer=Transfer(policy),
            reward_funcs=[],
            callbacks=run.callbacks(),
        )
        trainer.clip_max, trainer.busy = settings.vllm_importance_sampling_clip_max, run.busy
        trainer.add_callback(_cursor_callback(trainer, worker))
        return trainer

    def train(self, run: Run, trainer: Any) -> None:
        """Train to the end, from the last checkpoint where there is one."""
        checkpoint = last_checkpoint(run.folder)
        if checkpoint:
            trainer.rollout_worker.restore(Path(checkpoint))
            trainer.model_version = trainer.rollout_worker.version
        trainer.train(resume_from_checkpoint=checkpoint)


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
    given: dict[str, Any] = {
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
        "dtype": settings.dtype or ("bfloat16" if on_gpu else "float32"),
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        "save_total_limit": 2,
        "report_to": settings.report_to,
        "seed": settings.seed,
    }
    return AsyncGRPOConfig(**{**given, **settings.options})


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


def _capped_trainer() -> Any:
    """Return AsyncGRPOTrainer with a cap on every token's importance ratio, which TRL leaves open to one side."""
    import math

    import torch
    from trl.experimental.async_grpo import AsyncGRPOTrainer

    class CappedTrainer(AsyncGRPOTrainer):  # type: ignore[misc]
        """Cuts the ratio of a token at `clip_max`; what is cut has no gradient."""

        clip_max = math.inf
        busy: Busy | None = None

        def training_step(self, *given: Any, **options: Any) -> Any:
            with self.busy.doing(TRAINING) if self.busy else nullcontext():
                return super().training_step(*given, **options)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            chosen = inputs["token_index"] >= 0
            places, old = inputs["token_index"][chosen], inputs["old_log_probs"][chosen]

            def forward(**given: Any) -> _Outputs:
                outputs = model(**given)
                log_probs = outputs.log_probs.flatten()[places]
                gap = log_probs.detach() - old
                self._metrics["train"]["sampling/sampling_logp_difference/max"].append(float(gap.abs().max()))
                return _Outputs(outputs, old + torch.clamp(log_probs - old, max=math.log(self.clip_max)))

            return super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)

    return CappedTrainer


def _cursor_callback(trainer: Any, worker: Worker) -> Any:
    from transformers import TrainerCallback

    class Cursor(TrainerCallback):  # type: ignore[misc]
        """Saves the worker's cursor with every checkpoint."""

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            worker.save(folder, trained_groups(trainer))

    return Cursor()
