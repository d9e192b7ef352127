"""Canary: the deciding tests run once more with other expectations; one that passes all the same was not run honestly.

Code under test shares a process with its tests and can change what these believe. It can hardly know that the value they
expect is not the right one: where a test that wants 101 in place of 100 passes, nobody compared anything.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from swebench_lab.grading.execution.mutants import KINDS, Mutator
from swebench_lab.grading.files.certificates import Certificates
from swebench_lab.records.verdict import NOT_GRADED, UNRESOLVED, Cause, Verdict

OFF, NOTE, DECIDE = MODES = ("off", "note", "decide")
"""Whether resolved patches are run against the canary, and what its alarm does: nothing, a note, or *unresolved*."""

ALARM = "canary: "
"""How the note of an alarm begins."""

UNASKED = "the canary was not asked, for these did not come to their end:"
"""How the note begins of a patch that no canary could look at."""

Run = Callable[[str | None, Mutator], Verdict]
"""Runs the tests with a patch, or None, and with what the Mutator changes."""


@dataclass(frozen=True, slots=True)
class Mutants:
    """What is known of a task's mutated tests.

    Args:
        tests: Tests that should start to pass whose mutants fail both with the gold patch and without a patch.
        decisive: Whether there are any, and every mutant is among them.
    """

    tests: frozenset[str]
    decisive: bool

    @classmethod
    def of(cls, mutated: set[str], gold: Verdict, untouched: Verdict) -> Mutants:
        """Return what the mutated tests showed on trees that nobody has tampered with."""
        if not (gold.graded and untouched.graded):
            return cls(frozenset(), False)
        failures = set(gold.fail_to_pass["failure"]) & set(untouched.fail_to_pass["failure"])
        return cls(frozenset(mutated & failures), bool(mutated) and mutated <= failures)


def _run_mutants(tree: str, run: Run) -> tuple[Mutator, Verdict]:
    """Run the mutated tests, a second time if they do not come to their end; returns what changed them, too."""
    mutator = Mutator.random()
    verdict = run(tree, mutator)
    if verdict.graded:
        return mutator, verdict
    mutator = Mutator.random()
    return mutator, run(tree, mutator)


class Canary:
    """Runs mutated tests of certified tasks; safe for many threads.

    What a task's mutants do on the gold and the untouched tree is found out when its first patch is resolved, and
    stored beside its certificate.

    Args:
        mode: One of `MODES`.
        certificates: Where that is stored.
    """

    def __init__(self, mode: str, certificates: Certificates) -> None:
        if mode not in MODES:
            raise ValueError(f"canary={mode!r}: must be one of {', '.join(map(repr, MODES))}")
        self.mode = mode
        self._certificates = certificates
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def watched(self, verdict: Verdict, patch: str, place: tuple[str, str, str], gold: str, run: Run) -> Verdict:
        """Return a resolved verdict as far as the mutated tests support it.

        Args:
            verdict: The verdict of the true tests.
            patch: The patch.
            place: Key of the Snapshot, id and digest of the task.
            gold: The task's gold patch.
            run: Runs the tests.
        """
        mutants = self.mutants(place, gold, run)
        if mutants is None:
            return replace(verdict, notes=(*verdict.notes, f"{UNASKED} the changed tests of its own gold patch"))
        if not mutants.tests:
            return verdict
        mutator, seen = _run_mutants(patch, run)
        if not seen.graded:
            return self._unseen(verdict, mutants, seen)
        success = set(seen.fail_to_pass["success"])
        suspects = sorted(mutants.tests & mutator.tests & success)  # a file that could not be changed shows nothing
        if not suspects:
            return verdict
        more = ", …" * (len(suspects) > 1)
        alarm = f"{len(suspects)} tests pass although what they expect was changed: {suspects[0]}{more}"
        verdict = replace(verdict, notes=(*verdict.notes, f"{ALARM}{alarm}"))
        if self.mode == DECIDE and mutants.decisive:
            verdict = replace(verdict, status=UNRESOLVED, reason=f"suspected forgery: {alarm}", cause=Cause.FORGED)
        return verdict

    def _unseen(self, verdict: Verdict, mutants: Mutants, seen: Verdict) -> Verdict:
        """Return a verdict whose patch was run twice with changed tests that never came to their end.

        Nothing is known then, and a patch must not gain by it: code that stops at random would get past the canary.
        """
        reason = f"{UNASKED} this patch's changed tests: {seen.reason}"
        verdict = replace(verdict, notes=(*verdict.notes, reason))
        if self.mode == DECIDE and mutants.decisive:
            return replace(verdict, status=NOT_GRADED, reason=reason, cause=Cause.INFRASTRUCTURE)
        return verdict

    def mutants(self, place: tuple[str, str, str], gold: str, run: Run) -> Mutants | None:
        """Return what is known of a task's mutants: what is stored, or else what two runs show.

        None: those runs did not come to their end, nor did the gold patch's true tests beside them. That says nothing
        of the task, so nothing is stored.
        """
        with self._asking[place[1]]:
            if record := self._load(*place):
                return record
            mutator, of_gold = _run_mutants(gold, run)
            untouched = run(None, mutator) if of_gold.graded else of_gold
            if not untouched.graded and not run(gold, Mutator()).graded:
                return None
            mutants = Mutants.of(mutator.tests, of_gold, untouched)
            row = {
                "task_digest": place[2],
                "tests": sorted(mutants.tests),
                "decisive": mutants.decisive,
                "kinds": KINDS,
            }
            self._certificates.write(place[0], place[1], "canary", json.dumps(row) + "\n")
            return mutants

    def _load(self, snapshot: str, task_id: str, digest: str) -> Mutants | None:
        try:
            row = json.loads(self._certificates.read(snapshot, task_id, "canary"))
            if row["task_digest"] == digest and row["kinds"] == KINDS:
                return Mutants(frozenset(row["tests"]), row["decisive"] is True)
        except (ValueError, TypeError, KeyError):
            pass  # not there, or not readable any more: it is found out again
        return None
