"""Compare and Gallery: which tasks were gained and lost, every attempt in sight, and the pages behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.records.rollout import Rollouts
from tests.samples import a_rollout, a_task
from tests.viewer.test_page import HOSTILE, Reader


def attempts(outcomes: dict[str, list[str]], policy: str) -> Rollouts:
    return Rollouts(
        [
            a_rollout(status, a_task(task), number, policy)
            for task, statuses in outcomes.items()
            for number, status in enumerate(statuses)
        ],
        policy,
    )


YES, NO, NONE = "resolved", "unresolved", "not graded"
BEFORE = {"t1": [NO, NO], "t2": [YES, YES], "t3": [YES, YES], "t4": [NO, NO], "t5": [NONE], "only-a": [YES]}
AFTER = {"t1": [YES, NO], "t2": [NO, NO], "t3": [YES, NONE], "t4": [NO, NO], "t5": [YES], "only-b": [YES]}


def test_tasks_gained_and_lost_are_told() -> None:
    found = lab.CompareView(attempts(BEFORE, "before"), attempts(AFTER, "after"))
    assert found.gained == ["t1"] and found.lost == ["t2"]
    assert found.counts == {"gained": 1, "lost": 1, "kept": 1, "never": 1, "not graded": 1}
    assert found.only == (["only-a"], ["only-b"])
    frame = found.frame
    assert frame.filter(task="t1").select("change", "a_resolved", "b_resolved", "b_attempts").row(0) == (
        "gained",
        0.0,
        0.5,
        2,
    )
    assert frame.filter(task="t5")["a_resolved"].to_list() == [None], "not graded is no zero"
    assert "'before' → 'after'" in repr(found) and "1 gained" in found._repr_html_()
    assert found.step("t1", "b", 1).model.rollout.trajectory.attempt == 1
    assert "attempt 1" in found.side_by_side("t1")._repr_html_()


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(lab.RecordError, match="no task in common"):
        lab.CompareView(attempts({"a": [YES]}, "x"), attempts({"b": [YES]}, "y"))


def test_a_gallery_shows_every_attempt() -> None:
    gallery = lab.Gallery(attempts(BEFORE, "before"))
    assert gallery.frame.columns == ["task", "0", "1"]
    assert gallery.frame.filter(task="t5").row(0) == ("t5", NONE, None)
    html = gallery._repr_html_()
    assert html.count("✓") == 5 and html.count("✗") == 4 and html.count(">?<") == 1
    assert gallery.step("t2").model.rollout.task.id == "t2"


def test_the_pages_of_a_comparison_link_to_every_attempt(tmp_path: Path) -> None:
    index = lab.CompareView(attempts(BEFORE, "before"), attempts(AFTER, "after")).write(tmp_path / "compared")
    links = [str(a["href"]) for a in Reader(index.read_text("utf-8")).all("a")]
    assert len(links) == len(set(links)) == 9 + 9
    assert all((index.parent / link).is_file() for link in links)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    task = replace(a_task("t"), id=f"t{HOSTILE}")
    side = Rollouts([a_rollout("unresolved", task, policy=HOSTILE)], HOSTILE)
    found = lab.CompareView(side, side)
    pages = [found._repr_html_(), lab.Gallery(side)._repr_html_(), found.side_by_side(task.id)._repr_html_()]
    pages.append(found.write(tmp_path).read_text("utf-8"))
    for html in pages:
        read = Reader(html)
        assert {name for name, _ in read.elements}.isdisjoint({"img", "script", "iframe"})
        assert not [a for _, given in read.elements for a in given if a.startswith("on")]
