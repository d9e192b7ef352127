"""View: the viewer application in a browser, or as a folder of static pages."""

from __future__ import annotations

import os

import click

TOKEN = "SWEBENCH_LAB_VIEW_TOKEN"
"""Variable that holds the token where a proxy starts the viewer and sends it along."""


@click.command()
@click.argument("runs", default="runs", type=click.Path(exists=True, file_okay=False))
@click.option("--port", default=0, show_default="any that is free", help="Port on 127.0.0.1.")
@click.option("--notes", is_flag=True, help="Let the page write notes and tags, kept in notes.jsonl beside each run.")
@click.option("--base-url", default="/", show_default=True,
              help="Path under which a proxy shows the viewer, as /user/ada/proxy/8765/.")  # fmt: skip
@click.option("--bundle", type=click.Path(file_okay=False), help="Write a folder of static pages instead of serving.")
@click.option("--open/--no-open", "opened", default=False, help="Open the address in a browser.")
def view(runs: str, port: int, notes: bool, base_url: str, bundle: str | None, opened: bool) -> None:
    """Look at runs in a browser: search and sort attempts, compare agents, follow what is running. Runs are only read."""
    from swebench_lab.viewer.app.view import View

    with View(runs, notes=notes) as viewer:
        if bundle:
            index = viewer.bundle(bundle)
            click.echo(
                f"{index}: {len(viewer.frame)} attempts; show it with: python -m http.server --directory {bundle}"
            )
            return
        server = viewer.serve(port, base_url, os.environ.get(TOKEN) or None)
        shown = server.url if TOKEN not in os.environ else server.url.partition("?")[0]
        click.echo(f"{viewer!r}\n{shown}\nstop with Ctrl-C")
        if opened:
            click.launch(server.url)
        server.wait()
