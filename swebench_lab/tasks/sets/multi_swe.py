"""Multi-SWE-bench and Multi-SWE-RL: their rows to Tasks, graded in their images by the scripts that lie there.

Their evaluation puts the patch into the image as `/home/fix.patch` and runs `/home/fix-run.sh`, which applies it beside
`/home/test.patch`. The output is read by the parser that their package has for the repository (extra `multi-swe`). The rule,
`Verdict.official`, compares it with what the row says of the runs without the fix. Both patches lie in the image: agents do
not see them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from swebench_lab.errors import TaskError, shortly
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import Verifier
from swebench_lab.tasks.rows.columns import as_object, text_of

KIND = LAYOUT = "multi-swe-bench"
HOME = "/home"
TIMEOUT = 3600.0
_COMMAND = f"if [ -s {HOME}/fix.patch ]; then bash {HOME}/fix-run.sh; else bash {HOME}/test-run.sh; fi"
_KINDS = ("f2p_tests", "s2p_tests", "n2p_tests", "p2p_tests")
_RUNS = ("run_result", "test_patch_result")
_OUTCOMES = ("passed_tests", "failed_tests", "skipped_tests")


def is_multi_swe(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of Multi-SWE-bench's or Multi-SWE-RL's."""
    return "fix_patch" in row and "gold_patch" not in row and "FAIL_TO_PASS" not in row


def read_multi_swe(row: Mapping[str, Any], where: str) -> Task:
    """Read a row.

    Raises:
        TaskError: A field is missing or wrong.
    """
    org, repo, fix, tests = (text_of(row, name, where) for name in ("org", "repo", "fix_patch", "test_patch"))
    number = row.get("number")
    if not isinstance(number, int) or isinstance(number, bool):
        raise TaskError(f"{where}, field 'number': expected a whole number, found {shortly(number)}")
    base = as_object(row, "base", where)
    names = {kind: _names(row, kind, where) for kind in _KINDS}
    identity = {"org": org, "repo": repo, "number": number}
    identity |= {name: str(row.get(name) or "") for name in ("tag", "number_interval", "lang")}
    return Task(
        id=str(row.get("instance_id") or f"{org}__{repo}-{number}"),
        repo=f"{org}/{repo}",
        base_commit=str(base.get("sha") or ""),
        issue=_issue(row, where),
        gold_patch=fix,
        test_patch=tests,
        fail_to_pass=tuple(name for kind in _KINDS[:-1] for name in names[kind]),
        pass_to_pass=names["p2p_tests"],
        image=f"mswebench/{org}_m_{repo}:pr-{number}".lower(),
        workdir=f"{HOME}/{repo}",
        removed=(f"{HOME}/fix.patch", f"{HOME}/test.patch"),
        verifier=Verifier(
            kind=KIND,
            command=_COMMAND,
            reads=json.dumps(identity),
            patches=HOME,
            timeout=TIMEOUT,
            layout=LAYOUT,
        ),
        extra={**{name: _outcomes(row, name, where) for name in _RUNS},
               **{kind: list(names[kind]) for kind in ("s2p_tests", "n2p_tests")}},
    )  # fmt: skip


def _issue(row: Mapping[str, Any], where: str) -> str:
    """Return the issues that the fix resolves, or else what its pull request says."""
    issues: Any = row.get("resolved_issues")
    issues = issues.tolist() if hasattr(issues, "tolist") else issues
    if issues is not None and not (isinstance(issues, (list, tuple)) and all(isinstance(i, Mapping) for i in issues)):
        raise TaskError(f"{where}, field 'resolved_issues': expected a list of issues, found {shortly(issues)}")
    parts = [f"{issue.get('title') or ''}\n\n{issue.get('body') or ''}".strip() for issue in issues or [row]]
    return "\n\n".join(part for part in parts if part)


def _names(row: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    """Return the names of an object by test, of its form in columns, or of a list of rows."""
    value: Any = row.get(column)
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None:
        return ()
    if isinstance(value, str):
        value = as_object(row, column, where)
    if isinstance(value, Mapping):
        names = value.get("names", value.get("name"))
        if isinstance(names, (list, tuple)):
            return _texts(names, column, where)
        return tuple(str(name) for name, states in value.items() if states is not None)  # None: another row's test
    if isinstance(value, (list, tuple)):
        return _texts([item.get("name") if isinstance(item, Mapping) else item for item in value], column, where)
    raise TaskError(f"{where}, field {column!r}: expected tests by name, found {shortly(value)}")


def _texts(values: Iterable[Any], column: str, where: str) -> tuple[str, ...]:
    texts = tuple(values)
    if odd := next((value for value in texts if not isinstance(value, str)), None):
        raise TaskError(f"{where}, field {column!r}: expected names of tests, found {shortly(odd)}")
    return texts


def _outcomes(row: Mapping[str, Any], column: str, where: str) -> dict[str, list[str]]:
    """Return the names that passed, failed and were skipped in a run that the row tells of."""
    outcomes = as_object(row, column, where)
    sides: dict[str, Any] = {name: outcomes.get(name) for name in _OUTCOMES}
    return {
        name: list(_texts(() if names is None else names, f"{column}.{name}", where)) for name, names in sides.items()
    }
