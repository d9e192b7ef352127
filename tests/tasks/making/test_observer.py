"""Observer: which functions each test reaches, by either way that Python has of noting it, and how long each takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swebench_lab.tasks.making.in_sandbox import observer

CODE = """
import threading

def plain():
    return 1

def steps():
    yield plain()
    yield 2

def in_thread():
    worker = threading.Thread(target=far)
    worker.start()
    worker.join()

def far():
    return 3

def never():
    return 4
"""
TESTS = """
import code_of_ours as ours

kept = ours.steps()

def test_plain():
    assert [ours.plain() for _ in range(3)] == [1] * 3

def test_plain_again():
    assert ours.plain() == 1 and next(kept) == 1

def test_generator_of_another_test():
    assert next(kept) == 2

def test_thread():
    ours.in_thread()
"""
INTERPRETERS = [sys.executable, *filter(None, map(shutil.which, ("python3.12", "python3.13")))]


def works(python: str) -> bool:
    """Whether an interpreter can start pytest as this one has it."""
    return subprocess.run([python, "-c", "import pytest"], capture_output=True, env=environment()).returncode == 0


def environment() -> dict[str, str]:
    places = [str(Path(observer.__file__).parent), str(Path(pytest.__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("python", INTERPRETERS)
def test_every_test_has_the_functions_it_reaches_whoever_reached_them_before(python: str, tmp_path: Path) -> None:
    if not works(python):
        pytest.skip(f"{python} cannot load this environment's pytest")
    (tmp_path / "code_of_ours.py").write_text(CODE)
    (tmp_path / "test_it.py").write_text(TESTS)
    orders = {"out": str(tmp_path / "notes.json"), "only": None, "without": [], "trace": True, "explain": False}
    (tmp_path / "orders.json").write_text(json.dumps(orders))
    command = [python, "-m", "pytest", "-q", "-p", "observer", "-p", "no:cacheprovider", "--rootdir=.", "test_it.py"]
    plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", observer.VARIABLE: str(tmp_path / "orders.json")}
    run = subprocess.run(command, cwd=tmp_path, env={**environment(), **plain}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    notes = json.loads((tmp_path / "notes.json").read_text())
    lines = {
        name: str(1 + CODE[: CODE.index(f"def {name}(")].count("\n")) for name in ("plain", "steps", "far", "never")
    }
    reached = {
        name: {notes["tests"][at].partition("::")[2] for at in notes["reached"]["code_of_ours.py"].get(line, [])}
        for name, line in lines.items()
    }
    assert reached == {
        "plain": {"test_plain", "test_plain_again"},
        "steps": {"test_plain_again", "test_generator_of_another_test"},
        "far": {"test_thread"},
        "never": set(),
    }
    assert all(used >= 0 and wall >= used / 4 for used, wall in notes["times"].values()) and notes["loading"] > 0
