"""Real tasks in seven languages as rows of three sets, in images over a Debian root, certified."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import swebench_lab as lab
from tests.tasks.set_languages import REPOSITORIES, image_of, row_of, write

ROOT = os.environ.get("SWEBENCH_LAB_LANGUAGES_ROOT", "")
"""A root file system of debootstrap's, with git, nodejs, golang-go, cargo, g++, make, libgtest-dev, phpunit and ruby."""
CHECKOUT = os.environ.get("SWEBENCH_LAB_REBENCH_CHECKOUT", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT, reason="SWEBENCH_LAB_LANGUAGES_ROOT names no root file system"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the imported root is kept for all sets: it takes some minutes."""
    return tmp_path_factory.mktemp("languages")


@pytest.mark.parametrize("kind", ["multilingual", "rebench", "live"])
def test_rows_in_seven_languages_are_certified(folder, kind):
    if kind == "rebench" and not CHECKOUT:
        pytest.skip("SWEBENCH_LAB_REBENCH_CHECKOUT names no checkout")
    bases = {"debian:languages": f"folder:{ROOT}"}
    bases |= {image_of(found, kind): f"dockerfile:{write(folder, found, kind)}" for found in REPOSITORIES}
    tasks = lab.load_tasks([row_of(found, kind) for found in REPOSITORIES], scripts=CHECKOUT or None)
    cache = lab.SnapshotCache(folder / "cache", bases=bases, images="registry")
    frame = lab.Evaluator(lab.SandboxFactory(cache=cache), workers=1).check(tasks, progress=False)
    said = frame.select("id", "status", "official", "reason").rows()
    assert frame["status"].to_list() == ["passed"] * len(tasks), said
    assert frame["official"].to_list() == ["resolved/unresolved"] * len(tasks), said
