"""Evaluator: honest patches, hidden tests, many predictions, reports and certificates, in real sandboxes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import RecordError, SandboxUnavailable
from swebench_lab.grading.batch import batch
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.files.certificates import Certificate, Certificates, task_digest
from swebench_lab.grading.files.predictions import read_predictions
from swebench_lab.grading.trust import UNCERTIFIED
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Cause
from swebench_lab.snapshots.environment.specs import spec_for
from swebench_lab.snapshots.factory import SandboxFactory
from tests.handmade import ADD, BUGGY, FILES, FIXED, GOLD, KEEP, QUICK, TESTS, HandMade, code, patch_of, task, writes


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), FILES)


@pytest.fixture
def evaluator(boxes: HandMade, tmp_path: Path) -> Evaluator:
    return Evaluator(boxes, certificates=tmp_path / "certificates")  # type: ignore[arg-type]


# --- what happens to honest patches -----------------------------------------------------------------------------------


def test_gold_is_resolved_and_agrees_with_swebench(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), GOLD)
    assert (verdict.status, verdict.official, verdict.patch_applied, verdict.exit_code) == (
        "resolved",
        "resolved",
        True,
        0,
    )
    assert verdict.fail_to_pass == {"success": ADD, "failure": ()}
    assert verdict.pass_to_pass == {"success": KEEP, "failure": ()}
    assert verdict.tests == dict.fromkeys((*ADD, *KEEP), "PASSED")
    assert (verdict.notes, verdict.snapshot, verdict.reason) == ((UNCERTIFIED,), "0" * 64, "")
    assert verdict.seconds > 0


def test_a_wrong_patch_is_unresolved_with_the_tests_that_failed(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), code(BUGGY.replace("a - b", "a * b")))
    assert (verdict.status, verdict.official, verdict.exit_code) == ("unresolved", "unresolved", 1)
    assert verdict.fail_to_pass == {"success": (), "failure": ADD}
    assert "FAILED" in verdict.reason


def test_a_patch_that_breaks_another_test_is_unresolved(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), code(FIXED.replace("return x", "return -x")))
    assert (verdict.status, verdict.pass_to_pass["failure"]) == ("unresolved", KEEP)


@pytest.mark.parametrize("text", ["", "\n", "   \n\n"])
def test_an_empty_patch_is_unresolved_and_runs_nothing(evaluator: Evaluator, boxes: HandMade, text: str) -> None:
    before = boxes.opened
    verdict = evaluator.grade(task(), text)
    assert (verdict.status, verdict.official, verdict.patch_applied) == ("unresolved", "unresolved", None)
    assert "nothing was run" in verdict.reason
    assert boxes.opened == before


@pytest.mark.parametrize(
    "text", ["this is no patch", GOLD.replace("return a - b", "return a % b"), GOLD.replace("__init__", "none")]
)
def test_a_patch_that_does_not_apply_is_unresolved(evaluator: Evaluator, text: str) -> None:
    verdict = evaluator.grade(task(), text)
    assert (verdict.status, verdict.patch_applied) == ("unresolved", False)
    assert "does not apply" in verdict.reason
    assert "git apply --verbose --reject" in verdict.log
    assert evaluator.regrade(task(), verdict) == verdict


def test_a_patch_against_moved_lines_is_applied_by_the_fallbacks(evaluator: Evaluator) -> None:
    lines = GOLD.replace(" def add(a, b):", " def add(a, b):  # moved").replace("@@ -1,5 +1,5 @@", "@@ -3,5 +3,5 @@")
    verdict = evaluator.grade(task(), lines)
    assert verdict.status == "resolved"
    assert "+ patch --batch --forward --fuzz=5 -p1 -i" in verdict.log


def test_a_patch_without_its_last_newline_is_applied(evaluator: Evaluator) -> None:
    assert evaluator.grade(task(), GOLD.rstrip("\n")).status == "resolved"


def test_code_that_cannot_be_imported_is_unresolved(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), code("def add(:\n"))
    assert (verdict.status, verdict.official, verdict.exit_code) == ("unresolved", "unresolved", 2)


def test_code_that_breaks_conftest_is_unresolved(tmp_path: Path) -> None:
    files = {**FILES, "tests/conftest.py": FILES["tests/conftest.py"] + "import pkg\n"}
    evaluator = Evaluator(HandMade(tmp_path, files))  # type: ignore[arg-type]
    verdict = evaluator.grade(task(), code("raise ValueError('no')\n"))
    assert (verdict.status, verdict.exit_code) == ("unresolved", 4)
    assert "ValueError: no" in verdict.reason


def test_code_that_hangs_is_unresolved_and_says_where(boxes: HandMade) -> None:
    evaluator = Evaluator(boxes, timeout=3)  # type: ignore[arg-type]
    verdict = evaluator.grade(task(), code("import time\n\n\ndef add(a, b):\n    time.sleep(600)\n\n\nkeep = add\n"))
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.TIMED_OUT)
    assert f"stopped after 6 s in {ADD[0]}" in verdict.reason, "it is given twice the time before it is held against it"
    assert evaluator.regrade(task(), verdict) == verdict


def test_a_crash_of_the_interpreter_is_unresolved_and_says_where(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), code("import os\n\n\ndef add(a, b):\n    os.abort()\n\n\nkeep = add\n"))
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.CRASHED)
    assert "signal 6" in verdict.reason
    assert ADD[0] in verdict.reason


def test_an_infrastructure_error_is_not_graded(boxes: HandMade) -> None:
    class NoBoxes(HandMade):
        def __init__(self) -> None:
            self.cache, self.made, self.tier = boxes.cache, boxes.made, boxes.tier

        def open(self, _snapshot: Any, **_: Any) -> Any:
            raise SandboxUnavailable("no user namespaces here; do this and that")

    verdict = Evaluator(NoBoxes()).grade(task(), GOLD)  # type: ignore[arg-type]
    assert (verdict.status, verdict.patch_applied) == ("not graded", None)
    assert "do this and that" in verdict.reason
    verdict = Evaluator(boxes).grade(task(source="broken"), GOLD)  # type: ignore[arg-type]
    assert (verdict.status, "no such repository" in verdict.reason) == ("not graded", True)


def test_a_test_command_that_does_not_exist_is_not_graded(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(spec={**QUICK, "test_command": "no-such-program"}), GOLD)
    assert verdict.status == "not graded"
    assert "exit code 127" in verdict.reason


def test_a_test_command_other_than_pytest_is_graded_by_its_log_alone(evaluator: Evaluator) -> None:
    command = "echo 'test_add (t.T) ... ok'; echo 'test_keep (t.T) ... ok' #"
    spec = {**QUICK, "test_command": command, "log_parser": "parse_log_django"}
    verdict = evaluator.grade(
        task(spec=spec, fail_to_pass=("test_add (t.T)",), pass_to_pass=("test_keep (t.T)",)), GOLD
    )
    assert (verdict.status, verdict.official) == ("resolved", "resolved")


EVERY_KIND = """\
import pytest

from pkg import add


ODD = ["a b", "a  b", "x - y", "é", "[", "]", "[]", "t\\tn\\n", "a::b", "", " ", "PASSED x", "日本", "\\x1b[31m"]


@pytest.mark.parametrize("a", ODD)
def test_p(a):
    print("FAILED tests/test_a.py::test_p - no")
    assert add(1, 2) == 3


@pytest.mark.parametrize("a", ["a b", "x - y", "[ - q", "é"])
def test_f(a):
    assert a == "foo - bar"


def test_skip():
    pytest.skip("because - x")


@pytest.mark.xfail(reason="hm - x")
def test_xfail():
    assert add(1, 2) == 4


@pytest.mark.xfail(reason="hm - x")
def test_xpass():
    pass


@pytest.mark.xfail(strict=True)
def test_xpass_strict():
    pass


@pytest.fixture
def bad():
    raise RuntimeError("no")


@pytest.fixture
def bad_end():
    yield
    raise RuntimeError("t - no")


def test_error(bad):
    pass


def test_error_at_the_end(bad_end):
    pass


class TestA:
    def test_b(self):
        pass
"""


def test_log_and_separate_results_agree_on_every_kind_of_outcome(tmp_path: Path) -> None:
    evaluator = Evaluator(HandMade(tmp_path, {**FILES, "tests/test_a.py": EVERY_KIND}))  # type: ignore[arg-type]
    every = task(fail_to_pass=("tests/test_a.py::TestA::test_b",), pass_to_pass=("tests/test_a.py::test_skip",))
    verdict = evaluator.grade(every, GOLD)
    assert (verdict.status, verdict.exit_code) == ("resolved", 1), verdict.reason
    found = {test.removeprefix("tests/test_a.py::"): status for test, status in verdict.tests.items()}
    assert sum(test.startswith("test_p[") for test in found) == 14
    assert {status for test, status in found.items() if test.startswith("test_p[")} == {"PASSED"}
    assert {test: status for test, status in found.items() if not test.startswith("test_p[")} == {
        **dict.fromkeys(
            ["test_f[a b]", "test_f[x - y]", "test_f[[ - q]", "test_f[\\xe9]", "test_xpass_strict"], "FAILED"
        ),
        "test_skip": "SKIPPED",
        "test_xfail": "XFAIL",
        "test_xpass": "PASSED",
        "TestA::test_b": "PASSED",
        "test_error": "ERROR",
        "test_error_at_the_end": "ERROR",
    }
    again = replace(every, fail_to_pass=tuple(t for t, status in verdict.tests.items() if status == "PASSED"))
    assert evaluator.regrade(again, verdict).status == "resolved"


# --- hidden tests and test patches ------------------------------------------------------------------------------------


def test_hidden_tests_are_put_back(tmp_path: Path) -> None:
    cut = {**FILES, "tests/test_a.py": "from pkg import keep\n\n\ndef test_keep():\n    assert keep(1) == 1\n"}
    boxes = HandMade(tmp_path, cut, {"tests/test_a.py": TESTS})
    evaluator = Evaluator(boxes)  # type: ignore[arg-type]
    assert evaluator.grade(task(), GOLD).status == "resolved"
    own = patch_of(lambda f: (f / "tests/test_a.py").write_text("def test_keep():\n    pass\n"), cut)
    verdict = evaluator.grade(task(), own)
    assert (verdict.status, verdict.fail_to_pass["failure"]) == ("unresolved", ADD)


NEW_TESTS = patch_of(lambda folder: (folder / "tests/test_new.py").write_text(TESTS))
NEW_ADD, NEW_KEEP = (tuple(t.replace("test_a.py", "test_new.py") for t in ids) for ids in (ADD, KEEP))


def test_a_test_patch_brings_its_tests(evaluator: Evaluator) -> None:
    swebench = task(test_patch=NEW_TESTS, fail_to_pass=NEW_ADD, pass_to_pass=NEW_KEEP)
    assert evaluator.grade(swebench, GOLD).status == "resolved"
    assert evaluator.grade(swebench, code(BUGGY.replace("a - b", "b - a"))).status == "unresolved"


def test_a_patch_that_wrote_the_test_patch_s_file_is_graded_all_the_same(evaluator: Evaluator) -> None:
    swebench = task(test_patch=NEW_TESTS, fail_to_pass=NEW_ADD, pass_to_pass=NEW_KEEP)
    both = writes({"src/pkg/__init__.py": FIXED, "tests/test_new.py": "def test_mine():\n    pass\n"})
    assert evaluator.grade(swebench, both).status == "resolved"


def test_a_test_patch_that_does_not_apply_is_our_fault(evaluator: Evaluator) -> None:
    broken = NEW_TESTS.replace("b/tests/test_new.py", "b/setup.cfg").replace("/dev/null", "a/setup.cfg")
    verdict = evaluator.grade(task(test_patch=broken, fail_to_pass=NEW_ADD, pass_to_pass=()), GOLD)
    assert verdict.status == "not graded"
    assert "applying the test patch" in verdict.reason


# --- many predictions, reports ----------------------------------------------------------------------------------------


@pytest.fixture
def three() -> list[Task]:
    return [task(id=f"lab__pkg-{i}") for i in (1, 2, 3)]


def predictions() -> dict[str, dict[str, str | None]]:
    return {
        "lab__pkg-1": {"instance_id": "lab__pkg-1", "model_name_or_path": "me/mine", "model_patch": GOLD},
        "lab__pkg-2": {"instance_id": "lab__pkg-2", "model_name_or_path": "me/mine", "model_patch": None},
    }


def test_predictions_in_every_form_give_the_same_verdicts(
    evaluator: Evaluator, three: list[Task], tmp_path: Path
) -> None:
    rows = predictions()
    (tmp_path / "dict.json").write_text(json.dumps(rows))
    (tmp_path / "list.json").write_text(json.dumps(list(rows.values())))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows.values())) + "\n\n")
    read = [read_predictions(tmp_path / name) for name in ("dict.json", "list.json", "lines.jsonl")]
    read += [read_predictions(rows), read_predictions(list(rows.values()))]
    assert all(found == read[0] for found in read)
    verdicts = evaluator.evaluate(tmp_path / "dict.json", three, progress=False)
    assert {name: v.status for name, v in verdicts.items()} == {"lab__pkg-1": "resolved", "lab__pkg-2": "unresolved"}
    assert read_predictions({"a": "patch"})["a"].patch == "patch"
    one = rows["lab__pkg-1"]
    assert list(read_predictions(one)) == ["lab__pkg-1"]
    with pytest.raises(RecordError, match="'other', field 'instance_id': it is 'lab__pkg-1', another than its key"):
        read_predictions({"other": one})


def test_reports_have_the_harness_s_form(evaluator: Evaluator, three: list[Task], tmp_path: Path) -> None:
    verdicts = evaluator.evaluate(predictions(), three, progress=False)
    path = verdicts.save(tmp_path, "run1")
    report = json.loads(path.read_text())
    assert path.name == "me__mine.run1.json"
    assert report["schema_version"] == 2
    assert (report["resolved_ids"], report["empty_patch_ids"], report["incomplete_ids"]) == (
        ["lab__pkg-1"],
        ["lab__pkg-2"],
        ["lab__pkg-3"],
    )
    assert (report["total_instances"], report["submitted_instances"], report["completed_instances"]) == (3, 2, 1)
    folder = tmp_path / "logs/run_evaluation/run1/me__mine/lab__pkg-1"
    own = json.loads((folder / "report.json").read_text())["lab__pkg-1"]
    assert own["tests_status"]["FAIL_TO_PASS"] == {"success": list(ADD), "failure": []}
    assert own["patch_successfully_applied"]
    assert (folder / "patch.diff").read_text() == GOLD
    results = json.loads((tmp_path / "results.json").read_text())
    counts = {"tasks": 3, "predictions": 2, "graded": 2, "resolved": 1, "unresolved": 1, "not_graded": 0}
    counts |= {"unresolved_by_cause": {"not_applied": 1}}
    assert results["overall"] == {**counts, "of_all": 1 / 3, "of_graded": 0.5}
    assert results["repositories"]["lab/pkg"]["tasks"] == 3


THEIR_REPORTS = """\
import json
from swebench.harness.grading import get_eval_report
from swebench.harness.reporting import make_run_report
from swebench.harness.utils import make_test_spec

rows, tasks = json.load(open("rows.json")), json.load(open("tasks.json"))
report = json.load(open(make_run_report(rows, tasks, "run1", None, "theirs")))
each = {}
for task in tasks:
    row = rows[task["instance_id"]]
    log = f"logs/run_evaluation/run1/me__mine/{task['instance_id']}/test_output.txt"
    if row["model_patch"]:
        each.update(get_eval_report(make_test_spec(task), row, log, True))
json.dump([report, each], open("theirs.json", "w"))
"""


def test_the_harness_itself_makes_the_same_reports_of_what_was_saved(
    evaluator: Evaluator, three: list[Task], tmp_path: Path
) -> None:
    """The installed harness grades our logs and sums up our folder."""
    rows = predictions() | {
        "lab__pkg-3": {"instance_id": "lab__pkg-3", "model_name_or_path": "me/mine", "model_patch": code("def add(:\n")}
    }
    verdicts = evaluator.evaluate(rows, three, progress=False)
    ours = json.loads(verdicts.save(tmp_path, "run1").read_text())
    facts = {"image": "", "repo": "lab/pkg", "version": "", "FAIL_TO_PASS": ADD, "PASS_TO_PASS": KEEP}
    facts |= {"log_parser": "parse_log_pytest_v2", "eval_type": "pass_and_fail", "eval_script": ""}
    (tmp_path / "tasks.json").write_text(json.dumps([{"instance_id": t.id, **facts} for t in three]))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    subprocess.run([sys.executable, "-c", THEIR_REPORTS], cwd=tmp_path, check=True, capture_output=True)
    theirs, each = json.loads((tmp_path / "theirs.json").read_text())
    # the harness also guesses at reasons of unresolved ones from words in their logs
    guesses = {"ambiguous_failure_ids", "ambiguous_failure_instances", "failure_reasons"}
    assert {k: v for k, v in ours.items() if k not in guesses} == {k: v for k, v in theirs.items() if k not in guesses}
    for name in each:
        own = tmp_path / "logs/run_evaluation/run1/me__mine" / name / "report.json"
        assert json.loads(own.read_text())[name] == each[name]


def test_wrong_predictions_are_named(evaluator: Evaluator, three: list[Task], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no task has the id 'other'"):
        evaluator.evaluate({"other": GOLD}, three)
    no_id, no_patch = '[{"instance_id": 3}]', '[{"instance_id": "a"}]'
    for text, said in [("{", "line 1"), (no_id, "instance_id"), (no_patch, "model_patch"), ("3", "found int")]:
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(RecordError, match=said):
            read_predictions(tmp_path / "p.json")
    with pytest.raises(RecordError, match=r"ending must be \.json or \.jsonl"):
        read_predictions(__file__)


def test_tables_and_frames(evaluator: Evaluator, three: list[Task]) -> None:
    verdicts = evaluator.evaluate(
        predictions(), [replace(t, difficulty=f"d{i % 2}") for i, t in enumerate(three)], progress=False
    )
    assert verdicts.to_frame().height == 2
    table = verdicts.table("difficulty")
    assert table["tasks"].to_list() == [2, 1]
    assert (verdicts.resolved_rate, verdicts.graded_resolved_rate) == (1 / 3, 0.5)
    assert "1 resolved" in repr(verdicts)
    assert "lab__pkg-1" in verdicts._repr_html_()


# --- certificates -----------------------------------------------------------------------------------------------------

FLAKY = (
    TESTS
    + """

@pytest.mark.parametrize("n", range(20))
def test_luck(n):
    import os

    assert os.urandom(1)[0] % 2
"""
)


def test_a_good_task_is_certified_once(evaluator: Evaluator, boxes: HandMade) -> None:
    good = task()
    frame = evaluator.check([good], repeats=2, progress=False)
    row = frame.row(0, named=True)
    assert (row["status"], row["gold"], row["untouched"], row["empty"]) == (
        "passed",
        ["resolved"] * 2,
        ["unresolved"] * 2,
        "unresolved",
    )
    assert (row["official"], row["flaky"], row["reason"]) == ("resolved/unresolved", [], "")
    before = boxes.opened
    assert evaluator.check([good], progress=False).equals(frame.frame), (
        "a certificate with more repeats serves for fewer"
    )
    assert boxes.opened == before
    assert [t.id for t in evaluator.certified([good, task(id="lab__pkg-9")])] == [good.id]
    logs = evaluator.logs(good)
    assert set(logs) == {"gold 1", "gold 2", "untouched 1", "untouched 2"}
    assert evaluator.regrade(good, logs["gold 1"]).status == "resolved"
    assert evaluator.certificate(replace(good, fail_to_pass=ADD[:1])).gold == ("resolved",), (
        "a changed task is checked anew"
    )
    assert boxes.opened > before


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"gold_patch": code(BUGGY.replace("a - b", "a * b"))}, "failed", "gold is unresolved"),
        ({"fail_to_pass": KEEP, "pass_to_pass": ()}, "failed", "untouched is resolved"),
        ({"source": "broken"}, "build failed", "no such repository"),
        ({"spec": {**QUICK, "test_command": "sleep 60 #", "timeout": 1}}, "timeout", "stopped after 1 s"),
        ({"spec": {**QUICK, "test_command": "false #"}}, "not graded", "exit code 1"),
        ({"gold_patch": "no patch"}, "failed", "does not apply"),
    ],
)
def test_bad_tasks_are_named(evaluator: Evaluator, changes: dict[str, Any], status: str, said: str) -> None:
    row = evaluator.check([task(**changes)], progress=False).row(0, named=True)
    assert (row["status"], said in row["reason"]) == (status, True), row["reason"]


def test_flaky_tests_are_named(tmp_path: Path) -> None:
    evaluator = Evaluator(HandMade(tmp_path, {**FILES, "tests/test_a.py": FLAKY}))  # type: ignore[arg-type]
    luck = tuple(f"tests/test_a.py::test_luck[{n}]" for n in range(20))
    row = evaluator.check(task(pass_to_pass=luck), repeats=2, progress=False).row(0, named=True)
    assert row["status"] == "flaky"
    assert set(row["flaky"]) <= set(luck)
    assert row["flaky"][0] in row["reason"]
    quiet = evaluator.check(task(), repeats=2, progress=False).row(0, named=True)
    assert (quiet["status"], bool(quiet["flaky"])) == ("passed", True), "only deciding tests make a task flaky"


def test_a_task_that_could_not_be_graded_is_checked_again(evaluator: Evaluator, boxes: HandMade) -> None:
    broken = task(spec={**QUICK, "test_command": "false #"})
    assert evaluator.certificate(broken).status == "not graded"
    before = boxes.opened
    assert evaluator.certificate(broken).status == "not graded"
    assert boxes.opened > before


def test_stopping_closes_sandboxes_at_once_and_keeps_what_is_done(boxes: HandMade, tmp_path: Path) -> None:
    evaluator = Evaluator(boxes, workers=2, certificates=tmp_path)  # type: ignore[arg-type]
    slow = task(id="lab__pkg-slow", spec={**QUICK, "test_command": "sleep 50 #"})
    many = [task(), slow, replace(slow, id="lab__pkg-slow2")]
    started = time.monotonic()
    certifier = evaluator._certifier
    results = batch(
        many, lambda one, open_: certifier.certificate(one, boxes=open_), lambda c: c.status, "check", 2, False
    )
    assert next(results)[1].task_id == "lab__pkg-1"
    results.close()  # what Ctrl-C in the loop does
    assert time.monotonic() - started < 20
    assert [file.stem for file in tmp_path.rglob("lab__pkg-1.json")] == ["lab__pkg-1"]
    assert evaluator.certificates.get("0" * 64, many[0].id, task_digest(many[0], spec_for(many[0])))


def test_an_evaluator_travels_to_other_processes(boxes: HandMade) -> None:

    made = Evaluator(SandboxFactory(cache=boxes.cache.root), timeout=7, workers=3, certificates="somewhere")
    again = pickle.loads(pickle.dumps(made))
    assert (again.timeout, again.workers, again.certificates.root) == (7, 3, Path("somewhere"))
    assert repr(again) == repr(made)


def test_a_damaged_certificate_is_made_again(evaluator: Evaluator) -> None:
    first = evaluator.certificate(task())
    files = list(evaluator.certificates.root.rglob("*.json"))
    assert len(files) == 1
    files[0].write_text("{")
    assert replace(evaluator.certificate(task()), seconds=0, gold_seconds=0) == replace(
        first, seconds=0, gold_seconds=0
    )


def test_certificates_of_odd_task_ids_do_not_meet(tmp_path: Path) -> None:
    store = Certificates(tmp_path)
    for name in ("a/b", "a_b", "a:b", "../a"):
        store.put(Certificate(name, "passed", snapshot="k", task_digest="d"), {"gold 1": name})
    for name in ("a/b", "a_b", "a:b", "../a"):
        found = store.get("k", name, "d")
        assert found is not None
        assert found.task_id == name
        assert store.logs("k", name) == {"gold 1": name}
    assert store.get("k", "a_b", "other") is None
    assert store.get("other", "a_b", "d") is None
    assert all(tmp_path in file.parents for file in tmp_path.rglob("*"))


def test_many_threads_grade_at_once(evaluator: Evaluator) -> None:
    many = [task(id=f"lab__pkg-{i}") for i in range(6)]
    verdicts = evaluator.evaluate(
        {t.id: GOLD if i % 2 else "" for i, t in enumerate(many)}, many, workers=3, progress=False
    )
    assert [v.status for v in verdicts.values()] == ["unresolved", "resolved"] * 3


def test_a_log_is_read_as_the_snapshot_says_and_not_as_the_task_alone_does(tmp_path: Path) -> None:
    """What was derived from the repository's files stands in the Snapshot only."""
    boxes = HandMade(tmp_path, FILES)
    evaluator = Evaluator(boxes, certificates=tmp_path / "certificates")  # type: ignore[arg-type]
    verdict = evaluator.grade(task(), GOLD)
    boxes.cache.spec = lambda one: spec_for(replace(one, spec={**QUICK, "log_parser": "parse_log_django"}))
    assert evaluator.regrade(task(), verdict).tests == {}
    boxes.cache.spec = lambda _: None
    assert evaluator.regrade(task(), verdict) == verdict


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_kept_verdicts_are_not_graded_again(evaluator: Evaluator, boxes: HandMade, tmp_path: Path) -> None:
    keep, tasks = tmp_path / "run" / "verdicts.jsonl", [task(), task(id="lab__pkg-2")]
    first = evaluator.evaluate({"lab__pkg-1": GOLD, "lab__pkg-2": ""}, tasks, keep=keep, progress=False)
    assert first.counts == {"resolved": 1, "unresolved": 1, "not graded": 0}
    with keep.open("a") as file:
        file.write('{"key": "a killed writer')
    before = boxes.opened
    again = evaluator.evaluate({"lab__pkg-1": GOLD, "lab__pkg-2": ""}, tasks, keep=keep, progress=False)
    assert dict(again) == dict(first) and boxes.opened == before
    other = evaluator.evaluate({"lab__pkg-1": code(BUGGY.replace("a - b", "a * b"))}, tasks, keep=keep, progress=False)
    assert boxes.opened > before and other.counts["unresolved"] == 1, "another patch is graded"
    assert len(keep.read_text().splitlines()) == 4, "rows are only ever appended"


def test_two_verdicts_are_compared_task_by_task(evaluator: Evaluator) -> None:
    import swebench_lab as lab

    tasks = [task(), task(id="lab__pkg-2")]
    gold = evaluator.evaluate({"lab__pkg-1": GOLD, "lab__pkg-2": GOLD}, tasks, progress=False)
    half = evaluator.evaluate({"lab__pkg-1": GOLD, "lab__pkg-2": ""}, tasks, progress=False)
    compared = lab.compare(half, gold, names=("half", "gold"))
    assert (compared.first, compared.second, compared.only_second) == (0.5, 1.0, ("lab__pkg-2",))
    assert lab.plots.rates(gold.table())._repr_png_().startswith(b"\x89PNG")


def test_what_was_checked_can_be_removed_and_stays_certified(tmp_path: Path) -> None:
    tasks = lab.load_tasks("demo").filter(repo="demo/depgraph")[:2]
    with lab.SandboxFactory("namespace", cache=tmp_path) as sandboxes:
        evaluator = Evaluator(sandboxes)
        frame = evaluator.check(tasks, audit="none", delete_after=True, progress=False)
        assert frame["status"].to_list() == ["passed", "passed"]
        assert sandboxes.cache.ls().height == 0 and not list((tmp_path / "trees").iterdir())
        assert evaluator.certified(tasks).ids == tasks.ids
        assert "passed" in evaluator.logs(tasks[0])["gold 1"]
        again = evaluator.check(tasks, audit="none", progress=False)
        assert again["seconds"].to_list() == frame["seconds"].to_list(), "nothing was built or run again"
        assert not list((tmp_path / "trees").iterdir())
