"""Specs: which voice decides each field, and that wrong ones are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.errors import TaskError
from swebench_lab.grading.rules import expectation, log_parsers
from swebench_lab.records.task import Task
from swebench_lab.snapshots.environment import era
from swebench_lab.snapshots.environment.metadata import read_metadata
from swebench_lab.snapshots.environment.specs import (
    FILE_VARIABLE,
    Spec,
    Table,
    known_repositories,
    needs_checkout,
    spec_for,
)
from swebench_lab.snapshots.specs import explain
from tests.conftest import make_task

PROJECT = (
    '[project]\nname = "x"\ndependencies = ["attrs"]\n[project.optional-dependencies]\ntest = ["pytest", "mock"]\n'
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.py").write_text("")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def test_a_spec_comes_back_from_its_plain_values() -> None:
    spec = Spec("3.9", ("a==1",), ("src",), ("ls",), "make", env={"A": "b"}, timeout=5, exclude_newer="2020-01-01")
    assert Spec.from_dict(spec.to_dict()) == spec
    assert hash(spec) == hash(Spec.from_dict(spec.to_dict()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pyhton": "3.9"}, "field 'pyhton': not a field of a Spec; known are python, packages"),
        ({"packages": "pytest"}, "field 'packages': expected a list of texts"),
        ({"packages": [1]}, "field 'packages': expected a list of texts"),
        ({"env": {"A": 1}}, "field 'env': expected names and texts"),
        ({"timeout": 0}, "field 'timeout': expected seconds above 0"),
        ({"timeout": True}, "field 'timeout': expected seconds above 0"),
        ({"python": 3.9}, "field 'python': expected text, found 3.9"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(values: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Spec.from_dict(values)
    with pytest.raises(TaskError, match=f"spec of task owner__name-0, {message}"):
        spec_for(make_task(spec=values))


def test_the_project_is_asked_where_nobody_states_it(checkout: Path) -> None:
    task = make_task()
    assert needs_checkout(task)
    spec = spec_for(task, checkout)
    assert (spec.packages, spec.paths, spec.install) == (("attrs", "pytest", "mock"), ("src",), "")
    assert spec_for(task, read_metadata(checkout)) == spec
    assert spec_for(task) == Spec(), "without the files nothing can be derived"


def test_the_task_is_louder_than_the_project(checkout: Path) -> None:
    task = make_task(spec={"packages": ["pytest==8.0.0"], "timeout": 7})
    spec = spec_for(task, checkout)
    assert (spec.packages, spec.paths, spec.timeout) == (("pytest==8.0.0",), ("src",), 7.0)
    assert not needs_checkout(make_task(spec={"packages": [], "paths": ["."]}))


def test_the_date_of_a_task_bounds_what_was_derived_and_not_what_was_stated(checkout: Path) -> None:
    dated = spec_for(make_task(created_at="2021-05-06T07:08:09Z"), checkout)
    assert dated.exclude_newer == era.era("2021-05-06", dated.python or era.RUNNING)
    assert dated.packages == ("attrs", "pytest", "mock", "setuptools"), "environments of that time held it"
    stated = make_task(created_at="2021-05-06T07:08:09Z", spec={"packages": ["pytest==9.0.0"]})
    assert spec_for(stated, checkout).exclude_newer == ""


def test_the_date_of_a_task_bounds_its_build_whatever_was_stated(checkout: Path) -> None:
    spec = {"packages": ["pytest==9.0.0"], "install": "pip install -e .", "python": "3.9"}
    built = spec_for(make_task(created_at="2021-05-06T07:08:09Z", spec=spec), checkout)
    assert built.exclude_newer == "2021-05-06"
    free = spec_for(make_task(created_at="2021-05-06T07:08:09Z", spec={**spec, "exclude_newer": ""}), checkout)
    assert free.exclude_newer == ""


@pytest.mark.parametrize(
    ("day", "requires", "first"),
    [
        ("2019-06-01", "", "3.7"), ("2021-05-06", "", "3.9"), ("2021-05-06", ">=3.6,<3.9", "3.8"),
        ("2014-01-01", "", None), ("2019-06-01", ">=3.12", None), ("nonsense", "", None),
    ],
)  # fmt: skip
def test_the_python_of_a_date_had_settled_by_then(day: str, requires: str, first: str | None) -> None:
    fitting = era.pythons_of_date(day, requires)
    assert (first in fitting[:2]) if first else fitting == []
    if era.RUNNING not in fitting:
        assert fitting[:1] == ([first] if first else [])
    else:
        assert fitting[0] == era.RUNNING, "the one that runs the workbench comes first where it was in use"


def test_a_python_that_is_not_at_hand_is_asked_for_only_where_that_is_allowed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(created_at="2019-06-01T00:00:00Z")
    here = [version for version in era.pythons_of_date("2019-06-01", "") if era.is_at_hand(version)]
    assert spec_for(task, checkout).python == (here[0] if here else "")
    monkeypatch.setattr(era, "is_at_hand", lambda version: False)
    assert spec_for(task, checkout, allow_python="nearest").python == "3.7"
    assert spec_for(task, checkout, allow_python="install").python == "3.7"
    exact = spec_for(task, checkout, allow_python="exact")
    assert (exact.python, exact.exclude_newer) == ("", era.era("2019-06-01", era.RUNNING)), "packages fit their Python"
    stated = spec_for(replace(task, spec={"python": "3.6"}), checkout, allow_python="exact")
    assert (stated.python, stated.exclude_newer) == ("3.6", "2019-06-01")


def test_an_explanation_says_what_is_at_hand(checkout: Path, tmp_path: Path) -> None:
    task = make_task(source=str(checkout), spec={"python": "3.2", "system": ["no-such-package-of-debian"]})
    text = explain(task, root=tmp_path)
    assert "3.2 is not at hand, and building will fail: allow_python is 'exact'" in text
    assert f"at hand: {checkout}" in text
    assert "no-such-package-of-debian" in text.rpartition("Debian")[2]
    nearest = explain(replace(task, source="", repo="owner/name"), allow_python="nearest", root=tmp_path, repos=[])
    assert "3.2 is not at hand; the nearest, " in nearest
    assert "not at hand; https://github.com/owner/name.git will be cloned" in nearest
    (tmp_path / "clones" / "owner__name").mkdir(parents=True)
    assert "at hand: " + str(tmp_path / "clones" / "owner__name") in explain(
        replace(task, source="", repo="owner/name"), repos=[tmp_path / "clones"]
    )
    assert "not at hand; its source distribution will be downloaded" in explain(
        replace(task, source="pypi:six==1.16.0"), root=tmp_path
    )


def test_code_that_must_be_compiled_gets_an_install_command(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[build-system]\nrequires = ["cython"]\n' + PROJECT)
    spec = spec_for(make_task(), checkout)
    assert spec.install.endswith("-e .")
    assert "cython" in spec.packages


def test_bundled_repositories_are_known_without_a_checkout() -> None:
    task = make_task(repo="demo/textgrid", source="demo:textgrid", created_at="2020-01-01")
    spec = spec_for(task)
    assert (spec.packages, spec.paths, spec.timeout, spec.exclude_newer) == (("pytest",), ("src",), 60.0, "")


def test_the_script_of_a_row_says_how_tests_are_run_where_no_table_does() -> None:
    script = """#!/bin/bash
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
export LANG=en_US.UTF-8
git apply -v - <<'EOF_114329324912'
+>>>>> a line of the test patch
EOF_114329324912
: '>>>>> Start Test Output'
pytest -rA tests/test_a.py
: '>>>>> End Test Output'
git checkout abc tests/test_a.py
"""
    task = make_task(repo="me/unknown", extra={"eval_script": script})
    spec = spec_for(task)
    assert (spec.test_command, spec.test_arguments) == ("export LANG=en_US.UTF-8\npytest -rA tests/test_a.py", "none")
    assert expectation.test_arguments(spec, ["tests/test_a.py"]) == ()
    assert "export LANG=en_US.UTF-8; pytest -rA tests/test_a.py" in explain(task)
    known = spec_for(replace(task, repo="sympy/sympy", version="1.12"))
    assert "bin/test" in known.test_command and known.test_arguments == "files"
    assert spec_for(replace(task, extra={"eval_script": "pytest"})).test_arguments == "files"


def test_an_explanation_says_for_every_field_what_and_why(checkout: Path) -> None:
    task = make_task(spec={"timeout": 7})
    text = explain(task, checkout)
    for field in Spec.__dataclass_fields__:
        assert f"  {field} " in text
    for line in ("the version that runs the workbench", "attrs, pytest, mock", "derived from pyproject.toml",
                 "spec of task owner__name-0", "python -m pytest"):  # fmt: skip
        assert line in text
    assert "when its tree is built" not in text
    assert "when its tree is built" in explain(task)
    assert isinstance(task, Task)


# --- known repositories and the user's file ---------------------------------------------------------------------------

SWEBENCH_REPOSITORIES = {
    "astropy/astropy": "5.1", "django/django": "3.2", "matplotlib/matplotlib": "3.6", "mwaskom/seaborn": "0.12",
    "pallets/flask": "2.3", "psf/requests": "2.26", "pydata/xarray": "0.12", "pylint-dev/pylint": "2.15",
    "pytest-dev/pytest": "7.2", "scikit-learn/scikit-learn": "1.3", "sphinx-doc/sphinx": "4.2", "sympy/sympy": "1.11",
}  # fmt: skip


def known_task(repo: str, version: str, **values: object) -> Task:
    return make_task(repo=repo, version=version, created_at="2019-06-01T00:00:00Z", **values)


def test_all_twelve_repositories_of_swebench_are_known() -> None:
    assert set(SWEBENCH_REPOSITORIES) < set(known_repositories())
    for repo, version in SWEBENCH_REPOSITORIES.items():
        spec = spec_for(known_task(repo, version))
        assert spec.python and spec.log_parser.startswith("parse_log_"), repo
        assert spec.log_parser in log_parsers.parsers(), f"{repo}: the installed harness has no {spec.log_parser}"
        assert "{version}" not in str(spec.to_dict())


@pytest.mark.parametrize(
    ("repo", "version", "python"),
    [
        ("django/django", "1.11", "3.5"),
        ("django/django", "3.1", "3.6"),
        ("django/django", "4.0", "3.8"),
        ("django/django", "4.2", "3.9"),
        ("django/django", "5.0", "3.11"),
        ("pallets/flask", "2.0", "3.9"),
        ("pallets/flask", "2.1", "3.10"),
        ("pallets/flask", "3.0", "3.11"),
        ("scikit-learn/scikit-learn", "0.22", "3.6"),
        ("scikit-learn/scikit-learn", "1.3", "3.9"),
        ("matplotlib/matplotlib", "3.0", "3.7"),
        ("matplotlib/matplotlib", "3.4", "3.8"),
        ("matplotlib/matplotlib", "3.7", "3.11"),
        ("astropy/astropy", "1.3", "3.6"),
        ("astropy/astropy", "v5.3", "3.10"),
        ("sphinx-doc/sphinx", "8.1", "3.10"),
    ],
)
def test_a_version_has_the_python_that_swebench_gives_it(repo: str, version: str, python: str) -> None:
    assert spec_for(known_task(repo, version)).python == python


def test_packages_are_dated_by_the_task_but_not_before_its_python_was_in_use(checkout: Path) -> None:
    early = spec_for(known_task("sympy/sympy", "1.4"))
    assert early.exclude_newer == "2021-04-03", "Python 3.9 and half a year"
    late = spec_for(make_task(repo="sympy/sympy", version="1.12", created_at="2023-05-05"))
    assert late.exclude_newer == "2023-05-05"
    found = replace(read_metadata(checkout), date="2022-02-02")
    issue = make_task(repo="pytest-dev/pytest", version="7.2", created_at="2020-01-01")
    assert spec_for(issue, found).exclude_newer == "2022-02-02", "its base commit is newer than its issue"


def test_a_known_repository_is_asked_too_for_what_it_needs_to_build(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools>=45", "flit"]\n' + PROJECT)
    spec = spec_for(known_task("pytest-dev/pytest", "7.2"), checkout)
    assert spec.packages == ("attrs", "pytest", "mock", "setuptools>=45", "flit", "pip", "wheel") or {
        "attrs", "flit", "pip", "wheel", "setuptools>=45"
    } <= set(spec.packages)  # fmt: skip
    assert "pluggy==0.13.1" in spec.pins
    assert "SETUPTOOLS_SCM_PRETEND_VERSION=7.2.0 " in spec.install


def test_a_known_pin_that_the_project_itself_does_not_allow_is_dropped(checkout: Path) -> None:
    task = known_task("pylint-dev/pylint", "3.0")
    for wanted, pins in (
        ("astroid>=3.0.0a6", ("astroid==3.0.0a6",)),
        ("astroid>=3.0.0a8,<=3.1.0-dev0", ()),
        ("astroid>=3.0.0a8; python_version>='3.11'", ("astroid==3.0.0a6",)),
        ("wheel>=3.0.0a8", ("astroid==3.0.0a6",)),
    ):
        (checkout / "pyproject.toml").write_text(f'[project]\nname = "p"\nversion = "1"\ndependencies = ["{wanted}"]\n')
        assert spec_for(task, checkout).pins == pins
    loud = replace(task, spec={"pins": ["astroid==3.0.0a6"]})
    (checkout / "pyproject.toml").write_text('[project]\nname = "p"\ndependencies = ["astroid>=3.0.0a8"]\n')
    assert spec_for(loud, checkout).pins == ("astroid==3.0.0a6",), "what somebody states is taken as it is"


def test_requirement_files_are_read_from_the_checkout(checkout: Path) -> None:
    (checkout / "requirements").mkdir()
    (checkout / "requirements" / "dev.txt").write_text("-r base.txt\ntox==4.4.6\n    # via x\n-e .\n")
    (checkout / "requirements" / "base.txt").write_text("blinker>=1.6\n")
    (checkout / "environment.yml").write_text(
        "channels: [conda-forge]\ndependencies:\n  - python=3.10\n  - numpy=1.2\n  - dask-core\n  - hdf5\n"
        "  - conda-forge::cftime>=1\n  - pip:\n    - numbagg\n"
    )
    spec = spec_for(known_task("pallets/flask", "2.3"), checkout)
    assert {"tox==4.4.6", "blinker>=1.6", "attrs"} <= set(spec.packages)
    conda = make_task(spec={"requirements": ["missing.yml", "environment.yml"]})
    assert spec_for(conda, checkout).packages[-4:] == ("numpy==1.2.*", "dask", "cftime>=1", "numbagg")


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[spec]]\nrepo = "pallets/*"\nversion = ["2.*"]\ntimeout = 11\n'
        '[[spec]]\ntask = "owner__name-7"\npython = "3.8"\n[spec.env]\nA = "{version}"\n'
    )
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    return file


def test_a_user_s_file_overrides_by_repository_version_and_task(user_file: Path) -> None:
    assert spec_for(known_task("pallets/flask", "2.3")).timeout == 11.0
    assert spec_for(known_task("pallets/flask", "3.0")).timeout == Spec().timeout
    mine = known_task("pallets/flask", "2.0", id="owner__name-7")
    assert (spec_for(mine).python, spec_for(mine).env, spec_for(mine).timeout) == ("3.8", {"A": "2.0"}, 11.0)
    assert str(user_file) in explain(mine)
    assert spec_for(replace(mine, spec={"timeout": 5})).timeout == 5.0, "the task itself is louder"
    user_file.write_text('[[spec]]\nrepo = "*"\ntimeout = 13\n')
    assert spec_for(mine).timeout == 13.0, "a changed file is read again"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[spec]]\nrepo = 5\n", r"number 1, field 'repo': expected a text or a list of texts"),
        ("[[spec]]\ntimeout = 5\n", r"number 1: it must name a repo, a version or a task"),
        ('[[spec]]\nrepo = "*"\npyhton = "3"\n', r"number 1, field 'pyhton': not a field of a Spec"),
        ('[[spec]]\nrepo = "*"\nallow_python = "any"\n', "'any' is not one of"),
        ("spec = 5\n", r"expected \[\[spec\]\] entries"),
        ("[[spec\n", "reading the specs of"),
    ],
)
def test_a_wrong_file_of_specs_is_named_with_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(TaskError, match=said):
        Table.read(tmp_path / "bad.toml")
    with pytest.raises(TaskError, match="No such file"):
        Table.read(tmp_path / "none.toml")


def test_pytest_s_own_project_is_not_installed_from_the_index(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[project]\nname = "pytest"\ndependencies = ["attrs"]\n')
    assert read_metadata(checkout).packages == ("attrs",)
