"""Recipes: list, show and run them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from swebench_lab.cli.summary import metrics_lines


@click.group()
def recipe() -> None:
    """List, show and run recipes: parameterised notebooks."""


@recipe.command("list")
def recipe_list() -> None:
    """List the recipes."""
    from swebench_lab.experiments.recipes import list_recipes

    for each in list_recipes():
        click.echo(f"{each.name:<14} {each.title}  (presets: {', '.join(each.presets) or 'none'})")


@recipe.command("show")
@click.argument("name")
def recipe_show(name: str) -> None:
    """Show the parameters of a recipe (types, defaults, meaning) and its presets."""
    from swebench_lab.experiments.recipes import describe

    click.echo(repr(describe(name)))


@recipe.command("run")
@click.argument("name")
@click.option("--preset", help="Name of a set of parameters.")
@click.option("-p", "--parameter", "pairs", multiple=True, metavar="KEY=VALUE", help="Set a parameter; repeatable.")
@click.option("--run-dir", type=click.Path(file_okay=False), help="Run directory; run again on it to resume.")
@click.option("--quiet", is_flag=True, help="Hide the progress bar.")
def recipe_run(name: str, preset: str | None, pairs: Iterable[str], run_dir: str | None, quiet: bool) -> None:
    """Run a recipe without a notebook interface; parameters are checked before anything starts."""
    from swebench_lab.experiments.recipe_runs import check_needs, new_run_dir, run_recipe
    from swebench_lab.experiments.recipes import describe

    described = describe(name)
    parameters = {parameter.name: parameter for parameter in described.parameters}
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not of the form KEY=VALUE", param_hint="-p")
        if key == "run_dir":
            run_dir = text
        else:
            values[key] = parameters[key].read(text) if key in parameters else text
    described.check(values)
    check_needs(described)
    if run_dir is None:
        run_dir = str(new_run_dir(described.name))
        again = f"swebench-lab recipe run {name} --run-dir {run_dir}"
        click.echo(f"results go to {run_dir}; to resume, {again} (with the same preset and parameters)", err=True)
    run = run_recipe(name, preset=preset, run_dir=run_dir, progress=not quiet, **values)
    for line in metrics_lines(run.metrics):
        click.echo(line)
    click.echo(f"notebook: {run.notebook}")
    if (run.run_dir / "attempts" / "index.html").is_file():
        click.echo(f"pages: {run.run_dir / 'attempts' / 'index.html'}")
