"""A suite in any language, run by its command and read by its log: which tests pass on the clean tree and on a broken one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swebench_lab.errors import TaskError
from swebench_lab.grading.rules.log_parsers import FAILING, parse_log
from swebench_lab.tasks.making.validation import LEAST_TIMEOUT, SLOWDOWN, Rules, patient, stable_tests

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.snapshots.environment.specs import Spec


@dataclass(frozen=True)
class LogBaseline:
    """What the suite does on the clean tree.

    Args:
        passing: Tests that passed in every run, in the order of the log.
        seconds: The longest run.
    """

    passing: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class LogTrial:
    """What the suite does on a broken tree.

    Args:
        reason: Why it makes no task; empty when it makes one.
        failing: Tests that pass on the clean tree and fail here.
        passing: Tests that pass on both.
        log: What the last run printed.
        seconds: What it cost.
    """

    reason: str = ""
    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    log: str = ""
    seconds: float = 0.0


@dataclass
class LogSuite:
    """A repository's tests, run in sandboxes.

    Args:
        open: Opens a fresh sandbox over the clean tree.
        spec: How the tests are run.
        rules: What makes a broken tree a task.
        name: What the repository is called in messages.
    """

    open: Callable[[], Sandbox]
    spec: Spec
    rules: Rules
    name: str

    def baseline(self) -> LogBaseline:
        """Run the clean tree's tests a few times.

        Raises:
            TaskError: They do not end, or none passes.
        """
        runs, longest = [], 0.0
        for _ in range(max(self.rules.clean_repeats, 1)):
            result, tests = self.run({}, self.spec.timeout)
            if result.timed_out or "PASSED" not in tests.values():
                raise TaskError(self._no_baseline(result))
            runs.append(tests)
            longest = max(longest, result.seconds)
        return LogBaseline(stable_tests(runs)[0], longest)

    def _no_baseline(self, result: Result) -> str:
        doing = f"making tasks from {self.name}: running its tests on the clean tree with {self.spec.test_command!r}"
        if result.timed_out:
            return f"{doing}: not done after {self.spec.timeout:.0f} s; raise the spec's timeout"
        last = " / ".join(result.output.strip().splitlines()[-3:])
        return (
            f"{doing}, read by {self.spec.log_parser}: no test passes (exit code {result.exit_code}): {last or 'no output'}; "
            "set spec= for its needs: test_command, log_parser, and its toolchain's Debian packages as system"
        )

    def trial(self, files: Mapping[str, str | None], baseline: LogBaseline) -> LogTrial:
        """Run the tests with some files changed, as often as the rules say; say why that makes no task, or which tests decide."""
        seconds, first = 0.0, LogTrial()
        for number in range(max(self.rules.repeats, 1)):
            result, tests = self.run(files, max(LEAST_TIMEOUT, SLOWDOWN * baseline.seconds))
            seconds += result.seconds
            failing = tuple(test for test in baseline.passing if tests.get(test) in FAILING)
            passing = tuple(test for test in baseline.passing if tests.get(test) == "PASSED")
            trial = LogTrial("", failing, passing, result.output, seconds)
            if reason := self._unfit(result, tests, trial, len(baseline.passing)):
                return LogTrial(reason, seconds=seconds)
            if number and (failing, passing) != (first.failing, first.passing):
                return LogTrial("not the same tests fail each time", seconds=seconds)
            first = trial
        return first

    def _unfit(self, result: Result, tests: Mapping[str, str], trial: LogTrial, total: int) -> str:
        if result.timed_out:
            return "the tests hang"
        if result.limit:
            return f"the tests run into the {result.limit} limit"
        if not tests:
            return "no test runs"
        if not trial.failing:
            return "no test fails" if trial.passing else "no test runs"
        if not trial.passing:
            return "no test passes"
        return "too many tests fail" if len(trial.failing) > self.rules.max_failing * total else ""

    def passes(self, files: Mapping[str, str | None], tests: set[str], baseline: LogBaseline) -> bool:
        """Whether some tests pass with some files changed or gone."""
        result, outcomes = self.run(files, max(LEAST_TIMEOUT, SLOWDOWN * baseline.seconds))
        return not result.timed_out and all(outcomes.get(test) == "PASSED" for test in tests)

    def run(self, files: Mapping[str, str | None], timeout: float) -> tuple[Result, dict[str, str]]:
        """Run the tests in a fresh box with some files changed; None stands for a file that is gone."""
        with self.open() as box:
            for path, text in files.items():
                if text is None:
                    box.run(["rm", "-f", "--", path])
                else:
                    box.write(path, text.encode("utf-8"))
            result = box.run(self.spec.test_command, timeout=patient(timeout))
        return result, parse_log(self.spec.log_parser, result.output)
