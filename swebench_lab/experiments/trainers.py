"""Trainers: the processes of a recipe's training, started together on their GPUs, and always stopped together."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.experiments.recipes import describe
from swebench_lab.policies.serving import guard

_log = logging.getLogger(__name__)

_GRACE = 20.0
"""Seconds that the processes have to stop by themselves."""
_OWN = ("run_dir", "model", "trainers")


def launch_training(
    recipe: str,
    parameters: Mapping[str, Any],
    processes: int,
    run_dir: str | Path,
    *,
    model: str = "",
    gpus: Sequence[str] = (),
    config: str | Path = "",
) -> None:
    """Run the training of a recipe in several processes of this machine, and return when it has ended.

    A rerun with the same `run_dir` resumes. The processes end when one of them fails, and when this one is gone, however it
    ended.

    Args:
        recipe: `sft` or `grpo`.
        parameters: The recipe's parameters; other names are passed over, so that a notebook may give all it has.
        processes: How many train.
        run_dir: The recipe's output folder; their log is `trainers.log` in it.
        model: The initial policy, or the addresses of the servers that sample it; empty: the parameter `model`.
        gpus: GPUs of the processes, one each, as CUDA_VISIBLE_DEVICES names them; none: they share the CPU.
        config: Configuration of accelerate, for GPUs; empty: weights, gradients and optimiser are sharded (FSDP2).

    Raises:
        TrainingError: The processes failed: shows the end of their log.
    """
    described = describe(recipe)
    names = {parameter.name for parameter in described.parameters if parameter.name not in _OWN}
    values = {name: value for name, value in parameters.items() if name in names}
    values["model"] = model or parameters["model"]
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    config = config or described.path.parent / "accelerate" / "fsdp2.yaml"
    command, variables = _launcher(processes, gpus, config)
    pairs = [part for name, value in values.items() for part in ("-p", f"{name}={_text(value)}")]
    command += ["-m", "swebench_lab.experiments.launch", recipe, "--run-dir", str(folder), *pairs]
    log = folder / "trainers.log"
    _log.info("training in %d processes, log %s", processes, log)
    with log.open("ab") as output:
        start = output.tell()
        guarded = [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(_GRACE), *command]
        running = subprocess.Popen(guarded, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                                   env={**os.environ, **variables}, start_new_session=True)  # fmt: skip
    try:
        while running.poll() is None:
            time.sleep(0.2)
    finally:  # interrupted: they end as well
        assert running.stdin is not None
        running.stdin.close()
        running.wait(_GRACE + 10)
    if running.returncode:
        with log.open("rb") as file:
            file.seek(start)
            end = file.read().decode("utf-8", "replace").splitlines()[-40:]
        raise TrainingError(
            f"recipe {recipe!r}: its {processes} training processes ended with exit code {running.returncode}; fix the cause "
            f"and run it again on {folder} to resume. Their log is {log}, which ends:\n" + "\n".join(end)
        )


def _launcher(processes: int, gpus: Sequence[str], config: str | Path) -> tuple[list[str], dict[str, str]]:
    """Return what starts the processes, and their variables."""
    if not gpus:
        return (
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"],
            {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""},
        )
    if len(gpus) < processes:
        raise TrainingError(f"{processes} processes that train need a GPU each, and there are {len(gpus)} for them")
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    return [*start, "--num_processes", str(processes)], {"CUDA_VISIBLE_DEVICES": ",".join(gpus[:processes])}


def _text(value: Any) -> str:
    """Return a parameter as the command line reads it."""
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)
