"""task_from: a task from one's own repository, its issue and the tests that fail, in one line."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import SnapshotError, TaskError
from swebench_lab.grading.grader import Grader
from swebench_lab.records.patches.diff import make_patch, touched_files
from swebench_lab.records.task import Task
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.snapshots.repository.git import git
from swebench_lab.snapshots.repository.sources import git_dir_of
from swebench_lab.tasks.rows.checks import check_diff

if TYPE_CHECKING:
    from swebench_lab.records.verdict import Verdict

logger = logging.getLogger(__name__)


def task_from(
    repo_path: str | Path,
    *,
    issue: str,
    fail_to_pass: Sequence[str],
    pass_to_pass: Sequence[str] | None = None,
    gold_patch: str = "",
    test_patch: str | None = None,
    commit: str = "HEAD",
    id: str = "",  # noqa: A002
    spec: Mapping[str, Any] | None = None,
    sandboxes: SandboxFactory | None = None,
    check: bool = True,
) -> Task:
    """Return a task from a repository of one's own.

    It starts from `commit`. Test files that the work tree has changed since, or that are new in it, become the test
    patch: they arrive when a patch is graded. Other uncommitted changes are left out, which the log says.

    Args:
        repo_path: A git repository with a work tree, or a plain folder.
        issue: What agents are told.
        fail_to_pass: Ids of the tests that fail now and must pass.
        pass_to_pass: Ids of the tests that must go on passing; those that pass now, in the files that are run, when not
            given (which needs `check`).
        gold_patch: A patch that solves it; without one the task is certified as `no gold`.
        test_patch: The patch that adds the tests, instead of what the work tree says.
        commit: Where it starts.
        id: Of the task; made of the folder's name, the commit and the issue when empty.
        spec: How it is installed and tested, where that cannot be derived: fields of `lab.specs.Spec`, such as
            `test_command` and `log_parser` for another language.
        sandboxes: Where the tests are run once; one of the user's own cache when not given.
        check: Whether the tests are run once, on the untouched tree.

    Raises:
        TaskError: The folder, the commit or a patch is wrong; no test is named; or the check shows that a test passes
            already, is not reported, or that the tests do not run at all.
    """
    path = Path(repo_path).expanduser().resolve()
    if not path.is_dir():
        raise TaskError(f"making a task from {str(repo_path)!r}: there is no such folder")
    if isinstance(fail_to_pass, str) or not fail_to_pass or not issue.strip():
        raise TaskError(f"making a task from {path.name}: give an issue, and the ids of the tests that fail, as a list")
    base = _commit(path, commit)
    tests = (*fail_to_pass, *(pass_to_pass or ()))
    patch = _test_patch(path, base, tests) if test_patch is None else test_patch
    for text, what in ((gold_patch, "gold patch"), (patch, "test patch")):
        check_diff(text, f"making a task from {path.name}: the {what}")
    task = Task(
        id=id or f"{path.name}.{base[:8] or 'files'}.{hashlib.sha256(issue.encode()).hexdigest()[:8]}",
        repo=f"own/{path.name}",
        base_commit=base,
        issue=issue,
        gold_patch=gold_patch,
        fail_to_pass=tuple(fail_to_pass),
        pass_to_pass=tuple(pass_to_pass or ()),
        test_patch=patch,
        source=str(path),
        spec=dict(spec) if spec else None,
    )
    if not check:
        return task
    if sandboxes is not None:
        return _check(task, pass_to_pass is None, sandboxes)
    with SandboxFactory() as own:
        return _check(task, pass_to_pass is None, own)


def _commit(path: Path, commit: str) -> str:
    """Return the full name of a commit; empty for a plain folder."""
    git_dir = git_dir_of(path)
    if git_dir is None:
        if commit != "HEAD":
            raise TaskError(f"making a task from {path.name}: it is no git repository, so it has no commit {commit!r}")
        return ""
    try:
        return git("rev-parse", "--verify", f"{commit}^{{commit}}", git_dir=git_dir).decode().strip()
    except SnapshotError as error:
        raise TaskError(f"making a task from {path.name}: it has no commit {commit!r}") from error


def _test_patch(path: Path, base: str, tests: Iterable[str]) -> str:
    """Return what the work tree's files of the tests have that the commit's do not."""
    git_dir = git_dir_of(path)
    if git_dir is None or git_dir == path:
        return ""
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests if "::" in test))
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    for name in files:
        place = path / name
        if not place.resolve().is_relative_to(path):
            raise TaskError(f"making a task from {path.name}: {name} does not lie in it")
        before[name] = _at_commit(git_dir, base, name)
        after[name] = place.read_bytes().decode("utf-8", "surrogateescape") if place.is_file() else None
        if before[name] is None and after[name] is None:
            raise TaskError(f"making a task from {path.name}: neither {base[:8]} nor the work tree holds {name}")
    names = [name for name in files if after[name] is not None and before[name] != after[name]]
    _warn_of_others(path, git_dir, set(files))
    return make_patch({name: before[name] for name in names}, {name: after[name] for name in names}) if names else ""


def _at_commit(git_dir: Path, base: str, name: str) -> str | None:
    try:
        return git("cat-file", "blob", f"{base}:{name}", git_dir=git_dir).decode("utf-8", "surrogateescape")
    except SnapshotError:
        return None


def _warn_of_others(path: Path, git_dir: Path, tests: set[str]) -> None:
    status = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", git_dir=git_dir, work_tree=path)
    others = sorted({line[3:] for line in status.decode("utf-8", "replace").split("\0") if line} - tests)
    if others:
        logger.warning("task from %s: uncommitted changes are left out: %s", path.name, ", ".join(others[:5]))


# --- the check --------------------------------------------------------------------------------------------------------


def _check(task: Task, fill: bool, sandboxes: SandboxFactory) -> Task:
    """Run the tests of the untouched tree once; fill in which must go on passing."""
    verdict = Grader(sandboxes).grade_untouched(task)
    if not verdict.graded:
        raise TaskError(
            f"checking the task from {task.repo}: its tests do not run: {verdict.reason}; state how (`spec`), or give "
            f"check=False: {verdict.log.strip()[-500:]}"
        )
    if passing := verdict.fail_to_pass["success"]:
        raise TaskError(f"checking the task from {task.repo}: {passing[0]} passes already, so it decides nothing")
    unknown = [] if task.test_patch else _missing_tests(task, verdict)
    if unknown:
        raise TaskError(
            f"checking the task from {task.repo}: the tests report no {unknown[0]}; ids are as the test runner prints them"
        )
    if not fill:
        if failures := verdict.pass_to_pass["failure"]:
            raise TaskError(f"checking the task from {task.repo}: {failures[0]} should pass now, and does not")
        return task
    names = sorted(
        name for name, status in verdict.tests.items() if status == "PASSED" and name not in task.fail_to_pass
    )
    return replace(task, pass_to_pass=tuple(names))


def _missing_tests(task: Task, verdict: Verdict) -> list[str]:
    """Return the tests that should fail now and are not reported, where something else of their file is."""
    files = {name.partition("::")[0] for name in verdict.tests}
    gold = set(touched_files(task.gold_patch)) if task.gold_patch else set()
    return [
        name for name in task.fail_to_pass
        if name not in verdict.tests and name.partition("::")[0] in files and name.partition("::")[0] not in gold
    ]  # fmt: skip
