"""Disk: weights to vLLM by a file of safetensors that it reloads, on a disk or in shared memory that both see."""

from __future__ import annotations

import json
import math
import shutil
import struct
import tempfile
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import ServingError
from swebench_lab.policies.serving.replicas import Replicas
from swebench_lab.policies.serving.tensors import raw
from swebench_lab.policies.trainable import Weight

_SHORT = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}
_SIZE = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8}
_SHARED_MEMORY = Path("/dev/shm")


class DiskTransfer:
    """Writes one file a time, tensor by tensor, and has it reloaded; the file before is removed.

    Args:
        folder: Where to, as trainer and servers see it; empty: shared memory, for servers on this machine.
    """

    def __init__(self, folder: str = "") -> None:
        self._parent, self._folder = folder, Path()
        self._header = b""

    def open(self, replicas: Replicas, weights: Sequence[Weight]) -> None:
        """Choose the folder and lay the file out.

        Raises:
            ServingError: The servers are on other machines, and no folder was given.
        """
        elsewhere = [
            url for url in replicas.urls if urllib.parse.urlsplit(url).hostname not in ("127.0.0.1", "::1", "localhost")
        ]
        if elsewhere and not self._parent:
            raise ServingError(
                f"updating weights by files: {elsewhere[0]} is on another machine; give policy(transfer_dir=…), a folder "
                "that it sees under the same path"
            )
        above = self._parent or (str(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None)
        self._folder = Path(tempfile.mkdtemp(prefix="swebench-lab-weights-", dir=above)).resolve()
        self._header = _header(weights)

    def send(self, replicas: Replicas, weights: Iterable[tuple[str, Any]], version: int) -> None:
        """Write the file and have it loaded."""
        new = self._folder / f"v{version}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            with (new / "model.safetensors").open("wb") as file:
                file.write(self._header)
                for _, tensor in weights:
                    file.write(raw(tensor))
            replicas.each("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(new)}})
        except OSError as error:
            raise ServingError(f"updating weights by files: writing {new}: {error}; give transfer_dir=…") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder != Path():
            shutil.rmtree(self._folder, ignore_errors=True)


def _header(weights: Sequence[Weight]) -> bytes:
    """Return how a file of safetensors begins: the length of a table, and where each tensor's bytes lie."""
    table: dict[str, Any] = {}
    at = 0
    for weight in weights:
        kind = _SHORT[weight.dtype]
        end = at + math.prod(weight.shape) * _SIZE[kind]
        table[weight.name] = {"dtype": kind, "shape": list(weight.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
