"""OpenSWE: its rows, whose own script prints whether the tests passed, to Tasks.

Its evaluation runs `eval_script` in the row's image after the patch; the script applies the test patch and prints
`OPENSWE_EXIT_CODE=` and the status of the tests. Its rule, `Verdict.official`, is that some line of the output says 0.
Here the test patch is brought before the script runs, over files that are as the task has them, and the script's own
lines for that are left out; the marker's name is another one in every run, and its last line counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import EXIT_MARKER, Verifier
from swebench_lab.tasks.rows.checks import date_text
from swebench_lab.tasks.rows.columns import other_columns, texts_of

LAYOUT = "openswe"
MARKER = "OPENSWE_EXIT_CODE"
TIMEOUT = 3600.0
_PLACE = "[CONTENT OF TEST PATCH]"
_NEEDED = ("instance_id", "repo", "base_commit", "problem_statement", "eval_script")
_PATCH = re.compile(
    r"^[ \t]*git apply\b[^\n]*<<-?\s*['\"]?(\w+)['\"]?[^\n]*\n(.*?)^\1[ \t]*$\n?", re.MULTILINE | re.DOTALL
)
_RESET = re.compile(r"^[ \t]*git (?:checkout|restore|reset)\b[^\n]*$", re.MULTILINE)


def is_open_swe(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of OpenSWE's."""
    return "FAIL_TO_PASS" not in row and MARKER in str(row.get("eval_script") or "")


def read_open_swe(row: Mapping[str, Any], where: str) -> Task:
    """Read a row; one of the part without patches is a task without gold.

    Raises:
        TaskError: It names no image, or a field is missing or wrong.
    """
    image = str(row.get("image_name") or "")
    if not image:
        raise TaskError(f"{where}, field 'image_name': a row of OpenSWE that names no image for its script to run in")
    values = texts_of(row, _NEEDED, ("instance_id", "repo", "base_commit"), where)
    script = values["eval_script"]
    inline = "".join(match[2] for match in _PATCH.finditer(script)).replace(f"{_PLACE}\n", "")
    return Task(
        id=values["instance_id"],
        repo=values["repo"],
        base_commit=values["base_commit"],
        issue=values["problem_statement"],
        gold_patch=str(row.get("patch") or ""),
        fail_to_pass=(),
        pass_to_pass=(),
        test_patch=str(row.get("test_patch") or inline),
        created_at=date_text(row.get("created_at") or "", "created_at", where),
        version=str(row.get("version") or ""),
        image=image,
        verifier=Verifier(
            EXIT_MARKER, _RESET.sub("", _PATCH.sub("", script)), reads=MARKER, timeout=TIMEOUT, layout=LAYOUT
        ),
        extra=other_columns(row, {*_NEEDED, "patch", "test_patch", "created_at", "version", "image_name"}),
    )
