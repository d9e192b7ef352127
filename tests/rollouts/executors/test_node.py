"""NodeAgent: what becomes of the attempts of one machine is reported to the driver in order, and once."""

from __future__ import annotations

import os
import pickle
import time

import swebench_lab as lab
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.rollouts.executors.node import NodeAgent, Order, Setup
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from tests.agents.external.agent_of_ours import REPLIES, kit

SCRIPT = [
    "<function=bash>\n<parameter=command>\ntouch new\n</parameter>\n</function>",
    "<function=submit>\n</function>",
]


def test_a_node_reports_the_beginning_the_steps_and_the_end_of_an_attempt() -> None:
    (task,) = lab.load_tasks("demo").sample(1, seed=1)
    with lab.SandboxFactory("namespace") as sandboxes:
        sandboxes.prepare(lab.Tasks([task]))
        setup = Setup("here", sandboxes.to_dict(), None, False, 1, Stages(), Deadlines(), layers=True)
    node = NodeAgent(setup)
    try:
        assert node.ready()["pid"] == os.getpid()
        agent = lab.Agent(lab.ScriptedPolicy(SCRIPT))
        node.submit([Order(7, 0, task, 0, 5)], [(0, agent, agent.fingerprint)])
        events: list[tuple[object, ...]] = []
        end = time.monotonic() + 120
        while not (events and events[-1][0] == "finished") and time.monotonic() < end:
            new, status, error = node.poll(0.5)
            events += new
            assert not error and status["node"] == "here"
    finally:
        node.stop()
    attempt = [event for event in events if event[0] != "layer"]
    assert [event[:2] for event in attempt] == [("began", 7), ("step", 7), ("step", 7), ("finished", 7)]
    assert [event[0] for event in events].index("layer") < [event[0] for event in events].index("step")
    trajectory, verdict, tries = attempt[-1][2:]
    assert isinstance(trajectory, Trajectory) and trajectory.stop == "submitted" and trajectory.seed == 5
    assert isinstance(verdict, lab.Verdict) and verdict.status == "unresolved"
    assert tries == 0


def test_a_node_runs_an_agent_of_others_that_was_sent_to_it() -> None:
    (task,) = lab.load_tasks("demo").sample(1, seed=1)
    with lab.SandboxFactory("namespace") as sandboxes:
        sandboxes.prepare(lab.Tasks([task]))
        setup = Setup("here", sandboxes.to_dict(), None, False, 1, Stages(), Deadlines(), layers=True)
    node = NodeAgent(setup)
    try:
        agent = pickle.loads(pickle.dumps(lab.CLIAgent(kit(), lab.ScriptedPolicy(REPLIES), wall_time=60.0)))
        node.submit([Order(7, 0, task, 0, 5)], [(0, agent, agent.fingerprint)])
        events: list[tuple[object, ...]] = []
        end = time.monotonic() + 120
        while not (events and events[-1][0] == "finished") and time.monotonic() < end:
            new, _, error = node.poll(0.5)
            events += new
            assert not error
    finally:
        node.stop()
    trajectory, verdict, _ = next(event for event in events if event[0] == "finished")[2:]
    assert isinstance(trajectory, Trajectory) and trajectory.stop == "submitted", trajectory
    assert [step.thought for step in trajectory.steps] == ["I look.", "I fix.", "Done."]
    assert isinstance(verdict, lab.Verdict) and verdict.graded
    assert [event[0] for event in events].count("layer") >= 1
