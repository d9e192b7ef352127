"""Transfer: the ways that whole weights can take to the servers of a model, and the choice among them.

| way | what travels | needs |
|---|---|---|
| `nccl` | broadcasts from GPU to GPU, vLLM's own backend | GPUs, and vLLM importable in the trainer's process |
| `stream` | one tensor after the other over TCP | the folder `engine_plugin` on the server's PYTHONPATH, where `serve` puts it |
| `disk` | one file of safetensors that vLLM reloads | a folder that trainer and servers see, such as /dev/shm |

A LoRA adapter travels by itself where the server was started with `lora`, whichever way whole weights would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from swebench_lab.errors import ServingError
from swebench_lab.policies.serving.replicas import Replicas
from swebench_lab.policies.trainable import Weight

WAYS = ("nccl", "stream", "disk")
"""Names of the ways."""
STREAM = "swebench_lab_stream"
"""What vLLM calls the plug-in."""


class Transfer(Protocol):
    """One way for whole weights; the servers are paused while it is used."""

    def open(self, replicas: Replicas, weights: Sequence[Weight]) -> None:
        """Set up the way for tensors of these names, types and shapes; called once.

        Raises:
            ServingError: It cannot be had here.
        """

    def send(self, replicas: Replicas, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Send all tensors, in the order of `open`, holding one at a time.

        Raises:
            ServingError: They did not arrive.
        """

    def close(self) -> None:
        """Release what it needed; may be called more than once."""


def transfer_for(backend: str | None, folder: str = "") -> Transfer:
    """Return the way that servers were started for.

    Args:
        backend: What they name in their weight-transfer configuration; None: they have none, and reload files.
        folder: For the way `disk`: a folder that trainer and servers see; empty: shared memory of this machine.

    Raises:
        ServingError: It is none of ours.
    """
    if backend == STREAM:
        from swebench_lab.policies.serving.transfer_stream import StreamTransfer

        return StreamTransfer()
    if backend == "nccl":
        from swebench_lab.policies.serving.transfer_nccl import NCCLTransfer

        return NCCLTransfer()
    if backend is None:
        from swebench_lab.policies.serving.transfer_disk import DiskTransfer

        return DiskTransfer(folder)
    raise ServingError(
        f"updating weights: the server takes them by {backend!r}, which is not supported; start it with "
        f"serve(…, updates=True, transfer=…), one of {', '.join(WAYS)}"
    )
