"""TestRunner: applies one patch in one fresh sandbox, puts the tests back as they were, and runs them."""

from __future__ import annotations

import posixpath
import re
import secrets
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from swebench_lab.errors import GradingError, SandboxClosed, SandboxError, SandboxPathError
from swebench_lab.grading.execution import planted, scripts, startup
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.execution.conditions import USUAL, Conditions
from swebench_lab.grading.execution.mutants import function_of, mutate
from swebench_lab.grading.execution.results import Results, read_results
from swebench_lab.grading.execution.scripts import Changes
from swebench_lab.grading.execution.start_tree import cut_files, pack, place_of, trees, true_files
from swebench_lab.grading.execution.test_command import (
    Steps,
    in_place_of_the_shell,
    modules,
    reports_separately,
    runs_sympy,
)
from swebench_lab.grading.execution.test_run import APPLY_FAILED, REFUSED, TestRun
from swebench_lab.grading.execution.watching import run_watched
from swebench_lab.grading.files.predictions import patch_bytes
from swebench_lab.grading.rules.expectation import Expectation, protected_files, test_arguments, test_files
from swebench_lab.records.patches.diff import touched_files
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Cause
from swebench_lab.snapshots.environment.specs import spec_of

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

SETUP_TIMEOUT = 120.0
"""Seconds for each step before the tests; beyond it the machine is to blame, not the patch."""
MAX_OUTPUT = 10_000_000
"""Bytes of test output kept; the largest suite of SWE-bench prints 3 MB. Of more, the separate results decide."""

_CALLS_XFAIL = re.compile(r"(?<!mark\.)\bxfail\b")
_RUNNER_OF_SYMPY = ("sympy/testing/", "sympy/utilities/runtests.py")
_TOOLS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""Where our own commands are found in the box: not in the venv, which steps before the tests may write to."""
_MOST_SETTINGS = 16 << 20  # bytes
_MOST_RESULTS = 64 << 20  # bytes
_MOST_LISTED = 50_000_000  # bytes of the names of files that steps before the tests have left
_COMPILED = (".pyc", ".pyo")
_BUILD_FILES = ("setup.py",)
_LINE = re.compile(r"[0-9]{1,9}")
_LONGEST_PATH = 200  # characters; of a file that the code under test names
_CALL_LINES = 5
"""Lines up to the reported one in which a call may begin: up to Python 3.7 it has the line of its last argument."""


class NotApplied(Exception):
    """No command could apply the patch, or it was refused.

    Args:
        output: What the commands printed.
        notes: Remarks for the reader of the Verdict.
    """

    def __init__(self, output: str, notes: Iterable[str] = ()) -> None:
        super().__init__(output)
        self.output = output
        self.log = f"{APPLY_FAILED}:\n{output}"
        self.notes = tuple(notes)


class SetupFailed(GradingError):
    """A step before the tests failed in the box.

    Args:
        text: Which step, and how it ended.
        result: What came of the command.
    """

    def __init__(self, text: str, result: Result) -> None:
        super().__init__(text)
        self.result = result


class TestRunner:
    """Runs a task's tests once, in one box.

    Args:
        box: A fresh sandbox over the task's Snapshot, which nobody has used.
        snapshot: That Snapshot; its `tests` hold the true test and harness files.
        task: What is graded.
        timeout: Seconds for the tests; None: as the Spec says.
        boxes: What a second box is added to while it is open.
        conditions: In what this run differs from others.
    """

    __test__ = False  # pytest: not a test class

    def __init__(
        self, box: Sandbox, snapshot: Snapshot, task: Task, timeout: float | None = None,
        boxes: OpenBoxes | None = None, conditions: Conditions = USUAL,
    ) -> None:  # fmt: skip
        self.box, self.snapshot, self.task = box, snapshot, task
        self.spec = spec_of(snapshot)
        self.expected = Expectation.of(task, self.spec)
        self.boxes = boxes or OpenBoxes()
        self.began = time.time()
        self.timeout = (timeout or self.spec.timeout) * conditions.patience
        self.lab = posixpath.join(box.private_temp, f"lab-{secrets.token_hex(6)}")
        self.true = true_files(snapshot.tests)
        tests = self.expected.tests
        present = {way for way in planted.module_paths(tests) if self._start_content(way) is not None}
        imports = planted.deciding_modules(tests, self.true | present)
        self.deciding = tuple(sorted({*test_files(task), *protected_files(task), *imports}))
        self.roots = planted.test_roots(self.deciding, _touched(task.gold_patch), self._names_in)
        self.programs = modules(self.spec.test_command)
        self.notes: list[str] = []
        self.conditions = conditions

    def run(self, patch: str | None) -> TestRun:
        """Apply the patch, put the tests back and run them.

        Args:
            patch: The patch; None runs the tests on the tree as it is.

        Returns:
            The run; of a step before the tests that failed in the box, a run with that fault.

        Raises:
            NotApplied: The patch does not apply.
            SandboxError: The box died.
        """
        try:
            return self._run(patch)
        except SetupFailed as error:
            fault = Cause.INFRASTRUCTURE
            limit = error.result.limit if error.result.limit != "output" else ""
            notes = tuple(self.notes)
            return TestRun(error.result.output, limit=limit, fault=str(error), fault_cause=fault, notes=notes)

    def _run(self, patch: str | None) -> TestRun:
        setup, changes = ("", Changes()) if patch is None else self._apply(patch)
        self._remove(changes)
        self._restore(changes)
        self._restore_helpers(changes)
        if self.task.test_patch:
            setup += self._apply_test_patch(changes)
        return self._test(setup)

    # --- before the tests -------------------------------------------------------------------------------------------

    def _apply(self, patch: str) -> tuple[str, Changes]:
        # A patch without a newline at its end is cut short for git; SWE-bench's own runs lose such patches.
        text = patch if patch.endswith("\n") else patch + "\n"
        _refuse(scripts.repository_paths(text))
        self.box.write(f"{self.lab}/patch.diff", patch_bytes(text))
        result = self.box.run(scripts.apply_script(self.lab, self.box.workdir), timeout=SETUP_TIMEOUT)
        if result.exit_code == scripts.NOT_APPLIED:
            raise NotApplied(result.output)
        output = self._must(result, "applying the patch")
        changes = Changes.read(self.box.read_bytes(f"{self.lab}/changes"))
        _refuse(changes.repository)  # by a way that the patch's text does not show, such as a link
        return output, changes

    def _remove(self, changes: Changes) -> None:
        """Remove what the patch planted: files that steer pytest or Python, and links where test folders should be."""
        steering = set(planted.planted(changes.added, self.deciding, self.roots, changes.links, self.programs))
        steering |= {path for path in changes.changed if path.endswith((".pyc", ".pyo"))}
        helpers = {path for path in changes.deleted if planted.within(path, self.roots)}
        folders = {str(parent) for path in {*self.true, *helpers} for parent in PurePosixPath(path).parents}
        steering |= folders & set(changes.added)
        doomed = sorted(steering - self.true)
        if doomed:
            self._clear(doomed)
            self.notes.append(f"removed before the tests: {_some(doomed)}")

    def _restore(self, changes: Changes) -> None:
        """Write the true test and harness files over those that are not as they should be."""
        touched = sorted(changes.touched & self.true)
        paths = {*touched, *cut_files(self.snapshot.tests, trees(self.snapshot))}
        self._put({path: self.snapshot.tests / path for path in paths})
        if touched:
            self.notes.append(f"restored before the tests: {_some(touched)}")

    def _restore_helpers(self, changes: Changes) -> None:
        """Put back what the patch changed of the tests' helpers, and files in which it changed pytest's settings."""
        restored = []
        for path in sorted(changes.touched - self.true):
            of_tests = planted.within(path, self.roots) or (path in self.deciding and not self._is_fixed(path))
            helper = (of_tests and path not in changes.added) or self._is_runner(path)
            if helper or (planted.is_config(path) and self._changes_settings(path, changes)):
                restored.append(path)
        if restored:
            self._bring_back(restored)
            self.notes.append(f"restored before the tests, as shared with them: {_some(restored)}")

    def _changes_settings(self, path: str, changes: Changes) -> bool:
        if path in changes.links:
            return True  # to nowhere, a folder, a device: settings are read from no file that the patch chooses
        try:
            place = posixpath.join(self.box.workdir, path)
            after = None if path in changes.deleted else self.box.read_bytes(place, most=_MOST_SETTINGS)
        except (SandboxPathError, OSError):
            return True  # a file that cannot be read, or is far too large
        toml = path.endswith(".toml")
        return _settings(self._start_content(path), toml) != _settings(after, toml)

    def _is_fixed(self, path: str) -> bool:
        return path in _touched(self.task.gold_patch)

    def _is_runner(self, path: str) -> bool:
        """Whether a file is the program that runs the tests, which belongs to them unless the gold patch changes it."""
        if self._is_fixed(path):
            return False
        words = {word.removeprefix("./") for word in Steps.of(self.spec.test_command).runner.split()}
        own = runs_sympy(self.spec.test_command) and path.startswith(_RUNNER_OF_SYMPY)
        return own or (path in words and path not in _BUILD_FILES)

    def _names_in(self, folder: str) -> set[str]:
        """Return the names of what is in a folder of the START tree, true tests included."""
        places = [self.snapshot.tests / folder, *(tree / folder for tree in trees(self.snapshot))]
        return {entry.name for place in places if place.is_dir() for entry in place.iterdir()}

    def _apply_test_patch(self, changes: Changes) -> str:
        """Bring the files of the test patch to where it starts from, then apply it.

        git would re-encode what it writes as a `.gitattributes` of the patch tells it to.
        """
        if attributes := sorted(path for path in changes.touched if PurePosixPath(path).name == ".gitattributes"):
            self._bring_back(attributes)
            self.notes.append(f"restored before the tests, as git reads them: {_some(attributes)}")
        self._bring_back(touched_files(self.task.test_patch))
        # From its input: in a file, code under test could read there what tests expect that the canary has changed.
        data = patch_bytes(self.task.test_patch)
        return self._in_tree(["git", "apply", "--verbose", "-"], "applying the test patch", stdin=data)

    def _start_content(self, path: str) -> bytes | None:
        """Return a file as the START tree has it, or None when it has none; the patch cannot have touched that."""
        file = place_of(trees(self.snapshot), path)
        return None if file is None or file.is_symlink() else file.read_bytes()

    def _bring_back(self, paths: Iterable[str]) -> None:
        """Make files what they are in the START tree."""
        files = {path: place_of(trees(self.snapshot), path) for path in paths}
        self._clear([path for path, host in files.items() if host is None])
        self._put({path: host for path, host in files.items() if host is not None})

    def _clear(self, paths: Sequence[str]) -> None:
        if paths:
            names = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
            self._in_tree(["xargs", "-0", "rm", "-rf", "--"], "removing files", stdin=names)

    def _put(self, files: Mapping[str, Path]) -> None:
        if files:
            command = ["tar", "-xf", "-", "--unlink-first", "--recursive-unlink", "--no-same-owner"]
            self._in_tree(command, "restoring files", stdin=pack(files))

    def _in_tree(self, command: list[str], doing: str, stdin: bytes | None = None) -> str:
        # git uses the sealed repository: the one in the tree is the patch's to write in
        sealed = {"GIT_DIR": self.box.sealed_git, "GIT_WORK_TREE": self.box.workdir, "PATH": _TOOLS}
        return self._must(self.box.run(command, timeout=SETUP_TIMEOUT, stdin=stdin, env=sealed), doing)

    def _must(self, result: Result, doing: str) -> str:
        if result.exit_code == 0:
            return result.output
        failure = (
            "timed out" if result.timed_out else f"ran into the {result.limit} limit" if result.limit else "failed"
        )
        code = "" if result.exit_code is None else f" (exit code {result.exit_code})"
        text = f"grading {self.task.id}: {doing} {failure}{code}: {result.output.strip()[-500:]}"
        raise SetupFailed(text, result)

    # --- the tests --------------------------------------------------------------------------------------------------

    def _test(self, setup: str) -> TestRun:
        command = scripts.with_files(self.spec.test_command, test_arguments(self.spec, test_files(self.task)))
        steps = Steps.of(command)
        start = time.monotonic()
        if not steps.before:
            return self._run_tests(command, command, setup, start)
        self._rewrite()  # what builds may keep a copy for the code under test
        first = self._run_script(steps.before, self.timeout)
        if first.timed_out or first.limit or (steps.needed and not first.ok):
            return self._finish(command, setup, first, start, Results())
        try:
            with self._forked(steps) as runner:
                runner._undo_steps()
                return runner._run_tests(command, f"{steps.state}\n{steps.runner}", setup, start, first.output)
        except SandboxClosed:
            raise
        except SandboxError as error:  # such as a tree too deep to be copied, which code of the patch may have made
            text = f"grading {self.task.id}: going on after the steps before the tests failed: {error}"
            raise SetupFailed(text, first) from error

    @contextmanager
    def _forked(self, steps: Steps) -> Iterator[TestRunner]:
        """A box without the processes of the steps before the tests, unless they are services that these need."""
        self.notes.append("the test command runs code of the repository before the tests; they were restored after it")
        if steps.leaves_services:
            yield self
            return
        with self.box.fork() as box, self.boxes.holding(box):
            runner = copy(self)
            runner.box = box
            runner.lab = posixpath.join(box.private_temp, posixpath.basename(self.lab))  # each box has its own
            yield runner

    def _undo_steps(self) -> None:
        """Put the tests back after steps that ran code of the repository: every true file, and nothing planted."""
        find = ["find", ".", "-path", "./.git", "-prune", "-o", "-newerct", f"@{self.began:.3f}"]
        find += ["(", "-type", "f", "-o", "-type", "l", ")", "-printf", "%y%P\\0"]
        env = {"PATH": _TOOLS}
        result = self.box.run(find, timeout=SETUP_TIMEOUT, env=env, merge=False, max_output=_MOST_LISTED)
        if result.truncated_bytes:
            raise SetupFailed(f"grading {self.task.id}: the steps before the tests left too many files to list", result)
        self._must(result, "listing files")
        listing = result.stdout.decode("utf-8", "surrogateescape")
        entries = [(item[0], item[1:]) for item in listing.split("\0") if item]
        paths = [path for _, path in entries if not path.endswith((".egg-info/entry_points.txt", *_COMPILED))]
        new = tuple(path for path in paths if self._start_content(path) is None)
        links = tuple(path for kind, path in entries if kind == "l")
        changes = Changes(new, tuple(paths), (), links)
        self._remove(changes)
        self._put({path: self.snapshot.tests / path for path in self.true})
        self._restore_helpers(changes)
        if self.task.test_patch:
            self._apply_test_patch(changes)

    def _run_script(self, script: str, timeout: float) -> Result:
        return self.box.run(f"{script}\nexit $?\n", timeout=timeout, env=dict(self.spec.env), max_output=MAX_OUTPUT)

    def _run_watched(self, script: str, timeout: float) -> Result:
        becomes, env = in_place_of_the_shell(script), dict(self.spec.env)
        text = scripts.test_script(becomes or script, self.lab)
        return run_watched(
            self.box, self.lab, text, becomes=bool(becomes), timeout=timeout, env=env, max_output=MAX_OUTPUT
        )

    def _run_tests(self, command: str, script: str, setup: str, start: float, before: str = "") -> TestRun:
        """Run the tests with the key beside them.

        Args:
            command: The whole test command, for the log.
            script: What of it is left to run.
            setup: What was printed while the patch was applied.
            start: When the command began, on the monotonic clock.
            before: What its first steps printed.
        """
        self._rewrite()
        key = secrets.token_hex(16)
        for name, text in scripts.startup_files().items():
            self.box.write(f"{self.lab}/plugin/{name}", text)
        self.box.write(f"{self.lab}/plugin/{startup.KEY}", key)
        left = max(1.0, self.timeout - (time.monotonic() - start))
        if self.conditions.watched:
            result = self._run_watched(script, left)
        else:
            result = self._run_script(scripts.test_script(script, self.lab), left)
        result = replace(result, stdout=before.encode() + result.stdout) if before else result
        return self._finish(command, setup, result, start, self._results(key))

    def _rewrite(self) -> None:
        """Write the files of the tests that should start to pass anew, with other expectations if the mutator has a word.

        A mutator without one does it too, so that the files' times do not tell one run from the other.
        """
        mutator, tests = self.conditions.mutator, self.task.fail_to_pass
        if mutator is None:
            return
        names = {function_of(test) for test in tests}
        files = {test.partition("::")[0] for test in tests if "::" in test}
        for path in sorted(path for path in files or self.deciding if path.endswith(".py")):
            place = posixpath.join(self.box.workdir, path)
            try:
                text = self.box.read_bytes(place)
            except (SandboxPathError, OSError):
                continue  # a file that the test patch deletes, or the path of another runner's id
            if mutator.word:
                mutation = mutate(text, names, mutator.word)
                text = mutation.text
                mutator.tests.update(test for test in tests if function_of(test) in mutation.functions)
            # By a command, which tells that a patch has filled the box's disk from an error of the host.
            self._in_tree(["sh", "-c", 'cat >"$1"', "sh", place], "writing the tests", stdin=text)

    def _finish(self, command: str, setup: str, result: Result, start: float, results: Results) -> TestRun:
        expected = reports_separately(command)
        if not expected and (not results.started or (results.finished and not results.outcomes)):
            self.notes.append("the log alone decides: nothing reported results separately from inside the test runner")
        elif not expected:
            expected = True
        return TestRun(
            result.output,
            exit_code=result.exit_code,
            setup=f"{setup}+ {command}\n",
            timed_out=result.timed_out,
            limit=result.limit,
            seconds=time.monotonic() - start,
            results=results if expected else None,
            results_expected=expected,
            fault="" if result.timed_out or result.limit or result.signal is None else _shell_death(result.signal),
            notes=tuple(self.notes),
        )

    def _results(self, key: str) -> Results:
        """Read what came separately, without those calls of `pytest.xfail` that the true tests themselves make."""
        try:
            sealed = self.box.read_bytes(f"{self.lab}/plugin/{startup.RESULTS}", most=_MOST_RESULTS)
        except SandboxPathError:
            sealed = b""  # the tests removed it or made it huge, which the comparison with the log will show
        results = read_results(sealed.decode("utf-8", "replace"), key)
        return replace(results, called=tuple(pair for pair in results.called if not self._of_the_tests(pair[1])))

    def _of_the_tests(self, place: str) -> bool:
        """Say whether the true text at a place (`file:line`) calls `xfail`."""
        file, _, line = place.rpartition(":")
        path = file.removeprefix(f"{self.box.workdir}/")
        if self.task.test_patch and path in touched_files(self.task.test_patch):
            return _CALLS_XFAIL.search(self.task.test_patch) is not None  # the lines are not known here
        if path in self.true:
            text: bytes | None = (self.snapshot.tests / path).read_bytes()
        else:
            plain = ".." not in path.split("/") and "\0" not in path and len(path) < _LONGEST_PATH
            text = self._start_content(path) if plain and planted.within(path, self.roots) else None
        lines = (text or b"").decode("utf-8", "replace").split("\n")[: int(line)] if _LINE.fullmatch(line) else []
        return any(_CALLS_XFAIL.search(code) for code in lines[-_CALL_LINES:])


def _refuse(paths: Sequence[str]) -> None:
    """Refuse a patch of the repository's own folder: hooks and settings in it are programs that git runs."""
    if paths:
        reason = f"{REFUSED}: {_some(paths)}"
        raise NotApplied(f"error: {reason}\n", [f"refused: {reason}"])


def _shell_death(number: int) -> str:
    return f"the shell that ran the tests was ended by {signal.Signals(number).name}"


def _settings(content: bytes | None, toml: bool) -> str:
    return planted.pytest_settings(content.decode("utf-8", "replace"), toml) if content is not None else ""


@lru_cache(maxsize=256)
def _touched(patch: str) -> frozenset[str]:
    try:
        return frozenset(touched_files(patch))
    except ValueError:
        return frozenset()  # no patch as git knows it


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
