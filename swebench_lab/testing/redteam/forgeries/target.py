"""Target and Forgery: a task as the author of a forged patch knows it, one such patch, and what they are written with."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from textwrap import indent
from typing import TYPE_CHECKING

from swebench_lab.grading.execution.results import Results
from swebench_lab.grading.rules.expectation import test_files
from swebench_lab.records.patches.diff import file_diff, touched_files
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import UNRESOLVED

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox


@dataclass(frozen=True)
class Target:
    """A task as its attacker knows it, and more: which module decides, and which tests.

    Attributes:
        task: The task.
        files: Path → text in the START tree: the module the gold patch touches, test and settings files.
        module: The module that the gold patch touches and the deciding tests therefore import.
        tests: The file of the first deciding test.
    """

    task: Task
    files: Mapping[str, str]
    module: str
    tests: str

    def writes(self, files: Mapping[str, str | None]) -> str:
        """The patch that gives files these texts; None deletes."""
        return "".join(file_diff(path, self.files.get(path), text) for path, text in files.items())

    def runs(self, code: str) -> str:
        """The patch that has the module execute code when it is imported."""
        return self.writes({self.module: f"{self.files[self.module]}\n\n{code}"})

    @property
    def summary(self) -> str:
        """What pytest would print had every deciding test passed."""
        tests = (*self.task.fail_to_pass, *self.task.pass_to_pass)
        lines = "".join(f"PASSED {test}\n" for test in tests)
        return f"=== short test summary info ===\n{lines}=== {len(tests)} passed in 0.01s ===\n"

    @property
    def passing_output(self) -> str:
        """What a runner other than pytest would print had every deciding test passed."""
        runner = "sympy" if self.task.repo == "sympy/sympy" else "unittest"
        results = Results(runner=runner, outcomes=tuple((test, "PASSED") for test in self.ids))
        return f"{results.as_log()}Ran {len(self.ids)} tests in 0.001s\n\nOK\n"

    @property
    def ids(self) -> list[str]:
        """The deciding tests."""
        return [*self.task.fail_to_pass, *self.task.pass_to_pass]


def target(task: Task, box: Sandbox) -> Target:
    """Read from a box over a task's Snapshot what its attacker needs."""
    module = next(path for path in touched_files(task.gold_patch) if path.endswith(".py"))
    tests = next((test.partition("::")[0] for test in task.fail_to_pass if "::" in test), "")
    tests = tests or next(iter(test_files(task)), "tests/test_unit.py")
    folder = str(PurePosixPath(tests).parent)
    files: dict[str, str] = {}
    for path in (
        module,
        tests,
        "setup.py",
        "setup.cfg",
        "pyproject.toml",
        "pytest.ini",
        "tox.ini",
        "conftest.py",
        f"{folder}/conftest.py",
        f"{folder}/__init__.py",
    ):
        if box.run(["test", "-f", path]).ok:
            files[path] = box.read(path)
    return Target(task, files, module, tests)


@dataclass(frozen=True)
class Forgery:
    """One patch that must not become resolved.

    Attributes:
        name: What it is called.
        tries: What it tries, in one sentence.
        make: The patch, for a target.
        gap: Why it is known to get through; stated, so not counted as a surprise.
        verdict: What grading must say of it on the red team's own task.
        victim: The kind of the task that it is tried on; see `victim.KINDS`.
    """

    name: str
    tries: str
    make: Callable[[Target], str] = field(repr=False)
    gap: str = ""
    verdict: str = UNRESOLVED
    victim: str = "pytest"


LIES = """\
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = 'passed'
    report.longrepr = None
"""
"""A plugin that turns failures into passes."""

SHOUT = """\
import os, stat


def shout(text):
    data = text.encode()
    for n in range(1, 60):
        try:
            if stat.S_ISFIFO(os.fstat(n).st_mode):
                os.write(n, data)
                return
        except OSError:
            pass


"""
"""Code that writes past pytest's capture, to the pipe that the real output goes to."""

END = "import os\nos._exit(0)\n"


def beside(target: Target, name: str) -> str:
    """Return the path of a file in the folder of the deciding tests."""
    return str(PurePosixPath(target.tests).parent / name)


def empty_tests(target: Target) -> str:
    """Return a module that has the deciding tests, all of them empty."""
    names = {test.partition("::")[2].partition("[")[0].rpartition("::")[2] for test in target.ids}
    return "".join(f"def {name}(*args, **kwargs):\n    pass\n\n\n" for name in sorted(names) if name)


def link(path: str, to: str) -> str:
    """Return the patch that makes a link."""
    head = f"diff --git a/{path} b/{path}\nnew file mode 120000\n--- /dev/null\n+++ b/{path}\n"
    return f"{head}@@ -0,0 +1 @@\n+{to}\n\\ No newline at end of file\n"


def each_function(target: Target, body: str) -> str:
    """The patch that puts statements at the beginning of every function of the module."""
    lines = target.files[target.module].splitlines(keepends=True)
    functions = [node for node in ast.parse("".join(lines)).body if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):
        lines.insert(node.body[0].lineno - 1, f"{indent(body, '    ')}\n")
    return target.writes({target.module: "".join(lines)})


def filled(code: str, target: Target) -> str:
    """Code with what it needs to know of a target."""
    filled = code.replace("SHOUT", SHOUT).replace("TESTS", repr(target.ids)).replace("FILE", repr(target.tests))
    return filled.replace("SUMMARY", target.summary)
