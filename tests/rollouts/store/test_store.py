"""Store: every attempt comes back to the letter, whatever is torn, killed or full; and only the index is held."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import swebench_lab as lab
from swebench_lab.errors import RecordError
from swebench_lab.records import _codec
from swebench_lab.records.reply import Reply
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.step import Step
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.store import blocks, body
from swebench_lab.rollouts.store.task_rows import TaskRows
from tests.conftest import make_rollout, make_task


def with_tokens(rollout: Rollout, steps: int = 5, seed: int = 0) -> Rollout:
    """A rollout with random ids and full-precision logprobs, a reply without any and one with empty ones."""
    chance = np.random.default_rng(seed)
    made = []
    for index in range(steps):
        count = int(chance.integers(1, 400))
        ids = chance.integers(0, 151_936, count, dtype=np.int32)
        logprobs = -chance.exponential(1.0, count).astype(np.float32)
        context = chance.integers(0, 151_936, 30, dtype=np.int32)
        text = " ".join(map(str, chance.integers(0, 9999, 60)))
        reply = Reply(text, ids, logprobs, context, 40, count, versions=((count, seed),))
        made.append(Step.of(index, reply, tool="bash", command="ls", observation=text[::-1], exit_code=index % 2))
    made += [Step(steps, Reply("no ids")), Step(steps + 1, Reply("", (), ()))]
    return replace(rollout, trajectory=replace(rollout.trajectory, steps=tuple(made)))


def filled(path: Path, count: int = 6) -> tuple[RunDirectory, list[Rollout]]:
    run = RunDirectory(path)
    statuses = ("resolved", "unresolved", "not graded")
    rollouts = [
        with_tokens(make_rollout(make_task(n // 3), attempt=n % 3, status=statuses[n % 3]), seed=n)
        for n in range(count)
    ]
    for rollout in rollouts:
        run.append(rollout)
    return run, rollouts


def stored(rollout: Rollout, path: Path) -> Rollout:
    return replace(rollout, layers=str(path.resolve() / "layers"))


def test_tokens_and_logprobs_come_back_bit_by_bit_as_arrays(tmp_path: Path) -> None:
    _, rollouts = filled(tmp_path)
    back = lab.attach(tmp_path)
    assert list(back) == [stored(r, tmp_path) for r in rollouts]
    reply = back[3].trajectory.steps[0].reply
    assert reply.token_ids is not None and reply.logprobs is not None
    assert (reply.token_ids.dtype, reply.logprobs.dtype) == (np.int32, np.float32)
    assert not reply.token_ids.flags.writeable
    assert (
        back[3].trajectory.steps[-1].reply.token_ids is not None
        and back[3].trajectory.steps[-2].reply.token_ids is None
    )


def test_every_array_of_a_record_has_its_column() -> None:
    """A field of arrays that the store does not know would be written as a list of numbers, or refused."""
    from dataclasses import fields
    from typing import get_args, get_type_hints

    from swebench_lab.records import arrays, trajectory, verdict

    kinds = (arrays.Ids, arrays.Logprobs, arrays.Mask)

    def holds(hint: object) -> bool:
        return hint in kinds or any(holds(inner) for inner in get_args(hint))

    assert {f.name for f in fields(Reply) if holds(get_type_hints(Reply)[f.name])} == set(body.ARRAYS)
    for record in (Step, trajectory.Trajectory, verdict.Verdict, Rollout):
        assert not [f.name for f in fields(record) if holds(get_type_hints(record)[f.name])]


def test_nothing_lies_there_as_a_list_of_numbers_and_a_system_prompt_lies_there_once(tmp_path: Path) -> None:
    prompt = "You are an agent. " * 100
    run = RunDirectory(tmp_path)
    for n in range(20):
        rollout = with_tokens(make_rollout(make_task(n)), seed=n)
        opening = ({"role": "system", "content": prompt}, {"role": "user", "content": "short"})
        run.append(replace(rollout, trajectory=replace(rollout.trajectory, opening=opening)))
    assert sum(1 for _ in blocks.scan(tmp_path / "shared.blocks")) == 1
    assert lab.attach(tmp_path)[7].trajectory.opening[0]["content"] == prompt
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    lines = sum(len(json.dumps(r.to_row())) for r in lab.attach(tmp_path))
    assert size < 0.4 * lines


def test_a_stored_collection_answers_as_one_in_memory_does(tmp_path: Path) -> None:
    _, rollouts = filled(tmp_path, 9)
    held, back = Rollouts(rollouts), RunDirectory(tmp_path).rollouts()
    assert back.to_frame().equals(held.to_frame()) and back.to_steps().equals(held.to_steps())
    assert back.counts == held.counts and back.pass_at(2) == held.pass_at(2) and back.all_pass(1) == held.all_pass(1)
    assert back.resolved_rate == held.resolved_rate and back.graded_resolved_rate == held.graded_resolved_rate
    assert back.tasks == held.tasks and list(back.by_task()) == list(held.by_task())
    assert back.timeline().equals(held.timeline())
    keys = [r.key for r in held.filter(lambda r: r.verdict.resolved)]
    for chosen in (
        back.resolved,
        back.filter(verdict="resolved"),
        back.filter(pl.col("verdict") == "resolved"),
        back.filter(lambda r: r.verdict.resolved),
    ):
        assert [r.key for r in chosen] == keys
    assert [r.key for r in back[2:5]] == [r.key for r in held[2:5]] and back[-1].key == held[-1].key
    assert (back + back[:2]).counts == (held + held[:2]).counts and len((back + held)[5:13]) == 8
    with pytest.raises(IndexError):
        back[9]
    with pytest.raises(RecordError, match="'colour' is no column"):
        back.filter(colour="red")
    assert pickle.loads(pickle.dumps(back))[1] == back[1]


def test_scans_are_lazy_frames_of_attempts_and_of_steps(tmp_path: Path) -> None:
    filled(tmp_path, 9)
    back = lab.attach(tmp_path)
    attempts = back.scan().filter(pl.col("verdict") == "resolved").select("task", "reward").collect()
    assert attempts.height == 3 and set(attempts["reward"]) == {1.0}
    failed = back.scan("steps").filter(pl.col("exit_code") != 0).select("task", "step").collect()
    assert failed.equals(back.to_steps().filter(pl.col("exit_code") != 0).select("task", "step")) and failed.height
    assert back.scan("steps").head(4).collect().height == 4
    assert back.scan("steps").group_by("attempt").agg(pl.col("completion_tokens").sum()).collect().height == 3
    with pytest.raises(RecordError, match="known are 'attempts', 'steps'"):
        back.scan("stairs")


def test_a_new_reward_moves_no_body(tmp_path: Path) -> None:
    run, rollouts = filled(tmp_path, 3)
    before = (tmp_path / "segments" / "000000.blocks").stat().st_size
    entry = run.entries()[rollouts[0].key]
    run.reward_again(replace(rollouts[0], reward=0.25), entry, "another")
    assert (tmp_path / "segments" / "000000.blocks").stat().st_size == before
    again = RunDirectory(tmp_path)
    assert [r.reward for r in again.rollouts()] == [0.25, 0.0, None]
    assert again.entries()[rollouts[0].key].rewarded_by == "another"


# --- torn, killed, full -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [1, 10, 200])
def test_a_torn_last_body_is_set_aside_and_its_attempt_is_missing_again(tmp_path: Path, left: int) -> None:
    filled(tmp_path, 3)
    segment = tmp_path / "segments" / "000000.blocks"
    last = [at for at, _ in blocks.scan(segment)][-1]
    os.truncate(segment, last + left)
    with pytest.warns(UserWarning, match=r"1 unreadable row.*cut off"):
        assert len(lab.attach(tmp_path)) == 2
    run = RunDirectory(tmp_path)
    run.recover()
    run.append(make_rollout(make_task(9)))
    assert [r.task.id for r in RunDirectory(tmp_path).rollouts()][-1] == "owner__name-9"
    assert RunDirectory(tmp_path).verify() == 0


def test_a_last_body_of_zeros_as_a_power_failure_leaves_it_is_seen(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    segment = tmp_path / "segments" / "000000.blocks"
    last = [at for at, _ in blocks.scan(segment)][-1]
    data = segment.read_bytes()
    segment.write_bytes(data[:last] + bytes(len(data) - last))
    with pytest.warns(UserWarning, match="1 unreadable row.*torn"):
        assert len(lab.attach(tmp_path)) == 2


def test_a_damaged_body_in_the_middle_is_an_error_that_says_where_and_a_check_sets_it_aside(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    segment = tmp_path / "segments" / "000000.blocks"
    data = bytearray(segment.read_bytes())
    data[blocks.HEAD_BYTES + 600] ^= 255
    segment.write_bytes(data)
    back = lab.attach(tmp_path)
    with pytest.raises(RecordError, match=r"000000\.blocks, byte 0"):
        back[0]
    assert back[1].verdict.status == "unresolved"
    assert RunDirectory(tmp_path).verify() == 1 and len(lab.attach(tmp_path)) == 2


def test_a_whole_body_whose_writer_died_before_its_row_gets_the_row(tmp_path: Path) -> None:
    first, rollouts = filled(tmp_path, 3)
    first.release()  # as its death does
    index = tmp_path / "attempts.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    run = RunDirectory(tmp_path)
    assert run.recover() == 1
    with pytest.warns(UserWarning, match="1 unreadable row"):
        assert [r.key for r in run.rollouts()] == [r.key for r in rollouts]
    assert run.recover() == 0


WRITER = """
    import sys
    from tests.conftest import make_rollout, make_task
    from tests.rollouts.store.test_store import with_tokens
    from swebench_lab.rollouts.run_directory import RunDirectory
    run = RunDirectory(sys.argv[1])
    first = int(sys.argv[2])
    for n in range(first, first + int(sys.argv[3])):
        run.append(with_tokens(make_rollout(make_task(n)), 20, seed=n))
        print(n, flush=True)
"""


def writer(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(first), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)


@pytest.mark.filterwarnings("ignore:.*unreadable row")
def test_whatever_moment_writers_are_killed_at_all_that_was_finished_is_there_to_the_letter(tmp_path: Path) -> None:
    chance, finished = random.Random(0), set()
    for round_ in range(2):
        writers = [writer(tmp_path, 1000 * (2 * round_ + side), 1000) for side in (0, 1)]
        for process in writers:
            assert process.stdout is not None
            finished.add(int(process.stdout.readline()))
        time.sleep(chance.uniform(0.0, 0.25))
        for process in writers:
            process.send_signal(signal.SIGKILL)
            out, _ = process.communicate()
            finished |= {int(line) for line in out.splitlines(keepends=True) if line.endswith("\n")}
        run = RunDirectory(tmp_path)
        run.recover()
        back = {r.task.id: r for r in run.rollouts()}
        assert {f"owner__name-{n}" for n in finished} <= back.keys()
    for n in finished:
        assert back[f"owner__name-{n}"] == stored(with_tokens(make_rollout(make_task(n)), 20, seed=n), tmp_path)
    assert run.verify() == 0 and len(finished) > 8


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_in_the_middle_of_an_attempt_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], check=True)
    try:
        run, kept = RunDirectory(disk / "run"), []
        with pytest.raises(RecordError, match="No space left"):
            for n in range(1000):
                rollout = with_tokens(make_rollout(make_task(n)), 20, seed=n)
                run.append(rollout)
                kept.append(stored(rollout, disk / "run"))
        assert len(kept) > 2 and list(RunDirectory(disk / "run").rollouts()) == kept
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        run.append(make_rollout(make_task(5000)))
        assert len(RunDirectory(disk / "run").rollouts()) == len(kept) + 1 and run.verify() == 0
        assert not (disk / "run" / "set-aside.jsonl").exists()
    finally:
        del run
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_directory_of_another_version_says_so(tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text('{"layout": 99}')
    with pytest.raises(RecordError, match="version 99, and this swebench_lab reads 2"):
        lab.attach(tmp_path)
    old = tmp_path / "old"
    old.mkdir()
    (old / "rollouts.jsonl").write_text("")
    with pytest.raises(RecordError, match=r"swebench-lab runs convert .*old"):
        lab.RolloutCollector(lab.SandboxFactory("namespace"), run_dir=old)


def test_records_of_another_schema_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 1)
    monkeypatch.setattr(_codec, "SCHEMA", 7)
    with pytest.raises(lab.LabError, match="schema 1 was written by another version"):
        lab.attach(tmp_path)[0]


def test_newcomers_reach_the_rollouts_by_either_name(tmp_path: Path) -> None:
    filled(tmp_path / "run", 3)
    assert lab.load_rollouts(tmp_path / "run") == lab.attach(tmp_path / "run").rollouts == lab.attach(tmp_path / "run")
    with pytest.raises(RecordError, match="no attempt was kept in it; below it are the runs run"):
        lab.load_rollouts(tmp_path)


def test_tasks_are_found_by_many_threads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    tasks = [make_task(number) for number in range(60)]
    rows = TaskRows(path)
    for task in tasks:
        rows.put(task)
    for _ in range(30):
        fresh, start = TaskRows(path), threading.Barrier(6)

        def read(number: int, fresh: TaskRows = fresh, start: threading.Barrier = start) -> bool:
            start.wait()
            return all(fresh.get(task.id) == task for task in tasks[number:])

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(read, range(6)))
