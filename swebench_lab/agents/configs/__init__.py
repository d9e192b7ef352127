"""Configurations: agents that work as another program's configuration file says: SWE-agent's (1.x) or mini-swe-agent's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.agents.agent import Agent, ConfigFiles
from swebench_lab.errors import ConfigError
from swebench_lab.policies.policy import Policy

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.agents.configs.options import Settings


def _settings(path: ConfigFiles) -> tuple[str, Settings]:
    """Return a configuration's kind (`swe-agent` or `mini`), recognised by its content, and its checked settings."""
    from swebench_lab.agents.configs import tables
    from swebench_lab.agents.configs.options import Settings, load_merged

    values, files = load_merged([path] if isinstance(path, str | Path) else path)
    file = ", ".join(map(str, files))
    agent = values.get("agent")
    if isinstance(agent, dict) and "templates" not in agent and "tools" not in agent and "system_template" in agent:
        kind = "mini"
    elif isinstance(agent, dict):
        kind = "swe-agent"
    elif "system_template" in values:
        raise ConfigError(
            f"reading {file}: it is a flat file of SWE-agent 0.x, which is not supported; write it in the form of SWE-agent "
            "1.x, with an 'agent' section"
        )
    else:
        raise ConfigError(
            f"reading {file}: it is no configuration of SWE-agent or mini-swe-agent: there is no 'agent' section"
        )
    return kind, Settings(values, files, tables.TABLES[kind])


def read(path: ConfigFiles, policy: Policy | None = None, root: str | Path | None = None) -> Agent:
    """Return the agent that configuration files describe; see `Agent.from_config`."""
    from swebench_lab.agents.configs import mini_config as mini
    from swebench_lab.agents.configs import sweagent_config as sweagent

    kind, settings = _settings(path)
    settings.root = Path(root) if root is not None else None
    reader = {"mini": mini.read, "swe-agent": sweagent.read}[kind]
    return reader(settings, policy)


def explain(path: ConfigFiles) -> pl.DataFrame:
    """Return what becomes of each option in configuration files, merged as `Agent.from_config` does.

    Returns:
        One row an option: `option`, `value` (cut), `fate` (`mapped`, `elsewhere`, `no effect`) and `becomes`.

    Raises:
        ConfigError: An option is unknown or cannot be taken over.
    """
    import polars as pl

    _kind, settings = _settings(path)
    schema = dict.fromkeys(("option", "value", "fate", "becomes"), pl.String)
    return pl.DataFrame([{"option": o, "value": v, "fate": f, "becomes": b} for o, v, f, b in settings.told], schema)
