"""Recorder: one reward for each attempt, the same on disk as returned; and logs for those who turn them on."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Tasks


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


@pytest.fixture(scope="module")
def tasks(sandboxes: lab.SandboxFactory) -> Tasks:
    chosen = lab.load_tasks("demo").sample(2, seed=1)
    sandboxes.prepare(chosen)
    return chosen


def rewards_of(rollouts: lab.Rollouts) -> dict[tuple[str, int], float | None]:
    return {(r.task.id, r.trajectory.attempt): r.reward for r in rollouts}


def broken(_: object = None) -> float:
    return {}["choices"]  # type: ignore[no-any-return]


def test_the_reward_function_is_called_once_for_each_attempt_and_never_for_stored_ones(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    calls: list[tuple[str, int]] = []

    def counting(rollout: Rollout) -> float:
        calls.append((rollout.task.id, rollout.trajectory.attempt))
        return 1.0

    collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path, reward=counting)
    agent = lab.Agent(lab.NullPolicy())
    assert len(collector.collect(agent, tasks, progress=False)) == 2
    assert sorted(calls) == [(task, 0) for task in sorted(tasks.ids)]
    assert len(collector.submit(agent, tasks, attempts=2).result(timeout=60)) == 4
    assert sorted(calls) == [(task, n) for task in sorted(tasks.ids) for n in range(2)]
    assert list(rewards_of(collector.collect(agent, tasks, attempts=2, progress=False)).values()) == [1.0] * 4
    assert len(calls) == 4


def test_a_random_reward_is_the_same_on_disk_as_returned_and_in_every_rerun(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path, reward=lambda _: random.random())
    agent = lab.Agent(lab.NullPolicy())
    first = rewards_of(collector.collect(agent, tasks, attempts=2, progress=False))
    assert len(set(first.values())) == 4
    assert rewards_of(lab.attach(tmp_path)) == first
    assert rewards_of(collector.collect(agent, tasks, attempts=2, progress=False)) == first


def test_another_reward_function_rewards_stored_attempts_anew_and_only_once(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    agent = lab.Agent(lab.NullPolicy())
    lab.RolloutCollector(sandboxes, run_dir=tmp_path).collect(agent, tasks, progress=False)
    calls: list[str] = []

    def other(rollout: Rollout) -> float:
        calls.append(rollout.task.id)
        return 0.25

    for _ in range(2):
        collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path, reward=other)
        assert set(rewards_of(collector.collect(agent, tasks, progress=False)).values()) == {0.25}
        assert collector.executed == 0 and sorted(calls) == sorted(tasks.ids)
    assert set(rewards_of(lab.attach(tmp_path)).values()) == {0.25}


def test_a_reward_function_that_raised_is_asked_again_by_the_next_run(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    trouble = {"on": True}

    def judge(rollout: Rollout) -> float:
        return broken() if trouble["on"] else 0.5

    collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path, reward=judge)
    agent = lab.Agent(lab.NullPolicy())
    for _ in range(2):
        with pytest.raises(KeyError, match="choices"):
            collector.collect(agent, tasks, progress=False)
        assert set(rewards_of(lab.attach(tmp_path)).values()) == {None}
    trouble["on"] = False
    assert set(rewards_of(collector.collect(agent, tasks, progress=False)).values()) == {0.5}
    assert collector.executed == 0


def test_what_is_not_graded_is_never_rewarded(sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path) -> None:
    policy = lab.ScriptedPolicy(broken_script, name="broken")
    collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path, reward=broken)
    (rollout,) = collector.collect(lab.Agent(policy), tasks[:1], progress=False)
    assert rollout.verdict.status == "not graded" and rollout.reward is None


def broken_script(view: object, messages: object, step: int) -> str:
    return str(broken())


class BrokenEvaluator(lab.Evaluator):
    """An evaluator whose grading breaks as `broken` does."""

    def grade(self, *given: object, **options: object) -> object:  # type: ignore[override]
        return broken_script(None, None, 0)


class BrokenFactory(lab.SandboxFactory):
    """A factory whose sandboxes break as `broken` does."""

    def open(self, *given: object, **options: object) -> object:  # type: ignore[override]
        return broken_script(None, None, 0)


def test_the_same_error_reads_the_same_wherever_it_happened(sandboxes: lab.SandboxFactory, tasks: Tasks) -> None:
    line = broken.__code__.co_firstlineno + 1
    text = f"KeyError: 'choices' (test_recorder.py:{broken_script.__code__.co_firstlineno + 1} in broken_script, "
    text += f"test_recorder.py:{line} in broken)"
    policies = (lab.ScriptedPolicy(broken_script, name="broken"), lab.NullPolicy(), lab.NullPolicy())
    with BrokenFactory("namespace") as no_boxes:
        collectors = (
            lab.RolloutCollector(sandboxes),
            lab.RolloutCollector(sandboxes, BrokenEvaluator(sandboxes), deadlines=lab.Deadlines(retries=0)),
            lab.RolloutCollector(no_boxes, lab.Evaluator(sandboxes)),
        )
        for collector, policy in zip(collectors, policies, strict=True):
            (rollout,) = collector.collect(lab.Agent(policy), tasks[:1], progress=False)
            assert rollout.verdict.status == "not graded" and rollout.verdict.reason.endswith(text)


# --- logs -----------------------------------------------------------------------------------------------------------


def test_attempts_retries_and_errors_are_logged_by_named_loggers(
    sandboxes: lab.SandboxFactory, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    class FailsFirst(lab.SandboxFactory):
        failed = False

        def open(self, *given: object, **options: object) -> object:  # type: ignore[override]
            if not self.failed:
                self.failed = True
                raise SandboxError("the box was ended from outside")
            return super().open(*given, **options)  # type: ignore[arg-type]

    with caplog.at_level(logging.DEBUG, "swebench_lab"), FailsFirst("namespace") as flaky:
        collector = lab.RolloutCollector(flaky, lab.Evaluator(sandboxes), deadlines=lab.Deadlines(backoff=0.01))
        collector.collect(lab.Agent(lab.NullPolicy()), tasks[:1], progress=False)
    lines = {(record.name, record.levelname, record.getMessage()) for record in caplog.records}
    executor, task = "swebench_lab.rollouts.executors.thread_executor", tasks[0].id
    assert (executor, "WARNING", f"{task}, attempt 0: retry 1: the box was ended from outside") in lines
    assert (executor, "INFO", f"{task}, attempt 0: started (try 2)") in lines
    assert ("swebench_lab.rollouts.collector", "INFO", "null: 1 attempts to make, 0 stored") in lines
    assert ("swebench_lab.agents.attempt", "DEBUG", f"{task}, attempt 0: submitted after 1 steps") in lines


def test_a_state_that_cannot_be_shown_is_logged_once_and_ends_nothing(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "live.json" / "in the way").mkdir(parents=True)
    sleepy = lab.ScriptedPolicy(
        ["<function=bash>\n<parameter=command>\nsleep 3\n</parameter>\n</function>", "<function=submit>\n</function>"]
    )
    collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path)
    handle = collector.submit(lab.Agent(sleepy), tasks[:1])
    for _ in range(600):
        if handle.done:
            break
        time.sleep(0.05)
    (tmp_path / "live.json" / "in the way").rmdir()
    (tmp_path / "live.json").rmdir()
    (rollout,) = handle.result(timeout=60)
    assert rollout.verdict.graded
    shown = [r.getMessage() for r in caplog.records if r.name == "swebench_lab.rollouts.workers"]
    assert len(shown) == 1 and "live.json" in shown[0]


def test_nothing_is_logged_unless_asked_for() -> None:
    code = "import logging, swebench_lab; logging.getLogger('swebench_lab.rollouts').error('unseen')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == process.stderr == ""
