"""SWE-agent 1.x: its configuration file, also as SWE-MiniSandbox extends it, as an Agent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from swebench_lab.agents.agent import Agent
from swebench_lab.agents.configs import demonstrations
from swebench_lab.agents.configs.bundle_commands import BASH, Command, documentation
from swebench_lab.agents.configs.bundle_tools import CommandTool, Kit
from swebench_lab.agents.configs.bundles import Bundle, read_bundle
from swebench_lab.agents.configs.models import swe_agent_policy
from swebench_lab.agents.configs.options import Settings
from swebench_lab.agents.configs.replies import READERS, Reader
from swebench_lab.agents.configs.templates import TemplateFlavour
from swebench_lab.agents.history import CloseWindows, HistoryProcessor, KeepObservations, RemoveText
from swebench_lab.policies.policy import Policy

STEPS = 250
"""Replies of an attempt where the file has no limit: these programs count on one of cost, and a local model has none."""

ELIDED = "Old environment output: ({lines} lines omitted)"
"""What models of this family were trained to see in the place of an old observation."""

_ENV = {"PAGER": "cat", "MANPAGER": "cat", "LESS": "-R", "PIP_PROGRESS_BAR": "off", "TQDM_DISABLE": "1",
        "GIT_PAGER": "cat"}  # fmt: skip
_BLOCKED = ("vim", "vi", "emacs", "nano", "nohup", "gdb", "less", "tail -f", "python -m venv", "make")
_BLOCKED_ALONE = ("python", "python3", "ipython", "bash", "sh", "/bin/bash", "/bin/sh", "nohup", "vi", "vim", "emacs",
                  "nano", "su")  # fmt: skip
_BLOCKED_UNLESS = dict.fromkeys(("radare2", "r2"), r"\b(?:radare2)\b.*\s+-c\s+.*")

_OBSERVATION = "Observation: {{observation}}"
_TRUNCATED = (
    "Observation: {{observation[:max_observation_length]}}\n[{{elided_chars}} characters more are left out: an "
    "observation shows {{max_observation_length}}. Use a command that prints less, or write to a file and look at parts.]"
)
_SYNTAX = "bash cannot read this command, so nothing was run.\n{{bash_stdout}}\n{{bash_stderr}}"
_CANCELLED = "The command '{{command}}' was cancelled: it took more than {{timeout}} seconds, or waits for input."
_NOT_SUPPORTED = "The command '{{action}}' is not supported here; nothing was run."


def read(settings: Settings, policy: Policy | None) -> Agent:
    """Return the agent of a file.

    Raises:
        ConfigError: Something cannot be taken over.
    """
    kind = settings.text("agent.type", "default")
    if kind not in ("default", *_SANDBOXED):
        raise settings.wrong("agent.type", _OTHER_AGENTS.get(kind, f"unknown agent type {kind!r}"))
    parser = settings.text("agent.tools.parse_function.type", "function_calling")
    if parser not in READERS:
        names = ", ".join(READERS)
        raise settings.wrong(
            "agent.tools.parse_function.type", f"{_OTHER_PARSERS.get(parser, parser)}; there are {names}"
        )
    bundles, env = _bundles(settings), _environment(settings)
    commands = _commands(settings, bundles)
    kit = _kit(settings, bundles, commands, env)
    calls = int(settings.number("agent.model.per_instance_call_limit"))
    steps = int(settings.number("agent.step_limit", 60 if kind in _SANDBOXED else 0))
    wall = settings.number("agent.total_time_limit", 300.0 if kind in _SANDBOXED else 0.0)
    answering = policy or swe_agent_policy(settings, READERS[parser].nearest, parser == "function_calling")
    agent = Agent(
        answering,
        _flavour(settings, parser, commands, env),
        tools=tuple(CommandTool(command, kit) for command in commands),
        max_steps=min([n for n in (calls, steps) if n] or [STEPS]),
        command_timeout=settings.number("agent.tools.execution_timeout", 30.0),
        max_cost=settings.number("agent.model.per_instance_cost_limit", 3.0) or None,
        max_format_errors=int(settings.number("agent.max_requeries", 3)),
        observation_limit=int(settings.number("agent.templates.max_observation_length", 100_000)),
        max_timeouts=int(settings.number("agent.tools.max_consecutive_execution_timeouts", 3)),
        tool_time=settings.number("agent.tools.total_execution_timeout", 1800.0),
        history=_history(settings),
        setup=kit,
        reminder=_REMINDER if kind in _SANDBOXED else "",
    )
    return replace(agent, wall_time=wall) if wall else agent


_SANDBOXED = ("sandbox", "skysbdefault")
"""SWE-MiniSandbox's own kinds of agent, which have limits of their own and count the turns down."""

_REMINDER = "REMINDER: {{left}} turns are left to solve this."

_OTHER_AGENTS = {
    "retry": "'retry' makes several attempts and has a model choose: collect(attempts=…), then choose among Rollouts",
    "shell": "'shell' lets a person type: use a file of the type 'default' with policy=lab.HumanPolicy()",
    "human": "'human' lets a person type: use a file of the type 'default' with policy=lab.HumanPolicy()",
    "empty": "'empty' attempts nothing, it checks tasks: Evaluator.check(tasks)",
}
_OTHER_PARSERS = {
    name: f"{name!r} takes a whole reply for a command, which is how people type: use policy=lab.HumanPolicy()"
    for name in ("action", "action_only", "identity", "edit_format")
}


def _bundles(settings: Settings) -> tuple[Bundle, ...]:
    bundles = []
    for i, item in enumerate(settings.get("agent.tools.bundles", [], list)):
        name = f"agent.tools.bundles[{i}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("path"), str):
            raise settings.wrong(name, "a bundle is a mapping with a path")
        folder = settings.path(f"{name}.path", item["path"])
        bundles.append(read_bundle(folder, item.get("hidden_tools") or (), f"{settings.file}, option {name}"))
    return tuple(bundles)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables of the shell: the file's own, then those handed on from this process."""
    own = settings.get("agent.tools.env_variables", _ENV, dict)
    handed = {n: os.environ[n] for n in settings.strings("agent.tools.propagate_env_variables") if n in os.environ}
    return {**{str(name): _text(value) for name, value in own.items()}, **handed}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict | list) else str(value)


def _commands(settings: Settings, bundles: tuple[Bundle, ...]) -> tuple[Command, ...]:
    commands = [BASH] if settings.get("agent.tools.enable_bash_tool", True, bool) else []
    for bundle in bundles:
        for command in bundle.commands:
            if command.name in {other.name for other in commands}:
                raise settings.wrong("agent.tools.bundles", f"two bundles have a tool {command.name!r}")
            commands.append(command)
    submit = settings.text("agent.tools.submit_command", "submit")
    if submit not in {command.name for command in commands} and not bundles:
        raise settings.wrong("agent.tools.bundles", f"no bundle has the tool {submit!r}, so nothing could be handed in")
    return tuple(commands)


def _kit(settings: Settings, bundles: tuple[Bundle, ...], commands: tuple[Command, ...], env: dict[str, str]) -> Kit:
    registry = settings.get("agent.tools.registry_variables", {}, dict)
    unless = settings.get("agent.tools.filter.block_unless_regex", _BLOCKED_UNLESS, dict)
    return Kit(
        bundles,
        tuple(env.items()),
        json.dumps(registry),
        settings.strings("env.post_startup_commands"),
        tuple(
            " && ".join(map(str, command)) if isinstance(command, list) else str(command)
            for command in settings.get("agent.tools.reset_commands", [], list)
        ),
        settings.strings("agent.tools.filter.blocklist", _BLOCKED),
        settings.strings("agent.tools.filter.blocklist_standalone", _BLOCKED_ALONE),
        tuple((str(name), str(pattern)) for name, pattern in unless.items()),
        settings.number("agent.tools.install_timeout", 300.0),
        settings.text("agent.templates.command_cancelled_timeout_template", _CANCELLED),
        tuple((command.name, command.end_name) for command in commands if command.end_name),
    )


def _flavour(settings: Settings, parser: str, commands: tuple[Command, ...], env: dict[str, str]) -> TemplateFlavour:
    reader: Reader = READERS[parser]
    observation = settings.text("agent.templates.next_step_template", _OBSERVATION)
    complaint = settings.text("agent.tools.parse_function.error_message", reader.complaint)
    system = settings.text("agent.templates.system_template")
    own = parser == "function_calling"
    return TemplateFlavour(
        settings.name,
        reader.nearest,
        (),
        system,
        settings.text("agent.templates.instance_template"),
        observation,
        settings.text("agent.tools.format_error_template", complaint),
        native=system if own else "",
        observation_role="tool" if own else "user",
        kind="swe-agent",
        replies=parser,
        strategy=settings.text("agent.templates.strategy_template"),
        demonstrations=demonstrations.as_texts(settings),
        demonstration_turns=demonstrations.as_turns(settings, parser),
        no_output=settings.text("agent.templates.next_step_no_output_template", observation),
        truncated=settings.text("agent.templates.next_step_truncated_observation_template", _TRUNCATED),
        blocked=settings.text("agent.tools.filter.blocklist_error_template", _NOT_SUPPORTED),
        syntax=settings.text("agent.templates.shell_check_error_template", _SYNTAX),
        variables=json.dumps({**env, "command_docs": documentation(commands, env)}),
        system_role="user" if settings.get("agent.model.convert_system_to_user", False, bool) else "system",
        calls_shown=own,
    )


def _history(settings: Settings) -> tuple[HistoryProcessor, ...]:
    processors: list[HistoryProcessor] = []
    for i, item in enumerate(settings.get("agent.history_processors", [], list)):
        name = f"agent.history_processors[{i}]"
        kind = item.get("type", "default") if isinstance(item, dict) else item
        try:
            if kind == "last_n_observations":
                processors.append(KeepObservations(int(item["n"]), ELIDED, int(item.get("polling", 1)), shorter=False))
            elif kind == "closed_window":
                processors.append(CloseWindows())
            elif kind == "remove_regex":
                patterns = tuple(map(str, item.get("remove", ["<diff>.*</diff>"])))
                processors.append(RemoveText(patterns, int(item.get("keep_last", 0))))
            elif kind not in ("default", "cache_control", "tag_tool_call_observations", "image_parsing"):
                raise settings.wrong(name, f"{kind!r} is no history processor")
        except (KeyError, TypeError, ValueError) as error:
            raise settings.wrong(name, f"it cannot be read: {error}") from error
    return tuple(processors)
