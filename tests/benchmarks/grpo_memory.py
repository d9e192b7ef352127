"""Benchmark of a trainer's memory: GRPO over many attempts with token ids; `python -m …benchmarks.grpo_memory`.

A tiny random model attempts micro tasks in real sandboxes, graded by their tests; replies are rewarded by their tokens, so
that every group is trained on. Every few updates are noted: the memory that the process holds, after what is free was given
back, and how many attempts live in it. The attempts' own size is what they would take if they were all held.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import swebench_lab as lab
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.tasks.micro import build

TASKS, GROUP = 8, 8
"""Tasks of an update, and attempts at each."""


def resident() -> float:
    """Return the megabytes that this process holds, without those that are free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def by_tokens(rollout: Rollout) -> float:
    """A reward that random replies differ in."""
    return float(
        sum(
            int(np.sum(0 if step.reply.token_ids is None else step.reply.token_ids))
            for step in rollout.trajectory.steps
        )
        % 7
    )


def train(folder: Path, engine: str, attempts: int, every: int) -> list[dict[str, Any]]:
    """Train, and return a row for every so many attempts."""
    import torch
    from transformers import TrainerCallback

    from swebench_lab.training.data.demonstrations import texts_for_tokenizer
    from swebench_lab.training.model.tiny import make_tiny_model

    torch.set_num_threads(1)
    model = make_tiny_model(folder / "model", texts_for_tokenizer(40), hidden=32, layers=2, heads=2, length=16384)
    agent = lab.Agent(lab.LocalPolicy(model, max_tokens=48), "micro", max_steps=4, max_format_errors=9,
                      command_timeout=10.0, keep_layers=False)  # fmt: skip
    rows: list[dict[str, Any]] = []
    made: list[int] = [0]
    began = time.monotonic()

    def counted(rollout: Rollout) -> float:
        made[0] += 1
        return by_tokens(rollout)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if made[0] >= every * (len(rows) + 1):
                alive = sum(isinstance(one, Trajectory) for one in gc.get_objects())
                rows.append({"attempts": made[0], "update": state.global_step, "MB": resident(), "attempts held": alive,
                             "seconds": time.monotonic() - began})  # fmt: skip
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)

    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=8, reward=counted)
        grpo = lab.GRPO(agent, collector, engine=engine, output_dir=str(folder / "grpo"), num_generations=GROUP,
                        tasks_per_update=TASKS, per_device_train_batch_size=8, learning_rate=0.0, save_steps=0,
                        updates=-(-attempts // (TASKS * GROUP)))  # fmt: skip
        run = grpo.begin(build.load("train", train=64))
        from swebench_lab.training.engines.engine import engine_named
        from swebench_lab.training.model.models import load_tokenizer

        chosen = engine_named(engine)
        trainer = chosen.build(run, load_tokenizer(grpo.policy))
        trainer.add_callback(Watch())
        chosen.train(run, trainer)
    return rows


def main() -> None:
    """Train with each engine that is asked for, and print what was noted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=2000)
    parser.add_argument("--every", type=int, default=500, help="attempts between two rows")
    parser.add_argument("--engine", default="sync", choices=("sync", "async"))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="grpo-memory-"))
    try:
        rows = train(folder, given.engine, given.attempts, given.every)
        size = sum(file.stat().st_size for file in (folder / "grpo" / "rollouts").rglob("*") if file.is_file())
        print(f"engine {given.engine}: {rows[-1]['attempts']} attempts, {size / 1e6:.1f} MB on the disk")
        for row in rows:
            print("  ".join(f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
                            for name, value in row.items()))  # fmt: skip
        first, last = rows[0], rows[-1]
        grown = 1e3 * (last["MB"] - first["MB"]) / (last["attempts"] - first["attempts"])
        print(f"growth from the first row to the last: {grown:.2f} kB an attempt")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
