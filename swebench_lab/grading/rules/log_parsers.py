"""Log parsers: from what a test command printed to one outcome a test; our own for pytest, SWE-bench's for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from swebench_lab.errors import GradingError
from swebench_lab.grading.rules.expectation import OWN_PARSER, R2E_PARSER, Expectation
from swebench_lab.grading.rules.swebench_rules import BREAKS, SWEBENCH_PARSER, rules, test_spec

PASSING = frozenset({"PASSED", "XFAIL"})
FAILING = frozenset({"FAILED", "ERROR"})

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_SUMMARY = re.compile(r"^=+ short test summary info =+$")
_TAIL = re.compile(r"^(?:=+ )?(?:no tests ran|\d+ [a-z]+(?:, \d+ [a-z]+)*) in \d[\d.]*s(?: \([\d:]+\))?(?: =+)?$")
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (.+)$")
_PHASE = re.compile(r"^at (?:setup|teardown) of ")
"""What newer versions of pytest put before the id of a test that was expected to fail and stopped outside its call."""
_FOLDED = re.compile(r"^\[\d+\] ")


class UnreadableLog(GradingError):
    """A parser of SWE-bench's broke on a log."""


def parsers() -> tuple[str, ...]:
    """Return the names `parse_log` knows: our own two first, then SWE-bench's."""
    return (OWN_PARSER, R2E_PARSER, *rules().parsers)


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
        tests = _parse_pytest(clean(log))
        return {".".join(name.split("::")[1:]): status for name, status in tests.items() if "::" in name}
    if parser not in rules().parsers:
        raise GradingError(f"reading a test log: no parser is called {parser!r}; log_parsers.parsers() lists them")
    spec = test_spec(Expectation((), (), parser, task_id=task_id, version=version))
    tests = _parse_by_swebench(parser, unix_lines(log), spec)
    # colours hide every line from most of SWE-bench's parsers; stripping them first would change what others read
    return tests or (_parse_by_swebench(parser, clean(log), spec) if "\x1b" in log else tests)


def clean(log: str) -> str:
    """Return a log with terminal colours removed and every line ending made a newline."""
    return _ANSI.sub("", unix_lines(log))


def unix_lines(log: str) -> str:
    """Return a log with every line ending made a newline."""
    return log.replace("\r\n", "\n").replace("\r", "\n")


def disputed(log: str, expected: Iterable[str]) -> list[str]:
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


def _parse_by_swebench(parser: str, log: str, spec: Any = None) -> dict[str, str]:
    try:
        return rules().parsers[parser](log, spec)
    except BREAKS as error:
        raise UnreadableLog(f"SWE-bench's {parser} cannot read the log: {type(error).__name__}: {error}") from error


def _parse_pytest(log: str) -> dict[str, str]:
    """Read the last summary of a pytest log; without one, fall back on SWE-bench's reading of the whole."""
    sections = list(_sections(log))
    if sections:
        return dict(sections[-1])
    tests = _parse_by_swebench(SWEBENCH_PARSER, log)
    return {test: status for test, status in tests.items() if status in PASSING | FAILING | {"SKIPPED"}}


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
    ends = [*(mark.start() for mark in re.finditer(" - ", rest)), len(rest)]
    depth = at = 0  # counted on, since a line may be as long as what tests print
    for end in ends:
        depth += rest.count("[", at, end) - rest.count("]", at, end)
        at = end
        if depth == 0:
            return rest[:end]
    bracket_ends = (end for end in ends[:-1] if rest.endswith("]", 0, end))  # a parameter that holds a bracket itself
    return rest[: next(bracket_ends, ends[0])]
