"""ProgramTool: a tool that is a small Python program executed inside the sandbox.

The program is a stdlib-only source text. It is given one JSON object on its standard input, prints what the policy
shall see, and exits 0 when it did what was asked. Because it runs where the files are, no path, link or file type of
the box can lead it outside, and it works the same on every backend. It runs isolated (`-I -S`): nothing that an
attempt puts into site-packages, the environment or the working directory is imported by it. An attempt that replaces
the interpreter itself changes only what its own box shows it.

Your own tool in a few lines::

    count = ProgramTool(
        name="count_lines",
        description="Count the lines of a file.",
        parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        source='import json, sys; print(sum(1 for _ in open(json.load(sys.stdin)["arguments"]["path"])))',
    )
    agent = Agent(policy, tools=("bash", count, "submit"))
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import BaseTool, Observation, ToolLimits
from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.contract import Sandbox

_RUN = (
    'for python in /usr/bin/python3 /opt/venv/bin/python python3; do command -v "$python" >/dev/null 2>&1 && '
    'exec "$python" -I -S -c "$0"; done; exit 127'
)
"""Start the program with the first interpreter there is: the system's, which an attempt cannot replace, comes first."""


@dataclass(frozen=True)
class ProgramTool(BaseTool):
    """A tool whose calls run a Python program in the sandbox.

    Args:
        name: The name it is called by.
        description: What the system prompt says of it.
        parameters: JSON schema of the arguments.
        source: The program. Its standard input is `{"arguments": {...}, "cwd": "...", "workdir": "...",
            "characters": n}`.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    source: str

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        """Run the program on the arguments.

        Raises:
            SandboxError: The sandbox failed, or holds no Python to run the program with.
        """
        request = {
            "arguments": dict(arguments),
            "cwd": shell.cwd,
            "workdir": sandbox.workdir,
            "characters": limits.characters,
        }
        # Lone surrogates stand for bytes that are no text; JSON's escapes carry them unharmed.
        result = sandbox.run(
            ["/bin/sh", "-c", _RUN, self.source], stdin=json.dumps(request), timeout=limits.timeout, cwd="/"
        )
        if result.exit_code == 127 and not result.stdout:
            raise SandboxError(f"calling {self.name!r}: there is no python3 in the sandbox, so its program cannot run")
        text = result.output.removesuffix("\n")
        if result.timed_out:
            text += f"\n[{self.name} was killed after {limits.timeout:g} seconds]"
        return Observation(text, _command_line(self.name, arguments), result.exit_code, result.timed_out, result.limit)


def _command_line(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the call as one would type it: `name --key value`."""
    words = [f"--{key} {shlex.quote(v if isinstance(v, str) else json.dumps(v))}" for key, v in arguments.items()]
    return " ".join([name, *words])


def program(name: str) -> str:
    """Return the source of one of this package's own programs."""
    return (Path(__file__).parent / "in_sandbox" / f"{name}.py").read_text("utf-8")
