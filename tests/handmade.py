"""What the tests of grading share: a small repository with a bug, real sandboxes over it, and patches of every kind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from swebench_lab.errors import SnapshotError
from swebench_lab.records.task import Task
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.environment.specs import Spec, spec_for, spec_of

BUGGY = "def add(a, b):\n    return a - b\n\n\ndef keep(x):\n    return x\n"
FIXED = BUGGY.replace("a - b", "a + b")
TESTS = """\
import pytest

from helper import three
from pkg import add, keep


@pytest.mark.parametrize("a", ["a b", "x - y"])
def test_add(a):
    assert add(1, 2) == three()


def test_keep():
    assert keep(1) == 1
"""
FILES = {
    "src/pkg/__init__.py": BUGGY,
    "tests/test_a.py": TESTS,
    "tests/conftest.py": "import sys\n\nsys.path.insert(0, 'src')\n",
    "tests/helper.py": "def three():\n    return 3\n",
    "setup.cfg": "[metadata]\nname = pkg\n",
    "README.md": "pkg\n",
}
ADD = ("tests/test_a.py::test_add[a b]", "tests/test_a.py::test_add[x - y]")
KEEP = ("tests/test_a.py::test_keep",)
QUICK = {"env": {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, "timeout": 60.0}


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=lab", "-c", "user.email=lab@localhost", "-c", "core.autocrlf=false"]
    return subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


class HandMade:
    """What an Evaluator needs of a SandboxFactory: one Snapshot over this interpreter's own venv, in real sandboxes."""

    def __init__(self, folder: Path, files: Mapping[str, str], hidden: Mapping[str, str] | None = None) -> None:
        self.cache = SimpleNamespace(
            root=folder / "cache",
            specs=None,
            get=lambda task: self._with_spec(spec_for(task)),
            spec=lambda task: self._spec(task),
        )
        self.limits, self.scratch = Limits(), None
        self.tree = folder / "layer" / "testbed"
        self.opened = 0
        for path, text in files.items():
            (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / path).write_text(text)
        git(self.tree, "init", "-q", "-b", "main")
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-qm", "start")
        shutil.rmtree(self.tree / ".git" / "logs")  # a seal leaves none, and an audit wants none
        tests = folder / "true"
        shutil.copytree(self.tree / "tests", tests / "tests", dirs_exist_ok=True)
        for path, text in (hidden or {}).items():
            (tests / path).write_text(text)
        venv, base = Path(sys.prefix), Path(sys.base_prefix).resolve()
        self.made = Snapshot(
            key="0" * 64,
            layers=(folder / "layer",),
            binds=tuple(p for p in dict.fromkeys((venv, base)) if not p.is_relative_to("/usr")),
            git_dir=self.tree / ".git",
            head=git(self.tree, "rev-parse", "HEAD").strip(),
            env={"PATH": f"{venv}/bin:/usr/local/bin:/usr/bin:/bin", "VIRTUAL_ENV": str(venv)},
            tests=tests,
            meta={},
        )
        with self.open(self.made) as box:
            self.tier = box.tier

    def snapshot(self, task: Task) -> Any:
        if task.source == "broken":
            raise SnapshotError("building the tree of 'broken': no such repository")
        return self._with_spec(spec_for(task))

    def _spec(self, task: Task) -> Spec:
        return spec_of(self._with_spec(spec_for(task)))

    def _with_spec(self, spec: Spec) -> Snapshot:
        return replace(self.made, meta={"spec": spec.to_dict()})

    def key(self, _task: Task) -> str:
        return str(self.made.key)

    grading_network = "dropping"

    def network_for(self, _task: Task, grading: bool = False) -> str:
        return self.grading_network if grading else "none"

    def open(self, snapshot: Any, network: str = "none", limits: Limits | None = None) -> Any:
        self.opened += 1
        return open_namespace(snapshot, network=network, limits=limits or self.limits)


def task(**changes: Any) -> Task:
    values: dict[str, Any] = {"id": "lab__pkg-1", "repo": "lab/pkg", "base_commit": "0", "issue": "add is wrong"}
    values |= {"gold_patch": GOLD, "fail_to_pass": ADD, "pass_to_pass": KEEP, "spec": QUICK}
    return Task(**{**values, **changes})


def patch_of(change: Callable[[Path], object], files: Mapping[str, str] = FILES) -> str:
    """Return the patch that `git diff` makes of a change to the tree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "start")
        change(folder)
        git(folder, "add", "-A", "-f")
        return git(folder, "diff", "--binary", "--full-index", "HEAD")


def writes(files: Mapping[str, str]) -> str:
    """Return the patch that writes files."""

    def change(folder: Path) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return patch_of(change)


def code(text: str) -> str:
    """Return the patch that replaces the package's code."""
    return patch_of(lambda folder: (folder / "src/pkg/__init__.py").write_text(text))


GOLD = code(FIXED)
