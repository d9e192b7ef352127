"""Grader: every cause is reached by a real grading, one Verdict type, many threads at once, and a declared cache."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab
from swebench_lab.errors import SandboxUnavailable
from swebench_lab.grading import grader, judge
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.grading_cache import GradingCache
from swebench_lab.grading.trust import UNCERTIFIED
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Cause, Verdict
from tests.handmade import BUGGY, FILES, FIXED, GOLD, QUICK, HandMade, code, task

SLEEPS = code("import time\n\n\ndef add(a, b):\n    time.sleep(600)\n\n\nkeep = add\n")
ABORTS = code("import os\n\n\ndef add(a, b):\n    os.abort()\n\n\nkeep = add\n")
EXITS = code("import os\nos._exit(0)\n" + FIXED)
WRONG = code(BUGGY.replace("a - b", "a * b"))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), FILES)


@pytest.fixture
def evaluator(boxes: HandMade, tmp_path: Path) -> Evaluator:
    return Evaluator(boxes, timeout=20, certificates=tmp_path / "certificates")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "patch", "status", "cause"),
    [
        ({}, GOLD, "resolved", Cause.TESTS),
        ({}, WRONG, "unresolved", Cause.TESTS),
        ({}, "", "unresolved", Cause.NOT_APPLIED),
        ({}, "this is no patch", "unresolved", Cause.NOT_APPLIED),
        ({"spec": {**QUICK, "test_command": "sleep 60 #"}}, GOLD, "not graded", Cause.TIMED_OUT),
        pytest.param({}, SLEEPS, "unresolved", Cause.TIMED_OUT, marks=pytest.mark.slow),
        ({}, ABORTS, "unresolved", Cause.CRASHED),
        ({"spec": {**QUICK, "test_command": "false #"}}, GOLD, "not graded", Cause.CRASHED),
        ({}, EXITS, "unresolved", Cause.FORGED),
        ({"spec": {**QUICK, "test_command": "no-such-program"}}, GOLD, "not graded", Cause.INFRASTRUCTURE),
        ({"source": "broken"}, GOLD, "not graded", Cause.INFRASTRUCTURE),
    ],
)
def test_every_cause_is_reached_by_a_real_grading(
    boxes: HandMade, changes: dict[str, Any], patch: str, status: str, cause: Cause
) -> None:
    evaluator = Evaluator(boxes, timeout=6 if "spec" in changes else 8)  # type: ignore[arg-type]
    verdict = evaluator.grade(task(**changes), patch)
    assert (verdict.status, verdict.cause) == (status, cause), verdict.reason
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    if verdict.log:
        assert evaluator.regrade(task(**changes), verdict).cause is cause


def test_a_sandbox_that_cannot_be_opened_is_an_infrastructure_error_and_is_logged(
    boxes: HandMade, caplog: pytest.LogCaptureFixture
) -> None:
    class NoBoxes(HandMade):
        def __init__(self) -> None:
            self.cache, self.made, self.tier = boxes.cache, boxes.made, boxes.tier

        def open(self, _snapshot: Any, **_: Any) -> Any:
            raise SandboxUnavailable("no user namespaces here; do this and that")

    with caplog.at_level(logging.DEBUG, "swebench_lab.grading"):
        verdict = Evaluator(NoBoxes()).grade(task(), GOLD)  # type: ignore[arg-type]
    assert (verdict.status, verdict.cause) == ("not graded", Cause.INFRASTRUCTURE)
    records = [record for record in caplog.records if record.name == "swebench_lab.grading.grader"]
    assert records[0].levelname == "DEBUG"
    (said,) = [record for record in records if "do this and that" in record.getMessage()]
    assert said.levelname == "WARNING"


def test_the_judge_returns_the_one_verdict_type() -> None:
    assert swebench_lab.Verdict is Verdict is judge.Verdict is grader.Verdict
    assert not hasattr(judge, "Grade")


def test_grade_refuses_what_is_no_task(evaluator: Evaluator) -> None:
    with pytest.raises(TypeError, match=r"predictions are for evaluate\(predictions, tasks\)"):
        evaluator.grade({"lab__pkg-1": GOLD}, [task()])  # type: ignore[arg-type]


def test_threads_that_grade_at_once_close_only_their_own_boxes(evaluator: Evaluator) -> None:
    """What a thread opens is known to the OpenBoxes it was given, and to no other thread's."""
    slow, quick = OpenBoxes(), OpenBoxes()
    with ThreadPoolExecutor(2) as pool:
        sleeping = pool.submit(evaluator.grade, task(), SLEEPS, boxes=slow)
        deadline = time.monotonic() + 20
        while not slow._open and time.monotonic() < deadline:
            time.sleep(0.01)
        assert slow._open and not quick._open
        time.sleep(0.5)
        gold = pool.submit(evaluator.grade, task(), GOLD, boxes=quick)
        assert gold.result().resolved and not quick._open
        quick.close()
        assert not sleeping.done()
        started = time.monotonic()
        slow.close()
        verdict = sleeping.result()
    assert time.monotonic() - started < 10
    assert (verdict.status, verdict.cause) == ("not graded", Cause.INFRASTRUCTURE), verdict.reason
    assert not slow._open


def test_gradings_at_once_share_no_thread_local_state(evaluator: Evaluator) -> None:
    patches = [GOLD, WRONG, GOLD, "", "this is no patch", GOLD]
    given = [OpenBoxes() for _ in patches]
    with ThreadPoolExecutor(3) as pool:
        verdicts = list(pool.map(lambda i: evaluator.grade(task(), patches[i], boxes=given[i]), range(len(patches))))
    assert [v.status for v in verdicts] == [
        "resolved",
        "unresolved",
        "resolved",
        "unresolved",
        "unresolved",
        "resolved",
    ]
    assert not any(isinstance(value, threading.local) for part in _parts(evaluator) for value in vars(part).values())


def _parts(evaluator: Evaluator) -> list[object]:
    return [evaluator, evaluator._grader, evaluator._certifier]


class Recorder:
    """A GradingCache that holds nothing and writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def verdict(self, task: Task, snapshot: str, patch: str, grade: Callable[[], Verdict]) -> Verdict:
        self.asked.append((task.id, snapshot, patch))
        return replace(grade(), notes=("from the cache",))


def test_a_cache_is_asked_for_every_patch_and_never_by_a_check(boxes: HandMade, tmp_path: Path) -> None:
    cache = Recorder()
    evaluator = Evaluator(boxes, certificates=tmp_path, cache=cache)  # type: ignore[arg-type]
    assert evaluator.grade(task(), GOLD).notes == ("from the cache", UNCERTIFIED)
    evaluator.evaluate({"lab__pkg-1": WRONG}, [task()], progress=False)
    assert cache.asked == [("lab__pkg-1", "0" * 64, patch) for patch in (GOLD, WRONG)]
    assert evaluator.certificate(task(), audit="none").passed
    assert len(cache.asked) == 2, "a repeat that runs nothing shows nothing"


def test_equal_patches_are_graded_once_and_what_is_not_graded_again(evaluator: Evaluator, boxes: HandMade) -> None:
    cache = GradingCache()
    cached = evaluator.caching(cache)
    before = boxes.opened
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda _: cached.grade(task(), WRONG), range(4)))
    assert all(verdict == verdicts[0] for verdict in verdicts) and boxes.opened == before + 1
    assert (cache.asked, cache.ran) == (4, 1)
    broken = task(spec={**QUICK, "test_command": "false #"}, id="lab__pkg-2")
    assert not cached.grade(broken, GOLD).graded and not cached.grade(broken, GOLD).graded
    assert (cache.asked, cache.ran) == (6, 3)


def test_a_cache_keeps_no_more_verdicts_than_it_is_allowed_and_those_asked_for_last() -> None:
    cache = GradingCache(most=2)
    for patch in ("a", "b", "a", "c", "a", "b"):
        assert cache.verdict(task(), "key", patch, lambda patch=patch: Verdict("unresolved", patch)).reason == patch
    assert (cache.asked, cache.ran) == (6, 4), "b was forgotten for c"
