"""Benchmark `overlap`: how busy a model is while its sandboxes are slow, by both engines of GRPO in one run.

Every command of a sandbox takes two seconds and one in twenty takes sixty; 128 attempts are in flight. The model is
large enough that an update's arithmetic takes about as long as its commands. Busy means that the model samples or
trains; what both do at once counts once. Rewards are made from the tokens, so that no grading is measured here. With
vLLM's program in SWEBENCH_LAB_VLLM the engine `async` also trains what vLLM serves, which samples while it is asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import swebench_lab as lab
from swebench_lab.records.rollout import Rollout
from swebench_lab.sandbox.contract import Sandbox
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAME = "overlap"
COMMAND, SLOW, ONE_IN = 2.0, 60.0, 20
GROUP, TASKS = 8, 16
UPDATES = {"sync": 2, "async": 8}
"""Updates with each engine. By `sync` all are alike, and each takes minutes; by `async` the first ones wait for whole groups."""
VLLM = os.environ.get("SWEBENCH_LAB_VLLM", "")
BUSY, AGAINST = 0.8, 1.0
"""Least share of the time that the engine `async` keeps the model busy, and least ratio to the engine `sync`."""


class SlowSandboxes(lab.SandboxFactory):
    """Real sandboxes whose commands take their time.

    Args:
        scale: What every pause is multiplied by.
        seed: Decides which commands are the slow ones.
    """

    def __init__(self, scale: float, seed: int = 0) -> None:
        super().__init__("namespace")
        self.scale, self.dice, self.lock = scale, Random(seed), Lock()

    def open(self, *given: Any, **options: Any) -> Sandbox:
        """Open a box; see SandboxFactory."""
        box = super().open(*given, **options)
        run = box.run

        def slowly(*command: Any, **settings: Any) -> Any:
            with self.lock:
                slow = self.dice.randrange(ONE_IN) == 0
            time.sleep(self.scale * (SLOW if slow else COMMAND))
            return run(*command, **settings)

        box.run = slowly  # type: ignore[method-assign]
        return box


def run(options: Options) -> Report:
    """Train the same model on the same tasks with one engine after the other."""
    report = Report(options.quick)
    try:
        import torch
        import trl  # noqa: F401
    except ImportError:
        report.rows.append(Row(NAME, "", "", "not measured: needs swebench-lab[train]", None))
        return report
    torch.set_num_threads(1)
    group, tasks, scale = (4, 2, 0.02) if options.quick else (GROUP, TASKS, 1.0)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = _model(folder, 20 if options.quick else 60, small=options.quick)
    case = f"{group * tasks} attempts at once, commands of {COMMAND * scale:g} s, one in {ONE_IN} of {SLOW * scale:g} s"
    shares = {}
    for name, vllm in (("sync", ""), ("async", ""), *((("async, served", VLLM),) if VLLM else ())):
        engine = name.partition(",")[0]
        updates = 1 if options.quick else UPDATES[engine]
        with _policy(model, vllm, group * tasks, folder / "serving") as policy:
            busy, seconds = _train(engine, policy, folder / name, group, tasks, updates, scale)
        shares[name] = busy / seconds
        report.rows += [
            Row(NAME, case, name, "share of the time that the model is busy", busy / seconds, n=updates),
            Row(NAME, case, name, "an update", seconds / updates, "s", n=updates),
        ]
    report.gates += [
        *(Gate(f"overlap: share of the time that the model is busy, {name}", share, BUSY)
          for name, share in shares.items() if name != "sync"),
        Gate("overlap: the same, async / sync", shares["async"] / shares["sync"], AGAINST),
    ]  # fmt: skip
    return report


def _model(folder: Path, updates: int, small: bool) -> Path:
    """Return a model that has learned what a call looks like, so that it gives commands."""
    from swebench_lab.formats.renderer import Renderer
    from swebench_lab.training.data.corpus import Corpus
    from swebench_lab.training.data.demonstrations import micro_demonstrations
    from swebench_lab.training.model.models import load_tokenizer
    from swebench_lab.training.model.tiny import make_tiny_model

    start = make_tiny_model(folder / "tiny", hidden=64 if small else 256, layers=2 if small else 4)
    renderer = Renderer.of(load_tokenizer(start))
    rows = Corpus.of_trajectories(micro_demonstrations(8 * updates), renderer)
    lab.SFT(start, output_dir=folder / "sft", learning_rate=3e-3, per_device_train_batch_size=8,
            gradient_accumulation_steps=1, muon=True).fit(rows)  # fmt: skip
    return folder / "sft" / "final"


@contextmanager
def _policy(model: Path, vllm: str, at_once: int, logs: Path) -> Iterator[Any]:
    """Give a policy that can be trained: of this process, or of a vLLM that is started."""
    if not vllm:
        yield lab.LocalPolicy(model, max_tokens=16, batch_size=32)
        return
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # fmt: skip
    with lab.serve(model, updates=True, executable=vllm, dtype="float32", max_length=512, eager=True, env=env,
                   extra=["--max-num-seqs", str(at_once)], progress=False, log_dir=logs) as server:  # fmt: skip
        yield server.policy(max_tokens=16)


def _train(
    engine: str, policy: Any, folder: Path, group: int, tasks: int, updates: int, scale: float
) -> tuple[float, float]:
    """Return the seconds that the model was busy, and those of the whole run from its first reply on."""
    from swebench_lab.tasks.micro import build

    chosen = build.load("train", train=tasks)
    with SlowSandboxes(scale) as sandboxes:
        sandboxes.prepare(chosen)
        collector = lab.RolloutCollector(sandboxes, workers=group * tasks, reward=_by_words)
        agent = lab.Agent(policy, "micro", max_steps=4, keep_layers=False)
        grpo = lab.GRPO(agent, collector, num_generations=group, tasks_per_update=tasks, engine=engine,
                        output_dir=folder, updates=updates, learning_rate=1e-5)  # fmt: skip
        grpo.fit(chosen)
    run = grpo.run
    assert run is not None
    began, ended = run.busy.began, run.ended
    return run.busy.seconds(began, ended), ended - began


def _by_words(rollout: Rollout) -> float:
    """A reward in which the attempts of a group differ."""
    said = sum(
        0 if step.reply.token_ids is None else int(step.reply.token_ids.sum()) for step in rollout.trajectory.steps
    )
    return said % 7 + len(rollout.trajectory.steps) / 10
