"""The entry point `swebench-lab`: a thin skin over the library, one file per command group.

Exit codes: 0 success; 1 an error, reported in one paragraph on stderr (`--debug` shows its traceback); 2 wrong usage;
3 the command ran, but some tasks or checks failed: a task that could not be built or certified, an attempt that is not
graded, a machine that needs attention; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
from typing import Any

import click

from swebench_lab import __version__
from swebench_lab.cli.cluster import cluster
from swebench_lab.cli.collect import board, collect
from swebench_lab.cli.docs import docs
from swebench_lab.cli.evaluate import evaluate
from swebench_lab.cli.machine import doctor, gc, redteam
from swebench_lab.cli.recipe import recipe
from swebench_lab.cli.runs import runs
from swebench_lab.cli.serve import serve
from swebench_lab.cli.snapshots import prepare, snapshots
from swebench_lab.cli.tasks import check, tasks
from swebench_lab.cli.traces import traces
from swebench_lab.cli.view import view


class _Group(click.Group):
    """A group that reports the package's errors in one paragraph instead of a traceback."""

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
            click.echo("stopped; finished work is kept, and the same command resumes", err=True)
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="swebench-lab")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-v", "--verbose", "verbosity", count=True, help="Log to stderr what the library does; -vv for more.")
def main(debug: bool, verbosity: int) -> None:  # noqa: ARG001 - the group reads `debug`
    """Train software-engineering agents on real bugs: tasks, sandboxes, attempts, grades.

    \b
    Exit codes: 0 success; 1 an error, reported on stderr; 2 wrong usage;
    3 it ran, but some tasks or checks failed; 130 stopped by Ctrl-C.
    """  # noqa: D301 - click needs the backspace itself
    if verbosity:
        _log_to_stderr(logging.INFO if verbosity == 1 else logging.DEBUG)


def _log_to_stderr(level: int) -> None:
    """Show the library's log records from this level on; other libraries' stay as they are."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("swebench_lab")
    logger.setLevel(level)
    logger.handlers = [handler]


for _command in (
    board,
    check,
    cluster,
    collect,
    docs,
    doctor,
    evaluate,
    gc,
    prepare,
    recipe,
    redteam,
    runs,
    serve,
    snapshots,
    tasks,
    traces,
    view,
):
    main.add_command(_command)
