"""HarborEnvironment: our sandbox as an environment of Harbor, which then runs its tasks without a container engine.

Named by its import path: `--env swebench_lab.integrations.harbor_environment:HarborEnvironment`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from swebench_lab.errors import ConfigError, SandboxPathError
from swebench_lab.integrations.shared import needs, sandboxes_for, task_for
from swebench_lab.records.task import Task
from swebench_lab.sandbox.contract import Result, Sandbox
from swebench_lab.sandbox.limits import Limits
from swebench_lab.tasks.harbor.reading import read_task

try:
    from harbor.environments.base import BaseEnvironment, ExecResult
    from harbor.environments.capabilities import EnvironmentCapabilities
    from harbor.environments.options import EnvironmentOptions
    from harbor.models.task.config import NetworkMode
except ImportError as error:
    raise needs("Harbor", "harbor", error) from error

_OUTPUT = 10_000_000  # bytes of one command's output that are kept
_LOGS = ("/logs/agent", "/logs/verifier", "/logs/artifacts")
_NOT_THERE = 127  # what a shell says of a folder that does not exist
_KILLED = 137
_USERS = (None, "", 0, "0", "root")


class HarborEnvironmentOptions(EnvironmentOptions):
    """What `--environment-kwarg` may say; an unknown key is an error."""

    tasks: str = ""
    """Source of tasks (as `load_tasks` takes it) whose trees are used, by the name of the folder that `Tasks.to_harbor` wrote;
    empty: the tree is that of the folder's own Dockerfile or image."""
    backend: str = "namespace"
    """Kind of sandbox, as `SandboxFactory` has it."""
    cache: str = ""
    """Folder of the Snapshots; empty: that of the user."""
    network: str = ""
    """`none` keeps the network closed where a task would allow it; empty: what the task asks for."""


class HarborEnvironment(BaseEnvironment):
    """A sandbox over a Harbor task's tree. Commands run as root; the task's memory and processors are its limits.

    Refused by name, before it starts: several services, another user, devices, an allow-list of hosts.

    Attributes:
        box: The sandbox once started: `checkpoint`, `fork` and the rest are there.
    """

    options_model = HarborEnvironmentOptions

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.box: Sandbox | None = None
        super().__init__(*arguments, **keywords)

    @staticmethod
    def type() -> str:
        return "swebench_lab"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities(disable_internet=True)

    def _validate_definition(self) -> None:
        if self.options.network not in ("", "none"):
            raise ValueError(
                f"network={self.options.network!r} of a swebench_lab environment: must be 'none' or be left out"
            )
        if not (self.environment_dir.parent / "task.toml").is_file():
            raise FileNotFoundError(
                f"{self.environment_dir}: only the environment of a task is run in a swebench_lab sandbox, and there is "
                "no task.toml beside this one; separate verifiers need another environment"
            )

    def _task(self) -> Task:
        if not self.options.tasks:
            return read_task(self.environment_dir.parent)
        return task_for(self.options.tasks, self.environment_dir.parent.name)

    def _limits(self) -> Limits:
        memory, cpus = self._effective_memory_mb, self._effective_cpus
        limits = Limits(memory=memory << 20) if memory else Limits()
        return limits.but(cpus=float(cpus)) if cpus else limits

    def _open(self) -> Sandbox:
        offline = self.options.network == "none" or self.network_policy.network_mode == NetworkMode.NO_NETWORK
        sandboxes = sandboxes_for(self.options.backend, self.options.cache)
        box = sandboxes.open(self._task(), limits=self._limits(), network="none" if offline else "host")
        box.run(["sh", "-c", 'mkdir -p "$@" && chmod 0777 "$@"', "sh", *_LOGS])
        return box

    async def start(self, force_build: bool) -> None:
        """Open the sandbox; the tree it starts from is built when it is not there.

        Raises:
            LabError: The task cannot be read or built, or this machine cannot make such a sandbox.
        """
        self.box = await asyncio.to_thread(self._open)
        await self._upload_environment_dir_after_start()

    async def stop(self, delete: bool) -> None:
        """End the sandbox; nothing of it is kept, whether or not it should be."""
        if self.box is not None:
            await asyncio.to_thread(self.box.close)

    def _require_box(self) -> Sandbox:
        if self.box is None:
            raise RuntimeError("using a swebench_lab environment: it was not started")
        return self.box

    async def exec(
        self,
        command: str,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout_sec: int | None = None,
        user: str | int | None = None,
    ) -> ExecResult:
        """Run shell text to its end.

        Raises:
            RuntimeError: It was stopped at `timeout_sec`, as Harbor's own environments say it.
            ConfigError: `user` is another than root.
        """
        box = self._require_box()
        if self._resolve_user(user) not in _USERS:
            raise ConfigError(
                f"running a command as {self._resolve_user(user)!r}: commands of swebench_lab environments run as root"
            )
        where = cwd or self.task_env_config.workdir
        run = partial(box.run, command, cwd=where, env=self._merge_env(env), timeout=timeout_sec, merge=False)
        try:
            ran = await asyncio.to_thread(run, max_output=_OUTPUT)
        except SandboxPathError as error:
            return ExecResult(stdout="", stderr=f"{error}\n", return_code=_NOT_THERE)
        if ran.timed_out:
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        return _answer(ran)

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        """Copy a file of the host into the sandbox, with its mode."""
        await asyncio.to_thread(self._require_box().upload, source_path, target_path)

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        """Copy what a folder of the host holds into a folder of the sandbox."""
        await asyncio.to_thread(self._require_box().upload, source_dir, target_dir)

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        """Copy a file of the sandbox to the host."""
        Path(target_path).parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._require_box().download, source_path, target_path)

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        """Copy what a folder of the sandbox holds into a folder of the host; links that lead out of it are left out."""
        Path(target_dir).mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._require_box().download, source_dir, target_dir)


def _answer(ran: Result) -> ExecResult:
    errors = ran.stderr.decode("utf-8", errors="replace")
    if ran.exit_code is None:
        errors += f"ended by the sandbox's limit: {ran.limit}\n"
    return ExecResult(stdout=ran.output, stderr=errors, return_code=_KILLED if ran.exit_code is None else ran.exit_code)


__all__ = ["HarborEnvironment", "HarborEnvironmentOptions"]
