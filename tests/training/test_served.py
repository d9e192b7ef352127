"""Real vLLM samples what is trained: first ratios are 1, and after every update the servers hold the trainer's weights.

Opt-in: `make vllm`, or `SWEBENCH_LAB_VLLM=/path/to/vllm pytest -m slow tests/training/test_served.py`; the CPU build will do.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.policies.serving.guard import descendants
from swebench_lab.training.engines.run import read_rollouts
from swebench_lab.training.model.shape import Shape
from tests.training import ground
from tests.training.test_engines import by_words

VLLM = os.environ.get("SWEBENCH_LAB_VLLM", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VLLM, reason="needs vLLM: set SWEBENCH_LAB_VLLM to its program"),
    pytest.mark.filterwarnings("ignore"),
]
torch = ground.torch
UPDATES = 10


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with heads of width 64, which vLLM's CPU build needs; embedding and last layer are one tensor."""
    from swebench_lab.training.data.demonstrations import texts_for_tokenizer
    from swebench_lab.training.model.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("m") / "tied", texts_for_tokenizer(40), hidden=128, layers=2, heads=2,
                           length=2048)  # fmt: skip


@pytest.fixture(scope="module")
def untied(tied: Path) -> Path:
    from transformers import AutoModelForCausalLM

    folder = tied.with_name("untied")
    shutil.copytree(tied, folder)
    model = AutoModelForCausalLM.from_pretrained(tied, dtype=torch.float32)
    head = torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.lm_head.weight = head
    model.save_pretrained(folder)
    return folder


def serve(model: Path, logs: Path, **more: Any) -> Any:
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # fmt: skip
    return lab.serve(model, updates=True, executable=VLLM, dtype="float32", max_length=2048, eager=True, env=env,
                     extra=["--max-num-seqs", "16"], progress=False, log_dir=logs, **more)  # fmt: skip


def training(policy: Any, sandboxes: Any, folder: Path, **settings: Any) -> Any:
    collector = lab.RolloutCollector(sandboxes, workers=8, reward=by_words)
    given = {"num_generations": 4, "tasks_per_update": 2, "per_device_train_batch_size": 4, "updates": UPDATES,
             "learning_rate": 1e-3, "max_length": 2048, "output_dir": folder}  # fmt: skip
    if settings["engine"] == "async":
        given["max_staleness"] = 2
    return lab.GRPO(ground.agent(policy), collector, **{**given, **settings})


def logged(run: Any) -> list[dict[str, Any]]:
    return [entry for entry in run.trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("model", "way", "replicas", "lora"),
    [("tied", "stream", 2, 0), ("untied", "stream", 1, 0), ("tied", "disk", 1, 0), ("tied", "stream", 1, 4)],
    ids=["tied, two replicas", "untied", "by files", "adapter alone"],
)
def test_attempts_go_on_while_servers_take_the_weights(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, way: str, replicas: int, lora: int
) -> None:
    folder = request.getfixturevalue(model)
    with (
        lab.SandboxFactory("namespace") as sandboxes,
        serve(folder, tmp_path / "logs", replicas=replicas, transfer=way, lora=lora) as server,
    ):
        run = training(server.policy(max_tokens=8), sandboxes, tmp_path / "run", engine="async", lora=lora)
        policy = run.fit(ground.micro())
        final = lab.LocalPolicy(tmp_path / "run" / "final")
        follower = run.trainer.follower
        (words,) = set(re.findall(r"KV cache size: ([\d,]+) tokens", server.logs[0].read_text()))
        assert Shape.of(folder).kv_tokens(1 << 30, "float32", block=128) == int(words.replace(",", ""))
        (probed, *_) = policy.sink().probe(run.run.probe_prompt()[:40], 16)
        own = final.logprobs(probed.ids)[probed.prompt :]
        assert max(abs(a - b) for a, b in zip(own, probed.logprobs, strict=True)) < 1e-4
    log, gaps = logged(run), follower.gaps
    versions = {s.reply.version for r in read_rollouts(tmp_path / "run" / "rollouts") for s in r.trajectory.steps}
    print(f"\n{model}, {way}, {replicas} replicas, LoRA {lora}: first ratio {log[0]['ratio']:.6f}, first gap "
          f"{log[0]['sampling/sampling_logp_difference/max']:.2e}, probes {[f'{gap:.1e}' for gap in gaps]}, versions "
          f"{sorted(versions)}")  # fmt: skip
    assert len(log) == UPDATES and len(gaps) == UPDATES + 1
    assert log[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert log[0]["sampling/sampling_logp_difference/max"] < 1e-4
    assert max(gaps) < 1e-4
    assert len(versions) >= 3 and min(versions) >= 1
    assert max(entry["sample/staleness_max"] for entry in log) <= 2
    assert all(row["sampling_seconds"] > 0 for row in run.table.to_frame().iter_rows(named=True))


def test_attempts_and_training_take_turns_with_a_server(tied: Path, tmp_path: Path) -> None:
    with lab.SandboxFactory("namespace") as sandboxes, serve(tied, tmp_path / "logs") as server:
        attached = lab.serve(server.urls[0])
        assert attached.takes_weights
        run = training(attached.policy(max_tokens=8), sandboxes, tmp_path / "run", engine="sync", updates=3)
        run.fit(ground.micro())
    gaps, log = run.trainer.rollout_func.follower.gaps, logged(run)
    assert len(gaps) == 3 and max(gaps) < 1e-4
    assert max(entry["sampling/sampling_logp_difference/max"] for entry in log) < 1e-4
    versions = [{s.reply.version for s in r.trajectory.steps} for r in read_rollouts(tmp_path / "run" / "rollouts")]
    assert {version for found in versions for version in found} == {1, 2, 3}


def test_training_goes_on_when_a_replica_is_killed(tied: Path, tmp_path: Path) -> None:
    with lab.SandboxFactory("namespace") as sandboxes, serve(tied, tmp_path / "logs", replicas=2) as server:
        run = training(server.policy(max_tokens=8), sandboxes, tmp_path / "run", engine="async")
        killer = Thread(target=kill_after, args=(server, tmp_path / "run" / "log.jsonl", 3))
        killer.start()
        policy = run.fit(ground.micro())
        killer.join()
        assert not server.alive
        (probed,) = policy.sink().probe(run.run.probe_prompt()[:40], 16)
        final = lab.LocalPolicy(tmp_path / "run" / "final")
        own = final.logprobs(probed.ids)[probed.prompt :]
        assert max(abs(a - b) for a, b in zip(own, probed.logprobs, strict=True)) < 1e-4
    log, gaps = logged(run), run.trainer.follower.gaps
    rollouts = read_rollouts(tmp_path / "run" / "rollouts")
    errors = [r.trajectory.error for r in rollouts if r.trajectory.error]
    versions = {s.reply.version for r in rollouts for s in r.trajectory.steps}
    print(f"\nkilled after update 3: probes {[f'{gap:.1e}' for gap in gaps]}, versions {sorted(versions)}, "
          f"{len(errors)} of {len(rollouts)} attempts ended with an error")  # fmt: skip
    assert len(log) == UPDATES and len(gaps) == UPDATES + 1 and max(gaps) < 1e-4
    assert max(versions) >= 6 and not errors


def kill_after(server: Any, log: Path, updates: int) -> None:
    """Kill the first replica, with all its processes, as soon as so many updates are logged."""
    while not log.exists() or len(log.read_text().splitlines()) < updates:
        time.sleep(0.2)
    for process in descendants(server._running[0].pid):
        os.kill(process, signal.SIGKILL)


def test_a_tied_model_that_is_brought_wrongly_is_an_error_at_once(
    tied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swebench_lab.policies.serving.served import ServedSink

    monkeypatch.setattr(ServedSink, "untied", False)  # as anything that sends named_parameters does
    with lab.SandboxFactory("namespace") as sandboxes, serve(tied, tmp_path / "logs") as server:
        run = training(server.policy(max_tokens=8), sandboxes, tmp_path / "run", engine="async")
        with pytest.raises(TrainingError, match="does not hold the trainer's weights") as caught:
            run.fit(ground.micro())
    print(f"\n{caught.value}")
    assert run.trainer.state.global_step <= 1


def test_what_sft_watches_is_what_a_server_samples(tied: Path, tmp_path: Path) -> None:
    from swebench_lab.training.data.demonstrations import micro_demonstrations

    with lab.SandboxFactory("namespace") as sandboxes, serve(tied, tmp_path / "logs") as server:
        collector = lab.RolloutCollector(sandboxes, workers=4)
        watch = lab.Watch(ground.agent(server.policy(max_tokens=8)), collector, ground.micro()[:2], every=2)
        sft = lab.SFT(tied, output_dir=tmp_path / "sft", watch=watch, learning_rate=1e-3, updates=4, logging_steps=1)
        rows = lab.Corpus.of_trajectories(micro_demonstrations(32, 1, 0.25), lab.Renderer.of(lab.load_tokenizer(tied)))
        sft.fit(rows)
    assert [entry["step"] for entry in sft.history if "watched_graded" in entry] == [2, 4]
    looks = [read_rollouts(look) for look in sorted((tmp_path / "sft" / "watched").iterdir())]
    assert [{s.reply.version for r in look for s in r.trajectory.steps} for look in looks] == [{2}, {4}]
