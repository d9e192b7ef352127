"""Traces: show, convert and replay the records of this and other projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swebench_lab.cli.options import (
    backend_option,
    choose_tasks,
    finish,
    open_factory,
    runs_below,
    show,
    source_options,
    task_options,
)


@click.group()
def traces() -> None:
    """Inspect, convert and replay traces of this and other projects."""


@traces.command("show")
@click.argument("path", type=click.Path(exists=True))
@click.option("--trace", type=click.IntRange(0), help="Show the steps of this trace, counted from 0.")
def show_traces(path: str, trace: int | None) -> None:
    """List the traces of a file or folder, or the steps of one; the format is detected from the content."""
    from swebench_lab import _html
    from swebench_lab.traces.reading import load_trajectories

    trajectories = load_trajectories(path)
    if trace is None:
        if Path(path).is_dir() and (runs := [run for run in runs_below(path) if run != Path(path).resolve()]):
            click.echo(
                f"{len(runs)} runs below {path}: {', '.join(run.name for run in runs[:8])}{', …' * (len(runs) > 8)}"
            )
        click.echo(repr(trajectories))
        show(trajectories.to_frame())
        return
    if trace >= len(trajectories):
        raise click.UsageError(f"--trace {trace}: {path} holds {len(trajectories)} traces, counted from 0")
    selection = trajectories[trace]
    click.echo(repr(selection))
    for step in selection.steps:
        call = _html.plain(f"{step.tool or 'no call'}\n{step.command or step.reply.text.strip()}")
        click.echo(f"\n--- step {step.index}: {call}")
        click.echo("\n".join(f"    {line}" for line in _html.plain(step.observation).strip().split("\n")[:20]))


@traces.command("convert")
@click.argument("path", type=click.Path(exists=True))
@click.option(
    "-o", "--output", required=True, type=click.Path(), help="A file, or a folder for formats with one trace per file."
)
@click.option(
    "--format",
    "form",
    required=True,
    help="swe-agent, mini-swe-agent, openhands, atif, lab; for fine-tuning rows: ticks, xml, tool.",
)
@click.option("--system", help="For xml: a file with the system prompt that replaces the recorded one.")
def convert_traces(path: str, output: str, form: str, system: str | None) -> None:
    """Read traces of any format and write them in another."""
    from swebench_lab.traces.reading import load_trajectories

    options = {"system": Path(system)} if system else {}
    trajectories = load_trajectories(path)
    target = trajectories.save(output, form, **options)
    click.echo(f"{len(trajectories)} traces: {target}")


@traces.command("replay")
@click.argument("path", type=click.Path(exists=True))
@task_options
@backend_option
@source_options
@click.option(
    "--path",
    "moves",
    multiple=True,
    metavar="OLD=NEW",
    help="Map a folder of the recorded machine to one in the sandbox; repeatable.",
)
@click.option("--run-dir", type=click.Path(file_okay=False), help="Keep the replays and their step layers here.")
def replay_traces(
    path: str,
    backend: str,
    repos: str | None,
    specs: str | None,
    allow_python: str,
    moves: tuple[str, ...],
    run_dir: str | None,
    **choice: Any,
) -> None:
    """Replay traces in sandboxes of their tasks and report observations that differ; exit code 3 if any do."""
    from tqdm.auto import tqdm

    from swebench_lab import _html
    from swebench_lab.rollouts.run_directory import RunDirectory
    from swebench_lab.traces.reading import load_trajectories

    if wrong := [move for move in moves if "=" not in move]:
        raise click.BadParameter(f"{wrong[0]!r} is not OLD=NEW", param_hint="--path")
    tasks = {task.id: task for task in choose_tasks(**choice)}
    trajectories = load_trajectories(path)
    selection = trajectories.filter(lambda trace: trace.task_id in tasks)
    drifted = 0
    with open_factory(backend, repos, specs, allow_python) as sandboxes:
        for trace in tqdm(selection, "replay", delay=5):
            task = tasks[trace.task_id]
            with sandboxes.open(task) as box:
                paths = dict(move.split("=", 1) for move in moves)
                replay = trace.replay(box, run_dir=run_dir, keep_layers=bool(run_dir), paths=paths)
            if run_dir:
                RunDirectory(run_dir).append(replay.rollout(task))
            click.echo(repr(replay))
            for number in replay.drifted:
                step = replay.steps[number]
                command = step.command.strip().split("\n", 1)[0]
                click.echo(f"  step {number}, {step.outcome}, {command[:60]!r}: {_html.plain(step.note)}")
            drifted += bool(replay.drifted)
    click.echo(f"{len(selection)} of {len(trajectories)} traces belong to these tasks; {drifted} of them differ")
    finish(bool(selection) and not drifted)
