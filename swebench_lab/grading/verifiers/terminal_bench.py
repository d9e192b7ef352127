"""Terminal-Bench 1's own rule: what `run-tests.sh` printed names tests, and all of them passed."""

from __future__ import annotations

import re

from swebench_lab.grading.verifiers.reading import Reading, ScriptRun, register_verifier

KIND = "terminal-bench"
_SUMMARY = re.compile(r"=+\s*short test summary info\s*=+", re.IGNORECASE)
_LINE = re.compile(r"(PASSED|FAILED|SKIPPED|XFAIL|XPASS|ERROR):?\s+(\S.*)")
_GOOD = frozenset({"PASSED", "XFAIL", "SKIPPED"})
_BEGIN, _END = "SWEBench results starts here", "SWEBench results ends here"


def read_terminal_bench(run: ScriptRun) -> Reading:
    """Read the output as the parser does that the verifier names."""
    return parse_terminal_bench(run.verifier.reads, run.output)


def parse_terminal_bench(parser: str, log: str) -> Reading:
    """Return what a log says: by pytest's first summary, or by the one word between two markers.

    Args:
        parser: `pytest` or `swebench`.
        log: What the tests printed.
    """
    if parser == "swebench":
        if _BEGIN not in log or _END not in log:
            return Reading(fault=f"the output has no lines {_BEGIN!r} and {_END!r}")
        return Reading(solved=log.split(_BEGIN, 1)[1].rsplit(_END, 1)[0].strip() == "PASSED")
    _, *rest = _SUMMARY.split(log, maxsplit=1)
    if not rest:
        return Reading(fault="the output has no short test summary")
    statuses = {_name(*match.groups()): match[1] for line in rest[0].splitlines() if (match := _LINE.match(line))}
    if not statuses:
        return Reading(fault="the short test summary names no test")
    return Reading(solved=set(statuses.values()) <= _GOOD)


def _name(status: str, text: str) -> str:
    """Return the name of a test in a line of the summary; what is said of a failure is no part of it."""
    if status == "FAILED" and " - " in text:
        text = text.rpartition(" - ")[0]
    return text.strip().partition("::")[2] or text.strip()


register_verifier(KIND, read_terminal_bench)
