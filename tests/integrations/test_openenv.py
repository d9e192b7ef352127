"""OpenEnv's own adapter and TRL's HarnessRolloutWorker use our sessions: a tool of ours, or an agent of ours with its ids."""

from __future__ import annotations

import functools
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab

pytest.importorskip("openenv", reason="needs OpenEnv: make integrations")

from openenv.core.harness import HarnessRunLimits, MCPHarnessAdapter, ModelStepResult, TrainableSession
from openenv.core.llm_client import LLMResponse, ToolCall

from swebench_lab.errors import AgentError, ConfigError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.integrations.openenv import LabSession, LabSessions
from tests.tokens import PairTokenizer, Sampler

VLLM = os.environ.get("SWEBENCH_LAB_VLLM", "")


def task() -> lab.Task:
    return lab.load_tasks("demo")[0]


def fix() -> str:
    return f"git apply - <<'PATCH'\n{task().gold_patch}PATCH"


def test_its_adapter_drives_the_tool_and_what_changed_is_graded() -> None:
    factory = pickle.loads(pickle.dumps(functools.partial(LabSessions, "demo", select=task().id)))()
    (row,) = factory.train_dataset
    assert task().gold_patch not in json.dumps(row) and row["prompt"][0]["task_id"] == task().id
    script = [[("bash", {"command": "pwd; exit 3"}), ("browse", {}), ("bash", {})], [("bash", {"command": fix()})], []]

    def step(messages: Any, tools: Any, sampling: Any) -> ModelStepResult:
        turn = sum(message["role"] == "assistant" for message in messages)
        assert [tool.name for tool in tools] == ["bash"]
        return ModelStepResult(LLMResponse("so", [ToolCall(f"c{i}", *call) for i, call in enumerate(script[turn])]))

    session = factory.create(row["prompt"], seed=3, episode_id="abc")
    ran = MCPHarnessAdapter().run_white_box(step, session, HarnessRunLimits(max_turns=5))
    first, unknown, empty, _ = ran.tool_trace
    assert first.result.data == "/testbed\n\n[exit code 3]" and first.result.error is None
    assert "ran nothing" in unknown.result.error and "ran nothing" in empty.result.error
    verified = session.verify(ran.messages)
    assert (verified.env_reward, verified.metrics["status"], verified.done) == (1.0, "resolved", True)
    with pytest.raises(ConfigError, match="owns no loop"):
        session.wait_for_completion()
    session.close()
    other = factory.create(task().id)
    assert other.verify([]).env_reward == 0.0
    other.close()


def session(replies: list[str], **settings: Any) -> LabSession:
    policy = Sampler(replies, Renderer.from_frame(PairTokenizer()))
    agent = lab.Agent(policy, "tool-calling", keep_layers=False, **settings)
    return LabSession(task(), lab.SandboxFactory(), agent, 0, 60, 10_000)


def call(name: str, **given: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': given})}\n</tool_call>"


def test_an_agent_that_owns_its_loop_hands_over_the_very_ids_that_were_sampled() -> None:
    opened = session([call("bash", command=fix()), call("submit")])
    assert isinstance(opened, TrainableSession) and opened.list_tools() == []
    assert opened.wait_for_completion() == 0
    trace = opened.fetch_training_trace()
    first, last = trace.turns
    steps = opened.trajectory.steps
    assert [turn.completion_token_ids for turn in trace.turns] == [list(step.reply.token_ids) for step in steps]
    assert last.prompt_token_ids[: len(first.prompt_token_ids)] == first.prompt_token_ids
    assert sum(first.loss_mask) == len(first.completion_token_ids) == len(first.per_token_logps)
    assert first.response["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "bash"
    assert [message["role"] for message in last.request["messages"]] == ["system", "user", "assistant", "tool"]
    assert opened.verify([]).env_reward == 1.0
    opened.close()


def test_a_time_out_is_trained_an_error_is_not_and_replies_without_ids_are_refused() -> None:
    late = session([call("bash", command="sleep 60")] * 9)
    with pytest.raises(TimeoutError):
        late.wait_for_completion(1.5)
    assert len(late.fetch_training_trace().turns) == 1
    late.close()
    closed = session([call("submit")])
    closed.close()
    with pytest.raises(AgentError, match="closed"):
        closed.wait_for_completion()
    endpoint = "http://127.0.0.1:9/v1"
    with pytest.raises(ConfigError, match="without the ids"):
        LabSessions(agent=lab.Agent(lab.ChatPolicy(endpoint)))
    exact = lab.Agent(lab.ChatPolicy(endpoint, tokenizer=Renderer.from_frame(PairTokenizer()), top_p=0.5))
    given = {"temperature": 0.7, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0}
    policy = LabSessions(agent=exact, sampling=given).agent.policy
    assert (policy.temperature, policy.top_p, policy.body) == (0.7, 1.0, {"top_k": -1, "repetition_penalty": 1.0})
    with pytest.raises(ConfigError, match="names no task"):
        LabSessions().create([{"role": "user", "content": "x"}])


# --- TRL's worker and trainer, on a model that vLLM serves -----------------------------------------------------------


def by_length(outcome: Any) -> float | None:
    """Reward what a random model can get better at: short replies; None where nothing was graded."""
    if outcome.env_reward is None:
        return None
    return outcome.env_reward - len(json.dumps(outcome.completion[-1])) / 1000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    if not VLLM:
        pytest.skip("needs vLLM here and in this Python: set SWEBENCH_LAB_VLLM to its program")
    from swebench_lab.training.data.demonstrations import texts_for_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny"
    lab.make_tiny_model(folder, texts_for_tokenizer(40), hidden=128, layers=2, heads=2, length=2048)
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # fmt: skip
    with lab.serve(folder, updates=True, executable=VLLM, dtype="float32", max_length=2048, eager=True, env=env,
                   extra=["--max-num-seqs", "16"], progress=False, log_dir=folder.parent) as server:  # fmt: skip
        yield folder, server


class Streamed:
    """TRL's weight transfer by the way that our servers take weights; its own needs GPUs."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.sink, self.version = policy, policy.sink(), 0

    def init_weight_transfer(self) -> None:
        """Opened at the first update, when the weights are known."""

    def pause(self) -> None:
        """The sink pauses."""

    def send_weights(self, iterator: Any) -> None:
        from swebench_lab.policies.trainable import Weight

        weights = [(name, tensor.detach().clone()) for name, tensor in iterator]
        if "lm_head.weight" not in dict(weights):  # the sink wants it also where it is the embedding's tensor
            weights.append(("lm_head.weight", dict(weights)["model.embed_tokens.weight"]))
        if not self.version:
            self.sink.open([Weight(name, "float32", tuple(tensor.shape)) for name, tensor in weights])
        self.version += 1
        self.sink.take(iter(weights), self.version)

    def resume(self) -> None:
        """The sink resumes."""

    def destroy(self) -> None:
        self.sink.close()


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["our agent", "TRL"])
def test_trls_worker_trains_on_sessions_over_micro_tasks(served: Any, owner: str, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="TRL's worker wants vLLM in this Python")
    import trl
    from transformers import AutoTokenizer
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer
    from trl.experimental.async_grpo.openenv_harness import HarnessRolloutWorker

    from swebench_lab.training.model.varlen import without_flash_attention

    without_flash_attention()
    folder, server = served
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if owner == "TRL":
        tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text()
    policy = server.policy(max_tokens=8)
    agent = lab.Agent(policy, "micro", max_steps=3, max_format_errors=9, keep_layers=False) if owner != "TRL" else None
    factory = functools.partial(LabSessions, "micro", agent=agent)
    dataset = LabSessions("micro").train_dataset
    worker = HarnessRolloutWorker(
        harness_session_factory=factory,
        harness_adapter=None if agent else MCPHarnessAdapter(),
        rollout_reward_fn=by_length,
        model_name=policy.model,
        dataset=dataset,
        reward_funcs=[],
        processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id],
        num_generations=4,
        max_inflight_tasks=4,
        vllm_server_url=server.urls[0].removesuffix("/v1"),
        max_tokens=8,
        max_tool_calling_iterations=2,
    )
    trainer = AsyncGRPOTrainer(
        model=str(folder),
        reward_funcs=[],
        args=AsyncGRPOConfig(
            str(tmp_path), num_generations=4, per_device_train_batch_size=4, max_steps=3, learning_rate=1e-3,
            token_budget=0, max_staleness=4, weight_sync_steps=1, use_cpu=True, bf16=False, dtype="float32",
            logging_steps=1, report_to=[], save_strategy="no", max_completion_length=8,
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
        rollout_worker=worker,
        weight_transfer=Streamed(policy),
    )  # fmt: skip
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    print(owner, [{k: row[k] for k in ("ratio", "grad_norm", "reward") if k in row} for row in logs])
    assert trainer.state.global_step == 3 and len(logs) == 3
    assert any(row["grad_norm"] > 0 for row in logs)
    assert any(not bool((before[name] == value).all()) for name, value in trainer.model.named_parameters())
