"""Docs: the pages and notebooks of the documentation, which travel in the package."""

from __future__ import annotations

import difflib
import json
import shutil
from importlib import resources
from pathlib import Path

import click

_KINDS = {".md": "pages", ".ipynb": "notebooks"}


def _folders() -> dict[str, Path]:
    """Return the folders of pages and notebooks: the wheel's, else the checkout's."""
    package = Path(str(resources.files("swebench_lab")))
    packaged = {"pages": package / "_docs", "notebooks": package / "_notebooks"}
    checkout = {"pages": package.parent / "docs", "notebooks": package.parent / "notebooks"}
    return packaged if packaged["pages"].is_dir() else checkout


def _title(path: Path) -> str:
    """Return the first heading of a page or a notebook."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
    return next((line.lstrip("# ") for line in text.split("\n") if line.startswith("#")), "")


@click.command()
@click.argument("name", required=False)
@click.option("--copy", "target", type=click.Path(file_okay=False), help="Copy all pages and notebooks into a folder.")
def docs(name: str | None, target: str | None) -> None:
    """List the pages and notebooks of the documentation, print one, or copy all of them."""
    folders = _folders()
    if target:
        for kind, folder in folders.items():
            place = Path(target) / ("docs" if kind == "pages" else kind)
            shutil.copytree(folder, place, dirs_exist_ok=True)
            click.echo(f"{kind}: {place}")
        click.echo(f"open a notebook: jupyter lab {Path(target) / 'notebooks'}")
        return
    files = {path.stem: path for kind in folders.values() for path in sorted(kind.glob("*")) if path.suffix in _KINDS}
    if name is None:
        for stem, path in files.items():
            click.echo(f"{stem:<34} {_title(path)}")
        click.echo("swebench-lab docs NAME prints a page; --copy FOLDER copies all of them, notebooks included")
        return
    stem = Path(name).stem
    if stem not in files:
        near = difflib.get_close_matches(stem, files, 1)
        hint = f"did you mean {near[0]!r}?" if near else "swebench-lab docs lists them"
        raise click.BadParameter(f"no page or notebook is called {name!r}; {hint}", param_hint="NAME")
    if files[stem].suffix == ".ipynb":
        raise click.UsageError(f"{stem} is a notebook: swebench-lab docs --copy FOLDER, and open it there")
    click.echo(files[stem].read_text("utf-8"))
