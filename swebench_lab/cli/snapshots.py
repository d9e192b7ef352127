"""Snapshots: list, measure, check, move and remove them; prepare the ones that tasks need."""

from __future__ import annotations

from pathlib import Path
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
    from swebench_lab.snapshots.cache import SnapshotCache


@click.group()
@click.option("--cache", default="", help="Folder of the cache, if not the default one.")
@click.pass_context
def snapshots(ctx: click.Context, cache: str) -> None:
    """List, measure, verify, move and remove Snapshots: the trees that tasks start from."""
    from swebench_lab.snapshots.cache import SnapshotCache

    ctx.obj = SnapshotCache(cache or None)


@snapshots.command("ls")
@click.pass_obj
def snapshots_ls(cache: SnapshotCache) -> None:
    """List Snapshots: key, first task, repository, Python, size, last use."""
    show(cache.ls())


@snapshots.command("du")
@click.pass_obj
def snapshots_du(cache: SnapshotCache) -> None:
    """Show disk usage by kind; files shared by several Snapshots count once."""
    for kind, size in cache.du().items():
        click.echo(f"{size / 1e6:12.1f} MB  {kind}")


@snapshots.command("evict")
@click.argument("keys", nargs=-1)
@click.option("--older-than", type=float, help="Remove those unused for this many days.")
@click.pass_obj
def snapshots_evict(cache: SnapshotCache, keys: tuple[str, ...], older_than: float | None) -> None:
    """Remove Snapshots that no open sandbox uses."""
    if not keys and older_than is None:
        raise click.UsageError("give keys or --older-than DAYS; `swebench-lab gc --all` removes all")
    removals = cache.evict(keys or None, None if older_than is None else older_than * 86_400)
    click.echo(f"removed {len(removals)} Snapshots; {cache.du()['total'] / 1e6:.1f} MB left")


@snapshots.command("verify")
@click.argument("keys", nargs=-1)
@click.pass_obj
def snapshots_verify(cache: SnapshotCache, keys: tuple[str, ...]) -> None:
    """Check that Snapshots (default: all) are as they were built."""
    from swebench_lab.errors import SnapshotError

    intact = True
    for key in keys or cache.ls()["key"].to_list():
        try:
            click.echo(f"ok    {key}  {cache.verify(key)}")
        except SnapshotError as error:
            intact = False
            click.echo(f"BAD   {key}  {error}")
    finish(intact)


@snapshots.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("keys", nargs=-1)
@click.pass_obj
def snapshots_export(cache: SnapshotCache, file: Path, keys: tuple[str, ...]) -> None:
    """Write Snapshots (default: all) to one compressed file in which each distinct content is stored once."""
    facts = cache.export(file, keys or None)
    click.echo(
        f"{file}: {facts['snapshots']} Snapshots, {facts['files']} files, {facts['contents']} distinct contents, "
        f"{facts['bytes'] / 1e6:.1f} MB"
    )


@snapshots.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def snapshots_import(cache: SnapshotCache, file: Path) -> None:
    """Import the Snapshots of an exported file."""
    click.echo(f"{file}: {len(cache.import_from(file))} Snapshots imported into {cache.root}")


@snapshots.command("build")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--context", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder that COPY reads."
)
@click.option("--target", default="", help="Stage to build; the last one if not given.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="Value of an ARG; repeatable.")
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="IMAGE=SOURCE",
    help="Where an image that FROM names is found: an archive, layout, folder, engine:NAME or docker://NAME.",
)
@click.option("--network", type=click.Choice(["none", "host"]), default="none", help="Network of RUN.")
@click.option("--check", is_flag=True, help="Only say whether it can be built here.")
@click.pass_obj
def snapshots_build(
    cache: SnapshotCache, path: Path, context: Path | None, target: str, args: tuple[str, ...], bases: tuple[str, ...],
    network: str, check: bool,
) -> None:  # fmt: skip
    """Build a Dockerfile without an engine, and print its Snapshot's key and layers."""
    from swebench_lab.snapshots.dockerfile.recipe import Recipe

    if check:
        file = path / "Dockerfile" if path.is_dir() else path
        stages = Recipe(file).read().stages
        click.echo(f"{file}: {len(stages)} stages, {sum(len(stage.instructions) + 1 for stage in stages)} instructions")
        return
    snapshot = cache.from_dockerfile(
        path, context, target=target, args=_pairs(args, "--build-arg"), bases=_pairs(bases, "--base"), network=network
    )
    click.echo(f"{snapshot.key}  {len(snapshot.layers)} layers, {snapshot.meta['bytes'] / 1e6:.1f} MB")
    click.echo(f"workdir {snapshot.workdir}, user {snapshot.user or 'root'}, shell {snapshot.shell}")


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """The names and values of a repeated option."""
    pairs = [text.partition("=") for text in texts]
    if wrong := next((text for text, (_, equals, _) in zip(texts, pairs, strict=True) if not equals), None):
        raise click.UsageError(f"{option} takes NAME=VALUE, not {wrong!r}")
    return {name: value for name, _, value in pairs}


@snapshots.command("rebuild")
@task_options
@click.option("--all", "everything", is_flag=True, help="Also rebuild Snapshots that are intact.")
@click.pass_obj
def snapshots_rebuild(cache: SnapshotCache, /, everything: bool, **choice: Any) -> None:
    """Rebuild the Snapshots of tasks that are missing or damaged."""
    rebuilt = cache.rebuild(choose_tasks(**choice), verify=not everything)
    click.echo(f"rebuilt {len(rebuilt)} Snapshots")


@click.command()
@task_options
@backend_option
@source_options
@click.option("--workers", type=click.IntRange(1), help="Number of tasks built in parallel.")
def prepare(
    backend: str, workers: int | None, repos: str | None, specs: str | None, allow_python: str, **choice: Any
) -> None:
    """Build the Snapshots of tasks once, so that later runs start immediately."""
    import polars as pl

    with open_factory(backend, repos, specs, allow_python) as sandboxes:
        frame = sandboxes.prepare(choose_tasks(**choice), workers)
    counts = ", ".join(f"{n} {status}" for status, n in frame["status"].value_counts(sort=True).iter_rows())
    failures = frame.filter(pl.col("status") == "failed")
    if failures.height:
        show(failures.select("id", "error"))
    click.echo(f"{frame.height} tasks: {counts}; {frame['seconds'].sum():.1f} s of work")
    finish(not failures.height)
