"""SFT on rows: the loss falls, a stopped run goes on, an adapter is merged, and what comes out is a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.training.data.corpus import Corpus
from tests.training import ground

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground.tiny(str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def rows(folder: Path) -> Corpus:
    from swebench_lab.training.data.demonstrations import micro_demonstrations
    from swebench_lab.training.model.models import load_tokenizer

    renderer = Renderer.of(load_tokenizer(folder))
    return Corpus.of_trajectories(micro_demonstrations(24), renderer)


def sft(folder: Path, tmp: Path, **settings: Any) -> lab.SFT:
    given = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    return lab.SFT(folder, output_dir=tmp, logging_steps=1, **{**given, **settings})


@pytest.mark.parametrize("more", [{}, {"muon": True, "context_loss_weight": 0.5}], ids=["usual", "from nothing"])
def test_the_loss_falls_and_a_stopped_run_goes_on_as_if_it_had_not_been(
    folder: Path, rows: Corpus, tmp_path: Path, more: dict[str, Any]
) -> None:
    whole = sft(folder, tmp_path / "whole", updates=6, save_steps=3, held_out=0.2, **more)
    policy = whole.fit(rows)
    losses = [entry["loss"] for entry in whole.history if "loss" in entry]
    assert len(losses) == 6 and losses[-1] < losses[0]
    facts = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert (facts["status"], facts["parameters"]) == ("completed", whole.settings.to_dict())
    assert whole.trainer.state.global_step == 6
    assert any("eval_loss" in entry for entry in whole.history)
    assert policy.renderer.text(policy.renderer.spoken("view")) == "view"
    # the checkpoint of update 3 alone, as a kill after it leaves it
    (tmp_path / "part").mkdir()
    (tmp_path / "whole" / "checkpoint-3").rename(tmp_path / "part" / "checkpoint-3")
    again = sft(folder, tmp_path / "part", updates=6, save_steps=3, held_out=0.2, **more)
    again.fit(rows)
    assert [entry["loss"] for entry in again.history if "loss" in entry] == losses


def test_an_adapter_and_packed_rows_end_in_a_whole_model(folder: Path, rows: Corpus, tmp_path: Path) -> None:
    policy = sft(folder, tmp_path, lora=4, packing=True, max_length=512, updates=2, per_device_train_batch_size=2).fit(
        rows
    )
    assert not (tmp_path / "final" / "adapter_config.json").exists()
    assert len(policy.logprobs(policy.renderer.spoken("view"))) == 2


def test_nothing_to_learn_from_is_an_error_that_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="unresolved"):
        sft(folder, tmp_path).fit(Corpus((), {"unresolved": 3}))
    with pytest.raises(TrainingError, match="row before"):
        sft(folder, tmp_path, context_loss_weight=0.5, packing=True)
    with pytest.raises(TrainingError, match="lora"):
        lab.SFT(folder, output_dir=tmp_path, load_in_4bit=True)


def test_loaded_traces_are_trained_on_as_they_are(folder: Path, tmp_path: Path) -> None:
    from swebench_lab.training.data.demonstrations import micro_demonstrations

    shown = list(micro_demonstrations(8))
    lab.Trajectories(shown).save(tmp_path / "demonstrations.jsonl")
    traces = lab.load_trajectories(tmp_path / "demonstrations.jsonl")
    lost = replace(traces[0], extra={"resolved": False})
    training = sft(folder, tmp_path / "sft", updates=1)
    training.fit([*traces, lost])
    assert training.corpus is not None and training.corpus.kept == len(shown) > 0
    assert training.corpus.dropped == {"unresolved": 1}


def test_attempts_at_held_out_tasks_are_made_and_kept_while_it_trains(
    folder: Path, rows: Corpus, tmp_path: Path
) -> None:
    from swebench_lab.training.engines.watch import Watch

    with lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=2)
        watch = Watch(ground.agent(ground.policy(folder)), collector, ground.micro()[:2], every=2)
        trained = sft(folder, tmp_path, updates=4, watch=watch)
        trained.fit(rows)
    seen = [entry for entry in trained.history if "watched_graded" in entry]
    assert [entry["step"] for entry in seen] == [2, 4]
    assert all(entry["watched_graded"] == 2 and entry["watched_low"] <= entry["watched_resolved"] for entry in seen)
    assert len(list((tmp_path / "watched").iterdir())) == 2
    with pytest.raises(TrainingError, match="LocalPolicy"):
        Watch(ground.agent(lab.NullPolicy()), collector, ground.micro()[:2])
