"""Load: honest patches on a machine at four times its load, under kills from outside: none of them gets a 0."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.records.verdict import Verdict
from swebench_lab.testing.redteam.boxes import tagged
from tests.handmade import FILES, FIXED, QUICK, HandMade, code, task

GRADINGS, THREADS = 200, 8
HONEST = ("a + b", "b + a", "sum((a, b))", "-(-a - b)", "a - -b")
HARMS = ("nothing", "the tests killed", "all of the box killed", "the box closed")


def load() -> list[subprocess.Popen[bytes]]:
    """Start what brings the machine to four times its load."""
    wanted = 4 * len(os.sched_getaffinity(0)) - os.getloadavg()[0]
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(max(0, round(wanted)))]


def harm(kind: str, mark: str, boxes: OpenBoxes, over: threading.Event, chance: random.Random) -> str:
    """Do one harm from outside, once, some time while a grading runs; return what was done."""
    over.wait(chance.uniform(0.2, 2.0))
    while not over.wait(0.02):
        pids = [] if kind == "nothing" else tagged(f"LAB_MARK={mark}")
        if not pids:
            continue
        if kind == "the box closed":
            boxes.close()
            return kind
        for pid in pids:
            with contextlib.suppress(OSError):
                of_tests = b"pytest" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if of_tests or kind == "all of the box killed":
                    os.kill(pid, signal.SIGKILL)
                    return kind
    return "nothing"


def grade_some(evaluator: Evaluator, number: int, verdicts: list[tuple[str, Verdict]]) -> None:
    chance, mark = random.Random(number), f"load-{os.getpid()}-{number}"
    own = task(id=f"lab__pkg-{number}", spec={**QUICK, "timeout": 30.0, "env": {**QUICK["env"], "LAB_MARK": mark}})  # type: ignore[dict-item]
    for attempt in range(GRADINGS // THREADS):
        boxes, over, done = OpenBoxes(), threading.Event(), []
        kind = HARMS[(attempt + number) % len(HARMS)]
        patch = code(FIXED.replace("a + b", chance.choice(HONEST)))
        harmer = threading.Thread(target=lambda k=kind, b=boxes, o=over, d=done: d.append(harm(k, mark, b, o, chance)))  # type: ignore[misc]
        harmer.start()
        verdict = evaluator.grade(own, patch, boxes=boxes)
        over.set()
        harmer.join()
        verdicts.append((done[0], verdict))


@pytest.mark.slow
def test_no_honest_patch_gets_a_0_whatever_befalls_the_machine(tmp_path: Path) -> None:
    evaluator = Evaluator(HandMade(tmp_path, FILES), certificates=tmp_path / "certificates")  # type: ignore[arg-type]
    for number in range(THREADS):
        mark = f"load-{os.getpid()}-{number}"
        spec = {**QUICK, "timeout": 30.0, "env": {**QUICK["env"], "LAB_MARK": mark}}  # type: ignore[dict-item]
        assert evaluator.certificate(task(id=f"lab__pkg-{number}", spec=spec), audit="none").passed
    verdicts: list[tuple[str, Verdict]] = []
    started, busy = time.monotonic(), load()
    try:
        threads = [threading.Thread(target=grade_some, args=(evaluator, n, verdicts)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    counts = Counter((kind, verdict.status) for kind, verdict in verdicts)
    print(
        f"{len(verdicts)} gradings in {time.monotonic() - started:.0f} s, {len(busy)} processes of load", dict(counts)
    )
    assert len(verdicts) == GRADINGS
    wrong = [(kind, verdict) for kind, verdict in verdicts if verdict.status == "unresolved"]
    assert not wrong, wrong
    assert counts["nothing", "resolved"] and counts["the tests killed", "resolved"], counts
    assert all(kind == "nothing" or counts[kind, "resolved"] + counts[kind, "not graded"] for kind in HARMS), counts
    assert not any(note.startswith("canary") for _, verdict in verdicts for note in verdict.notes), "a false alarm"


SCARCE = """
    import sys, threading, time
    from pathlib import Path
    from swebench_lab.grading.evaluator import Evaluator
    from tests.handmade import FILES, FIXED, HandMade, code, task

    boxes = HandMade(Path("lab").absolute(), FILES)
    evaluator = Evaluator(boxes, certificates="certificates", timeout=60)
    assert evaluator.certificate(task(), audit="none").passed
    needs = code("import time\\nheld = bytearray(100 << 20)\\ntime.sleep(0.3)\\n" + FIXED)
    print(evaluator.grade(task(), needs).status)
    with boxes.open(boxes.made) as neighbour:
        hold = "import time; held = bytearray(64 << 20); print('held', flush=True); time.sleep(300)"
        with neighbour.session() as shell:
            shell.run(f"python3 -c \\"{hold}\\" > /tmp/said & until grep -q held /tmp/said; do sleep 0.1; done")
            verdict = evaluator.grade(task(), needs)
    print(verdict.status, verdict.cause, verdict.notes, verdict.reason)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a bound above those of sandboxes needs root here")
def test_a_machine_that_lacks_memory_is_never_held_against_the_patch(tmp_path: Path) -> None:
    # the kernel's own killer, at a bound that lies above the sandboxes' own: all that this user's sandboxes may have
    quota = f'[everybody]\nsandboxes = 4\nmemory = "160 MiB"\ncounted_in = "{tmp_path}"\n'
    (tmp_path / "quota.toml").write_text(quota)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), "SWEBENCH_LAB_QUOTA": str(tmp_path / "quota.toml")}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCARCE)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    alone, beside = done.stdout.splitlines()
    assert alone == "resolved"
    assert beside.startswith("not graded infrastructure"), beside
