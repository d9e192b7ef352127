"""A foreign trace is executed again in a sandbox: what it showed comes back, or it is said where and why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import RecordError
from swebench_lab.formats.calls import Call, render_xml
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.traces import drift
from swebench_lab.traces.reading import read_record
from tests.boxes import make_snapshot
from tests.traces import records
from tests.traces.records import MEND, PATCH, SOURCE


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[lab.SandboxFactory]:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


@pytest.fixture(scope="module")
def task(sandboxes: lab.SandboxFactory) -> Task:
    chosen = lab.load_tasks("demo").sample(1, seed=1)
    sandboxes.prepare(chosen)
    return chosen[0]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Sandbox]:
    """A box with the repository that the handmade records are about."""
    with open_namespace(make_snapshot(tmp_path / "made", {"half.py": SOURCE})) as made:
        yield made


def mini(*steps: tuple[str, str, int], task_id: str = "") -> Trajectory:
    """Return a trace of mini-swe-agent with these commands, outputs and exit codes, recorded in /home/ann/half."""
    record = records.mini_2()
    messages: list[dict[str, Any]] = record["messages"][:2]
    for number, (command, output, code) in enumerate(steps):
        call = records.openai_call(number, "bash", {"command": command})
        messages.append({"role": "assistant", "content": "", "tool_calls": [call], "extra": {}})
        extra = {"raw_output": output, "returncode": code}
        content = f"<returncode>{code}</returncode>\n<output>\n{output}</output>"
        messages.append({"role": "tool", "content": content, "tool_call_id": call["id"], "extra": extra})
    return read_record({**record, "messages": messages, "instance_id": task_id or record["instance_id"]})


def test_a_replay_reproduces_what_was_recorded_and_says_so(box: Sandbox) -> None:
    made = read_record(records.mini_2()).replay(box, keep_layers=False)
    assert [step.outcome for step in made.steps] == ["same", "same", "same", "same"]
    assert made.drifted == () and made.patch.endswith("+    return x / 2\n")
    assert [step.exit_code for step in made.steps] == [0, 0, 1, 0]


def test_each_command_of_mini_has_a_shell_of_its_own_and_the_variables_it_had(box: Sandbox) -> None:
    trace = mini(("cd /; x=1", "", 0), ("pwd; echo $WHO$x", "/home/ann/half\nmini\n", 0))
    made = trace.replay(box, keep_layers=False)
    assert made.paths == {"/home/ann/half": box.workdir}
    assert [step.outcome for step in made.steps] == ["same", "same"]


def test_a_command_that_was_killed_and_is_killed_again_is_no_drift(box: Sandbox) -> None:
    trace = mini(("sleep 30", "", -1), ("sleep 31", "", 0))
    first = trace.steps[0].with_call(timed_out=True, exit_code=None)
    made = replace(trace, steps=(first, trace.steps[1])).replay(box, keep_layers=False, timeout=0.2)
    assert [step.outcome for step in made.steps] == ["volatile", "drift"]
    assert "killed after 0.2 seconds" in made.steps[1].note


def test_others_have_one_shell_that_lives_on(box: Sandbox) -> None:
    record = records.sft("tool")
    first, last = record["messages"][2:5:2]
    seen = {"role": "tool", "content": "OBSERVATION:\n/\n1"}
    again = {**first, "tool_calls": [records.openai_call(0, "bash", {"command": "pwd; echo $x"})]}
    first = {**first, "tool_calls": [records.openai_call(0, "bash", {"command": "cd /; x=1"})]}
    silent = {"role": "tool", "content": "Your command ran successfully and did not produce any output."}
    trace = read_record({**record, "messages": [*record["messages"][:2], first, silent, again, seen, last]})
    made = trace.replay(box, keep_layers=False)
    assert [step.outcome for step in made.steps] == ["same", "same", "skipped"]


def test_drift_is_reported_with_its_step_its_line_and_both_outputs(box: Sandbox) -> None:
    trace = mini(
        ("cat half.py", "def half(x):\n    return x * 3\n", 0),
        ("date +%H:%M:%S", "08:15:00\n", 0),
        ("ls -l half.py", "-rw-r--r-- 1 ann staff 31 May  1 10:00 half.py\n", 0),
        ("test -e gone.py", "", 0),
        ("cat half.py", "def half(x):\n</output_head>\n<elided_chars>\n9\n</elided_chars>\n<output_tail>\n * 2\n", 0),
        ("frobnicate half.py", "done\n", 0),
    )
    made = trace.replay(box, keep_layers=False)
    assert [step.outcome for step in made.steps] == ["drift", "volatile", "volatile", "drift", "same", "drift"]
    assert made.drifted == (0, 3, 5)
    assert "line 2: 'return x * 3' was recorded, 'return x * 2' came" in made.steps[0].note
    assert made.steps[3].note == "exit code 0 was recorded, 1 came"
    frame = made.to_frame()
    assert frame.height == 6 and frame["now"][0] == SOURCE.rstrip("\n") and 0 < frame["likeness"][0] < 1
    assert "3 drift" in repr(made) and "return x * 3" in made._repr_html_()
    assert made.counts["same"] == 1


def test_an_editor_of_another_project_is_judged_by_what_it_did(box: Sandbox) -> None:
    record = records.sweagent_1()
    made = read_record(record).replay(box, paths={"/testbed": box.workdir}, keep_layers=False)
    assert [step.outcome for step in made.steps] == ["same", "wording", "skipped"]
    assert "x / 2" in made.patch
    again = read_record(record).replay(box, paths={"/testbed": box.workdir}, keep_layers=False)
    assert again.steps[1].outcome == "drift" and "refused now" in again.steps[1].note


def test_an_edit_that_stands_as_it_was_typed_is_made(box: Sandbox) -> None:
    row = read_record(read_record(records.sweagent_1(query=False)).to_sft("ticks"))
    assert row.steps[1].tool == "bash" and row.steps[1].command.startswith("str_replace_editor str_replace")
    made = row.replay(box, paths={"/testbed": box.workdir}, keep_layers=False)
    assert [step.outcome for step in made.steps] == ["same", "wording", "skipped"]
    assert made.patch.endswith("+    return x / 2\n")


def test_a_tool_that_is_not_here_is_never_run_as_a_command(box: Sandbox) -> None:
    record = records.sweagent_0()
    danger = "edit 1:2\ntouch was-run\nend_of_edit"
    record["trajectory"][1]["action"] = record["history"][5]["action"] = danger
    made = read_record(record).replay(box, keep_layers=False)
    assert made.steps[1].outcome == "missing" and "'edit'" in made.steps[1].note
    assert made.drifted == (1,) and made.patch == ""


def test_several_calls_of_one_reply_are_all_executed(box: Sandbox) -> None:
    made = read_record(records.openhands()).replay(box, keep_layers=False)
    assert made.paths == {"/workspace/half": box.workdir}
    (step,) = made.steps
    assert step.tool == "execute_bash, str_replace_editor" and box.workdir in step.command
    assert SOURCE in step.now and "1\tdef half(x):" in step.now


def test_our_own_attempts_replay_too(sandboxes: lab.SandboxFactory, task: Task) -> None:
    agent = lab.Agent(lab.Teacher(Tasks([task])), max_steps=20)
    with sandboxes.open(task) as box:
        trace = agent.run(task, box)
    with sandboxes.open(task) as box:
        made = trace.replay(box, keep_layers=False)
    assert made.patch == trace.patch != "" and made.drifted == (), made.to_frame()


@pytest.mark.parametrize(("kind", "ending"), [("swe-agent", "x.traj"), ("openhands", "x.jsonl"), ("tool", "x.jsonl")])
def test_an_attempt_stored_in_another_format_replays_from_there(
    kind: str, ending: str, sandboxes: lab.SandboxFactory, task: Task, tmp_path: Path
) -> None:
    edit = {"command": "create", "path": "/testbed/one.py", "file_text": "one = 1\n"}
    said = [Call("bash", {"command": "cd / && ls -d testbed"}), Call("str_replace_editor", edit)]
    said += [Call("bash", {"command": "pwd; cat testbed/one.py; false"}), Call("submit")]
    agent = lab.Agent(lab.ScriptedPolicy([render_xml(call) for call in said]))
    with sandboxes.open(task) as box:
        own = agent.run(task, box)
    (trace,) = lab.load_trajectories(own.save(tmp_path / ending, kind))
    with sandboxes.open(task) as box:
        made = trace.replay(box, keep_layers=False)
    assert [step.outcome for step in made.steps] == ["same", "same", "same", "skipped"], made.to_frame()
    assert made.patch == own.patch != ""


def test_a_foreign_trace_comes_alive_in_the_stepper(sandboxes: lab.SandboxFactory, task: Task, tmp_path: Path) -> None:
    steps = [("echo 'one = 1' > one.py", "", 0), ("echo 'two = 2' > two.py; cat one.py", "one = 1\n", 0)]
    with sandboxes.open(task) as box:
        made = mini(*steps, task_id=task.id).replay(box, run_dir=tmp_path)
    assert made.drifted == ()
    with lab.Stepper(made.rollout(task), sandboxes, step=0, view="static") as stepper:
        assert stepper.run("ls one.py two.py").output.startswith("ls: cannot access 'two.py'")
        stepper.goto(1)
        assert stepper.run("cat one.py two.py").output == "one = 1\ntwo = 2\n"
    other = replace(made, trajectory=replace(made.trajectory, task_id="another"))
    with pytest.raises(RecordError, match="if it is the same problem under another name"):
        other.rollout(task)


def test_a_box_of_another_task_is_refused(sandboxes: lab.SandboxFactory, task: Task) -> None:
    trace = mini(("true", "", 0), task_id="owner__name-1")
    with sandboxes.open(task) as box:
        with pytest.raises(RecordError, match=f"a trace of 'owner__name-1' in a sandbox of '{task.id}'"):
            trace.replay(box, keep_layers=False)
        assert replace(trace, task_id=task.id).replay(box, keep_layers=False).drifted == ()
    with sandboxes.open(sandboxes.snapshot(task)) as box:  # nobody says what it is of
        assert trace.replay(box, keep_layers=False).drifted == ()


def test_a_replayed_trace_can_be_saved_as_the_record_it_came_from(box: Sandbox, tmp_path: Path) -> None:
    trace = read_record(records.mini_2())
    made = trace.replay(box, run_dir=tmp_path / "run")
    assert all(step.layer for step in made.trajectory.steps)
    (back,) = lab.load_trajectories(made.trajectory.save(tmp_path / "again.traj.json"))
    assert back.extra["record"] == trace.extra["record"]
    (kept,) = lab.load_trajectories(made.trajectory.save(tmp_path / "kept.jsonl", "lab"))
    assert kept == made.trajectory


@pytest.mark.parametrize(
    ("recorded", "now", "outcome"),
    [
        ("a  \r\nb\n", "a\nb", "same"),
        ("\x1b[31mred\x1b[0m", "red", "same"),
        ("=== 3 passed in 0.12s ===", "==== 3 passed in 10.50s ====", "volatile"),
        ("<Thing at 0x7f00aa11>", "<Thing at 0x55aa00ff>", "volatile"),
        ("b\na", "a\nb", "volatile"),
        ("3 passed in 0.1s", "2 passed in 0.1s", "drift"),
        ("12 files", "13 files", "drift"),
        ("", "Traceback", "drift"),
    ],
)
def test_what_differs_at_every_run_is_told_apart_from_drift(recorded: str, now: str, outcome: str) -> None:
    assert drift.compared(drift.plain(recorded), drift.plain(now))[0] == outcome


def test_calls_are_written_as_our_agents_read_them() -> None:
    trace = read_record(records.mini_2())
    assert trace.steps[1].reply.text == render_xml(Call("bash", {"command": MEND}, "I look."))
    assert trace.patch == PATCH
