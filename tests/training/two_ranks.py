"""A training run on two processes, for test_ranks.py: `torchrun tests/training/two_ranks.py ENGINE MODEL FOLDER`."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

os.environ["ACCELERATE_USE_CPU"] = "true"

import swebench_lab as lab
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.records.rollout import Rollout
from swebench_lab.tasks.micro import build
from swebench_lab.training.options.settings import GRPOSettings


def by_words(rollout: Rollout) -> float:
    return float(sum(int(step.reply.token_ids.sum()) for step in rollout.trajectory.steps) % 7)


def main() -> None:
    import torch

    torch.set_num_threads(1)
    engine, model, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=4, reward=by_words)
        agent = lab.Agent(LocalPolicy(model, max_tokens=6), "micro", max_steps=3, keep_layers=False)
        settings = GRPOSettings(num_generations=4, tasks_per_update=2, per_device_train_batch_size=2, updates=2,
                                learning_rate=1e-2, engine=engine, output_dir=str(folder))  # fmt: skip
        grpo = lab.GRPO(agent, collector, settings)
        grpo.fit(build.load("train", train=4))
    trainer = grpo.trainer
    digest = hashlib.sha256()
    for name, value in sorted(trainer.accelerator.unwrap_model(trainer.model).state_dict().items()):
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    gap = max(entry["sampling/sampling_logp_difference/max"] for entry in log[:1])
    (folder / f"rank-{os.environ['RANK']}.txt").write_text(f"{digest.hexdigest()} {len(log)} {gap}")


if __name__ == "__main__":
    main()
