"""Records built by hand for tests that need rollouts but no sandbox."""

from __future__ import annotations

from swebench_lab.records.reply import Reply
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict

GOLD = """diff --git a/textgrid/layout.py b/textgrid/layout.py
index 1111111..2222222 100644
--- a/textgrid/layout.py
+++ b/textgrid/layout.py
@@ -40,7 +40,7 @@ def column_widths(rows):
     widths = [0] * columns
     for row in rows:
         for index, cell in enumerate(row):
-            widths[index] = min(widths[index], len(cell))
+            widths[index] = max(widths[index], len(cell))
     return widths
"""


def a_task(name: str = "demo__textgrid.0001", repo: str = "demo/textgrid", issue: str = "") -> Task:
    """Return a task with two deciding tests."""
    return Task(
        id=name,
        repo=repo,
        base_commit="3f5a9c0d" * 5,
        issue=issue or "Columns are too narrow\n\n`column_widths` cuts the longest cell of each column.",
        gold_patch=GOLD,
        fail_to_pass=("tests/test_layout.py::test_widest_cell_decides", "tests/test_layout.py::test_empty"),
        pass_to_pass=tuple(f"tests/test_layout.py::test_kept[{n}]" for n in range(30)),
        split="test",
    )


def a_step(
    index: int, tool: str = "bash", command: str = "ls", observation: str = "README.md", **values: object
) -> Step:
    """Return a step; bash commands are given as `command`."""
    arguments = values.pop("arguments", {"command": command} if tool == "bash" else {})
    thought = str(values.pop("thought", "I will look around first."))
    text = str(values.pop("text", f"{thought}\n\n<function={tool}>…"))
    said = Reply(text, completion_tokens=40 + index, prompt_tokens=500, seconds=0.8 + 0.1 * index, model="sample")
    shown = command if tool == "bash" else ""
    fields = {"exit_code": 0, "seconds": 0.05 * (index + 1), "cwd": "/testbed", **values}
    return Step.of(index, said, thought, tool, arguments, shown, observation, **fields)  # type: ignore[arg-type]


def some_steps() -> tuple[Step, ...]:
    """Return one step of every kind."""
    edit = {
        "command": "str_replace",
        "path": "/testbed/textgrid/layout.py",
        "old_str": "            widths[index] = min(widths[index], len(cell))",
        "new_str": "            widths[index] = max(widths[index], len(cell))",
    }
    failed = "\n".join(f"tests/test_layout.py::test_kept[{n}] PASSED" for n in range(60)) + "\n1 failed, 59 passed"
    return (
        a_step(0, command="ls -la && git log --oneline | head -3", observation="README.md\ntextgrid\ntests\nsetup.cfg"),
        a_step(1, command="sed -n '30,60p' textgrid/layout.py", observation="def column_widths(rows):\n    …\n" * 20),
        a_step(2, command="python -m pytest -q", observation=failed, exit_code=1, seconds=2.4),
        a_step(
            3, tool="", text="I know!\n```bash\nls\n```\n```bash\nrm\n```", observation="Found 2 calls.", exit_code=None
        ),
        a_step(4, tool="str_replace_editor", arguments=edit, observation="The file has been edited."),
        a_step(5, command="sleep 100", observation="(killed)", exit_code=None, timed_out=True, seconds=60.0),
        a_step(6, tool="submit", arguments={}, observation=""),
    )


def a_verdict(task: Task, status: str = "resolved") -> Verdict:
    """Return a verdict of the given status with test outcomes that fit it."""
    if status == "not graded":
        return Verdict(status, "the sandbox died while the tests ran", log="")
    wins, losses = (task.fail_to_pass, ()) if status == "resolved" else (task.fail_to_pass[:1], task.fail_to_pass[1:])
    tests = {**dict.fromkeys((*wins, *task.pass_to_pass), "PASSED"), **dict.fromkeys(losses, "FAILED")}
    return Verdict(
        status,
        "" if status == "resolved" else "1 of 2 tests that must start to pass do not",
        True,
        tests,
        {"success": wins, "failure": losses},
        {"success": task.pass_to_pass, "failure": ()},
        0 if status == "resolved" else 1,
        1.3,
        "\n".join(f"{outcome} {test}" for test, outcome in tests.items()),
        tier="namespace-root",
    )


def a_rollout(
    status: str = "resolved",
    task: Task | None = None,
    attempt: int = 0,
    policy: str = "noisy-teacher",
    steps: tuple[Step, ...] | None = None,
    patch: str = GOLD,
) -> Rollout:
    """Return a rollout of the given status."""
    task = task or a_task()
    steps = some_steps() if steps is None else steps
    trajectory = Trajectory(
        task.id,
        attempt,
        7,
        ({"role": "system", "content": "You repair software."}, {"role": "user", "content": task.issue}),
        steps,
        "submitted",
        patch,
        agent=f"agent-of-{policy}",
        policy=policy,
        flavour="xml",
        snapshot="ab" * 32,
        tier="namespace-root",
        seconds=71.3,
        started_at=1_790_000_000.0 + attempt,
    )
    reward = {"resolved": 1.0, "unresolved": 0.0}.get(status)
    return Rollout(task, trajectory, a_verdict(task, status), reward)


def some_rollouts(policy: str = "noisy-teacher", tasks: int = 6, attempts: int = 2) -> Rollouts:
    """Return attempts at tasks of three repositories; about half of them resolved, one not graded."""
    repos = ("demo/textgrid", "demo/unitwise", "demo/rulepath")
    found = []
    for number in range(tasks):
        task = a_task(f"{repos[number % 3].replace('/', '__')}.{number:04d}", repos[number % 3])
        for attempt in range(attempts):
            status = "resolved" if (number + attempt) % 2 == 0 else "unresolved"
            status = "not graded" if (number, attempt) == (1, 0) else status
            found.append(a_rollout(status, task, attempt, policy))
    return Rollouts(found, policy)
