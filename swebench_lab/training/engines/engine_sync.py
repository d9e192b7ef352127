"""The engine `sync`: all attempts of an update, then its training, on TRL's GRPOTrainer and its `rollout_func`.

TRL hands over prompts only, so a task travels as its id. Attempts run on rank 0 for all ranks, whatever their
lengths, and each rank is given those of its own prompts. TRL corrects for the difference between sampler and trainer
only where it thinks that vLLM samples, which `_compat.correct_for_sampler` lets it think.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from swebench_lab._compat import correct_for_sampler
from swebench_lab.errors import TrainingError
from swebench_lab.training.engines.batches import Sample
from swebench_lab.training.engines.busy import TRAINING
from swebench_lab.training.engines.distillation import add_hints
from swebench_lab.training.engines.follower import Follower, score_plainly
from swebench_lab.training.engines.run import Run
from swebench_lab.training.engines.watch import answering, sampling_from, watching
from swebench_lab.training.model.models import adapter, frozen_type, load_model, masters_in_float32
from swebench_lab.training.model.muon import muon
from swebench_lab.training.model.processes import is_main, last_checkpoint
from swebench_lab.training.options.capabilities import SYNC
from swebench_lab.training.options.settings import GRPOSettings, UpdateSize


class SyncEngine:
    """Attempts and training take turns."""

    capabilities = SYNC

    def build(self, run: Run, tokenizer: Any) -> Any:
        """Return TRL's GRPOTrainer, wired to a run's attempts."""
        from datasets import Dataset

        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        settings = run.settings
        config = arguments(settings, run.size, run.temperature)  # accelerate gives each process its GPU here
        attempts = _Attempts(run)
        model = load_model(run.policy, frozen=frozen_type(settings.dtype, settings.lora))
        optimizer = (
            muon(model, lr=settings.learning_rate, weight_decay=settings.weight_decay) if settings.muon else None
        )
        trainer = _segment_trainer()(
            model=model,
            reward_funcs=[_reward],
            args=config,
            train_dataset=Dataset.from_list([{"prompt": task.id} for task in run.tasks]),
            processing_class=tokenizer,
            rollout_func=attempts,
            peft_config=adapter(settings.lora),
            optimizers=(optimizer, None),
            callbacks=[_training(run, attempts), *run.callbacks()],
        )
        masters_in_float32(trainer.model)
        attempts.wire(trainer, tokenizer)
        correct_for_sampler(trainer)
        for callback in watching(run.watch, run.folder, run.table.note, run.size.steps, attempts.bring_for_watch()):
            trainer.add_callback(callback)
        return trainer

    def train(self, run: Run, trainer: Any) -> None:
        """Train to the end, from the last checkpoint where there is one."""
        try:
            trainer.train(resume_from_checkpoint=last_checkpoint(run.folder))
        finally:
            if trainer.rollout_func.follower is not None:
                trainer.rollout_func.follower.close()


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
    values: dict[str, Any] = {
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
        "bf16": on_gpu and settings.dtype != "float32",
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
    return GRPOConfig(**{**values, **settings.options})


class _Attempts:
    """What TRL calls for completions."""

    __name__ = "attempts"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.policy: Any = None
        self.follower: Follower | None = None
        """Brings the weights to a server before each update's attempts; None where the model itself answers."""
        self.ended = 0.0

    def wire(self, trainer: Any, tokenizer: Any) -> None:
        """Let the trainer's model answer, or the servers that its weights are brought to.

        Raises:
            TrainingError: The model is sharded over processes, and one of them would have to sample from all of it.
        """
        run = self.run
        if not run.local:
            if is_main():
                self.policy = run.policy.in_training(run.temperature)
                run.note_sampling(self.policy)
            sink = self.policy.sink() if self.policy else None
            scores = partial(score_plainly, temperature=run.temperature)
            self.follower = Follower(sink, run.probe_prompt(), scores, run.folder / "adapters")
            return
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise TrainingError(
                "GRPO(engine='sync'): the model is sharded over processes (FSDP, DeepSpeed), and a LocalPolicy samples from "
                "a whole one on the first process, which would wait for the others for ever; serve the model with "
                "lab.serve(…, updates=True), or take engine='async'"
            )
        bare = trainer.accelerator.unwrap_model(trainer.model)
        self.policy = sampling_from(run.policy, bare, tokenizer, run.settings.temperature)
        run.note_sampling(self.policy)

    def bring_for_watch(self) -> Any:
        """Return what brings the weights to the servers that held-out tasks are attempted with; None: none are."""
        if self.follower is None:
            return None

        def bring(model: Any, update: int) -> Any:
            assert self.follower is not None
            self.follower.bring(model, update + 1)
            return self.policy

        return bring

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        """Return one row for each prompt; TRL hands each prompt over as often as its group is large."""
        from accelerate.utils import broadcast_object_list, gather_object

        update = self.run.update_of(int(trainer.state.global_step) + 1)
        every: list[str] = gather_object(list(prompts))
        if self.follower is not None:
            self.follower.bring(trainer.accelerator.unwrap_model(trainer.model), update)
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
        for name in ASIDE:
            values = {
                _key(row["prompt_ids"] + row["completion_ids"]): row[name] for row in own if row[name] is not None
            }
            setattr(trainer, name, values)
        return {name: [row[name] for row in own] for name in own[0] if name not in ASIDE}

    def _rows(self, update: int, prompts: Sequence[str], trainer: Any) -> list[dict[str, Any]]:
        run, size = self.run, self.run.settings.num_generations
        names = [prompts[at] for at in range(0, len(prompts), size)]
        if any(prompts[i] != names[i // size] for i in range(len(prompts))):
            raise TrainingError("GRPO: TRL did not hand the prompts over by groups; trl==1.16.* does")
        if run.local:
            with self.policy.exclusive(version=update):  # changed in place; the version is the same after a resume
                pass
        tasks = run.schedule.update(update, len(names)) if run.schedule.own else [run.tasks[name] for name in names]
        model = trainer.accelerator.unwrap_model(trainer.model)
        with answering(model) if run.local else nullcontext():
            groups = run.attempts(update, tasks, self.policy)
        self.ended = time.monotonic()
        stop = trainer.processing_class.eos_token_id
        every = [sample for group in groups for sample in group]
        hints = run.distillation.hints(every) if run.distillation else {}
        return [row(sample, stop, hints.get(id(sample))) for sample in every]


def _segment_trainer() -> Any:
    """Return TRL's GRPOTrainer, which reads only the rows that are trained on, each segment of an attempt by itself."""
    import torch
    from trl import GRPOTrainer

    class SegmentTrainer(GRPOTrainer):
        """Leaves the stand-ins of masked attempts (see `row`) out of the forward passes; their logprobs are 0.

        To TRL an attempt is one row. Where its history was edited, the row is its segments one after the other; the
        model reads them as rows of their own, and what it says of each token goes back to the token's place.
        """

        cuts: Mapping[bytes, tuple[int, ...]] = {}
        """Key of a row → where its further segments begin."""
        hints: Mapping[bytes, Any] = {}
        """Key of a row → what a teacher adds to the advantages of its completion."""

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            output = super()._generate_and_score_completions(inputs)
            if self.hints:
                self._metrics["train"]["distillation/gap"].append(add_hints(output, self.hints, _key))
            return output

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *given: Any, **options: Any
        ) -> Any:
            parent = super()._get_per_token_logps_and_entropies
            read = attention_mask.sum(1) > len(STAND_IN)
            if model.training and not read.any():
                read[0] = True  # without one row there would be no loss to go back from
            shape = (len(input_ids), logits_to_keep)
            if not read.any():
                return input_ids.new_zeros(shape, dtype=torch.float32), None, None
            pieces = _pieces(input_ids, attention_mask, read, self.cuts)
            width = max(end - start for _, start, end in pieces)
            ids, mask = _stack(pieces, width, input_ids)
            here, there = _places(pieces, input_ids.shape[1] - logits_to_keep)
            logps, entropies, loss = parent(model, ids, mask, width - 1, *given, **options)
            source, target = (torch.tensor(places, device=input_ids.device).T for places in (here, there))

            def placed(values: Any) -> Any:
                if values is None:
                    return None
                whole = values.new_zeros(shape)
                whole[target[0], target[1]] = values[source[0], source[1]]
                return whole

            return placed(logps), placed(entropies), loss

    return SegmentTrainer


def _pieces(
    input_ids: Any, attention_mask: Any, read: Any, cuts: Mapping[bytes, tuple[int, ...]]
) -> list[tuple[int, int, int]]:
    """Return what is read as a row of its own: row of the batch, and the columns where it begins and ends."""
    pieces = []
    for row in read.nonzero()[:, 0].tolist():
        places = attention_mask[row].nonzero()[:, 0]
        begin, end = int(places[0]), int(places[-1]) + 1
        own = [begin + cut for cut in cuts.get(_key(input_ids[row, begin:end].tolist()), ())]
        pieces += [(row, start, stop) for start, stop in itertools.pairwise([begin, *own, end])]
    return pieces


def _stack(pieces: Sequence[tuple[int, int, int]], width: int, input_ids: Any) -> tuple[Any, Any]:
    """Return the ids of pieces as rows of one width, and where they are."""
    ids, mask = (input_ids.new_zeros((len(pieces), width)) for _ in range(2))
    for number, (row, start, end) in enumerate(pieces):
        ids[number, : end - start] = input_ids[row, start:end]
        mask[number, : end - start] = 1
    return ids, mask


def _places(pieces: Sequence[tuple[int, int, int]], first: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return of each token with a logprob that is wanted: piece and place in it, and row and column of the completion.

    Args:
        pieces: As `_pieces` has them.
        first: Column of the batch where completions begin.
    """
    here: list[tuple[int, int]] = []
    there: list[tuple[int, int]] = []
    for number, (row, start, end) in enumerate(pieces):
        columns = range(max(start + 1, first), end)
        here += [(number, place - start - 1) for place in columns]
        there += [(row, place - first) for place in columns]
    return here, there


def _key(ids: Sequence[int]) -> bytes:
    """Return what a row is found again by."""
    return np.asarray(ids, "int64").tobytes()


ASIDE = ("cuts", "hints")
"""What a row holds that TRL is not given; the trainer finds it again by the row's ids."""
STAND_IN = (0, 0)
"""Places of the row that stands for a masked attempt: a prompt and a completion of one token each."""


def row(sample: Sample, filler: int, hint: Any = None) -> dict[str, Any]:
    """Return what TRL is given for one attempt: the prompt up to the first sampled token, then the rest.

    The rest of an attempt whose history was edited holds its further segments too, whole and one after the other; `cuts`
    says where each begins, counted from the beginning of the prompt; `hints`, what a teacher adds to the advantages of the
    completion. For a masked attempt stands a row in which no token counts.
    """
    parts = [part for part in sample.segments if part.sampled]
    if not parts or sample.masked:
        return {"prompt_ids": [filler], "completion_ids": [filler], "logprobs": [0.0], "env_mask": [0],
                "outcome": sample.reward, "cuts": None, "hints": None}  # fmt: skip
    first = int(parts[0].mask.argmax())
    ids, mask, logprobs = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "mask", "logprobs")
    )
    return {
        "prompt_ids": ids[:first].tolist(),
        "completion_ids": ids[first:].tolist(),
        "logprobs": logprobs[first:].tolist(),
        "env_mask": mask[first:].tolist(),
        "outcome": sample.reward,
        "cuts": tuple(np.cumsum([len(part) for part in parts])[:-1].tolist()) or None,
        "hints": None if hint is None else hint[first:],
    }


def _reward(outcome: list[float | None], **_: Any) -> list[float | None]:
    return outcome


def _training(run: Run, attempts: _Attempts) -> Any:
    from transformers import TrainerCallback

    class Training(TrainerCallback):
        """Notes when an update's training ended, which began when its attempts had."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if attempts.ended:  # on the first process only
                now = time.monotonic()
                run.busy.add(TRAINING, attempts.ended, now)
                attempts.ended = now

    return Training()
