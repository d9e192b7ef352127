"""Verdict: what a task's own tests say of a patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from swebench_lab import _html
from swebench_lab.errors import RecordError
from swebench_lab.records import _codec

RESOLVED = "resolved"
UNRESOLVED = "unresolved"
NOT_GRADED = "not graded"
STATUSES = (RESOLVED, UNRESOLVED, NOT_GRADED)


class Cause(StrEnum):
    """What a Verdict's status rests on."""

    TESTS = "tests"
    """The tests ran to their end and decided."""
    NOT_APPLIED = "not_applied"
    """The patch is empty, cannot be applied, or was refused; no test ran."""
    TIMED_OUT = "timed_out"
    """The tests were stopped at their time limit."""
    CRASHED = "crashed"
    """The test command was killed, hit a limit of the sandbox, or ended without reporting its tests."""
    FORGED = "forged"
    """The test log contradicts the results that arrived separately, or itself."""
    INFRASTRUCTURE = "infrastructure"
    """The sandbox, the machine or the grading itself failed; this says nothing about the patch."""


_CAUSES: Mapping[str, frozenset[Cause | None]] = {
    RESOLVED: frozenset({Cause.TESTS}),
    UNRESOLVED: frozenset(set(Cause) - {Cause.INFRASTRUCTURE}),
    NOT_GRADED: frozenset({Cause.TIMED_OUT, Cause.CRASHED, Cause.FORGED, Cause.INFRASTRUCTURE, None}),
}
"""The causes that each status may have: an infrastructure error is never held against a patch."""


def _none() -> dict[str, tuple[str, ...]]:
    return {"success": (), "failure": ()}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of grading one patch: resolved, unresolved, or not graded.

    *Not graded* means that the tests could not decide: an infrastructure error, or a log that cannot be trusted. It is
    never a zero.

    Args:
        status: `resolved`, `unresolved` or `not graded`.
        reason: Why, in one sentence; for *resolved* it may be empty.
        patch_applied: Whether the patch could be applied; None when that was not tried.
        tests: Test id to outcome, as the log of the tests has it: `PASSED`, `FAILED`, `ERROR`, `SKIPPED`, `XFAIL`.
        fail_to_pass: `success` and `failure`: the deciding tests that pass now, and those that do not.
        pass_to_pass: The same for the tests that must stay passing.
        exit_code: Exit code of the test command; None when it was killed or did not run.
        seconds: Wall time of grading.
        log: The test log.
        notes: Remarks on what was done to the tree before the tests ran.
        official: What SWE-bench's own rules say of the same log: `resolved`, `unresolved`, or empty when not asked.
        snapshot: Key of the Snapshot the tests ran in.
        tier: The kind of sandbox the tests ran in.
        cause: What the status rests on. Left out, it is `Cause.TESTS` for what was graded, and None, meaning that
            nobody asked for a grading, for what was not.
        rewards: Name to number, of tasks that grade in numbers; empty for all others.

    Raises:
        RecordError: The status or the cause is unknown, or the two contradict each other.
    """

    status: str
    reason: str = ""
    patch_applied: bool | None = None
    tests: Mapping[str, str] = field(default_factory=dict, hash=False)
    fail_to_pass: Mapping[str, tuple[str, ...]] = field(default_factory=_none, hash=False)
    pass_to_pass: Mapping[str, tuple[str, ...]] = field(default_factory=_none, hash=False)
    exit_code: int | None = None
    seconds: float = 0.0
    log: str = ""
    notes: tuple[str, ...] = ()
    official: str = ""
    snapshot: str = ""
    tier: str = ""
    cause: Cause | None = None
    rewards: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise RecordError(f"a Verdict's status is {self.status!r}; it must be one of {', '.join(STATUSES)}")
        cause: Cause | None = Cause.TESTS if self.cause is None and self.graded else self.cause
        try:
            cause = None if cause is None else Cause(cause)
        except ValueError as error:
            raise RecordError(
                f"a Verdict's cause is {self.cause!r}; it must be one of {', '.join(map(str, Cause))}"
            ) from error
        if cause not in _CAUSES[self.status]:
            raise RecordError(f"a Verdict cannot be {self.status!r} because of {str(cause)!r}")
        object.__setattr__(self, "cause", cause)
        for name in ("fail_to_pass", "pass_to_pass"):
            if not {"success", "failure"} <= getattr(self, name).keys():
                raise RecordError(f"a Verdict's {name} lacks its lists of `success` and `failure`")

    @property
    def resolved(self) -> bool:
        """Whether all deciding tests pass and nothing broke."""
        return self.status == RESOLVED

    @property
    def graded(self) -> bool:
        """Whether the tests could decide at all."""
        return self.status != NOT_GRADED

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form: plain JSON values, lossless, with the schema's version."""
        return _codec.to_row(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Verdict:
        """Read the stored form back.

        Raises:
            RecordError: A field is missing or unknown, or the record is of a newer schema.
        """
        return _codec.from_row(cls, row, "reading a Verdict")

    def __repr__(self) -> str:
        """Return one line: the status and the counts of deciding tests, or the reason."""
        progress = f"{len(self.fail_to_pass['success'])}/{sum(map(len, self.fail_to_pass.values()))} fail_to_pass"
        maintained = f"{len(self.pass_to_pass['success'])}/{sum(map(len, self.pass_to_pass.values()))} pass_to_pass"
        why = f", {' '.join(_html.plain(self.reason).split())}" if self.reason else ""
        return f"Verdict({self.status}, {progress}, {maintained}{why})"

    def _repr_html_(self) -> str:
        failures = (*self.fail_to_pass["failure"], *self.pass_to_pass["failure"])
        return _html.card(
            repr(self),
            _html.folded("tests that decide and do not pass", "\n".join(failures), open_at_first=True)
            + _html.folded("notes", "\n".join(self.notes))
            + _html.folded("test log", self.log),
        )
