"""Multi-SWE-bench's own parsers, one for each repository, from its package: the extra `multi-swe`."""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from typing import Any

from swebench_lab.errors import GradingError, describe
from swebench_lab.grading.verifiers.reading import Reading, ScriptRun, register_verifier

KIND = "multi-swe-bench"


def read_multi_swe(run: ScriptRun) -> Reading:
    """Read the output by the parser of the repository that the verifier names."""
    return parse_multi_swe(run.verifier.reads, run.output)


def parse_multi_swe(identity: str, log: str) -> Reading:
    """Return the outcomes in a log.

    Args:
        identity: JSON: the row's `org, repo, number, tag, number_interval, lang`.
        log: What `fix-run.sh` printed.

    Raises:
        GradingError: The package is not installed, or has no parser for the repository.
    """
    parser = _parser(identity)
    try:
        outcomes = parser.parse_log(log)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # written for one log each
        return Reading(fault=f"the parser of the task's set cannot read the log: {describe(error)}")
    sides = (("PASSED", outcomes.passed_tests), ("FAILED", outcomes.failed_tests), ("SKIPPED", outcomes.skipped_tests))
    tests = {name: status for status, names in sides for name in names}
    return Reading(tests=tests) if tests else Reading(fault="the log names no test")


def _parser(identity: str) -> Any:
    """Return what the package knows of the repository of a row."""
    instance, image, pull_request = _package()
    row = json.loads(identity)
    base = pull_request.Base(label="", ref="", sha="")
    request = pull_request.PullRequest(
        **row, state="", title="", body="", base=base, resolved_issues=[], fix_patch="", test_patch=""
    )
    try:
        return instance.Instance.create(request, image.Config(need_clone=False, global_env=None, clear_env=False))
    except ValueError as error:
        raise GradingError(f"grading by Multi-SWE-bench's own parsers: {error}") from error


@cache
def _package() -> tuple[Any, Any, Any]:
    """Import the package; some seconds, for its thousands of parsers."""
    try:
        import_module("multi_swe_bench.harness.repos")
        instance = import_module("multi_swe_bench.harness.instance")
        image = import_module("multi_swe_bench.harness.image")
        return instance, image, import_module("multi_swe_bench.harness.pull_request")
    except ImportError as error:
        raise GradingError(
            f"grading by Multi-SWE-bench's own parsers: {error}; pip install 'swebench-lab[multi-swe]'"
        ) from error


register_verifier(KIND, read_multi_swe)
