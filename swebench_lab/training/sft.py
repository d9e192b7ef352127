"""SFT: rows of what good attempts said → a policy that says the like, on TRL's SFTTrainer."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TrainingError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.training.corpus import IGNORED, Corpus, Curation, foreign
from swebench_lab.training.muon import muon
from swebench_lab.training.watch import watching

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.formats.renderer import Renderer
    from swebench_lab.policies.local import LocalPolicy
    from swebench_lab.training.watch import Watch


class SFT:
    """Supervised fine-tuning of a model on attempts.

    Args:
        model: A folder, a hub id, or a LocalPolicy.
        output_dir: Folder for checkpoints and the finished model; a rerun with the same one resumes from its last
            checkpoint.
        learning_rate: Peak learning rate.
        epochs: Passes over the rows.
        max_steps: Updates; above 0 it is used instead of `epochs`.
        batch_size: Rows per device and forward pass.
        accumulation: Forward passes per update.
        max_length: Most tokens of a row; longer attempts are left out and reported, never cut.
        packing: Whether rows are packed together (best fit decreasing), which pays for long rows on a GPU.
        lora: Rank of a LoRA adapter on all linear layers, or a mapping of `peft.LoraConfig`'s options; 0: all weights.
        quantized: Whether the base model is loaded in 4 bits (QLoRA; needs bitsandbytes, a GPU, and `lora`).
        gradient_checkpointing: Whether activations are computed again in the backward pass.
        dtype: Such as `bfloat16`; empty: float32 on a CPU, bfloat16 on a GPU.
        held_out: Share of the tasks whose rows only measure the loss.
        eval_every: Updates between two such measurements; 0: at the end only.
        save_every: Updates between two checkpoints; 0: at the end only.
        watch: Attempts at held-out tasks during training (see watch.py); None: none.
        report_to: `none`, `wandb`, `trackio` or `tensorboard`.
        curation: Which attempts are learned from.
        renderer: How messages become ids; None: by the tokenizer's chat template.
        reading: Weight of the mean loss on what the policy only saw, beside 1 for what it said; for a model that has
            read nothing yet.
        muon: Whether matrices are trained by Muon (see muon.py), which pays for a model that starts from nothing.
        temperature: Sampling temperature of the policy that `fit` returns.
        seed: Of the order of rows and of adapters.
        options: Further options of TRL's SFTConfig.
    """

    def __init__(
        self,
        model: str | Path | LocalPolicy,
        output_dir: str | Path = "sft",
        *,
        learning_rate: float = 1e-5,
        epochs: float = 1.0,
        max_steps: int = -1,
        batch_size: int = 1,
        accumulation: int = 8,
        max_length: int = 32_768,
        packing: bool = False,
        lora: int | Mapping[str, Any] = 0,
        quantized: bool = False,
        gradient_checkpointing: bool = False,
        dtype: str = "",
        held_out: float = 0.0,
        eval_every: int = 0,
        save_every: int = 0,
        watch: Watch | None = None,
        report_to: str = "none",
        curation: Curation | None = None,
        renderer: Renderer | None = None,
        reading: float = 0.0,
        muon: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if quantized and not lora:
            raise TrainingError("SFT(quantized=True): four-bit weights cannot be trained; give lora=16 as well")
        if reading and packing:
            raise TrainingError("SFT(reading=…, packing=True): a row would be learned from the row before it")
        self.source, self.output_dir = model, Path(output_dir)
        self.learning_rate, self.epochs, self.max_steps = learning_rate, epochs, max_steps
        self.batch_size, self.accumulation, self.max_length = batch_size, accumulation, max_length
        self.packing, self.lora, self.quantized = packing, lora, quantized
        self.gradient_checkpointing, self.dtype = gradient_checkpointing, dtype
        self.held_out, self.eval_every, self.save_every, self.watch = held_out, eval_every, save_every, watch
        self.report_to, self.curation, self._renderer = report_to, curation, renderer
        self.reading, self.muon = reading, muon
        self.temperature, self.seed, self.options = temperature, seed, dict(options or {})
        self.corpus: Corpus | None = None
        """What the latest `fit` trained on; `corpus.report()` says what was left out."""
        self.history: list[dict[str, Any]] = []
        """What the trainer logged, one entry a time; what `watch` saw is among it."""

    def fit(self, rollouts: Iterable[Rollout | Trajectory] | Corpus, held_out: Corpus | None = None) -> LocalPolicy:
        """Train, save and return the policy.

        Args:
            rollouts: Attempts, or rows made of them; or traces, as `lab.load_trajectories` returns them, of which those
                that are known to be unresolved or are too long are left out.
            held_out: Rows that only measure the loss; None: a share of the tasks, as `held_out` says.

        Raises:
            TrainingError: Nothing is left to train on, or the loss is no number.
        """
        from swebench_lab.policies.local import LocalPolicy

        tokenizer = load_tokenizer(self.source)
        rows = rollouts if isinstance(rollouts, Corpus) else self._chosen(rollouts, tokenizer)
        if held_out is None and self.held_out > 0:
            rows, held_out = rows.split(self.held_out, self.seed)
        if not rows:
            raise TrainingError(f"SFT: no row is left to train on: {dict(rows.dropped)}")
        self.corpus = rows
        trainer = self._trainer(tokenizer, rows, held_out)
        trainer.train(resume_from_checkpoint=last_checkpoint(self.output_dir))
        if held_out:
            trainer.evaluate()
        self.history = list(trainer.state.log_history)
        losses = [entry["loss"] for entry in self.history if "loss" in entry]
        if losses and not math.isfinite(losses[-1]):
            raise TrainingError(f"SFT: the loss became {losses[-1]} at update {trainer.state.global_step}")
        final = save_trained(trainer, tokenizer, self.output_dir / "final")
        everybody()
        return LocalPolicy(final, renderer=self._renderer, temperature=self.temperature)

    def to_frame(self) -> pl.DataFrame:
        """Return what the latest `fit` logged, one row a time: step, loss, eval_loss, learning rate and more."""
        import polars as pl

        return pl.DataFrame(self.history, infer_schema_length=None)

    def _chosen(self, rollouts: Iterable[Rollout | Trajectory], tokenizer: Any) -> Corpus:
        from dataclasses import replace

        from swebench_lab.formats.renderer import Renderer

        rules = self.curation or Curation()
        rules = replace(rules, max_length=min(rules.max_length, self.max_length))
        renderer = self._renderer or Renderer.of(tokenizer)
        given = list(rollouts)
        traces = [item for item in given if isinstance(item, Trajectory)]
        made = Corpus.of_rollouts([item for item in given if isinstance(item, Rollout)], renderer, rules)
        return made + foreign(traces, renderer, max_length=rules.max_length) if traces else made

    def _trainer(self, tokenizer: Any, rows: Corpus, held_out: Corpus | None) -> Any:
        from functools import partial

        arguments = self._arguments(held_out is not None)
        optimizer = partial(muon, lr=arguments.learning_rate, weight_decay=arguments.weight_decay)
        trainer = _trainer_class()(
            model=load_model(self.source, self.dtype, self.quantized),
            args=arguments,
            train_dataset=_dataset(rows),
            eval_dataset=_dataset(held_out) if held_out else None,
            processing_class=tokenizer,
            peft_config=adapter(self.lora),
            optimizer_cls_and_kwargs=(lambda: optimizer, {}) if self.muon else None,
        )
        trainer.reading = self.reading

        def note(_: int, seen: Mapping[str, float]) -> None:
            trainer.log(dict(seen))  # also goes to wherever `report_to` says

        for callback in watching(self.watch, self.output_dir, note):
            trainer.add_callback(callback)
        return trainer

    def _arguments(self, measured: bool) -> Any:
        import torch
        from trl import SFTConfig

        on_gpu = torch.cuda.is_available()
        given: dict[str, Any] = {
            "output_dir": str(self.output_dir),
            "learning_rate": self.learning_rate,
            "num_train_epochs": self.epochs,
            "max_steps": self.max_steps,
            "per_device_train_batch_size": self.batch_size,
            "per_device_eval_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.accumulation,
            "max_length": self.max_length,
            "packing": self.packing,
            "packing_strategy": "bfd",
            "gradient_checkpointing": self.gradient_checkpointing,
            "bf16": on_gpu and self.dtype in ("", "bfloat16"),
            "use_cpu": not on_gpu,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.03,
            "logging_steps": 10,
            "eval_strategy": "steps" if measured and self.eval_every else "no",
            "eval_steps": self.eval_every or None,
            "save_strategy": "steps" if self.save_every else "no",
            "save_steps": self.save_every or 500,
            "save_total_limit": 2,
            "report_to": self.report_to,
            "seed": self.seed,
            "data_seed": self.seed,
            "dataset_num_proc": None,
        }
        return SFTConfig(**{**given, **self.options})

    def __repr__(self) -> str:
        """Return one line: the model, what is trained of it, and where to."""
        kind = f"LoRA {self.lora}" if self.lora else "all weights"
        return f"SFT({str(self.source)!r}, {kind}, lr {self.learning_rate:g}, {str(self.output_dir)!r})"


def _dataset(rows: Corpus) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": [row.labels for row in rows]})


def _trainer_class() -> Any:
    """Return TRL's SFTTrainer with a weight for the loss on what the policy only saw."""
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    class ReadingTrainer(SFTTrainer):  # type: ignore[misc]
        """Adds `reading` times the mean loss on unspoken tokens while it trains; alone it is TRL's own loss."""

        reading = 0.0

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if not self.reading or not model.training:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            labels = inputs["labels"][:, 1:]
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False)
            ids = inputs["input_ids"][:, 1:]
            losses = cross_entropy(outputs.logits[:, :-1].float().transpose(1, 2), ids, reduction="none")
            said = labels != IGNORED
            seen = inputs["attention_mask"][:, 1:].bool() & ~said
            known = said.sum() if num_items_in_batch is None else num_items_in_batch
            loss = (
                losses[said].sum() / known + self.reading * losses[seen].mean() / self.args.gradient_accumulation_steps
            )
            return (loss, outputs) if return_outputs else loss

    return ReadingTrainer


# --- models, which GRPO shares ----------------------------------------------------------------------------------------


def load_tokenizer(source: Any) -> Any:
    """Return the tokenizer of a folder, a hub id or a LocalPolicy.

    Raises:
        TrainingError: It cannot be loaded, or torch and transformers are not there.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise TrainingError("training needs torch, transformers and trl: pip install 'swebench-lab[train]'") from error
    if hasattr(type(source), "renderer"):
        return source.renderer.tokenizer
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        raise TrainingError(f"training: loading the tokenizer of {source}: {error}") from error


def load_model(source: Any, dtype: str = "", quantized: bool = False) -> Any:
    """Return a model to train: float32 on a CPU, bfloat16 on a GPU, unless a type is named.

    Raises:
        TrainingError: It cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if hasattr(type(source), "sampler"):
        import copy

        return copy.deepcopy(source.model)  # the policy stays as it is, for comparison
    kind = getattr(torch, dtype) if dtype else torch.bfloat16 if torch.cuda.is_available() else torch.float32
    more: dict[str, Any] = {}
    if quantized:
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


def is_main() -> bool:
    """Whether this is the first of the processes that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def together() -> Any:
    """Return accelerate's state of the processes that train together; on a CPU it has to be told that they do."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def everybody() -> None:
    """Wait until all processes that train together are here; alone, go on."""
    together().wait_for_everyone()


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of a folder, or None."""
    found = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return str(max(found, key=lambda path: int(path.name.rpartition("-")[2]))) if found else None
