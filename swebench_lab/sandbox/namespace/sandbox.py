"""The `namespace` backend: boxes of Linux namespaces over an overlay, made by a zygote, as root or as anybody."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxUnavailable
from swebench_lab.sandbox.capabilities import EVERYTHING
from swebench_lab.sandbox.cgroups import cgroup_pool
from swebench_lab.sandbox.checkpoints import NOTHING, Layer, LayerStore, passing_store, remove_tree
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.descriptors import DescriptorBox
from swebench_lab.sandbox.diffs.changes import NOTHING_WRITTEN, WorkTreeChanges, changes, fingerprint, stands_still
from swebench_lab.sandbox.first_process import FirstProcess, InitCommand
from swebench_lab.sandbox.layers import tree as trees
from swebench_lab.sandbox.leases import leased_folder
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.namespace.services import Service, start
from swebench_lab.sandbox.shell import terminal
from swebench_lab.sandbox.shell.commands import Running
from swebench_lab.sandbox.users import ROOT, User, user_of
from swebench_lab.sandbox.zygote import layout, plan
from swebench_lab.sandbox.zygote.client import (
    default_tier,
    receive_soon,
    remove_on_exit,
    renewed,
    unavailable,
    zygote_of,
)

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

log = logging.getLogger(__name__)

_END_SECONDS = 10.0
_FULL = 64 * 1024  # bytes; a box with less to write to has run into its bound


def open_namespace(
    snapshot: Snapshot,
    *,
    layers: Sequence[Layer] = (),
    limits: Limits | None = None,
    scratch: Path | None = None,
    store: LayerStore | None = None,
    network: str = "none",
    services: Sequence[Service] = (),
    env: Mapping[str, str] | None = None,
    tier: str | None = None,
    user: str | None = None,
    builds: bool = False,
    memory: Mapping[str, int] | None = None,
) -> NamespaceSandbox:
    """Make a box.

    Args:
        snapshot: What it starts from.
        layers: Checkpoints to start on top of it, oldest first.
        limits: What it may use.
        scratch: A folder of the host for what the box writes; by default that is memory, up to `limits.disk`, of which
            nothing can be left behind.
        store: Where its checkpoints are kept; by default a folder that goes with this process.
        network: "none" (its own loopback only; every other address fails at once), "dropping" (the same, but for a few
            addresses that nobody has and that never answer, so that tests of time-outs see one) or "host" (everything the
            host can reach).
        services: Programs on the box's own loopback, started and answering before this returns; forks have them too.
        env: Variables of every command, on top of the snapshot's.
        tier: "namespace-root" or "namespace-rootless"; by default what this user can have.
        user: Who runs commands, reads and writes, as `USER[:GROUP]`; the snapshot's when not given. Without root a box
            has one user, to whom all files belong: it has that name and number.
        builds: Whether giving a file to another user succeeds and does nothing where there is no other one (without
            root), as the commands of an image's build need.
        memory: Directories that hold what is forgotten with the box, in memory: path (which is there) → mode.

    Raises:
        SandboxUnavailable: This machine does not grant what such a box needs; the message says what to do.
        SandboxError: The box has no such user.
    """
    if network not in ("none", "dropping", "host"):
        raise ValueError(f"network must be 'none', 'dropping' or 'host', not {network!r}")
    options = _Options(
        limits or Limits(), scratch, store, network, tuple(services), dict(env or {}), tier or default_tier(),
        snapshot.user if user is None else user, builds,
        tuple((memory or {}).items()),
    )  # fmt: skip
    return NamespaceSandbox(snapshot, layers, options)


@dataclass(frozen=True)
class _Options:
    """How a box is made, and so its forks."""

    limits: Limits
    scratch: Path | None
    store: LayerStore | None
    network: str
    services: tuple[Service, ...]
    env: Mapping[str, str]
    tier: str
    user: str
    builds: bool
    memory: tuple[tuple[str, int], ...]


class NamespaceSandbox(DescriptorBox, Sandbox):
    """A box of namespaces: its own processes, mounts, network, names and devices over read-only layers."""

    capabilities = EVERYTHING
    has_terminals = True

    @property
    def has_listeners(self) -> bool:  # type: ignore[override]
        """Whether its loopback is its own."""
        return self._options.network == "none"

    def __init__(self, snapshot: Snapshot, layers: Sequence[Layer], options: _Options) -> None:
        top = layers[-1] if layers else None
        super().__init__(snapshot, top.cwd if top else "", top.env if top else None)
        self.tier = options.tier
        self.layers = tuple(layers)
        self._options = options
        self._zygote = zygote_of(options.tier)
        self._still = threading.Lock()
        self._user = self._runs_as()
        self._folder: str | None = None
        self._cgroup = cgroup_pool().take(options.limits)
        self.counts_kills = self._cgroup is not None and self._cgroup.counts_kills
        self._seated = False
        self._pidfd = self._upper = -1
        self._last_fingerprint: bytes | None = NOTHING_WRITTEN
        self._memory = os.memfd_create("lab-seen", os.MFD_CLOEXEC)
        self._control, unused = wire.pair()
        unused.close()
        try:
            self.first_pid = self._make()
            self._first = FirstProcess(self._control, self._death_error)
            start(self, options.services)
        except BaseException:
            self.close()
            raise

    @property
    def _store(self) -> LayerStore:
        return self._options.store or passing_store()

    def _plan(self) -> bytes:
        """Everything the zygote must know to make this box."""
        snapshot, options = self.snapshot, self._options
        if options.scratch is not None and self._folder is None:
            self._folder = self._make_folder(options.scratch)
        self._mounted = self._store.shortened(self.layers) if self.layers else []
        lower = (*(layer.path for layer in reversed(self._mounted)), *snapshot.layers)
        bare = snapshot.own_root and snapshot.git_dir is None
        base = self._zygote.base(None if bare else tuple(plan.outside_usr(snapshot.binds)))
        kind = (options.limits, cgroup_pool().controllers, options.network, self.tier == "namespace-rootless")
        own = {"HOME": self._user.home, "USER": self._user.name} if self._user else {}
        env = tuple({**plan.ENVIRONMENT, **own, **snapshot.env, **options.env}.items())
        further = (self._user, options.builds, options.memory)
        return _plan_on_wire(snapshot, *kind, lower, base, self._folder, self.workdir, env, *further)

    def _runs_as(self) -> User | None:
        """Who runs commands where that is not root."""
        text = self._options.user
        if text in ROOT:
            return None
        user = user_of([*(layer.path for layer in reversed(self.layers)), *self.snapshot.layers], text)
        return user if (user.uid, user.gid) != (0, 0) else None

    def _make_folder(self, scratch: Path) -> str:
        """A folder of the host for what the box writes."""
        try:
            folder = str(leased_folder(scratch.resolve(), remove_tree, remove_on_exit) / self.id)
            for name in ("upper", "work"):
                os.makedirs(f"{folder}/{name}")
        except OSError as error:
            advice = "make room there, or choose another scratch"
            raise SandboxError(
                f"make a folder for sandbox {self.id} in {scratch}: {error.strerror}; {advice}"
            ) from error
        return folder

    def _make(self) -> int:
        """Have the box made, by a new zygote where the old one does not see a file system yet; its first process."""
        self._control = self._ask_for_box(self._plan())
        try:
            return self._arrive()
        except SandboxUnavailable:
            newer = renewed(self._zygote)
            if newer is None:
                raise
        log.info("sandbox %s: made again, by a zygote that sees what is mounted now", self.id)
        self._forget_first_process()
        self._zygote = newer
        self._control = self._ask_for_box(self._plan())
        return self._arrive()

    def _forget_first_process(self) -> None:
        """Let go of a box that was begun and could not be made."""
        self._control.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1
        self._seated = False

    def _ask_for_box(self, attached: bytes) -> socket.socket:
        """Have the box cloned: by a branch that lives in the box's cgroup already, where there is one."""
        request: dict[str, Any] = {"op": "box", "network": self._options.network}
        if self._user is not None:
            request["user"] = [self._user.uid, self._user.gid]
        seat = self._cgroup.seat(self._zygote) if self._cgroup is not None else None
        if self._cgroup is None or seat is None:
            return self._zygote.send(request, attached=attached)
        self._seated = True
        try:
            return seat.send(request, attached=attached)
        except SandboxClosed:  # memory was so short in its cgroup that the kernel ended it
            log.info("sandbox %s: asked for again, as its cgroup ran out of memory", self.id)
            self._cgroup.unseat()
            return (self._cgroup.seat(self._zygote) or self._zygote).send(request, attached=attached)

    def _arrive(self) -> int:
        """Wait until the box is ready, its first process and its writable directory in hand; its process id."""
        pid = 0
        while self._pidfd < 0 or self._upper < 0:
            message, descriptors = receive_soon(self._control, f"sandbox {self.id} to be made")
            if message is None or "error" in message:
                raise unavailable(self.tier, message)
            if "pid" in message:
                pid, self._pidfd = message["pid"], descriptors[0]
                if self._cgroup is not None and not self._seated:
                    # While the box lays itself out; it starts nothing before it is asked to. It may have failed
                    # already.
                    with contextlib.suppress(ProcessLookupError):
                        self._cgroup.add(pid)
            else:
                self._upper = descriptors[0]
        return pid

    # --- the backend's part -------------------------------------------------------------------------------------------

    def _launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> InitCommand:
        if self._user is not None and self.tier == "namespace-root":
            for descriptor in descriptors.values():
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # or opening /dev/stdout would be refused
                    os.fchown(descriptor, self._user.uid, self._user.gid)
        return self._first.launch(argv, cwd, env, descriptors)

    def _open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        return self._first.open(path, flags, mode, parents)

    def _listen(self, port: int) -> socket.socket:
        return socket.socket(fileno=self._first.ask({"op": "listen", "port": port})[1][0])

    def _beside(self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], output: int) -> Running:
        return self._launch(argv, cwd, env, {1: output, 2: output})

    def _connect(self, port: int) -> socket.socket:
        try:
            descriptor = self._first.ask({"op": "connect", "port": port})[1][0]
        except OSError as error:
            raise SandboxError(f"connecting to port {port} of sandbox {self.id}: {error.strerror}") from error
        return socket.socket(fileno=descriptor)

    def start_on_terminal(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str | None] | None = None,
        size: tuple[int, int] = (24, 80),
    ) -> tuple[Running, int]:
        self._check_open()
        try:
            master, slave = terminal.open_pair(self._open)
        except OSError as error:
            raise SandboxError(f"opening a terminal in the sandbox: {error}") from error
        try:
            terminal.resize(master, *size)
            running = self._launch(argv, self._path(cwd or ""), env or {}, {0: slave, 1: slave, 2: slave})
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return running, master

    def alive(self) -> bool:
        if self.closed:
            return False
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return not poller.poll(0)

    def _death_error(self, doing: str) -> SandboxClosed:
        if self.closed:
            return SandboxClosed(f"sandbox {self.id} was closed during {doing!r}")
        return SandboxClosed(
            f"sandbox {self.id} died during {doing!r}: its first process is gone (killed from outside, or "
            "out of memory); open another one"
        )

    def _touched(self) -> WorkTreeChanges | None:
        self._check_open()
        if not self.alive() or not stands_still(self.snapshot.layers, self.workdir):
            return None
        return changes(
            self._upper,
            [layer.path for layer in self._mounted],
            self.workdir,
            self.snapshot.sealed_repository / "index",
        )

    def checkpoint(self) -> Layer:
        with self._still:
            self._check_open()
            cwd, env = self._session_state()
            parents = [below.digest for below in self.layers]
            layer = self._nothing_new(parents, cwd, env) or self._capture(parents, cwd, env)
            self.layers = (*self.layers, layer)
            return layer

    def _capture(self, parents: Sequence[str], cwd: str, env: Mapping[str, str]) -> Layer:
        """Copy what changed since the last time, while all processes hold still."""
        self._first.ask({"op": "pause"})
        try:
            marks = [trees.OPAQUE[self.tier == "namespace-rootless"]]
            descriptors = [self._upper, self._memory]
            layer = self._store.make("capture", descriptors, marks=marks, cwd=cwd, env=env, parents=parents)
            self._last_fingerprint = fingerprint(self._upper)
        finally:
            self._first.ask({"op": "resume"})
        return layer

    def _nothing_new(self, parents: Sequence[str], cwd: str, env: Mapping[str, str]) -> Layer | None:
        """The layer without changes if nothing was written since the last time; no process has to hold still for that.

        What is written while this looks around is part of the next layer.
        """
        if self._last_fingerprint is None or fingerprint(self._upper) != self._last_fingerprint:
            return None
        try:
            return self._store.get(NOTHING, parents, cwd, env)
        except SandboxError:  # it is made by the first capture that finds nothing
            return None

    def fork(self, at: Layer | None = None) -> NamespaceSandbox:
        at = at or self.checkpoint()
        history = [*at.parents, at.digest]
        if [layer.digest for layer in self.layers[: len(history)]] != history:
            raise SandboxError(f"fork sandbox {self.id}: {at!r} is not one of its checkpoints")
        return NamespaceSandbox(self.snapshot, (*self.layers[: len(history) - 1], at), self._options)

    def _end(self) -> None:
        self._control.close()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            # Readable only when the whole pid namespace is gone: the kernel ends its other processes first.
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(_END_SECONDS * 1000)
        wire.close_all([descriptor for descriptor in (self._pidfd, self._upper, self._memory) if descriptor >= 0])
        if self._cgroup is not None:
            cgroup_pool().give_back(self._cgroup)
        if self._folder is not None:
            remove_tree(Path(self._folder))

    def _sweep(self) -> None:
        self._first.ask({"op": "sweep"})

    def _limit_hit(self, killed: bool) -> str:
        bounded = self._cgroup.hit() if self._cgroup is not None else ""
        if bounded == "processes" or (bounded in ("memory", "host memory") and killed):
            self._sweep()  # what ended commands left behind must not keep the box from going on
        room = os.fstatvfs(self._upper)
        full = "disk" if room.f_blocks and room.f_bavail * room.f_frsize < _FULL else ""
        if self._folder is None and room.f_files and not room.f_ffree:
            full = "disk"  # no further name
        return bounded or full if killed else full or bounded


@functools.lru_cache(maxsize=256)
def _plan_on_wire(
    snapshot: Snapshot,
    limits: Limits,
    bounded: frozenset[str],
    network: str,
    rootless: bool,
    lower: Sequence[Path],
    base: str,
    folder: str | None,
    cwd: str,
    env: tuple[tuple[str, str], ...],
    user: User | None,
    builds: bool,
    memory: tuple[tuple[str, int], ...],
) -> bytes:
    """How boxes of one kind are made; snapshots do not change, so neither does this.

    Args:
        snapshot: What the box starts from.
        limits: What it may use.
        bounded: What cgroups see to.
        network: "none", "dropping" or "host".
        rootless: Whether its mounts are made without root.
        lower: The layers of its root file system, top first.
        base: The key of the bottom layer.
        folder: Of the host, for what it writes.
        cwd: Where its commands run.
        env: Their variables.
        user: Who runs them; None means root.
        builds: Whether giving files away does nothing where there is one user.
        memory: Directories in memory, and their modes.
    """
    stage, upper, work = plan.writable(limits.room(bounded), folder, limits.files or 0)
    stage.append(plan.root(lower, base, upper, work, rootless))
    masks, shared = tuple(snapshot.hidden), limits.shared_memory
    kind = (snapshot.own_root, snapshot.usr, rootless)
    box = plan.box(snapshot.binds, snapshot.git_dir, shared, network, masks, *kind)
    box += [layout.Tmpfs(path, limits.memory or 0, mode) for path, mode in memory]
    settings = {
        "stage": layout.to_wire(stage),
        "upper": upper,
        "layout": layout.to_wire(box),
        "hostname": plan.HOSTNAME,
        "cwd": cwd,
        "env": dict(env),
        "rlimits": limits.rlimits(bounded),
        "user": None if user is None else [user.uid, user.gid, user.groups],
        "builds": builds,
    }
    return json.dumps(settings, separators=(",", ":")).encode()
