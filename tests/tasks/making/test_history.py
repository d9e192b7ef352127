"""mine_tasks: commits that touch code and tests become tasks that hold, each with a reason where it becomes none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.cli import main
from swebench_lab.tasks.making.history import is_test
from tests.boxes import git
from tests.tasks.libraries import LIBRARIES, Library

CHECK = (
    'check() { [ "$(sh calc.sh $2 $3 $4)" = "$5" ] && echo "--- PASS: $1 (0.00s)" || echo "--- FAIL: $1 (0.00s)"; }\n'
)
SPEC = {
    "test_command": "sh tests/run.sh",
    "test_arguments": "none",
    "log_parser": "parse_log_gotest",
    "packages": [],
    "paths": [],
}
START = "case $1 in\nadd) echo $(($2 - $3)) ;;\nsub) echo $(($2 - $3)) ;;\nesac\n"


def commit(folder: Path, text: str, **files: str | bytes) -> str:
    for name, content in files.items():
        place = folder / {"calc": "calc.sh", "tests": "tests/run.sh", "notes": "notes.md", "data": "data.bin"}[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", text)
    return git(folder, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mining") / "calc"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    shas = {}
    tests = CHECK + "check TestSub sub 3 1 2\n"
    shas["start"] = commit(folder, "start", calc=START, tests=tests)
    code, tests = START.replace("add) echo $(($2 - $3))", "add) echo $(($2 + $3))"), tests + "check TestAdd add 1 2 3\n"
    shas["fix"] = commit(
        folder,
        "The sum of two numbers is wrong\n\nadd 1 2 prints -1 (#12)\n\nSigned-off-by: a <a@b>\n",
        calc=code,
        tests=tests,
    )
    shas["docs"] = commit(folder, "notes on what is there", notes="nothing\n", tests=tests + "# done\n")
    tests += "# done\ncheck TestMul mul 2 3 6\n"
    code = code.replace("esac", "mul) echo $(($2 * $3)) ;;\nesac")
    shas["new"] = commit(folder, "Multiply two numbers", calc=code, tests=tests)
    shas["short"] = commit(folder, "wip", calc=code + "# a\n", tests=tests + "# b\n")
    shas["same"] = commit(folder, "A comment that changes nothing at all", calc=code + "# c\n", tests=tests + "# d\n")
    shas["tells"] = commit(
        folder, "now: mul) echo $(($2 * $3 + 0)) ;;", calc=code.replace("* $3", "* $3 + 0"), tests=tests + "# e\n"
    )
    shas["binary"] = commit(folder, "Data that nobody can read", calc=code, data=b"\0\1", tests=tests + "# f\n")
    sandboxes = lab.SandboxFactory(cache=folder.parent / "cache")
    with pytest.warns(UserWarning, match="2 of the 9 wanted"):
        tasks = lab.mine_tasks(folder, 9, sandboxes=sandboxes, spec=SPEC, workers=2, progress=False)
    return tasks, shas, sandboxes, folder


def test_the_commits_that_fix_something_become_tasks(mined):
    tasks, shas, sandboxes, folder = mined
    new, fix = tasks
    assert (new.extra["commit"], fix.extra["commit"]) == (shas["new"], shas["fix"])
    assert (fix.base_commit, fix.fail_to_pass, fix.pass_to_pass) == (shas["start"], ("TestAdd",), ("TestSub",))
    assert (new.fail_to_pass, new.pass_to_pass) == (("TestMul",), ("TestSub", "TestAdd"))
    assert fix.issue == "The sum of two numbers is wrong\n\nadd 1 2 prints -1\n"
    assert "tests/run.sh" in fix.test_patch and "tests/run.sh" not in fix.gold_patch and fix.source == str(folder)
    assert fix.id == f"local__calc.{shas['start'][:8]}.commit_mined__{shas['fix'][:8]}"
    with sandboxes.open(fix) as box:
        assert (
            "TestAdd" not in box.read("tests/run.sh") and shas["fix"] not in box.run("git log --all --format=%H").output
        )
    frame = lab.Evaluator(sandboxes).check(tasks, again=True, progress=False)
    assert frame["status"].to_list() == ["passed", "passed"]


def test_every_commit_that_touches_code_and_tests_has_its_reason(mined):
    tasks, shas, _, _ = mined
    outcomes = {row["target"]: row["outcome"] for row in tasks.report.to_dicts()}
    names = {sha: name for name, sha in shas.items()}
    assert {names[sha]: outcome for sha, outcome in outcomes.items()} == {
        "binary": "it changes binary files", "tells": "its message tells the change", "same": "no test fails without it",
        "short": "its message says too little", "new": "task", "fix": "task",
    }  # fmt: skip


def test_the_command_line_mines_too(mined, tmp_path, capsys, monkeypatch):
    _, shas, _, folder = mined
    clone = tmp_path / "calc"
    git(tmp_path, "clone", "-q", str(folder), str(clone))
    git(clone, "reset", "-q", "--hard", shas["fix"])
    monkeypatch.setenv("SWEBENCH_LAB_CACHE", str(folder.parent / "cache"))
    out = tmp_path / "mined.jsonl"
    how = [
        "--language",
        "javascript",
        "--test-command",
        SPEC["test_command"],
        "--log-parser",
        SPEC["log_parser"],
        "-n",
        "1",
        "-o",
        str(out),
    ]
    with pytest.raises(SystemExit) as ended:
        main.main(["tasks", "mine", str(clone), *how])
    assert ended.value.code == 0 and "1 tasks" in capsys.readouterr().out
    assert lab.load_tasks(out, trust=True)[0].fail_to_pass == ("TestAdd",)


def test_what_is_asked_for_wrongly_is_refused(tmp_path):
    with pytest.raises(lab.TaskError, match="must be at least 1"):
        lab.mine_tasks(tmp_path, 0)
    with pytest.raises(lab.TaskError, match="language='cobol' must be"):
        lab.mine_tasks(tmp_path, language="cobol")


@pytest.mark.parametrize(
    ("path", "test"),
    [("tests/a.py", True), ("a_test.go", True), ("src/__tests__/a.js", True), ("a.test.ts", True), ("KitTest.java", True), ("a_spec.rb", True),
     ("test_a.py", True), ("a.py", False), ("contest.py", False), ("latest.go", False), ("src/testing.rs", False), ("attestation/a.c", False)],
)  # fmt: skip
def test_tests_are_known_by_their_paths(path, test):
    assert is_test(path) is test


# --- with toolchains ------------------------------------------------------------------------------------------------------

BY_NAME = {library.name: library for library in LIBRARIES}
SPECS = {
    "python": {},
    "javascript": {},
    "go": {"system": ["golang-go"]},
    "c": {
        "test_command": "gcc -o /tmp/t test.c kit.c && /tmp/t",
        "test_arguments": "none",
        "log_parser": "parse_log_jq",
        "packages": [],
        "paths": [],
    },
}


def history(folder: Path, library: Library) -> None:
    """A library with its five bugs, and a commit for each that repairs it and adds its test."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(len(library.bugs) + 1):
        bugs = library.bugs[:number]
        for path, text in {
            library.path: library.broken(*bugs),
            library.tests[0]: library.suite(*bugs),
            **library.files,
        }.items():
            (folder / path).write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", bugs[-1].issue if bugs else "start")


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LAB_TOOLCHAINS") or not shutil.which("node"),
    reason="LAB_TOOLCHAINS=1: takes golang-go from Debian",
)
@pytest.mark.parametrize("name", SPECS)
def test_five_commits_become_five_tasks_with_real_toolchains(name, tmp_path):
    library = BY_NAME[name]
    history(tmp_path / "kit", library)
    cache = lab.SnapshotCache(os.environ.get("LAB_TOOLCHAINS_CACHE") or tmp_path / "cache")
    with lab.SandboxFactory(cache=cache) as sandboxes:
        language = name if name != "c" else "python"
        tasks = lab.mine_tasks(
            tmp_path / "kit", 5, sandboxes=sandboxes, language=language, spec=SPECS[name], workers=1, progress=False
        )
        print(tasks.report.select("edit", "outcome", "failing", "passing").rows())
        assert [task.issue.strip() for task in tasks] == [bug.issue for bug in reversed(library.bugs)]
        assert [len(task.fail_to_pass) for task in tasks] == [1] * 5
        collector = lab.RolloutCollector(sandboxes, lab.Evaluator(sandboxes), workers=1, run_dir=tmp_path / "run")
        assert collector.collect(lab.Agent(lab.Teacher(tasks)), tasks, progress=False).resolved_rate == 1.0
        collector.close()
