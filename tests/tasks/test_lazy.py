"""Lazy tasks: a set of many rows answers as a small one does, and does not lie in memory."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import TaskError
from swebench_lab.records.task import HeldTasks, Task, Tasks
from swebench_lab.tasks import lazy
from tests.conftest import make_task


def rows(count: int) -> list[Task]:
    from dataclasses import replace

    splits = ("train", "test")
    return [
        replace(
            make_task(n), repo=f"owner/name-{n % 5}", split=splits[n % 2], family=f"family-{n % 7}", hints=f"hint {n}"
        )
        for n in range(count)
    ]


@pytest.fixture(params=[".jsonl", ".parquet", ".json"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tasks, Tasks]:
    """The same tasks held and lazy."""
    path = Tasks(rows(60)).save(tmp_path / f"tasks{request.param}")
    held = lab.load_tasks(path)
    monkeypatch.setattr(lazy, "HELD", 10)
    spooled = lab.load_tasks(path)
    assert isinstance(held._members, HeldTasks) and isinstance(spooled._members, lazy.SpooledTasks)
    return held, spooled


def test_lazy_tasks_answer_as_held_ones_do(both: tuple[Tasks, Tasks]) -> None:
    held, spooled = both
    assert spooled == held and hash(spooled) == hash(held) and list(spooled) == list(held)
    assert (spooled.ids, spooled.repos, len(spooled)) == (held.ids, held.repos, len(held))
    assert spooled[7] == held[7] and spooled["owner__name-9"] == held["owner__name-9"] and spooled[-1] == held[-1]
    assert spooled[3:40:7] == held[3:40:7] and "owner__name-5" in spooled and held[5] in spooled
    for choice in ({"repo": "owner/name-3"}, {"split": "test"}, {"hints": "hint 8"}, {"where": "-1[0-3]$"}):
        assert spooled.filter(**choice) == held.filter(**choice) and len(held.filter(**choice))
    assert spooled.filter(lambda task: task.hints.endswith("4")) == held.filter(lambda task: task.hints.endswith("4"))
    assert spooled.sample(9, seed=3) == held.sample(9, seed=3)
    assert spooled.split(0.4, seed=1) == held.split(0.4, seed=1) and spooled.split(0.3, "family") == held.split(
        0.3, "family"
    )
    test = spooled.split(0.4, seed=1).test
    assert (
        test.filter(split="test").ids == test.ids
        and test[::2][0].split == "test"
        and test.to_frame()["split"][0] == "test"
    )
    assert spooled.to_frame().equals(held.to_frame()) and repr(spooled) == repr(held)
    assert spooled._repr_html_() == held._repr_html_() and spooled + held[:0] == held
    with pytest.raises(IndexError):
        spooled[60]
    with pytest.raises(KeyError, match="no task has the id"):
        spooled["nobody"]
    assert pickle.loads(pickle.dumps(spooled.filter(split="test"))) == held.filter(split="test")


def test_rows_that_are_wrong_are_all_reported_however_many_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "HELD", 10)
    path = Tasks(rows(30)).save(tmp_path / "tasks.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[4].replace("subtracts", "multiplies"), "{", '{"id": 3}']) + "\n")
    with pytest.raises(TaskError, match=r"3 of 33 rows are wrong") as caught:
        lab.load_tasks(path)
    for where in ("tasks.jsonl:31: the id 'owner__name-4' is that of", "tasks.jsonl:32, column 2", "tasks.jsonl:33"):
        assert where in str(caught.value)
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    with pytest.raises(TaskError, match=f"not UTF-8 text at byte {len(chr(10).join(lines)) + 1}"):
        lab.load_tasks(path)


MEASURED = """
import resource, sys
import swebench_lab as lab, polars
from swebench_lab.tasks import loading
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tasks = lab.load_tasks(sys.argv[1])
assert len(tasks) == int(sys.argv[2]) and len(tasks.filter(repo="owner/name-3")) == len(tasks) // 5
tasks[100], tasks[len(tasks) - 1]
print(before / 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def test_many_rows_take_a_small_part_of_their_size_in_memory(tmp_path: Path) -> None:
    count, text = 6000, "word " * 4000
    with (tmp_path / "tasks.jsonl").open("w") as file:
        for task in rows(count):
            file.write(json.dumps({**task.to_dict(), "hints": text + task.id}) + "\n")
    assert (tmp_path / "tasks.jsonl").stat().st_size > 120e6
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "tasks.jsonl"), str(count)]
    before, after = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert after - before < 100, f"{after - before:.0f} MB for {count} tasks of 20 kB"
