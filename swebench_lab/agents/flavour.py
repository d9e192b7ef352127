"""Flavour: how an agent speaks: its prompts, how its calls are read, and how observations are shown.

A flavour is a folder of four small text files (`system.md`, `instance.md`, `observation.md`, `format_error.md`), a
call format and a list of tools. Names in double braces are filled in; an unknown or unfilled one is an error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from swebench_lab.agents.tools.tool import Observation, Tool, describe
from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import FORMATS, Call, parse_json_calls
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import TaskView

_FILES = {
    "system": {"tools", "names", "workdir"},
    "instance": {"issue", "workdir", "repo", "id", "names"},
    "observation": {"observation"},
    "format_error": {"problem", "names"},
}
"""Each prompt file and the names that may be filled in there."""

_NATIVE = {"names", "workdir"}
"""What may be filled in in the optional file `native.md`."""

_EDITING = ("bash", "str_replace_editor", "submit")
_DEFAULTS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "xml": ("xml", _EDITING, "user"),
    "mini": ("fenced", ("bash", "submit"), "user"),
    "tool-calling": ("json", _EDITING, "tool"),
    "parallel-calling": ("json", _EDITING, "tool"),
    "coder": ("coder", _EDITING, "tool"),
    "micro": ("line", ("view", "sub", "submit"), "user"),
}
"""This package's flavours: call format, tools, and the role of observations."""


@dataclass(frozen=True)
class Flavour:
    """Prompts and a call format.

    Args:
        name: What records call it.
        call_format: Name of the call format: `xml`, `coder`, `json`, `fenced` or `ticks`.
        tools: Names of the tools an agent of this flavour has unless it is given others.
        system: Template of the system prompt.
        instance: Template of the message that states the task.
        observation: Template around what a call brought.
        format_error: Template of what is shown when a reply cannot be read as a call.
        native: Template of the system prompt for policies that show the tools to their model in its own way, as chat
            templates and endpoints with tool calls do; empty: the tools are always part of the system prompt.
        observation_role: Role of the messages that show what a call brought: `user`, or `tool`.
        several: Whether a reply may make several calls, which run one after the other; for the call format `json`.
    """

    name: str
    call_format: str
    tools: tuple[str, ...]
    system: str
    instance: str
    observation: str
    format_error: str
    native: str = ""
    observation_role: str = "user"
    several: bool = False

    def __post_init__(self) -> None:
        if self.call_format not in FORMATS:
            formats = ", ".join(FORMATS)
            raise ValueError(f"flavour {self.name!r}: unknown call format {self.call_format!r}; known are {formats}")
        if self.observation_role not in ("user", "tool"):
            raise ValueError(
                f"flavour {self.name!r}: observation_role must be user or tool, not {self.observation_role!r}"
            )
        if self.several and (self.call_format, self.observation_role) != ("json", "tool"):
            raise ValueError(
                f"flavour {self.name!r}: several calls in a reply need the call format json and observation_role='tool', "
                f"not {self.call_format!r} and {self.observation_role!r}"
            )
        for part, allowed in {**_FILES, "native": _NATIVE}.items():
            if unknown := sorted(set(_names(getattr(self, part))) - allowed):
                raise ValueError(
                    f"flavour {self.name!r}, {part}: nothing is known by the name {{{{{unknown[0]}}}}}; "
                    f"there are {', '.join(sorted(allowed))}"
                )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        call_format: str = "xml",
        tools: Sequence[str] = _EDITING,
        observation_role: str = "user",
        several: bool = False,
    ) -> Flavour:
        """Read a flavour of your own from a folder with its four prompt files, and `native.md` if there is one.

        Raises:
            ValueError: A file is missing, or names something that is not known.
        """
        path = Path(folder)
        role = observation_role
        return cls(path.name, call_format, tuple(tools), **_read(path), observation_role=role, several=several)

    def parse(self, text: str) -> Call:
        """Read the one call of a reply; raises FormatError."""
        return FORMATS[self.call_format].parse(text)

    def read(self, text: str) -> list[Call]:
        """Read the calls of a reply: one, or where the flavour has several, all of them; raises FormatError."""
        try:
            return [self.parse(text)]
        except FormatError:
            calls = parse_json_calls(text) if self.several and text.count("<tool_call>") > 1 else []
            if len(calls) < 2:
                raise
            return calls

    def render(self, call: Call) -> str:
        """Write a call as `parse` reads it; raises FormatError where the format cannot hold it."""
        return FORMATS[self.call_format].render(call)

    @property
    def needs_tools_shown(self) -> bool:
        """Whether the prompts say nothing of the tools, so that the policy has to show them itself."""
        return False

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes what the policy is shown and how it is read, as plain JSON values."""
        return {name: value for name, value in vars(self).items() if name != "several" or value}

    def opening(
        self, view: TaskView, tools: Sequence[Tool], shown: bool = False, facts: Mapping[str, Any] | None = None
    ) -> tuple[Message, ...]:
        """Return the messages before the first reply: the system prompt and the task.

        Args:
            view: What may be known of the task.
            tools: What may be called.
            shown: Whether the policy shows the tools to its model itself.
            facts: What the agent's setup found in the sandbox.
        """
        names = ", ".join(f"`{tool.name}`" for tool in tools)
        about = "\n\n".join(describe(tool) for tool in tools)
        system = self.native if shown and self.native else self.system
        system = _fill(system, tools=about, names=names, workdir=view.workdir)
        instance = _fill(
            self.instance, issue=view.issue.strip(), workdir=view.workdir, repo=view.repo, id=view.id, names=names
        )
        return ({"role": "system", "content": system}, {"role": "user", "content": instance})

    def observe(self, text: str) -> str:
        """Return the message that shows what a call brought."""
        return _fill(self.observation, observation=text)

    def show(self, observation: Observation, limit: int, view: TaskView) -> str:
        """Return the message that shows what a call brought, its head and tail if it is longer than the limit.

        Args:
            observation: What the call brought.
            limit: Characters that are shown.
            view: What may be known of the task.
        """
        return self.observe(clip(observation.text, limit))

    def correct(
        self, error: FormatError, tools: Sequence[Tool], view: TaskView | None = None, reply: Reply | None = None
    ) -> str:
        """Return the message that asks for a well-formed reply.

        Args:
            error: What is wrong.
            tools: What may be called.
            view: What may be known of the task.
            reply: What was said.
        """
        return _fill(self.format_error, problem=str(error), names=", ".join(f"`{tool.name}`" for tool in tools))

    def __repr__(self) -> str:
        return f"Flavour({self.name!r}, {self.call_format!r}, tools={', '.join(self.tools)})"


def clip(text: str, limit: int) -> str:
    """Return a text of at most about `limit` characters: its head and its tail, and between them what was left out."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit - limit // 2], text[len(text) - limit // 2 :]
    left_out = len(text) - limit
    return (
        f"{head}\n[... {left_out} characters are left out here; "
        f"to see them, write the output to a file and look at a part of it ...]\n{tail}"
    )


_NAME = re.compile(r"\{\{(\w+)\}\}")


def _names(template: str) -> list[str]:
    return _NAME.findall(template)


def _fill(template: str, **values: str) -> str:
    """Put values into a template, in one pass: braces inside a value stay as they are."""
    return _NAME.sub(lambda match: values[match[1]], template)


def _read(folder: Traversable) -> dict[str, Any]:
    prompts: dict[str, Any] = {}
    for part in _FILES:
        file = folder / f"{part}.md"
        if not file.is_file():
            names = ", ".join(f"{name}.md" for name in _FILES)
            raise ValueError(f"reading a flavour: {file} is missing; a flavour has {names}")
        prompts[part] = file.read_text(encoding="utf-8").removesuffix("\n")
    native = folder / "native.md"
    return {**prompts, "native": native.read_text(encoding="utf-8").removesuffix("\n") if native.is_file() else ""}


def resolve(flavour: str | Flavour) -> Flavour:
    """Return a flavour by name, or the given one.

    Raises:
        ValueError: There is no flavour of this name.
    """
    return flavour if isinstance(flavour, Flavour) else _builtin(flavour)


@functools.lru_cache
def _builtin(flavour: str) -> Flavour:
    if flavour not in _DEFAULTS:
        names = ", ".join(_DEFAULTS)
        raise ValueError(f"there is no flavour {flavour!r}; known are {names}, and Flavour.load(folder) reads your own")
    call_format, tools, role = _DEFAULTS[flavour]
    folder = files("swebench_lab") / "agents" / "prompts" / flavour
    several = flavour == "parallel-calling"
    return Flavour(flavour, call_format, tools, **_read(folder), observation_role=role, several=several)
