"""SFT: rows of good attempts → a policy fine-tuned on them, on TRL's SFTTrainer."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab._files import write_text
from swebench_lab.errors import TrainingError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.policies.trainable import TrainablePolicy, is_trainable
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.training.data.corpus import IGNORED, Corpus, foreign
from swebench_lab.training.engines.follower import Follower, score_plainly
from swebench_lab.training.engines.watch import Watch, watching
from swebench_lab.training.model.models import (
    adapter,
    frozen_type,
    load_model,
    load_tokenizer,
    masters_in_float32,
    save_model,
    save_trained,
)
from swebench_lab.training.model.muon import muon
from swebench_lab.training.model.processes import everybody, is_main, last_checkpoint, recorded, together
from swebench_lab.training.model.warmup import first_update_learns
from swebench_lab.training.options.settings import SFTSettings

if TYPE_CHECKING:
    import polars as pl

_log = logging.getLogger(__name__)

_LOG = "log.jsonl"
"""File in a training's folder: what the trainer logged."""


class SFT:
    """Supervised fine-tuning of a model on attempts.

    `settings`, `corpus`, `history` and `trainer` (TRL's own, of the latest `fit`) stay readable after `fit`.
    """

    def __init__(
        self,
        model: str | Path | TrainablePolicy,
        settings: SFTSettings | None = None,
        *,
        renderer: Renderer | None = None,
        watch: Watch | None = None,
        **keywords: Any,
    ) -> None:
        """Check the settings.

        Args:
            model: A folder, a hub id, or a policy that can be trained, whose model is copied.
            settings: How to train; None: the defaults.
            renderer: How messages become ids; None: by the tokenizer's chat template.
            watch: Attempts at held-out tasks during training (see Watch); None: none.
            keywords: Fields of SFTSettings, in place of `settings` or beside it; a field given in both is an error.

        Raises:
            TrainingError: A setting is unknown or out of range.
        """
        self.settings = SFTSettings.of(settings, keywords)
        self.source, self.watch, self._renderer = model, watch, renderer
        self._follower: Follower | None = None
        self.trainer: Any = None
        """TRL's trainer of the latest `fit`; None before."""
        self.corpus: Corpus | None = None
        """What the latest `fit` trained on; `corpus.report()` says what was left out."""
        self.history: list[dict[str, Any]] = _logged(self.output_dir)
        """What the trainer logged, one entry a time; what `watch` measured is among it. Before `fit`, what an earlier
        training in this folder left, in this process or in others."""

    @property
    def output_dir(self) -> Path:
        """The folder of the training."""
        return Path(self.settings.output_dir)

    def fit(self, rollouts: Iterable[Rollout | Trajectory] | Corpus, held_out: Corpus | None = None) -> LocalPolicy:
        """Train, save and return the policy.

        Args:
            rollouts: Attempts, or rows made of them; or traces, as `lab.load_trajectories` returns them, of which those
                that are known to be unresolved or are too long are left out.
            held_out: Rows that only measure the loss; None: a share of the tasks, as the setting `held_out` says.

        Raises:
            TrainingError: Nothing is left to train on, or the loss is no number.
        """
        settings = self.settings
        together()  # each process has its GPU before any model is loaded
        tokenizer = load_tokenizer(self.source)
        rows = rollouts if isinstance(rollouts, Corpus) else self._rows(rollouts, tokenizer)
        if held_out is None and settings.held_out > 0:
            rows, held_out = rows.split(settings.held_out, settings.seed)
        if not rows:
            raise TrainingError(f"SFT: no row is left to train on: {dict(rows.dropped)}")
        self.corpus = rows
        about = {"training": "sft", "parameters": settings.to_dict(), "model": str(self.source), "rows": len(rows),
                 "dropped": dict(rows.dropped)}  # fmt: skip
        with recorded(self.output_dir, about):
            self.trainer = self._trainer(tokenizer, rows, held_out)
            _log.info("training %s on %d rows", self.source, len(rows))
            self._train(self.trainer, bool(held_out))
            base = str(self._base()) if settings.lora else ""
            final = save_trained(
                self.trainer, tokenizer, self.output_dir / "final", base=base, merge=settings.merge_lora
            )
        everybody()
        return LocalPolicy(final, renderer=self._renderer, temperature=settings.temperature)

    def _base(self) -> Any:
        """Return the folder or hub id that an adapter belongs to; a model that has none is written to `start`."""
        source = self.source.source if is_trainable(self.source) else self.source
        if isinstance(source, str | Path):
            return source
        start = self.output_dir / "start"
        return save_model(load_model(self.source), load_tokenizer(self.source), start)

    def _train(self, trainer: Any, measure: bool) -> None:
        """Train to the end and keep the log; a loss that is no number is an error."""
        try:
            trainer.train(resume_from_checkpoint=last_checkpoint(self.output_dir))
        finally:
            if self._follower is not None:
                self._follower.close()
        if measure:
            trainer.evaluate()
        self.history = list(trainer.state.log_history)
        if is_main():
            lines = [json.dumps(entry) + "\n" for entry in self.history]
            whole = write_text(self.output_dir / f".{_LOG}", "".join(lines))
            whole.replace(self.output_dir / _LOG)  # who reads it finds all or nothing
        losses = [entry["loss"] for entry in self.history if "loss" in entry]
        if losses and not math.isfinite(losses[-1]):
            raise TrainingError(f"SFT: the loss became {losses[-1]} at update {trainer.state.global_step}")

    def to_frame(self) -> pl.DataFrame:
        """Return what the latest `fit` logged, one row a time: step, loss, eval_loss, learning rate and more."""
        import polars as pl

        return pl.DataFrame(self.history, infer_schema_length=None)

    def _rows(self, rollouts: Iterable[Rollout | Trajectory], tokenizer: Any) -> Corpus:
        """Return the rows of attempts and traces, curated."""
        rules = self.settings.curation
        rules = replace(rules, max_length=min(rules.max_length, self.settings.max_length))
        renderer = self._renderer or Renderer.of(tokenizer)
        items = list(rollouts)
        traces = [item for item in items if isinstance(item, Trajectory)]
        rows = Corpus.of_rollouts([item for item in items if isinstance(item, Rollout)], renderer, rules)
        return rows + foreign(traces, renderer, max_length=rules.max_length) if traces else rows

    def _trainer(self, tokenizer: Any, rows: Corpus, held_out: Corpus | None) -> Any:
        settings, config = self.settings, arguments(self.settings, held_out is not None)
        optimizer = partial(muon, lr=config.learning_rate, weight_decay=config.weight_decay)
        trainer = _trainer_class()(
            model=load_model(
                self.source,
                frozen=frozen_type(settings.dtype, settings.lora),
                load_in_4bit=settings.load_in_4bit,
            ),
            args=config,
            train_dataset=_dataset(rows),
            eval_dataset=_dataset(held_out) if held_out else None,
            processing_class=tokenizer,
            peft_config=adapter(settings.lora),
            optimizer_cls_and_kwargs=(lambda: optimizer, {}) if settings.muon else None,
        )
        masters_in_float32(trainer.model)
        trainer.add_callback(first_update_learns())
        trainer.context_loss_weight = settings.context_loss_weight

        def note(_: int, seen: Mapping[str, float]) -> None:
            trainer.log(dict(seen))  # also goes to wherever `report_to` says

        for callback in watching(self.watch, self.output_dir, note, bring=self._bringing(trainer)):
            trainer.add_callback(callback)
        return trainer

    def _bringing(self, trainer: Any) -> Any:
        """Return what brings the weights to the servers that the watch attempts with; None: the model answers itself.

        Raises:
            TrainingError: The model would answer itself, and is sharded over processes.
        """
        if self.watch is None:
            return None
        if self.watch.local:
            if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
                raise TrainingError(
                    "SFT(watch=…): the model is sharded over processes (FSDP, DeepSpeed), and a LocalPolicy samples from a "
                    "whole one on the first process, which would wait for the others for ever; watch with the policy() "
                    "of lab.serve(…, updates=True)"
                )
            return None
        source: Any = self.watch.agent.policy
        policy = source.in_training(source.temperature) if is_main() else None
        issue = self.watch.tasks[0].issue or self.watch.tasks[0].id
        scores = partial(score_plainly, temperature=source.temperature)
        prompt, sink = source.load_tokenizer()(issue)["input_ids"], policy.sink() if policy else None
        self._follower = follower = Follower(sink, prompt, scores, self.output_dir / "adapters")

        def bring(model: Any, update: int) -> Any:
            follower.bring(model, update)
            return policy

        return bring

    def __repr__(self) -> str:
        """Return one line: the model, what is trained of it, and where to."""
        settings = self.settings
        kind = f"LoRA {settings.lora}" if settings.lora else "all weights"
        return f"SFT({str(self.source)!r}, {kind}, lr {settings.learning_rate:g}, {settings.output_dir!r})"

    def _repr_html_(self) -> str:
        return self.settings._repr_html_()


def _logged(folder: Path) -> list[dict[str, Any]]:
    """Return what an earlier training in a folder logged."""
    path = folder / _LOG
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def arguments(settings: SFTSettings, evaluate: bool) -> Any:
    """Return TRL's SFTConfig.

    Args:
        settings: How to train.
        evaluate: Whether there are held-out rows.
    """
    import torch
    from trl import SFTConfig

    on_gpu = torch.cuda.is_available()
    values: dict[str, Any] = {
        "output_dir": settings.output_dir,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "num_train_epochs": settings.num_train_epochs,
        "max_steps": settings.updates or -1,
        "per_device_train_batch_size": settings.per_device_train_batch_size,
        "per_device_eval_batch_size": settings.per_device_train_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "max_length": settings.max_length,
        "packing": settings.packing,
        "packing_strategy": "bfd",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": on_gpu and settings.dtype != "float32",
        "use_cpu": not on_gpu,
        "logging_steps": settings.logging_steps,
        "eval_strategy": "steps" if evaluate and settings.eval_steps else "no",
        "eval_steps": settings.eval_steps or None,
        "save_strategy": "steps" if settings.save_steps else "no",
        "save_steps": settings.save_steps or 500,
        "save_total_limit": 2,
        "report_to": settings.report_to,
        "seed": settings.seed,
        "data_seed": settings.seed,
    }
    return SFTConfig(**{**values, **settings.options})


def _dataset(rows: Corpus) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})


def _trainer_class() -> Any:
    """Return TRL's SFTTrainer with a weight for the loss on what the policy only saw."""
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    class ContextLossTrainer(SFTTrainer):
        """Adds `context_loss_weight` times the mean loss on context tokens while it trains; at 0 it is TRL's own loss."""

        context_loss_weight = 0.0

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if not self.context_loss_weight or not model.training:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs["labels"][:, 1:]
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False)
            ids = inputs["input_ids"][:, 1:]
            losses = cross_entropy(outputs.logits[:, :-1].float().transpose(1, 2), ids, reduction="none")
            targets = labels != IGNORED
            context = inputs["attention_mask"][:, 1:].bool() & ~targets
            tokens = targets.sum() if num_items_in_batch is None else num_items_in_batch
            loss = (
                losses[targets].sum() / tokens
                + self.context_loss_weight * losses[context].mean() / self.args.gradient_accumulation_steps
            )
            return (loss, outputs) if return_outputs else loss

    return ContextLossTrainer
