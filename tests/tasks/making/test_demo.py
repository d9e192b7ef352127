"""The bundled set: enough tasks, honestly split, of the very repositories that are bundled, and true when graded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.patches.diff import touched_files
from swebench_lab.records.task import Tasks
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.snapshots.repository.sources import open_source
from swebench_lab.tasks.loading import load_tasks
from swebench_lab.tasks.making.demo import HELD_OUT, data_folder, differences, main, repositories
from swebench_lab.tasks.schemas import to_swesmith


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    return load_tasks("demo")


def test_every_repository_has_at_least_twenty_tasks(tasks: Tasks) -> None:
    counts = Counter(task.repo for task in tasks)
    assert set(counts) == {f"demo/{name}" for name in repositories()} and len(counts) >= 8
    assert min(counts.values()) >= 20 and len(tasks) >= 168


def test_whole_repositories_are_held_out(tasks: Tasks) -> None:
    assert {task.repo for task in tasks if task.split == "test"} == {f"demo/{name}" for name in HELD_OUT}
    assert {task.split for task in tasks} == {"train", "test"}
    families = {split: {t.family for t in tasks if t.split == split} for split in ("train", "test")}
    assert len(families["train"]) > 40


def test_strategies_are_balanced_and_combined(tasks: Tasks) -> None:
    counts = Counter(str(task.extra["strategy"]) for task in tasks)
    joined = sum(count for name, count in counts.items() if name.startswith("combine_"))
    assert 0.1 < joined / len(tasks) < 0.3
    single = {name: count for name, count in counts.items() if not name.startswith("combine_")}
    assert len(single) == 13 and max(single.values()) < len(tasks) / 6


def test_tasks_are_made_from_the_bundled_files_as_they_are(tasks: Tasks, tmp_path: Path) -> None:
    for name in repositories():
        head = open_source(f"demo:{name}", tmp_path).head
        assert {task.base_commit for task in tasks.filter(repo=f"demo/{name}")} == {head}


def test_issues_tell_neither_the_edited_file_nor_a_test(tasks: Tasks) -> None:
    assert len({task.issue for task in tasks}) == len(tasks)
    for task in tasks:
        assert len(task.issue.split("\n")[0]) < 120
        assert not any(path in task.issue for path in touched_files(task.gold_patch))
        assert not any(test.rpartition("::")[2].partition("[")[0] in task.issue for test in task.fail_to_pass)
        assert str(task.extra["strategy"]) not in task.issue


def test_rows_are_stored_as_swe_smith_has_them(tasks: Tasks) -> None:
    file = data_folder() / "tasks.jsonl"
    first = json.loads(file.read_text("utf-8").split("\n", 1)[0])
    assert to_swesmith(tasks[0]) == first
    assert differences(file, file) == []


def test_a_sample_holds_when_graded(tasks: Tasks, tmp_path: Path) -> None:
    sample = tasks.sample(3, seed=1)
    frame = Evaluator(SandboxFactory(cache=tmp_path)).check(sample)
    assert frame["gold"].to_list() == [["resolved"]] * 3
    assert frame["untouched"].to_list() == [["unresolved"]] * 3


def test_differences_name_the_rows_and_columns(tmp_path: Path) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text('{"instance_id": "a", "x": 1}\n{"instance_id": "b", "x": 1, "y": 1}\n')
    new.write_text('{"instance_id": "b", "x": 2, "y": 1}\n{"instance_id": "c"}\n')
    assert differences(old, new) == ["gone: a", "new: c", "changed: b: x"]
    old.write_text("".join(json.dumps({"instance_id": f"demo__{name}.1"}) + "\n" for name in ("cronline", "packlog")))
    new.write_text(json.dumps({"instance_id": "demo__packlog.1"}) + "\n")
    assert differences(old, new, ["packlog"]) == [] and differences(old, new) == ["gone: demo__cronline.1"]


def test_the_command_wants_to_know_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "one of the arguments --write --check is required" in capsys.readouterr().err
