"""What a small model learns: the recipes `sft` and `grpo` for several seeds, pooled; `python -m …benchmarks.learning`.

An opt-in job of hours, and resumable: what a seed has finished is not done again. Every arm attempts the same held-out
tasks; a gain is paired by seed and task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swebench_lab.experiments.recipe_runs import run_recipe
from swebench_lab.records.tables.statistics import Estimate, compare, pass_at_k
from swebench_lab.records.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARM = "grpo"
"""What the other arms are compared with."""
GREEDY = f"{ARM}, greedy"
"""What arms at temperature 0 are compared with as well."""


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many seeds, from 0.")
@click.option("--preset", default="cpu", show_default=True, help="Preset of both recipes.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/learning"), show_default=True,
              help="Folder for every run, for learning.json and learning.png.")  # fmt: skip
@click.option("--docs", type=click.Path(path_type=Path), help="Folder for learning.png, to publish.")
@click.option("--tell", is_flag=True, help="Run nothing; pool the seeds that are there.")
def main(seeds: int, preset: str, out: Path, docs: Path | None, tell: bool) -> None:
    """Train and evaluate every arm for every seed, then pool them."""
    for seed in range(0 if tell else seeds):
        one_seed(out, seed, preset)
    found = {
        seed: json.loads(file.read_text("utf-8")) for seed in range(seeds) if (file := _metrics(out, seed)).is_file()
    }
    if not found:
        raise click.ClickException(f"{out} holds no finished seed")
    pooled = pool({seed: metrics["verdicts"] for seed, metrics in found.items()})
    (out / "learning.json").write_text(json.dumps(pooled, indent=1) + "\n", "utf-8")
    curves = [_curve(out / f"grpo-{seed}" / "grpo" / "updates.jsonl") for seed in found]
    figure = draw(pooled, curves)
    for folder in filter(None, (out, docs)):
        figure.savefig(folder / "learning.png", dpi=150)
    click.echo(told(pooled))


def one_seed(out: Path, seed: int, preset: str) -> None:
    """Run both recipes for one seed, unless they have run."""
    if _metrics(out, seed).is_file():
        return
    sft = out / f"sft-{seed}"
    if not (sft / "metrics.json").is_file():
        run_recipe("sft", preset=preset, run_dir=sft, seed=seed)
    start, demos = str(sft / "sft" / "final"), str(sft / "rows.jsonl")
    run_recipe("grpo", preset=preset, run_dir=out / f"grpo-{seed}", seed=seed, model=start, demos=demos)


def pool(verdicts: Mapping[int, Mapping[str, Mapping[str, Sequence[str]]]]) -> dict[str, Any]:
    """Return each arm's rate, and the gain of GRPO over it (at temperature 0 too), over all seeds and tasks.

    Intervals are bootstrapped over pairs of seed and task, whatever the number of attempts at each.

    Args:
        verdicts: Seed → arm → task → the status of each attempt. Arms that not every seed has are left out.
    """
    arms = [arm for arm in next(iter(verdicts.values())) if all(arm in known for known in verdicts.values())]
    seeds = {
        arm: [
            {f"{seed}/{task}": [*map(Verdict, found)] for task, found in known[arm].items()}
            for seed, known in verdicts.items()
        ]
        for arm in arms
    }
    units = {arm: {unit: found for part in parts for unit, found in part.items()} for arm, parts in seeds.items()}
    gains = {arm: compare(found, units[ARM]).difference.to_dict() for arm, found in units.items() if arm != ARM}
    greedy = {
        arm: compare(found, units[GREEDY]).difference.to_dict()
        for arm, found in units.items()
        if GREEDY in units and arm != GREEDY and arm.endswith(", greedy")
    }
    return {
        "seeds": list(verdicts),
        "rates": {arm: _rate(found).to_dict() for arm, found in units.items()},
        "gains": gains,
        "greedy": greedy,
        "by_seed": {arm: [float(_rate(part)) for part in parts] for arm, parts in seeds.items()},
    }


def _rate(units: Mapping[str, Sequence[Verdict]]) -> Estimate:
    """Return the resolved rate of an attempt, with its interval over tasks."""
    graded = [[verdict.resolved for verdict in found if verdict.graded] for found in units.values()]
    return pass_at_k((len(outcomes), sum(outcomes)) for outcomes in graded)


def told(pooled: Mapping[str, Any]) -> str:
    """Return the pooled figures as lines of text."""
    lines = []
    for arm, rate in pooled["rates"].items():
        line = f"{arm}: {rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}) of {rate['n']}"
        for by, over in ((ARM, "gains"), (GREEDY, "greedy")):
            if gain := pooled[over].get(arm):
                line += f"; {by} is {gain['value']:+.1%} ({gain['low']:+.1%} to {gain['high']:+.1%}) over it"
        lines.append(line)
    return "\n".join(lines)


def draw(pooled: Mapping[str, Any], curves: Sequence[Sequence[tuple[int, float]]]) -> Figure:
    """Return two plots: resolved attempts at training tasks by update, and held-out tasks by arm.

    Args:
        pooled: What `pool` returned.
        curves: Update and resolved rate, for each seed.
    """
    from matplotlib.figure import Figure

    made = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = made.subplots(1, 2)
    for seed, curve in zip(pooled["seeds"], curves, strict=True):
        left.plot(*zip(*_smooth(curve), strict=True), linewidth=1, label=f"seed {seed}")
    left.set(title="attempts at training tasks, mean of 8 updates", xlabel="update", ylabel="resolved")
    left.legend(fontsize=7)
    arms = list(pooled["rates"])[::-1]
    for place, arm in enumerate(arms):
        rate = pooled["rates"][arm]
        right.plot([rate["low"], rate["high"]], [place, place], color="C0", linewidth=2)
        right.plot([rate["value"]], [place], "o", color="C0")
        right.plot(pooled["by_seed"][arm], [place] * len(pooled["seeds"]), "|", color="C1")
    right.set_yticks(range(len(arms)), arms)
    right.set(title=f"held-out tasks, {len(pooled['seeds'])} seeds, 95 % intervals", xlabel="resolved", xlim=(0, 1))
    return made


def _smooth(curve: Sequence[tuple[int, float]], over: int = 8) -> list[tuple[int, float]]:
    found = []
    for at in range(over, len(curve) + 1):
        part = curve[at - over : at]
        found.append((part[-1][0], sum(value for _, value in part) / over))
    return found or list(curve)


def _curve(file: Path) -> list[tuple[int, float]]:
    from swebench_lab.training.engines.table import Updates

    rows = Updates(file).to_frame().select("update", "resolved").drop_nulls()
    return [(int(update), float(rate)) for update, rate in rows.iter_rows()]


def _metrics(out: Path, seed: int) -> Path:
    return out / f"grpo-{seed}" / "metrics.json"


if __name__ == "__main__":
    main()
