"""Histories: tasks of one repository share the packs of their common past, and none sees what came after its commit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.repository import history
from swebench_lab.snapshots.repository.git import git as host_git
from swebench_lab.snapshots.repository.seal import verify_seal
from swebench_lab.snapshots.storage import store
from tests.sandbox.repositories import git, make_task

STEP = history.STEPS[-1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository of a few hundred commits, some of them merged from branches, oldest first."""
    folder = tmp_path_factory.mktemp("repo")
    git(folder, "init", "-q", "-b", "main")
    stream, mark = [], 0
    for number in range(2 * STEP + 40):
        for branch in ("side", "main") if number % 9 == 8 else ("main",):
            mark += 1
            text = f"{branch} {number}\n" * 20
            stream.append(f"commit refs/heads/{branch}\nmark :{mark}\n")
            stream.append(f"committer A <a@localhost> {mark} +0000\ndata 1\nc\n")
            if branch == "side":
                stream.append(f"from :{mark - 1}\n")
            elif number % 9 == 8:
                stream.append(f"from :{mark - 2}\nmerge :{mark - 1}\n")
            stream.append(f"M 100644 inline {branch}/f{number % 17}.py\ndata {len(text)}\n{text}\n")
    host_git("fast-import", "--quiet", "--date-format=raw", git_dir=folder / ".git", data="".join(stream))
    return folder, git(folder, "rev-list", "--first-parent", "--reverse", "main").split()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SnapshotCache:
    return SnapshotCache(tmp_path_factory.mktemp("cache"))


def built(cache: SnapshotCache, repository: tuple[Path, list[str]], number: int) -> Snapshot:
    folder, line = repository
    task = make_task(folder, line[number - 1], id=f"t-{number}", spec={"packages": [], "paths": ["."]})
    return cache.build(task)


def objects(snapshot: Snapshot) -> set[str]:
    return set(
        git(
            snapshot.git_dir.parent, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered"
        ).split()
    )


@pytest.mark.parametrize("number", [1, STEP - 1, STEP, STEP + 1, 2 * STEP + 39])
def test_a_task_sees_exactly_its_own_past_wherever_its_commit_lies(
    cache: SnapshotCache, repository: tuple[Path, list[str]], number: int
) -> None:
    snapshot = built(cache, repository, number)
    folder, line = repository
    past = git(folder, "rev-list", "--objects", "--no-object-names", line[number - 1]).split()
    assert objects(snapshot) == set(past)
    assert git(snapshot.git_dir.parent, "fsck", "--full", "--unreachable") == ""
    assert snapshot.meta["seal"] == verify_seal(snapshot.git_dir), "proved piece by piece, as it would be as a whole"


def test_a_task_goes_on_from_what_the_one_before_has_packed(tmp_path: Path, repository: tuple[Path, list[str]]) -> None:
    cache = SnapshotCache(tmp_path)
    snapshots = [built(cache, repository, number) for number in (2 * STEP + 1, 2 * STEP + 30, 2 * STEP + 20, 1)]
    packs = [{p.name: p.stat().st_ino for p in (s.git_dir / "objects/pack").glob("*.pack")} for s in snapshots]
    assert [len(held) for held in packs] == [3, 4, 4, 1], "two cuts and the first task's; then one more each"
    for later in packs[1:3]:
        assert packs[0].items() < later.items(), "the same names and the same files"


def test_tasks_from_the_newest_to_the_oldest_share_packs_as_well(
    tmp_path: Path, repository: tuple[Path, list[str]]
) -> None:
    cache = SnapshotCache(tmp_path)
    newest, older = built(cache, repository, 2 * STEP + 30), built(cache, repository, STEP + 30)
    packs = [{p.name for p in (s.git_dir / "objects/pack").glob("*.pack")} for s in (newest, older)]
    assert len(packs[0]) == 3 and len(packs[1]) == 2 and len(packs[0] & packs[1]) == 1
    assert older.meta["seal"] == verify_seal(older.git_dir)


def test_no_chain_gets_too_long_and_none_goes_on_from_far_away(
    tmp_path: Path, repository: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST", 3)
    cache = SnapshotCache(tmp_path)
    lengths = [
        len(list((built(cache, repository, number).git_dir / "objects/pack").glob("*.pack"))) for number in range(2, 7)
    ]
    assert lengths == [1, 2, 3, 3, 3]
    monkeypatch.setattr(history, "NEAR", 10)
    assert len(list((built(cache, repository, STEP + 3).git_dir / "objects/pack").glob("*.pack"))) == 2


def test_cuts_belong_to_the_commit_and_not_to_the_task() -> None:
    line = [str(number) for number in range(1, 1001)]
    assert history.cuts(line[:730], (300, 50)) == ["300", "600", "650", "700"]
    assert history.cuts(line[:40], (300, 50)) == []
    for shorter in (310, 599, 600, 601):
        assert set(history.cuts(line[:shorter], (300,))) <= set(history.cuts(line, (300,)))


def test_a_stretch_of_the_wrong_past_is_refused(cache: SnapshotCache, repository: tuple[Path, list[str]]) -> None:
    folder, line = repository
    early = built(cache, repository, STEP - 1)
    later = history.stretches(cache.root, folder / ".git/objects", line[2 * STEP], "it")
    with pytest.raises(SnapshotError, match="is no ancestor"):
        verify_seal(early.git_dir, past=later)


def test_what_no_task_needs_any_more_goes_and_the_rest_stays(
    tmp_path: Path, repository: tuple[Path, list[str]]
) -> None:
    cache = SnapshotCache(tmp_path)
    one, two = built(cache, repository, STEP + 5), built(cache, repository, 2 * STEP + 5)
    for mark in (tmp_path / history.KIND).glob(f"*/{store.MARKER}"):
        os.utime(mark, (1, 1))  # fresh ones may belong to a tree that is being built
    cache.evict([two.key])
    assert len(list((tmp_path / history.KIND).glob("*/objects"))) == 2
    assert verify_seal(one.git_dir) == one.meta["seal"]
    cache.evict()
    assert not list((tmp_path / history.KIND).glob("*/objects"))


def test_two_files_of_one_tree_are_never_the_same_file(tmp_path: Path) -> None:
    for tree in ("one", "two"):
        for name in ("a/x.py", "b/x.py"):
            path = tmp_path / tree / name
            path.parent.mkdir(parents=True)
            path.write_text("same\n" * 1000)
            os.utime(path, (1, 1))
        store.share_files(tmp_path / tree, tmp_path / "files")
    inode = {
        (tree, name): (tmp_path / tree / name).stat().st_ino for tree in ("one", "two") for name in ("a/x.py", "b/x.py")
    }
    assert inode["one", "a/x.py"] == inode["two", "a/x.py"] != inode["one", "b/x.py"] == inode["two", "b/x.py"]
