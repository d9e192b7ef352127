"""Evaluate: grade predictions, or report on a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from swebench_lab.cli.options import (
    backend_option,
    choose_tasks,
    finish,
    open_factory,
    report_option,
    runs_below,
    show,
    source_options,
    task_options,
)
from swebench_lab.cli.summary import by_agent, newest, summarise


@click.command()
@click.argument("predictions", type=click.Path(exists=True))
@task_options
@backend_option
@source_options
@click.option("--workers", type=click.IntRange(1), help="Number of patches graded in parallel.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Write a report in SWE-bench's format to this file."
)
@click.option(
    "--run-dir",
    type=click.Path(file_okay=False),
    help="Keep verdicts, logs and reports here; run again on it to resume.",
)
@report_option
@click.option("--model", help="Grade only the predictions of this model, where a file holds those of several.")
def evaluate(
    predictions: str,
    model: str | None,
    backend: str,
    workers: int | None,
    output: str | None,
    run_dir: str | None,
    report_to: str,
    repos: str | None,
    specs: str | None,
    allow_python: str,
    **choice: Any,
) -> None:
    """Report on a run directory, or grade predictions (a .json, .jsonl or .pred file, an agent's run folder) and report."""
    if folders := _runs(Path(predictions)):
        graded = [_report(folder, len(folders) > 1) for folder in folders]
        finish(all(graded))
        return
    from swebench_lab.grading.evaluator import Evaluator

    tasks = choose_tasks(**choice)
    with open_factory(backend, repos, specs, allow_python) as sandboxes:
        keep = Path(run_dir, "verdicts.jsonl") if run_dir else None
        verdicts = Evaluator(sandboxes).evaluate(
            predictions, tasks, workers=workers, keep=keep, model=model, report_to=report_to
        )
    for row in verdicts.refused:
        click.echo(f"refused: {row}", err=True)
    if run_dir:
        click.echo(f"reports: {verdicts.save(run_dir)}")
    show(verdicts.to_frame().select("id", "status", "reason"))
    counts = ", ".join(f"{count} {status}" for status, count in verdicts.counts.items())
    click.echo(f"{counts}; resolved {verdicts.resolved_rate:.1%} of {len(verdicts.tasks)} tasks")
    if output:
        Path(output).write_text(json.dumps(verdicts.run_report(), indent=1) + "\n", "utf-8")
        click.echo(f"report: {output}")
    finish(not verdicts.counts["not graded"] and not verdicts.refused)


def _runs(path: Path) -> list[Path]:
    """Return the run directories that a path means: itself, or those below it where it holds no predictions itself."""
    if any((path / name).is_file() for name in ("rollouts.jsonl", "tasks.jsonl", "manifest.jsonl", "live.json")):
        return [path]
    holds_predictions = path.is_file() or any(path.glob("*.json*")) or any(path.glob("**/*.pred"))
    return [] if holds_predictions else runs_below(path)


def _report(folder: Path, with_name: bool) -> bool:
    """Print what a run directory holds; return whether all of it is graded."""
    from swebench_lab.viewer.board import attach

    if with_name:
        click.echo(f"\n{folder}:")
    rows = attach(folder)
    rollouts = newest(rows)
    if not rollouts:
        click.echo(f"{folder}: no attempt is stored in this run directory", err=True)
        return False
    for name, group in by_agent(rollouts).items():
        click.echo(f"{name}:")
        summarise(group)
    if older := len(rows) - len(rollouts):
        click.echo(f"{older} rows of the same attempts on earlier Snapshots are not counted")
    return not rollouts.not_graded
