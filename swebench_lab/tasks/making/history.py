"""mine_tasks: commits of a repository that touch code and tests become validated tasks, in any language."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import LabError, TaskError, describe
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.files.certificates import PASSED
from swebench_lab.grading.grader import Grader
from swebench_lab.records.task import Task
from swebench_lab.snapshots.repository.git import git
from swebench_lab.tasks.making.issues import tells_the_edit
from swebench_lab.tasks.making.languages.grammar import language_of
from swebench_lab.tasks.making.made import MadeTasks, repo_name

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.snapshots.repository.sources import Source

_log = logging.getLogger(__name__)
_STRATEGY = "commit_mined"
_FOLDERS = {"test", "tests", "__tests__", "spec", "specs", "testing", "testdata"}
_NAMES = re.compile(r"^tests?[_.-]|[_.-](tests?|spec)\.\w+$|(Tests?|Spec)\.\w+$|^conftest\.py$")
_NO_CODE = re.compile(
    r"\.(md|rst|txt|adoc|lock|ya?ml|toml|json|cfg|ini|svg|png)$|(^|/)(LICENSE|AUTHORS|CHANGELOG|CHANGES)[^/]*$", re.I
)
_TRAILER = re.compile(r"^([A-Z][\w-]+-by|Change-Id|PR-URL|Refs?|See|Fixes|Closes|Resolves)\s*:?\s.*$", re.MULTILINE)
_NUMBER = re.compile(r"\s*\(?(\b(fix(e[sd])?|close[sd]?|resolve[sd]?|refs?):?\s+)?#\d+\b\)?", re.IGNORECASE)
_FEWEST = 3
"""Words that a message must have to be an issue."""


@dataclass(frozen=True)
class Commit:
    """A commit with one parent that touches code and tests.

    Args:
        sha: Its full name.
        parent: Its parent's.
        date: When it was made, in ISO form.
        message: Its message.
        paths: The files it touches, but for tests.
        gold: What it does to them, as a patch.
        tests: What it does to tests, as a patch.
    """

    sha: str
    parent: str
    date: str
    message: str
    paths: tuple[str, ...]
    gold: str
    tests: str

    @property
    def patch(self) -> str:
        """The change that an issue must not tell."""
        return self.gold

    @property
    def path(self) -> str:
        """The first file it touches."""
        return next((path for path in self.paths if not _NO_CODE.search(path)), self.paths[0])

    @property
    def strategy(self) -> str:
        """What ids of its task say."""
        return _STRATEGY

    @property
    def issue(self) -> str:
        """Its message without trailers and numbers of issues."""
        text = _NUMBER.sub("", _TRAILER.sub("", self.message))
        return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def is_test(path: str) -> bool:
    """Whether a path is a test, or what tests read, by the habits of any language."""
    parts = PurePosixPath(path).parts
    return bool(_FOLDERS.intersection(part.lower() for part in parts[:-1]) or _NAMES.search(parts[-1]))


def mine_tasks(
    source: str | Path,
    count: int = 20,
    *,
    sandboxes: SandboxFactory | None = None,
    spec: Mapping[str, Any] | None = None,
    language: str = "python",
    most: int = 500,
    max_files: int = 6,
    repeats: int = 1,
    split: str = "",
    workers: int | None = None,
    progress: bool = True,
) -> MadeTasks:
    """Make tasks from a repository's own history: the newest commits that touch code and tests, as the parent had them.

    The commit's tests are the test patch, the rest of it is the gold patch, and its message is the issue. Those are
    left out whose message holds a changed line or file, and those that are not certified: without the commit a test must
    fail that passes with it, in every run.

    Args:
        source: A local git repository or its URL.
        count: How many tasks are wanted.
        sandboxes: Where suites run; a `SandboxFactory()` of its own when not given.
        spec: How it is installed and tested: fields of `specs.Spec`, kept in the tasks.
        language: Whose default spec is taken: `python`, `javascript` or `go`. For others `spec` says all.
        most: How many commits are looked at, merges left out.
        max_files: How many files besides tests a commit may touch.
        repeats: Runs with and without the commit that must all say the same.
        split: What the tasks' `split` says.
        workers: Commits that are tried at once; one for each processor by default.
        progress: Whether to show a progress bar.

    Returns:
        The tasks, newest first; `.report` tells of every commit that touches code and tests. A warning says when there
        are fewer than `count`.

    Raises:
        TaskError: An argument is wrong.
        SnapshotError: The repository cannot be had.
        SandboxUnavailable: This machine cannot make sandboxes.
    """
    from swebench_lab.snapshots.factory import SandboxFactory

    if min(count, most, max_files, repeats) < 1:
        raise TaskError("mining tasks: count, most, max_files and repeats must be at least 1")
    name = str(source) if ":" in str(source) else str(Path(source).expanduser().resolve())
    values = {**({} if language == "python" else language_of(language).spec), **(spec or {})}
    clean = Task("mined", repo_name(name), "", "", "", (), (), source=name, split=split, spec=values or None)
    factory = sandboxes or SandboxFactory()
    try:
        candidates = commits(factory.cache.source(clean), most, max_files)
        miner = _Miner(clean, factory, repeats)
        tasks, rows = miner.mine(candidates, count, workers or os.cpu_count() or 1, progress)
    finally:
        if sandboxes is None:
            factory.close()
    if len(tasks) < count:
        warnings.warn(f"mining tasks from {name}: {len(tasks)} of the {count} wanted; see .report", stacklevel=2)
    return MadeTasks(tasks, name, rows)


# --- the history ----------------------------------------------------------------------------------------------------------


def commits(source: Source, most: int, max_files: int) -> Iterator[Commit]:
    """Yield commits that touch code and tests, the newest first.

    Args:
        source: The repository.
        most: How many commits are looked at.
        max_files: How many files besides tests one may touch.
    """
    form = "--format=%H %P %cI"
    lines = _git(source, "log", form, "--no-merges", f"--max-count={most}", source.head).split("\n")
    for line in filter(None, lines):
        sha, *parents, date = line.split()
        whole = len(parents) == 1 and not {sha, *parents} & set(source.shallow)
        if whole and (commit := _commit(source, sha, parents[0], date, max_files)):
            yield commit


def _commit(source: Source, sha: str, parent: str, date: str, max_files: int) -> Commit | None:
    names = _git(source, "diff", "--no-renames", "--name-only", "-z", parent, sha).split("\0")
    paths = [name for name in names if name]
    tests = [path for path in paths if is_test(path)]
    others = [path for path in paths if not is_test(path)]
    if not tests or len(others) > max_files or not any(not _NO_CODE.search(path) for path in others):
        return None
    gold, test_patch = (_patch(source, parent, sha, some) for some in (others, tests))
    message = _git(source, "log", "-1", "--format=%B", sha)
    return Commit(sha, parent, date, message, tuple(others), gold, test_patch)


def _patch(source: Source, parent: str, sha: str, paths: list[str]) -> str:
    options = ("--no-renames", "--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--binary")
    return _git(source, "--literal-pathspecs", "diff", *options, parent, sha, "--", *paths)


def _git(source: Source, *arguments: str) -> str:
    doing = f"reading the history of {source.name}"
    return git(*arguments, git_dir=source.git_dir, doing=doing).decode("utf-8", "surrogateescape")


# --- from a commit to a task ----------------------------------------------------------------------------------------------


@dataclass
class _Miner:
    """One call of `mine_tasks`."""

    clean: Task
    factory: SandboxFactory
    repeats: int

    def mine(
        self, commits: Iterator[Commit], count: int, workers: int, progress: bool
    ) -> tuple[list[Task], list[dict[str, Any]]]:
        """Try commits, some at once, until enough are tasks."""
        from tqdm.auto import tqdm

        tasks: list[Task] = []
        rows: list[dict[str, Any]] = []
        with (
            ThreadPoolExecutor(workers, thread_name_prefix="mine") as pool,
            tqdm(total=count, desc=f"mine {self.clean.source}", unit="task", disable=not progress) as bar,
        ):
            while len(tasks) < count and (
                batch := [commit for _, commit in zip(range(workers), commits, strict=False)]
            ):
                for commit, (task, reason, seconds) in zip(batch, pool.map(self._outcome, batch), strict=True):
                    rows.append(_row(commit, task, reason, seconds))
                    tasks += [] if reason else [task]
                bar.update(min(len(tasks), count) - bar.n)
        return tasks[:count], rows

    def _outcome(self, commit: Commit) -> tuple[Task, str, float]:
        """Return the task of a commit, why it is none, and what that cost: the recording boundary of one commit."""
        task = self._task(commit)
        try:
            return self._try(task, commit)
        except (LabError, OSError) as error:
            _log.warning("mining %s: commit %s: %s", self.clean.source, commit.sha[:12], describe(error))
            return task, f"trying it went wrong: {describe(error)}", 0.0

    def _try(self, task: Task, commit: Commit) -> tuple[Task, str, float]:
        if reason := _unfit(commit):
            return task, reason, 0.0
        grader = Grader(self.factory)
        probe = replace(task, fail_to_pass=("?",))  # which tests decide is what these two runs show
        after, before = grader.grade(probe, commit.gold), grader.grade_untouched(probe)
        seconds = after.seconds + before.seconds
        passing = [name for name, status in after.tests.items() if status == "PASSED"]
        if not passing:
            return task, f"no test passes with it: {after.reason}", seconds
        failing = tuple(name for name in passing if before.tests.get(name) != "PASSED")
        if not failing:
            return task, "no test fails without it", seconds
        others = tuple(name for name in passing if name not in failing)
        task = replace(task, fail_to_pass=failing, pass_to_pass=others)
        certificate = Evaluator(self.factory).certificate(task, self.repeats)
        reason = "" if certificate.status == PASSED else f"{certificate.status}: {certificate.reason}"
        return task, reason, seconds + certificate.seconds

    def _task(self, commit: Commit) -> Task:
        owner, _, name = self.clean.repo.partition("/")
        return replace(
            self.clean,
            id=f"{owner}__{name}.{commit.parent[:8]}.{_STRATEGY}__{commit.sha[:8]}",
            base_commit=commit.parent,
            issue=commit.issue,
            gold_patch=commit.gold,
            test_patch=commit.tests,
            created_at=commit.date,
            extra={"strategy": _STRATEGY, "commit": commit.sha},
        )


def _unfit(commit: Commit) -> str:
    if "\nGIT binary patch\n" in commit.gold + commit.tests:
        return "it changes binary files"
    if len(re.findall(r"\w+", commit.issue)) < _FEWEST:
        return "its message says too little"
    if tells_the_edit(commit.issue, commit) or any(path in commit.issue for path in commit.paths):
        return "its message tells the change"
    return ""


def _row(commit: Commit, task: Task, reason: str, seconds: float) -> dict[str, Any]:
    return {
        "strategy": _STRATEGY, "path": commit.path, "target": commit.sha, "edit": commit.message.strip().split("\n")[0],
        "outcome": reason or "task", "id": "" if reason else task.id, "failing": 0 if reason else len(task.fail_to_pass),
        "passing": 0 if reason else len(task.pass_to_pass), "seconds": seconds,
    }  # fmt: skip
