"""The README and the guides tell the truth: their commands parse, their Python reads names that exist, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

import swebench_lab as lab
from swebench_lab.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
TEXT = "\n".join(path.read_text("utf-8") for path in PAGES)
COMMANDS = re.findall(r"^(?:\$ )?swebench-lab (.+?)(?: +#.*)?$", TEXT, re.MULTILINE)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 5
    assert len(BLOCKS) > 3


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line: str, tmp_path: Path) -> None:
    words = shlex.split(line)
    command: click.Command = main
    context: click.Context | None = None
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(click.Context(command, context), words)
        assert found is not None, name
        context, command = click.Context(command, context), found
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            parameter.type.exists = False
    command.make_context("swebench-lab", words, parent=context)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_name_of_the_package_exists(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lab":
            assert hasattr(lab, node.attr), node.attr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8").replace("\n", " ")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_picture_of_the_player_moves_and_is_small() -> None:
    from PIL import Image

    picture = ROOT / "docs" / "player.gif"
    if not PAGES:
        pytest.skip("installed without its pages")
    assert picture.stat().st_size < 1_000_000
    with Image.open(picture) as film:
        assert film.n_frames >= 5
