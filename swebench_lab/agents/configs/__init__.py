"""Configurations: agents that work as another program's configuration file says: SWE-agent's (0.x, 1.x) or mini-swe-agent's.

options.py      a configuration file: its values, and an error for every option that is not known
tables.py       what becomes of each option; docs/configs.md is made from it
prompts.py      a flavour whose prompts are Jinja templates, or those of Python's str.format
replies.py      the ways those programs read a call from a reply
commands.py     commands: their schema, their documentation, and the line that a call becomes
bundles.py      tool bundles: folders with commands, their programs and how they are installed
kit.py          commands in the sandbox: installing, running, blocking, state, submission
models.py       the model that a file names, as a policy
sweagent.py     SWE-agent 1.x, and the files of SWE-MiniSandbox
sweagent07.py   SWE-agent 0.x
mini.py         mini-swe-agent
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import ConfigError
from swebench_lab.policies.policy import Policy

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.agents.configs.options import Settings


def _settings(path: str | Path) -> tuple[str, Settings]:
    """Return a file's kind (`swe-agent`, `swe-agent-0` or `mini`), recognised by its content, and its checked settings."""
    from swebench_lab.agents.configs import tables
    from swebench_lab.agents.configs.options import Settings, load

    file = Path(path)
    values = load(file)
    agent = values.get("agent")
    if isinstance(agent, dict) and "templates" not in agent and "tools" not in agent and "system_template" in agent:
        kind = "mini"
    elif isinstance(agent, dict):
        kind = "swe-agent"
    elif "system_template" in values:
        kind = "swe-agent-0"
    else:
        raise ConfigError(
            f"reading {file}: it is no configuration of SWE-agent or mini-swe-agent: there is neither an 'agent' "
            "section nor a 'system_template'"
        )
    return kind, Settings(values, file, tables.TABLES[kind])


def read(path: str | Path, policy: Policy | None = None, root: str | Path | None = None) -> Agent:
    """Return the agent that a configuration file describes; see `Agent.from_config`."""
    from swebench_lab.agents.configs import mini_config as mini
    from swebench_lab.agents.configs import sweagent07
    from swebench_lab.agents.configs import sweagent_config as sweagent

    kind, settings = _settings(path)
    settings.root = Path(root) if root is not None else None
    reader = {"mini": mini.read, "swe-agent": sweagent.read, "swe-agent-0": sweagent07.read}[kind]
    return reader(settings, policy)


def explain(path: str | Path) -> pl.DataFrame:
    """Return what becomes of each option in a configuration file.

    Returns:
        One row an option: `option`, `value` (cut), `fate` (`mapped`, `elsewhere`, `no effect`) and `becomes`.

    Raises:
        ConfigError: An option is unknown or cannot be taken over.
    """
    import polars as pl

    _kind, settings = _settings(path)
    schema = dict.fromkeys(("option", "value", "fate", "becomes"), pl.String)
    return pl.DataFrame([{"option": o, "value": v, "fate": f, "becomes": b} for o, v, f, b in settings.told], schema)
