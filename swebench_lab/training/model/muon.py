"""Muon: an optimiser for models that start from nothing; their matrices by torch's Muon, all the rest by AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def muon(model: Any, *, lr: float, weight_decay: float = 0.05) -> Any:
    """Return an optimiser for all weights of a model.

    Matrices within the layers take orthogonal steps of the size that AdamW's have; embeddings and vectors are AdamW's.

    Args:
        model: The model.
        lr: Learning rate of both.
        weight_decay: Of the matrices.
    """
    import torch

    class Both(torch.optim.Optimizer):
        """Two optimisers that a scheduler and a checkpoint see as one."""

        def __init__(self, *parts: torch.optim.Optimizer) -> None:
            self.parts = parts
            super().__init__([group for part in parts for group in part.param_groups], {})

        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                loss = None if closure is None else closure()
            for part in self.parts:
                part.step()
            return loss

        def state_dict(self) -> dict[str, Any]:
            return {"parts": [part.state_dict() for part in self.parts]}

        def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
            for part, state in zip(self.parts, state_dict["parts"], strict=True):
                part.load_state_dict(state)
            self.param_groups = [group for part in self.parts for group in part.param_groups]

    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    matrices: list[Any] = []
    rest: list[Any] = []
    for weight in model.parameters():
        if weight.requires_grad:
            (matrices if weight.ndim == 2 and id(weight) not in embeddings else rest).append(weight)
    return Both(
        torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    )
