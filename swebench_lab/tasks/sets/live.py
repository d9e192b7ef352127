"""SWE-bench-Live beyond Python: its rows, which bring their own build, test and print commands and their own parser, to Tasks.

Its evaluation applies the test patch and the patch in /testbed of the row's image, runs the commands in one shell, and has
the row's own `parser` read what the last of them print. Its rule, `Verdict.official`, is that every FAIL_TO_PASS test passed
and no PASS_TO_PASS test is reported as failed: one that is not reported at all passes by it, and does not by ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import JSON_REPORT, LOG, Verifier
from swebench_lab.tasks.rows.checks import date_text
from swebench_lab.tasks.rows.columns import list_of, other_columns, test_ids, texts_of

LAYOUT = "swe-bench-live"
WORKSPACE = "/workspace"
TIMEOUT = 9000.0
_COMMANDS = ("rebuild_cmds", "test_cmds", "print_cmds")
_NEEDED = ("instance_id", "repo", "base_commit", "patch", "test_patch", "problem_statement")
_READ = """\
import json
space = {{}}
exec({source!r}, space)
text = open({folder!r} + "/stdout.log", errors="replace", newline="").read()
words = dict(PASSED="pass", FAILED="fail", SKIPPED="skip")
rows = []
for name, status in space["parser"](text).items():
    found = [ours for ours, theirs in words.items() if theirs in status.lower()]
    rows.append(dict(name=name, status=found[0] if found else "OTHER"))
json.dump(dict(tests=rows), open({folder!r} + "/output.json", "w"))
"""


def is_live(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of SWE-bench-Live's second generation, in any language."""
    return "FAIL_TO_PASS" in row and ("rebuild_cmds" in row or "print_cmds" in row)


def read_live(row: Mapping[str, Any], where: str) -> Task:
    """Read a row.

    Raises:
        TaskError: It is for Windows, or a field is missing or wrong.
    """
    values = texts_of(row, _NEEDED, ("instance_id", "repo", "base_commit"), where)
    image = str(row.get("docker_image") or _image_of(values["instance_id"]))
    if "sweb.eval.win." in image:
        raise TaskError(f"{where}: a row of SWE-bench-Live for Windows ({image}): boxes are Linux")
    return Task(
        id=values["instance_id"],
        repo=values["repo"],
        base_commit=values["base_commit"],
        issue=values["problem_statement"],
        gold_patch=values["patch"],
        test_patch=values["test_patch"],
        fail_to_pass=test_ids(row["FAIL_TO_PASS"], "FAIL_TO_PASS", where),
        pass_to_pass=test_ids(row.get("PASS_TO_PASS"), "PASS_TO_PASS", where),
        created_at=date_text(row.get("created_at") or "", "created_at", where),
        hints=str(row.get("hints_text") or ""),
        image=image,
        verifier=_verifier(row, where),
        extra=other_columns(row, {*_NEEDED, *_COMMANDS, "FAIL_TO_PASS", "PASS_TO_PASS", "created_at", "hints_text",
                                  "docker_image"}),
    )  # fmt: skip


def _image_of(task_id: str) -> str:
    return f"starryzhang/sweb.eval.x86_64.{task_id.replace('__', '_1776_').lower()}"


def _verifier(row: Mapping[str, Any], where: str) -> Verifier:
    rebuild, test, show = (" ; ".join(list_of(row.get(name))) for name in _COMMANDS)
    if not test.strip():
        raise TaskError(f"{where}, field 'test_cmds': no command runs the tests")
    parser = row.get("log_parser") or row.get("parser")
    if not isinstance(parser, str) or not (parser.strip().lower() == "pytest" or "def parser" in parser):
        raise TaskError(f"{where}, field 'log_parser': expected 'pytest', or Python that defines parser(log)")
    # what the tests print is kept apart, beside what is read
    command = "\n".join(
        [f"{{\n{rebuild or ':'}\n{test}\n}} >&2", show] if show.strip() else [f"{rebuild or ':'} >&2", test]
    )
    if parser.strip().lower() == "pytest":
        return Verifier(LOG, command, reads="parse_log_pytest", timeout=TIMEOUT, layout=LAYOUT)
    read = _READ.format(source=parser, folder=WORKSPACE)
    return Verifier(
        JSON_REPORT,
        command,
        reads=f"{WORKSPACE}/output.json",
        report=f"python3 -c {shlex.quote(read)}",
        reports_here=True,
        timeout=TIMEOUT,
        layout=LAYOUT,
    )
