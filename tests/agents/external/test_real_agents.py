"""The agents themselves, from npm and PyPI, in boxes without a network: `make agents` runs this; nothing else does.

On an engine elsewhere too, where `LAB_REMOTE_ENGINE` is its `tcp://…` and `LAB_REMOTE_IMAGE` an image in it with Git, curl and,
for the agents that need it, Node.js. An engine on this machine that sees none of its files counts as elsewhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.agents.external.kits import KITS
from swebench_lab.agents.external.translation import call_text
from swebench_lab.errors import ContextFull
from swebench_lab.places import default_root
from swebench_lab.policies.scripted import ScriptedPolicy
from swebench_lab.records.step import Thread
from swebench_lab.sandbox.docker.engine import DockerOptions, engine
from swebench_lab.sandbox.linux.processes import table

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

    def __init__(self, kit: str, gold: dict[str, str] = GOLD, first: str = LOOK, last: str = "git diff --stat") -> None:
        self.kit, self.gold, self.first, self.last = KITS[kit], gold, first, last

    def __call__(self, view, messages, step):
        ours = sum("<tool_call>" in str(m["content"]) for m in messages if m["role"] == "assistant")
        if "title" in str(messages[0]["content"]).lower()[:200]:
            return "A title"
        commands = [self.first, f"git apply - <<'EOF'\n{self.gold[view.id]}\nEOF", self.last]
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


def left_behind():
    """Return the agents that still run below this process, and how many mounts it sees."""
    parents, below, count = {process.pid: process.parent for process in table()}, {os.getpid()}, 0
    while len(below) > count:
        count = len(below)
        below |= {pid for pid, parent in parents.items() if parent in below}
    commands = [path.read_bytes() for path in (Path(f"/proc/{pid}/cmdline") for pid in below) if path.exists()]
    agents = [command for command in commands if os.fsencode(default_root() / "agents") in command]
    return agents, len(Path("/proc/self/mountinfo").read_text().splitlines())


def give_up(view, messages, step):
    return "I leave it as it is."


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", KITS)
def test_an_agent_repairs_demo_bugs_in_boxes_without_a_network(name, tier, tmp_path):
    agent = lab.CLIAgent(name, ScriptedPolicy(Repair(name), name=name), max_steps=12, wall_time=500.0)
    with opened(tier) as sandboxes, agent.open(sandboxes, TASKS[0]):
        pass  # what this process keeps for the next box is there from now on
    before = left_behind()
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
    assert left_behind() == before and not before[0]


OWN = {
    "codex": "/root/.codex/",
    "claude-code": ("/root/.claude", "/tmp/claude-"),
    "opencode": "/root/.local/",
    "qwen-code": "/root/.qwen/",
    "openhands": "/root/.openhands/",
}
"""Where agents go on writing and deleting of their own accord, sessions, locks and outputs, after they asked: nothing waits for that."""

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


def check_same(name, was, now):
    """Two trees of one box are the same, aside from what the agent writes of its own accord."""
    own = OWN.get(name, "/nothing")
    differences = {path: (was.get(path), now.get(path)) for path in was.keys() | now.keys()
                   if was.get(path) != now.get(path) and not path.startswith(own)}  # fmt: skip
    assert not differences, (len(was), differences)


def work(whole):
    """Return the work tree; Git keeps times in its index."""
    folder = TASKS[0].workdir.rstrip("/") + "/"
    return {path: entry for path, entry in whole.items() if path.startswith(folder) and "/.git/" not in path}


def watched(name, tier, sandboxes, reply, wanted):
    """Run an agent; return its record, its layers, and the tree of its box at each call that is wanted, by the layers before."""
    layers, trees, places = [], {}, set()

    def watching(view, messages, step):
        answer = reply(view, messages, step)
        place = wanted(answer, len(layers))
        if place and place not in places:
            places.add(place)
            trees[len(layers)] = tree(box)
        return answer

    agent = lab.CLIAgent(name, ScriptedPolicy(watching, name=name), max_steps=20, wall_time=500.0)
    with agent.open(sandboxes, TASKS[0]) as box:
        made = agent.run(TASKS[0], box, layer_sink=layers.append)
    assert made.stop == "submitted" and trees, (made.stop, made.error)
    for count, was in trees.items():
        with agent.open(sandboxes, TASKS[0], layers=layers[:count]) as again:
            check_same(name, was, tree(again))
    return made, trees


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", KITS)
def test_a_box_entered_again_is_byte_for_byte_what_it_was_while_a_call_was_waiting(name, tier):
    with opened(tier) as sandboxes:
        runs = [
            watched(name, tier, sandboxes, Repair(name), lambda answer, count: count if 0 < count < 4 else 0)[1]
            for _ in range(2)
        ]
        assert runs[0].keys() == runs[1].keys() == {1, 2, 3}
        assert all(work(runs[0][count]) == work(runs[1][count]) for count in runs[0])
    print(json.dumps({"agent": name, "tier": tier, "calls": sorted(runs[0]), "names": len(runs[0][3])}))


# --- sub-agents and shortened histories, of those that have them ---------------------------------------------------------

LOOK_INTO = {"description": "look", "prompt": "Say what is in the folder."}
SUB_AGENTS = {
    "claude-code": ("Agent", {**LOOK_INTO, "subagent_type": "general-purpose"}),
    "opencode": ("task", {**LOOK_INTO, "subagent_type": "general"}),
    "qwen-code": ("agent", {**LOOK_INTO, "subagent_type": "general-purpose"}),
    "gemini-cli": ("invoke_agent", {"agent_name": "generalist", "prompt": LOOK_INTO["prompt"]}),
}
FULL = ContextFull("the conversation has 205000 tokens and the policy reads 200000: nothing more can be said")
SHORTENS = {"claude-code": FULL, "codex": 400_000}
"""What has an agent shorten its history: a refusal, or so many tokens of a prompt."""
SUMMARY = "The bug was looked at and repaired."


class Delegates(Repair):
    """Has a sub-agent look, repairs, reads until its history is shortened, looks again and ends: what the agent can do of it."""

    def __call__(self, view, messages, step):
        users = "\n".join(str(message["content"]) for message in messages if message["role"] == "user")
        if "title" in str(messages[0]["content"]).lower()[:200]:
            return "A title"
        if any(words in str(messages[-1]["content"]).lower() for words in ("detailed summary of", "handoff summary")):
            return lab.Reply(f"<summary>{SUMMARY}</summary>", prompt_tokens=100)
        if LOOK_INTO["prompt"] in users and view.issue.strip()[:40] not in users:
            return self.sub_agent(str(messages))
        return self.main(view, str(messages))

    def shell_call(self, command, thought):
        tool, argument = self.kit.shell
        return call_text(tool, {argument: command, **self.more()}, thought)

    def sub_agent(self, text):
        if "I list." not in text:
            return self.shell_call("ls", "I list.")
        if self.kit.name == "gemini-cli":
            return call_text("complete_task", {"result": {"response": "It is a package."}}, "I end.")
        return "It is a package."

    def main(self, view, text):
        short = SUMMARY in text
        if self.kit.name in SUB_AGENTS and "It is a package." not in text and not short:
            return call_text(*SUB_AGENTS[self.kit.name], "I delegate.")
        if "I repair." not in text and not short:
            repair = self.shell_call(f"git apply - <<'EOF'\n{GOLD[view.id]}\nEOF", "I repair.")
            size = SHORTENS.get(self.kit.name)
            return lab.Reply(repair, prompt_tokens=size, completion_tokens=10) if isinstance(size, int) else repair
        if self.kit.name in SHORTENS and not short:
            raise FULL
        if "I look again." not in text:
            return self.shell_call("git diff --stat", "I look again.")
        return "The bug is fixed."


def place_of(answer, count):
    text = answer.text if isinstance(answer, lab.Reply) else str(answer)
    thoughts = ("I list.", "I repair.", "I look again.") if count else ()
    return next((thought for thought in thoughts if text.startswith(thought)), "")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", sorted({*SUB_AGENTS, *SHORTENS}))
def test_agents_are_entered_again_and_branched_in_sub_agents_behind_them_and_after_a_shortened_history(
    name, tier, tmp_path
):
    with opened(tier) as sandboxes:
        made, trees = watched(name, tier, sandboxes, Delegates(name), place_of)
        agent = lab.CLIAgent(name, ScriptedPolicy(Delegates(name), name="delegates"), max_steps=20, wall_time=500.0)
        collector = lab.RolloutCollector(sandboxes, workers=1, run_dir=tmp_path / "run")
        (rollout,) = collector.collect(agent, TASKS[:1], progress=False)
        steps = rollout.trajectory.steps
        lines = [(step.thread.value, step.thought[:30]) for step in steps]
        assert rollout.verdict.status == "resolved", (rollout.trajectory.error, lines)
        assert sorted(lines) == sorted((step.thread.value, step.thought[:30]) for step in made.steps)
        assert len([line for line in lines if line[0] == Thread.SUB_AGENT]) == (2 if name in SUB_AGENTS else 0), lines
        assert (Thread.MAIN, "I repair.") in lines and (Thread.MAIN, "I look again.") in lines
        collector.close()
        player = lab.Stepper(rollout, sandboxes, agent=agent).model
        try:
            for count, was in trees.items():
                thought = made.steps[count].thought
                before = next(step.index for step in steps if step.thought == thought) - 1
                with sandboxes.reenter(rollout, before) as box:
                    assert work(tree(box)) == work(was), thought
                (branch,) = player.branch(agent, step=before)
                assert branch.verdict.status == "resolved", (thought, branch.trajectory.error)
                assert not branch.trajectory.extra["diverged"]
        finally:
            player.close()
    print(json.dumps({"agent": name, "tier": tier, "at": [made.steps[count].thought for count in trees], "of": lines}))
