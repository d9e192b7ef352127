"""Collect: let an agent attempt tasks, and watch a collection."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from swebench_lab.cli.agents import agent_options, make_agent
from swebench_lab.cli.options import (
    backend_option,
    choose_tasks,
    finish,
    open_factory,
    report_option,
    runs_below,
    source_options,
    task_options,
)
from swebench_lab.cli.summary import summarise


@click.command()
@click.argument("agent", type=click.Choice(["teacher", "null", "noisy", "script", "chat"]))
@task_options
@backend_option
@source_options
@agent_options
@click.option(
    "--run-dir", required=True, type=click.Path(file_okay=False), help="Run directory; run again on it to resume."
)
@click.option("--attempts", type=click.IntRange(1), default=1, show_default=True, help="Attempts per task.")
@click.option("--workers", type=click.IntRange(1), help="Number of attempts in parallel.")
@click.option("--model-calls", type=click.IntRange(1), help="Number of model calls in parallel.")
@click.option("--timeout", type=float, help="Time limit of an attempt in seconds.")
@click.option("--executor", default="threads", show_default=True,
              help="threads, ray (the cluster of this machine, or a new one), or the address of a Ray cluster.")  # fmt: skip
@click.option(
    "--run-timeout",
    type=float,
    help="Time limit of the whole collection in seconds; unfinished attempts are cancelled.",
)
@report_option
@click.option("--retry", is_flag=True, help="Make attempts again that an earlier run left not graded.")
@click.option("--pages/--no-pages", default=True, show_default=True, help="Write an HTML page per attempt.")
def collect(agent: str, backend: str, run_dir: str, attempts: int, **options: Any) -> None:
    """Let an agent attempt tasks and grade the results. Run again to resume."""
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.rollouts.collector import RolloutCollector
    from swebench_lab.rollouts.executors.cluster import cluster as join
    from swebench_lab.rollouts.executors.settings import Deadlines, Stages
    from swebench_lab.viewer.index import write_pages

    executor = options["executor"]
    choice = {name: options[name] for name in ("source", "pattern", "split", "count", "seed")}
    tasks = choose_tasks(**choice)
    actor = make_agent(agent, options)
    with open_factory(backend, options["repos"], options["specs"], options["allow_python"]) as sandboxes:
        collector = RolloutCollector(
            sandboxes,
            Evaluator(sandboxes),
            workers=options["workers"],
            run_dir=run_dir,
            seed=options["seed"],
            stages=Stages(model=options["model_calls"]),
            deadlines=Deadlines(attempt=options["timeout"], run=options["run_timeout"]),
            executor=executor if executor in ("threads", "ray") else join(executor),
            report_to=options["report_to"],
        )
        rollouts = collector.collect(actor, tasks, attempts, retry=options["retry"])
    summarise(rollouts, f"{collector.executed} new attempts, in {run_dir}")
    for remark in collector.remarks:
        click.echo(remark.replace("retry=True makes", "--retry makes"))
    if options["pages"]:
        click.echo(f"pages: {write_pages(rollouts, Path(run_dir) / 'attempts')}")
    click.echo(f"predictions, the first attempt at each task: {rollouts.to_predictions(Path(run_dir) / 'preds.json')}")
    click.echo(f"look at them: swebench-lab view {shlex.quote(run_dir)}")
    finish(not rollouts.not_graded)


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False))
@click.option("--once", is_flag=True, help="Print the current state and exit.")
@click.option("--html", type=click.Path(dir_okay=False), help="Also write a self-contained HTML page.")
@click.option(
    "--every", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Refresh interval in seconds."
)
def board(run_dir: str, once: bool, html: str | None, every: float) -> None:
    """Watch a collection running in any process: throughput, stages, results, errors, machines."""
    from swebench_lab.viewer.board import Board

    folders = runs_below(run_dir)
    if len(folders) > 1:
        names = ", ".join(map(str, folders[:8]))
        raise click.UsageError(f"{run_dir} holds {len(folders)} runs; choose one: {names}")
    if folders and folders[0] != Path(run_dir).resolve():
        click.echo(f"the run below {run_dir}: {folders[0]}", err=True)
    if not folders:
        click.echo(f"there is no run at or below {run_dir} yet")
    view = Board(folders[0] if folders else run_dir)
    if once:
        click.echo(view.to_text())
    else:
        view.watch(every)
    if html:
        view.to_html(html)
        click.echo(f"page: {html}")
    finish(bool(folders) or not once)
