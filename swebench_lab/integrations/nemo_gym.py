"""NemoGymProvider: our sandboxes as a sandbox provider of NeMo Gym, found by its entry point under "swebench_lab"."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from swebench_lab.errors import LabError, SandboxClosed, SandboxPathError, describe
from swebench_lab.integrations.shared import needs, sandboxes_for, task_for
from swebench_lab.records.task import Task
from swebench_lab.sandbox.checkpoints import Layer
from swebench_lab.sandbox.contract import Result, Sandbox
from swebench_lab.sandbox.limits import Limits

try:
    from nemo_gym.sandbox.providers.base import (
        SandboxCreateError,
        SandboxExecResult,
        SandboxHandle,
        SandboxResources,
        SandboxSpec,
        SandboxStatus,
    )
except ImportError as error:
    raise needs("NeMo Gym", "nemo-gym", error) from error

_NOT_RUN = 125  # the exit code that comes with an error type, as the provider for Apptainer has it
_OUTPUT = 10_000_000  # bytes of one command's output that are kept
_OPTIONS = {"task", "tasks", "network"}
_USERS = (None, 0, "0", "root")


class NemoGymProvider:
    """Opens sandboxes over tasks, or over container images that are pulled without an engine.

    A spec's `provider_options` name the task: `task` (its id) and `tasks` (as `load_tasks` takes it); without a task,
    the spec's `image` is the tree. `network` there is `none` or `host`, instead of the provider's own.

    Args:
        backend: Kind of sandbox, as `SandboxFactory` has it.
        cache: Folder of the Snapshots; empty: that of the user.
        tasks: Where tasks come from when a spec does not say.
        network: `none` or `host`.
    """

    name = "swebench_lab"

    def __init__(self, backend: str = "namespace", cache: str = "", tasks: str = "demo", network: str = "none") -> None:
        self._sandboxes = sandboxes_for(backend, cache)
        self._tasks = tasks
        self._network = network
        self._open: dict[str, Sandbox] = {}

    async def create(self, spec: SandboxSpec) -> SandboxHandle:
        """Open a sandbox that is ready for commands, with the spec's files in it.

        Raises:
            SandboxCreateError: The spec asks for what is not there (a GPU, an entry point, an unknown option, a task that does
                not exist), or the sandbox cannot be opened.
        """
        try:
            box = await asyncio.wait_for(asyncio.to_thread(self._create, spec), spec.ready_timeout_s)
        except (LabError, ValueError, OSError, TimeoutError) as error:
            raise SandboxCreateError(f"creating a swebench_lab sandbox: {describe(error)}") from error
        self._open[box.id] = box
        if spec.ttl_s is not None:
            asyncio.get_running_loop().call_later(float(spec.ttl_s), box.close)
        return SandboxHandle(box.id, self.name, box)

    def _create(self, spec: SandboxSpec) -> Sandbox:
        options = spec.provider_options
        if unknown := sorted(set(options) - _OPTIONS):
            raise ValueError(f"provider option {unknown[0]!r} is unknown; known are {', '.join(sorted(_OPTIONS))}")
        if spec.resources.gpu or spec.entrypoint:
            raise ValueError("a GPU or an entry point was asked for, which these sandboxes have not")
        limits, network = _limits(spec.resources), options.get("network", self._network)
        box = self._sandboxes.open(self._tree(spec), limits=limits, network=network, env=spec.env)
        try:
            if spec.workdir:
                box.run(["mkdir", "-p", spec.workdir])
                box.workdir = spec.workdir
            for path, text in spec.files.items():
                box.write(path, text)
        except LabError:
            box.close()
            raise
        return box

    def _tree(self, spec: SandboxSpec) -> Task:
        options = spec.provider_options
        if options.get("task"):
            return task_for(options.get("tasks", self._tasks), options["task"])
        if not spec.image:
            raise ValueError("neither provider_options.task nor an image says what the sandbox starts from")
        return Task(
            id=spec.image, repo=spec.image, base_commit="", issue="", gold_patch="", fail_to_pass=(), pass_to_pass=(),
            image=spec.image, workdir=spec.workdir or "",
        )  # fmt: skip

    async def exec(
        self,
        handle: SandboxHandle,
        command: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        user: str | int | None = None,
    ) -> SandboxExecResult:
        """Run shell text; what kept it from ending by itself is the result's `error_type`."""
        if user not in _USERS:
            return SandboxExecResult("", f"commands run as root, not as {user!r}", _NOT_RUN, "unsupported_user")
        run = partial(handle.raw.run, command, cwd=cwd, env=env, timeout=timeout_s, merge=False, max_output=_OUTPUT)
        try:
            ran: Result = await asyncio.to_thread(run)
        except SandboxPathError as error:
            return SandboxExecResult("", str(error), _NOT_RUN, "path")
        except SandboxClosed as error:
            return SandboxExecResult("", str(error), _NOT_RUN, "sandbox")
        errors = ran.stderr.decode("utf-8", errors="replace")
        if ran.exit_code is None:
            kind = "timeout" if ran.timed_out else "limit"
            return SandboxExecResult(ran.output, errors, _NOT_RUN, kind)
        return SandboxExecResult(ran.output, errors, ran.exit_code)

    async def upload_file(self, handle: SandboxHandle, source_path: Path, target_path: str) -> None:
        """Copy a file of the host into the sandbox."""
        await asyncio.to_thread(handle.raw.upload, source_path, target_path)

    async def download_file(self, handle: SandboxHandle, source_path: str, target_path: Path) -> None:
        """Copy a file of the sandbox to the host."""
        Path(target_path).parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(handle.raw.download, source_path, target_path)

    async def status(self, handle: SandboxHandle) -> SandboxStatus:
        """Whether it is there to be asked."""
        box: Sandbox = handle.raw
        if box.closed:
            return SandboxStatus.STOPPED
        return SandboxStatus.RUNNING if await asyncio.to_thread(box.alive) else SandboxStatus.ERROR

    async def close(self, handle: SandboxHandle) -> None:
        """End the sandbox; calling it again does nothing."""
        self._open.pop(handle.sandbox_id, None)
        await asyncio.to_thread(handle.raw.close)

    async def aclose(self) -> None:
        """End every sandbox that is still open."""
        for box in list(self._open.values()):
            await asyncio.to_thread(box.close)
        self._open.clear()

    # --- what our sandboxes offer beyond NeMo Gym's interface ---------------------------------------------------------

    async def checkpoint(self, handle: SandboxHandle) -> Layer:
        """Keep what changed since the last checkpoint, for `fork`."""
        layer: Layer = await asyncio.to_thread(handle.raw.checkpoint)
        return layer

    async def fork(self, handle: SandboxHandle, at: Layer | None = None) -> SandboxHandle:
        """Return a second sandbox that goes on from a checkpoint (default: from now)."""
        box: Sandbox = await asyncio.to_thread(handle.raw.fork, at)
        self._open[box.id] = box
        return SandboxHandle(box.id, self.name, box)


def _limits(resources: SandboxResources) -> Limits:
    """The sandbox's limits; what a spec leaves open is as in every sandbox."""
    values: dict[str, Any] = {
        "cpus": resources.cpu,
        "memory": resources.memory_mib << 20 if resources.memory_mib else None,
        "disk": resources.disk_gib << 30 if resources.disk_gib else None,
    }
    return Limits(**{name: value for name, value in values.items() if value})


__all__ = ["NemoGymProvider"]
