"""mini-swe-agent: its configuration file (1.x, 2.x) as an Agent with one tool, each command in a shell of its own."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from swebench_lab.agents.agent import Agent
from swebench_lab.agents.configs.models import mini_policy
from swebench_lab.agents.configs.options import Settings
from swebench_lab.agents.configs.sweagent_config import STEPS
from swebench_lab.agents.configs.templates import TemplateFlavour
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import BaseTool, Observation, ToolLimits
from swebench_lab.errors import FormatError
from swebench_lab.policies.policy import Policy
from swebench_lab.records.task import TaskView
from swebench_lab.sandbox.contract import Result, Sandbox

_MARKS = ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "MINI_SWE_AGENT_FINAL_OUTPUT")
_BASH_FENCE = r"```bash\s*\n(.*?)\n```"
_OWN_FENCE = r"```mswea_bash_command\s*\n(.*?)\n```"
_OBSERVATION = (
    "{% if output.exception_info %}<exception>{{output.exception_info}}</exception>\n{% endif %}"
    "<returncode>{{output.returncode}}</returncode>\n<output>\n{{output.output}}</output>"
)
_COMPLAINT = "{{error}} Write exactly one action, in the form that was described."
_OF_TOOL = {
    "type": "object",
    "properties": {"command": {"type": "string", "description": "The bash command to execute."}},
    "required": ["command"],
}


@dataclass(frozen=True)
class MiniBash(BaseTool):
    """Runs each command in a new shell, and hands in what follows the mark of a submission.

    Args:
        interpreter: Program to which the command is the last argument.
        env: Variables of each command.
    """

    interpreter: tuple[str, ...] = ("bash", "-c")
    env: tuple[tuple[str, str], ...] = ()
    name: str = "bash"
    description: str = "Execute a bash command."
    parameters: Mapping[str, Any] = field(default_factory=lambda: _OF_TOOL)

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        """Run `command`."""
        command: str = arguments["command"]
        if "\0" in command:
            raise FormatError("The command holds a NUL character, which no shell can read.")
        result = sandbox.run([*self.interpreter, command], env=dict(self.env), timeout=limits.timeout)
        report = _outcome(result, limits.timeout)
        lines = report["output"].lstrip().splitlines(keepends=True)
        is_final = bool(lines) and lines[0].strip() in _MARKS and result.exit_code == 0
        patch = "".join(lines[1:]) if is_final else ""
        return Observation(
            report["output"],
            command,
            result.exit_code,
            result.timed_out,
            result.limit,
            is_final,
            patch if patch.strip() else None,
            {"output": report},
        )

    def identity(self) -> Mapping[str, Any]:
        """Return how commands are run, as plain JSON values."""
        return {"kind": "mini", "interpreter": self.interpreter, "env": self.env}


def _outcome(result: Result, timeout: float) -> dict[str, Any]:
    """Return how a command ended, as templates name it."""
    code = result.exit_code if result.exit_code is not None else -(result.signal or 1)
    why = ""
    if result.timed_out:
        code, why = -1, f"An error occurred while executing the command: it timed out after {timeout:g} seconds"
    return {"output": result.output, "returncode": code, "exception_info": why}


@dataclass(frozen=True)
class MiniFlavour(TemplateFlavour):
    """Prompts of a mini-swe-agent file.

    Args:
        late: Template for a command that took too long; empty: as for any other.
    """

    late: str = ""

    def show(self, observation: Observation, limit: int, view: TaskView) -> str:
        """Return the message for what a call brought."""
        if observation.timed_out and self.late:
            variables = {**self._variables(view), **observation.facts}
            action = {"action": observation.command, "command": observation.command}
            return self.fill(self.late, {**variables, "action": action, "output": observation.text})
        return super().show(observation, limit, view)


def read(settings: Settings, policy: Policy | None) -> Agent:
    """Return the agent of a file.

    Raises:
        ConfigError: Something cannot be taken over.
    """
    pattern = _pattern(settings)
    own = not pattern
    agent, observation = "agent.", settings.text("model.observation_template", _OBSERVATION)
    system = settings.text(f"{agent}system_template")
    flavour = MiniFlavour(
        settings.name,
        "json" if own else "fenced",
        (),
        system,
        settings.text(f"{agent}instance_template"),
        settings.text(f"{agent}action_observation_template", observation),
        settings.text(f"{agent}format_error_template", settings.text("model.format_error_template", _COMPLAINT)),
        native=system if own else "",
        observation_role="tool" if own else "user",
        kind="mini",
        replies="function_calling" if own else f"regex:{pattern}",
        variables=json.dumps(_variables(settings)),
        calls_shown=own,
        several=own,
        late=settings.text(f"{agent}timeout_template"),
    )
    flavour.opening(TaskView("id", "owner/name", "It breaks."), ())  # a name that is not known is told now
    wall = settings.number(f"{agent}wall_time_limit_seconds")
    bash = MiniBash(_interpreter(settings), _env(settings))
    result = Agent(
        policy or mini_policy(settings, own),
        flavour,
        tools=(bash,),
        max_steps=int(settings.number(f"{agent}step_limit")) or STEPS,
        command_timeout=settings.number("environment.timeout", 30.0),
        max_cost=settings.number(f"{agent}cost_limit", 3.0) or None,
        max_format_errors=int(settings.number(f"{agent}max_consecutive_format_errors", 3)) or 1_000_000,
    )
    return replace(result, wall_time=wall) if wall else result


def _pattern(settings: Settings) -> str:
    """Return the expression by which replies are read; empty: they are tool calls."""
    expression = settings.text("agent.action_regex") or settings.text("model.action_regex")
    if expression:
        return expression
    if settings.get("agent.action_observation_template") is not None:  # only 1.x has it, and its fences
        return _BASH_FENCE
    prompt = settings.text("agent.system_template") + settings.text("agent.instance_template")
    text = settings.text("model.model_class").endswith("textbased") or "```mswea_bash_command" in prompt
    return _OWN_FENCE if text else ""


def _interpreter(settings: Settings) -> tuple[str, ...]:
    parts = settings.strings("environment.interpreter", ("bash", "-c"))
    # A login shell would reset the PATH, on which the task's environment comes first.
    return tuple("-c" if part == "-lc" else part for part in parts if part not in ("-l", "--login"))


def _env(settings: Settings) -> tuple[tuple[str, str], ...]:
    forwarded = {n: os.environ[n] for n in settings.strings("environment.forward_env") if n in os.environ}
    own = {str(name): str(value) for name, value in settings.get("environment.env", {}, dict).items()}
    return tuple({**forwarded, **own}.items())


def _variables(settings: Settings) -> dict[str, Any]:
    """Return what templates may name: the file's own options, and the machine's kind as `uname` tells it."""
    uname = platform.uname()
    machine = {"system": uname.system, "node": "lab", "release": uname.release, "version": uname.version,
               "machine": uname.machine, "processor": uname.processor}  # fmt: skip
    own = {
        **settings.get("agent", {}, dict),
        **settings.get("environment", {}, dict),
        **settings.get("model", {}, dict),
    }
    counts = {"n_model_calls": 0, "model_cost": 0.0, "elapsed_seconds": 0}
    plain = {name: value for name, value in own.items() if not name.endswith("_template")}
    defaults = {"cwd": "/testbed", "timeout": 30, "env": {}, "step_limit": 0, "cost_limit": 3.0, "model_name": ""}
    return {**machine, **counts, **defaults, **plain}
