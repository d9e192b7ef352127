"""Results: the outcomes that a test runner reports from inside, over a descriptor that is not its output."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PYTEST = "pytest"
_PAIRS = ("outcomes", "called")
_TEXTS = ("event", "test", "status", "called", "runner")
_NEEDED = {"begin": ("test",), "outcome": ("test", "status"), "end": ("exit",)}
"""What each event that is read must have."""
_WORDS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "unittest": (
        {
            "PASSED": "ok",
            "FAILED": "FAIL",
            "ERROR": "ERROR",
            "SKIPPED": "skipped 'reason'",
            "XFAIL": "expected failure",
        },
        "{} ... {}\n",
    ),
    "sympy": ({"PASSED": "ok", "FAILED": "F", "ERROR": "E", "SKIPPED": "s", "XFAIL": "f"}, "{} {}\n"),
}
"""For each runner but pytest: the word it prints for each outcome, and the line it stands in."""


@dataclass(frozen=True)
class Results:
    """What a test runner reported from inside: pytest through `results_plugin`, every other through `startup`.

    Attributes:
        started: The runner's process was reached, so the interpreter (and pytest) work.
        finished: The runner came to its own end.
        exit_code: The status pytest ended with, None when it did not, and for other runners.
        outcomes: (test, status) in the order they happened.
        running: The test that had begun and not ended.
        called: (test, place) of expected failures that no mark announced: `pytest.xfail` was called at the place, a
            `file:line`, while the test ran. Of a run that was graded, only those that the true tests do not call.
        fault: Why the report cannot be believed (a line's seal is wrong); empty when it can.
        runner: `pytest`, `unittest` (also Django's and nose's) or `sympy`.
    """

    started: bool = False
    finished: bool = False
    exit_code: int | None = None
    outcomes: tuple[tuple[str, str], ...] = ()
    running: str = ""
    called: tuple[tuple[str, str], ...] = ()
    fault: str = ""
    runner: str = PYTEST

    def as_log(self) -> str:
        """Return what the runner would print of these outcomes, so that any of SWE-bench's parsers for it can read it."""
        if self.runner != PYTEST:
            words, line = _WORDS[self.runner]
            pairs = ((test, words[status]) for test, status in self.outcomes if status in words)
            return "".join(line.format(test, word) for test, word in pairs)
        order = ("PASSED", "SKIPPED", "XFAIL", "XPASS", "ERROR", "FAILED")
        lines = [f"{status} {test}" for status in order for test, outcome in self.outcomes if outcome == status]
        return "\n".join(["===== short test summary info =====", *lines, "===== 1 passed in 0.0s ====="])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), **{name: [list(pair) for pair in getattr(self, name)] for name in _PAIRS}}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Results:
        """Read the stored form back."""
        return cls(**{**row, **{name: tuple((test, value) for test, value in row[name]) for name in _PAIRS}})


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
        event = _event(body)
        if event is None:
            return Results(started=True, fault=f"line {number} of the separate results says nothing that a runner says")
        events.append(event)
    return _from_events(events)


def _event(body: str) -> Mapping[str, Any] | None:
    """Return what a line says; None for one that no runner writes, though code under test has the key to seal it."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not all(isinstance(event[name], str) for name in _TEXTS if name in event):
        return None
    whole = "event" in event and all(name in event for name in _NEEDED.get(event["event"], ()))
    if not whole or event.get("runner", PYTEST) not in (PYTEST, *_WORDS):
        return None
    if not isinstance(event.get("exit"), int | None):
        return None
    return event | {name: event[name].encode("utf-8", "replace").decode() for name in _TEXTS if name in event}


def _from_events(events: Sequence[Mapping[str, Any]]) -> Results:
    outcomes: list[tuple[str, str]] = []
    called: list[tuple[str, str]] = []
    running, exit_code, kinds, runner = "", None, set(), PYTEST
    for event in events:
        kinds.add(event["event"])
        runner = event.get("runner", runner)
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
    return Results("start" in kinds, "end" in kinds, exit_code, tuple(outcomes), running, tuple(called), runner=runner)
