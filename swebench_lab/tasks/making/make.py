"""make_tasks: any repository with a test suite becomes validated tasks, the same ones for the same seed."""

from __future__ import annotations

import os
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TaskError
from swebench_lab.records.patches.diff import reverse_patch
from swebench_lab.records.task import Task
from swebench_lab.snapshots.environment.specs import spec_of
from swebench_lab.tasks.making.made import MadeTasks, Settings, repo_name
from swebench_lab.tasks.making.tries import Tries

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.tasks.making.candidates import Candidate, Pool
    from swebench_lab.tasks.making.evidence import Evidence
    from swebench_lab.tasks.making.python.module import Module
    from swebench_lab.tasks.making.python.snippets import Failure
    from swebench_lab.tasks.making.validation import Baseline, Suite, Trial

_ROUND, _LEAST_ROUND = 8, 2
"""Candidates that are tried before the next are chosen: as many as tasks are wanted still, within these bounds. The choice
does not depend on threads."""
_REJECTED = 0.15
"""How much a rejected candidate counts against its strategy, beside an accepted one's 1."""
_TRIES = 40
"""Candidates tried for each task wanted, at most."""
_BROKEN = 12
"""Candidates in a row that go wrong by an error, after which the machine is at fault and the error is raised."""


def make_tasks(
    source: str | Path,
    count: int = 20,
    seed: int = 0,
    *,
    sandboxes: SandboxFactory | None = None,
    strategies: Sequence[str] | None = None,
    language: str = "python",
    combined: float | None = None,
    repeats: int = 2,
    max_failing: float = 0.6,
    spec: Mapping[str, Any] | None = None,
    split: str = "",
    workers: int | None = None,
    progress: bool = True,
) -> MadeTasks:
    """Make tasks from a repository: break it a little, and keep what its own tests notice.

    Args:
        source: A local git repository or folder, `"pypi:<name>==<version>"` or `"demo:<name>"`.
        count: How many tasks are wanted.
        seed: Decides which; the same seed gives the same tasks, however many threads run.
        sandboxes: Where suites run; a `SandboxFactory()` of its own when not given.
        strategies: Names of the single strategies to use (`making.strategies.STRATEGIES`, or those of
            `making.languages.operators.OPERATORS`); all by default.
        language: `python`, or with the extra `languages` `javascript`, `typescript` or `go`. Those need their toolchain in
            the sandboxes (`spec={"system": [...]}` names Debian packages), and typescript also a test command.
        combined: Share of tasks that join two or three edits, each of which breaks something alone; 0.2 for Python when
            not given. In other languages every task has one edit.
        repeats: Runs of the broken tree that must all give the same outcomes.
        max_failing: Share of the suite that a task may break at most.
        spec: Fields of `specs.Spec` to override, kept in the tasks.
        split: What the tasks' `split` says.
        workers: Suites that run at once; one for each processor by default.
        progress: Whether to show a progress bar.

    Returns:
        The tasks; `.report` tells of every candidate. A warning says when there are fewer than `count`.

    Raises:
        TaskError: The source has no suite that passes, or an argument is wrong.
        SnapshotError: The repository or its requirements cannot be had.
        SandboxUnavailable: This machine cannot make sandboxes.
    """
    from swebench_lab.snapshots.factory import SandboxFactory

    share = combined if combined is not None else 0.2 if language == "python" else 0.0
    settings = Settings(count, seed, share, strategies, repeats, max_failing, progress, language)
    name = str(source) if ":" in str(source) else str(Path(source).expanduser().resolve())
    clean = Task(f"clean {name}", repo_name(name), "", "", "", (), (), source=name, split=split, spec=spec)
    factory = sandboxes or SandboxFactory()
    try:
        return _make(clean, settings, factory, workers or os.cpu_count() or 1)
    finally:
        if sandboxes is None:
            factory.close()


def _make(clean: Task, settings: Settings, factory: SandboxFactory, workers: int) -> MadeTasks:
    """Make tasks from a clean tree, which lies in a folder of its own meanwhile."""
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as folder:
        checkout = Path(folder) / "tree"
        commit = factory.cache.source(clean).checkout(checkout)
        start = replace(clean, base_commit=commit)
        with ThreadPoolExecutor(workers, thread_name_prefix="make") as pool:
            if settings.language == "python":
                tasks = _Maker(start, settings, factory, checkout, pool).make()
            else:
                from swebench_lab.tasks.making.language_make import LanguageMaker

                tasks = LanguageMaker(start, settings, factory, checkout, pool).make()
    if len(tasks) < settings.count:
        warnings.warn(
            f"making tasks from {clean.source}: {len(tasks)} of the {settings.count} wanted; "
            f"{len(tasks.report)} candidates were tried, see .report",
            stacklevel=3,
        )
    return tasks


@dataclass(frozen=True)
class _Made:
    """A candidate that is a task, with its issue."""

    trial: Trial
    issue: str
    evidence: tuple[Evidence, ...]
    shapes: tuple[str, ...] = ()

    @property
    def candidate(self) -> Candidate:
        return self.trial.candidate


@dataclass
class _Maker:
    """One call of `make_tasks`."""

    clean: Task
    settings: Settings
    factory: SandboxFactory
    checkout: Path
    pool: ThreadPoolExecutor
    rows: list[dict[str, Any]] = field(default_factory=list)
    issues: set[str] = field(default_factory=set)
    lacking: int = 0

    def __post_init__(self) -> None:
        self.tries = Tries(self.clean.source, _BROKEN)

    def make(self) -> MadeTasks:
        """Try candidates until enough are tasks."""
        from tqdm.auto import tqdm

        with tqdm(
            total=self.settings.count, desc=f"make {self.clean.source}", unit="task", disable=not self.settings.progress
        ) as bar:
            self.bar = bar
            return self._finish(self._choose(self._sites()))

    def _sites(self) -> Pool:
        """Run the tests of the clean tree, and return the edits that they may notice."""
        from swebench_lab.tasks.making.candidates import Pool, read_modules
        from swebench_lab.tasks.making.validation import Rules, Suite

        name = self.clean.source
        self.bar.set_postfix_str("building the clean tree")
        snapshot = self.factory.snapshot(self.clean)
        rules = Rules(repeats=self.settings.repeats, max_failing=self.settings.max_failing)
        self.suite: Suite = Suite(lambda: self.factory.open(snapshot), spec_of(snapshot), rules, name)
        self.bar.set_postfix_str("running its tests some times on the clean tree")
        self.baseline: Baseline = self.suite.baseline(self.pool)
        reached = self.baseline.lines()
        self.bar.set_postfix_str("looking for places to edit")
        self.modules: tuple[Module, ...] = read_modules(self.checkout, reached)
        self.known = frozenset(e.node.name.value for module in self.modules for e in module.entities)
        if not self.modules:
            raise TaskError(
                f"making tasks from {name}: its tests reach no Python file of the project that can be edited"
            )
        try:
            return Pool(self.modules, self.settings.seed, reached, self.settings.strategies, self.baseline.is_slow)
        except ValueError as error:
            raise TaskError(str(error)) from error

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _choose(self, sites: Pool) -> list[_Made]:
        """Return enough tasks: single edits, then combinations of edits that are no tasks themselves."""
        count, pair_count = self.settings.count, round(self.settings.count * self.settings.combined)
        singles: list[_Made] = []
        rounds = self._singles(sites, count - pair_count)
        self.lacking = count + pair_count
        while self.lacking > 0 and (batch := next(rounds, None)) is not None:
            singles += batch
            self.lacking -= len(batch)
            self._tell(min(len(singles), count - pair_count))
        pairs, parts = self._combinations(singles, pair_count)
        rest = [single for single in singles if single.candidate not in parts]
        self.lacking = count - len(rest) - len(pairs)
        while self.lacking > 0 and (batch := next(rounds, None)) is not None:
            rest += batch
            self.lacking -= len(batch)
        tasks = [*rest[: count - len(pairs)], *pairs]
        random.Random(f"{self.settings.seed}:order").shuffle(tasks)
        self._tell(len(tasks))
        return tasks

    def _tell(self, count: int) -> None:
        self.bar.update(max(0, count - self.bar.n))
        self.bar.set_postfix(tried=len(self.rows))

    def _singles(self, sites: Pool, apart: int) -> Iterator[list[_Made]]:
        """Yield, round by round, the candidates of one edit that are tasks.

        Args:
            sites: Where candidates are drawn from.
            apart: How many tasks to spread over the functions; later ones come beside earlier ones, to be combined.
        """
        count = 0
        weight: dict[str, float] = {}
        load: Counter[tuple[str, str]] = Counter()
        while len(self.rows) < _TRIES * self.settings.count:
            batch: list[Candidate] = []
            for _ in range(min(_ROUND, max(_LEAST_ROUND, self.lacking))):
                if (candidate := sites.draw(weight, load, together=count >= apart)) is None:
                    break
                batch.append(candidate)
                load[candidate.path, candidate.targets[0]] += 1
                weight[candidate.strategy] = weight.get(candidate.strategy, 0.0) + 1.0
            if not batch:
                return
            tasks = self._try(batch)
            for candidate in set(batch) - {m.candidate for m in tasks}:
                weight[candidate.strategy] -= 1.0 - _REJECTED
                load[candidate.path, candidate.targets[0]] -= 1
            count += len(tasks)
            yield tasks

    def _combinations(self, singles: Sequence[_Made], count: int) -> tuple[list[_Made], set[Candidate]]:
        """Return tasks that join edits, and the candidates that they use up."""
        from swebench_lab.tasks.making.candidates import combine

        tasks: list[_Made] = []
        parts: set[Candidate] = set()
        by_candidate = {single.candidate: single for single in singles}
        waiting = combine(list(by_candidate), 3, self.settings.seed)
        while len(tasks) < count:
            batch: dict[Candidate, tuple[Candidate, ...]] = {}
            for combination, group in waiting:
                if not parts.union(*batch.values()) & set(group):
                    batch[combination] = group
                if len(batch) == min(_ROUND, count - len(tasks)):
                    break
            if not batch:
                break
            for task in self._try(list(batch), [[by_candidate[part] for part in group] for group in batch.values()]):
                tasks.append(task)
                parts.update(batch[task.candidate])
            self._tell(self.settings.count - count + len(tasks))
        return tasks, parts

    # --- one round ----------------------------------------------------------------------------------------------------

    def _try(self, candidates: Sequence[Candidate], parts: Sequence[Sequence[_Made]] | None = None) -> list[_Made]:
        """Try candidates at once, and return those that are tasks, in order."""
        tasks: list[_Made] = []
        self.tries.check()
        for result in list(self.pool.map(self._result_of, candidates, parts or [()] * len(candidates))):
            trial = result.trial
            if not trial.reason and result.issue in self.issues:
                trial = replace(trial, reason="another task reads the same")
            self._note(trial)
            if not trial.reason:
                self.issues.add(result.issue)
                tasks.append(result)
        return tasks

    def _result_of(self, candidate: Candidate, parts: Sequence[_Made]) -> _Made:
        """Return what a candidate came to; runs in a worker thread."""
        from swebench_lab.tasks.making.validation import Trial

        outcome = self.tries.outcome(lambda: self._examine(candidate, parts), candidate.description)
        return _Made(Trial(candidate, outcome), "", ()) if isinstance(outcome, str) else outcome

    def _examine(self, candidate: Candidate, parts: Sequence[_Made]) -> _Made:
        """Run the suite on a candidate and write its issue."""
        from swebench_lab.tasks.making.evidence import carried_over, gather
        from swebench_lab.tasks.making.families import shapes
        from swebench_lab.tasks.making.issues import write_issue
        from swebench_lab.tasks.making.python.documentation import first_sentence

        trial = self.suite.trial(candidate, self.baseline)
        if trial.reason:
            return _Made(trial, "", ())
        evidence = carried_over([part.evidence for part in parts], candidate, self.suite)
        evidence = evidence or gather(trial, self.baseline, self.suite, self.checkout, self.known)
        docs = first_sentence(evidence[0].snippet.subject, self.modules) if evidence else ""
        failures = {} if evidence else {f: self._code(f) for f in trial.failures if f.test in trial.fail_to_pass}
        issue = write_issue(candidate, evidence, failures, docs, f"{self.settings.seed}:{candidate.key}")
        if not issue:
            trial = replace(trial, reason="no issue can be written that hides the edit")
        return _Made(trial, issue, evidence, shapes(candidate))

    def _code(self, failure: Failure) -> str:
        """Return the statement of a test that failed."""
        from swebench_lab.tasks.making.python.snippets import failing_code

        return failing_code(failure, (self.checkout / failure.test.partition("::")[0]).read_text("utf-8"))

    def _note(self, trial: Trial) -> None:
        candidate = trial.candidate
        self.rows.append(
            {
                "strategy": candidate.strategy,
                "path": candidate.path,
                "target": ", ".join(dict.fromkeys(candidate.targets)),
                "edit": candidate.description,
                "outcome": trial.reason or "task",
                "id": "" if trial.reason else self._id(candidate),
                "failing": len(trial.fail_to_pass),
                "passing": len(trial.pass_to_pass),
                "seconds": trial.seconds,
            }
        )

    # --- the result ---------------------------------------------------------------------------------------------------

    def _id(self, candidate: Candidate) -> str:
        owner, _, name = self.clean.repo.partition("/")
        return f"{owner}__{name}.{self.clean.base_commit[:8]}.{candidate.strategy}__{candidate.key}"

    def _finish(self, results: Sequence[_Made]) -> MadeTasks:
        from swebench_lab.tasks.making.families import families

        names = families([m.shapes for m in results])
        tasks = [self._task(m, family) for m, family in zip(results, names, strict=True)]
        return MadeTasks(tasks, self.clean.source, self.rows)

    def _task(self, result: _Made, family: str) -> Task:
        return replace(
            self.clean,
            id=self._id(result.candidate),
            issue=result.issue,
            setup_patch=result.candidate.patch,
            gold_patch=reverse_patch(result.candidate.patch),
            fail_to_pass=result.trial.fail_to_pass,
            pass_to_pass=result.trial.pass_to_pass,
            hide_tests=True,
            family=family,
            extra={"strategy": result.candidate.strategy, "edit": result.candidate.description},
        )
