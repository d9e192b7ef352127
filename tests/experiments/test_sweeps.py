"""Sweeps: every run in a process of its own, resumed and never mixed up, stopped by budget or for being hopeless."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import RecipeError, SweepError


def chance(skill, seed, run_dir):
    """A function of a user: 30 tasks, resolved by chance."""
    with (run_dir / "calls").open("a") as file:
        file.write("x")
    draw = random.Random(f"{seed}/{skill}")
    return {f"t{i}": float(draw.random() < skill) for i in range(30)}


def calls(sweep):
    return {(run.arm, run.seed): len((run.folder / "calls").read_text()) for run in sweep.runs}


def test_two_by_three_arms_under_three_seeds_give_the_frame_the_verdicts_and_the_figure(tmp_path):
    def measured(skill, bonus, seed):
        draw = random.Random(f"{seed}/{skill}/{bonus}")
        return {f"t{i}": float(draw.random() < skill + bonus) for i in range(60)}

    grid = {"skill": [0.2, 0.5], "bonus": [0.0, 0.1, 0.4]}
    sweep = lab.sweep(measured, grid, seeds=range(3), run_dir=tmp_path, workers=4, progress=False)
    frame = sweep.to_frame()
    assert frame.height == 18
    assert set(frame["status"]) == {"completed"}
    assert frame["skill"].to_list()[:9] == [0.2] * 9
    verdicts = {row["arm"]: row for row in sweep.verdicts().iter_rows(named=True)}
    assert verdicts["skill=0.2, bonus=0.0"]["verdict"] == ""
    assert verdicts["skill=0.5, bonus=0.4"]["verdict"] == "better"
    assert verdicts["skill=0.5, bonus=0.4"]["low"] > 0.3
    assert sweep.figure()._repr_png_()[:4] == b"\x89PNG"
    assert "6 arms, 18 runs: 18 completed" in repr(sweep)
    assert "skill=0.5, bonus=0.4" in sweep._repr_html_()


def test_running_again_executes_nothing_twice_and_failures_are_tried_again(tmp_path):
    def sometimes(skill, seed, run_dir):
        with (run_dir / "calls").open("a") as file:
            file.write("x")
        if skill == 0.2 and not (run_dir.parent / "mended").exists():
            raise RuntimeError("the disk was full")
        return 1.0

    def go():
        return lab.sweep(sometimes, {"skill": [0.1, 0.2]}, seeds=[5], run_dir=tmp_path, progress=False)

    first = go()
    failed = first.runs[1]
    assert (first.runs[0].status, failed.status) == ("completed", "failed")
    assert failed.error == "RuntimeError: the disk was full"
    assert "Traceback" in (failed.folder / "log.txt").read_text()
    (failed.folder.parent / "mended").touch()
    second = go()
    assert [run.status for run in second.runs] == ["completed", "completed"]
    assert list(calls(second).values()) == [1, 2]


def test_other_code_in_the_same_folder_is_refused(tmp_path):
    lab.sweep(lambda skill, seed: 1.0, [{"skill": 1}], seeds=[0], run_dir=tmp_path, progress=False)
    with pytest.raises(SweepError, match="another run_dir"):
        lab.sweep(lambda skill, seed: 2.0, [{"skill": 1}], seeds=[0], run_dir=tmp_path, progress=False)


def test_a_hopeless_arm_is_stopped_early_and_said_so(tmp_path):
    arms = [{"skill": 0.9}, {"skill": 0.05}, {"skill": 0.88}, {"skill": 0.91}]
    sweep = lab.sweep(chance, arms, seeds=range(4), run_dir=tmp_path, early_stop=True, workers=1, progress=False)
    told = {arm: [run.status for run in sweep.runs if run.arm == arm] for arm in sweep.arms}
    assert told["skill=0.05"] == ["completed", "completed", "stopped early", "stopped early"]
    assert told["skill=0.88"] == ["completed"] * 4
    assert sweep.verdicts().filter(sweep.verdicts()["arm"] == "skill=0.05")["verdict"].item() == "worse"


def test_the_budget_starts_nothing_new_and_a_rerun_goes_on(tmp_path):
    def slow(skill, seed):
        time.sleep(0.6)
        return 1.0

    spent = lab.sweep(slow, {"skill": [1, 2, 3, 4]}, seeds=[0], run_dir=tmp_path, budget=2.5, progress=False)
    statuses = [run.status for run in spent.runs]
    assert statuses[0] == "completed"
    assert statuses[-1] == "not run"
    rest = lab.sweep(slow, {"skill": [1, 2, 3, 4]}, seeds=[0], run_dir=tmp_path, progress=False)
    assert {run.status for run in rest.runs} == {"completed"}


def test_a_killed_run_is_told_as_failed_with_what_it_printed(tmp_path):
    def dies(skill, seed):
        print("about to go", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    sweep = lab.sweep(dies, [{"skill": 1}], seeds=[0], run_dir=tmp_path, progress=False)
    assert sweep.runs[0].status == "failed"
    assert "about to go" in sweep.runs[0].error
    assert sweep.verdicts()["mean"].item() is None


def test_ctrl_c_ends_what_is_going_and_keeps_what_is_over(tmp_path):
    script = tmp_path / "going.py"
    script.write_text(
        textwrap.dedent(f"""
        import time
        import swebench_lab as lab

        def work(n, seed, run_dir):
            (run_dir / "started").touch()
            time.sleep(600 if n else 0)
            return 1.0

        lab.sweep(work, {{"n": [0, 1]}}, seeds=[0], run_dir={str(tmp_path / "sweep")!r}, progress=False)
        """)
    )
    going = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    )
    while len(list(tmp_path.glob("sweep/*/*/started"))) < 2:
        assert going.poll() is None
        time.sleep(0.05)
    going.send_signal(signal.SIGINT)
    assert going.wait(30) != 0
    kept = [json.loads(path.read_text())["status"] for path in tmp_path.glob("sweep/n=0*/*/outcome.json")]
    assert kept == ["completed"]


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({}, {}, "holds no setting"),
        ({"skill": 0.5}, {}, "must be a list of values"),
        ([{"skill": 1}, {"skill": 1}], {}, "duplicate setting"),
        ({"skil": [1]}, {}, "no parameter 'skil'"),
        ({"skill": [1]}, {"baseline": "x"}, "no arm is 'x'"),
        ({"skill": [1]}, {"executor": "slurm"}, "unknown executor"),
        ({"skill": [1]}, {"seeds": []}, "no seed"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_starts(grid, options, message, tmp_path):
    with pytest.raises(SweepError, match=message):
        lab.sweep(chance, grid, run_dir=tmp_path / "s", progress=False, **options)
    assert not list(tmp_path.glob("s/*/*/calls"))


def test_a_recipes_parameters_are_checked_before_anything_starts(tmp_path):
    with pytest.raises(RecipeError, match="no parameter 'nois'"):
        lab.sweep("quickstart", {"nois": [0.1]}, run_dir=tmp_path / "s", progress=False)
    assert not (tmp_path / "s").exists()


def test_a_recipe_is_swept_and_measured_by_task(tmp_path):
    notebook = tmp_path / "tiny.ipynb"
    cell = {"cell_type": "code", "execution_count": None, "metadata": {"tags": ["parameters"]}, "outputs": []}
    body = (
        "import json, random\nfrom pathlib import Path\ndraw = random.Random(seed)\n"
        "rates = {f't{i}': float(draw.random() < skill) for i in range(20)}\n"
        "Path(run_dir, 'metrics.json').write_text(json.dumps({'a': {'rates': rates}}))\n"
    )
    cells = [
        {**cell, "source": 'skill: float = 0.1\nseed: int = 0\nrun_dir: str = "x"'},
        {**cell, "metadata": {}, "source": body},
    ]
    notebook.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    sweep = lab.sweep(
        notebook, {"skill": [0.1, 0.9]}, seeds=[0], metric="a.rates", run_dir=tmp_path / "s", workers=2, progress=False
    )
    assert [len(run.tasks) for run in sweep.runs] == [20, 20]
    assert sweep.verdicts()["verdict"].to_list() == ["", "better"]
    assert (sweep.runs[0].folder / "tiny.ipynb").is_file()


@pytest.mark.slow
def test_seeds_of_the_quickstart_try_the_same_tasks_so_that_its_sweep_has_a_verdict(tmp_path):
    sweep = lab.sweep(
        "quickstart",
        {"noise": [0.0, 1.0]},
        seeds=[0, 1],
        metric="noisy.per_task",
        preset="smoke",
        run_dir=tmp_path,
        progress=False,
    )
    assert len({frozenset(run.tasks) for run in sweep.runs}) == 1
    assert sweep.verdicts()["difference"].to_list() == [None, -1.0]


def test_arms_whose_seeds_share_no_task_are_told_as_that(tmp_path):
    def other_tasks(skill, seed):
        return {f"t{seed}": skill}

    sweep = lab.sweep(other_tasks, {"skill": [0.1, 0.9]}, seeds=[0, 1], run_dir=tmp_path, progress=False)
    assert sweep.verdicts()["verdict"].to_list() == ["", "no task in common"]
