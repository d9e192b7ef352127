"""File systems that tasks start from: Dockerfiles are built once and known again, bases are substituted by name only."""

from __future__ import annotations

from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SnapshotError
from swebench_lab.records.verifier import Verifier
from tests.conftest import make_task


def docker_task(tmp_path: Path, dockerfile: str, workdir: str = "") -> lab.Task:
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "a.txt").write_text("a\n")
    verifier = Verifier("exit-marker", "echo DONE=0", "DONE")
    return make_task(source=f"dockerfile:{folder}", workdir=workdir, verifier=verifier, base_commit="", gold_patch="")


def test_a_dockerfile_is_built_once_and_its_directory_and_variables_count(tmp_path: Path) -> None:
    task = docker_task(tmp_path, "FROM scratch\nENV LEVEL=3\nWORKDIR /srv/app\nCOPY a.txt /srv/app/\n")
    cache = lab.SnapshotCache(tmp_path / "cache")
    assert cache.get(task) is None and cache.key(task) == ""
    built = cache.build(task)
    assert (built.workdir, built.env["LEVEL"], built.own_root) == ("/srv/app", "3", True)
    assert (built.layers[0] / "srv/app/a.txt").read_text() == "a\n" and (built.git_dir / "HEAD").is_file()
    assert cache.get(task) == built and cache.key(task) == built.key
    assert cache.verify(built.key)
    (tmp_path / "environment" / "a.txt").write_text("b\n")
    assert cache.get(task) is None


def test_a_base_that_is_substituted_is_noted(tmp_path: Path) -> None:
    (tmp_path / "base" / "usr" / "bin").mkdir(parents=True)
    task = docker_task(tmp_path, "FROM debian:12 AS one\nWORKDIR /app\nCOPY a.txt .\n")
    bases = {"debian:12": f"folder:{tmp_path / 'base'}", "other:1": "folder:/nowhere"}
    built = lab.SnapshotCache(tmp_path / "cache", bases=bases).build(task)
    assert built.meta["python_note"] == f"base: debian:12 was substituted by {bases['debian:12']}"
    with pytest.raises(SnapshotError, match="nothing says where the image debian:12 is found"):
        lab.SnapshotCache(tmp_path / "other").build(task)


def test_the_root_is_no_work_directory(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="its work directory is '/'"):
        lab.SnapshotCache(tmp_path / "cache").build(docker_task(tmp_path, "FROM scratch\nCOPY a.txt /\n"))


def test_what_is_outside_the_subset_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="ONBUILD"):
        lab.SnapshotCache(tmp_path / "cache").build(docker_task(tmp_path, "FROM scratch\nONBUILD RUN true\n"))
