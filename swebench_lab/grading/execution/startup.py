"""Runs first in every Python of the tests: takes the key before code of the repository can, and has the runner watched.

It is copied into the box as it stands and imported by a `sitecustomize` in the lab's own folder, which is the only folder
of PYTHONPATH at that time: what can be imported before it is the standard library and what the venv's own path files
load. So nothing of the work tree can run, or stand in for a module, before the key is read and destroyed; the folders
that PYTHONPATH named, and the current directory, come on the path afterwards. It may only use what Python 3.5 has, and
imports nothing of this package.
"""

import atexit
import hashlib
import hmac
import json
import os
import sys
from importlib import import_module, machinery
from importlib.util import spec_from_file_location
from typing import Any

VARIABLE = "SWEBENCH_LAB_RESULTS"
KEY, RESULTS, PLUGIN = "key", "results", "swebench_lab_results"
_SYMPY = ("sympy.testing.runtests", "sympy.utilities.runtests")
_LAUNCHERS = ("tox", "nox")
"""Programs that start the runner as a process of its own; they run no code of the repository themselves."""

_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120


class Reporter:
    """Writes sealed lines; each seal covers the one before."""

    def __init__(self, results: int, key: bytes) -> None:
        self.results = results
        self.key = key
        self.previous = ""
        self.process = os.getpid()
        self.ended = False

    def write(self, **event: object) -> None:
        """Append one event, if this is still the process that began."""
        if os.getpid() != self.process:
            return
        line = json.dumps(event, sort_keys=True)
        mark = hmac.new(self.key, (self.previous + line).encode(), hashlib.sha256).hexdigest()[:20]
        self.previous = mark
        os.write(self.results, (mark + " " + line + "\n").encode())

    def end(self, code: object = None) -> None:
        """Say that the runner came to its own end; again does nothing."""
        if not self.ended:
            self.ended = os.getpid() == self.process
            self.write(event="end", exit=code)


reporter = None  # type: Any
path_before = ""
"""PYTHONPATH as the test command had it."""


def begin() -> None:
    """Take what is named in the environment and leave no trace of it there."""
    global reporter, path_before
    setting = os.environ.get(VARIABLE, "")
    if not setting:
        _go_on()
        sys.path.append(_FOLDER)  # a worker of pytest-xdist, which finds the plugin there
        return
    options, path_before = setting.split("|", 1)
    _put_back_path(path_before)
    words = _command()
    if _program(words) in _LAUNCHERS:
        _go_on()
        return
    del os.environ[VARIABLE]
    restore("PYTHONPATH", path_before)
    key = _read_once(os.path.join(_FOLDER, KEY))  # noqa: PTH118
    of_pytest = any(os.path.basename(word) in ("pytest", "py.test") for word in words)  # noqa: PTH119
    if key and of_pytest:
        os.environ["PYTEST_ADDOPTS"] = " ".join(["-p", PLUGIN, options]).strip()
    else:
        restore("PYTEST_ADDOPTS", options)
    if key:
        results = os.open(os.path.join(_FOLDER, RESULTS), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)  # noqa: PTH118
        os.set_inheritable(results, False)
        reporter = Reporter(results, key.strip())
        sys.meta_path.insert(0, _Finder())
        _watch(of_pytest)
    _go_on()


def _watch(of_pytest: bool) -> None:
    """Load the runner from the venv while nothing else can stand in for it, and have it report."""
    if of_pytest:
        reporter.write(event="start", python=sys.version.split()[0])
        try:
            import_module("pytest")
        except Exception:
            pass
        return
    reporter.write(event="start", python=sys.version.split()[0], runner="unittest")
    atexit.register(reporter.end)
    _watch_unittest(import_module("unittest").TestResult)


def _command() -> "list[str]":
    """Return the program that runs and its arguments, without Python and its options."""
    words = getattr(sys, "orig_argv", None)
    if words is None:
        try:
            with open("/proc/self/cmdline", "rb") as file:  # noqa: PTH123
                words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        except OSError:
            return []
    return list(words[1:])


def _program(words: "list[str]") -> str:
    """Return the name of the script or module that runs."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-m" and rest:
            return rest[0].split(".")[0]
        if word in ("-W", "-X") and rest:
            rest.pop(0)
        elif not word.startswith("-"):
            return os.path.basename(word)  # noqa: PTH119
    return ""


def _read_once(path: str) -> bytes:
    """Read the key and destroy it, before any code of the repository can look for it; empty when it was read before."""
    try:
        with open(path, "r+b") as file:  # noqa: PTH123
            key = file.read()
            file.truncate(0)
        os.unlink(path)  # noqa: PTH108
    except OSError:
        return b""
    return key


def restore(name: str, value: str) -> None:
    """Give a variable of the environment its value; an empty one is taken out."""
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


def _put_back_path(path: str) -> None:
    """Put the folders that PYTHONPATH named where Python would have put them."""
    place = sys.path.index(_FOLDER) if _FOLDER in sys.path else 0
    folders = [os.path.abspath(folder) for folder in path.split(os.pathsep)] if path else []  # noqa: PTH100
    sys.path[place : place + (_FOLDER in sys.path)] = folders


def _go_on() -> None:
    """Import the `sitecustomize` that ours stands before, if there is one."""
    if _FOLDER in sys.path:
        sys.path.remove(_FOLDER)
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import_module("sitecustomize")
    except ImportError:
        if ours is not None:
            sys.modules["sitecustomize"] = ours


# --- runners ----------------------------------------------------------------------------------------------------------


class _Finder:
    """Finds pytest's plugin in our folder, whatever else has its name, and sympy's runner as soon as it is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a module of ours, or of one that is watched."""
        if name == PLUGIN:
            return spec_from_file_location(name, os.path.join(_FOLDER, PLUGIN + ".py"))  # noqa: PTH118
        if name not in _SYMPY:
            return None
        spec = machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def watched(module: Any) -> None:
                execute(module)
                _watch_sympy(module)

            spec.loader.exec_module = watched  # type: ignore[method-assign]
        return spec


def _after(kind: Any, name: str, report: Any) -> None:
    """Have a method of a class report once it has done its work."""
    old = getattr(kind, name, None)
    if old is None:
        return

    def method(self: Any, *args: Any, **named: Any) -> Any:
        value = old(self, *args, **named)
        report(self, *args, **named)
        return value

    method.__name__ = name
    method.__doc__ = old.__doc__
    setattr(kind, name, method)


_UNITTEST = (
    ("addSuccess", "PASSED"),
    ("addError", "ERROR"),
    ("addFailure", "FAILED"),
    ("addSkip", "SKIPPED"),
    ("addExpectedFailure", "XFAIL"),
    ("addUnexpectedSuccess", "FAILED"),
)


def _watch_unittest(kind: Any) -> None:
    """Have every TestResult report: unittest's own, Django's, nose's."""
    for name, status in _UNITTEST:
        _after(kind, name, _outcome(status))
    _after(kind, "startTest", lambda result, test: reporter.write(event="begin", test=report_name(result, test)))
    _after(kind, "stopTest", lambda result, test: reporter.write(event="done", test=report_name(result, test)))
    _after(kind, "addSubTest", _subtest)


def _outcome(status: str) -> Any:
    def report(result: Any, test: Any, *_: Any, **__: Any) -> None:
        reporter.write(event="outcome", test=report_name(result, test), status=status)

    return report


def _subtest(result: Any, test: Any, _subtest: Any, error: Any) -> None:
    if error is not None:
        reporter.write(event="outcome", test=report_name(result, test), status="FAILED")


def report_name(result: Any, test: Any) -> str:
    """Return what a verbose run prints of a test before its outcome."""
    describe = getattr(result, "getDescription", None)
    return str(describe(test) if describe else test)


def _watch_sympy(module: Any) -> None:
    """Have the reporter of sympy's own runner report."""
    kind = getattr(module, "PyTestReporter", None)
    if kind is None or reporter is None:
        return
    running = {"file": "", "test": ""}

    def entering_file(_: Any, filename: str, *__: Any) -> None:
        running["file"] = filename

    def entering_test(_: Any, function: Any) -> None:
        running["test"] = function.__name__
        reporter.write(event="begin", test=function.__name__)

    def outcome(status: str) -> Any:
        def report(*_: Any, **__: Any) -> None:
            reporter.write(event="outcome", test=running["test"], status=status, file=running["file"])
            reporter.write(event="done", test=running["test"])

        return report

    reporter.write(event="runner", runner="sympy")
    _after(kind, "entering_filename", entering_file)
    _after(kind, "entering_test", entering_test)
    _after(
        kind, "import_error", lambda _, filename, *__: reporter.write(event="outcome", test=filename, status="ERROR")
    )
    for name, status in (
        ("test_pass", "PASSED"),
        ("test_fail", "FAILED"),
        ("test_exception", "ERROR"),
        ("test_xfail", "XFAIL"),
        ("test_xpass", "FAILED"),
        ("test_skip", "SKIPPED"),
    ):
        _after(kind, name, outcome(status))


begin()
