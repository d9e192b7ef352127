"""Agents of others, collected: graded, resumed, entered again and branched as our own are. Demo tasks, a real factory."""

from __future__ import annotations

import json
import warnings

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxUnavailable
from swebench_lab.policies.scripted import ScriptedPolicy
from tests.agents.external.agent_of_ours import bash, kit
from tests.sandbox.test_docker import needs_engine

TASKS = lab.load_tasks("demo")[:2]
GOLD = {task.id: task.gold_patch for task in TASKS}


def repair(view, messages, step):
    if step == 0:
        return bash("ls", "I look.")
    return bash(f"git apply - <<'EOF'\n{GOLD[view.id]}\nEOF", "I fix.") if step == 1 else "Done."


def give_up(view, messages, step):
    return "I cannot see what is wrong."


def test_attempts_are_collected_graded_resumed_entered_and_branched(tmp_path):
    with lab.SandboxFactory("namespace") as sandboxes:
        evaluator = lab.Evaluator(sandboxes)
        collector = lab.RolloutCollector(sandboxes, evaluator, workers=2, run_dir=tmp_path / "run")
        agent = lab.CLIAgent(kit(), ScriptedPolicy(repair), wall_time=120.0)
        rollouts = collector.collect(agent, TASKS, attempts=2, progress=False)
        assert [r.verdict.status for r in rollouts] == ["resolved"] * 4, [r.trajectory.error for r in rollouts]
        assert collector.executed == 4
        again = collector.collect(agent, TASKS, attempts=2, progress=False)
        assert collector.executed == 0 and [r.trajectory for r in again] == [r.trajectory for r in rollouts]
        with sandboxes.reenter(again[0], 0) as before, sandboxes.reenter(again[0], 1) as after:
            assert not before.diff() and after.diff()
        collector.close()
        player = lab.Stepper(again[0], sandboxes, agent=agent, evaluator=evaluator).model
        try:
            (branch,) = player.branch(agent.using(ScriptedPolicy(give_up)), step=0, hint="leave it")
            assert branch.verdict.status == "unresolved" and not branch.trajectory.error
            assert [s.thought for s in branch.trajectory.steps] == ["I look.", "I cannot see what is wrong."]
            (branch,) = player.branch(agent, step=0)
            assert branch.verdict.status == "resolved"
        finally:
            player.close()


@needs_engine
def test_agents_of_others_work_in_containers(tmp_path):
    with lab.SandboxFactory("docker") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path)
        agent = lab.CLIAgent(kit(), ScriptedPolicy(repair), wall_time=120.0)
        rollouts = collector.collect(agent, TASKS[:1], attempts=2, progress=False)
        assert [r.verdict.status for r in rollouts] == ["resolved"] * 2, [r.trajectory.error for r in rollouts]
        with sandboxes.reenter(rollouts[0], 0) as before, sandboxes.reenter(rollouts[0], 1) as after:
            assert not before.diff() and after.diff() == rollouts[0].trajectory.patch
        collector.close()


def test_boxes_without_a_loopback_are_refused_before_anything_starts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said once in a process: `local` has no walls
        sandboxes = lab.SandboxFactory("local")
    with sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=1)
        with pytest.raises(SandboxUnavailable, match="use SandboxFactory\\('namespace'\\)"):
            collector.collect(lab.CLIAgent(kit(), ScriptedPolicy(repair)), TASKS, progress=False)


class Repair:
    """What `repair` does, as a value that is sent to other processes."""

    def __init__(self, gold):
        self.gold = gold

    def __call__(self, view, messages, step):
        tool = {"name": "bash", "arguments": {"command": f"git apply - <<'EOF'\n{self.gold[view.id]}\nEOF"}}
        return f"I fix.\n<tool_call>\n{json.dumps(tool)}\n</tool_call>" if step == 0 else "Done."


@pytest.mark.slow
def test_nodes_of_a_cluster_run_agents_of_others(tmp_path):
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    agent = lab.CLIAgent(kit(), ScriptedPolicy(Repair(GOLD)), wall_time=120.0)
    with lab.cluster(2) as joined, lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=2, run_dir=tmp_path, executor=joined)
        rollouts = collector.collect(agent, TASKS, attempts=3, progress=False)
        assert [r.verdict.status for r in rollouts] == ["resolved"] * 6, [r.trajectory.error for r in rollouts]
        assert len({rollout.node for rollout in rollouts}) == 2
        with sandboxes.reenter(rollouts[0], 0) as box:
            assert box.diff() == rollouts[0].trajectory.patch
