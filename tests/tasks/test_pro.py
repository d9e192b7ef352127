"""SWE-bench Pro: rows with their scripts, graded in the image's own history; its rule beside ours, and against its own code."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.grading.execution.test_run import TestRun
from swebench_lab.grading.verifiers.readers import parse_report
from swebench_lab.grading.verifiers.verdict import judge_reading
from swebench_lab.tasks.sets.pro import tag_of
from tests.conftest import make_task
from tests.grading.script_tasks import GOLD, HALF
from tests.tasks.pro_rows import TASK, pro_set, reports

CHECKOUT = os.environ.get("SWEBENCH_LAB_PRO_CHECKOUT", "")
"""A checkout of the set's repository, and an interpreter with pandas and tqdm that runs its evaluation."""
PYTHON = os.environ.get("SWEBENCH_LAB_PRO_PYTHON", "")


@pytest.fixture
def pro(tmp_path: Path) -> tuple[lab.Task, lab.Evaluator]:
    row, scripts, root = pro_set(tmp_path)
    task = lab.load_tasks([row], scripts=scripts)[0]
    sandboxes = lab.SandboxFactory(cache=tmp_path / "cache", bases={task.image: f"folder:{root}"})
    return task, lab.Evaluator(sandboxes, workers=1)


def test_a_row_is_certified_and_graded_by_its_own_scripts(pro):
    task, evaluator = pro
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.official) == ("passed", "resolved/unresolved")
    half = evaluator.grade(task, HALF)
    assert half.status == half.official == "unresolved"
    assert half.fail_to_pass["failure"] == ("tests/all.sh | adds two",)
    assert half.pass_to_pass["success"] == ("tests/all.sh | adds zero",)


def test_the_fix_is_in_the_history_for_the_tests_and_not_for_the_agent(pro):
    task, evaluator = pro
    fix = task.verifier.before.split("git checkout ")[1].split(" ")[0]
    with evaluator.sandboxes.open(task) as box:
        assert box.workdir == "/app" and not box.run(["git", "cat-file", "-e", fix]).ok
        assert not box.run("ls /workspace").ok
    assert evaluator.grade(task, GOLD).resolved


def test_agents_are_shown_problem_requirements_and_interface(pro):
    issue = pro[0].issue
    assert issue == "add.sh subtracts\n\nRequirements:\n- it adds\n\nNew interfaces introduced:\nnone"


def test_a_patch_that_only_our_ways_apply_is_resolved_here_and_not_by_the_sets_evaluation(pro):
    task, evaluator = pro
    fuzzy = evaluator.grade(task, GOLD.replace("prints the sum", "prints a sum"))
    assert (fuzzy.status, fuzzy.official) == ("resolved", "unresolved")
    assert evaluator.grade(task, GOLD.replace("$1 - $2", "$1 % $2")).patch_applied is False


def test_rows_need_the_scripts_and_say_so(tmp_path):
    row, scripts, _ = pro_set(tmp_path)
    with pytest.raises(lab.TaskError, match=r"row of SWE-bench Pro .* load_tasks\(\.\.\., scripts=CHECKOUT\)"):
        lab.load_tasks([row])
    with pytest.raises(lab.TaskError, match=r"holds no run_scripts/instance_other/run_script.sh"):
        lab.load_tasks([{**row, "instance_id": "instance_other"}], scripts=scripts)
    with pytest.raises(lab.TaskError, match="cannot be the name of a folder"):
        lab.load_tasks([{**row, "instance_id": "../x"}], scripts=scripts)
    with pytest.raises(lab.TaskError, match="field 'fail_to_pass': expected a JSON list of test ids"):
        lab.load_tasks([{**row, "fail_to_pass": "f()"}], scripts=scripts)
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert lab.load_tasks(file, scripts=scripts).ids == (TASK,)


@pytest.mark.parametrize(
    ("task_id", "repo", "tag"),
    [
        ("instance_NodeBB__NodeBB-ab-vcd", "NodeBB/NodeBB", "nodebb.nodebb-NodeBB__NodeBB-ab-vcd"),
        ("instance_qutebrowser__qutebrowser-ab-vnan", "qutebrowser/qutebrowser", "qutebrowser.qutebrowser-qutebrowser__qutebrowser-ab"),
        ("instance_element-hq__element-web-ab-vnan", "element-hq/element-web", "element-hq.element-element-hq__element-web-ab"),
        ("instance_element-hq__element-web-ec0f940ef0e8e3b61078f145f34dc40d1938e6c5-vnan", "element-hq/element-web",
         "element-hq.element-web-element-hq__element-web-ec0f940ef0e8e3b61078f145f34dc40d1938e6c5-vnan"),
        ("instance_" + "a" * 200, "A/B", "a.b-" + "a" * 124),
    ],
)  # fmt: skip
def test_tags_of_images_are_derived_where_the_row_has_none(task_id, repo, tag):
    assert tag_of(task_id, repo) == tag


def rule(expected: list[str], report: str) -> bool:
    """The set's rule, written down again: every expected name is reported as PASSED somewhere."""
    return set(expected) <= {row["name"] for row in json.loads(report)["tests"] if row["status"] == "PASSED"}


def judged(sample) -> lab.Verdict:
    task = make_task(fail_to_pass=tuple(sample["fail"]), pass_to_pass=tuple(sample["pass"]))
    return judge_reading(task, TestRun("", 0), parse_report(sample["report"]))


def test_the_official_answer_follows_the_sets_rule_and_ours_differs_where_it_says():
    samples = reports()
    assert len(samples) >= 30
    differing = 0
    for sample in samples:
        verdict, tests = judged(sample), json.loads(sample["report"])["tests"]
        theirs = rule([*sample["fail"], *sample["pass"]], sample["report"])
        if not tests:
            assert verdict.status == "not graded" and not theirs
            continue
        assert verdict.official == ("resolved" if theirs else "unresolved"), sample
        if verdict.status != verdict.official:
            differing += 1
            names = [row["name"] for row in tests]
            assert len(names) != len(set(names)) or any(row["status"] == "XFAIL" for row in tests), sample
    assert 0 < differing < 10


@pytest.mark.skipif(
    not (CHECKOUT and PYTHON), reason="SWEBENCH_LAB_PRO_CHECKOUT and SWEBENCH_LAB_PRO_PYTHON are not set"
)
def test_the_official_answer_is_that_of_the_sets_own_code(tmp_path):
    samples = [s for s in reports(200, seed=1) if json.loads(s["report"])["tests"]]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["instance_id", "fail_to_pass", "pass_to_pass"])
        table.writerows([s["id"], repr(s["fail"]), repr(s["pass"])] for s in samples)
    (tmp_path / "patches.json").write_text(json.dumps([{"instance_id": s["id"], "patch": "x"} for s in samples]))
    (tmp_path / "reports.json").write_text(json.dumps({s["id"]: json.loads(s["report"]) for s in samples}))
    driver = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import swe_bench_pro_eval as e\n"
        "folder = sys.argv[2]; known = json.load(open(folder + '/reports.json'))\n"
        "e.eval_with_modal = lambda patch, sample, *a, **k: known[sample['instance_id']]\n"
        "sys.argv = ['x', '--raw_sample_path', folder + '/rows.csv', '--patch_path', folder + '/patches.json', '--output_dir', folder,\n"
        "            '--dockerhub_username', 'x', '--scripts_dir', sys.argv[1] + '/run_scripts']\n"
        "e.main()\n"
    )
    done = subprocess.run([PYTHON, "-c", driver, CHECKOUT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads((tmp_path / "eval_results.json").read_text())
    assert {s["id"]: judged(s).official == "resolved" for s in samples} == theirs


@pytest.mark.skipif(not CHECKOUT, reason="SWEBENCH_LAB_PRO_CHECKOUT is not set")
def test_every_task_of_the_sets_repository_has_what_grading_needs(tmp_path):
    row, *_ = pro_set(tmp_path)
    rows = []
    for folder in sorted((Path(CHECKOUT) / "run_scripts").iterdir()):
        info = dict(
            line.split(": ", 1) for line in (folder / "instance_info.txt").read_text().split("\n") if ": " in line
        )
        rows.append({**row, "instance_id": folder.name, "repo": info["Repository"], "base_commit": info["Base Commit"],
                     "fail_to_pass": info["FAIL_TO_PASS"], "pass_to_pass": info["PASS_TO_PASS"],
                     "selected_test_files_to_run": info["Test Files"]})  # fmt: skip
    tasks = lab.load_tasks(rows, scripts=CHECKOUT)
    assert len(tasks) == len(rows) > 700
    assert sum("PYTEST_ADDOPTS" in task.verifier.command for task in tasks if task.verifier) > 700
    assert replace(tasks[0], extra={}).workdir == "/app"
