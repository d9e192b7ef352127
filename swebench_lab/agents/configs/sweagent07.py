"""SWE-agent 0.x: its flat configuration file, with command files instead of bundles, as an Agent."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.agents.agent import Agent
from swebench_lab.agents.configs.bundle_commands import BASH, Argument, Command, documentation
from swebench_lab.agents.configs.bundle_tools import CommandTool, Kit, exports
from swebench_lab.agents.configs.bundles import File, packed
from swebench_lab.agents.configs.options import Settings
from swebench_lab.agents.configs.replies import READERS
from swebench_lab.agents.configs.sweagent_config import ELIDED, STEPS, demonstration
from swebench_lab.agents.configs.templates import TemplateFlavour
from swebench_lab.agents.history import CloseWindows, HistoryProcessor, KeepObservations
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import Observation
from swebench_lab.errors import ConfigError, SandboxUnavailable
from swebench_lab.policies.policy import Policy
from swebench_lab.records.task import TaskView
from swebench_lab.sandbox.contract import Sandbox

_FOLDER = "/root/commands"
_SUBMISSION = re.compile(r"<<SUBMISSION\|\|(.*)\|\|SUBMISSION>>", re.DOTALL)
_PARSERS = {"ThoughtActionParser": "thought_action", "XMLThoughtActionParser": "xml_thought_action"}
_DOCUMENTED = re.compile(r"^# @yaml\n((?:#.*\n)+)(?:\s*(\w+)\(\)\s*\{)?", re.MULTILINE)
_BLOCKED = ("vim", "vi", "emacs", "nano", "nohup", "git", "gdb")
_BLOCKED_ALONE = ("python", "python3", "ipython", "bash", "sh", "exit", "/bin/bash", "/bin/sh", "nohup", "vi", "vim",
                  "emacs", "nano")  # fmt: skip
_COMPLAINT = "The reply could not be read. Write what you think, and then exactly one command; nothing was run."


@dataclass(frozen=True)
class CommandFiles(Kit):
    """Command files in a sandbox: shell functions that are sourced, and programs on the PATH.

    Args:
        files: The files.
        state_name: Function that prints the tools' state as JSON; empty: none.
        state_code: Its text.
    """

    files: tuple[File, ...] = ()
    state_name: str = ""
    state_code: str = ""

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes what is done, every file included."""
        files = [[file.path, file.content.decode("utf-8", "backslashreplace")] for file in self.files]
        return {**super().identity(), "files": files}

    def prepare(self, sandbox: Sandbox, shell: Shell, view: TaskView, resumed: bool) -> Mapping[str, Any]:
        """Copy the files in, unwritable, and source them in the attempt's shell; a new shell forgets functions."""
        if sandbox.tier in ("landlock", "local"):
            raise SandboxUnavailable(
                f"installing command files in a sandbox of the kind {sandbox.tier!r}: they keep files below /root, "
                "which such a sandbox shares with this machine; use the backend 'namespace' or 'docker'"
            )
        pack = packed({"commands": self.files})
        self.done(sandbox.run(["sh", "-c", "exec tar -xpf - --no-same-owner -C /root"], stdin=pack), "copying files")
        if not resumed:
            values = {**dict(self.env), "ROOT": sandbox.workdir}
            self.must(shell, exports({"SWE_CMD_WORK_DIR": _FOLDER, **values}), "setting variables")
        sourced = [f"source {_FOLDER}/{shlex.quote(file.path)}" for file in self.files if file.path.endswith(".sh")]
        self.must(shell, "; ".join([f"export PATH={_FOLDER}:$PATH", *sourced]), "sourcing command files")
        if self.state_code:
            self.must(shell, self.state_code, "the state command")
        return self.state(sandbox, shell)

    def state(self, sandbox: Sandbox, shell: Shell) -> dict[str, Any]:
        """Return what the state command prints; nothing where an attempt has broken that."""
        if not self.state_name:
            return {}
        try:
            found = json.loads(shell.run(self.state_name, timeout=self.install_timeout).output)
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else {"open_file": "n/a", "working_dir": shell.cwd}

    def handed_in(self, sandbox: Sandbox, ended: Observation) -> Observation:
        """Return an observation with what it hands in, if it does."""
        found = _SUBMISSION.search(ended.text)
        if found is None:
            return ended
        patch = found[1].strip("\n")
        return self.ending(ended, patch + "\n" if patch.strip() else None)


def read(settings: Settings, policy: Policy | None) -> Agent:
    """Return the agent of a file.

    Raises:
        ConfigError: Something cannot be taken over.
    """
    if policy is None:
        raise ConfigError(
            f"{settings.file}: files of SWE-agent 0.x name no model; give policy=, such as "
            "lab.ChatPolicy('http://localhost:8000/v1', model='…')"
        )
    named = settings.text("parse_function", "ThoughtActionParser")
    if named not in _PARSERS:
        raise settings.wrong("parse_function", f"{named!r} is not taken over; there are {', '.join(_PARSERS)}")
    files, commands = _commands(settings)
    env = {str(name): str(value) for name, value in settings.get("env_variables", {}, dict).items()}
    unless = settings.get("block_unless_regex", {}, dict)
    ends = {str(k): str(v) for k, v in settings.get("multi_line_command_endings", {}, dict).items()}
    ends |= {command.name: command.end_name for command in commands if command.end_name}
    kit = CommandFiles(
        env=tuple(env.items()),
        blocklist=settings.strings("blocklist", _BLOCKED),
        blocklist_standalone=settings.strings("blocklist_standalone", _BLOCKED_ALONE),
        block_unless=tuple((str(name), str(pattern)) for name, pattern in unless.items()),
        ends=tuple(ends.items()),
        files=files,
        state_name=settings.text("state_command.name", "state") if settings.get("state_command") else "",
        state_code=_unbraced(settings.text("state_command.code")),
    )
    return Agent(
        policy,
        _flavour(settings, _PARSERS[named], commands, env),
        tools=(CommandTool(BASH, kit),),
        max_steps=STEPS,
        observation_limit=1_000_000,
        history=_history(settings),
        setup=kit,
    )


def _unbraced(code: str) -> str:
    """Return code in which braces are doubled, as some files have it for `str.format`, as the shell reads it."""
    return code.replace("{{", "{").replace("}}", "}") if re.search(r"\(\)\s*\{\{", code) else code


def _flavour(settings: Settings, parser: str, commands: tuple[Command, ...], env: Mapping[str, str]) -> TemplateFlavour:
    reader = READERS[parser]
    said = settings.text("next_step_template") or settings.text("instance_template")
    system = settings.text("system_template")
    return TemplateFlavour(
        settings.file.stem,
        reader.nearest,
        (),
        system,
        settings.text("instance_template"),
        said,
        settings.text("format_error_template", _COMPLAINT),
        kind="swe-agent-0",
        replies=parser,
        strategy=settings.text("strategy_template"),
        demonstrations=_demonstrations(settings),
        no_output=settings.text("next_step_no_output_template", said),
        truncated=said,
        blocked=settings.text("blocklist_error_template", "The command '{name}' is not supported here."),
        syntax="bash cannot read this command, so nothing was run.\n{bash_stderr}",
        variables=json.dumps({**env, "command_docs": documentation(commands, env)}),
    )


def _demonstrations(settings: Settings) -> tuple[str, ...]:
    frame = settings.text("demonstration_template", "{demonstration}")
    return tuple(
        demonstration(settings, "demonstrations", written, frame, lambda text, said: text.format(demonstration=said))
        for written in settings.strings("demonstrations")
    )


def _history(settings: Settings) -> tuple[HistoryProcessor, ...]:
    named = settings.text("history_processor", "DefaultHistoryProcessor")
    if last := re.fullmatch(r"Last(\d+)Observations", named):
        return (KeepObservations(int(last[1]), ELIDED, shorter=False),)
    if named == "ClosedWindowHistoryProcessor":
        return (CloseWindows(),)
    if named != "DefaultHistoryProcessor":
        raise settings.wrong("history_processor", f"{named!r} is not taken over; there are Last<n>Observations and "
                             "ClosedWindowHistoryProcessor")  # fmt: skip
    return ()


def _commands(settings: Settings) -> tuple[tuple[File, ...], tuple[Command, ...]]:
    """Return the command files, and the commands that they document."""
    files, commands = [], []
    for written in settings.strings("command_files"):
        path = settings.path("command_files", written)
        text = path.read_text("utf-8")
        name = path.name if path.suffix == ".sh" else path.stem
        files.append(File(name, text.encode(), runs=True))
        commands += [_documented(settings, path, found) for found in _DOCUMENTED.finditer(text)]
    return tuple(files), tuple(commands)


def _documented(settings: Settings, path: Path, found: re.Match[str]) -> Command:
    import yaml

    try:
        told = yaml.safe_load("\n".join(line[1:].removeprefix(" ") for line in found[1].splitlines()))
        arguments = tuple(
            Argument(
                str(name), str(a.get("type", "string")), str(a.get("description", "")), bool(a.get("required", True))
            )
            for name, a in (told.get("arguments") or {}).items()
        )
    except (yaml.YAMLError, AttributeError) as error:
        raise settings.wrong("command_files", f"{path}: the documentation after '# @yaml' is none: {error}") from error
    name = found[2] or path.stem
    return Command(name, str(told.get("docstring") or ""), str(told.get("signature") or ""),
                   str(told.get("end_name") or ""), arguments)  # fmt: skip
