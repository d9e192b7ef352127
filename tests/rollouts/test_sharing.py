"""Sharing: several collectors on one run directory make each attempt once, and what a dead one had begun is made by another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.rollouts.store.claims import Claims

SCRIPT = """
    import sys, swebench_lab as lab
    tasks = lab.load_tasks("demo").sample(2, seed=1)
    slow = lab.ScriptedPolicy([
        "<function=bash>\\n<parameter=command>\\nsleep {seconds}\\n</parameter>\\n</function>",
        "<function=submit>\\n</function>",
    ], name="slow")
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=sys.argv[1])
        rollouts = collector.collect(lab.Agent(slow), tasks, attempts={attempts}, progress=False)
        print(len(rollouts), collector.executed, len(rollouts.not_graded))
"""


def start(run_dir: Path, seconds: float = 0.5, attempts: int = 6) -> subprocess.Popen[str]:
    code = textwrap.dedent(SCRIPT).format(seconds=seconds, attempts=attempts)
    command = [sys.executable, "-c", code, str(run_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    with lab.SandboxFactory("namespace") as sandboxes:
        sandboxes.prepare(lab.load_tasks("demo").sample(2, seed=1))


def test_two_collectors_on_one_directory_make_each_attempt_once_and_both_return_all(tmp_path: Path) -> None:
    both = [start(tmp_path), start(tmp_path)]
    answers = [process.communicate(timeout=200) for process in both]
    counts = [list(map(int, out.split())) for out, _ in answers]
    assert all(total == 12 and left == 0 for total, _, left in counts), answers
    assert sum(executed for _, executed, _ in counts) == 12 and all(executed for _, executed, _ in counts)
    assert len((tmp_path / "attempts.jsonl").read_text().splitlines()) == len(lab.attach(tmp_path)) == 12
    assert not [file for file in (tmp_path / "claims").iterdir() if not file.name.startswith(".")]


def claimed(run_dir: Path) -> bool:
    folder = run_dir / "claims"
    return folder.is_dir() and any(len(file.name) == 32 and file.suffix == "" for file in folder.iterdir())


def test_what_a_killed_collector_had_begun_is_made_by_the_other(tmp_path: Path) -> None:
    killed = start(tmp_path, 600.0, 1)
    while not claimed(tmp_path):
        assert killed.poll() is None
        time.sleep(0.05)
    with lab.SandboxFactory("namespace") as sandboxes:
        tasks = lab.load_tasks("demo").sample(2, seed=1)
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path)
        script = [
            "<function=bash>\n<parameter=command>\nsleep 600.0\n</parameter>\n</function>",
            "<function=submit>\n</function>",
        ]
        slow = lab.Agent(lab.ScriptedPolicy(script, name="slow"))
        handle = collector.submit(slow, tasks, attempts=1)
        time.sleep(2.0)
        assert not handle.done and collector.executed == 0
        assert not list((tmp_path / "going").glob(f"{os.getpid()}-*/*.jsonl")), "it waits for the other's attempts"
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        ends = time.monotonic() + 60
        while not list((tmp_path / "going").glob(f"{os.getpid()}-*/*.jsonl")):
            assert time.monotonic() < ends, "nobody took the dead collector's attempts over"
            time.sleep(0.1)
        handle.cancel()
        collector.close()


def test_claims_of_the_living_hold_and_those_of_the_dead_do_not(tmp_path: Path) -> None:
    first, second = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    assert first.take(("task", 0)) and not second.take(("task", 0)) and not first.take(("task", 0))
    assert second.take(("task", 1)) and not second.free(("task", 0)) and second.free(("task", 2))
    first.release(("task", 0))
    assert second.take(("task", 0))
    code = "import sys, os; from pathlib import Path; from swebench_lab.rollouts.store.claims import Claims\n"
    code += "claims = Claims(Path(sys.argv[1])); assert claims.take(('task', 7)); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "claims")], check=False)
    assert first.free(("task", 7)) and first.take(("task", 7)) and not second.take(("task", 7))
    second.close()
    assert first.take(("task", 1))


def test_attempts_whose_set_up_failed_are_made_again_by_the_next_run_and_it_says_so(tmp_path: Path) -> None:
    """A repository that is not there yet: the second run finds it."""
    task = lab.load_tasks("demo").sample(1, seed=1)[0]
    agent = lab.Agent(lab.NullPolicy())
    hopeless = replace(task, setup_patch="--- a/no\n+++ b/no\n@@ -1 +1 @@\n-a\n+b\n")
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path)
        (first,) = collector.collect(agent, hopeless, progress=False)
        assert first.verdict.status == "not graded" and first.trajectory.snapshot == "" and collector.remarks == ()
        (second,) = collector.collect(agent, task, progress=False)
        assert second.verdict.status == "unresolved" and collector.executed == 1
        assert "1 attempts of an earlier run ended in a set-up failure: they are made again" in collector.remarks
        assert len(lab.attach(tmp_path)) == 1, "the failed attempt is no second one"
        collector.collect(agent, task, progress=False)
        assert collector.executed == 0 and collector.remarks == ()


def test_other_attempts_that_were_not_graded_stay_and_it_says_how_they_are_made_again(tmp_path: Path) -> None:
    task = lab.load_tasks("demo").sample(1, seed=1)[0]

    def answer(view: object, messages: object, step: int) -> str:
        raise RuntimeError("down")

    agent = lab.Agent(lab.ScriptedPolicy(answer, name="down"))
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, run_dir=tmp_path)
        collector.collect(agent, task, progress=False)
        collector.collect(agent, task, progress=False)
        assert collector.executed == 0 and "retry=True makes them again" in collector.remarks[0]
        collector.collect(agent, task, progress=False, retry=True)
        assert collector.executed == 1 and len(lab.attach(tmp_path)) == 1
