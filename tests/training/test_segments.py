"""An attempt whose history was edited is trained whole: every sampled token once, as it was sampled, by both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.agents.history import Compaction, HistoryProcessor, KeepObservations
from swebench_lab.formats.token_ledger import segments
from tests.training import ground
from tests.training.test_engines import by_words

torch = ground.torch
pytestmark = pytest.mark.filterwarnings("ignore")
CUT = KeepObservations(1, line="[cut]", shorter=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.tiny(str(tmp_path_factory.mktemp("tiny")))


def training(
    folder: Path, sandboxes: Any, tmp: Path, engine: str, edits: HistoryProcessor = CUT, **options: Any
) -> Any:
    agent = ground.agent(ground.policy(folder, max_tokens=6), flavour="mini", max_steps=4, history=[edits])
    collector = lab.RolloutCollector(sandboxes, workers=4, reward=by_words)
    return lab.GRPO(agent, collector, num_generations=4, tasks_per_update=2, per_device_train_batch_size=4, updates=1,
                    learning_rate=0.0, engine=engine, output_dir=tmp, options=options).begin(ground.micro())  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "edits", "parts"),
    [
        pytest.param("sync", CUT, 3, id="sync, old observations cut"),
        pytest.param("async", CUT, 3, id="async, old observations cut"),
        pytest.param("sync", Compaction(tokens=1), 2, id="sync, summed up", marks=pytest.mark.slow),
        pytest.param("async", Compaction(tokens=1), 2, id="async, summed up"),
    ],
)
def test_all_segments_of_an_edited_history_are_trained(
    folder: Path, tmp_path: Path, engine: str, edits: HistoryProcessor, parts: int
) -> None:
    from swebench_lab.training.engines.engine import engine_named
    from swebench_lab.training.engines.run import read_rollouts

    with lab.SandboxFactory("namespace") as sandboxes:
        run = training(folder, sandboxes, tmp_path, engine, edits)
        trainer = engine_named(engine).build(run, run.policy.load_tokenizer())
        seen: list[Any] = []
        if engine == "sync":
            made = trainer._generate_and_score_completions
            trainer._generate_and_score_completions = lambda inputs: seen.append(made(inputs)) or seen[-1]
        else:
            put = trainer.rollout_worker._put
            trainer.rollout_worker._put = lambda sample: (seen.append(sample), put(sample))[1]
        trainer.train()
    rollouts = read_rollouts(tmp_path / "rollouts")
    assert all(len(segments(rollout.trajectory)) >= parts for rollout in rollouts), "the history was not edited"
    said = {
        tuple(int(t) for s in r.trajectory.steps for t in s.reply.token_ids): len(segments(r.trajectory))
        for r in rollouts
    }
    entry = trainer.state.log_history[0]
    if engine == "sync":
        (batch,) = seen
        mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
        assert (batch["old_per_token_logps"] - batch["sampling_per_token_logps"]).abs()[mask].max().item() < 1e-4
        trained = {tuple(ids[m].tolist()) for ids, m in zip(batch["completion_ids"], mask, strict=True) if m.any()}
        assert len(trained) >= 4 and trained <= set(said)
    else:
        assert entry["sampling/sampling_logp_difference/max"] < 1e-4
        pieces = [tuple(sample.input_ids[sample.completion_mask.astype(bool)].tolist()) for sample in seen]
        whole = [ids for ids, count in said.items() if _among(ids, pieces)]
        assert len(whole) >= 4
    assert entry.get("sampling/sampling_logp_difference/max", 0.0) < 1e-4


def _among(ids: tuple[int, ...], pieces: list[tuple[int, ...]]) -> bool:
    """Whether some pieces one after the other are these ids."""
    return not ids or any(ids[: len(piece)] == piece and _among(ids[len(piece) :], pieces) for piece in pieces if piece)
