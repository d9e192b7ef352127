"""SandboxFactory: prepares many tasks with errors as rows, opens boxes and closes what it opened."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxClosed, SandboxUnavailable, SnapshotError
from swebench_lab.records.task import Task, Tasks
from swebench_lab.sandbox.limits import Limits
from swebench_lab.snapshots.factory import SandboxFactory
from tests.sandbox.repositories import BROKEN, BUG, CODE, FILES, make_task, write


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def task(shared: Path) -> Task:
    return make_task(write(shared / "plain", FILES), setup_patch=BUG, hide_tests=True)


@pytest.fixture
def sandboxes(shared: Path) -> SandboxFactory:
    return SandboxFactory(cache=shared / "cache")


def test_an_unknown_backend_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'dokcer'; known are 'namespace', .*'local'"):
        SandboxFactory("dokcer")
    with pytest.raises(ValueError, match="known are 'none' and 'host'"):
        SandboxFactory(network="lan")


def test_preparing_builds_then_finds_and_keeps_the_order(sandboxes: SandboxFactory, task: Task) -> None:
    tasks = Tasks([replace(task, id=f"calc-{i}", pass_to_pass=(f"tests/test_calc.py::t{i}",)) for i in range(5)])
    first, second = sandboxes.prepare(tasks), sandboxes.prepare(tasks)
    assert list(first["id"]) == list(tasks.ids)
    assert list(first["status"]) == ["built"] * 5
    assert list(second["status"]) == ["cached"] * 5
    assert list(first["key"]) == list(second["key"]) == [sandboxes.key(t) for t in tasks]
    assert min(first["bytes"]) > 0
    assert sandboxes.prepare([]).is_empty()


def test_an_error_is_a_row_and_the_others_are_built(sandboxes: SandboxFactory, task: Task) -> None:
    tasks = [
        replace(task, id="no-source", source="/no/such/folder"),
        replace(task, id="no-python", spec={"python": "3.2"}),
        replace(task, id="no-patch", setup_patch=BUG.replace("a + b", "a * b")),
        replace(task, id="no-spec", spec={"timeout": "long"}),
        replace(task, id="good"),
    ]
    frame = sandboxes.prepare(tasks)
    assert list(frame["status"])[:4] == ["failed"] * 4
    assert frame["status"][4] in ("built", "cached")
    for error, words in zip(frame["error"], ("no such folder", "3.2", "no-patch", "timeout"), strict=False):
        assert words in error
    with pytest.raises(SnapshotError):
        sandboxes.prepare(tasks[:1], raise_errors=True)


def test_preparing_again_takes_a_moment_only(sandboxes: SandboxFactory, task: Task) -> None:
    sandboxes.prepare([task])
    again = SandboxFactory(cache=sandboxes.cache.root)
    commit = sandboxes.snapshot(task).meta["base_commit"]
    tasks = [replace(task, id=f"calc-{i}", base_commit=commit) for i in range(160)]
    began = time.process_time()  # not the clock on the wall, which says how busy the machine is
    assert set(again.prepare(tasks)["status"]) == {"cached"}
    assert time.process_time() - began < 0.5


def test_a_box_starts_from_the_snapshot_and_its_patch_repairs_it(sandboxes: SandboxFactory, task: Task) -> None:
    with sandboxes.open(task) as box:
        assert box.run("git log --format=%s; git status --porcelain").output == "Initial commit\n"
        assert box.run("which python pytest").output.split() == ["/opt/venv/bin/python", "/opt/venv/bin/pytest"]
        assert "1 passed" in box.run("python -m pytest -q tests", timeout=60).output
        assert box.run("python -c 'import calc; print(calc.__file__)'").output == "/testbed/src/calc.py\n"
        assert box.diff() == "", "running tests is no change"
        assert box.read("src/calc.py") == BROKEN
        box.write("src/calc.py", CODE)
        assert "+    return a + b" in box.diff()
        assert box.apply_patch("").exit_code is not None
    assert box.closed
    with sandboxes.open(sandboxes.snapshot(task)) as fresh:
        assert fresh.read("src/calc.py") == BROKEN


def test_no_file_of_a_box_holds_a_hidden_test_or_the_repair(sandboxes: SandboxFactory, task: Task) -> None:
    with sandboxes.open(task) as box:
        found = box.run("grep -rlE 'def test_add|return a [+] b' / --include=* --exclude-dir=proc --exclude-dir=sys "
                        "--exclude-dir=usr --exclude-dir=.pyenv -s 2>/dev/null; git cat-file --batch-all-objects "
                        "--batch --buffer | grep -aE 'def test_add|return a [+] b'", timeout=120)  # fmt: skip
        assert found.output.strip() == ""


def test_packages_beside_the_interpreter_are_not_seen(sandboxes: SandboxFactory, task: Task) -> None:
    """This package, with the bundled repositories as they are without any bug, may be installed there."""
    snapshot = sandboxes.snapshot(task)
    with sandboxes.open(snapshot) as box:
        prefix = box.run(["python", "-c", "import sys; print(sys.base_prefix)"]).output.strip()
        places = (f"{place}/lib/python3*/*-packages/*" for place in ("/usr", "/usr/local", prefix))
        seen = box.run(f"ls -d {' '.join(places)} 2>/dev/null")
        assert seen.output == ""
        for folder in snapshot.hidden:
            assert box.run(["ls", "-A", str(folder)]).output == ""
        assert box.run("python -c 'import swebench_lab'").exit_code == 1


def test_closing_the_factory_closes_its_boxes_and_opens_no_more(sandboxes: SandboxFactory, task: Task) -> None:
    with sandboxes:
        one, two = sandboxes.open(task), sandboxes.open(task)
        assert "2 open" in repr(sandboxes)
        one.close()
        assert "1 open" in repr(sandboxes)
    assert two.closed
    sandboxes.close()
    with pytest.raises(SandboxClosed, match="SandboxFactory was closed"):
        sandboxes.open(task)


def test_a_factory_travels_as_its_configuration(tmp_path: Path) -> None:
    one = SandboxFactory(cache=tmp_path, scratch=tmp_path / "s", limits=Limits(memory=1 << 30), workers=3)
    two = pickle.loads(pickle.dumps(one))
    assert two.to_dict() == one.to_dict()
    assert two.limits == one.limits
    assert "1073741824" in two._repr_html_()


def test_the_local_backend_warns_once_and_loudly(tmp_path: Path) -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('always')\n"
        "from swebench_lab.snapshots.factory import SandboxFactory\n"
        "SandboxFactory('local', cache=sys.argv[1]); SandboxFactory('local', cache=sys.argv[1])\n"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stderr
    assert said.count("have no walls") == 1


def test_a_machine_without_namespaces_is_told_what_to_do(shared: Path, task: Task) -> None:
    """In a child that may not make namespaces: a limit of zero user namespaces, inside one of its own."""
    SandboxFactory(cache=shared / "cache").prepare([task])
    code = (
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "from swebench_lab.errors import SandboxUnavailable\n"
        "from swebench_lab.snapshots.factory import SandboxFactory\n"
        "for name in ('user', 'mnt', 'pid'):\n"
        "    Path(f'/proc/sys/user/max_{name}_namespaces').write_text('0')\n"
        "try:\n"
        "    SandboxFactory(cache=sys.argv[1]).open(pickle.loads(bytes.fromhex(sys.argv[2])))\n"
        "except SandboxUnavailable as error:\n"
        "    print(error)\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code, shared / "cache"]
    done = subprocess.run([*command, pickle.dumps(task).hex()], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr and "failed" in done.stderr:
        pytest.skip("this machine makes no user namespaces, so what one without them says cannot be shown")
    assert "SandboxFactory('local')" in done.stdout, done.stderr
    assert "swebench-lab doctor" in done.stdout
    assert issubclass(SandboxUnavailable, RuntimeError)
