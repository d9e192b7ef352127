"""recipes/grpo_by_hand.py is GRPO: from the same attempts it makes the gradient that the engine makes."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from tests.training import ground
from tests.training.test_segments import training

torch = ground.torch
pytestmark = pytest.mark.filterwarnings("ignore")
SCRIPT = Path(__file__).parents[2] / "recipes" / "grpo_by_hand.py"


@pytest.fixture(scope="module")
def by_hand() -> Any:
    found = importlib.util.spec_from_file_location("grpo_by_hand", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["grpo_by_hand"] = module
    found.loader.exec_module(module)
    return module


def test_the_gradient_by_hand_is_the_engines(by_hand: Any, tmp_path: Path) -> None:
    from transformers import TrainerCallback

    from swebench_lab.training.engines.engine_sync import SyncEngine
    from swebench_lab.training.engines.run import read_rollouts

    folder = ground.tiny(str(tmp_path / "tiny"))
    engine: dict[str, Any] = {}

    class Gradient(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            engine.update({name: value.grad.clone() for name, value in model.named_parameters()})

    with lab.SandboxFactory("namespace") as sandboxes:
        run = training(folder, sandboxes, tmp_path / "run", "sync", max_grad_norm=0.0)  # its gradient is not cut
        trainer = SyncEngine().build(run, run.policy.load_tokenizer())
        trainer.add_callback(Gradient())
        trainer.train()
    rows = by_hand.rows_of(read_rollouts(tmp_path / "run" / "rollouts"))
    assert len(rows) > 8  # edited histories: several rows an attempt
    model = lab.LocalPolicy(folder).model
    loss = by_hand.backward(model, rows, 1.0)
    assert loss == pytest.approx(trainer.state.log_history[0]["loss"], abs=1e-4)
    gaps = {
        name: float((value.grad - engine[name]).norm() / engine[name].norm())
        for name, value in model.named_parameters()
    }
    print(f"\nlargest relative difference of a gradient: {max(gaps.values()):.2g}")
    assert max(gaps.values()) < 1e-3
    assert all(float(value.norm()) > 0 for value in engine.values())


def test_a_group_all_alike_and_what_was_not_graded_train_nothing(by_hand: Any, tmp_path: Path) -> None:
    from swebench_lab.training.engines.run import read_rollouts

    folder = ground.tiny(str(tmp_path / "tiny"))
    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=2, reward=lambda _: 1.0, run_dir=tmp_path / "run")
        collector.collect(ground.agent(ground.policy(folder)), ground.micro()[:1], 2, progress=False)
    alike = read_rollouts(tmp_path / "run")
    assert len(alike) == 2 and by_hand.rows_of(alike) == []
    apart = [replace(alike[0], reward=None), replace(alike[1], reward=0.0)]  # one left: no mean to be above of
    assert by_hand.rows_of(apart) == []
