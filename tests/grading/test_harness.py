"""The official harness on a real engine beside our own grading of the same images, with and without that engine.

Needs an engine, the program `docker`, and an image with bash, git, patch, Python and pytest, which
`$SWEBENCH_LAB_TEST_IMAGE` names; no registry is asked.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab import _files
from swebench_lab.errors import GradingError, SandboxUnavailable
from swebench_lab.grading.harness import harness_row
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.task import Tasks
from swebench_lab.sandbox.docker.engine import DockerOptions, engine
from swebench_lab.snapshots.cache import SnapshotCache
from tests.boxes import git
from tests.tasks.test_schemas import SWEBENCH5_ROW, SWEBENCH_ROW

BASE = os.environ.get("SWEBENCH_LAB_TEST_IMAGE", "")
CODE = "".join(f"def op{n}(a, b):\n    return a {sign} b\n\n\n" for n, sign in enumerate("-*+-*"))
RIGHT = ("+", "-", "*", "+", "-")
TESTS = "from calc import op0, op1, op2, op3, op4\n\n\ndef test_types():\n    assert isinstance(op0(1, 2), int)\n"
SCRIPT = """\
#!/bin/bash
set -uxo pipefail
cd /testbed
git config --global --add safe.directory /testbed
git checkout {base} test_calc.py
git apply -v - <<'EOF_114329324912'
{test}
EOF_114329324912
: '>>>>> Start Test Output'
python3 -m pytest -rA -p no:cacheprovider test_calc.py
: '>>>>> End Test Output'
git checkout {base} test_calc.py
"""


def row(number: int, base: str) -> dict[str, Any]:
    """A row of SWE-bench 5: one of the five functions is wrong."""
    signs = list("-*+-*")
    signs[number] = RIGHT[number]
    fixed = "".join(f"def op{n}(a, b):\n    return a {sign} b\n\n\n" for n, sign in enumerate(signs))
    expected = eval(f"7 {RIGHT[number]} 3")
    tested = TESTS + f"\n\ndef test_op{number}():\n    assert op{number}(7, 3) == {expected}\n"
    test_patch = make_patch({"test_calc.py": TESTS}, {"test_calc.py": tested})
    name = f"lab__calc-{number}"
    return {
        "repo": "lab/calc", "instance_id": name, "base_commit": base, "version": "1.0", "created_at": "2024-01-01T00:00:00Z",
        "patch": make_patch({"calc.py": CODE}, {"calc.py": fixed}), "test_patch": test_patch, "hints_text": "",
        "problem_statement": f"op{number} is wrong", "environment_setup_commit": base,
        "FAIL_TO_PASS": json.dumps([f"test_calc.py::test_op{number}"]), "PASS_TO_PASS": '["test_calc.py::test_types"]',
        "image": f"sweb.eval.x86_64.{name}:latest", "eval_script": SCRIPT.format(base=base, test=test_patch),
        "log_parser": "parse_log_pytest", "eval_type": "pass_and_fail",
    }  # fmt: skip


def test_a_row_of_swe_bench_5_reaches_the_harness_as_it_was_read() -> None:
    (task,) = lab.load_tasks([SWEBENCH5_ROW])
    given = harness_row(task)
    same = ("instance_id", "image", "eval_script", "log_parser", "eval_type", "patch", "test_patch")
    assert {name: given[name] for name in same} == {name: SWEBENCH5_ROW[name] for name in same}
    with pytest.raises(GradingError, match="has no 'image'"):
        harness_row(lab.load_tasks([SWEBENCH_ROW])[0])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tasks, Path]:
    """Five tasks whose images share all but one layer, in the engine and saved to a folder of archives."""
    if not (BASE and shutil.which("docker")):
        pytest.skip("needs the program docker, and $SWEBENCH_LAB_TEST_IMAGE to name an image with Python and pytest")
    try:
        client = engine(DockerOptions()).client
    except SandboxUnavailable as error:
        pytest.skip(f"needs a container engine: {error}")
    context, archives = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("archives")
    tree = context / "testbed"
    tree.mkdir()
    (tree / "calc.py").write_text(CODE)
    (tree / "test_calc.py").write_text(TESTS)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "start")
    base = git(tree, "rev-parse", "HEAD").strip()
    rows = [row(number, base) for number in range(5)]
    for number, made in enumerate(rows):
        (context / "own").write_text(f"{number}\n" * 50_000)
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\nSTOPSIGNAL SIGKILL\nCOPY testbed /testbed\nCOPY own /own\nWORKDIR /testbed\n"
        )
        image, _ = client.images.build(path=str(context), tag=made["image"], network_mode="none", rm=True)
        with (archives / f"{made['image'].replace(':', '__')}.tar").open("wb") as file:
            file.writelines(image.save(named=True))
    return lab.load_tasks(rows), archives


def predictions(tasks: Tasks) -> list[dict[str, Any]]:
    wrong = tasks[2].gold_patch.replace("+    return a * b", "+    return a % b")
    unfit = tasks[3].gold_patch.replace("-    return a - b", "-    return never * there")
    patches = [tasks[0].gold_patch, tasks[1].gold_patch, wrong, unfit, ""]
    assert wrong != tasks[2].gold_patch and unfit != tasks[3].gold_patch
    return [
        {"instance_id": task.id, "model_name_or_path": "mixed", "model_patch": patch}
        for task, patch in zip(tasks, patches, strict=True)
    ]


def outcomes(verdicts: Any) -> list[tuple[str, ...]]:
    return [(name, v.status, str(sorted(v.tests.items())), str(v.exit_code)) for name, v in verdicts.items()]


@pytest.mark.slow
def test_the_harness_and_every_way_of_ours_agree_on_the_same_images(
    images: tuple[Tasks, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, archives = images
    given = predictions(tasks)
    found = {}
    tiers = ("namespace-root", "namespace-rootless", "docker")
    for tier in tiers if os.geteuid() == 0 else tiers[1:]:
        cache = SnapshotCache(tmp_path / "cache", images="engine" if tier == "docker" else archives)
        with lab.SandboxFactory(tier, cache=cache) as sandboxes:
            evaluator = lab.Evaluator(sandboxes)
            found[tier] = evaluator.evaluate(given, tasks, progress=False)
            if tier == "namespace-rootless":
                checked = evaluator.check(tasks, progress=False, audit="none")
                theirs = evaluator.evaluate_officially(given, tasks, tmp_path / "official")
    assert [v.status for v in theirs.values()] == ["resolved", "resolved", "unresolved", "unresolved", "unresolved"]
    for ours in found.values():
        assert outcomes(ours) == outcomes(found["docker"])
        table = ours.agreement(theirs)
        assert table["agree"].all() and not any(table["differing"].to_list()), table
    assert checked["status"].to_list() == ["passed"] * 5
    with capsys.disabled():
        print(found["namespace-rootless"].agreement(theirs))


@pytest.mark.slow
def test_a_second_image_adds_only_its_own_layers_and_no_engine_is_asked(
    images: tuple[Tasks, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, archives = images
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    cache, seen, sizes = SnapshotCache(tmp_path / "cache", images=archives), set[tuple[int, int]](), []
    for task in tasks:
        snapshot = cache.build(task)
        sizes.append(_files.size_of(cache.root, seen))
    assert sizes[0] > 50e6 and max(sizes[1:]) < 2e6, sizes
    with lab.SandboxFactory("namespace", cache=cache) as sandboxes, sandboxes.open(tasks[0]) as box:
        said = box.run(
            "python3 -c 'import sys; print(sys.version_info[:2], sys.prefix)'; ls /own; cat /etc/debian_version"
        )
        assert said.ok and snapshot.meta["python"] != "", said.output


@pytest.mark.slow
def test_a_copy_of_the_fix_anywhere_in_an_image_is_found_and_hidden_from_both_kinds_of_box(
    images: tuple[Tasks, Path], tmp_path: Path
) -> None:
    tasks, archives = images
    fixed = CODE.replace(
        "return a - b", "if a is None:\n        raise TypeError('op0 takes numbers only')\n    return a + b", 1
    )
    patch = make_patch({"calc.py": CODE}, {"calc.py": fixed})
    task = replace(tasks[0], id="lab__planted-1", image="planted:1", gold_patch=patch)
    (tmp_path / "calc.py").write_text(fixed)
    copies = ("/usr/lib/python3/dist-packages/setuptools/_vendor/calc.py", "/opt/older/calc.py")
    lines = [f"FROM {tasks[0].image}", *(f"COPY calc.py {path}" for path in copies)]
    (tmp_path / "Dockerfile").write_text("\n".join(lines) + "\n")
    image, _ = engine(DockerOptions()).client.images.build(
        path=str(tmp_path), tag=task.image, network_mode="none", rm=True
    )
    with (archives / "planted__1.tar").open("wb") as file:
        file.writelines(image.save(named=True))
    cache = SnapshotCache(tmp_path / "cache", images=archives)
    with lab.SandboxFactory("namespace", cache=cache) as sandboxes:
        evaluator = lab.Evaluator(sandboxes)
        assert {hit.path for hit in evaluator.audit(task, "all").hits} == set(copies)
        certificate = evaluator.certificate(task, audit="all")
        assert (certificate.status, certificate.audited) == ("passed", "all"), certificate.reason
        assert sum("hidden from the box" in line for line in certificate.audit) == 2
        assert certificate.audit[-1] == "no other copy of the repaired code"
        with sandboxes.open(task) as box:
            assert [box.run(["cat", path]).output for path in copies] == ["", ""]
    there = SnapshotCache(cache.root, images="engine")
    with lab.SandboxFactory("docker", cache=there) as sandboxes, sandboxes.open(task) as box:
        assert [box.run(["cat", path]).output for path in copies] == ["", ""]
