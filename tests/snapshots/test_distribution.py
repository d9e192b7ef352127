"""Distribution: a project that is not built finds its own version, requirements and entry points in its box."""

from __future__ import annotations

from pathlib import Path

import pytest

from swebench_lab.snapshots.environment import distribution
from swebench_lab.snapshots.environment.metadata import read_metadata
from swebench_lab.snapshots.factory import SandboxFactory
from tests.sandbox.repositories import FILES, make_task, write

SCRIPTS = "[project.scripts]\ncalc = 'calc:main'\n[project.entry-points.'calc.plugins']\nown = 'calc:add'\n"


def test_a_project_finds_itself_in_its_box(tmp_path: Path) -> None:
    files = {**FILES, "pyproject.toml": FILES["pyproject.toml"] + SCRIPTS}
    files["src/calc.py"] += "\n\ndef main():\n    print('hello')\n"
    task = make_task(write(tmp_path / "plain", files))
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes, sandboxes.open(task) as box:
        ask = "from importlib.metadata import entry_points as e, version as v; print(v('calc'), [x.load()(1, 2) for x in {}])"
        assert box.run(["python", "-c", ask.format("e(group='calc.plugins')")]).output == "1.0 [3]\n"
        assert box.run("calc").output == "hello\n"
        assert box.diff() == ""


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"pyproject.toml": "[project]\nname='x'\nversion='1.2'\n"}, "1.2"),
        ({"setup.cfg": "[metadata]\nname = x\nversion = attr: x.__version__\n", "x/__init__.py": "__version__ = '3.4.dev0'\n"},
         "3.4.dev0"),
        ({"setup.cfg": "[metadata]\nname = x\nversion = file: VERSION\n", "VERSION": "5.6\n"}, "5.6"),
        ({"setup.py": "from setuptools import setup\nsetup(name='x', version=read())\n", "src/x/_version.py": "version = '7'\n", "src/x/__init__.py": ""},
         "7"),
        ({"setup.py": "from setuptools import setup\nsetup(name='x', use_scm_version=True)\n"}, distribution.UNKNOWN),
        ({"pyproject.toml": "[tool.poetry]\nname='x'\nversion='8.0'\n"}, "8.0"),
    ],
)  # fmt: skip
def test_the_version_is_read_and_nothing_is_run(tmp_path: Path, files: dict[str, str], version: str) -> None:
    about = read_metadata(write(tmp_path / "p", files)).about
    assert distribution.folder_name(about) == f"x-{version}.dist-info"
    assert f"\nVersion: {version}\n" in about["METADATA"]


def test_scripts_of_setup_py_and_setup_cfg_are_read(tmp_path: Path) -> None:
    one = "from setuptools import setup\nsetup(name='x', entry_points={'console_scripts': ['a = x.b:c', 'odd;= y'], 'g': 'n = m'})\n"
    about = read_metadata(write(tmp_path / "p", {"setup.py": one})).about
    assert list(distribution.console_scripts(about)) == ["a"]
    assert "[g]\nn = m\n" in about["entry_points.txt"]
    two = "[metadata]\nname = x\n[options.entry_points]\nconsole_scripts =\n    d = x:e.f\n"
    about = read_metadata(write(tmp_path / "q", {"setup.cfg": two})).about
    assert "from x import e\n" in distribution.console_scripts(about)["d"]


def test_a_project_without_a_name_has_none(tmp_path: Path) -> None:
    assert read_metadata(write(tmp_path / "p", {"a.py": ""})).about == {}
    assert distribution.folder_name({}) == ""
