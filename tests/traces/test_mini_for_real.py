"""mini-swe-agent itself makes traces on demo tasks; they load, replay in our sandboxes, and reproduce what they showed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.records.task import Task

WORKER = Path(__file__).with_name("mini_worker.py")
PYTHON = os.environ.get("MINI_SWE_AGENT_PYTHON") or (sys.executable if importlib.util.find_spec("minisweagent") else "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON,
        reason="mini-swe-agent is not installed: pip install mini-swe-agent, or name an interpreter that has it in "
        "MINI_SWE_AGENT_PYTHON",
    ),
]

SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && git diff"
HERE = "uname -n"
"""What no two machines answer alike."""


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


def commands(task: Task) -> list[str]:
    """Look around, repair with the gold patch, look again, hand in."""
    touched = [line[6:] for line in task.gold_patch.splitlines() if line.startswith("+++ b/")]
    module = touched[0]
    return [
        "ls -a && pwd",
        f"cat {module} | head -50; wc -l {module}",
        f"grep -n 'def ' {module}",
        "cat no/such/file",
        "cd /tmp; pwd",
        "git status --short; ls -l",
        f"cat > /tmp/fix.patch <<'PATCH'\n{task.gold_patch.rstrip(chr(10))}\nPATCH\ngit apply /tmp/fix.patch; rm /tmp/fix.patch",
        "git diff --stat",
        f"python3 - <<'EOF'\nimport ast\nprint(len(ast.parse(open({module!r}).read()).body))\nEOF",
        HERE,
        "date; echo $PAGER",
        SUBMIT,
    ]


def test_its_own_traces_load_replay_and_reproduce_what_they_showed(
    sandboxes: lab.SandboxFactory, tmp_path: Path
) -> None:
    tasks = list(lab.load_tasks("demo").sample(3, seed=4))
    sandboxes.prepare(tasks)
    jobs = []
    for task in tasks:
        for kind in ("text", "tool"):
            folder = tmp_path / f"{task.id}-{kind}"
            with sandboxes.open(task) as box:
                box.download(box.workdir, folder)
            output = tmp_path / "out" / f"{task.id}-{kind}.traj.json"
            jobs.append(
                {
                    "id": task.id,
                    "folder": str(folder),
                    "kind": kind,
                    "commands": commands(task),
                    "issue": task.issue,
                    "output": str(output),
                }
            )
    (tmp_path / "out").mkdir()
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run([PYTHON, str(WORKER), str(tmp_path / "jobs.json")], check=True, timeout=300)
    traces = lab.load_trajectories(tmp_path / "out")
    assert len(traces) == len(jobs) and all(trace.stop == "submitted" for trace in traces)
    assert {(trace.task_id, trace.attempt) for trace in traces} == {(task.id, n) for task in tasks for n in (0, 1)}
    evaluator = lab.Evaluator(sandboxes)
    by_id = {task.id: task for task in tasks}
    for trace in traces:
        task = by_id[trace.task_id]
        with sandboxes.open(task) as box:
            made = trace.replay(box, run_dir=tmp_path / "runs")
        drifted = {made.steps[i].command: made.steps[i].note for i in made.drifted}
        print(trace.task_id, made, drifted)
        assert set(drifted) == {HERE}, made.to_frame().select("command", "outcome", "note").to_dicts()
        assert made.patch == trace.patch != ""
        with lab.Stepper(made.rollout(task), sandboxes, step=4, view="static") as stepper:
            assert stepper.run("git diff --stat").output == ""
            stepper.goto(6)
            assert "1 file changed" in stepper.run("git diff --stat").output
        assert evaluator.grade(task, trace.patch).resolved
        again = trace.save(tmp_path / "again.traj.json")
        assert replace(lab.load_trajectories(again)[0], attempt=trace.attempt) == trace  # alone in its folder
