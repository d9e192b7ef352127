"""Runs inside pytest in the box: writes each test's outcome, sealed, to a descriptor that is not its output.

Given to pytest as `-p`, before any file of the repository is imported. It may only use what Python 3.5 and pytest 3
have, and imports nothing of this package: it is copied into the box as it stands. `startup` took the key before, which
lives on only in this process; the results descriptor is not inherited by programs the tests start.
"""

import os
import sys
import types
from typing import Any

import _pytest
import pytest

NAME = "swebench_lab_results"
CALLED = "swebench_lab_called"

startup = sys.modules.get("swebench_lab_startup")  # type: Any
"""What took the key; None in workers of pytest-xdist, whose reports come through the process that started them."""


reporter = startup.reporter if startup else None
session_seen = []

if startup:
    startup.restore("PYTEST_ADDOPTS", " ".join(os.environ.get("PYTEST_ADDOPTS", "").split(" ")[2:]))


def pytest_configure(config):
    """Ask pytest to name each skipped test; have workers of old versions of xdist find this file."""
    if startup and getattr(config.option, "numprocesses", None):
        path = [startup.__file__.rpartition(os.sep)[0], startup.path_before]
        startup.restore("PYTHONPATH", os.pathsep.join(filter(None, path)))
    if hasattr(config.option, "fold_skipped"):
        config.option.fold_skipped = False
    plugins = getattr(config.option, "plugins", None)
    if isinstance(plugins, list) and NAME in plugins:
        plugins.remove(NAME)


def pytest_sessionstart(session):
    """Remember the session, to read its status at the very end."""
    session_seen.append(session)


def pytest_runtest_logstart(nodeid):
    """Say which test is about to run."""
    if reporter:
        reporter.write(event="begin", test=nodeid)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
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


def pytest_runtest_logreport(report):
    """Say what became of one phase of one test."""
    if not reporter or type(report).__name__ == "SubtestReport":
        return
    status = _status(report)
    if status:
        reporter.write(event="outcome", test=report.nodeid, status=status, **_xfail_call(report, status))
    if report.when == "teardown":
        reporter.write(event="done", test=report.nodeid)


def pytest_collectreport(report):
    """Say which file could not be collected."""
    if reporter and report.failed:
        reporter.write(event="outcome", test=report.nodeid, status="ERROR")


def pytest_unconfigure():
    """Say that pytest came to its own end."""
    if reporter and session_seen:
        reporter.end(int(session_seen[0].exitstatus))


def _xfail_call(report: object, status: str) -> "dict[str, str]":
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
