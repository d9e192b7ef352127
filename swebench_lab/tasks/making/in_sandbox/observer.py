# ruff: noqa: UP006, UP033, UP035
"""Runs inside pytest in the box: selects tests, notes which functions they reach, and how those that fail do so.

Copied into the box as it stands, so it may only use the standard library and pytest. What to do stands in the file
that the variable below names, as JSON: `{"out": file, "only": [test ids] or null, "without": [test ids], "trace": bool,
"explain": bool, "limits": {test id: [seconds of processors, seconds]}, "loading": seconds of processors or null}`.
"""

import ast
import json
import os
import signal
import sys
import threading
import time
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, Callable, Dict, Generator, List, Set, Tuple

import pytest

VARIABLE = "SWEBENCH_LAB_OBSERVER"
LONGEST = 2000
"""Characters of a value's text that are kept."""

orders: Dict[str, Any] = {}
if os.environ.get(VARIABLE):
    with open(os.environ.pop(VARIABLE), encoding="utf-8") as given:  # noqa: PTH123
        orders = json.load(given)
root = os.path.realpath(os.getcwd())  # noqa: PTH109
tests: List[str] = []
reached: Dict[str, Dict[str, List[int]]] = {}
times: Dict[str, Tuple[float, float]] = {}
loading = 0.0
failures: List[Dict[str, Any]] = []
seen: Set[CodeType] = set()


@lru_cache(maxsize=None)
def _own_path(name: str) -> str:
    """Return a file's path below the repository, or an empty text for files from elsewhere."""
    path = os.path.realpath(name)
    own = path.startswith(root + os.sep) and not name.startswith("<")
    return os.path.relpath(path, root) if own else ""


def pytest_collection_modifyitems(config: Any, items: List[Any]) -> None:
    """Keep only the tests that were asked for."""
    only, without = orders.get("only"), set(orders.get("without", ()))
    if only is None and not without:
        return
    names = set(only if only is not None else (item.nodeid for item in items)) - without
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in names])
    items[:] = [item for item in items if item.nodeid in names]


class _Profile:
    """Notes which functions run, before Python 3.12: the C profiler for the test's thread, a call each for others."""

    def __init__(self) -> None:
        from _lsprof import Profiler

        self.profiler = Profiler(subcalls=False, builtins=False)

    def start(self) -> None:
        threading.setprofile(self._note)
        self.profiler.enable()

    def stop(self) -> None:
        self.profiler.disable()
        threading.setprofile(None)
        seen.update(entry.code for entry in self.profiler.getstats() if isinstance(entry.code, CodeType))
        self.profiler.clear()

    @staticmethod
    def _note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_code)


class _Monitor:
    """Notes which functions run, from Python 3.12 on: the first call of each during a test, at no cost for the others."""

    def __init__(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        self.monitoring, self.tool = monitoring, next(n for n in (4, 3, 5) if monitoring.get_tool(n) is None)
        monitoring.use_tool_id(self.tool, VARIABLE)
        self.events = monitoring.events.PY_START | monitoring.events.PY_RESUME
        for event in (monitoring.events.PY_START, monitoring.events.PY_RESUME):
            monitoring.register_callback(self.tool, event, self._note)

    def start(self) -> None:
        self.monitoring.restart_events()
        self.monitoring.set_events(self.tool, self.events)

    def stop(self) -> None:
        self.monitoring.set_events(self.tool, 0)

    def _note(self, code: CodeType, _: int) -> Any:
        seen.add(code)
        return self.monitoring.DISABLE


tracer: Any = (_Monitor if sys.version_info >= (3, 12) else _Profile)() if orders.get("trace") else None


if orders.get("loading"):
    signal.setitimer(signal.ITIMER_PROF, orders["loading"])


def pytest_collection_finish() -> None:
    """Note what loading the tests took; from here on each has a limit of its own."""
    global loading
    loading = time.process_time()
    if orders.get("loading"):
        signal.setitimer(signal.ITIMER_PROF, 0.0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: Any) -> Generator[None, Any, None]:
    """Note how long a test takes, and which functions of the repository run while it does."""
    work, wall = orders.get("limits", {}).get(item.nodeid, (0.0, 0.0))
    if work:
        signal.setitimer(signal.ITIMER_PROF, work)
        signal.setitimer(signal.ITIMER_REAL, wall)
    began, used = time.monotonic(), time.process_time()
    if tracer:
        seen.clear()
        tracer.start()
    try:
        yield
    finally:
        if tracer:
            tracer.stop()
            _note_reached(item.nodeid)
        times[item.nodeid] = (time.process_time() - used, time.monotonic() - began)
        if work:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def _note_reached(test: str) -> None:
    """Note the functions of the repository that ran during a test."""
    number = len(tests)
    tests.append(test)
    for code in list(seen):
        path = _own_path(code.co_filename)
        if path:
            reached.setdefault(path, {}).setdefault(str(code.co_firstlineno), []).append(number)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Generator[None, Any, None]:
    """Note how a test fails: the line of the test, what the names in it hold, and the error."""
    outcome = yield
    if orders.get("explain") and call.excinfo is not None and outcome.get_result().failed:
        failures.append(_explain(item, call.excinfo, call.when))


def _explain(item: Any, excinfo: Any, when: str) -> Dict[str, Any]:
    function: Any = getattr(item, "function", None) or getattr(item, "obj", None)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
        code = getattr(function, "__code__", code)
    frames = list(excinfo.traceback)
    inner = [frame for frame in frames if frame.frame.code.raw is code]
    mine = inner[-1] if inner else None
    return {
        "test": item.nodeid,
        "when": when,
        "line": mine.lineno + 1 if mine else 0,
        "error": type(excinfo.value).__name__,
        "message": _text(excinfo.value, str),
        "values": _values(mine.frame.f_locals) if mine else {},
        "own": _own_error(excinfo.value),
        "indices": dict(getattr(getattr(item, "callspec", None), "indices", {})),
    }


def _own_error(error: BaseException) -> bool:
    """Whether the error is the test's own verdict: a failed assertion or `pytest.fail`."""
    return isinstance(error, AssertionError) or type(error).__module__.startswith("_pytest")


def _values(names: Dict[str, Any]) -> Dict[str, str]:
    """Return the source text of the values that can be written down as literals."""
    literals: Dict[str, str] = {}
    for name, value in list(names.items()):
        text = _text(value, repr)
        try:
            same = name.isidentifier() and len(text) < LONGEST and _same(ast.literal_eval(text), value)
        except Exception:  # any value at all may be compared here, and none of it is ours
            same = False
        if same:
            literals[name] = text
    return literals


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _text(value: Any, how: Callable[[Any], str]) -> str:
    try:
        return how(value)[:LONGEST]
    except Exception as error:  # the repr of a broken object may raise anything
        return f"<{type(value).__name__} without a text: {type(error).__name__}>"


def pytest_unconfigure() -> None:
    """Write down what was noted."""
    if orders.get("out"):
        with open(orders["out"], "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
            notes = {"tests": tests, "reached": reached, "failures": failures, "times": times, "loading": loading}
            json.dump(notes, file)
