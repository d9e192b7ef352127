"""Rows of SWE-rebench V2, SWE-bench-Live and Multi-SWE-bench of our own making, and the roots that stand for their images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swebench_lab.records.patches.diff import make_patch
from tests.grading.script_tasks import BROKEN, GOLD, root_fs

SUITE = """\
check() { [ "$(sh add.sh $2 $3)" = $4 ] && echo "PASSED adds $1 (0.1$RANDOM""s)" || echo "FAILED adds $1 (2ms)"; }
check zero 3 0 3
"""
HIDDEN = SUITE + "check two 2 2 4\n"
TEST_PATCH = make_patch({"tests.sh": SUITE}, {"tests.sh": HIDDEN})
FAIL, PASS = ["adds two (1.5s)"], ["adds zero [12 ms]"]
COMMON = {"repo": "acme/shell", "base_commit": "0" * 40, "patch": GOLD, "test_patch": TEST_PATCH,
          "problem_statement": "add.sh subtracts"}  # fmt: skip

PARSERS = """\
import re
from lib.agent.swe_constants import STATES
def parse_log_words(log):
    return {name: status for status, name in re.findall(rf"^({STATES}) (.*)$", log, re.M)}
NAME_TO_PARSER = {"parse_log_words": parse_log_words}
"""
LIVE_PARSER = """\
import re
def parser(log: str) -> dict[str, str]:
    return {name.split(" (")[0]: word.lower()[:4] for word, name in re.findall(r"^(PASS|FAIL)ED (.*)$", log, re.M)}
"""


def tree(folder: Path, place: str, files: dict[str, str] | None = None) -> Path:
    """The root of an image with the repository at a place."""
    own = {f"{place}/add.sh": BROKEN, f"{place}/tests.sh": SUITE}
    return root_fs(folder, {**own, **(files or {})})


def rebench_row(**changes: Any) -> dict[str, Any]:
    """A row of SWE-rebench V2."""
    config = {"install": ["true"], "test_cmd": ["test -f add.sh", "bash tests.sh >&2"], "log_parser": "parse_log_words",
              "base_image_name": "shell", "docker_specs": None}  # fmt: skip
    return {**COMMON, "instance_id": "acme__shell-1", "created_at": 1700000000, "language": "shell", "interface": "",
            "image_name": "acme/shell:1", "install_config": config, "FAIL_TO_PASS": FAIL, "PASS_TO_PASS": PASS,
            "meta": {}, **changes}  # fmt: skip


def checkout(folder: Path) -> Path:
    """A checkout of the set's repository, with one parser."""
    place = folder / "lib" / "agent"
    place.mkdir(parents=True)
    (place / "log_parsers.py").write_text(PARSERS)
    (place / "swe_constants.py").write_text('STATES = "PASSED|FAILED|SKIPPED"\n')
    for name in (folder / "lib", place):
        (name / "__init__.py").write_text("")
    return folder


def poly_row(**changes: Any) -> dict[str, Any]:
    """A row of SWE-PolyBench."""
    return {**COMMON, "instance_id": "Acme__shell-3", "language": "JavaScript", "Dockerfile": "FROM debian", "hints_text": "",
            "created_at": "2023-05-01 10:00:00", "F2P": "['two']", "P2P": "['zero']", "test_command": "bash tests.sh 2>&1 | sed 's/ adds / /; s/ (.*//' >&2",
            "task_category": "Bug Fix", "modified_nodes": "[]", **changes}  # fmt: skip


POLY_PARSER = """\
import re
from poly_bench_evaluation.parsers.results import rows
class Words:
    def __init__(self, test_content):
        self.content = test_content[: test_content.index("Container exited")]
    def parse(self):
        return rows(*(re.findall(rf"^{word}ED (.*)$", self.content, re.M) for word in ("PASS", "FAIL")))
"""


def poly_checkout(folder: Path) -> Path:
    """A checkout of the repository of SWE-PolyBench, with one parser."""
    place = folder / "src" / "poly_bench_evaluation"
    (place / "parsers").mkdir(parents=True)
    (place / "constants.py").write_text('import nothing\nREPO_TO_PARSER_CLASS = {"acme/shell": "Words"}\n')
    (place / "parsers" / "__init__.py").write_text("from .words import Words\n")
    (place / "parsers" / "words.py").write_text(POLY_PARSER)
    (place / "parsers" / "results.py").write_text(
        "def rows(passed, failed):\n    return dict(passed_tests=passed, failed_tests=failed)\n"
    )
    return folder


OPEN_SCRIPT = """\
#!/bin/bash
cd /testbed
git checkout 69be3918225b6863e88670af9a3da75a0a90ee1c tests.sh
git apply -v --allow-empty - <<'EOF_114329324912'
[CONTENT OF TEST PATCH]
EOF_114329324912
echo ">>>>> Start Test Output"
bash tests.sh | tee log
! grep -q FAILED log
rc=$?
echo ">>>>> End Test Output"
echo "OPENSWE_EXIT_CODE=$rc"
git checkout 69be3918225b6863e88670af9a3da75a0a90ee1c tests.sh
"""


def open_row(**changes: Any) -> dict[str, Any]:
    """A row of OpenSWE."""
    return {**COMMON, "instance_id": "acme__shell-4", "end_commit": "1" * 40, "language": "python", "created_at": "2025-03-06T00:00:00Z",
            "version": "0.0.1", "Dockerfile": "FROM openswe-3.11", "image_name": "openswe/acme-shell:4", "eval_script": OPEN_SCRIPT, **changes}  # fmt: skip


def live_row(**changes: Any) -> dict[str, Any]:
    """A row of SWE-bench-Live's second generation."""
    return {**COMMON, "instance_id": "acme__shell-2", "pull_number": "2", "issue_numbers": ["1"], "hints_text": "",
            "created_at": "2025-06-01", "rebuild_cmds": ["mkdir -p build", "cd build"], "test_cmds": ["cd ..; bash tests.sh >build/log"],
            "print_cmds": ["cat build/log"], "log_parser": LIVE_PARSER, "FAIL_TO_PASS": ["adds two"],
            "PASS_TO_PASS": ["adds zero"], "docker_image": "acme/shell:2", **changes}  # fmt: skip


def multi_row(**changes: Any) -> dict[str, Any]:
    """A row of Multi-SWE-bench, of a repository whose log its package reads as Go's."""
    fixed = {"run": "NONE", "test": "FAIL", "fix": "PASS"}
    kept = {"run": "PASS", "test": "PASS", "fix": "PASS"}
    return {
        "org": "cli", "repo": "cli", "number": 7, "state": "closed", "title": "Fix add", "body": "Fixes #1",
        "base": {"label": "cli:trunk", "ref": "trunk", "sha": "0" * 40},
        "resolved_issues": [{"number": 1, "title": "add.sh subtracts", "body": "It prints the difference."}],
        "fix_patch": GOLD, "test_patch": TEST_PATCH, "f2p_tests": {"TestTwo": fixed}, "p2p_tests": {"TestZero": kept},
        "s2p_tests": {}, "n2p_tests": {}, "fixed_tests": {"TestTwo": fixed},
        "run_result": outcomes(["TestZero"]), "test_patch_result": outcomes(["TestZero"], ["TestTwo"]),
        "fix_patch_result": outcomes(["TestZero", "TestTwo"]), **changes,
    }  # fmt: skip


def outcomes(passed: list[str], failed: list[str] | None = None, skipped: list[str] | None = None) -> dict[str, Any]:
    """The outcomes of one run, as the set's rows have them."""
    sides = {"passed": passed, "failed": failed or [], "skipped": skipped or []}
    return {**{f"{name}_count": len(names) for name, names in sides.items()},
            **{f"{name}_tests": names for name, names in sides.items()}}  # fmt: skip


_GO = """\
sed 's/^PASSED adds \\(.*\\) (.*/--- PASS: \\1 (0.00s)/; s/^FAILED adds \\(.*\\) (.*/--- FAIL: \\1 (0.00s)/; s/: zero/: TestZero/; s/: two/: TestTwo/'"""


def multi_root(folder: Path) -> Path:
    """The root of an image of Multi-SWE-bench: repository, both patches and the three scripts below /home."""
    run = f"bash tests.sh | {_GO}\n"
    scripts = {"run.sh": run, "test-run.sh": f"git apply --whitespace=nowarn /home/test.patch\n{run}",
               "fix-run.sh": f"git apply --whitespace=nowarn /home/test.patch /home/fix.patch\n{run}"}  # fmt: skip
    texts = {f"home/{name}": f"#!/bin/bash\nset -e\ncd /home/cli\n{text}" for name, text in scripts.items()}
    return tree(folder, "home/cli", {**texts, "home/fix.patch": GOLD, "home/test.patch": TEST_PATCH})


def columns(states: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Tests by name in the columns of some hub copies."""
    return {"names": list(states), **{kind: [row[kind] for row in states.values()] for kind in ("run", "test", "fix")}}


def identity(row: dict[str, Any]) -> str:
    """What names a row's parser to its package."""
    return json.dumps({name: row.get(name, "") for name in ("org", "repo", "number", "tag", "number_interval", "lang")})
