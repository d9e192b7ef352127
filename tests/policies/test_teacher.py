"""Teachers in real sandboxes: every gold patch becomes an attempt that ends in the very same files."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import PolicyError
from swebench_lab.policies.teachers.teacher import NoisyTeacher, Teacher
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import git, make_snapshot
from tests.conftest import make_task

FUNCTION = "def f{0}(x):\n    if x < 0:\n        return None\n    return x + 1\n\n\n"
MODULE = "".join(FUNCTION.format(i) for i in range(12))
BODY = "    if x < 0:\n        return None\n    return x + 1\n"


def repeated(good: str) -> tuple[str, str]:
    """A file in which the wrong line stands many times over, and the file with one of them put right."""
    block = "    value = 1\n    other = 2\n    return value\n"
    before = "def f():\n" + block * 30
    after = "def f():\n" + block * 17 + block.replace("value = 1", good) + block * 12
    return before, after


Files = Mapping[str, str | None]
CASES: dict[str, tuple[Files, Files]] = {
    "one line": ({"m.py": MODULE}, {"m.py": MODULE.replace("def f3(x):\n    if x < 0", "def f3(x):\n    if x <= 0")}),
    "the same change in several functions": (
        {"m.py": MODULE},
        {
            "m.py": MODULE.replace("f2(x):\n" + BODY, "f2(x):\n    return x\n").replace(
                "f9(x):\n" + BODY, "f9(x):\n    pass\n"
            )
        },
    ),
    "several files": ({"a.py": "x = 1\n", "b/c.py": "y = 1\n"}, {"a.py": "x = 2\n", "b/c.py": "y = 2\n"}),
    "surroundings that repeat": ({"m.py": repeated("")[0]}, {"m.py": repeated("value = 2")[1]}),
    "lines that are only taken out": ({"m.py": MODULE}, {"m.py": MODULE.replace(FUNCTION.format(5), "")}),
    "lines that are only added": ({"m.py": MODULE}, {"m.py": MODULE + "x = 1\n"}),
    "lines added at the top": ({"m.py": MODULE}, {"m.py": "import os\n" + MODULE}),
    "blank lines": ({"m.py": "a = 1\n\n\n\nb = 2\n"}, {"m.py": "a = 1\n\nb = 2\n"}),
    "an end without a newline": ({"m.py": "a = 1\nb = 2"}, {"m.py": "a = 1\nb = 3"}),
    "a newline put at the end": ({"m.py": "a = 1\nb = 2"}, {"m.py": "a = 1\nb = 2\n"}),
    "a newline taken off the end": ({"m.py": "a = 1\nb = 2\n"}, {"m.py": "a = 1\nb = 2"}),
    "an empty file": ({"m.py": "", "n.py": "x\n"}, {"m.py": "a = 1\n"}),
    "a file emptied": ({"m.py": "a = 1\n"}, {"m.py": ""}),
    "new and deleted files": (
        {"old.py": "x = 1\n"},
        {"old.py": None, "new/one.py": "x = 2\n\n", "two.py": "no end", "three.py": ""},
    ),
    "carriage returns": (
        {"m.py": "a = 1\r\nb = 2\r\nc = 3\r\n"},
        {"m.py": "a = 1\r\nb = 4\r\nc = 3\r\n", "n.txt": "x\r\n"},
    ),
    "the call format's own tags": (
        {"m.py": "TAG = None\n"},
        {"m.py": "TAG = '''\n</parameter>\n</function>\n<function=bash>\n'''\n", "n.py": "</parameter>\n```\nEOF\n"},
    ),
    "names that need quoting": ({"a b.py": "x = 1\n", "it's.py": "x = 1\n"}, {"a b.py": "x = 2\n", "it's.py": None}),
    "odd characters": ({"m.py": "s = 'é\x0c\u2028'\n"}, {"m.py": "s = 'ü\x0c\u2028\\n{x}'\n"}),
    "more edits than steps": (
        {f"m{i}.py": MODULE for i in range(6)},
        {f"m{i}.py": MODULE.replace("x + 1", "x + 2") for i in range(6)},
    ),
}


def attempt(
    task: Task, folder: Path, before: Files, teacher: Teacher, number: int = 0, limit: int = 40, flavour: str = "xml"
) -> tuple[Trajectory, Files]:
    """Let a teacher try; return its record and the files that it left."""
    snapshot = make_snapshot(folder / str(number), {name: text for name, text in before.items() if text is not None})
    with open_namespace(snapshot) as box:
        trajectory = Agent(teacher, flavour, keep_layers=False, max_steps=limit).run(task, box, attempt=number)
        listed = box.run("find . -type f -not -path './.git/*' -not -path '*/__pycache__/*' -print0").output
        left = {name[2:]: box.read_bytes(name).decode() for name in listed.split("\0") if name}
    return trajectory, left


@pytest.mark.parametrize("flavour", ["xml", "mini"])
@pytest.mark.parametrize("case", CASES)
def test_a_gold_patch_becomes_an_attempt_with_the_same_end(case: str, flavour: str, tmp_path: Path) -> None:
    before, after = CASES[case]
    task = replace(make_task(), gold_patch=make_patch(before, after), fail_to_pass=(), pass_to_pass=())
    wanted = {name: text for name, text in {**before, **after}.items() if text is not None}
    for number in range(2 if flavour == "xml" else 1):
        trajectory, left = attempt(task, tmp_path, before, Teacher([task]), number, flavour=flavour)
        assert (trajectory.stop, trajectory.error) == ("submitted", "")
        assert left == wanted, "\n".join(step.reply.text + "\n=> " + step.observation for step in trajectory.steps)
        assert not any(step.malformed for step in trajectory.steps)


def test_renames_modes_links_and_binaries_arrive_too(tmp_path: Path) -> None:
    before = {"old.py": MODULE, "run.sh": "ls\n", "pic.bin": "\0\1"}
    work = tmp_path / "work"
    snapshot = make_snapshot(work, before)
    root = work / "layer" / "testbed"
    (root / "old.py").write_text(MODULE.replace("def f3(x)", "def f3(y)"))
    (root / "old.py").rename(root / "new.py")
    (root / "run.sh").chmod(0o755)
    (root / "made.sh").write_text("pwd\n")
    (root / "made.sh").chmod(0o755)
    (root / "link").symlink_to("new.py")
    (root / "pic.bin").write_bytes(b"\0\2\xff")
    git(root, "add", "-A")
    gold = git(root, "diff", "--cached", "--binary", "--find-renames", "HEAD")
    git(root, "reset", "-q", "--hard")
    assert "rename from" in gold
    task = replace(make_task(), gold_patch=gold, fail_to_pass=(), pass_to_pass=())
    with open_namespace(snapshot) as box:
        trajectory = Agent(Teacher([task]), keep_layers=False).run(task, box)
        box.run("git add -A")
        arrived = box.run("git diff --cached --binary --find-renames HEAD").output
    assert trajectory.stop == "submitted"
    assert arrived == gold


def test_the_issues_example_is_tried_and_its_script_removed(tmp_path: Path) -> None:
    issue = "add is wrong\n\n```python\n>>> from calc import add\n>>> add(1, 2)\n-1\n```\n"
    task = replace(make_task(), issue=issue, fail_to_pass=(), pass_to_pass=())
    trajectory, left = attempt(task, tmp_path, {"calc.py": "def add(a, b):\n    return a - b\n"}, Teacher([task]))
    assert left == {"calc.py": "def add(a, b):\n    return a + b\n"}
    printed = [step.observation.split("\n")[1] for step in trajectory.steps if "python reproduce.py" in step.command]
    assert printed == ["-1", "3"]


def test_attempts_differ_in_their_steps_and_repeat_for_a_seed(tmp_path: Path) -> None:
    before, after = CASES["one line"]
    task = replace(make_task(), gold_patch=make_patch(before, after), spec={"test_command": "true"})
    texts = []
    for number in range(5):
        trajectory, _ = attempt(task, tmp_path, before, Teacher([task]), number)
        again, _ = attempt(task, tmp_path / "again", before, Teacher([task]), number)
        texts.append([step.reply.text for step in trajectory.steps])
        assert [step.reply.text for step in again.steps] == texts[-1]
        assert all(step.thought for step in trajectory.steps)
    assert len({tuple(text) for text in texts}) >= 3


def test_a_teacher_takes_up_its_own_attempt_in_the_middle_and_another_from_the_start(tmp_path: Path) -> None:
    before, after = CASES["one line"]
    task = replace(make_task(), gold_patch=make_patch(before, after), fail_to_pass=(), pass_to_pass=())
    whole, _ = attempt(task, tmp_path, before, Teacher([task]))
    talk = Teacher([task]).start(task.view(), 0, 0)
    for k in (2, 1, 0):
        said = list(whole.opening) + whole.messages[2 : 2 + 2 * k]
        assert talk.reply(said).text == whole.steps[k].reply.text
    foreign = [*whole.opening, {"role": "assistant", "content": "hm"}, {"role": "user", "content": "again"}]
    assert Teacher([task]).start(task.view(), 0, 0).reply(foreign).text == whole.steps[0].reply.text


def test_a_teacher_knows_only_its_own_tasks() -> None:
    with pytest.raises(PolicyError, match=r"Teacher\(tasks\)"):
        Teacher([make_task(1)]).start(make_task(2).view(), 0, 0)


def test_a_noisy_teacher_goes_wrong_as_often_as_it_is_told_and_always_in_the_same_attempts() -> None:
    tasks = [make_task(i) for i in range(40)]
    noisy = NoisyTeacher(tasks, 0.3, seed=1)
    wrong = [noisy.goes_wrong(task.id, number) for task in tasks for number in range(25)]
    assert abs(sum(wrong) / len(wrong) - 0.3) < 0.05
    assert wrong == [NoisyTeacher([], 0.3, 1).goes_wrong(task.id, number) for task in tasks for number in range(25)]
    assert not any(NoisyTeacher([], 0.0).goes_wrong(task.id, 0) for task in tasks)
    assert all(NoisyTeacher([], 1.0).goes_wrong(task.id, 0) for task in tasks)
    with pytest.raises(ValueError, match="not a probability"):
        NoisyTeacher([], 1.5)


def test_wrong_attempts_end_in_other_files_and_in_several_ways(tmp_path: Path) -> None:
    before, after = CASES["the same change in several functions"]
    before = {**before, "tests/test_m.py": "def test_m():\n    assert True\n"}
    gold = make_patch({"m.py": before["m.py"]}, after)
    task = replace(make_task(), gold_patch=gold, fail_to_pass=("tests/test_m.py::test_m",), pass_to_pass=())
    task = replace(task, pass_to_pass=("tests/test_m.py::test_n",), spec={"test_command": "true"})
    ends: Counter[str] = Counter()
    for number in range(16):
        trajectory, left = attempt(task, tmp_path, before, NoisyTeacher([task], 1.0, seed=2), number, 12)
        assert left["m.py"] != after["m.py"]
        assert trajectory.stop in ("submitted", "format", "max_steps")
        changed = "nothing" if left == before else "test" if left["m.py"] == before["m.py"] else "code"
        ends[f"{trajectory.stop} {changed}"] += 1
    assert len(ends) >= 3, ends


def test_a_noisy_teacher_that_goes_right_is_a_teacher(tmp_path: Path) -> None:
    before, after = CASES["several files"]
    task = replace(make_task(), gold_patch=make_patch(before, after), fail_to_pass=(), pass_to_pass=())
    dice = random.Random(0)
    number = next(
        n for n in iter(lambda: dice.randrange(1000), None) if not NoisyTeacher([], 0.5).goes_wrong(task.id, n)
    )
    right, left = attempt(task, tmp_path, before, NoisyTeacher([task], 0.5), number)
    assert left == after
    assert right.patch
