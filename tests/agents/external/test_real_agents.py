"""The agents themselves, from npm and PyPI, in boxes without a network: `make agents` runs this; nothing else does.

On an engine elsewhere too, where `LAB_REMOTE_ENGINE` is its `tcp://…` and `LAB_REMOTE_IMAGE` an image in it with Git, curl and,
for the agents that need it, Node.js. An engine on this machine that sees none of its files counts as elsewhere.
"""

from __future__ import annotations

import json
import os

import pytest

import swebench_lab as lab
from swebench_lab.agents.external.kits import KITS
from swebench_lab.agents.external.translation import call_text
from swebench_lab.errors import ContextFull
from swebench_lab.policies.scripted import ScriptedPolicy
from swebench_lab.records.step import Thread
from swebench_lab.sandbox.docker.engine import DockerOptions, engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("LAB_REAL_AGENTS"), reason="make agents: installs from npm and PyPI"),
]
REMOTE = {"host": os.environ.get("LAB_REMOTE_ENGINE", ""), "base_image": os.environ.get("LAB_REMOTE_IMAGE", "")}
TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]
TIERS += ["remote"] if REMOTE["host"] else []
TASKS = lab.load_tasks("demo")[: int(os.environ.get("LAB_REAL_TASKS", "3"))]
GOLD = {task.id: task.gold_patch for task in TASKS}
LOOK = "ls; curl -sS -m 2 http://example.com; getent hosts example.com || echo no names"
ENDINGS = {"mini-swe-agent": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}


class Repair:
    """Looks, repairs, looks again and ends, by the tool that the agent has for commands."""

    def __init__(self, kit: str) -> None:
        self.kit = KITS[kit]

    def __call__(self, view, messages, step):
        ours = sum("<tool_call>" in str(m["content"]) for m in messages if m["role"] == "assistant")
        if "title" in str(messages[0]["content"]).lower()[:200]:
            return "A title"
        commands = [LOOK, f"git apply - <<'EOF'\n{GOLD[view.id]}\nEOF", "git diff --stat"]
        commands += [ENDINGS[self.kit.name]] if self.kit.name in ENDINGS else []
        if ours >= len(commands):
            return "The bug is fixed."
        tool, argument = self.kit.shell
        return call_text(tool, {argument: commands[ours], **self.more()}, f"Command {ours}.")

    def more(self):
        """Return what the agent's tool wants beside the command."""
        if self.kit.name == "openhands":
            return {"security_risk": "LOW"}
        return {"description": "work", **({"is_background": False} if self.kit.name == "qwen-code" else {})}


def opened(tier):
    if tier != "remote":
        return lab.SandboxFactory(tier)
    factory = lab.SandboxFactory("docker", options=REMOTE)
    assert not engine(DockerOptions(**REMOTE)).shares_files, "this engine sees the files of this machine"
    return factory


def give_up(view, messages, step):
    return "I leave it as it is."


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", KITS)
def test_an_agent_repairs_demo_bugs_in_boxes_without_a_network(name, tier, tmp_path):
    agent = lab.CLIAgent(name, ScriptedPolicy(Repair(name), name=name), max_steps=12, wall_time=500.0)
    with opened(tier) as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path / "run")
        rollouts = collector.collect(agent, TASKS, progress=False)
        for rollout in rollouts:
            made = rollout.trajectory
            assert rollout.verdict.status == "resolved", (made.stop, made.error, rollout.verdict.reason)
            main = [step for step in made.steps if step.thread == Thread.MAIN and step.calls]
            assert [step.thought for step in main][:3] == ["Command 0.", "Command 1.", "Command 2."]
            assert "no names" in main[0].observation and "Could not resolve host" in main[0].observation
            assert all(step.layer for step in made.steps)
        first = rollouts[0]
        last = max(step.index for step in first.trajectory.steps if step.calls)
        with sandboxes.reenter(first, last) as box:
            assert box.diff() == first.trajectory.patch
        collector.close()
        index = next(step.index for step in first.trajectory.steps if step.thought == "Command 0.")
        player = lab.Stepper(first, sandboxes, agent=agent).model
        try:
            (branch,) = player.branch(agent.using(ScriptedPolicy(give_up)), step=index)
        finally:
            player.close()
        print(
            json.dumps({"agent": name, "tier": tier, "branch": branch.verdict.status, "error": branch.trajectory.error})
        )
        assert branch.verdict.status == "unresolved" or branch.trajectory.extra["diverged"], branch.trajectory.error


OWN = {
    "codex": "/root/.codex/",
    "claude-code": "/root/.claude",
    "opencode": "/root/.local/",
    "qwen-code": "/root/.qwen/",
    "openhands": "/root/.openhands/",
}
"""Where agents go on writing of their own accord, sessions and locks, after they asked: nothing waits for that."""

TREE = """
import hashlib, json, os, stat
others = {line.split()[4] for line in open("/proc/self/mountinfo")} - {"/"}
found = {}
def look(path):
    if path in others:
        return
    about = os.lstat(path)
    if stat.S_ISSOCK(about.st_mode):  # no layer holds one: nobody listens on it any more
        return
    content = ""
    if stat.S_ISLNK(about.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(about.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    found[path] = [about.st_mode, about.st_uid, about.st_gid, about.st_size if content else 0, content]
    if stat.S_ISDIR(about.st_mode):
        for name in sorted(os.listdir(path)):
            look(os.path.join(path, name))
look("/")
print(json.dumps(found))
"""  # fmt: skip


def tree(box):
    """Return every name of a box's tree with its mode, owner, size and a hash of its content."""
    result = box.run(["python3", "-I", "-B", "-c", TREE], timeout=120)
    assert result.exit_code == 0, result.stdout[-500:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", KITS)
def test_a_box_entered_again_is_byte_for_byte_what_it_was_while_a_call_was_waiting(name, tier):
    repair, layers, trees = Repair(name), [], {}

    def reply(view, messages, step):
        if layers and len(trees) < 3:
            trees[len(layers)] = tree(box)
        return repair(view, messages, step)

    agent = lab.CLIAgent(name, ScriptedPolicy(reply, name=name), max_steps=12, wall_time=500.0)
    with opened(tier) as sandboxes:
        with agent.open(sandboxes, TASKS[0]) as box:
            made = agent.run(TASKS[0], box, layer_sink=layers.append)
        assert made.stop == "submitted" and len(trees) == 3, (made.stop, made.error)
        for count, was in trees.items():
            with agent.open(sandboxes, TASKS[0], layers=layers[:count]) as again:
                now = tree(again)
            differences = {
                path: (was.get(path), now.get(path))
                for path in was.keys() | now.keys()
                if was.get(path) != now.get(path)
            }
            own = OWN.get(name, "/nothing")
            assert not [path for path in differences if not path.startswith(own)], (count, len(was), differences)
        print(json.dumps({"agent": name, "tier": tier, "calls": sorted(trees), "names": len(was)}))


# --- Claude Code's own sub-agents and its shortened history ---------------------------------------------------------------


class Delegates(Repair):
    """Has a sub-agent look, repairs, reads until its history is shortened, looks again and ends."""

    def __call__(self, view, messages, step):
        asked = "\n".join(str(message["content"]) for message in messages if message["role"] == "user")
        if "detailed summary of" in str(messages[-1]["content"]):
            return lab.Reply("<summary>The bug was looked at and repaired.</summary>", prompt_tokens=100)
        if "Say what is in the folder" in asked and view.issue.strip()[:40] not in asked:
            listed = "I list." in str(messages)
            return "It is a package." if listed else call_text("Bash", {"command": "ls"}, "I list.")
        return self.main(view, messages)

    def main(self, view, messages):
        text = str(messages)
        if "It is a package." not in text and "The bug was looked at" not in text:
            asked = {"description": "look", "prompt": "Say what is in the folder.", "subagent_type": "general-purpose"}
            return call_text("Agent", asked, "I delegate.")
        if "I repair." not in text and "The bug was looked at" not in text:
            return call_text("Bash", {"command": f"git apply - <<'EOF'\n{GOLD[view.id]}\nEOF"}, "I repair.")
        if "The bug was looked at" not in text:
            raise ContextFull(
                "the conversation has 205000 tokens and the policy reads 200000: nothing more can be said"
            )
        if "I look again." not in text:
            return call_text("Bash", {"command": "git diff --stat"}, "I look again.")
        return "The bug is fixed."


@pytest.mark.parametrize("tier", TIERS)
def test_claude_code_is_entered_again_and_branched_in_its_sub_agent_and_after_its_history_was_shortened(tier, tmp_path):
    agent = lab.CLIAgent(
        "claude-code", ScriptedPolicy(Delegates("claude-code"), name="delegates"), max_steps=20, wall_time=500.0
    )
    with opened(tier) as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path / "run")
        (rollout,) = collector.collect(agent, TASKS[:1], progress=False)
        steps = rollout.trajectory.steps
        lines = [(step.thread.value, step.thought[:30]) for step in steps]
        assert rollout.verdict.status == "resolved", (rollout.trajectory.error, lines)
        sub = [step.index for step in steps if step.thread == Thread.SUB_AGENT]
        again = [step.index for step in steps if step.thought == "I look again."]
        assert len(sub) >= 2 and len(again) == 1, lines
        collector.close()
        player = lab.Stepper(rollout, sandboxes, agent=agent).model
        try:
            for step in (sub[0], sub[-1], again[0]):
                with sandboxes.reenter(rollout, step) as box:
                    assert bool(box.diff()) == (step == again[0])
                (branch,) = player.branch(agent, step=step)
                made = branch.trajectory
                print(json.dumps({"tier": tier, "step": step, "of": lines, "diverged": made.extra["diverged"]}))
                assert branch.verdict.status == "resolved" and not made.extra["diverged"], made.error
        finally:
            player.close()
