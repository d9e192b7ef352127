"""Tasks in shell, for tests of verifiers: a root file system of a few files, graded by a script."""

from __future__ import annotations

from pathlib import Path

from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import Verifier

BROKEN = "#!/bin/sh\n# prints the sum of two numbers\necho $(($1 - $2))\n"
FIXED = BROKEN.replace("-", "+")
GOLD = make_patch({"add.sh": BROKEN}, {"add.sh": FIXED})
HALF = make_patch({"add.sh": BROKEN}, {"add.sh": BROKEN.replace("echo", "[ $2 != 0 ] && echo 7 && exit\necho")})

REWARD = """\
passed=0
[ "$(sh add.sh 2 2)" = 4 ] && passed=$((passed + 1))
[ "$(sh add.sh 3 0)" = 3 ] && passed=$((passed + 1))
echo "$passed of 2"
if [ $passed = 2 ]; then echo 1 >/logs/verifier/reward.txt; else echo 0 >/logs/verifier/reward.txt; fi
"""
GRADED = REWARD.rpartition("if [")[0] + (
    'printf \'{"reward": %s, "style": 0.5}\' "$(awk "BEGIN { print $passed / 2 }")" >/logs/verifier/reward.json\n'
)


def root_fs(folder: Path, files: dict[str, str] | None = None) -> Path:
    """A root file system that is shown over this machine's programs: /app, and nothing else."""
    for name, text in (files or {"app/add.sh": BROKEN}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def hidden(folder: Path, script: str, name: str = "test.sh") -> Path:
    """A folder of hidden tests."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)
    return folder


def reward_task(tmp_path: Path, script: str = REWARD, **fields: object) -> Task:
    """A task that a reward file grades, in a folder that `root_fs` made."""
    tests = hidden(tmp_path / "tests", script)
    values = {"kind": "reward-file", "command": "bash /tests/test.sh", "reads": "/logs/verifier",
              "files": {"/tests": str(tests)}, "timeout": 30.0, **fields}  # fmt: skip
    return script_task(tmp_path, Verifier(**values))  # type: ignore[arg-type]


def script_task(tmp_path: Path, verifier: Verifier, **fields: object) -> Task:
    """A task over `root_fs`, with a verifier."""
    place = root_fs(tmp_path / "root")
    values = {"id": "shell__add", "repo": "shell/add", "base_commit": "", "issue": "add.sh subtracts", "gold_patch": GOLD,
              "fail_to_pass": (), "pass_to_pass": (), "source": f"folder:{place}", "workdir": "/app",
              "verifier": verifier, **fields}  # fmt: skip
    return Task(**values)  # type: ignore[arg-type]


PARSER = """\
{ printf '{"tests": ['; sed -n 's/^\\([a-z ]*\\): ok$/{"name": "\\1", "status": "PASSED"}/p; s/^\\([a-z ]*\\): bad$/{"name": "\\1", "status": "FAILED"}/p' \
  /workspace/stdout.log | paste -sd, -; printf ']}'; } >/workspace/output.json
"""
SUITE = """\
[ "$(sh add.sh 2 2)" = 4 ] && echo "adds two: ok" || echo "adds two: bad"
[ "$(sh add.sh 3 0)" = 3 ] && echo "adds zero: ok" || echo "adds zero: bad"
"""


def report_task(tmp_path: Path, script: str = SUITE, **fields: object) -> Task:
    """A task whose output a parser of its own turns into a report."""
    folder = hidden(hidden(tmp_path / "workspace", script, "run_script.sh"), PARSER, "parser.sh")
    values = {"kind": "json-report", "command": "bash /workspace/run_script.sh", "reads": "/workspace/output.json",
              "report": "bash /workspace/parser.sh", "files": {"/workspace": str(folder)}, "timeout": 30.0,
              **fields}  # fmt: skip
    return script_task(
        tmp_path,
        Verifier(**values),
        fail_to_pass=("adds two",),
        pass_to_pass=("adds zero",),  # type: ignore[arg-type]
    )
