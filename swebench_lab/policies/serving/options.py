"""Options: how a model is served, and what vLLM is told of it: flags, variables, and the GPUs of each replica."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from swebench_lab.errors import ServingError
from swebench_lab.policies.serving.transfer import STREAM, WAYS

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Largest ranks of adapters that vLLM can be started with."""
_PLUGIN = Path(__file__).with_name("engine_plugin")
"""Folder that vLLM finds our backend for weights in."""


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served.

    Args:
        replicas: Servers of the same model; conversations are spread over them.
        tensor_parallel: GPUs of one replica.
        host: Address to listen on.
        port: Port of the first replica, the next ones follow; 0: free ones.
        name: What requests call the model; empty: the last part of its path.
        dtype: Type of the weights.
        head: Type in which the last layer makes logits; empty: that of the weights. `float32` lets a bfloat16 model's
            logprobs be recomputed by a trainer that does the same (TRL's `cast_lm_head_to_fp32`): a bfloat16 logit of
            8 to 16 is rounded to sixteenths, and two ways of computing round differently.
        gpus: GPUs to use, as CUDA_VISIBLE_DEVICES names them; empty: all that this process may use.
        max_length: Longest conversation, in tokens; None: what the model was made for.
        gpu_memory: Share of each GPU's memory that is used.
        tool_parser: vLLM's parser of tool calls, such as `hermes` or `qwen3_coder`; empty: no native tool calls.
        lora: Whether adapters can be loaded while it runs; a number: up to this rank.
        updates: Whether weights can be replaced while it runs (vLLM's development mode), so that its policy can be
            trained; on loopback only, unless `trusted`.
        trusted: Whether everybody who reaches `host` may replace the weights.
        transfer: How weights get there: `nccl`, `stream` or `disk` (see transfer.py); empty: `nccl` where there are GPUs,
            else `stream`. An adapter travels by itself where `lora` is set.
        eager: Whether nothing is compiled: starts sooner, runs slower.
        api_key: Key that requests must carry; empty: none.
        extra: Further flags, as the engine knows them.
        env: Further variables of its environment.
        executable: The engine's program; empty: `vllm` beside this Python or on the PATH.
        timeout: Seconds until a server that does not answer is given up.
    """

    replicas: int = 1
    tensor_parallel: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    name: str = ""
    dtype: str = "auto"
    head: str = ""
    gpus: tuple[str, ...] = ()
    max_length: int | None = None
    gpu_memory: float = 0.9
    tool_parser: str = ""
    lora: bool | int = False
    updates: bool = False
    trusted: bool = False
    transfer: str = ""
    eager: bool = False
    api_key: str = ""
    extra: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    executable: str = ""
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.tensor_parallel < 1 or self.timeout <= 0:
            raise ValueError("serve: replicas, tensor_parallel and timeout must be positive")
        if self.head and any(flag.startswith("--hf-overrides") for flag in self.extra):
            raise ValueError(
                f"serve(head={self.head!r}): it is one of the --hf-overrides, which extra sets too; say all there"
            )
        if self.transfer and (self.transfer not in WAYS or not self.updates):
            raise ValueError(f"serve(transfer={self.transfer!r}): one of {', '.join(WAYS)}, beside updates=True")
        if self.updates and self.host not in _LOOPBACK and not self.trusted:
            raise ValueError(
                f"serve(updates=True, host={self.host!r}): whoever reaches the server could replace its weights; "
                "listen on 127.0.0.1, and reach it from elsewhere through a tunnel; or say trusted=True"
            )


def command(model: str, name: str, port: int, options: ServeOptions) -> list[str]:
    """Return the arguments with which vLLM serves a model as policies here expect it."""
    flags: dict[str, str | None] = {
        "--host": options.host,
        "--port": str(port),
        "--served-model-name": name,
        "--dtype": options.dtype,
        # A model's own defaults (top_k, repetition penalty) would change what is sampled behind a policy's back.
        "--generation-config": "vllm",
        # Logprobs at the temperature that was sampled at, which is what training divides by.
        "--logprobs-mode": "processed_logprobs",
    }
    if options.tensor_parallel > 1:
        flags["--tensor-parallel-size"] = str(options.tensor_parallel)
    if options.head:
        flags["--hf-overrides"] = json.dumps({"head_dtype": options.head})
    if options.max_length is not None:
        flags["--max-model-len"] = str(options.max_length)
    if devices():
        flags["--gpu-memory-utilization"] = str(options.gpu_memory)
    else:
        # vLLM's CPU build dies when a request with a seed is read in parts: it steps a generator back that cannot.
        flags["--no-enable-chunked-prefill"] = None
    if options.tool_parser:
        flags |= {"--enable-auto-tool-choice": None, "--tool-call-parser": options.tool_parser}
    if options.lora:
        flags["--enable-lora"] = None
        flags["--max-loras"] = "6"  # what is asked for now, and what replies under way were asked with
    if options.lora is not True and options.lora:
        flags["--max-lora-rank"] = str(next((rank for rank in _RANKS if rank >= options.lora), options.lora))
    if options.updates and (way := options.transfer or ("nccl" if devices() else "stream")) != "disk":
        flags["--weight-transfer-config"] = json.dumps({"backend": STREAM if way == "stream" else way})
    if options.eager:
        flags["--enforce-eager"] = None
    arguments = [part for flag, value in flags.items() for part in (flag, value) if part is not None]
    return ["serve", model, *arguments, *options.extra]


def environment(options: ServeOptions) -> dict[str, str]:
    """Return the variables of a server's environment beside those of this process."""
    own = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    if options.updates:
        own["VLLM_SERVER_DEV_MODE"] = "1"
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PLUGIN), os.environ.get("PYTHONPATH", ""))))
    if options.api_key:
        own["VLLM_API_KEY"] = options.api_key  # a flag could be read by everybody on the machine
    if options.lora:
        own["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return {**own, **dict(options.env)}


def devices() -> list[str]:
    """Return the GPUs that may be used, as `CUDA_VISIBLE_DEVICES` names them; none on a machine without."""
    if (names := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device for device in names.split(",") if device.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, _ in enumerate(listing.stdout.splitlines())] if listing.returncode == 0 else []


def share(devices: list[str], options: ServeOptions, number: int) -> dict[str, str]:
    """Return the variables that give a replica its own GPUs."""
    if not devices or (options.replicas == 1 and not options.gpus):
        return {}
    width = options.tensor_parallel
    if len(devices) < options.replicas * width:
        raise ServingError(
            f"serving {options.replicas} replicas on {width} GPUs each needs {options.replicas * width}, and there are "
            f"{len(devices)}; lower replicas or tensor_parallel"
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[number * width : (number + 1) * width])}


def program() -> str:
    """Return vLLM's program, beside this Python or on the PATH.

    Raises:
        ServingError: There is none.
    """
    beside = Path(sys.executable).with_name("vllm")
    path = str(beside) if beside.exists() else shutil.which("vllm")
    if not path:
        raise ServingError(
            "serving with vLLM: there is no program 'vllm'; pip install 'swebench-lab[vllm]', give executable=…, or "
            "the address of a server that is there already"
        )
    return path


def free_port(host: str) -> int:
    """Return a port of an address that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
