"""CLIAgent: an agent of others in a real box is answered, recorded, bounded and ended as our own is."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.errors import ContextFull, PolicyError, SandboxUnavailable
from swebench_lab.policies.scripted import ScriptedPolicy
from swebench_lab.records.reply import Reply
from swebench_lab.records.step import Thread
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.agents.external.agent_of_ours import FILES, FIX, REPLIES, bash, kit
from tests.boxes import make_snapshot
from tests.conftest import make_task

TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]
TASK = make_task()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return make_snapshot(tmp_path_factory.mktemp("start"), FILES)


def run(snapshot, policy, ending: str = "print(work(main))", tier: str | None = None, **fields) -> Trajectory:
    agent = CLIAgent(kit(ending), policy, **{"wall_time": 60.0, **fields})
    with open_namespace(snapshot, tier=tier) as box:
        return agent.run(TASK, box)


@pytest.mark.parametrize("tier", TIERS)
def test_an_attempt_is_recorded_as_our_own_agents_are(snapshot, tier):
    agent, layers, seen = CLIAgent(kit(), ScriptedPolicy(REPLIES)), [], []
    with open_namespace(snapshot, tier=tier) as box:
        made = agent.run(TASK, box, layer_sink=layers.append, on_step=seen.append)
    assert made.stop == Stop.SUBMITTED and not made.error and "+    return a + b" in made.patch
    assert [step.thought for step in made.steps] == ["I look.", "I fix.", "Done."]
    assert [step.command for step in made.steps] == ["ls", FIX, ""]
    assert made.steps[0].observation == "calc.py\n" and made.steps[0].tool == "bash"
    assert not any(step.malformed for step in made.steps)
    assert [step.layer for step in made.steps] == [layer.digest for layer in layers]
    assert [step.index for step in seen] == [0, 1, 2]
    assert [step.parent for step in made.steps] == [None, 0, 1]
    assert made.opening[-1]["role"] == "user" and TASK.issue in made.opening[-1]["content"]
    assert (made.flavour, made.tier, made.agent) == ("ours", tier, agent.fingerprint)
    assert Trajectory.from_dict(made.to_dict()) == made


def test_the_box_as_it_was_at_each_call_can_be_entered_again(snapshot):
    agent, layers = CLIAgent(kit(), ScriptedPolicy(REPLIES)), []
    with open_namespace(snapshot) as box:
        agent.run(TASK, box, layer_sink=layers.append)
        with box.fork(layers[0]) as before, box.fork(layers[1]) as after:
            assert "a - b" in before.read("calc.py") and "a + b" in after.read("calc.py")


def test_every_limit_ends_the_attempt_with_its_reason_and_its_patch(snapshot):
    fixes = ScriptedPolicy(lambda view, messages, step: Reply(bash(FIX), completion_tokens=100, cost=1.0))
    for fields, stop, steps in (
        ({"max_steps": 3}, Stop.MAX_STEPS, 3),
        ({"max_tokens": 150}, Stop.MAX_TOKENS, 2),
        ({"max_cost": 0.5}, Stop.MAX_COST, 1),
    ):
        made = run(snapshot, fixes, **fields)
        assert (made.stop, len(made.steps)) == (stop, steps), made.error
        assert "a + b" in made.patch
    assert not run(snapshot, fixes, max_steps=1, submit_on_limit=False).patch


def test_an_agent_that_hangs_ends_with_its_time(snapshot):
    began = time.monotonic()
    made = run(snapshot, ScriptedPolicy(REPLIES), "work(main); time.sleep(600)", wall_time=4.0)
    assert made.stop == Stop.TIMEOUT and "a + b" in made.patch and time.monotonic() - began < 30


def test_an_agent_that_crashes_is_an_error_that_shows_what_it_wrote(snapshot):
    made = run(snapshot, ScriptedPolicy(REPLIES), "work(main); sys.exit('out of ideas')")
    assert made.stop == Stop.ERROR and "ended with exit code 1" in made.error and "out of ideas" in made.error
    assert not made.patch
    made = run(snapshot, ScriptedPolicy(REPLIES), "pass")
    assert made.stop == Stop.ERROR and "without a model call" in made.error


def test_a_policy_that_fails_ends_the_attempt_with_its_error(snapshot):
    def dead(view, messages, step):
        raise PolicyError("asking m at nowhere: the connection failed")

    made = run(snapshot, ScriptedPolicy(dead))
    assert made.stop == Stop.ERROR and made.error == "asking m at nowhere: the connection failed"


def test_a_conversation_that_is_too_long_is_refused_in_words_agents_know(snapshot):
    def full(view, messages, step):
        if step:
            raise ContextFull("the conversation has 5000 tokens and the policy reads 4096: nothing more can be said")
        return bash(FIX)

    told = (
        "try: work(main)\nexcept urllib.error.HTTPError as error: print(error.code, error.read().decode()); sys.exit(3)"
    )
    agent = CLIAgent(kit(told), ScriptedPolicy(full))
    with open_namespace(snapshot) as box:
        attempt = agent.attempt(TASK, box)
        assert len(list(attempt)) == 1
    assert attempt.stop == Stop.MAX_TOKENS and "a + b" in attempt.patch
    assert attempt.output.startswith("400 ") and "maximum context length is 4096 tokens" in attempt.output


def test_an_agent_that_gives_up_on_a_reply_that_was_cut_is_at_a_limit_and_one_that_crashes_later_is_an_error(snapshot):
    cut = Reply("I would sa", finish_reason="length")
    ending = "ask(main); {}sys.exit('incomplete')"
    policy = ScriptedPolicy(lambda view, messages, step: cut if len(messages) == 2 else bash(FIX))
    made = run(snapshot, policy, ending.format(""))
    assert (made.stop, made.error, len(made.steps)) == (Stop.MAX_TOKENS, "", 1)
    made = run(snapshot, policy, ending.format('ask([*main, {"role": "user", "content": "go on"}]); '))
    assert made.stop == Stop.ERROR and "incomplete" in made.error


def test_another_attempts_key_is_worth_nothing(snapshot):
    with open_namespace(snapshot) as box, open_namespace(snapshot) as another:
        key = CLIAgent(kit(), ScriptedPolicy(REPLIES)).attempt(TASK, another).desk.key
        forged = f"try: ask(main, key={key!r})\nexcept urllib.error.HTTPError as error: print(error.code)\nwork(main)"
        attempt = CLIAgent(kit(forged), ScriptedPolicy(REPLIES)).attempt(TASK, box)
        steps = list(attempt)
    assert attempt.output == "401\n" and len(steps) == 3 and attempt.stop == Stop.SUBMITTED


def test_sub_agents_and_titles_are_lines_of_their_own(snapshot):
    ending = """
ask([{"role": "system", "content": "Make a title."}, {"role": "user", "content": "x"}], tools=[])
other = [{"role": "system", "content": "You search."}, {"role": "user", "content": "find it"}]
side = threading.Thread(target=work, args=(other,)); side.start(); work(main); side.join()
"""
    made = run(snapshot, ScriptedPolicy(lambda view, messages, step: REPLIES[min(step, 2)]), ending)
    lines = [step.thread for step in made.steps]
    assert made.stop == Stop.SUBMITTED and lines[0] == Thread.AUXILIARY
    assert sorted(lines[1:]) == [Thread.MAIN] * 3 + [Thread.SUB_AGENT] * 3
    for line in (Thread.MAIN, Thread.SUB_AGENT):
        steps = [step for step in made.steps if step.thread == line]
        assert [step.thought for step in steps] == ["I look.", "I fix.", "Done."]
        assert [step.parent for step in steps] == [None, *(step.index for step in steps[:-1])]


@pytest.mark.parametrize("count", [1, 5])
def test_the_main_line_is_the_one_that_was_given_the_prompt(snapshot, count):
    ending = f"""
main[1]["content"] = json.dumps(sys.argv[1])  # quoted, as some do
ask([{{"role": "system", "content": "Make a title."}}, {{"role": "user", "content": sys.argv[1]}}], tools=[])
other = [{{"role": "system", "content": "You search."}}, {{"role": "user", "content": "find it"}}]
for number in range({count}): other += [ask(other), {{"role": "user", "content": "go on"}}]
ask(main)
"""
    made = run(snapshot, ScriptedPolicy(lambda view, messages, step: "Done."), ending)
    sub = Thread.AUXILIARY if count == 1 else Thread.SUB_AGENT
    assert [step.thread for step in made.steps] == [Thread.AUXILIARY, *[sub] * count, Thread.MAIN]
    assert "You fix bugs." in made.opening[0]["content"]


def test_equal_requests_at_once_are_answered_from_one_call(snapshot):
    ending = """
got = []
def twice(): got.append(ask(main))
both = [threading.Thread(target=twice) for _ in range(2)]
[one.start() for one in both]; [one.join() for one in both]
assert got[0] == got[1], got
"""

    def slow(view, messages, step):
        time.sleep(1.0)
        return "Done."

    made = run(snapshot, ScriptedPolicy(slow), ending)
    assert made.stop == Stop.SUBMITTED and len(made.steps) == 1, made.error


@pytest.mark.slow
def test_three_hundred_calls_are_three_hundred_steps(snapshot):
    policy = ScriptedPolicy(lambda view, messages, step: bash(f"echo {step}") if step < 299 else "Done.")
    made = run(snapshot, policy, max_steps=300, wall_time=300.0)
    assert made.stop == Stop.SUBMITTED and len(made.steps) == 300, made.error
    assert [step.observation for step in made.steps[:-1]] == [f"{n}\n" for n in range(299)]


def test_what_cannot_work_is_refused_before_anything_starts(snapshot):
    agent = CLIAgent(kit(), ScriptedPolicy(REPLIES))
    for backend in ("landlock", "local"):
        with pytest.raises(SandboxUnavailable, match="no loopback of their own"):
            agent.check(backend)
    with open_namespace(snapshot, network="host") as box:
        made = agent.run(TASK, box)
    assert made.stop == Stop.ERROR and "no loopback of its own" in made.error
    with open_namespace(snapshot) as box:
        made = CLIAgent("codex", ScriptedPolicy(REPLIES)).run(TASK, box)
    assert made.stop == Stop.ERROR and "does not see the installed agent" in made.error
    with pytest.raises(ValueError, match="unknown agent 'copilot'"):
        CLIAgent("copilot", ScriptedPolicy(REPLIES))


def test_the_fingerprint_is_over_all_that_changes_an_attempt():
    agent = CLIAgent("codex", ScriptedPolicy(REPLIES))
    assert agent.fingerprint == CLIAgent("codex", ScriptedPolicy(REPLIES)).fingerprint
    others = [
        CLIAgent("claude-code", ScriptedPolicy(REPLIES)),
        agent.using(ScriptedPolicy(["x"])),
        *(
            replace(agent, **change)
            for change in ({"version": "0.1"}, {"max_steps": 5}, {"prompt": "x"}, {"env": {"A": "b"}})
        ),
    ]
    assert len({agent.fingerprint, *(other.fingerprint for other in others)}) == 7


# --- repeating ------------------------------------------------------------------------------------------------------------


def test_a_branch_repeats_the_record_and_goes_on_with_another_policy(snapshot):
    agent = CLIAgent(kit(), ScriptedPolicy(REPLIES))
    with open_namespace(snapshot) as box:
        first = agent.run(TASK, box)

    def other(view, messages, step):
        assert step == 1 and messages[-1]["content"].endswith("calc.py\n\n\nlook twice")
        return "I leave it."

    with open_namespace(snapshot) as box:
        branch = agent.using(ScriptedPolicy(other)).run(TASK, box, resume=first[:1], hint="look twice")
    assert branch.stop == Stop.SUBMITTED and not branch.patch, branch.error
    assert [step.thought for step in branch.steps] == ["I look.", "I leave it."]
    assert branch.extra["repeated"] == 1 and branch.extra["diverged"] == ""


def test_a_branch_whose_requests_differ_is_diverged_and_no_patch_is_taken(snapshot):
    agent = CLIAgent(kit(), ScriptedPolicy([bash("cat /root/seed 2>/dev/null || echo nothing"), bash(FIX), "Done."]))
    with open_namespace(snapshot) as box:
        first = agent.run(TASK, box)
    with open_namespace(snapshot) as box:
        box.write("/root/seed", "something\n")
        branch = agent.run(TASK, box, resume=first[:2])
    assert branch.stop == Stop.ERROR and not branch.patch
    assert "diverged from the record at call 1: message 3 (tool)" in branch.error and branch.extra["diverged"]


def test_nothing_is_left_behind(snapshot):
    run(snapshot, ScriptedPolicy(REPLIES))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run(snapshot, ScriptedPolicy(REPLIES))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
