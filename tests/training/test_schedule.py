"""What is attempted next: sources by their weights, tasks by how uncertain their outcome is, the same after a resume."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.tasks.micro import build
from swebench_lab.training.engines.schedule import Schedule
from swebench_lab.training.options.settings import GRPOSettings

TASKS = build.load("train", train=24)
MIXED = lab.Sources({"many": TASKS[:16], "few": TASKS[16:]}, {"few": 3})


def schedule(tmp: Path, tasks: Any = MIXED, per_update: int = 4, **settings: Any) -> Schedule:
    return Schedule(lab.Sources.of(tasks), GRPOSettings(**settings), per_update, tmp / "schedule.jsonl")


def test_groups_come_from_sources_by_their_weights_in_every_stretch(tmp_path: Path) -> None:
    drawn, few = schedule(tmp_path), {task.id for task in TASKS[16:]}
    names = [drawn.task(number).id for number in range(40)]
    for end in range(4, 41, 4):
        assert sum(name in few for name in names[:end]) == end * 3 // 4
    assert (
        Counter(name for name in names if name not in few).most_common(1)[0][1] == 1
    )  # none again before all were had
    assert {Counter(names)[name] for name in few} == {3, 4}
    for update in range(1, 11):
        assert len({task.id for task in drawn.update(update, 4)}) == 4
    assert repr(MIXED) == "Sources('many': 16 tasks, 25%; 'few': 8 tasks, 75%)"


def test_a_curriculum_draws_what_is_neither_certain_to_fail_nor_to_succeed(tmp_path: Path) -> None:
    drawn = schedule(tmp_path, TASKS, curriculum=True)
    plain = drawn.weight(TASKS[0])
    for number, task in enumerate(TASKS):
        rewards = {0: [0.0] * 8, 1: [1.0] * 8}.get(number % 3, [0.0, 1.0] * 4)
        drawn.learn(f"first/{number}", task, rewards)
    assert drawn.weight(TASKS[2]) == plain == 1.0
    assert drawn.weight(TASKS[0]) == pytest.approx(drawn.weight(TASKS[1])) == pytest.approx(0.249, abs=1e-3)
    kinds = Counter(TASKS.index(drawn.task(number)) % 3 for number in range(300))
    assert kinds[2] > 2 * max(kinds[0], kinds[1]) and min(kinds[0], kinds[1]) > 5
    before = drawn.chance(TASKS[0])
    drawn.learn("later", TASKS[0], [1.0] * 8)  # what the policy can do now counts more than what it could
    assert drawn.chance(TASKS[0]) > 0.6 > before
    for update in range(100, 110):
        assert len({task.id for task in drawn.update(update, 4)}) == 4


def test_a_resumed_curriculum_goes_on_as_the_first_did(tmp_path: Path) -> None:
    first = schedule(tmp_path, curriculum=True)
    names = [task.id for task in first.update(1, 4)]
    first.learn("1", TASKS[0], [0.0, 0.0])
    names += [task.id for task in first.update(2, 4)]
    again = schedule(tmp_path, curriculum=True)
    again.learn("1", TASKS[0], [1.0, 1.0])  # it was noted before
    assert again.chance(TASKS[0]) == first.chance(TASKS[0]) < 0.5
    assert [task.id for update in (1, 2) for task in again.update(update, 4)] == names
    assert [task.id for task in again.update(3, 4)] == [task.id for task in first.update(3, 4)]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    for given, words in (
        (({"a": TASKS[:2]}, {"b": 1}), "'b', which is none"),
        (({"a": TASKS[:2]}, {"a": 0}), "above 0"),
        (({"a": TASKS[:0]},), "no tasks"),
        (({"a": TASKS[:2], "b": TASKS[1:3]},), "is in 'a' and in 'b'"),
    ):
        with pytest.raises(TrainingError, match=words):
            lab.Sources(*given)
    with pytest.raises(TrainingError, match="2 tasks of 'a' are fewer than the 8"):
        schedule(tmp_path, lab.Sources({"a": TASKS[:2], "b": TASKS[2:]}, {"a": 3}), per_update=8)
    with pytest.raises(TrainingError, match=r"curriculum.*shuffle_dataset"):
        GRPOSettings(curriculum=True, shuffle_dataset=False)
