"""Accounting: every second of an attempt is told of once, and tokens and money are where they were spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

import swebench_lab as lab
from swebench_lab.experiments import plots
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.rollout import Rollouts
from swebench_lab.records.task import TaskView
from swebench_lab.records.timeline import KINDS
from tests.samples import some_rollouts

THINKS = 0.1


def answer(view: TaskView, messages: Sequence[Message], step: int) -> Reply:
    time.sleep(THINKS)
    call = Call("bash", {"command": "sleep 0.2"}) if step < 2 else Call("submit")
    return Reply(render_xml(call), prompt_tokens=100, completion_tokens=10, cached_tokens=60, cost=0.5, seconds=THINKS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Rollouts:
    """Four attempts, two at a time, of which the model answers one."""
    with lab.SandboxFactory("namespace") as sandboxes:
        task = lab.load_tasks("demo")[0]
        sandboxes.prepare([task])
        run = tmp_path_factory.mktemp("run")
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=run, stages=lab.Stages(model=1))
        collector.collect(lab.Agent(lab.ScriptedPolicy(answer)), task, attempts=4, progress=False)
        return Rollouts(lab.attach(run))  # as they are read back


def test_the_timeline_tells_of_every_kind_and_of_no_second_twice(made: Rollouts) -> None:
    frame = made.timeline()
    assert set(frame["kind"]) == set(KINDS)
    assert frame["start"].min() == 0
    assert (frame["end"] >= frame["start"]).all()
    for (_, attempt), own in frame.group_by("task", "attempt"):
        ordered = own.sort("start")
        assert (ordered["start"][1:] >= ordered["end"][:-1] - 0.02).all(), f"intervals of attempt {attempt} overlap"
        told, whole = own["seconds"].sum(), own["end"].max() - own["start"].min()
        assert whole - told < 0.35 * whole + 0.2, "most of an attempt's time must be told of"
    model = frame.filter(pl.col("kind") == "model").sort("start")
    assert model.height == 12
    assert model["seconds"].min() >= THINKS
    assert (model["start"][1:] >= model["end"][:-1] - 0.02).all(), "one call of the model at a time"
    assert frame.filter(pl.col("kind") == "tool")["seconds"].sum() >= 8 * 0.2
    assert frame.filter((pl.col("kind") == "queue") & pl.col("step").is_not_null())["seconds"].sum() > THINKS
    assert frame.filter(pl.col("kind") == "grade").height == 4


def test_tokens_and_money_add_up_in_every_frame(made: Rollouts) -> None:
    columns = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost")
    sums = [
        tuple(frame[name].sum() for name in columns) for frame in (made.timeline(), made.to_steps(), made.to_frame())
    ]
    assert set(sums) == {(1200, 120, 720, 6.0)}
    steps, attempts = made.to_steps(), made.to_frame()
    assert steps.height == 12
    assert steps.filter(pl.col("tool") == "bash")["tool_seconds"].min() >= 0.2
    assert (attempts["sandbox_seconds"] > 0).all()
    assert attempts["queue_seconds"].sum() == pytest.approx(
        made.timeline().filter(pl.col("kind") == "queue")["seconds"].sum()
    )


def test_records_that_do_not_say_are_told_from_their_steps(made: Rollouts) -> None:
    old = Rollouts(replace(r, trajectory=replace(r.trajectory, spans=())) for r in made)
    frame = old.timeline()
    assert set(frame["kind"]) == {"model", "tool", "grade"}
    assert frame.filter(pl.col("kind") == "tool")["seconds"].sum() >= 8 * 0.2
    assert not lab.Rollouts().timeline().height
    assert lab.Rollouts().to_steps().columns == some_rollouts().to_steps().columns


def test_the_figure_shows_each_kind(made: Rollouts, tmp_path: Path) -> None:
    figure = plots.stages(made)
    shown = {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}
    assert set(KINDS) <= shown
    figure.savefig(tmp_path / "stages.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.stages(Rollouts())


def test_the_figure_of_many_attempts_has_one_shape_a_kind_and_room_for_its_sums(made: Rollouts) -> None:
    one = made[0]
    many = Rollouts(replace(one, trajectory=replace(one.trajectory, attempt=n)) for n in range(500))
    figure = plots.stages(many)
    above, below = figure.axes
    assert len(above.collections) == len(KINDS), "not one for each of thousands of spans"
    assert sum(len(shape.get_paths()) for shape in above.collections) == many.timeline().height
    figure.canvas.draw()
    names = sorted(label.get_window_extent().y0 for label in below.get_yticklabels())
    gaps = [b - a for a, b in pairwise(names)]
    assert min(gaps) > 10, f"names of the kinds are printed over each other: {gaps} pixels apart"
