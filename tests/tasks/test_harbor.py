"""Harbor task folders: read, certified, graded in fresh boxes, refused by name where something is not honoured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.tasks.harbor.reading import digest
from tests.grading.script_tasks import GOLD, HALF, root_fs
from tests.tasks.harbor_folders import TOML, harbor_task


@pytest.fixture
def evaluator(tmp_path: Path) -> lab.Evaluator:
    bases = {"acme/shell:1": f"folder:{root_fs(tmp_path / 'root')}"}
    return lab.Evaluator(lab.SandboxFactory(cache=tmp_path / "cache", bases=bases), workers=1)


def test_a_task_folder_is_read_certified_and_graded(evaluator, tmp_path):
    task = lab.load_tasks(harbor_task(tmp_path))[0]
    assert (task.id, task.issue, task.difficulty) == ("acme/add", "add.sh subtracts. Make it add.\n", "easy")
    assert task.extra["harbor"]["agent_timeout"] == 900.0 and task.view().workdir == "/app"
    certificate = evaluator.certificate(task)
    assert (certificate.status, certificate.gold, certificate.untouched) == ("passed", ("resolved",), ("unresolved",))
    assert "not in the box: /solution, /tests" in certificate.audit
    assert dict(evaluator.grade(task, GOLD).rewards) == {"reward": 1.0}
    assert evaluator.grade(task, HALF).status == "unresolved"
    assert evaluator.grade(task, "").status == "unresolved"


def test_an_agent_sees_neither_tests_nor_solution_and_its_rollout_is_rewarded(evaluator, tmp_path):
    task = lab.load_tasks(harbor_task(tmp_path))[0]
    commands = [Call("bash", {"command": "ls /tests /solution; sed -i s/-/+/ add.sh && sh add.sh 2 2"}), Call("submit")]
    policy = lab.ScriptedPolicy([render_xml(call) for call in commands])
    collector = lab.RolloutCollector(evaluator.sandboxes, evaluator, workers=1)
    rollout = collector.collect(lab.Agent(policy, max_steps=3), [task], progress=False)[0]
    seen = rollout.trajectory.steps[0].observation
    assert "cannot access '/tests'" in seen and "cannot access '/solution'" in seen
    assert (rollout.verdict.status, rollout.reward) == ("resolved", 1.0)


def test_a_folder_of_tasks_a_dataset_and_a_registry_are_read(tmp_path):
    one = harbor_task(tmp_path, TOML.replace("acme/add", "acme/one"), name="one")
    harbor_task(tmp_path, TOML.replace("acme/add", "acme/two"), name="two")
    assert lab.load_tasks(tmp_path).ids == ("acme/one", "acme/two")
    dataset = f'[dataset]\nname = "acme/set"\n[[tasks]]\nname = "acme/one"\ndigest = "{digest(one)}"\n'
    (tmp_path / "dataset.toml").write_text(dataset)
    assert lab.load_tasks(tmp_path).ids == ("acme/one",)
    (one / "instruction.md").write_text("Something else.\n")
    with pytest.raises(lab.TaskError, match="is not what was published: its digest is sha256:"):
        lab.load_tasks(tmp_path)
    registry = [
        {"name": "set", "version": "1", "description": "", "tasks": [{"name": "two", "path": "two"}], "metrics": []}
    ]
    (tmp_path / "registry.json").write_text(json.dumps(registry))
    assert lab.load_tasks(tmp_path / "registry.json").ids == ("acme/two",)
    for entry, words in (
        ({"path": "../x"}, "no task folder"),
        ({"path": "two", "git_url": "https://example.org/a"}, "clone that"),
    ):
        registry[0]["tasks"] = [entry]  # type: ignore[assignment]
        (tmp_path / "registry.json").write_text(json.dumps(registry))
        with pytest.raises(lab.TaskError, match=words):
            lab.load_tasks(tmp_path / "registry.json")


SEPARATE = TOML.replace("[environment]", 'environment_mode = "separate"\n[[verifier.collect]]\ncommand = "git diff >/logs/artifacts/model.patch"\n[environment]')  # fmt: skip


def test_a_separate_verifier_applies_the_patch_that_the_agents_box_hands_over(evaluator, tmp_path):
    test = 'cd /app && git apply /logs/artifacts/model.patch && [ "$(sh add.sh 2 2)" = 4 ]\n[ $? = 0 ] && echo 1 >/logs/verifier/reward.txt || echo 0 >/logs/verifier/reward.txt\n'
    task = lab.load_tasks(harbor_task(tmp_path, SEPARATE, test))[0]
    assert task.verifier is not None and task.verifier.separate
    assert evaluator.certificate(task).passed
    verdict = evaluator.grade(task, HALF)
    assert verdict.status == "unresolved" and dict(verdict.rewards) == {"reward": 0.0}


def test_a_task_without_a_solution_has_no_gold(evaluator, tmp_path):
    task = lab.load_tasks(harbor_task(tmp_path, solve=""))[0]
    assert evaluator.certificate(task).status == "no gold"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[agent]", "[[steps]]\nname = 'a'\n[agent]"), "multi-step"),
        (("workdir", 'os = "windows"\nworkdir'), "os = 'windows'"),
        (("workdir", "gpus = 1\nworkdir"), "GPUs"),
        (("workdir", "mcp_servers = [{name = 'a'}]\nworkdir"), "MCP servers"),
        (("workdir", "healthcheck = {command = 'true'}\nworkdir"), "a health check"),
        (("[agent]", "[agent]\nuser = 'me'"), "runs as 'me'"),
        (("timeout_sec = 30.0", "timeout_sec = 'x'"), "expected seconds"),
        (("timeout_sec = 30.0", "environment_mode = 'shared'\n[verifier.environment]\ncpus = 1"), "contradicts"),
        (("timeout_sec = 30.0", "env = {KEY = '${KEY}'}"), r"\$\{KEY\} of the machine"),
        (('"1.4"', '"2.0"'), "schema version '2.0'"),
        (("[task]", "[task"), "cannot be read as TOML"),
        (("acme/add", "../add"), "no name of a task"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(tmp_path, change, words):
    with pytest.raises(lab.TaskError, match=words):
        lab.load_tasks(harbor_task(tmp_path, TOML.replace(*change)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("environment/docker-compose.yaml", "several services"), ("steps/one/instruction.md", "multi-step"),
        ("trajectory.json", "prior context"), ("tests/test.sh", "without tests/test.sh"),
        ("environment/secret", "a link that leads out of the task"),
    ],
)  # fmt: skip
def test_files_that_are_not_honoured_are_refused_by_name(tmp_path, name, words):
    folder = harbor_task(tmp_path)
    place = folder / name
    if place.exists():
        place.unlink()
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to("/etc/passwd") if name.endswith("secret") else place.write_text("x")
    with pytest.raises(lab.TaskError, match=words):
        lab.load_tasks(folder)


def test_a_wrong_task_does_not_lose_the_others(tmp_path):
    harbor_task(tmp_path, name="one")
    harbor_task(
        tmp_path, TOML.replace("acme/add", "acme/two").replace("[agent]", "[[steps]]\nname = 'a'\n[agent]"), name="two"
    )
    with pytest.raises(lab.TaskError, match="1 of 2 rows are wrong"):
        lab.load_tasks(tmp_path)
    assert lab.load_tasks(tmp_path, invalid="skip").ids == ("acme/add",)


def test_defaults_of_variables_are_taken_and_the_hosts_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVEL", "from the host")
    task = lab.load_tasks(
        harbor_task(tmp_path, TOML.replace("timeout_sec = 30.0", "env = {A = '${LEVEL:-low}', B = 'b'}"))
    )[0]
    assert task.verifier is not None and dict(task.verifier.env) == {"A": "low", "B": "b"}


def test_other_layouts_of_task_folders_are_refused_by_name(tmp_path):
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "task.yaml").write_text("instruction: hi\n")
    with pytest.raises(lab.TaskError, match=r"looks like Terminal-Bench 1 without its run-tests\.sh"):
        lab.load_tasks(tmp_path)


def test_each_phase_has_the_network_that_it_asks_for(tmp_path):
    allow = TOML.replace('"no-network"', '"allowlist"\nallowed_hosts = ["PyPI.org", "*.pythonhosted.org"]')
    closed = allow.replace("[verifier]\n", '[verifier]\nnetwork_mode = "no-network"\n')
    public = TOML.replace("[agent]\n", '[agent]\nnetwork_mode = "public"\n')
    found = [
        lab.load_tasks(harbor_task(tmp_path, toml, name=str(n)))[0]
        for n, toml in enumerate((TOML, allow, closed, public))
    ]
    hosts = "allow:PyPI.org,*.pythonhosted.org"
    assert [(task.network, task.verifier.network) for task in found] == [
        ("none", ""), (hosts, ""), (hosts, "none"), ("allow:*", "none"),
    ]  # fmt: skip
    with pytest.raises(lab.TaskError, match=r"field 'environment.allowed_hosts': .*'http://x' is no host"):
        lab.load_tasks(harbor_task(tmp_path, allow.replace("PyPI.org", "http://x"), name="bad"))
