"""Debian: packages that a spec wants are in the boxes of its tasks, and nowhere else; those that cannot be had are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment import debian
from swebench_lab.snapshots.factory import SandboxFactory
from tests.sandbox.repositories import FILES, make_task, write

pytestmark = pytest.mark.skipif(not debian.can_fetch(), reason="no Debian")
PACKAGE = "figlet"


def _has_network(tmp_path: Path) -> bool:
    try:
        debian.build([PACKAGE], tmp_path / "probe")
    except SnapshotError:
        return False
    return True


@pytest.mark.parametrize("backend", ["namespace-root", "namespace-rootless"])
def test_a_package_that_the_machine_lacks_is_in_the_box(tmp_path: Path, backend: str) -> None:
    if shutil.which(PACKAGE) or not _has_network(tmp_path):
        pytest.skip("it is installed here, or there is no network")
    folder = write(tmp_path / "plain", FILES)
    spec = {"packages": [], "paths": ["src"]}
    with SandboxFactory(backend, cache=tmp_path / "cache") as sandboxes:
        task = make_task(folder, spec={**spec, "system": [PACKAGE]})
        assert sandboxes.cache.get(task) is None
        snapshot = sandboxes.snapshot(task)
        assert sandboxes.cache.get(task) == snapshot
        assert sandboxes.key(task) == snapshot.key
        with sandboxes.open(task) as box:
            assert box.run(f"{PACKAGE} a").ok, "the name that it registers as an alternative"
            assert "Read-only" in box.run("touch /usr/bin/planted").output
            assert box.run("python --version && git --version").ok
            assert box.diff() == ""
        with sandboxes.open(make_task(folder, spec=spec, id="other")) as box:
            assert box.run(PACKAGE).exit_code == 127
        assert "digest" in (debian.build([PACKAGE], sandboxes.cache.root) or ("", {}))[1]
        sandboxes.cache.verify(snapshot.key)
        moved = tmp_path / "moved.tar.xz"
        sandboxes.cache.export(moved, [snapshot.key])
        other = SandboxFactory(backend, cache=tmp_path / "other")
        assert other.cache.import_from(moved) == [snapshot.key]
        assert (tmp_path / "other" / debian.KIND).is_dir()
    assert shutil.which(PACKAGE) is None, "the machine itself is as it was"


def test_a_package_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    for name, words in (
        ("no-such-package-of-debian", "no-such-package-of-debian"),
        ("-o=x", "not the name of a package"),
    ):
        with pytest.raises(SnapshotError, match=words):
            debian.build([name], tmp_path)
        assert debian.lacking([name, "dpkg"]) == (name,)
    assert debian.build(["dpkg"], tmp_path) is None
    assert "at hand: dpkg" in debian.state_of(["dpkg"])


def test_what_a_package_would_generate_when_it_is_installed_is_made_in_a_box(tmp_path: Path) -> None:
    layer, plugins = tmp_path / "layer", "usr/lib/x86_64-linux-gnu/graphviz"
    write(layer, {"usr/bin/dot": '#!/bin/sh\nls "$GVBINDIR" >"$GVBINDIR/config6a"\n', f"{plugins}/libcore.so": ""})
    (layer / "usr/bin/dot").chmod(0o755)
    assert debian._generate(layer, tmp_path, "a test") == [f"{plugins}/config6a"]
    assert "libcore.so" in (layer / plugins / "config6a").read_text()
    (layer / "usr/bin/dot").write_text("#!/bin/sh\necho no plug-in fits >&2\nexit 1\n")
    with pytest.raises(SnapshotError, match="no plug-in fits"):
        debian._generate(layer, tmp_path, "a test")
    (layer / "usr/bin/dot").unlink()
    assert debian._generate(layer, tmp_path, "a test") == []
