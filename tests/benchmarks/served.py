"""Tokens a second of a model that vLLM serves, against the same model in a LocalPolicy, by how many attempts ask at once.

`python -m tests.benchmarks.served --vllm PROGRAM [--model FOLDER]`; without a model, a tiny one is made. An attempt is a
conversation of several turns with the same observations for both, without a sandbox; the two take turns in one run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import click

import swebench_lab as lab
from swebench_lab.records.reply import Message
from swebench_lab.tasks.micro import build

OBSERVATION = "\n".join(f"{n:02} def test_{n}(value): assert value != {n}" for n in range(12))
"""What comes of every reply: about as long as a failing test's output."""


def attempt(policy: Any, number: int, turns: int) -> int:
    """Hold one conversation; return how many tokens were sampled."""
    task = build.load("train", train=1)[0]
    conversation = policy.start(task.view(), number, 0)
    messages: list[Message] = [{"role": "system", "content": "You fix bugs."}, {"role": "user", "content": task.issue}]
    sampled = 0
    for _ in range(turns):
        reply = conversation.reply(messages)
        sampled += reply.completion_tokens
        messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": OBSERVATION}]
    conversation.close()
    return sampled


def rate(policy: Any, attempts: int, turns: int) -> float:
    """Return the tokens a second of so many attempts at once."""
    began = time.monotonic()
    with ThreadPoolExecutor(attempts) as pool:
        sampled = sum(pool.map(lambda number: attempt(policy, number, turns), range(attempts)))
    return sampled / (time.monotonic() - began)


def measure(vllm: str, model: Path, counts: Sequence[int], turns: int, tokens: int, rounds: int) -> str:
    """Measure both, one after the other, and return a table."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    env = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    rows = ["| attempts at once | served, tokens/s | in process, tokens/s | ratio |", "| --- | --- | --- | --- |"]
    with lab.serve(model, executable=vllm, dtype="float32", max_length=2048, eager=True, env=env, progress=False,
                   extra=["--max-num-seqs", str(max(counts))]) as server:  # fmt: skip
        served = server.policy(max_tokens=tokens)
        local = lab.LocalPolicy(model, max_tokens=tokens, batch_size=max(counts))
        for policy in (served, local):  # what is compiled or loaded at the first reply
            rate(policy, 1, 1)
        for count in counts:
            pairs = [(rate(served, count, turns), rate(local, count, turns)) for _ in range(rounds)]
            one, other = (median(side) for side in zip(*pairs, strict=True))
            rows.append(f"| {count} | {one:.0f} | {other:.0f} | {one / other:.2f} |")
            click.echo(rows[-1])
    return "\n".join(rows)


@click.command()
@click.option("--vllm", required=True, help="vLLM's program.")
@click.option("--model", default="", help="Folder of a model; empty: a tiny one.")
@click.option("--attempts", default="1,8,32,128", show_default=True)
@click.option("--turns", default=4, show_default=True)
@click.option("--tokens", default=48, show_default=True, help="Most tokens of a reply.")
@click.option("--rounds", default=3, show_default=True)
def main(vllm: str, model: str, attempts: str, turns: int, tokens: int, rounds: int) -> None:
    """Measure both on this machine."""
    from tests.benchmarks.train_nodes import make_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(model) if model else make_model(Path(folder) / "tiny")
        counts = [int(count) for count in attempts.split(",")]
        click.echo(measure(vllm, path, counts, turns, tokens, rounds))


if __name__ == "__main__":
    main()
