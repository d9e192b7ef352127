"""A training on two real Ray nodes, each in a network of its own: servers on one, the trainer on the other, attempts on both.

`python -m tests.benchmarks.train_nodes --vllm PROGRAM` (as root, with `ip`); vLLM's CPU build will do. With `--kill` both
nodes serve, and the one without the trainer is killed, with everything on it, after some updates.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

import swebench_lab as lab
from swebench_lab.records.rollout import Rollout
from tests.benchmarks import nodes

_LOOK = 0.3


def by_words(rollout: Rollout) -> float:
    """A reward that random replies differ in."""
    said = [step.reply.token_ids for step in rollout.trajectory.steps]
    return float(sum(int(ids.sum()) for ids in said if ids is not None) % 7)


def make_model(folder: Path) -> Path:
    """Make a small model with heads of width 64, which vLLM's CPU build needs."""
    from swebench_lab.training.data.demonstrations import texts_for_tokenizer

    return lab.make_tiny_model(folder, texts_for_tokenizer(40), hidden=128, layers=2, heads=2, length=2048)


def drive(what: dict[str, Any]) -> None:
    """Serve and train; runs in the head's network."""
    from swebench_lab.tasks.micro import build
    from swebench_lab.training.engines.run import read_rollouts

    tasks = build.load("train", train=6)
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "VLLM_CPU_OMP_THREADS_BIND": "nobind", "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
    where = [nodes.WORKER, nodes.HEAD] if what["kill"] else [nodes.WORKER]
    folder = Path(what["run_dir"])
    with nodes.joined() as cluster, lab.SandboxFactory("namespace", cache=what["cache"]) as sandboxes:
        began = time.monotonic()
        with cluster.serve(
            what["model"], where, updates=True, executable=what["vllm"], dtype="float32", max_length=2048, eager=True,
            env=env, extra=["--max-num-seqs", "16"],
        ) as server:  # fmt: skip
            ready = time.monotonic() - began
            agent = lab.Agent(server.policy(max_tokens=8), "micro", max_steps=3, max_format_errors=9, keep_layers=False)
            collector = lab.RolloutCollector(sandboxes, workers=4, executor=cluster, reward=by_words)
            run = lab.GRPO(agent, collector, engine=what["engine"], num_generations=4, tasks_per_update=2, max_length=2048,
                           per_device_train_batch_size=4, updates=what["updates"], learning_rate=1e-3,
                           output_dir=folder)  # fmt: skip
            run.fit(tasks)
            servers = list(server.urls)
    rollouts = read_rollouts(folder / "rollouts")
    log = [entry for entry in run.trainer.state.log_history if "loss" in entry]
    follower = run.trainer.follower if what["engine"] == "async" else run.trainer.rollout_func.follower
    ratio = log[0].get("ratio", log[0].get("sampling/importance_sampling_ratio/mean"))
    found = {
        "servers": servers,
        "seconds until they answered": round(ready, 1),
        "updates": len(log),
        "first ratio": ratio,
        "first logprob gap": log[0]["sampling/sampling_logp_difference/max"],
        "probes": follower.gaps,
        "attempts by node": Counter(rollout.node.split("/")[1] for rollout in rollouts),
        "attempts again": sum(rollout.tries > 1 for rollout in rollouts),
        "versions": sorted({step.reply.version for rollout in rollouts for step in rollout.trajectory.steps}),
        "errors": [rollout.trajectory.error[:300] for rollout in rollouts if rollout.trajectory.error],
        "not graded": [rollout.verdict.reason[:300] for rollout in rollouts.not_graded],
    }
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def measure(vllm: str, engine: str, updates: int, kill: bool) -> dict[str, Any]:
    """Do it all, and return what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="lab-train-nodes-"))
    what = {"model": str(make_model(folder / "model")), "vllm": vllm, "engine": engine, "updates": updates, "kill": kill,
            "run_dir": str(folder / "run"), "cache": str(folder / "no-cache-here")}  # fmt: skip
    try:
        with ExitStack() as stack:
            first, second, started = stack.enter_context(nodes.two_nodes(folder))
            command = [sys.executable, "-m", f"{__package__}.train_nodes", "--drive", json.dumps(what)]
            inside = ["ip", "netns", "exec", first, *command]
            driver = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
            lines: list[str] = []
            reader = threading.Thread(target=lambda: lines.extend(driver.stdout or ()), daemon=True)
            reader.start()
            killed = 0
            while driver.poll() is None:
                log = folder / "run" / "log.jsonl"
                done = log.read_text().count("\n") if log.exists() else 0
                if done:
                    started.set()
                if kill and not killed and done >= 3:
                    killed = nodes.kill_all(second)
                time.sleep(_LOOK)
            reader.join(10)
            if driver.returncode or bool(killed) != kill:
                logs = "\n".join(path.read_text("utf-8", "replace")[-1500:] for path in folder.glob("*.log"))
                raise SystemExit(f"the driver ended with {driver.returncode}; processes killed: {killed}\n{logs}")
        found: dict[str, Any] = json.loads(lines[-1])
        return {**found, "processes killed": killed}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@click.command()
@click.option("--vllm", default="", help="vLLM's program.")
@click.option("--engine", default="async", show_default=True)
@click.option("--updates", default=10, show_default=True)
@click.option("--kill", is_flag=True, help="Serve on both nodes, and kill one after three updates.")
@click.option("--drive", "what", hidden=True, default="")
def main(vllm: str, engine: str, updates: int, kill: bool, what: str) -> None:
    """Train on two real nodes, and say what came of it."""
    if what:
        drive(json.loads(what))
        return
    click.echo(json.dumps(measure(vllm, engine, updates, kill), indent=1))


if __name__ == "__main__":
    main()
