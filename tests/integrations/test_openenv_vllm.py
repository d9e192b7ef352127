"""TRL's HarnessRolloutWorker, in the process that it starts, trains on our sessions: a model served by vLLM, which takes each update.

Opt-in: `make vllm`, whose environment has TRL, OpenEnv and vLLM in one Python, as the worker wants them.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab

pytest.importorskip("openenv", reason="needs OpenEnv: make vllm")

from openenv.core.harness import MCPHarnessAdapter

from swebench_lab.integrations.openenv import LabSessions
from tests.integrations.test_openenv import by_length

VLLM = os.environ.get("SWEBENCH_LAB_VLLM", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not VLLM or not all(map(importlib.util.find_spec, ("vllm", "trl"))),
        reason="TRL's worker wants vLLM and TRL in this Python, and SWEBENCH_LAB_VLLM its program: make vllm",
    ),
    pytest.mark.filterwarnings("ignore"),
]
LENGTH = 4096


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    from swebench_lab.training.data.demonstrations import texts_for_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny"
    lab.make_tiny_model(folder, texts_for_tokenizer(40), hidden=128, layers=2, heads=2, length=LENGTH)
    env = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # fmt: skip
    with lab.serve(folder, updates=True, executable=VLLM, dtype="float32", max_length=LENGTH, eager=True, env=env,
                   extra=["--max-num-seqs", "16"], progress=False, log_dir=folder.parent) as server:  # fmt: skip
        yield folder, server


class Streamed:
    """TRL's weight transfer, by the way that our servers take weights: its own needs GPUs."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.sink, self.version = policy, policy.sink(), policy.served.version

    def init_weight_transfer(self) -> None:
        """The way is opened at the first update, when the weights are known."""

    def pause(self) -> None:
        """The sink pauses the servers itself."""

    def send_weights(self, iterator: Any) -> None:
        from swebench_lab.policies.trainable import Weight

        weights = [(name, tensor.detach().clone()) for name, tensor in iterator]
        if "lm_head.weight" not in dict(weights):  # the servers want it also where it shares the embedding's tensor
            weights.append(("lm_head.weight", dict(weights)["model.embed_tokens.weight"]))
        if self.sink._transfer is None:
            self.sink.open([Weight(name, "float32", tuple(tensor.shape)) for name, tensor in weights])
        self.version += 1
        self.sink.take(iter(weights), self.version)

    def resume(self) -> None:
        """The sink resumes them itself."""

    def destroy(self) -> None:
        self.sink.close()


@pytest.mark.parametrize("owner", ["our agent", "TRL"])
def test_trls_worker_trains_on_sessions_over_micro_tasks(served: Any, owner: str, tmp_path: Path) -> None:
    import trl
    from transformers import AutoTokenizer
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer
    from trl.experimental.async_grpo.openenv_harness import HarnessRolloutWorker

    from swebench_lab.training.model.varlen import without_flash_attention

    without_flash_attention()
    folder, server = served
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # a template that TRL knows, which its loop wants; our agent writes its prompts by the model's own
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text()
    policy = server.policy(max_tokens=8)
    agent = lab.Agent(policy, "micro", max_steps=3, max_format_errors=9, keep_layers=False)
    dataset = LabSessions("micro").train_dataset
    worker = HarnessRolloutWorker(
        harness_session_factory=functools.partial(LabSessions, "micro", agent=agent if owner != "TRL" else None),
        harness_adapter=MCPHarnessAdapter() if owner == "TRL" else None,
        rollout_reward_fn=by_length, model_name=policy.model, dataset=dataset, reward_funcs=[],
        processing_class=tokenizer, eos_token_ids=[tokenizer.eos_token_id], num_generations=4, max_inflight_tasks=4,
        vllm_server_url=server.urls[0].removesuffix("/v1"), max_tokens=8, max_tool_calling_iterations=2,
    )  # fmt: skip
    args = AsyncGRPOConfig(
        str(tmp_path), num_generations=4, per_device_train_batch_size=4, max_steps=3, learning_rate=1e-3,
        token_budget=0, max_staleness=4, weight_sync_steps=1, use_cpu=True, bf16=False, dtype="float32",
        logging_steps=1, report_to=[], save_strategy="no", max_completion_length=8,
    )  # fmt: skip
    transfer = Streamed(policy)
    trainer = AsyncGRPOTrainer(
        model=str(folder), reward_funcs=[], args=args, train_dataset=dataset, processing_class=tokenizer,
        rollout_worker=worker, weight_transfer=transfer,
    )  # fmt: skip
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    version = transfer.version
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    shown = [
        {name: row[name] for name in ("ratio", "grad_norm", "reward", "reward_std") if name in row} for row in logs
    ]
    print(f"\n{owner}: {shown}, weights sent {transfer.version - version} times")
    assert trainer.state.global_step == 3 and logs[0]["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert any(row["grad_norm"] > 0 for row in logs) and transfer.version - version >= 3
    assert any(not bool((before[name] == value).all()) for name, value in trainer.model.named_parameters())
