"""What a project's files say of its requirements and layout, in every form that projects use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from swebench_lab.snapshots.environment.metadata import Metadata, read_metadata

PEP621 = """
[project]
name = "My.Thing"
dependencies = ["attrs>=21", "tomli; python_version < '3.11'"]
requires-python = ">=3.8"
[project.optional-dependencies]
cli = ["click"]
test = ["pytest>=7", "my-thing[cli]", "mock"]
dev = ["black", "hypothesis"]
"""
GROUPS = """
[project]
name = "thing"
[dependency-groups]
base = ["pytest-mock"]
tests = [{include-group = "base"}, "pytest", "six"]
"""
POETRY = """
[tool.poetry]
name = "thing"
packages = [{include = "thing", from = "lib"}]
[tool.poetry.dependencies]
python = "^3.8"
attrs = "^21.4"
click = {version = "~8.1", optional = true}
yarl = {version = ">=1.0,<2"}
zero = "^0.2.3"
here = {path = "../here"}
[tool.poetry.group.dev.dependencies]
pytest = "*"
black = "^23"
mock = "4.0.2"
"""
SETUP_CFG = """
[metadata]
name = thing
[options]
package_dir =
    =lib
install_requires =
    attrs
    # a remark
    six>=1.10
[options.extras_require]
testing =
    pytest
    mock
"""
SETUP_PY = """
from setuptools import setup, find_packages
REQUIRES = ["attrs", "six"]
raise SystemExit("nobody runs this")
setup(name="thing", package_dir={"": "code"}, install_requires=REQUIRES, extras_require={"test": ["mock"]},
      version=open("x").read())
"""
FLIT = """
[tool.flit.metadata]
module = "thing"
requires = ["attrs"]
[tool.flit.metadata.requires-extra]
test = ["pytest", "mock"]
"""
PKG_INFO = """Metadata-Version: 2.1
Name: thing
Requires-Dist: attrs>=1
Requires-Dist: mock; extra == "test"
Requires-Dist: six; (python_version < "4") and extra == 'test'
"""
TOX = """
[testenv]
deps =
    pytest
    -r requirements/ci.txt
    py38: only-there
    cov: {env:X}
"""

EXTRAS = "[options.extras_require]\nreco = simplejson\ntests =\n    pytest\n    pytz\ndocs = sphinx\n"


@pytest.mark.parametrize(
    ("files", "packages", "paths"),
    [
        (
            {"pyproject.toml": PEP621, "src/thing/__init__.py": ""},
            ["attrs>=21", "tomli; python_version < '3.11'", "pytest>=7", "click", "mock"],
            ["src"],
        ),
        ({"pyproject.toml": GROUPS, "thing.py": ""}, ["pytest-mock", "pytest", "six"], ["."]),
        (
            {"pyproject.toml": POETRY, "lib/thing/__init__.py": ""},
            ["attrs>=21.4,<22", "yarl>=1.0,<2", "zero>=0.2.3,<0.3", "pytest", "mock==4.0.2"],
            ["lib"],
        ),
        ({"setup.cfg": SETUP_CFG, "lib/thing.py": ""}, ["attrs", "six>=1.10", "pytest", "mock"], ["lib"]),
        ({"setup.py": SETUP_PY, "code/thing.py": ""}, ["attrs", "six", "mock", "pytest"], ["code"]),
        ({"pyproject.toml": FLIT, "thing.py": ""}, ["attrs", "pytest", "mock"], ["."]),
        ({"PKG-INFO": PKG_INFO, "thing.py": ""}, ["attrs>=1", "mock", 'six; (python_version < "4")', "pytest"], ["."]),
        (
            {
                "tox.ini": TOX,
                "requirements/ci.txt": "mock  # why\n-r more.txt\n",
                "requirements/more.txt": "six\n-e .\n",
            },
            ["pytest", "mock", "six"],
            ["."],
        ),
        (
            {"setup.cfg": EXTRAS, "tox.ini": "[testenv]\nextras = tests,\n    reco\n[testenv:docs]\nextras = docs\n"},
            ["pytest", "pytz", "simplejson"],
            ["."],
        ),
        (
            {
                "requirements.txt": "attrs\nother @ https://example.org/x.whl\n./local\n",
                "requirements-dev.txt": "black\nmock\n",
            },
            ["attrs", "mock", "pytest"],
            ["."],
        ),
        ({"thing.py": ""}, ["pytest"], ["."]),
        ({"src/__init__.py": "", "src/a.py": ""}, ["pytest"], ["."]),
        ({"pyproject.toml": "[broken", "setup.cfg": "no section", "setup.py": "def"}, ["pytest"], ["."]),
    ],
    ids=[
        "pep621",
        "groups",
        "poetry",
        "setup.cfg",
        "setup.py",
        "flit",
        "PKG-INFO",
        "tox",
        "extras of tox",
        "files",
        "bare",
        "src",
        "broken",
    ],
)
def test_requirements_and_paths(tmp_path: Path, files: dict[str, str], packages: list[str], paths: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = read_metadata(tmp_path)
    assert list(found.packages) == packages
    assert list(found.paths) == paths
    assert not found.compiled
    assert Metadata.from_dict({"packages": list(found.packages), "name": found.name}).packages == found.packages


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", '[build-system]\nrequires = ["Cython", "setuptools"]\n'),
        ("pyproject.toml", '[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n'),
        ("setup.py", "from setuptools import setup, Extension\nsetup(ext_modules=[Extension('a', ['a.c'])])\n"),
    ],
)
def test_code_that_must_be_compiled_is_noticed(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_metadata(tmp_path).compiled


def test_a_python_that_the_project_excludes_is_replaced(tmp_path: Path) -> None:
    running = sys.version_info.minor
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\nrequires-python = "<3.{running}"\n')
    assert read_metadata(tmp_path).python == f"3.{running - 1}"
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\nrequires-python = ">=3.{running + 1}"\n')
    assert read_metadata(tmp_path).python == f"3.{running + 1}"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nrequires-python = ">=3.6"\n')
    assert read_metadata(tmp_path).python == ""


def test_files_outside_the_checkout_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("attrs\n")
    root = tmp_path / "root"
    root.mkdir()
    (root / "requirements.txt").symlink_to("../secret.txt")
    (root / "requirements-dev.txt").write_text("-r ../secret.txt\nmock\n")
    assert read_metadata(root).packages == ("mock", "pytest")


def test_requirement_files_that_include_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "requirements-test.txt").write_text("-r requirements-test.txt\nmock\n")
    assert read_metadata(tmp_path).packages == ("mock", "pytest")
