"""What travels: a wheel built from this tree holds the recipes, the bundled tasks and their repositories."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return wheel.namelist()


def test_recipes_and_bundled_tasks_travel_in_the_wheel(names: list[str]) -> None:
    assert "swebench_lab/_recipes/quickstart.ipynb" in names
    assert "swebench_lab/bundled/demo/tasks.jsonl" in names
    assert "swebench_lab/py.typed" in names
    plugin = "swebench_lab/policies/serving/engine_plugin/swebench_lab_stream"  # vLLM finds it by the folder beside it
    assert {f"{plugin}.py", f"{plugin}-1.dist-info/entry_points.txt", f"{plugin}-1.dist-info/METADATA"} <= set(names)


def test_docs_and_notebooks_travel_and_the_command_shows_them(names: list[str], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from swebench_lab.cli.main import main

    assert {f"swebench_lab/_docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(names)
    assert {f"swebench_lab/_notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")} <= set(names)
    run = CliRunner().invoke
    listed = run(main, ["docs"]).output
    assert "The viewer" in listed and "00_quickstart" in listed
    assert (
        run(main, ["docs", "docs/hub.md"]).output.startswith("# ")
        and "did you mean 'viewer'" in run(main, ["docs", "viewr"]).output
    )
    run(main, ["docs", "--copy", str(tmp_path)])
    assert (tmp_path / "docs/viewer.md").is_file() and (tmp_path / "notebooks/00_quickstart.ipynb").is_file()


def test_every_file_of_every_bundled_repository_travels(names: list[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "swebench_lab/bundled"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert len(listed) > 100
    assert not [name for name in listed if name and name not in names]


def test_the_players_and_the_terminal_s_script_travel_with_its_licence(names: list[str]) -> None:
    assert {"player.js", "player.css", "page.js", "page.css"} <= {
        n.rpartition("/")[2] for n in names if "/assets/" in n
    }
    assert {f"swebench_lab/bundled/assets/vendor/xterm/{n}" for n in ("xterm.mjs", "xterm.css", "LICENSE")} <= set(
        names
    )


def test_nothing_else_travels(names: list[str]) -> None:
    assert not [n for n in names if not n.startswith(("swebench_lab/", "swebench_lab-", "swebench_lab_verifiers.py"))]
    assert not [n for n in names if n.endswith((".pyc", ".coverage"))]


def test_versions_that_the_project_stands_on_are_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.partition(" ;")[0].split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    assert pins["trl"].startswith("1.16.")
    assert pins["swebench"].startswith("5.0.")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    known = {name.lower().replace("_", "-") for name in pins}
    names = {n.split(">")[0].split("=")[0].strip() for n in needed} - {"pip"}
    assert not names - known
