"""Varlen: attention over rows of several lengths in plain torch, where FlashAttention 3 is not to be had.

Slower than the kernel and meant for CPUs and small GPUs; the numbers are the same to rounding.
"""

from __future__ import annotations

from typing import Any

from swebench_lab._compat import attend_with, skip_peak_flops


class TorchVarlen:
    """Stands where TRL expects the FlashAttention 3 module."""

    @staticmethod
    def flash_attn_varlen_func(
        q: Any,
        k: Any,
        v: Any,
        cu_seqlens_q: Any,
        cu_seqlens_k: Any,
        *_: Any,
        softmax_scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        **__: Any,
    ) -> Any:
        """Attend causally, each row to its own keys; the last query sees the last key.

        Args:
            q: (tokens, heads, width).
            k: (keys, key heads, width).
            v: Like `k`.
            cu_seqlens_q: Where each row's queries begin, and the end of all.
            cu_seqlens_k: Likewise for keys.
            softmax_scale: Factor on the products; None: one over the root of the width.
            window_size: How far back a query sees; -1: to the beginning.
        """
        import torch

        parts = []
        shared = q.shape[1] // k.shape[1]
        bounds = zip(cu_seqlens_q.tolist(), cu_seqlens_q[1:].tolist(), cu_seqlens_k.tolist(), cu_seqlens_k[1:].tolist(),
                     strict=False)  # fmt: skip
        for first, end, first_key, end_key in bounds:
            query = q[first:end].transpose(0, 1)
            key, value = (t[first_key:end_key].repeat_interleave(shared, 1).transpose(0, 1) for t in (k, v))
            behind = (end_key - first_key) - (end - first)
            place = torch.arange(end - first, device=q.device)[:, None] + behind
            other = torch.arange(end_key - first_key, device=q.device)[None]
            visible = other <= place
            if window_size[0] >= 0:
                visible &= other >= place - window_size[0]
            attended = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible, scale=softmax_scale
            )
            parts.append(attended.transpose(0, 1))
        return torch.cat(parts)


def without_flash_attention() -> bool:
    """Let TRL's packed rows use plain torch on machines that cannot run FlashAttention 3; say whether that was done."""
    import torch

    if torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0):
        try:
            import kernels  # type: ignore[import-not-found]  # noqa: F401

            return False
        except ImportError:
            pass
    attend_with(TorchVarlen)
    if not torch.cuda.is_available():
        skip_peak_flops()
    return True
