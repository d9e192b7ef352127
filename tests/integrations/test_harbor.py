"""Harbor itself runs demo tasks in our environment, with its oracle, with an agent that does nothing, and with our agent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab

pytest.importorskip("harbor", reason="needs Harbor, which needs Python 3.12: make integrations")

from harbor.job import Job
from harbor.models.job.config import JobConfig

from swebench_lab.integrations.harbor_agent import EnvironmentBox, HarborAgent, _token_details
from swebench_lab.integrations.harbor_environment import HarborEnvironment

ENVIRONMENT = "swebench_lab.integrations.harbor_environment:HarborEnvironment"
AGENT = "swebench_lab.integrations.harbor_agent:HarborAgent"


def three() -> lab.Tasks:
    tasks = lab.load_tasks("demo")
    return lab.Tasks([tasks.filter(repo=repo)[0] for repo in tasks.repos[:3]])


class Solver(lab.Teacher):
    """Knows the demo tasks by what Harbor tells an agent of them: the instruction."""

    def start(self, view: lab.TaskView, attempt: int, seed: int) -> Any:
        task = next(t for t in three() if t.issue.strip() == view.issue.strip())
        return super().start(lab.TaskView(task.id, task.repo, task.issue, workdir=view.workdir), attempt, seed)


def solver(model: str | None) -> lab.Agent:
    return lab.Agent(Solver(three()), max_steps=40)


def broken(model: str | None) -> lab.Agent:
    return lab.Agent(lab.ReplayPolicy([]))


class Plain(HarborEnvironment):
    """The same environment without a sandbox to be had: the agent goes by Harbor's interface alone."""

    @property
    def box(self) -> None:
        return None

    @box.setter
    def box(self, value: Any) -> None:
        self.hidden = value

    def _require_box(self) -> Any:
        return self.hidden

    async def stop(self, delete: bool) -> None:
        self.hidden.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harbor") / "tasks"
    return three().to_harbor(folder)


def run(
    folders: Path, out: Path, agent: dict[str, Any], environment: str = ENVIRONMENT, **options: Any
) -> dict[str, Any]:
    """Run a job over the folders; task folder → its trial's result, as Harbor wrote it."""
    config = JobConfig.model_validate(
        {
            "job_name": "job", "jobs_dir": str(out), "n_concurrent_trials": 2, "quiet": True,
            "timeout_multiplier": 6.0,  # what is compared is rewards, whatever else the machine does
            "datasets": [{"path": str(folders)}],
            "agents": [agent],
            "environment": {"import_path": environment, "kwargs": {"tasks": "demo", "network": "none", **options}},
        }
    )  # fmt: skip

    async def go() -> None:
        job = await Job.create(config)
        await job.run()

    asyncio.run(go())
    return {r["task_name"]: r for r in (json.loads(f.read_text()) for f in (out / "job").glob("*/result.json"))}


def rewards(results: dict[str, Any]) -> list[Any]:
    return [(r["verifier_result"] or {}).get("rewards", {}).get("reward") for r in results.values()]


def test_its_oracle_gets_every_reward_and_an_agent_that_does_nothing_none(folders: Path, tmp_path: Path) -> None:
    oracle = run(folders, tmp_path / "oracle", {"name": "oracle"})
    assert rewards(oracle) == [1.0] * 3, [r["exception_info"] for r in oracle.values()]
    assert rewards(run(folders, tmp_path / "nop", {"name": "nop"})) == [0.0] * 3


@pytest.mark.slow
@pytest.mark.parametrize("repo", lab.load_tasks("demo").repos)
def test_every_demo_task_gets_of_harbor_the_verdict_that_it_gets_here(repo: str, tmp_path: Path) -> None:
    tasks = lab.load_tasks("demo").filter(repo=repo)
    with lab.SandboxFactory() as sandboxes:
        evaluator = lab.Evaluator(sandboxes)
        patches = {"oracle": lambda task: task.gold_patch, "nop": lambda task: ""}
        ours = {
            (agent, task.id): float(evaluator.grade(task, patch(task)).resolved)
            for agent, patch in patches.items()
            for task in tasks
        }
    folders = tasks.to_harbor(tmp_path / "tasks")
    ids = {t.extra["harbor"]["metadata"]["swebench_lab"]["id"]: t.id for t in lab.load_tasks(folders)}
    theirs = {}
    for agent in patches:
        results = run(folders, tmp_path / agent, {"name": agent})
        assert not [r["exception_info"] for r in results.values() if r["exception_info"]]
        rewarded = {name: (r["verifier_result"] or {}).get("rewards", {}).get("reward") for name, r in results.items()}
        theirs |= {(agent, task.id): rewarded.get(ids[task.id]) for task in tasks}
    print(json.dumps({"repo": repo, "tasks": len(tasks), "equal": sum(theirs[key] == ours[key] for key in ours)}))
    assert theirs == ours and set(ours.values()) == {0.0, 1.0}


@pytest.mark.parametrize("environment", [ENVIRONMENT, "tests.integrations.test_harbor:Plain"])
def test_our_agent_solves_demo_tasks_and_leaves_a_trajectory(environment: str, folders: Path, tmp_path: Path) -> None:
    agent = {"import_path": AGENT, "kwargs": {"agent": "tests.integrations.test_harbor:solver"}}
    results = run(folders, tmp_path, agent, environment)
    assert rewards(results) == [1.0] * 3, [r["exception_info"] for r in results.values()]
    for path in (tmp_path / "job").glob("*/agent/trajectory.json"):
        (trajectory,) = lab.load_trajectories(path)
        assert trajectory.stop == "submitted" and trajectory.patch.startswith("diff --git")
    assert len(list((tmp_path / "job").glob("*/agent/trajectory.json"))) == 3


def test_an_attempt_that_ends_by_an_error_is_an_error_of_the_trial(folders: Path, tmp_path: Path) -> None:
    agent = {"import_path": AGENT, "kwargs": {"agent": "tests.integrations.test_harbor:broken"}}
    results = run(folders, tmp_path, agent)
    assert all("ended by an error" in r["exception_info"]["exception_message"] for r in results.values())


def test_token_ids_are_handed_over_with_the_whole_prompt_of_each_call() -> None:
    first = lab.Reply("a", (3, 4), (-0.1, -0.2), (1, 2))
    second = lab.Reply("b", (6,), (-0.3,), (5,))
    edited = lab.Reply("c", (8,), (-0.4,), (7,), restart=True)
    details = _token_details([first, second, edited])
    assert details["prompt_token_ids"] == [[1, 2], [1, 2, 3, 4, 5], [7]]
    assert details["completion_token_ids"] == [[3, 4], [6], [8]]
    assert _token_details([first, lab.Reply("no ids")]) is None


def test_unknown_options_are_errors_before_anything_starts(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="tsaks"):
        run(folders, tmp_path, {"name": "nop"}, tsaks="demo")
    assert HarborAgent.name() == "swebench-lab" and EnvironmentBox.tier == "harbor"
