"""The engine `sync`: all attempts of an update, then its training, on TRL's GRPOTrainer and its `rollout_func`.

TRL hands over prompts only, so a task travels as its id. Attempts run on rank 0 for all ranks, whatever their
lengths, and each rank is given those of its own prompts. TRL corrects for the difference between sampler and trainer
only where it thinks that vLLM samples, which `_compat.correct_for_sampler` lets it think.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from swebench_lab._compat import correct_for_sampler
from swebench_lab.errors import TrainingError
from swebench_lab.training.batches import Sample
from swebench_lab.training.busy import SAMPLING, TRAINING
from swebench_lab.training.capabilities import SYNC
from swebench_lab.training.models import adapter, load_model
from swebench_lab.training.muon import muon
from swebench_lab.training.processes import last_checkpoint
from swebench_lab.training.run import Run
from swebench_lab.training.settings import GRPOSettings, UpdateSize
from swebench_lab.training.watch import answering, trained

if TYPE_CHECKING:
    from swebench_lab.policies.local import LocalPolicy


class SyncEngine:
    """Attempts and training take turns."""

    capabilities = SYNC

    def build(self, run: Run, tokenizer: Any) -> Any:
        """Return TRL's GRPOTrainer, wired to a run's attempts."""
        from datasets import Dataset

        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        settings = run.settings
        attempts, model = _Attempts(run), load_model(run.policy, settings.dtype)
        optimizer = (
            muon(model, lr=settings.learning_rate, weight_decay=settings.weight_decay) if settings.muon else None
        )
        trainer = _sparing_trainer()(
            model=model,
            reward_funcs=[_reward],
            args=arguments(settings, run.size, run.temperature),
            train_dataset=Dataset.from_list([{"prompt": task.id} for task in run.tasks]),
            processing_class=tokenizer,
            rollout_func=attempts,
            peft_config=adapter(settings.lora),
            optimizers=(optimizer, None),
            callbacks=[_training(run, attempts), *run.callbacks()],
        )
        bare = trainer.accelerator.unwrap_model(trainer.model)
        attempts.policy = trained(run.policy, bare, tokenizer, settings.temperature)
        attempts.policy.sampler.on_batch = partial(run.busy.add, SAMPLING)
        correct_for_sampler(trainer)
        return trainer

    def train(self, run: Run, trainer: Any) -> None:
        """Train to the end, from the last checkpoint where there is one."""
        trainer.train(resume_from_checkpoint=last_checkpoint(run.folder))


def arguments(settings: GRPOSettings, size: UpdateSize, temperature: float) -> Any:
    """Return TRL's GRPOConfig.

    Args:
        settings: How to train.
        size: How an update is shared out among the processes.
        temperature: Sampling temperature of the attempts.
    """
    import torch
    from trl import GRPOConfig

    on_gpu = torch.cuda.is_available()
    given: dict[str, Any] = {
        "output_dir": settings.output_dir,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "max_steps": settings.updates * size.steps,
        "num_generations": settings.num_generations,
        "num_iterations": settings.num_iterations,
        "per_device_train_batch_size": settings.per_device_train_batch_size,
        "gradient_accumulation_steps": size.accumulation,
        "steps_per_generation": size.batches,
        "max_completion_length": settings.max_completion_length or settings.max_length,
        "temperature": temperature,
        "shuffle_dataset": settings.shuffle_dataset,
        "scale_rewards": settings.scale_rewards,
        "epsilon": settings.epsilon,
        "epsilon_high": settings.epsilon_high,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": settings.vllm_importance_sampling_clip_max,
        "loss_type": settings.loss_type,
        "beta": settings.beta,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        "save_total_limit": 2,
        "report_to": settings.report_to,
        "seed": settings.seed,
        "data_seed": settings.seed,
    }
    return GRPOConfig(**{**given, **settings.options})


class _Attempts:
    """What TRL calls for completions."""

    __name__ = "attempts"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.policy: LocalPolicy | None = None
        self.ended = 0.0

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Return one row for each prompt; TRL hands each prompt over as often as its group is large."""
        from accelerate.utils import broadcast_object_list, gather_object

        update = self.run.update_of(int(trainer.state.global_step) + 1)
        every: list[str] = gather_object(list(prompts))
        answer: list[Any] = [None]
        if trainer.accelerator.is_main_process:
            try:
                answer = [self._rows(update, every, trainer)]
            except Exception as error:  # raised on all ranks, which would wait for ever otherwise
                answer = [error]
        (rows,) = broadcast_object_list(answer)
        if isinstance(rows, Exception):
            raise rows
        first = trainer.accelerator.process_index * len(prompts)
        own = rows[first : first + len(prompts)]
        return {name: [row[name] for row in own] for name in own[0]}

    def _rows(self, update: int, prompts: Sequence[str], trainer: Any) -> list[dict[str, Any]]:
        run, size = self.run, self.run.settings.num_generations
        names = [prompts[at] for at in range(0, len(prompts), size)]
        if any(prompts[i] != names[i // size] for i in range(len(prompts))):
            raise TrainingError("GRPO: TRL did not hand the prompts over by groups; trl==1.16.* does")
        model = trainer.accelerator.unwrap_model(trainer.model)
        assert self.policy is not None
        with self.policy.held(version=update):  # the weights changed in place; the version is the same after a resume
            pass
        with answering(model):
            groups = run.attempts(update, [run.tasks[name] for name in names], self.policy)
        self.ended = time.monotonic()
        stop = trainer.processing_class.eos_token_id
        return [row(sample, stop) for group in groups for sample in group]


def _sparing_trainer() -> Any:
    """Return TRL's GRPOTrainer, which reads only the rows that are trained on, and no padding around them."""
    import torch
    from trl import GRPOTrainer

    class SparingTrainer(GRPOTrainer):  # type: ignore[misc]
        """Leaves the stand-ins of masked attempts (see `row`) out of the forward passes; their logprobs are 0."""

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *given: Any, **options: Any
        ) -> Any:
            read = attention_mask.sum(1) > len(STAND_IN)
            if model.training and not read.any():
                read[0] = True  # without one row there would be no loss to go back from
            columns = attention_mask[read].any(0).nonzero()
            shape = (len(input_ids), logits_to_keep)
            if not len(columns):
                return input_ids.new_zeros(shape, dtype=torch.float32), None, None
            first, end = int(columns.min()), int(columns.max()) + 1
            rest = input_ids.shape[1] - end
            logps, entropies, loss = super()._get_per_token_logps_and_entropies(
                model, input_ids[read, first:end], attention_mask[read, first:end], logits_to_keep - rest,
                *given, **options,
            )  # fmt: skip

            def placed(values: Any) -> Any:
                if values is None:
                    return None
                whole = values.new_zeros(shape)
                whole[read, : shape[1] - rest] = values
                return whole

            return placed(logps), placed(entropies), loss

    return SparingTrainer


STAND_IN = (0, 0)
"""Places of the row that stands for a masked attempt: a prompt and a completion of one token each."""


def row(sample: Sample, filler: int) -> dict[str, Any]:
    """Return what TRL is given for one attempt: the prompt up to the first sampled token, then the rest.

    Where an attempt has several segments this engine trains on the last one, which holds the most of it; the engine
    `async` trains on all. For a masked attempt stands a row in which no token counts.
    """
    part = next((s for s in reversed(sample.segments) if s.sampled), None)
    if part is None or sample.masked:
        return {"prompt_ids": [filler], "completion_ids": [filler], "logprobs": [0.0], "env_mask": [0],
                "outcome": sample.reward}  # fmt: skip
    first = part.mask.index(1)
    return {
        "prompt_ids": list(part.ids[:first]),
        "completion_ids": list(part.ids[first:]),
        "logprobs": list(part.logprobs[first:]),
        "env_mask": list(part.mask[first:]),
        "outcome": sample.reward,
    }


def _reward(outcome: list[float | None], **_: Any) -> list[float | None]:
    return outcome


def _training(run: Run, attempts: _Attempts) -> Any:
    from transformers import TrainerCallback

    class Training(TrainerCallback):  # type: ignore[misc]
        """Notes when an update's training ended, which began when its attempts had."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if attempts.ended:  # on the first process only
                now = time.monotonic()
                run.busy.add(TRAINING, attempts.ended, now)
                attempts.ended = now

    return Training()
