"""Tasks: choosing, splitting without leaks, and reading what the field stores, with errors that name the place."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import TaskError
from swebench_lab.records.patches.diff import reverse_patch
from swebench_lab.records.task import Task, Tasks
from tests.conftest import GOLD, make_task

SWEBENCH_ROW = {
    "repo": "pallets/flask",
    "instance_id": "pallets__flask-5014",
    "base_commit": "7ee9ceb71e868944a46e1ff00b506772a53a4f1d",
    "patch": GOLD,
    "test_patch": GOLD.replace("calc.py", "test_calc.py"),
    "problem_statement": "Require a non-empty name for Blueprints",
    "hints_text": "the fix is to raise",
    "created_at": "2023-03-04T18:36:21Z",
    "version": "2.3",
    "FAIL_TO_PASS": '["tests/test_blueprints.py::test_empty_name_not_allowed"]',
    "PASS_TO_PASS": '["tests/test_blueprints.py::test_a", "tests/test_blueprints.py::test_b[x-y]"]',
    "environment_setup_commit": "182ce3dd15dfa3537391c3efaf9c3ff407d134d4",
    "difficulty": "<15 min fix",
}
SWESMITH_ROW = {
    "instance_id": "owner__name.abcdef12.func_basic__00112233",
    "patch": reverse_patch(GOLD),
    "FAIL_TO_PASS": ["test_calc.py::test_add"],
    "PASS_TO_PASS": ["test_calc.py::test_zero"],
    "image_name": "swebench/swesmith.x86_64.owner_1776_name.abcdef12",
    "repo": "swesmith/owner__name.abcdef12",
    "problem_statement": "add() subtracts",
}


def write_jsonl(path: Path, *lines: object) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8")
    return path


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_swebench_row_is_read_column_by_column(tmp_path: Path) -> None:
    (task,) = lab.load_tasks(write_jsonl(tmp_path / "rows.jsonl", SWEBENCH_ROW))
    assert task.id == "pallets__flask-5014"
    assert task.fail_to_pass == ("tests/test_blueprints.py::test_empty_name_not_allowed",)
    assert task.pass_to_pass == ("tests/test_blueprints.py::test_a", "tests/test_blueprints.py::test_b[x-y]")
    assert (task.gold_patch, task.version, task.difficulty) == (GOLD, "2.3", "<15 min fix")
    assert not task.setup_patch and not task.hide_tests


def test_a_swesmith_patch_is_turned_round_and_names_its_commit() -> None:
    (task,) = lab.load_tasks([SWESMITH_ROW])
    assert task.setup_patch == SWESMITH_ROW["patch"]
    assert "+    return a + b" in task.gold_patch and "-    return a - b" in task.gold_patch
    assert (task.repo, task.base_commit, task.hide_tests) == ("owner/name", "abcdef12", True)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize(
    ("schema", "row"), [("lab", SWEBENCH_ROW), ("swe-bench", SWEBENCH_ROW), ("swe-smith", SWESMITH_ROW)]
)
def test_saving_in_every_schema_and_form_and_reading_back_gives_the_same_tasks(
    tmp_path: Path, ending: str, schema: str, row: dict[str, object]
) -> None:
    tasks = lab.load_tasks([row])
    assert lab.load_tasks(tasks.save(tmp_path / f"tasks{ending}", schema)) == tasks


def test_unknown_columns_and_odd_text_survive_the_own_form(tmp_path: Path) -> None:
    task = make_task(extra={"meta": {"a": [1, None]}, "score": 0.5}, spec={"packages": ["x==1"]}, issue="a\u2028b\x00c")
    assert lab.load_tasks(Tasks([task]).save(tmp_path / "t.jsonl"))[0] == task


def test_a_policy_sees_no_answer(task: Task) -> None:
    shown = repr(task.view())
    assert task.issue.split("\n")[0] in shown
    for secret in (*task.fail_to_pass, *task.pass_to_pass, "return a + b"):
        assert secret not in shown


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"FAIL_TO_PASS": None}, ["'FAIL_TO_PASS'", "missing"]),
        ({"FAIL_TO_PASS": "not json"}, ["'FAIL_TO_PASS'", "JSON list"]),
        ({"FAIL_TO_PASS": [1]}, ["'FAIL_TO_PASS'", "list of test ids"]),
        ({"patch": 5}, ["'patch'", "expected text", "int 5"]),
        ({"repo": " "}, ["'repo'", "empty"]),
        ({"instance_id": ...}, ["'instance_id'", "missing"]),
    ],
)
def test_a_wrong_field_names_file_line_and_field(tmp_path: Path, change: dict[str, object], names: list[str]) -> None:
    bad = {k: v for k, v in {**SWEBENCH_ROW, "instance_id": "x__y-2", **change}.items() if v is not ...}
    path = write_jsonl(tmp_path / "rows.jsonl", SWEBENCH_ROW, bad)
    with pytest.raises(TaskError) as caught:
        lab.load_tasks(path)
    for part in (f"{path}:2", *names):
        assert part in str(caught.value)


def test_broken_json_names_its_line_and_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", "{oops", SWEBENCH_ROW, "[]", '"text"')
    with pytest.raises(TaskError, match="3 of 4 rows are wrong") as caught:
        lab.load_tasks(path)
    for part in (f"{path}:1, column 2: not JSON", f"{path}:3", f"{path}:4"):
        assert part in str(caught.value)


def test_a_row_of_a_newer_schema_or_with_unknown_fields_is_refused(task: Task) -> None:
    with pytest.raises(TaskError, match="another version"):
        lab.load_tasks([{**task.to_dict(), "schema": 99}])
    with pytest.raises(TaskError, match="'colour': not a field"):
        lab.load_tasks([{**task.to_dict(), "colour": "red"}])


@pytest.mark.parametrize("source", ["nowhere.jsonl", "demos", "a/b.parquet"])
def test_a_source_that_is_nothing_is_a_clear_error(source: str) -> None:
    with pytest.raises(TaskError, match="'demo'"):
        lab.load_tasks(source)


def test_an_unknown_ending_and_a_damaged_parquet_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(TaskError, match=r"unknown ending '\.csv'"):
        lab.load_tasks(tmp_path / "rows.csv")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(TaskError, match="cannot be read as parquet"):
        lab.load_tasks(tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="not UTF-8"):
        lab.load_tasks(tmp_path / "rows.jsonl")


def test_two_tasks_with_one_id_are_refused(task: Task) -> None:
    with pytest.raises(TaskError, match="two tasks have the id 'owner__name-0'"):
        Tasks([task, task])


def test_two_rows_with_one_id_are_both_named_and_one_row_is_a_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", SWEBENCH_ROW, {**SWEBENCH_ROW, "version": "2.4"})
    with pytest.raises(TaskError, match=rf"{path}:2: the id 'pallets__flask-5014' is that of {path}:1 too"):
        lab.load_tasks(path)
    (tmp_path / "one.json").write_text(json.dumps(SWEBENCH_ROW))
    assert lab.load_tasks(tmp_path / "one.json").ids == ("pallets__flask-5014",)


def test_a_swebench_task_is_no_swesmith_row_and_the_other_way_round(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no setup patch"):
        lab.load_tasks([SWEBENCH_ROW]).save(tmp_path / "a.jsonl", "swe-smith")
    with pytest.raises(TaskError, match="setup patch"):
        lab.load_tasks([SWESMITH_ROW]).save(tmp_path / "a.jsonl", "swe-bench")


# --- choosing -------------------------------------------------------------------------------------------------------


def many(repos: dict[str, int]) -> Tasks:
    return Tasks(make_task(f"{repo}-{i}", repo=repo) for repo, n in repos.items() for i in range(n))


def test_filter_takes_a_pattern_a_function_and_fields() -> None:
    tasks = many({"a": 3, "b": 2})
    assert tasks.filter("b-1$").ids == ("owner__name-b-1",)
    assert len(tasks.filter(repo="a")) == 3
    assert len(tasks.filter(lambda t: t.id.endswith("0"), repo="a")) == 1
    with pytest.raises(TaskError, match="not a regular expression"):
        tasks.filter("(")
    with pytest.raises(TaskError, match="'colour' is not a field"):
        tasks.filter(colour="red")


def test_slices_and_ids_and_membership() -> None:
    tasks = many({"a": 3})
    assert isinstance(tasks[1:], Tasks) and len(tasks[1:]) == 2
    assert tasks["owner__name-a-1"] is tasks[1]
    assert "owner__name-a-1" in tasks and tasks[0] in tasks and "x" not in tasks
    with pytest.raises(KeyError, match="no task has the id"):
        tasks["x"]


def test_sample_is_the_same_for_a_seed_and_keeps_order() -> None:
    tasks = many({"a": 50})
    assert tasks.sample(10, seed=3) == tasks.sample(10, seed=3) != tasks.sample(10, seed=4)
    order = [tasks.ids.index(i) for i in tasks.sample(10).ids]
    assert order == sorted(order)
    assert tasks.sample(99) == tasks


@pytest.mark.parametrize("seed", range(5))
def test_split_never_cuts_a_group_and_loses_nothing(seed: int) -> None:
    tasks = many({f"r{i}": 5 + i for i in range(12)})
    train, test = tasks.split(test=0.25, by="repo", seed=seed)
    assert not set(train.repos) & set(test.repos)
    assert sorted(train.ids + test.ids) == sorted(tasks.ids)
    assert abs(len(test) / len(tasks) - 0.25) < 0.08
    assert tasks.split(test=0.25, seed=seed) == (train, test)
    assert {task.split for task in train} == {"train"} and {task.split for task in test} == {"test"}
    assert test.filter(split="test") == test and not len(test.filter(split="train"))
    assert [replace(task, split="") for task in train] == [replace(tasks[name], split="") for name in train.ids]


def test_split_warns_when_groups_do_not_allow_the_share() -> None:
    tasks = many({"big": 90, "small": 10})
    with pytest.warns(UserWarning, match=r"asked for 50% in test, got"):
        split = tasks.split(test=0.5)
    assert len(split.train) and len(split.test)
    assert split.fraction in (0.1, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert many({"a": 80, "b": 20}).split(test=0.2).fraction == 0.2


def test_split_by_an_empty_or_unknown_field_is_an_error() -> None:
    with pytest.raises(TaskError, match="has none"):
        many({"a": 3}).split(by="family")
    with pytest.raises(TaskError, match="not a field"):
        many({"a": 3}).split(by="colour")
    with pytest.raises(TaskError, match="between 0 and 1"):
        many({"a": 3}).split(test=1.5)


def test_frames_have_one_row_a_task_even_when_empty() -> None:
    frame = many({"a": 3}).to_frame()
    assert frame.height == 3 and frame["pass_to_pass"].to_list() == [2, 2, 2]
    assert Tasks().to_frame().columns == frame.columns


def test_rich_reprs_are_inert() -> None:
    html = make_task(issue="<script>alert(1)</script>\x1b[31m")._repr_html_()
    assert "<script" not in html and "\x1b" not in html
    assert "Tasks(1 tasks of 1 repositories)" in Tasks([make_task()])._repr_html_()
