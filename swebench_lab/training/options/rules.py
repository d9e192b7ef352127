"""Rules: which attempts, and which of their tokens, GRPO trains on."""

from __future__ import annotations

from dataclasses import dataclass

_CHOICES = {
    "truncated": ("grade", "mask"),
    "full_context": ("mask", "grade"),
    "below_mean": ("train", "mask"),
    "failed_commands": ("train", "mask"),
    "zero_variance": ("drop", "keep"),
}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is trained on. Whatever is masked adds nothing to the loss, not even to what the loss is divided by.

    Raises:
        ValueError: A value is not one of the choices.
    """

    truncated: str = "grade"
    """An attempt that a limit ended: `grade`, its verdict counts as any other's; `mask`, it is left out. TRL's
    `mask_truncated_completions` asks whether the text ended; this asks whether the attempt did."""
    full_context: str = "mask"
    """An attempt that filled the model's context: `mask`, it is left out; `grade`, its verdict counts as any other's. One
    with a row that is longer than the settings allow is left out either way."""
    below_mean: str = "train"
    """An attempt whose reward is below its group's mean: `train`, it is made less likely; `mask`, it is left out, which
    suits policies most of whose tokens are right even where the attempt fails."""
    failed_commands: str = "train"
    """A reply whose command exited non-zero, in an attempt above its group's mean: `train`, it is reinforced with the
    rest; `mask`, its tokens are context only."""
    zero_variance: str = "drop"
    """A group whose rewards are all equal: `drop`, it is left out; `keep`, it enters with advantage 0, which dilutes the
    loss."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                options = " or ".join(map(repr, choices))
                raise ValueError(f"Rules({name}={getattr(self, name)!r}): choose {options}")
