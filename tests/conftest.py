"""What tests share: a small task and rollout made by hand, and a count of what a test may leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict

LONG = (
    "test_notebooks.py",
    "training/test_recipes.py",
    "cli/test_cli.py",
    "training/test_engines.py",
    "experiments/test_recipes.py",
    "grading/test_not_wrong.py",
    "policies/test_local.py",
    "grading/test_evaluator.py",
    "testing/test_conformance.py",
    "rollouts/test_collector.py",
    "tasks/making/test_demo.py",
    "snapshots/test_index_relay.py",
    "grading/test_forgery.py",
    "training/test_masters.py",
    "training/test_sft.py",
    "tasks/making/test_validation.py",
    "tasks/making/test_make.py",
    "sandbox/test_landlock.py",
    "testing/test_redteam.py",
    "snapshots/test_runner_check.py",
    "sandbox/test_namespace.py",
    "grading/test_bad_batches.py",
    "policies/test_teacher.py",
    "grading/test_attribution.py",
    "policies/test_endpoints.py",
    "experiments/test_sweeps.py",
    "viewer/player/test_views.py",
    "test_compat.py",
)
"""Files that take longest: several workers begin with these, so that none is left alone with one at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order files by their weight where workers share them; one process alone keeps the order of the folders."""
    if hasattr(config, "workerinput"):
        here = Path(__file__).parent
        rank = {here / name: number for number, name in enumerate(LONG)}
        items.sort(key=lambda item: rank.get(item.path, len(rank)))


GOLD = """\
diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b
"""


def make_task(number: int = 0, **values: object) -> Task:
    """Return a complete task; only its id tells it from the others."""
    fields: dict[str, object] = {
        "id": f"owner__name-{number}",
        "repo": "owner/name",
        "base_commit": "0" * 40,
        "issue": "add() subtracts\n\nadd(1, 2) gives -1",
        "gold_patch": GOLD,
        "fail_to_pass": ("test_calc.py::test_add[1-2]",),
        "pass_to_pass": ("test_calc.py::test_zero", "test_calc.py::TestMore::test_name[a - b]"),
        **values,
    }
    return Task(**fields)  # type: ignore[arg-type]


def make_rollout(
    task: Task | None = None, attempt: int = 0, status: str = "resolved", agent: str = "a" * 16, policy: str = "script"
) -> Rollout:
    """Return a rollout with text that is hard to keep: lone surrogates, line separators, escapes, NULs."""
    task = task or make_task()
    hard = "caf\u00e9 \u2028 \ud800 \x1b[31mred\x1b[0m \x00 </script>"
    reply = Reply(hard, (1, 2, 3), (-0.1, -2.5e-7, float("-inf")), (9, 8), 12, 3, 4, 0.001, 0.25, "tiny@1", "stop")
    opening: tuple[Message, ...] = ({"role": "system", "content": "do it"}, {"role": "user", "content": task.issue})
    step = Step.of(
        0,
        reply,
        "I look",
        "bash",
        {"command": "ls\n  -l"},
        "ls",
        hard,
        0,
        seconds=0.5,
        layer="f" * 64,
        cwd="/testbed",
        env={"A": "b"},
        started_at=1.5,
    )
    trajectory = Trajectory(
        task.id,
        attempt,
        7,
        opening,
        (step,),
        "submitted",
        GOLD,
        "",
        agent,
        policy,
        "xml",
        "k" * 16,
        "namespace",
        2.0,
        1e9,
    )
    passed = {"success": task.fail_to_pass, "failure": ()}
    verdict = Verdict(status, "", True, {task.fail_to_pass[0]: "PASSED"}, passed, passed, 0, 1.0, hard, ("note",))
    return Rollout(task, trajectory, verdict, None if status == "not graded" else float(status == "resolved"))


@pytest.fixture
def task() -> Task:
    return make_task()


@pytest.fixture
def rollout() -> Rollout:
    return make_rollout()
