"""The recorded trees of the Dockerfile suite against a real engine, where one answers; it needs no network."""

from __future__ import annotations

import io
import json
import os
import subprocess
from typing import Any

import pytest

from tests.snapshots import dockerfiles
from tests.snapshots.dockerfiles import BASE, CASES, Case, engine
from tests.snapshots.test_dockerfile import RECORDED

pytestmark = pytest.mark.slow
SAID = ("User", "WorkingDir", "Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "StopSignal")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the base, which the engine has as well."""
    try:
        answer = engine("version", "--format", "{{.Server.Version}}")
    except OSError as error:
        pytest.skip(f"needs an engine: {error}")
    if answer.returncode:
        pytest.skip("needs an engine that answers: start one and set DOCKER_HOST")
    folder = tmp_path_factory.mktemp("engine")
    before = os.umask(0o022)
    if dockerfiles.base(folder / "base") is None:
        pytest.skip("needs a busybox that is linked statically")
    owned = ["--owner=0", "--group=0", "--numeric-owner"]
    packed = subprocess.run(["tar", "-C", str(folder / "base"), *owned, "-c", "."], capture_output=True, check=True)
    assert engine("import", "-", BASE, stdin=packed.stdout).returncode == 0
    yield folder
    os.umask(before)
    engine("rmi", "-f", BASE)


def exported(place: Any, case: Case) -> dict[str, Any]:
    """What an engine makes of a case, written as the recorded ones are."""
    context, file, tag = place / case.name, place / f"{case.name}.Dockerfile", f"lab-case-{CASES.index(case)}:1"
    dockerfiles.write(case.files, context)
    file.write_text(case.text)
    given = [word for name, value in case.args.items() for word in ("--build-arg", f"{name}={value}")]
    given += ["--target", case.target] if case.target else []
    built = engine("build", "--network=none", "-q", "-t", tag, "-f", str(file), *given, str(context))
    assert built.returncode == 0, built.stderr.decode()[-2000:]
    container = engine("create", tag, "true").stdout.decode().strip()
    try:
        tree = dockerfiles.tree_of_tar(io.BytesIO(engine("export", container).stdout))
        config = json.loads(engine("inspect", tag).stdout)[0]["Config"]
    finally:
        engine("rm", container)
        engine("rmi", "-f", tag)
    if "FROM scratch" in case.text:
        tree.pop("etc", None)  # made for the files of the network
    base = dockerfiles.tree_of_layers([place / "base"])
    return {
        "tree": {path: line for path, line in tree.items() if base.get(path) != line},
        "gone": sorted(path for path in base if path not in tree and "FROM scratch" not in case.text),
        "config": {name: config[name] for name in SAID if config.get(name)},
    }


@pytest.mark.parametrize("case", [case for case in CASES if not case.why_not], ids=lambda case: case.name)
def test_an_engine_makes_what_was_recorded(place, case):
    recorded = {**RECORDED[case.name], "gone": [] if "FROM scratch" in case.text else RECORDED[case.name]["gone"]}
    assert exported(place, case) == recorded
