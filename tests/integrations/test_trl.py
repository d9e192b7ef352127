"""TRL's own GRPOTrainer trains on demo and micro tasks through `environment_factory`: real sandboxes, real grading, real updates."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab

pytest.importorskip("trl", reason="needs TRL: pip install 'swebench-lab[train]'")

from swebench_lab.integrations.trl import TRLTasks


def environment(task: lab.Task) -> Any:
    made = pickle.loads(pickle.dumps(TRLTasks(select=task.id).environment_factory))()
    made.reset(task_id=task.id, prompt=[])
    return made


def fix(task: lab.Task) -> str:
    return f"git apply - <<'PATCH'\n{task.gold_patch}PATCH"


def test_an_environment_runs_commands_is_graded_by_tests_and_begins_anew() -> None:
    task = lab.load_tasks("demo")[0]
    made = environment(task)
    assert made.bash("pwd; exit 3") == "/testbed\n\n[exit code 3]"
    assert "[exit code 0]" in made.bash(fix(task))
    assert made.get_reward() == 1.0 == made.get_reward()
    made.reset(task_id=task.id)
    assert made.bash("git status --short").startswith("\n[")
    assert made.get_reward() == 0.0
    (row,) = TRLTasks(select=task.id).train_dataset
    assert task.issue.strip() in row["prompt"][0]["content"] and task.gold_patch not in json.dumps(row)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["demo", "micro"])
def test_its_trainer_makes_updates_from_calls_in_our_sandboxes(source: str, tmp_path: Path) -> None:
    import torch
    import trl
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    task = lab.load_tasks(source)[0]
    lab.make_tiny_model(tmp_path / "tiny", hidden=32, layers=1, heads=2, length=8192)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text()
    call = json.dumps({"name": "bash", "arguments": {"command": fix(task)}})
    replies = [f"<tool_call>\n{call}\n</tool_call><|im_end|>", "I do not know.<|im_end|>"]

    class Scripted(Qwen3ForCausalLM):  # type: ignore[misc]
        """Samples what the test wants: every second attempt makes the fix and says so, the others do nothing."""

        def generate(self, input_ids: Any, **more: Any) -> Any:
            rows = []
            for number, ids in enumerate(input_ids):
                called = "<tool_response>" in tokenizer.decode(ids)
                text = "Done.<|im_end|>" if called else replies[number % 2]
                rows.append(torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]))
            longest = max(map(len, rows))
            padded = [torch.nn.functional.pad(r, (0, longest - len(r)), value=tokenizer.pad_token_id) for r in rows]
            return torch.cat([input_ids, torch.stack(padded)], 1)

    model = Scripted.from_pretrained(tmp_path / "tiny")
    before = {name: value.clone() for name, value in model.named_parameters()}
    given = TRLTasks(source, select=task.id)
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        args=trl.GRPOConfig(
            str(tmp_path / "out"), num_generations=2, per_device_train_batch_size=2, max_steps=2, learning_rate=1e-3,
            max_completion_length=2048, max_tool_calling_iterations=2, use_cpu=True, bf16=False, logging_steps=1,
            report_to=[], save_strategy="no",
        ),
        train_dataset=given.train_dataset,
        environment_factory=given.environment_factory,
    )  # fmt: skip
    trainer.train()
    logs = [row for row in trainer.state.log_history if "reward" in row]
    print(f"\n{source}: {[(row['reward'], row['grad_norm']) for row in logs]}")
    assert [row["reward"] for row in logs] == [0.5, 0.5] and trainer.state.global_step == 2
    assert all(row["grad_norm"] > 0 for row in logs)
    assert any(not torch.equal(before[name], value) for name, value in model.named_parameters())
