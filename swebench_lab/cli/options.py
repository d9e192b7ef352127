"""Options that several commands share, and what they become: tasks, a sandbox factory, a printed frame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.records.task import Tasks
    from swebench_lab.snapshots.factory import SandboxFactory

INCOMPLETE = 3
"""Exit code of a command that ran while some tasks or checks failed."""

Command = TypeVar("Command", bound=Callable[..., Any])


def task_options(command: Command) -> Command:
    """Add the options that select tasks."""
    options = (
        click.option(
            "--tasks",
            "source",
            default="demo",
            show_default=True,
            help="A bundled set, a file, or a Hugging Face dataset id.",
        ),
        click.option("--filter", "pattern", default="", help="Only tasks whose id matches this regular expression."),
        click.option("--split", default="", help="Only this split: train or test."),
        click.option("-n", "--count", type=click.IntRange(1), help="Sample this many tasks (see --seed)."),
        click.option("--seed", default=0, show_default=True, help="Random seed."),
        trust_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


_TRUST = "swebench_lab.trust"


def trust_option(command: Command) -> Command:
    """Add the option that lets rows of a file name places of this machine; `trusted` says whether it was given."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.meta[_TRUST] = value

    description = "Let tasks of a file name folders of this machine as their repository."
    return click.option("--trust", is_flag=True, expose_value=False, callback=remember, help=description)(command)


def trusted() -> bool:
    """Whether the running command was told to trust the tasks that it loads."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_TRUST))


def choose_tasks(source: str, pattern: str, split: str, count: int | None, seed: int) -> Tasks:
    """Return the tasks that the options of `task_options` select."""
    from swebench_lab.errors import TaskError
    from swebench_lab.tasks.loading import load_tasks

    everything = load_tasks(source, split or None, trust=trusted())
    tasks = everything.filter(pattern or None)
    if not tasks and not pattern and not split:
        raise TaskError(f"loading tasks from {source!r}: it holds no task")
    if not tasks:
        raise TaskError(f"no task of {source!r} matches --filter {pattern!r} --split {split!r}")
    return tasks.sample(count, seed) if count else tasks


def report_option(command: Command) -> Command:
    """Add the option that sends counts to a tracker."""
    from swebench_lab.records.trackers import TRACKERS

    description = "Send the counts while they grow to this tracker."
    return click.option(
        "--report-to", type=click.Choice(TRACKERS), default="none", show_default=True, help=description
    )(command)


def backend_option(command: Command) -> Command:
    """Add the option that chooses the sandbox backend."""
    return click.option(
        "--backend",
        default="namespace",
        show_default=True,
        help="Sandbox backend: namespace, docker, landlock or local.",
    )(command)


def source_options(command: Command) -> Command:
    """Add the options for where repositories, specs and interpreters come from."""
    options = (
        click.option(
            "--repos",
            type=click.Path(exists=True, file_okay=False),
            help="Folder of clones, named owner/name, owner__name or name, with or without .git.",
        ),
        click.option(
            "--specs",
            type=click.Path(exists=True, dir_okay=False),
            help="TOML file of specs that override the built-in ones.",
        ),
        click.option(
            "--allow-python",
            type=click.Choice(["exact", "install", "nearest"]),
            default="exact",
            show_default=True,
            help="If the required Python is missing: fail, install it with uv, or use the nearest version and report it.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def open_factory(
    backend: str, repos: str | None = None, specs: str | None = None, allow_python: str = "exact"
) -> SandboxFactory:
    """Return the factory that the options of `backend_option` and `source_options` describe."""
    from swebench_lab.errors import TaskError
    from swebench_lab.snapshots.factory import SandboxFactory

    try:
        return SandboxFactory(backend, allow_python=allow_python, specs=specs or None, repos=repos or None)
    except TaskError:  # in the file of specs
        raise
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--backend") from error


def show(frame: pl.DataFrame, width: int = 200) -> None:
    """Print a frame as plain text: all rows and columns, texts up to `width` characters."""
    from swebench_lab.records.tables.overview import aligned

    click.echo("\n".join(aligned(frame.columns, frame.iter_rows(), width, width)))


def runs_below(folder: str | Path) -> list[Path]:
    """Return the folder itself where it is a run directory, else the run directories below it."""
    from swebench_lab.rollouts.run_directory import is_run_directory
    from swebench_lab.rollouts.run_folders import run_folders

    root = Path(folder).resolve()
    return [root] if is_run_directory(root) else list(run_folders(root).values())


def finish(complete: bool) -> None:
    """End with exit code 3 if some tasks or checks failed."""
    if not complete:
        sys.exit(INCOMPLETE)
