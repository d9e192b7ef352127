"""RunnerCheck: prepare says where a test runner does not start, and why; what starts is asked once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.records.task import Task
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.snapshots.storage import store
from tests.sandbox.repositories import BUG, FILES, TESTS, make_task, write

SPEC = {"packages": ["pytest"], "paths": ["src"]}


def prepared(tmp_path: Path, files: dict[str, str], **changes: object) -> tuple[str, str]:
    """Return status and error of preparing a task over these files."""
    folder = write(tmp_path / "plain", {**FILES, **files})
    task: Task = make_task(folder, **{"spec": SPEC, **changes})
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes:
        row = sandboxes.prepare([task]).row(0, named=True)
        starts = list((tmp_path / "cache" / "starts").glob(f"*/{store.MARKER}"))
    assert (row["status"] == "built") == bool(starts), "only what did start is remembered"
    return row["status"], row["error"]


@pytest.mark.parametrize(
    ("files", "spec", "words"),
    [
        ({"tests/conftest.py": "import simplejson_of_old\n"}, SPEC, "no module 'simplejson_of_old'"),
        ({"tests/test_calc.py": f"import json5_of_old.deep\n{TESTS}"}, SPEC, "no module 'json5_of_old'"),
        ({"pytest.ini": "[pytest]\naddopts = --of-a-plugin-that-is-missing\n"}, SPEC, "does not know an argument"),
        ({"tests/conftest.py": "raise RuntimeError('not today')\n"}, SPEC, "not today"),
        ({}, {**SPEC, "packages": []}, "no module 'pytest'"),
        ({}, {**SPEC, "test_command": "/no/such/pytest -rA"}, "cannot run '/no/such/pytest -rA'"),
        ({"t/runtests.py": "import orjson_of_old\n"}, {**SPEC, "test_command": "python t/runtests.py"}, "orjson_of_old"),
        ({}, {**SPEC, "test_command": "export A=1\nno-such-pytest x; pytest -rA a.py; exit 3", "test_arguments": "none"},
         "ended with 3"),
    ],
)  # fmt: skip
def test_a_runner_that_does_not_start_is_told_where_it_is_prepared(
    tmp_path: Path, files: dict[str, str], spec: dict[str, object], words: str
) -> None:
    status, error = prepared(tmp_path, files, spec=spec)
    assert status == "failed"
    assert "SnapshotError: starting the test runner of task calc-1 on its untouched tree" in error
    assert words in error


@pytest.mark.parametrize(
    ("files", "changes"),
    [
        ({}, {}),
        ({"tests/test_calc.py": "from calc import not_there_yet\n"}, {}),
        ({"src/calc.py": "import calc_of_tomorrow\n", "docs/calc_of_tomorrow.py": ""}, {}),
        ({}, {"hide_tests": True, "pass_to_pass": ()}),
        ({}, {"spec": {**SPEC, "test_command": "python -m unittest -v"}}),
        ({"tests/runtests.py": "import argparse\nargparse.ArgumentParser().parse_args()\n"},
         {"spec": {**SPEC, "test_command": "python tests/runtests.py", "test_arguments": "modules"}}),
        ({}, {"spec": {**SPEC, "test_command": "export A=1\npytest -rA tests/not_there.py", "test_arguments": "none"}}),
        ({}, {"spec": {**SPEC, "test_command": "echo whatever"}}),
    ],
)  # fmt: skip
def test_a_runner_that_starts_is_prepared(tmp_path: Path, files: dict[str, str], changes: dict[str, object]) -> None:
    folder = write(tmp_path / "plain", {**FILES, **files})
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes:
        row = sandboxes.prepare([make_task(folder, **{"spec": SPEC, **changes})]).row(0, named=True)
    assert (row["status"], row["error"]) == ("built", "")


def test_a_planted_bug_that_breaks_the_import_is_not_the_environments(tmp_path: Path) -> None:
    files = {"tests/conftest.py": "import calc\nassert calc.add(1, 1) == 2\n"}
    folder = write(tmp_path / "plain", {**FILES, **files})
    bad, good = make_task(folder, spec=SPEC, setup_patch=BUG), make_task(folder, spec=SPEC, setup_patch="")
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes:
        assert sandboxes.prepare([bad])["status"].to_list() == ["built"]
        assert not (tmp_path / "cache" / "starts").exists(), "it proves nothing"
        assert sandboxes.prepare([replace(good, id="good")])["status"].to_list() == ["built"]
        assert len(list((tmp_path / "cache" / "starts").iterdir())) == 1


def test_what_the_test_patch_drops_is_not_missed(tmp_path: Path) -> None:
    old = "import simplejson_of_old\n" + TESTS
    dropped = (
        "diff --git a/tests/test_calc.py b/tests/test_calc.py\n--- a/tests/test_calc.py\n+++ b/tests/test_calc.py\n"
    )
    dropped += "@@ -1,2 +1,1 @@\n-import simplejson_of_old\n import pytest\n"
    folder = write(tmp_path / "plain", {**FILES, "tests/test_calc.py": old})
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes:
        with pytest.raises(SnapshotError, match="simplejson_of_old"):
            sandboxes.prepare([make_task(folder, spec=SPEC)], raise_errors=True)
        row = sandboxes.prepare([make_task(folder, spec=SPEC, test_patch=dropped)]).row(0, named=True)
    assert row["status"] == "cached", row["error"]


def test_it_costs_once_for_each_environment_and_commit(tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", FILES)
    tasks = [make_task(folder, spec=SPEC, id=f"calc-{i}", setup_patch="") for i in range(4)]
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes:
        sandboxes.prepare(tasks, workers=1)
        assert len(list((tmp_path / "cache" / "starts").iterdir())) == 1
        opened: list[object] = []
        real = sandboxes.open
        sandboxes.open = lambda *a, **k: (opened.append(a), real(*a, **k))[1]  # type: ignore[method-assign]
        assert set(sandboxes.prepare(tasks)["status"]) == {"cached"}
        assert not opened
