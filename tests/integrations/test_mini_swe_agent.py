"""mini-swe-agent itself solves demo tasks in our sandboxes: by its agent, and by its batch runner."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab

pytest.importorskip("minisweagent", reason="needs mini-swe-agent: make integrations")

import yaml
from minisweagent.agents.default import DefaultAgent
from minisweagent.config import builtin_config_dir
from minisweagent.environments import get_environment
from minisweagent.exceptions import Submitted
from minisweagent.models.test_models import DeterministicModel, make_output

NAME = "swebench_lab.integrations.mini_swe_agent.LabEnvironment"
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && cat /tmp/patch.txt"


def three() -> list[lab.Task]:
    tasks = lab.load_tasks("demo")
    return [tasks.filter(repo=repo)[0] for repo in tasks.repos[:3]]


def commands(task: lab.Task) -> list[str]:
    """What somebody who knows the fix would type."""
    return [
        "git log --oneline | head -3; ls",
        f"git apply - <<'PATCH'\n{task.gold_patch}PATCH",
        "git diff > /tmp/patch.txt",
        SUBMIT,
    ]


def environment(**settings: Any) -> Any:
    return get_environment({"environment_class": NAME, **settings})


class ByIssue(DeterministicModel):
    """mini-swe-agent's scripted model, with one script for each demo task: it goes by the issue in the prompt."""

    def __init__(self, **config: Any) -> None:
        super().__init__(outputs=[], model_name=config.get("model_name", "by-issue"))

    def query(self, messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
        if not self.config.outputs:
            prompt = messages[1]["content"]
            task = next(t for t in three() if t.issue.strip()[:80] in prompt)
            self.config.outputs = [make_output("so", [{"command": line}], 0.0) for line in commands(task)]
        return super().query(messages, **more)


@pytest.mark.parametrize("number", range(3))
def test_its_agent_solves_demo_tasks_and_its_submission_is_graded_resolved(number: int, tmp_path: Path) -> None:
    task = three()[number]
    env = environment(task=task.id)
    settings = yaml.safe_load((builtin_config_dir / "default.yaml").read_text())["agent"]
    model = DeterministicModel(outputs=[make_output("so", [{"command": c}], 0.0) for c in commands(task)])
    agent = DefaultAgent(model, env, **settings, output_path=tmp_path / "run.traj.json")
    info = agent.run(task.issue)
    assert info["exit_status"] == "Submitted"
    assert env.grade(info["submission"]).resolved
    assert env.grade("").status == "unresolved"
    env.cleanup()
    saved = json.loads((tmp_path / "run.traj.json").read_text())
    assert saved["info"]["config"]["environment"]["task"] == task.id
    assert saved["info"]["config"]["environment_type"] == NAME
    (rollout,) = lab.load_trajectories(tmp_path / "run.traj.json")
    assert len(rollout.steps) == 4 and rollout.patch == info["submission"]


def test_its_batch_runner_opens_each_instance_by_the_startup_command(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the batch runner reads its rows with datasets")
    from minisweagent.run.benchmarks import swebench

    tasks = three()
    rows = [{"instance_id": t.id, "problem_statement": t.issue} for t in tasks]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tmp_path / "ours.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "environment": {"environment_class": NAME, "tasks": "demo"},
                "run": {"env_startup_command": "open-task {{instance_id}}"},
                "model": {"model_class": "tests.integrations.test_mini_swe_agent.ByIssue", "model_name": "by-issue"},
            }
        )
    )
    swebench.main(
        subset=str(tmp_path / "rows"), split="test", slice_spec="", filter_spec="", shuffle=False,
        output=str(tmp_path / "out"), workers=2, model=None, model_class=None, redo_existing=False,
        config_spec=["swebench.yaml", str(config)], environment_class=None,
    )  # fmt: skip
    predictions = json.loads((tmp_path / "out/preds.json").read_text())
    assert set(predictions) == {t.id for t in tasks}
    evaluator = lab.Evaluator(lab.SandboxFactory())
    assert all(evaluator.grade(t, predictions[t.id]["model_patch"]).resolved for t in tasks)


def test_commands_end_as_in_its_own_environments() -> None:
    env = environment(task=three()[0].id, env={"WHO": "me"}, timeout=5)
    assert env.execute({"command": "echo $WHO; pwd; echo no >&2; false"}) == {
        "output": "me\n/testbed\nno\n", "returncode": 1, "exception_info": ""
    }  # fmt: skip
    assert env.execute({"command": "cd /tmp; X=1"})["returncode"] == 0
    assert env.execute({"command": "pwd; echo =$X"})["output"] == "/testbed\n=\n"
    assert env.execute({"command": "pwd"}, cwd="/tmp")["output"] == "/tmp\n"
    late = env.execute({"command": "echo first; sleep 30"}, timeout=1)
    assert (late["output"], late["returncode"]) == ("first\n", -1) and "timed out" in late["exception_info"]
    nowhere = env.execute({"command": "pwd"}, cwd="/nowhere")
    assert nowhere["returncode"] == -1 and "/nowhere" in nowhere["exception_info"]
    long = env.execute({"command": "cat > /tmp/long <<'X'\n" + "a" * 300_000 + "\nX\nwc -c < /tmp/long"})
    assert long["output"].strip() == "300001"
    assert env.execute({"command": f"echo {SUBMIT.split()[1]}; false"})["returncode"] == 1
    with pytest.raises(Submitted) as done:
        env.execute({"command": f"echo; echo {SUBMIT.split()[1]}; echo the patch"})
    assert done.value.messages[0]["extra"]["submission"] == "the patch\n"
    env.cleanup()
    env.cleanup()
    with pytest.raises(lab.SandboxClosed):
        env.execute({"command": "true"})


def test_a_fork_goes_on_from_a_checkpoint_alone() -> None:
    env = environment(task=three()[0].id)
    env.execute({"command": "echo 1 > a.txt"})
    then = env.checkpoint()
    env.execute({"command": "echo 2 > a.txt"})
    other = env.fork(then)
    assert other.execute({"command": "cat a.txt"})["output"] == "1\n"
    assert other.task == env.task and "+1" in other.box.diff()
    other.execute({"command": "rm a.txt"})
    assert env.execute({"command": "cat a.txt"})["output"] == "2\n"
    env.cleanup()
    other.cleanup()


def test_an_environment_that_is_dropped_ends_its_sandbox() -> None:
    env = environment(task=three()[0].id)
    env.execute({"command": "true"})
    box = env.box
    del env
    gc.collect()
    assert box.closed


def test_mistakes_of_the_configuration_are_named() -> None:
    with pytest.raises(ValueError, match="tsaks"):
        environment(tsaks="demo")
    with pytest.raises(lab.ConfigError, match=r"open-task \{\{instance_id\}\}"):
        environment().execute({"command": "ls"})
    with pytest.raises(lab.TaskError, match="no-such-task"):
        environment(task="no-such-task").execute({"command": "ls"})
    with pytest.raises(lab.TaskError, match="no-such-task"):
        environment().execute({"command": "open-task no-such-task"})
