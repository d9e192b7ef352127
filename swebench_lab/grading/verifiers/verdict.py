"""From what a task's own verifier said to a Verdict: the rule of its set, and ours beside it.

Ours, of tests: every `fail_to_pass` and `pass_to_pass` test passed (or failed as expected), and none of them is reported
with a worse outcome as well. Of rewards: the one called `reward`, or else every one, is at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from swebench_lab.grading.execution.scripts import APPLY_COMMANDS
from swebench_lab.grading.execution.test_run import HOST_MEMORY, TestRun
from swebench_lab.grading.rules.log_parsers import PASSING
from swebench_lab.grading.rules.set_rules import LIVE, MULTI_SWE, OPEN_SWE, POLY, Outcomes, resolved_by
from swebench_lab.grading.verifiers.reading import Reading
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED, Cause, Verdict

_PARTLY = frozenset({LIVE, MULTI_SWE, POLY})
"""Layouts of sets whose way to apply a patch may differ from our first one in what it leaves."""
FULL = 1.0
"""The reward from which on a task counts as resolved."""


def judge_reading(task: Task, run: TestRun, reading: Reading) -> Verdict:
    """Decide what a verifier's run says of the patch it ran with.

    Args:
        task: The task.
        run: The run.
        reading: What the verifier said.
    """
    verdict = _stop_verdict(run) or _decide(task, reading)
    layout = task.verifier.layout if task.verifier else ""
    if verdict.official and layout != OPEN_SWE and f"+ {APPLY_COMMANDS[1]}\n" in run.setup:
        # such sets try no other way, and go on with the tree as it is: as it was, or with half of the patch
        verdict = replace(verdict, official="" if layout in _PARTLY else UNRESOLVED)
    return replace(verdict, exit_code=run.exit_code, log=run.to_log(), notes=run.notes)


def _stop_verdict(run: TestRun) -> Verdict | None:
    """Return the verdict of a run that did not come to its end, or None for one that did."""
    if run.limit == HOST_MEMORY:
        return Verdict(NOT_GRADED, "the machine ran out of memory while the verifier ran", cause=Cause.INFRASTRUCTURE)
    if run.limit:
        return Verdict(NOT_GRADED, f"the verifier ran into the sandbox's {run.limit} limit", cause=Cause.CRASHED)
    if run.timed_out:
        return Verdict(NOT_GRADED, f"the verifier was stopped after {run.seconds:.0f} s", cause=Cause.TIMED_OUT)
    return Verdict(NOT_GRADED, run.fault, cause=run.fault_cause) if run.fault else None


def _decide(task: Task, reading: Reading) -> Verdict:
    if reading.fault:
        return Verdict(NOT_GRADED, reading.fault, cause=reading.cause)
    if reading.rewards:
        return _by_rewards(reading.rewards)
    if reading.solved is not None:
        status = RESOLVED if reading.solved else UNRESOLVED
        official = RESOLVED if reading.solved_once else UNRESOLVED
        reason = "" if reading.solved else "the verifier says that its tests failed"
        return Verdict(status, reason, official=official if task.verifier and task.verifier.layout == OPEN_SWE else "")
    return by_tests(task, reading)


def _by_rewards(rewards: Mapping[str, float]) -> Verdict:
    relevant = {"reward": rewards["reward"]} if "reward" in rewards else rewards
    short = {name: value for name, value in relevant.items() if value < FULL}
    details = ", ".join(f"{name} {value:g}" for name, value in short.items())
    return Verdict(UNRESOLVED if short else RESOLVED, f"short of the full reward: {details}" if short else "",
                   rewards=dict(rewards))  # fmt: skip


def by_tests(task: Task, reading: Reading) -> Verdict:
    """Decide by outcomes of tests; `official` is what the set's own rule says of them."""
    sides: list[dict[str, tuple[str, ...]]] = []
    for names in (task.fail_to_pass, task.pass_to_pass):
        successes = tuple(name for name in names if reading.tests.get(name) in PASSING)
        sides.append({"success": successes, "failure": tuple(name for name in names if name not in set(successes))})
    failures = [*sides[0]["failure"], *sides[1]["failure"]]
    more = ", …" * (len(failures) > 1)
    reason = f"{len(failures)} of {len(task.fail_to_pass) + len(task.pass_to_pass)} tests did not pass: {failures[0]} ({reading.tests.get(failures[0], 'not reported')}){more}" if failures else ""  # fmt: skip  # noqa: E501
    layout = task.verifier.layout if task.verifier else ""
    reported = {**reading.tests, **dict.fromkeys(reading.passed_somewhere, "PASSED")}
    outcomes = Outcomes(reported, task.fail_to_pass, task.pass_to_pass, task.extra)
    return Verdict(
        UNRESOLVED if failures else RESOLVED, reason, tests=dict(reading.tests), fail_to_pass=sides[0],
        pass_to_pass=sides[1], official=RESOLVED if resolved_by(layout, outcomes) else UNRESOLVED,
    )  # fmt: skip
