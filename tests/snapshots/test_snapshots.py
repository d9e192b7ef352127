"""Snapshots: built once, whole or not at all, shared where the inputs are the same, without the answer."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError, TaskError
from swebench_lab.records.task import Task
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.environment.specs import spec_of
from swebench_lab.snapshots.storage import store
from tests.sandbox.repositories import BUG, FILES, TESTS, make_task, write

BARE = {"packages": [], "paths": ["src"]}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "plain", FILES)


@pytest.fixture
def cache(tmp_path: Path) -> SnapshotCache:
    return SnapshotCache(tmp_path / "cache")


@pytest.fixture
def task(plain: Path) -> Task:
    return make_task(plain, setup_patch=BUG, hide_tests=True, spec=BARE)


def testbed(snapshot: Snapshot) -> Path:
    return snapshot.layers[0] / "testbed"


testbed.__test__ = False  # type: ignore[attr-defined]


def test_layers_lie_as_the_box_sees_them(cache: SnapshotCache, task: Task) -> None:
    snapshot = cache.build(task)
    assert [sorted(p.name for p in layer.iterdir()) for layer in snapshot.layers] == [["testbed"], ["opt"], ["opt"]]
    assert snapshot.git_dir == testbed(snapshot) / ".git"
    assert snapshot.env["VIRTUAL_ENV"] == "/opt/venv"
    assert snapshot.env["PATH"].startswith("/opt/venv/bin:")
    assert spec_of(snapshot).paths == ("src",)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert "plain" in snapshot._repr_html_() or snapshot.key[:12] in repr(snapshot)


def test_the_start_tree_has_the_bug_and_not_the_hidden_tests(cache: SnapshotCache, task: Task) -> None:
    snapshot = cache.build(task)
    assert "a - b" in (testbed(snapshot) / "src" / "calc.py").read_text()
    tests = (testbed(snapshot) / "tests" / "test_calc.py").read_text()
    assert "test_zero" in tests
    assert "test_add" not in tests
    assert "TestDouble" not in tests
    assert snapshot.meta["not_hidden"] == []


def test_the_true_tests_are_kept_outside_every_layer(cache: SnapshotCache, task: Task) -> None:
    snapshot = cache.build(task)
    assert (snapshot.tests / "tests" / "test_calc.py").read_text() == TESTS
    assert (snapshot.tests / "tests" / "conftest.py").exists()
    assert not any(snapshot.tests.is_relative_to(layer) for layer in snapshot.layers)


def test_harness_files_are_kept_and_others_are_not(cache: SnapshotCache, plain: Path) -> None:
    write(plain, {"setup.cfg": "[tool:pytest]\naddopts = -q\n", "sub/setup.cfg": "[metadata]\n", "pytest.ini": "",
                  "conftest.py": "", "README.md": "x"})  # fmt: skip
    snapshot = cache.build(make_task(plain, setup_patch=BUG, spec=BARE))
    kept = sorted(p.relative_to(snapshot.tests).as_posix() for p in snapshot.tests.rglob("*") if p.is_file())
    assert kept == ["conftest.py", "pytest.ini", "setup.cfg", "tests/conftest.py", "tests/test_calc.py"]


def test_packages_of_tests_are_kept_and_packages_of_code_are_not(cache: SnapshotCache, plain: Path) -> None:
    for folder in ("pkg", "pkg/tests", "pkg/tests/deep"):
        write(plain, {f"{folder}/__init__.py": ""})
    write(plain, {"pkg/tests/deep/test_a.py": "def test_a(): pass\n"})
    snapshot = cache.build(make_task(plain, fail_to_pass=("pkg/tests/deep/test_a.py::test_a",), spec=BARE))
    kept = {p.relative_to(snapshot.tests).as_posix() for p in snapshot.tests.rglob("__init__.py")}
    assert kept == {"pkg/tests/__init__.py", "pkg/tests/deep/__init__.py"}


def test_building_a_tree_leaves_the_shared_clean_files_alone(cache: SnapshotCache, task: Task) -> None:
    clean = cache.build(replace(task, setup_patch="", hide_tests=False))
    before = store.digest_tree(clean.layers[0])
    cache.build(task)
    assert store.digest_tree(clean.layers[0]) == before
    for name in ("src/calc.py", "tests/test_calc.py"):
        assert (testbed(clean) / name).read_text() == FILES[name]


def test_unchanged_files_are_stored_once(cache: SnapshotCache, task: Task) -> None:
    one, two = cache.build(task), cache.build(replace(task, hide_tests=False))
    assert (testbed(one) / "run.sh").samefile(testbed(two) / "run.sh")
    assert not (testbed(one) / "tests/test_calc.py").samefile(testbed(two) / "tests/test_calc.py")


def test_an_environment_is_shared_and_a_tree_is_not(cache: SnapshotCache, task: Task) -> None:
    one, two = cache.build(task), cache.build(replace(task, setup_patch=""))
    assert one.layers[-1] == two.layers[-1]
    assert one.layers[0] != two.layers[0]
    assert len({one.key, two.key, cache.build(replace(task, spec=BARE | {"env": {"A": "1"}})).key}) == 3


def test_get_and_key_agree_with_build_and_build_nothing(cache: SnapshotCache, task: Task) -> None:
    assert cache.get(task) is None
    built = cache.build(task)
    again = SnapshotCache(cache.root)
    assert again.get(task) == built
    assert again.key(task) == built.key
    cache.evict([built.key])
    assert SnapshotCache(cache.root).get(task) is None
    assert SnapshotCache(cache.root).key(task) == built.key, "what was once derived is known after the files are gone"


def test_what_is_derived_from_the_project_is_installed(cache: SnapshotCache, plain: Path) -> None:
    snapshot = cache.build(make_task(plain, setup_patch=BUG))
    assert any(line.startswith("pytest==") for line in snapshot.meta["pins"])
    assert snapshot.meta["paths"] == ["/testbed/src"]
    assert next(
        layer.parent / "lock.txt" for layer in snapshot.layers if layer.parent.parent.name == "envs"
    ).read_text().split() == list(snapshot.meta["pins"])


def test_a_setup_patch_that_does_not_apply_names_task_and_file(cache: SnapshotCache, task: Task) -> None:
    wrong = replace(task, setup_patch=BUG.replace("return a + b", "return a * b"))
    with pytest.raises(SnapshotError, match=r"setup patch of task calc-1(.|\n)*src/calc.py"):
        cache.build(wrong)
    assert not list((cache.root / "trees").glob(".tmp-*"))


def test_a_wrong_spec_is_a_task_error(cache: SnapshotCache, task: Task) -> None:
    with pytest.raises(TaskError, match="spec of task calc-1, field 'pakages'"):
        cache.build(replace(task, spec={"pakages": []}))


def test_a_test_that_is_not_found_is_noted(cache: SnapshotCache, task: Task) -> None:
    snapshot = cache.build(replace(task, fail_to_pass=("tests/test_calc.py::test_gone", "tests/no.py::test_x")))
    assert snapshot.meta["not_hidden"] == ["tests/test_calc.py::test_gone", "tests/no.py::test_x"]


def test_hiding_does_not_write_through_a_link(cache: SnapshotCache, plain: Path, tmp_path: Path) -> None:
    (plain / "tests" / "link.py").symlink_to("test_calc.py")
    task = make_task(plain, setup_patch=BUG, hide_tests=True, fail_to_pass=("tests/link.py::test_add",), spec=BARE)
    snapshot = cache.build(task)
    assert snapshot.meta["not_hidden"] == ["tests/link.py::test_add"]
    assert (testbed(snapshot) / "tests" / "test_calc.py").read_text() == TESTS


def test_damage_to_a_layer_is_found(cache: SnapshotCache, task: Task) -> None:
    snapshot = cache.build(task)
    assert cache.verify(snapshot.key) == snapshot.meta["seal"]
    (testbed(snapshot) / "src" / "extra.py").write_text("x")
    with pytest.raises(SnapshotError, match="not as it was built"):
        cache.verify(snapshot.key)
    with pytest.raises(SnapshotError, match="holds none with this key"):
        cache.verify("0" * 32)


def test_a_folder_without_its_marker_is_built_again(cache: SnapshotCache, task: Task) -> None:
    snapshot = cache.build(task)
    (snapshot.layers[0].parent / store.MARKER).unlink()
    (testbed(snapshot) / "src" / "extra.py").write_text("half made")
    assert cache.get(task) is None
    assert cache.build(task) == snapshot
    assert not (testbed(snapshot) / "src" / "extra.py").exists()


def test_ls_du_and_evict_count_what_is_there(cache: SnapshotCache, task: Task) -> None:
    one, two = cache.build(task), cache.build(replace(task, id="calc-2", setup_patch=""))
    frame = cache.ls()
    assert sorted(frame["key"]) == sorted([one.key, two.key])
    assert set(frame["repo"]) == {"owner/calc"}
    sizes = cache.du()
    assert sizes["total"] == sum(v for k, v in sizes.items() if k != "total") > 0
    assert cache.evict(older_than=3600) == []
    assert cache.evict([one.key]) == [one.key]
    assert not one.layers[0].exists()
    assert two.layers[-1].exists()
    assert cache.evict() == [two.key]
    assert cache.du()["trees"] == cache.du()["envs"] == 0
    assert cache.build(task) == one


def test_the_cache_is_where_the_variable_says(tmp_path: Path) -> None:
    code = "from swebench_lab.snapshots.cache import SnapshotCache; print(SnapshotCache().root)"
    for env, expected in (
        ({"SWEBENCH_LAB_CACHE": str(tmp_path / "a")}, tmp_path / "a"),
        ({"XDG_CACHE_HOME": str(tmp_path / "b")}, tmp_path / "b" / "swebench_lab"),
        ({"HOME": str(tmp_path)}, tmp_path / ".cache" / "swebench_lab"),
    ):
        rest = {k: v for k, v in os.environ.items() if k not in ("SWEBENCH_LAB_CACHE", "XDG_CACHE_HOME")}
        done = subprocess.run([sys.executable, "-c", code], env=rest | env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(expected)


# --- several builders -------------------------------------------------------------------------------------------------

BUILD_ALL = """
import sys, pickle
from swebench_lab.snapshots.factory import SandboxFactory
tasks = pickle.load(open(sys.argv[1], "rb"))
frame = SandboxFactory(cache=sys.argv[2]).prepare(tasks)
print(",".join(frame["status"]), ",".join(frame["key"]))
"""


def test_two_processes_build_each_thing_once_and_neither_fails(task: Task, tmp_path: Path) -> None:
    tasks = [replace(task, id=f"calc-{i}", hide_tests=bool(i % 2), spec=None, split=str(i)) for i in range(6)]
    tasks = [replace(t, pass_to_pass=(f"tests/test_calc.py::test_{t.id}",)) for t in tasks]
    (tmp_path / "tasks").write_bytes(pickle.dumps(tasks))
    command = [sys.executable, "-c", BUILD_ALL, str(tmp_path / "tasks"), str(tmp_path / "cache")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0][1] == said[1][1]
    assert "failed" not in said[0][0] + said[1][0]
    assert len(list((tmp_path / "cache" / "envs").iterdir())) == 1
    assert not list((tmp_path / "cache").rglob(".tmp-*"))


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from swebench_lab.snapshots.storage import store

def build(folder):
    (folder / "half").write_text("x")
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    return {}

print(store.build_once(Path(sys.argv[1]), build)[1], flush=True)
"""


def test_a_killed_builder_leaves_nothing_that_is_used_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    folder = tmp_path / "kind" / "key"
    process = subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, folder, "60"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert store.read_marker(folder) is None
    assert len(list(folder.parent.glob(".tmp-*"))) == 1
    built = store.build_once(folder, lambda place: {"names": [p.name for p in place.iterdir()]})
    assert built[1]
    assert built[0]["names"] == []
    assert [p.name for p in folder.parent.iterdir()] == ["key"]


def test_a_sweep_removes_what_nobody_is_building(tmp_path: Path) -> None:
    folder = tmp_path / "kind" / "key"
    (tmp_path / "kind" / ".tmp-other-abc").mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, folder, "60"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    assert store.sweep(tmp_path) == 1, "not the one that is being built"
    process.kill()
    process.wait()
    process.stdout.close()
    assert store.sweep(tmp_path) == 1
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_builder_waits_for_the_other_and_takes_its_result(tmp_path: Path) -> None:
    folder = tmp_path / "kind" / "key"
    process = subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, folder, "0.5"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    began = time.monotonic()
    marker, mine = store.build_once(folder, lambda _: {"mine": True})
    assert (mine, "mine" in marker) == (False, False)
    assert time.monotonic() - began > 0.1
    process.wait()
    process.stdout.close()


def test_a_folder_that_is_brought_during_a_build_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "kind" / "key"

    def build(_: Path) -> dict[str, bool]:
        folder.mkdir()  # as `ship.unpack` does, which waits for no lock
        (folder / store.MARKER).write_text('{"brought": true}')
        return {"mine": True}

    assert store.build_once(folder, build) == ({"brought": True}, False)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, str]:
        (folder / "locked").mkdir()
        write(folder / "locked", {"x": ""})
        (folder / "locked").chmod(0o500)
        raise SnapshotError("no")

    with pytest.raises(SnapshotError):
        store.build_once(tmp_path / "kind" / "key", build)
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_cache_on_another_file_system_than_the_sources_works(task: Task, tmp_path: Path) -> None:
    memory = Path("/dev/shm") / f"swebench_lab-test-{os.getpid()}"
    try:
        assert SnapshotCache(memory).build(task).key == SnapshotCache(tmp_path / "cache").build(task).key
    finally:
        shutil.rmtree(memory, ignore_errors=True)
