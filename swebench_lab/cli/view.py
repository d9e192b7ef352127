"""View: the viewer application in a browser, or as a folder of static pages."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from swebench_lab.cli.agents import chat_policy, endpoint_options
from swebench_lab.cli.options import backend_option, open_factory, source_options

if TYPE_CHECKING:
    from swebench_lab.viewer.app.view import View

TOKEN = "SWEBENCH_LAB_VIEW_TOKEN"
"""Variable that holds the token where a proxy starts the viewer and sends it along."""


@click.command()
@click.argument("runs", default="runs", type=click.Path(exists=True, file_okay=False))
@click.option("--port", default=0, show_default="any that is free", help="Port on 127.0.0.1.")
@click.option("--notes", is_flag=True, help="Let the page write notes and tags, kept in notes.jsonl beside each run.")
@click.option("--reenter", is_flag=True,
              help="Let the page enter steps in live sandboxes: commands, terminal, branches, grading.")  # fmt: skip
@click.option("--base-url", default="/", show_default=True,
              help="Path under which a proxy shows the viewer, as /user/ada/proxy/8765/.")  # fmt: skip
@click.option("--bundle", type=click.Path(file_okay=False), help="Write a folder of static pages instead of serving.")
@click.option("--open/--no-open", "opened", default=False, help="Open the address in a browser.")
@backend_option
@source_options
@endpoint_options
def view(runs: str, port: int, base_url: str, bundle: str | None, opened: bool, **options: Any) -> None:
    """Look at runs in a browser: search and sort attempts, compare agents, follow what is running. Runs are only read.

    With --reenter, a step opens in a live sandbox of --backend. An endpoint (--url, --model) can go on from it.
    """
    if bundle and options["reenter"]:
        raise click.UsageError("--bundle writes pages that stand alone; they cannot --reenter")
    with ExitStack() as stack:
        viewer = _open(runs, options, stack)
        if bundle:
            index = viewer.bundle(bundle)
            click.echo(
                f"{index}: {len(viewer.frame)} attempts; show it with: python -m http.server --directory {bundle}"
            )
            return
        server = viewer.serve(port, base_url, os.environ.get(TOKEN) or None)
        address = server.url if TOKEN not in os.environ else server.url.partition("?")[0]
        click.echo(f"{viewer!r}\n{address}\nstop with Ctrl-C")
        if opened:
            click.launch(server.url)
        server.wait()


def _open(runs: str, options: dict[str, Any], stack: ExitStack) -> View:
    from swebench_lab.viewer.app.view import View

    sandboxes, policies = None, {}
    if options["reenter"]:
        sandboxes = stack.enter_context(
            open_factory(options["backend"], options["repos"], options["specs"], options["allow_python"])
        )
        if options["urls"]:
            policies[options["model"]] = chat_policy(options)
            policies[f"{options['model']}, greedy"] = chat_policy({**options, "temperature": 0.0})
    return stack.enter_context(View(runs, notes=options["notes"], sandboxes=sandboxes, policies=policies))
