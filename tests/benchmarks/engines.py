"""Both engines of GRPO from the same model, for several seeds: held-out tasks, paired by seed and task.

`python -m tests.benchmarks.engines --vllm PROGRAM`: the recipe `grpo` with the engine `sync` and the model in the process,
and with the engine `async` and the model on vLLM, which takes the weights after every update. An opt-in job of an hour or
more, and resumable: a run that has finished is not run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from swebench_lab.experiments.recipe_runs import run_recipe
from swebench_lab.records.tables.statistics import compare, pass_at_k
from swebench_lab.records.verdict import Verdict

ENGINES: dict[str, dict[str, Any]] = {
    "sync": {"engine": "sync", "served": False},
    "async": {"engine": "async", "served": True, "serve_dtype": "float32"},
}


@click.command()
@click.option("--vllm", required=True, help="vLLM's program.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="How many seeds, from 0.")
@click.option("--updates", default=16, show_default=True, help="Updates of each run, of 32 tasks × 4 attempts.")
@click.option("--demonstrations", default=6000, show_default=True, help="What the model starts from, read twice.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/engines"), show_default=True)
def main(vllm: str, seeds: int, updates: int, demonstrations: int, out: Path) -> None:
    """Train one small model, go on from it with each engine for each seed, and compare."""
    start = out / "sft"
    if not (start / "metrics.json").is_file():
        run_recipe("sft", preset="cpu", run_dir=start, n_synthetic=demonstrations, num_train_epochs=2.0)
    for seed in range(seeds):
        for name, parameters in ENGINES.items():
            run = out / f"{name}-{seed}"
            if not (run / "metrics.json").is_file():
                run_recipe("grpo", preset="cpu", run_dir=run, seed=seed, model=str(start / "sft" / "final"), vllm=vllm,
                           updates=updates, save_steps=updates * 2, control_updates=0, attempts=2, **parameters)  # fmt: skip
            click.echo(f"{name}, seed {seed}: {_rate(_verdicts(run, seed, 'grpo'))}")
    click.echo(report(out, seeds))


def report(out: Path, seeds: int) -> str:
    """Return what was resolved over all seeds by the start and by each engine, and the paired difference, as text."""
    sources = {"start": ("sync", "start"), "sync": ("sync", "grpo"), "async": ("async", "grpo")}
    arms: dict[str, dict[str, list[Verdict]]] = {
        name: {
            unit: tried
            for seed in range(seeds)
            for unit, tried in _verdicts(out / f"{engine}-{seed}", seed, arm).items()
        }
        for name, (engine, arm) in sources.items()
    }
    lines = [f"{name}: {_rate(units)}" for name, units in arms.items()]
    difference = compare(arms["sync"], arms["async"]).difference
    return "\n".join([*lines, f"async over sync, paired by seed and task: {difference}"])


def _verdicts(run: Path, seed: int, arm: str) -> dict[str, list[Verdict]]:
    """Return the verdicts of an arm's attempts, by seed and task."""
    known = json.loads((run / "metrics.json").read_text("utf-8"))["verdicts"][arm]
    return {f"{seed}/{task}": [*map(Verdict, tried)] for task, tried in known.items()}


def _rate(units: dict[str, list[Verdict]]) -> Any:
    """Return the resolved rate of an attempt, with its interval over tasks."""
    graded = [[verdict.resolved for verdict in tried if verdict.graded] for tried in units.values()]
    return pass_at_k((len(outcomes), sum(outcomes)) for outcomes in graded)


if __name__ == "__main__":
    main()
