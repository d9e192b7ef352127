"""Several configuration files, as people lay them over each other: what is merged, replaced, taken out, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import swebench_lab as lab
from swebench_lab.agents.configs import explain
from swebench_lab.agents.configs.templates import TemplateFlavour
from swebench_lab.errors import ConfigError
from tests.agents.configs.test_configs import CONFIG, MINI, home, written

__all__ = ["home"]


def facts(agent: lab.Agent) -> dict[str, Any]:
    policy = agent.policy
    assert isinstance(policy, lab.ChatPolicy)
    return {"steps": agent.max_steps, "cost": agent.max_cost, "seconds": agent.command_timeout, "model": policy.model,
            "temperature": policy.temperature, "stop": policy.stop, "body": dict(policy.body)}  # fmt: skip


MINI_FACTS = {
    "steps": 9,
    "cost": None,
    "seconds": 5.0,
    "model": "m",
    "temperature": 0.5,
    "stop": (),
    "body": {"top_k": 3},
}

OVERLAYS: dict[str, tuple[str | bytes, Any]] = {
    "nothing": ("", {}),
    "comments only": ("# my own settings go here\n", {}),
    "a byte order mark and CRLF": ("\ufeffagent:\r\n  step_limit: 7\r\n", {"steps": 7}),
    "JSON": ('{"agent": {"step_limit": 8}}', {"steps": 8}),
    "UTF-16": ("agent:\n  step_limit: 8\n".encode("utf-16"), "it is no YAML"),
    "numbers as texts": ("agent: {step_limit: '12'}\nenvironment: {timeout: '1e2'}\n", {"steps": 12, "seconds": 100.0}),
    "null for a value": ("agent: {step_limit: null}\n", {"steps": 250}),
    "null for a section": ("environment:\n", {"seconds": 30.0}),
    "null for what is sent": ("model: {model_kwargs: {temperature: null}}\n",
                              {"temperature": 1.0, "body": {"top_k": 3, "temperature": None}}),
    "anchors": ("model:\n  model_kwargs: &own {temperature: 0.25}\nenvironment: {env: {<<: *own}}\n", {"temperature": 0.25}),
    "a key of mappings": ("model: {model_kwargs: {top_k: 5, extra_body: {min_p: 0.1}}}\n", {"body": {"top_k": 5, "min_p": 0.1}}),
    "one stop text": ("model: {model_kwargs: {stop: Observation}}\n", {"stop": ("Observation",)}),
    "stop texts": ("model: {model_kwargs: {stop: [a, b]}}\n", {"stop": ("a", "b")}),
    "keys that are no texts": ("environment: {env: {1: 2, on: yes}}\n", {}),
    "a mapping replaced by a list": ("model: {model_kwargs: []}\n", "model_kwargs: expected dict"),
    "a section replaced by a name": ("agent: default\n", "there is no 'agent' section"),
    "a word for a number": ("agent: {step_limit: many}\n", "step_limit: expected a number, not 'many'"),
    "two documents": ("agent: {}\n---\nagent: {}\n", "it is no YAML"),
    "a list": ("- agent\n", "a configuration is a mapping, not list"),
    "what runs code": ("agent: !!python/object/apply:os.getcwd []\n", "it is no YAML"),
    "another router": ("model: {model_class: portkey, provider: '@openai'}\nenvironment: {environment_class: swerex_modal, "
                       "modal_sandbox_kwargs: {cpu: 2}, startup_timeout: 600.0}\n", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_says_what_it_changes_and_nothing_else(name: str, home: Path) -> None:
    text, change = OVERLAYS[name]
    overlay = home / "overlay.yaml"
    overlay.write_bytes(text if isinstance(text, bytes) else text.encode())
    sources = [written(home, config=MINI), overlay]
    if isinstance(change, str):
        with pytest.raises(ConfigError, match=change):
            lab.Agent.from_config(sources)
    else:
        assert facts(lab.Agent.from_config(sources)) == {**MINI_FACTS, **change}


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (["agent.step_limit=3", "agent.step_limit=5"], {"steps": 5}),
        (["--agent.step_limit=3"], {"steps": 3}),
        (["model.model_kwargs.temperature=1e-1"], {"temperature": 0.1}),
        (['model.model_kwargs={"temperature": 0.9}'], {"temperature": 0.9}),
        (["model.model_kwargs.temperature=null"], {"temperature": 1.0, "body": {"top_k": 3, "temperature": None}}),
        (["model.model_kwargs.stop=a=b"], {"stop": ("a=b",)}),
        (["model.model_name=org/own=name"], {"model": "org/own=name"}),
        (['environment.env={"A": "1"}', "environment.timeout=4"], {"seconds": 4.0}),
        (["agent..step_limit=3"], "a part of the option's name is empty"),
        (["agent.step_limt=3"], "nearest known one is 'agent.step_limit'"),
        (["agent.step_limit="], "expected a number, not ''"),
        (["agent.step_limit: 3"], "No such file"),
    ],
)
def test_values_of_a_command_line_override_files(values: list[str], change: Any, home: Path) -> None:
    file = written(home, config=MINI)
    sources = [file.with_suffix(""), *values]  # named without its ending, as their command lines allow
    if isinstance(change, str):
        with pytest.raises(ConfigError, match=change):
            lab.Agent.from_config(sources)
    else:
        assert facts(lab.Agent.from_config(sources)) == {**MINI_FACTS, **change}


def test_of_three_files_the_last_word_counts_and_lists_are_replaced(home: Path) -> None:
    base = written(home)
    other, last = home / "a" / "team.yaml", home / "b" / "mine.yaml"
    for file, values in {
        other: {"agent": {"history_processors": [{"type": "closed_window"}, {"type": "last_n_observations", "n": 9}],
                          "tools": {"env_variables": {"PAGER": "less"}}, "model": {"temperature": 0.1}}},
        last: {"agent": {"history_processors": [], "templates": {"max_observation_length": 50},
                         "model": {"temperature": None, "completion_kwargs": {"stop": "END", "top_k": 4}}}},
    }.items():  # fmt: skip
        file.parent.mkdir()
        file.write_text(yaml.safe_dump(values))
    agent = lab.Agent.from_config([base, other, last])
    assert isinstance(agent.flavour, TemplateFlavour) and isinstance(agent.policy, lab.ChatPolicy)
    known = json.loads(agent.flavour.variables)
    assert (known["PAGER"], known["WIDTH"], agent.history, agent.observation_limit) == ("less", "80", (), 50)
    assert (agent.policy.stop, dict(agent.policy.body), agent.flavour.name) == (
        ("END",),
        {"top_k": 4},
        "mine+team+mine",
    )
    fates = {row["option"]: row["value"] for row in explain([base, other, last]).to_dicts()}
    assert fates["agent.templates.max_observation_length"] == "50" and "agent.history_processors[0].type" not in fates


def test_the_order_of_files_counts_and_what_they_name_is_found_beside_them(home: Path) -> None:
    base = written(home)
    (home / "elsewhere" / "tools").mkdir(parents=True)
    (home / "tools" / "kit").rename(home / "elsewhere" / "tools" / "kit")
    overlay = home / "elsewhere" / "overlay.yaml"
    overlay.write_text("agent: {model: {per_instance_call_limit: 4}}\n")
    first, second = lab.Agent.from_config([base, overlay]), lab.Agent.from_config([overlay, base])
    assert (first.max_steps, second.max_steps) == (4, CONFIG["agent"]["model"]["per_instance_call_limit"])
    with pytest.raises(ConfigError, match="there is no 'tools/kit'"):
        lab.Agent.from_config([base])
