"""TestRun: all that one run of the tests left behind, and the one text in which it is stored and read back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from swebench_lab.errors import GradingError
from swebench_lab.grading.execution.results import Results
from swebench_lab.grading.rules.log_parsers import unix_lines
from swebench_lab.records.verdict import Cause

START, END, EXIT_CODE = ">>>>> Start Test Output", ">>>>> End Test Output", ">>>>> Test Exit Code"
"""SWE-bench's markers; the tests check that they are still the installed harness's."""
APPLY_FAILED = ">>>>> Patch Apply Failed"
REFUSED = "a patch may not touch .git"
"""How the reason begins for which a patch is refused."""
HOST_MEMORY = "host memory"
"""The limit of a run in which the kernel ended processes although their own sandbox had memory left."""
_HEAD = ">>>>> swebench_lab test log "
_RESULTS = ">>>>> Results over the separate descriptor"


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
        fault_cause: What a Verdict's cause is where there is a fault.
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
    fault_cause: Cause = Cause.CRASHED

    def to_log(self) -> str:
        """Return one text that `from_log` reads back and that SWE-bench's harness can grade as it stands.

        The head line is ours and says how long each part is, so nothing printed by the tests can pass for another part.
        """
        results = "" if self.results is None else json.dumps(self.results.to_dict())
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
            "fault_cause": str(self.fault_cause),
        }
        code = f"{EXIT_CODE}: {self.exit_code}\n" if self.exit_code is not None else ""
        late = f"\nTimeout error: {self.seconds:.0f} seconds exceeded.\n" if self.timed_out else ""
        tail = f"{_RESULTS}\n{results}\n" if results else ""
        return f"{_HEAD}{json.dumps(head)}\n{self.setup}\n{START}\n{self.output}\n{END}\n{code}{late}{tail}"

    @classmethod
    def from_log(cls, log: str) -> TestRun:
        """Read a log that `to_log` wrote, or one that SWE-bench's harness wrote (`test_output.txt`).

        Raises:
            GradingError: The head line of a log that `to_log` wrote is damaged.
        """
        if not log.startswith(_HEAD):
            return _from_harness(log)
        first, _, rest = log.partition("\n")
        try:
            head = json.loads(first[len(_HEAD) :])
            setup, at = rest[: head.pop("setup")], len(START) + 2
            at += len(setup)
            output = rest[at : at + head.pop("output")]
            tail = rest[at + len(output) :].partition(f"{_RESULTS}\n")[2]
            results = Results.from_dict(json.loads(tail)) if tail else None
            head["notes"] = tuple(head["notes"])
            head["fault_cause"] = Cause(head["fault_cause"])
            return cls(output=output, setup=setup, results=results, **head)
        except (ValueError, TypeError, KeyError) as error:
            raise GradingError(
                f"reading a stored test log: its head line is damaged ({error}); grade the patch again"
            ) from error


_HARNESS_EXIT = re.compile(rf"{re.escape(EXIT_CODE)}:\s*(-?\d+)")
_HARNESS_FAULTS = {
    ">>>>> Reset Failed": ("the log says that resetting the test files failed", Cause.INFRASTRUCTURE),
    ">>>>> Tests Errored": ("the log says that running the tests failed", Cause.INFRASTRUCTURE),
    ">>>>> Tests Timed Out": ("the log says that the tests timed out", Cause.TIMED_OUT),
}


def _from_harness(log: str) -> TestRun:
    """Cut a log of SWE-bench's harness as the harness does."""
    log = unix_lines(log)
    fault, cause = next((why for mark, why in _HARNESS_FAULTS.items() if mark in log), ("", Cause.INFRASTRUCTURE))
    code = _HARNESS_EXIT.search(log)
    if START not in log or END not in log:
        late = re.search(r"Timeout error: (\d+) seconds exceeded", log)
        if late:
            return TestRun(log, timed_out=True, seconds=float(late[1]))
        return TestRun(log, fault=fault or "the log has no start and end of the test output", fault_cause=cause)
    output = log.split(START)[1].split(END)[0]
    return TestRun(output, int(code[1]) if code else None, setup=log.split(START)[0], fault=fault, fault_cause=cause)
