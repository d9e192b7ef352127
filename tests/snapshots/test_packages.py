"""Big packages: layers of their own, compiled once, shared by all environments that have them, moved along with them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab import _files
from swebench_lab.records.task import Task
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.environment import packages
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.transfer import ship
from tests.sandbox.repositories import FILES, make_task, write

PARTS = 40


def wheel(folder: Path, name: str, parts: int) -> None:
    """Write a wheel of a package with some subpackages; no index is needed to install it."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        files = {f"{name}/__init__.py": f"PARTS = {parts}\n"}
        files |= {f"{name}/part{n}/__init__.py": f"NUMBER = {n}\n" for n in range(parts)}
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "labbig", PARTS)
    wheel(folder, "labsmall", 2)
    before = os.environ.get("UV_FIND_LINKS")
    os.environ["UV_FIND_LINKS"] = str(folder)
    yield folder
    os.environ.pop("UV_FIND_LINKS") if before is None else os.environ.update(UV_FIND_LINKS=before)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    task = make_task(write(tmp_path_factory.mktemp("repo") / "plain", FILES), spec={"paths": ["src"]})
    wanted = (["labbig==1.0"], ["labbig==1.0", "labsmall==1.0"])
    return [replace(task, id=f"t-{len(w)}", spec={"packages": w, "paths": ["src"]}) for w in wanted]


@pytest.fixture(scope="module")
def built(
    wheels: Path, tasks: list[Task], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SnapshotCache, list[Snapshot]]:
    cache = SnapshotCache(tmp_path_factory.mktemp("cache"))
    return cache, [cache.build(task) for task in tasks]


def big(cache: SnapshotCache) -> list[Path]:
    return [mark.parent for mark in (cache.root / packages.KIND).glob(f"*/{store.MARKER}")]


def test_a_big_package_is_one_layer_that_both_environments_have(built: tuple[SnapshotCache, list[Snapshot]]) -> None:
    cache, (one, two) = built
    (folder,) = big(cache)
    assert folder / "layer" in one.layers and folder / "layer" in two.layers
    assert one.meta["env"] != two.meta["env"]
    for snapshot in (one, two):
        environment = cache.root / "envs" / snapshot.meta["env"] / "layer"
        assert not list(environment.rglob("labbig")) and _files.size_of(environment) < _files.size_of(folder)


def test_a_box_imports_it_compiled_and_can_change_it_for_itself(built: tuple[SnapshotCache, list[Snapshot]]) -> None:
    _, (one, two) = built
    look = "import labbig.part7 as p; print(p.NUMBER, p.__file__, p.__loader__.get_code('labbig.part7').co_filename)"
    with open_namespace(two) as box:
        place = f"{two.meta['site_packages']}/labbig/part7"
        assert box.run(["python", "-c", look]).output.split() == ["7", *[f"{place}/__init__.py"] * 2]
        assert box.run("python -c 'import labsmall.part1'").ok
        assert box.run(f"ls {place}/__pycache__").output.strip(), "compiled when it was built"
        assert box.run(f"echo 'NUMBER = 99' > {place}/__init__.py; rm -r {place}/../part8").ok
        assert box.run("python -c 'import labbig.part7 as p; print(p.NUMBER)'").output == "99\n"
        assert not box.run("python -c 'import labbig.part8'").ok
    with open_namespace(one) as box:
        assert box.run(["python", "-c", look]).output.split()[0] == "7"
        assert box.run("python -c 'import labbig.part8'").ok


def test_it_moves_with_the_environments(
    built: tuple[SnapshotCache, list[Snapshot]], tasks: list[Task], tmp_path: Path
) -> None:
    cache, snapshots = built
    cache.export(tmp_path / "all.tar.xz")
    imported = SnapshotCache(tmp_path / "imported")
    imported.import_from(tmp_path / "all.tar.xz")
    shipped = SnapshotCache(tmp_path / "shipped")
    packed = ship.pack(cache, tasks[1])
    assert packed is not None
    with packed:
        ship.unpack(shipped, packed)
    for other in (imported, shipped):
        found = other.get(tasks[1])
        assert found is not None and found.key == snapshots[1].key and all(layer.is_dir() for layer in found.layers)


def test_it_goes_with_the_last_environment_and_comes_back_when_it_is_missing(
    wheels: Path, tasks: list[Task], tmp_path: Path
) -> None:
    cache = SnapshotCache(tmp_path)
    one, two = (cache.build(task) for task in tasks)
    cache.evict([one.key])
    (folder,) = big(cache)
    store.remove(folder)
    assert cache.get(tasks[1]) is None, "an environment without its packages is none"
    assert cache.build(tasks[1]).key == two.key and big(cache) == [folder]
    cache.evict([two.key])
    assert big(cache) == []
