"""Schemas: one hand-written row of every dataset the field uses is read, written and read back."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TaskError
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.task import Task, Tasks, answer_digest
from swebench_lab.tasks.schemas import WRITERS, read_row, schema_of
from tests.conftest import GOLD, make_task
from tests.records.test_tasks import SWEBENCH_ROW, SWESMITH_ROW

SWEBENCH5_ROW = {
    **SWEBENCH_ROW,
    "image": "swebench/sweb.eval.x86_64.pallets_1776_flask-5014:latest",
    "eval_script": "#!/bin/bash\ncd /testbed\npytest -rA tests/test_blueprints.py\n",
    "log_parser": "parse_log_pytest",
    "eval_type": "pass_and_fail",
}
SWEGYM_ROW = {
    **{k: v for k, v in SWEBENCH_ROW.items() if k not in ("environment_setup_commit", "difficulty")},
    "FAIL_TO_PASS": ["tests/test_a.py::test_x"],
    "PASS_TO_PASS": [],
}
EXTRA_ROW = {**SWEGYM_ROW, "meta": {"failed_lite_validators": ["H1"], "has_test_patch": True, "is_lite": False}}
REBENCH_ROW = {
    **SWEGYM_ROW,
    "install_config": {
        "python": "3.9",
        "install": "pip install -e .[dev]",
        "pip_packages": ["pytest", "attrs==23.1.0"],
        "reqs_path": ["requirements/base.txt"],
        "env_yml_path": None,
        "pre_install": ["apt-get update && apt-get install -y libxml2-dev gcc", "touch setup.cfg"],
        "test_cmd": "pytest -rA --tb=no",
        "log_parser": "parse_log_pytest",
        "env_vars": {"TZ": "UTC", "EMPTY": None},
        "packages": "numpy pandas",
        "no_use_env": None,
    },
    "requirements": "",
    "docker_image": "swerebench/sweb.eval.x86_64.pallets_1776_flask-5014",
    "meta": {"llm_score": {"difficulty_score": 1}},
}
CUSTOM_ROW = {
    "instance_id": "mine-1",
    "patch": GOLD,
    "FAIL_TO_PASS": ["test_calc.py::test_add"],
    "PASS_TO_PASS": ["test_calc.py::test_zero"],
    "image_name": "registry.example.org/mine:1",
    "repo": "me/calc",
    "problem_statement": "add() subtracts",
    "python_version": "3.10",
    "base_commit": "abc123",
}
RL_ROW = {
    "data_source": "swe-smith",
    "prompt": [{"role": "user", "content": "add() subtracts"}],
    "env_class": "null",
    "instance": SWESMITH_ROW,
}
R2E_ROW = {
    "repo_name": "aiohttp",
    "docker_image": "namanjain12/aiohttp_final:" + "b" * 40,
    "commit_hash": "b" * 40,
    "problem_statement": "add() subtracts",
    "prompt": "write an issue",
    "relevant_files": ["calc.py"],
    "parsed_commit_content": json.dumps(
        {
            "old_commit_hash": "a" * 40,
            "new_commit_hash": "b" * 40,
            "file_diffs": [
                {
                    "header": {"file": {"path": "calc.py"}},
                    "old_file_content": "def add(a, b):\n    return a - b\n",
                    "new_file_content": "def add(a, b):\n    return a + b\n",
                },
                {
                    "header": {"file": {"path": "tests/test_calc.py"}},
                    "old_file_content": "",
                    "new_file_content": "def test_add():\n    pass\n",
                },
            ],
        }
    ),
    "execution_result_content": json.dumps(
        {
            "test_file_names": ["test_1.py"],
            "test_file_codes": ["def test_add():\n    assert True\n"],
            "old_commit_res_stdout": "PASSED r2e_tests/test_1.py::TestA::test_zero\n"
            "FAILED r2e_tests/test_1.py::test_add - assert\n",
            "new_commit_res_stdout": "",
        }
    ),
    "expected_output_json": json.dumps({"test_add": "PASSED", "TestA.test_zero": "PASSED", "test_old": "FAILED"}),
}
ROWS: dict[str, dict[str, Any]] = {
    "swe-bench": SWEBENCH_ROW,
    "swe-bench 5": SWEBENCH5_ROW,
    "swe-gym": SWEGYM_ROW,
    "swe-bench-extra": EXTRA_ROW,
    "swe-rebench": REBENCH_ROW,
    "swe-smith": SWESMITH_ROW,
    "custom": CUSTOM_ROW,
    "rl": RL_ROW,
    "r2e-gym": R2E_ROW,
    "lab": make_task(spec={"packages": ["x==1"]}).to_dict(),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_recognised_by_its_columns(name: str) -> None:
    expected = {"swe-bench 5": "swe-bench", "swe-gym": "swe-bench", "swe-bench-extra": "swe-bench"}.get(name, name)
    assert schema_of(ROWS[name]) == expected


def test_the_columns_of_swebench_5_say_how_a_log_is_read() -> None:
    task = read_row(SWEBENCH5_ROW)
    assert task.spec == {"log_parser": "parse_log_pytest", "eval_type": "pass_and_fail"}
    assert task.image == SWEBENCH5_ROW["image"]
    assert task.extra["eval_script"] == SWEBENCH5_ROW["eval_script"]


def test_a_date_may_be_one_as_parquet_files_have_it() -> None:
    assert read_row({**SWEGYM_ROW, "created_at": datetime(2023, 3, 4, 18, 36)}).created_at == "2023-03-04T18:36:00"


def test_an_install_config_becomes_a_spec() -> None:
    task = read_row(REBENCH_ROW)
    assert task.spec == {
        "python": "3.9",
        "install": "pip install -e .[dev]",
        "test_command": "pytest -rA --tb=no",
        "log_parser": "parse_log_pytest",
        "env": {"TZ": "UTC"},
        "pins": ["pytest", "attrs==23.1.0", "numpy", "pandas"],
        "requirements": ["requirements/base.txt"],
        "system": ["libxml2-dev", "gcc"],
        "pre_install": ["touch setup.cfg"],
    }
    assert task.image == REBENCH_ROW["docker_image"]
    frozen = read_row({**REBENCH_ROW, "requirements": "attrs==23.1.0\n-e git+https://x/y\npytest==7.4.0\n"})
    assert frozen.spec is not None
    assert frozen.spec["packages"] == ["attrs==23.1.0", "pytest==7.4.0", "pip", "setuptools", "wheel"]
    assert "pins" not in frozen.spec and "requirements" not in frozen.spec, "a freeze says it all"


def test_a_custom_row_repairs_unless_it_is_swesmith_s() -> None:
    task = read_row(CUSTOM_ROW)
    assert (task.gold_patch, task.setup_patch, task.spec) == (GOLD, "", {"python": "3.10"})
    assert (task.image, task.base_commit) == ("registry.example.org/mine:1", "abc123")
    bare = {k: v for k, v in CUSTOM_ROW.items() if k not in ("base_commit", "python_version")}
    assert (read_row(bare).base_commit, read_row(bare).spec) == ("", None)
    turned = read_row({**SWESMITH_ROW, "python_version": "3.10", "test_patch": GOLD})
    assert turned.setup_patch and turned.spec == {"python": "3.10"} and turned.test_patch == GOLD


def test_a_training_row_holds_another_row() -> None:
    assert read_row(RL_ROW) == read_row(SWESMITH_ROW)
    assert read_row({**RL_ROW, "instance": {**SWEBENCH_ROW, "image_name": None}}) == read_row(SWEBENCH_ROW)
    with pytest.raises(TaskError, match="row, field 'instance', field 'patch': missing"):
        read_row({**RL_ROW, "instance": {**SWEBENCH_ROW, "patch": None}})


def test_an_r2e_row_is_a_commit_and_tests_beside_it() -> None:
    task = read_row(R2E_ROW)
    assert task.gold_patch == make_patch(
        {"calc.py": "def add(a, b):\n    return a - b\n"}, {"calc.py": "def add(a, b):\n    return a + b\n"}
    )
    assert (task.repo, task.base_commit, task.id) == ("aio-libs/aiohttp", "a" * 40, "aiohttp__" + "b" * 40)
    assert (task.fail_to_pass, task.pass_to_pass) == (("test_add",), ("TestA.test_zero",))
    assert "+++ b/r2e_tests/test_1.py" in task.test_patch and "tests/test_calc.py" not in task.gold_patch
    assert task.spec is not None and task.spec["log_parser"] == "r2e"
    with pytest.raises(TaskError, match="it was not read from one"):
        Tasks([make_task()]).save("x.jsonl", "r2e-gym")


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        ("swe-rebench", {"install_config": "{"}, "field 'install_config': expected a JSON object"),
        ("swe-rebench", {"install_config": [1]}, "field 'install_config': expected an object, found list"),
        ("swe-bench 5", {"log_parser": 5}, "field 'log_parser': expected text, found int 5"),
        ("custom", {"patch": None}, "field 'patch': missing"),
        ("custom", {"python_version": 3.1}, "field 'python_version': expected text, found float 3.1"),
        ("rl", {"instance": None}, "field 'instance': expected an object, found NoneType"),
        ("r2e-gym", {"commit_hash": ""}, "field 'commit_hash': missing"),
        ("r2e-gym", {"parsed_commit_content": "{}"}, "field 'parsed_commit_content': expected 'file_diffs'"),
        ("r2e-gym", {"expected_output_json": "[]"}, "field 'expected_output_json': expected an object"),
    ],
)
def test_wrong_fields_name_row_field_and_what_was_expected(row: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        lab.load_tasks([SWEBENCH_ROW, {**ROWS[row], **change}])
    assert "row 2" in str(caught.value) and said in str(caught.value)


# --- writing ----------------------------------------------------------------------------------------------------------


def same(one: Task, other: Task) -> bool:
    """Whether two tasks are the same but for columns that only one of the schemas has."""
    return one.to_dict() | {"extra": 0, "spec": 0} == other.to_dict() | {"extra": 0, "spec": 0}


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ""])
@pytest.mark.parametrize("schema", [*WRITERS, "task-repo"])
def test_every_schema_is_written_and_read_back(tmp_path: Path, schema: str, ending: str) -> None:
    if schema == "task-repo" and ending:
        pytest.skip("a task repository is a folder")
    row = {"task-repo": SWEBENCH5_ROW, "rl": RL_ROW}.get(schema) or ROWS[schema]
    task = read_row(row)
    (back,) = lab.load_tasks(Tasks([task], "mine").save(tmp_path / f"tasks{ending}", schema))
    if schema == "task-repo":
        assert (tmp_path / "tasks" / "tasks" / task.id / "gold.patch").read_text() == GOLD
        assert back.extra["eval_script"] == SWEBENCH5_ROW["eval_script"]
        back = lab.load_tasks([{**back.to_dict(), "split": ""}])[0]
    assert same(back, task)
    assert (back.spec or {}).get("python") == (task.spec or {}).get("python")


def test_tasks_of_different_shapes_share_one_parquet(tmp_path: Path) -> None:
    tasks = Tasks([read_row(CUSTOM_ROW), read_row(SWESMITH_ROW), read_row(SWEBENCH_ROW)])
    back = lab.load_tasks(tasks.save(tmp_path / "rl.parquet", "rl"))
    assert all(same(a, b) for a, b in zip(back, tasks, strict=True))


def test_a_damaged_task_folder_is_named(tmp_path: Path) -> None:
    folder = Tasks([read_row(SWEBENCH_ROW)], "mine").save(tmp_path / "repo", "task-repo")
    (folder / "tasks" / "pallets__flask-5014" / "tests.json").write_text("{")
    with pytest.raises(TaskError, match="pallets__flask-5014: not a task folder"):
        lab.load_tasks(folder)


# --- training rows ----------------------------------------------------------------------------------------------------


def test_training_rows_are_written_for_certified_tasks_only(tmp_path: Path) -> None:
    import polars as pl

    good, changed, new = read_row(SWESMITH_ROW), make_task(1), make_task(2, split="test")
    for task, status in ((good, "passed"), (changed, "passed"), (new, "failed")):
        file = tmp_path / "certificates" / "key" / f"{task.id}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"task_id": task.id, "status": status, "answer_digest": answer_digest(task)}
        file.write_text(json.dumps(row))
    changed = make_task(1, gold_patch="another")
    tasks = Tasks([good, changed, new])
    assert tasks.certified(tmp_path / "certificates").ids == (good.id,)
    with pytest.raises(TaskError, match="'owner__name-1' and 1 more hold no passed certificate"):
        tasks.to_rl(tmp_path / "rl", certificates=tmp_path / "certificates")
    out = tasks.certified(tmp_path / "certificates").to_rl(tmp_path / "rl", certificates=tmp_path / "certificates")
    frame = pl.read_parquet(out / "train.parquet")
    assert frame.columns == ["data_source", "prompt", "env_class", "instance"]
    assert frame["instance"][0]["patch"] == SWESMITH_ROW["patch"], "the schema's own direction"
    assert same(lab.load_tasks(out / "train.parquet")[0], good)
    assert pl.read_parquet(out / "validation.parquet").height == 0
