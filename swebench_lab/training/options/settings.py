"""Settings: how SFT and GRPO train, as frozen values whose fields have TRL's names.

A field that TRL's SFTConfig, GRPOConfig or AsyncGRPOConfig has too is called as there and means the same. The one
exception is `updates` for TRL's `max_steps`, since `max_steps` is an attempt's limit everywhere in this package.
`docs/training.md` has the table of equivalents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from swebench_lab.errors import TrainingError
from swebench_lab.records.trackers import TRACKERS
from swebench_lab.training.data.corpus import Curation
from swebench_lab.training.options import capabilities
from swebench_lab.training.options.config import Config
from swebench_lab.training.options.rules import Rules

DTYPES = ("", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class UpdateSize:
    """How the attempts of an update are shared out.

    Args:
        tasks: Tasks of an update.
        attempts: Attempts of an update, over all processes.
        batches: Forward passes of each process over the attempts of an update.
        accumulation: Forward passes of an optimiser step.
        steps: Optimiser steps of an update.
    """

    tasks: int
    attempts: int
    batches: int
    accumulation: int
    steps: int


@dataclass(frozen=True, kw_only=True, repr=False)
class GRPOSettings(Config):
    """How `lab.GRPO` trains.

    Raises:
        TrainingError: A name is unknown, a value is out of range, or the engine has no such thing.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "group_size": "num_generations",
        "steps": "gradient_accumulation_steps: forward passes of an optimiser step, not steps of an update",
        "passes": "num_iterations",
        "batch_size": "per_device_train_batch_size",
        "ratio_cap": "vllm_importance_sampling_clip_max",
        "save_every": "save_steps, and counts optimiser steps",
        "shuffle": "shuffle_dataset",
        "remember": "cache_verdicts",
        "max_steps": "updates; `max_steps` is an attempt's limit, which the Agent has",
        "schedule": "lr_scheduler_type",
        "generation_batch_size": "tasks_per_update, which counts tasks: it is num_generations × tasks_per_update",
    }

    engine: str = "sync"
    """`sync`: all attempts of an update, then its training (TRL's GRPOTrainer). `async`: attempts go on while the model
    trains (TRL's AsyncGRPOTrainer)."""
    output_dir: str = "grpo"
    """Folder of the training: checkpoints, settings, the table of updates, every update's rollouts and the finished model.
    A rerun with the same one resumes from its last checkpoint."""
    num_generations: int = 8
    """Attempts at each task of an update, at least 2: an advantage is a difference between them."""
    tasks_per_update: int = 8
    """Tasks of an update, over all processes. TRL has no name for it: its generation_batch_size is num_generations ×
    tasks_per_update."""
    steps_per_generation: int = 0
    """Forward passes of each process over an update's attempts, in place of tasks_per_update; 0: as tasks_per_update
    says."""
    per_device_train_batch_size: int = 8
    """Rows of a forward pass on each process; must divide the attempts of an update."""
    gradient_accumulation_steps: int = 0
    """Forward passes of an optimiser step on each process; 0: all of an update's, so that an update is one step."""
    refill: int = 0
    """Engine `sync`: most times that an update's groups with nothing to train on (say all rewards equal) are replaced by
    groups of other tasks, which is dynamic sampling as DAPO has it; 0: they are left out. `async` goes on until an update
    is full."""
    num_iterations: int = 1
    """Times that training goes through the attempts of an update."""
    updates: int = 100
    """Updates to make. TRL's max_steps counts optimiser steps, of which an update may have several."""
    minutes: float | None = None
    """Minutes after which training stops and is saved, whatever `updates` says; None: no such limit."""
    learning_rate: float = 1e-6
    """Peak learning rate; TRL's default for GRPO, meant for models of billions of weights."""
    lr_scheduler_type: str = "constant_with_warmup"
    """How the learning rate goes on after the warm-up: `linear` falls to 0 at the last update."""
    warmup_steps: float = 2
    """Optimiser steps over which the learning rate rises, above 0 from the first on; below 1: a share of all. Two keep the
    first noisy estimate of Adam's second moment from taking a full step."""
    weight_decay: float = 0.0
    """Decay of weights per step, times the learning rate; 0, since few small steps from a trained model need none."""
    muon: bool = False
    """Whether matrices are trained by Muon (see muon.py), which pays for models made from nothing."""
    epsilon: float = 0.2
    """How far a token's probability ratio may fall below 1 before its gradient is cut."""
    epsilon_high: float | None = None
    """How far it may rise above 1; None: as far as `epsilon`."""
    vllm_importance_sampling_clip_max: float = 3.0
    """Largest importance ratio of a token between sampler and trainer; a larger one is cut to it, whoever sampled."""
    distillation: float = 0.0
    """How much each sampled token's advantage rises with (the teacher's logprob of it - the sampler's), for
    `GRPO(teacher=…)`: on-policy distillation, beside the reward. Groups whose rewards are all equal are trained on too."""
    beta: float = 0.0
    """Weight of the KL divergence from the initial policy; 0: none is computed and no second model is held."""
    loss_type: str = "dapo"
    """How token losses are summed, as TRL names it: `dapo` is the mean over all tokens of an update."""
    scale_rewards: str = "group"
    """`group`: advantages are divided by the standard deviation of their group; `none`: they are not."""
    rules: Rules = field(default_factory=Rules)
    """Which attempts, and which of their tokens, are trained on (see Rules)."""
    max_length: int = 32_768
    """Most tokens of a row, its prompt included; a longer attempt is masked and counted as over-long."""
    max_completion_length: int = 0
    """Most tokens of a row from the first sampled one on; 0: `max_length` alone counts."""
    temperature: float | None = None
    """Sampling temperature of the policy: in its attempts, and what logits are divided by in training; None: its own."""
    max_staleness: int = 4
    """Engine `async`: most updates that a row may be behind the weights it is used on."""
    lora: int | Mapping[str, Any] = field(default=0, hash=False)
    """Rank of a LoRA adapter on all linear layers, or options of peft's LoraConfig; 0: all weights."""
    merge_lora: bool = True
    """Whether the finished model is the whole one with the adapter merged into it; else the adapter alone, which names its
    model by its whole path."""
    dtype: str = ""
    """Type of the frozen weights beside an adapter, such as `bfloat16`; empty: bfloat16 on a GPU and float32 on a CPU.
    Weights that are trained are float32 always; on a GPU they are computed with in bfloat16 unless this is `float32`."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third more time. TRL's default
    is True; here a short update is the common case."""
    shuffle_dataset: bool = True
    """Whether tasks come in an order drawn from the seed; else as given, say the easiest first
    (`batches.by_difficulty`)."""
    curriculum: bool = False
    """Whether tasks are drawn by what came of earlier attempts at them: the more often, the less certain the outcome is. An
    attempt that succeeds half of the time weighs most; one that always or never does comes back now and then."""
    check: bool = False
    """Whether tasks are certified before the first update; those that fail are left out, with a warning."""
    cache_verdicts: bool = True
    """Whether equal patches of a task are graded once."""
    save_steps: int = 0
    """Optimiser steps between two checkpoints; 0: at the end only. A multiple of those of an update."""
    report_to: str = "none"
    """Where the log goes as well: `none`, `wandb`, `trackio`, `mlflow` or `tensorboard`."""
    seed: int = 0
    """Random seed: of the order of tasks and of the attempts."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further options of TRL's configuration: GRPOConfig or AsyncGRPOConfig; never one that is a setting or would have no
    effect."""

    def __post_init__(self) -> None:
        self.check_choice("engine", tuple(capabilities.ENGINES))
        object.__setattr__(self, "output_dir", str(self.output_dir))
        self.check_numbers(_LEAST_GRPO, _WHOLE_GRPO)
        self.check_choice("scale_rewards", ("group", "none"))
        _check_common(self)
        if not isinstance(self.rules, Rules):
            self.refuse("rules", "it takes Rules(…)")
        if self.refill and self.rules.zero_variance == "keep":
            self.refuse(
                "refill", "Rules(zero_variance='keep') keeps the groups that it would replace; leave one of them out"
            )
        if self.steps_per_generation and "tasks_per_update" in self.given:
            self.refuse(
                "steps_per_generation", "it decides the size of an update, and so does tasks_per_update; keep one"
            )
        if self.distillation and self.refill:
            self.refuse("refill", "with a teacher no group is without anything to train on; leave one of them out")
        if self.distillation and self.loss_type not in (linear := ("dapo", "grpo", "bnpo", "dr_grpo")):
            self.refuse(
                "loss_type", f"distillation gives each token an advantage of its own; choose {' or '.join(linear)}"
            )
        if self.curriculum and not self.shuffle_dataset:
            self.refuse("curriculum", "it decides the order of tasks, and so does shuffle_dataset=False; keep one")
        engine = capabilities.ENGINES[self.engine]
        engine.check_supported(self.differences, type(self).__name__)
        _check_options(self, engine)
        if not self.steps_per_generation:
            self.update_size()

    def update_size(self, processes: int = 1) -> UpdateSize:
        """Return how an update is shared out among processes.

        Args:
            processes: Processes that train together.

        Raises:
            TrainingError: It cannot be shared out evenly.
        """
        rows = self.per_device_train_batch_size * processes
        attempts = rows * self.steps_per_generation or self.num_generations * self.tasks_per_update
        if attempts % self.num_generations:
            self.refuse("steps_per_generation", f"{attempts} attempts are no whole groups of {self.num_generations}")
        if attempts % rows:
            self.refuse(
                "per_device_train_batch_size",
                f"the {attempts} attempts of an update do not divide into batches of it on {processes} processes",
            )
        batches = attempts // rows
        accumulation = self.gradient_accumulation_steps or batches
        if batches % accumulation:
            self.refuse("gradient_accumulation_steps", f"it does not divide the {batches} forward passes of an update")
        steps = batches // accumulation * self.num_iterations
        return UpdateSize(attempts // self.num_generations, attempts, batches, accumulation, steps)

    def check_saving(self, processes: int) -> None:
        """Refuse checkpoints that would fall between the steps of one update.

        Raises:
            TrainingError: `save_steps` is no multiple of an update's steps.
        """
        steps = self.update_size(processes).steps
        if self.save_steps % steps:
            self.refuse("save_steps", f"it must be a multiple of the {steps} optimiser steps of an update")


@dataclass(frozen=True, kw_only=True, repr=False)
class SFTSettings(Config):
    """How `lab.SFT` trains.

    Raises:
        TrainingError: A name is unknown, or a value is out of range.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "epochs": "num_train_epochs",
        "max_steps": "updates; `max_steps` is an attempt's limit, which the Agent has",
        "batch_size": "per_device_train_batch_size",
        "accumulation": "gradient_accumulation_steps",
        "eval_every": "eval_steps",
        "save_every": "save_steps",
        "reading": "context_loss_weight",
        "quantized": "load_in_4bit",
        "schedule": "lr_scheduler_type",
    }

    output_dir: str = "sft"
    """Folder of the training: checkpoints, settings and the finished model. A rerun with the same one resumes from its
    last checkpoint."""
    learning_rate: float = 1e-5
    """Peak learning rate; half of TRL's default, for whole models of billions of weights."""
    lr_scheduler_type: str = "cosine"
    """How the learning rate goes on after the warm-up: `cosine` falls to 0 at the last update."""
    warmup_steps: float = 0.03
    """Optimiser steps over which the learning rate rises, above 0 from the first on; below 1: a share of all."""
    weight_decay: float = 0.0
    """Decay of weights per step, times the learning rate."""
    muon: bool = False
    """Whether matrices are trained by Muon (see muon.py), which pays for models made from nothing."""
    num_train_epochs: float = 1.0
    """Passes over the rows; TRL's default is 3."""
    updates: int = 0
    """Updates to make; 0: as many as num_train_epochs says. TRL calls it max_steps."""
    per_device_train_batch_size: int = 1
    """Rows of a forward pass on each process; 1, since rows are long."""
    gradient_accumulation_steps: int = 8
    """Forward passes of an optimiser step on each process."""
    max_length: int = 32_768
    """Most tokens of a row, its prompt included; a longer attempt is left out and reported, never cut."""
    packing: bool = False
    """Whether rows are packed together (best fit, decreasing), which pays for long rows on a GPU."""
    context_loss_weight: float = 0.0
    """Weight of the mean loss on the tokens that the policy only saw, beside 1 for those it wrote; for models that have
    read nothing yet."""
    lora: int | Mapping[str, Any] = field(default=0, hash=False)
    """Rank of a LoRA adapter on all linear layers, or options of peft's LoraConfig; 0: all weights."""
    merge_lora: bool = True
    """Whether the finished model is the whole one with the adapter merged into it; else the adapter alone, which names its
    model by its whole path."""
    load_in_4bit: bool = False
    """Whether the base model is loaded in 4 bits (QLoRA); needs bitsandbytes, a GPU and `lora`."""
    dtype: str = ""
    """Type of the frozen weights beside an adapter, such as `bfloat16`; empty: bfloat16 on a GPU and float32 on a CPU.
    Weights that are trained are float32 always; on a GPU they are computed with in bfloat16 unless this is `float32`."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third more time."""
    curation: Curation = field(default_factory=Curation, hash=False)
    """Which attempts are trained on (see Curation); its `max_length` and this one's: the smaller counts."""
    held_out: float = 0.0
    """Share of the tasks whose rows only measure the loss."""
    eval_steps: int = 0
    """Optimiser steps between two such measurements; 0: at the end only."""
    temperature: float = 1.0
    """Sampling temperature of the policy: of the one that `fit` returns."""
    logging_steps: int = 10
    """Optimiser steps between two entries of the log."""
    save_steps: int = 0
    """Optimiser steps between two checkpoints; 0: at the end only."""
    report_to: str = "none"
    """Where the log goes as well: `none`, `wandb`, `trackio`, `mlflow` or `tensorboard`."""
    seed: int = 0
    """Random seed: of the order of rows and of adapters."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further options of TRL's configuration: SFTConfig; never one that is a setting or would have no effect."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", str(self.output_dir))
        self.check_numbers(_LEAST_SFT, _WHOLE_SFT)
        _check_common(self)
        if not isinstance(self.curation, Curation):
            self.refuse("curation", "it takes Curation(…)")
        if self.held_out >= 1:
            self.refuse("held_out", "it is a share of the tasks, below 1")
        if self.load_in_4bit and not self.lora:
            self.refuse("load_in_4bit", "four-bit weights cannot be trained; give lora=16 as well")
        if self.context_loss_weight and self.packing:
            self.refuse("context_loss_weight", "with packing=True a row would be predicted from the row before it")
        _check_options(self, capabilities.SFT)
        without = capabilities.OWN_LOSS & set(self.options) if self.context_loss_weight else ()
        for name in sorted(without):
            raise TrainingError(f"SFTSettings(options={{{name!r}: …}}): without effect beside context_loss_weight")


_LEAST_SHARED = {
    "learning_rate": 0.0,
    "warmup_steps": 0.0,
    "weight_decay": 0.0,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 0,
    "max_length": 1,
    "temperature": 0.0,
    "save_steps": 0,
    "updates": 0,
    "seed": 0,
}
_LEAST_GRPO = _LEAST_SHARED | {
    "num_generations": 2,
    "tasks_per_update": 1,
    "steps_per_generation": 0,
    "num_iterations": 1,
    "refill": 0,
    "updates": 1,
    "minutes": 0.0,
    "epsilon": 0.0,
    "epsilon_high": 0.0,
    "vllm_importance_sampling_clip_max": 1.0,
    "beta": 0.0,
    "distillation": 0.0,
    "max_completion_length": 0,
    "max_staleness": 0,
}
_LEAST_SFT = _LEAST_SHARED | {
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 0.0,
    "context_loss_weight": 0.0,
    "held_out": 0.0,
    "eval_steps": 0,
    "logging_steps": 1,
}
_WHOLE = capabilities.names(
    "per_device_train_batch_size gradient_accumulation_steps max_length save_steps updates seed"
)
_WHOLE_GRPO = _WHOLE | capabilities.names(
    "num_generations tasks_per_update steps_per_generation refill num_iterations max_completion_length max_staleness"
)
_WHOLE_SFT = _WHOLE | {"eval_steps", "logging_steps"}


def _check_common(settings: GRPOSettings | SFTSettings) -> None:
    """Refuse what neither kind of training can be done with."""
    settings.check_choice("report_to", TRACKERS)
    settings.check_choice("dtype", DTYPES)
    if settings.dtype not in ("", "float32") and not settings.lora:
        settings.refuse(
            "dtype",
            "weights that are trained are kept in float32, since a small step rounds to nothing in any shorter type; on a "
            "GPU they are computed with in bfloat16 anyway. Another type is for the frozen weights beside lora",
        )
    if isinstance(settings.lora, int) and settings.lora < 0:
        settings.refuse("lora", "a rank is not negative; 0 trains all weights")
    if settings.muon and settings.lora:
        settings.refuse("muon", "Muon trains whole matrices, and lora none of them; leave one of the two out")


def _check_options(settings: GRPOSettings | SFTSettings, honoured: capabilities.Capabilities) -> None:
    """Refuse options that are settings or have no effect."""
    owner = type(settings).__name__
    if not isinstance(settings.options, Mapping):
        settings.refuse("options", f"it takes a mapping of {honoured.config}'s options")
    object.__setattr__(settings, "options", dict(settings.options))
    honoured.check_options(settings.options, settings.names(), owner)
    for name in sorted(capabilities.ADAM & set(settings.options)) if settings.muon else ():
        raise TrainingError(f"{owner}(options={{{name!r}: …}}): without effect beside muon=True")
