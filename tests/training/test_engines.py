"""Both engines of GRPO: the tokens, masks and logprobs that train are those that were sampled; faults never count."""

from __future__ import annotations

import gc
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxError, TrainingError
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.rollouts.executors.settings import Deadlines
from swebench_lab.training.options.settings import GRPOSettings
from tests.training import ground

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with lab.SandboxFactory("namespace") as made:
        yield made


def by_words(rollout: Rollout) -> float:
    """A reward that random replies differ in."""
    return float(sum(int(step.reply.token_ids.sum()) for step in rollout.trajectory.steps) % 7)


def grpo(folder: Path, sandboxes: Any, tmp: Path, **settings: Any) -> Any:
    from swebench_lab.training.grpo import GRPO

    once = Deadlines(retries=0)  # an infrastructure error stays one
    collector = lab.RolloutCollector(sandboxes, workers=4, reward=by_words, deadlines=once)
    chosen = {"flavour": settings.pop("flavour", "micro"), "max_steps": settings.pop("max_steps", 3)}
    answering = settings.pop("policy", None) or ground.policy(folder, max_tokens=6)
    given = {"num_generations": 4, "tasks_per_update": 2, "per_device_train_batch_size": 4, "updates": 1,
             "learning_rate": 0.0}  # fmt: skip
    return GRPO(ground.agent(answering, **chosen), collector, output_dir=tmp, **{**given, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.tiny(str(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("flavour", ["micro", pytest.param("xml", marks=pytest.mark.slow), "tool-calling", "mini"])
def test_the_sync_engine_trains_on_the_sampled_tokens(
    folder: Path, sandboxes: Any, tmp_path: Path, flavour: str
) -> None:
    from swebench_lab.training.engines.engine_sync import SyncEngine
    from swebench_lab.training.engines.run import read_rollouts
    from swebench_lab.training.model.models import load_tokenizer

    run = grpo(folder, sandboxes, tmp_path, flavour=flavour).begin(ground.micro())
    trainer = SyncEngine().build(run, load_tokenizer(run.policy))
    seen: list[Any] = []
    made = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: seen.append(made(inputs)) or seen[-1]
    trainer.train()
    batch = seen[0]
    mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
    gap = (batch["old_per_token_logps"] - batch["sampling_per_token_logps"]).abs()[mask].max().item()
    assert gap < 1e-4
    assert (batch["importance_sampling_ratio"][mask] - 1).abs().max().item() < 1e-3
    said = {
        tuple(t for s in r.trajectory.steps for t in s.reply.token_ids) for r in read_rollouts(tmp_path / "rollouts")
    }
    trained = {tuple(ids[m].tolist()) for ids, m in zip(batch["completion_ids"], mask, strict=True) if m.any()}
    assert trained <= said
    assert len(trained) >= 4
    assert any(len(r.trajectory.steps) > 1 for r in read_rollouts(tmp_path / "rollouts"))


def test_groups_all_alike_give_their_places_to_other_tasks(folder: Path, sandboxes: Any, tmp_path: Path) -> None:
    from swebench_lab.training.engines.engine_sync import SyncEngine
    from swebench_lab.training.model.models import load_tokenizer

    tasks = ground.micro()
    flat = {task.id for task in tasks[:4]}

    def reward(rollout: Rollout) -> float:
        return 0.0 if rollout.task.id in flat else float(rollout.trajectory.attempt)

    gradients, trained = {}, {}
    for refill in (0, 9):
        made = grpo(folder, sandboxes, tmp_path / str(refill), refill=refill, shuffle_dataset=False)
        made.collector = lab.RolloutCollector(sandboxes, workers=4, reward=reward)
        batches: list[Any] = []
        run = made.begin(tasks)
        attempts = run.attempts
        run.attempts = lambda *given, kept=batches, make=attempts: kept.append(make(*given)) or kept[-1]  # type: ignore[method-assign]
        trainer = SyncEngine().build(run, load_tokenizer(run.policy))
        trainer.train()
        gradients[refill] = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
        trained[refill] = {s.rollout.task.id for group in batches[0] for s in group if not s.masked}
    assert (gradients[0], trained[0]) == ([0.0], set())
    assert gradients[9][0] > 0.0 and trained[9] == {task.id for task in tasks[4:]}
    with pytest.raises(TrainingError, match=r"refill.*keep"):
        GRPOSettings(refill=1, rules=lab.Rules(zero_variance="keep"))


@pytest.mark.parametrize("flavour", [pytest.param("xml", marks=pytest.mark.slow), "tool-calling", "mini"])
def test_the_async_engine_trains_on_the_sampled_tokens(
    folder: Path, sandboxes: Any, tmp_path: Path, flavour: str
) -> None:
    from swebench_lab.training.engines.engine_async import AsyncEngine
    from swebench_lab.training.engines.run import read_rollouts
    from swebench_lab.training.model.models import load_tokenizer

    run = grpo(folder, sandboxes, tmp_path, engine="async", updates=2, flavour=flavour).begin(ground.micro())
    pushed: list[Any] = []
    trainer = AsyncEngine().build(run, load_tokenizer(run.policy))
    put = trainer.rollout_worker._put
    trainer.rollout_worker._put = lambda sample: (pushed.append(sample), put(sample))[1]
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["sampling/sampling_logp_difference/max"] < 1e-4
    assert entry["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert entry["kl"] == pytest.approx(0.0, abs=1e-6)
    said = {
        tuple(t for s in r.trajectory.steps for t in s.reply.token_ids) for r in read_rollouts(tmp_path / "rollouts")
    }
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
def test_an_infrastructure_error_is_masked_and_counted_and_never_a_reward_of_zero(
    folder: Path, tmp_path: Path, engine: str
) -> None:
    from swebench_lab.training.engines.run import read_rollouts

    with Faulty("namespace") as sandboxes:
        run = grpo(folder, sandboxes, tmp_path, engine=engine, updates=2)
        run.fit(ground.micro())
    rollouts = read_rollouts(tmp_path / "rollouts")
    errors = [r for r in rollouts if not r.verdict.graded]
    assert errors and all(r.reward is None for r in errors)
    table = run.table.to_frame()
    assert table["infrastructure error"].sum() >= 1
    assert math.isfinite(table["loss"].drop_nulls()[-1])
    assert run.trainer.state.global_step == 2  # TRL's trainer stays at hand
    facts = json.loads((tmp_path / "manifest.json").read_text())
    assert facts["status"] == "completed" and facts["parameters"] == run.settings.to_dict()


def test_attempts_are_sampled_at_the_temperature_of_the_settings(folder: Path, sandboxes: Any, tmp_path: Path) -> None:
    from swebench_lab.training.engines.engine_sync import SyncEngine
    from swebench_lab.training.model.models import load_tokenizer

    answering = ground.policy(folder, max_tokens=6, temperature=0.9)
    for given, used in ((None, 0.9), (0.5, 0.5)):
        run = grpo(folder, sandboxes, tmp_path, policy=answering, temperature=given).begin(ground.micro())
        trainer = SyncEngine().build(run, load_tokenizer(run.policy))
        assert trainer.temperature == trainer.rollout_func.policy.temperature == used


def test_what_cannot_be_trained_is_refused_before_anything_runs(folder: Path, sandboxes: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="LocalPolicy"):
        grpo(folder, sandboxes, tmp_path, policy=lab.NullPolicy())
    with pytest.raises(TrainingError, match="fewer than the 4 of an update"):
        grpo(folder, sandboxes, tmp_path, tasks_per_update=4).begin(ground.micro()[:3])
    with pytest.raises(TrainingError, match="'num_generations' is given twice"):
        lab.GRPO(ground.agent(ground.policy(folder)), lab.RolloutCollector(sandboxes),
                 GRPOSettings(num_generations=4), num_generations=8)  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="one step", marks=pytest.mark.slow),
        pytest.param(
            {"gradient_accumulation_steps": 2, "num_iterations": 2, "muon": True, "save_steps": 4}, id="four steps"
        ),
    ],
)
def test_killed_and_resumed_the_next_update_is_the_same_to_the_bit(
    folder: Path, sandboxes: Any, tmp_path: Path, more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "swebench_lab.training")

    def outcome(where: str, *stages: int) -> tuple[list[float], list[float], list[Any]]:
        for updates in stages:
            answering = ground.policy(folder, max_tokens=6, deterministic=True)
            run = grpo(folder, sandboxes, tmp_path / where, policy=answering, updates=updates, max_steps=2,
                       learning_rate=1e-2, per_device_train_batch_size=2, **{"save_steps": 1, **more})  # fmt: skip
            trained = run.fit(ground.micro())
        table = run.table.to_frame()
        weights = [value.tolist() for value in trained.model.state_dict().values()]
        return table["loss"].to_list(), table["grad_norm"].to_list(), weights

    whole = outcome("whole", 3)
    assert whole == outcome("parts", 1, 3)
    assert len(whole[0]) == 3 and all(whole[1])
    for line in ("update 3: 8 attempts", "checkpoint written to", "resuming from"):
        assert line in caplog.text


def test_the_worker_goes_on_with_the_first_group_that_was_not_trained_on(
    folder: Path, sandboxes: Any, tmp_path: Path
) -> None:
    from swebench_lab.training.engines.rollout_worker import Worker

    run = grpo(folder, sandboxes, tmp_path, engine="async").begin(ground.micro())
    worker = Worker(run, run.policy)
    worker.version = 7
    worker.finished = {2}  # had nothing to train on
    worker.save(tmp_path, {0, 1, 4})
    again = Worker(run, run.policy)
    again.restore(tmp_path)
    assert (again.first, again.version, again.policy.version) == (3, 7, 7)
    again_tasks, tasks = again.run.schedule, worker.run.schedule
    assert [again_tasks.task(n).id for n in range(6)] == [tasks.task(n).id for n in range(6)]
    with pytest.raises(TrainingError, match="missing"):
        again.restore(tmp_path / "elsewhere")


@pytest.mark.parametrize("engine", ["sync", "async"])
@pytest.mark.slow
def test_a_trainer_holds_no_attempts_of_past_updates(folder: Path, sandboxes: Any, tmp_path: Path, engine: str) -> None:
    held: list[int] = []

    def count(rollout: Rollout) -> float:
        gc.collect()
        held.append(sum(isinstance(one, Trajectory) for one in gc.get_objects()))
        return by_words(rollout)

    ahead = {"max_staleness": 1} if engine == "async" else {}
    run = grpo(folder, sandboxes, tmp_path, engine=engine, updates=6, tasks_per_update=1, **ahead)
    run.collector = lab.RolloutCollector(sandboxes, workers=4, reward=count)
    run.fit(ground.micro())
    attempts = 4  # of an update
    early, late = max(held[attempts : 2 * attempts]), max(held[-attempts:])
    assert len(held) >= 6 * attempts and late <= early + attempts, held


def test_time_is_told_apart_and_what_overlaps_counts_once() -> None:
    from swebench_lab.training.engines.busy import Busy

    busy = Busy()
    for kind, begin, end in (("sampling", 1.0, 3.0), ("training", 2.0, 5.0), ("sampling", 7.0, 9.0)):
        busy.add(kind, begin, end)
    assert busy.began == 1.0
    assert busy.seconds(0.0, 8.0) == 5.0
    assert busy.seconds(0.0, 8.0, "sampling") == 3.0
    assert busy.seconds(2.5, 4.0, "training") == 1.5


@pytest.mark.parametrize("engine", ["sync", "async"])
@pytest.mark.slow
def test_sources_and_curriculum_decide_what_is_trained_on(
    folder: Path, sandboxes: Any, tmp_path: Path, engine: str
) -> None:
    from swebench_lab.training.engines.run import read_rollouts

    tasks = ground.micro()
    sources = lab.Sources({"often": tasks[:3], "seldom": tasks[3:]}, {"often": 3})
    drawn = {}
    for curriculum in (False, True):
        where = tmp_path / str(curriculum)
        run = grpo(folder, sandboxes, where, engine=engine, curriculum=curriculum, updates=4, tasks_per_update=1)
        run.collector = lab.RolloutCollector(sandboxes, workers=4, reward=lambda r: float(r.trajectory.attempt % 2))
        run.fit(sources)
        parts = [read_rollouts(part) for part in sorted((where / "rollouts").glob("update-*"))[:4]]
        drawn[curriculum] = [part[0].task.id for part in parts]
        often = {task.id for task in tasks[:3]}
        assert sum(name in often for name in drawn[curriculum]) == 3
        assert run.trainer.state.global_step == 4
    kept = [json.loads(line) for line in (tmp_path / "True" / "schedule.jsonl").read_text().splitlines()]
    assert [entry["task"] for entry in kept if "number" in entry][:4] == drawn[True]
    assert [0.0, 1.0, 0.0, 1.0] in [entry.get("rewards") for entry in kept]
    assert not (tmp_path / "False" / "schedule.jsonl").exists()
