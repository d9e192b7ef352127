"""Bad rows: each is read or refused by name, and none of them loses the others."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import swebench_lab as lab
from swebench_lab.errors import TaskError
from tests.conftest import GOLD
from tests.records.test_tasks import SWEBENCH_ROW, SWESMITH_ROW, write_jsonl

GO = "--- a/x.go\n+++ b/x.go\n@@ -1 +1 @@\n-x\n+y\n"
OTHER = {**SWEBENCH_ROW, "instance_id": "x__y-1"}
TEST_PATCH = SWEBENCH_ROW["test_patch"]
COMBINED = "diff --cc a.py\nindex 1,2..3\n--- a/a.py\n+++ b/a.py\n@@@ -1,1 -1,1 +1,2 @@@\n  x\n++y\n"
DEEP = '{"instance_id": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_patch": "see the PR"}, "field 'test_patch' of task 'x__y-1' is not a diff: no file header"),
        ({"test_patch": COMBINED}, "field 'test_patch' of task 'x__y-1' is not a diff: line 1: a combined diff"),
        ({"test_patch": TEST_PATCH + COMBINED}, "is not a diff: line .*combined hunk"),
        ({"test_patch": TEST_PATCH[:-5].rpartition("\n")[0]}, "the hunk ends"),
        ({"test_patch": TEST_PATCH.replace("@@ -1", "@@ -x")}, "not a hunk header|no file header"),
        ({"FAIL_TO_PASS": []}, "FAIL_TO_PASS of task 'x__y-1' is empty"),
        ({"FAIL_TO_PASS": "[]"}, "FAIL_TO_PASS of task 'x__y-1' is empty"),
        ({"FAIL_TO_PASS": "{1: 2}"}, "'FAIL_TO_PASS'"),
        ({"FAIL_TO_PASS": "['a'"}, "expected a JSON list of test ids"),
        ({"instance_id": "a\nb"}, r"the id 'a\\nb' holds the control character '\\n'"),
        ({"instance_id": "a\x1b[2J"}, "control character"),
        ({"repo": "a/b\r"}, "the repository's name"),
        ({"log_parser": "pytest\nx"}, r"'log_parser' 'pytest\\nx' holds the control character"),
        ({"problem_statement": "\ud800"}, r"field 'issue' of task 'x__y-1' holds half a character \(U\+D800\) at 0"),
        ({"hints_text": "ab\udfff"}, r"field 'hints' .* \(U\+DFFF\) at 2"),
        ({"created_at": True}, "field 'created_at': expected a date, found bool"),
        ({"created_at": 1e30}, "field 'created_at': .* is no time since 1970"),
        ({"created_at": ["x"]}, "field 'created_at': expected a date"),
        ({"difficulty": 3}, "field 'difficulty': expected text"),
        ({"test_cmds": 3}, "a field has a value that no such row has"),
        ({"install_config": 3}, "field 'install_config': expected an object"),
        ({"install_config": {"pre_install": 3}}, "a field has a value that no such row has"),
        ({"org": "a", "number": 1, "fix_patch": GOLD, "FAIL_TO_PASS": ...}, "field 'base': expected an object"),
        ({"F2P": "['a']", "FAIL_TO_PASS": ...}, "a row of SWE-PolyBench"),
        ({"image_assets": {"test_patch": [{"path": "a.png"}]}}, "Multimodal whose tests need pictures from elsewhere"),
        ({"image_assets": '{"problem_statement": ["http://x/a.png"]}'}, "Multimodal without 'image'"),
        ({"image_assets": "{"}, "Multimodal: expected a JSON object"),
        ({"repo": "swesmith/a__b.1234567", "patch": GO}, "a row of SWE-smith in Go: how its tests run"),
        ({"responses_create_params": {"input": []}, "patch": ...}, "a row of NeMo Gym without a task in it"),
        ({"responses_create_params": None, "instance": "{"}, "field 'instance': expected a JSON object"),
    ],
)
def test_a_bad_row_is_refused_by_name_and_every_other_row_is_loaded(
    change: dict[str, Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {k: v for k, v in {**OTHER, **change}.items() if v is not ...}
    path = write_jsonl(tmp_path / "rows.jsonl", bad, SWEBENCH_ROW)
    with pytest.raises(TaskError, match=rf"rows.jsonl:1.*{said}") as caught:
        lab.load_tasks(path)
    assert "invalid='skip') loads the other 1" in str(caught.value)
    assert lab.load_tasks(path, invalid="skip").ids == ("pallets__flask-5014",)
    assert re.search(f"row refused: .*rows.jsonl:1.*{said}", caplog.messages[-2])
    assert "1 of 2 rows refused, 1 tasks loaded" in caplog.messages[-1]


@pytest.mark.parametrize("line", ["{oops", "[]", "3", DEEP, '{"a": ' + "9" * 5000 + "}", "null"])
def test_a_line_that_is_no_object_loses_no_other(line: str, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", SWEBENCH_ROW, line, OTHER)
    with pytest.raises(TaskError, match="1 of 3 rows are wrong"):
        lab.load_tasks(path)
    assert lab.load_tasks(path, invalid="skip").ids == ("pallets__flask-5014", "x__y-1")


def test_a_file_without_one_right_row_is_an_error_however_it_is_read(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", "[]", "{")
    with pytest.raises(TaskError, match="2 of 2 rows are wrong"):
        lab.load_tasks(path, invalid="skip")
    with pytest.raises(ValueError, match="must be 'raise' or 'skip'"):
        lab.load_tasks(path, invalid="ignore")


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"created_at": 1700000000}, "created_at", "2023-11-14T22:13:20Z"),
        ({"created_at": 1700000000000}, "created_at", "2023-11-14T22:13:20Z"),
        ({"created_at": 1700000000.5}, "created_at", "2023-11-14T22:13:20Z"),
        ({"created_at": 0}, "created_at", "1970-01-01T00:00:00Z"),
        ({"FAIL_TO_PASS": "['a b', \"c'd\"]"}, "fail_to_pass", ("a b", "c'd")),
        ({"FAIL_TO_PASS": "('a',)"}, "fail_to_pass", ("a",)),
        ({"patch": GOLD + "\udcff\n"}, "gold_patch", GOLD + "\udcff\n"),
        ({"test_patch": ""}, "test_patch", ""),
        ({"test_patch": TEST_PATCH.rstrip("\n")}, "test_patch", TEST_PATCH.rstrip("\n")),
    ],
)
def test_what_other_writers_write_differently_is_read(change: dict[str, Any], field: str, value: object) -> None:
    (task,) = lab.load_tasks([{**SWEBENCH_ROW, **change}])
    assert getattr(task, field) == value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda row: {"responses_create_params": {"input": []}, "instance": row, "dataset_name": "SWE-Gym"},
        lambda row: {"responses_create_params": {"input": []}, "instance": json.dumps(row)},
        lambda row: {"responses_create_params": {"metadata": {"instance_dict": json.dumps(row)}}},
        lambda row: {"responses_create_params": {"metadata": None}, "instance_dict": row},
        lambda row: {"responses_create_params": {"input": []}, **row},
        lambda row: {"responses_create_params": {}, "instance": row, "agent_ref": {"name": "swe_agents"}},
    ],
)
@pytest.mark.parametrize("row", [SWEBENCH_ROW, SWESMITH_ROW])
def test_a_row_that_nemo_gym_wraps_is_the_row_inside(wrap: Any, row: dict[str, Any]) -> None:
    assert lab.load_tasks([wrap(row)]) == lab.load_tasks([row])


def test_rows_of_swe_bench_live_run_the_whole_suite_and_keep_their_difficulty() -> None:
    row = {**SWEBENCH_ROW, "test_cmds": ["pytest -rA"], "log_parser": "pytest", "difficulty": {"files": 1, "lines": 2}}
    (task,) = lab.load_tasks([row])
    assert task.spec == {"log_parser": "pytest", "test_command": "pytest -rA", "test_arguments": "none"}
    assert task.extra["difficulty"] == {"files": 1, "lines": 2}


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_byte_order_mark_is_no_part_of_a_file(ending: str, tmp_path: Path) -> None:
    text = json.dumps(SWEBENCH_ROW)
    path = tmp_path / f"rows{ending}"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert lab.load_tasks(path).ids == ("pallets__flask-5014",)
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(TaskError, match="not UTF-8"):
        lab.load_tasks(path)


def test_rows_that_say_the_same_are_one_task_and_rows_that_differ_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", SWEBENCH_ROW, OTHER, SWEBENCH_ROW, SWEBENCH_ROW)
    with caplog.at_level(logging.WARNING):
        assert lab.load_tasks(path).ids == ("pallets__flask-5014", "x__y-1")
    assert "2 rows repeat an earlier row word for word; kept once" in caplog.text
    path = write_jsonl(tmp_path / "rows.jsonl", SWEBENCH_ROW, OTHER, {**OTHER, "version": "9"})
    with pytest.raises(TaskError, match=r"3: the id 'x__y-1' is that of .*:2 too, and the rows differ"):
        lab.load_tasks(path)
    assert lab.load_tasks(path, invalid="skip").ids == ("pallets__flask-5014",)


# --- folders --------------------------------------------------------------------------------------------------------


def _shards(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows = [{**SWEBENCH_ROW, "instance_id": f"x__y-{number}"}]
        if name.endswith(".parquet"):
            pl.DataFrame(rows).write_parquet(folder / name)
        else:
            write_jsonl(folder / name, *rows)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "dataset_infos.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("names", "split", "ids"),
    [
        (["data/test-00000-of-00001.parquet"], None, "0"),
        (["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"], None, "01"),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "test", "1"),
        (["data/train-00000-of-00001.parquet", "data/dev-00000-of-00001.parquet"], None, "10"),
        (["default/test/0000.parquet", "default/train/0000.parquet"], "train", "1"),
        (["train.jsonl", "test.jsonl"], "test", "1"),
        (["rows-a.jsonl", "rows-b.jsonl"], None, "01"),
        (["test.parquet", ".cache/huggingface/old.parquet"], None, "0"),
        (["data/SWE_Gym-00000-of-00001.parquet"], "SWE_Gym", "0"),
    ],
)
def test_a_folder_of_a_hub_dataset_is_read_shard_by_shard(
    names: list[str], split: str | None, ids: str, tmp_path: Path
) -> None:
    folder = _shards(tmp_path / "dataset", *names)
    assert lab.load_tasks(folder, split).ids == tuple(f"x__y-{n}" for n in ids)


def test_a_folder_that_is_not_whole_or_holds_no_rows_is_refused_by_name(tmp_path: Path) -> None:
    folder = _shards(tmp_path / "a", "data/test-00000-of-00003.parquet")
    with pytest.raises(TaskError, match=r"test-00001-of-00003 is missing .* as are 1 more of its 3 shards"):
        lab.load_tasks(folder)
    folder = _shards(tmp_path / "b", "train.jsonl")
    with pytest.raises(TaskError, match="no split 'test'; it has train"):
        lab.load_tasks(folder, "test")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "trajectory.traj").write_text("{}")
    with pytest.raises(TaskError, match="holds no file of rows"):
        lab.load_tasks(tmp_path / "c")
    (tmp_path / "c" / "test.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(TaskError, match="pointer of git-lfs"):
        lab.load_tasks(tmp_path / "c")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"instance_id": "a", "FAIL_TO_PASS": ["t"], "install_config": {"install": "make"}, "language": "go"},
            "a row of SWE-rebench V2 in go",
        ),
        (
            {"instance_id": "a", "eval_script": 'echo "OPENSWE_EXIT_CODE=$?"', "repo": "a/b"},
            "a row of OpenSWE that names no image",
        ),
    ],
)
def test_rows_of_sets_that_lack_what_grades_them_are_refused_by_name(row: dict[str, object], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        lab.load_tasks([row])
