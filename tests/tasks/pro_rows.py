"""A row of SWE-bench Pro of our own making, with its scripts, and the root file system that stands for its image."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.grading.script_tasks import BROKEN, FIXED, GOLD

TASK = "instance_Acme__Shell-0123456789abcdef0123456789abcdef01234567-vnan"
RUN = """\
#!/bin/bash
for file in ${1//,/ }; do bash "$file"; done
"""
PARSER = """\
import json, re, sys
text = open(sys.argv[1]).read() + open(sys.argv[2]).read()
found = [{"name": name, "status": status} for status, name in re.findall(r"^(PASSED|FAILED) (.*)$", text, re.M)]
json.dump({"tests": found}, open(sys.argv[3], "w"))
"""
OLD = '[ "$(sh add.sh 3 0)" = 3 ] && echo "PASSED tests/all.sh | adds zero" || echo "FAILED tests/all.sh | adds zero"\n'
NEW = (
    OLD
    + '[ "$(sh add.sh 2 2)" = $SUM ] && echo "PASSED tests/all.sh | adds two" || echo "FAILED tests/all.sh | adds two" >&2\n'
)


def git(folder: Path, *words: str) -> str:
    """Run git in a folder."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def pro_set(folder: Path) -> tuple[dict[str, Any], Path, Path]:
    """Return a row, the checkout with its scripts, and the root file system; the fix is in that one's history."""
    root, scripts = folder / "root", folder / "checkout"
    app = root / "app"
    (app / "tests").mkdir(parents=True)
    (app / "add.sh").write_text(BROKEN)
    (app / "tests" / "all.sh").write_text(OLD)
    git(app, "init", "-q", "-b", "main")
    git(app, "add", "--all")
    git(app, "commit", "-qm", "base")
    base = git(app, "rev-parse", "HEAD")
    (app / "add.sh").write_text(FIXED)
    (app / "tests" / "all.sh").write_text(NEW)
    git(app, "commit", "-qam", "fix")
    fix = git(app, "rev-parse", "HEAD")
    git(app, "checkout", "-q", base)
    for name, text in (("run_script.sh", RUN), ("parser.py", PARSER)):
        place = scripts / "run_scripts" / TASK / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    for kind, text in (("base", "FROM x\nENV SUM=4\n"), ("instance", "FROM y\nENV LANG en_US.UTF-8\n")):
        place = scripts / "dockerfiles" / f"{kind}_dockerfile" / TASK / "Dockerfile"
        place.parent.mkdir(parents=True)
        place.write_text(text)
    row = {
        "instance_id": TASK, "repo": "Acme/Shell", "base_commit": base, "patch": GOLD, "test_patch": "",
        "problem_statement": "add.sh subtracts", "requirements": "- it adds", "interface": "none", "repo_language": "sh",
        "fail_to_pass": "['tests/all.sh | adds two']", "pass_to_pass": "['tests/all.sh | adds zero']",
        "before_repo_set_cmd": f"git reset --hard {base}\ngit clean -fd\ngit checkout {fix} -- tests/all.sh",
        "selected_test_files_to_run": "['tests/all.sh']", "dockerhub_tag": "",
    }  # fmt: skip
    return row, scripts, root


def reports(count: int = 60, seed: int = 0) -> list[Mapping[str, Any]]:
    """Return samples as the set's evaluation knows them: expected names, and what a parser reported."""
    dice = random.Random(seed)
    samples = []
    for number in range(count):
        names = [f"tests/{part} | case {i}" for i, part in enumerate(dice.choices("abc", k=dice.randint(2, 6)))]
        good = dice.random() < 0.4
        tests = [
            {
                "name": name,
                "status": "PASSED"
                if good
                else dice.choice(["PASSED", "PASSED", "FAILED", "SKIPPED", "ERROR", "XFAIL"]),
            }
            for name in names
            if good or dice.random() < 0.9
        ]
        if dice.random() < 0.3:
            tests.append({"name": "tests/d | more", "status": dice.choice(["PASSED", "FAILED"])})
        if tests and dice.random() < 0.2:
            tests.append({**tests[0], "status": dice.choice(["PASSED", "FAILED"])})
        if dice.random() < 0.1:
            tests = []
        cut = dice.randint(1, len(names))
        samples.append(
            {
                "id": f"instance_{number}",
                "fail": names[:cut],
                "pass": names[cut:],
                "report": json.dumps({"tests": tests}),
            }
        )
    return samples
