"""Small real repositories and tasks over them, for tests of what boxes start from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from swebench_lab.records.patches.diff import file_diff
from swebench_lab.records.task import Task

CODE = '"""Sums."""\n\n\ndef add(a, b):\n    return a + b\n\n\ndef double(a):\n    return add(a, a)\n'
BROKEN = CODE.replace("a + b", "a - b")
TESTS = """\
import pytest

from calc import add, double


# adds two numbers
@pytest.mark.parametrize("b", [1, 2])
def test_add(b):
    assert add(1, b) == 1 + b


def test_zero():
    assert add(0, 0) == 0


class TestDouble:
    def test_double(self):
        assert double(2) == 4
"""
BUG = file_diff("src/calc.py", CODE, BROKEN)
FIX = file_diff("src/calc.py", BROKEN, CODE)
FILES = {
    "pyproject.toml": '[project]\nname = "calc"\nversion = "1.0"\n[project.optional-dependencies]\ntest = ["pytest"]\n',
    "src/calc.py": CODE,
    "tests/conftest.py": "",
    "tests/test_calc.py": TESTS,
    "run.sh": "#!/bin/sh\necho hi\n",
}


def git(folder: Path, *arguments: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def with_history(folder: Path) -> tuple[str, str]:
    """Make a repository with a base commit, then a fix, a tag, a branch, a stash and a reflog; return base and fix."""
    folder.mkdir()
    git(folder, "init", "-q")
    write(folder, {**FILES, "src/calc.py": CODE.replace("a + b", "0")})
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    write(folder, {"src/calc.py": BROKEN})
    git(folder, "commit", "-qam", "base")
    base = git(folder, "rev-parse", "HEAD")
    git(folder, "tag", "v1")
    write(folder, {"src/calc.py": CODE})
    git(folder, "commit", "-qam", "the fix")
    fix = git(folder, "rev-parse", "HEAD")
    git(folder, "tag", "-a", "v2", "-m", "with the fix")
    git(folder, "branch", "future")
    write(folder, {"src/calc.py": CODE + "# more\n"})
    git(folder, "stash")
    git(folder, "gc", "-q")
    return base, fix


def make_task(source: str | Path, commit: str = "", **values: object) -> Task:
    fields: dict[str, object] = {
        "id": "calc-1",
        "repo": "owner/calc",
        "base_commit": commit,
        "issue": "add subtracts",
        "gold_patch": FIX,
        "fail_to_pass": ("tests/test_calc.py::test_add[1]", "tests/test_calc.py::TestDouble::test_double"),
        "pass_to_pass": ("tests/test_calc.py::test_zero",),
        "source": str(source),
        **values,
    }
    return Task(**fields)  # type: ignore[arg-type]
