"""LabEnvironment: a sandbox over a task as an environment of mini-swe-agent.

Named in its configuration or on its command line: `environment_class: swebench_lab.integrations.mini_swe_agent.LabEnvironment`.
"""

from __future__ import annotations

import platform
import re
import weakref
from typing import Any, Self

from swebench_lab.errors import ConfigError, SandboxPathError
from swebench_lab.integrations.shared import evaluator_for, needs, sandboxes_for, task_for
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Verdict
from swebench_lab.sandbox.checkpoints import Layer
from swebench_lab.sandbox.contract import Result, Sandbox
from swebench_lab.snapshots.factory import SandboxFactory

try:
    from minisweagent.exceptions import Submitted
    from pydantic import BaseModel, ConfigDict
except ImportError as error:
    raise needs("mini-swe-agent", "mini-swe-agent", error) from error

_MARK = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
_OPEN = re.compile(r"\s*open-task\s+(\S+)\s*")
_LEAST_TIMEOUT = 1
_OUTPUT = 10_000_000  # bytes of one command's output that are kept


class LabEnvironmentConfig(BaseModel):
    """What a configuration may say of the environment; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")

    tasks: str = "demo"
    """Where the tasks come from: whatever `load_tasks` takes by name or path."""
    task: str = ""
    """Id of the task to open; empty: the first command names it, as `open-task ID`."""
    backend: str = "namespace"
    """Kind of sandbox, as `SandboxFactory` has it."""
    cache: str = ""
    """Folder of the Snapshots; empty: that of the user."""
    network: str = "none"
    """`none` or `host`."""
    cwd: str = ""
    """Where commands run; empty: the task's repository."""
    env: dict[str, str] = {}
    """Further variables of every command."""
    timeout: int = 60
    """Seconds that one command may take."""
    interpreter: list[str] = ["bash", "-c"]
    """What runs a command: its text is appended as the last argument."""


class LabEnvironment:
    """Runs mini-swe-agent's commands in a sandbox over a task, each in a shell of its own.

    The sandbox is opened by the first command. mini-swe-agent's batch runner tells an environment nothing of the
    instance; its `run.env_startup_command`, which it renders with the instance, does: `open-task {{instance_id}}`.

    Attributes:
        config: The settings.
        task: The task that is open, or None.

    Args:
        **settings: The fields of `LabEnvironmentConfig`.
    """

    def __init__(self, **settings: Any) -> None:
        self.config = LabEnvironmentConfig(**settings)
        self.task: Task | None = None
        self._box: Sandbox | None = None

    @property
    def box(self) -> Sandbox:
        """The sandbox, opened when it is first asked for; `checkpoint`, `diff` and files are there.

        Raises:
            ConfigError: Neither the configuration nor the first command names the task.
            TaskError: There is no such task.
            SandboxError: The sandbox cannot be opened.
        """
        if self._box is None:
            if not self.config.task:
                raise ConfigError(
                    "opening the sandbox of a mini-swe-agent environment: no task is named; set environment.task, or "
                    "run.env_startup_command to 'open-task {{instance_id}}' for its batch runner"
                )
            self._open(self.config.task)
        assert self._box is not None
        return self._box

    @property
    def _sandboxes(self) -> SandboxFactory:
        return sandboxes_for(self.config.backend, self.config.cache, {"network": self.config.network})

    def _open(self, task_id: str) -> None:
        if self._box is not None:
            raise ConfigError(f"opening task {task_id!r}: this environment has a task open already; make another one")
        self.task = task_for(self.config.tasks, task_id)
        self._hold(self._sandboxes.open(self.task, env=self.config.env))

    def _hold(self, box: Sandbox) -> None:
        self._box = box
        weakref.finalize(self, box.close)  # mini-swe-agent drops environments without a word

    def execute(self, action: dict[str, Any], cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
        """Run one command to its end.

        Args:
            action: Its text is under `command`.
            cwd: Where it runs, instead of the configuration's.
            timeout: Seconds, instead of the configuration's.

        Returns:
            `output`, `returncode` (-1 when it was stopped at its time limit) and `exception_info`, as mini-swe-agent's own
            environments have them.

        Raises:
            Submitted: The command succeeded and the first line of its output says that the task is complete.
            SandboxError: The sandbox cannot be opened, or is gone: nothing that a command did.
        """
        command = str(action.get("command", ""))
        opening = _OPEN.fullmatch(command) if self._box is None and not self.config.task else None
        if opening:
            self._open(opening[1])
            return {"output": "", "returncode": 0, "exception_info": ""}
        seconds = max(timeout or self.config.timeout, _LEAST_TIMEOUT)
        plain = self.config.interpreter == ["bash", "-c"]  # the box's own way with text, however long it is
        try:
            ran = self.box.run(
                command if plain else [*self.config.interpreter, command],
                cwd=cwd or self.config.cwd or None,
                timeout=seconds,
                max_output=_OUTPUT,
            )
        except SandboxPathError as error:
            return _failure("", error, str(error))
        if ran.timed_out:
            return _failure(ran.output, TimeoutError(), f"{command!r} timed out after {seconds} seconds")
        output = {"output": ran.output, "returncode": _returncode(ran), "exception_info": _limit(ran)}
        _check_submission(output)
        return output

    def get_template_vars(self, **more: Any) -> dict[str, Any]:
        """Return what prompts may name: the settings, and the system that commands see."""
        where = {"cwd": self.config.cwd or (self._box.workdir if self._box else "/testbed")}
        return {**self.config.model_dump(), **platform.uname()._asdict(), **where, **more}

    def serialize(self) -> dict[str, Any]:
        """Return what a trajectory file says of the environment."""
        kind = f"{type(self).__module__}.{type(self).__name__}"
        settings = self.config.model_dump(mode="json")
        if self.task is not None:
            settings["task"] = self.task.id
        return {"info": {"config": {"environment": settings, "environment_type": kind}}}

    def grade(self, submission: str | None = None) -> Verdict:
        """Grade a patch, by default what changed in the sandbox, by the task's own tests in a fresh sandbox."""
        patch = self.box.diff() if submission is None else submission
        assert self.task is not None
        return evaluator_for(self._sandboxes).grade(self.task, patch)

    def checkpoint(self) -> Layer:
        """Keep what changed since the last checkpoint, for `fork`."""
        return self.box.checkpoint()

    def fork(self, at: Layer | None = None) -> Self:
        """Return a second environment that goes on from a checkpoint of this one (default: from now)."""
        other = type(self)(**self.config.model_dump())
        other._hold(self.box.fork(at))
        other.task = self.task
        return other

    def cleanup(self) -> None:
        """End the sandbox; calling it again does nothing."""
        if self._box is not None:
            self._box.close()


def _returncode(ran: Result) -> int:
    return -1 if ran.exit_code is None else ran.exit_code


def _limit(ran: Result) -> str:
    return f"the command was ended by the sandbox's limit on {ran.limit}" if ran.limit and ran.exit_code is None else ""


def _failure(output: str, error: Exception, reason: str) -> dict[str, Any]:
    """What mini-swe-agent shows of a command that did not come to its end."""
    return {
        "output": output,
        "returncode": -1,
        "exception_info": f"An error occurred while executing the command: {reason}",
        "extra": {"exception_type": type(error).__name__, "exception": reason},
    }


def _check_submission(output: dict[str, Any]) -> None:
    lines = output["output"].lstrip().splitlines(keepends=True)
    if output["returncode"] == 0 and lines and lines[0].strip() == _MARK:
        submission = "".join(lines[1:])
        extra = {"exit_status": "Submitted", "submission": submission}
        raise Submitted({"role": "exit", "content": submission, "extra": extra})


__all__ = ["LabEnvironment", "LabEnvironmentConfig"]
