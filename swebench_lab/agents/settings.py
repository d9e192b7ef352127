"""AgentSettings: everything that changes what an attempt does, as one frozen value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from swebench_lab.agents import flavour as flavours
from swebench_lab.agents.flavour import Flavour
from swebench_lab.agents.history import Compaction, HistoryProcessor, KeepObservations
from swebench_lab.agents.tools import by_name
from swebench_lab.agents.tools.program import ProgramTool
from swebench_lab.agents.tools.tool import Setup, Tool
from swebench_lab.policies.policy import Policy
from swebench_lab.records.reply import Message

_OPTIONAL = ("max_cost", "keep_observations", "max_timeouts", "tool_time")
"""Limits that agents have only where they are set."""


@dataclass(frozen=True)
class AgentSettings:
    """The fields of an Agent, whose docstring says what each means.

    Raises:
        ValueError: A limit is not positive, or a flavour or tool is unknown.
    """

    policy: Policy
    flavour: str | Flavour = "xml"
    _: KW_ONLY
    tools: Sequence[str | Tool] = ()
    max_steps: int = 40
    wall_time: float = 1800.0
    command_timeout: float = 60.0
    max_tokens: int | None = None
    max_cost: float | None = None
    max_format_errors: int = 3
    observation_limit: int = 16_000
    max_timeouts: int | None = None
    tool_time: float | None = None
    keep_observations: int | None = None
    history: Sequence[HistoryProcessor] = ()
    setup: Setup | None = None
    reminder: str = ""
    submit_on_limit: bool = True
    keep_layers: bool = True

    def __post_init__(self) -> None:
        for name, value in self.limits().items():
            if value is not None and value <= 0:
                raise ValueError(f"making an Agent: {name}={value!r} must be positive")
        if sum(isinstance(processor, Compaction) for processor in self.history) > 1:
            raise ValueError("making an Agent: history holds more than one Compaction")
        _ = self.resolved_tools  # an unknown name is an error now, not at the first attempt

    @property
    def resolved_flavour(self) -> Flavour:
        """The flavour itself, where it was given by name."""
        return flavours.resolve(self.flavour)

    @property
    def resolved_tools(self) -> tuple[Tool, ...]:
        """The tools themselves: those given, or the flavour's."""
        return by_name.resolve(self.tools or self.resolved_flavour.tools)

    def view(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return a conversation as the policy sees it: with old observations cut to a line, if so set."""
        for processor in self._processors():
            messages = processor(messages)
        return messages

    @property
    def compaction(self) -> Compaction | None:
        """When the policy is asked to sum up what was said; None: never."""
        return next((processor for processor in self.history if isinstance(processor, Compaction)), None)

    def _processors(self) -> Sequence[HistoryProcessor]:
        latest = (KeepObservations(self.keep_observations),) if self.keep_observations is not None else ()
        return (*latest, *self.history)

    @property
    def fingerprint(self) -> str:
        """A stable hash over all that changes an attempt: prompts, tools, limits and the policy's fingerprint."""
        parts = {
            "flavour": self.resolved_flavour.identity(),
            "tools": [_identity(tool) for tool in self.resolved_tools],
            "limits": self.limits(),
            "submit_on_limit": self.submit_on_limit,
            "policy": self.policy.fingerprint,
            **({"reminder": self.reminder} if self.reminder else {}),
            **({"history": [processor.identity() for processor in self.history]} if self.history else {}),
            **({"setup": self.setup.identity()} if self.setup else {}),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def limits(self) -> dict[str, float | None]:
        """Return the limits by name; those that few agents have, only where they are set."""
        return {
            "max_steps": self.max_steps,
            "wall_time": self.wall_time,
            "command_timeout": self.command_timeout,
            "max_tokens": self.max_tokens,
            "max_format_errors": self.max_format_errors,
            "observation_limit": self.observation_limit,
            **{name: value for name in _OPTIONAL if (value := getattr(self, name)) is not None},
        }


def _identity(tool: Tool) -> dict[str, Any]:
    """Return what makes a tool do what it does, as plain JSON values."""
    source = tool.source if isinstance(tool, ProgramTool) else f"{type(tool).__module__}.{type(tool).__qualname__}"
    facts = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters), "source": source}
    more = tool.identity()
    return {**facts, "identity": more} if more else facts
