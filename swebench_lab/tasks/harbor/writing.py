"""Writing: tasks as Harbor task folders, which anything that reads Harbor's layout runs.

A folder holds all that its task needs: the START tree with its sealed repository and the exact packages (`environment/`),
the hidden tests with what grades them (`tests/`), and the gold patch (`solution/`). Only the base image and the packages
come from elsewhere when it is built.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab._files import safe_name
from swebench_lab.errors import TaskError
from swebench_lab.grading.execution.scripts import with_files
from swebench_lab.grading.rules.expectation import OWN_PARSER, test_arguments, test_files
from swebench_lab.records.task import Task, Tasks
from swebench_lab.snapshots.environment.specs import Spec, spec_of
from swebench_lab.tasks.harbor.config import SCHEMA_VERSION
from swebench_lab.tasks.harbor.reading import digest

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory

logger = logging.getLogger(__name__)

ORG = "swebench-lab"
WORKDIR = "/testbed"
_GRADER = "harbor_grader.py"
_DOCKERFILE = """\
FROM {base}
RUN apt-get update && apt-get install -y --no-install-recommends {system} && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /opt/requirements.txt
RUN pip install --no-cache-dir --no-deps -r /opt/requirements.txt
COPY repo {workdir}
WORKDIR {workdir}
{env}"""
_TEST = """\
#!/bin/bash
# Puts the hidden tests in place, runs them, and writes 1 or 0 to {logs}/reward.txt.
cd {workdir} || exit 1
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
{apply}mkdir -p {logs}
{{
{command}
}} >{logs}/log.txt 2>&1
code=$?
tail -n 200 {logs}/log.txt
python /tests/grade.py /tests/expected.json {logs}/log.txt $code {logs}/reward.txt
"""
_SOLVE = """\
#!/bin/bash
set -e
cd {workdir}
git apply --whitespace=nowarn /solution/gold.patch
"""


def write(
    tasks: Tasks,
    folder: Path,
    sandboxes: SandboxFactory | None = None,
    org: str = ORG,
    base: str = "python:{version}-slim",
) -> Path:
    """Write tasks as Harbor task folders, with a `dataset.toml`; see `Tasks.to_harbor`."""
    from swebench_lab.snapshots.factory import SandboxFactory

    for task in tasks:
        _refuse(task)
    factory = sandboxes or SandboxFactory()
    rows = []
    for task in tasks:
        place = folder / safe_name(task.id)
        if place.exists():
            raise TaskError(f"writing {task.id!r} as a Harbor task: {place} is there already")
        name = f"{org}/{re.sub(r'[^A-Za-z0-9_.-]', '-', task.id).lstrip('.-').replace('..', '.')}"
        _write_task(task, factory.snapshot(task), place, name, base)
        rows.append((name, digest(place)))
    entries = "".join(f"\n[[tasks]]\nname = {_toml(name)}\ndigest = {_toml(value)}\n" for name, value in rows)
    title = re.sub(r"[^A-Za-z0-9_.-]", "-", tasks.name or folder.name) or "tasks"
    (folder / "dataset.toml").write_text(
        f'schema_version = "1.0"\n\n[dataset]\nname = {_toml(f"{org}/{title}")}\n{entries}', "utf-8"
    )
    logger.info("wrote %d Harbor tasks to %s", len(rows), folder)
    return folder


def _refuse(task: Task) -> None:
    doing = f"writing {task.id!r} as a Harbor task"
    if task.verifier is not None:
        raise TaskError(f"{doing}: it is graded by a script of its own; copy the folder that it was read from")
    if not task.gold_patch:
        raise TaskError(f"{doing}: it has no gold patch, which the solution is made of")


def _write_task(task: Task, snapshot: Snapshot, folder: Path, name: str, base: str) -> None:
    spec = spec_of(snapshot)
    if spec.log_parser != OWN_PARSER:
        raise TaskError(
            f"writing {task.id!r} as a Harbor task: its log is read by {spec.log_parser!r}, and the grader that is written "
            "beside the tests reads pytest's summary"
        )
    if spec.install or spec.pre_install:
        raise TaskError(
            f"writing {task.id!r} as a Harbor task: its project must be built, which the Dockerfile does not do"
        )
    own_image = task.image if snapshot.own_root else ""
    for part in ("environment", "tests", "solution"):
        (folder / part).mkdir(parents=True)
    (folder / "instruction.md").write_text(task.issue, "utf-8")
    (folder / "task.toml").write_text(_config(task, spec, name, own_image), "utf-8")
    if not own_image:
        _write_environment(snapshot, spec, folder / "environment", base)
    _write_tests(task, snapshot, spec, folder / "tests")
    (folder / "solution" / "gold.patch").write_text(_end_line(task.gold_patch), "utf-8")
    _script(folder / "solution" / "solve.sh", _SOLVE.format(workdir=WORKDIR))


# --- its parts --------------------------------------------------------------------------------------------------------


def _config(task: Task, spec: Spec, name: str, image: str) -> str:
    metadata: dict[str, Any] = {
        "difficulty": task.difficulty if task.difficulty in ("easy", "medium", "hard") else "unknown",
        "category": "software_engineering",
        "tags": ["python", task.repo],
    }
    own = {
        "id": task.id, "repo": task.repo, "base_commit": task.base_commit, "version": task.version, "family": task.family,
        "split": task.split, "fail_to_pass": list(task.fail_to_pass), "pass_to_pass": list(task.pass_to_pass),
    }  # fmt: skip
    environment = {"docker_image": image} if image else {}
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("task", {"name": name, "description": task.issue.strip().split("\n")[0][:200]}),
        ("metadata", metadata),
        ("metadata.swebench_lab", own),
        ("verifier", {"timeout_sec": spec.timeout}),
        ("environment", {**environment, "workdir": WORKDIR, "network_mode": "no-network"}),
    ]
    text = f'schema_version = "{SCHEMA_VERSION}"\n'
    for title, values in tables:
        text += f"\n[{title}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
    return text


def _write_environment(snapshot: Snapshot, spec: Spec, folder: Path, base: str) -> None:
    version = str(snapshot.meta["python"])
    own = dict(spec.env)
    paths = [WORKDIR if path == "." else f"{WORKDIR}/{path}" for path in spec_paths(snapshot)]
    if paths and "PYTHONPATH" not in own:
        own["PYTHONPATH"] = ":".join(paths)
    (folder / "Dockerfile").write_text(
        _DOCKERFILE.format(
            base=base.format(version=".".join(version.split(".")[:2])), system=" ".join(("git", *spec.system)),
            workdir=WORKDIR, env="".join(f"ENV {key}={json.dumps(value)}\n" for key, value in own.items()),
        ), "utf-8",
    )  # fmt: skip
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in snapshot.meta["pins"]), "utf-8")
    shutil.copytree(snapshot.layers[0] / WORKDIR.strip("/"), folder / "repo", symlinks=True)
    _writable(folder / "repo")


def spec_paths(snapshot: Snapshot) -> Iterable[str]:
    """Return the folders of the repository that Python looks into, relative to it."""
    paths = [str(path) for path in snapshot.meta.get("paths") or spec_of(snapshot).paths]
    return [path.removeprefix(f"{WORKDIR}/") if path != WORKDIR else "." for path in paths]


def _write_tests(task: Task, snapshot: Snapshot, spec: Spec, folder: Path) -> None:
    shutil.copytree(snapshot.tests, folder / "files", symlinks=True)
    apply = "cp -a /tests/files/. .\n" if any((folder / "files").iterdir()) else ""
    if task.test_patch:
        (folder / "test.patch").write_text(_end_line(task.test_patch), "utf-8")
        names = " ".join(shlex.quote(name) for name in test_files(task))
        apply += (
            f"git checkout -q HEAD -- {names} 2>/dev/null\ngit apply --whitespace=nowarn /tests/test.patch || exit 1\n"
        )
    command = with_files(spec.test_command, test_arguments(spec, test_files(task)))
    _script(
        folder / "test.sh", _TEST.format(workdir=WORKDIR, apply=apply, command=command, logs="/logs/verifier")
    )  # fmt: skip
    expected = {"fail_to_pass": list(task.fail_to_pass), "pass_to_pass": list(task.pass_to_pass)}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")
    grader = resources.files("swebench_lab").joinpath("bundled", "in_sandbox", _GRADER).read_text("utf-8")
    (folder / "grade.py").write_text(grader, "utf-8")


def _script(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o755)


def _end_line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _writable(folder: Path) -> None:
    """Let whoever owns a copied tree change it: what it was copied from is read-only."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)


def _toml(value: Any) -> str:
    """Return a value as TOML writes it; JSON's texts, numbers and lists are TOML's too."""
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return json.dumps(value)
