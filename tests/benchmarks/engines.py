"""Both engines of GRPO from the same model, on one vLLM, for several seeds: held-out tasks, paired by seed and task.

`python -m tests.benchmarks.engines --vllm PROGRAM --model FOLDER`: the model is what `recipe run sft` made. Both engines
have the same settings, tasks and number of attempts. An opt-in job of an hour, and resumable: a run that has finished is
not run again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click

import swebench_lab as lab
from swebench_lab.records.tables.statistics import compare, pass_at_k
from swebench_lab.records.verdict import Verdict

ENGINES = ("sync", "async")
SAMPLING: dict[str, Any] = {"temperature": 1.0, "max_tokens": 16}
GROUP, TASKS, AT_ONCE = 4, 8, 16
"""Attempts at a task of an update, its tasks, and how many attempts are made at once."""


@click.command()
@click.option("--vllm", required=True, help="vLLM's program; or the address of a server that holds the model.")
@click.option("--model", required=True, help="Where every run starts: a folder.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many seeds, from 0.")
@click.option(
    "--updates", default=4, show_default=True, help=f"Updates of each run, of {TASKS} tasks × {GROUP} attempts."
)
@click.option("--learning-rate", default=5e-4, show_default=True)
@click.option("--held-out", default=100, show_default=True, help="Held-out tasks of a seed.")
@click.option("--start", is_flag=True, help="Attempt the held-out tasks with the model that runs start from as well.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/engines"), show_default=True)
def main(
    vllm: str, model: str, seeds: int, updates: int, learning_rate: float, held_out: int, start: bool, out: Path
) -> None:
    """Train with each engine for each seed from one model, attempt held-out tasks, and compare."""
    env = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    out.mkdir(parents=True, exist_ok=True)
    sys.setswitchinterval(5e-4)  # attempts and training share this process; torch asks for it at every operation
    there = vllm.startswith("http")
    more: dict[str, Any] = {} if there else {"updates": True, "executable": vllm, "dtype": "float32", "max_length": 512, "eager": True,
                             "env": env, "extra": ["--max-num-seqs", str(AT_ONCE)], "log_dir": out / "serving"}  # fmt: skip
    with (
        lab.SandboxFactory("namespace") as sandboxes,
        lab.serve(vllm if there else model, progress=False, **more) as server,
    ):
        evaluator = lab.Evaluator(sandboxes, cache=lab.GradingCache())
        for seed in range(seeds):
            collector = lab.RolloutCollector(sandboxes, evaluator, workers=AT_ONCE, seed=seed)
            train, test = (lab.load_tasks("micro").filter(split=split) for split in ("train", "test"))
            test = test.sample(held_out, seed)
            for arm in (*(["start"] if start else []), *ENGINES):
                folder = out / f"{arm}-{seed}"
                if (folder / "verdicts.json").is_file():
                    continue
                trained = {} if arm == "start" else _train(
                    arm, server.policy(**SAMPLING), collector, train.sample(updates * TASKS, seed), folder,
                    updates=updates, learning_rate=learning_rate, seed=seed)  # fmt: skip
                local = lab.LocalPolicy(folder / "final" if trained else model, name=arm, batch_size=50, **SAMPLING)
                tried = collector.collect(_agent(local), test)
                verdicts = {task: [r.verdict.status for r in rollouts] for task, rollouts in tried.by_task().items()}
                folder.mkdir(exist_ok=True)
                (folder / "verdicts.json").write_text(json.dumps({"verdicts": verdicts, **trained}) + "\n", "utf-8")
                click.echo(f"seed {seed}, {arm}: {tried.pass_at(1)} {trained}")
    click.echo(report(out, seeds))


def _agent(policy: lab.Policy) -> lab.Agent:
    return lab.Agent(policy, "micro", max_steps=2, keep_layers=False)


def _train(
    engine: str, policy: Any, collector: lab.RolloutCollector, tasks: lab.Tasks, folder: Path, **settings: Any
) -> dict[str, Any]:
    """Train, and return what shows that servers and trainer agreed."""
    run = lab.GRPO(_agent(policy), collector, engine=engine, num_generations=GROUP, tasks_per_update=TASKS, max_length=512,
                   per_device_train_batch_size=16, lr_scheduler_type="linear", save_steps=0, output_dir=folder,
                   **settings)  # fmt: skip
    run.fit(tasks)
    follower = run.trainer.follower if engine == "async" else run.trainer.rollout_func.follower
    log = [entry for entry in run.trainer.state.log_history if "loss" in entry]
    ratio = log[0].get("ratio", log[0].get("sampling/importance_sampling_ratio/mean"))
    return {"updates": len(log), "first_ratio": ratio, "largest_probe": max(follower.gaps),
            "rewards": [round(float(entry["reward"]), 3) for entry in log if "reward" in entry]}  # fmt: skip


def report(out: Path, seeds: int) -> str:
    """Return what each arm resolved over all seeds, and the differences, as text.

    A difference is paired by seed and task, with an interval over the pairs; and, coarser, over the differences of the seeds.
    """
    runs = {arm: [out / f"{arm}-{seed}" for seed in range(seeds)] for arm in ("start", *ENGINES)}
    arms = {
        arm: [_verdicts(run, seed) for seed, run in enumerate(folders)]
        for arm, folders in runs.items()
        if all((run / "verdicts.json").is_file() for run in folders)
    }
    pooled = {arm: {unit: tried for seed in known for unit, tried in seed.items()} for arm, known in arms.items()}
    lines = [
        f"{arm}: {_rate(units)}, by seed {[round(_mean(units), 3) for units in arms[arm]]}"
        for arm, units in pooled.items()
    ]
    for other, arm in (("sync", "async"), ("start", "sync"), ("start", "async")):
        if not {other, arm} <= arms.keys():
            continue
        by_seed = [_mean(b) - _mean(a) for a, b in zip(arms[other], arms[arm], strict=True)]
        lines.append(f"{arm} over {other}, paired by seed and task: {compare(pooled[other], pooled[arm]).difference}; by seed "
                     f"{mean(by_seed):+.3f} ± {_half(by_seed):.3f}")  # fmt: skip
    return "\n".join(lines)


def _verdicts(run: Path, seed: int) -> dict[str, list[Verdict]]:
    """Return the verdicts of an arm's attempts, by seed and task."""
    known = json.loads((run / "verdicts.json").read_text("utf-8"))["verdicts"]
    return {f"{seed}/{task}": [*map(Verdict, tried)] for task, tried in known.items()}


def _outcomes(units: Mapping[str, Sequence[Verdict]]) -> list[list[bool]]:
    return [[verdict.resolved for verdict in tried if verdict.graded] for tried in units.values()]


def _mean(units: Mapping[str, Sequence[Verdict]]) -> float:
    return mean(mean(tried) for tried in _outcomes(units) if tried)


def _half(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean by Student's t."""
    from scipy.stats import t

    return (
        float(t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    )


def _rate(units: Mapping[str, Sequence[Verdict]]) -> Any:
    """Return the resolved rate of an attempt, with its interval over tasks."""
    return pass_at_k((len(tried), sum(tried)) for tried in _outcomes(units))


if __name__ == "__main__":
    main()
