"""SandboxFactory: prepares many tasks with errors as rows, opens boxes and closes what it opened."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxClosed, SandboxUnavailable, SnapshotError, TaskError
from swebench_lab.records.task import Task, Tasks
from swebench_lab.sandbox.limits import Limits
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.environment.specs import FILE_VARIABLE
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.snapshots.repository.sources import REPOS_VARIABLE
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
    with pytest.raises(ValueError, match="known are 'none', 'host', 'allow:HOST,…' and 'task'"):
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


def test_an_option_that_the_backend_does_not_have_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown option 'tier' of the sandbox backend 'local'; it has none"):
        SandboxFactory("local", cache=tmp_path, options={"tier": "namespace-root"})
    with pytest.raises(ValueError, match=r"unknown option 'hots' of the sandbox backend 'docker'; it has .*host"):
        SandboxFactory("docker", cache=tmp_path, options={"hots": "tcp://here"})


# --- each factory its own specs and repositories ----------------------------------------------------------------------


@pytest.fixture
def two_clones(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders that hold a repository of the same name with other files."""
    for name, text in (("one", CODE), ("two", BROKEN)):
        write(tmp_path / name / "owner" / "calc", {**FILES, "src/calc.py": text})
    return tmp_path / "one", tmp_path / "two"


def overriding(folder: Path, name: str, value: str) -> Path:
    file = folder / f"{name}.toml"
    file.write_text(f'[[spec]]\nrepo = "owner/calc"\n[spec.env]\nWHICH = "{value}"\n')
    return file


def test_two_factories_of_one_process_have_specs_and_repositories_of_their_own(
    two_clones: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (FILE_VARIABLE, REPOS_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    before = dict(os.environ)
    task = make_task("", repo="owner/calc")
    one, two = (
        SandboxFactory(cache=tmp_path / "cache", repos=clones, specs=overriding(tmp_path, name, name))
        for clones, name in zip(two_clones, ("first", "second"), strict=True)
    )
    with one, two, one.open(task) as first, two.open(task) as second:
        assert (first.read("src/calc.py"), first.run("echo $WHICH").output) == (CODE, "first\n")
        assert (second.read("src/calc.py"), second.run("echo $WHICH").output) == (BROKEN, "second\n")
        assert first.snapshot.key != second.snapshot.key
    assert dict(os.environ) == before


def test_variables_count_where_a_factory_is_given_nothing(
    two_clones: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REPOS_VARIABLE, str(two_clones[0]))
    monkeypatch.setenv(FILE_VARIABLE, str(overriding(tmp_path, "file", "variable")))
    task = make_task("", repo="owner/calc")
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes, sandboxes.open(task) as box:
        assert (box.read("src/calc.py"), box.run("echo $WHICH").output) == (CODE, "variable\n")
    with SandboxFactory(cache=tmp_path / "cache", repos=two_clones[1], specs=[]) as given, given.open(task) as box:
        assert (box.read("src/calc.py"), box.run("echo $WHICH").output) == (BROKEN, "\n")


def test_specs_travel_as_what_the_file_held(two_clones: tuple[Path, Path], tmp_path: Path) -> None:
    """A node of a cluster does not see the file, nor what is written to it meanwhile."""
    file = overriding(tmp_path, "mine", "sent")
    one = SandboxFactory(cache=tmp_path / "cache", repos=two_clones[0], specs=file)
    sent = json.loads(json.dumps(one.to_dict()))
    file.unlink()
    there = SandboxFactory.from_dict({**sent, "cache": str(tmp_path / "other")})
    assert there.to_dict() == {**one.to_dict(), "cache": str(tmp_path / "other")}
    with there, there.open(make_task("", repo="owner/calc")) as box:
        assert box.run("echo $WHICH").output == "sent\n"


def test_a_file_of_specs_is_read_when_the_factory_is_made(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.toml.*No such file"):
        SandboxFactory(cache=tmp_path, specs=tmp_path / "none.toml")
    with pytest.raises(ValueError, match="specs, repos and bases are the SnapshotCache's"):
        SandboxFactory(cache=SnapshotCache(tmp_path), repos=tmp_path)


def test_starts_and_builds_are_logged_and_nothing_is_printed(task: Task, tmp_path: Path) -> None:
    code = (
        "import logging, pickle, sys\n"
        "if sys.argv[3] == 'on':\n"
        "    logging.basicConfig(level=logging.DEBUG, format='%(name)s: %(message)s')\n"
        "from swebench_lab.snapshots.factory import SandboxFactory\n"
        "with SandboxFactory(cache=sys.argv[1]) as sandboxes:\n"
        "    sandboxes.open(pickle.loads(bytes.fromhex(sys.argv[2]))).close()\n"
    )
    said = {}
    for state in ("off", "on"):
        command = [sys.executable, "-c", code, tmp_path / state, pickle.dumps(task).hex(), state]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == ""
        said[state] = done.stderr
    assert said["off"] == ""
    assert "swebench_lab.snapshots.storage.store: trees/" in said["on"]
    assert "swebench_lab.snapshots.factory: sandbox " in said["on"]
    assert "swebench_lab.sandbox.zygote.client: zygote of tier " in said["on"]
