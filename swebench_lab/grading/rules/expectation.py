"""Expectation: which tests decide a task, what names them to the test command, and how their log is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from swebench_lab.errors import DiffError, TaskError
from swebench_lab.grading.rules.set_rules import layout_of
from swebench_lab.records.patches.diff import touched_files, written_files
from swebench_lab.records.task import Task
from swebench_lab.snapshots.environment.specs import Spec

OWN_PARSER = "pytest"
"""Our reading of pytest's summary: exact node ids. For SWE-bench's own answer its nearest parser is used."""

R2E_PARSER = "r2e"
"""The same for tasks of R2E-Gym, which names tests without their file: `TestClass.test_name`."""

_NOT_TESTS = (".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
"""Endings of a test patch's files that are not given to the test command (SWE-bench's `NON_TEST_EXTS`)."""


@dataclass(frozen=True)
class Expectation:
    """What decides a task: the tests, how their log is read, and how an absent test counts.

    Attributes:
        fail_to_pass: Must start to pass.
        pass_to_pass: Must go on passing.
        parser: See `parse_log`.
        eval_type: `pass_and_fail`, or `fail_only` where the log names only failures and silence means success.
        task_id: The task, which a few of SWE-bench's parsers look up.
        version: The repository's version, for the same reason.
        files: The test files that are given to the test command, where they are known.
        layout: Whose rule `Verdict.official` follows, where it is not SWE-bench's; see `set_rules`.
    """

    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    parser: str = OWN_PARSER
    eval_type: str = "pass_and_fail"
    task_id: str = "task"
    version: str = ""
    files: tuple[str, ...] = ()
    layout: str = ""

    @classmethod
    def of(cls, task: Task, spec: Spec) -> Expectation:
        """Return what decides a task whose tests run as the Spec says."""
        return cls(
            task.fail_to_pass,
            task.pass_to_pass,
            spec.log_parser,
            spec.eval_type,
            task_id=task.id,
            version=task.version,
            files=test_files(task),
            layout=layout_of(task.extra),
        )

    @property
    def tests(self) -> tuple[str, ...]:
        """All of them, those that must start to pass first."""
        return (*self.fail_to_pass, *self.pass_to_pass)

    def printed_only(self, case: str) -> bool:
        """Whether an expected id cannot be a test that pytest collects, because it names no file that is run.

        pytest's own suite prints the logs of the small suites that it runs; SWE-bench's parsers took some of their
        lines for tests of the suite itself, and its datasets expect them.
        """
        if not any(self._in_files(test) for test in self.tests):
            return False  # ids and files are named in different ways here, so nothing can be said
        return not self._in_files(case)

    def _in_files(self, case: str) -> bool:
        return "::" in case and case.partition("::")[0] in self.files


def test_files(task: Task) -> tuple[str, ...]:
    """Return what is given to the test command: the test patch's files, or else those the deciding tests are in.

    SWE-bench's choice, by the names that are there after the test patch: of a rename the new one, and nothing that is
    deleted. Data that lies among the tests (`.xml`, `.npz`, `setup.cfg`) is no file of tests where others are: pytest
    refuses a command line with a file in which it can find none.

    Raises:
        TaskError: The test patch is not a diff.
    """
    deciding = _deciding_files(task)
    if not task.test_patch:
        return deciding
    files = [path for path in _of_test_patch(task, written_files) if not path.endswith(_NOT_TESTS)]
    modules = [path for path in files if path.endswith(".py") or path in deciding]
    return tuple(modules or files) or deciding


def protected_files(task: Task) -> tuple[str, ...]:
    """Return the files by which the folders of the tests are known, those that the test patch takes away among them."""
    if not task.test_patch:
        return _deciding_files(task)
    return tuple(path for path in _of_test_patch(task, touched_files) if not path.endswith(_NOT_TESTS))


def _deciding_files(task: Task) -> tuple[str, ...]:
    tests = (*task.fail_to_pass, *task.pass_to_pass)
    return tuple(sorted({test.split("::", 1)[0] for test in tests if "::" in test}))


def _of_test_patch(task: Task, names: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    try:
        return names(task.test_patch)
    except DiffError as error:
        raise TaskError(f"the test patch of task {task.id} is not a diff: {error}") from error


def test_arguments(spec: Spec, files: Iterable[str]) -> tuple[str, ...]:
    """Return what names test files to the test command: themselves, or Django's modules (`a.tests` of `tests/a/tests.py`)."""
    if spec.test_arguments == "none":
        return ()
    if spec.test_arguments == "files":
        return tuple(files)
    return tuple(file.removesuffix(".py").removeprefix("tests/").replace("/", ".") for file in files)


test_arguments.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test
test_files.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test
