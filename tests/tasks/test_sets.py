"""SWE-rebench V2, SWE-bench-Live and Multi-SWE-bench: rows in their published shape, graded by their own commands and parsers."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import util

import pytest

import swebench_lab as lab
from swebench_lab.grading.rules.set_rules import Outcomes, resolved_by
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.tasks.sets.poly_bench import IMAGES as POLY_IMAGES
from tests.grading.script_tasks import BROKEN, GOLD, HALF
from tests.tasks.set_rows import (
    OPEN_SCRIPT,
    SUITE,
    TEST_PATCH,
    checkout,
    columns,
    live_row,
    multi_root,
    multi_row,
    open_row,
    outcomes,
    poly_checkout,
    poly_row,
    rebench_row,
    tree,
)

CHEAT = make_patch({"tests.sh": SUITE}, {"tests.sh": "echo PASSED adds zero; echo PASSED adds two\n"})
needs_package = pytest.mark.skipif(
    util.find_spec("multi_swe_bench") is None, reason="the extra multi-swe is not installed"
)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> lab.Evaluator:
    folder = tmp_path_factory.mktemp("sets")
    roots = {"acme/shell:1": tree(folder / "rebench", "shell"), "acme/shell:2": tree(folder / "live", "testbed"),
             "mswebench/cli_m_cli:pr-7": multi_root(folder / "multi"), "openswe/acme-shell:4": tree(folder / "open", "testbed")}  # fmt: skip
    roots[f"{POLY_IMAGES}.acme__shell-3:latest"] = tree(folder / "poly", "testbed")
    bases = {image: f"folder:{root}" for image, root in roots.items()}
    return lab.Evaluator(lab.SandboxFactory(cache=folder / "cache", bases=bases), workers=1)


@pytest.fixture(scope="module")
def rebench(tmp_path_factory: pytest.TempPathFactory) -> lab.Task:
    return lab.load_tasks([rebench_row()], scripts=checkout(tmp_path_factory.mktemp("checkout")))[0]


def test_a_row_of_rebench_v2_is_graded_by_the_parser_of_its_repository(evaluator, rebench):
    assert (rebench.workdir, rebench.created_at, rebench.fail_to_pass) == (
        "/shell",
        "2023-11-14T22:13:20Z",
        ("adds two",),
    )
    certificate = evaluator.certificate(rebench)
    assert (certificate.status, certificate.official) == ("passed", "resolved/unresolved")
    half = evaluator.grade(rebench, HALF)
    assert (half.status, half.official, half.pass_to_pass["success"]) == ("unresolved", "unresolved", ("adds zero",))


def test_an_extra_passing_test_fails_the_rule_of_rebench_v2_and_not_ours(evaluator, rebench):
    verdict = evaluator.grade(replace(rebench, pass_to_pass=()), GOLD)
    assert (verdict.status, verdict.official) == ("resolved", "unresolved")


def test_the_files_of_the_test_patch_win_over_those_of_a_patch(evaluator, rebench):
    for task in (rebench, lab.load_tasks([live_row()])[0]):
        assert evaluator.grade(task, CHEAT).status == "unresolved"
        assert evaluator.grade(task, GOLD + CHEAT).resolved


def test_rows_of_rebench_v2_need_the_checkout_and_a_parser_that_it_has(tmp_path):
    with pytest.raises(lab.TaskError, match=r"V2 in shell: .* load_tasks\(\.\.\., scripts=CHECKOUT\)"):
        lab.load_tasks([rebench_row()])
    with pytest.raises(lab.TaskError, match=r"holds no lib/agent/log_parsers\.py"):
        lab.load_tasks([rebench_row()], scripts=tmp_path)
    place, config = checkout(tmp_path / "there"), rebench_row()["install_config"]
    with pytest.raises(lab.TaskError, match="has no parser called 'parse_log_w'"):
        lab.load_tasks([rebench_row(install_config={**config, "log_parser": "parse_log_w"})], scripts=place)
    with pytest.raises(lab.TaskError, match="expected a test_cmd and a log_parser"):
        lab.load_tasks([rebench_row(install_config={**config, "test_cmd": []})], scripts=place)
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(rebench_row()) + "\n")
    (task,) = lab.load_tasks(file, scripts=place)
    file.write_text(json.dumps(task.to_dict()) + "\n")
    with pytest.raises(lab.TaskError, match="is a place of this machine"):
        lab.load_tasks(file)
    assert lab.load_tasks(file, scripts=place)[0] == task  # named by whoever loads them


def test_python_rows_of_rebench_v2_run_the_whole_suite_here_or_in_their_image(tmp_path):
    row = rebench_row(language="python")
    assert lab.load_tasks([row])[0].spec["test_arguments"] == "none"
    assert lab.load_tasks([row], scripts=checkout(tmp_path / "there"))[0].verifier is not None


def test_a_row_of_swe_bench_live_is_graded_by_its_own_commands_and_parser(evaluator):
    (task,) = lab.load_tasks([live_row()])
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.official) == ("passed", "resolved/unresolved")
    missing = replace(task, pass_to_pass=(*task.pass_to_pass, "a test that nobody reports"))
    verdict = evaluator.grade(missing, GOLD)
    assert (verdict.status, verdict.official) == ("unresolved", "resolved")
    assert lab.load_tasks([live_row(docker_image=None)])[0].image == "starryzhang/sweb.eval.x86_64.acme_1776_shell-2"


def test_rows_of_swe_bench_live_that_cannot_run_here_are_refused_by_name():
    for change, words in (({"docker_image": "starryzhang/sweb.eval.win.acme_1776_shell-2"}, "for Windows"),
                          ({"test_cmds": []}, "no command runs the tests"),
                          ({"log_parser": "gotest"}, r"Python that defines parser\(log\)")):  # fmt: skip
        with pytest.raises(lab.TaskError, match=words):
            lab.load_tasks([live_row(**change)])


def test_a_row_of_multi_swe_bench_shows_agents_neither_of_the_patches_in_its_image(evaluator):
    (task,) = lab.load_tasks([multi_row()])
    assert (task.id, task.issue) == ("cli__cli-7", "add.sh subtracts\n\nIt prints the difference.")
    with evaluator.sandboxes.open(task) as box:
        assert box.workdir == "/home/cli"
        assert box.run("ls /home").output.split() == ["cli", "fix-run.sh", "run.sh", "test-run.sh"]
        assert not box.run(f"grep -rF {chr(39)}$1 + $2{chr(39)} /home").ok


def test_rows_of_multi_swe_bench_are_read_in_every_form_of_the_hub():
    row = multi_row()
    want = lab.load_tasks([row])[0]
    as_columns = {**row, **{name: columns(row[name]) for name in ("f2p_tests", "p2p_tests", "s2p_tests", "n2p_tests")}}
    as_struct = {**row, "f2p_tests": {**row["f2p_tests"], "TestOfAnotherRow": None}}
    assert lab.load_tasks([as_columns])[0] == lab.load_tasks([as_struct])[0] == want
    for change, words in (({"number": "7"}, "field 'number'"), ({"base": 3}, "field 'base'"), ({"f2p_tests": 3}, "field 'f2p_tests'"),
                          ({"run_result": None}, "field 'run_result'")):  # fmt: skip
        with pytest.raises(lab.TaskError, match=words):
            lab.load_tasks([multi_row(**change)])


@needs_package
def test_a_row_of_multi_swe_bench_is_graded_by_the_parser_of_its_package(evaluator):
    (task,) = lab.load_tasks([multi_row()])
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.official) == ("passed", "resolved/unresolved")
    assert evaluator.grade(task, HALF).status == "unresolved"
    assert evaluator.grade(task, CHEAT).status == "unresolved"
    assert evaluator.grade(task, GOLD + CHEAT).resolved


@pytest.mark.skipif(util.find_spec("multi_swe_bench") is not None, reason="the extra multi-swe is installed")
def test_without_its_package_a_row_of_multi_swe_bench_is_not_graded_and_says_what_to_install(evaluator):
    verdict = evaluator.grade(lab.load_tasks([multi_row()])[0], GOLD)
    assert verdict.status == "not graded" and "pip install 'swebench-lab[multi-swe]'" in verdict.reason


def test_a_row_of_swe_polybench_is_graded_by_the_parser_of_its_repository(evaluator, tmp_path):
    place = poly_checkout(tmp_path / "checkout")
    (task,) = lab.load_tasks([poly_row()], scripts=place)
    task = replace(task, workdir="/testbed")  # the root that stands for the image names no work directory
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.official) == ("passed", "resolved/unresolved")
    assert evaluator.grade(task, HALF).status == evaluator.grade(task, CHEAT).status == "unresolved"
    missing = replace(task, pass_to_pass=(*task.pass_to_pass, "a test that nobody reports"))
    verdict = evaluator.grade(missing, GOLD)
    assert (verdict.status, verdict.official) == ("unresolved", "resolved")
    for row, words in (
        (poly_row(repo="acme/other"), "names no parser for 'acme/other'"),
        (poly_row(F2P="[]"), "no test decides"),
    ):
        with pytest.raises(lab.TaskError, match=words):
            lab.load_tasks([row], scripts=place)
    for scripts, words in (
        (None, r"SWE-PolyBench: .* load_tasks\(\.\.\., scripts=CHECKOUT\)"),
        (tmp_path, "the checkout holds no"),
    ):
        with pytest.raises(lab.TaskError, match=words):
            lab.load_tasks([poly_row()], scripts=scripts)


@pytest.mark.parametrize(
    "change", [{}, {"eval_script": OPEN_SCRIPT.replace("[CONTENT OF TEST PATCH]\n", TEST_PATCH), "test_patch": None}]
)
def test_a_row_of_openswe_is_graded_by_the_marker_that_its_script_prints(evaluator, change):
    (task,) = lab.load_tasks([open_row(**change)])
    assert (task.test_patch, task.fail_to_pass) == (TEST_PATCH, ())
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.official) == ("passed", "resolved/unresolved")
    assert evaluator.grade(task, HALF).status == evaluator.grade(task, CHEAT).status == "unresolved"
    assert evaluator.grade(task, GOLD + CHEAT).resolved
    forged = make_patch({"add.sh": BROKEN}, {"add.sh": BROKEN + "echo OPENSWE_EXIT_CODE=0 >/dev/stderr; exit 0\n"})
    verdict = evaluator.grade(task, forged)
    assert (verdict.status, verdict.official) == ("unresolved", "resolved")
    with_no_gold = lab.load_tasks([open_row(**{**change, "patch": None})])[0]
    assert not with_no_gold.has_gold


def test_the_rules_of_the_sets_differ_where_the_page_says_so():
    both = Outcomes({"a": "PASSED", "b": "PASSED"}, ("a",), ("b",))
    extra = replace(both, tests={**both.tests, "c": "PASSED"})
    silent = replace(both, tests={"a": "PASSED"})
    rules = ("swe-bench-pro", "swe-rebench-v2", "swe-bench-live", "swe-polybench")
    assert [[resolved_by(rule, case) for rule in rules] for case in (both, extra, silent)] == [
        [True, True, True, True], [True, False, True, True], [False, False, True, True],
    ]  # fmt: skip
    mixed = [replace(both, tests={**both.tests, name: "MIXED"}) for name in ("a", "b")]
    assert [resolved_by("swe-polybench", case) for case in mixed] == [True, False]
    row = {"run_result": outcomes([]), "test_patch_result": outcomes(["b"], ["a"])}
    moved = replace(both, row=row)
    assert resolved_by("multi-swe-bench", moved)
    assert not resolved_by("multi-swe-bench", replace(moved, row={**row, "n2p_tests": ["a"]}))  # it was not absent
    broken = {**row, "test_patch_result": outcomes(["b", "z"], ["a"])}
    assert not resolved_by("multi-swe-bench", replace(moved, tests={**both.tests, "z": "FAILED"}, row=broken))


def test_rows_of_the_first_generation_of_live_are_judged_by_its_rule_beside_ours():
    from swebench_lab.grading.execution.test_run import TestRun
    from swebench_lab.grading.judge import judge
    from swebench_lab.grading.rules.expectation import Expectation

    log = "=== short test summary info ===\nPASSED a.py::a\n=== 1 passed in 0.1s ===\n"
    expected = Expectation(("a.py::a",), ("a.py::gone",), layout="swe-bench-live")
    verdict = judge(TestRun(log, 0), expected)
    assert (verdict.status, verdict.official) == ("unresolved", "resolved")
    assert judge(TestRun(log, 0), replace(expected, layout="")).official == "unresolved"
