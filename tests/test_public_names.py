"""The public names: one list, no two that differ only in case, and all that notebooks, recipes and pages import."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import swebench_lab as lab
from tests import stub

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "recipes").glob("*.ipynb"))]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
SCRIPTS = [*sorted((ROOT / "recipes").rglob("*.py"))]


def test_public_names_are_listed_sorted_and_all_there() -> None:
    assert lab.__all__ == sorted(lab.__all__, key=str.casefold)
    assert set(lab.__all__) == {*lab._HOMES, *lab._MODULES, "__version__"}
    assert dir(lab) == sorted(lab.__all__)


def test_no_name_is_listed_twice() -> None:
    names = [name for names in lab._NAMES.values() for name in names.split()]
    assert len(names) == len(set(names))
    assert not set(names) & set(lab._MODULES)


def test_the_stub_for_editors_agrees_with_the_tables() -> None:
    assert stub.STUB.read_text("utf-8") == stub.text(), "run `python -m tests.stub`"


def test_no_two_names_differ_only_in_case() -> None:
    folded = [name.casefold() for name in lab.__all__]
    assert not {name for name in lab.__all__ if folded.count(name.casefold()) > 1}


@pytest.mark.parametrize("name", lab.__all__)
def test_a_public_name_means_the_same_at_the_second_use(name: str) -> None:
    first = getattr(lab, name)
    if name in lab._HOMES:
        home = importlib.import_module(f"swebench_lab.{lab._HOMES[name]}")
        assert getattr(home, name) is first
    assert getattr(lab, name) is first


def test_no_public_name_is_the_name_of_a_submodule() -> None:
    modules = {m.name for m in pkgutil.iter_modules(lab.__path__)}
    assert not modules & set(lab._HOMES)
    assert not modules & set(lab._MODULES) - {"errors"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sandcastle'"):
        lab.Sandcastle  # noqa: B018


def blocks(path: Path) -> Iterator[str]:
    """Return the Python of a notebook's cells, a page's code blocks, or a script."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        yield from ("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    elif path.suffix == ".md":
        yield from re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    else:
        yield text


@pytest.mark.parametrize("path", [*NOTEBOOKS, *SCRIPTS, *PAGES], ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_readers_copy_imports_the_package_as_lab_and_nothing_below_it(path: Path) -> None:
    for block in blocks(path):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                name = node.module or ""
                neighbour = name.startswith("swebench_lab.integrations.")  # reached by import path, as other tools do
                assert node.level == 0 and (neighbour or name.split(".")[0] != "swebench_lab"), ast.unparse(node)
            elif isinstance(node, ast.Import):
                ours = [alias for alias in node.names if alias.name.split(".")[0] == "swebench_lab"]
                assert all(alias.name == "swebench_lab" and alias.asname == "lab" for alias in ours), ast.unparse(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lab":
                assert node.attr in lab.__all__, f"lab.{node.attr} is not public"


def test_there_is_something_to_read() -> None:
    assert sum(len(list(blocks(path))) for path in NOTEBOOKS) > 100
