"""Adversarial and honest test logs with the verdict each must get, and where SWE-bench's own rules say otherwise."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.config.findpaths import load_config_dict_from_file
from hypothesis import given, settings
from hypothesis import strategies as st

from swebench_lab.errors import GradingError
from swebench_lab.grading.execution import planted, scripts, test_command, test_run
from swebench_lab.grading.execution.results import Results, read_results, seal
from swebench_lab.grading.execution.test_run import TestRun
from swebench_lab.grading.judge import judge, judge_log
from swebench_lab.grading.rules.expectation import Expectation
from swebench_lab.grading.rules.log_parsers import parse_log, parsers
from swebench_lab.records.verdict import Cause

A, B, C = "tests/test_x.py::test_a", "tests/test_x.py::test_b", "tests/test_x.py::test_c"


def summary(*lines: str, before: str = "", tail: str = "==== 1 passed in 0.12s ====") -> str:
    head = "============================= test session starts ==============================\ncollected 3 items\n"
    return "\n".join(
        [head, before, "=========================== short test summary info ============================", *lines, tail]
    )


def reported(*pairs: tuple[str, str], **changes: object) -> Results:
    """Results that a healthy run sends over the separate descriptor."""
    return Results(**{"started": True, "finished": True, "exit_code": 0, "outcomes": pairs, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """One log and what must be said of it."""

    name: str
    output: str
    status: str
    official: str
    exit_code: int | None = 0
    f2p: tuple[str, ...] = (A,)
    p2p: tuple[str, ...] = (B,)
    parser: str = "pytest"
    eval_type: str = "pass_and_fail"
    reason: str = ""
    results: Results | None = None
    expects_results: bool = False
    run: dict[str, object] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    why: str = ""
    """Why SWE-bench's answer differs; required where it does."""

    @property
    def expectation(self) -> Expectation:
        return Expectation(self.f2p, self.p2p, self.parser, self.eval_type, files=self.files)

    @property
    def test_run(self) -> TestRun:
        values = {"results": self.results, "results_expected": self.expects_results, **self.run}
        return TestRun(self.output, self.exit_code, **values)  # type: ignore[arg-type]


GOOD = (f"PASSED {A}", f"PASSED {B}")
INVALID = (
    "SWE-bench knows two outcomes, so a log it cannot use is unresolved; it is a fault of the run, not of the patch"
)
UNSEEN = "SWE-bench trusts the log alone; the outcomes that pytest sent over the separate descriptor contradict it"

CASES = [
    # --- honest runs
    Case("everything passes", summary(*GOOD), "resolved", "resolved"),
    Case("the deciding test still fails", summary(f"PASSED {B}", f"FAILED {A} - assert 1 == 2"), "unresolved", "unresolved", 1, reason="(FAILED)"),
    Case("a kept test breaks", summary(f"PASSED {A}", f"FAILED {B} - boom"), "unresolved", "unresolved", 1, reason="go on passing"),
    Case("both kinds break", summary(f"FAILED {A}", f"FAILED {B}"), "unresolved", "unresolved", 1, reason="; "),
    Case("a test outside the task fails", summary(*GOOD, f"FAILED {C} - boom"), "resolved", "resolved", 1),
    Case("only some deciding tests pass", summary(f"PASSED {A}", f"PASSED {B}", f"FAILED {C}"), "unresolved", "unresolved", 1, f2p=(A, C), reason="1 of 2"),
    Case("no kept tests at all", summary(f"PASSED {A}"), "resolved", "resolved", p2p=()),
    Case("no deciding tests at all", summary(f"PASSED {B}"), "resolved", "resolved", f2p=()),
    # --- ids
    Case("an id with spaces", summary(f"PASSED {A}[a b c]"), "resolved", "resolved", f2p=(f"{A}[a b c]",), p2p=()),
    Case(
        "an id with two spaces in a row", summary(f"PASSED {A}[a  b]"), "resolved", "unresolved", f2p=(f"{A}[a  b]",), p2p=(),
        why="SWE-bench's parser joins the words of a line with single spaces, so it never sees the true id",
    ),
    Case("an id with a dash passes", summary(f"PASSED {A}[x - y]"), "resolved", "resolved", f2p=(f"{A}[x - y]",), p2p=()),
    Case("an id with a dash fails", summary(f"FAILED {A}[x - y] - assert 'a - b'"), "unresolved", "unresolved", 1, f2p=(f"{A}[x - y]",), p2p=(), reason="(FAILED)"),
    Case("an id with brackets inside brackets", summary(f"PASSED {A}[[1]-[2]]"), "resolved", "resolved", f2p=(f"{A}[[1]-[2]]",), p2p=()),
    Case("an id with an escaped letter", summary(f"PASSED {A}[\\xe9]"), "resolved", "resolved", f2p=(f"{A}[\\xe9]",), p2p=()),
    Case("an id with a letter beyond ASCII", summary(f"PASSED {A}[é→日]"), "resolved", "resolved", f2p=(f"{A}[é→日]",), p2p=()),
    Case("an id with colons in its parameter", summary(f"PASSED {A}[a::b]"), "resolved", "resolved", f2p=(f"{A}[a::b]",), p2p=()),
    Case("an id with an empty parameter", summary(f"PASSED {A}[]"), "resolved", "resolved", f2p=(f"{A}[]",), p2p=()),
    Case("an id that says PASSED", summary(f"FAILED {A}[PASSED] - x"), "unresolved", "unresolved", 1, f2p=(f"{A}[PASSED]",), p2p=()),
    Case("the same test name in two files", summary("PASSED tests/one.py::test_a", "FAILED tests/two.py::test_a"), "unresolved", "unresolved", 1, f2p=("tests/one.py::test_a",), p2p=("tests/two.py::test_a",)),
    Case("an id that is the beginning of another", summary(f"PASSED {A}_more"), "unresolved", "unresolved", p2p=(), reason="not in the log"),
    Case("a truncated id whose candidates all pass", summary(f"PASSED {A}[log(ph - 1)]", f"PASSED {A}[log(ph - 2)]", f"PASSED {B}"), "resolved", "resolved", f2p=(f"{A}[log(ph",)),
    Case("a truncated id whose candidates disagree", summary(f"PASSED {A}[log(ph - 1)]", f"FAILED {A}[log(ph - 2)]", f"PASSED {B}"), "unresolved", "unresolved", 1, f2p=(f"{A}[log(ph",)),
    Case("a truncated id that matches nothing", summary(f"PASSED {B}"), "unresolved", "unresolved", f2p=(f"{A}[log(ph",)),
    Case("a whole id is never matched by prefix", summary(f"PASSED {A}[1]", f"PASSED {B}"), "unresolved", "unresolved"),
    # --- skipped, expected failures
    Case("a deciding test is skipped", summary(f"SKIPPED {A} - no", f"PASSED {B}"), "unresolved", "unresolved", reason="(SKIPPED)"),
    Case(
        "a kept test is skipped", summary(f"PASSED {A}", f"SKIPPED {B} - no network"), "resolved", "unresolved",
        why="SWE-bench means a skipped kept test to be maintained, but its parser takes the reason for a part of the id",
    ),
    Case("a kept test is skipped, without a reason", summary(f"PASSED {A}", f"SKIPPED {B}"), "resolved", "resolved"),
    Case("skipped ids were folded away", summary(f"PASSED {A}", "SKIPPED [1] tests/test_x.py:7: no"), "unresolved", "unresolved", reason="not in the log"),
    Case("everything is skipped and pytest ends with 0", summary(f"SKIPPED {A}", f"SKIPPED {B}"), "unresolved", "unresolved"),
    Case("a deciding test fails as expected", summary(f"XFAIL {A}", f"PASSED {B}"), "resolved", "resolved"),
    Case(
        "a kept test fails as expected, with a reason", summary(f"PASSED {A}", f"XFAIL {B} - later"), "resolved", "unresolved",
        why="SWE-bench's parser takes the reason for a part of the id",
    ),
    Case(
        "a kept test passes against expectation", summary(f"PASSED {A}", f"XPASS {B} - later"), "resolved", "unresolved",
        why="SWE-bench does not know XPASS, so the test is absent; pytest counts it as passed",
    ),
    Case("a strict expected failure passes", summary(f"PASSED {A}", f"FAILED {B} - [XPASS(strict)] later"), "unresolved", "unresolved", 1),
    Case("xfail, skip and pass mixed", summary(f"PASSED {A}", f"XFAIL {B}", f"SKIPPED {C}"), "resolved", "resolved", p2p=(B, C)),
    # --- errors
    Case("the file cannot be collected", summary("ERROR tests/test_x.py - ImportError: no", tail="==== 1 error in 0.1s ===="), "unresolved", "unresolved", 2, reason="not in the log"),
    Case("a fixture breaks", summary(f"ERROR {A} - RuntimeError", f"PASSED {B}"), "unresolved", "unresolved", 1, reason="(ERROR)"),
    Case(
        "the teardown of a passed test breaks", summary(*GOOD, f"ERROR {A} - RuntimeError: t"), "unresolved", "resolved", 1, reason="(ERROR)",
        why="SWE-bench's parser keeps the message of an ERROR line in the id, so it sees only that the test passed",
    ),
    Case("conftest.py cannot be loaded", "ImportError while loading conftest '/testbed/conftest.py'.\nE   ValueError: no", "not graded", "unresolved", 4, reason="ValueError: no", why=INVALID),
    Case("the tests were not found", "ERROR: file or directory not found: tests/test_x.py\n", "not graded", "unresolved", 4, reason="names no test", why=INVALID),
    Case("pytest is not installed", "/opt/venv/bin/python: No module named pytest\n", "not graded", "unresolved", 1, reason="exit code 1", why=INVALID),
    Case("nothing was collected", "collected 0 items\n==== no tests ran in 0.01s ====", "not graded", "unresolved", 5, reason="no tests collected", why=INVALID),
    Case("an empty log", "", "not graded", "unresolved", 0, reason="names no test", why=INVALID),
    Case("an empty log and a crash", "", "not graded", "unresolved", 139, reason="signal 11", why=INVALID),
    Case("the machine ran out of memory", "OutOfMemoryError\n", "not graded", "unresolved", 1, reason="out of memory", why=INVALID),
    Case("a crash after the last test", summary(*GOOD) + "\nFatal Python error: Segmentation fault\n", "not graded", "unresolved", 139, reason="signal 11", why=INVALID),
    Case("a non-zero exit with no failure", summary(*GOOD), "not graded", "unresolved", 1, reason="reports no failure", why=INVALID),
    Case("a crash in the middle", "tests/test_x.py .Fatal Python error: Aborted\n", "not graded", "unresolved", 134, reason="signal 6", why=INVALID),
    Case("an internal error of pytest", "INTERNALERROR> Traceback\nINTERNALERROR> KeyError: 1\n", "not graded", "unresolved", 3, why=INVALID),
    Case("the tests timed out", "tests/test_x.py .", "not graded", "unresolved", None, run={"timed_out": True, "seconds": 60.0}, reason="stopped after 60 s", why=INVALID),
    Case("the tests timed out after all had passed", summary(*GOOD), "not graded", "resolved", None, run={"timed_out": True, "seconds": 60.0}, why="SWE-bench's harness raises on a time-out before it reads the log; the log alone looks complete"),
    Case("the memory limit was reached", summary(*GOOD), "not graded", "resolved", None, run={"limit": "memory"}, reason="memory limit", why="SWE-bench's containers have no such limit, so its rules do not know one"),
    Case("pytest stops at an exit in the code", "INTERNALERROR> SystemExit: 0\n", "unresolved", "unresolved", 3, results=reported(exit_code=3), expects_results=True, reason="before it could report"),
    Case("pytest stops at an interrupt in a test", "!!! KeyboardInterrupt !!!\nno tests ran\n", "unresolved", "unresolved", 2, results=reported(exit_code=2, running=A), expects_results=True, reason=A),
    Case("the whole module is skipped", summary("SKIPPED tests/test_x.py - no"), "unresolved", "unresolved", 5, results=reported(("tests/test_x.py", "SKIPPED"), exit_code=5), expects_results=True, reason="not in the log"),
    Case("all tests pass, yet pytest ends with a failure", summary(*GOOD), "not graded", "unresolved", 1, results=reported((A, "PASSED"), (B, "PASSED"), exit_code=1), reason="all tests passed, yet", why=INVALID),
    Case("the log is silent about tests that passed", "", "not graded", "unresolved", 1, results=reported((A, "PASSED"), (B, "PASSED")), reason="suspected forgery", why=INVALID),
    Case("a sealed line was changed and the log is silent", "", "not graded", "unresolved", 1, results=Results(started=True, fault="line 1"), reason="suspected forgery: line 1", why=INVALID),
    # --- form
    Case("colours", "\n".join(f"\x1b[32mPASSED\x1b[0m {test}" for test in (A, B)).join([summary().split("====\n")[0] + "\n\x1b[36m=== short test summary info ===\x1b[0m\n", "\n\x1b[32m=== \x1b[32m\x1b[1m2 passed\x1b[0m in 0.1s ==="]), "resolved", "resolved"),
    Case("colours in several numbers", "\x1b[1;36m=== short test summary info ===\x1b[0m\n\x1b[1;32mPASSED\x1b[0m " + A + f"\n\x1b[1;32mPASSED\x1b[0m {B}\n", "resolved", "unresolved", why="SWE-bench's parser only removes colours of a single number"),
    Case("carriage returns", summary(*GOOD).replace("\n", "\r\n"), "resolved", "resolved"),
    Case("no newline at the end", summary(*GOOD, tail="==== 2 passed in 1.00s (0:00:01) ===="), "resolved", "resolved"),
    Case("a quiet run", f"..\n=== short test summary info ===\nPASSED {A}\nPASSED {B}\n2 passed in 0.01s", "resolved", "resolved"),
    Case("bytes that are no text", summary(*GOOD, before="\ufffd\ufffd \x00"), "resolved", "resolved"),
    Case("an old pytest names outcomes last", f"{A} PASSED\n{B} PASSED\n", "resolved", "resolved"),
    # --- lines that the code under test prints
    Case("printed lines say that a failing test passed", summary(f"FAILED {A} - no", f"PASSED {B}", before=f"PASSED {A}"), "unresolved", "unresolved", 1, results=reported((A, "FAILED"), (B, "PASSED"), exit_code=1)),
    Case(
        "printed lines name a test that did not run", summary(f"PASSED {B}", before=f"PASSED {A}"), "unresolved", "resolved", results=reported((B, "PASSED")), reason="not in the log",
        why="SWE-bench's parser reads the whole output, printed lines included; ours reads pytest's last summary",
    ),
    Case("printed lines between honest ones", summary(*GOOD, before="FAILED to connect\nPASSED\nERROR"), "resolved", "resolved", results=reported((A, "PASSED"), (B, "PASSED"))),
    Case(
        "a second summary after the real one", summary(f"FAILED {A}", f"PASSED {B}") + "\n" + summary(*GOOD), "not graded", "resolved", 0, results=reported((A, "FAILED"), (B, "PASSED"), exit_code=1), expects_results=True,
        reason="suspected forgery", why=UNSEEN,
    ),
    Case(
        "a second summary, and no separate results to compare", summary(f"FAILED {A}", f"PASSED {B}") + "\n" + summary(*GOOD), "not graded", "resolved", 0,
        reason="both that", why="SWE-bench lets the later line win; one log that says both of a test is not pytest's",
    ),
    Case("an early exit with a made-up summary", summary(*GOOD), "not graded", "resolved", 0, results=reported(finished=False, exit_code=None, running=A), reason="did not finish", why=UNSEEN),
    Case("the separate results lack a test", summary(*GOOD), "not graded", "resolved", 0, results=reported((B, "PASSED")), reason="separate results say", why=UNSEEN),
    Case("the separate results are forged instead", summary(f"FAILED {A}", f"PASSED {B}"), "not graded", "unresolved", 1, results=reported((A, "PASSED"), (B, "PASSED")), reason="suspected forgery", why="SWE-bench has no second path"),
    Case("a sealed line was changed", summary(*GOOD), "not graded", "resolved", 0, results=Results(started=True, fault="line 3 of the separate results does not carry its seal"), reason="seal", why=UNSEEN),
    Case("settings hide the summary", "1 passed in 0.1s", "not graded", "unresolved", 0, results=reported((A, "PASSED"), (B, "PASSED")), expects_results=True, reason="reported 2: a setting such as --no-summary", why=INVALID),
    Case("pytest was replaced by a script that prints", summary(*GOOD), "not graded", "resolved", 0, results=Results(), expects_results=True, reason="never loaded what reports", why=UNSEEN),
    Case("an exit without a word", "", "not graded", "unresolved", 0, results=reported(finished=False, running=A), reason=f"suspected forgery: .*{A}", why=INVALID),
    Case("SWE-bench's markers are printed by a test", summary(*GOOD, before="PASSED other\n>>>>> End Test Output"), "resolved", "unresolved", results=reported((A, "PASSED"), (B, "PASSED")), why="SWE-bench cuts the log at the first end marker, so a test that prints one hides all the rest"),
    Case("a test prints that applying failed", summary(*GOOD, before=">>>>> Patch Apply Failed"), "resolved", "unresolved", results=reported((A, "PASSED"), (B, "PASSED")), why="SWE-bench looks for its fault markers anywhere in the log"),
    Case("the shell was killed", summary(*GOOD), "not graded", "resolved", 0, run={"fault": "the shell that ran the tests was ended by SIGKILL"}, reason="shell", why="SWE-bench does not see it"),
    Case("a kept test is skipped, its id folded away", summary(f"PASSED {A}", "SKIPPED [1] tests/test_x.py:7: no"), "resolved", "unresolved", results=reported((A, "PASSED"), (B, "SKIPPED")), why="the log does not name the skipped test, the separate results do; by SWE-bench's own rule it is maintained"),
    Case("a deciding test is skipped, its id folded away", summary(f"PASSED {B}", "SKIPPED [1] tests/test_x.py:7: no"), "unresolved", "unresolved", results=reported((A, "SKIPPED"), (B, "PASSED")), reason="(SKIPPED)"),
    Case("the teardown breaks in both", summary(*GOOD, f"ERROR {A} - x"), "unresolved", "resolved", 1, results=reported((A, "PASSED"), (A, "ERROR"), (B, "PASSED"), exit_code=1), why="as above: the message of an ERROR line stays in SWE-bench's id"),
    # --- pytest's own suite prints the logs of small suites, and SWE-bench's datasets took their lines for tests
    Case("a printed log's test is expected", f"PASSED test_inner.py::test_hello\nPASSED [100%]\nPASSED {A}\n", "resolved", "resolved", p2p=("test_inner.py::test_hello", "[100%]"), parser="parse_log_pytest", results=reported((A, "PASSED")), files=("tests/test_x.py",)),
    Case("a printed log's test is expected and missing", f"PASSED {A}\n", "unresolved", "unresolved", p2p=("test_inner.py::test_hello",), parser="parse_log_pytest", results=reported((A, "PASSED")), files=("tests/test_x.py",), reason="not in the log"),
    Case("a test that is run is never taken for a printed one", f"PASSED {A}\nPASSED test_inner.py::test_hello\n", "not graded", "resolved", p2p=("test_inner.py::test_hello",), parser="parse_log_pytest", results=reported((A, "FAILED"), exit_code=1), files=("tests/test_x.py",), reason="separate results say", why=UNSEEN),
    Case("files named in another way excuse nothing", f"PASSED {A}\n", "not graded", "resolved", p2p=(), parser="parse_log_pytest", results=reported(), files=("x",), reason="separate results say", why=UNSEEN),
    # --- SWE-bench's other parsers and rules
    Case("a truncated id through SWE-bench's parser", f"PASSED {A}[a b]\nPASSED {B}\n", "resolved", "resolved", f2p=(f"{A}[a",), parser="parse_log_pytest"),
    Case("ids that collide when truncated", f"PASSED {A}[a b]\nFAILED {A}[a c] - x\n", "unresolved", "unresolved", 1, f2p=(f"{A}[a",), p2p=(), parser="parse_log_pytest"),
    Case("colours through a parser that does not know them", f"\x1b[32mPASSED\x1b[0m {A}\n\x1b[32mPASSED\x1b[0m {B}\n", "resolved", "unresolved", parser="parse_log_pytest", why="SWE-bench finds no line to read; we read the log again without colours"),
    Case("a path in an option", "PASSED t.py::test_a[/tmp/x/y/z]\n", "resolved", "resolved", f2p=("t.py::test_a[/z]",), p2p=(), parser="parse_log_pytest_options"),
    Case("django", "test_a (m.T) ... ok\ntest_b (m.T) ... skipped 'no'\n", "resolved", "resolved", f2p=("test_a (m.T)",), p2p=("test_b (m.T)",), parser="parse_log_django"),
    Case("django with output between dots and ok", "test_a (m.T) ... Testing against Django installed in /x\nok\n", "resolved", "resolved", f2p=("test_a (m.T)",), p2p=(), parser="parse_log_django"),
    Case("a line that breaks SWE-bench's parser", "test_a (m.T) ... ok\nFAIL:\n", "not graded", "unresolved", f2p=("test_a (m.T)",), p2p=(), parser="parse_log_django", reason="cannot read the log", why=INVALID),
    Case("sympy, the same name in two files", "a.py[1]\ntest_x F\nb.py[1]\ntest_x ok\n", "resolved", "resolved", f2p=("test_x",), p2p=(), parser="parse_log_sympy"),
    Case("only failures are logged, and none is", "Executed 12 of 12 SUCCESS\n", "not graded", "resolved", parser="parse_log_karma", eval_type="fail_only", reason="in no way", why="SWE-bench takes silence for success, so one printed line would do; here every expected test must be named"),
    Case("only failures are logged, and every test is named", f"PASSED {A}\nPASSED {B}\n", "resolved", "resolved", parser="parse_log_pytest", eval_type="fail_only"),
    Case("only failures are logged, and nothing ran", "Executed 0 of 0\n", "not graded", "unresolved", 1, parser="parse_log_karma", eval_type="fail_only", why=INVALID),
    Case("results through SWE-bench's parser disagree", f"PASSED {A}\nPASSED {B}\n", "not graded", "resolved", results=reported((A, "FAILED"), (B, "PASSED"), exit_code=1), parser="parse_log_pytest", reason="suspected forgery", why=UNSEEN),
    Case("results through SWE-bench's parser agree", f"PASSED {A}[a b]\nPASSED {B}\n", "resolved", "resolved", f2p=(f"{A}[a",), results=reported((f"{A}[a b]", "PASSED"), (B, "PASSED")), parser="parse_log_pytest"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_verdict(case: Case) -> None:
    verdict = judge(case.test_run, case.expectation)
    assert (verdict.status, verdict.official) == (case.status, case.official), verdict.reason
    if case.reason:
        import re

        assert re.search(case.reason if ".*" in case.reason else re.escape(case.reason), verdict.reason), verdict.reason
    assert bool(verdict.reason) == (verdict.status != "resolved")
    assert bool(case.why) == (case.status != case.official), (
        "a difference from SWE-bench must be explained, and only that"
    )


CAUSES = {
    **dict.fromkeys(("the tests timed out", "the tests timed out after all had passed"), Cause.TIMED_OUT),
    **dict.fromkeys(
        ("the machine ran out of memory", "a line that breaks SWE-bench's parser"),
        Cause.INFRASTRUCTURE,
    ),
    **dict.fromkeys(
        (
            "conftest.py cannot be loaded",
            "the tests were not found",
            "pytest is not installed",
            "nothing was collected",
            "an empty log",
            "an empty log and a crash",
            "a crash after the last test",
            "a non-zero exit with no failure",
            "a crash in the middle",
            "an internal error of pytest",
            "the memory limit was reached",
            "all tests pass, yet pytest ends with a failure",
            "the shell was killed",
            "settings hide the summary",
            "only failures are logged, and nothing ran",
            "only failures are logged, and none is",
        ),
        Cause.CRASHED,
    ),
}
"""What the cases that are not graded and not forged rest on."""


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_cause_says_what_the_status_rests_on(case: Case) -> None:
    verdict = judge(case.test_run, case.expectation)
    if verdict.graded:
        assert verdict.cause is Cause.TESTS and case.name not in CAUSES
    else:
        assert verdict.cause is CAUSES.get(case.name, Cause.FORGED), verdict.reason
        assert (verdict.cause is Cause.FORGED) == any(
            words in verdict.reason for words in ("suspected forgery", "pytest.xfail")
        )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_stored_log_gives_the_same_verdict(case: Case) -> None:
    run = case.test_run
    assert TestRun.from_log(run.to_log()) == run
    assert judge_log(run.to_log(), case.expectation) == judge(run, case.expectation)


LINES = [f"{status} {test}{rest}" for status in ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")
         for test in (A, B, f"{A}[x y]", f"{B}[") for rest in ("", " - no")]  # fmt: skip
LINES += [
    "",
    "some output",
    "SKIPPED [2] tests/test_x.py:3: no",
    "=== 3 passed in 0.1s ===",
    f"{A} PASSED",
    f"{B} FAILED",
]


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=8),
    code=st.sampled_from([0, 0, 1, 2, 139]),
    parser=st.sampled_from(
        ["parse_log_pytest", "parse_log_pytest_v2", "parse_log_pytest_options", "parse_log_seaborn"]
    ),
    f2p=st.sampled_from([(A,), (f"{A}[x",), (A, B)]),
    p2p=st.sampled_from([(), (B,), (f"{B}[",)]),
)
@settings(max_examples=100, deadline=None)
def test_with_swebench_s_parsers_resolved_means_what_swebench_means(lines, code, parser, f2p, p2p) -> None:  # type: ignore[no-untyped-def]
    verdict = judge(TestRun("\n".join(lines), code), Expectation(f2p, p2p, parser))
    assert (verdict.status == "resolved") == (verdict.official == "resolved")


def test_tests_of_r2e_gym_are_named_without_their_file() -> None:
    log = summary("PASSED r2e_tests/test_1.py::TestA::test_x[a - b]", "FAILED r2e_tests/test_1.py::test_y - no")
    assert parse_log("r2e", log) == {"TestA.test_x[a - b]": "PASSED", "test_y": "FAILED"}
    verdict = judge(TestRun(log, 1), Expectation(("TestA.test_x[a - b]",), (), "r2e"))
    assert (verdict.status, verdict.official) == ("resolved", ""), "SWE-bench's parsers do not know these names"


def test_there_are_at_least_fifty_adversarial_logs() -> None:
    assert len(CASES) >= 50
    assert len({case.name for case in CASES}) == len(CASES)


# --- logs of the harness itself ---------------------------------------------------------------------------------------


def harness_log(output: str, code: int | None = 0) -> str:
    tail = "" if code is None else f"{test_run.EXIT_CODE}: {code}\n"
    return f"+ git apply\n{test_run.START}\n{output}\n{test_run.END}\n{tail}"


TASK = Expectation((A,), (B,))


@pytest.mark.parametrize(
    ("log", "status", "applied", "cause"),
    [
        (harness_log(summary(*GOOD)), "resolved", None, "tests"),
        (harness_log(summary(*GOOD), None), "resolved", None, "tests"),
        (harness_log(summary(*GOOD), 1), "not graded", None, "crashed"),
        (f"{test_run.APPLY_FAILED}:\nerror: patch failed: a.py:1\n", "unresolved", False, "not_applied"),
        (summary(*GOOD), "not graded", None, "infrastructure"),
        (f"{test_run.START}\n{summary(*GOOD)}", "not graded", None, "infrastructure"),
        (harness_log(summary(*GOOD)) + ">>>>> Tests Timed Out", "not graded", None, "timed_out"),
        (harness_log(summary(*GOOD)) + ">>>>> Reset Failed", "not graded", None, "infrastructure"),
        ("tests/test_x.py .\n\nTimeout error: 1800 seconds exceeded.", "not graded", None, "timed_out"),
    ],
)
def test_logs_of_the_harness_can_be_graded(log: str, status: str, applied: bool | None, cause: str) -> None:
    verdict = judge_log(log, TASK)
    assert (verdict.status, verdict.patch_applied, verdict.cause) == (status, applied, cause)
    if status == "resolved":
        assert verdict.official == "resolved"


def test_a_damaged_stored_log_is_an_error() -> None:
    log = TestRun(summary(*GOOD), 0).to_log()
    with pytest.raises(GradingError, match="head line is damaged"):
        judge_log(log.replace('{"setup"', '{"setup', 1), TASK)


def test_nothing_printed_by_tests_can_pass_for_another_part_of_a_stored_log() -> None:
    forged = f"{test_run.END}\n{test_run.EXIT_CODE}: 0\n>>>>> Results over the separate descriptor\n{{}}\n"
    run = TestRun(forged, 1, setup=f"{test_run.START}\n", results=reported((A, "FAILED")))
    assert TestRun.from_log(run.to_log()) == run


# --- parts ------------------------------------------------------------------------------------------------------------


def test_unknown_parser_and_evaluation_type_are_errors() -> None:
    with pytest.raises(GradingError, match="no parser is called 'nope'"):
        parse_log("nope", "")
    with pytest.raises(GradingError, match="eval_type 'nope'"):
        judge(TestRun(summary(*GOOD), 0), Expectation((A,), (), "pytest", "nope"))


def test_every_parser_of_the_installed_harness_can_be_named() -> None:
    assert parsers()[0] == "pytest"
    assert {"parse_log_pytest", "parse_log_django", "parse_log_gotest"} < set(parsers())
    by_task = {"parse_log_jekyll": "jekyll__jekyll-8047", "parse_log_immutable_js": "immutable-js__immutable-js-2005"}
    for name in parsers():
        assert parse_log(name, "", by_task.get(name, ""), "9.5") == {}


def test_constants_are_the_installed_harness_s() -> None:
    found = importlib.util.find_spec("swebench")
    assert found is not None
    assert found.submodule_search_locations
    root = Path(found.submodule_search_locations[0]) / "harness"

    def constant(file: str, name: str) -> object:
        tree = ast.parse((root / file).read_text("utf-8"))
        values = [n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == name]
        return ast.literal_eval(values[0])

    constants = "constants/__init__.py"
    assert constant(constants, "START_TEST_OUTPUT") == test_run.START
    assert constant(constants, "END_TEST_OUTPUT") == test_run.END
    assert constant(constants, "TEST_EXIT_CODE") == test_run.EXIT_CODE
    assert constant(constants, "APPLY_PATCH_FAIL") == test_run.APPLY_FAILED
    assert tuple(constant("run_evaluation.py", "GIT_APPLY_CMDS")) == scripts.APPLY_COMMANDS  # type: ignore[arg-type]


def test_rules_load_without_docker_and_leave_a_later_full_import_alone() -> None:
    code = (
        "import sys\nfrom swebench_lab.grading.rules.log_parsers import parse_log\nparse_log('parse_log_pytest', 'PASSED a')\n"
        "assert not {'docker', 'modal', 'datasets'} & set(sys.modules), 'the whole harness was imported'\n"
        "from swebench.harness import grading, docker_utils\nimport swebench.harness.grading as same\n"
        "assert same is grading and docker_utils.cleanup_container\nimport swebench.harness\n"
        "assert swebench.harness.reporting.__name__ == 'swebench.harness.reporting'\n"
        "assert not hasattr(swebench.harness, 'nothing_of_the_kind')\n"
        "from swebench.harness.run_evaluation import main\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


def test_the_harness_package_does_nothing_but_import_submodules() -> None:
    """So that a package which imports each of them when it is first asked for means the same."""
    spec = importlib.util.find_spec("swebench")
    assert spec is not None and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0]) / "harness"
    statements = ast.parse((root / "__init__.py").read_text("utf-8")).body
    imports = [node for node in statements if isinstance(node, ast.ImportFrom)]
    others = [node for node in statements if node not in imports]
    assert all(node.module == "swebench.harness" for node in imports)
    assert all(
        (root / alias.name).is_dir() or (root / f"{alias.name}.py").is_file() for n in imports for alias in n.names
    )
    assert [node.targets[0].id for node in others if isinstance(node, ast.Assign)] == ["__all__"]  # type: ignore[attr-defined]
    assert len(others) == 1


def test_rules_load_in_many_threads_at_once_beside_a_full_import() -> None:
    code = (
        "import threading\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from swebench_lab.grading.rules.swebench_rules import rules\nbarrier = threading.Barrier(8)\n"
        "def load(number):\n"
        "    barrier.wait()\n"
        "    if number % 2:\n"
        "        return rules().resolution\n"
        "    from swebench.harness import grading, docker_utils\n"
        "    return grading.get_resolution_status\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    assert len(set(pool.map(load, range(8)))) == 1\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


def sealed(key: str, *events: dict[str, object]) -> str:
    lines, previous = [], ""
    for event in events:
        body = json.dumps(event, sort_keys=True)
        previous = seal(key, previous, body)
        lines.append(f"{previous} {body}\n")
    return "".join(lines)


EVENTS = (
    {"event": "start"},
    {"event": "begin", "test": A},
    {"event": "outcome", "test": A, "status": "PASSED"},
    {"event": "done", "test": A},
    {"event": "end", "exit": 0},
)


def test_sealed_results_are_read() -> None:
    results = read_results(sealed("k", *EVENTS), "k")
    assert results == Results(True, True, 0, ((A, "PASSED"),), "")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("PASSED", "FAILED"),
        lambda t: "".join(t.splitlines(keepends=True)[1:]),
        lambda t: "".join(t.splitlines(keepends=True)[:2] + t.splitlines(keepends=True)[3:]),
        lambda t: t + t.splitlines(keepends=True)[2],
        lambda t: t + sealed("other", EVENTS[2]),
        lambda t: t + "\n",
    ],
    ids=["changed", "first dropped", "one dropped", "repeated", "added", "empty line"],
)
def test_changed_results_are_found_out(change) -> None:  # type: ignore[no-untyped-def]
    assert read_results(change(sealed("k", *EVENTS)), "k").fault


def test_results_cut_short_name_the_running_test() -> None:
    text = sealed("k", *EVENTS[:2]) + "half a li"
    assert read_results(text, "k") == Results(True, False, None, (), A)


def test_the_test_script_holds_no_secret_and_reads_none() -> None:
    script = scripts.test_script("python -m pytest", "/lab")
    assert "read " not in script
    assert not re.search(r"\b[0-9a-f]{24,}\b", script)
    assert scripts.test_script("./run", "/lab").split()[-3:] == ["./run", "exit", "$?"]


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ("diff --git a/.git/hooks/x b/.git/hooks/x\n--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n", True),
        ("--- /dev/null\n+++ b/sub/.git/config\n@@ -0,0 +1 @@\n+x\n", True),
        ("Index: .git/config\n@@ -0,0 +1 @@\n+x\n", True),
        ("diff --git a/x b/x\nrename from x\nrename to .git/x\n", True),
        ('diff --git "a/\\056git/x" "b/\\056git/x"\n--- /dev/null\n+++ "b/\\056git/x"\n@@ -0,0 +1 @@\n+x\n', True),
        ("--- a/.gitignore\n+++ b/.gitignore\n@@ -1 +1 @@\n-x\n+see a/.git/config\n", False),
        ("--- a/.github/x\n+++ b/.github/x\n@@ -1 +1 @@\n-x\n+.git\n", False),
    ],
)
def test_paths_in_the_repositorys_own_folder_are_found(patch: str, found: bool) -> None:
    assert bool(scripts.repository_paths(patch)) is found


@pytest.mark.parametrize(
    ("command", "yes"),
    [
        ("python -m pytest -rA", True),
        ("pytest -rA", True),
        ("/opt/venv/bin/pytest", True),
        ("py.test", True),
        ("PYTHONWARNINGS='x' bin/test -C --verbose", False),
        ("./tests/runtests.py --verbosity 2", False),
        ("tox --current-env -epy39 -v --", False),
        ("make mypytest", False),
    ],
)
def test_pytest_commands_are_known(command: str, yes: bool) -> None:
    assert test_command.runs_pytest(command) is yes


@pytest.mark.parametrize(
    ("command", "separately"),
    [
        ("python -m pytest -rA", True),
        ("./tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1", True),
        ("PYTHONWARNINGS='ignore::UserWarning' python bin/test -C --verbose", True),
        ("python -m unittest -v tests.test_unit 2>&1", True),
        ("nosetests -v", True),
        ("python manage.py test app", True),
        ("tox --current-env -epy39 -v --", False),
        ("npm test", False),
    ],
)
def test_commands_whose_runner_reports_by_itself_are_known(command: str, separately: bool) -> None:
    assert test_command.reports_separately(command) is separately


@pytest.mark.parametrize(
    ("command", "before", "state", "runner", "needed"),
    [
        ("python -m pytest -rA", "", "", "python -m pytest -rA", False),
        ("export A=1; cd src && pytest", "", "", "export A=1; cd src && pytest", False),
        ("python setup.py build_ext -i; pytest -q", "python setup.py build_ext -i", "", "pytest -q", False),
        ("pip install -e . && pytest -q", "pip install -e .", "", "pytest -q", True),
        ("export A=1\nmake\npytest -q\necho end", "export A=1\nmake", "export A=1", "pytest -q\necho end", False),
        ("echo 'a; pytest b'; pytest c", "echo 'a; pytest b'", "", "pytest c", False),
        (
            "pip install pytest && pytest -q; echo pytest done",
            "pip install pytest",
            "",
            "pytest -q; echo pytest done",
            True,
        ),
        ("(cd x; make); pytest", "(cd x; make)", "", "pytest", False),
        ("make; npm test", "", "", "make; npm test", False),
    ],
)
def test_steps_before_the_runner_are_cut_off(command: str, before: str, state: str, runner: str, needed: bool) -> None:
    steps = test_command.Steps.of(command)
    assert (steps.before, steps.state, steps.runner, steps.needed) == (before, state, runner, needed)


@pytest.mark.parametrize(
    ("command", "becomes"),
    [
        ("python -m pytest -rA 'tests/test_a b.py'", "exec python -m pytest -rA 'tests/test_a b.py'"),
        ("export A=1; cd src && pytest 2>&1", "export A=1; cd src && exec pytest 2>&1"),
        ("A='x; y' B= bin/test -C", "exec env A='x; y' B= bin/test -C"),
        ("./tests/runtests.py >log 2>&1 utils_tests", "exec ./tests/runtests.py >log 2>&1 utils_tests"),
        ("pytest | tee log", ""),
        ("pytest || true", ""),
        ("make; pytest", ""),
        ("pytest; echo done", ""),
        ("(cd src && pytest)", ""),
        ("if true; then pytest; fi", ""),
        ("pytest & wait", ""),
        ("export A=1", ""),
        ("pytest 'unclosed", ""),
    ],
)
def test_a_shell_becomes_the_runner_where_it_runs_nothing_else(command: str, becomes: str) -> None:
    assert " ".join(test_command.in_place_of_the_shell(command).split()) == becomes


def test_services_are_known_from_what_ends_before_the_tests() -> None:
    assert test_command.Steps.of("python -m httpbin.core >/dev/null 2>&1 &\npytest").leaves_services
    assert not test_command.Steps.of("make >/dev/null 2>&1 && pytest").leaves_services
    assert test_command.modules("python -m httpbin.core & python -m pytest") == {"httpbin", "pytest"}


def test_planted_files_are_recognised() -> None:
    added = [
        "conftest.py", "src/pkg/conftest.py", "sitecustomize.py", "x.pth", "pytest.ini", "pkg.egg-info/entry_points.txt",
        "tests/__pycache__/test_a.cpython-311.pyc", "src/pkg/a.pyc", "json.py", "pytest.py", "_pytest/__init__.py",
        "_pytest/main.py", "tests/random_helper.py", "tests/__init__.py", "tests/deep/er.py",
    ]  # fmt: skip
    honest = [
        "src/pkg/new.py",
        "docs/json.py",
        "src/pkg/json.py",
        "email/templates/a.txt",
        "tests/data/a.txt",
        "other/tests/a.py",
        "setup.cfg",
    ]
    assert set(planted.planted([*added, *honest], ["tests/test_a.py"])) == set(added)


SETTINGS = {
    "none": ("setup.cfg", "[metadata]\nname = x\n", False),
    "setup.cfg": ("setup.cfg", "[metadata]\nname = x\n[tool:pytest]\naddopts = -p evil\n[other]\n", True),
    "tox.ini": ("tox.ini", "[pytest]\naddopts = x\n[tox]\nenvlist = a\n", True),
    "form feeds": ("tox.ini", "[tox]\nx = 1\x0c[pytest]\x0caddopts = -p evil\n", True),
    "form feeds in setup.cfg": ("setup.cfg", "[metadata]\nx = 1\x0c[tool:pytest]\x0caddopts = -p evil\n", True),
    "carriage returns": ("tox.ini", "[tox]\nx = 1\r[pytest]\raddopts = -p evil\n", True),
    "a separator of lines": ("tox.ini", "[tox]\nx = 1\u2028[pytest]\u2028addopts = -p evil\n", True),
    "a vertical tab": ("setup.cfg", "[a]\nx = 1\x0b[tool:pytest]\x0baddopts = -p evil\n", True),
    "a comment after the header": ("tox.ini", "[pytest] # [tox]\naddopts = -p evil\n", True),
    "a table": ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '-p evil'\n[tool.ruff]\n", True),
    "quoted keys": ("pyproject.toml", '["tool"."pytest".ini_options]\naddopts = \'-p evil\'\n', True),
    "single quotes": ("pyproject.toml", "[tool.'pytest'.ini_options]\naddopts = '-p evil'\n", True),
    "an escape": ("pyproject.toml", "[tool.\"p\\u0079test\".ini_options]\naddopts = '-p evil'\n", True),
    "an inline table": ("pyproject.toml", "tool = {pytest = {ini_options = {addopts = '-p evil'}}}\n", True),
    "an inline table below": ("pyproject.toml", "[tool]\n\"pytest\" = {ini_options = {addopts = 'x'}}\n", True),
    "dotted keys": ("pyproject.toml", "\"tool\".pytest.ini_options.addopts = '-p evil'\n", True),
    "other tools": ("pyproject.toml", "[tool.ruff]\nline-length = 120\n", False),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_seen_wherever_pytest_itself_sees_them(name: str, tmp_path: Path) -> None:
    file, text, present = SETTINGS[name]
    path = tmp_path / file
    path.write_text(text, "utf-8", newline="")
    try:
        loaded = bool(load_config_dict_from_file(path))
    except Exception:
        loaded = True
    assert loaded <= present, "the case itself is wrong"
    assert bool(planted.pytest_settings(text, file.endswith(".toml"))) is present


def test_settings_that_are_no_toml_are_never_the_same() -> None:
    assert planted.pytest_settings("[tool", True) != planted.pytest_settings("[tool.x]\n", True)


def test_folders_of_tests_have_any_name() -> None:
    names = {"testing": ["test_a.py", "conftest.py", "helper.py"], "pkg": ["a.py", "b.py", "test_b.py"]}
    deciding = ["testing/test_a.py", "pkg/test_b.py", "test_c.py", "lib/tests/deep/test_d.py"]
    assert planted.test_roots(deciding, ["lib/x.py"], lambda folder: names.get(folder, [])) == {"testing", "lib/tests"}
    assert planted.test_roots(["testing/test_a.py"], ["testing/helper.py"], lambda f: names.get(f, [])) == frozenset()


STANDING_FOR = {
    "a package": "spec/test_a/__init__.py",
    "a link": "spec/test_a",
    "an extension module": "spec/test_a.cpython-311-x86_64-linux-gnu.so",
    "conftest as a package": "conftest/__init__.py",
    "conftest as an extension": "conftest.abi3.so",
    "a start-up package": "src/sitecustomize/__init__.py",
    "a link in place of the standard library": "argparse",
    "a package in place of the standard library": "json/__init__.so",
}


@pytest.mark.parametrize("name", STANDING_FOR)
def test_what_stands_for_a_test_or_a_runner_in_any_form_is_recognised(name: str) -> None:
    path = STANDING_FOR[name]
    links = [path] if "." not in path else []
    assert planted.planted([path, "spec/data.txt", "src/a.py"], ["spec/test_a.py"], links=links) == (path,)


def test_modules_that_decide_are_known_by_unittest_s_names() -> None:
    files = ("tests/test_unit.py", "tests/model_fields/tests.py", "tests/other.py")
    ids = ("test_a (tests.test_unit.T.test_a)", "test_b (model_fields.tests.BasicTests)", "test_c")
    assert planted.deciding_modules(ids, files) == ("tests/model_fields/tests.py", "tests/test_unit.py")
