"""Thirty-five bugs in seven languages: certified, repaired by our agent and by one of others, entered again; rootless too.

The agent of others is a small one of ours; with `LAB_REAL_AGENTS` each language has another one from npm or PyPI.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.records.step import Thread
from tests.agents.external import test_real_agents as real
from tests.agents.external.agent_of_ours import bash, kit
from tests.tasks.libraries import LIBRARIES, Library

ROOT = os.environ.get("SWEBENCH_LAB_LANGUAGES_ROOT", "")
"""A root file system of debootstrap's, with git, python3-pytest, nodejs, golang-go, cargo, gcc, ruby and a JDK."""
REAL = dict(zip((library.name for library in LIBRARIES), ("mini-swe-agent", "opencode", "codex", "claude-code", "qwen-code", "gemini-cli", "openhands"), strict=True))  # fmt: skip
BACKENDS = ("namespace-root", "namespace-rootless") if os.geteuid() == 0 else ("namespace-rootless",)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT, reason="SWEBENCH_LAB_LANGUAGES_ROOT names no root file system"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("SWEBENCH_LAB_LANGUAGES_CACHE") or tmp_path_factory.mktemp("libraries"))


class Repair:
    """Looks, repairs, runs the library's tests and ends: for our agent in its format, for another in its own."""

    def __init__(self, library: Library, tasks: lab.Tasks, ours: bool) -> None:
        self.patches, self.run, self.ours = {t.id: t.gold_patch for t in tasks}, library.run, ours

    def __call__(self, view, messages, step):
        commands = ["ls", f"git apply - <<'EOF'\n{self.patches[view.id]}\nEOF", self.run]
        if step == len(commands):
            return render_xml(Call("submit")) if self.ours else "Done."
        return render_xml(Call("bash", {"command": commands[step]})) if self.ours else bash(commands[step], "I work.")


def agents(library: Library, tasks: lab.Tasks) -> dict[str, lab.Agent | lab.CLIAgent]:
    """Our agent and one of others, each with a policy that knows what to do."""
    ours = lab.ScriptedPolicy(Repair(library, tasks, True), name="scripted")
    if not os.environ.get("LAB_REAL_AGENTS"):
        small = lab.ScriptedPolicy(Repair(library, tasks, False), name="cli")
        return {"scripted": lab.Agent(ours), "cli": lab.CLIAgent(kit(), small, wall_time=300.0)}
    name = REAL[library.name]
    gold = {task.id: task.gold_patch for task in tasks}
    policy = lab.ScriptedPolicy(real.Repair(name, gold, "ls", library.run), name=name)
    return {"scripted": lab.Agent(ours), name: lab.CLIAgent(name, policy, max_steps=12, wall_time=500.0)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_five_bugs_are_certified_repaired_and_entered_again(
    library: Library, backend: str, folder: Path, tmp_path: Path
):
    bases = {"debian:languages": f"folder:{ROOT}", library.image: f"dockerfile:{library.write(folder)}"}
    tasks = lab.load_tasks(library.rows())
    cache = lab.SnapshotCache(folder / "cache", bases=bases, images="registry")
    row = {"language": library.name, "backend": backend, "tasks": len(tasks)}
    with lab.SandboxFactory(backend, cache=cache) as sandboxes:
        evaluator = lab.Evaluator(sandboxes, workers=1)
        began = time.monotonic()
        frame = evaluator.check(tasks, again=True, progress=False)
        row |= {"certified": (frame["status"] == "passed").sum(), "check s": round(time.monotonic() - began, 1)}
        assert row["certified"] == len(tasks) == 5, frame.select("id", "status", "official", "reason").rows()
        assert frame["official"].to_list() == ["resolved/unresolved"] * len(tasks)
        for name, agent in agents(library, tasks).items():
            collector = lab.RolloutCollector(sandboxes, evaluator, workers=1, run_dir=tmp_path / name)
            began = time.monotonic()
            rollouts = collector.collect(agent, tasks, progress=False)
            collector.close()
            assert [r.verdict.status for r in rollouts] == ["resolved"] * 5, [
                (r.trajectory.error, r.verdict.reason) for r in rollouts
            ]
            for rollout in rollouts:
                looks, repairs, *_ = [s.index for s in rollout.trajectory.steps if s.thread == Thread.MAIN and s.calls]
                with sandboxes.reenter(rollout, looks) as before, sandboxes.reenter(rollout, repairs) as after:
                    assert before.tier == after.tier == backend
                    assert not before.diff() and after.diff() == rollout.trajectory.patch
                    ran = after.run(library.run, timeout=120)
                    assert ran.exit_code == 0, ran.output
            row |= {name: 5, f"{name} s": round(time.monotonic() - began, 1)}
    print(json.dumps(row))
