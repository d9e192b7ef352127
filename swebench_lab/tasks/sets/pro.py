"""SWE-bench Pro: its rows, with the run scripts and parsers of a checkout of its repository, to Tasks.

What its own evaluation does, and in which order, is kept: the environment's variables, the base commit, the patch, the
last line of `before_repo_set_cmd` (by which hidden tests arrive from the image's history), the run script over the
selected files, the parser. Its rule (the names of all expected tests are reported as PASSED) is `Verdict.official`; ours
differs in four points, see the page on tasks in any language.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import JSON_REPORT, Verifier
from swebench_lab.tasks.rows.columns import test_ids, texts_of
from swebench_lab.tasks.sets.files import digest_of

LAYOUT = "swe-bench-pro"
COLUMNS = ("before_repo_set_cmd", "selected_test_files_to_run")
"""Columns that no other set has."""
IMAGES = "jefzda/sweap-images"
WORKDIR, WORKSPACE = "/app", "/workspace"
TIMEOUT = 3600.0
_MOST_TAG = 128
_OWN_TAG = "instance_element-hq__element-web-ec0f940ef0e8e3b61078f145f34dc40d1938e6c5-vnan"
"""The one task of element-web whose tag is made like everybody else's."""
_NEEDED = ("instance_id", "repo", "base_commit", "patch", "problem_statement", "fail_to_pass", "pass_to_pass", *COLUMNS)
_KNOWN = {*_NEEDED, "requirements", "interface", "dockerhub_tag", "test_patch"}
_SAFE = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n"


def is_pro(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of SWE-bench Pro's."""
    return all(name in row for name in COLUMNS)


def read_pro(row: Mapping[str, Any], where: str, scripts: Path | None) -> Task:
    """Read a row.

    Args:
        row: The row.
        where: Its place, for errors.
        scripts: A checkout of the set's repository, with `run_scripts/` and `dockerfiles/`.

    Raises:
        TaskError: There is no checkout, it does not hold the task's scripts, or a field is missing or wrong.
    """
    texts = [name for name in _NEEDED if name not in ("fail_to_pass", "pass_to_pass", COLUMNS[1])]
    values = texts_of(row, texts, ("instance_id", "repo", "base_commit"), where)
    task_id, base = values["instance_id"], values["base_commit"]
    if scripts is None:
        raise TaskError(
            f"{where}: a row of SWE-bench Pro ({task_id}): its tests run by scripts that lie in its repository; "
            "load_tasks(..., scripts=CHECKOUT) names one"
        )
    if "/" in task_id or ".." in task_id:
        raise TaskError(f"{where}, field 'instance_id': {task_id!r} cannot be the name of a folder")
    folder = scripts.expanduser().absolute() / "run_scripts" / task_id
    files = {f"{WORKSPACE}/{name}": str(folder / name) for name in ("run_script.sh", "parser.py")}
    for path in map(Path, files.values()):
        if not path.is_file() or path.is_symlink():
            raise TaskError(
                f"{where}: the checkout {scripts} holds no {path.relative_to(scripts.expanduser().absolute())}"
            )
    exports = _exports(scripts.expanduser().absolute(), task_id)
    return Task(
        id=task_id,
        repo=values["repo"],
        base_commit=base,
        issue=_issue(row, values["problem_statement"]),
        gold_patch=values["patch"],
        fail_to_pass=test_ids(row.get("fail_to_pass"), "fail_to_pass", where),
        pass_to_pass=test_ids(row.get("pass_to_pass"), "pass_to_pass", where),
        image=f"{IMAGES}:{row.get('dockerhub_tag') or tag_of(task_id, values['repo'])}",
        workdir=WORKDIR,
        verifier=Verifier(
            kind=JSON_REPORT,
            command=f"{exports}bash {WORKSPACE}/run_script.sh {','.join(test_ids(row.get(COLUMNS[1]), COLUMNS[1], where))}",
            reads=f"{WORKSPACE}/output.json",
            report=f"{exports}$(command -v python || command -v python3) {WORKSPACE}/parser.py {WORKSPACE}/stdout.log "
            f"{WORKSPACE}/stderr.log {WORKSPACE}/output.json",
            files=files,
            digest=digest_of(files),
            prepare=f"{_SAFE}git reset -q --hard {shlex.quote(base)} && git checkout -q {shlex.quote(base)}",
            before=f"{_SAFE}{exports}{values['before_repo_set_cmd'].strip().split(chr(10))[-1]}",
            timeout=TIMEOUT,
            raw=True,
            layout=LAYOUT,
        ),
        extra={key: value for key, value in row.items() if key not in _KNOWN and isinstance(value, (str, int, float))},
    )


def tag_of(task_id: str, repo: str) -> str:
    """Return the tag of a task's image, where its row does not say it."""
    owner, _, name = repo.lower().partition("/")
    rest = task_id.removeprefix("instance_")
    if task_id != _OWN_TAG:
        name = "element" if (owner, name) == ("element-hq", "element-web") else name
        rest = rest.removesuffix("-vnan")
    return f"{owner}.{name}-{rest}"[:_MOST_TAG]


def _issue(row: Mapping[str, Any], problem: str) -> str:
    """Return what agents are shown: the problem, the requirements and the new interfaces."""
    parts = [problem]
    for title, column in (("Requirements", "requirements"), ("New interfaces introduced", "interface")):
        if isinstance(text := row.get(column), str) and text.strip():
            parts.append(f"{title}:\n{text}")
    return "\n\n".join(parts)


def _exports(scripts: Path, task_id: str) -> str:
    """Return shell text that sets the variables of the two Dockerfiles of a task."""
    lines = []
    for kind in ("base", "instance"):
        file = scripts / "dockerfiles" / f"{kind}_dockerfile" / task_id / "Dockerfile"
        for line in file.read_text("utf-8").split("\n") if file.is_file() else ():
            if not (match := re.match(r"\s*ENV\s+(\w+)(=|\s+)(.*)$", line)):
                continue
            lines.append(f"export {match[1]}=" + (match[3] if match[2] == "=" else shlex.quote(match[3])))
    return "".join(f"{line}\n" for line in lines)
