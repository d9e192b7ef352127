"""InspectSandbox: a sandbox over a task as a sandbox environment of Inspect, registered under the name "swebench_lab"."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from swebench_lab.errors import ConfigError, SandboxClosed, SandboxPathError
from swebench_lab.integrations.shared import needs, sandboxes_for, task_for
from swebench_lab.records.task import Task
from swebench_lab.sandbox.checkpoints import Layer
from swebench_lab.sandbox.contract import Result, Sandbox
from swebench_lab.snapshots.factory import SandboxFactory

try:
    import anyio
    from inspect_ai.util import (
        ExecResult,
        OutputLimitExceededError,
        SandboxEnvironment,
        SandboxEnvironmentLimits,
        SandboxUnavailableError,
        SandboxUserUnsupportedError,
        sandboxenv,
    )
    from inspect_ai.util import (
        concurrency as throttled,
    )
    from pydantic import BaseModel, ConfigDict
except ImportError as error:
    raise needs("Inspect", "inspect", error) from error

_Answer = TypeVar("_Answer")
_NOT_THERE = 127  # what a shell says of a program or folder that does not exist
_KILLED = 137  # what a shell says of a program that was ended from outside
_COMMANDS = 64  # of one sandbox at once; each holds a thread while it runs


class InspectSandboxConfig(BaseModel):
    """What a sample's sandbox is opened over; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = ""
    """Id of the task; empty: the sample's metadata name it (`instance_id`), or else the sample's own id is it."""
    tasks: str = "demo"
    """Where the tasks come from: whatever `load_tasks` takes by name or path."""
    backend: str = "namespace"
    """Kind of sandbox, as `SandboxFactory` has it."""
    cache: str = ""
    """Folder of the Snapshots; empty: that of the user."""
    network: str = "none"
    """`none` or `host`."""

    @property
    def sandboxes(self) -> SandboxFactory:
        """The factory of this process for these settings."""
        return sandboxes_for(self.backend, self.cache, {"network": self.network})

    def find(self, metadata: dict[str, Any]) -> Task:
        """Return the task of a sample.

        Args:
            metadata: The sample's, with its id under `__sample_id__`.

        Raises:
            ConfigError: Nothing names a task.
            TaskError: There is no such task.
        """
        name = str(self.task or metadata.get("instance_id") or metadata.get("__sample_id__") or "")
        if not name:
            raise ConfigError(
                "opening a sandbox for a sample of Inspect: nothing names its task; give the sample an id or a metadata "
                "field 'instance_id', or use sandbox=('swebench_lab', 'SOURCE#ID')"
            )
        return task_for(self.tasks, name)


def _settings(config: object) -> InspectSandboxConfig:
    """The settings that a task file gives: as a model, as `SOURCE`, as `SOURCE#ID`, or not at all."""
    if isinstance(config, str):
        source, _, task = config.partition("#")
        origin = source if Path(source).exists() else Path(source).name  # Inspect makes an absolute path of any text
        return InspectSandboxConfig(tasks=origin or "demo", task=task)
    return config if isinstance(config, InspectSandboxConfig) else InspectSandboxConfig()


@sandboxenv(name="swebench_lab")
class InspectSandbox(SandboxEnvironment):
    """A sandbox over a task's untouched tree; commands start in its repository.

    A command that Inspect gives up without a time limit of its own runs on until its sample ends.

    Attributes:
        box: The sandbox: `diff`, `checkpoint` and the rest are there.
        task: The task it was opened for.
        sandboxes: The factory that opened it.

    Args:
        box: The sandbox.
        task: The task.
        sandboxes: The factory.
    """

    def __init__(self, box: Sandbox, task: Task, sandboxes: SandboxFactory) -> None:
        super().__init__()
        self.box = box
        self.task = task
        self.sandboxes = sandboxes
        self._threads = anyio.CapacityLimiter(_COMMANDS)
        self._users: tuple[str, ...] = ()

    # --- the life of a sample's sandbox --------------------------------------------------------------------------------

    @classmethod
    def default_concurrency(cls) -> int | None:
        return 2 * (os.cpu_count() or 1)

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return InspectSandboxConfig(**config)

    @classmethod
    async def task_init(cls, task_name: str, config: object) -> None:
        """Build the Snapshot before samples begin, where the settings name the task."""
        settings = _settings(config)
        if settings.task:
            await anyio.to_thread.run_sync(lambda: settings.sandboxes.snapshot(settings.find({})))

    @classmethod
    async def sample_init(
        cls, task_name: str, config: object, metadata: dict[str, Any]
    ) -> dict[str, SandboxEnvironment]:
        """Open the sample's sandbox."""
        settings = _settings(config)

        def opened() -> tuple[Sandbox, Task, SandboxFactory]:
            task = settings.find(metadata)
            return settings.sandboxes.open(task), task, settings.sandboxes

        return {"default": cls(*await anyio.to_thread.run_sync(opened))}

    @classmethod
    async def sample_cleanup(
        cls, task_name: str, config: object, environments: dict[str, SandboxEnvironment], interrupted: bool
    ) -> None:
        """End the sample's sandboxes."""
        for environment in environments.values():
            await anyio.to_thread.run_sync(environment.as_type(cls).box.close)

    def default_polling_interval(self) -> float:
        return 0.2

    # --- commands ------------------------------------------------------------------------------------------------------

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,  # noqa: A002 - Inspect's name
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a program to its end; a program or folder that does not exist is a failed result.

        Raises:
            TimeoutError: It ran longer than `timeout` seconds; all that it started was ended.
            PermissionError: It may not be executed.
            OutputLimitExceededError: It wrote more than Inspect's limit.
            SandboxUserUnsupportedError: `user` is another than the sandbox's own.
            SandboxUnavailableError: The sandbox is gone.
        """
        await self._check_user(user)
        most = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        run = partial(self.box.run, cmd, stdin=input, cwd=cwd, env=env, timeout=timeout, merge=False, max_output=most)
        try:
            if concurrency:
                async with throttled("swebench_lab commands", 4 * (os.cpu_count() or 1)):
                    ran = await self._aside(run)
            else:
                ran = await self._aside(run)
        except SandboxPathError as error:
            if isinstance(error.__cause__, PermissionError):
                raise PermissionError(str(error)) from error
            return ExecResult(False, _NOT_THERE, "", f"{error}\n")
        return self._result(ran, cmd, timeout)

    @staticmethod
    def _result(ran: Result, cmd: list[str], timeout: int | None) -> ExecResult[str]:
        if ran.timed_out:
            raise TimeoutError(f"{cmd} was stopped after {timeout} seconds")
        errors = ran.stderr.decode("utf-8", errors="replace")
        if ran.truncated_bytes:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, ran.output)
        if ran.exit_code is None:
            return ExecResult(False, _KILLED, ran.output, f"{errors}ended by the sandbox's limit: {ran.limit}\n")
        return ExecResult(ran.ok, ran.exit_code, ran.output, errors)

    async def _check_user(self, user: str | None) -> None:
        if user is None:
            return
        if not self._users:
            result = await self._aside(partial(self.box.run, ["sh", "-c", "id -u; id -un"], merge=False))
            self._users = tuple(result.output.split())
        if user not in self._users:
            raise SandboxUserUnsupportedError(
                f"running a command as {user!r}: commands of this sandbox run as {self._users[-1]!r} only"
            )

    # --- files ---------------------------------------------------------------------------------------------------------

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Make or replace a file, with the folders above it.

        Raises:
            OSError: The kernel's reason: a folder is there, or it may not be written.
        """
        await self._file(file, partial(self.box.write, file, contents))

    async def read_file(self, file: str, text: bool = True) -> Any:
        """Return the content of a file, as text (UTF-8, line ends as they are) or bytes.

        Raises:
            OSError: The kernel's reason: it does not exist, is a folder, or may not be read.
            UnicodeDecodeError: It is no UTF-8.
            OutputLimitExceededError: It is larger than Inspect's limit.
        """
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        data: bytes = await self._file(file, partial(self.box.read_bytes, file, most))
        return data.decode("utf-8") if text else data

    async def _file(self, file: str, work: Callable[[], _Answer]) -> _Answer:
        """Do something with a file; an error is what Python's own `open` would raise."""
        try:
            return await self._aside(work)
        except SandboxPathError as error:
            cause = error.__cause__
            if await self._is_folder(file):
                raise IsADirectoryError(f"{file} is a directory") from error
            if isinstance(cause, OSError):
                raise type(cause)(cause.errno, cause.strerror, file) from error
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error

    async def _is_folder(self, file: str) -> bool:
        ran: Result = await self._aside(partial(self.box.run, ["test", "-d", file]))
        return ran.ok

    async def _aside(self, work: Callable[[], _Answer]) -> _Answer:
        """Run what blocks in a thread; Inspect may stop waiting for it."""
        try:
            answer: _Answer = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except SandboxClosed as error:
            raise SandboxUnavailableError(str(error)) from error
        return answer

    # --- what our sandboxes offer beyond Inspect's interface ------------------------------------------------------------

    async def checkpoint(self) -> Layer:
        """Keep what changed since the last checkpoint, for `fork`."""
        return await self._aside(self.box.checkpoint)

    async def fork(self, at: Layer | None = None) -> InspectSandbox:
        """Return a second sandbox that goes on from a checkpoint (default: from now); close its `box` after use."""
        return type(self)(await self._aside(partial(self.box.fork, at)), self.task, self.sandboxes)


__all__ = ["InspectSandbox", "InspectSandboxConfig"]
