"""Turns the log of a test run into per-test outcomes, and those into what the task's own tests say of a patch.

The rules are SWE-bench's: its parsers read the log, its `get_eval_tests_report` and `get_resolution_status` decide.
On top of them stand three things that SWE-bench does not have. A fault of ours (time-out, crash, unreadable log) is
*not graded*, never *unresolved*. The outcomes also arrive over a second path (`results_plugin`), and a log that says
otherwise is *not graded: suspected forgery*. SWE-bench's own answer for the same log is kept beside ours.

Covered: lines printed by the code under test, markers printed by it, an early exit with a made-up summary, a summary
printed after the real one. Not covered: code under test that reaches into the running pytest and changes what it
believes, or takes the key of the separate results out of its memory (`tests/grading/test_forgery.py` shows one such attack
getting through). Every process of the tests has the same user, so `/proc/PID/mem` would give that key to their children
too; the shell that starts them never holds it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module, util
from pathlib import Path
from typing import Any, NamedTuple

from swebench_lab.errors import GradingError
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED

PASSING = frozenset({"PASSED", "XFAIL"})
FAILING = frozenset({"FAILED", "ERROR"})
OWN_PARSER = "pytest"
"""Our reading of pytest's summary: exact node ids. For SWE-bench's own answer its nearest is used, below."""
SWEBENCH_PARSER = "parse_log_pytest_v2"

R2E_PARSER = "r2e"
"""The same for tasks of R2E-Gym, which names tests without their file: `TestClass.test_name`."""

START, END, EXIT_CODE = ">>>>> Start Test Output", ">>>>> End Test Output", ">>>>> Test Exit Code"
"""SWE-bench's markers; the tests check that they are still the installed harness's."""
APPLY_FAILED = ">>>>> Patch Apply Failed"
_HEAD = ">>>>> swebench_lab test log "
_RESULTS = ">>>>> Results over the separate descriptor"


# --- SWE-bench's rules, loaded on first use ---------------------------------------------------------------------------


class _Rules(NamedTuple):
    """What we use of the installed harness."""

    parsers: Mapping[str, Callable[[str, Any], dict[str, str]]]
    tests_report: Callable[..., dict[str, dict[str, list[str]]]]
    resolution: Callable[[dict[str, dict[str, Any]]], str]
    resolve_case: Callable[[str, Mapping[str, str]], str | None]
    eval_report: Callable[..., dict[str, Any]]
    classify: Callable[[str], tuple[str, str] | None]
    suite_ran: re.Pattern[str]
    eval_type: Any
    test_spec: Any
    fail_only_repos: frozenset[str]


_LOADING = threading.Lock()


def rules() -> _Rules:
    """Return SWE-bench's parsers and rules; safe from many threads.

    Raises:
        GradingError: swebench 5 is not installed.
    """
    with _LOADING:
        return _load_rules()


@cache
def _load_rules() -> _Rules:
    try:
        with _without_the_harness_package():
            grading = import_module("swebench.harness.grading")
            constants = import_module("swebench.harness.constants")
            infra = import_module("swebench.harness.infra_failure")
            kinds = import_module("swebench.types")
    except ImportError as error:
        raise GradingError(
            f"loading SWE-bench's grading rules: {error}; install swebench 5 (pip install 'swebench==5.0.*')"
        ) from error
    return _Rules(
        grading.PARSER_REGISTRY,
        grading.get_eval_tests_report,
        grading.get_resolution_status,
        grading._resolve_case,
        grading.get_eval_report,
        infra.classify_text,
        grading.SUITE_RAN,
        constants.EvalType,
        kinds.TestSpec,
        frozenset(constants.FAIL_ONLY_REPOS),
    )


@contextmanager
def _without_the_harness_package() -> Iterator[None]:
    """Let leaf modules of `swebench.harness` be imported without its `__init__`.

    That `__init__` imports docker, modal and datasets: 2.5 s for a few pure functions that take 0.04 s. While this
    holds, an empty package stands in for it; afterwards a full import by someone else works as if nothing had been.
    """
    if "swebench.harness" in sys.modules:
        yield
        return
    found = util.find_spec("swebench")
    if found is None or not found.submodule_search_locations:
        raise ImportError("no module named 'swebench'")
    before = set(sys.modules)
    stand_in = types.ModuleType("swebench.harness")
    stand_in.__path__ = [str(Path(found.submodule_search_locations[0]) / "harness")]
    sys.modules["swebench.harness"] = stand_in
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("swebench.harness"):
                del sys.modules[name]


def parsers() -> tuple[str, ...]:
    """Return the names `parse_log` knows: our own two first, then SWE-bench's."""
    return (OWN_PARSER, R2E_PARSER, *rules().parsers)


# --- reading a log ----------------------------------------------------------------------------------------------------

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_SUMMARY = re.compile(r"^=+ short test summary info =+$")
_TAIL = re.compile(r"^(?:=+ )?(?:no tests ran|\d+ [a-z]+(?:, \d+ [a-z]+)*) in \d[\d.]*s(?: \([\d:]+\))?(?: =+)?$")
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (.+)$")
_PHASE = re.compile(r"^at (?:setup|teardown) of ")
"""What newer versions of pytest put before the id of a test that was expected to fail and stopped outside its call."""
_FOLDED = re.compile(r"^\[\d+\] ")


def clean(log: str) -> str:
    """Return a log with terminal colours removed and every line ending made a newline."""
    return _ANSI.sub("", _newlines(log))


def _newlines(log: str) -> str:
    return log.replace("\r\n", "\n").replace("\r", "\n")


def parse_log(parser: str, log: str, task_id: str = "", version: str = "") -> dict[str, str]:
    """Return test id to status (`PASSED FAILED ERROR SKIPPED XFAIL`), as the named parser reads the log.

    Args:
        parser: `"pytest"` (exact node ids from the last `-rA` summary; a non-strict XPASS counts as PASSED, as pytest
            counts it) or a name of SWE-bench's `PARSER_REGISTRY`.
        log: What the test command printed.
        task_id: The task, which a few of SWE-bench's parsers look up.
        version: The repository's version, for the same reason.

    Raises:
        GradingError: No parser has this name, or SWE-bench's parser broke on the log.
    """
    if parser == OWN_PARSER:
        return _parse_pytest(clean(log))
    if parser == R2E_PARSER:
        return {
            ".".join(name.split("::")[1:]): said for name, said in _parse_pytest(clean(log)).items() if "::" in name
        }
    if parser not in rules().parsers:
        raise GradingError(f"reading a test log: no parser is called {parser!r}; grading.parsers() lists them")
    spec = _spec(Expectation((), (), parser, task_id=task_id, version=version))
    found = _parse_theirs(parser, _newlines(log), spec)
    # colours hide every line from most of SWE-bench's parsers; stripping them first would change what others read
    return found or (_parse_theirs(parser, clean(log), spec) if "\x1b" in log else found)


class _Unreadable(GradingError):
    """A parser of SWE-bench's broke on a log."""


_BREAKS = (IndexError, KeyError, ValueError, AttributeError, TypeError)
"""What SWE-bench's parsers raise on lines their authors did not think of."""


def _parse_theirs(parser: str, log: str, spec: Any = None) -> dict[str, str]:
    try:
        return rules().parsers[parser](log, spec)
    except _BREAKS as error:
        raise _Unreadable(f"SWE-bench's {parser} cannot read the log: {type(error).__name__}: {error}") from error


def _parse_pytest(log: str) -> dict[str, str]:
    """Read the last summary of a pytest log; without one, fall back on SWE-bench's reading of the whole."""
    sections = list(_sections(log))
    if sections:
        return dict(sections[-1])
    found = _parse_theirs(SWEBENCH_PARSER, log)
    return {test: status for test, status in found.items() if status in PASSING | FAILING | {"SKIPPED"}}


def _sections(log: str) -> Iterator[list[tuple[str, str]]]:
    """Yield the (test, status) pairs of each pytest summary in a clean log, in order."""
    section: list[tuple[str, str]] | None = None
    for line in log.split("\n"):
        if _SUMMARY.match(line):
            if section is not None:
                yield section
            section = []
        elif section is not None and _TAIL.match(line):
            yield section
            section = None
        elif section is not None and (pair := _outcome(line)):
            section.append(pair)
    if section is not None:
        yield section


def _outcome(line: str) -> tuple[str, str] | None:
    """Return (test, status) of one summary line, or None when it is no such line."""
    match = _OUTCOME.match(line)
    if match is None:
        return None
    status, rest = match.groups()
    if status == "SKIPPED" and _FOLDED.match(rest):
        return None  # "[2] tests/test_a.py:7: reason": pytest folded the ids away
    test = rest if status == "PASSED" else _without_message(_PHASE.sub("", rest))
    return test, "PASSED" if status == "XPASS" else status


def _without_message(rest: str) -> str:
    """Cut the ` - message` off a node id; a ` - ` inside its brackets belongs to the id."""
    parts = rest.split(" - ")
    heads = [" - ".join(parts[:n]) for n in range(1, len(parts) + 1)]
    balanced = (head for head in heads if head.count("[") == head.count("]"))
    closed = (head for head in heads[:-1] if head.endswith("]"))  # a parameter that holds a bracket itself
    return next(balanced, next(closed, heads[0]))


def _disputed(log: str, expected: Iterable[str]) -> list[str]:
    """Return the expected tests of which different lines of a pytest log say both that they passed and did not.

    pytest says each thing once: in one summary, a test stands twice only as PASSED and ERROR (its teardown failed).
    """
    text = clean(log)
    claims: dict[str, set[bool]] = {}
    for line in text.split("\n"):
        if pair := _outcome(line):
            claims.setdefault(pair[0], set()).add(pair[1] in PASSING)
    last = list(_sections(text))[-1:]
    twice = {test for test, status in (last[0] if last else []) if status == "ERROR"}
    return [test for test in expected if len(claims.get(test, ())) == 2 and test not in twice]


# --- outcomes over the separate descriptor ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """What `results_plugin` reported from inside pytest.

    Attributes:
        started: pytest loaded the plugin, so interpreter and pytest work.
        finished: pytest came to its own end.
        exit_code: The status pytest ended with, None when it did not.
        outcomes: (test, status) in the order they happened.
        running: The test that had begun and not ended.
        called: (test, place) of expected failures that no mark announced: `pytest.xfail` was called at the place, a
            `file:line`, while the test ran. Of a run that was graded, only those that the true tests do not call.
        fault: Why the report cannot be believed (a line's seal is wrong); empty when it can.
    """

    started: bool = False
    finished: bool = False
    exit_code: int | None = None
    outcomes: tuple[tuple[str, str], ...] = ()
    running: str = ""
    called: tuple[tuple[str, str], ...] = ()
    fault: str = ""

    def as_log(self) -> str:
        """Return the summary that pytest would print, so that any of SWE-bench's pytest parsers can read it."""
        order = ("PASSED", "SKIPPED", "XFAIL", "XPASS", "ERROR", "FAILED")
        lines = [f"{status} {test}" for status in order for test, found in self.outcomes if found == status]
        return "\n".join(["===== short test summary info =====", *lines, "===== 1 passed in 0.0s ====="])


def seal(key: str, previous: str, line: str) -> str:
    """Return the seal of one result line: each covers the one before, so none can be dropped, changed or added."""
    return hmac.new(key.encode(), (previous + line).encode(), hashlib.sha256).hexdigest()[:20]


def read_results(text: str, key: str) -> Results:
    """Read the lines `<seal> <json>` that the plugin wrote.

    Args:
        text: What came over the descriptor; a last line without its newline was cut by the process's end.
        key: The key that was given to the plugin; an empty key skips the check.
    """
    events, previous = [], ""
    for number, line in enumerate(text.split("\n")[:-1], 1):
        mark, _, body = line.partition(" ")
        if key and not hmac.compare_digest(mark.encode(), seal(key, previous, body).encode()):
            return Results(started=True, fault=f"line {number} of the separate results does not carry its seal")
        previous = mark
        try:
            events.append(json.loads(body))
        except json.JSONDecodeError:
            return Results(started=True, fault=f"line {number} of the separate results is not JSON")
    return _from_events(events)


def _from_events(events: Sequence[Mapping[str, Any]]) -> Results:
    outcomes: list[tuple[str, str]] = []
    called: list[tuple[str, str]] = []
    running, exit_code, kinds = "", None, set()
    for event in events:
        kinds.add(event["event"])
        if event["event"] == "begin":
            running = event["test"]
        elif event["event"] == "outcome":
            outcomes.append((event["test"], event["status"]))
            if event.get("called"):
                called.append((event["test"], event["called"]))
        elif event["event"] == "done":
            running = ""
        elif event["event"] == "end":
            exit_code = event["exit"]
    return Results("start" in kinds, "end" in kinds, exit_code, tuple(outcomes), running, tuple(called))


# --- one run of the tests ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestRun:
    """All that one run of the tests left behind; `to_log` and `from_log` store it as one text.

    Attributes:
        output: What the test command printed, and nothing else.
        exit_code: The test command's own; None when it was killed or is not known.
        setup: What was printed before the tests (applying, restoring).
        timed_out: Our time limit ended it.
        limit: The limit of the sandbox that ended it (`memory`, `disk` …), or empty.
        seconds: Wall time of the tests.
        results: What came over the separate descriptor, already checked; None when there was none.
        results_expected: The test command runs pytest, so there must be some.
        fault: Why the run cannot be believed (its shell was ended); empty when it can.
        notes: Remarks for the reader: files restored or removed before the tests.
    """

    __test__ = False  # pytest: not a test class

    output: str
    exit_code: int | None = None
    setup: str = ""
    timed_out: bool = False
    limit: str = ""
    seconds: float = 0.0
    results: Results | None = None
    results_expected: bool = False
    fault: str = ""
    notes: tuple[str, ...] = ()

    def to_log(self) -> str:
        """Return one text that `from_log` reads back and that SWE-bench's harness can grade as it stands.

        The head line is ours and says how long each part is, so nothing printed by the tests can pass for another part.
        """
        results = "" if self.results is None else json.dumps(_results_to_dict(self.results))
        head = {
            "setup": len(self.setup),
            "output": len(self.output),
            "exit_code": self.exit_code,
            "timed_out": self.timed_out,
            "limit": self.limit,
            "seconds": round(self.seconds, 3),
            "results_expected": self.results_expected,
            "fault": self.fault,
            "notes": list(self.notes),
        }
        code = f"{EXIT_CODE}: {self.exit_code}\n" if self.exit_code is not None else ""
        late = f"\nTimeout error: {self.seconds:.0f} seconds exceeded.\n" if self.timed_out else ""
        tail = f"{_RESULTS}\n{results}\n" if results else ""
        return f"{_HEAD}{json.dumps(head)}\n{self.setup}\n{START}\n{self.output}\n{END}\n{code}{late}{tail}"

    @classmethod
    def from_log(cls, log: str) -> TestRun:
        """Read a log of ours, or one that SWE-bench's harness wrote (`test_output.txt`).

        Raises:
            GradingError: The head line of a log of ours is damaged.
        """
        if not log.startswith(_HEAD):
            return _foreign(log)
        first, _, rest = log.partition("\n")
        try:
            head = json.loads(first[len(_HEAD) :])
            setup, at = rest[: head.pop("setup")], len(START) + 2
            at += len(setup)
            output = rest[at : at + head.pop("output")]
            tail = rest[at + len(output) :].partition(f"{_RESULTS}\n")[2]
            results = Results(**_results_from_dict(json.loads(tail))) if tail else None
            head["notes"] = tuple(head["notes"])
            return cls(output=output, setup=setup, results=results, **head)
        except (ValueError, TypeError, KeyError) as error:
            raise GradingError(
                f"reading a stored test log: its head line is damaged ({error}); grade the patch again"
            ) from error


def _results_to_dict(results: Results) -> dict[str, Any]:
    return {**vars(results), **{name: [list(pair) for pair in getattr(results, name)] for name in _PAIRS}}


def _results_from_dict(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, **{name: tuple((test, said) for test, said in row[name]) for name in _PAIRS}}


_PAIRS = ("outcomes", "called")


_FOREIGN_EXIT = re.compile(rf"{re.escape(EXIT_CODE)}:\s*(-?\d+)")
_FOREIGN_FAULTS = {
    ">>>>> Reset Failed": "the log says that resetting the test files failed",
    ">>>>> Tests Errored": "the log says that running the tests failed",
    ">>>>> Tests Timed Out": "the log says that the tests timed out",
}


def _foreign(log: str) -> TestRun:
    """Cut a log of SWE-bench's harness as the harness does."""
    log = _newlines(log)
    fault = next((said for mark, said in _FOREIGN_FAULTS.items() if mark in log), "")
    code = _FOREIGN_EXIT.search(log)
    if START not in log or END not in log:
        late = re.search(r"Timeout error: (\d+) seconds exceeded", log)
        if late:
            return TestRun(log, timed_out=True, seconds=float(late[1]))
        return TestRun(log, fault=fault or "the log has no start and end of the test output")
    output = log.split(START)[1].split(END)[0]
    return TestRun(output, int(code[1]) if code else None, setup=log.split(START)[0], fault=fault)


# --- from outcomes to a verdict ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grade:
    """What the tests say, before anyone wraps it in a Verdict.

    Attributes:
        status: `resolved`, `unresolved` or `not graded`.
        reason: One sentence; always there unless resolved.
        tests: Test id to status, as parsed.
        fail_to_pass: `{"success": [...], "failure": [...]}` of the tests that must start to pass.
        pass_to_pass: The same for those that must go on passing.
        official: What SWE-bench's own `get_eval_report` says of the same log: `resolved` or `unresolved`.
        applied: Whether the patch could be applied, where the log tells.
    """

    status: str
    reason: str = ""
    tests: Mapping[str, str] = field(default_factory=dict)
    fail_to_pass: Mapping[str, list[str]] = field(default_factory=lambda: {"success": [], "failure": []})
    pass_to_pass: Mapping[str, list[str]] = field(default_factory=lambda: {"success": [], "failure": []})
    official: str = ""
    applied: bool | None = None


@dataclass(frozen=True)
class Expectation:
    """What decides a task: the tests, how their log is read, and how an absent test counts.

    Attributes:
        fail_to_pass: Must start to pass.
        pass_to_pass: Must go on passing.
        parser: See `parse_log`.
        eval_type: `pass_and_fail`, or `fail_only` where the log names only failures and silence means success.
        task_id: The task, which a few of SWE-bench's parsers look up.
        version: The repository's version, for the same reason.
        files: The test files that are given to the test command, where they are known.
    """

    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    parser: str = OWN_PARSER
    eval_type: str = "pass_and_fail"
    task_id: str = "task"
    version: str = ""
    files: tuple[str, ...] = ()

    def printed_only(self, case: str) -> bool:
        """Whether an expected id cannot be a test that pytest collects, because it names no file that is run.

        pytest's own suite prints the logs of the small suites that it runs; SWE-bench's parsers took some of their
        lines for tests of the suite itself, and its datasets expect them.
        """
        if not any(self._in_files(test) for test in self.tests):
            return False  # ids and files are named in different ways here, so nothing can be said
        return not self._in_files(case)

    def _in_files(self, case: str) -> bool:
        return "::" in case and case.partition("::")[0] in self.files

    @property
    def tests(self) -> tuple[str, ...]:
        """All of them, those that must start to pass first."""
        return (*self.fail_to_pass, *self.pass_to_pass)


def judge(run: TestRun, expected: Expectation) -> Grade:
    """Decide what one run of the tests says.

    Args:
        run: The run, or one read back from a stored log.
        expected: The tests that decide.

    Raises:
        GradingError: The parser or the evaluation type is unknown.
    """
    return replace(_decide(run, expected), official=official_answer(run.to_log(), expected))


def grade_log(log: str, expected: Expectation) -> Grade:
    """Decide what a stored log says, without running anything: a log of ours, or `test_output.txt` of the harness.

    Raises:
        GradingError: The log is a damaged one of ours, or the parser or evaluation type is unknown.
    """
    if APPLY_FAILED in log and START not in log:
        return Grade(UNRESOLVED, not_applied(log), official=UNRESOLVED, applied=False)
    run = TestRun.from_log(log)
    return replace(_decide(run, expected), official=official_answer(log, expected))


def not_applied(log: str) -> str:
    """Return why a patch could not be applied, as the reason of a verdict."""
    said = [line[6:].strip() for line in log.split("\n") if line.startswith("error:") and "searching for" not in line]
    return "the patch does not apply" + (f" ({said[0]})" if said else "")


def _decide(run: TestRun, expected: Expectation) -> Grade:
    if stopped := _stopped(run):
        return Grade(NOT_GRADED, stopped)
    try:
        tests = parse_log(expected.parser, run.output, expected.task_id, expected.version)
    except _Unreadable as error:
        return Grade(NOT_GRADED, str(error))
    if expected.parser == OWN_PARSER and run.results and tests:
        # pytest before 8.3 folds the ids of skipped tests away, so that only the separate results can name them
        tests = {test: status for test, status in run.results.outcomes if status == "SKIPPED"} | tests
    if not tests and not (expected.eval_type == "fail_only" and rules().suite_ran.search(run.output)):
        return _without_outcomes(run, expected)
    report = _report(tests, expected)
    grade = Grade(_status(report), _why(report, tests), tests, report["FAIL_TO_PASS"], report["PASS_TO_PASS"])
    finished = run.results is not None and run.results.finished
    silent = run.exit_code not in (None, 0) and tests and not FAILING & set(tests.values())
    if silent and not finished:
        said = f"the test command ended with {exit_name(run.exit_code)}, yet its log reports no failure"
        return replace(grade, status=NOT_GRADED, reason=said)
    if doubt := _forged(run, expected, tests):
        return replace(grade, status=NOT_GRADED, reason=f"suspected forgery: {doubt}")
    if silent and grade.status == RESOLVED:
        said = f"all tests passed, yet pytest ended with {exit_name(run.exit_code)}"
        return replace(grade, status=NOT_GRADED, reason=said)
    return grade


def _stopped(run: TestRun) -> str:
    """Return why the run says nothing about the patch, or an empty text."""
    at = f" in {run.results.running}" if run.results and run.results.running else ""
    if run.limit:
        return f"the tests ran into the sandbox's {run.limit} limit{at}"
    if run.timed_out:
        return f"the tests were stopped after {run.seconds:.0f} s{at}"
    return run.fault


def _without_outcomes(run: TestRun, expected: Expectation) -> Grade:
    """Grade a log that names no test: the patch's doing only where pytest itself came to an end and says so."""
    results, ended = run.results or Results(), exit_name(run.exit_code)
    if run.exit_code == 4 and "while loading conftest" in run.output:
        return Grade(UNRESOLVED, "pytest could not load conftest.py: " + _last_error(run.output))
    at = f" while running {results.running}" if results.running else ""
    if results.fault or (results.started and run.exit_code == 0):
        doubt = results.fault or f"the test process ended with {ended} and named no test{at}"
        return Grade(NOT_GRADED, f"suspected forgery: {doubt}")
    if results.finished and (doubt := _forged(run, expected, {})):
        return Grade(NOT_GRADED, f"suspected forgery: {doubt}")
    if results.finished:
        return replace(_absent(expected), reason=f"pytest ended with {ended} before it could report the tests{at}")
    known = rules().classify(run.output)
    hint = f" ({known[0].replace('_', ' ')})" if known else ""
    return Grade(NOT_GRADED, f"the log names no test and the test command ended with {ended}{at}{hint}")


def _absent(expected: Expectation) -> Grade:
    report = _report({}, expected)
    return Grade(UNRESOLVED, "", {}, report["FAIL_TO_PASS"], report["PASS_TO_PASS"])


def _last_error(output: str) -> str:
    lines = [line for line in clean(output).split("\n") if line.startswith("E  ")]
    return lines[-1][1:].strip() if lines else "see the log"


def exit_name(code: int | None) -> str:
    """Say an exit code in words: `exit code 1`, `exit code 139 (signal 11)`."""
    if code is None:
        return "no known exit code"
    return f"exit code {code} (signal {code - 128})" if code > 128 else f"exit code {code}"


def _report(tests: Mapping[str, str], expected: Expectation) -> dict[str, dict[str, list[str]]]:
    r = rules()
    try:
        kind = r.eval_type(expected.eval_type)
    except ValueError as error:
        raise GradingError(
            f"grading: eval_type {expected.eval_type!r} is not 'pass_and_fail' or 'fail_only'"
        ) from error
    gold = {"FAIL_TO_PASS": list(expected.fail_to_pass), "PASS_TO_PASS": list(expected.pass_to_pass)}
    return r.tests_report(dict(tests), gold, eval_type=kind)


def _status(report: Mapping[str, Mapping[str, list[str]]]) -> str:
    return RESOLVED if rules().resolution({k: dict(v) for k, v in report.items()}) == "RESOLVED_FULL" else UNRESOLVED


def _why(report: Mapping[str, Mapping[str, list[str]]], tests: Mapping[str, str]) -> str:
    """Name the first tests that decided against the patch, with what became of them."""
    said = []
    for name, words in (("FAIL_TO_PASS", "should start to pass"), ("PASS_TO_PASS", "should go on passing")):
        failed = report[name]["failure"]
        if failed:
            total = len(failed) + len(report[name]["success"])
            case = rules().resolve_case(failed[0], tests)
            became = tests[case] if case else "not in the log"
            said.append(
                f"{len(failed)} of {total} tests that {words} did not: {failed[0]} ({became})"
                + ", …" * (len(failed) > 1)
            )
    return "; ".join(said)


def _forged(run: TestRun, expected: Expectation, tests: Mapping[str, str]) -> str:
    """Return how log and separate results disagree about the tests that decide, or an empty text."""
    results = run.results
    if results is None or not results.started:
        if run.results_expected:
            return "the log reports tests, but pytest never loaded the plugin that reports them separately"
        disputed = _disputed(run.output, expected.tests) if expected.parser == OWN_PARSER else []
        return f"the log says both that {disputed[0]} passed and that it did not" if disputed else ""
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
        here, there = (_passed(case, found) for found in (tests, separate))
        if here != there:
            said = ("passed", "did not pass")
            return f"the log says that {case} {said[not here]}, the separate results say that it {said[not there]}"
    return ""


def _passed(case: str, tests: Mapping[str, str]) -> bool:
    key = rules().resolve_case(case, tests)
    return key is not None and tests[key] in PASSING


def official_answer(log: str, expected: Expectation) -> str:
    """Return what SWE-bench's own `get_eval_report` says of a log: `resolved`, else `unresolved`.

    Empty for tasks of R2E-Gym, whose names of tests SWE-bench's parsers do not know.
    """
    if expected.parser == R2E_PARSER:
        return ""
    try:
        return RESOLVED if official_report(log, expected)["resolved"] else UNRESOLVED
    except _BREAKS:
        return UNRESOLVED


def official_report(log: str, expected: Expectation) -> dict[str, Any]:
    """Return SWE-bench's own report of one instance, made by `get_eval_report` from a log.

    Args:
        log: A log with SWE-bench's markers.
        expected: The tests that decide; our own parser's name is replaced by SWE-bench's nearest.
    """
    spec = _spec(expected)
    prediction = {"instance_id": expected.task_id, "model_patch": "-", "model_name_or_path": "-"}
    with tempfile.NamedTemporaryFile("w", suffix=".log", encoding="utf-8", errors="replace") as file:
        file.write(log)
        file.flush()
        report: dict[str, Any] = rules().eval_report(spec, prediction, file.name, include_tests_status=True)
    result: dict[str, Any] = report[expected.task_id]
    return result


def _spec(expected: Expectation) -> Any:
    """Return the harness's TestSpec, of which grading uses the tests, the parser and the evaluation type."""
    return rules().test_spec(
        instance_id=expected.task_id,
        image="",
        eval_script_list=[],
        repo="",
        version=expected.version,
        FAIL_TO_PASS=list(expected.fail_to_pass),
        PASS_TO_PASS=list(expected.pass_to_pass),
        log_parser=SWEBENCH_PARSER if expected.parser in (OWN_PARSER, R2E_PARSER) else expected.parser,
        eval_type=expected.eval_type,
    )
