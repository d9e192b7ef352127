"""The training recipes at preset smoke: every cell of both runs, the second from the first one's model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import swebench_lab as lab
from tests.training import ground

pytestmark = pytest.mark.filterwarnings("ignore")


def test_both_recipes_run_to_their_ends(tmp_path: Path) -> None:
    assert ground.torch  # skipped where torch or trl is missing
    lab.run_recipe("sft", preset="smoke", run_dir=str(tmp_path / "sft"))
    model = tmp_path / "sft" / "sft" / "final"
    rows = tmp_path / "sft" / "rows.jsonl"
    lab.run_recipe(
        "grpo", preset="smoke", model=str(model), demos=str(rows), control_updates=1, run_dir=str(tmp_path / "grpo")
    )
    said = json.loads((tmp_path / "grpo" / "metrics.json").read_text())
    trained = {"start", "grpo", "fresh demonstrations", "same demonstrations"}
    arms = trained | {f"{name}, greedy" for name in trained} | {"random edits"}
    assert arms <= set(said) and set(said["gain"]) == arms - {"grpo"}
    assert (tmp_path / "grpo" / "updates.png").is_file()
