"""Replay: execute a recorded trace's calls in a sandbox, step by step, and report where what they show has drifted."""

from __future__ import annotations

import atexit
import json
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.agents import flavour as flavours
from swebench_lab.agents.tools import by_name as toolbox
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import Tool, ToolLimits, read_arguments
from swebench_lab.errors import FormatError, RecordError, SandboxError
from swebench_lab.formats.calls import Call
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import NOT_GRADED, Verdict
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.sandbox.contract import Result, Sandbox
from swebench_lab.traces import drift
from swebench_lab.traces.drift import DRIFT, MISSING, OUTCOMES, SAME, SKIPPED, VOLATILE
from swebench_lab.traces.foreign import mini, sweagent
from swebench_lab.traces.foreign import steps as turns

if TYPE_CHECKING:
    import polars as pl

_TOOLS = ("bash", "str_replace_editor", "search", "view", "sub")
_IDLE = (*turns.ENDS, "think", "task_tracker")
"""Calls that change no file: handing in, and notes to oneself."""
_INTERFACE = frozenset(
    {
        *("open", "edit", "create", "insert", "append", "undo_edit", "goto", "scroll_up", "scroll_down"),
        *("search_dir", "search_file", "find_file"),
    }
)
"""Commands that SWE-agent's shell once had; to any other shell their text would be commands, so they are never run."""

_EDITOR = "str_replace_editor"
_TYPED = (sweagent.NAME, "ticks")
"""Formats in which calls of SWE-agent's tools may stand as they were typed."""


@dataclass(frozen=True)
class Replayed:
    """What came of one step.

    Args:
        index: The step's position.
        tool: Which tool it called; empty where its reply held no call.
        command: What was executed, paths as they are called here; empty where nothing was.
        outcome: One of `drift.OUTCOMES`.
        note: What explains it, in words; empty where it is the same.
        likeness: How alike the two outputs are, from 0 to 1; 1 where nothing was compared.
        recorded: What the call showed when it was recorded, without the frame of a prompt.
        now: What it shows now.
        recorded_exit: The recorded exit code; None when unknown.
        exit_code: The exit code now; None when nothing ran or it was killed.
        seconds: Wall time now.
    """

    index: int
    tool: str
    command: str
    outcome: str
    note: str = ""
    likeness: float = 1.0
    recorded: str = ""
    now: str = ""
    recorded_exit: int | None = None
    exit_code: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Replay:
    """What came of executing a trace again.

    Args:
        trajectory: The same record, with the layer, directory and variables that each step has now.
        steps: What came of each step.
        layers: Folder of the step layers; empty when they were not kept.
        patch: What the replay changed in the repository, as a unified diff.
        paths: Folders of the recorded machine, and what they are called here.
    """

    trajectory: Trajectory
    steps: tuple[Replayed, ...]
    layers: str
    patch: str
    paths: Mapping[str, str]

    @property
    def drifted(self) -> tuple[int, ...]:
        """Steps whose call showed something else, or could not be executed."""
        return tuple(step.index for step in self.steps if step.outcome in (DRIFT, MISSING))

    @property
    def counts(self) -> dict[str, int]:
        """Number of steps of each outcome."""
        return {outcome: sum(step.outcome == outcome for step in self.steps) for outcome in OUTCOMES}

    def rollout(self, task: Task) -> Rollout:
        """Return the attempt as `lab.Stepper` takes it: with its task and its layers, not graded.

        Raises:
            RecordError: The trace names another task.
        """
        task_id = self.trajectory.task_id
        if task_id and task_id != task.id:
            raise RecordError(
                f"a replay of a trace at {task_id!r} as an attempt at {task.id!r}: if it is the same problem under another "
                f"name, say so, replace(trajectory, task_id={task.id!r}), before the replay"
            )
        trajectory = replace(self.trajectory, task_id=task.id)
        return Rollout(
            task, trajectory, Verdict(NOT_GRADED, "a replayed trace; grade() grades its patch"), None, self.layers
        )

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a step; `recorded` and `now` are outputs without a prompt's frame."""
        import polars as pl

        schema = {
            "step": pl.Int64,
            "tool": pl.String,
            "command": pl.String,
            "outcome": pl.String,
            "note": pl.String,
            "likeness": pl.Float64,
            "recorded_exit": pl.Int64,
            "exit_code": pl.Int64,
            "seconds": pl.Float64,
            "recorded": pl.String,
            "now": pl.String,
        }
        columns = ["index", *list(schema)[1:]]
        rows = [[_readable(getattr(step, name)) for name in columns] for step in self.steps]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        """Return one line: how many steps, and how many of each outcome."""
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in self.counts.items() if number)
        return f"Replay({self.trajectory.task_id!r}, {len(self.steps)} steps: {outcomes or 'none'})"

    def _repr_html_(self) -> str:
        rows = [
            [step.index, step.tool, _shorten(step.command), step.outcome, step.note, f"{step.likeness:.2f}"]
            for step in self.steps
        ]
        table = _html.table(["step", "tool", "command", "outcome", "note", "likeness"], rows)
        worst = [step for step in self.steps if step.outcome == DRIFT][:5]
        parts = "".join(
            _html.folded(f"step {step.index}: recorded", step.recorded) + _html.folded("now", step.now)
            for step in worst
        )
        return _html.card(repr(self), table + parts)


def _readable(value: Any) -> Any:
    """Return a text that a table can hold: half characters are replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _shorten(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line[:77] + "…" if len(line) > 78 or line != text.strip() else line


def replay(
    trajectory: Trajectory,
    sandbox: Sandbox,
    *,
    run_dir: str | Path | None = None,
    keep_layers: bool = True,
    paths: Mapping[str, str] | None = None,
    tools: Sequence[Tool] = (),
    timeout: float | None = None,
) -> Replay:
    """Execute a trace's calls again in an open sandbox and compare what they show with what was recorded.

    Shell commands run in one shell that lives on, as they did; mini-swe-agent's each in a new one, with its variables.
    Calls of an editor are executed by ours and judged by what they did, not by its words. Calls of tools that are not
    here are not executed and reported as `missing`.

    Args:
        trajectory: The trace, of whatever origin.
        sandbox: An open sandbox of its task, as the attempt found it; it stays open, as the replay left it.
        run_dir: Run directory that keeps the step layers; None: a folder that is removed when this process ends.
        keep_layers: Whether each step's layer is kept, which `lab.Stepper` needs.
        paths: Folders of the recorded machine, and what they are called here, such as
            `{"/workspace/repo": "/testbed"}`. The repository's own is guessed where the trace tells of it.
        tools: Tools of your own, for calls of their names.
        timeout: Seconds after which one command is killed; None: as recorded, or 60 where the trace does not tell.

    Returns:
        A frame of drift, and the trajectory with layers.

    Raises:
        RecordError: The sandbox was opened for another task than the trace is of.
        SandboxError: The sandbox failed; no step is blamed for it.
    """
    if sandbox.task_id and trajectory.task_id not in ("", sandbox.task_id):
        raise RecordError(
            f"replaying a trace of {trajectory.task_id!r} in a sandbox of {sandbox.task_id!r}: open one of its own task, "
            f"sandboxes.open(tasks[trace.task_id]); if both are the same problem, say so, replace(trajectory, task_id=...)"
        )
    home = RunDirectory(run_dir or _passing_folder()) if keep_layers else None
    available = {tool.name: tool for tool in toolbox.resolve(_TOOLS)} | {tool.name: tool for tool in tools}
    moves = _homes(trajectory, sandbox.workdir) | dict(paths or {})
    moves = {old: new for old, new in moves.items() if old and old != new}
    environment = _environment(trajectory)
    with Shell(sandbox) as shell:
        player = _Player(trajectory, sandbox, shell, available, moves, environment, timeout or environment.timeout)
        played: list[Replayed] = []
        steps: list[Step] = []
        for step in trajectory.steps:
            try:
                played.append(player.play(step))
                layer = sandbox.checkpoint() if home else None
            except SandboxError as error:
                raise SandboxError(f"replaying step {step.index} of {trajectory.task_id!r}: {error}") from error
            key = home.put_layer(layer) if home and layer else ""
            env = dict(layer.env) if layer else {}
            steps.append(replace(step, layer=key, cwd=shell.cwd, env=env))
        patch = sandbox.diff()
    result = replace(trajectory, steps=tuple(steps), snapshot=sandbox.snapshot.key, tier=sandbox.tier)
    return Replay(result, tuple(played), str(home.layers) if home else "", patch, moves)


def _passing_folder() -> str:
    folder = tempfile.mkdtemp(prefix="swebench-lab-replay-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# --- where the recorded machine had the repository --------------------------------------------------------------------


def _homes(trajectory: Trajectory, here: str) -> dict[str, str]:
    """Return what the recorded machine called the repository's folder, where the trace tells."""
    if not trajectory.extra.get("format"):
        return {}
    record = trajectory.extra.get("record")
    home = _home(record) if isinstance(record, Mapping) else ""
    stood = [step.cwd for step in trajectory.steps if step.cwd.startswith("/") and step.cwd != "/"]
    if not home and stood:
        above = [place for place in stood if place == stood[0] or stood[0].startswith(f"{place}/")]
        home = min(above, key=len)
    return {home: here} if home.startswith("/") and home not in ("/", here) else {}


def _home(record: Mapping[str, Any]) -> str:
    return str(_below(record, "info", "config", "environment").get("cwd") or "")


# --- one step -------------------------------------------------------------------------------------------------------


@dataclass
class _Shown:
    """What a call shows now."""

    text: str = ""
    exit_code: int | None = None
    failed: bool = False
    editor: bool = False
    missing: str = ""
    timed_out: bool = False


class _Player:
    """Executes the calls of one trace."""

    def __init__(
        self,
        trajectory: Trajectory,
        sandbox: Sandbox,
        shell: Shell,
        tools: Mapping[str, Tool],
        paths: Mapping[str, str],
        told: _Environment,
        timeout: float,
    ) -> None:
        self._sandbox, self._shell, self._tools, self._paths = sandbox, shell, tools, paths
        self._told, self._timeout = told, timeout
        self._format = str(trajectory.extra.get("format") or "")
        self._began = False
        self._flavour = None
        if not self._format and trajectory.flavour:
            try:
                self._flavour = flavours.resolve(trajectory.flavour)
            except ValueError:  # a flavour of the user's own: its frame is not known here
                self._flavour = None

    def play(self, step: Step) -> Replayed:
        """Execute one step's calls and compare."""
        began = time.monotonic()
        calls = [call for call in turns.calls_of(step) if call.name not in _IDLE]
        names = ", ".join(call.name for call in turns.calls_of(step))
        if not calls:
            note = "it hands the work in" if step.tool in turns.ENDS else "nothing to execute"
            return Replayed(step.index, names, "", SKIPPED, note)
        calls = [Call(c.name, {k: self._move(v) for k, v in c.arguments.items()}) for c in calls]
        outputs = [self._execute(call) for call in calls]
        seconds = time.monotonic() - began
        outcome, note, recorded, now = self._judge(step, outputs)
        command = "\n".join(turns.typed_out(call) for call in calls)
        likeness = drift.likeness(recorded, now) if outcome == DRIFT else 1.0
        code = outputs[-1].exit_code
        return Replayed(
            step.index, names, command, outcome, note, likeness, recorded, now, step.exit_code, code, seconds
        )

    def _move(self, value: str) -> str:
        return type(value)(drift.relocate(value, self._paths)) if self._paths else value

    def _execute(self, call: Call) -> _Shown:
        if self._format in _TYPED and call.name in turns.SHELLS and (editing := _edit_call(call)):
            call = editing
        tool = self._tools.get("bash" if call.name in turns.SHELLS else call.name)
        if tool is None:
            return _Shown(missing=f"there is no tool {call.name!r} here")
        if self._format and call.name in turns.SHELLS:
            return self._run_shell(call)
        limits = ToolLimits(self._timeout)
        try:
            observation = tool.call(self._sandbox, self._shell, read_arguments(tool, _fitting(call)), limits)
        except FormatError as error:  # what the other tool took or refused, ours refuses
            return _Shown(str(error), 1, failed=True, editor=True)
        return _Shown(
            observation.text, observation.exit_code, observation.exit_code != 0, editor=call.name not in turns.SHELLS
        )

    def _run_shell(self, call: Call) -> _Shown:
        """Run a foreign trace's shell command."""
        command = call.arguments.get("command", "")
        words = command.split(None, 1)
        if self._format in _TYPED and words and words[0] in (*_INTERFACE, _EDITOR):
            return _Shown(missing=f"SWE-agent's own command {words[0]!r} is not here, so it was not executed")
        if call.arguments.get("is_input") == "true":
            return _Shown(missing="input to a command that was still running")
        if "\0" in command:
            return _Shown(missing="the command holds a NUL character, which no shell can read")
        result = self._run(command)
        text = result.output.replace("\0", "")
        return _Shown(text, result.exit_code, result.exit_code != 0, timed_out=result.timed_out)

    def _run(self, command: str) -> Result:
        if self._format == mini.NAME:
            line: str | list[str] = ["sh", "-c", command] if self._told.posix and len(command) < 100_000 else command
            return self._sandbox.run(line, timeout=self._timeout, env=self._told.variables)
        if self._told.variables and not self._began:
            assignments = [f"{name}={shlex.quote(value)}" for name, value in self._told.variables.items()]
            self._shell.run("export " + " ".join(assignments), timeout=self._timeout)
        self._began = True
        return self._shell.run(command, timeout=self._timeout)

    def _judge(self, step: Step, outputs: Sequence[_Shown]) -> tuple[str, str, str, str]:
        """Return the outcome, its note, and the two outputs that were compared."""
        if missing := [one.missing for one in outputs if one.missing]:
            return MISSING, "; ".join(missing), drift.plain(step.observation), ""
        now = "\n".join(one.text for one in outputs) if len(outputs) > 1 else outputs[0].text
        if self._flavour is not None:
            now = self._flavour.observe(now)
        recorded, now = drift.plain(drift.relocate(turns.output_of(step), self._paths)), drift.plain(now)
        code = outputs[-1].exit_code
        if any(one.timed_out for one in outputs):
            if step.timed_out:
                return VOLATILE, "it is killed by its timeout, as it was", recorded, now
            return DRIFT, f"it is killed after {self._timeout:g} seconds", recorded, now
        if self._format and not step.observation and "output" not in step.extra:
            return SKIPPED, "executed; what it showed was not recorded", "", now
        if self._format and any(one.editor for one in outputs):
            outcome, note = drift.reworded(recorded, now, any(one.failed for one in outputs))
        else:
            outcome, note = drift.compared(recorded, now)
        if outcome in (SAME, VOLATILE) and None not in (step.exit_code, code) and step.exit_code != code:
            return DRIFT, f"exit code {step.exit_code} was recorded, {code} came", recorded, now
        return outcome, note, recorded, now


@dataclass(frozen=True)
class _Environment:
    """What a trace tells of where its commands ran: variables, whether `sh` read them, and seconds until one was killed."""

    variables: Mapping[str, str] = field(default_factory=dict)
    posix: bool = False
    timeout: float = 60.0


def _environment(trajectory: Trajectory) -> _Environment:
    record, kind = trajectory.extra.get("record"), trajectory.extra.get("format")
    if not isinstance(record, Mapping):
        return _Environment()
    if kind == mini.NAME:
        config = _below(record, "info", "config")
        there = _below(config, "environment")
        posix = "Local" in str(config.get("environment_type") or "")
        return _Environment(_variables(there.get("env")), posix, _seconds(there.get("timeout")))
    if kind == sweagent.NAME:
        try:
            there = _below(json.loads(record.get("replay_config") or "{}"), "agent", "tools")
        except (ValueError, TypeError):
            return _Environment()
        return _Environment(_variables(there.get("env_variables")), timeout=_seconds(there.get("execution_timeout")))
    return _Environment()


def _below(values: Any, *names: str) -> Mapping[str, Any]:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _variables(source: Any) -> dict[str, str]:
    """Return variables that a shell can have."""
    pairs = source.items() if isinstance(source, Mapping) else ()
    return {name: str(value) for name, value in pairs if re.fullmatch(r"[A-Za-z_]\w*", str(name))}


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and value > 0 else 60.0


def _edit_call(call: Call) -> Call | None:
    """Return the call that `str_replace_editor <command> <path> --name value` stands for; None where it is none."""
    try:
        words = shlex.split(call.arguments.get("command", ""))
    except ValueError:
        return None
    if len(words) < 3 or words[0] != _EDITOR:
        return None
    options: dict[str, list[str]] = {}
    for word in words[3:]:
        if word.startswith("--") and word[2:] in _OPTIONS:
            options[word[2:]] = []
        elif options:
            options[list(options)[-1]].append(word)
    arguments = {key: " ".join(values) for key, values in options.items()}
    if "view_range" in options:
        arguments["view_range"] = f"[{', '.join(options['view_range'])}]"
    return Call(_EDITOR, {"command": words[1], "path": words[2], **arguments})


_OPTIONS = ("view_range", "file_text", "old_str", "new_str", "insert_line")


def _fitting(call: Call) -> dict[str, str]:
    """Return the arguments of a foreign tool's call that ours of the same name has: others say nothing of what it does."""
    return {key: value for key, value in call.arguments.items() if key not in ("security_risk", "summary")}
