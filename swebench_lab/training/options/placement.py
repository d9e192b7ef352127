"""Placement: which GPUs train and which serve, as `lab.plan` counts them and the recipe `grpo` shares them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swebench_lab.errors import TrainingError
from swebench_lab.policies.serving.options import devices


@dataclass(frozen=True, kw_only=True)
class Placement:
    """GPUs of a training. Trainers are started by `launch_training` or accelerate, servers by `lab.serve`; this says which.

    Args:
        trainers: GPUs that train, one process each.
        sharded: Whether weights, gradients and optimiser are sharded over the trainers (FSDP2, ZeRO-3); else each holds
            all of them (DDP).
        replicas: Servers of the model; 0: a LocalPolicy samples in the first trainer.
        tensor_parallel: GPUs of one server.
        colocated: Whether servers share the trainers' GPUs. Both are in memory at once: no server is put to sleep.
        gpu_memory: GiB of each GPU.
        share: Share of a GPU that a server takes, as `lab.serve(gpu_memory=…)`.
        serve_dtype: Type of the weights that servers sample from.
        reserve: GiB of each GPU that is not counted by part: the driver's context, libraries, graphs, fragmentation.
        flash: Whether the engine `async` attends with FlashAttention 3 (Hopper GPUs, the package `kernels`); else each
            row has a mask as wide as it is long.

    Raises:
        ValueError: A number is out of range, or nothing serves and servers are described.
    """

    trainers: int = 1
    sharded: bool = False
    replicas: int = 1
    tensor_parallel: int = 1
    colocated: bool = False
    gpu_memory: float = 80.0
    share: float = 0.9
    serve_dtype: str = "bfloat16"
    reserve: float = 4.0
    flash: bool = True

    def __post_init__(self) -> None:
        if self.trainers < 1 or self.replicas < 0 or self.tensor_parallel < 1:
            raise ValueError("Placement: trainers and tensor_parallel are at least 1, and replicas not negative")
        if not 0 < self.share <= 1 or self.reserve < 0 or self.gpu_memory <= self.reserve:
            raise ValueError("Placement: 0 < share <= 1, and gpu_memory is more than reserve, which is not negative")
        if self.serve_dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"Placement(serve_dtype={self.serve_dtype!r}): float32, bfloat16 or float16")
        if self.colocated and self.replicas * self.tensor_parallel > self.trainers:
            raise ValueError("Placement(colocated=True): the servers need more GPUs than the trainers have")
        if not self.replicas and (self.colocated or self.tensor_parallel > 1):
            raise ValueError("Placement(replicas=0): nothing serves; leave colocated and tensor_parallel out")

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.trainers + (0 if self.colocated else self.replicas * self.tensor_parallel)

    def split(self, gpus: Sequence[str] | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the GPUs that train, and those that serve; both empty on a machine without.

        Args:
            gpus: Those of this machine, as CUDA_VISIBLE_DEVICES names them; None: all that this process may use.

        Raises:
            TrainingError: There are too few.
        """
        every = tuple(devices() if gpus is None else gpus)
        if every and len(every) < self.gpus:
            raise TrainingError(f"{self!r} takes {self.gpus} GPUs, and there are {len(every)}: lower trainers or replicas, "
                                "or start the servers on another machine and give their addresses")  # fmt: skip
        serve = every[: self.replicas * self.tensor_parallel] if self.colocated else every[self.trainers : self.gpus]
        return every[: self.trainers], serve
