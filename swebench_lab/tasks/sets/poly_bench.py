"""SWE-PolyBench: its rows, with the log parsers of a checkout of its repository, to Tasks.

Its evaluation applies the test patch and the patch in the row's image, runs `test_command`, and reads the output by the
parser that it has for the repository. Its rule, `Verdict.official`, is that every F2P test is among those that passed and
no P2P test among those that failed: one that is not reported at all passes by it, and does not by ours.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import JSON_REPORT, Verifier
from swebench_lab.tasks.rows.checks import date_text
from swebench_lab.tasks.rows.columns import other_columns, test_ids, texts_of
from swebench_lab.tasks.sets.files import digest_of

LAYOUT = "swe-polybench"
WORKSPACE = "/workspace"
IMAGES = "ghcr.io/timesler/swe-polybench.eval.x86_64"
_PACKAGE = Path("src", "poly_bench_evaluation")
_TIMEOUTS = {"java": 1800.0}
_TIMEOUT = 1200.0
_NEEDED = ("instance_id", "repo", "base_commit", "patch", "test_patch", "problem_statement", "language", "test_command")
_READ = """\
import json, sys
sys.path.insert(0, {folder!r})
from poly_bench_evaluation import parsers
text = "".join(open(f"{folder}/{{part}}.log", errors="replace", newline="").read() for part in ("stderr", "stdout"))
outcome = parsers.{name}(test_content=text + "\\nContainer exited with status code: 0" * 2).parse()
passed, failed = (set(outcome[key]) for key in ("passed_tests", "failed_tests"))
rows = [dict(name=name, status="PASSED" if name not in failed else "FAILED" if name not in passed else "MIXED")
        for name in sorted(passed | failed)]
json.dump(dict(tests=rows), open({folder!r} + "/output.json", "w"))
"""


def is_poly_bench(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of SWE-PolyBench's."""
    return "F2P" in row and "FAIL_TO_PASS" not in row and "gold_patch" not in row


def read_poly_bench(row: Mapping[str, Any], where: str, scripts: Path | None) -> Task:
    """Read a row.

    Args:
        row: The row.
        where: Its place, for errors.
        scripts: A checkout of the set's repository, with `src/poly_bench_evaluation`.

    Raises:
        TaskError: There is no checkout, it has no parser for the row's repository, or a field is missing or wrong.
    """
    if scripts is None:
        raise TaskError(
            f"{where}: a row of SWE-PolyBench: its log is read by parsers that lie in the set's repository; "
            "load_tasks(..., scripts=CHECKOUT) names one"
        )
    values = texts_of(row, _NEEDED, ("instance_id", "repo", "base_commit", "test_command"), where)
    package = scripts.expanduser().absolute() / _PACKAGE
    files = {f"{WORKSPACE}/{_PACKAGE.name}/parsers": str(package / "parsers")}
    read = _READ.format(folder=WORKSPACE, name=_parser_of(package, values["repo"], where))
    return Task(
        id=values["instance_id"],
        repo=values["repo"],
        base_commit=values["base_commit"],
        issue=values["problem_statement"],
        gold_patch=values["patch"],
        test_patch=values["test_patch"],
        fail_to_pass=test_ids(row.get("F2P"), "F2P", where),
        pass_to_pass=test_ids(row.get("P2P"), "P2P", where),
        created_at=date_text(row.get("created_at") or "", "created_at", where),
        hints=str(row.get("hints_text") or ""),
        image=f"{IMAGES}.{values['instance_id'].lower()}:latest",
        workdir="",
        verifier=Verifier(
            JSON_REPORT,
            f"set -uxo pipefail\n{values['test_command']}",
            reads=f"{WORKSPACE}/output.json",
            report=f"python3 -c {shlex.quote(read)}",
            reports_here=True,
            files=files,
            digest=digest_of(files),
            timeout=_TIMEOUTS.get(values["language"].lower(), _TIMEOUT),
            layout=LAYOUT,
        ),
        extra=other_columns(row, {*_NEEDED, "F2P", "P2P", "created_at", "hints_text"} - {"language"}),
    )


def _parser_of(package: Path, repo: str, where: str) -> str:
    """Return the name of the class that reads a repository's log."""
    place = package / "constants.py"
    if not place.is_file() or not (package / "parsers" / "__init__.py").is_file():
        raise TaskError(f"{where}: the checkout holds no {_PACKAGE}/constants.py and parsers/")
    for node in ast.parse(place.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REPO_TO_PARSER_CLASS":
            name = ast.literal_eval(node.value).get(repo)
            if isinstance(name, str) and name.isidentifier():
                return name
    raise TaskError(f"{where}, field 'repo': the checkout's {place.name} names no parser for {repo!r}")
