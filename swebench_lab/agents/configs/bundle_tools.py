"""Kit: another program's tools in a sandbox: installed as they are, run in the attempt's shell, blocked and handed in."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from swebench_lab.agents.configs.bundle_commands import Command
from swebench_lab.agents.configs.bundles import Bundle, pack
from swebench_lab.agents.configs.templates import template
from swebench_lab.agents.tools.bash import readable
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import BaseTool, Observation, ToolLimits
from swebench_lab.errors import FormatError, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.records.task import TaskView
from swebench_lab.sandbox.contract import Result, Sandbox

TOOLS = "/root/tools"
"""Where bundles lie in a sandbox; prompts and programs may count on it."""
_READY = f"{TOOLS}/.ready"
_MARK = "<<SWE_AGENT_SUBMISSION>>"
_FORFEIT = "###SWE-AGENT-EXIT-FORFEIT###"
_AGAIN = ("###SWE-AGENT-RETRY-WITH-OUTPUT###", "###SWE-AGENT-RETRY-WITHOUT-OUTPUT###")
_UNPACK = f"mkdir -p {TOOLS} && exec tar -xpf - --no-same-owner -C {TOOLS}"
_PATIENCE = {"PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "15"}
"""While tools are installed: where there is no network, pip says so at once."""


@dataclass(frozen=True)
class Kit:
    """What is installed before the first reply, and how its commands run.

    Args:
        bundles: Tools, in the order in which they are installed.
        env: Variables of the shell.
        registry: What the tools' registry begins with, as JSON.
        startup: Commands in the repository, before anything is installed.
        reset: Commands after all is installed.
        blocklist: Beginnings of commands that are not run.
        blocklist_standalone: Whole commands that are not run.
        block_unless: Name of a command → what it must match.
        install_timeout: Seconds for one bundle.
        cancelled: Template of what is shown of a command that took too long.
        ends: Name of a command → the line that ends it, for commands of several lines.
    """

    bundles: tuple[Bundle, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    registry: str = "{}"
    startup: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    blocklist: tuple[str, ...] = ()
    blocklist_standalone: tuple[str, ...] = ()
    block_unless: tuple[tuple[str, str], ...] = ()
    install_timeout: float = 300.0
    cancelled: str = "The command was cancelled, because it took more than {{timeout}} seconds."
    ends: tuple[tuple[str, str], ...] = field(default=())

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes what is done, every file of every bundle included."""
        plain = {name: value for name, value in vars(self).items() if name != "bundles"}
        return {"kind": type(self).__name__, **plain, "bundles": [bundle.digest for bundle in self.bundles]}

    # --- before the first reply -------------------------------------------------------------------------------------

    def prepare(self, sandbox: Sandbox, shell: Shell, view: TaskView, resumed: bool) -> Mapping[str, Any]:
        """Install everything, unless the attempt goes on in a sandbox where that was done; return the tools' state.

        Raises:
            SandboxUnavailable: The sandbox has no files of its own below /root.
            SandboxError: Something could not be installed: shows the end of what it said.
        """
        if sandbox.tier in ("landlock", "local"):
            raise SandboxUnavailable(
                f"installing tool bundles in a sandbox of the kind {sandbox.tier!r}: their programs keep files below "
                "/root, which such a sandbox shares with this machine; use the backend 'namespace' or 'docker'"
            )
        if not resumed or not sandbox.run(["test", "-e", _READY]).ok:
            self.install(sandbox, shell, view)
        elif self._missing(shell):  # a shell that knows nothing of the one before
            self._rejoin(sandbox, shell, view)
        return self.state(sandbox, shell)

    def install(self, sandbox: Sandbox, shell: Shell, view: TaskView) -> None:
        """Copy the bundles in, unwritable, and run what installs them, in the attempt's own shell."""
        for command in self.startup:
            self.must(shell, command, "a command at startup")
        self._unpack(sandbox)
        self._join(sandbox, shell, view)
        sandbox.write("/root/.swe-agent-env", self.registry)
        sandbox.write("/root/state.json", "{}")
        for command in self.reset:
            self.must(shell, command, "a reset command")
        if missing := self._missing(shell):
            raise SandboxError(f"installing tool bundles: there is no program for the tool {missing[0]!r}")
        sandbox.write(_READY, "")

    def _rejoin(self, sandbox: Sandbox, shell: Shell, view: TaskView) -> None:
        """Tell a new shell of the tools that are there, and leave what they have kept as it is."""
        contents = {}
        for path in ("/root/.swe-agent-env", "/root/state.json"):
            with suppress(SandboxPathError):
                contents[path] = sandbox.read_bytes(path)
        self._join(sandbox, shell, view)
        for path, content in contents.items():
            sandbox.write(path, content)

    def _join(self, sandbox: Sandbox, shell: Shell, view: TaskView) -> None:
        """Set the shell's variables and source what installs each bundle; the shell stays where it stands."""
        stands = shell.cwd
        self.must(shell, exports({**dict(self.env), **_PATIENCE, "ROOT": sandbox.workdir}), "setting variables")
        for bundle in self.bundles:
            folder = f"{TOOLS}/{bundle.name}"
            script = f" && cd {folder} && source install.sh" if bundle.installs else ""
            self.must(shell, f"export PATH={folder}/bin:$PATH{script}", f"the tools of {bundle.name!r}")
        self.must(shell, f"unset {' '.join(_PATIENCE)}; cd {shlex.quote(stands)}", "going back")
        self.must(shell, exports({**dict(self.env), "PROBLEM_STATEMENT": view.issue}), "setting variables")

    def _unpack(self, sandbox: Sandbox) -> None:
        if not self.bundles:
            return
        archive = pack({bundle.name: bundle.files for bundle in self.bundles})
        self.raise_for(sandbox.run(["sh", "-c", _UNPACK], stdin=archive), "copying bundles")

    def _missing(self, shell: Shell) -> list[str]:
        """Return the tools whose programs the shell does not find."""
        names = [command.name for bundle in self.bundles for command in bundle.commands]
        if not names:
            return []
        words = " ".join(map(shlex.quote, names))
        return shell.run(f'for name in {words}; do command -v "$name" >/dev/null || echo "$name"; done').output.split()

    def must(self, shell: Shell, command: str, what: str) -> None:
        """Run a command in the attempt's shell; raise SandboxError if it fails."""
        self.raise_for(shell.run(command, timeout=self.install_timeout), what)

    def raise_for(self, result: Result, what: str) -> None:
        """Raise SandboxError if a part of the installation failed."""
        if not result.ok:
            why = "it took too long" if result.timed_out else f"exit code {result.exit_code}"
            raise SandboxError(
                f"installing tools, {what}: {why}: {result.output.strip()[-500:]}\nWhere it wants the network, give it "
                "one, SandboxFactory(network='host'), or leave that part of install.sh out"
            )

    # --- commands ---------------------------------------------------------------------------------------------------

    def state(self, sandbox: Sandbox, shell: Shell) -> dict[str, Any]:
        """Return what the tools say of where they stand; nothing where an attempt has broken that."""
        commands = [bundle.state_command for bundle in self.bundles if bundle.state_command]
        for command in commands:
            shell.run(command, timeout=self.install_timeout)
        if not commands:
            return {}
        try:
            found = json.loads(sandbox.read("/root/state.json"))
        except (SandboxPathError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def run(self, sandbox: Sandbox, shell: Shell, action: str, limits: ToolLimits) -> Observation:
        """Run a command as a model wrote it, and say what came of it.

        Raises:
            FormatError: It is not allowed, or bash cannot read it; nothing was run.
            SandboxError: The sandbox failed.
        """
        if "\0" in action:
            raise FormatError("The command holds a NUL character, which no shell can read.")
        self.check_allowed(action)
        if action.strip() == "exit":
            return Observation("Exited", action, done=True, patch="")
        line = self.guarded(action).strip()
        self.check_syntax(sandbox, line)
        result = shell.run(line, timeout=limits.timeout)
        text = readable(result.output).strip()
        if result.timed_out:
            text = template(self.cancelled).render(timeout=_number(limits.timeout), command=line)
        text = "\n".join(filter(None, [text, shell.new_shell]))
        facts = self.state(sandbox, shell)
        for token in _AGAIN:
            text = text.replace(token, "")
        observation = Observation(text, action, result.exit_code, result.timed_out, result.limit, facts=facts)
        return self.handed_in(sandbox, observation)

    def handed_in(self, sandbox: Sandbox, observation: Observation) -> Observation:
        """Return an observation with what it hands in, if it does."""
        if _MARK in observation.text:
            return self.ending(observation, _model_patch(sandbox))
        return self.ending(observation, None) if _FORFEIT in observation.text else observation

    @staticmethod
    def ending(observation: Observation, patch: str | None) -> Observation:
        """Return an observation that ends the attempt with a patch; None: with what was changed."""
        return replace(observation, done=True, patch=patch)

    def check_allowed(self, action: str) -> None:
        """Raise FormatError if a command is on the list of those that are not run."""
        words = action.strip()
        pattern = dict(self.block_unless).get(words.split()[0], "") if words else ""
        if words and (
            any(words.startswith(beginning) for beginning in self.blocklist)
            or words in self.blocklist_standalone
            or (pattern and not re.search(pattern, words))
        ):
            name = words.split()[0]
            raise FormatError(f"The command {name!r} is not supported here.", "blocked", action=words, name=name)

    def check_syntax(self, sandbox: Sandbox, line: str) -> None:
        """Raise FormatError if bash cannot read a command."""
        checked = sandbox.run(["bash", "-n"], stdin=line, merge=False, timeout=30)
        if checked.exit_code:
            out = (checked.stdout.decode(errors="replace"), checked.stderr.decode(errors="replace"))
            raise FormatError("bash cannot read the command.", "syntax", bash_stdout=out[0], bash_stderr=out[1])

    def guarded(self, action: str) -> str:
        """Return a command whose parts of several lines are here-documents."""
        for name, end in self.ends:
            several = re.compile(rf"^([ \t]*{re.escape(name)}\b[^\n]*)\n(.*?)^({re.escape(end)})[ \t]*$", re.M | re.S)
            action = several.sub(lambda found: _here_document(found), action)
        return action


def _here_document(match: re.Match[str]) -> str:
    first, body, end = match[1], match[2], match[3]
    mark = f" << '{end}'"
    return f"{first}{'' if first.rstrip().endswith(mark.strip()) else mark}\n{body}{end}"


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _model_patch(sandbox: Sandbox) -> str | None:
    """Return the patch that a submission left; None: there is none, so what was changed counts."""
    read = sandbox.run(["cat", "/root/model.patch"], merge=False, timeout=60, max_output=100_000_000)
    if not read.ok or read.truncated_bytes or not read.stdout.strip():
        return None
    return read.stdout.decode("utf-8", "backslashreplace")


def exports(values: Mapping[str, str]) -> str:
    """Return a command that sets variables of the shell."""
    return "; ".join(f"export {name}={shlex.quote(value)}" for name, value in values.items()) or "true"


@dataclass(frozen=True)
class CommandTool(BaseTool):
    """A command of a kit as a tool.

    Args:
        command: How it is called.
        kit: How it is run.
    """

    command: Command
    kit: Kit

    @property
    def name(self) -> str:
        """The command's name."""
        return self.command.name

    @property
    def description(self) -> str:
        """The command's documentation."""
        return self.command.docstring

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of the arguments."""
        return self.command.parameters()

    def call(self, sandbox: Sandbox, shell: Shell, arguments: Mapping[str, Any], limits: ToolLimits) -> Observation:
        """Run the line that the call becomes."""
        return self.kit.run(sandbox, shell, self.command.line(arguments), limits)

    def identity(self) -> Mapping[str, Any]:
        """Return how it is called, as plain JSON values."""
        return asdict(self.command)
