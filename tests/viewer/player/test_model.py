"""The model behind the player: what it tells of an attempt, and that any step of it is alive and can be branched."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import PolicyError, SandboxError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Tasks
from swebench_lab.viewer.player.model import PlayerModel
from tests.samples import a_rollout


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


@pytest.fixture(scope="module")
def tasks(sandboxes: lab.SandboxFactory) -> Tasks:
    chosen = lab.load_tasks("demo").sample(3, seed=1)[:1]
    sandboxes.prepare(chosen)
    return chosen


@pytest.fixture(scope="module")
def failed(sandboxes: lab.SandboxFactory, tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Rollout:
    """A noisy teacher's failed attempt, as a later kernel finds it."""
    run_dir = tmp_path_factory.mktemp("run")
    collector = lab.RolloutCollector(sandboxes, run_dir=run_dir)
    collector.collect(lab.Agent(lab.NoisyTeacher(tasks, p=1.0, seed=0)), tasks, progress=False)
    (rollout,) = lab.attach(run_dir)
    assert rollout.verdict.status == "unresolved"
    return rollout


@pytest.fixture
def model(failed: Rollout, sandboxes: lab.SandboxFactory, tmp_path: Path) -> Iterator[PlayerModel]:
    with PlayerModel(failed, sandboxes, run_dir=tmp_path) as made:
        yield made


def hand_in(view: object, messages: object, step: int) -> str:
    return "<function=submit>\n</function>"


SUBMIT = lab.ScriptedPolicy(hand_in, name="hands in")


def first_edit(rollout: Rollout) -> int:
    return next(n for n, s in enumerate(rollout.trajectory.steps) if s.arguments.get("command") == "str_replace")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_walks_and_filters(failed: Rollout) -> None:
    with PlayerModel(failed) as model:
        assert model.cursor == 0
        model.move(1)
        assert model.cursor == 1
        model.goto(10_000)
        assert model.cursor == len(failed.trajectory) - 1
        model.move(1)
        assert model.cursor == len(failed.trajectory) - 1
        edits = model.filter(kinds=["edit"])
        assert edits and all(model.kind(step) == "edit" for step in edits)
        model.goto(0)
        model.move(1)
        assert model.cursor == edits[0]
        said = failed.trajectory.steps[-2].observation.split("\n")[0]
        assert len(failed.trajectory) - 2 in model.filter(words=said.upper())
        assert model.filter(words="no step says this") == []


def test_the_files_of_every_step_are_told_without_a_box(model: PlayerModel, failed: Rollout) -> None:
    edit = first_edit(failed)
    path = failed.trajectory.steps[edit].arguments["path"].removeprefix("/testbed/")
    assert [(c.path, c.mark) for c in model.changed_files(edit) if not c.noise] == [(path, "M")]
    assert f"diff --git a/{path} b/{path}" in model.diff(edit)
    assert model.diff(edit - 1, since_start=True) == ""
    new = failed.trajectory.steps[edit].arguments["new_str"].split("\n")
    assert all(f"{line}" in model.history.read(path, edit) for line in new)
    assert path in model.tree(edit) and not [name for name in model.tree(edit) if name.startswith(".git/")]
    # Both are made by other means, and say the same at the end: the recorded patch, made by git in the box.
    changed = {
        line[1:] for line in failed.trajectory.patch.split("\n") if line[:1] in "+-" and line[:3] not in ("+++", "---")
    }
    ours = {
        line[1:] for line in model.diff(len(failed.trajectory) - 1, since_start=True).split("\n") if line[:1] in "+-"
    }
    assert changed <= ours


def test_what_history_tells_is_what_the_live_box_holds(model: PlayerModel, failed: Rollout) -> None:
    for step in (0, first_edit(failed), len(failed.trajectory) - 1):
        model.goto(step)
        listed = model.run("git ls-files -co --exclude-standard | sort").output.split()
        assert set(listed) == {path for path in model.tree(step) if path in listed}
        assert set(model.tree(step)) - set(listed) == set()
        for path in listed:
            assert model.history.read(path, step) == model.sandbox.read(path)


def test_any_step_is_alive_and_boxes_are_few(model: PlayerModel, sandboxes: lab.SandboxFactory) -> None:
    before = sandboxes._open_boxes()
    for step in range(-1, len(model.steps)):
        model.goto(step)
        assert model.run("cd /tmp; ls note 2>/dev/null; touch note; pwd").output == "/tmp\n"
        assert model.run("pwd").output == "/tmp\n", "one shell a box: the directory stays"
    until(lambda: model._pool._work_queue.empty())
    assert sandboxes._open_boxes() - before <= 6
    model.close()
    assert sandboxes._open_boxes() == before


def test_a_box_comes_up_in_the_background(model: PlayerModel) -> None:
    model.goto(2)
    until(lambda: model.ready)
    until(lambda: model._boxes.has(("", 3)) and model._boxes.has(("", 1)))
    began = time.perf_counter()
    model.goto(3)
    model.live()
    assert time.perf_counter() - began < 0.5


def test_an_edit_stays_until_it_is_reset(model: PlayerModel) -> None:
    model.goto(0)
    model.write("mine.txt", "hello")
    model.goto(1)
    assert "mine.txt" not in model.run("ls").output
    model.goto(0)
    assert model.read("mine.txt") == "hello"
    model.reset()
    assert "mine.txt" not in model.run("ls").output


def test_branching_a_failed_attempt_before_its_mistake_resolves_it(
    model: PlayerModel, failed: Rollout, tasks: Tasks
) -> None:
    at = first_edit(failed) - 1
    (branch,) = model.branch(lab.Teacher(tasks), step=at)
    assert branch.verdict.status == "resolved" and branch.reward == 1.0
    # Token for token: replies with their tokens, calls, observations, layers, and the opening.
    assert branch.trajectory.steps[: at + 1] == failed.trajectory.steps[: at + 1]
    assert branch.trajectory.opening == failed.trajectory.opening
    assert branch.trajectory.messages[: 2 + 2 * (at + 1)] == failed.trajectory.messages[: 2 + 2 * (at + 1)]
    (kept,) = model.branches
    assert (kept.parent, kept.step, kept.hint) == ("", at, "") and kept.rollout.layers
    # A branch is an attempt like any other: it is walked through, alive, and branched again.
    model.select(kept.id)
    model.goto(len(model.steps) - 2)
    assert model.run("git diff --stat").output.count("|") == 1
    model.branch(SUBMIT, n=2, step=at)
    assert [(b.parent, b.rollout.verdict.status) for b in model.branches[1:]] == [(kept.id, "unresolved")] * 2
    assert len({b.rollout.key for b in model.branches}) == 3


def test_branches_outlive_the_kernel_and_are_not_counted_among_attempts(
    failed: Rollout, tasks: Tasks, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    code = f"""
        import swebench_lab as lab
        from swebench_lab.viewer.player.model import PlayerModel
        tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
        with lab.SandboxFactory("namespace") as sandboxes:
            collector = lab.RolloutCollector(sandboxes, run_dir={str(run_dir)!r})
            (rollout,) = collector.collect(lab.Agent(lab.NoisyTeacher(tasks, p=1.0, seed=0)), tasks, progress=False)
            hands_in = lab.ScriptedPolicy(lambda *_: "<function=submit>\\n</function>", name="hands in")
            PlayerModel(rollout, sandboxes).branch(hands_in, step=0, grade=False)
            import os
            os._exit(9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=100)
    assert done.returncode == 9
    (rollout,) = lab.attach(run_dir)
    with lab.SandboxFactory("namespace") as sandboxes, PlayerModel(rollout, sandboxes) as model:
        (branch,) = model.branches
        assert branch.rollout.verdict.status == "not graded"
        model.select(branch.id)
        model.goto(0)
        assert model.run("true").ok
        assert model.grade().verdict.status == "unresolved"
    assert PlayerModel(rollout).branches[0].rollout.verdict.status == "unresolved"


def test_a_hint_is_added_to_what_the_policy_saw_last_and_to_nothing_else(model: PlayerModel, failed: Rollout) -> None:
    seen: list[str] = []

    def answer(view: object, messages: list[dict[str, str]], step: int) -> str:
        seen.append(messages[-1]["content"])
        return "<function=submit>\n</function>"

    model.branch(lab.ScriptedPolicy(answer, name="hinted"), hint="look at the loop", step=1, grade=False)
    original = failed.trajectory.steps[1].observation
    assert seen == [f"{original}\n\nlook at the loop"]
    steps = model.branches[0].rollout.trajectory.steps
    assert steps[0] == failed.trajectory.steps[0]
    assert steps[1].with_call(observation=original) == failed.trajectory.steps[1]
    model.branch(lab.ScriptedPolicy(answer, name="hinted"), hint="from the start", step=-1, grade=False)
    assert seen[1] == failed.trajectory.opening[-1]["content"] + "\n\nfrom the start"


def test_a_branch_starts_from_what_a_person_made_of_the_box(model: PlayerModel, failed: Rollout, tasks: Tasks) -> None:
    at = len(failed.trajectory) - 2
    model.goto(at)
    model.run("git checkout -q .")
    model.sandbox.apply_patch(tasks[0].gold_patch)
    (branch,) = model.branch(SUBMIT)
    assert branch.verdict.status == "resolved"
    kept = model.branches[0]
    assert kept.edited and any(path.startswith("testbed/") for path in kept.edited)
    model.select(kept.id)
    model.goto(at + 1)
    assert model.sandbox.diff() == branch.trajectory.patch, "the branch is entered as it was, the edit included"


def test_an_attempt_without_layers_comes_alive_by_a_replay(
    failed: Rollout, sandboxes: lab.SandboxFactory, tmp_path: Path
) -> None:
    bare = replace(
        failed,
        layers="",
        trajectory=replace(
            failed.trajectory, steps=tuple(replace(s, layer="", env={}) for s in failed.trajectory.steps)
        ),
    )
    with PlayerModel(bare, sandboxes, run_dir=tmp_path) as model:
        assert "replay" in model.unavailable
        with pytest.raises(SandboxError, match="replay"):
            model.run("true")
        drift = model.replay()
        assert not model.unavailable and len(drift) <= 2  # test durations differ from run to run
        model.goto(first_edit(failed))
        assert model.sandbox.diff() != ""
        assert [s.reply for s in model.steps] == [s.reply for s in failed.trajectory.steps]
    with PlayerModel(bare, sandboxes, run_dir=tmp_path) as again:
        assert not again.unavailable


def test_what_cannot_be_done_says_why(failed: Rollout, model: PlayerModel) -> None:
    with PlayerModel(a_rollout()) as plain, pytest.raises(SandboxError, match="no SandboxFactory was given"):
        plain.run("true")
    with pytest.raises(PolicyError, match="there is no agent"):
        model.branch()
    with pytest.raises(ValueError, match="the work was submitted there"):
        model.branch(SUBMIT, step=len(model.steps) - 1)


def test_a_terminal_of_the_box(model: PlayerModel) -> None:
    heard = bytearray()
    terminal = model.open_terminal(heard.extend, rows=30, columns=90)
    terminal.write(b"tty; stty size; echo $((6*7)); touch /testbed/typed\n")
    until(lambda: b"42\r\n" in heard and b"30 90" in heard)
    until(lambda: model.run("ls /testbed/typed").ok)
    assert b"/dev/pts/0" in heard
    terminal.write(b"yes | head -c 8000000\n")
    until(lambda: terminal._unacknowledged >= 1 << 20)
    time.sleep(0.2)
    assert len(heard) < 3 << 20, "what is not drawn is not read: the program waits"
    terminal.close()
    assert model.run("pgrep -c yes").output == "0\n"
    model.close_terminal()
