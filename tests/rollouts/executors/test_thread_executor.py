"""ThreadExecutor: stages do not block each other, infrastructure errors are retried, overruns are cut off, all is one row."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxError
from swebench_lab.policies.policy import Conversation
from swebench_lab.records.reply import Message
from swebench_lab.records.task import Tasks, TaskView
from swebench_lab.rollouts.run_directory import RunDirectory
from tests.benchmarks.chaos import below

BASH = "<function=bash>\n<parameter=command>\n{}\n</parameter>\n</function>"
SUBMIT = "<function=submit>\n</function>"


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


@pytest.fixture(scope="module")
def tasks(sandboxes: lab.SandboxFactory) -> Tasks:
    chosen = lab.load_tasks("demo").sample(3, seed=1)
    sandboxes.prepare(chosen)
    return chosen


def events(run_dir: Path) -> list[dict[str, object]]:
    path = run_dir / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Watched(Conversation):
    """A script that notes how many of its calls run at once, and may hang in the first call of an attempt."""

    name = "watched"

    def __init__(self, commands: Sequence[str], seconds: float = 0.0, hang: Sequence[int] = ()) -> None:
        self.replies = [*(BASH.format(command) for command in commands), SUBMIT]
        self.seconds, self.hang = seconds, list(hang)
        self.now = self.most = self.calls = 0
        self.lock, self.free = threading.Lock(), threading.Event()

    @property
    def fingerprint(self) -> str:
        return f"watched {self.replies}"

    def start(self, view: TaskView, attempt: int, seed: int) -> Watched:
        return self

    def reply(self, messages: Sequence[Message]) -> lab.Reply:
        with self.lock:
            self.calls += 1
            hang = self.calls in self.hang
            self.now += 1
            self.most = max(self.most, self.now)
        if hang:
            self.free.wait(60)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        return lab.Reply(self.replies[sum(m["role"] == "assistant" for m in messages)])

    def close(self) -> None:
        """Hold nothing."""


def test_calls_of_the_model_are_bounded_while_commands_run(sandboxes: lab.SandboxFactory, tasks: Tasks) -> None:
    policy = Watched(["true"], seconds=0.05)
    collector = lab.RolloutCollector(sandboxes, workers=6, stages=lab.Stages(model=2))
    assert len(collector.collect(lab.Agent(policy), tasks, attempts=4, progress=False)) == 12
    assert policy.most == 2


def test_a_slow_command_holds_no_turn_at_the_model(sandboxes: lab.SandboxFactory, tasks: Tasks) -> None:
    policy = Watched(["sleep 1"])
    collector = lab.RolloutCollector(sandboxes, workers=6, stages=lab.Stages(model=1, tools=6))
    began = time.monotonic()
    collector.collect(lab.Agent(policy), tasks, attempts=2, progress=False)
    assert policy.most == 1 and time.monotonic() - began < 6  # one after the other would be the sleeps alone


def test_an_endpoint_that_hangs_costs_a_while_and_no_attempt(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    policy = Watched(["echo hi"], hang=[2])
    deadlines = lab.Deadlines(model=1.0, backoff=0.1)
    collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path, deadlines=deadlines)
    rollouts = collector.collect(lab.Agent(policy), tasks, progress=False)
    policy.free.set()
    assert [r.verdict.status for r in rollouts] == ["unresolved"] * 3
    assert sorted(r.tries for r in rollouts) == [1, 1, 2]
    (again,) = events(tmp_path)
    assert again["what"] == "again" and "stalled" in str(again["reason"])
    (partial,) = [json.loads(line) for line in (tmp_path / "partial.jsonl").read_text().splitlines()]
    assert len(partial["trajectory"]["steps"]) == 1


def test_an_endpoint_that_always_hangs_ends_as_rows_that_say_so(sandboxes: lab.SandboxFactory, tasks: Tasks) -> None:
    policy = Watched(["echo hi"], hang=range(1, 100))
    deadlines = lab.Deadlines(model=0.5, backoff=0.05, retries=1)
    collector = lab.RolloutCollector(sandboxes, workers=3, deadlines=deadlines)
    rollouts = collector.collect(lab.Agent(policy), tasks, progress=False)
    policy.free.set()
    assert {r.verdict.status for r in rollouts} == {"not graded"} and {r.tries for r in rollouts} == {2}
    assert all("stalled" in r.verdict.reason and r.reward is None for r in rollouts)


def test_a_killed_box_is_an_infrastructure_error_and_the_attempt_is_retried(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    policy = Watched(["sleep 1"])
    collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path, stages=lab.Stages(ready=1))
    handle = collector.submit(lab.Agent(policy), tasks[:1])
    for _ in range(200):
        if policy.calls and (boxes := below(os.getpid(), "lab-init")):
            break
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(boxes[0], signal.SIGKILL)
    (rollout,) = handle.result(timeout=60)
    assert rollout.verdict.graded and rollout.tries == 2 and len(events(tmp_path)) == 1


class Exhausted(Watched):
    """A script whose first call finds no file descriptor left."""

    def reply(self, messages: Sequence[Message]) -> lab.Reply:
        reply = super().reply(messages)
        if self.calls == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return reply


def test_a_policy_that_finds_the_machine_exhausted_is_retried_and_any_other_error_is_not(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    deadlines = lab.Deadlines(backoff=0.01)
    collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path, deadlines=deadlines)
    (rollout,) = collector.collect(lab.Agent(Exhausted(["true"])), tasks[:1], progress=False)
    assert rollout.verdict.graded and rollout.tries == 2
    (event,) = events(tmp_path)
    assert "asking 'watched' for reply 0: OSError: [Errno 24] too many open files" in str(event["reason"])
    wrong = lab.ScriptedPolicy([], name="empty")
    (rollout,) = collector.collect(lab.Agent(wrong), tasks[:1], progress=False)
    assert not rollout.verdict.graded and rollout.tries == 1


def test_a_grading_that_is_tried_again_never_waits_for_room_that_only_it_could_make(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    class FailsFirst(lab.Evaluator):
        """Its first grading ends in a fault, when more attempts wait to be graded than the line may hold."""

        failed = False

        def grade(self, *given: object, **options: object) -> object:  # type: ignore[override]
            if not self.failed:
                self.failed = True
                time.sleep(2)
                raise SandboxError("the box was ended from outside")
            return super().grade(*given, **options)  # type: ignore[arg-type]

    stages, deadlines = lab.Stages(grade=1), lab.Deadlines(run=60, backoff=0.01)
    collector = lab.RolloutCollector(
        sandboxes, FailsFirst(sandboxes), workers=1, run_dir=tmp_path, stages=stages, deadlines=deadlines
    )
    rollouts = collector.collect(lab.Agent(lab.NullPolicy()), tasks, attempts=3, progress=False)
    assert rollouts.counts == {"resolved": 0, "unresolved": 9, "not graded": 0}
    assert [str(event["reason"])[:13] for event in events(tmp_path)] == ["grading again"]


def test_what_is_not_finished_when_the_run_is_over_is_recorded_as_cut_off(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path, deadlines=lab.Deadlines(run=2.0))
    agent = lab.Agent(Watched(["sleep 30"]))
    began = time.monotonic()
    rollouts = collector.collect(agent, tasks, progress=False)
    assert time.monotonic() - began < 15
    assert [r.trajectory.stop for r in rollouts] == ["timeout"] * 3
    assert all("whole run" in r.verdict.reason for r in rollouts) and len(lab.attach(tmp_path)) == 3


def test_a_straggler_is_cut_off_and_holds_up_nobody(sandboxes: lab.SandboxFactory, tasks: Tasks) -> None:
    policy = Watched(["true"], hang=[2])
    collector = lab.RolloutCollector(sandboxes, workers=3, deadlines=lab.Deadlines(straggler=2.0))
    began = time.monotonic()
    rollouts = collector.collect(lab.Agent(policy), tasks, progress=False)
    policy.free.set()
    assert time.monotonic() - began < 20
    assert Counter(r.verdict.status for r in rollouts)["not graded"] >= 1
    assert any("straggler" in r.verdict.reason for r in rollouts)


def test_a_handle_gives_each_result_once_and_two_share_the_workers(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    before = set(threading.enumerate())  # a straggler of an earlier test may still be on its way out
    collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path)
    first = collector.submit(lab.Agent(Watched(["echo one"], seconds=0.1)), tasks, attempts=2)
    second = collector.submit(lab.Agent(Watched(["echo two"], seconds=0.1)), tasks)
    with pytest.raises(TimeoutError, match="attempts have ended"):
        first.result(timeout=0.01)
    assert len(list(second)) == 3 and second.done
    assert [r.task.id for r in first.result(timeout=60)] == [t for t in tasks.ids for _ in range(2)]
    assert len(lab.attach(tmp_path)) == 9
    again = collector.submit(lab.Agent(Watched(["echo one"], seconds=0.1)), tasks, attempts=2)
    assert again.done and len(again.result()) == 6 and collector.executed == 0
    assert not [t.name for t in set(threading.enumerate()) - before if t.name.startswith("lab-play")]


def test_cancelling_a_batch_ends_it_quickly_and_a_rerun_makes_what_is_missing(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    collector = lab.RolloutCollector(sandboxes, workers=3, run_dir=tmp_path)
    handle = collector.submit(lab.Agent(Watched(["sleep 20"])), tasks)
    time.sleep(1)
    began = time.monotonic()
    handle.cancel()
    assert time.monotonic() - began < 8 and len(lab.attach(tmp_path)) == 0
    partial = [json.loads(line) for line in (tmp_path / "partial.jsonl").read_text().splitlines()]
    assert {row["trajectory"]["task_id"] for row in partial} <= set(tasks.ids)
    assert not list((tmp_path / "going").glob("*"))


def test_step_layers_are_kept_under_a_cap_and_the_attempt_goes_on(
    sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path: Path
) -> None:
    collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path, layers_bytes=100_000)
    agent = lab.Agent(Watched(["head -c 60000 /dev/urandom > a", "head -c 60000 /dev/urandom > b"]))
    (rollout,) = collector.collect(agent, tasks[:1], progress=False)
    assert rollout.verdict.graded
    assert sum(file.stat().st_size for file in (tmp_path / "layers").iterdir()) <= 100_000
    assert [event["what"] for event in events(tmp_path)] == ["layer left out"]
    with sandboxes.reenter(rollout, 0) as box:
        assert "a" in box.list(".")
    with pytest.raises(lab.SandboxError, match="missing"):
        sandboxes.reenter(rollout, 1)


def test_attempts_of_a_process_that_died_are_kept_as_far_as_they_got(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            run = RunDirectory(tmp_path)
            journal = run.journal()
            journal.begin(lab.Trajectory("a__b-1", 2, 5))
            journal.step(lab.Step.of(0, lab.Reply("hello"), tool="bash", command="ls"))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert RunDirectory(tmp_path).recover_partial() == 1
    (row,) = [json.loads(line) for line in (tmp_path / "partial.jsonl").read_text().splitlines()]
    kept = lab.Trajectory.from_dict(row["trajectory"])
    assert (kept.task_id, kept.attempt, [step.command for step in kept.steps]) == ("a__b-1", 2, ["ls"])
    assert RunDirectory(tmp_path).recover_partial() == 0
