"""The command line: a thin skin over the library.

Exit codes: 0 all went well; 1 an error, told in one paragraph on stderr (`--debug` shows its traceback); 2 wrong usage;
3 the command ran, but some of what it looked at is not in order: a task that failed to build or is not certified, an
attempt that is not graded, a machine that needs attention; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swebench_lab import __version__

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.agents.agent import Agent
    from swebench_lab.policies.policy import Policy
    from swebench_lab.records.rollout import Rollouts
    from swebench_lab.records.task import Tasks
    from swebench_lab.snapshots.cache import SnapshotCache
    from swebench_lab.snapshots.factory import SandboxFactory

NOT_IN_ORDER = 3

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    """A group that tells the package's errors in one paragraph instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        from swebench_lab.errors import LabError

        try:
            return super().invoke(ctx)
        except LabError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"{type(error).__name__}: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped; what was finished is kept, and the same command goes on from there", err=True)
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="swebench-lab")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    r"""Train software-engineering agents on real bugs: tasks, sandboxes, attempts, grades.

    \b
    Exit codes: 0 all went well; 1 an error, told on stderr; 2 wrong usage;
    3 it ran, but something it looked at is not in order; 130 stopped by Ctrl-C.
    """


# --- options that commands share ------------------------------------------------------------------------------------


def _task_options(command: _Command) -> _Command:
    """Add the options that choose tasks."""
    options = (
        click.option(
            "--tasks", "source", default="demo", show_default=True, help="A bundled set, a file, or a hub id."
        ),
        click.option("--filter", "pattern", default="", help="Keep ids that match this regular expression."),
        click.option("--split", default="", help="Keep this split: train or test."),
        click.option("-n", "--count", type=click.IntRange(1), help="Take so many of them, drawn by --seed."),
        click.option("--seed", default=0, show_default=True, help="Of all chance."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _chosen(source: str, pattern: str, split: str, count: int | None, seed: int) -> Tasks:
    from swebench_lab.errors import TaskError
    from swebench_lab.records.task import load_tasks

    tasks = load_tasks(source, split or None).filter(pattern or None)
    if not tasks:
        raise TaskError(f"no task of {source!r} is left after --filter {pattern!r} and --split {split!r}")
    return tasks.sample(count, seed) if count else tasks


def _backend_option(command: _Command) -> _Command:
    return click.option("--backend", default="namespace", show_default=True, help="Kind of sandbox.")(command)


def _source_options(command: _Command) -> _Command:
    """Add the options that say where repositories, specs and interpreters come from."""
    options = (
        click.option(
            "--repos",
            type=click.Path(exists=True, file_okay=False),
            help="Folder of clones: owner/name, owner__name or name, with or without .git.",
        ),
        click.option("--specs", type=click.Path(exists=True, dir_okay=False), help="TOML file of specs that override."),
        click.option(
            "--allow-python",
            type=click.Choice(["exact", "install", "nearest"]),
            default="exact",
            show_default=True,
            help="Where the wanted Python is missing: fail, let uv install it, or take the nearest and say so.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _sandboxes(
    backend: str, repos: str | None = None, specs: str | None = None, allow_python: str = "exact"
) -> SandboxFactory:
    from swebench_lab.errors import TaskError
    from swebench_lab.snapshots.factory import SandboxFactory

    try:
        return SandboxFactory(backend, allow_python=allow_python, specs=specs or None, repos=repos or None)
    except TaskError:  # of the file of specs
        raise
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--backend") from error


def _show(frame: pl.DataFrame) -> None:
    """Print a frame plainly: all rows, no types, nothing cut that a terminal could show."""
    import polars as pl

    with pl.Config(
        tbl_formatting="NOTHING",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=-1,
        tbl_cols=-1,
        fmt_str_lengths=200,
        tbl_width_chars=10_000,
        float_precision=2,
    ):
        click.echo("\n".join(line.rstrip() for line in str(frame).split("\n")))


def _end(in_order: bool) -> None:
    if not in_order:
        sys.exit(NOT_IN_ORDER)


# --- the machine ----------------------------------------------------------------------------------------------------


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what works on this machine, what does not, and how to mend it."""
    from swebench_lab.testing.doctor.doctor import doctor as look

    report = look()
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else repr(report))
    _end(report.ok)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("model")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Servers of the same model.")
@click.option("--tensor-parallel", type=click.IntRange(1), default=1, show_default=True, help="GPUs of one replica.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port of the first replica; the next ones follow.")
@click.option("--head", default="", help="Type in which the last layer makes logits, such as float32.")
@click.option("--max-length", type=click.IntRange(1), help="Longest conversation, in tokens.")
@click.option("--tool-parser", default="", help="vLLM's parser of tool calls, such as hermes.")
@click.option("--lora", is_flag=True, help="Adapters can be loaded while it runs.")
@click.option("--updates", is_flag=True, help="Weights can be replaced while it runs; on loopback only.")
@click.option("--executable", default="", help="The vllm program, if it is not the one beside this Python.")
@click.argument("extra", nargs=-1, type=click.UNPROCESSED)
def serve(model: str, extra: tuple[str, ...], **options: Any) -> None:
    """Serve a model with vLLM until Ctrl-C; further flags after -- are handed to it."""
    import time

    from swebench_lab.policies.serving.server import serve as start

    try:
        started = start(model, follow=click.echo, progress=False, extra=extra, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with started as server:
        click.echo(f"{server!r} answers; Ctrl-C stops it")
        while server.alive:  # one that is too busy to answer is not stopped for it
            time.sleep(1)
        click.echo(server.tail(), err=True)
    _end(in_order=False)


@main.command()
@click.option("--older-than", type=float, default=30.0, show_default=True, help="Days since a Snapshot was last used.")
@click.option("--all", "everything", is_flag=True, help="Remove all Snapshots, but for those in use.")
@click.option("--scratch", multiple=True, type=click.Path(file_okay=False), help="A scratch folder; may be repeated.")
def gc(older_than: float, everything: bool, scratch: tuple[str, ...]) -> None:
    """Remove what killed processes left, and Snapshots not used for long. What others use meanwhile stays."""
    from swebench_lab.snapshots.cache import SnapshotCache
    from swebench_lab.testing.doctor.leftovers import remove_leftovers

    cache = SnapshotCache()
    for leftover in remove_leftovers(scratch, cache.root):
        click.echo(f"removed {leftover.kind}: {leftover.place}")
    before, count = cache.du()["total"], cache.ls().height
    gone = cache.evict(older_than=None if everything else older_than * 86_400)
    freed = before - cache.du()["total"]
    click.echo(
        f"{cache.root}: removed {len(gone)} of {count} Snapshots, {freed / 1e6:.1f} MB; "
        f"{(before - freed) / 1e6:.1f} MB left"
    )


@main.group()
@click.option("--cache", default="", help="The cache's folder, if not the usual one.")
@click.pass_context
def snapshots(ctx: click.Context, cache: str) -> None:
    """List, measure, check, move and remove what tasks start from."""
    from swebench_lab.snapshots.cache import SnapshotCache

    ctx.obj = SnapshotCache(cache or None)


@snapshots.command("ls")
@click.pass_obj
def snapshots_ls(cache: SnapshotCache) -> None:
    """List Snapshots: key, first task, repository, Python, size, last use."""
    _show(cache.ls())


@snapshots.command("du")
@click.pass_obj
def snapshots_du(cache: SnapshotCache) -> None:
    """Say what is on the disk, by kind; what several Snapshots share counts once."""
    for kind, size in cache.du().items():
        click.echo(f"{size / 1e6:12.1f} MB  {kind}")


@snapshots.command("evict")
@click.argument("keys", nargs=-1)
@click.option("--older-than", type=float, help="Remove those that were not used for so many days.")
@click.pass_obj
def snapshots_evict(cache: SnapshotCache, keys: tuple[str, ...], older_than: float | None) -> None:
    """Remove Snapshots. Not while sandboxes over them are open."""
    if not keys and older_than is None:
        raise click.UsageError("name keys, or --older-than DAYS; `swebench-lab gc --all` removes all")
    gone = cache.evict(keys or None, None if older_than is None else older_than * 86_400)
    click.echo(f"removed {len(gone)} Snapshots; {cache.du()['total'] / 1e6:.1f} MB left")


@snapshots.command("verify")
@click.argument("keys", nargs=-1)
@click.pass_obj
def snapshots_verify(cache: SnapshotCache, keys: tuple[str, ...]) -> None:
    """Check Snapshots (all, unless named) against what they were when built."""
    from swebench_lab.errors import SnapshotError

    whole = True
    for key in keys or cache.ls()["key"].to_list():
        try:
            click.echo(f"ok    {key}  {cache.verify(key)}")
        except SnapshotError as error:
            whole = False
            click.echo(f"BAD   {key}  {error}")
    _end(whole)


@snapshots.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("keys", nargs=-1)
@click.pass_obj
def snapshots_export(cache: SnapshotCache, file: Path, keys: tuple[str, ...]) -> None:
    """Write Snapshots (all, unless named) into one compressed file, each content once."""
    facts = cache.export(file, keys or None)
    click.echo(
        f"{file}: {facts['snapshots']} Snapshots, {facts['files']} files, {facts['contents']} different contents, "
        f"{facts['bytes'] / 1e6:.1f} MB"
    )


@snapshots.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def snapshots_import(cache: SnapshotCache, file: Path) -> None:
    """Take in the Snapshots of an exported file."""
    click.echo(f"{file}: {len(cache.import_from(file))} Snapshots are in {cache.root}")


@snapshots.command("rebuild")
@_task_options
@click.option("--all", "everything", is_flag=True, help="Also those that are as they were built.")
@click.pass_obj
def snapshots_rebuild(cache: SnapshotCache, /, everything: bool, **choice: Any) -> None:
    """Build anew the Snapshots of tasks that are missing or not as they were built."""
    made = cache.rebuild(_chosen(**choice), verify=not everything)
    click.echo(f"built {len(made)} Snapshots anew")


@main.command()
@_backend_option
@click.option("--only", "names", multiple=True, metavar="NAME", help="An attack or a category; may be repeated.")
@click.option("--tasks", "source", default="", help="Forge patches for these tasks, instead of a small one of its own.")
@click.option("--list", "listing", is_flag=True, help="List the attacks and the verdict each must get; attack nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def redteam(backend: str, names: tuple[str, ...], source: str, listing: bool, as_json: bool) -> None:
    """Attack sandboxes and grading: escape, tampering, reward hacking. Exit code 3 if any attack succeeds."""
    from swebench_lab.records.task import load_tasks
    from swebench_lab.testing.redteam import catalogue
    from swebench_lab.testing.redteam import redteam as attack

    if listing:
        _show(catalogue())
        return
    with _sandboxes(backend) as sandboxes:
        try:
            report = attack(sandboxes, load_tasks(source) if source else None, names or None)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--only") from error
    frame = report.to_frame()
    if as_json:
        click.echo(json.dumps({"ok": report.ok, "tier": report.tier, "outcomes": frame.to_dicts()}, indent=1))
    else:
        _show(frame.select("category", "name", "must", "got", "evidence", "stated"))
        click.echo(repr(report))
    _end(report.ok)


# --- tasks ----------------------------------------------------------------------------------------------------------


@main.group()
def tasks() -> None:
    """List, show, make and export tasks."""


@tasks.command("list")
@_task_options
def tasks_list(**choice: Any) -> None:
    """List tasks: id, repository, split, and how many tests decide."""
    import polars as pl

    chosen = _chosen(**choice)
    title = pl.Series("issue", [task.issue.strip().split("\n")[0][:60] for task in chosen], pl.String)
    _show(chosen.to_frame().select("id", "repo", "split", "fail_to_pass", "pass_to_pass").with_columns(title))


@tasks.command("show")
@click.argument("task_id")
@click.option("--tasks", "source", default="demo", show_default=True, help="A bundled set, a file, or a hub id.")
@click.option("--answer", is_flag=True, help="Show the gold patch too.")
def tasks_show(task_id: str, source: str, answer: bool) -> None:
    """Show one task: its issue and the tests that decide."""
    from swebench_lab.errors import TaskError
    from swebench_lab.records.task import load_tasks

    known = load_tasks(source)
    if task_id not in known.ids:
        raise TaskError(f"no task of {source!r} has the id {task_id!r}; `swebench-lab tasks list` shows them")
    task = known[task_id]
    click.echo(f"{task.id}  ({task.repo} at {task.base_commit[:12] or 'its only commit'})\n\n{task.issue.strip()}\n")
    click.echo("must start to pass:\n  " + "\n  ".join(task.fail_to_pass))
    click.echo(f"must stay passing: {len(task.pass_to_pass)} tests")
    if answer:
        click.echo(f"\n{task.gold_patch}", nl=False)


@tasks.command("explain")
@click.argument("task_id")
@click.option("--tasks", "source", default="demo", show_default=True, help="A bundled set, a file, or a hub id.")
@click.option("--specs", type=click.Path(exists=True, dir_okay=False), help="TOML file of specs that override.")
def tasks_explain(task_id: str, source: str, specs: str | None) -> None:
    """Say how a task is installed and tested, and for every part why."""
    from swebench_lab.errors import TaskError
    from swebench_lab.records.task import load_tasks
    from swebench_lab.snapshots.environment.specs import Table, explain

    known = load_tasks(source)
    if task_id not in known.ids:
        raise TaskError(f"no task of {source!r} has the id {task_id!r}; `swebench-lab tasks list` shows them")
    click.echo(explain(known[task_id], tables=[Table.read(specs)] if specs else None))


@tasks.command("make")
@click.argument("source")
@click.option("-n", "--count", type=click.IntRange(1), default=20, show_default=True, help="Tasks to make.")
@click.option("--seed", default=0, show_default=True, help="Of all chance.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A .jsonl, .json or .parquet file."
)
@click.option(
    "--schema", default="lab", show_default=True, help="lab, swe-bench, swe-smith, swe-gym, swe-rebench, custom, rl."
)
def tasks_make(source: str, count: int, seed: int, output: str, schema: str) -> None:
    """Make validated tasks from a git repository (a path) or a source distribution ("pypi:name==version")."""
    from swebench_lab.tasks.making.make import make_tasks

    made = make_tasks(source, count, seed)
    click.echo(f"{len(made)} tasks → {made.save(output, schema)}")
    _end(len(made) >= count)


@tasks.command("export")
@_task_options
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False), help="A .jsonl, .json or .parquet file."
)
@click.option(
    "--schema", default="lab", show_default=True, help="lab, swe-bench, swe-smith, swe-gym, swe-rebench, custom, rl."
)
def tasks_export(output: str, schema: str, **choice: Any) -> None:
    """Write tasks to a file."""
    chosen = _chosen(**choice)
    click.echo(f"{len(chosen)} tasks → {chosen.save(output, schema)}")


# --- snapshots and certificates -------------------------------------------------------------------------------------


@main.command()
@_task_options
@_backend_option
@_source_options
@click.option("--workers", type=click.IntRange(1), help="Tasks at once.")
def prepare(
    backend: str, workers: int | None, repos: str | None, specs: str | None, allow_python: str, **choice: Any
) -> None:
    """Build the read-only trees of tasks, once; later runs start at once."""
    import polars as pl

    with _sandboxes(backend, repos, specs, allow_python) as sandboxes:
        frame = sandboxes.prepare(_chosen(**choice), workers)
    counts = ", ".join(f"{n} {status}" for status, n in frame["status"].value_counts(sort=True).iter_rows())
    failed = frame.filter(pl.col("status") == "failed")
    if failed.height:
        _show(failed.select("id", "error"))
    click.echo(f"{frame.height} tasks: {counts}; {frame['seconds'].sum():.1f} s of work")
    _end(not failed.height)


@main.command()
@_task_options
@_backend_option
@_source_options
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="Runs of gold and untouched.")
@click.option("--workers", type=click.IntRange(1), help="Tasks at once.")
@click.option("--again", is_flag=True, help="Check tasks that hold a certificate too.")
@click.option(
    "--audit",
    type=click.Choice(["none", "own", "all"]),
    default="own",
    show_default=True,
    help="Look for the fix in git, repository and venv (own), or in every file that a box shows (all).",
)
@click.option(
    "--delete-after-check",
    "delete_after",
    is_flag=True,
    help="Remove the Snapshots of each environment once it is checked.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the tasks that passed to this file.")
@click.option("--schema", default="lab", show_default=True, help="Rows of that file; see `tasks export`.")
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
    """Certify tasks: gold is resolved, untouched and empty are not, and the fix is nowhere to be found."""
    import polars as pl

    from swebench_lab.grading.evaluator import Evaluator

    chosen = _chosen(**choice)
    with _sandboxes(backend, repos, specs, allow_python) as sandboxes:
        frame = Evaluator(sandboxes).check(
            chosen, repeats, workers=workers, again=again, audit=audit, delete_after=delete_after
        )
    wrong = frame.filter(pl.col("status") != "passed")
    if wrong.height:
        _show(wrong.select("id", "status", "reason"))
    if output:
        good = set(frame.filter(pl.col("status") == "passed")["id"])
        click.echo(f"{len(good)} certified tasks → {chosen.filter(lambda t: t.id in good).save(output, schema)}")
    click.echo(f"{frame.height - wrong.height} of {frame.height} tasks are certified")
    _end(not wrong.height)


# --- attempts and grades --------------------------------------------------------------------------------------------


def _agent_options(command: _Command) -> _Command:
    """Add the options of the agent that attempts tasks."""
    options = (
        click.option("--noise", type=click.FloatRange(0, 1), default=0.5, show_default=True,
                     help="How often noisy goes wrong."),
        click.option("--script", type=click.Path(exists=True, dir_okay=False),
                     help="JSON list of replies, for the agent script."),
        click.option("--url", "urls", multiple=True, help="For chat: an endpoint, up to /v1; again for a replica."),
        click.option("--model", default="default", show_default=True, help="For chat: the endpoint's name of the model."),
        click.option("--revision", default="", help="For chat: what tells these weights from others of that name."),
        click.option("--key-from", default="OPENAI_API_KEY", show_default=True,
                     help="For chat: the variable that holds the key."),
        click.option("--temperature", type=click.FloatRange(0), default=1.0, show_default=True, help="For chat."),
        click.option("--top-p", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="For chat."),
        click.option("--reply-tokens", type=click.IntRange(1), help="For chat: tokens of one reply at most."),
        click.option("--tool-calls", is_flag=True, help="For chat: the endpoint makes calls of its own kind."),
        click.option("--tokenizer", default="", help="For chat: the model's tokenizer; attempts are token-exact."),
        click.option("--prices", type=(float, float, float), default=(0.0, 0.0, 0.0),
                     help="For chat: dollars per million prompt, cached prompt and reply tokens."),
        click.option("--flavour", default="xml", show_default=True, help="Prompts and call format."),
        click.option("--config", type=click.Path(exists=True, dir_okay=False),
                     help="A SWE-agent or mini-swe-agent YAML file that says the agent, instead of --flavour."),
        click.option("--config-root", type=click.Path(exists=True, file_okay=False),
                     help="Folder that relative paths in --config start from."),
        click.option("--max-steps", type=click.IntRange(1), help="Replies of an attempt at most.  [default: 40]"),
        click.option("--command-timeout", type=click.FloatRange(0, min_open=True), help="Seconds of one command."),
        click.option("--max-tokens", type=click.IntRange(1), help="Sampled tokens of an attempt at most."),
        click.option("--max-cost", type=click.FloatRange(0, min_open=True), help="Dollars of an attempt at most."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.argument("agent", type=click.Choice(["teacher", "null", "noisy", "script", "chat"]))
@_task_options
@_backend_option
@_agent_options
@click.option("--run-dir", required=True, type=click.Path(file_okay=False), help="Where results go; again: resume.")
@click.option("--attempts", type=click.IntRange(1), default=1, show_default=True, help="Attempts at each task.")
@click.option("--workers", type=click.IntRange(1), help="Attempts at once.")
@click.option("--model-calls", type=click.IntRange(1), help="Calls of the model at once.")
@click.option("--timeout", type=float, help="Seconds of an attempt at most.")
@click.option("--executor", default="threads", show_default=True,
              help="threads, ray (this machine's cluster, or a new one), or the address of a cluster.")  # fmt: skip
@click.option("--run-timeout", type=float, help="Seconds of the whole collection at most; the rest is cut off.")
@click.option("--pages/--no-pages", default=True, show_default=True, help="Write an HTML page of each attempt.")
def collect(agent: str, backend: str, run_dir: str, attempts: int, **options: Any) -> None:
    """Let an agent attempt tasks, and grade what it did. Running again resumes."""
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.rollouts.collector import RolloutCollector
    from swebench_lab.rollouts.executors.cluster import cluster as join
    from swebench_lab.rollouts.executors.settings import Deadlines, Stages
    from swebench_lab.viewer.page import write_pages

    executor = options["executor"]
    choice = {name: options[name] for name in ("source", "pattern", "split", "count", "seed")}
    chosen = _chosen(**choice)
    actor = _actor(agent, options)
    with _sandboxes(backend) as sandboxes:
        collector = RolloutCollector(
            sandboxes,
            Evaluator(sandboxes),
            workers=options["workers"],
            run_dir=run_dir,
            seed=options["seed"],
            stages=Stages(model=options["model_calls"]),
            deadlines=Deadlines(attempt=options["timeout"], run=options["run_timeout"]),
            executor=executor if executor in ("threads", "ray") else join(executor),
        )
        rollouts = collector.collect(actor, chosen, attempts)
    _summary(rollouts, f"{collector.executed} executed now, in {run_dir}")
    if options["pages"]:
        click.echo(f"pages: {write_pages(rollouts, Path(run_dir) / 'attempts')}")
    _end(not rollouts.not_graded)


def _actor(agent: str, options: dict[str, Any]) -> Agent:
    """Return the agent of a name, with the limits that were given."""
    from swebench_lab.agents.agent import Agent

    names = ("max_steps", "command_timeout", "max_tokens", "max_cost")
    limits = {name: options[name] for name in names if options[name] is not None}
    if options["config"]:
        own = agent == "chat" and not options["urls"]  # the model and endpoint that the file names
        policy = None if own else _policy(agent, options)
        return Agent.from_config(options["config"], policy, root=options["config_root"], **limits)
    try:
        return Agent(_policy(agent, options), options["flavour"], **limits)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _chat(options: dict[str, Any]) -> Policy:
    """Return the policy of an endpoint; the key is never part of a command line, which others can read."""
    import os

    from swebench_lab.policies.chat import ChatPolicy

    if not options["urls"]:
        raise click.UsageError("the agent chat needs --url URL, or a --config that names an endpoint")
    return ChatPolicy(
        options["urls"],
        options["model"],
        options["revision"],
        api_key=os.environ.get(options["key_from"], ""),
        temperature=options["temperature"],
        top_p=options["top_p"],
        max_tokens=options["reply_tokens"],
        tool_calls=options["tool_calls"],
        tokenizer=options["tokenizer"],
        prices=options["prices"],
    )


def _policy(agent: str, options: dict[str, Any]) -> Policy:
    """Return the policy of an agent's name; teachers know the whole set, so that asking for more tasks resumes."""
    from swebench_lab.policies.scripted import NullPolicy, ScriptedPolicy
    from swebench_lab.policies.teachers.teacher import NoisyTeacher, Teacher
    from swebench_lab.records.task import load_tasks

    if agent == "chat":
        return _chat(options)
    if agent == "null":
        return NullPolicy()
    if agent == "script":
        if not options["script"]:
            raise click.UsageError("the agent script needs --script FILE")
        replies = json.loads(Path(options["script"]).read_text("utf-8"))
        if not isinstance(replies, list) or not all(isinstance(reply, str) for reply in replies):
            raise click.BadParameter("expected a JSON list of texts", param_hint="--script")
        return ScriptedPolicy(replies, Path(options["script"]).stem)
    known = load_tasks(options["source"])
    return Teacher(known) if agent == "teacher" else NoisyTeacher(known, options["noise"], options["seed"])


def _summary(rollouts: Rollouts, more: str) -> None:
    click.echo(f"{rollouts!r}\n{rollouts.pass_at(1)!r}\n{more}")
    for rollout in rollouts.not_graded[:5]:
        said = rollout.verdict.reason.strip().split("\n")[-1][:200]
        click.echo(f"not graded: {rollout.task.id}, attempt {rollout.trajectory.attempt}: {said}", err=True)


@main.command()
@click.argument("predictions", type=click.Path(exists=True))
@_task_options
@_backend_option
@_source_options
@click.option("--workers", type=click.IntRange(1), help="Patches graded at once.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write SWE-bench's report of the run here.")
@click.option(
    "--run-dir", type=click.Path(file_okay=False), help="Keep verdicts, logs and reports here; again: resume."
)
def evaluate(
    predictions: str,
    backend: str,
    workers: int | None,
    output: str | None,
    run_dir: str | None,
    repos: str | None,
    specs: str | None,
    allow_python: str,
    **choice: Any,
) -> None:
    """Report on a run directory, or grade a predictions file (.json or .jsonl) and report."""
    if Path(predictions).is_dir():
        from swebench_lab.viewer.board import attach

        stored = attach(predictions)
        rollouts = _newest(stored)
        for name, group in _by_agent(rollouts).items():
            _summary(group, name)
        if older := len(stored) - len(rollouts):
            click.echo(f"{older} rows of earlier Snapshots of the same attempts are kept there and not counted")
        _end(not rollouts.not_graded)
        return
    from swebench_lab.grading.evaluator import Evaluator

    chosen = _chosen(**choice)
    with _sandboxes(backend, repos, specs, allow_python) as sandboxes:
        keep = Path(run_dir, "verdicts.jsonl") if run_dir else None
        verdicts = Evaluator(sandboxes).evaluate(predictions, chosen, workers=workers, keep=keep)
    if run_dir:
        click.echo(f"reports: {verdicts.save(run_dir)}")
    _show(verdicts.to_frame().select("id", "status", "reason"))
    counts = ", ".join(f"{count} {status}" for status, count in verdicts.counts.items())
    click.echo(f"{counts}; resolved {verdicts.resolved_rate:.1%} of {len(verdicts.tasks)} tasks")
    if output:
        Path(output).write_text(json.dumps(verdicts.run_report(), indent=1) + "\n", "utf-8")
        click.echo(f"report: {output}")
    _end(not verdicts.counts["not graded"])


def _newest(rollouts: Rollouts) -> Rollouts:
    """Return each attempt once: a task whose Snapshot changed leaves the rows of the old one behind."""
    from swebench_lab.records.rollout import Rollouts

    newest = {(r.task.id, r.trajectory.attempt, r.trajectory.seed, r.trajectory.agent): r for r in rollouts}
    return Rollouts(newest.values(), rollouts.name)


def _by_agent(rollouts: Rollouts) -> dict[str, Rollouts]:
    """Return the rollouts of each agent, named by its policy, and by its own digest where a policy has several."""
    agents = dict.fromkeys((r.trajectory.policy, r.trajectory.agent) for r in rollouts)
    policies = [policy for policy, _ in agents]

    def name(policy: str, agent: str) -> str:
        return f"policy {policy}" + (f", agent {agent[:8]}" if policies.count(policy) > 1 else "")

    return {
        name(*pair): rollouts.filter(lambda r, pair=pair: (r.trajectory.policy, r.trajectory.agent) == pair)  # type: ignore[misc]
        for pair in agents
    }


@main.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False))
@click.option("--once", is_flag=True, help="Show it once, and do not wait for the end.")
@click.option("--html", type=click.Path(dir_okay=False), help="Write it as one self-contained page too.")
@click.option("--every", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds between looks.")
def board(run_dir: str, once: bool, html: str | None, every: float) -> None:
    """Watch a collection that runs in any process: throughput, stages, results, faults, machines."""
    from swebench_lab.viewer.board import Board

    shown = Board(run_dir)
    if once:
        click.echo(shown.to_text())
    else:
        shown.watch(every)
    if html:
        shown.to_html(html)
        click.echo(f"page: {html}")


# --- traces ---------------------------------------------------------------------------------------------------------


@main.group()
def traces() -> None:
    """Traces of this and other projects: look into them, and turn them into one another's formats."""


@traces.command("show")
@click.argument("path", type=click.Path(exists=True))
@click.option("--trace", type=click.IntRange(0), help="Show the steps of this one, counted from 0.")
def show_traces(path: str, trace: int | None) -> None:
    """List the traces of a file or folder, or the steps of one; the format is recognised by the content."""
    from swebench_lab import _html
    from swebench_lab.traces.reading import load_trajectories

    found = load_trajectories(path)
    if trace is None:
        click.echo(repr(found))
        _show(found.to_frame())
        return
    if trace >= len(found):
        raise click.UsageError(f"--trace {trace}: {path} holds {len(found)} traces, counted from 0")
    chosen = found[trace]
    click.echo(repr(chosen))
    for step in chosen.steps:
        said = _html.plain(f"{step.tool or 'no call'}\n{step.command or step.reply.text.strip()}")
        click.echo(f"\n--- step {step.index}: {said}")
        click.echo("\n".join(f"    {line}" for line in _html.plain(step.observation).strip().split("\n")[:20]))


@traces.command("convert")
@click.argument("path", type=click.Path(exists=True))
@click.option("-o", "--output", required=True, type=click.Path(), help="A file, or a folder for formats of one a file.")
@click.option(
    "--format",
    "form",
    required=True,
    help="swe-agent, mini-swe-agent, openhands, atif, lab; rows to fine-tune on: ticks, xml, tool.",
)
@click.option("--system", help="Of the form xml: a file with the system prompt to put in the recorded one's place.")
def convert_traces(path: str, output: str, form: str, system: str | None) -> None:
    """Read traces of any format and write them in another."""
    from swebench_lab.traces.reading import load_trajectories

    options = {"system": Path(system)} if system else {}
    found = load_trajectories(path)
    written = found.save(output, form, **options)
    click.echo(f"{len(found)} traces: {written}")


@traces.command("replay")
@click.argument("path", type=click.Path(exists=True))
@_task_options
@_backend_option
@_source_options
@click.option(
    "--path", "moves", multiple=True, metavar="OLD=NEW", help="What a folder of the recorded machine is called here."
)
@click.option("--run-dir", type=click.Path(file_okay=False), help="Keep the attempts and their step layers here.")
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
    """Execute traces again in sandboxes of their tasks, and report what they show otherwise; exit code 3 if anything."""
    from swebench_lab import _html
    from swebench_lab.rollouts.run_directory import RunDirectory
    from swebench_lab.traces.reading import load_trajectories

    if wrong := [move for move in moves if "=" not in move]:
        raise click.BadParameter(f"{wrong[0]!r} is not OLD=NEW", param_hint="--path")
    known = {task.id: task for task in _chosen(**choice)}
    found = load_trajectories(path)
    chosen = found.filter(lambda trace: trace.task_id in known)
    drifted = 0
    with _sandboxes(backend, repos, specs, allow_python) as sandboxes:
        for trace in chosen:
            task = known[trace.task_id]
            with sandboxes.open(task) as box:
                paths = dict(move.split("=", 1) for move in moves)
                made = trace.replay(box, run_dir=run_dir, keep_layers=bool(run_dir), paths=paths)
            if run_dir:
                RunDirectory(run_dir).append(made.rollout(task))
            click.echo(repr(made))
            for number in made.drifted:
                step = made.steps[number]
                typed = step.command.strip().split("\n", 1)[0]
                click.echo(f"  step {number}, {step.outcome}, {typed[:60]!r}: {_html.plain(step.note)}")
            drifted += bool(made.drifted)
    click.echo(f"{len(chosen)} of {len(found)} traces are at these tasks; {drifted} show something else")
    _end(bool(chosen) and not drifted)


# --- the cluster ----------------------------------------------------------------------------------------------------


@main.group()
def cluster() -> None:
    """Start the nodes of a Ray cluster that attempts run on; each stays in the foreground until Ctrl-C."""


def _node_options(command: _Command) -> _Command:
    options = (
        click.option("--sandbox", type=click.IntRange(1), default=128, show_default=True, help="Attempts at once."),
        click.option("--io", type=click.IntRange(1), default=40, show_default=True,
                     help="Cold environments brought at once, in units of 100 MB."),
        click.option("--cache", default="", help="Folder for this node's Snapshots."),
        click.option("--node-ip", default="", help="Address that other nodes reach this one by."),
        click.argument("ray", nargs=-1, type=click.UNPROCESSED),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@cluster.command("head", context_settings={"ignore_unknown_options": True})
@click.option("--port", type=int, default=6379, show_default=True, help="Where workers and collectors find it.")
@_node_options
def cluster_head(port: int, sandbox: int, io: int, cache: str, node_ip: str, ray: tuple[str, ...]) -> None:
    """Start the first node. RAY: further options of `ray start`."""
    _start_node(["--head", f"--port={port}"], sandbox, io, cache, node_ip, ray)


@cluster.command("worker", context_settings={"ignore_unknown_options": True})
@click.option("--address", required=True, help="The head's, such as 10.0.0.1:6379.")
@_node_options
def cluster_worker(address: str, sandbox: int, io: int, cache: str, node_ip: str, ray: tuple[str, ...]) -> None:
    """Start a further node; it may join in the middle of a collection. RAY: further options of `ray start`."""
    _start_node([f"--address={address}"], sandbox, io, cache, node_ip, ray)


def _start_node(arguments: list[str], sandbox: int, io: int, cache: str, node_ip: str, ray: tuple[str, ...]) -> None:
    from swebench_lab.rollouts.executors.cluster import start_node

    own = [f"--node-ip-address={node_ip}"] if node_ip else []
    sys.exit(start_node([*arguments, *own, *ray], sandbox, io, cache))


# --- recipes --------------------------------------------------------------------------------------------------------


@main.group()
def recipe() -> None:
    """List, show and run recipes: parameterised notebooks."""


@recipe.command("list")
def recipe_list() -> None:
    """List the recipes."""
    from swebench_lab.experiments.recipes import list_recipes

    for found in list_recipes():
        click.echo(f"{found.name:<14} {found.title}  (presets: {', '.join(found.presets) or 'none'})")


@recipe.command("show")
@click.argument("name")
def recipe_show(name: str) -> None:
    """Show a recipe's parameters, with types, defaults and meaning, and its presets."""
    from swebench_lab.experiments.recipes import describe

    click.echo(repr(describe(name)))


@recipe.command("run")
@click.argument("name")
@click.option("--preset", help="A named set of parameters.")
@click.option("-p", "--parameter", "given", multiple=True, metavar="KEY=VALUE", help="A parameter; may be repeated.")
@click.option("--run-dir", type=click.Path(file_okay=False), help="Where everything goes; again: resume.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def recipe_run(name: str, preset: str | None, given: Iterable[str], run_dir: str | None, quiet: bool) -> None:
    """Run a recipe headless. Names and types of parameters are checked before anything starts."""
    from swebench_lab.experiments.recipes import describe, run_recipe

    found = describe(name)
    known = {parameter.name: parameter for parameter in found.parameters}
    values: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not of the form KEY=VALUE", param_hint="-p")
        if key == "run_dir":
            run_dir = text
        else:
            values[key] = known[key].read(text) if key in known else text
    found.check(values)
    run = run_recipe(name, preset=preset, run_dir=run_dir, progress=not quiet, **values)
    for key, value in run.metrics.items():
        click.echo(f"{key}: {json.dumps(value)}")
    click.echo(f"notebook: {run.notebook}")
    if (run.run_dir / "attempts" / "index.html").is_file():
        click.echo(f"pages: {run.run_dir / 'attempts' / 'index.html'}")
