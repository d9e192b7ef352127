"""Compat: every place where internals of other packages are patched or read, and what would make each unnecessary.

Each patch is listed in PATCHES with two checks: whether the internal name is still there, and whether the package still
needs the patch. A test fails when the installed version answers either with no.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Patch:
    """One dependence on internals of another package.

    Args:
        target: Dotted name of what is patched or read.
        package: Distribution that it belongs to.
        tested: Version that it was written against.
        unnecessary: What the package has to offer for the patch to go.
        present: Whether the name is there, in the form that the patch expects.
        needed: Whether the package still lacks what `unnecessary` says.
    """

    target: str
    package: str
    tested: str
    unnecessary: str
    present: Callable[[], bool]
    needed: Callable[[], bool]


# --- TRL: attention of packed rows ------------------------------------------------------------------------------------


def attend_with(varlen: object) -> None:
    """Let TRL's packed rows attend through an object with `flash_attn_varlen_func` in place of FlashAttention 3."""
    import trl.experimental.async_grpo.packing as packing

    packing._flash_attn = lambda: varlen


def skip_peak_flops() -> None:
    """Let AsyncGRPOTrainer start on a machine without a GPU, whose peak it would ask for."""
    import trl.experimental.async_grpo.async_grpo_trainer as trainer

    trainer.get_peak_flops_per_device = lambda *_: None


def _packing_source() -> str:
    import trl.experimental.async_grpo.packing as packing

    return inspect.getsource(packing)


def _async_source() -> str:
    import trl.experimental.async_grpo.async_grpo_trainer as trainer

    return inspect.getsource(trainer)


# --- TRL: GRPOTrainer sampled from outside ----------------------------------------------------------------------------


class _SharedWeights:
    """Stands where TRL expects vLLM, which it brings new weights to; here sampler and trainer share the model."""

    def sync_weights(self) -> None:
        """Nothing has to be brought anywhere."""


def correct_for_sampler(trainer: Any) -> None:
    """Let GRPOTrainer correct for the sampler's log-probabilities although no vLLM of TRL's samples.

    It does so only where it believes that vLLM samples, and brings its weights there once an update.
    """
    trainer.use_vllm = True
    trainer.vllm_generation = _SharedWeights()
    trainer._last_loaded_step = -1


def _sync_source() -> str:
    import trl.trainer.grpo_trainer as trainer

    return inspect.getsource(trainer)


def _has_parameters(method: str, *names: str) -> bool:
    from trl import GRPOTrainer

    return list(inspect.signature(getattr(GRPOTrainer, method)).parameters)[1 : 1 + len(names)] == list(names)


# --- TRL: AsyncGRPOTrainer --------------------------------------------------------------------------------------------


def trained_groups(trainer: Any) -> set[int]:
    """Return the groups that AsyncGRPOTrainer has trained on, which a checkpoint of our worker needs."""
    groups: set[int] = trainer._trained_groups
    return groups


def _async_options() -> frozenset[str]:
    from dataclasses import fields

    from trl.experimental.async_grpo import AsyncGRPOConfig

    return frozenset(item.name for item in fields(AsyncGRPOConfig))


# --- ipykernel: comm messages on the subshell that was asked for ------------------------------------------------------


def answer_on_subshell_asked(comm: Any) -> None:
    """Let a comm's messages be handled by the subshell that the page names, not by the one that spoke last."""
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _subshell_choice


def _subshell_choice(_: object, answer: str | None) -> str | None:
    return answer


def _comm_source() -> str:
    import ipykernel.comm.comm as comm

    return inspect.getsource(comm)


def _fails_without_gpu() -> bool:
    from types import SimpleNamespace

    import torch
    from trl.trainer.utils import get_peak_flops_per_device

    on_cpu = SimpleNamespace(device=torch.device("cpu"))
    try:
        return get_peak_flops_per_device(on_cpu, "float32") is not None
    except (AttributeError, AssertionError, RuntimeError, ValueError, NotImplementedError):
        return True


PATCHES = (
    Patch(
        "trl.experimental.async_grpo.packing._flash_attn",
        "trl",
        "1.16.0",
        "a way to choose the attention kernel of packed rows, or one in plain torch",
        lambda: "_flash_attn().flash_attn_varlen_func(" in _packing_source(),
        lambda: "scaled_dot_product_attention" not in _packing_source(),
    ),
    Patch(
        "trl.experimental.async_grpo.async_grpo_trainer.get_peak_flops_per_device",
        "trl",
        "1.16.0",
        "get_peak_flops_per_device returns None on a CPU",
        lambda: "get_peak_flops_per_device(self.accelerator" in _async_source(),
        _fails_without_gpu,
    ),
    Patch(
        "trl.GRPOTrainer._last_loaded_step",
        "trl",
        "1.16.0",
        "importance sampling correction for log-probabilities of a rollout_func without use_vllm",
        lambda: "self._last_loaded_step" in _sync_source() and "self.vllm_generation.sync_weights()" in _sync_source(),
        lambda: "if self.use_vllm and self.vllm_importance_sampling_correction" in _sync_source(),
    ),
    Patch(
        "trl.GRPOTrainer._get_per_token_logps_and_entropies",
        "trl",
        "1.16.0",
        "masked rows are left out of the forward passes, and an attempt may be several rows",
        lambda: _has_parameters(
            "_get_per_token_logps_and_entropies", "model", "input_ids", "attention_mask", "logits_to_keep"
        ),
        lambda: "attention_mask.sum(1) >" not in _sync_source(),
    ),
    Patch(
        "trl.experimental.async_grpo.AsyncGRPOTrainer._trained_groups",
        "trl",
        "1.16.0",
        "checkpoints that ask any rollout worker for its position, not TRL's own alone",
        lambda: "self._trained_groups: set[int]" in _async_source(),
        lambda: "isinstance(self.rollout_worker, AsyncRolloutWorker)" in _async_source(),
    ),
    Patch(
        "trl.experimental.async_grpo.AsyncGRPOTrainer._sync_weight",
        "trl",
        "1.16.0",
        "weights to several servers, by any way, and a check after each update that they arrived",
        lambda: "def _sync_weight(self):" in _async_source() and "self._sync_weight, self.args" in _async_source(),
        lambda: "vllm_server_base_urls" not in _async_options(),
    ),
    Patch(
        "trl.experimental.async_grpo.AsyncGRPOTrainer.compute_loss",
        "trl",
        "1.16.0",
        "an upper bound of the importance ratio in AsyncGRPOConfig, as GRPOConfig's vllm_importance_sampling_clip_max",
        lambda: "outputs.log_probs.flatten()[token_index]" in _async_source() and "self._metrics" in _async_source(),
        lambda: not {"vllm_importance_sampling_clip_max", "delta"} & _async_options(),
    ),
    Patch(
        "ipykernel.comm.comm.BaseComm._reply_subshell_for",
        "ipykernel",
        "7.4.0",
        "comm messages handled by the subshell that the frontend names",
        lambda: "_reply_subshell_for" in _comm_source(),
        lambda: "_reply_subshell_id" in _comm_source(),
    ),
)
"""All patches of other packages' internals."""
