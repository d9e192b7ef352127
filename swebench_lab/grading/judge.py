"""Judge: from the log of a test run, and the results beside it, to a Verdict.

The rules are SWE-bench's: its parsers read the log, its `get_eval_tests_report` and `get_resolution_status` decide.
On top of them stand three things that SWE-bench does not have. A time-out, a crash or an unreadable log decides nothing
by itself: it is *not graded* here, and `attribution` says whose doing it was. The outcomes also arrive over a second
path, from inside the test runner (`startup`, `results_plugin`): of pytest a log that contradicts them is a forged one,
of every other runner they alone decide. SWE-bench's own answer for the same log is kept beside ours.

Covered: lines printed by the code under test, markers printed by it, an early exit with a made-up summary, a summary
printed after the real one. Not covered: code under test that reaches into the running test runner and changes what it
believes, or takes the key of the separate results out of its memory (`tests/grading/test_forgery.py` shows one such
attack getting through). Every process of the tests has the same user, so `/proc/PID/mem` would give that key to their
children too; the shell that starts them never holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from swebench_lab.errors import GradingError
from swebench_lab.grading.execution.results import PYTEST, Results
from swebench_lab.grading.execution.scripts import APPLY_COMMANDS
from swebench_lab.grading.execution.test_run import APPLY_FAILED, HOST_MEMORY, REFUSED, START, TestRun
from swebench_lab.grading.execution.watching import FROM_OUTSIDE
from swebench_lab.grading.rules.expectation import OWN_PARSER, Expectation
from swebench_lab.grading.rules.log_parsers import FAILING, PASSING, UnreadableLog, clean, disputed, parse_log
from swebench_lab.grading.rules.set_rules import Outcomes, resolved_by
from swebench_lab.grading.rules.swebench_rules import ENVIRONMENT, official_answer, rules
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED, Cause, Verdict

_Report = Mapping[str, Mapping[str, list[str]]]
_PLAIN_PYTEST = "parse_log_pytest"
"""What reads pytest's log for the rule of another set."""
_USAGE_ERROR = 4
"""What pytest ends with when a conftest.py cannot be loaded, or a file of its command line is not there."""
_CONFTEST = "while loading conftest"
_NEVER_STARTED = (126, 127)
"""What a shell ends with when the test command cannot be executed, or is not there."""


def judge(run: TestRun, expected: Expectation) -> Verdict:
    """Decide what one run of the tests says of the patch it ran with.

    Args:
        run: The run, or one read back from a stored log.
        expected: The tests that decide.

    Raises:
        GradingError: The parser or the evaluation type is unknown.
    """
    return _judge(run, expected, run.to_log())


def judge_log(log: str, expected: Expectation) -> Verdict:
    """Decide what a stored log says, without running anything.

    Args:
        log: What `TestRun.to_log` gave, or `test_output.txt` of SWE-bench's harness.
        expected: The tests that decide.

    Raises:
        GradingError: The log is damaged, or the parser or the evaluation type is unknown.
    """
    if APPLY_FAILED in log and START not in log:
        return does_not_apply(log, log, expected)
    return _judge(TestRun.from_log(log), expected, log)


def does_not_apply(output: str, log: str, expected: Expectation, notes: tuple[str, ...] = ()) -> Verdict:
    """Return the Verdict of a patch that could not be applied.

    SWE-bench refuses no patch, so of one that was refused here, and not tried, its answer is not known.

    Args:
        output: What the commands printed that tried to apply it.
        log: The log to keep.
        expected: The tests that decide.
        notes: Remarks for the reader.
    """
    errors = (line[6:].strip() for line in output.split("\n") if line.startswith("error:"))
    first = next((error for error in errors if "searching for" not in error), "")
    reason = "the patch does not apply" + (f" ({first})" if first else "")
    official = "" if f"error: {REFUSED}" in output else official_answer(log, expected)
    return Verdict(UNRESOLVED, reason, False, log=log, notes=notes, official=official, cause=Cause.NOT_APPLIED)


def _judge(run: TestRun, expected: Expectation, log: str) -> Verdict:
    verdict = _decide(run, expected)
    official = _official(run, expected, log)
    return replace(verdict, exit_code=run.exit_code, log=log, notes=run.notes, official=official)


def _official(run: TestRun, expected: Expectation, log: str) -> str:
    """Return what the rule of the task's own set says of a run."""
    if not expected.layout:
        return official_answer(log, expected)
    if f"+ {APPLY_COMMANDS[1]}\n" in run.setup:
        return ""  # these sets apply patches in one way, which is not our first one
    parser = _PLAIN_PYTEST if expected.parser == OWN_PARSER else expected.parser
    try:
        tests = parse_log(parser, run.output, expected.task_id, expected.version)
    except UnreadableLog:
        return UNRESOLVED
    outcomes = Outcomes(tests, expected.fail_to_pass, expected.pass_to_pass)
    return RESOLVED if resolved_by(expected.layout, outcomes) else UNRESOLVED


def _decide(run: TestRun, expected: Expectation) -> Verdict:
    if stopped := _stop_verdict(run):
        return stopped
    if run.results and run.results.started and run.results.runner != PYTEST:
        return _by_results(run, run.results, expected)
    try:
        tests = parse_log(expected.parser, run.output, expected.task_id, expected.version)
    except UnreadableLog as error:
        return _no_grade(Cause.INFRASTRUCTURE, str(error))
    if expected.parser == OWN_PARSER and run.results and tests:
        # pytest before 8.3 folds the ids of skipped tests away, so that only the separate results can name them
        tests = {test: status for test, status in run.results.outcomes if status == "SKIPPED"} | tests
    if not tests and not (expected.eval_type == "fail_only" and rules().suite_ran.search(run.output)):
        return _without_outcomes(run, expected)
    verdict = _by_tests(tests, expected)
    if verdict.resolved and (unnamed := _missing_tests(tests, expected)):
        reason = f"the log names only failures, and {len(unnamed)} of the expected tests in no way: {unnamed[0]}"
        return _withheld(verdict, Cause.CRASHED, reason)
    complete = run.results is not None and run.results.finished
    silent = run.exit_code not in (None, 0) and tests and not FAILING & set(tests.values())
    if silent and not complete:
        reason = f"the test command ended with {exit_name(run.exit_code)}, yet its log reports no failure"
        return _withheld(verdict, Cause.CRASHED, reason)
    if doubt := _find_forgery(run, expected, tests):
        return _withheld(verdict, Cause.FORGED, f"suspected forgery: {doubt}")
    if silent and verdict.resolved:
        reason = f"all tests passed, yet pytest ended with {exit_name(run.exit_code)}"
        return _withheld(verdict, Cause.CRASHED, reason)
    return verdict


def _by_results(run: TestRun, results: Results, expected: Expectation) -> Verdict:
    """Judge what a runner other than pytest reported separately; its log decides nothing."""
    ending, at = exit_name(run.exit_code), f" in {results.running}" if results.running else ""
    if results.fault:
        return _no_grade(Cause.FORGED, f"suspected forgery: {results.fault}")
    if not results.finished:
        try:
            log_tests = parse_log(expected.parser, run.output, expected.task_id, expected.version)
        except UnreadableLog:
            log_tests = {}
        if run.exit_code == 0 or any(_passes(case, log_tests) for case in expected.fail_to_pass):
            reason = (
                f"suspected forgery: the test runner did not come to its end{at}, yet its process ended with {ending}"
            )
            return _withheld(_by_tests(log_tests, expected), Cause.FORGED, reason)
        return _no_grade(Cause.CRASHED, f"the test runner did not come to its end{at}: it ended with {ending}")
    tests = parse_log(expected.parser, results.as_log(), expected.task_id, expected.version)
    if not tests:
        return _no_grade(Cause.CRASHED, f"the test runner reported no test and ended with {ending}")
    verdict = _by_tests(tests, expected)
    if verdict.resolved and run.exit_code not in (None, 0) and not FAILING & set(tests.values()):
        return _withheld(verdict, Cause.CRASHED, f"all tests passed, yet the test runner ended with {ending}")
    return verdict


def _no_grade(cause: Cause, reason: str) -> Verdict:
    return Verdict(NOT_GRADED, reason, cause=cause)


def _missing_tests(tests: Mapping[str, str], expected: Expectation) -> list[str]:
    """Return the expected tests that a log which passes by silence does not name: one printed line must not do."""
    if expected.eval_type != "fail_only":
        return []
    return [case for case in expected.tests if rules().resolve_case(case, tests) is None]


def _withheld(verdict: Verdict, cause: Cause, reason: str) -> Verdict:
    """Return a verdict with its outcomes, which are not to be trusted."""
    return replace(verdict, status=NOT_GRADED, reason=reason, cause=cause)


def _stop_verdict(run: TestRun) -> Verdict | None:
    """Return the verdict of a run that did not come to its end, or None for one that did."""
    at = f" in {run.results.running}" if run.results and run.results.running else ""
    if run.limit == HOST_MEMORY:
        return _no_grade(Cause.INFRASTRUCTURE, f"the machine ran out of memory while the tests ran{at}")
    if run.limit == FROM_OUTSIDE:
        ending = exit_name(run.exit_code)
        return _no_grade(Cause.INFRASTRUCTURE, f"the tests were killed from outside their sandbox{at}: {ending}")
    whole = run.results is not None and run.results.finished and not run.results.fault
    if run.limit and not (run.limit == "output" and whole):
        return _no_grade(Cause.CRASHED, f"the tests ran into the sandbox's {run.limit} limit{at}")
    if run.timed_out:
        return _no_grade(Cause.TIMED_OUT, f"the tests were stopped after {run.seconds:.0f} s{at}")
    return _no_grade(run.fault_cause, run.fault) if run.fault else None


def _without_outcomes(run: TestRun, expected: Expectation) -> Verdict:
    """Judge a log that names no test: the patch's doing only where pytest itself came to an end and says so."""
    results, ending = run.results or Results(), exit_name(run.exit_code)
    if run.exit_code == _USAGE_ERROR and (
        run.results_expected or _CONFTEST in run.output
    ):  # whose doing it is, the untouched tree will say
        return _no_grade(Cause.CRASHED, f"pytest {_usage_error(run.output)}")
    at = f" while running {results.running}" if results.running else ""
    if results.finished and results.outcomes and not results.fault and run.exit_code == 0:  # so do honest suites
        count = len({test for test, _ in results.outcomes})
        hides = (
            f"the log names no test, though pytest reported {count}: a setting such as --no-summary hides its summary"
        )
        return _no_grade(Cause.CRASHED, hides)
    if results.fault or (results.started and run.exit_code == 0):
        doubt = results.fault or f"the test process ended with {ending} and named no test{at}"
        return _no_grade(Cause.FORGED, f"suspected forgery: {doubt}")
    if results.finished and (doubt := _find_forgery(run, expected, {})):
        return _no_grade(Cause.FORGED, f"suspected forgery: {doubt}")
    if results.finished:
        reason = f"pytest ended with {ending} before it could report the tests{at}"
        return replace(_by_tests({}, expected), status=UNRESOLVED, reason=reason)
    signature = rules().classify(run.output)
    hint = f" ({signature[0].replace('_', ' ')})" if signature else ""
    machine = (signature is not None and signature[1] == ENVIRONMENT) or run.exit_code in _NEVER_STARTED
    cause = Cause.INFRASTRUCTURE if machine else Cause.CRASHED
    return _no_grade(cause, f"the log names no test and the test command ended with {ending}{at}{hint}")


def _usage_error(output: str) -> str:
    if _CONFTEST in output:
        return f"could not load conftest.py: {_last_error(output)}"
    errors = [line for line in clean(output).split("\n") if line.startswith("ERROR: ")]
    return f"did not take its command line: {errors[0][7:] if errors else 'see the log'}"


def _last_error(output: str) -> str:
    lines = [line for line in clean(output).split("\n") if line.startswith("E  ")]
    return lines[-1][1:].strip() if lines else "see the log"


def exit_name(code: int | None) -> str:
    """Return an exit code in words: `exit code 1`, `exit code 139 (signal 11)`."""
    if code is None:
        return "no known exit code"
    return f"exit code {code} (signal {code - 128})" if code > 128 else f"exit code {code}"


def _by_tests(tests: Mapping[str, str], expected: Expectation) -> Verdict:
    """Return what SWE-bench's rules make of the outcomes."""
    report = _report(tests, expected)
    resolved = rules().resolution({kind: dict(sides) for kind, sides in report.items()}) == "RESOLVED_FULL"
    fail_to_pass, pass_to_pass = (
        {side: tuple(ids) for side, ids in report[kind].items()} for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")
    )
    return Verdict(
        RESOLVED if resolved else UNRESOLVED,
        _why(report, tests),
        tests=dict(tests),
        fail_to_pass=fail_to_pass,
        pass_to_pass=pass_to_pass,
        cause=Cause.TESTS,
    )


def _report(tests: Mapping[str, str], expected: Expectation) -> _Report:
    swebench = rules()
    try:
        kind = swebench.eval_type(expected.eval_type)
    except ValueError as error:
        raise GradingError(
            f"grading: eval_type {expected.eval_type!r} is not 'pass_and_fail' or 'fail_only'"
        ) from error
    gold = {"FAIL_TO_PASS": list(expected.fail_to_pass), "PASS_TO_PASS": list(expected.pass_to_pass)}
    return swebench.tests_report(dict(tests), gold, eval_type=kind)


def _why(report: _Report, tests: Mapping[str, str]) -> str:
    """Name the first tests that decided against the patch, with what became of them."""
    reasons = []
    for name, words in (("FAIL_TO_PASS", "should start to pass"), ("PASS_TO_PASS", "should go on passing")):
        failures = report[name]["failure"]
        if failures:
            total = len(failures) + len(report[name]["success"])
            case = rules().resolve_case(failures[0], tests)
            became = tests[case] if case else "not in the log"
            more = ", …" * (len(failures) > 1)
            reasons.append(f"{len(failures)} of {total} tests that {words} did not: {failures[0]} ({became}){more}")
    return "; ".join(reasons)


# --- log against separate results -------------------------------------------------------------------------------------


def _find_forgery(run: TestRun, expected: Expectation, tests: Mapping[str, str]) -> str:
    """Return how log and separate results disagree about the tests that decide, or an empty text."""
    results = run.results
    if results is None or not results.started:
        if run.results_expected:
            return "the log reports tests, but the test runner never loaded what reports them separately"
        twice = disputed(run.output, expected.tests) if expected.parser == OWN_PARSER else []
        return f"the log says both that {twice[0]} passed and that it did not" if twice else ""
    if results.fault:
        return results.fault
    if not results.finished:
        return f"the log reports a finished run, but pytest did not finish (it ended with {exit_name(run.exit_code)})"
    separate, called = parse_log(expected.parser, results.as_log()), dict(results.called)
    for case in expected.tests:
        if expected.printed_only(case):
            continue
        if key := rules().resolve_case(case, called):
            return (
                f"{case} fails as expected only because {called[key]}, which is not of the tests, called pytest.xfail"
            )
        here, there = (_passes(case, outcomes) for outcomes in (tests, separate))
        if here != there:
            words = ("passed", "did not pass")
            return f"the log says that {case} {words[not here]}, the separate results say that it {words[not there]}"
    return ""


def _passes(case: str, tests: Mapping[str, str]) -> bool:
    key = rules().resolve_case(case, tests)
    return key is not None and tests[key] in PASSING
