"""Plan: what a training and its servers need on each GPU, counted before anything starts.

    lab.plan("Qwen/Qwen2.5-Coder-7B-Instruct", lab.Placement(trainers=4, sharded=True, replicas=4), settings)

What cannot fit is refused, with the first change that would make it fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.errors import TrainingError
from swebench_lab.training.model.memory import GIB, local_sampler, trainer, training_of
from swebench_lab.training.model.shape import BYTES, Shape
from swebench_lab.training.options.placement import Placement
from swebench_lab.training.options.settings import GRPOSettings, SFTSettings

if TYPE_CHECKING:
    import polars as pl

Settings = GRPOSettings | SFTSettings
TRAINER, SERVER = "trainer", "server"


@dataclass(frozen=True)
class Plan:
    """Memory on each kind of GPU.

    Args:
        shape: The model.
        placement: What runs where.
        settings: How it is trained.
        parts: Role → part → bytes on each of its GPUs.
        kv_tokens: Tokens that one server keeps keys and values of; 0 where nothing serves.
    """

    shape: Shape
    placement: Placement
    settings: Settings
    parts: Mapping[str, Mapping[str, int]]
    kv_tokens: int

    @property
    def totals(self) -> dict[str, int]:
        """Bytes of each kind of GPU; where trainers and servers share GPUs, those of both."""
        sums = {role: sum(parts.values()) for role, parts in self.parts.items()}
        if self.placement.colocated:
            return {f"{TRAINER} and {SERVER}": sum(sums.values()) - int(self.placement.reserve * GIB)}
        return sums

    @property
    def rows_at_once(self) -> float:
        """Attempts of `max_length` tokens that all servers hold at the same time; shorter ones are more."""
        return self.placement.replicas * self.kv_tokens / self.settings.max_length

    @property
    def problems(self) -> list[str]:
        """Why it cannot run; empty where it fits."""
        room = self.placement.gpu_memory
        found = [
            f"a GPU of the {role} has {room:g} GiB and needs {size / GIB:.1f}"
            for role, size in self.totals.items()
            if size > room * GIB
        ]
        if self.placement.replicas and self.kv_tokens < self.settings.max_length:
            found.append(
                f"a server has room for the keys and values of {self.kv_tokens} tokens, and one attempt has up to "
                f"{self.settings.max_length}"
            )
        return found

    @property
    def fits(self) -> bool:
        """Whether it can run."""
        return not self.problems

    def to_frame(self) -> pl.DataFrame:
        """Return one row a part, in GiB on each GPU of its role."""
        import polars as pl

        return pl.DataFrame([{"role": role, "part": part, "gib": size / GIB} for role, parts in self.parts.items()
                             for part, size in parts.items()])  # fmt: skip

    def __repr__(self) -> str:
        """Return one line: the size of the model, the GPUs, and what each kind needs."""
        needs = ", ".join(f"{role} {size / GIB:.1f}" for role, size in self.totals.items())
        served = (
            f", {self.rows_at_once:.1f} attempts of {self.settings.max_length} tokens at once" if self.kv_tokens else ""
        )
        word = "fits" if self.fits else "does not fit"
        gpus, size = self.placement.gpus, self.shape.parameters / 1e9
        return f"Plan({size:.2f}B on {gpus} GPUs of {self.placement.gpu_memory:g} GiB: {needs}{served}: {word})"

    def _repr_html_(self) -> str:
        rows = [
            [role, part, round(size / GIB, 2)] for role, parts in self.parts.items() for part, size in parts.items()
        ]
        return _html.card(repr(self), _html.table(["GPU", "part", "GiB"], rows))


def plan(
    model: Any,
    placement: Placement | None = None,
    settings: Settings | None = None,
    *,
    workers: int = 0,
    refuse: bool = True,
) -> Plan:
    """Count the memory of a training on each GPU; nothing is loaded or started.

    Args:
        model: A folder, a hub id, a configuration of transformers, or the values of a config.json.
        placement: What runs where; None: one GPU that trains and one that serves.
        settings: GRPOSettings or SFTSettings; None: those of GRPO. For SFT, nothing serves.
        workers: Attempts at once of a LocalPolicy; 0: all of an update. Servers queue what does not fit.
        refuse: Whether what cannot fit is an error; else the plan says so.

    Raises:
        TrainingError: It cannot fit, or the model or a setting is of a kind that is not counted.
    """
    settings = settings or GRPOSettings()
    placement = placement or Placement()
    if isinstance(settings, SFTSettings) and placement.replicas:
        placement = replace(placement, replicas=0, tensor_parallel=1, colocated=False)
    result = _count(Shape.of(model), placement, settings, workers)
    if refuse and not result.fits:
        largest = [f"{role}: {part} {size / GIB:.1f}" for role, parts in result.parts.items()
                   for part, size in sorted(parts.items(), key=lambda item: -item[1])[:3]]  # fmt: skip
        raise TrainingError(
            f"plan: {'; '.join(result.problems)} (largest parts in GiB: {', '.join(largest)}); {_advice(result, workers)}"
        )
    return result


def _count(shape: Shape, placement: Placement, settings: Settings, workers: int) -> Plan:
    """Count all parts."""
    asynchronous = getattr(settings, "engine", "") == "async"
    training = training_of(settings, mask=asynchronous and not placement.flash)
    reserve = int(placement.reserve * GIB)
    shards = placement.trainers if placement.sharded else 1
    parts: dict[str, dict[str, int]] = {TRAINER: trainer(shape, training, shards, placement.trainers)}
    if isinstance(settings, GRPOSettings) and not placement.replicas:
        attempts = workers or settings.update_size(placement.trainers).attempts
        parts[TRAINER]["sampler"] = local_sampler(shape, training, attempts, twice=asynchronous)
    parts[TRAINER]["reserve"] = reserve
    tokens = 0
    if placement.replicas:
        weights = shape.parameters * BYTES[placement.serve_dtype] // placement.tensor_parallel
        room = max(0, int(placement.share * placement.gpu_memory * GIB) - weights - reserve)
        tokens = shape.kv_tokens(room, placement.serve_dtype, placement.tensor_parallel)
        cache_bytes = tokens * shape.kv_bytes(placement.serve_dtype, placement.tensor_parallel)
        parts[SERVER] = {"weights": weights, "keys and values": cache_bytes, "reserve": reserve}
    return Plan(shape, placement, settings, parts, tokens)


def _advice(plan: Plan, workers: int) -> str:
    """Return the first change that makes it fit."""
    placement, settings = plan.placement, plan.settings
    least: dict[str, Any] = {"gradient_checkpointing": True, "per_device_train_batch_size": 1}
    tries: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("gradient_checkpointing=True", {}, {"gradient_checkpointing": True}),
        ("gradient_checkpointing=True and per_device_train_batch_size=1", {}, least),
        ("Placement(sharded=True)", {"sharded": True}, {}),
        ("lora=32, gradient_checkpointing=True and per_device_train_batch_size=1", {}, {"lora": 32, **least}),
        ("Placement(tensor_parallel=2)", {"tensor_parallel": 2}, {}),
        ("lora=32, gradient_checkpointing=True and Placement(sharded=True)", {"sharded": True}, {"lora": 32, **least}),
    ]
    for words, where, how in tries:
        try:
            variant = _count(plan.shape, replace(placement, **where), replace(settings, **how), workers)
        except (ValueError, TrainingError):
            continue
        if variant.fits:
            return f"it fits with {words}"
    return "take more or larger GPUs, a smaller model, or a smaller max_length"
