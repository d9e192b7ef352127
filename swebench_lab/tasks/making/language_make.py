"""LanguageMaker: one call of make_tasks in a language other than Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TaskError
from swebench_lab.records.patches.diff import make_patch, reverse_patch
from swebench_lab.records.task import Task
from swebench_lab.snapshots.environment.specs import spec_of
from swebench_lab.tasks.making.families import families
from swebench_lab.tasks.making.language_issues import write_issue
from swebench_lab.tasks.making.languages.cases import Case, cases, of_test, without
from swebench_lab.tasks.making.languages.grammar import language_of
from swebench_lab.tasks.making.log_suite import LogSuite, LogTrial
from swebench_lab.tasks.making.made import MadeTasks, Settings
from swebench_lab.tasks.making.mutations import Mutation, Mutations, read_files
from swebench_lab.tasks.making.tries import Tries
from swebench_lab.tasks.making.validation import Rules

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory

_ROUND = 4
"""Mutations that are tried before the next are chosen. Fixed, so that the choice does not depend on threads."""
_REJECTED = 0.15
"""How much a rejected mutation counts against its operator, beside an accepted one's 1."""
_TRIES = 20
"""Mutations tried for each task wanted, at most."""
_BROKEN = 8
"""Mutations in a row that go wrong by an error, after which it is raised."""


@dataclass(frozen=True)
class _Attempt:
    """A mutation that was tried; a task when its trial has no reason against it."""

    mutation: Mutation
    trial: LogTrial
    issue: str = ""
    hidden: Mapping[str, str | None] = field(default_factory=dict)


@dataclass
class LanguageMaker:
    """Makes tasks from a clean tree: one edit each, tests that decide taken out of the tree and put back when it is graded.

    Args:
        clean: The clean tree as a task.
        settings: What is wanted.
        factory: Where suites run.
        checkout: The clean tree's files.
        pool: Runs trials.
    """

    clean: Task
    settings: Settings
    factory: SandboxFactory
    checkout: Path
    pool: ThreadPoolExecutor
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tries = Tries(self.clean.source, _BROKEN)

    def make(self) -> MadeTasks:
        """Try mutations until enough are tasks.

        Raises:
            TaskError: Nothing can be edited, no test passes, or the language or a strategy is unknown.
        """
        from tqdm.auto import tqdm

        self._start()
        results: list[_Attempt] = []
        issues: set[str] = set()
        weight: dict[str, float] = {}
        with tqdm(
            total=self.settings.count, desc=f"make {self.clean.source}", unit="task", disable=not self.settings.progress
        ) as bar:
            while len(results) < self.settings.count and len(self.rows) < _TRIES * self.settings.count:
                batch = [m for _ in range(_ROUND) if (m := self._draw(weight)) is not None]
                if not batch:
                    break
                self.tries.check()
                for result in self.pool.map(self._result_of, batch):
                    if result.issue in issues:
                        result = replace(result, trial=replace(result.trial, reason="another task reads the same"))
                    self._note(result)
                    if result.trial.reason:
                        weight[result.mutation.strategy] -= 1.0 - _REJECTED
                    else:
                        issues.add(result.issue)
                        results.append(result)
                bar.update(min(len(results), self.settings.count) - bar.n)
        return self._finish(results[: self.settings.count])

    def _start(self) -> None:
        """Read the files and run the tests of the clean tree."""
        self.language = language_of(self.settings.language)
        spec = {**self.language.spec, **(self.clean.spec or {})}
        if "test_command" not in spec or "log_parser" not in spec:
            raise TaskError(
                f"making tasks in {self.language.name}: say how tests run: spec= needs test_command and log_parser"
            )
        self.clean = replace(self.clean, spec=spec)
        modules = read_files(self.checkout, self.language, tests=False)
        self.sites = Mutations(modules, self.settings.seed, self.settings.strategies)
        tests = read_files(self.checkout, self.language, tests=True)
        self.texts = {module.path: module.source for module in tests}
        self.cases = tuple(case for module in tests for case in cases(module))
        if not modules or not self.cases:
            missing = "code" if not modules else "test"
            raise TaskError(
                f"making tasks from {self.clean.source}: it has no {self.language.name} {missing} that can be read"
            )
        snapshot = self.factory.snapshot(self.clean)
        rules = Rules(self.settings.repeats, max_failing=self.settings.max_failing)
        self.suite = LogSuite(lambda: self.factory.open(snapshot), spec_of(snapshot), rules, self.clean.source)
        self.baseline = self.suite.baseline()

    def _draw(self, weight: dict[str, float]) -> Mutation | None:
        if (mutation := self.sites.draw(weight)) is not None:
            weight[mutation.strategy] = weight.get(mutation.strategy, 0.0) + 1.0
        return mutation

    # --- one mutation -------------------------------------------------------------------------------------------------

    def _result_of(self, mutation: Mutation) -> _Attempt:
        """Return what a mutation came to; runs in a worker thread."""
        outcome = self.tries.outcome(lambda: self._examine(mutation), mutation.description)
        return _Attempt(mutation, LogTrial(outcome)) if isinstance(outcome, str) else outcome

    def _examine(self, mutation: Mutation) -> _Attempt:
        edit = {mutation.path: mutation.after}
        trial = self.suite.trial(edit, self.baseline)
        if trial.reason:
            return _Attempt(mutation, trial)
        failures = [(test, of_test(test, self.cases)) for test in trial.failing]
        if unplaced := [test for test, places in failures if not places]:
            return _Attempt(
                mutation, replace(trial, reason=f"the code of the failing test {unplaced[0]!r} is not found")
            )
        seed = f"{self.settings.seed}:{mutation.key}"
        issue = write_issue(mutation, failures, trial.log, self.language.name, seed)
        if not issue:
            return _Attempt(mutation, replace(trial, reason="no issue can be written that hides the edit"))
        hidden = self._hide(edit, trial, [case for _, places in failures for case in places])
        if hidden is None:
            return _Attempt(mutation, replace(trial, reason="its tests cannot be taken out of the tree"), issue)
        return _Attempt(mutation, trial, issue, hidden)

    def _hide(self, edit: Mapping[str, str], trial: LogTrial, deciding: Sequence[Case]) -> dict[str, str | None] | None:
        """Return test files without the tests that decide: their code is cut out, or else the whole files go.

        A file of which no test is left goes. The tests that are left must still pass; a file that no longer compiles, for
        example, breaks them all.
        """
        cut = without(self.texts, deciding)
        left = {case.path for case in self.cases if case not in deciding}
        shorter = {path: text if path in left else None for path, text in cut.items()}
        for files in (shorter, dict.fromkeys(cut), {**cut}):
            rest = {case for case in self.cases if case not in deciding and files.get(case.path, "") is not None}
            tests = {
                test for test in trial.passing if (places := of_test(test, self.cases)) and rest.issuperset(places)
            }
            if self.suite.passes({**edit, **files}, tests, self.baseline):
                return {**files}
        return None

    # --- the result ---------------------------------------------------------------------------------------------------

    def _id(self, mutation: Mutation) -> str:
        owner, _, name = self.clean.repo.partition("/")
        return f"{owner}__{name}.{self.clean.base_commit[:8]}.{mutation.strategy}__{mutation.key}"

    def _note(self, result: _Attempt) -> None:
        mutation, trial = result.mutation, result.trial
        self.rows.append(
            {
                "strategy": mutation.strategy, "path": mutation.path, "target": mutation.target, "edit": mutation.description,
                "outcome": trial.reason or "task", "id": "" if trial.reason else self._id(mutation),
                "failing": len(trial.failing), "passing": len(trial.passing), "seconds": trial.seconds,
            }
        )  # fmt: skip

    def _finish(self, results: Sequence[_Attempt]) -> MadeTasks:
        groups = [(m.mutation.module.shape(m.mutation.edit.function),) for m in results]
        tasks = [self._task(m, family) for m, family in zip(results, families(groups), strict=True)]
        return MadeTasks(tasks, self.clean.source, self.rows)

    def _task(self, result: _Attempt, family: str) -> Task:
        mutation = result.mutation
        full = {path: self.texts[path] for path in result.hidden}
        return replace(
            self.clean,
            id=self._id(mutation),
            issue=result.issue,
            setup_patch=mutation.patch + make_patch(full, result.hidden),
            test_patch=make_patch(result.hidden, full),
            gold_patch=reverse_patch(mutation.patch),
            fail_to_pass=result.trial.failing,
            pass_to_pass=result.trial.passing,
            family=family,
            extra={"strategy": mutation.strategy, "edit": mutation.description, "language": self.language.name},
        )
