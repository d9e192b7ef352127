"""The official answers for rows of other sets are those of the sets' own code, side by side on logs of many languages."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from importlib import import_module, util
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.grading.execution.test_run import TestRun
from swebench_lab.grading.rules.log_parsers import parse_log
from swebench_lab.grading.verifiers.multi_swe import parse_multi_swe
from swebench_lab.grading.verifiers.readers import parse_report
from swebench_lab.grading.verifiers.reading import Reading
from swebench_lab.grading.verifiers.verdict import judge_reading
from tests.tasks.set_logs import FORMS, POLY_FORMS, draw
from tests.tasks.set_rows import live_row, multi_row, outcomes, poly_row, rebench_row

REBENCH = os.environ.get("SWEBENCH_LAB_REBENCH_CHECKOUT", "")
LIVE = os.environ.get("SWEBENCH_LAB_LIVE_CHECKOUTS", "")
"""Checkouts of SWE-bench-Live and of RepoLaunch, which it runs its parsers with, joined by a colon."""
POLY = os.environ.get("SWEBENCH_LAB_POLYBENCH_CHECKOUT", "")
NAMES = ["TestAlpha", "TestBeta", "TestGamma", "TestDelta"]


def read_here(task: lab.Task, log: str, folder: Path) -> Reading:
    """What the report of a task says of a log, made without a box."""
    verifier = task.verifier
    assert verifier is not None
    (folder / "stdout.log").write_text(log)
    (folder / "stderr.log").write_text("")
    subprocess.run(["bash", "-c", verifier.report.replace("/workspace", str(folder))], check=True)
    return parse_report((folder / "output.json").read_text())


def reference(code: str, cases: list[dict[str, Any]], folder: Path, *paths: str) -> list[bool]:
    """What a set's own code says of each case."""
    (folder / "cases.json").write_text(json.dumps(cases))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[bool] = json.loads(done.stdout.strip().split("\n")[-1])
    return answers


def answers(task: lab.Task, reading: Reading) -> tuple[str, str]:
    verdict = judge_reading(task, TestRun("", 0), reading)
    return verdict.status, verdict.official


@pytest.mark.skipif(not REBENCH, reason="SWEBENCH_LAB_REBENCH_CHECKOUT names no checkout")
def test_rebench_v2_agrees_on_logs_of_ten_parsers(tmp_path: Path) -> None:
    dice, cases, ours = random.Random(0), [], []
    (tmp_path / "lib").symlink_to(Path(REBENCH) / "lib")
    for parser, write in FORMS.items():
        config = {**rebench_row()["install_config"], "log_parser": parser}
        row = rebench_row(install_config=config)
        (task,) = lab.load_tasks([row], scripts=REBENCH)
        names = [*read_here(task, write(dict.fromkeys(NAMES, "PASS"), dice), tmp_path).tests]
        assert len(names) == len(NAMES), parser
        row |= {"FAIL_TO_PASS": names[:2], "PASS_TO_PASS": names[2:]}
        (task,) = lab.load_tasks([row], scripts=REBENCH)
        for _ in range(5):
            log = write(draw(NAMES, dice), dice)
            cases.append({"row": row, "log": log})
            reading = read_here(task, log, tmp_path) if log.strip() else Reading(fault="empty")
            ours.append(answers(task, reading))
    code = (
        "import importlib.util, json, os\n"
        f"spec = importlib.util.spec_from_file_location('reference', {str(Path(REBENCH) / 'scripts' / 'eval.py')!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "said = []\n"
        "for case in json.load(open('cases.json')):\n"
        "    module.run_in_container = lambda log=case['log'], **k: (0, log)\n"
        "    said.append(module.evaluate_instance(case['row'], 'x', None)['passed_match'])\n"
        "print(json.dumps(said))\n"
    )
    theirs = reference(code, cases, tmp_path)
    assert len(cases) >= 30 and {True, False} == set(theirs)
    assert [official == "resolved" for _, official in ours] == theirs
    differing = [
        case["log"] for case, (status, official) in zip(cases, ours, strict=True) if official and status != official
    ]
    assert differing and all("TestMore" in log for log in differing)  # an extra test passes: exact equality says no


@pytest.mark.skipif(not LIVE, reason="SWEBENCH_LAB_LIVE_CHECKOUTS names no checkouts")
def test_live_agrees_on_logs_of_its_rows_parsers_and_of_pytest(tmp_path: Path) -> None:
    dice, cases, ours = random.Random(1), [], []
    gotest = (
        "import re\ndef parser(log):\n    words = dict(PASS='pass', FAIL='fail', SKIP='skip')\n"
        "    return {name: words[word] for word, name in re.findall(r'^--- (PASS|FAIL|SKIP): (\\S+)', log, re.M)}\n"
    )
    for kind, parser in (("parse_log_gotest", gotest), ("parse_log_pytest", "pytest")):
        row = live_row(FAIL_TO_PASS=NAMES[:2], PASS_TO_PASS=NAMES[2:], log_parser=parser)
        (task,) = lab.load_tasks([row])
        for _ in range(20):
            log = FORMS[kind](draw(NAMES, dice), dice)
            cases.append({"row": row, "log": log})
            if parser == "pytest":
                ours.append(answers(task, Reading(tests=parse_log("parse_log_pytest", log))))
            else:
                ours.append(answers(task, read_here(task, log, tmp_path)))
    code = (
        "import json, sys, types\n"
        "class Box:\n"
        "    def __getattr__(self, name): return lambda *a, **k: self\n"
        "    output = ''\n"
        "box = Box()\n"
        "class SetupRuntime:\n"
        "    from_launch_image = staticmethod(lambda *a, **k: box)\n"
        "sys.modules['launch.core.runtime'] = types.SimpleNamespace(SetupRuntime=SetupRuntime)\n"
        "sys.modules['datasets'] = types.SimpleNamespace(load_dataset=None)\n"
        "from evaluation.evaluation import run_instance\n"
        "said = []\n"
        "for number, case in enumerate(json.load(open('cases.json'))):\n"
        "    Box.output = case['log']\n"
        "    row = {**case['row'], 'pred_patch': 'x', 'instance_id': str(number)}\n"
        "    said.append(run_instance(row, 'linux', 'out', True)['resolved'])\n"
        "print(json.dumps(said))\n"
    )
    theirs = reference(code, cases, tmp_path, *LIVE.split(":"))
    assert len(cases) >= 30 and {True, False} == set(theirs)
    assert [official == "resolved" for _, official in ours] == theirs
    assert any(status != official for status, official in ours)  # a PASS_TO_PASS test that nobody reports


@pytest.mark.skipif(not POLY, reason="SWEBENCH_LAB_POLYBENCH_CHECKOUT names no checkout")
def test_polybench_agrees_on_logs_of_five_parsers(tmp_path: Path) -> None:
    dice, cases, ours = random.Random(3), [], []
    place = tmp_path / "poly_bench_evaluation"  # its parsers, without what else its first file imports
    place.mkdir()
    (place / "parsers").symlink_to(Path(POLY) / "src" / "poly_bench_evaluation" / "parsers")
    for repo, write in POLY_FORMS.items():
        (task,) = lab.load_tasks([poly_row(repo=repo)], scripts=POLY)
        names = [*read_here(task, write(dict.fromkeys(NAMES, "PASS"), dice), tmp_path).tests]
        assert len(names) == len(NAMES), repo
        row = poly_row(repo=repo, F2P=str(names[:2]), P2P=str(names[2:]))
        (task,) = lab.load_tasks([row], scripts=POLY)
        for _ in range(10):
            log = write(draw(NAMES, dice), dice)
            cases.append({"repo": repo, "log": log, "f2p": names[:2], "p2p": names[2:]})
            ours.append(answers(task, read_here(task, log, tmp_path)))
    code = (
        "import json, sys, types\n"
        "for name in ('loguru', 'datasets', 'pandas'):\n"
        "    sys.modules[name] = types.SimpleNamespace(logger=None, load_dataset=None, DataFrame=None)\n"
        "package = types.ModuleType('poly_bench_evaluation'); package.__path__ = [sys.path[1] + '/poly_bench_evaluation']\n"
        "sys.modules['poly_bench_evaluation'] = package  # its own first file imports a Docker client\n"
        "from poly_bench_evaluation import parsers\n"
        "from poly_bench_evaluation.constants import REPO_TO_PARSER_CLASS\n"
        "from poly_bench_evaluation.scoring import instance_level_scoring\n"
        "said = []\n"
        "for case in json.load(open('cases.json')):\n"
        "    log = case['log'] + '\\n' + '\\n'.join(['Container exited with status code: 1'] * 2)\n"
        "    result = getattr(parsers, REPO_TO_PARSER_CLASS[case['repo']])(test_content=log).parse()\n"
        "    said.append(instance_level_scoring('x', result, case['f2p'], case['p2p'], True, True).resolved)\n"
        "print(json.dumps(said))\n"
    )
    theirs = reference(code, cases, tmp_path, str(Path(POLY) / "src"))
    assert len(cases) >= 30 and {True, False} == set(theirs)
    assert [official == "resolved" for _, official in ours] == theirs
    assert any(official and status != official for status, official in ours)  # a P2P test that nobody reports


@pytest.mark.skipif(util.find_spec("multi_swe_bench") is None, reason="the extra multi-swe is not installed")
def test_multi_swe_bench_agrees_on_logs_of_five_repositories(tmp_path: Path) -> None:
    dice, rows, ours = random.Random(2), [], {}
    repos = (("cli", "cli", "parse_log_gotest"), ("BurntSushi", "ripgrep", "parse_log_cargo"), ("gin-gonic", "gin", "parse_log_gotest"),
             ("clap-rs", "clap", "parse_log_cargo"), ("tokio-rs", "tokio", "parse_log_cargo"))  # fmt: skip
    for number in range(1, 51):
        org, repo, form = repos[number % len(repos)]
        write = FORMS[form]
        before = {**draw(NAMES, dice, 0), NAMES[0]: dice.choice(["FAIL", "FAIL", "SKIP", "PASS"])}
        gold, after = dict.fromkeys(NAMES[:3], "PASS"), draw(NAMES, dice)
        if number % 10 == 0:  # a test breaks that no one expects: their rule says no
            before, after = {**before, NAMES[0]: "FAIL", NAMES[3]: "PASS"}, {**gold, NAMES[3]: "FAIL"}
        row = multi_row(org=org, repo=repo, number=number, run_result=_sides(draw(NAMES, dice)), test_patch_result=_sides(before),
                        fix_patch_result=_sides(gold), **_transitions(before, gold))  # fmt: skip
        (task,) = lab.load_tasks([row])
        log = write(after, dice)
        place = tmp_path / "work" / org / repo / "evals" / f"pr-{number}"
        place.mkdir(parents=True)
        (place / "fix-patch-run.log").write_text(log)
        rows.append(row)
        assert task.verifier is not None
        ours[f"{org}/{repo}:pr-{number}"] = answers(task, parse_multi_swe(task.verifier.reads, log))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("out", "logs"):
        (tmp_path / name).mkdir()
    builder = import_module("multi_swe_bench.harness.gen_report").CliArgs(
        mode="evaluation", workdir=tmp_path / "work", output_dir=tmp_path / "out", specifics=None, skips=None, raw_dataset_files=None,
        dataset_files=[str(tmp_path / "rows.jsonl")], max_workers=1, log_dir=tmp_path / "logs", log_level="ERROR", log_to_console=False,
    )  # fmt: skip
    builder.run()
    report = json.loads((tmp_path / "out" / "final_report.json").read_text())
    theirs = {name: name in report["resolved_ids"] for name in report["submitted_ids"]}
    assert len(theirs) == len(ours) >= 30 and {True, False} == set(theirs.values())
    assert {name: official == "resolved" for name, (_, official) in ours.items()} == theirs
    assert any(official and status != official for status, official in ours.values())


def _sides(states: dict[str, str]) -> dict[str, Any]:
    return outcomes(*([name for name, state in states.items() if state == word] for word in ("PASS", "FAIL", "SKIP")))


def _transitions(before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    """The four kinds of tests that a row names, from the runs without and with the fix."""
    kinds: dict[str, dict[str, dict[str, str]]] = {f"{letter}2p_tests": {} for letter in "fpsn"}
    for name, state in after.items():
        was = before.get(name, "NONE")
        if state == "PASS":
            kinds[f"{was[0].lower()}2p_tests"][name] = {"run": "NONE", "test": was, "fix": state}
    return kinds
