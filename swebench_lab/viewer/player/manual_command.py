"""ManualCommand: a command that a person ran in a live sandbox of the player."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Result


@dataclass(frozen=True, slots=True)
class ManualCommand:
    """A command that a person ran in a live sandbox.

    Args:
        node: Id of the branch; empty: the attempt itself.
        step: The step whose state the sandbox had.
        command: The command.
        output: Its output as text, with control characters still in it.
        ending: How it ended, in words.
        seconds: Wall time.
    """

    node: str
    step: int
    command: str
    output: str
    ending: str
    seconds: float

    @classmethod
    def of(cls, node: str, step: int, command: str, result: Result) -> ManualCommand:
        """Return the record of a command and its result."""
        if result.timed_out:
            ending = "timed out"
        elif result.limit:
            ending = f"hit the {result.limit} limit"
        else:
            ending = f"exit {result.exit_code}" if result.exit_code is not None else f"signal {result.signal}"
        return cls(node, step, command, result.output, ending, result.seconds)
