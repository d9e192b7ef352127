"""Long logs are judged in another process: the same verdicts, and no log that holds up or fills this one."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swebench_lab.errors import GradingError
from swebench_lab.grading import judge_process
from swebench_lab.grading.execution.test_run import TestRun
from swebench_lab.grading.judge import judge, judge_log
from swebench_lab.grading.judge_process import JudgeProcess, judge_apart, judge_log_apart
from swebench_lab.grading.rules.expectation import Expectation
from swebench_lab.grading.rules.log_parsers import parse_log
from swebench_lab.records.verdict import Cause

EXPECTED = Expectation(("tests/test_a.py::test_a",), ())
SUMMARY = "=== short test summary info ===\nPASSED tests/test_a.py::test_a\n=== 1 passed in 0.01s ===\n"
LONG = TestRun("some line\n" * 1000 + SUMMARY, exit_code=0)
STALLS = {
    "parse_log_django": " ... Testing against Django installed in \n" * 60_000,
    "parse_log_sympy": " " * 4000 + ".py:" * 4000 + "\n",
}
"""What takes SWE-bench's parser of that name far too long: minutes, or hours."""


def test_verdicts_are_those_of_the_judge() -> None:
    assert judge_apart(LONG, EXPECTED) == judge(LONG, EXPECTED)
    assert judge_apart(LONG, EXPECTED).resolved
    log = LONG.to_log()
    assert judge_log_apart(log, EXPECTED) == judge_log(log, EXPECTED)
    with pytest.raises(GradingError, match="no parser is called 'none'"):
        judge_apart(LONG, Expectation(("a",), (), "none"))


def test_a_process_serves_many_and_threads_share_none() -> None:
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda _: judge_apart(LONG, EXPECTED), range(12)))
    assert all(verdict.resolved for verdict in verdicts)
    assert 1 <= len(judge_process._idle) <= max(2, os.cpu_count() or 1)


@pytest.mark.parametrize("parser", STALLS)
def test_a_log_that_stalls_a_parser_holds_up_nothing(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_process, "MOST_SECONDS", 1.0)
    ticks: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        verdict = pool.submit(judge_apart, TestRun(STALLS[parser], 1), Expectation(("a",), (), parser))
        while not verdict.done():
            ticks.append(time.monotonic())
            time.sleep(0.05)
    assert (verdict.result().status, verdict.result().cause) == ("not graded", Cause.CRASHED)
    assert "more than 1 s" in verdict.result().reason
    assert len(ticks) > 3, "other threads went on"
    monkeypatch.undo()
    assert judge_apart(LONG, EXPECTED).resolved, "the next one is judged by a process that works"


def test_a_process_that_is_killed_while_idle_is_replaced() -> None:
    assert judge_apart(LONG, EXPECTED).resolved
    for process in judge_process._idle:
        process._process.kill()
        process._process.wait()
    assert judge_apart(LONG, EXPECTED).resolved


def test_a_process_that_is_killed_from_outside_is_never_held_against_the_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ask = JudgeProcess.ask

    def killed(self: JudgeProcess, question: object, seconds: float) -> object:
        asked.append(self._process.pid)
        if len(asked) in deaths:
            self._process.kill()
        return ask(self, question, seconds)

    monkeypatch.setattr(JudgeProcess, "ask", killed)
    deaths = {1}
    assert judge_apart(LONG, EXPECTED).resolved, "it is asked again"
    deaths = {3, 4}
    with pytest.raises(GradingError, match="ended twice, the last time with -9, and not by what it read"):
        judge_apart(LONG, EXPECTED)
    assert len(asked) == 4 and len(set(asked)) == 3, "the one that answered was asked again"


def test_a_machine_that_stands_still_is_not_held_against_the_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_process, "MOST_SECONDS", 1.0)
    process = JudgeProcess()
    os.kill(process._process.pid, signal.SIGSTOP)
    threading.Timer(2.0, os.kill, (process._process.pid, signal.SIGCONT)).start()
    assert process.ask((judge, (LONG, EXPECTED)), 1.0) == judge(LONG, EXPECTED)
    process.end()
    process.end()


def test_a_line_as_long_as_a_log_takes_no_more_memory_than_the_log(tmp_path: Path) -> None:
    line = "FAILED a [" + " - a" * 500_000
    tests = parse_log("pytest", f"{SUMMARY}=== short test summary info ===\n{line}\n")
    assert tests == {"a [": "FAILED"}
