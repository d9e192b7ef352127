"""Settings: TRL's names and meanings, every field of TRL accounted for, old names explained, saved as they are."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import TrainingError
from swebench_lab.training import sft
from swebench_lab.training.data.corpus import Curation
from swebench_lab.training.engines import engine_async, engine_sync
from swebench_lab.training.engines.engine import engine_named
from swebench_lab.training.options import capabilities
from swebench_lab.training.options.config import Config, field_docs
from swebench_lab.training.options.rules import Rules
from swebench_lab.training.options.settings import GRPOSettings, SFTSettings
from tests.training import ground

pytestmark = pytest.mark.filterwarnings("ignore")
assert ground.torch  # skipped where torch or trl is missing

WAYS: dict[str, tuple[type[Config], capabilities.Capabilities]] = {
    "sync": (GRPOSettings, capabilities.SYNC),
    "async": (GRPOSettings, capabilities.ASYNC),
    "sft": (SFTSettings, capabilities.SFT),
}
DOCS = Path(lab.__file__).parents[1] / "docs/training.md"


def config(way: str) -> Any:
    """TRL's configuration class of a way to train."""
    import trl
    from trl.experimental import async_grpo

    return getattr(async_grpo if way == "async" else trl, WAYS[way][1].config)


def trl_fields(way: str) -> frozenset[str]:
    return frozenset(item.name for item in fields(config(way)))


def made(way: str, **given: Any) -> Config:
    return SFTSettings(**given) if way == "sft" else GRPOSettings(engine=way, **given)


def arguments(way: str, settings: Any) -> Any:
    """TRL's configuration as the engine builds it."""
    if way == "sft":
        return sft.arguments(settings, evaluate=True)
    engine = {"sync": engine_sync, "async": engine_async}[way]
    return engine.arguments(
        settings, settings.update_size(), 1.0 if settings.temperature is None else settings.temperature
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_field_of_trl_is_a_setting_or_an_option_or_refused_with_a_reason(way: str) -> None:
    settings, honoured = WAYS[way]
    own = settings.names() & trl_fields(way)
    assert own | honoured.allowed | set(honoured.refused) == trl_fields(way)
    assert len(own) + len(honoured.allowed) + len(honoured.refused) == len(trl_fields(way))  # none is two of them
    for name, reason in honoured.refused.items():
        assert len(reason) > 15
        with pytest.raises(TrainingError, match=name):
            made(way, options={name: 1})
    for name in own:
        with pytest.raises(TrainingError, match=rf"it is a setting; write {settings.__name__}\({name}=…\)"):
            made(way, options={name: 1})
    with pytest.raises(TrainingError, match="did you mean 'optim'"):
        made(way, options={"optm": "sgd"})


SIZES = {"num_generations": 4, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "num_iterations": 2,
         "steps_per_generation": 16}  # fmt: skip
VALUES: dict[str, Any] = {
    "output_dir": "elsewhere", "learning_rate": 3e-4, "lr_scheduler_type": "linear", "warmup_steps": 7,
    "weight_decay": 0.25, "epsilon": 0.1, "epsilon_high": 0.3, "vllm_importance_sampling_clip_max": 5.0, "beta": 0.5,
    "loss_type": "dr_grpo", "scale_rewards": "none", "max_completion_length": 77, "temperature": 0.5, "max_staleness": 2,
    "dtype": "float16", "gradient_checkpointing": True, "shuffle_dataset": False, "save_steps": 64,
    "report_to": "tensorboard", "seed": 3, "num_train_epochs": 2.5, "max_length": 99, "packing": True, "eval_steps": 5,
    "logging_steps": 4, **SIZES,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_setting_with_trls_name_arrives_at_trl_or_is_an_error(way: str) -> None:
    settings, honoured = WAYS[way]
    checked = 0
    for name in settings.names() & trl_fields(way):
        if name in honoured.unsupported:
            with pytest.raises(TrainingError, match=f"{name}=…, engine='{way}'"):
                made(way, **{name: VALUES[name]})
            continue
        beside = {"lora": 4} if name == "dtype" else {}  # the type of weights that are not trained
        value = getattr(arguments(way, made(way, **{name: VALUES[name]}, **beside)), name, None)
        value = getattr(value, "value", value)
        assert value in (VALUES[name], [VALUES[name]]), name
        checked += 1
    assert checked >= 15


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_setting_that_an_engine_cannot_honour_is_an_error(way: str) -> None:
    honoured = engine_named(way).capabilities
    assert honoured.unsupported and set(honoured.unsupported) <= GRPOSettings.names()
    for name in honoured.unsupported:
        with pytest.raises(TrainingError, match=name):
            made(way, **{name: {"muon": True}.get(name, VALUES.get(name))})


PLAIN = {"sync": "disable_dropout", "async": "full_determinism", "sft": "padding_free"}


@pytest.mark.parametrize("way", WAYS)
def test_an_allowed_option_is_passed_on_and_not_overwritten(way: str) -> None:
    given = {"optim": "sgd", "max_grad_norm": 0.5, "save_total_limit": 9, "run_name": "mine", PLAIN[way]: True}
    trl = arguments(way, made(way, options=given))
    assert {name: getattr(getattr(trl, name), "value", getattr(trl, name)) for name in given} == given


def test_options_without_effect_beside_a_setting_are_errors() -> None:
    with pytest.raises(TrainingError, match="muon"):
        GRPOSettings(muon=True, options={"adam_beta2": 0.9})
    with pytest.raises(TrainingError, match="context_loss_weight"):
        SFTSettings(context_loss_weight=0.5, options={"loss_type": "dft"})


@pytest.mark.parametrize("kind", [GRPOSettings, SFTSettings])
def test_former_names_say_how_they_are_called(kind: type[Config]) -> None:
    for old, new in kind.RENAMED.items():
        assert old not in kind.names()
        with pytest.raises(TrainingError, match=rf"{old}=….*{new.split()[0].strip(',;:')}"):
            kind(**{old: 1})
        assert new.split()[0].strip(",;:") in kind.names()
    with pytest.raises(TrainingError, match="did you mean 'learning_rate'"):
        kind(lerning_rate=1.0)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"num_generations": 1}, "at least 2"),
        ({"num_generations": 2.5}, "whole number"),
        ({"learning_rate": -1.0}, "at least 0"),
        ({"learning_rate": "1e-6"}, "it takes a number"),
        ({"engine": "warp"}, "choose 'sync' or 'async'"),
        ({"per_device_train_batch_size": 7}, "do not divide"),
        ({"gradient_accumulation_steps": 3}, "does not divide the 8 forward passes"),
        ({"steps_per_generation": 4, "tasks_per_update": 8}, "keep one"),
        ({"muon": True, "lora": 4}, "whole matrices"),
        ({"dtype": "bfloat16"}, "kept in float32"),
        ({"rules": {"below_mean": "mask"}}, "Rules"),
        ({"report_to": "paper"}, "choose 'none'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TrainingError, match=complaint) as caught:
        GRPOSettings(**given)
    assert any(name in str(caught.value) for name in given)


def test_an_update_is_shared_out_among_processes() -> None:
    size = GRPOSettings(gradient_accumulation_steps=2, num_iterations=3).update_size(2)
    assert (size.tasks, size.attempts, size.batches, size.accumulation, size.steps) == (8, 64, 4, 2, 6)
    assert GRPOSettings(steps_per_generation=4).update_size(2).tasks == 8
    with pytest.raises(TrainingError, match="on 3 processes"):
        GRPOSettings().update_size(3)
    with pytest.raises(TrainingError, match="multiple of the 2 optimiser steps"):
        GRPOSettings(gradient_accumulation_steps=4, save_steps=3).check_saving(1)


def test_settings_or_keywords_but_no_field_twice(tmp_path: Path) -> None:
    settings = SFTSettings(learning_rate=1e-5, output_dir=str(tmp_path))  # given, if only as the default is
    assert lab.SFT("model", settings, lora=4).settings == settings.replace(lora=4)
    assert lab.SFT("model", learning_rate=1e-5, output_dir=tmp_path).settings == settings
    with pytest.raises(TrainingError, match="'learning_rate' is given twice"):
        lab.SFT("model", settings, learning_rate=1e-4)
    with pytest.raises(TrainingError, match="by name"):
        lab.SFT("model", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="given by name"):
        SFTSettings(1e-5)


def test_settings_are_values_that_show_themselves() -> None:
    settings = GRPOSettings(num_generations=4, rules=Rules(below_mean="mask"), options={"optim": "sgd"}, lora={"r": 2})
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings and again.given == settings.given
    assert eval(repr(settings)) == settings and "learning_rate" not in repr(settings)
    assert settings.to_dict()["rules"]["below_mean"] == "mask"
    assert SFTSettings(curation=Curation(certified={"b", "a"})).to_dict()["curation"]["certified"] == ["a", "b"]
    html = settings._repr_html_()
    for name in settings.names():
        assert name in html
    with pytest.raises(AttributeError):
        settings.updates = 3  # type: ignore[misc]


@pytest.mark.parametrize("kind", [GRPOSettings, SFTSettings])
def test_every_setting_has_its_meaning_written_under_it(kind: type[Config]) -> None:
    assert all(len(text) > 20 for text in field_docs(kind).values())


def test_a_name_in_both_kinds_of_settings_has_one_meaning() -> None:
    one, other = field_docs(GRPOSettings), field_docs(SFTSettings)
    types = {kind: {item.name: item.type for item in fields(kind)} for kind in (GRPOSettings, SFTSettings)}

    def meaning(text: str) -> str:
        return text.partition(";")[0].partition(":")[0].partition(".")[0]

    for name in one.keys() & other.keys():
        assert meaning(one[name]) == meaning(other[name]), name
        plain = {str(types[kind][name]).removesuffix(" | None") for kind in types}
        assert len(plain) == 1, name


def test_the_table_of_equivalents_says_what_the_code_does() -> None:
    lines = [line for line in DOCS.read_text("utf-8").splitlines() if line.startswith("| `")]
    rows = {cells[0].strip("`"): cells for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines)}
    assert set(rows) == GRPOSettings.names() | SFTSettings.names()
    for name, (_, trl, *marks, meaning) in rows.items():
        known = any(name in trl_fields(way) for way in WAYS)
        assert (trl.strip("`") == name) == known, name
        for way, mark in zip(("sft", "sync", "async"), marks, strict=True):
            kind, honoured = WAYS[way]
            assert (mark == "yes") == (name in kind.names() and name not in honoured.unsupported), (name, way)
        assert meaning
