"""GRPO by hand: all of it on one page, in plain torch, on the attempts that `collector.collect` returns.

    python recipes/grpo_by_hand.py --model runs/sft/sft/final --updates 4

Each update makes a group of attempts at each of some tasks, in real sandboxes and graded by the tasks' own tests; gives
every attempt an advantage, its reward less the group's mean over the group's spread; and makes the tokens of attempts
above the mean more likely, those below it less. `lab.GRPO` computes the same gradient, a test compares the two; it adds
what this page leaves out: several processes, overlap, checkpoints, resume, servers, and a record of every update.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

import swebench_lab as lab

EPSILON = 1e-4
"""Added to a group's spread, so that two nearly equal rewards are not blown up."""
CLIP = 0.2
"""How far a token's probability ratio may move before its gradient is cut."""
CAP = 3.0
"""Largest ratio of a token, which bounds the step that a token of negative advantage can cause."""


@dataclass(frozen=True)
class Row:
    """One row of tokens: a whole attempt, or one of several where its history was edited on the way.

    Args:
        ids: What the policy saw and said, in its very tokens; shape (tokens,).
        mask: Which of them it said; shape (tokens,).
        sampled: Log-probability of each of them when it was sampled; shape (tokens,).
        advantage: Of the attempt.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    sampled: torch.Tensor
    advantage: float


def rows_of(rollouts: Iterable[lab.Rollout]) -> list[Row]:
    """Return the rows to train on: an advantage for every attempt that was graded, none for a group all alike.

    An attempt that could not be graded is in no mean and in no row: it is never a reward of 0.
    """
    groups: dict[str, list[lab.Rollout]] = {}
    for rollout in rollouts:
        if rollout.reward is not None and rollout.trajectory.stop not in ("error", "cancelled", "max_tokens"):
            groups.setdefault(rollout.task.id, []).append(rollout)
    rows = []
    for group in groups.values():
        rewards = [rollout.reward for rollout in group if rollout.reward is not None]
        spread = statistics.stdev(rewards) if len(rewards) > 1 else 0.0
        if spread == 0.0:
            continue  # nothing to learn: every attempt was as good as the mean
        mean = statistics.fmean(rewards)
        for rollout, reward in zip(group, rewards, strict=True):
            for part in lab.segments(rollout.trajectory):
                if part.sampled:
                    rows.append(Row(*map(torch.tensor, (part.ids, part.mask.astype(bool), part.logprobs)),
                                    (reward - mean) / (spread + EPSILON)))  # fmt: skip
    return rows


def logprobs(model: torch.nn.Module, ids: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the log-probability of each token after those before it; shape (tokens - 1,)."""
    logits = model(input_ids=ids[None].long()).logits[0, :-1].float() / temperature
    return logits.log_softmax(-1).gather(1, ids[1:, None].long())[:, 0]


def loss_of(model: torch.nn.Module, row: Row, temperature: float) -> torch.Tensor:
    """Return the sum over the tokens that the policy said: the clipped objective of PPO, to be made small."""
    said = row.mask[1:]
    ratio = (logprobs(model, row.ids, temperature) - row.sampled[1:])[said].exp()
    ratio = ratio.clamp(max=CAP)
    clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
    return -torch.minimum(ratio * row.advantage, clipped * row.advantage).sum()


def backward(model: torch.nn.Module, rows: Sequence[Row], temperature: float) -> float:
    """Add the gradient of an update to the model, a row at a time; return the loss, a mean over all its tokens."""
    tokens = sum(int(row.mask.sum()) for row in rows)
    total = 0.0
    for row in rows:
        loss = loss_of(model, row, temperature) / tokens
        loss.backward()
        total += float(loss.detach())
    return total


def main(arguments: argparse.Namespace) -> lab.LocalPolicy:
    """Train a model on the micro tasks, and save it."""
    policy = lab.LocalPolicy(arguments.model, max_tokens=16, dtype="float32", name="by hand")
    agent = lab.Agent(policy, "micro", max_steps=4, keep_layers=False)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=arguments.learning_rate, weight_decay=0.0)
    train = lab.load_tasks("micro").filter(split="train")
    with lab.SandboxFactory("namespace") as sandboxes:
        for update in range(1, arguments.updates + 1):
            collector = lab.RolloutCollector(sandboxes, lab.Evaluator(sandboxes), seed=arguments.seed + update)
            tasks = train.sample(arguments.tasks, arguments.seed + update)
            rollouts = collector.collect(agent, tasks, attempts=arguments.attempts, progress=False)
            rows = rows_of(rollouts)
            graded = [rollout.reward for rollout in rollouts if rollout.reward is not None]
            print(f"update {update}: {len(graded)} of {len(rollouts)} attempts graded, "
                  f"mean reward {statistics.fmean(graded) if graded else float('nan'):.3f}, {len(rows)} rows")  # fmt: skip
            if not rows:
                continue
            with policy.exclusive() as model:  # no attempt is sampled while the weights change
                model.train()
                loss = backward(model, rows, policy.temperature)
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                model.eval()
            print(f"  loss {loss:.4f}, gradient norm {float(norm):.3f}")
    policy.model.save_pretrained(arguments.output)
    policy.load_tokenizer().save_pretrained(arguments.output)
    return lab.LocalPolicy(arguments.output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder or hub id")
    parser.add_argument("--output", default="runs/by_hand", help="folder of the trained model")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=8, help="tasks of an update")
    parser.add_argument("--attempts", type=int, default=8, help="attempts at each task")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
