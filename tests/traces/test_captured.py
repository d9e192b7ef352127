"""Captured attempts as others read them: ATIF with embedded sub-agents, and OpenEnv's TrainingTrace."""

from __future__ import annotations

import json

import numpy as np
import pytest

import swebench_lab as lab
from swebench_lab.agents.external.cli_agent import CLIAgent
from swebench_lab.errors import RecordError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import prompts, segments
from swebench_lab.policies.scripted import ScriptedPolicy
from swebench_lab.records.step import Thread
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.traces.foreign import atif, training_trace
from swebench_lab.traces.reading import read_record
from tests.agents.external.agent_of_ours import FILES, FIX, bash, kit
from tests.boxes import make_snapshot
from tests.conftest import make_task
from tests.tokens import PairTokenizer, Sampler, plain

TASK = make_task()
LOOK = bash("echo find the sum", "I look.")
REPLIES = [LOOK, bash(FIX, "I fix."), "Done."]
ENDING = """
ask([{"role": "system", "content": "Make a title."}, {"role": "user", "content": "x"}], tools=[])
said = ask(main); main.append(said)
call = said["tool_calls"][0]
side = [{"role": "system", "content": "You search."}, {"role": "user", "content": json.loads(call["function"]["arguments"])["command"]}]
side.append(ask(side))
side.append({"role": "tool", "tool_call_id": side[-1]["tool_calls"][0]["id"], "content": "x"})
ask(side)
main.append({"role": "tool", "tool_call_id": call["id"], "content": "a sub-agent looked"})
work(main)
work([main[0], {"role": "user", "content": "So far: fixed. Go on."}])
"""


@pytest.fixture(scope="module")
def attempt(tmp_path_factory):
    """An attempt with a title, a sub-agent and a shortened history, by a policy that keeps ids."""
    snapshot = make_snapshot(tmp_path_factory.mktemp("start"), FILES)
    policy = Sampler(REPLIES, Renderer.of(PairTokenizer()))
    with open_namespace(snapshot) as box:
        made = CLIAgent(kit(ENDING), policy, wall_time=60.0).run(TASK, box)
        assert not made.error
        other = CLIAgent(kit(), ScriptedPolicy(REPLIES), wall_time=60.0).run(TASK, box)
    return made, policy, other


def test_a_training_trace_holds_what_was_sent_and_sampled_and_trains_on_what_segments_do(attempt):
    made, policy, _ = attempt
    trace = json.loads(json.dumps(training_trace.write(made)))
    assert [tuple(turn["prompt_token_ids"]) for turn in trace["turns"]] == policy.sent
    for turn, step in zip(trace["turns"], made.steps, strict=True):
        assert tuple(turn["completion_token_ids"]) == plain(step.reply.token_ids)
        assert np.allclose(turn["per_token_logps"], step.reply.logprobs)
        ones = len(turn["completion_token_ids"]) if step.thread is Thread.MAIN else 0
        assert turn["loss_mask"] == [0] * (len(turn["loss_mask"]) - len(turn["completion_token_ids"])) + (
            [1] * ones or [0] * len(turn["completion_token_ids"])
        )
    assert sum(map(sum, (turn["loss_mask"] for turn in trace["turns"]))) == sum(s.sampled for s in segments(made))
    assert trace["turns"][2]["request"]["messages"][0]["content"] == "You search."


def test_openenvs_own_class_takes_the_trace(attempt, tmp_path):
    training = pytest.importorskip("openenv.core.harness.training", reason="needs the openenv package")
    made, _, _ = attempt
    path = made.save(tmp_path / "trace.json", "openenv")
    trace = training.TrainingTrace.model_validate_json(path.read_bytes())
    assert len(trace.turns) == len(made.steps)


def test_attempts_without_ids_are_no_training_trace(attempt):
    with pytest.raises(RecordError, match="has no ids"):
        training_trace.write(attempt[2])


def test_atif_holds_the_main_work_with_sub_agents_embedded_and_named_where_they_were_called(attempt):
    made, _, _ = attempt
    record = json.loads(json.dumps(atif.write(made)))
    assert [step["step_id"] for step in record["steps"]] == list(range(1, len(record["steps"]) + 1))
    main = [step for step in record["steps"] if step["source"] == "agent"]
    assert [step["extra"]["step"] for step in main] == [s.index for s in made.steps if s.thread is Thread.MAIN]
    assert record["steps"][0]["message"] == "You fix bugs." and record["agent"]["tool_definitions"]
    title, searcher = record["subagent_trajectories"]
    assert title["extra"] == {"thread": "auxiliary"} and searcher["extra"] == {"thread": "sub-agent"}
    (result,) = main[0]["observation"]["results"]
    assert result["content"] == "a sub-agent looked"
    assert result["subagent_trajectory_ref"] == [{"trajectory_id": searcher["trajectory_id"]}]
    copied = [step["message"] for step in record["steps"] if step.get("is_copied_context")]
    assert copied == ["You fix bugs.", "So far: fixed. Go on."]


def test_harbors_own_classes_take_the_record(attempt):
    models = pytest.importorskip("harbor.models.trajectories", reason="needs the harbor package")
    models.Trajectory.model_validate(atif.write(attempt[0]))


def test_ids_of_prompts_survive_atif(attempt):
    made, _, _ = attempt
    back = read_record(json.loads(json.dumps(atif.write(made))))
    main = [step for step in made.steps if step.thread is Thread.MAIN]
    wanted = [plain(ids) for ids, step in zip(prompts(made), made.steps, strict=True) if step.thread is Thread.MAIN]
    assert [plain(ids) for ids in prompts(back)] == wanted
    assert [step.reply for step in back.steps[:1]] and [plain(s.reply.token_ids) for s in back.steps] == [
        plain(step.reply.token_ids) for step in main
    ]
    assert sorted(map(plain, (s.ids for s in segments(back)))) == sorted(map(plain, (s.ids for s in segments(made))))
    assert back.extra["dropped"] == {"steps of sub-agents": 7, "copied messages": 2}


def test_a_collection_is_exported_as_a_file_for_each_attempt(attempt, tmp_path):
    made, _, _ = attempt
    folder = lab.load_trajectories(made.save(tmp_path / "one.jsonl", "lab")).save(tmp_path / "out", "openenv")
    (path,) = folder.iterdir()
    assert json.loads(path.read_text())["schema_version"] == 1
