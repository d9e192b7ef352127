"""A backend of a third party: nothing but `exec`, `alive` and an end, and the kit says what it lacks."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.errors import SandboxError, SandboxUnavailable
from swebench_lab.sandbox.docker import images
from swebench_lab.sandbox.docker.engine import DockerOptions, engine
from swebench_lab.testing import conformance
from tests.sandbox import command_box
from tests.sandbox.command_box import ContainerBox, RemoteBox, open_container, open_here

HERE = [b for b in conformance.behaviours() if b.needs <= RemoteBox.capabilities]
IN_CONTAINER = [b for b in conformance.behaviours() if b.needs <= ContainerBox.capabilities]


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


@pytest.fixture(scope="module")
def image(snapshot):
    try:
        return images.of_snapshot(engine(DockerOptions()), snapshot)
    except SandboxUnavailable as error:
        pytest.skip(f"needs a container engine: {str(error)[:80]}")


@pytest.mark.parametrize("behaviour", HERE, ids=lambda b: b.name)
def test_a_backend_with_exec_alone_shows_all_that_it_does_not_lack(behaviour, snapshot):
    behaviour.check(lambda **options: open_here(snapshot, **options))


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", IN_CONTAINER, ids=lambda b: b.name)
def test_a_container_that_is_driven_by_its_command_does_too(behaviour, snapshot, image):
    behaviour.check(lambda **options: open_container(snapshot, image, **options))


def test_that_is_most_of_commands_files_and_patches():
    for group in ("commands", "files", "patches"):
        shown = [b for b in HERE if b.group == group]
        assert len(shown) >= 0.85 * len(conformance.behaviours([group])), group


def test_it_is_about_250_lines():
    assert len(inspect.getsource(command_box).splitlines()) <= 260


def test_what_it_lacks_is_an_error_that_says_so(snapshot):
    with open_here(snapshot) as box:
        for call, name in ((box.checkpoint, "checkpoint"), (box.fork, "fork"), (lambda: box.stream(["cat"]), "stream")):
            with pytest.raises(SandboxError, match=f"'remote' lack '{name}'.*use another backend"):
                call()


def test_an_agent_s_shell_keeps_its_directory_and_variables_there(snapshot):
    with open_here(snapshot) as box, Shell(box) as shell:
        shell.run("cd src; export A='x\ny'; B=2")
        assert shell.run('echo "$A-$B"; pwd; echo error >&2').output == f"x\ny-\n{box.workdir}/src\nerror\n"
        assert shell.run("exit 3").exit_code == 3
        assert shell.run("false").exit_code == 1
        assert shell.run("unset A; cd ..").ok
        assert shell.run('echo "${A-gone}"').output == "gone\n"
        late = shell.run("echo early; sleep 60", timeout=0.5)
        assert (late.timed_out, late.output) == (True, "early\n")
        assert shell.cwd == box.workdir
        long = shell.run("head -c 3000000 /dev/zero", timeout=20)
        assert len(long.stdout) == 3_000_000


def test_its_files_that_are_too_large_or_none_are_refused(snapshot, tmp_path: Path):
    with open_here(snapshot) as box:
        box.write("a/b", b"\0\xff" * 10, mode=0o640)
        assert box.run("stat -c '%a %s' a/b").output == "640 20\n"
        with pytest.raises(lab.errors.SandboxPathError, match="no regular file"):
            box.read("src")
        box.download("src", tmp_path / "src")
        assert (tmp_path / "src" / "app.py").is_file()


def test_a_backend_of_another_package_is_named_by_its_place_in_processes_too(snapshot, tmp_path):
    name = "tests.sandbox.command_box:REMOTE"
    with lab.SandboxFactory(name, cache=tmp_path, options={"region": "north"}) as sandboxes:
        again = pickle.loads(pickle.dumps(sandboxes))
        for factory in (sandboxes, again):
            with factory.open(snapshot) as box:
                assert box.tier == "remote" and box.run("echo $REGION").output == "north\n"


def test_an_installed_package_gives_its_backend_a_name(snapshot, tmp_path, monkeypatch):
    info = tmp_path / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    entry = "[swebench_lab.backends]\nmine = tests.sandbox.command_box:REMOTE\nodd = os:sep\nlost = no_such_module:B\n"
    (info / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(tmp_path)
    with lab.SandboxFactory("mine", cache=tmp_path) as sandboxes, sandboxes.open(snapshot) as box:
        assert box.run("echo $REGION").output == "near\n"
    for name, words in {
        "nobody": "unknown sandbox backend 'nobody'; known are 'namespace'.*'mine'.*MODULE:ATTRIBUTE",
        "odd": "is a str; it must be a lab.Backend",
        "lost": "No module named 'no_such_module'",
        "tests.sandbox.command_box:NONE": "no attribute 'NONE'",
    }.items():
        with pytest.raises(ValueError, match=words):
            lab.SandboxFactory(name, cache=tmp_path)
    with pytest.raises(ValueError, match="unknown option 'zone' of the sandbox backend 'mine'; it has region"):
        lab.SandboxFactory("mine", cache=tmp_path, options={"zone": 1})
