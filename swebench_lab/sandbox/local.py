"""The `local` backend: a plain copied directory and ordinary processes. It does not isolate; for trying things out.

Commands run as this user, on this machine, with its network, seeing all its files. What it does keep apart: every box
has a directory of its own, copied from the snapshot; variables are clean; processes end with their command's timeout
and with the box, as long as they keep the variable that marks them. Memory, processors and disk are not bounded.
"""

import os
import re
import secrets
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.sandbox.checkpoints import Layer, LayerStore, passing_store, remove_tree, run_task
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.descriptors import DescriptorBox
from swebench_lab.sandbox.leases import leased_folder
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux import processes
from swebench_lab.sandbox.shell.commands import Exit
from swebench_lab.sandbox.zygote import plan
from swebench_lab.sandbox.zygote.client import remove_on_exit

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

_MARK = "SWEBENCH_LAB_PROCESS"
_OWN = ("HOME", "TMPDIR")  # variables that are other ones in every box
_VENV = "/opt/venv"
_PLACE = re.compile(r"(?<![\w./-])/(opt/venv|testbed)(?![\w.-])")
_SPARE = 200  # descriptors are moved above this before they take their final numbers


def open_local(
    snapshot: "Snapshot",
    *,
    layers: Sequence[Layer] = (),
    limits: Limits | None = None,
    scratch: Path | None = None,
    store: LayerStore | None = None,
    network: str = "host",
    env: Mapping[str, str] | None = None,
) -> "LocalSandbox":
    """Make a directory to work in. It does not isolate, and it does not bound: limits and network are not kept.

    Args:
        snapshot: What it starts from; copied.
        layers: Checkpoints to start on top of it, oldest first.
        limits: Accepted and not kept, except the size of files.
        scratch: Folder for the copy; by default the system's folder for temporary files.
        store: Where its checkpoints are kept; by default a folder that goes with this process.
        network: Accepted; commands have the network of this machine.
        env: Variables of every command, on top of the snapshot's.

    Raises:
        SandboxUnavailable: This is not Linux.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable("sandboxes on this machine need Linux; use the backend 'docker' or a cluster here")
    return LocalSandbox(snapshot, layers, scratch, store, dict(env or {}))


class LocalSandbox(DescriptorBox, Sandbox):
    """A directory and processes of this machine. Nothing is isolated."""

    tier = "local"
    capabilities = frozenset({"session", "checkpoint", "fork", "stream", "command trees", "names of any bytes"})

    def __init__(
        self,
        snapshot: "Snapshot",
        layers: Sequence[Layer],
        scratch: Path | None,
        store: LayerStore | None,
        env: Mapping[str, str],
    ) -> None:
        top = layers[-1] if layers else None
        usual = {name: plan.ENVIRONMENT.get(name, "/tmp") for name in _OWN}  # where another box lies is no matter here
        variables = {name: value for name, value in top.env.items() if usual.get(name) != value} if top else None
        super().__init__(snapshot, top.cwd if top else "", variables)
        self.layers = tuple(layers)
        self._scratch, self._custom_store, self._extra_env = scratch, store, env
        home = scratch or Path(tempfile.gettempdir()).resolve() / f"swebench-lab-{os.geteuid()}"
        self._folder = leased_folder(home.resolve(), remove_tree, remove_on_exit) / self.id
        self._root = self._folder / "root"
        self._folder.mkdir()
        self.workdir = str(self._root / "testbed")
        self.sealed_git = str(snapshot.sealed_repository)
        self.private_temp = self.other_temp = str(self._folder)
        self._copy()
        self._env = self._environment()
        self._directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._memory = os.memfd_create("lab-seen", os.MFD_CLOEXEC)
        run_task("remember", [self._directory, self._memory])

    def _copy(self) -> None:
        """Copy the snapshot and the layers, and have the venv's files name their new place."""
        order = [*reversed(self.snapshot.layers), *(layer.path for layer in self.layers)]
        run_task("flatten", layers=[str(path) for path in order], target=str(self._root))
        for name in ("root", "tmp"):
            (self._root / name).mkdir(exist_ok=True)
        settings = self._root / "root" / ".gitconfig"
        if not settings.exists() and not settings.is_symlink():
            settings.write_text(plan.GIT_IDENTITY)
            os.utime(settings, (0, 0))  # a fork's files are those of its parent, times too
        if self.layers:
            return  # moved when the first copy was made
        venv = self._root / _VENV.lstrip("/")
        for path in [*venv.glob("bin/*"), *venv.glob("lib/python*/site-packages/*.pth")]:
            if path.is_file() and not path.is_symlink():
                text = path.read_bytes()
                new_text = self._to_copy(text.decode("latin-1")).encode("latin-1")
                if new_text != text:
                    path.write_bytes(new_text)

    def _to_copy(self, text: str) -> str:
        """Text in which the places of the box are those of the copy."""
        return _PLACE.sub(lambda match: f"{self._root}{match.group()}", text)

    def _from_copy(self, text: str) -> str:
        """Text in which the places of the copy are those of any box."""
        return text.replace(str(self._root), "")

    def _environment(self) -> dict[str, str]:
        variables = {**plan.ENVIRONMENT, **self.snapshot.env, **self._extra_env}
        return {
            **{name: self._to_copy(value) for name, value in variables.items()},
            "HOME": str(self._root / "root"),
            "TMPDIR": str(self._root / "tmp"),
        }

    # --- the backend's part -------------------------------------------------------------------------------------------

    def _launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> "_Process":
        mark = f"{self.id}.{secrets.token_hex(4)}"
        overrides = {name: self._to_copy(value) for name, value in env.items() if value is not None}
        variables = {**self._env, **overrides, _MARK: mark}
        for name in env.keys() - overrides.keys():
            variables.pop(name, None)
        folder = self._host_path(cwd)
        program = shutil.which(argv[0], path=variables.get("PATH", os.defpath)) if "/" not in argv[0] else argv[0]
        if not os.path.isdir(folder) or program is None or not os.path.exists(os.path.join(folder, program)):
            missing = argv[0] if os.path.isdir(folder) else cwd
            raise SandboxPathError(f"start a command in the box: No such file or directory: {missing}")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        numbers = {0: null, 1: null, 2: null, **descriptors}
        # posix_spawn cannot change the directory, and this process must not; a shell does.
        command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', folder, program, *argv[1:]]
        actions: list[tuple[int, ...]] = [
            (os.POSIX_SPAWN_DUP2, source, _SPARE + number) for number, source in numbers.items()
        ]
        actions += [(os.POSIX_SPAWN_DUP2, _SPARE + number, number) for number in numbers]
        closing = [(os.POSIX_SPAWN_CLOSE, _SPARE + number) for number in numbers]
        try:
            pid = os.posix_spawn(
                "/bin/sh",
                command,
                variables,
                file_actions=[*actions, *closing],
                setsid=True,
                setsigmask=(),
                setsigdef=processes.USUAL,
            )
        except OSError as error:
            raise SandboxPathError(f"start a command in the box: {error.strerror}: {argv[0]}") from error
        finally:
            os.close(null)
        return _Process(self, pid, mark)

    def _host_path(self, path: str) -> str:
        """Where a path of the box is on this machine: its work tree in the copy, all else as it is."""
        return (
            self.workdir + path.removeprefix("/testbed") if path == "/testbed" or path.startswith("/testbed/") else path
        )

    def _open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        place = self._host_path(path)
        if parents:
            os.makedirs(os.path.dirname(place), exist_ok=True)
        descriptor = os.open(place, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666)
        if mode is not None:
            os.fchmod(descriptor, mode)
        return descriptor

    def _connect(self, port: int) -> socket.socket:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError as error:
            raise SandboxError(f"connecting to port {port} of this machine: {error.strerror}") from error

    def alive(self) -> bool:
        return not self.closed

    def checkpoint(self) -> Layer:
        self._check_open()
        cwd, env = self._session_state()
        portable = {name: self._from_copy(value) for name, value in env.items() if name != _MARK}
        layer = (self._custom_store or passing_store()).make(
            "capture",
            [self._directory, self._memory],
            marks=[],
            parents=[below.digest for below in self.layers],
            cwd=self._from_copy(cwd),
            env=portable,
        )
        self.layers = (*self.layers, layer)
        return layer

    def fork(self, at: Layer | None = None) -> "LocalSandbox":
        at = at or self.checkpoint()
        history = [*at.parents, at.digest]
        if [layer.digest for layer in self.layers[: len(history)]] != history:
            raise SandboxError(f"fork sandbox {self.id}: {at!r} is not one of its checkpoints")
        layers = (*self.layers[: len(history) - 1], at)
        return LocalSandbox(self.snapshot, layers, self._scratch, self._custom_store, self._extra_env)

    def _end(self) -> None:
        _end_by_mark(self.id)
        os.close(self._directory)
        os.close(self._memory)
        remove_tree(self._folder)


class _Process:
    """A command of this machine, as `commands.Running` wants it."""

    def __init__(self, box: LocalSandbox, pid: int, mark: str) -> None:
        self._box = box
        self._pid = pid
        self._mark = mark
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._pidfd

    def finish(self) -> Exit:
        try:
            _, status, usage = os.wait4(self._pid, 0)
        except ChildProcessError:
            raise SandboxClosed(f"sandbox {self._box.id} was closed during 'run'") from None
        if self._box.closed:
            raise SandboxClosed(f"sandbox {self._box.id} was closed during 'run'")
        return Exit(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)

    def kill(self, since: float | None = None, spared: Sequence[int] = ()) -> None:
        if since is None:
            processes.send(-self._pid, signal.SIGKILL)  # all that stayed in its group, at one instant
        _end_by_mark(self._mark, None if since is None else processes.Newcomers(self._pid, since, spared))

    def living(self) -> Sequence[int]:
        return [process.pid for process in processes.table() if _has_mark(process.pid, self._mark)]

    def drain(self, descriptors: Sequence[int]) -> None:
        copies = [os.dup(descriptor) for descriptor in descriptors]
        threading.Thread(target=_read_to_the_end, args=(copies,), daemon=True).start()

    def close(self) -> None:
        os.close(self._pidfd)


def _read_to_the_end(descriptors: Sequence[int]) -> None:
    """Read and forget what background processes still write."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    left = set(descriptors)
    while left:
        for descriptor, _ in poll.poll():
            try:
                if os.read(descriptor, 1 << 16):
                    continue
            except BlockingIOError:
                continue
            poll.unregister(descriptor)
            left.discard(descriptor)
            os.close(descriptor)


def _end_by_mark(mark: str, newcomers: processes.Newcomers | None = None) -> None:
    """End the processes whose mark begins with this one, or of them the newcomers only."""

    def is_doomed(process: processes.Process) -> bool:
        return _has_mark(process.pid, mark) and (newcomers is None or newcomers.include(process))

    processes.end(is_doomed, whole_groups=newcomers is None)


def _has_mark(pid: int, mark: str) -> bool:
    """Whether the mark of a process begins with this one."""
    sought = f"{_MARK}={mark}".encode()
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(variable.startswith(sought) for variable in variables.split(b"\0"))
