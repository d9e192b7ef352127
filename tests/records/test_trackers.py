"""Trackers: the counts of a collection arrive in somebody's tracker, and what it breaks on breaks nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import ConfigError
from swebench_lab.records import trackers
from swebench_lab.records.trackers import TRACKERS, Report, check_tracker, look
from tests.conftest import make_task

STAND_IN = """
import json, os

class Run:
    def log(self, values, step):
        if os.environ.get("BREAKS"):
            raise ConnectionError("no route")
        with open(os.environ["TOLD"], "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\\n")
    def finish(self):
        with open(os.environ["TOLD"], "a") as file:
            file.write(json.dumps({"finished": True}) + "\\n")

def init(project, name, config, embed):
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps({"project": project, "name": name, **config}) + "\\n")
    return Run()
"""
"""A package with trackio's interface that writes down what it is told."""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    import sys

    (tmp_path / "packages" / "trackio").mkdir(parents=True)
    (tmp_path / "packages" / "trackio" / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("TOLD", str(tmp_path / "told.jsonl"))
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    yield tmp_path / "told.jsonl"
    sys.modules.pop("trackio", None)


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_counts_arrive_with_what_was_run_and_how_to_look_at_it(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_EVERY", 0.0)
    report = Report("trackio", "first", {"policy": "p"}, tmp_path / "runs" / "first")
    for status, reward in (("resolved", 1.0), ("unresolved", 0.0), ("not graded", None)):
        report.add(status, reward)
    report.close()
    report.close()
    begun, one, two, three, last, end = rows(told)
    assert (begun["project"], begun["name"], begun["policy"]) == ("swebench-lab", "first", "p")
    assert begun["look"] == f"swebench-lab view {tmp_path}/runs/first" and end == {"finished": True}
    assert one["resolved_rate"] == 1.0 and (two["step"], two["resolved_rate"], two["mean_reward"]) == (2, 0.5, 0.5)
    assert three == last and (three["not_graded"], three["resolved_rate"]) == (1, 0.5), "not graded is no failure"


def test_a_viewer_that_runs_is_linked_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(trackers.VIEWER, "http://127.0.0.1:8765/")
    assert look(tmp_path / "a run") == "http://127.0.0.1:8765/#attempts?f.run=a%20run"


def test_a_collection_and_an_evaluation_are_reported_and_a_broken_tracker_ends_neither(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = lab.load_tasks("demo").sample(1, seed=1)
    with lab.SandboxFactory("namespace") as sandboxes:
        run = tmp_path / "runs" / "x"
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=run, report_to="trackio")
        made = collector.collect(lab.Agent(lab.Teacher(tasks)), tasks, attempts=2, progress=False)
        assert rows(told)[-2]["resolved"] == 2 and rows(told)[0]["run_dir"] == str(run)
        told.unlink()
        predictions = {tasks[0].id: made[0].trajectory.patch}
        verdicts = lab.Evaluator(sandboxes).evaluate(predictions, tasks, progress=False, report_to="trackio")
        assert verdicts.counts["resolved"] == rows(told)[-2]["resolved"] == 1
        told.unlink()
        monkeypatch.setenv("BREAKS", "1")
        again = collector.collect(lab.Agent(lab.NullPolicy()), tasks, progress=False)
        assert len(again.unresolved) == 1 and len(rows(told)) == 1, "after a failure nothing more is reported"


def test_a_tracker_that_is_not_there_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="known are none, trackio, wandb, mlflow, tensorboard"):
        lab.RolloutCollector(lab.SandboxFactory("namespace"), report_to="paper")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        lab.Evaluator(lab.SandboxFactory("namespace")).evaluate({}, [make_task()], report_to="wandb")


@pytest.mark.parametrize("kind", TRACKERS[1:])
def test_each_tracker_takes_a_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec(kind) is None:
        pytest.skip(f"the package {kind} is not installed")
    for name in ("TRACKIO_DIR", "WANDB_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")  # mlflow-skinny has no database
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    report = Report(check_tracker(kind), "run", {"tasks": 1}, tmp_path)
    assert report._tracker is not None
    report.add("resolved", 1.0)
    assert report._tracker is not None, "it took the first values"
    report.close()
    assert any(path.is_file() for path in tmp_path.rglob("*"))
