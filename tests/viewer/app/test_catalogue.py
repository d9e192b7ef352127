"""The viewer's index: it finds every run and word, keeps up, forgets what is gone, and answers filters and orders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swebench_lab.errors import RecordError
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.viewer.app.answers import Answers
from swebench_lab.viewer.app.catalogue import Catalogue
from swebench_lab.viewer.app.queries import Query, match_of
from tests.samples import a_rollout, some_rollouts
from tests.viewer.app.runs import said, write_runs


def read(folder: Path, index: Path) -> Catalogue:
    """An index that has read everything."""
    catalogue = Catalogue(folder, index)
    catalogue.refresh()
    while catalogue.read_words():
        pass
    return catalogue


def ask(catalogue: Catalogue, what: str, **asked: str) -> Any:
    answer = Answers(catalogue).get(what, {name.replace("__", "."): value for name, value in asked.items()})
    assert answer.status == 200, answer.text
    return json.loads(answer.text)


def found(catalogue: Catalogue, search: str) -> set[str]:
    return {row["task"] for row in ask(catalogue, "attempts", q=search)["rows"]}


def test_all_runs_below_a_folder_are_there_under_their_paths(tmp_path: Path) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    runs = ask(catalogue, "runs")
    assert [(run["run"], run["attempts"], run["tasks"]) for run in runs["runs"]] == [("a", 12, 6), ("deep/b", 12, 6)]
    assert runs["unread"] == 0
    assert [run["run"] for run in ask(read(tmp_path / "runs" / "a", tmp_path / "one"), "runs")["runs"]] == ["a"]


def test_a_word_is_found_wherever_it_stands_and_a_phrase_as_it_stands(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.append(said("AttributeError: zymurgy_first", 0), "r")
    run.append(said("first zymurgy", 1), "r")
    run.append(said("naïve ZYMURGIST", 2), "r")
    run.append(replace(said("x", 3), verdict=replace(said("x").verdict, log="a zymurgy in the log")), "r")
    catalogue = read(tmp_path, tmp_path / "index")
    tasks = [f"demo__textgrid.{n:04d}" for n in range(4)]
    assert found(catalogue, "zymurgy") == {tasks[0], tasks[1], tasks[3]}
    assert found(catalogue, "zymurgy_first") == {tasks[0]} and found(catalogue, '"first zymurgy"') == {tasks[1]}
    assert found(catalogue, "zymurg*") == set(tasks) and found(catalogue, "naive") == {tasks[2]}
    assert found(catalogue, "zymurgy nowhere") == set()
    for odd in ('"', "AND", "a OR", "body:", "*", "NEAR(", "^", "-x", "''; DROP TABLE attempts"):
        found(catalogue, odd)
    assert match_of('say "two words" st*') == '"say" AND "two words" AND "st" *'


def test_it_keeps_up_while_attempts_arrive_and_replaces_rewarded_ones(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    rollouts = list(some_rollouts())
    run.append(rollouts[0], "r")
    catalogue = read(tmp_path, tmp_path / "index")
    for rollout in rollouts[1:]:
        run.append(rollout, "r")
    assert catalogue.refresh() == 11 and catalogue.refresh() == 0
    (entry,) = [entry for key, entry in run.entries().items() if key == rollouts[0].key]
    run.reward_again(replace(rollouts[0], reward=0.25), entry, "other")
    assert catalogue.refresh() == 1
    rows = ask(catalogue, "attempts", sort="reward")["rows"]
    assert len(rows) == 12 and 0.25 in [row["reward"] for row in rows]
    assert Catalogue(tmp_path, tmp_path / "index").read_words() == 0, "another object keeps this index"


def test_an_attempt_made_again_after_its_set_up_failed_is_there_once(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    whole = a_rollout("resolved")
    died = a_rollout("not graded", steps=())
    run.append(replace(died, trajectory=replace(died.trajectory, snapshot="", stop="error")), "r")
    run.append(whole, "r")
    assert [row["verdict"] for row in ask(read(tmp_path, tmp_path / "index"), "attempts")["rows"]] == ["resolved"]


def test_a_run_that_is_removed_is_forgotten_and_one_of_another_version_is_named(tmp_path: Path) -> None:
    folder = write_runs(tmp_path / "runs")
    catalogue = read(folder, tmp_path / "index")
    (folder / "a").rename(tmp_path / "elsewhere")
    old = folder / "old"
    old.mkdir()
    (old / "rollouts.jsonl").write_text("{}\n")
    catalogue.refresh()
    runs = ask(catalogue, "runs")
    assert runs["refused"][0]["run"] == "old" and "runs convert" in runs["refused"][0]["why"]
    assert {row["run"] for row in ask(catalogue, "attempts")["rows"]} == {"deep/b"}


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"f__run": "=a"}, 12),
        ({"f__verdict": "=resolved"}, 13),
        ({"f__verdict": "!=resolved"}, 11),
        ({"f__task": "textgrid", "f__run": "=a"}, 4),
        ({"f__verdict": "!resolved"}, 1),
        ({"f__task": "100%_"}, 0),
        ({"f__reward": ">0.5"}, 13),
        ({"f__reward": "none"}, 1),
        ({"f__attempt": "1..3"}, 12),
        ({"f__cost": "none"}, 24),
        ({"f__steps": "7"}, 24),
        ({"q": "widest", "f__run": "=a", "f__attempt": "0"}, 5),
    ],
)
def test_filters(tmp_path: Path, filters: dict[str, str], count: int) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    assert ask(catalogue, "attempts", **filters)["counts"]["attempts"] == count


def test_every_column_sorts_and_unknown_values_come_last(tmp_path: Path) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    for column in ask(catalogue, "about")["columns"]:
        for way in ("", "-"):
            values = [row[column] for row in ask(catalogue, "attempts", sort=way + column)["rows"]]
            known = [value for value in values if value is not None]
            assert values[: len(known)] == known
            key = (lambda v: v.lower()) if known and isinstance(known[0], str) else (lambda v: v)
            assert known == sorted(known, key=key, reverse=bool(way)), column


def test_what_is_no_column_and_no_number_is_an_error_that_says_what_is() -> None:
    with pytest.raises(RecordError, match=r"DROP.* is no column; known are run"):
        Query(sort="'; DROP")
    with pytest.raises(RecordError, match="is no column"):
        Query.of({"f.nothing": "x"})
    with pytest.raises(RecordError, match="'many' is no number; write 5, >5"):
        Query.of({"f.steps": "many"}).where(str)


def test_advantages_are_rewards_less_the_mean_of_their_group(tmp_path: Path) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    rows = ask(catalogue, "attempts", f__run="=a", f__task="0002")["rows"]
    assert [(row["reward"], row["advantage"]) for row in rows] == [(1.0, 0.5), (0.0, -0.5)]
    alone = ask(catalogue, "attempts", f__run="=a", f__task="0001")["rows"]
    assert [row["advantage"] for row in alone] == [None, 0.0]


def test_tasks_are_grouped_with_their_outcomes(tmp_path: Path) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    groups = ask(catalogue, "groups", sort="-resolved")
    assert groups["counts"] == {"groups": 12} and groups["rows"][0]["resolved"] == 2
    assert [one["verdict"] for one in groups["rows"][0]["outcomes"]] == ["resolved", "resolved"]
    assert ask(catalogue, "groups", q="absentword")["rows"] == []


def test_neighbours_are_those_of_the_table_that_was_asked_for(tmp_path: Path) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    asked = {"f__verdict": "=resolved", "sort": "-task"}
    rows = ask(catalogue, "attempts", **asked)["rows"]
    for place, row in enumerate(rows):
        told = ask(catalogue, "attempt", run=row["run"], id=row["id"], **asked)
        near = [None, *({"run": r["run"], "id": r["id"]} for r in rows), None]
        assert (told["previous"], told["next"]) == (near[place], near[place + 2])
        assert told["number"] == place + 1 and told["total"] == len(rows)


def test_comparing_says_what_was_gained_and_what_was_lost(tmp_path: Path) -> None:
    catalogue = read(write_runs(tmp_path / "runs"), tmp_path / "index")
    sides = ask(catalogue, "sides")
    assert [(side["run"], side["policy"]) for side in sides] == [("a", "noisy"), ("deep/b", "teacher")]
    told = ask(catalogue, "compare", a=sides[0]["side"], b=sides[1]["side"])
    assert sum(told["counts"].values()) == 6 and told["names"] == ["a · noisy", "deep/b · teacher"]
    assert "difference" in told["statistics"] and "exact p" in told["statistics"]
    back = ask(catalogue, "compare", a=sides[1]["side"], b=sides[0]["side"])
    assert back["counts"]["lost"] == told["counts"]["gained"]
    ids = {side: told["tasks"][0][side][0] for side in "ab"}
    page = Answers(catalogue).get(
        "pair", {f"{s}{k}": ids[s]["run" if k == "run" else "id"] for s in "ab" for k in ("run", "id")}
    )
    assert page.kind == "text/html" and "The two patches are identical." in page.text
