"""The probe: what it says works does, and where something is refused it says so, with what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from swebench_lab.sandbox.landlock import ruleset
from swebench_lab.testing.doctor import probe
from tests.sandbox.test_landlock import NAMESPACES, UNDER, refusing

ROOT = Path(probe.__file__).parents[3]


def told(code: str, **env: str) -> str:
    """What a process of its own prints."""
    own = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_everything_is_tried_and_what_does_not_work_has_a_fix() -> None:
    found = {one.name: one for one in probe.probe()}
    assert {*probe.BOXES, "user namespaces", "overlay", "landlock rules", "system call filter"} <= set(found)
    assert {"idmapped mounts", "cgroups", "docker", "ray"} <= set(found)
    assert all(one.detail and (one.works or one.fix) for one in found.values())
    assert found["landlock"].works == (ruleset.abi() > 0)


@pytest.mark.skipif(ruleset.abi() == 0, reason="this kernel has no Landlock")
def test_where_namespaces_are_refused_doctor_names_the_tier_that_is_left() -> None:
    """A container's filter refuses namespaces and mounts, as in a pod of a hub."""
    code = UNDER.format(refusing(*NAMESPACES).hex()) + (
        "from swebench_lab.testing.doctor.doctor import doctor\n"
        "report = doctor()\n"
        "print(report.ok, 'SandboxFactory(\"landlock\")' in report['sandbox'].message)\n"
        "for name in ('namespace-rootless', 'user namespaces', 'overlay'):\n"
        "    print(name, report[name].state, bool(report[name].fix))\n"
    )
    assert told(code).splitlines() == [
        "True True",
        "namespace-rootless absent True",
        "user namespaces absent True",
        "overlay absent True",
    ]


def test_a_docker_daemon_is_really_asked(tmp_path: Path) -> None:
    """A socket that answers as the daemon does, one that hangs up, and none."""
    code = "from swebench_lab.testing.doctor.probe import docker; one = docker(); print(one.works, one.detail)"
    nowhere = told(code, DOCKER_HOST=f"unix://{tmp_path}/none")
    assert nowhere.startswith("False") and "No such file" in nowhere
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(f"{tmp_path}/docker.sock")
        daemon.listen()
        answers = [b"HTTP/1.1 200 OK\r\nServer: Docker/29.0\r\nContent-Length: 2\r\n\r\n{}", b""]

        def serve() -> None:
            for answer in answers:
                connected, _ = daemon.accept()
                with connected:
                    connected.recv(4096)
                    connected.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert told(code, DOCKER_HOST=f"unix://{tmp_path}/docker.sock").startswith("True")
        assert told(code, DOCKER_HOST=f"unix://{tmp_path}/docker.sock").startswith("False")
        thread.join(10)


def test_a_file_of_another_user_s_pack_is_changed_in_a_box() -> None:
    from swebench_lab.errors import SandboxUnavailable

    try:
        assert "changed a file" in probe.try_shared_cache()
    except SandboxUnavailable as error:
        pytest.skip(f"no namespaces here: {error}")
