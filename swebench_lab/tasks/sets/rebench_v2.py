"""SWE-rebench V2: its rows, with the log parsers of a checkout of its repository, to Tasks.

Its evaluation applies the patch and the test patch in the row's image, runs `test_cmd`, and reads the output by a parser of
its own repository. Its rule is that the tests which passed are exactly the expected ones: `Verdict.official`. Ours asks
that every expected one passed.
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
from swebench_lab.tasks.rows.checks import date_text
from swebench_lab.tasks.rows.columns import as_object, list_of, other_columns, test_ids, texts_of
from swebench_lab.tasks.sets.files import digest_of

LAYOUT = "swe-rebench-v2"
WORKSPACE = "/workspace"
TIMEOUT = 3600.0
APPLY = "git apply -v --3way --recount --ignore-space-change --whitespace=nowarn"
"""How its evaluation applies patches."""
_PARSERS = Path("lib", "agent", "log_parsers.py")
_NEEDED = ("instance_id", "repo", "base_commit", "patch", "test_patch", "problem_statement", "image_name")
_DURATION = (
    r"\s*\[\s*\d+(\.\d+)?\s*m?s\s*\]\s*$",
    r"\s+in\s+\d+(\.\d+)?\s+m?sec\b",
    r"\s*\(\s*\d+(\.\d+)?\s*m?s\s*\)\s*$",
)
"""What is cut off the names of tests, in this order: how long they took."""
_READ = """\
import json, re, sys
sys.path[:0] = [{folder!r}, {folder!r} + "/lib"]
from agent import log_parsers
parse = log_parsers.NAME_TO_PARSER.get({name!r}) or getattr(log_parsers, {name!r})
text = "".join(open(f"{folder}/{{part}}.log", errors="replace", newline="").read() for part in ("stdout", "stderr"))
tests = {{}}
for name, status in parse(text).items():
    for pattern in {patterns!r}:
        name = re.sub(pattern, "", name, flags=re.I)
    tests[name.strip()] = status
rows = [dict(name=name, status=getattr(status, "value", status)) for name, status in tests.items()]
json.dump(dict(tests=rows), open({folder!r} + "/output.json", "w"))
"""


def is_rebench_v2(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of SWE-rebench V2's; those of the first set do not name a language."""
    return "install_config" in row and "language" in row and "FAIL_TO_PASS" in row


def is_python(row: Mapping[str, Any]) -> bool:
    """Whether a row's language is Python, whose environments are built here too."""
    return str(row.get("language") or "python").lower() == "python"


def read_rebench_v2(row: Mapping[str, Any], where: str, scripts: Path | None) -> Task:
    """Read a row.

    Args:
        row: The row.
        where: Its place, for errors.
        scripts: A checkout of the set's repository, with `lib/agent/log_parsers.py`.

    Raises:
        TaskError: There is no checkout, it lacks the row's parser, or a field is missing or wrong.
    """
    if scripts is None:
        raise TaskError(
            f"{where}: a row of SWE-rebench V2 in {row['language']}: its log is read by parsers that lie in the set's "
            "repository; load_tasks(..., scripts=CHECKOUT) names one"
        )
    values = texts_of(row, _NEEDED, (name for name in _NEEDED if name != "problem_statement"), where)
    config = as_object(row, "install_config", where)
    commands = [command for command in list_of(config.get("test_cmd")) if command.strip()]
    parser = str(config.get("log_parser") or "")
    if not commands or not parser:
        raise TaskError(f"{where}, field 'install_config': expected a test_cmd and a log_parser")
    files = {f"{WORKSPACE}/lib": str(_library(scripts, parser, where))}
    read = _READ.format(folder=WORKSPACE, name=parser, patterns=_DURATION)
    return Task(
        id=values["instance_id"],
        repo=values["repo"],
        base_commit=values["base_commit"],
        issue=values["problem_statement"],
        gold_patch=values["patch"],
        test_patch=values["test_patch"],
        fail_to_pass=_names(row, "FAIL_TO_PASS", where),
        pass_to_pass=_names(row, "PASS_TO_PASS", where),
        created_at=date_text(row.get("created_at") or "", "created_at", where),
        image=values["image_name"],
        workdir=f"/{values['repo'].rpartition('/')[2]}",
        verifier=Verifier(
            kind=JSON_REPORT,
            command="\n".join(["set -e", *commands]),
            reads=f"{WORKSPACE}/output.json",
            report=f"python3 -c {shlex.quote(read)}",
            reports_here=True,
            files=files,
            digest=digest_of(files),
            env={"_JAVA_OPTIONS": "-Djava.net.preferIPv6Addresses=false"},
            apply=APPLY,
            timeout=TIMEOUT,
            layout=LAYOUT,
        ),
        extra=other_columns(row, {*_NEEDED, "FAIL_TO_PASS", "PASS_TO_PASS", "created_at"}),
    )


def _library(scripts: Path, parser: str, where: str) -> Path:
    """Return the folder with the set's parsers, among which is the row's."""
    place = scripts.expanduser().absolute() / _PARSERS
    if not place.is_file():
        raise TaskError(f"{where}: the checkout {scripts} holds no {_PARSERS}")
    if not re.search(rf"\b{re.escape(parser)}\b", place.read_text("utf-8", "replace")):
        raise TaskError(f"{where}, field 'install_config': the checkout's {_PARSERS} has no parser called {parser!r}")
    return place.parent.parent


def _names(row: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    names = test_ids(row.get(column), column, where)
    for pattern in _DURATION:
        names = tuple(re.sub(pattern, "", name, flags=re.IGNORECASE) for name in names)
    return tuple(name.strip() for name in names)
