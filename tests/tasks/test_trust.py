"""Trust: a row of a file cannot have a folder of this machine shown in a box, unless whoever loads it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.cli import main
from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task, Tasks
from tests.sandbox.repositories import FILES, make_task, write


def saved(tmp_path: Path, source: str, name: str = "tasks.jsonl") -> Path:
    task: Task = replace(make_task("x"), source=source)
    return Tasks([task]).save(tmp_path / name)


@pytest.mark.parametrize("name", ["tasks.jsonl", "tasks.json", "tasks.parquet"])
@pytest.mark.parametrize(
    "source", ["/etc", "~", "../secrets", ".", "file:///root", "FILE:///root", " /etc", "image:/root/a.tar"]
)
def test_a_row_of_a_file_names_no_place_of_this_machine(tmp_path: Path, source: str, name: str) -> None:
    file = saved(tmp_path, source, name)
    with pytest.raises(TaskError, match=r"field 'source': .* is a place of this machine.*trust=True"):
        lab.load_tasks(file)
    assert lab.load_tasks(file, trust=True)[0].source == source


@pytest.mark.parametrize("source", ["", "demo:textgrid", "pypi:six==1.16.0", "https://example.org/a/b.git", "git@example.org:a/b.git",
                                    "image:docker://a/b:c", "image:engine:a/b"])  # fmt: skip
def test_other_rows_are_taken_as_they_are(tmp_path: Path, source: str) -> None:
    assert lab.load_tasks(saved(tmp_path, source))[0].source == source


def test_rows_that_are_handed_over_are_the_callers_own(tmp_path: Path) -> None:
    task = make_task(write(tmp_path / "plain", FILES))
    assert lab.load_tasks([task.to_dict()])[0].source == str(tmp_path / "plain")
    assert lab.load_tasks(Tasks([task]))[0] == task


def test_the_command_line_asks_for_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path, str(write(tmp_path / "plain", FILES)))
    with pytest.raises(SystemExit) as ended:
        main.main(["tasks", "list", "--tasks", str(file)])
    assert ended.value.code != 0
    assert "--trust" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main.main(["tasks", "list", "--tasks", str(file), "--trust"])
    assert ended.value.code == 0
