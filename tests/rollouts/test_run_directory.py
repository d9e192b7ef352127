"""RunDirectory: append-only rows that survive kills, damage and two writers at once."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import RecordError
from swebench_lab.rollouts.run_directory import RunDirectory
from tests.conftest import make_rollout, make_task


def test_what_was_appended_is_read_back_by_another_kernel(tmp_path: Path) -> None:
    rollouts = [make_rollout(make_task(i), status="unresolved") for i in range(3)]
    for rollout in rollouts:
        RunDirectory(tmp_path / "run").append(rollout)
    assert [r.to_dict() for r in lab.attach(tmp_path / "run")] == [r.to_dict() for r in rollouts]


def test_a_later_row_with_the_same_key_takes_the_place_of_the_first(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append(make_rollout(status="not graded"))
    run.append(make_rollout(make_task(1)))
    run.append(make_rollout(status="resolved"))
    assert [(r.task.id, r.verdict.status) for r in run.rollouts()] == [
        ("owner__name-0", "resolved"),
        ("owner__name-1", "resolved"),
    ]


@pytest.mark.parametrize("damage", [b'{"half": ', b"\xff\xfe\x00", b'{"task_id": "owner__name-0"}', b"[]", b"null"])
def test_a_damaged_row_is_reported_set_aside_and_the_rest_survives(tmp_path: Path, damage: bytes) -> None:
    run = RunDirectory(tmp_path)
    run.append(make_rollout(make_task(0)))
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    run.append(make_rollout(make_task(1)))
    with pytest.warns(UserWarning, match=r"1 unreadable row.*line 2"):
        assert len(run.rollouts()) == 2
    aside = json.loads((tmp_path / "set-aside.jsonl").read_text())
    assert (aside["file"], aside["line"]) == ("attempts.jsonl", 2) and aside["reason"]
    assert len(RunDirectory(tmp_path).rollouts()) == 2  # and no second warning


def test_half_a_line_left_by_a_killed_writer_does_not_swallow_the_next(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append(make_rollout(make_task(0)))
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        file.write(b'{"task_id": "owner__na')
    run.append(make_rollout(make_task(1)))
    with pytest.warns(UserWarning, match="1 unreadable row"):
        assert [r.task.id for r in run.rollouts()] == ["owner__name-0", "owner__name-1"]


def test_half_a_task_left_by_a_full_disk_does_not_take_the_rows_of_that_task_along(tmp_path: Path) -> None:
    RunDirectory(tmp_path).append(make_rollout(make_task(0)))
    line = (tmp_path / "tasks.jsonl").read_bytes()
    (tmp_path / "tasks.jsonl").write_bytes(line[: len(line) // 2])
    RunDirectory(tmp_path).append(make_rollout(make_task(0)))
    assert [r.task for r in RunDirectory(tmp_path).rollouts()] == [make_task(0)]


def test_rows_of_a_task_that_is_not_there_are_set_aside(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.append(make_rollout(make_task(0)))
    (tmp_path / "tasks.jsonl").write_text("")
    with pytest.warns(UserWarning, match=r"not in tasks\.jsonl"):
        assert len(run.rollouts()) == 0


def _write(path: Path, first: int) -> None:
    run = RunDirectory(path)
    for number in range(first, first + 20):
        run.append(make_rollout(make_task(number)))


def test_two_processes_append_at_once_and_no_row_is_lost(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(tmp_path, first)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(r.task.id for r in RunDirectory(tmp_path).rollouts()) == sorted(f"owner__name-{i}" for i in range(40))


def test_attaching_to_nothing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such folder"):
        lab.attach(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="file"):
        RunDirectory(tmp_path / "file")
