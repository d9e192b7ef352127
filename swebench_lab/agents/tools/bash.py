"""The `bash` and `submit` tools: run a command in the attempt's shell, and hand the work in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import BaseTool, Observation, ToolLimits
from swebench_lab.errors import FormatError
from swebench_lab.formats.shell_text import programs
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
        if program := full_screen(command):
            return Observation(refusal(program), command, _REFUSED)
        result = shell.run(command, timeout=limits.timeout)
        ending = "\n".join(filter(None, [_ending(result, limits.timeout, shell), shell.new_shell]))
        output = readable(result.output)
        text = f"{output}{'' if output.endswith(chr(10)) or not output else chr(10)}{ending}"
        return Observation(text, command, result.exit_code, result.timed_out, result.limit)


def _ending(result: Result, timeout: float, shell: Shell) -> str:
    """Return the line under the output that says how the command ended."""
    open_still = "" if shell.new_shell else f"; the shell is open in {shell.cwd}"
    if result.timed_out:
        return f"[killed after {timeout:g} seconds, with all it had started{open_still}]"
    if result.limit:
        return f"[stopped by the sandbox's limit on {result.limit}; exit code {result.exit_code}]"
    if result.exit_code is None:
        return f"[killed by signal {result.signal}{open_still}]"
    return f"[exit code {result.exit_code}]"


_REFUSED = 126
"""What a shell reports of a command that it found and could not run."""

_BATCH = ("--version", "--help", "-h", "--batch", "-batch", "--headless", "--script", "-Q")
_INSTEAD = {
    "edit files with commands such as `sed`, a here-document or a short script": (
        ["vi", "vim", "nvim", "gvim", "vimdiff", "emacs", "nano", "pico", "joe", "micro", "mcedit"]
    ),
    "print what you want to see with `cat`, `head`, `tail` or `sed -n`": ["less", "more", "most", "lv"],
    "take one look with `ps aux` or `free`": ["top", "htop", "btop", "atop", "iotop", "nmon", "watch"],
    "start what shall run on with `&` and its output in a file": ["tmux", "screen", "byobu"],
    "use plain commands": ["mc", "ranger", "tig", "lazygit", "ncdu", "nmtui", "dialog", "whiptail"],
}
_ADVICE = {program: advice for advice, group in _INSTEAD.items() for program in group}
"""Full-screen program to what does its work without a terminal."""


def full_screen(command: str) -> str:
    """Return the first program of a command that would take over a terminal, which there is none of; empty: none."""
    for program, arguments in programs(command):
        if program in _ADVICE and not _in_batch(program, arguments):
            return program
    return ""


def _in_batch(program: str, arguments: Sequence[str]) -> bool:
    """Say whether a program is asked to do its work without a terminal."""
    short = "".join(word[1:] for word in arguments if re.fullmatch("-[A-Za-z]+", word))
    plain = any(word.split("=")[0] in _BATCH for word in arguments)
    return plain or (program in ("top", "atop") and "b" in short) or (program in ("vim", "nvim", "vi") and "s" in short)


def refusal(program: str) -> str:
    """Return what is shown in place of a full-screen program's output."""
    return (
        f"{program} takes over a terminal, and there is none here, so nothing was run; {_ADVICE[program]}.\n"
        f"[exit code {_REFUSED}]"
    )


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
