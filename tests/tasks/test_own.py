"""A task from one's own repository: the failing test in the work tree, what must go on passing, mistakes named."""

from __future__ import annotations

from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.cli import main
from tests.grading.script_tasks import BROKEN
from tests.tasks.pro_rows import git

CALC = "def add(a, b):\n    return a - b\n\n\ndef zero():\n    return 0\n"
OLD = "from calc import add, zero\n\n\ndef test_zero():\n    assert zero() == 0\n"
NEW = OLD + "\n\ndef test_add():\n    assert add(1, 2) == 3\n"
FIX = "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n"


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> lab.SandboxFactory:
    return lab.SandboxFactory(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "calc.py").write_text(CALC)
    (folder / "test_calc.py").write_text(OLD)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", "start")
    (folder / "test_calc.py").write_text(NEW)  # the failing test is not committed yet
    return folder


def test_one_line_makes_a_task_of_a_failing_test_in_the_work_tree(sandboxes, repository):
    task = lab.task_from(
        repository, issue="add subtracts", fail_to_pass=["test_calc.py::test_add"], sandboxes=sandboxes
    )
    assert task.pass_to_pass == ("test_calc.py::test_zero",) and "def test_add" in task.test_patch
    with sandboxes.open(task) as box:
        assert "test_add" not in box.read("test_calc.py")
    evaluator = lab.Evaluator(sandboxes, workers=1)
    assert evaluator.grade(task, FIX).resolved
    assert evaluator.certificate(task).status == "no gold"
    gold = lab.task_from(
        repository, issue="add subtracts", fail_to_pass=["test_calc.py::test_add"], gold_patch=FIX, sandboxes=sandboxes
    )
    assert evaluator.certificate(gold).passed


def test_what_is_wrong_is_named(sandboxes, repository, caplog):
    def make(**values):
        fields = {"issue": "x", "fail_to_pass": ["test_calc.py::test_add"], "sandboxes": sandboxes, **values}
        return lab.task_from(repository, **fields)

    with pytest.raises(lab.TaskError, match="test_zero passes already"):
        make(fail_to_pass=["test_calc.py::test_zero"])
    with pytest.raises(lab.TaskError, match=r"nor the work tree holds test_other\.py"):
        make(fail_to_pass=["test_other.py::test_x"])
    with pytest.raises(lab.TaskError, match="should pass now, and does not"):
        make(pass_to_pass=["test_calc.py::test_missing"])
    with pytest.raises(lab.TaskError, match="has no commit 'v9'"):
        make(commit="v9")
    with pytest.raises(lab.TaskError, match="the gold patch is not a diff"):
        make(gold_patch="--- a/x\n+++ b/x\n@@ -1 +1 @@\nnonsense")
    with pytest.raises(lab.TaskError, match="give an issue, and the ids"):
        make(fail_to_pass=[])
    with pytest.raises(lab.TaskError, match="no such folder"):
        lab.task_from(repository / "none", issue="x", fail_to_pass=["a::b"])
    (repository / "calc.py").write_text(CALC + "\n")
    make(check=False)
    assert "uncommitted changes are left out: calc.py" in caplog.text


def test_a_repository_in_another_language_names_its_command_and_parser(sandboxes, tmp_path):
    folder = tmp_path / "shell"
    folder.mkdir()
    (folder / "add.sh").write_text(BROKEN)
    run = 'check() { [ "$(sh add.sh $2 $3)" = $4 ] && echo "--- PASS: $1 (0.00s)" || echo "--- FAIL: $1 (0.00s)"; }\n'
    (folder / "run.sh").write_text(run + "check TestAdd 2 2 4\ncheck TestZero 3 0 3\n")
    spec = {
        "test_command": "sh run.sh",
        "test_arguments": "none",
        "log_parser": "parse_log_gotest",
        "packages": [],
        "paths": [],
    }
    task = lab.task_from(folder, issue="add.sh subtracts", fail_to_pass=["TestAdd"], spec=spec, sandboxes=sandboxes)
    assert task.pass_to_pass == ("TestZero",)


def test_the_command_line_makes_one_too(repository, tmp_path, monkeypatch, capsys):
    (tmp_path / "issue.md").write_text("add subtracts\n")
    (tmp_path / "fix.diff").write_text(FIX)
    out = tmp_path / "task.jsonl"
    with pytest.raises(SystemExit) as ended:
        main.main(["tasks", "new", str(repository), "--issue", str(tmp_path / "issue.md"), "-f", "test_calc.py::test_add",
                   "--gold", str(tmp_path / "fix.diff"), "--no-check", "-o", str(out)])  # fmt: skip
    assert ended.value.code == 0 and "--trust" in capsys.readouterr().out
    task = lab.load_tasks(out, trust=True)[0]
    assert (task.issue, task.gold_patch) == ("add subtracts\n", FIX)
