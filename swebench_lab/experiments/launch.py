"""Training on several processes: `accelerate launch --config_file FILE -m swebench_lab.experiments.launch sft|grpo --preset P`.

The recipes `sft` and `grpo` as flat scripts, with their parameters and presets, and without the parts that need a single process:
SFT takes the rows that the recipe wrote into its run directory, and neither evaluates. Configurations for accelerate are
next to the recipes, in `accelerate/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

import swebench_lab as lab
from swebench_lab.experiments.recipes import describe
from swebench_lab.training.model.processes import is_main
from swebench_lab.training.options.config import Config


@click.command()
@click.argument("kind", type=click.Choice(["sft", "grpo"]))
@click.option("--preset", help="A preset of the recipe of that name.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter of the recipe; repeatable.")
@click.option("--run-dir", required=True, help="Output folder; for SFT, the one where the recipe wrote rows.jsonl.")
def main(kind: str, preset: str | None, assignments: tuple[str, ...], run_dir: str) -> None:
    """Train on all processes that accelerate started, or on this one."""
    recipe = describe(kind)
    parameters = {parameter.name: parameter for parameter in recipe.parameters}
    pairs = dict(pair.partition("=")[::2] for pair in assignments)
    values = {name: parameters[name].read(text) if name in parameters else text for name, text in pairs.items()}
    values = recipe.values(preset, {**values, "run_dir": run_dir})
    click.echo({"sft": sft, "grpo": grpo}[kind](values))


def sft(values: Mapping[str, object]) -> object:
    """Train on the rows of a run directory, as the recipe does in one process, and return the policy."""
    v = SimpleNamespace(**values)
    folder = Path(v.run_dir)
    rows = lab.Corpus.load(folder / "rows.jsonl")
    more: dict[str, Any] = {}
    if (folder / "held_out.jsonl").is_file():  # the model was made from nothing, with the rows that measure it
        held_out = lab.Corpus.load(folder / "held_out.jsonl")
        more = {"context_loss_weight": v.context_loss_weight, "muon": True, "weight_decay": 0.05,
                "options": {"train_sampling_strategy": "group_by_length"}}  # fmt: skip
    else:
        rows, held_out = rows.split(0.1, v.seed)
    trainer = lab.SFT(v.model, output_dir=folder / "sft", save_steps=100, **settings(values, lab.SFTSettings), **more)
    return trainer.fit(rows, held_out)


def grpo(values: Mapping[str, object]) -> object:
    """Train on the training tasks of a set, and return the policy; the first process runs the attempts."""
    v = SimpleNamespace(**values)
    train = lab.load_tasks(v.tasks).filter(split="train").sample(v.n_train, v.seed)
    sampling = {"temperature": v.temperature, "max_tokens": v.max_tokens}
    policy: lab.Policy
    if v.model.startswith(("http://", "https://")):
        policy = lab.serve(v.model).policy(**sampling)
    else:
        policy = lab.LocalPolicy(v.model, name="start", **sampling)
    if v.served and isinstance(policy, lab.LocalPolicy):
        raise click.UsageError(
            "several processes cannot each start a server: start it with lab.serve(…, updates=True) or swebench-lab serve, "
            "and give its address: -p model=http://127.0.0.1:8000/v1"
        )
    executor: Any = "threads"
    if v.executor != "threads" and is_main():
        executor = lab.cluster("auto" if v.executor == "ray" else v.executor)
    with lab.SandboxFactory(v.backend) as sandboxes:
        verdict, handed_in = lab.rewards.of_verdict, (lab.rewards.submitted, v.hand_in)
        reward = lab.rewards.weighted((verdict, 1.0), handed_in) if v.hand_in else verdict
        collector = lab.RolloutCollector(
            sandboxes,
            lab.Evaluator(sandboxes),
            workers=v.workers or None,
            reward=reward,
            seed=v.seed,
            executor=executor,
        )
        run = lab.GRPO(
            lab.Agent(policy, v.flavour, max_steps=v.max_steps, keep_layers=False),
            collector,
            output_dir=Path(v.run_dir, "grpo"),
            rules=lab.Rules(below_mean=v.below_mean, failed_commands=v.failed_commands),
            **settings(values, lab.GRPOSettings),
        )
        return run.fit(train)


def settings(values: Mapping[str, object], kind: type[Config]) -> dict[str, Any]:
    """Return the parameters of a recipe that are settings of a real model's training.

    The temperature is the policy's; context tokens are trained on only where a model is made from nothing.
    """
    names = kind.names() - {"temperature", "context_loss_weight"}
    return {name: value for name, value in values.items() if name in names}


if __name__ == "__main__":
    main()
