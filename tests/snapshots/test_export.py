"""Snapshots on the move: exported, imported, shared, verified, rebuilt; built once whoever asks and however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.storage import store

TASKS = lab.load_tasks("demo").filter(repo="demo/depgraph")[:2]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    cache = SnapshotCache(tmp_path_factory.mktemp("cache"))
    return cache, [cache.build(task) for task in TASKS]


@pytest.fixture(scope="module")
def exported(built, tmp_path_factory):
    file = tmp_path_factory.mktemp("export") / "all.tar.xz"
    return file, built[0].export(file)


def test_an_export_arrives_as_it_was_and_holds_each_content_once(built, exported, tmp_path):
    cache, snapshots = built
    file, facts = exported
    assert facts["snapshots"] == 2 and facts["contents"] < facts["files"]
    other = SnapshotCache(tmp_path / "other")
    assert sorted(other.import_from(file)) == sorted(s.key for s in snapshots)
    for snapshot in snapshots:
        assert other.verify(snapshot.key) == snapshot.meta["seal"]
    assert other.get(TASKS[0]).key == snapshots[0].key
    assert other.du()["total"] <= cache.du()["total"]


def test_an_unknown_key_is_an_error(built, tmp_path):
    cache, _ = built
    with pytest.raises(SnapshotError, match="holds none with this key"):
        cache.export(tmp_path / "none", ["no"])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_a_damaged_export_is_refused_and_nothing_half_made_is_left(exported, tmp_path, where):
    content = bytearray(exported[0].read_bytes())
    at = int(len(content) * where)
    content[at : at + 40] = bytes(40)
    (tmp_path / "all").write_bytes(content)
    other = SnapshotCache(tmp_path / "other")
    with pytest.raises(SnapshotError, match="importing"):
        other.import_from(tmp_path / "all")
    assert not list((tmp_path / "other").rglob(store.MARKER)) and other.ls().height == 0


def test_what_is_no_export_says_so(tmp_path):
    (tmp_path / "text").write_text("text")
    with pytest.raises(SnapshotError, match="importing"):
        SnapshotCache(tmp_path / "cache").import_from(tmp_path / "text")


def test_a_private_cache_uses_a_shared_one_without_writing_to_it(built, tmp_path):
    shared, snapshots = built
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in shared.root.rglob("*"))
    private = SnapshotCache(tmp_path / "private", beneath=shared.root)
    began = time.monotonic()
    assert private.get(TASKS[0]).key == snapshots[0].key and private.build(TASKS[1]).key == snapshots[1].key
    assert time.monotonic() - began < 1
    assert private.evict() and private.ls().height == 0
    assert sorted((str(p), p.lstat().st_mtime_ns) for p in shared.root.rglob("*")) == before


def test_a_changed_snapshot_is_found_and_built_anew(exported, tmp_path):
    cache = SnapshotCache(tmp_path / "cache")
    cache.import_from(exported[0])
    snapshot = cache.get(TASKS[0])
    victim = next(p for p in (snapshot.layers[0] / "testbed").rglob("*.py") if p.stat().st_size)
    victim.unlink()
    victim.write_text("changed")
    with pytest.raises(SnapshotError, match="is not as it was built"):
        cache.verify(snapshot.key)
    assert cache.rebuild(TASKS, filter="no such task") == []
    assert cache.rebuild(TASKS) == [snapshot.key]
    assert cache.verify(snapshot.key) == snapshot.meta["seal"]


def test_equal_files_of_environments_are_stored_once(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            path = tmp_path / name / f"f{number}"
            path.write_text("x" * 10_000 * (number + 1))
            os.utime(path, (1, 1))
    (tmp_path / "b" / "f2").write_text("another")
    store.share_files(tmp_path / "a", tmp_path / "files")
    assert store.share_files(tmp_path / "b", tmp_path / "files") > 0
    inodes = [[(tmp_path / name / f"f{number}").stat().st_ino for name in "ab"] for number in range(3)]
    assert [one == other for one, other in inodes] == [True, True, False]
    store.remove(tmp_path / "a")
    store.remove(tmp_path / "b")
    assert store.drop_unused(tmp_path / "files") == 4 and not list((tmp_path / "files").iterdir())


_PREPARE = """
    import sys, swebench_lab as lab
    from swebench_lab.snapshots import environments
    from swebench_lab.snapshots.repository import start
    made = {"envs": 0, "trees": 0}
    def counted(kind, build):
        def counting(*arguments):
            made[kind] += 1
            return build(*arguments)
        return counting
    environments.build_venv = counted("envs", environments.build_venv)
    start.build_tree = counted("trees", start.build_tree)
    tasks = lab.load_tasks("demo")
    tasks = lab.Tasks([t for repo in tasks.repos[:4] for t in tasks.filter(repo=repo)[:5]])
    frame = lab.SandboxFactory("namespace", cache=sys.argv[1]).prepare(tasks, workers=2)
    print(frame["status"].to_list().count("failed"), frame.height, made["envs"], made["trees"])
"""


def child(cache: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(_PREPARE), str(cache)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_at_once_build_each_thing_once_and_neither_fails(tmp_path):
    running = [child(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0].split() for process in running]
    assert [said[:2] for said in outputs] == [["0", "20"], ["0", "20"]]
    there = [len(list((tmp_path / kind).iterdir())) for kind in ("envs", "trees")]
    assert there == [SnapshotCache(tmp_path).ls()["env"].n_unique(), 20]
    assert [sum(int(said[at]) for said in outputs) for at in (2, 3)] == there, "each was built by one of the two"
    assert all(int(said[3]) for said in outputs), "both had a part in it"
    assert not list(tmp_path.glob("*/.tmp-*"))


@pytest.mark.slow
def test_a_killed_builder_leaves_nothing_half_made_that_is_used(tmp_path):
    for seconds in (1.0, 2.0, 3.0, 4.5):
        process = child(tmp_path)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for marker in tmp_path.glob(f"*/*/{store.MARKER}"):
            noted = store.read_marker(marker.parent)
            if (marker.parent / "layer").is_dir():
                assert store.digest_tree(marker.parent / "layer") == noted["digest"]
    process = child(tmp_path)
    assert process.communicate(timeout=300)[0].split()[:2] == ["0", "20"]
    cache = SnapshotCache(tmp_path)
    assert not list(tmp_path.glob("*/.tmp-*")), "what the killed ones left is gone"
    for key in cache.ls()["key"]:
        cache.verify(key)
