"""LanguageMaker: one call of make_tasks in a language other than Python."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TaskError, describe, outcome_of
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
from swebench_lab.tasks.making.validation import Rules

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory

_log = logging.getLogger(__name__)
_ROUND = 4
"""Mutations that are tried before the next are chosen. Fixed, so that the choice does not depend on threads."""
_REJECTED = 0.15
"""How much a rejected mutation counts against its operator, beside an accepted one's 1."""
_TRIES = 20
"""Mutations tried for each task wanted, at most."""
_BROKEN = 8
"""Mutations in a row that go wrong by an error, after which it is raised."""


@dataclass(frozen=True)
class _Found:
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
    failed: int = 0
    error: Exception | None = None

    def make(self) -> MadeTasks:
        """Try mutations until enough are tasks.

        Raises:
            TaskError: Nothing can be edited, no test passes, or the language or a strategy is unknown.
        """
        from tqdm.auto import tqdm

        self._start()
        found: list[_Found] = []
        issues: set[str] = set()
        used: dict[str, float] = {}
        with tqdm(
            total=self.settings.count, desc=f"make {self.clean.source}", unit="task", disable=not self.settings.progress
        ) as bar:
            while len(found) < self.settings.count and len(self.rows) < _TRIES * self.settings.count:
                drawn = [m for _ in range(_ROUND) if (m := self._draw(used)) is not None]
                if not drawn:
                    break
                if self.failed >= _BROKEN and self.error is not None:
                    raise self.error
                for tried in self.pool.map(self._tried, drawn):
                    if tried.issue in issues:
                        tried = replace(tried, trial=replace(tried.trial, reason="another task reads the same"))
                    self._note(tried)
                    if tried.trial.reason:
                        used[tried.mutation.strategy] -= 1.0 - _REJECTED
                    else:
                        issues.add(tried.issue)
                        found.append(tried)
                bar.update(min(len(found), self.settings.count) - bar.n)
        return self._finished(found[: self.settings.count])

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

    def _draw(self, used: dict[str, float]) -> Mutation | None:
        if (mutation := self.sites.draw(used)) is not None:
            used[mutation.strategy] = used.get(mutation.strategy, 0.0) + 1.0
        return mutation

    # --- one mutation -------------------------------------------------------------------------------------------------

    def _tried(self, mutation: Mutation) -> _Found:
        """Return what a mutation came to; runs in a worker thread. What goes wrong with one becomes its row."""
        if self.failed >= _BROKEN:
            return _Found(mutation, LogTrial("not tried"))
        for _ in range(2):  # the recording boundary of one mutation; a busy machine gets a second chance
            tried = outcome_of(lambda: self._try(mutation))
            if not isinstance(tried, Exception):
                self.failed = 0
                return tried
        assert isinstance(tried, Exception)
        _log.warning("making tasks from %s: trying %r: %s", self.clean.source, mutation.description, describe(tried))
        self.failed, self.error = self.failed + 1, tried
        return _Found(mutation, LogTrial(f"trying it went wrong: {describe(tried)}"))

    def _try(self, mutation: Mutation) -> _Found:
        broken = {mutation.path: mutation.after}
        trial = self.suite.trial(broken, self.baseline)
        if trial.reason:
            return _Found(mutation, trial)
        failures = [(test, of_test(test, self.cases)) for test in trial.failing]
        if lost := [test for test, places in failures if not places]:
            return _Found(mutation, replace(trial, reason=f"the code of the failing test {lost[0]!r} is not found"))
        seed = f"{self.settings.seed}:{mutation.key}"
        issue = write_issue(mutation, failures, trial.log, self.language.name, seed)
        if not issue:
            return _Found(mutation, replace(trial, reason="no issue can be written that hides the edit"))
        hidden = self._hidden(broken, trial, [case for _, places in failures for case in places])
        if hidden is None:
            return _Found(mutation, replace(trial, reason="its tests cannot be taken out of the tree"), issue)
        return _Found(mutation, trial, issue, hidden)

    def _hidden(
        self, broken: Mapping[str, str], trial: LogTrial, doomed: Sequence[Case]
    ) -> dict[str, str | None] | None:
        """Return test files without the tests that decide: their code is cut out, or else the whole files go.

        A file of which no test is left goes. The tests that are left must still pass; a file that no longer compiles, for
        example, breaks them all.
        """
        cut = without(self.texts, doomed)
        left = {case.path for case in self.cases if case not in doomed}
        shorter = {path: text if path in left else None for path, text in cut.items()}
        for files in (shorter, dict.fromkeys(cut), {**cut}):
            rest = {case for case in self.cases if case not in doomed and files.get(case.path, "") is not None}
            tests = {
                test for test in trial.passing if (places := of_test(test, self.cases)) and rest.issuperset(places)
            }
            if self.suite.passes({**broken, **files}, tests, self.baseline):
                return {**files}
        return None

    # --- the result ---------------------------------------------------------------------------------------------------

    def _id(self, mutation: Mutation) -> str:
        owner, _, name = self.clean.repo.partition("/")
        return f"{owner}__{name}.{self.clean.base_commit[:8]}.{mutation.strategy}__{mutation.key}"

    def _note(self, tried: _Found) -> None:
        mutation, trial = tried.mutation, tried.trial
        self.rows.append(
            {
                "strategy": mutation.strategy, "path": mutation.path, "target": mutation.target, "edit": mutation.description,
                "outcome": trial.reason or "task", "id": "" if trial.reason else self._id(mutation),
                "failing": len(trial.failing), "passing": len(trial.passing), "seconds": trial.seconds,
            }
        )  # fmt: skip

    def _finished(self, found: Sequence[_Found]) -> MadeTasks:
        groups = [(m.mutation.module.shape(m.mutation.edit.function),) for m in found]
        tasks = [self._task(m, family) for m, family in zip(found, families(groups), strict=True)]
        return MadeTasks(tasks, self.clean.source, self.rows)

    def _task(self, found: _Found, family: str) -> Task:
        mutation = found.mutation
        full = {path: self.texts[path] for path in found.hidden}
        return replace(
            self.clean,
            id=self._id(mutation),
            issue=found.issue,
            setup_patch=mutation.patch + make_patch(full, found.hidden),
            test_patch=make_patch(found.hidden, full),
            gold_patch=reverse_patch(mutation.patch),
            fail_to_pass=found.trial.failing,
            pass_to_pass=found.trial.passing,
            family=family,
            extra={"strategy": mutation.strategy, "edit": mutation.description, "language": self.language.name},
        )
