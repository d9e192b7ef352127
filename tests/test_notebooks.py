"""The notebooks: stored without outputs, and each runs from top to bottom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.browser import busy

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COSTLY = ("02", "05", "06", "08")
"""Tasks from a repository, training, Ray and a sweep: what they show has tests of its own that run each time."""
STORED = [*NOTEBOOKS, *sorted((ROOT / "recipes").glob("*.ipynb"))]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_notebook_has_no_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert "papermill" not in notebook["metadata"] and "widgets" not in notebook["metadata"]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem[:2] in COSTLY else [], id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_from_top_to_bottom_within_two_minutes(path: Path, tmp_path: Path) -> None:
    code = f"from swebench_lab.experiments.recipe_runs import run_recipe; run_recipe({str(path)!r}, run_dir='out', progress=False)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 120 * busy()
