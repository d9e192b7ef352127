"""The docker backend against a real engine; without one these tests say so and are skipped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxUnavailable
from swebench_lab.sandbox.checkpoints import Layer
from swebench_lab.sandbox.docker.bundle import bundle
from swebench_lab.sandbox.docker.engine import LABEL, DockerOptions, engine
from swebench_lab.sandbox.docker.sandbox import DockerSandbox, open_docker
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance

QUICK = {
    "a_command_reports_output_and_exit_code", "errors_are_merged_in_order_or_kept_apart", "input_is_bytes_as_given",
    "a_timeout_ends_the_whole_tree", "a_session_keeps_directory_variables_and_functions", "files_are_written_as_given",
    "replaced_and_deleted_directories_stay_so", "a_checkpoint_holds_what_changed_since_the_last",
    "the_first_process_is_out_of_reach", "what_was_committed_is_still_in_the_patch",
}  # fmt: skip


def unavailable() -> str:
    """Why there is no engine to test with; empty when there is one."""
    try:
        engine(DockerOptions())
    except SandboxUnavailable as error:
        return str(error)
    return ""


WHY_NOT = unavailable()
needs_engine = pytest.mark.skipif(bool(WHY_NOT), reason=f"needs a container engine: {WHY_NOT[:80]}")


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


def behaviours(quick: bool) -> list[conformance.Behaviour]:
    declared = [b for b in conformance.behaviours() if b.needs <= DockerSandbox.capabilities]
    return [b for b in declared if (b.name in QUICK) == quick]


@needs_engine
@pytest.mark.parametrize("behaviour", behaviours(True), ids=lambda b: b.name)
def test_conformance(behaviour, snapshot):
    behaviour.check(lambda **options: open_docker(snapshot, **options))


@needs_engine
@pytest.mark.slow
@pytest.mark.parametrize("behaviour", behaviours(False), ids=lambda b: b.name)
def test_the_rest_of_the_conformance_kit(behaviour, snapshot):
    behaviour.check(lambda **options: open_docker(snapshot, **options))


def test_what_is_left_out_exists():
    lacking = {b.name for b in conformance.behaviours() if not b.needs <= DockerSandbox.capabilities}
    assert lacking == {
        "home_run_and_secrets_of_the_host_are_absent",  # the engine shows /sys, read-only
        "kernel_settings_cannot_be_changed",  # it mounts only parts of /proc read-only; root may open the others
        "devices_are_few_and_cannot_be_made",  # it adds /dev/mqueue
        "odd_files_do_not_keep_a_checkpoint_from_being_made",  # it tells changes as text; other names are not among them
        "disk_is_bounded_and_named",  # only some storage drivers bound what a container writes
    }
    assert {b.name for b in behaviours(True)} == QUICK


def test_the_interpreter_for_containers_is_complete(tmp_path):
    import io
    import tarfile

    made = bundle()
    with tarfile.open(fileobj=io.BytesIO(made.archive)) as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    command = [part.replace("/.lab/agent", str(tmp_path)) for part in made.command]
    done = subprocess.run([*command[:-1], "-c", "import json, gzip, tarfile; print(1)"], env={}, capture_output=True)
    assert done.stdout == b"1\n", done.stderr
    started = subprocess.run(command, env={}, input=b"", capture_output=True)
    assert (started.returncode, started.stdout, started.stderr) == (0, b"", b""), "without a client it ends at once"


def test_an_engine_that_does_not_answer_is_told_with_what_to_do(snapshot):
    pytest.importorskip("docker")
    with pytest.raises(SandboxUnavailable, match=r"no container engine answers at tcp://127.0.0.1:9.*DOCKER_HOST"):
        open_docker(snapshot, host="tcp://127.0.0.1:9")


@needs_engine
def test_a_checkpoint_of_one_backend_opens_in_the_other(snapshot, tmp_path):
    change = "echo 1 > a; ln a b; rm README.md; rm -r src; mkdir src; echo 2 > src/new; ln -s /etc c; chmod 700 a"
    look = (
        "find . -path ./.git -prune -o \\( -type f -printf '%p %m %n ' -exec md5sum {} \\; \\) -o -not -type d -print"
    )
    try:
        open_namespace(snapshot).close()
    except SandboxUnavailable as error:
        pytest.skip(f"needs namespaces too: {error}")
    for ours, theirs in ((open_docker, open_namespace), (open_namespace, open_docker)):
        with ours(snapshot) as box:
            box.run(change)
            layer = box.checkpoint()
            layer.pack(tmp_path / "layer")
            again = Layer.unpack(tmp_path / "layer", tmp_path / "store")
            with theirs(snapshot, layers=[again]) as other:
                assert sorted(other.run(look).output.split("\n")) == sorted(box.run(look).output.split("\n"))
                assert other.diff() == box.diff()
                assert other.checkpoint().entries == ()


@needs_engine
def test_verdicts_are_those_of_the_namespace_backend():
    task = lab.load_tasks("demo")[0]
    wrong = re.sub(
        r"^\+(?!\+\+)( *)\S.*$", r"+\1raise RuntimeError('wrong')", task.gold_patch, count=1, flags=re.MULTILINE
    )
    found = []
    for backend in ("namespace", "docker"):
        with lab.SandboxFactory(backend) as sandboxes:
            evaluator = lab.Evaluator(sandboxes)
            verdicts = [evaluator.grade(task, patch) for patch in (task.gold_patch, wrong)]
            found.append([(v.status, dict(v.tests), v.exit_code, v.official) for v in verdicts])
    assert found[0] == found[1]
    assert found[0][0][0] == "resolved" and found[0][1][0] != "resolved"


@needs_engine
def test_boxes_of_a_killed_process_end_and_gc_leaves_those_of_living_ones(snapshot):
    code = textwrap.dedent("""
        import sys, time
        from swebench_lab.testing import conformance
        from swebench_lab.sandbox.docker.sandbox import DockerSandbox, open_docker
        with conformance.reference_snapshot() as snapshot:
            box = open_docker(snapshot)
            print(box._container.id, flush=True)
            time.sleep(60)
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root()}
    )
    try:
        name = child.stdout.readline().strip()
        child.send_signal(signal.SIGKILL)
        child.wait()
        used = engine(DockerOptions())
        with open_docker(snapshot) as living:
            deadline = time.monotonic() + 20
            while name in {c.id for c in used.client.containers.list(all=True, filters={"label": LABEL})}:
                assert time.monotonic() < deadline, "the container of a killed process is still there"
                used.gc()
                time.sleep(0.2)
            assert living.run("echo on").output == "on\n"
    finally:
        child.kill()
        child.wait()


def root() -> str:
    return str(Path(lab.__file__).parents[1])
