"""TemplateFlavour: a flavour whose prompts are another program's templates, filled in as that program does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from swebench_lab.agents.configs.replies import reader
from swebench_lab.agents.flavour import Flavour
from swebench_lab.agents.tools.tool import Observation, Tool
from swebench_lab.errors import ConfigError, FormatError
from swebench_lab.formats.calls import Call
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import TaskView

if TYPE_CHECKING:
    from jinja2 import Template


@lru_cache(maxsize=1024)
def template(text: str, strict: bool = False) -> Template:
    """Return a Jinja template that can reach nothing but what it is given.

    Raises:
        ConfigError: It is no template.
    """
    from jinja2 import StrictUndefined, TemplateError, Undefined
    from jinja2.sandbox import SandboxedEnvironment

    try:
        return SandboxedEnvironment(undefined=StrictUndefined if strict else Undefined).from_string(text)
    except TemplateError as error:
        raise ConfigError(f"a template cannot be read: {error}: {text[:80]!r}") from error


@dataclass(frozen=True)
class TemplateFlavour(Flavour):
    """Prompts and a call format of another program's configuration.

    Args:
        kind: Whose: `swe-agent` or `mini` (what is not known is an error).
        replies: How replies are read: a name in `replies.READERS`, or `regex:` and an expression.
        strategy: Template of what follows the task; empty: nothing.
        demonstrations: Messages before the task, as they are shown.
        demonstration_turns: Messages of recorded attempts before the task, each with its role and its text.
        no_output: Template for a call that brought no text.
        truncated: Template for a call that brought more than is shown.
        blocked: Template for a command that is not allowed.
        syntax: Template for a command that bash cannot read.
        variables: What templates may name besides, as JSON.
        system_role: Role of the system prompt.
        calls_shown: Whether the policy has to show the tools to its model.
    """

    kind: str = "swe-agent"
    replies: str = "thought_action"
    strategy: str = ""
    demonstrations: tuple[str, ...] = ()
    demonstration_turns: tuple[tuple[str, str], ...] = ()
    no_output: str = ""
    truncated: str = ""
    blocked: str = ""
    syntax: str = ""
    variables: str = "{}"
    system_role: str = "system"
    calls_shown: bool = False

    def __post_init__(self) -> None:
        reader(self.replies)
        for text in (self.system, self.instance, self.observation, self.format_error, self.no_output, self.truncated):
            template(text, self.kind == "mini")

    @property
    def needs_tools_shown(self) -> bool:
        """Whether the prompts say nothing of the tools."""
        return self.calls_shown

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes what the policy is shown and how it is read, as plain JSON values."""
        return {name: value for name, value in super().identity().items() if name != "demonstration_turns" or value}

    def parse(self, text: str) -> Call:
        """Read the call of a reply as the other program does; raises FormatError."""
        return reader(self.replies).read(text)

    def render(self, call: Call) -> str:
        """Write a call as `parse` reads it; raises FormatError where it cannot be written."""
        return reader(self.replies).write(call)

    def opening(
        self, view: TaskView, tools: Sequence[Tool], shown: bool = False, facts: Mapping[str, Any] | None = None
    ) -> tuple[Message, ...]:
        """Return system prompt, demonstrations and task."""
        variables = {**self._variables(view), **(facts or {})}
        task = [self.fill(part, variables) for part in (self.instance, self.strategy) if part]
        demonstrations: list[Message] = [{"role": "user", "content": text} for text in self.demonstrations]
        for role, text in self.demonstration_turns:
            demonstrations.append({"role": role, "content": text, "demonstration": True})
        return (
            {"role": self.system_role, "content": self.fill(self.system, variables)},
            *demonstrations,
            {"role": "user", "content": "\n".join(task)},
        )

    def show(self, observation: Observation, limit: int, view: TaskView) -> str:
        """Return the message for what a call brought, from the template for its length."""
        text = observation.text
        variables = {
            **self._variables(view),
            **observation.facts,
            "observation": text,
            "elided_chars": max(0, len(text) - limit),
            "max_observation_length": limit,
        }
        if self.kind == "mini":
            return self.fill(self.observation, variables)
        if not text.strip():
            return self.fill(self.no_output, variables)
        return self.fill(self.truncated if len(text) > limit else self.observation, variables)

    def correct(
        self, error: FormatError, tools: Sequence[Tool], view: TaskView | None = None, reply: Reply | None = None
    ) -> str:
        """Return the message for a reply that could not be carried out, from the template for the mistake."""
        variables: dict[str, Any] = {
            **(self._variables(view) if view else {}),
            **error.facts,
            "exception_message": str(error),
            "error": str(error),
            "output": reply.text if reply else "",
            "finish_reason": reply.finish_reason if reply else "",
            "has_tool_calls": error.code not in ("", "missing"),
            "actions": [""] * int(error.facts.get("count", "0")),
        }
        if error.code:
            variables["error_code"] = error.code
        frame = {"blocked": self.blocked, "syntax": self.syntax}.get(error.code, self.format_error)
        return self.fill(frame or self.format_error, variables)

    def fill(self, text: str, variables: Mapping[str, Any]) -> str:
        """Fill a template in.

        Raises:
            ConfigError: It names something that is not known, or fails.
        """
        from jinja2 import TemplateError

        try:
            return template(text, self.kind == "mini").render(variables)
        except (TemplateError, TypeError, ValueError) as error:
            raise ConfigError(f"flavour {self.name!r}, template {text[:80]!r}: {error}") from error

    def _variables(self, view: TaskView) -> dict[str, Any]:
        """Return what every template may name."""
        fixed: dict[str, Any] = json.loads(self.variables)
        return {
            "working_dir": view.workdir,
            **fixed,
            "problem_statement": view.issue,
            "issue": view.issue,
            "task": view.issue,
            "repo": view.workdir.strip("/"),
        }
