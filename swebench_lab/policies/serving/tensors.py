"""Tensors: their bytes, as they travel."""

from __future__ import annotations

from typing import Any


def raw(tensor: Any) -> memoryview:
    """Return a tensor's bytes, on the CPU and in its own order."""
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    return memoryview(flat.numpy())
