"""Attribution: whether a run that did not come to its end is the patch's doing or an infrastructure error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from swebench_lab.errors import GradingError
from swebench_lab.grading.execution.test_run import HOST_MEMORY, TestRun
from swebench_lab.grading.execution.watching import FROM_OUTSIDE
from swebench_lab.records.verdict import NOT_GRADED, UNRESOLVED, Cause, Verdict

SHARED_LIMITS = frozenset({"memory", "processes", "disk"})
"""Limits of a sandbox as a whole: a run that hits one is the patch's doing only if half would do without the patch."""

SECOND_TRY = "graded a second time, with twice the time: the first run ended as"
PATIENCE = 2.0
"""How many times the usual time the second run gets."""
BUSY = "the machine may be to blame: under the same load {tree} did not come to its end in the usual time either"


def limit_of(verdict: Verdict) -> str:
    """Return the limit of the sandbox that ended the run behind a verdict, or an empty text."""
    try:
        return TestRun.from_log(verdict.log).limit if verdict.log else ""
    except GradingError:
        return ""


def does_with(verdict: Verdict) -> bool | None:
    """Whether a run with lower limits ended well; None where a busy machine may have kept it from its end.

    Args:
        verdict: The verdict of a tree that nobody has tampered with.
    """
    if verdict.graded:
        return True
    return False if limit_of(verdict) or verdict.cause not in (Cause.TIMED_OUT, Cause.INFRASTRUCTURE) else None


def may_be_the_patch(verdict: Verdict) -> bool:
    """Whether a run left something to judge, so that a clean baseline would make its end the patch's doing.

    What has no log was ended from outside: a sandbox that could not be opened, was closed, or died with its node.
    """
    return verdict.status == NOT_GRADED and bool(verdict.log) and limit_of(verdict) not in (HOST_MEMORY, FROM_OUTSIDE)


def needs_a_second_try(verdict: Verdict) -> bool:
    """Whether a busy machine could have ended the run; what was forged was not forged by the machine."""
    return verdict.cause is not Cause.FORGED


def too_busy(verdict: Verdict, tree: str) -> Verdict:
    """Return the verdict of a second run that nothing can be concluded from, with why in its notes.

    Args:
        verdict: The verdict of the second run.
        tree: What did not come to its end beside it, in words.
    """
    return replace(verdict, cause=Cause.INFRASTRUCTURE, notes=(*verdict.notes, BUSY.format(tree=tree)))


def held_against_the_patch(verdict: Verdict) -> Verdict:
    """Return a verdict that was not graded as *unresolved*, with its cause."""
    cause = Cause.CRASHED if verdict.cause in (Cause.INFRASTRUCTURE, None) else verdict.cause
    return replace(verdict, status=UNRESOLVED, cause=cause)


def host_kills() -> int:
    """Return how many processes the kernel has ended on this machine for want of memory.

    Those that ran into a bound of their own box count too, so it says little of a box that counts its own.
    """
    try:
        words = Path("/proc/vmstat").read_text("ascii").split()
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError):
        return 0  # an older kernel does not count them
