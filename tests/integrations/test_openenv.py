"""OpenEnv's own adapter and TRL's HarnessRolloutWorker use our sessions: a tool of ours, or an agent of ours with its ids."""

from __future__ import annotations

import functools
import json
import multiprocessing
import pickle
import queue
import threading
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


# --- TRL's loop and trainer ------------------------------------------------------------------------------------------


def by_length(outcome: Any) -> float | None:
    """Reward what a random model can get better at: short replies; None where nothing was graded."""
    if outcome.env_reward is None:
        return None
    return outcome.env_reward - len(json.dumps(outcome.completion[-1])) / 1000


class InThread:
    """TRL's own loop on a thread of this process: its worker gives it a process of its own, which wants vLLM installed."""

    def __init__(self, **settings: Any) -> None:
        self.rollout_buffer: Any = queue.Queue()
        self.metrics_queue: Any = queue.Queue()
        self.version, self.failed = multiprocessing.Value("i", 0), threading.Event()
        self.settings = settings

    def start(self) -> None:
        from trl.experimental.async_grpo.openenv_harness import _HarnessRolloutLoop

        self.loop = _HarnessRolloutLoop(
            **self.settings, rollout_buffer=self.rollout_buffer, model_version_value=self.version,
            heartbeat_value=multiprocessing.Value("d", 0.0), failed_event=self.failed,
            exception_info_queue=queue.Queue(1), metrics_queue=self.metrics_queue,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.loop._loop.call_soon_threadsafe(self.loop._stop_event.set)
        self.thread.join(60)

    def update_model_version(self, version: int) -> None:
        self.version.value = version

    def check_health(self, stale_after_s: float) -> None:
        assert not self.failed.is_set()


class Nowhere:
    """The sampling copy keeps its weights: what is shown here is what TRL makes of our sessions."""

    def init_weight_transfer(self) -> None: ...
    def pause(self) -> None: ...
    def send_weights(self, iterator: Any) -> None: ...
    def resume(self) -> None: ...
    def destroy(self) -> None: ...


@pytest.mark.slow
def test_trls_loop_makes_updates_on_what_our_agent_sampled_at_micro_tasks(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="needs TRL: pip install 'swebench-lab[train]'")
    from transformers import AutoTokenizer
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer

    from swebench_lab.training.data.demonstrations import texts_for_tokenizer
    from swebench_lab.training.model.varlen import without_flash_attention

    without_flash_attention()
    folder = lab.make_tiny_model(tmp_path / "tiny", texts_for_tokenizer(40), hidden=32, layers=2, heads=2, length=4096)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # a template that TRL knows, which its loop wants; our agent writes its prompts by the model's own
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text()
    sessions = LabSessions("micro")
    policy = lab.LocalPolicy(folder, max_tokens=8)
    sessions.agent = lab.Agent(policy, "micro", max_steps=3, max_format_errors=9, keep_layers=False)
    worker = InThread(
        harness_session_factory=lambda sampling: sessions, rollout_reward_fn=by_length, model_name="m",
        dataset=sessions.train_dataset, reward_funcs=[], processing_class=tokenizer,
        eos_token_ids=[tokenizer.eos_token_id], num_generations=4, max_inflight_tasks=4, max_tokens=8,
    )  # fmt: skip
    args = AsyncGRPOConfig(
        str(tmp_path / "out"), num_generations=4, per_device_train_batch_size=4, max_steps=3, learning_rate=1e-3,
        token_budget=0, max_staleness=8, weight_sync_steps=1, use_cpu=True, bf16=False, dtype="float32",
        logging_steps=1, report_to=[], save_strategy="no", max_completion_length=8,
    )  # fmt: skip
    trainer = AsyncGRPOTrainer(
        model=str(folder), reward_funcs=[], args=args, train_dataset=sessions.train_dataset,
        processing_class=tokenizer, rollout_worker=worker, weight_transfer=Nowhere(),
    )  # fmt: skip
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    print([{k: row[k] for k in ("ratio", "grad_norm", "reward", "reward_std") if k in row} for row in logs])
    assert trainer.state.global_step == 3 and logs[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert any(row["grad_norm"] > 0 for row in logs)
    assert any(not bool((before[name] == value).all()) for name, value in trainer.model.named_parameters())
