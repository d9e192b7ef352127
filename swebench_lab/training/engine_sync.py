"""The engine `sync`: all attempts of an update, then its training, on TRL's GRPOTrainer and its `rollout_func`.

TRL hands over prompts only, so a task travels as its id. Attempts are made on rank 0 for all ranks, whatever their
lengths, and each rank is given those of its own prompts. TRL corrects for the difference between sampler and trainer
only when it thinks that vLLM samples; so it is told so, and finds nothing to send to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TrainingError
from swebench_lab.training.batches import Sample
from swebench_lab.training.busy import SAMPLING, TRAINING
from swebench_lab.training.grpo import GRPO
from swebench_lab.training.muon import muon
from swebench_lab.training.sft import adapter, last_checkpoint, load_model
from swebench_lab.training.watch import answering, trained

if TYPE_CHECKING:
    from swebench_lab.policies.local import LocalPolicy


def train(run: GRPO, tokenizer: Any) -> Any:
    """Train, and return TRL's trainer."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = build(run, tokenizer)
    trainer.train(resume_from_checkpoint=last_checkpoint(run.output_dir))
    return trainer


def build(run: GRPO, tokenizer: Any) -> Any:
    """Return TRL's trainer, wired to a GRPO's attempts."""
    from datasets import Dataset

    attempts, model = _Attempts(run), load_model(run.policy)
    trainer = _sparing_trainer()(
        model=model,
        reward_funcs=[_reward],
        args=_arguments(run),
        train_dataset=Dataset.from_list([{"prompt": task.id} for task in run.tasks]),
        processing_class=tokenizer,
        rollout_func=attempts,
        peft_config=adapter(run.lora),
        optimizers=(muon(model, lr=run.learning_rate, weight_decay=0.0) if run.muon else None, None),
        callbacks=[_training(run, attempts), *run.callbacks()],
    )
    attempts.policy = trained(run.policy, trainer.accelerator.unwrap_model(trainer.model), tokenizer)
    attempts.policy.sampler.on_batch = partial(run.busy.add, SAMPLING)
    trainer.use_vllm = True
    trainer.vllm_generation = _Shared()
    trainer._last_loaded_step = -1
    return trainer


def _arguments(run: GRPO) -> Any:
    import torch
    from trl import GRPOConfig

    every = run.group_size * run.tasks_per_update
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if every % (run.batch_size * processes):
        raise TrainingError(f"GRPO: {every} attempts of an update do not divide among {processes} processes")
    batches = every // (run.batch_size * processes)
    if batches % run.steps:
        raise TrainingError(
            f"GRPO: {batches} batches of an update on each process do not divide among {run.steps} steps"
        )
    steps = run.steps * run.passes
    on_gpu = torch.cuda.is_available()
    given: dict[str, Any] = {
        "output_dir": str(run.output_dir),
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 2,
        "max_steps": run.updates * steps,
        "num_generations": run.group_size,
        "num_iterations": run.passes,
        "per_device_train_batch_size": run.batch_size,
        "gradient_accumulation_steps": batches // run.steps,
        "steps_per_generation": batches,
        "max_completion_length": run.rules.max_length,
        "temperature": run.policy.temperature,
        "shuffle_dataset": run.shuffle,
        "scale_rewards": run.rules.scale,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": run.ratio_cap,
        "loss_type": "dapo",
        "beta": 0.0,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "steps" if run.save_every else "no",
        "save_steps": steps * run.save_every or 500,
        "save_total_limit": 2,
        "report_to": run.report_to,
        "seed": run.seed,
        "data_seed": run.seed,
    }
    return GRPOConfig(**{**given, **run.options})


class _Attempts:
    """What TRL calls for completions."""

    __name__ = "attempts"

    def __init__(self, run: GRPO) -> None:
        self.run = run
        self.policy: LocalPolicy | None = None
        self.ended = 0.0

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Return one row for each prompt; TRL hands each prompt over as often as its group is large."""
        from accelerate.utils import broadcast_object_list, gather_object

        update = self.run.update_of(int(trainer.state.global_step) + 1)
        every: list[str] = gather_object(list(prompts))
        told: list[Any] = [None]
        if trainer.accelerator.is_main_process:
            try:
                told = [self._rows(update, every, trainer)]
            except Exception as error:  # told to all ranks, which would wait for ever otherwise
                told = [error]
        (made,) = broadcast_object_list(told)
        if isinstance(made, Exception):
            raise made
        first = trainer.accelerator.process_index * len(prompts)
        own = made[first : first + len(prompts)]
        return {name: [row[name] for row in own] for name in own[0]}

    def _rows(self, update: int, prompts: Sequence[str], trainer: Any) -> list[dict[str, Any]]:
        run, size = self.run, self.run.group_size
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


class _Shared:
    """Stands where TRL expects vLLM, which it brings new weights to; here the model is shared."""

    def sync_weights(self) -> None:
        """Nothing has to be brought anywhere."""


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


def _training(run: GRPO, attempts: _Attempts) -> Any:
    from transformers import TrainerCallback

    class Training(TrainerCallback):  # type: ignore[misc]
        """Notes when an update's training ended, which began when its attempts had."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if attempts.ended:  # on the first process only
                now = time.monotonic()
                run.busy.add(TRAINING, attempts.ended, now)
                attempts.ended = now

    return Training()
