"""Stream: vLLM's side of weights that come over a TCP connection, for machines without NCCL.

Runs inside vLLM's processes, which find it by the folder beside it (`vllm.general_plugins`); it is imported by none of
ours and imports nothing of ours. `lab.serve(updates=True)` puts its folder on the servers' PYTHONPATH.

A worker connects to the trainer, says the token that the trainer gave it over HTTP, and reads frames: the length of a
header (4 bytes, big-endian), the header (JSON: name, dtype, shape, bytes), then the tensor's bytes. A header without a
name ends the update. One tensor is held at a time.
"""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

NAME = "swebench_lab_stream"
TIMEOUT = 600.0
"""Seconds that a worker waits for the next piece of an update."""


def register() -> None:
    """Make the backend known to vLLM; called in each of its processes, perhaps more than once."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, _engine())


def _infos() -> tuple[type, type]:
    """Return the forms of what the trainer says once, and at each update."""
    from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo

    @dataclass
    class StreamInit(WeightTransferInitInfo):
        """Where the trainer listens, and what it wants to hear first."""

        host: str
        port: int
        token: str

    @dataclass
    class StreamUpdate(WeightTransferUpdateInfo):
        """How many tensors an update has; they say the rest of themselves."""

        count: int

    return StreamInit, StreamUpdate


def _engine() -> type:
    import torch
    from vllm.distributed.weight_transfer.base import WeightTransferEngine

    init, update = _infos()

    class StreamEngine(WeightTransferEngine):
        """Loads each tensor as it arrives, in the form of a checkpoint."""

        init_info_cls = init
        update_info_cls = update
        where: Any = None

        def init_transfer_engine(self, init_info: Any) -> None:
            self.where = init_info

        def start_weight_update(self) -> None:
            from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

            initialize_layerwise_reload(self.model)

        def finish_weight_update(self) -> None:
            from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

            finalize_layerwise_reload(self.model, self.model_config)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            self.receive_weights(self.parse_update_info(update_info))
            if self.device.type != "cpu":
                torch.accelerator.synchronize()

        def receive_weights(self, update_info: Any) -> None:
            arrived = _load(self.where, self.model, self.device)
            if arrived != update_info.count:
                raise RuntimeError(f"weights over TCP: {arrived} tensors came of {update_info.count}")

        def shutdown(self) -> None:
            self.where = None

    return StreamEngine


def _load(where: Any, model: Any, device: Any) -> int:
    """Read one update from the trainer and load each tensor as it arrives; return how many came."""
    import torch

    arrived = 0
    with socket.create_connection((where.host, where.port), TIMEOUT) as connection:
        connection.sendall(where.token.encode() + b"\n")
        with connection.makefile("rb") as stream:
            while (header := _header(stream)).get("name"):
                data = bytearray(header["bytes"])
                _fill(stream, data)
                flat = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
                tensor = flat.view(getattr(torch, header["dtype"])).reshape(header["shape"])
                model.load_weights([(header["name"], tensor.to(device))])
                arrived += 1
        connection.sendall(b"!")
    return arrived


def _header(stream: Any) -> dict[str, Any]:
    size = bytearray(4)
    _fill(stream, size)
    text = bytearray(struct.unpack(">I", size)[0])
    _fill(stream, text)
    header: dict[str, Any] = json.loads(text)
    return header


def _fill(stream: Any, data: bytearray) -> None:
    """Read exactly as many bytes as the array has."""
    view = memoryview(data)
    while view:
        count = stream.readinto(view)
        if not count:
            raise ConnectionError("weights over TCP: the trainer closed the connection in the middle of an update")
        view = view[count:]
