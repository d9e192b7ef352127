"""NCCL: weights from the trainer's GPU to those of all replicas by vLLM's own broadcasts.

Written against vLLM 0.28 and later; it has not run yet, since it needs GPUs.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from swebench_lab.errors import ServingError
from swebench_lab.policies.serving.replicas import Replicas
from swebench_lab.policies.serving.transfer_stream import own_address
from swebench_lab.policies.trainable import Weight


class NCCLTransfer:
    """One group of the trainer and every worker of every replica; tensors are broadcast in packs."""

    def __init__(self) -> None:
        self._group: Any = None
        self._info: dict[str, Any] = {}

    def open(self, replicas: Replicas, weights: Sequence[Weight]) -> None:
        """Join the group with all workers.

        Raises:
            ServingError: There is no GPU here, or vLLM 0.28 or later cannot be imported.
        """
        import torch

        try:
            from vllm.distributed.weight_transfer.nccl_common import trainer_init
            from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
        except ImportError as error:
            raise ServingError(
                "updating weights by NCCL needs vLLM 0.28 or later in the trainer's own environment (pip install "
                f"'swebench-lab[vllm]'), or serve(…, transfer='stream'): {error}"
            ) from error
        if not torch.cuda.is_available():
            raise ServingError("updating weights by NCCL: this process has no GPU; take serve(…, transfer='stream')")
        sizes = [int(replicas.ask(url, "/get_world_size")["world_size"]) for url in replicas.urls]
        host = own_address(replicas.urls[0])
        with socket.create_server((host, 0)) as probe:
            port = int(probe.getsockname()[1])
        common = {"master_address": host, "master_port": port, "world_size": 1 + sum(sizes), "packed": True}
        offsets = itertools.accumulate([1, *sizes[:-1]])
        with ThreadPoolExecutor(1) as pool:
            bodies = [{"init_info": {**common, "rank_offset": offset}} for offset in offsets]
            future = pool.submit(replicas.each, "/init_weight_transfer_engine", bodies)
            self._group = trainer_init(NCCLTrainerInitInfo(host, port, 1 + sum(sizes), rank=0))
            future.result()
        self._info = {
            "names": [weight.name for weight in weights],
            "dtype_names": [weight.dtype for weight in weights],
            "shapes": [list(weight.shape) for weight in weights],
        }

    def send(self, replicas: Replicas, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Broadcast all tensors; a replica that is gone ends the group, so that this is an error here."""
        from vllm.distributed.weight_transfer.packed_tensor import packed_nccl_broadcast_producer

        replicas.each("/start_weight_update")
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(replicas.each, "/update_weights", {"update_info": self._info})
            packed_nccl_broadcast_producer(
                iterator=iter(weights), group=self._group, src=0, post_iter_func=lambda item: item[1].cuda()
            )
            future.result()
        replicas.each("/finish_weight_update", {"weight_version": str(version)})

    def close(self) -> None:
        """Leave the group."""
        if self._group is not None:
            self._group.destroy()
            self._group = None
