"""The `bash` and `submit` tools: run a command in the attempt's shell, and hand the work in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import BaseTool, Observation, ToolLimits
from swebench_lab.errors import FormatError
from swebench_lab.sandbox.contract import Result, Sandbox

_BASH = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "description": "The command, or several lines of them, as bash reads them."}
    },
    "required": ["command"],
}


@dataclass(frozen=True)
class BashTool(BaseTool):
    """Runs a command in the attempt's persistent shell; stdout and stderr come back as one text."""

    name: str = "bash"
    description: str = (
        "Run a bash command. The shell stays open between calls: the working directory, variables and functions "
        "last. Output and errors come back together, followed by the exit code. A command that takes too long is "
        "killed; start nothing that waits for input or never ends."
    )
    parameters: Mapping[str, Any] = field(default_factory=lambda: _BASH)

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        """Run `command`, and say how it ended."""
        command: str = arguments["command"]
        if "\0" in command:
            raise FormatError("The command holds a NUL character, which no shell can read.")
        result = shell.run(command, timeout=limits.timeout)
        ending = _ending(result, limits.timeout, shell.cwd)
        output = readable(result.output)
        text = f"{output}{'' if output.endswith(chr(10)) or not output else chr(10)}{ending}"
        return Observation(text, command, result.exit_code, result.timed_out, result.limit)


def _ending(result: Result, timeout: float, cwd: str) -> str:
    """Return the line under the output that says how the command ended."""
    if result.timed_out:
        return f"[killed after {timeout:g} seconds, with all it had started; the shell is open in {cwd}]"
    if result.limit:
        return f"[stopped by the sandbox's limit on {result.limit}; exit code {result.exit_code}]"
    if result.exit_code is None:
        return f"[killed by signal {result.signal}; the shell is open in {cwd}]"
    return f"[exit code {result.exit_code}]"


_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def readable(output: str) -> str:
    """Take out terminal escapes and NULs, which mean nothing to a reader of text."""
    return _ESCAPE.sub("", output).replace("\0", "")


@dataclass(frozen=True)
class SubmitTool(BaseTool):
    """Hands the work in: the changes in the repository become the attempt's patch."""

    name: str = "submit"
    description: str = "Hand in your work: the changes in the repository as they are now. This ends the attempt."
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}, "required": []})

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        """End the attempt."""
        return Observation("The work is handed in.", "submit", 0, done=True)
