"""A model that is trained, behind agents of others: what is trained is what was sampled, whatever dialect the agent asks in.

The model is served by vLLM where `SWEBENCH_LAB_VLLM` names its program (`make vllm`), and else in this process; the agents
of npm take part where `LAB_REAL_AGENTS` is set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.formats.token_ledger import segments
from swebench_lab.records.step import Thread
from tests.training import ground
from tests.training.test_engines import by_words

VLLM = os.environ.get("SWEBENCH_LAB_VLLM", "")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
POSITIONS = 65_536
TOKENS = 12
"""Sampled in a call, at the most."""
REAL = pytest.mark.skipif(not os.environ.get("LAB_REAL_AGENTS"), reason="make agents: installs from npm")
ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
TURNS = 34
"""Calls of an attempt; three attempts make more than a hundred."""

TALK = """
import json, os, urllib.request
tool = {"name": "bash", "description": "runs", "parameters": {"type": "object"}}
def ask(path, body):
    headers = {"authorization": "Bearer " + os.environ["KEY"], "content-type": "application/json"}
    request = urllib.request.Request(os.environ["URL"] + path, json.dumps({"model": "m", **body}).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=300))
def chat(said):
    said = ask("/v1/chat/completions", {"messages": said, "tools": [{"type": "function", "function": tool}]})["choices"][0]["message"]
    return [said, *({"role": "tool", "tool_call_id": c["id"], "content": "x"} for c in said.get("tool_calls") or ())]
def responses(said):
    items = ask("/v1/responses", {"input": said, "tools": [{"type": "function", **tool}]})["output"]
    return items + [{"type": "function_call_output", "call_id": i["call_id"], "output": "x"} for i in items if "call_id" in i]
def anthropic(said):
    asked = {"messages": said, "max_tokens": 100, "tools": [{"name": "bash", "input_schema": tool["parameters"]}]}
    content = ask("/v1/messages", asked)["content"]
    results = [{"type": "tool_result", "tool_use_id": b["id"], "content": "x"} for b in content if b["type"] == "tool_use"]
    return [{"role": "assistant", "content": content}, *([{"role": "user", "content": results}] if results else [])]
said = [{"role": "user", "content": "Fix it."}]
for turn in range(int(os.environ["TURNS"])):
    said += globals()[os.environ["DIALECT"]](said)
    said.append({"role": "user", "content": "Go on, this was turn %d." % turn})
"""


def kit(dialect: str, turns: int = TURNS) -> lab.Kit:
    env = {"URL": "{{url}}", "KEY": "{{key}}", "DIALECT": dialect, "TURNS": str(turns)}
    return lab.Kit("talk", "", (), "1", dialect, ("python3", "/root/talk.py"), env=env, files={"/root/talk.py": TALK})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from swebench_lab.training.data.demonstrations import texts_for_tokenizer
    from swebench_lab.training.model.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("m") / "long", texts_for_tokenizer(40), hidden=128, layers=2, heads=2,
                           length=POSITIONS)  # fmt: skip


@pytest.fixture(scope="module")
def answering(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes policies of the model: served by vLLM where there is one, else in this process."""
    if not VLLM:
        yield lambda: lab.LocalPolicy(model, max_tokens=TOKENS)
        return
    logs = tmp_path_factory.mktemp("logs")
    with lab.serve(model, updates=True, executable=VLLM, dtype="float32", max_length=POSITIONS, eager=True, env=ENV,
                   extra=["--max-num-seqs", "16"], progress=False, log_dir=logs) as server:  # fmt: skip
        yield lambda: server.policy(max_tokens=TOKENS)


@pytest.fixture(scope="module")
def sandboxes() -> Any:
    with lab.SandboxFactory("namespace") as factory:
        yield factory


def trained(rollouts: lab.Rollouts, model: Path) -> tuple[int, int, float]:
    """Return the calls of the main lines, their sampled tokens in rows, and the largest gap to the model's own logprobs."""
    local, calls, sampled, gap = lab.LocalPolicy(model), 0, 0, 0.0
    for rollout in rollouts:
        main = [step for step in rollout.trajectory.steps if step.thread == Thread.MAIN]
        parts = segments(rollout.trajectory)
        assert sum(part.sampled for part in parts) == sum(len(step.reply.token_ids) for step in main)
        for part in parts:
            own = local.logprobs(part.ids.tolist())
            pairs = zip(own, part.logprobs.tolist(), part.mask.tolist(), strict=True)
            gap = max([gap, *(abs(a - b) for a, b, trains in pairs if trains)])
        calls, sampled = calls + len(main), sampled + sum(part.sampled for part in parts)
    return calls, sampled, gap


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
def test_a_hundred_calls_are_trained_on_as_they_were_sampled(dialect, model, answering, sandboxes):
    collector = lab.RolloutCollector(sandboxes, workers=3)
    agent = lab.CLIAgent(kit(dialect), answering(), wall_time=400.0)
    rollouts = collector.collect(agent, ground.micro()[:3], progress=False)
    collector.close()
    assert [r.trajectory.stop for r in rollouts] == ["submitted"] * 3, [r.trajectory.error for r in rollouts]
    calls, sampled, gap = trained(rollouts, model)
    print(f"\n{dialect}: {calls} calls, {sampled} sampled tokens in rows, largest gap {gap:.1e}")
    assert calls == 3 * TURNS and gap < 1e-4


@REAL
@pytest.mark.parametrize("name", ["claude-code", "codex", "opencode"])
def test_an_agent_with_its_whole_prompt_is_trained_on_as_it_was_sampled(name, model, answering, sandboxes):
    collector = lab.RolloutCollector(sandboxes, workers=1)
    agent = lab.CLIAgent(name, answering(), wall_time=550.0, max_steps=4)
    rollouts = collector.collect(agent, ground.micro()[:1], progress=False)
    collector.close()
    (made,) = [rollout.trajectory for rollout in rollouts]
    assert made.stop in ("submitted", "max_steps", "max_tokens"), made.error  # Codex gives up on a reply that was cut
    calls, sampled, gap = trained(rollouts, model)
    longest = max(len(part.ids) for part in segments(made))
    print(f"\n{name}: {calls} calls, {sampled} sampled tokens in rows of up to {longest} ids, largest gap {gap:.1e}")
    assert calls and gap < 1e-4


@REAL
@pytest.mark.skipif(not VLLM, reason="make vllm: a real chat model is too slow in this process")
def test_a_real_chat_model_behind_a_chat_agent_is_trained_on_as_it_was_sampled(sandboxes):
    smollm2 = lab.models.smollm2()
    with lab.serve(
        smollm2, executable=VLLM, dtype="float32", max_length=8192, eager=True, env=ENV, progress=False
    ) as server:
        collector = lab.RolloutCollector(sandboxes, workers=2)
        agent = lab.CLIAgent("mini-swe-agent", server.policy(max_tokens=160), wall_time=500.0, max_steps=5)
        rollouts = collector.collect(agent, lab.load_tasks("demo").sample(2, seed=0), progress=False)
        collector.close()
    assert all(rollout.trajectory.stop in ("submitted", "max_steps", "max_tokens", "format") for rollout in rollouts), [
        r.trajectory.error for r in rollouts
    ]
    calls, sampled, gap = trained(rollouts, smollm2)
    print(f"\nmini-swe-agent on SmolLM2: {calls} calls, {sampled} sampled tokens in rows, largest gap {gap:.1e}")
    print([(r.trajectory.stop, [step.reply.text[:60] for step in r.trajectory.steps]) for r in rollouts])
    assert calls >= 4 and sampled > 100 and gap < 1e-4


def by_attempt(rollout: lab.Rollout) -> float:
    """A reward that two attempts at a task differ in."""
    return float(rollout.trajectory.attempt % 2)


@pytest.mark.parametrize("name", ["talk", pytest.param("codex", marks=REAL), pytest.param("claude-code", marks=REAL)])
def test_an_update_from_an_agent_of_others_begins_at_ratio_one(name, model, answering, sandboxes, tmp_path):
    reward = by_words if name == "talk" else by_attempt
    collector = lab.RolloutCollector(sandboxes, workers=4 if name == "talk" else 1, reward=reward)
    agent = lab.CLIAgent(kit("anthropic", turns=3) if name == "talk" else name, answering(), wall_time=300.0, max_steps=3,
                         keep_layers=False)  # fmt: skip
    shape = {"num_generations": 4, "tasks_per_update": 2, "per_device_train_batch_size": 4, "max_length": 2048}
    if name != "talk":
        shape = {
            "num_generations": 2,
            "tasks_per_update": 1,
            "per_device_train_batch_size": 1,
            "max_length": POSITIONS,
            "rules": lab.Rules(full_context="grade"),
        }  # Codex gives up on a reply that was cut
    run = lab.GRPO(agent, collector, **shape, updates=2 if name == "talk" else 1, learning_rate=1e-3,
                   output_dir=tmp_path / "run", engine="sync")  # fmt: skip
    run.fit(ground.micro())
    log = [entry for entry in run.trainer.state.log_history if "loss" in entry]
    ratio = log[0].get("ratio", log[0].get("sampling/importance_sampling_ratio/mean"))
    gap = log[0]["sampling/sampling_logp_difference/max"]
    print(f"\n{name}: first ratio {ratio:.6f}, gap {gap:.1e}, gradient {log[0]['grad_norm']:.3f}")
    assert ratio == pytest.approx(1.0, abs=1e-3) and gap < 1e-4 and log[0]["grad_norm"] > 0
