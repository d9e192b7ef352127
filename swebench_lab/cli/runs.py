"""Runs: convert run directories of earlier versions, and check what lies in one."""

from __future__ import annotations

import click

from swebench_lab.cli.options import finish

_FOLDER = click.Path(exists=True, file_okay=False)


@click.group()
def runs() -> None:
    """Convert and check run directories."""


@runs.command()
@click.argument("run_dirs", nargs=-1, required=True, type=_FOLDER)
def convert(run_dirs: tuple[str, ...]) -> None:
    """Convert run directories of earlier versions where they lie; the old files stay in converted-from/."""
    from swebench_lab.rollouts.store.convert import convert as convert_directory

    aside = 0
    for run_dir in run_dirs:
        conversion = convert_directory(run_dir, progress=True)
        if conversion is None:
            click.echo(f"{run_dir}: nothing to convert, it is of this version")
            continue
        aside += conversion.aside
        share = conversion.bytes_after / conversion.bytes_before if conversion.bytes_before else 1.0
        click.echo(
            f"{run_dir}: {conversion.attempts} attempts converted, {conversion.bytes_after / 1e6:.1f} MB instead of "
            f"{conversion.bytes_before / 1e6:.1f} MB ({share:.0%})"
            + (f"; {conversion.aside} unreadable rows are in set-aside.jsonl" if conversion.aside else "")
        )
    finish(not aside)


@runs.command()
@click.argument("run_dir", type=_FOLDER)
def check(run_dir: str) -> None:
    """Read every attempt of a run directory; damaged ones are set aside, and a resumed collection makes them again."""
    from swebench_lab.rollouts.run_directory import RunDirectory

    directory = RunDirectory(run_dir, create=False)
    recovered, damaged = directory.recover(), directory.verify(progress=True)
    click.echo(f"{run_dir}: {len(directory.rollouts())} attempts are whole, {damaged} damaged, {recovered} recovered")
    finish(not damaged)
