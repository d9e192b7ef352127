"""Task folders of Terminal-Bench 1: read, certified, judged by the set's own rule, refused by name where something is not honoured."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.grading.verifiers.terminal_bench import parse_terminal_bench
from tests.grading.script_tasks import GOLD, HALF, root_fs

PACKAGE = os.environ.get("SWEBENCH_LAB_TERMINAL_BENCH", "")
"""The folder of the set's package, `terminal_bench`."""
YAML = (
    "instruction: add.sh subtracts. Make it add.\ndifficulty: easy\nmax_test_timeout_sec: 30.0\nparser_name: pytest\n"
)
COMPOSE = """\
services:
  client:
    build: {dockerfile: Dockerfile}
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    command: [sh, -c, sleep infinity]
    environment: ["TEST_DIR=${T_BENCH_TEST_DIR}", "SUM=${SUM:-4}"]
    volumes: ["${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}"]
"""
RUN = """\
echo "=== short test summary info ==="
. $TEST_DIR/cases.sh
"""
CASES = """\
for pair in "two 2 2 $SUM" "zero 3 0 3"; do set -- $pair
  [ "$(sh add.sh $2 $3)" = $4 ] && echo "PASSED t.py::$1" || echo "FAILED t.py::$1 - assert $1 - $4"
done
"""


def write(folder: Path, **files: str) -> Path:
    """Write one task folder; returns it."""
    texts = {"task.yaml": YAML, "Dockerfile": "FROM acme/shell:1\nWORKDIR /app\n", "docker-compose.yaml": COMPOSE, "run-tests.sh": RUN,
             "tests/cases.sh": CASES, "solution.sh": "sed -i s/-/+/ add.sh\n", **{name.replace("__", "."): text for name, text in files.items()}}  # fmt: skip
    for name, text in texts.items():
        path = folder / "add" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_folder_is_read_certified_and_graded_by_the_rule_of_its_set(tmp_path):
    (task,) = lab.load_tasks(write(tmp_path / "set"))
    assert (task.id, task.network, task.verifier.env["SUM"], task.verifier.timeout) == ("add", "allow:*", "4", 30.0)
    task = replace(task, source=f"folder:{root_fs(tmp_path / 'root')}", workdir="/app")
    evaluator = lab.Evaluator(lab.SandboxFactory(cache=tmp_path / "cache"), workers=1)
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.gold, certificate.untouched) == ("passed", ("resolved",), ("unresolved",))
    assert evaluator.grade(task, HALF).status == "unresolved" and evaluator.grade(task, GOLD).resolved


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"task__yaml": YAML.replace("pytest", "mlebench")}, "the parser 'mlebench'"),
        ({"task__yaml": YAML + "run_tests_in_same_shell: true\n"}, "in the agent's own shell"),
        ({"task__yaml": "difficulty: easy\n"}, "field 'instruction'"),
        ({"task__yaml": "a: [\n"}, "cannot be read as YAML"),
        ({"task__yaml": YAML.replace("30.0", "soon")}, "field 'max_test_timeout_sec': expected seconds"),
        ({"docker-compose__yaml": COMPOSE + "  db: {image: postgres}\n"}, "of several services"),
        ({"docker-compose__yaml": COMPOSE.replace("    command", "    privileged: true\n    command")}, "a container with privileged"),
        ({"docker-compose__yaml": COMPOSE.replace("${T_BENCH_TASK_LOGS_PATH}:", "/etc:").replace("${T_BENCH_CONTAINER_LOGS_PATH}", "/host")}, "the volume /etc:/host"),
        ({"docker-compose__yaml": COMPOSE.replace("${SUM:-4}", "${SECRET}")}, "the variable SECRET of the host"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(tmp_path, files, words):
    with pytest.raises(lab.TaskError, match=words):
        lab.load_tasks(write(tmp_path, **files))


def logs(count: int = 60) -> list[tuple[str, str]]:
    """Outputs of tests, and the parser that reads each."""
    dice = random.Random(3)
    states = ["PASSED"] * 8 + ["FAILED", "SKIPPED", "XFAIL", "XPASS", "ERROR"]
    found = []
    for _ in range(count):
        lines = [
            f"{dice.choice(states)} tests/t.py::case[{n} - x]{dice.choice(['', ' - assert 1 - 2'])}"
            for n in range(dice.randint(1, 5))
        ]
        found.append(
            ("pytest", "\n".join(["noise", "==== short test summary info ====", *lines, "=== 5 passed in 0.1s ==="]))
        )
        word = dice.choice(["PASSED", "FAILED", "PASSED x"])
        found.append(("swebench", f"a\nSWEBench results starts here\n{word}\nSWEBench results ends here\nb\n"))
    return found


def test_the_rule_is_that_every_test_of_the_summary_passed():
    assert (
        parse_terminal_bench("pytest", "== short test summary info ==\nPASSED a\nSKIPPED b\nXFAIL c\n").solved is True
    )
    assert parse_terminal_bench("pytest", "== short test summary info ==\nPASSED a\nXPASS b\n").solved is False
    for log in ("PASSED a\n", "== short test summary info ==\nnothing\n"):
        assert parse_terminal_bench("pytest", log).fault
    assert parse_terminal_bench("swebench", "PASSED").fault
    assert {parse_terminal_bench(*pair[:1], pair[1]).solved for pair in logs()} == {True, False}


@pytest.mark.skipif(not PACKAGE, reason="SWEBENCH_LAB_TERMINAL_BENCH names no folder")
def test_the_rule_agrees_with_the_sets_own_code():
    code = (
        "import json, sys, types\n"
        "package = types.ModuleType('terminal_bench'); package.__path__ = [sys.argv[1]]; sys.modules['terminal_bench'] = package\n"
        "from terminal_bench.parsers.base_parser import UnitTestStatus\n"
        "from terminal_bench.parsers.pytest_parser import PytestParser\n"
        "from terminal_bench.parsers.swebench_parser import SWEBenchParser\n"
        "kinds = dict(pytest=PytestParser, swebench=SWEBenchParser)\n"
        "print(json.dumps([all(s == UnitTestStatus.PASSED for s in kinds[k]().parse(t).values()) for k, t in json.load(sys.stdin)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, PACKAGE], input=json.dumps(logs()), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [parse_terminal_bench(kind, log).solved for kind, log in logs()] == json.loads(done.stdout)
