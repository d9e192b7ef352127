"""Parameters of recipes: a name has one type and one meaning in all of them, and settings of training keep theirs."""

from __future__ import annotations

from dataclasses import fields

from swebench_lab.experiments.recipes import Parameter, describe, list_recipes
from swebench_lab.training.options.settings import GRPOSettings, SFTSettings

RECIPES = list_recipes()


def meaning(parameter: Parameter) -> str:
    """What it means: the comment up to the semicolon, behind which a recipe says more of its own case."""
    return parameter.help.partition(";")[0].strip()


def test_the_same_name_has_the_same_type_and_meaning_in_every_recipe() -> None:
    assert len(RECIPES) >= 7
    uses: dict[str, set[tuple[str, str]]] = {}
    for recipe in RECIPES:
        for parameter in recipe.parameters:
            assert meaning(parameter), f"{recipe.name}: {parameter.name} says nothing of itself"
            uses.setdefault(parameter.name, set()).add((parameter.type, meaning(parameter)))
    assert {name: found for name, found in uses.items() if len(found) > 1} == {}


def test_parameters_of_training_have_the_names_and_types_of_the_settings() -> None:
    for recipe, kind in (("grpo", GRPOSettings), ("sft", SFTSettings)):
        types = {item.name: str(item.type).split(" | ") for item in fields(kind)}
        parameters = {parameter.name: parameter for parameter in describe(recipe).parameters}
        assert len(types.keys() & parameters.keys()) >= 12
        for name in types.keys() & parameters.keys():
            assert parameters[name].type in types[name], f"{recipe}: {name}"
        former = set(kind.RENAMED) - {"max_steps"}  # an attempt's limit, as in every recipe
        assert not former & parameters.keys()


def test_every_preset_is_accepted_by_its_recipe() -> None:
    names = {recipe.name: set(recipe.presets) for recipe in RECIPES}
    assert names["grpo"] == {"smoke", "smol", "cpu", "gpu", "gpus", "nodes"} == names["sft"]
    for recipe in RECIPES:
        for preset in recipe.presets:
            recipe.values(preset, {})
