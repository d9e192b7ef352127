"""Bad batches: a malformed task, patch, prediction or report loses none of the others."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from swebench_lab.cli.main import main
from swebench_lab.errors import RecordError
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.files.certificates import NOT_BUILT, NOT_CHECKED
from swebench_lab.grading.files.predictions import Prediction, read_predictions
from swebench_lab.grading.files.verdicts import Verdicts
from swebench_lab.grading.harness import _verdict
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.verdict import Cause, Verdict
from tests.handmade import FILES, GOLD, TESTS, HandMade, task

TEST_PATCH = make_patch({"tests/test_a.py": TESTS}, {"tests/test_a.py": TESTS + "\n# more\n"})
COMBINED = "diff --cc tests/test_a.py\nindex 1,2..3\n--- a/x\n+++ b/x\n@@@ -1,1 -1,1 +1,2 @@@\n  x\n++y\n"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), FILES)


@pytest.fixture
def evaluator(boxes: HandMade, tmp_path: Path) -> Evaluator:
    return Evaluator(boxes, timeout=60, workers=1, certificates=tmp_path / "certificates")  # type: ignore[arg-type]


GOOD, BAD = task(id="ok-1"), task(id="bad-1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_patch": "see the PR"}, "no file header"),
        ({"test_patch": COMBINED}, "combined diff"),
        ({"test_patch": TEST_PATCH[:-12]}, "the hunk ends"),
        ({"test_patch": TEST_PATCH.replace(" def test_keep", " def test_other")}, "applying the test patch failed"),
        ({"fail_to_pass": ()}, "fail_to_pass is empty"),
        ({"spec": {"nonsense": 1}}, "nonsense"),
        ({"spec": {"test_command": 3}}, "test_command"),
        ({"source": "broken"}, "no such repository"),
    ],
)
def test_a_task_that_cannot_be_graded_loses_no_other(evaluator: Evaluator, changes: dict[str, Any], said: str) -> None:
    bad = replace(BAD, **changes)
    verdicts = evaluator.evaluate({"ok-1": GOLD, "bad-1": GOLD}, [bad, GOOD], progress=False)
    assert verdicts["ok-1"].resolved
    assert (verdicts["bad-1"].status, verdicts["bad-1"].cause) == ("not graded", Cause.INFRASTRUCTURE)
    assert said in verdicts["bad-1"].reason
    rows = {row["id"]: row for row in evaluator.check([bad, GOOD], progress=False).to_dicts()}
    assert rows["ok-1"]["status"] == "passed"
    assert rows["bad-1"]["status"] in (NOT_CHECKED, NOT_BUILT)
    assert said in rows["bad-1"]["reason"]


def test_an_error_nobody_thought_of_is_one_verdict_and_is_logged(
    evaluator: Evaluator, boxes: HandMade, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(task: Any) -> str:
        if task.id == "bad-1":
            raise ZeroDivisionError("surprise")
        return boxes.made.key

    monkeypatch.setattr(boxes, "key", key)
    store = evaluator.evaluate({"ok-1": GOLD, "bad-1": GOLD}, [BAD, GOOD], keep=boxes.tree.parent / "v", progress=False)
    assert [store[name].status for name in ("ok-1", "bad-1")] == ["resolved", "not graded"]
    assert "ZeroDivisionError: surprise" in store["bad-1"].reason
    assert any(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)


# --- predictions ----------------------------------------------------------------------------------------------------

ROW = {"instance_id": "ok-1", "model_name_or_path": "m", "model_patch": GOLD}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instance_id": "bad-1", "model_patch": {"model_patch": GOLD}}, "neither a text nor null: dict"),
        ({"instance_id": "bad-1", "model_patch": 3}, "neither a text nor null: int 3"),
        ({"instance_id": "bad-1"}, "the row has instance_id"),
        ({"instance_id": "bad-1", "patch": GOLD}, "is the solution in rows of datasets"),
        ({"instance_id": "bad-1", "prediction": GOLD}, "the row has instance_id, prediction"),
        ({"instance_id": "bad-1", "test_result": {}}, "the row has instance_id, test_result"),
    ],
)
def test_a_prediction_that_cannot_be_read_is_not_graded_and_loses_no_other(
    evaluator: Evaluator, row: dict[str, Any], said: str
) -> None:
    verdicts = evaluator.evaluate([row, ROW], [GOOD, BAD], progress=False)
    assert verdicts["ok-1"].resolved
    assert verdicts["bad-1"].status == "not graded"
    assert said in verdicts["bad-1"].reason
    assert verdicts.run_report()["infra_failure_ids"] == ["bad-1"]
    assert verdicts.run_report()["empty_patch_ids"] == []


@pytest.mark.parametrize("line", ["{", "[]", "null", "3", '{"model_patch": ""}', '{"instance_id": 3}', "[" * 100_000])
def test_a_row_that_names_no_task_is_refused_by_name_and_loses_no_other(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{line}\n{json.dumps(ROW)}\n")
    read = read_predictions(path)
    assert (list(read), len(read.refused)) == (["ok-1"], 1)
    assert f"{path}:1" in read.refused[0]
    assert f"{path}:1" in caplog.text
    assert "1 rows of the predictions refused" in repr(Verdicts({}, read, [], read.refused))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instance_id": "a", "test_result": {"git_patch": "P"}, "history": []}, "a"),
        ({"org": "o", "repo": "r", "number": 7, "fix_patch": "P"}, "o__r-7"),
        ({"instance_id": "a", "patch": "P", "prefix": "gold"}, "a"),
        ({"instance_id": "a", "model_patch": "P", "full_output": None, "exit_status": "submitted"}, "a"),
        ({"instance_id": "a", "model_patch": "P", "model_name_or_path": None}, "a"),
    ],
)
def test_rows_of_other_tools_are_read(row: dict[str, Any], name: str) -> None:
    assert read_predictions([row])[name].patch == "P"


def test_several_models_in_one_file_are_chosen_by_name_or_refused_by_name(
    evaluator: Evaluator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {**ROW, "model_name_or_path": "n", "model_patch": ""}
    with pytest.raises(RecordError, match=r"'ok-1' has predictions by several models; choose one of 'm', 'n'"):
        read_predictions([ROW, other])
    assert read_predictions([ROW, other], "m")["ok-1"].patch == GOLD
    assert evaluator.evaluate([ROW, other], [GOOD], model="n", progress=False)["ok-1"].status == "unresolved"
    with pytest.raises(RecordError, match=r"no prediction is by 'x'; they are by 'm', 'n'"):
        read_predictions([ROW, other], "x")
    assert set(read_predictions([ROW, {**other, "instance_id": "bad-1"}])) == {"ok-1", "bad-1"}
    assert read_predictions([ROW, ROW])["ok-1"].patch == GOLD
    assert "two predictions for ok-1 say the same" in caplog.text
    assert read_predictions([ROW, {**ROW, "model_patch": "x"}])["ok-1"].patch == "x"
    assert "two predictions for ok-1 differ; the later counts" in caplog.text


def test_an_id_in_other_letters_is_asked_about(evaluator: Evaluator) -> None:
    with pytest.raises(RecordError, match=r"no task has the id 'OK-1'; did you mean 'ok-1'\?"):
        evaluator.evaluate({"OK-1": GOLD}, [GOOD], progress=False)


def _folder(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


PRED = json.dumps(ROW)


@pytest.mark.parametrize(
    "files",
    [
        {"ok-1/ok-1.pred": PRED, "ok-1/ok-1.traj": "{}", "run_batch.config.yaml": ""},
        {"preds.json": json.dumps({"ok-1": ROW}), "ok-1/ok-1.traj.json": "{}", "ok-1/ok-1.pred": PRED},
        {
            "output.jsonl": json.dumps({"instance_id": "ok-1", "test_result": {"git_patch": GOLD}}),
            "metadata.json": "{}",
        },
        {"all_preds.jsonl": PRED + "\n", "logs/x.log": ""},
        {"logs/run_evaluation/r/m/ok-1/patch.diff": GOLD, "logs/run_evaluation/r/m/ok-1/report.json": "{}"},
        {"a/ok-1.pred": PRED, "a/broken.pred": "{"},
    ],
)
def test_run_folders_of_other_tools_are_read(files: dict[str, str], tmp_path: Path) -> None:
    read = read_predictions(_folder(tmp_path, files))
    assert {name: p.patch for name, p in read.items()} == {"ok-1": GOLD}
    assert len(read.refused) == ("a/broken.pred" in files)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"trajectory.json": "{}"}, "holds none of preds.json"),
        ({}, "holds none of preds.json"),
        ({"preds.json": PRED, "output.jsonl": PRED}, "preds.json, output.jsonl could all be them"),
        ({"logs/run_evaluation/r/m/a/patch.diff": "", "logs/run_evaluation/s/m/a/patch.diff": ""}, "it holds 2 runs"),
        ({"a.pred": "{"}, "line 1, column 2"),
    ],
)
def test_other_folders_are_refused_by_name_also_on_the_command_line(
    files: dict[str, str], said: str, tmp_path: Path
) -> None:
    folder = _folder(tmp_path / "run", files) if files else tmp_path
    with pytest.raises(RecordError, match=said):
        read_predictions(folder)
    ran = CliRunner().invoke(main, ["evaluate", str(folder), "--tasks", "demo"])
    assert ran.exit_code != 0
    assert said.split()[0] in ran.output + str(ran.exception)


def test_one_pred_file_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    for name, text in {"a.pred": PRED, "b.json": json.dumps([ROW]), "c.jsonl": PRED + "\n"}.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_predictions(tmp_path / name) == {"ok-1": Prediction("ok-1", GOLD, "m")}
    (tmp_path / "d.jsonl").write_bytes(PRED.encode("utf-16"))
    with pytest.raises(RecordError, match="not UTF-8"):
        read_predictions(tmp_path / "d.jsonl")


# --- ids and reports ------------------------------------------------------------------------------------------------

IDS = [
    "x" * 300,
    "a" * 120 + "__" + "b" * 120 + "-v1",
    "é日本" * 60,
    "owner/name#1",
    "../up",
    "..",
    ".",
    "-rf",
    "a b",
    "con:1",
]


@pytest.mark.parametrize("name", IDS)
def test_any_id_can_be_checked_graded_and_saved_and_stays_inside_its_folder(
    name: str, evaluator: Evaluator, tmp_path: Path
) -> None:
    odd = replace(GOOD, id=name)
    assert evaluator.check([odd], progress=False)["status"].to_list() == ["passed"]
    assert set(evaluator.logs(odd)) == {"gold 1", "untouched 1"}
    verdicts = Verdicts({name: Verdict("resolved")}, {name: Prediction(name, GOLD, "m/" + name)}, [odd])
    folder = tmp_path / "a" / "b"
    verdicts.save(folder)
    reports = list(tmp_path.rglob("report.json"))
    assert len(reports) == 1
    assert reports[0].resolve().is_relative_to(folder / "logs")
    assert list(json.loads(reports[0].read_text())) == [name]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("a", "certificates")]


@pytest.mark.parametrize(
    "report", ["", "{", "[]", "null", "3", '{"a": []}', '{"a": {"tests_status": []}}', '{"b": {}}']
)
def test_a_report_of_the_harness_that_is_none_is_one_task_not_graded(report: str, tmp_path: Path) -> None:
    folder = tmp_path / "logs/run_evaluation/official/model/a"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report)
    verdict = _verdict(tmp_path, Prediction("a", GOLD))
    assert verdict.status == "not graded"
    assert "left no report that can be read" in verdict.reason
