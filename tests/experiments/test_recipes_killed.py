"""Every recipe at preset smoke, killed in the middle and run again: it ends with the metrics of a run that nobody killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab._unix import lock

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MIDDLE: dict[str, list[tuple[str, int]]] = {
    "quickstart": [("attempts.jsonl", 4)],
    "collect": [("attempts.jsonl", 2)],
    "evaluate": [("attempts.jsonl", 1)],
    "prepare": [("*.ipynb", 1)],
    "ablate": [("runs/**/outcome.json", 1)],
    "sft": [("rows.jsonl", 1), ("rollouts/attempts.jsonl", 3)],  # as it begins to learn, and while it is tried
    "grpo": [("grpo/rollouts/*/attempts.jsonl", 2), ("rollouts/attempts.jsonl", 1)],
}
"""Recipe → where it is killed, one time after the other: a pattern of files, and how many files or lines there are then."""
VARYING = {"seconds", "executed", "report", "prepared", "folder", "built"}
"""What may differ: times, what was there already, and where it lies."""


def facts(metrics: Any) -> Any:
    if isinstance(metrics, dict):
        return {name: facts(value) for name, value in metrics.items() if name not in VARYING}
    return [facts(value) for value in metrics] if isinstance(metrics, list) else metrics


def reached(folder: Path, pattern: str, count: int) -> bool:
    found = list(folder.glob(pattern))
    if pattern.endswith(".jsonl"):
        return sum(path.read_text().count("\n") for path in found) >= count
    if pattern.endswith(".ipynb"):
        try:
            cells = [cell for path in found for cell in json.loads(path.read_text("utf-8"))["cells"]]
        except ValueError:  # being written
            return False
        return sum(bool(cell.get("outputs")) for cell in cells) >= count
    return len(found) >= count


def parameters(name: str, folder: Path) -> dict[str, Any]:
    """What a recipe needs beside its preset."""
    if name not in ("sft", "grpo"):
        return {}
    pytest.importorskip("trl", reason="needs the extra: pip install 'swebench-lab[train]'")
    from swebench_lab.training.model.tiny import make_tiny_model

    return {} if name == "sft" else {"model": str(make_tiny_model(folder / "tiny"))}


def kill(name: str, folder: Path, given: dict[str, Any], pattern: str, count: int) -> None:
    """Run a recipe until it is in the middle, and kill it."""
    going = f"run_recipe({name!r}, 'smoke', {str(folder)!r}, progress=False, **{given!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from swebench_lab.experiments.recipe_runs import run_recipe; {going}"],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    ends = time.monotonic() + 240
    while not reached(folder, pattern, count):
        assert process.poll() is None and time.monotonic() < ends, "it was over before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "metrics.json").exists()
    for _ in range(30):  # its kernel sees that it is alone, and ends
        with (folder / ".lock").open("w") as held:
            try:
                lock(held, wait=False)
                return
            except OSError:
                time.sleep(1)
    pytest.fail("the run that was killed still holds its folder")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MIDDLE)
def test_a_recipe_that_was_killed_in_the_middle_ends_with_the_same_metrics(name: str, tmp_path: Path) -> None:
    given = parameters(name, tmp_path)
    whole = lab.run_recipe(name, preset="smoke", run_dir=tmp_path / "whole", progress=False, **given)
    folder = tmp_path / "killed"
    for pattern, count in MIDDLE[name]:
        kill(name, folder, given, pattern, count)
    again = lab.run_recipe(name, preset="smoke", run_dir=folder, progress=False, **given)
    assert facts(again.metrics) == facts(whole.metrics)
    for made in ("attempts.jsonl", "rollouts/attempts.jsonl"):
        if (rows := folder / made).exists():
            assert len(rows.read_text().splitlines()) == len((tmp_path / "whole" / made).read_text().splitlines())
    for weights in folder.glob("*/final/*.safetensors"):
        assert weights.read_bytes() == (tmp_path / "whole" / weights.relative_to(folder)).read_bytes()


def test_two_by_three_settings_under_three_seeds_of_a_recipe(tmp_path: Path) -> None:
    grid = {"noise": [0.0, 1.0], "attempts": [1, 2, 3]}
    ablation = lab.sweep(
        "quickstart",
        grid,
        metric="noisy.per_task",
        preset="smoke",
        n_tasks=1,
        workers=2,
        run_dir=tmp_path,
        progress=False,
    )
    frame = ablation.to_frame()
    assert frame.height == 18 and set(frame["status"]) == {"completed"}, repr(ablation)
    verdicts = ablation.verdicts()
    print(ablation, verdicts)
    assert verdicts.height == 6
    figure = ablation.figure()
    file = Path(os.environ.get("SWEBENCH_LAB_PICTURES", tmp_path)) / "sweep.png"
    figure.savefig(file)
    assert file.stat().st_size > 5000
