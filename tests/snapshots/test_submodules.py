"""Submodules: their files are in the box where the source has them, in no patch, and those without are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.records.task import Task
from swebench_lab.snapshots.factory import SandboxFactory
from tests.sandbox.repositories import FILES, git, make_task, write

SPEC = {"packages": [], "paths": ["src"]}


def repository(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    write(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "start")
    return folder


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A repository with a submodule, which has one of its own."""
    deep = repository(tmp_path / "deep", {"deep.txt": "deep\n"})
    inner = repository(tmp_path / "inner", {"data.txt": "inner\n", ".gitignore": "*.log\n"})
    allowed = ("-c", "protocol.file.allow=always")
    git(inner, *allowed, "submodule", "add", "-q", str(deep), "below")
    git(inner, "commit", "-qm", "deep")
    outer = repository(tmp_path / "outer", FILES)
    git(outer, *allowed, "submodule", "add", "-q", "--name", "other name", str(inner), "vendor/inner")
    git(outer, *allowed, "submodule", "update", "-q", "--init", "--recursive")
    git(outer, "commit", "-qm", "inner")
    shutil.rmtree(deep)
    shutil.rmtree(inner)
    return outer


def _task(outer: Path) -> Task:
    return make_task(outer, spec=SPEC, base_commit=git(outer, "rev-parse", "HEAD"))


@pytest.mark.parametrize("bare", [False, True])
def test_the_files_of_submodules_are_in_the_box_and_in_no_patch(tmp_path: Path, outer: Path, bare: bool) -> None:
    task = _task(outer)
    if bare:  # such as a clone that somebody keeps: modules below it, no work tree
        shutil.move(outer / ".git", tmp_path / "kept.git")
        task = replace(task, source=str(tmp_path / "kept.git"))
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes, sandboxes.open(task) as box:
        assert box.snapshot.meta["submodules_missing"] == []
        assert box.run("cat vendor/inner/data.txt vendor/inner/below/deep.txt").output == "inner\ndeep\n"
        assert box.run("git status --porcelain").output == ""
        assert box.diff() == ""
        box.write("src/new.py", "X = 1\n")
        box.write("vendor/inner/data.txt", "changed\n")
        assert box.diff().count("diff --git") == 1, "the commit of a submodule is what a repository holds of it"


def test_a_submodule_without_files_is_named(tmp_path: Path, outer: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = _task(outer)
    shutil.rmtree(outer / ".git" / "modules" / "other name" / "modules")
    shutil.rmtree(outer / "vendor" / "inner" / "below")
    with SandboxFactory(cache=tmp_path / "cache") as sandboxes:
        assert sandboxes.snapshot(task).meta["submodules_missing"] == ["vendor/inner/below"]
        assert "no files of its submodules vendor/inner/below" in caplog.text
        shutil.rmtree(outer / ".git" / "modules")
        shutil.rmtree(outer / "vendor")
        other = SandboxFactory(cache=tmp_path / "other").snapshot(task)
    assert other.meta["submodules_missing"] == ["vendor/inner"]
