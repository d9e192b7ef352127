"""RolloutCollector: every attempt ends as one row, nothing is lost, nothing is executed twice, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Tasks


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


@pytest.fixture(scope="module")
def tasks(sandboxes: lab.SandboxFactory) -> Tasks:
    chosen = lab.load_tasks("demo").sample(4, seed=1)
    sandboxes.prepare(chosen)
    return chosen


@pytest.fixture
def collector(sandboxes: lab.SandboxFactory, tmp_path: Path) -> lab.RolloutCollector:
    return lab.RolloutCollector(sandboxes, workers=4, run_dir=tmp_path / "run")


def test_a_teacher_resolves_what_a_null_policy_does_not(collector: lab.RolloutCollector, tasks: Tasks) -> None:
    taught = collector.collect(lab.Agent(lab.Teacher(tasks)), tasks, progress=False)
    idle = collector.collect(lab.Agent(lab.NullPolicy()), tasks, progress=False)
    assert taught.resolved_rate == 1.0 and {r.reward for r in taught} == {1.0}
    assert idle.resolved_rate == 0.0 and {r.reward for r in idle} == {0.0}
    assert not taught.not_graded and not idle.not_graded
    assert [r.task.id for r in taught] == list(tasks.ids)


def test_a_rerun_resumes_and_executes_nothing_twice(
    collector: lab.RolloutCollector, sandboxes: lab.SandboxFactory, tasks: Tasks
) -> None:
    agent = lab.Agent(lab.NoisyTeacher(tasks, p=0.5, seed=0))
    first = collector.collect(agent, tasks, attempts=2, progress=False)
    assert collector.executed == 8
    again = lab.RolloutCollector(sandboxes, workers=4, run_dir=collector.run_directory.path)
    assert again.collect(agent, tasks, attempts=2, progress=False) == first
    assert again.executed == 0
    assert len(again.collect(agent, tasks, attempts=3, progress=False)) == 12
    assert again.executed == 4


def test_another_agent_or_seed_never_gets_old_rows(collector: lab.RolloutCollector, tasks: Tasks) -> None:
    one = tasks[:1]
    collector.collect(lab.Agent(lab.NullPolicy()), one, progress=False)
    collector.collect(lab.Agent(lab.NullPolicy(), max_steps=7), one, progress=False)
    assert collector.executed == 1
    collector.seed = 5
    collector.collect(lab.Agent(lab.NullPolicy()), one, progress=False)
    assert collector.executed == 1
    assert len(lab.attach(collector.run_directory.path)) == 3


def test_a_policy_that_breaks_is_not_graded_and_the_others_go_on(collector: lab.RolloutCollector, tasks: Tasks) -> None:
    def answer(view: object, messages: object, step: int) -> str:
        if view.id == tasks[1].id:  # type: ignore[attr-defined]
            raise RuntimeError("the endpoint is on fire")
        return "<function=submit>\n</function>"

    rollouts = collector.collect(lab.Agent(lab.ScriptedPolicy(answer, name="burning")), tasks, progress=False)
    assert [r.verdict.status for r in rollouts].count("not graded") == 1
    broken = rollouts[1]
    assert broken.trajectory.stop == "error" and "on fire" in broken.verdict.reason and broken.reward is None


def test_not_graded_attempts_are_made_again_only_when_asked(collector: lab.RolloutCollector, tasks: Tasks) -> None:
    broken = {"on": True}

    def answer(view: object, messages: object, step: int) -> str:
        if broken["on"]:
            raise RuntimeError("down")
        return "<function=submit>\n</function>"

    agent = lab.Agent(lab.ScriptedPolicy(answer, name="flaky"))
    assert len(collector.collect(agent, tasks[:2], progress=False).not_graded) == 2
    broken["on"] = False
    assert len(collector.collect(agent, tasks[:2], progress=False).not_graded) == 2
    assert collector.executed == 0
    assert not collector.collect(agent, tasks[:2], progress=False, retry=True).not_graded
    assert len(lab.attach(collector.run_directory.path)) == 2


def test_a_reward_function_that_raises_loses_no_attempt(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    def wrong(rollout: Rollout) -> float:
        raise ZeroDivisionError("my own mistake")

    agent = lab.Agent(lab.NullPolicy())
    collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path, reward=wrong)
    with pytest.raises(ZeroDivisionError, match="my own mistake"):
        collector.collect(agent, tasks, progress=False)
    mended = lab.RolloutCollector(sandboxes, run_dir=tmp_path, reward=lambda r: 0.25)
    assert {r.reward for r in mended.collect(agent, tasks, progress=False)} == {0.25}
    assert mended.executed == 0


def test_a_stuck_attempt_is_cut_off_by_its_deadline(sandboxes: lab.SandboxFactory, tasks: Tasks) -> None:
    sleepy = lab.ScriptedPolicy(
        ["<function=bash>\n<parameter=command>\nsleep 300\n</parameter>\n</function>"] * 3, name="sleepy"
    )
    collector = lab.RolloutCollector(sandboxes, deadlines=lab.Deadlines(attempt=1.0))
    started = time.monotonic()
    (rollout,) = collector.collect(lab.Agent(sleepy), tasks[0], progress=False)
    assert time.monotonic() - started < 30
    assert rollout.trajectory.stop == "timeout" and rollout.verdict.status == "unresolved"


def test_a_task_that_cannot_be_built_is_a_row_not_a_crash(collector: lab.RolloutCollector, tasks: Tasks) -> None:
    hopeless = replace(tasks[0], id="hopeless", setup_patch="--- a/no\n+++ b/no\n@@ -1 +1 @@\n-a\n+b\n")
    rollouts = collector.collect(lab.Agent(lab.NullPolicy()), [hopeless, tasks[1]], progress=False)
    assert [r.verdict.status for r in rollouts] == ["not graded", "unresolved"]
    assert "hopeless" in rollouts[0].verdict.reason


def test_any_step_of_a_stored_attempt_can_be_entered_again_alive(
    collector: lab.RolloutCollector, sandboxes: lab.SandboxFactory, tasks: Tasks
) -> None:
    write = (
        "<function=bash>\n<parameter=command>\necho {0} > /testbed/note{0}; rm -f note{1}\n</parameter>\n</function>"
    )
    script = [write.format(1, 0), write.format(2, 1), write.format(3, 2), "<function=submit>\n</function>"]
    agent = lab.Agent(lab.ScriptedPolicy(script, name="writer"))
    collector.collect(agent, tasks[:1], progress=False)
    (rollout,) = lab.attach(collector.run_directory.path)
    for step, there in enumerate([["note1"], ["note2"], ["note3"]]):
        with sandboxes.reenter(rollout, step) as box:
            assert [name for name in box.list(".") if name.startswith("note")] == there
            assert box.run("git log --oneline | wc -l").output.strip() == "1"


# --- stops, kills and leftovers -------------------------------------------------------------------------------------

SCRIPT = """
    import sys, swebench_lab as lab
    tasks = lab.load_tasks("demo").sample(4, seed=1)
    slow = lab.ScriptedPolicy([
        "<function=bash>\\n<parameter=command>\\nsleep 0.4; echo hi > new\\n</parameter>\\n</function>",
        "<function=submit>\\n</function>",
    ], name="slow")
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=sys.argv[1])
        rollouts = collector.collect(lab.Agent(slow), tasks, attempts=4, progress=False)
        print(len(rollouts), collector.executed, len(rollouts.not_graded))
"""


def start(run_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(run_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_rows(run_dir: Path, count: int) -> None:
    for _ in range(600):
        path = run_dir / "attempts.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    pytest.fail("no rows came")


def descendants_of(marker: str) -> list[int]:
    """Processes whose environment or command line names `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopping_or_killing_a_collection_loses_nothing_and_leaves_nothing(
    tasks: Tasks, tmp_path: Path, how: signal.Signals
) -> None:
    process = start(tmp_path)
    wait_for_rows(tmp_path, 3)
    process.send_signal(how)
    process.communicate(timeout=20)
    assert process.returncode != 0
    kept = len(lab.attach(tmp_path))
    assert 3 <= kept < 16
    for _ in range(100):
        if not descendants_of(str(tmp_path)):
            break
        time.sleep(0.05)
    assert not descendants_of(str(tmp_path))
    output, errors = start(tmp_path).communicate(timeout=120)
    assert output.split() == ["16", str(16 - kept), "0"], errors
    rows = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]
    keys = [(row["task"], row["attempt"]) for row in rows]
    assert len(keys) == len(set(keys)) == 16
