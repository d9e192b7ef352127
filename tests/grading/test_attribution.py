"""Attribution: who ended a run decides: what the patch did is a 0, what the machine did is not graded."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from swebench_lab.grading.attribution import does_with, host_kills
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.records.verdict import Cause, Verdict
from swebench_lab.sandbox.limits import Limits
from swebench_lab.testing.redteam.boxes import tagged
from swebench_lab.testing.redteam.forgeries.evading import REWRITES
from tests.handmade import BUGGY, FILES, FIXED, GOLD, QUICK, HandMade, code, patch_of, task

SHOUT = """\
import os, stat


def shout(data):
    for n in range(1, 60):
        try:
            if stat.S_ISFIFO(os.fstat(n).st_mode):
                return os.write(n, data)
        except OSError:
            pass


for _ in range(60):
    shout(b"x" * 10**6 + b"\\n")
"""


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), FILES)


@pytest.fixture
def evaluator(boxes: HandMade, tmp_path: Path) -> Evaluator:
    return Evaluator(boxes, certificates=tmp_path / "certificates")  # type: ignore[arg-type]


@pytest.mark.parametrize(("times", "number"), [(1, 9), (2, 9), pytest.param(2, 15, marks=pytest.mark.slow)])
def test_tests_that_are_killed_from_outside_are_never_held_against_the_patch(
    times: int, number: int, evaluator: Evaluator
) -> None:
    mark = f"killed-{os.getpid()}-{times}-{number}"
    slow = task(spec={**QUICK, "env": {**QUICK["env"], "LAB_MARK": mark}})  # type: ignore[dict-item]
    waits = code("import time\n\ntime.sleep(0.4)\n" + FIXED)
    assert evaluator.certificate(slow, audit="none").passed
    killed: set[int] = set()

    def kill() -> None:
        deadline = time.monotonic() + 60
        while len(killed) < times and time.monotonic() < deadline:
            for pid in set(tagged(f"LAB_MARK={mark}")) - killed:
                if b"pytest" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    os.kill(pid, number)
                    killed.add(pid)
                    break
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    verdict = evaluator.grade(slow, waits)
    thread.join()
    assert len(killed) == times, "the tests were not killed"
    assert any("graded a second time" in note for note in verdict.notes)
    if times == 1:
        assert verdict.resolved, verdict.reason
    else:
        assert (verdict.status, verdict.cause) == ("not graded", Cause.INFRASTRUCTURE)
        assert "killed from outside" in verdict.reason


REMOVES = "[os.remove(f) for d in ('/tmp', '/dev/shm') for f in glob.glob(d + '/lab-*/plugin/results')]"


@pytest.mark.parametrize(
    "way",
    [
        "os._exit(137)",
        REWRITES,
        *(
            pytest.param(way, marks=pytest.mark.slow)
            for way in (
                "os.kill(os.getpid(), 9)",
                "os.fork() or os.kill(os.getppid(), 15); import time; time.sleep(2)",
                f"import glob; {REMOVES} or os._exit(7); os._exit(137)",
            )
        ),
    ],
)
def test_tests_that_end_themselves_as_if_from_outside_are(way: str, evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), code(f"import os\n\n{way}\n"))
    assert verdict.status == "unresolved", verdict


def test_an_untouched_tree_that_does_not_end_cleanly_excuses_the_patch(boxes: HandMade) -> None:
    evaluator = Evaluator(boxes, timeout=2)  # type: ignore[arg-type]
    verdict = evaluator.grade(task(spec={**QUICK, "test_command": "sleep 60 #"}), GOLD)
    assert (verdict.status, verdict.cause) == ("not graded", Cause.TIMED_OUT)
    assert any("do not end cleanly without this patch" in note for note in verdict.notes)


def test_the_untouched_tree_is_run_once_and_remembered(evaluator: Evaluator, boxes: HandMade) -> None:
    crash = code("import os\n\nos._exit(7)\n")
    before = boxes.opened
    assert evaluator.grade(task(), crash).cause is Cause.CRASHED
    assert boxes.opened == before + 4, "the patch, the untouched tree, the patch again, the untouched tree beside it"
    assert evaluator.grade(task(), crash).cause is Cause.CRASHED
    assert boxes.opened == before + 7
    again = Evaluator(boxes, certificates=evaluator.certificates.root)  # type: ignore[arg-type]
    assert again.grade(task(), crash).status == "unresolved"
    assert boxes.opened == before + 10, "it is stored beside the certificate"


def test_a_certificate_serves_as_well_as_a_run_of_the_untouched_tree(evaluator: Evaluator, boxes: HandMade) -> None:
    assert evaluator.certificate(task(), audit="none").passed
    before = boxes.opened
    assert evaluator.grade(task(), code("import os\n\nos._exit(7)\n")).status == "unresolved"
    assert boxes.opened == before + 3, "the patch twice, and the gold patch beside it"


def test_output_beyond_bounds_is_graded_by_the_results(evaluator: Evaluator) -> None:
    assert evaluator.grade(task(), code(SHOUT + FIXED)).status == "resolved"
    assert evaluator.grade(task(), code(SHOUT + BUGGY)).status == "unresolved"


def test_a_limit_that_the_task_s_own_tests_come_near_is_not_the_patch_s(boxes: HandMade, tmp_path: Path) -> None:
    fills = "with open('/tmp/x', 'wb') as file:\n    for _ in range(40):\n        file.write(b'x' * (1 << 20))\n"
    crash = code(f"{fills}\n{FIXED}\nimport os\nos._exit(9)\n")
    honest = boxes.limits
    try:
        boxes.limits = Limits(disk=32 << 20)
        evaluator = Evaluator(boxes, certificates=tmp_path / "a")  # type: ignore[arg-type]
        assert evaluator.grade(task(), crash).status == "unresolved", "the tests need far less than half of it"
        greedy = task(spec={**QUICK, "test_command": "head -c 20000000 /dev/zero >/tmp/y; python -m pytest -rA"})
        verdict = Evaluator(boxes, certificates=tmp_path / "b").grade(greedy, crash)  # type: ignore[arg-type]
        assert verdict.status == "not graded", verdict.reason
    finally:
        boxes.limits = honest


def test_a_busy_machine_says_nothing_of_what_a_task_needs() -> None:
    assert does_with(Verdict("unresolved", cause=Cause.TESTS)) is True
    assert does_with(Verdict("not graded", cause=Cause.CRASHED)) is False
    assert does_with(Verdict("not graded", cause=Cause.TIMED_OUT)) is None
    assert does_with(Verdict("not graded", cause=Cause.INFRASTRUCTURE)) is None


def test_a_patch_that_fills_the_disk_but_for_a_block_is_a_0(tmp_path: Path) -> None:
    # with no room for what is written to the tree after the patch, which is not the host's error
    boxes = HandMade(tmp_path, FILES)
    boxes.limits = Limits(disk=8 << 20)
    evaluator = Evaluator(boxes, certificates=tmp_path / "certificates")  # type: ignore[arg-type]
    assert evaluator.certificate(task(), audit="none").passed

    def fill(folder: Path) -> None:
        (folder / "src/pkg/__init__.py").write_text(BUGGY + "# changed\n")
        (folder / "big.bin").write_bytes(bytes((8 << 20) - 4096))

    verdict = evaluator.grade(task(), patch_of(fill))
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.CRASHED), verdict


@pytest.mark.slow
def test_a_second_run_holds_back_no_other_grading(boxes: HandMade, evaluator: Evaluator) -> None:
    assert evaluator.certificate(task(), audit="none").passed
    hurried = Evaluator(boxes, timeout=5, certificates=evaluator.certificates.root)  # type: ignore[arg-type]
    ended: dict[str, float] = {}
    became: dict[str, str] = {}

    def grade(name: str, patch: str) -> None:
        became[name] = hurried.grade(task(), patch).status
        ended[name] = time.monotonic()

    hangs = threading.Thread(target=grade, args=("hangs", code("import time\n\ntime.sleep(1000)\n")))
    hangs.start()
    time.sleep(6)  # the first run has ended
    others = [threading.Thread(target=grade, args=(str(number), GOLD)) for number in range(2)]
    for thread in others:
        thread.start()
    for thread in (*others, hangs):
        thread.join()
    assert became == {"0": "resolved", "1": "resolved", "hangs": "unresolved"}
    assert max(ended["0"], ended["1"]) < ended["hangs"]


@pytest.mark.parametrize("recovers", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_machine_that_stands_still_is_never_held_against_the_patch(
    recovers: bool, boxes: HandMade, tmp_path: Path
) -> None:
    mark = f"stalled-{os.getpid()}-{recovers}"
    marked = task(spec={**QUICK, "env": {**QUICK["env"], "LAB_MARK": mark}})  # type: ignore[dict-item]
    assert Evaluator(boxes, certificates=tmp_path).certificate(marked, audit="none").passed  # type: ignore[arg-type]
    evaluator = Evaluator(boxes, timeout=4, certificates=tmp_path)  # type: ignore[arg-type]
    before, done = boxes.opened, threading.Event()

    def stand_still() -> None:
        while not done.wait(0.05) and not (recovers and boxes.opened > before + 1):
            for pid in tagged(f"LAB_MARK={mark}"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)

    thread = threading.Thread(target=stand_still)
    thread.start()
    try:
        verdict = evaluator.grade(marked, GOLD)
    finally:
        done.set()
        thread.join()
    if recovers:
        assert verdict.resolved, verdict.reason
    else:
        assert (verdict.status, verdict.cause) == ("not graded", Cause.INFRASTRUCTURE)
        assert any("under the same load" in note for note in verdict.notes)


def test_a_box_that_runs_into_its_own_bound_excuses_no_other_one(boxes: HandMade, evaluator: Evaluator) -> None:
    assert evaluator.certificate(task(), audit="none").passed
    over, before = threading.Event(), host_kills()

    def hog() -> None:
        with boxes.open(boxes.snapshot(task()), limits=Limits(memory=64 << 20)) as box:
            while not over.is_set():
                box.run("python -c 'bytearray(1 << 30)'", timeout=20)

    with boxes.open(boxes.snapshot(task())) as box:
        if not box.counts_kills:
            pytest.skip("no memory cgroup can be had here")
    neighbour = threading.Thread(target=hog)
    neighbour.start()
    try:
        while host_kills() == before:
            time.sleep(0.05)
        verdict = evaluator.grade(task(), code("import os\n\nos._exit(0)\n" + BUGGY))
    finally:
        over.set()
        neighbour.join()
    assert verdict.status == "unresolved", verdict.reason
