"""A project's own build: made once in a box, seen under every task of its commit, and never part of a patch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.records.task import Task
from swebench_lab.snapshots.factory import SandboxFactory
from tests.sandbox.repositories import BUG, CODE, FILES, make_task, write

BUILD = (
    "mkdir -p src/gen && echo 'X = 1' > src/gen/mod.py && echo built > 'src/a [b].txt' && rm run.sh && "
    "python -c \"import pathlib, site; pathlib.Path(site.getsitepackages()[0], 'added.py').write_text('Y = 2')\" && "
    "uv --version && touch ~/cache /tmp/x && echo changed >> src/calc.py"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def task(shared: Path) -> Task:
    spec = {"packages": ["pytest"], "paths": ["src"], "pre_install": ["test -d src"], "install": BUILD}
    return make_task(write(shared / "plain", FILES), setup_patch=BUG, spec=spec)


def test_what_a_build_adds_is_in_the_box_and_in_no_patch(shared: Path, task: Task) -> None:
    with SandboxFactory(cache=shared / "cache") as sandboxes:
        snapshot = sandboxes.snapshot(task)
        assert len(snapshot.layers) == 4
        assert sandboxes.cache.get(task) == snapshot
        assert sandboxes.key(task) == snapshot.key
        with sandboxes.open(snapshot) as box:
            said = box.run("python -c 'import calc, added, gen.mod; print(calc.add(2, 1), added.Y, gen.mod.X)'")
            assert said.output == "1 2 1\n"
            assert box.run("ls run.sh && git status --porcelain && ls /tmp /root").output == "run.sh\n/root:\n\n/tmp:\n"
            assert box.diff() == ""
            box.write("src/calc.py", CODE)
            assert box.diff().count("diff --git") == 1


def test_a_build_is_shared_by_the_tasks_of_its_commit(shared: Path, task: Task) -> None:
    sandboxes = SandboxFactory(cache=shared / "cache")
    other = replace(task, id="calc-2", setup_patch="")
    assert set(sandboxes.prepare([task, other])["status"]) <= {"built", "cached"}
    assert len(list((shared / "cache" / "installs").iterdir())) == 1
    assert sandboxes.snapshot(task).layers[1:] == sandboxes.snapshot(other).layers[1:]


def test_a_build_that_fails_says_which_command_and_what_it_printed(shared: Path, task: Task) -> None:
    wrong = replace(task, spec={**(task.spec or {}), "install": "echo because of this; false"})
    with pytest.raises(SnapshotError, match=r"building owner/calc: 'echo .*false' ended with 1: because of this"):
        SandboxFactory(cache=shared / "cache").snapshot(wrong)
