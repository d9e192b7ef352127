"""Not wrong: a right patch is resolved, and what the environment or the task lacks is never held against a patch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.rules.expectation import test_files as files_of
from swebench_lab.grading.trust import UNCERTIFIED, missing_modules
from swebench_lab.records.patches.diff import file_diff, written_files
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Cause
from tests.handmade import (
    ADD,
    BUGGY,
    FILES,
    FIXED,
    GOLD,
    KEEP,
    QUICK,
    TESTS,
    HandMade,
    code,
    git,
    patch_of,
    task,
    writes,
)

OLDER = BUGGY.replace("return x", "return x + 0")
MORE = {
    **FILES,
    "tests/old/test_o.py": "from pkg import add\n\n\ndef test_o():\n    assert add(1, 2) == 3\n",
    "tests/test_big.py": "def test_big():\n    pass\n",
    "tests/data/in.xml": "<a/>\n",
    "data/logo.txt": "logo\n",
    "src/pkg/older.py": OLDER,
}
SMALL = "from pkg import add\n\n\ndef test_new():\n    assert add(1, 2) == 3\n"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), MORE)


@pytest.fixture
def evaluator(boxes: HandMade, tmp_path: Path) -> Evaluator:
    return Evaluator(boxes, timeout=60, workers=1, certificates=tmp_path / "certificates")  # type: ignore[arg-type]


def write(folder: Path, files: Mapping[str, str | bytes | None]) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def change(files: Mapping[str, str | bytes | None] | None = None, moves: Mapping[str, str] | None = None) -> Any:
    def make(folder: Path) -> None:
        for old, new in (moves or {}).items():
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            git(folder, "mv", old, new)
        write(folder, files or {})

    return make


def plain_diff(make: Callable[[Path], object], files: Mapping[str, str] = MORE, *options: str) -> str:
    """Return what plain `git diff` says of a change: stubs in place of binary content, renames as renames."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, files)
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "start")
        make(folder)
        git(folder, "add", "-A", "-f")
        return git(folder, "diff", *options, "HEAD")


# --- which files are tests ------------------------------------------------------------------------------------------

TOUCHED = TESTS + "\n# more\n"
CASES: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {
    "renamed": (
        change(moves={"tests/test_a.py": "tests/test_b.py"}),
        ("tests/test_b.py::test_add[a b]",),
        ("tests/test_b.py",),
    ),
    "renamed and changed": (
        change({"tests/test_b.py": TOUCHED}, {"tests/test_a.py": "tests/test_b.py"}),
        ("tests/test_b.py::test_add[a b]",),
        ("tests/test_b.py",),
    ),
    "renamed folder": (
        change(moves={"tests/old": "tests/new"}),
        ("tests/new/test_o.py::test_o",),
        ("tests/new/test_o.py",),
    ),
    "deleted beside a change": (
        change({"tests/test_big.py": None, "tests/test_a.py": TOUCHED}),
        ADD,
        ("tests/test_a.py",),
    ),
    "deleted beside a new one": (
        change({"tests/test_a.py": None, "tests/test_n.py": SMALL}),
        ("tests/test_n.py::test_new",),
        ("tests/test_n.py",),
    ),
    "xml": (change({"tests/data/in.xml": "<b/>\n", "tests/test_a.py": TOUCHED}), ADD, ("tests/test_a.py",)),
    "npz": (change({"tests/data/x.npz": bytes(range(256)), "tests/test_a.py": TOUCHED}), ADD, ("tests/test_a.py",)),
    "html and tar": (
        change({"tests/page.html": "<p>", "tests/x.tar.gz": b"\x1f\x8b\0\1", "tests/test_a.py": TOUCHED}),
        ADD,
        ("tests/test_a.py",),
    ),
    "setup.cfg": (
        change({"setup.cfg": "[tool:pytest]\naddopts = -q\n", "tests/test_a.py": TOUCHED}),
        ADD,
        ("tests/test_a.py",),
    ),
    "renamed data": (
        change({"tests/test_a.py": TOUCHED}, {"tests/data/in.xml": "tests/data/input.xml"}),
        ADD,
        ("tests/test_a.py",),
    ),
    "only data": (change({"tests/data/in.xml": "<c/>\n"}), ADD, ("tests/data/in.xml",)),
    "a package": (
        change({"tests/sub/__init__.py": "", "tests/sub/test_s.py": SMALL}),
        ("tests/sub/test_s.py::test_new",),
        ("tests/sub/__init__.py", "tests/sub/test_s.py"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_test_command_is_given_what_is_there_after_the_test_patch(name: str, evaluator: Evaluator) -> None:
    make, fail_to_pass, files = CASES[name]
    for options in (("-M", "--binary"), ("--no-renames", "--binary")):
        odd = task(test_patch=plain_diff(make, MORE, *options), fail_to_pass=fail_to_pass, pass_to_pass=())
        assert set(files_of(odd)) == set(files)
        if name == "only data":
            return
        verdict = evaluator.grade(odd, GOLD)
        assert (verdict.status, verdict.official) == ("resolved", "resolved"), verdict.reason
        assert evaluator.grade(odd, writes({"README.md": "pkg!\n"})).status == "unresolved"


def test_a_file_that_is_copied_from_is_not_one_that_is_written() -> None:
    head = "diff --git a/a.py b/b.py\nsimilarity index 100%\ncopy from a.py\ncopy to b.py\n"
    changed = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n+y\n"
    gone = "diff --git a/c.py b/c.py\ndeleted file mode 100644\n--- a/c.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    assert written_files(head) == ("b.py",)
    assert set(written_files(head + changed)) == {"a.py", "b.py"}
    assert set(written_files(changed + head)) == {"a.py", "b.py"}
    assert written_files(gone + changed) == ("a.py",)
    assert written_files("") == ()


RENAMES = """\
diff --git a/pkg/units/tests/py3_test_notes.py b/pkg/units/tests/test_notes.py
similarity index 100%
rename from pkg/units/tests/py3_test_notes.py
rename to pkg/units/tests/test_notes.py
diff --git a/pkg/units/tests/test_marks.py b/pkg/units/tests/test_marks.py
--- a/pkg/units/tests/test_marks.py
+++ b/pkg/units/tests/test_marks.py
@@ -1 +1 @@
-x
+y
diff --git a/pkg/units/tests/index.rst b/pkg/units/tests/index.rst
--- a/pkg/units/tests/index.rst
+++ b/pkg/units/tests/index.rst
@@ -1 +1 @@
-x
+y
"""


def test_a_document_is_given_where_its_own_tests_decide() -> None:
    files = ("pkg/units/tests/test_notes.py", "pkg/units/tests/test_marks.py")
    assert files_of(task(test_patch=RENAMES)) == files
    document = "pkg/units/tests/index.rst"
    assert files_of(task(test_patch=RENAMES, fail_to_pass=(f"{document}::{document}",))) == (*files, document)


# --- which patches are applied --------------------------------------------------------------------------------------

FIX = {"src/pkg/__init__.py": FIXED}
HUNK = GOLD[GOLD.index("@@ ") :]
LONG = "".join(f"x{i} = {i}\n" for i in range(40))
APPLIED = {
    "a new binary as a stub": plain_diff(change({**FIX, "server.bin": bytes(range(200)) * 4})),
    "a changed binary as a stub": plain_diff(change({**FIX, "data/logo.txt": bytes(range(256))})),
    "a deleted file beside a stub": plain_diff(change({**FIX, "data/logo.txt": None, "a.bin": b"\0\1"})),
    "stubs before and after": plain_diff(change({**FIX, "a.bin": b"\0\1", "z.bin": b"\0\2"})),
    "a binary with its data": plain_diff(change({**FIX, "z.bin": b"\0\2"}), MORE, "--binary", "--full-index"),
    "a line of diff -r": GOLD + "Binary files a/x.pyc and b/x.pyc differ\n",
    "a line Only in": "Only in b: dump.rdb\n" + GOLD,
    "a mail": "From: a@example.org\nSubject: fix\n\n---\n" + GOLD + "-- \n2.39\n",
    "moved lines": GOLD.replace("@@ -1,", "@@ -31,"),
    "the fix twice": GOLD + GOLD,
    "three ways": plain_diff(
        change({"src/pkg/older.py": OLDER.replace("a - b", "a + b")}), MORE, "--full-index", "-U5"
    ).replace("older.py", "__init__.py"),
}


@pytest.mark.parametrize("name", APPLIED)
def test_what_swe_bench_applies_is_applied_and_its_answer_is_computed(name: str, evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), APPLIED[name])
    assert (verdict.patch_applied, verdict.status, verdict.official) == (True, "resolved", "resolved"), verdict.log
    assert not [note for note in verdict.notes if "refused" in note]


def test_what_nobody_can_apply_is_not_applied(evaluator: Evaluator) -> None:
    for text in ("prose\n", GOLD.replace("a - b", "a ? b"), HUNK):
        verdict = evaluator.grade(task(), text)
        assert (verdict.status, verdict.cause, verdict.official) == ("unresolved", Cause.NOT_APPLIED, "unresolved")
        assert evaluator.regrade(task(), verdict).official == "unresolved"
    stub = evaluator.grade(task(), plain_diff(change({"a.bin": b"\0\1"})))  # git passes over it, and so nothing is done
    assert (stub.patch_applied, stub.status, stub.official) == (True, "unresolved", "unresolved")


def test_swe_bench_s_answer_about_a_patch_that_was_refused_and_not_tried_is_not_known(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), writes({"x": "1\n"}).replace("b/x", "b/.git/x") + GOLD)
    assert (verdict.status, verdict.cause, verdict.official) == ("unresolved", Cause.NOT_APPLIED, "")
    assert evaluator.regrade(task(), verdict).official == ""


@pytest.mark.parametrize(
    "attributes", ["* text eol=crlf\n", "*.py working-tree-encoding=UTF-16\n", "* ident\n", "tests/* text eol=crlf\n"]
)
@pytest.mark.parametrize("where", [".gitattributes", "tests/.gitattributes"])
def test_attributes_of_a_patch_do_not_re_encode_the_test_patch(
    attributes: str, where: str, evaluator: Evaluator
) -> None:
    checks = SMALL + "    assert open(__file__, 'rb').read().count(b'\\r') == 0\n    assert '$Id' + '$' in '$Id$'\n"
    odd = task(
        test_patch=patch_of(change({"tests/test_n.py": checks}), MORE),
        fail_to_pass=("tests/test_n.py::test_new",),
        pass_to_pass=(),
    )
    patch = GOLD + file_diff(where, None, attributes)
    verdict = evaluator.grade(odd, patch)
    assert verdict.resolved, verdict.reason
    assert any("as git reads them" in note or where in note for note in verdict.notes)


# --- what the environment lacks -------------------------------------------------------------------------------------

NEEDS = {
    "imported by conftest": {"tests/conftest.py": FILES["tests/conftest.py"] + "import simplejson_xyz\n"},
    "imported by the tests": {"tests/test_a.py": "import simplejson_xyz\n" + TESTS},
    "imported by the code": {"src/pkg/__init__.py": "import simplejson_xyz\n" + BUGGY},
    "imported in a helper": {"tests/helper.py": "from simplejson_xyz.core import x\n" + FILES["tests/helper.py"]},
    "asked for its metadata": {
        "src/pkg/__init__.py": "from importlib.metadata import version\nversion('simplejson_xyz')\n" + BUGGY
    },
    "named as a plugin": {"tests/conftest.py": "pytest_plugins = ['simplejson_xyz']\n" + FILES["tests/conftest.py"]},
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_missing_package_is_never_the_patch_s_fault(name: str, tmp_path: Path) -> None:
    files = {**FILES, **NEEDS[name]}
    boxes = HandMade(tmp_path / "lab", files)
    evaluator = Evaluator(boxes, timeout=60, certificates=tmp_path / "c")  # type: ignore[arg-type]
    fixed = files["src/pkg/__init__.py"].replace("a - b", "a + b")
    right = patch_of(change({"src/pkg/__init__.py": fixed}), files)
    verdict = evaluator.grade(task(gold_patch=right), right)
    assert verdict.status == "not graded", verdict
    assert "simplejson_xyz" in f"{verdict.reason} {verdict.notes}"


BREAKS = {
    "a module that is nowhere": code("import simplejson_xyz\n" + FIXED),
    "its own module renamed away": patch_of(change(moves={"src/pkg": "src/pkg2"}), MORE),
    "a syntax error": code("def add(:\n"),
    "a name that is not there": code("from os import nothing_xyz\n" + FIXED),
    "a raise at import": code("raise RuntimeError('no')\n"),
}
RUNNERS = {
    "pytest": {},
    "unittest": {
        "test_command": "python -m unittest -v",
        "test_arguments": "modules",
        "log_parser": "parse_log_django",
    },
    "python": {"test_command": "PYTHONPATH=src python", "log_parser": "parse_log_pytest"},
}
PLAIN = """\
import sys
import unittest

sys.path.insert(0, "src")
from pkg import add, keep


class T(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(1, 2), 3)

    def test_keep(self):
        self.assertEqual(keep(1), 1)
"""
SCRIPT = """\
from pkg import add, keep

print("PASSED tests/test_u.py::test_keep" if keep(1) == 1 else "FAILED tests/test_u.py::test_keep")
print("PASSED tests/test_u.py::test_add" if add(1, 2) == 3 else "FAILED tests/test_u.py::test_add")
"""


@pytest.fixture(scope="module")
def by_runner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Evaluator, Task]]:
    made: dict[str, tuple[Evaluator, Task]] = {}

    def get(runner: str) -> tuple[Evaluator, Task]:
        if runner not in made:
            folder = tmp_path_factory.mktemp(runner)
            text = {"pytest": TESTS, "unittest": PLAIN, "python": SCRIPT}[runner]
            name = "tests/test_a.py" if runner == "pytest" else "tests/test_u.py"
            boxes = HandMade(folder, {**MORE, name: text} | ({} if runner == "pytest" else {"tests/__init__.py": ""}))
            names: tuple[tuple[str, ...], tuple[str, ...]] = {
                "pytest": (ADD, KEEP),
                "unittest": (("test_add (tests.test_u.T.test_add)",), ("test_keep (tests.test_u.T.test_keep)",)),
                "python": (("tests/test_u.py::test_add",), ("tests/test_u.py::test_keep",)),
            }[runner]
            spec = {**QUICK, **RUNNERS[runner]}
            if runner == "unittest":
                spec |= {"test_command": "python -m unittest -v tests.test_u", "test_arguments": "none"}
            one = task(fail_to_pass=names[0], pass_to_pass=names[1], spec=spec)
            made[runner] = Evaluator(boxes, timeout=60, certificates=folder / "c"), one  # type: ignore[arg-type]
        return made[runner]

    return get


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", BREAKS)
def test_breaking_an_import_is_unresolved_with_every_runner(
    name: str, runner: str, by_runner: Callable[[str], tuple[Evaluator, Task]]
) -> None:
    evaluator, one = by_runner(runner)
    assert evaluator.grade(one, GOLD).status == "resolved"
    verdict = evaluator.grade(one, BREAKS[name])
    assert verdict.status == "unresolved", verdict.reason


def test_missing_packages_are_read_from_logs_of_every_age() -> None:
    log = (
        "E   ModuleNotFoundError: No module named 'a.b'\nE  ImportError: No module named bb\n"
        "pkg_resources.DistributionNotFound: The 'cc>=1' distribution was not found\n"
        "importlib.metadata.PackageNotFoundError: No package metadata was found for dd-e\n"
        "importlib_metadata.PackageNotFoundError: ff\nImportError: cannot import name 'x' from 'os'\n"
    )
    assert missing_modules(log) == {"a", "bb", "cc", "dd-e", "ff"}


# --- certificates ---------------------------------------------------------------------------------------------------


def test_an_uncertified_task_is_said_loudly_and_a_certified_one_is_not(
    evaluator: Evaluator, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert UNCERTIFIED in evaluator.grade(task(), GOLD).notes
        assert UNCERTIFIED in evaluator.evaluate({"lab__pkg-1": GOLD}, [task()], progress=False)["lab__pkg-1"].notes
    assert len([m for m in caplog.messages if "certificate: none" in m]) == 1
    evaluator.check([task()], progress=False)
    verdict = evaluator.grade(task(), GOLD)
    assert (verdict.status, verdict.notes) == ("resolved", ())
    assert UNCERTIFIED in evaluator.grade(task(issue="x", gold_patch=GOLD + "\n"), GOLD).notes


@pytest.mark.parametrize(
    ("changes", "patch", "status"),
    [
        ({"gold_patch": code(BUGGY.replace("a - b", "a * b"))}, GOLD, "resolved"),
        ({"gold_patch": code(BUGGY.replace("a - b", "a * b"))}, code(BUGGY.replace("a - b", "b")), "not graded"),
        ({"gold_patch": code("import os\nos._exit(1)\n")}, code(BUGGY.replace("a - b", "b")), "unresolved"),
        ({"fail_to_pass": KEEP, "pass_to_pass": ()}, writes({"README.md": "x\n"}), "not graded"),
        ({"fail_to_pass": (*ADD, "tests/test_a.py::test_none")}, GOLD, "not graded"),
        ({"fail_to_pass": (*ADD, "tests/test_a.py::test_none")}, "", "unresolved"),
        ({"fail_to_pass": (*ADD, "tests/test_a.py::test_none")}, "prose", "unresolved"),
        ({}, code(BUGGY.replace("a - b", "b")), "unresolved"),
    ],
)
def test_a_verdict_that_the_certificate_does_not_support_is_not_graded(
    changes: dict[str, Any], patch: str, status: str, evaluator: Evaluator, tmp_path: Path
) -> None:
    odd = task(**changes)
    before = evaluator.evaluate({odd.id: patch or None}, [odd], keep=tmp_path / "v.jsonl", progress=False)
    (row,) = evaluator.check([odd], progress=False).to_dicts()
    verdict = evaluator.grade(odd, patch)
    assert verdict.status == status, (row, verdict)
    if status == "not graded":
        assert verdict.cause is Cause.INFRASTRUCTURE
        assert "the tests said" in verdict.reason
        assert any(note.startswith("certificate: failed") for note in verdict.notes)
        assert before[odd.id].graded
    again = evaluator.evaluate({odd.id: patch or None}, [odd], keep=tmp_path / "v.jsonl", progress=False)
    assert again[odd.id].status == status


def test_collected_attempts_carry_what_the_certificate_says(evaluator: Evaluator) -> None:
    odd = task(fail_to_pass=(*ADD, "tests/test_a.py::test_none"))
    evaluator.check([odd], progress=False)
    assert evaluator.grade(replace(odd, issue="another text"), GOLD).status == "not graded"
