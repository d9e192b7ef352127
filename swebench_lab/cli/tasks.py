"""Tasks: list, show, explain, make, export and certify them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from swebench_lab.cli.options import (
    backend_option,
    choose_tasks,
    finish,
    open_factory,
    show,
    source_options,
    task_options,
)

if TYPE_CHECKING:
    from swebench_lab.records.task import Task

_SCHEMAS = "Row schema: lab, swe-bench, swe-smith, swe-gym, swe-rebench, custom or rl."


@click.group()
def tasks() -> None:
    """List, show, make, export and explain tasks."""


@tasks.command("list")
@task_options
def tasks_list(**choice: Any) -> None:
    """List tasks: id, repository, split and number of tests."""
    import polars as pl

    selection = choose_tasks(**choice)
    title = pl.Series("issue", [task.issue.strip().split("\n")[0][:60] for task in selection], pl.String)
    show(selection.to_frame().select("id", "repo", "split", "fail_to_pass", "pass_to_pass").with_columns(title))


@tasks.command("show")
@click.argument("task_id")
@click.option(
    "--tasks", "source", default="demo", show_default=True, help="A bundled set, a file, or a Hugging Face dataset id."
)
@click.option("--answer", is_flag=True, help="Also show the gold patch.")
def tasks_show(task_id: str, source: str, answer: bool) -> None:
    """Show a task: its issue and the tests that grade it."""
    task = _task(source, task_id)
    click.echo(f"{task.id}  ({task.repo} at {task.base_commit[:12] or 'its only commit'})\n\n{task.issue.strip()}\n")
    click.echo("must pass after the fix:\n  " + "\n  ".join(task.fail_to_pass))
    click.echo(f"must keep passing: {len(task.pass_to_pass)} tests")
    if answer:
        click.echo(f"\n{task.gold_patch}", nl=False)


@tasks.command("explain")
@click.argument("task_id")
@click.option(
    "--tasks", "source", default="demo", show_default=True, help="A bundled set, a file, or a Hugging Face dataset id."
)
@click.option(
    "--specs", type=click.Path(exists=True, dir_okay=False), help="TOML file of specs that override the built-in ones."
)
def tasks_explain(task_id: str, source: str, specs: str | None) -> None:
    """Explain how a task is installed and tested, and where each step comes from."""
    from swebench_lab.snapshots.specs import Table, explain

    click.echo(explain(_task(source, task_id), tables=[Table.read(specs)] if specs else None))


def _task(source: str, task_id: str) -> Task:
    from swebench_lab.errors import TaskError
    from swebench_lab.tasks.loading import load_tasks

    tasks = load_tasks(source, trust=True)  # they are looked at, never run
    if task_id not in tasks.ids:
        raise TaskError(f"no task of {source!r} has the id {task_id!r}; `swebench-lab tasks list` shows the ids")
    return tasks[task_id]


def _languages(command: Any) -> Any:
    """Add the options that say in which language a repository is, and how its tests run."""
    options = (
        click.option("--language", default="python", show_default=True, help="python, javascript, typescript or go."),
        click.option("--test-command", default="", help="How tests are run, where that cannot be derived."),
        click.option("--log-parser", default="", help="How their log is read: pytest, or one of SWE-bench's parsers."),
        click.option("--system", multiple=True, help="A Debian package that tests need, such as golang-go."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _spec(test_command: str, log_parser: str, system: tuple[str, ...] = ()) -> dict[str, Any] | None:
    values = {"test_command": test_command, "log_parser": log_parser, "system": list(system)}
    return {name: value for name, value in values.items() if value} or None


@tasks.command("make")
@click.argument("source")
@click.option("-n", "--count", type=click.IntRange(1), default=20, show_default=True, help="Number of tasks to make.")
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A .jsonl, .json or .parquet file."
)
@click.option(
    "--schema",
    default="lab",
    show_default=True,
    help=_SCHEMAS,
)
@_languages
def tasks_make(source: str, count: int, seed: int, output: str, schema: str, language: str, **how: Any) -> None:
    """Make validated tasks from a git repository (a path) or a source distribution ("pypi:name==version")."""
    from swebench_lab.tasks.making.make import make_tasks

    new = make_tasks(source, count, seed, language=language, spec=_spec(**how))
    click.echo(f"{len(new)} tasks → {new.save(output, schema)}")
    finish(len(new) >= count)


@tasks.command("mine")
@click.argument("source")
@click.option("-n", "--count", type=click.IntRange(1), default=20, show_default=True, help="Number of tasks wanted.")
@click.option("--most", type=click.IntRange(1), default=500, show_default=True, help="Commits that are looked at.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A .jsonl, .json or .parquet file."
)
@_languages
def tasks_mine(source: str, count: int, most: int, output: str, language: str, **how: Any) -> None:
    """Make validated tasks from the commits of a git repository that touch code and tests."""
    from swebench_lab.tasks.making.history import mine_tasks

    new = mine_tasks(source, count, most=most, language=language, spec=_spec(**how))
    click.echo(f"{len(new)} tasks → {new.save(output)}")
    finish(len(new) >= count)


@tasks.command("new")
@click.argument("repository", type=click.Path(exists=True, file_okay=False))
@click.option("--issue", required=True, help="What agents are told: a text, or the name of a file that holds it.")
@click.option("-f", "--fail-to-pass", "failing", multiple=True, required=True, help="Id of a test that fails now.")
@click.option("-p", "--pass-to-pass", "passing", multiple=True, help="Id of a test that must go on passing.")
@click.option("--gold", type=click.Path(exists=True, dir_okay=False), help="File of a patch that solves it.")
@click.option("--commit", default="HEAD", show_default=True, help="Commit that the task starts from.")
@click.option("--test-command", default="", help="How tests are run, where that cannot be derived.")
@click.option("--log-parser", default="", help="How their log is read: pytest, or one of SWE-bench's parsers.")
@click.option("--no-check", is_flag=True, help="Do not run the tests of the untouched tree once.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A .jsonl, .json or .parquet file."
)
def tasks_new(
    repository: str,
    issue: str,
    failing: tuple[str, ...],
    passing: tuple[str, ...],
    gold: str | None,
    commit: str,
    test_command: str,
    log_parser: str,
    no_check: bool,
    output: str,
) -> None:
    """Make a task from a repository of your own, an issue and the tests that fail."""
    from pathlib import Path

    from swebench_lab.records.task import Tasks
    from swebench_lab.tasks.own import task_from

    text = (
        Path(issue).read_text("utf-8") if len(issue) < 4096 and "\n" not in issue and Path(issue).is_file() else issue
    )
    task = task_from(
        repository,
        issue=text,
        fail_to_pass=failing,
        pass_to_pass=passing or None,
        gold_patch=Path(gold).read_text("utf-8") if gold else "",
        commit=commit,
        spec=_spec(test_command, log_parser),
        check=not no_check,
    )
    click.echo(f"{task.id} → {Tasks([task]).save(output)}")
    click.echo(f"it names {task.source}: load it with --trust, or load_tasks(..., trust=True)")


@tasks.command("export")
@task_options
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A .jsonl, .json or .parquet file."
)
@click.option(
    "--schema",
    default="lab",
    show_default=True,
    help=_SCHEMAS,
)
def tasks_export(output: str, schema: str, **choice: Any) -> None:
    """Write tasks to a file."""
    selection = choose_tasks(**choice)
    click.echo(f"{len(selection)} tasks → {selection.save(output, schema)}")


@click.command()
@task_options
@backend_option
@source_options
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Test runs of the gold patch and of the untouched tree.",
)
@click.option("--workers", type=click.IntRange(1), help="Number of tasks checked in parallel.")
@click.option("--again", is_flag=True, help="Re-check tasks that already have a certificate.")
@click.option(
    "--audit",
    type=click.Choice(["none", "own", "all"]),
    default="own",
    show_default=True,
    help="Search for the fix in git, repository and venv (own), or in every file visible in a sandbox (all).",
)
@click.option(
    "--delete-after-check",
    "delete_after",
    is_flag=True,
    help="Remove the Snapshots of an environment once all its tasks are checked.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the certified tasks to this file.")
@click.option("--schema", default="lab", show_default=True, help="Row schema of that file; see `tasks export`.")
def check(
    backend: str,
    repeats: int,
    workers: int | None,
    again: bool,
    audit: str,
    delete_after: bool,
    output: str | None,
    schema: str,
    repos: str | None,
    specs: str | None,
    allow_python: str,
    **choice: Any,
) -> None:
    """Certify tasks: the gold patch resolves them, nothing else does, and the fix cannot be found in the sandbox."""
    import polars as pl

    from swebench_lab.grading.evaluator import Evaluator

    selection = choose_tasks(**choice)
    with open_factory(backend, repos, specs, allow_python) as sandboxes:
        frame = Evaluator(sandboxes).check(
            selection, repeats, workers=workers, again=again, audit=audit, delete_after=delete_after
        )
    wrong = frame.filter(pl.col("status") != "passed")
    if wrong.height:
        show(wrong.select("id", "status", "reason"))
    if output:
        good = set(frame.filter(pl.col("status") == "passed")["id"])
        click.echo(f"{len(good)} certified tasks → {selection.filter(lambda t: t.id in good).save(output, schema)}")
    click.echo(f"{frame.height - wrong.height} of {frame.height} tasks are certified")
    finish(not wrong.height)
