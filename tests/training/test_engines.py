"""Both engines of GRPO: the tokens, masks and logprobs that train are those that were sampled; faults never count."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxError, TrainingError
from swebench_lab.records.rollout import Rollout
from swebench_lab.rollouts.executors.settings import Deadlines
from tests.training import ground

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with lab.SandboxFactory("namespace") as made:
        yield made


def by_words(rollout: Rollout) -> float:
    """A reward that random replies differ in."""
    return float(sum(sum(step.reply.token_ids or ()) for step in rollout.trajectory.steps) % 7)


def grpo(folder: Path, sandboxes: Any, tmp: Path, **settings: Any) -> Any:
    from swebench_lab.training.grpo import GRPO

    once = Deadlines(retries=0)  # a fault stays one
    collector = lab.RolloutCollector(sandboxes, workers=4, reward=by_words, deadlines=once)
    chosen = {"flavour": settings.pop("flavour", "micro"), "max_steps": settings.pop("max_steps", 3)}
    answering = settings.pop("policy", None) or ground.policy(folder, max_tokens=6)
    given = {"group_size": 4, "tasks_per_update": 2, "batch_size": 4, "updates": 1, "learning_rate": 0.0}
    return GRPO(ground.agent(answering, **chosen), collector, output_dir=tmp, **{**given, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.tiny(str(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("flavour", ["micro", "xml", "tool-calling", "mini"])
def test_the_sync_engine_trains_on_the_sampled_tokens(
    folder: Path, sandboxes: Any, tmp_path: Path, flavour: str
) -> None:
    from swebench_lab.training import engine_sync
    from swebench_lab.training.grpo import kept
    from swebench_lab.training.sft import load_tokenizer

    run = grpo(folder, sandboxes, tmp_path, flavour=flavour)
    run.tasks = ground.micro()
    trainer = engine_sync.build(run, load_tokenizer(run.policy))
    seen: list[Any] = []
    made = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: seen.append(made(inputs)) or seen[-1]
    trainer.train()
    batch = seen[0]
    mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
    gap = (batch["old_per_token_logps"] - batch["sampling_per_token_logps"]).abs()[mask].max().item()
    assert gap < 1e-4
    assert (batch["importance_sampling_ratio"][mask] - 1).abs().max().item() < 1e-3
    said = {tuple(t for s in r.trajectory.steps for t in s.reply.token_ids) for r in kept(tmp_path / "rollouts")}
    trained = {tuple(ids[m].tolist()) for ids, m in zip(batch["completion_ids"], mask, strict=True) if m.any()}
    assert trained <= said
    assert len(trained) >= 4
    assert any(len(r.trajectory.steps) > 1 for r in kept(tmp_path / "rollouts"))


@pytest.mark.parametrize("flavour", ["xml", "tool-calling", "mini"])
def test_the_async_engine_trains_on_the_sampled_tokens(
    folder: Path, sandboxes: Any, tmp_path: Path, flavour: str
) -> None:
    from swebench_lab.training import engine_async
    from swebench_lab.training.grpo import kept
    from swebench_lab.training.sft import load_tokenizer

    run = grpo(folder, sandboxes, tmp_path, engine="async", updates=2, flavour=flavour)
    pushed: list[Any] = []
    run.tasks = ground.micro()
    trainer = engine_async.build(run, load_tokenizer(run.policy))
    put = trainer.rollout_worker._put
    trainer.rollout_worker._put = lambda sample: (pushed.append(sample), put(sample))[1]
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["sampling/sampling_logp_difference/max"] < 1e-4
    assert entry["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert entry["kl"] == pytest.approx(0.0, abs=1e-6)
    said = {tuple(t for s in r.trajectory.steps for t in s.reply.token_ids) for r in kept(tmp_path / "rollouts")}
    assert {tuple(s.input_ids[s.completion_mask.astype(bool)].tolist()) for s in pushed} <= said
    assert len(pushed) >= 8


class Faulty(lab.SandboxFactory):
    """Real sandboxes, every third of which cannot be had."""

    asked = 0

    def open(self, *given: Any, **options: Any) -> Any:
        Faulty.asked += 1
        if Faulty.asked % 3 == 0:
            raise SandboxError("the machine is full")
        return super().open(*given, **options)


@pytest.mark.parametrize("engine", ["sync", "async"])
def test_a_fault_is_masked_and_counted_and_never_a_reward_of_zero(folder: Path, tmp_path: Path, engine: str) -> None:
    from swebench_lab.training.grpo import kept

    with Faulty("namespace") as sandboxes:
        run = grpo(folder, sandboxes, tmp_path, engine=engine, updates=2)
        run.fit(ground.micro())
    rollouts = kept(tmp_path / "rollouts")
    faults = [r for r in rollouts if not r.verdict.graded]
    assert faults and all(r.reward is None for r in faults)
    table = run.table.to_frame()
    assert table["fault"].sum() >= 1
    assert math.isfinite(table["loss"].drop_nulls()[-1])


@pytest.mark.parametrize("more", [{}, {"steps": 2, "passes": 2, "muon": True}], ids=["one step", "four steps"])
def test_killed_and_resumed_the_next_update_is_the_same_to_the_bit(
    folder: Path, sandboxes: Any, tmp_path: Path, more: dict[str, Any]
) -> None:
    def outcome(where: str, *stages: int) -> tuple[list[float], list[float], list[Any]]:
        for updates in stages:
            answering = ground.policy(folder, max_tokens=6, deterministic=True)
            run = grpo(folder, sandboxes, tmp_path / where, policy=answering, updates=updates, save_every=1,
                       learning_rate=1e-2, max_steps=2, batch_size=2, **more)  # fmt: skip
            trained = run.fit(ground.micro())
        table = run.table.to_frame()
        weights = [value.tolist() for value in trained.model.state_dict().values()]
        return table["loss"].to_list(), table["grad_norm"].to_list(), weights

    whole = outcome("whole", 3)
    assert whole == outcome("parts", 1, 3)
    assert len(whole[0]) == 3 and all(whole[1])


def test_the_worker_goes_on_with_the_first_group_that_was_not_trained_on(
    folder: Path, sandboxes: Any, tmp_path: Path
) -> None:
    from swebench_lab.training.engine_async import Worker

    run = grpo(folder, sandboxes, tmp_path, engine="async")
    run.tasks = ground.micro()
    worker = Worker(run, run.policy)
    worker.version = 7
    worker.finished = {2}  # had nothing to train on
    worker.save(tmp_path, {0, 1, 4})
    again = Worker(run, run.policy)
    again.restore(tmp_path)
    assert (again.first, again.version, again.policy.version) == (3, 7, 7)
    assert [again.task(n).id for n in range(6)] == [worker.task(n).id for n in range(6)]
    with pytest.raises(TrainingError, match="missing"):
        again.restore(tmp_path / "elsewhere")


def test_time_is_told_apart_and_what_overlaps_counts_once() -> None:
    from swebench_lab.training.busy import Busy

    busy = Busy()
    for kind, begin, end in (("sampling", 1.0, 3.0), ("training", 2.0, 5.0), ("sampling", 7.0, 9.0)):
        busy.add(kind, begin, end)
    assert busy.began == 1.0
    assert busy.seconds(0.0, 8.0) == 5.0
    assert busy.seconds(0.0, 8.0, "sampling") == 3.0
    assert busy.seconds(2.5, 4.0, "training") == 1.5
