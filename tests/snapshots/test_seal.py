"""The sealed `.git`: only the start and its past are in it, and the check finds whatever else is put there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.repository.seal import verify_seal
from tests.sandbox.repositories import BROKEN, BUG, CODE, FILES, git, make_task, with_history, write


@pytest.fixture
def history(tmp_path: Path) -> tuple[Snapshot, str, str]:
    base, fix = with_history(tmp_path / "repo")
    task = make_task(tmp_path / "repo", base, spec={"packages": [], "paths": ["src"]})
    return SnapshotCache(tmp_path / "cache").build(task), base, fix


@pytest.fixture
def planted(tmp_path: Path) -> Snapshot:
    folder = write(tmp_path / "plain", FILES)
    task = make_task(folder, setup_patch=BUG, spec={"packages": [], "paths": ["src"]})
    return SnapshotCache(tmp_path / "cache").build(task)


def tree(snapshot: Snapshot) -> Path:
    return snapshot.git_dir.parent


def test_a_history_ends_at_the_base_commit(history: tuple[Snapshot, str, str]) -> None:
    snapshot, base, fix = history
    assert git(tree(snapshot), "log", "--all", "--format=%s").split("\n") == ["base", "first"]
    assert snapshot.head == base == git(tree(snapshot), "rev-parse", "HEAD")
    objects = git(tree(snapshot), "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    assert fix not in objects
    for command in (["tag"], ["stash", "list"], ["reflog"], ["remote"]):
        assert git(tree(snapshot), *command) == ""
    assert git(tree(snapshot), "fsck", "--full", "--unreachable") == ""


def test_no_object_of_the_seal_holds_the_fix(history: tuple[Snapshot, str, str]) -> None:
    snapshot, _, _ = history
    objects = git(tree(snapshot), "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    blobs = [line.split()[0] for line in objects.splitlines() if line.endswith("blob")]
    contents = [git(tree(snapshot), "cat-file", "blob", blob) for blob in blobs]
    assert any("a - b" in content for content in contents)
    assert not any("a + b" in content for content in contents)


def test_a_planted_bug_leaves_one_commit_and_no_trace_of_the_clean_file(planted: Snapshot) -> None:
    assert (tree(planted) / "src" / "calc.py").read_text() == BROKEN
    assert git(tree(planted), "rev-list", "--all", "--count") == "1"
    assert git(tree(planted), "status", "--porcelain") == ""
    objects = git(tree(planted), "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    blobs = [line.split()[0] for line in objects.splitlines() if line.endswith("blob")]
    assert CODE.strip() not in [git(tree(planted), "cat-file", "blob", blob) for blob in blobs]


def test_the_same_start_has_the_same_name_in_another_cache(planted: Snapshot, tmp_path: Path) -> None:
    task = make_task(tmp_path / "plain", setup_patch=BUG, spec={"packages": [], "paths": ["src"]})
    again = SnapshotCache(tmp_path / "other").build(task)
    assert (again.head, again.key) == (planted.head, planted.key)
    assert {p.relative_to(again.git_dir) for p in again.git_dir.rglob("*")} == {
        p.relative_to(planted.git_dir) for p in planted.git_dir.rglob("*")
    }
    assert (again.git_dir / "index").read_bytes() == (planted.git_dir / "index").read_bytes()


def test_the_audit_line_says_what_was_found(planted: Snapshot) -> None:
    line = verify_seal(planted.git_dir, commits=1)
    assert line == planted.meta["seal"]
    assert line.startswith(f"sealed at {planted.head}: 1 commit, ")


def loose_object(git_dir: Path) -> None:
    write(git_dir.parent, {"x": "the fix"})
    git(git_dir.parent, "hash-object", "-w", "x")


def packed_fix(git_dir: Path) -> None:
    write(git_dir.parent, {"x": "the fix"})
    git(git_dir.parent, "add", "x")
    git(git_dir.parent, "commit", "-qm", "fix")
    git(git_dir.parent, "repack", "-adq")
    git(git_dir.parent, "update-ref", "refs/heads/main", "HEAD~1")
    for name in ("logs", "ORIG_HEAD", "COMMIT_EDITMSG", "packed-refs"):
        path = git_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in ("info/refs", "objects/info/packs", "objects/info/commit-graph"):
        (git_dir / name).unlink(missing_ok=True)


PLANTS: dict[str, Callable[[Path], object]] = {
    "tag": lambda g: git(g.parent, "tag", "v9"),
    "branch": lambda g: git(g.parent, "branch", "future"),
    "stash": lambda g: write(g, {"refs/stash": "0" * 40}),
    "remote branch": lambda g: write(g, {"refs/remotes/origin/main": "0" * 40}),
    "reflog": lambda g: write(g, {"logs/HEAD": "x"}),
    "hook": lambda g: write(g, {"hooks/pre-commit": "x"}),
    "ORIG_HEAD": lambda g: write(g, {"ORIG_HEAD": "0" * 40}),
    "FETCH_HEAD": lambda g: write(g, {"FETCH_HEAD": "0" * 40}),
    "packed references": lambda g: write(g, {"packed-refs": "x"}),
    "alternate": lambda g: write(g, {"objects/info/alternates": "/elsewhere"}),
    "loose object": loose_object,
    "packed object": packed_fix,
    "strange pack": lambda g: write(g, {"objects/pack/tmp_pack_1": "x"}),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_the_check_finds_what_was_put_into_a_sealed_repository(planted: Snapshot, plant: str) -> None:
    PLANTS[plant](planted.git_dir)
    with pytest.raises(SnapshotError, match="verifying the seal"):
        verify_seal(planted.git_dir)


def test_the_check_counts_commits(history: tuple[Snapshot, str, str]) -> None:
    with pytest.raises(SnapshotError, match="2 commits where 1 must be"):
        verify_seal(history[0].git_dir, commits=1)


def test_a_shallow_source_can_be_sealed(tmp_path: Path) -> None:
    base, _ = with_history(tmp_path / "repo")
    git(tmp_path / "repo", "branch", "-f", "only", base)
    git(tmp_path, "clone", "-q", "--depth", "1", "--branch", "only", f"file://{tmp_path}/repo", "shallow")
    task = make_task(tmp_path / "shallow", base, spec={"packages": [], "paths": ["src"]})
    snapshot = SnapshotCache(tmp_path / "cache").build(task)
    assert "1 commit," in snapshot.meta["seal"]
    assert git(tree(snapshot), "log", "--format=%s") == "base"


def test_what_running_tests_leaves_behind_is_not_a_change(planted: Snapshot, tmp_path: Path) -> None:
    shutil.copytree(tree(planted), tmp_path / "copy")
    write(tmp_path / "copy", {"src/__pycache__/calc.cpython-311.pyc": "x", ".pytest_cache/v": "x", "new.py": "x"})
    assert git(tmp_path / "copy", "status", "--porcelain") == "?? new.py"
