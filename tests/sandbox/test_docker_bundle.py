"""The bundle that serves in containers: what its key is made of is what it holds."""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from swebench_lab.sandbox.docker import bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packs a program of Linux")


def test_every_module_in_a_bundle_counts_so_that_a_change_of_any_reaches_containers() -> None:
    """An engine keeps bundles by the content of these files: one that did not count would stay as it was."""
    with tarfile.open(fileobj=io.BytesIO(bundle.bundle().archive)) as archive:
        packed = {name for name in archive.getnames() if name.startswith("app/") and name.endswith(".py")}
    package = Path(bundle.__file__).resolve().parents[2]
    assert {f"app/swebench_lab/{path.relative_to(package)}" for path in bundle.own_files()} == packed
    assert len(packed) >= 10


def test_libraries_are_there_by_the_names_that_are_asked_for() -> None:
    """An image need not have any library: what `ldd` names of the bundle's extension modules is in the bundle."""
    with tarfile.open(fileobj=io.BytesIO(bundle.bundle().archive)) as archive:
        names = set(archive.getnames())
    modules = [name for name in names if name.endswith(".so") and "/lib-dynload/" in name]
    folder = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    wanted = set()
    for name in modules:
        said = subprocess.run(["ldd", str(folder / Path(name).name)], capture_output=True, text=True).stdout
        wanted |= {line.split()[0] for line in said.splitlines() if "=>" in line}
    assert wanted and {f"so/{library}" for library in wanted} <= names
