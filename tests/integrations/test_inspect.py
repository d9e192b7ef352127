"""Inspect itself: its own check of sandboxes passes on ours, and its evals run our tasks and are graded by us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab

pytest.importorskip("inspect_ai", reason="needs Inspect: make integrations")

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.solver import Generate, TaskState, solver
from inspect_ai.util import SandboxUnavailableError, SandboxUserUnsupportedError, sandbox
from inspect_ai.util._sandbox.self_check import *  # noqa: F403 - Inspect's checks are collected here

from swebench_lab.integrations.inspect_sandbox import InspectSandbox, InspectSandboxConfig
from swebench_lab.integrations.inspect_tasks import issues

pytestmark = pytest.mark.anyio
AS_ROOT = {
    "test_read_file_not_allowed": "commands run as root, whom modes do not stop",
    "test_write_text_file_without_permissions": "commands run as root, whom modes do not stop",
    "test_write_binary_file_without_permissions": "commands run as root, whom modes do not stop",
    "test_exec_as_user": "commands run as one user; others are refused with SandboxUserUnsupportedError",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def factory() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory() as sandboxes:
        yield sandboxes


@pytest.fixture
async def sandbox_env(factory: lab.SandboxFactory, request: pytest.FixtureRequest) -> AsyncIterator[InspectSandbox]:
    name = getattr(request.node, "originalname", "")
    if name in AS_ROOT:
        request.applymarker(pytest.mark.xfail(reason=AS_ROOT[name], strict=True))
    task = lab.load_tasks("demo")[0]
    environment = InspectSandbox(factory.open(task), task, factory)
    yield environment
    environment.box.close()


def call(command: str, tool: str = "bash", argument: str = "command") -> ModelOutput:
    output = ModelOutput.for_tool_call("mockllm/model", tool, {argument: command})
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # or they are counted, with a download
    return output


def submit() -> ModelOutput:
    return call("done", "submit", "answer")


def scripted(*outputs: ModelOutput) -> Any:
    return get_model("mockllm/model", custom_outputs=list(outputs))


def run(task: Any, model: Any, folder: Path, **more: Any) -> Any:
    (log,) = evaluate(task, model=model, log_dir=str(folder), display="none", **more)
    return log


def test_an_eval_over_demo_tasks_is_graded_by_their_tests(tmp_path: Path) -> None:
    tasks = lab.load_tasks("demo")
    chosen = [tasks.filter(repo=repo)[0] for repo in tasks.repos[:3]]
    fix, other = chosen[0], chosen[1]
    only = "|".join(task.id for task in chosen)
    model = scripted(
        *(call(f"git apply - <<'PATCH'\n{fix.gold_patch}PATCH"), submit()),
        *(call(f"pwd; git apply - <<'PATCH'\n{other.gold_patch}PATCH"), submit()),
        *(call("echo nothing"), submit()),
    )
    log = run(issues(select=only), model, tmp_path, max_samples=1, max_tasks=1)
    assert log.status == "success", log.error
    scores = {s.id: s.scores["tests"] for s in log.samples}
    assert [scores[t.id].value for t in chosen] == [1.0, 1.0, 0.0]
    assert "diff --git" in scores[fix.id].answer and scores[chosen[2].id].metadata["status"] == "unresolved"
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(2 / 3)
    shown = "".join(m.text for s in log.samples for m in s.messages if m.role == "tool")
    assert "/testbed" in shown and "nothing" in shown
    assert all(task.gold_patch not in str(s.metadata) + str(s.input) for s in log.samples for task in chosen)


@solver
def forking() -> Any:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        box = sandbox().as_type(InspectSandbox)
        await box.exec(["sh", "-c", "echo 1 > a.txt"])
        then = await box.checkpoint()
        await box.exec(["sh", "-c", "echo 2 > a.txt"])
        other = await box.fork(then)
        state.metadata["seen"] = [await other.read_file("a.txt"), await box.read_file("a.txt")]
        other.box.close()
        return state

    return solve


@pytest.mark.parametrize("where", ["swebench_lab", ("swebench_lab", "demo#{}"), ("swebench_lab", "demo")])
def test_any_task_of_inspect_can_name_our_sandbox_and_fork_in_it(where: Any, tmp_path: Path) -> None:
    task = lab.load_tasks("demo")[0]
    where = (where[0], where[1].format(task.id)) if isinstance(where, tuple) else where
    given = Task(dataset=[Sample(input="x", id=task.id)], solver=forking(), sandbox=where)
    log = run(given, scripted(), tmp_path)
    assert log.status == "success", log.error
    assert log.samples[0].metadata["seen"] == ["1\n", "2\n"]


def test_a_sample_that_names_no_task_is_an_error_and_no_score(tmp_path: Path) -> None:
    given = Task(dataset=[Sample(input="x", id="who-knows")], solver=forking(), sandbox="swebench_lab")
    log = run(given, scripted(), tmp_path)
    assert log.status == "error" and "who-knows" in log.error.message


async def test_programs_users_and_ends_are_told_apart(sandbox_env: InspectSandbox) -> None:
    missing = await sandbox_env.exec(["no-such-program"])
    assert not missing.success and "no-such-program" in missing.stderr
    assert not (await sandbox_env.exec(["ls"], cwd="/nowhere")).success
    assert (await sandbox_env.exec(["whoami"], user="root")).success
    with pytest.raises(SandboxUserUnsupportedError):
        await sandbox_env.exec(["whoami"], user="somebody")
    assert InspectSandbox.config_deserialize({"task": "a"}) == InspectSandboxConfig(task="a")
    sandbox_env.box.close()
    with pytest.raises(SandboxUnavailableError):
        await sandbox_env.exec(["true"])
