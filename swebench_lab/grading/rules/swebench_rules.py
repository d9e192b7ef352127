"""SWE-bench's own parsers and rules, taken from the installed harness without its container engines and datasets.

`swebench.harness` imports docker, modal and datasets as a package: 2.5 s for a few pure functions that take 0.04 s. Its
`__init__` does nothing but import submodules, so a package that imports each of them when it is first asked for says
the same (a test compares the two). That package stays in `sys.modules`: nothing is swapped back, so another thread may
import whatever it likes of the harness at any time.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module, util
from pkgutil import resolve_name
from typing import Any, NamedTuple

from swebench_lab.errors import GradingError
from swebench_lab.grading.rules.expectation import OWN_PARSER, R2E_PARSER, Expectation
from swebench_lab.records.verdict import RESOLVED, UNRESOLVED

SWEBENCH_PARSER = "parse_log_pytest_v2"
"""What stands for our own reading of pytest's summary where SWE-bench is asked."""

ENVIRONMENT = "environment"
"""The tier of `SWEbenchRules.classify` that no patch of the sources can plausibly cause."""

BREAKS = (IndexError, KeyError, ValueError, AttributeError, TypeError)
"""What SWE-bench's parsers raise on lines their authors did not think of."""

_HARNESS = "swebench.harness"


class SWEbenchRules(NamedTuple):
    """What grading uses of the installed harness."""

    parsers: Mapping[str, Callable[[str, Any], dict[str, str]]]
    tests_report: Callable[..., dict[str, dict[str, list[str]]]]
    resolution: Callable[[dict[str, dict[str, Any]]], str]
    resolve_case: Callable[[str, Mapping[str, str]], str | None]
    eval_report: Callable[..., dict[str, Any]]
    classify: Callable[[str], tuple[str, str] | None]
    suite_ran: re.Pattern[str]
    eval_type: Any
    test_spec: Any
    fail_only_repos: frozenset[str]


@cache
def rules() -> SWEbenchRules:
    """Return SWE-bench's parsers and rules; safe from many threads.

    Raises:
        GradingError: swebench 5 is not installed.
    """
    try:
        _import_harness_lazily()
        grading = import_module("swebench.harness.grading")
        constants = import_module("swebench.harness.constants")
        infra = import_module("swebench.harness.infra_failure")
        kinds = import_module("swebench.types")
    except ImportError as error:
        raise GradingError(
            f"loading SWE-bench's grading rules: {error}; install swebench 5 (pip install 'swebench==5.0.*')"
        ) from error
    return SWEbenchRules(
        grading.PARSER_REGISTRY,
        grading.get_eval_tests_report,
        grading.get_resolution_status,
        grading._resolve_case,
        grading.get_eval_report,
        infra.classify_text,
        grading.SUITE_RAN,
        constants.EvalType,
        kinds.TestSpec,
        frozenset(constants.FAIL_ONLY_REPOS),
    )


class _LazyPackage(types.ModuleType):
    """A package whose submodules are imported when they are first asked for."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            try:
                return resolve_name(f"{self.__name__}.{name}:")
            except ModuleNotFoundError as error:
                if error.name != f"{self.__name__}.{name}":
                    raise
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _import_harness_lazily() -> None:
    """Import `swebench.harness` without running its `__init__`, unless somebody has imported it already."""
    if _HARNESS in sys.modules:
        return
    spec = util.find_spec(_HARNESS)
    if spec is None:
        raise ImportError(f"no module named {_HARNESS!r}")
    package = util.module_from_spec(spec)
    package.__class__ = _LazyPackage
    # of two threads that come here at once, or of one that imports the harness itself, the first one's package counts
    package = sys.modules.setdefault(_HARNESS, package)
    vars(sys.modules["swebench"]).setdefault("harness", package)


# --- SWE-bench's answer for a log -------------------------------------------------------------------------------------


def test_spec(expected: Expectation) -> Any:
    """Return the harness's TestSpec, of which grading uses the tests, the parser and the evaluation type."""
    return rules().test_spec(
        instance_id=expected.task_id,
        image="",
        eval_script_list=[],
        repo="",
        version=expected.version,
        FAIL_TO_PASS=list(expected.fail_to_pass),
        PASS_TO_PASS=list(expected.pass_to_pass),
        log_parser=SWEBENCH_PARSER if expected.parser in (OWN_PARSER, R2E_PARSER) else expected.parser,
        eval_type=expected.eval_type,
    )


test_spec.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def official_report(log: str, expected: Expectation) -> dict[str, Any]:
    """Return SWE-bench's own report of one instance, made by `get_eval_report` from a log.

    Args:
        log: A log with SWE-bench's markers.
        expected: The tests that decide; our own parser's name is replaced by SWE-bench's nearest.
    """
    prediction = {"instance_id": expected.task_id, "model_patch": "-", "model_name_or_path": "-"}
    with tempfile.NamedTemporaryFile("w", suffix=".log", encoding="utf-8", errors="replace") as file:
        file.write(log)
        file.flush()
        report: dict[str, Any] = rules().eval_report(
            test_spec(expected), prediction, file.name, include_tests_status=True
        )
    result: dict[str, Any] = report[expected.task_id]
    return result


def official_answer_without_a_patch(expected: Expectation) -> str:
    """Return what SWE-bench's own `get_eval_report` says of a prediction that holds no patch."""
    prediction = {"instance_id": expected.task_id, "model_patch": None, "model_name_or_path": "-"}
    report = rules().eval_report(test_spec(expected), prediction, os.devnull, include_tests_status=False)
    return RESOLVED if report[expected.task_id]["resolved"] else UNRESOLVED


def official_answer(log: str, expected: Expectation) -> str:
    """Return what SWE-bench's own `get_eval_report` says of a log: `resolved`, else `unresolved`.

    Empty for tasks of R2E-Gym, whose names of tests SWE-bench's parsers do not know.
    """
    if expected.parser == R2E_PARSER:
        return ""
    try:
        return RESOLVED if official_report(log, expected)["resolved"] else UNRESOLVED
    except BREAKS:
        return UNRESOLVED
