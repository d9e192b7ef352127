"""Commands: programs that a model may call, with the schema and the documentation it is shown and the line they become."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Template

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_FIELDS = ("name", "type", "items", "description", "required", "enum", "argument_format")


@dataclass(frozen=True)
class Argument:
    """One argument of a command.

    Args:
        name: Its name.
        type: Its type, as JSON schema has it.
        description: What it is.
        required: Whether it must be given.
        enum: The values there are; empty: any.
        items: Type of a list's items; empty: not said.
        form: Template of what stands on the line; `value` is the argument, quoted for the shell if it is a text.
    """

    name: str
    type: str = "string"
    description: str = ""
    required: bool = True
    enum: tuple[str, ...] = ()
    items: str = ""
    form: str = "{{value}}"

    def schema(self) -> dict[str, Any]:
        """Return its JSON schema."""
        found: dict[str, Any] = {"type": self.type, "description": self.description}
        if self.items:
            found["items"] = {"type": self.items}
        if self.enum:
            found["enum"] = list(self.enum)
        return found


@dataclass(frozen=True)
class Command:
    """Something a model may call, which is a line of the shell.

    Args:
        name: Its name.
        docstring: What it does.
        signature: How it is called, in words; `<name>` stands for an argument.
        end_name: Line that ends it, for commands of several lines.
        arguments: Its arguments, in order.
    """

    name: str
    docstring: str = ""
    signature: str = ""
    end_name: str = ""
    arguments: tuple[Argument, ...] = ()

    def parameters(self) -> dict[str, Any]:
        """Return the JSON schema of a call's arguments."""
        return {
            "type": "object",
            "properties": {argument.name: argument.schema() for argument in self.arguments},
            "required": [argument.name for argument in self.arguments if argument.required],
        }

    @property
    def invocation(self) -> str:
        """The line with a name in braces for each argument."""
        if self.signature:
            return re.sub(rf"\[?<({_NAME})>\]?", r"{\1}", self.signature)
        return " ".join([self.name, *(f"{{{argument.name}}}" for argument in self.arguments)])

    def line(self, values: Mapping[str, Any]) -> str:
        """Return the line of the shell that a call becomes.

        Args:
            values: Arguments in their own types.
        """
        quoted = self.name != "bash" and not self.end_name
        fields = {
            argument.name: _template(argument.form).render(value=_write(values[argument.name], quoted))
            if argument.name in values
            else ""
            for argument in self.arguments
        }
        return self.invocation.format(**fields).strip()

    def documentation(self, variables: Mapping[str, Any]) -> str:
        """Return what prompts say of it.

        Args:
            variables: What may stand in braces in the docstring.

        Raises:
            ConfigError: The docstring names something else.
        """
        try:
            docstring = self.docstring.format(**variables)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"the docstring of {self.name!r} names {error} in braces, which is not set") from error
        lines = [f"{self.name}:"]
        if self.docstring:
            lines.append(f"  docstring: {docstring}")
        lines.append(f"  signature: {self.signature or self._signature()}")
        if self.arguments:
            lines.append("  arguments:")
            lines += [
                f"    - {a.name} ({a.type}) [{'required' if a.required else 'optional'}]: {a.description}"
                for a in self.arguments
            ]
        return "\n".join(lines) + "\n\n"

    def _signature(self) -> str:
        parts = [f"<{a.name}>" if a.required else f"[<{a.name}>]" for a in self.arguments]
        if self.end_name and parts:
            return " ".join([self.name, *parts[:-1]]) + f"\n{self.arguments[-1].name}\n{self.end_name}"
        return " ".join([self.name, *parts])


BASH = Command(
    "bash",
    "runs the given command directly in bash",
    "<command>",
    arguments=(Argument("command", "string", "The bash command to execute."),),
)


def command_of(name: str, values: Mapping[str, Any], where: str) -> Command:
    """Return a command as a bundle's `config.yaml` describes it.

    Raises:
        ConfigError: A key is unknown, a type is none, or arguments and signature do not fit each other.
    """
    keys = ("docstring", "signature", "end_name", "arguments")
    if unknown := sorted(set(values) - set(keys)):
        raise ConfigError(f"{where}, tool {name!r}: unknown key {unknown[0]!r}; there are {', '.join(keys)}")
    arguments = tuple(_argument(item, f"{where}, tool {name!r}") for item in values.get("arguments") or ())
    command = Command(
        name,
        str(values.get("docstring") or ""),
        str(values.get("signature") or ""),
        str(values.get("end_name") or ""),
        arguments,
    )
    fields = {field for _, field, _, _ in string.Formatter().parse(command.invocation) if field is not None}
    if fields != {argument.name for argument in arguments}:
        raise ConfigError(
            f"{where}, tool {name!r}: its signature names {sorted(fields)}, its arguments are "
            f"{sorted(argument.name for argument in arguments)}"
        )
    return command


def _argument(values: Any, where: str) -> Argument:
    if not isinstance(values, Mapping) or "name" not in values:
        raise ConfigError(f"{where}: an argument is a mapping with a name, not {values!r}")
    if unknown := sorted(set(values) - set(_FIELDS)):
        raise ConfigError(f"{where}, argument {values['name']!r}: unknown key {unknown[0]!r}")
    kind = str(values.get("type", "string"))
    if kind not in _TYPES:
        raise ConfigError(f"{where}, argument {values['name']!r}: type {kind!r} is none of {', '.join(_TYPES)}")
    items = values.get("items") or {}
    return Argument(
        str(values["name"]),
        kind,
        str(values.get("description", "")),
        bool(values.get("required", True)),
        tuple(str(choice) for choice in values.get("enum") or ()),
        str(items.get("type", "")) if isinstance(items, Mapping) else "",
        str(values.get("argument_format", "{{value}}")),
    )


def documentation(commands: Iterable[Command], variables: Mapping[str, Any]) -> str:
    """Return what prompts say of several commands."""
    return "".join(command.documentation(variables) for command in commands)


def _write(value: Any, quoted: bool) -> Any:
    if value is None:
        return ""
    return shlex.quote(value) if quoted and isinstance(value, str) else value


@lru_cache(maxsize=1024)
def _template(form: str) -> Template:
    from swebench_lab.agents.configs.templates import template

    return template(form)
