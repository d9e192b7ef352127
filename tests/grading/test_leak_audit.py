"""Leaks: from inside a real box the fix is found wherever it lies, and nowhere once the box is as it should be."""

from __future__ import annotations

import gzip
import io
import py_compile
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.leaks.audit import Hit, look, masked
from swebench_lab.grading.leaks.line_index import Scans
from swebench_lab.grading.leaks.marks import marks
from swebench_lab.records.patches.diff import make_patch, parse_patch
from swebench_lab.records.task import Task
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.factory import SandboxFactory
from tests.boxes import git, make_snapshot

BROKEN = """\
def opening(path):
    return path


class Ledger:
    def balance(self, entries):
        total = 0
        for entry in entries:
            total += entry.amount
        return total
"""
REPAIRED = BROKEN.replace(
    "            total += entry.amount\n",
    "            if entry.currency != self.currency:\n"
    "                raise ValueError('a ledger holds one currency only')\n"
    "            total += entry.amount\n",
)
TASK = Task("lab__ledger-1", "lab/ledger", "0" * 40, "balance mixes currencies",
            make_patch({"ledger.py": BROKEN}, {"ledger.py": REPAIRED}), ("test_a.py::test_a",), ())  # fmt: skip


def test_marks_are_the_new_lines_and_the_place_they_stand_in() -> None:
    (mark,) = marks(TASK, {"ledger.py": BROKEN})
    assert mark.place == "def balance(self, entries):"[: len(mark.place)] and "balance" in mark.place
    assert mark.lines == ("if entry.currency != self.currency:", "raise ValueError('a ledger holds one currency only')")
    assert "currency" in mark.words


def test_a_fix_that_only_takes_away_is_known_by_the_whole_place() -> None:
    task = replace(TASK, gold_patch=make_patch({"ledger.py": REPAIRED}, {"ledger.py": BROKEN}))
    (mark,) = marks(task, {"ledger.py": REPAIRED})
    assert "raise ValueError('a ledger holds one currency only')" in mark.gone
    assert "total += entry.amount" in mark.lines


@pytest.fixture(scope="module")
def box_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Snapshot's folder whose venv holds the fix in every way it may lie there."""
    folder = tmp_path_factory.mktemp("leaks")
    files = folder / "layer" / "opt" / "venv"
    site = files / "lib" / "site-packages"
    for name in ("newer", "pip/_vendor/ledger", "old", "words"):
        (site / name).mkdir(parents=True)
    (site / "newer" / "ledger.py").write_text(REPAIRED)
    (site / "pip/_vendor/ledger/core.py").write_text(REPAIRED.replace("    ", "\t"))
    (site / "old" / "ledger.py").write_text(BROKEN)
    (site / "words" / "notes.py").write_text("# a ledger holds one currency only\ndef balance():\n    pass\n")
    source = folder / "compiled.py"
    source.write_text(REPAIRED)
    py_compile.compile(str(source), str(site / "compiled.pyc"))
    py_compile.compile(str(site / "old" / "ledger.py"), str(site / "old" / "__pycache__" / "ledger.cpython-311.pyc"))
    with zipfile.ZipFile(site / "bundled-1.0.whl", "w") as wheel:
        wheel.writestr("ledger.py", REPAIRED)
    with tarfile.open(site / "ledger-1.0.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("ledger-1.0/ledger.py")
        entry.size = len(REPAIRED)
        archive.addfile(entry, io.BytesIO(REPAIRED.encode()))
    (site / "fix.diff.gz").write_bytes(gzip.compress(REPAIRED.encode()))
    return folder


def sealed(folder: Path) -> object:
    made = make_snapshot(folder, {"ledger.py": BROKEN, "test_a.py": ""})
    shutil.rmtree(made.git_dir / "logs")
    return made


@pytest.mark.parametrize("indexed", [False, True])
def test_every_copy_in_a_box_is_found_and_nothing_else(box_files: Path, tmp_path: Path, indexed: bool) -> None:
    shutil.copytree(box_files, tmp_path / "box", symlinks=True)
    snapshot = sealed(tmp_path / "box")
    scans = Scans(tmp_path / "scans") if indexed else None
    with open_namespace(snapshot) as box:  # type: ignore[arg-type]
        audit = look(box, snapshot, TASK, "own", scans)  # type: ignore[arg-type]
    site = "/opt/venv/lib/site-packages"
    assert {(hit.path.removeprefix(f"{site}/"), hit.inside) for hit in audit.hits} == {
        ("newer/ledger.py", ""),
        ("pip/_vendor/ledger/core.py", ""),
        ("compiled.pyc", ""),
        ("bundled-1.0.whl", "ledger.py"),
        ("ledger-1.0.tar.gz", "ledger-1.0/ledger.py"),
        ("fix.diff.gz", "fix.diff"),
    }
    assert audit.git_faults == () and not audit.clean
    assert audit.files >= 9 and audit.members == 3
    assert any("holds the repaired def balance" in line for line in audit.lines())
    hidden = tuple(Path(path) for path in masked(audit.hits, "3.11.7"))
    clean = replace(snapshot, hidden=hidden)  # type: ignore[type-var]
    with open_namespace(clean) as box:
        again = look(box, clean, TASK, "own", scans)
    assert again.clean and again.lines()[-1] == "no other copy of the repaired code"


def test_what_is_indexed_once_is_found_by_every_later_task_and_anew_when_files_change(
    box_files: Path, tmp_path: Path
) -> None:
    shutil.copytree(box_files, tmp_path / "box", symlinks=True)
    snapshot = sealed(tmp_path / "box")
    other = replace(TASK, gold_patch=TASK.gold_patch.replace("one currency only", "another thing than before"))
    scans = Scans(tmp_path / "scans")
    with open_namespace(snapshot) as box:
        assert len(look(box, snapshot, TASK, "own", scans).hits) == 6
        assert look(box, snapshot, other, "own", scans).clean
    assert len(list((tmp_path / "scans").glob("*/pieces"))) == 1
    site = tmp_path / "box/layer/opt/venv/lib/site-packages"
    (site / "late.txt").write_text("+" + "\n+".join(line for line in REPAIRED.splitlines()))  # as a patch quotes it
    with open_namespace(snapshot) as box:
        hits = look(box, snapshot, TASK, "own", Scans(tmp_path / "scans")).hits  # as another process would
    assert len(hits) == 7 and any(hit.path.endswith("late.txt") for hit in hits)
    assert len(list((tmp_path / "scans").glob("*/pieces"))) == 2


def test_compiled_files_are_hidden_with_their_source() -> None:
    paths = masked([Hit("/opt/venv/lib/x/ledger.py", "", "m")], "3.9.18")
    assert paths == ("/opt/venv/lib/x/ledger.py", "/opt/venv/lib/x/__pycache__/ledger.cpython-39.pyc")
    assert masked([Hit(f"/x/{n}.py", "", "m") for n in range(99)], "3.9.18") == (), "too many to hide one by one"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("tag", "references refs/tags/v2"),
        ("branch", "references refs/heads/next"),
        ("stash", "stashes"),
        ("remote", "remotes"),
        ("reflog", "reflog entries"),
        ("blob", "objects that are repaired files"),
        ("newer", "commits newer than HEAD"),
    ],
)
def test_whatever_git_could_tell_is_found(tmp_path: Path, how: str, said: str) -> None:
    snapshot = make_snapshot(tmp_path, {"ledger.py": BROKEN, "test_a.py": ""})
    root = snapshot.git_dir.parent
    if how != "reflog":
        shutil.rmtree(snapshot.git_dir / "logs")
    if how in ("tag", "branch", "newer", "stash", "blob"):
        (root / "ledger.py").write_text(REPAIRED)
        if how == "blob":
            git(root, "hash-object", "-w", "ledger.py")
        elif how == "stash":
            git(root, "stash")
        else:
            later = ("-c", "user.name=x", "commit", "-qam", "later")
            git(root, *later) if how != "newer" else git(root, "commit", "-qam", "later", "--date", "2030-01-01")
            git(root, *(("tag", "v2") if how == "tag" else ("branch", "next")))
            git(root, "reset", "-q", "--hard", "HEAD~1")
        (root / "ledger.py").write_text(BROKEN)
    elif how == "remote":
        git(root, "remote", "add", "origin", "https://example.org/ledger.git")
    with open_namespace(snapshot) as box:
        audit = look(box, snapshot, TASK, "own")
    if how == "newer":  # its committer date is the start's own, yet no branch of HEAD's explains it
        said = "of which HEAD explains"
    assert any(said in fault for fault in audit.git_faults), audit.git_faults


def test_a_task_whose_fix_lies_in_its_venv_is_certified_without_it(tmp_path: Path) -> None:
    """Its own START tree of a bundled repository, with the fix planted where a package of the venv would bring it."""
    import swebench_lab as lab

    task = lab.load_tasks("demo").filter(lambda t: len(t.pass_to_pass) < 400)[0]
    with SandboxFactory("namespace", cache=tmp_path / "cache") as sandboxes:
        snapshot = sandboxes.snapshot(task)
        path = next(iter(parse_patch(task.gold_patch)[1])).old_path or ""
        before = (snapshot.layers[0] / "testbed" / path).read_text()
        with sandboxes.open(snapshot) as box:
            box.write("/tmp/gold.diff", task.gold_patch)
            assert box.run("git apply /tmp/gold.diff").ok
            fixed = box.read(path)
        assert fixed != before
        venv = next(layer for layer in snapshot.layers if (layer / "opt/venv/lib").is_dir()) / "opt/venv/lib"
        (venv / "vendored_copy.py").write_text(fixed)
        evaluator = Evaluator(sandboxes)
        if not marks(task, {path: before}):
            pytest.skip("the first bundled task's fix has no line of its own")
        made = evaluator.certificate(task)
        assert made.status == "passed", made
        assert any(line.startswith("hidden from the box: /opt/venv/lib/vendored_copy.py") for line in made.audit)
        assert made.snapshot == sandboxes.key(task) != snapshot.key
        with sandboxes.open(task) as box:
            assert box.run("cat /opt/venv/lib/vendored_copy.py").output == "", "later boxes of the task lack it too"


def test_a_short_line_that_many_constructors_have_is_known_by_the_whole_place() -> None:
    broken = "class Wrong(Exception):\n    def __init__(self, message, offset=None):\n        super()\n"
    broken += "        self.message = message\n        self.offset = offset\n"
    repaired = broken.replace("super()", "super().__init__(message)")
    task = replace(TASK, gold_patch=make_patch({"errors.py": broken}, {"errors.py": repaired}))
    (mark,) = marks(task, {"errors.py": broken})
    assert {"super().__init__(message)", "self.message = message", "self.offset = offset"} <= set(mark.lines)


SHORT = """\
class Report:
    def lines(self, item, call):
        if item.skipped:
            self.outcome = "skipped"
        elif (
            item.location is not None
        ):
            self.where = item.location
"""


@pytest.mark.parametrize("indexed", [False, True])
def test_a_fix_too_short_for_any_line_to_tell_it_is_known_by_its_lines_in_a_row(tmp_path: Path, indexed: bool) -> None:
    repaired = SHORT.replace("elif (", "if (")
    task = replace(TASK, gold_patch=make_patch({"report.py": SHORT}, {"report.py": repaired}))
    (mark,) = marks(task, {"report.py": SHORT})
    assert "if (" in mark.row and mark.words == ()
    site = tmp_path / "layer/opt/venv/lib/site-packages"
    site.mkdir(parents=True)
    (site / "newer.py").write_text(repaired.replace("\n", "\n\n"))
    (site / "older.py").write_text(SHORT)
    snapshot = make_snapshot(tmp_path, {"report.py": SHORT})
    shutil.rmtree(snapshot.git_dir / "logs")
    with open_namespace(snapshot) as box:
        audit = look(box, snapshot, task, "own", Scans(tmp_path / "scans") if indexed else None)
    assert [hit.path for hit in audit.hits] == ["/opt/venv/lib/site-packages/newer.py"]


def test_what_the_tests_need_is_not_hidden_for_good_and_the_task_is_refused(tmp_path: Path) -> None:
    import swebench_lab as lab

    task = lab.load_tasks("demo").filter(lambda t: len(t.pass_to_pass) < 400)[0]
    with SandboxFactory("namespace", cache=tmp_path / "cache") as sandboxes:
        snapshot = sandboxes.snapshot(task)
        path = next(iter(parse_patch(task.gold_patch)[1])).old_path or ""
        with sandboxes.open(snapshot) as box:
            box.write("/tmp/gold.diff", task.gold_patch)
            assert box.run("git apply /tmp/gold.diff").ok
            fixed = box.read(path)
        file = next(
            path for layer in snapshot.layers for path in layer.glob("opt/venv/lib/*/site-packages/pluggy/_manager.py")
        )
        needed = file.read_text()
        file.unlink()  # never through a link that others share
        quoted = "".join(f"    {line}\n" for line in fixed.splitlines() if "__future__" not in line)
        file.write_text(f"{needed}\n\ndef _never_called():\n{quoted or '    pass'}")
        made = Evaluator(sandboxes).certificate(task)
        assert (made.status, made.reason[:5]) == ("failed", "leak:"), made
        assert made.snapshot == sandboxes.key(task) == snapshot.key
        with sandboxes.open(task) as box:
            assert box.run("python -c 'import pytest'").output.count("ModuleNotFoundError") == 0
