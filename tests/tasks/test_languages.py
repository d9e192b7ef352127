"""Real tasks in seven languages, from Dockerfiles over a Debian root, certified, rootless too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import swebench_lab as lab
from tests.tasks.languages import LANGUAGES, write

ROOT = os.environ.get("SWEBENCH_LAB_LANGUAGES_ROOT", "")
"""A root file system of debootstrap's, with git, python3, nodejs, golang-go, rustc, gcc, libc6-dev, ruby and a JDK."""
BACKENDS = ("namespace", "namespace-rootless")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT, reason="SWEBENCH_LAB_LANGUAGES_ROOT names no root file system"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> lab.SnapshotCache:
    return lab.SnapshotCache(tmp_path_factory.mktemp("cache"), bases={"debian:bookworm": f"folder:{ROOT}"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_tasks_in_seven_languages_are_certified(cache, tmp_path: Path, backend: str):
    for language in LANGUAGES:
        write(tmp_path, language)
    tasks = lab.load_tasks(tmp_path)
    assert len(tasks) == len(LANGUAGES) >= 6
    frame = lab.Evaluator(lab.SandboxFactory(backend, cache=cache), workers=1).check(tasks, progress=False)
    assert frame["status"].to_list() == ["passed"] * len(tasks), frame.select("id", "status", "reason").rows()
    verdict = lab.Evaluator(lab.SandboxFactory(backend, cache=cache), workers=1).grade(tasks[0], "--- a/x\n+++ b/x\n")
    assert verdict.notes == () or verdict.notes[0].startswith("base: debian:bookworm was substituted by folder:")
