"""Several processes train a recipe's model: started together, resumed, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.experiments.trainers import _launcher
from swebench_lab.policies.serving.guard import descendants

OWNER = """
import sys
import swebench_lab as lab

updates, model, folder, where = int(sys.argv[1]), *sys.argv[2:]
given = {"tasks": "micro", "n_train": 8, "num_generations": 2, "tasks_per_update": 2, "per_device_train_batch_size": 2}
given |= {"max_steps": 1, "max_tokens": 4, "save_steps": 1, "workers": 4, "updates": updates, "model": model}
places = lab.cluster(2).reserve(2) if where == "two nodes" else None
lab.launch_training("grpo", {**given, "no parameter": 1}, 2, folder, places=places)
"""


def test_each_trainer_gets_a_gpu_of_its_own() -> None:
    command, variables = _launcher(2, ("4", "5", "6"), "fsdp2.yaml")
    assert command[1:] == ["-m", "accelerate.commands.launch", "--config_file", "fsdp2.yaml", "--num_processes", "2"]
    assert variables == {"CUDA_VISIBLE_DEVICES": "4,5"}
    assert _launcher(2, (), "")[1]["ACCELERATE_USE_CPU"] == "true"
    command, variables = _launcher(2, ("0", "1"), "fsdp2.yaml", nodes=3, rank=1, point=("10.0.0.1", 29400))
    assert command[-8:] == ["--machine_rank", "1", "--main_process_ip", "10.0.0.1", "--main_process_port", "29400",
                            "--num_processes", "6"]  # fmt: skip
    with pytest.raises(TrainingError, match="need a GPU each, and there are 1"):
        _launcher(2, ("4",), "fsdp2.yaml")
    placement = lab.Placement(trainers=2, replicas=2, tensor_parallel=2)
    assert placement.split(list("01234567")) == (("0", "1"), ("2", "3", "4", "5"))
    assert lab.Placement(colocated=True).split(["7"]) == (("7",), ("7",))
    assert placement.split([]) == ((), ())
    with pytest.raises(TrainingError, match="takes 6 GPUs, and there are 4"):
        placement.split(list("0123"))


def training(pid: int) -> list[int]:
    """Return the processes below one that train, launch or guard."""
    mark = b"swebench_lab.experiments.launch"
    return [below for below in descendants(pid) if mark in Path(f"/proc/{below}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["this machine", "two nodes"])
def test_trainers_end_with_their_owner_and_a_rerun_resumes(tmp_path: Path, where: str) -> None:
    from tests.training import ground

    if where == "two nodes":
        pytest.importorskip("ray", reason="needs the extra 'ray'")
    model, run = str(ground.tiny(str(tmp_path / "tiny"))), tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(lab.__file__).parents[1])}

    def owner(updates: int, start: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", OWNER, str(updates), start, str(run), where], env=environment,
                                text=True, stderr=subprocess.PIPE)  # fmt: skip

    first = owner(500, model)
    while not list(run.glob("grpo/checkpoint-2*")):
        assert first.poll() is None, first.stderr and first.stderr.read()
        time.sleep(0.2)
    below, every = training(first.pid), descendants(first.pid)
    assert len(below) >= (4 if where == "this machine" else 6)  # guards, launchers and two that train
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    ends = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < ends:
        time.sleep(0.2)
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    for pid in every:  # the simulated nodes, which are nobody's business here
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    last = max(int(path.name.removeprefix("checkpoint-")) for path in run.glob("grpo/checkpoint-*"))
    second = owner(last + 1, model)
    assert second.communicate(timeout=400)[1] is not None and second.returncode == 0
    steps = [entry["step"] for line in (run / "grpo" / "log.jsonl").read_text().splitlines()
             if "loss" in (entry := json.loads(line))]  # fmt: skip
    assert steps.count(1) == 1 and steps[-1] == last + 1  # it did not begin anew
    assert lab.LocalPolicy(run / "grpo" / "final").model is not None
    third = owner(1, str(tmp_path / "nowhere"))
    assert "exit code 1" in third.communicate(timeout=400)[1] and third.returncode == 1


@pytest.mark.slow
def test_the_recipe_sft_trains_in_two_processes_on_what_one_would(tmp_path: Path) -> None:
    from tests.training import ground

    assert ground.torch  # skipped where torch or trl is missing
    losses, updates = {}, {}
    for trainers in (1, 2):
        run = lab.run_recipe("sft", preset="smoke", trainers=trainers, per_device_train_batch_size=8 // trainers,
                             run_dir=str(tmp_path / str(trainers)))  # fmt: skip
        (losses[trainers],) = run.metrics["held_out_loss"]
        log = [json.loads(line) for line in (run.run_dir / "sft" / "log.jsonl").read_text().splitlines()]
        updates[trainers] = max(entry["step"] for entry in log)
    assert updates[1] == updates[2] and losses[2] == pytest.approx(losses[1], abs=0.2)
    assert (tmp_path / "2" / "trainers.log").is_file()
