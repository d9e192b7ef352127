"""Honest fixes: the audit accuses no fix whose result was in the tree, or its history, for a reason of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.grading.leaks.audit import look
from swebench_lab.grading.leaks.marks import marks
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.task import Task
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import git, make_snapshot
from tests.conftest import make_task

BROKEN = "def fare(stops, zone):\n    base = zone.tariff * stops\n    return base\n"
FIXED = "def fare(stops, zone):\n    base = zone.tariff * max(stops, zone.minimum_stops)\n    return base\n"
FILES = {
    "pkg/fares.py": BROKEN,
    "README.md": "fares\n",
    "tests/test_a.py": "",
    "version.txt": "1\n",
    "tools/version.txt": "2\n",
}


def fix(folder: Path) -> None:
    (folder / "pkg/fares.py").write_text(FIXED)


def _then(more: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        fix(folder)
        more(folder)

    return change


HONEST: dict[str, Callable[[Path], object]] = {
    "a new empty file": _then(lambda d: (d / "pkg/__init__.py").write_text("")),
    "two new empty files": _then(lambda d: [(d / name).write_text("") for name in ("pkg/a.py", "pkg/b.py")]),
    "a mode": _then(lambda d: (d / "README.md").chmod(0o755)),
    "only a mode": lambda d: (d / "README.md").chmod(0o755),
    "a rename": _then(lambda d: git(d, "mv", "README.md", "README.rst")),
    "only a rename": lambda d: git(d, "mv", "pkg/fares.py", "pkg/tariffs.py"),
    "a copy": _then(lambda d: shutil.copy(d / "README.md", d / "pkg/README.md")),
    "only a copy": lambda d: shutil.copy(d / "pkg/fares.py", d / "pkg/tariffs.py"),
    "a deletion": _then(lambda d: (d / "README.md").unlink()),
    "only a deletion": lambda d: (d / "version.txt").unlink(),
    "a small file that becomes equal to another": _then(lambda d: (d / "version.txt").write_text("2\n")),
    "a link": _then(lambda d: (d / "link").symlink_to("README.md")),
    "a name with blanks and letters of other scripts": _then(lambda d: (d / "a é 日.txt").write_text("x\n")),
}


def _patch(files: dict[str, str], change: Callable[[Path], object], folder: Path, *options: str) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "start")
    change(folder)
    git(folder, "add", "-A", "-f")
    return git(folder, "diff", "--binary", *options, "HEAD")


def _audited(folder: Path, files: dict[str, str], task: Task, history: Callable[[Path], object] | None = None):  # type: ignore[no-untyped-def]
    snapshot = make_snapshot(folder, files)
    tree = snapshot.layers[0] / "testbed"
    if history:
        history(tree)
        snapshot = replace(snapshot, head=git(tree, "rev-parse", "HEAD").strip())
    shutil.rmtree(snapshot.git_dir / "logs")
    with open_namespace(snapshot) as box:
        return look(box, snapshot, task, "own")


@pytest.mark.parametrize("renames", ["-M", "--no-renames"])
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_fix_is_not_accused(name: str, renames: str, tmp_path: Path) -> None:
    gold = _patch(FILES, HONEST[name], tmp_path / "made", renames)
    audit = _audited(tmp_path / "box", FILES, replace(make_task(), gold_patch=gold))
    assert audit.clean, audit.lines()


def _back_and_forth(tree: Path, commits: int = 0) -> None:
    fix(tree)
    git(tree, "commit", "-qam", "the way it was")
    (tree / "pkg/fares.py").write_text(BROKEN)
    git(tree, "commit", "-qam", "break")
    for n in range(commits):
        (tree / f"later{n}").write_text("x\n")
        git(tree, "add", "-A")
        git(tree, "commit", "-qm", "later")


@pytest.mark.parametrize("commits", [0, 1, 3])
def test_a_fix_that_goes_back_to_an_older_version_is_not_accused(commits: int, tmp_path: Path) -> None:
    gold = make_patch({"pkg/fares.py": BROKEN}, {"pkg/fares.py": FIXED})
    task = replace(make_task(), gold_patch=gold)
    audit = _audited(tmp_path, FILES, task, lambda tree: _back_and_forth(tree, commits))
    assert audit.clean, audit.lines()


@pytest.mark.parametrize("where", ["build/lib/pkg/fares.py", "pkg/fares_new.py", "docs/fares.py.txt"])
def test_a_second_file_of_the_tree_that_is_the_repaired_one_is_a_leak(where: str, tmp_path: Path) -> None:
    gold = make_patch({"pkg/fares.py": BROKEN}, {"pkg/fares.py": FIXED})
    audit = _audited(tmp_path, {**FILES, where: FIXED}, replace(make_task(), gold_patch=gold))
    assert audit.git_faults == ("the tree holds a second file that is word for word the repaired pkg/fares.py",)


def test_an_object_that_no_commit_explains_is_a_leak(tmp_path: Path) -> None:
    def left(tree: Path) -> None:
        (tree / "x").write_text(FIXED)
        git(tree, "hash-object", "-w", "x")
        (tree / "x").unlink()

    gold = make_patch({"pkg/fares.py": BROKEN}, {"pkg/fares.py": FIXED})
    audit = _audited(tmp_path, FILES, replace(make_task(), gold_patch=gold), left)
    assert audit.git_faults == ("git shows 1 objects that are repaired files",)


HEAD = "class Version:\n    def bump(self, step):\n        return Version.of(self.major, self.patch + step)\n\n"
TAIL = "\n    def unknown_part(self):\n        raise ValueError('unknown part of a version')\n"
GENERIC = {
    "__eq__": "    def __eq__(self, other):\n        return self._key == other._key\n",
    "__hash__": "    def __hash__(self):\n        return hash((self.name, self.value, self.items))\n",
    "__repr__": "    def __repr__(self):\n        return f'{type(self).__name__}({self.name!r})'\n",
    "__exit__": "    def __exit__(self, *args):\n        self.close_everything_again(*args, **kwargs)\n",
    "__iter__": "    def __iter__(self):\n        yield from sorted(self.items.values())\n",
}


@pytest.mark.parametrize("name", GENERIC)
def test_a_generic_method_in_another_package_is_no_copy_and_a_newer_release_is(name: str, tmp_path: Path) -> None:
    before, after = {"v.py": HEAD + TAIL}, {"v.py": HEAD + GENERIC[name] + TAIL}
    task = replace(make_task(), gold_patch=make_patch(before, after))
    assert marks(task, before)
    for place, text, clean in [
        ("packaging/version.py", "class _Base:\n    x = 1\n\n" + GENERIC[name], True),
        ("v_newer/v.py", after["v.py"], False),
    ]:
        folder = tmp_path / place.replace("/", "_")
        site = folder / "layer/opt/venv/lib/site-packages"
        (site / place).parent.mkdir(parents=True)
        (site / place).write_text(text)
        audit = _audited(folder, before, task)
        assert audit.clean is clean, audit.lines()


# --- the bundled set ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> lab.Evaluator:
    cache = tmp_path_factory.mktemp("cache")
    return lab.Evaluator(lab.SandboxFactory("namespace", cache=cache), certificates=tmp_path_factory.mktemp("c"))


@pytest.mark.slow
def test_every_bundled_task_is_certified(evaluator: lab.Evaluator) -> None:
    frame = evaluator.check(lab.load_tasks("demo"), progress=False)
    wrong = [(row["id"], row["reason"]) for row in frame.to_dicts() if row["status"] != "passed"]
    assert (wrong, frame.height) == ([], 176)


def test_the_bundled_task_that_only_adds_a_comparison_is_certified(evaluator: lab.Evaluator) -> None:
    tasks = lab.load_tasks("demo").filter("depgraph.857a7837.func_pm_class_rm_funcs__4f12d66b")
    (row,) = evaluator.check(tasks, progress=False).to_dicts()
    assert row["status"] == "passed", row
