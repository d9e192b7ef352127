"""Trust: what a task's certificate, or its untouched tree, says of a verdict before the verdict is believed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath

from swebench_lab.errors import DiffError
from swebench_lab.grading.files.certificates import NO_GOLD, Certificate
from swebench_lab.records.patches.diff import touched_files
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED, Cause, Verdict

_SAID = "certificate: "
UNCERTIFIED = (
    f"{_SAID}none; nobody has seen this task's gold patch resolved here, so a verdict may be the environment's doing; "
    "run evaluator.check(tasks)"
)
"""What the notes of a verdict say where its task has no certificate."""


def by_certificate(verdict: Verdict, certificate: Certificate | None) -> Verdict:
    """Return a verdict as far as its task's certificate supports it.

    Where the gold patch does not resolve the task here, tests that fail say nothing of another patch; where the
    untouched tree is resolved, tests that pass say nothing. Both are *not graded*. A patch that was not applied, or
    whose run was forged, is judged without asking what tests say.

    Args:
        verdict: The verdict; one that went through here before is looked at anew.
        certificate: The certificate of the task as it is now; None when there is none that decides.
    """
    notes = tuple(note for note in verdict.notes if not note.startswith(_SAID))
    if certificate is None or not certificate.decided:
        return replace(verdict, notes=(*notes, UNCERTIFIED))
    if certificate.passed:
        return replace(verdict, notes=notes)
    says = f"{_SAID}{certificate.status}; {certificate.reason}"
    verdict = replace(verdict, notes=(*notes, says))
    of_tests = verdict.cause not in (Cause.NOT_APPLIED, Cause.FORGED)
    if certificate.status == NO_GOLD:
        return verdict
    if verdict.status == UNRESOLVED and of_tests and set(certificate.gold) != {RESOLVED}:
        return unsupported(verdict, "the task's own gold patch is not resolved here either")
    if verdict.status == RESOLVED and RESOLVED in certificate.untouched:
        return unsupported(verdict, "the task's untouched tree is resolved too")
    return verdict


def unsupported(verdict: Verdict, why: str) -> Verdict:
    """Return a verdict as *not graded*: an infrastructure error, with what the tests said kept in the reason."""
    became = f"; the tests said: {verdict.status}" + (f", {verdict.reason}" if verdict.reason else "")
    return replace(verdict, status=NOT_GRADED, reason=why + became, cause=Cause.INFRASTRUCTURE)


# --- packages that the environment lacks ------------------------------------------------------------------------------

_MISSING = re.compile(
    r"""ModuleNotFoundError: No module named ['"]([\w.]+)['"]|"""
    r"""ImportError: (?:.*: )?No module named ['"]?([\w.]+)|"""
    r"""DistributionNotFound: The '([\w.-]+)|"""
    r"""PackageNotFoundError: (?:No package metadata was found for )?([\w.-]+)"""
)


def missing_modules(log: str) -> frozenset[str]:
    """Return the packages that a log says are not installed, each by the first part of its name."""
    names = (next(filter(None, match)) for match in _MISSING.findall(log))
    return frozenset(name.split(".")[0] for name in names)


def missing_without_a_patch(untouched: Verdict) -> frozenset[str]:
    """Return the packages that keep the tests of an untouched tree from deciding.

    Tests that must go on passing pass in a whole environment, by definition; a task without such tests shows it by
    tests that come to an outcome at all.
    """
    incomplete = bool(untouched.pass_to_pass["failure"])
    if not untouched.pass_to_pass["success"] and not incomplete:
        incomplete = not any(
            untouched.tests.get(test) in ("PASSED", "FAILED") for test in untouched.fail_to_pass["failure"]
        )
    return missing_modules(untouched.log) if incomplete else frozenset()


def foreign(modules: frozenset[str], task: Task) -> frozenset[str]:
    """Return those modules that neither the gold patch nor the test patch brings."""
    own: set[str] = set()
    for patch in (task.gold_patch, task.test_patch):
        try:
            paths = touched_files(patch)
        except DiffError:
            continue
        own |= {part for path in paths for part in PurePosixPath(path).with_suffix("").parts}
    return frozenset(module for module in modules if module not in own)
