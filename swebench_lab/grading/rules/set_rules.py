"""Set rules: what the rule of a task's own set says of the outcomes of its tests, beside SWE-bench's and ours.

| layout | its rule |
|---|---|
| `swe-rebench-v2` | the tests that passed are exactly the expected ones |
| `swe-bench-live` | every FAIL_TO_PASS test passed, and no PASS_TO_PASS test is reported as failed |
| `swe-polybench` | every F2P test is among those that passed, and no P2P test among those that failed |
| `openswe` | some line of the output says that the tests ended with 0; no test is named |
| `multi-swe-bench` | nothing breaks, something begins to pass, all expected tests pass, each from the state in the row |
| `swe-bench-pro`, and any other | every expected test is reported as passed |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PASSED, FAILED, SKIPPED, NONE = "PASSED", "FAILED", "SKIPPED", "NONE"
MIXED = "MIXED"
"""Of a test that is reported as passed and as failed."""
LIVE, REBENCH_V2, MULTI_SWE = "swe-bench-live", "swe-rebench-v2", "multi-swe-bench"
POLY, OPEN_SWE = "swe-polybench", "openswe"


@dataclass(frozen=True)
class Outcomes:
    """What a set's rule decides by.

    Attributes:
        tests: Test to outcome.
        fail_to_pass: Must start to pass.
        pass_to_pass: Must go on passing.
        row: The row's other columns.
    """

    tests: Mapping[str, str]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> set[str]:
        """The tests that are reported as passed."""
        return {name for name, status in self.tests.items() if status == PASSED}

    @property
    def expected(self) -> tuple[str, ...]:
        """All tests that decide."""
        return (*self.fail_to_pass, *self.pass_to_pass)


def resolved_by(layout: str, outcomes: Outcomes) -> bool:
    """Whether the rule of the set with this layout counts a task as resolved."""
    return _RULES.get(layout, _all_pass)(outcomes)


def layout_of(row: Mapping[str, Any]) -> str:
    """Return whose rule a row without a verifier of its own goes by, told from columns; empty for SWE-bench's."""
    if "install_config" in row and "language" in row:
        return REBENCH_V2
    return LIVE if "test_cmds" in row else ""


def _all_pass(outcomes: Outcomes) -> bool:
    return set(outcomes.expected) <= outcomes.passed


def _exactly(outcomes: Outcomes) -> bool:
    return sorted(outcomes.passed) == sorted(outcomes.expected)


def _none_fail(outcomes: Outcomes) -> bool:
    # in pytest's summary, whatever neither passed nor was skipped counts as failed
    failures = {name for name, status in outcomes.tests.items() if status in (FAILED, "ERROR", "XFAIL")}
    return set(outcomes.fail_to_pass) <= outcomes.passed and not failures & set(outcomes.expected)


def _by_lists(outcomes: Outcomes) -> bool:
    names = {
        side: {name for name, status in outcomes.tests.items() if status in (side, MIXED)} for side in (PASSED, FAILED)
    }
    return set(outcomes.fail_to_pass) <= names[PASSED] and not names[FAILED] & set(outcomes.pass_to_pass)


def _by_transitions(outcomes: Outcomes) -> bool:
    run, test = (_states(outcomes.row.get(name)) for name in ("run_result", "test_patch_result"))
    fix = outcomes.tests
    moves = {name: (run.get(name, NONE), test.get(name, NONE), fix.get(name, NONE)) for name in {*run, *test, *fix}}
    has_regression = any(
        after == FAILED and (before == PASSED or (before in (NONE, SKIPPED) and first == PASSED))
        for first, before, after in moves.values()
    )
    has_fix = any(before != PASSED and after == PASSED for _, before, after in moves.values())
    if not fix or has_regression or not has_fix:
        return False
    came_from = dict.fromkeys(outcomes.fail_to_pass, FAILED) | dict.fromkeys(outcomes.pass_to_pass, PASSED)
    came_from |= dict.fromkeys(outcomes.row.get("s2p_tests", ()), SKIPPED)
    came_from |= dict.fromkeys(outcomes.row.get("n2p_tests", ()), NONE)
    return all(moves.get(name, (NONE, NONE, NONE))[1:] == (state, PASSED) for name, state in came_from.items())


def _states(run: Any) -> dict[str, str]:
    """Return the state of each test in a run that a row tells of."""
    columns: Mapping[str, Any] = run if isinstance(run, Mapping) else {}
    return {
        name: state
        for column, state in (("passed_tests", PASSED), ("failed_tests", FAILED), ("skipped_tests", SKIPPED))
        for name in columns.get(column) or ()
    }


_RULES: dict[str, Callable[[Outcomes], bool]] = {
    REBENCH_V2: _exactly,
    LIVE: _none_fail,
    MULTI_SWE: _by_transitions,
    POLY: _by_lists,
}
