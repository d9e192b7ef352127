"""Tool: something an agent may call in its sandbox, with one schema for prompts, checks and endpoints.

A tool is a small value without state; what it does happens inside the sandbox. The schema in `parameters` is the one
source of what a call may hold: the system prompt is written from it, and every call is checked against it. Your own
tool is a `ProgramTool` (see `program.py`), or inherits from `BaseTool` and has a name, a description, parameters and
`call`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from swebench_lab.agents.tools.shell import Shell
from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import JsonValue
from swebench_lab.records.task import TaskView
from swebench_lab.sandbox.contract import Sandbox


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What one call may take.

    Args:
        timeout: Seconds until the command is killed.
        characters: Length from which on a tool should shorten what it shows; the agent cuts what is longer.
    """

    timeout: float = 60.0
    characters: int = 16_000


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tool call brought.

    Args:
        text: What the policy is shown, before the flavour frames it and the agent cuts it.
        command: The call as one would type it in a shell, for reading.
        exit_code: Exit code of what ran; None when it was killed or nothing ran.
        timed_out: Whether it was killed by its timeout.
        limit: Name of the sandbox limit that was hit, or empty.
        done: Whether the attempt is handed in by this call.
        patch: What is handed in, where the call itself says so; None: what was changed in the repository.
        facts: What else a flavour's templates may show.
    """

    text: str
    command: str = ""
    exit_code: int | None = None
    timed_out: bool = False
    limit: str = ""
    done: bool = False
    patch: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)


@runtime_checkable
class Tool(Protocol):
    """What the agent needs of a tool."""

    @property
    def name(self) -> str:
        """The name it is called by."""
        ...

    @property
    def description(self) -> str:
        """What the system prompt says of it."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of the arguments: an object with `properties` and `required`."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return what else changes what a call does, as plain JSON values, for the agent's fingerprint."""
        ...

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        """Carry out one call.

        Args:
            sandbox: The attempt's sandbox.
            shell: The attempt's persistent shell; its `cwd` is where relative paths start.
            arguments: Values that fit the schema, in their own types.
            limits: What the call may take.

        Raises:
            FormatError: The arguments fit the schema but not each other; nothing was done.
            SandboxError: The sandbox failed.
        """
        ...


class BaseTool:
    """Defaults of the members that few tools define themselves."""

    def identity(self) -> Mapping[str, Any]:
        """Return nothing: name, description, parameters and type say all that the tool does."""
        return {}


@runtime_checkable
class Setup(Protocol):
    """What is done in a sandbox before the policy is first asked, such as installing programs."""

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes what is done, as plain JSON values."""
        ...

    def prepare(self, sandbox: Sandbox, shell: Shell, view: TaskView, resumed: bool) -> Mapping[str, Any]:
        """Prepare an open sandbox.

        Args:
            sandbox: The attempt's sandbox.
            shell: The attempt's persistent shell.
            view: What may be known of the task.
            resumed: Whether the attempt goes on from steps made before, whose traces the sandbox holds.

        Returns:
            What the opening's templates may show.

        Raises:
            SandboxError: It could not be done.
        """
        ...


def read_arguments(tool: Tool, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return a call's arguments in the types that the tool's schema gives them.

    A JSON null is a parameter that is not given, as endpoints with strict schemas write it.

    Args:
        tool: The called tool.
        arguments: Parameter to value, as text.

    Raises:
        FormatError: A parameter is unknown, missing, or not of its type; the message says what to write.
    """
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters.get("properties", {})
    given = {key: value for key, value in arguments.items() if not (isinstance(value, JsonValue) and value == "null")}
    for key in given:
        if key not in properties:
            names = ", ".join(properties) or "none"
            raise FormatError(f"The function {tool.name!r} has no parameter {key!r}; its parameters are: {names}.")
    for key in tool.parameters.get("required", ()):
        if key not in given:
            raise FormatError(f"The function {tool.name!r} needs the parameter {key!r}.")
    return {key: _convert(value, properties[key], f"{tool.name}.{key}") for key, value in given.items()}


_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _whole(value: Any) -> Any:
    """Return whole numbers as such that an endpoint wrote with a decimal point, also those of a list."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _convert(value: str, schema: Mapping[str, Any], where: str) -> Any:
    kind = schema.get("type", "string")
    if kind == "string":
        if isinstance(value, JsonValue):
            raise FormatError(f"The parameter {where} must be a string, not {value[:60]}.")
        return _check_choice(value, schema, where)
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = None
    if kind in ("integer", "array"):
        read = _whole(read)
    fits = isinstance(read, _TYPES[kind]) and (kind == "boolean" or not isinstance(read, bool))
    if not fits:
        raise FormatError(f"The parameter {where} must be of type {kind}, not {value.strip()[:60]!r}.")
    if kind == "array":
        items = schema.get("items", {}).get("type", "")
        if items in _TYPES and not all(isinstance(i, _TYPES[items]) and not isinstance(i, bool) for i in read):
            raise FormatError(f"The parameter {where} must be an array of {items}s, not {value.strip()[:60]!r}.")
        low, high = schema.get("minItems", 0), schema.get("maxItems", len(read))
        if not low <= len(read) <= high:
            raise FormatError(f"The parameter {where} must have {low} to {high} items, not {len(read)}.")
    return read


def _check_choice(value: str, schema: Mapping[str, Any], where: str) -> str:
    choices = schema.get("enum")
    if choices is None:
        return value
    if value.strip() not in choices:
        raise FormatError(f"The parameter {where} must be one of {', '.join(choices)}, not {value.strip()[:60]!r}.")
    return value.strip()


def describe(tool: Tool) -> str:
    """Return what a system prompt says of a tool: its name, what it does, and its parameters."""
    required = tool.parameters.get("required", ())
    lines = [f"### {tool.name}", tool.description.strip(), ""]
    for key, schema in tool.parameters.get("properties", {}).items():
        kind = schema.get("type", "string")
        need = "required" if key in required else "optional"
        choices = f" One of: {', '.join(schema['enum'])}." if "enum" in schema else ""
        lines.append(f"- `{key}` ({kind}, {need}): {schema.get('description', '')}{choices}")
    if not tool.parameters.get("properties"):
        lines.append("It takes no parameters.")
    return "\n".join(lines)


def offered(tools: Iterable[Tool]) -> tuple[dict[str, Any], ...]:
    """Return the schemas of the tools that a model is offered."""
    return tuple(json_schema(tool) for tool in tools)


def json_schema(tool: Tool) -> dict[str, Any]:
    """Return a tool as endpoints with tool calls want it: `{"type": "function", "function": {...}}`."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
