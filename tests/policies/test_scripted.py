"""Policies whose answers are known beforehand, and the contract that every policy keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from swebench_lab.agents import flavour as flavours
from swebench_lab.agents.agent import Agent
from swebench_lab.agents.tools import by_name as tools
from swebench_lab.errors import PolicyError
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.policies.policy import Conversation, Policy
from swebench_lab.policies.scripted import NullPolicy, ReplayPolicy, ScriptedPolicy
from swebench_lab.policies.teachers.teacher import NoisyTeacher, Teacher
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Message, Reply
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing.conformance.policies import check_policy
from tests.boxes import make_snapshot
from tests.conftest import make_rollout, make_task

TASK = make_task()
SUBMIT = render_xml(Call("submit"))
OPENING: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def counting(view: TaskView, messages: Sequence[Message], step: int) -> str:
    return f"{view.id} {len(messages)} {step}"


POLICIES: list[Policy] = [
    ScriptedPolicy([SUBMIT, SUBMIT]),
    ScriptedPolicy(counting),
    ReplayPolicy([make_rollout()]),
    NullPolicy(),
    NullPolicy("fenced"),
    Teacher([TASK]),
    Teacher([TASK], "fenced"),
    *(NoisyTeacher([TASK], 1.0, seed) for seed in range(8)),
]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_the_contract_is_kept(policy: Policy) -> None:
    opening = flavours.resolve("xml").opening(TASK.view(), tools.resolve(["bash", "submit"]))
    assert check_policy(policy, TASK.view(), opening) == []


@pytest.mark.parametrize("flavour", ["xml", "tool-calling", "coder", "mini"])
@pytest.mark.parametrize("policy", [NullPolicy(), Teacher([TASK])], ids=lambda policy: policy.name)
def test_known_answers_come_in_the_call_format_of_the_agent(policy: Policy, flavour: str, tmp_path: Path) -> None:
    with open_namespace(make_snapshot(tmp_path, {"calc.py": "def add(a, b):\n    return a - b\n"})) as box:
        made = Agent(policy, flavour, keep_layers=False).run(TASK, box)
    assert made.stop == "submitted" and not any(step.malformed for step in made.steps), made.error


def test_a_policy_that_breaks_the_contract_is_told_so() -> None:
    class Forgetful(Conversation):
        name = ""
        fingerprint = "f"

        def start(self, view: TaskView, attempt: int, seed: int) -> Forgetful:
            return self

        def reply(self, messages: Sequence[Message]) -> Reply:
            assert isinstance(messages, list)
            messages.append({"role": "user", "content": "mine"})
            return Reply(str(id(object())) + str(len(messages)))

        def close(self) -> None:
            pass

    broken = " ".join(check_policy(Forgetful(), TASK.view(), OPENING))
    for promise in ("name must not be empty", "a new Conversation", "must not change the messages", "other processes"):
        assert promise in broken


def test_a_script_gives_the_reply_that_is_due() -> None:
    talk = ScriptedPolicy(["one", Reply("two", completion_tokens=5)]).start(TASK.view(), 0, 0)
    history: list[Message] = [*OPENING, {"role": "assistant", "content": "one"}, {"role": "user", "content": "ok"}]
    assert talk.reply(history) == Reply("two", completion_tokens=5)
    assert talk.reply(OPENING).text == "one"
    with pytest.raises(PolicyError, match="asked for reply 2, but it holds 2"):
        talk.reply(history + history[-2:])


def test_one_string_is_no_script() -> None:
    with pytest.raises(TypeError, match="not one string"):
        ScriptedPolicy(SUBMIT)


def test_fingerprints_follow_what_is_said() -> None:
    prints = [policy.fingerprint for policy in POLICIES]
    assert len(set(prints)) == len(prints)
    assert ScriptedPolicy(["a"]).fingerprint == ScriptedPolicy(["a"], name="other").fingerprint
    assert Teacher([TASK]).fingerprint != Teacher([replace(TASK, gold_patch="")]).fingerprint


def test_a_replay_knows_its_attempts_apart() -> None:
    one, two = make_rollout(TASK, attempt=1), make_rollout(TASK, attempt=2)
    policy = ReplayPolicy([one, two.trajectory])
    assert policy.start(TASK.view(), 2, 0).reply(OPENING) == two.trajectory.steps[0].reply
    with pytest.raises(PolicyError, match=r"attempts \[1, 2\]"):
        policy.start(TASK.view(), 0, 0)
    with pytest.raises(PolicyError, match="1 other tasks"):
        policy.start(make_task(9).view(), 0, 0)
    with pytest.raises(ValueError, match="two records"):
        ReplayPolicy([one, one])


def test_a_single_record_is_replayed_whatever_the_attempt() -> None:
    record: Rollout = make_rollout(TASK, attempt=4)
    talk = ReplayPolicy(record.trajectory).start(TASK.view(), 0, 0)
    assert talk.reply(OPENING) == record.trajectory.steps[0].reply
