"""Runs inside pytest in the box: writes each test's outcome, sealed, to a descriptor that is not its output.

Given to pytest as `-p`, before any file of the repository is imported. It may only use what Python 3.5 and pytest 3
have, and imports nothing of this package: it is copied into the box as it stands. The key lies beside it, is read
once, destroyed, and lives on only in this process; the results descriptor is not inherited by programs the tests start.
"""

import hashlib
import hmac
import json
import os
import sys
import types
from typing import Any

import _pytest
import pytest

NAME = "swebench_lab_results"
VARIABLE = "SWEBENCH_LAB_RESULTS"
CALLED = "swebench_lab_called"
KEY = "key"


class Reporter:
    """Writes sealed lines; each seal covers the one before."""

    def __init__(self, results: int, key: bytes) -> None:
        self.results = results
        self.key = key
        self.previous = ""
        self.process = os.getpid()

    def write(self, **event: object) -> None:
        """Append one event, if this is still the process that began."""
        if os.getpid() != self.process:
            return
        line = json.dumps(event, sort_keys=True)
        mark = hmac.new(self.key, (self.previous + line).encode(), hashlib.sha256).hexdigest()[:20]
        self.previous = mark
        os.write(self.results, (mark + " " + line + "\n").encode())


def _open():  # type: ignore[no-untyped-def]
    """Take what is named in the environment and leave no trace of them there."""
    said = os.environ.pop(VARIABLE, "")
    if not said:
        return None
    results, folder, options, path = said.split("|", 3)
    key = _read_once(os.path.join(folder, KEY))  # noqa: PTH118
    os.set_inheritable(int(results), False)
    _restore("PYTEST_ADDOPTS", options)
    before.append(path)
    if folder in sys.path:
        sys.path.remove(folder)
        sys.path.append(folder)
    return Reporter(int(results), key.strip())


def _read_once(path: str) -> bytes:
    """Read the key and destroy it, before any code of the repository can look for it."""
    with open(path, "r+b") as file:  # noqa: PTH123
        key = file.read()
        file.truncate(0)
    os.unlink(path)  # noqa: PTH108
    return key


def _restore(name: str, value: str) -> None:
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


before = []  # type: ignore[var-annotated]
session_seen = []  # type: ignore[var-annotated]
reporter = _open()  # type: ignore[no-untyped-call]

if reporter:
    reporter.write(event="start", python=sys.version.split()[0])


def pytest_configure(config):  # type: ignore[no-untyped-def]
    """Ask pytest to name each skipped test, and put PYTHONPATH back, unless old workers must find this file."""
    if before and not getattr(config.option, "numprocesses", None):
        _restore("PYTHONPATH", before.pop())
    if hasattr(config.option, "fold_skipped"):
        config.option.fold_skipped = False
    plugins = getattr(config.option, "plugins", None)
    if isinstance(plugins, list) and NAME in plugins:
        plugins.remove(NAME)


def pytest_sessionstart(session):  # type: ignore[no-untyped-def]
    """Remember the session, to read its status at the very end."""
    session_seen.append(session)


def pytest_runtest_logstart(nodeid):  # type: ignore[no-untyped-def]
    """Say which test is about to run."""
    if reporter:
        reporter.write(event="begin", test=nodeid)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):  # type: ignore[no-untyped-def]
    """Note in the report where `pytest.xfail` was called, if that is why the test stopped."""
    outcome = yield
    setattr(outcome.get_result(), CALLED, _caller(item, call.excinfo))


def _caller(item: object, excinfo: Any) -> str:
    """Return `file:line` of the call; empty when there was none, or pytest itself made it for a mark of the item."""
    if excinfo is None or not isinstance(excinfo.value, pytest.xfail.Exception):
        return ""
    frames, at = [], excinfo.tb
    while at is not None:
        frames.append((at.tb_frame, at.tb_lineno))
        at = at.tb_next
    while frames and _of_pytest(frames[-1][0]) and frames[-1][0].f_code.co_name in ("xfail", "__call__"):
        frames.pop()
    if not frames:
        return "code without a frame"
    frame, line = frames[-1]
    if _of_pytest(frame) and any(frame.f_locals.get(name) is item for name in ("item", "self")):
        return ""
    return ":".join([frame.f_code.co_filename, str(line)])


def _of_pytest(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.rpartition(os.sep)[0] == _pytest.__file__.rpartition(os.sep)[0]


def pytest_runtest_logreport(report):  # type: ignore[no-untyped-def]
    """Say what became of one phase of one test."""
    if not reporter or type(report).__name__ == "SubtestReport":
        return
    status = _status(report)
    if status:
        reporter.write(event="outcome", test=report.nodeid, status=status, **_called(report, status))
    if report.when == "teardown":
        reporter.write(event="done", test=report.nodeid)


def pytest_collectreport(report):  # type: ignore[no-untyped-def]
    """Say which file could not be collected."""
    if reporter and report.failed:
        reporter.write(event="outcome", test=report.nodeid, status="ERROR")


def pytest_unconfigure():  # type: ignore[no-untyped-def]
    """Say that pytest came to its own end."""
    if reporter and session_seen:
        reporter.write(event="end", exit=int(session_seen[0].exitstatus))


def _called(report: object, status: str) -> "dict[str, str]":
    """Return where `pytest.xfail` was called, as a field of the event, if it was."""
    place = getattr(report, CALLED, None)
    if place is None and "XFailed: " in str(getattr(report, "longrepr", "")):
        place = "a worker process"  # of pytest-xdist, which runs without this file
    return {"called": place} if place and status == "XFAIL" else {}


def _status(report: object) -> str:
    """Return the word pytest's summary uses, or an empty text for a phase that says nothing."""
    outcome, when = getattr(report, "outcome", ""), getattr(report, "when", "")
    if outcome == "failed":
        return "FAILED" if when == "call" else "ERROR"
    if outcome == "skipped":
        return "XFAIL" if hasattr(report, "wasxfail") else "SKIPPED"
    if outcome == "passed" and when == "call":
        return "XPASS" if hasattr(report, "wasxfail") else "PASSED"
    return ""
