"""Reading: what a task's own verifier said, and the table of those who can read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from swebench_lab.errors import GradingError
from swebench_lab.records.verdict import Cause

if TYPE_CHECKING:
    from swebench_lab.records.verifier import Verifier
    from swebench_lab.sandbox.contract import Sandbox


@dataclass(frozen=True)
class ScriptRun:
    """One run of a verifier's command that came to its own end.

    Attributes:
        verifier: The verifier.
        box: The box it ran in; every process whose command has ended is gone.
        stdout: What it printed.
        stderr: What it printed as errors.
        exit_code: Its status.
        marker: What stood for the verifier's exit marker in the command, which the code under test was not told.
    """

    verifier: Verifier
    box: Sandbox
    stdout: str
    stderr: str
    exit_code: int | None
    marker: str = ""

    @property
    def output(self) -> str:
        """All that it printed."""
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Reading:
    """What a verifier said.

    Attributes:
        tests: Outcome by test, as `PASSED`, `FAILED` …, where it names tests.
        rewards: Name to number, where it grades in numbers.
        solved: Whether it says so in one word; None where tests or rewards decide.
        solved_once: Whether any line says so, where the last one decides.
        fault: Why nothing can be read; empty when something was.
        cause: Whose doing that may be, where there is a fault.
        passed_somewhere: Tests that it reports as passed and with another outcome too.
    """

    tests: Mapping[str, str] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    solved: bool | None = None
    solved_once: bool = False
    fault: str = ""
    cause: Cause = Cause.CRASHED
    passed_somewhere: tuple[str, ...] = ()


Reader: TypeAlias = Callable[[ScriptRun], Reading]
"""Reads the outcome of a run. What cannot be read is a Reading with a fault; it is never an outcome."""

READERS: dict[str, Reader] = {}
"""Kind of a Verifier → what reads it."""


def register_verifier(kind: str, reader: Reader) -> None:
    """Make another kind of verifier known, for this process.

    Args:
        kind: What `Verifier.kind` names it by.
        reader: Returns the Reading of a ScriptRun. What it raises is an infrastructure error of that grading.

    Raises:
        GradingError: Another reader has that name already.
    """
    if READERS.get(kind, reader) is not reader:
        raise GradingError(f"registering the verifier {kind!r}: another one has that name")
    READERS[kind] = reader


def reader_of(kind: str) -> Reader:
    """Return what reads a kind of verifier.

    Raises:
        GradingError: Nobody registered it.
    """
    if kind not in READERS:
        raise GradingError(
            f"grading: no verifier is called {kind!r}; known are {', '.join(sorted(READERS))}; "
            "lab.register_verifier(kind, reader) adds one"
        )
    return READERS[kind]
