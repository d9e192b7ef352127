"""The machine: doctor, gc and redteam."""

from __future__ import annotations

import json

import click

from swebench_lab.cli.options import backend_option, finish, open_factory, show, trust_option, trusted


@click.command()
@click.option("--all", "everything", is_flag=True, help="Print everything that was looked at, not only what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(everything: bool, as_json: bool) -> None:
    """Report whether this machine can run sandboxes, what is wrong, and how to fix it."""
    from swebench_lab.testing.doctor.doctor import doctor as look

    report = look()
    text = report.to_text() if everything else repr(report)
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else text)
    if not as_json and not everything:
        click.echo("swebench-lab doctor --all shows everything that was looked at")
    finish(report.ok)


@click.command()
@click.option(
    "--older-than", type=float, default=30.0, show_default=True, help="Remove Snapshots unused for this many days."
)
@click.option("--all", "everything", is_flag=True, help="Remove all Snapshots except those in use.")
@click.option(
    "--scratch", multiple=True, type=click.Path(file_okay=False), help="Also clean this scratch folder; repeatable."
)
def gc(older_than: float, everything: bool, scratch: tuple[str, ...]) -> None:
    """Remove leftovers of killed processes and Snapshots that have not been used for a while; nothing in use is touched."""
    from swebench_lab.snapshots.cache import SnapshotCache
    from swebench_lab.testing.doctor.leftovers import remove_leftovers

    cache = SnapshotCache()
    for leftover in remove_leftovers(scratch, cache.root):
        click.echo(f"removed {leftover.kind}: {leftover.place}")
    before, count = cache.du()["total"], cache.ls().height
    removals = cache.evict(older_than=None if everything else older_than * 86_400)
    freed = before - cache.du()["total"]
    click.echo(
        f"{cache.root}: removed {len(removals)} of {count} Snapshots, {freed / 1e6:.1f} MB; "
        f"{(before - freed) / 1e6:.1f} MB left"
    )


@click.command()
@backend_option
@click.option("--only", "names", multiple=True, metavar="NAME", help="Run only this attack or category; repeatable.")
@click.option("--tasks", "source", default="", help="Forge patches for these tasks instead of a small built-in one.")
@click.option(
    "--list", "listing", is_flag=True, help="List the attacks and the verdict each must get, without running them."
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def redteam(backend: str, names: tuple[str, ...], source: str, listing: bool, as_json: bool) -> None:
    """Attack sandboxes and grading (escape, tampering, reward hacking); exit code 3 if any attack succeeds."""
    from swebench_lab.tasks.loading import load_tasks
    from swebench_lab.testing.redteam import catalogue
    from swebench_lab.testing.redteam import redteam as attack

    if listing:
        show(catalogue())
        return
    with open_factory(backend) as sandboxes:
        try:
            report = attack(sandboxes, load_tasks(source, trust=trusted()) if source else None, names or None)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--only") from error
    frame = report.to_frame()
    if as_json:
        click.echo(json.dumps({"ok": report.ok, "tier": report.tier, "outcomes": frame.to_dicts()}, indent=1))
    else:
        show(frame.select("category", "name", "must", "got", "evidence", "stated"))
        click.echo(repr(report))
    finish(report.ok)
