"""Tasks written as Harbor task folders: what their `tests/test.sh` says equals our own verdict."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.tasks.harbor.reading import digest, read_task
from tests.grading.script_tasks import (
    GOLD,  # noqa: F401 - another kind of task, refused below
    reward_task,
)

HARBOR = os.environ.get("SWEBENCH_LAB_HARBOR_PYTHON", "")
"""An interpreter that has Harbor's own package (Python 3.12 or later)."""


def reward(box: lab.Sandbox, folder: Path) -> str:
    """Run a written task's verifier in a box as Harbor does; returns what it wrote."""
    box.upload(folder / "tests", "/tests")
    box.run("mkdir -p /logs/verifier && chmod +x /tests/test.sh && (/tests/test.sh)", timeout=120)
    return box.read("/logs/verifier/reward.txt").strip()


def check(task: lab.Task, folder: Path, sandboxes: lab.SandboxFactory) -> tuple[str, str]:
    """Return the rewards of the untouched tree and of the tree that the written solution makes."""
    with sandboxes.open(task) as box:
        untouched = reward(box, folder)
    with sandboxes.open(task) as box:
        box.upload(folder / "solution", "/solution")
        assert box.run(["bash", "/solution/solve.sh"]).ok
        return untouched, reward(box, folder)


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> lab.SandboxFactory:
    return lab.SandboxFactory(cache=tmp_path_factory.mktemp("cache"))


def test_a_written_demo_task_grades_as_we_do(sandboxes, tmp_path):
    tasks = lab.load_tasks("demo").sample(2, seed=3)
    assert tasks.to_harbor(tmp_path / "out", sandboxes) == tmp_path / "out"
    for task in tasks:
        folder = next(
            p for p in (tmp_path / "out").iterdir() if p.is_dir() and task.id in (p / "task.toml").read_text()
        )
        assert check(task, folder, sandboxes) == ("0", "1")
        hidden = {test.split("::")[0] for test in task.fail_to_pass}
        assert all((folder / "tests" / "files" / name).is_file() for name in hidden)
        assert task.gold_patch.strip() not in (folder / "instruction.md").read_text()


def test_what_is_written_is_read_back_with_its_digest(sandboxes, tmp_path):
    tasks = lab.load_tasks("demo").sample(1)
    tasks.to_harbor(tmp_path, sandboxes, org="acme")
    assert digest(next(p for p in tmp_path.iterdir() if p.is_dir())) in (tmp_path / "dataset.toml").read_text()
    back = lab.load_tasks(tmp_path)
    assert (len(back), back[0].issue, back[0].workdir) == (1, tasks[0].issue, "/testbed")
    assert back[0].extra["harbor"]["metadata"]["swebench_lab"]["fail_to_pass"] == list(tasks[0].fail_to_pass)
    with pytest.raises(lab.TaskError, match="is there already"):
        tasks.to_harbor(tmp_path, sandboxes)


def test_what_cannot_be_written_is_refused_by_name(sandboxes, tmp_path):
    with pytest.raises(lab.TaskError, match="graded by a script of its own"):
        lab.Tasks([reward_task(tmp_path)]).to_harbor(tmp_path / "out", sandboxes)


@pytest.mark.slow
def test_every_demo_task_grades_as_we_do(sandboxes, tmp_path):
    tasks = lab.load_tasks("demo")
    tasks.to_harbor(tmp_path / "out", sandboxes)
    folders = {
        read_task(p).extra["harbor"]["metadata"]["swebench_lab"]["id"]: p
        for p in (tmp_path / "out").iterdir()
        if p.is_dir()
    }
    wrong = {task.id: ends for task in tasks if (ends := check(task, folders[task.id], sandboxes)) != ("0", "1")}
    assert not wrong and len(folders) == len(tasks)


@pytest.mark.skipif(not HARBOR, reason="SWEBENCH_LAB_HARBOR_PYTHON names no interpreter with Harbor's package")
def test_harbors_own_package_reads_what_is_written(sandboxes, tmp_path):
    lab.load_tasks("demo").sample(3).to_harbor(tmp_path, sandboxes)
    script = (
        "import sys, pathlib; from harbor.models.task.task import Task\n"
        "for p in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    if p.is_dir():\n"
        "        t = Task(p); print(t.name, t.config.environment.workdir, t.checksum if hasattr(t, 'checksum') else '')\n"
    )
    done = subprocess.run([HARBOR, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 3 and all("/testbed" in line for line in done.stdout.splitlines())
