"""Validation: runs the suite on the clean tree and on every broken one, and says which tests decide, or why none can.

Each run has a fresh sandbox of its own over the clean Snapshot, as grading will have.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import SandboxPathError, TaskError
from swebench_lab.grading.rules.log_parsers import FAILING, parse_log
from swebench_lab.tasks.making.candidates import Candidate
from swebench_lab.tasks.making.python.module import Entity
from swebench_lab.tasks.making.python.snippets import Failure, Snippet

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.snapshots.environment.specs import Spec

_LAB = "/tmp/swebench_lab_making"
_OBSERVER = "swebench_lab_observer"
_NOT_FINISHED = {2: "the tests cannot be collected", 3: "pytest itself fails", 4: "pytest does not start"}
_TIMERS = {signal.SIGALRM, signal.SIGPROF}
"""What ends a test that takes too long: its limit by the clock, and by processors."""
LEAST_TIMEOUT = 10.0
"""Seconds that a broken tree's tests get at least, before it counts as hanging."""
SLOWDOWN = 5
"""How many times longer than on the clean tree a run may take."""
_HUNG, _GRACE, _WALL_GRACE = 3, 2.0, 5.0
"""How many times more than on the clean tree one test may take, and how many seconds of processors and of the clock more."""
_MOST_PATIENCE = 6.0
"""How many times longer a run may take at most where the machine is busy."""
_SLOW = 0.25
"""Seconds from which on a test is not run on broken trees whose edited code it does not reach."""


_MUCH, _SHARE = 2.0, 0.1
"""Seconds of processors, and the share of all tests, from which on the tests of a function are slow."""


@dataclass(frozen=True)
class Baseline:
    """What the suite does on the clean tree.

    Args:
        passing: Tests that passed in every run, in the order of the log.
        unstable: Tests that did not do the same in every run; they decide nothing.
        files: The test files.
        seconds: The longest run.
        times: How long each test took; empty when it could not be found out.
        work: Seconds of processors that each test took: what a busy machine does not change, so hanging is judged by it.
        loading: Seconds of processors that loading the tests took; 0 when it could not be found out.
        reached: First lines of the functions that run during tests, by path, with the tests that reach each;
            None when it could not be found out.
    """

    passing: tuple[str, ...]
    unstable: tuple[str, ...]
    files: tuple[str, ...]
    seconds: float
    reached: Mapping[str, Mapping[int, frozenset[str]]] | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    loading: float = 0.0

    def lines(self) -> dict[str, frozenset[int]] | None:
        """Return the first lines of the functions that the suite runs, by path."""
        return None if self.reached is None else {path: frozenset(by_line) for path, by_line in self.reached.items()}

    @cached_property
    def breadth(self) -> Mapping[str, int]:
        """How many functions each test reaches: the fewer, the closer it is to one of them."""
        counts: Counter[str] = Counter()
        for lines in (self.reached or {}).values():
            for tests in lines.values():
                counts.update(tests)
        return counts

    def expected(self, tests: Iterable[str] | None) -> float:
        """Return about how long some tests take by themselves; all of them when not given."""
        if tests is None or not self.times:
            return self.seconds
        start = max(0.0, self.seconds - sum(self.times.values()))
        return start + sum(self.times.get(test, 0.0) for test in tests)

    def affected(self, candidate: Candidate) -> frozenset[str] | None:
        """Return the tests that reach what a candidate edits; None when that is not known."""
        if self.reached is None:
            return None
        return frozenset().union(*(self.reaching(candidate.path, entity) for entity in candidate.entities))

    def apart(self, near: frozenset[str] | None) -> frozenset[str]:
        """Return the slow tests that reach nothing of what is edited, where it is known what each test reaches."""
        if near is None:
            return frozenset()
        slow = {test for test, seconds in self.times.items() if seconds >= _SLOW}
        return frozenset(slow.intersection(self.passing).intersection(self.breadth) - near)

    def limits(self) -> dict[str, tuple[float, float]]:
        """Return what one test may take on a broken tree: seconds of processors, and of the clock for one that waits."""
        return {
            test: (_HUNG * self.work[test] + _GRACE, patient(_HUNG * seconds + _WALL_GRACE))
            for test, seconds in self.times.items()
        }

    def is_slow(self, path: str, entity: Entity) -> bool:
        """Whether the tests that run code of a function or class take a good part of all the tests' time."""
        seconds = sum(self.work.get(test, 0.0) for test in self.reaching(path, entity))
        return seconds > max(_MUCH, _SHARE * sum(self.work.values()))

    def reaching(self, path: str, entity: Entity) -> frozenset[str]:
        """Return the tests that run code of one function or class."""
        places = (self.reached or {}).get(path, {})
        groups = (tests for line, tests in places.items() if entity.first_line <= line <= entity.last_line)
        return frozenset().union(*groups)


@dataclass(frozen=True)
class Trial:
    """What became of one candidate.

    Args:
        candidate: The candidate.
        reason: Why it is no task; empty when it is one.
        fail_to_pass: Tests that pass on the clean tree and fail on the broken one.
        pass_to_pass: Tests that pass on both.
        failures: How tests fail, as seen from inside them.
        seconds: What it cost.
    """

    candidate: Candidate
    reason: str = ""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a snippet gave.

    Args:
        kind: `value`, `error`, or `none` when it did not come to an end.
        text: The value's text, or the error's message.
        type: Name of the value's or the error's type.
        drawn: Whether the value was an iterator, whose items are in the text.
    """

    kind: str
    text: str = ""
    type: str = ""
    drawn: bool = False


@dataclass(frozen=True)
class Rules:
    """What makes a candidate a task.

    Args:
        repeats: How many times the broken tree must give the same outcomes.
        clean_repeats: How many runs of the clean tree decide which tests are stable.
        max_failing: Share of the passing tests that may fail at most.
    """

    repeats: int = 2
    clean_repeats: int = 3
    max_failing: float = 0.6


@dataclass
class Suite:
    """A repository's tests, run in sandboxes.

    Args:
        open: Opens a fresh sandbox over the clean tree.
        spec: How the tests are run.
        rules: What makes a candidate a task.
        name: What the repository is called in messages.
    """

    open: Callable[[], Sandbox]
    spec: Spec
    rules: Rules = field(default_factory=Rules)
    name: str = "the repository"

    # --- the clean tree -----------------------------------------------------------------------------------------------

    def baseline(self, pool: Executor) -> Baseline:
        """Run the clean tree's tests a few times, and once more to note what they reach.

        Args:
            pool: Runs them, as many at once as it has threads.

        Raises:
            TaskError: They do not end, or none passes.
        """
        repeats = max(self.rules.clean_repeats, 1)
        first, trace = pool.submit(self._clean, timed=True), pool.submit(self._clean, traced=True)
        rest = [pool.submit(self._clean) for _ in range(repeats - 2)]
        (result, notes), (traced, trace_notes) = first.result(), trace.result()
        results = [result, *(run.result()[0] for run in rest)]
        if repeats > 1:  # noting what tests reach changes little: it is one of the repeats, where it came to an end
            results.append(self._clean()[0] if traced.timed_out or self._unfinished(traced) else traced)
        runs = [self._outcomes(result) for result in results]
        for result, outcomes in zip(results, runs, strict=True):
            if result.timed_out or not any(status == "PASSED" for status in outcomes.values()):
                raise TaskError(self._no_baseline(result))
        files = tuple(sorted({test.partition("::")[0] for test in runs[0] if "::" in test}))
        passing, unstable = stable_tests(runs)
        longest = max(result.seconds for result in results)
        work, times = ({test: pair[i] for test, pair in notes.get("times", {}).items()} for i in (0, 1))
        reached = None if traced.timed_out else _functions_reached(trace_notes)
        return Baseline(passing, unstable, files, longest, reached, times, work, notes.get("loading", 0.0))

    def _clean(self, timed: bool = False, traced: bool = False) -> tuple[Result, dict[str, Any]]:
        """Run the clean tree's tests; note how long each takes, or what each reaches, where that is wanted."""
        with self.open() as box:
            if timed or traced:
                return self._observe(box, (), self.spec.timeout, trace=traced)
            return self._run(box, (), self.spec.timeout), {}

    def _no_baseline(self, result: Result) -> str:
        doing = f"making tasks from {self.name}: running its tests on the clean tree with {self.spec.test_command!r}"
        if result.timed_out:
            return f"{doing}: not done after {self.spec.timeout:.0f} s; raise the spec's timeout"
        last = " / ".join(result.output.strip().splitlines()[-3:])
        return f"{doing}: no test passes (exit code {result.exit_code}): {last or 'no output'}; set spec= for its needs"

    # --- a broken tree ------------------------------------------------------------------------------------------------

    def trial(self, candidate: Candidate, baseline: Baseline) -> Trial:
        """Run the tests with a candidate's edits made, and decide whether it is a task.

        The tests that reach the edited code run first, by themselves: where none of them fails, the rest is not run.
        Where all tests together say the same of them, that was the first repeat. Slow tests that never run the edited
        code are not run again: they do what they did on the clean tree.
        """
        seconds = 0.0
        limit = max(LEAST_TIMEOUT, SLOWDOWN * baseline.seconds)
        near = baseline.affected(candidate)
        with self._open_mutant(candidate) as box:
            first = max(LEAST_TIMEOUT, SLOWDOWN * baseline.expected(near))
            files = sorted({test.partition("::")[0] for test in near or ()}) or baseline.files
            result, notes = self._observe(box, files, first, baseline, only=near, explain=True)
        seconds += result.seconds
        failures = tuple(Failure(**{k: v for k, v in f.items() if k != "when"}) for f in notes.get("failures", ()))
        if reason := self._unfinished(result, near is not None) or ("" if failures else "no test fails"):
            return Trial(candidate, reason, seconds=seconds)
        alone, apart = self._outcomes(result), baseline.apart(near)
        runs: list[dict[str, str]] = []
        while len(runs) < max(self.rules.repeats, 1):
            with self._open_mutant(candidate) as box:
                result, _ = self._observe(box, baseline.files, limit, baseline, without=apart)
            seconds += result.seconds
            if reason := self._unfinished(result):
                return Trial(candidate, reason, seconds=seconds)
            runs.append(self._outcomes(result) | dict.fromkeys(apart, "PASSED"))
            if reason := self._unfit(runs, baseline):
                return Trial(candidate, reason, seconds=seconds)
            if len(runs) == 1 and near is not None and _agree(alone, runs[0], near, baseline):
                runs.append(runs[0])
        failing, passing = _split_tests(runs[0], baseline)
        return Trial(candidate, "", failing, passing, failures, seconds)

    def _open_mutant(self, candidate: Candidate) -> Sandbox:
        box = self.open()
        try:
            box.write(candidate.path, candidate.after.encode("utf-8"))
        except BaseException:
            box.close()
            raise
        return box

    def _unfinished(self, result: Result, is_subset: bool = False) -> str:
        """Return why a run of the tests says nothing; a choice of tests may have had none left."""
        if result.timed_out or {result.signal, (result.exit_code or 0) - 128}.intersection(_TIMERS):
            return "the tests hang"
        if result.limit:
            return f"the tests run into the {result.limit} limit"
        if is_subset and result.exit_code == 5:
            return "no test fails"
        if result.exit_code not in (0, 1):
            return _NOT_FINISHED.get(result.exit_code or 0, f"the tests end with exit code {result.exit_code}")
        return ""

    def _unfit(self, runs: Sequence[Mapping[str, str]], baseline: Baseline) -> str:
        """Return why outcomes make no task, or an empty text."""
        failing, passing = _split_tests(runs[-1], baseline)
        if not failing:
            return "no test fails"
        if not passing:
            return "no test passes"
        if any("::" not in test for test in failing) or any(
            "::" not in test and status in FAILING for test, status in runs[-1].items()
        ):
            return "the tests cannot be collected"
        if len(failing) > self.rules.max_failing * len(baseline.passing):
            return "too many tests fail"
        if _split_tests(runs[0], baseline) != (failing, passing):
            return "not the same tests fail each time"
        return ""

    # --- snippets -----------------------------------------------------------------------------------------------------

    def outcomes(self, snippets: Sequence[Snippet], candidate: Candidate | None) -> list[Outcome]:
        """Run snippets on the broken tree, or on the clean one, and return what each gave.

        Args:
            snippets: The snippets.
            candidate: Whose edits are made; None: the clean tree.
        """
        if not snippets:
            return []
        with self._open_mutant(candidate) if candidate else self.open() as box:
            text = json.dumps([{"setup": s.setup, "probe": s.probe} for s in snippets])
            box.write(f"{_LAB}/snippets.json", text)
            box.write(f"{_LAB}/runner.py", _in_box("runner.py"))
            command = ["python", f"{_LAB}/runner.py", f"{_LAB}/snippets.json", f"{_LAB}/outcomes.json"]
            result = box.run(command, timeout=patient(30.0 + 6 * len(snippets)), env={"PYTHONHASHSEED": "0"})
            if not result.ok:
                return [Outcome("none") for _ in snippets]
            return [Outcome(**entry) for entry in json.loads(box.read(f"{_LAB}/outcomes.json"))]

    # --- running ------------------------------------------------------------------------------------------------------

    def _command(self, files: Iterable[str]) -> str:
        from swebench_lab.grading.execution.scripts import with_files

        return with_files(self.spec.test_command, files)

    def _run(self, box: Sandbox, files: Iterable[str], timeout: float) -> Result:
        return box.run(self._command(files), timeout=patient(timeout))

    def _outcomes(self, result: Result) -> dict[str, str]:
        return parse_log(self.spec.log_parser, result.output)

    def _observe(
        self,
        box: Sandbox,
        files: Iterable[str],
        timeout: float,
        baseline: Baseline | None = None,
        only: Iterable[str] | None = None,
        without: Iterable[str] = (),
        trace: bool = False,
        explain: bool = False,
    ) -> tuple[Result, dict[str, Any]]:
        """Run tests with the observer loaded, and return what it noted.

        With a baseline each test has a limit by it, and tracebacks are left out: nobody reads them, and pytest parses
        the whole file again for each.
        """
        out = f"{_LAB}/notes.json"
        selection = {"only": None if only is None else sorted(only), "without": sorted(without)}
        box.write(f"{_LAB}/{_OBSERVER}.py", _in_box("observer.py"))
        orders: dict[str, Any] = {"out": out, **selection, "trace": trace, "explain": explain}
        options = f"-p {_OBSERVER}"
        if baseline is not None:
            options += " --tb=no"
            if baseline.loading:
                orders |= {"limits": baseline.limits(), "loading": _HUNG * baseline.loading + _GRACE}
        box.write(f"{_LAB}/orders.json", json.dumps(orders))
        lead = f"export SWEBENCH_LAB_OBSERVER={_LAB}/orders.json PYTHONPATH={_LAB}${{PYTHONPATH:+:$PYTHONPATH}}\n"
        lead += f'export PYTEST_ADDOPTS="{options} ${{PYTEST_ADDOPTS-}}"\n'
        result = box.run(lead + self._command(files), timeout=patient(timeout))
        if result.timed_out:
            return result, {}
        try:
            notes: dict[str, Any] = json.loads(box.read(out))
        except (SandboxPathError, ValueError):  # pytest ended before it wrote them, or in the middle
            notes = {}
        return result, notes


def patient(seconds: float) -> float:
    """Return a time limit scaled by the machine's load, so that a busy machine does not decide what hangs."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * min(max(1.0, load), _MOST_PATIENCE)


def stable_tests(runs: Sequence[Mapping[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tests that passed in every run, in order, and those that did not do the same in every run."""
    passing = tuple(test for test in runs[0] if all(run.get(test) == "PASSED" for run in runs))
    unstable = {test for run in runs for test in run if len({other.get(test) for other in runs}) > 1}
    return passing, tuple(sorted(unstable))


def _functions_reached(notes: Mapping[str, Any]) -> dict[str, dict[int, frozenset[str]]] | None:
    """Return which tests reach each function, by path and first line, of what the observer noted."""
    if not notes.get("reached"):
        return None
    tests = notes["tests"]
    return {
        path: {int(line): frozenset(tests[i] for i in numbers) for line, numbers in lines.items()}
        for path, lines in notes["reached"].items()
    }


def _split_tests(outcomes: Mapping[str, str], baseline: Baseline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which of the clean tree's passing tests fail now, and which still pass."""
    failing = tuple(test for test in baseline.passing if outcomes.get(test) in FAILING)
    return failing, tuple(test for test in baseline.passing if outcomes.get(test) == "PASSED")


def _agree(alone: Mapping[str, str], whole: Mapping[str, str], near: frozenset[str], baseline: Baseline) -> bool:
    """Whether tests that ran by themselves did what they do among all, and no other test fails."""
    failing, _ = _split_tests(whole, baseline)
    return near.issuperset(failing) and all(alone.get(test) == whole.get(test) for test in near)


def _in_box(name: str) -> str:
    """Return the text of one of the programs that run in the box."""
    return resources.files("swebench_lab.tasks.making").joinpath("in_sandbox", name).read_text("utf-8")
