"""The `landlock` backend: boxes on machines that refuse namespaces, such as a pod of a shared hub.

A box is a private copy of the Snapshot's files behind a Landlock ruleset, a system call filter and a supervisor. It needs
no right beyond an ordinary user's: no user namespace, no mount, no cgroup.

Held: files outside the private tree, /usr, the interpreter and a few files of /etc cannot be opened, listed, written,
made, linked or removed; modes, owners, times and attributes change inside the tree only; no TCP (from kernel 6.7 on by
Landlock, before that no IP sockets at all), no UDP, raw, netlink or other sockets, no connecting to socket files; no
System V or POSIX shared objects; signals, limits and priorities reach the box's own processes only; no new privileges, no
capabilities; all its processes end with it.

Not held, because nothing but a namespace can:

- Paths differ: the repository is at `workdir`, the venv beside it, HOME and TMPDIR in the same tree; there is no private
  /tmp, /testbed or /opt/venv, and programs that insist on them fail.
- That a process number or a file name is in use can be told (by `kill`, `stat`), but not what it is.
- What everybody may read below /usr, and the kernel's own figures (cpuinfo, meminfo, ...), can be read.
- A service on the own loopback cannot be reached, not even by the box itself; nor can semaphores and shared memory
  (`multiprocessing.Lock`), pseudo-terminals, or most of /proc (`ps`). Watching files by `inotify` can be begun, and is
  refused for every single file; what is begun counts among the 128 of the host's user.
- Directories that even their owner may not enter are opened to him in a fork.
- Before Linux 6.12 a box can end the process that serves it (`kill -KILL -1`), and is then gone.
- Bytes written are not bounded in sum, only each file. Processes and memory in sum are bounded by a cgroup where there is
  one; elsewhere processes by the kernel or the supervisor, and memory by counting it four times a second.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab._unix import fcntl, resource
from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.sandbox.capabilities import EVERYTHING
from swebench_lab.sandbox.cgroups import cgroup_pool
from swebench_lab.sandbox.checkpoints import Layer, LayerStore, passing_store
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.descriptors import DescriptorBox
from swebench_lab.sandbox.landlock import private_tree, process_table, ruleset, warden
from swebench_lab.sandbox.layers.remove import remove
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.shell.commands import Exit
from swebench_lab.sandbox.zygote import plan

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

TIER = "landlock"
_PREFIX = "lab-landlock-"
_START_SECONDS = 300.0  # copying a large venv from a slow disk
_END_SECONDS = 60.0

_READABLE = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/os-release", "/etc/protocols", "/etc/services",
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
    "/etc/terminfo", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf",
    "/etc/magic", "/etc/inputrc", "/etc/profile", "/etc/bash.bashrc", "/etc/debian_version", "/etc/timezone",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/filesystems", "/proc/stat",
    "/proc/sys/kernel/osrelease", "/proc/sys/kernel/ostype", "/proc/sys/kernel/pid_max", "/proc/sys/kernel/random/uuid",
    "/proc/sys/kernel/random/boot_id", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible", "/dev/random", "/dev/urandom",
)  # fmt: skip
_USABLE = ("/dev/null", "/dev/zero", "/dev/full")


@dataclass(frozen=True)
class _Options:
    """How a box was opened, to open more of its kind."""

    limits: Limits
    scratch: Path | None
    env: Mapping[str, str]
    store: LayerStore | None
    version: int | None


def open_landlock(
    snapshot: "Snapshot",
    *,
    layers: Sequence[Layer] = (),
    limits: Limits | None = None,
    scratch: Path | None = None,
    network: str = "none",
    env: Mapping[str, str] | None = None,
    store: LayerStore | None = None,
    version: int | None = None,
) -> "LandlockSandbox":
    """Make a box without namespaces.

    Args:
        snapshot: What it starts from; its files are copied (cloned where the file system can).
        layers: Checkpoints to start on top of it, oldest first.
        limits: What it may use; `disk` bounds each file, not their sum.
        scratch: A folder of the host for the private tree; the system's folder for temporary files when not given.
        network: Only "none": this tier has no other.
        env: Variables of every command, on top of the snapshot's.
        store: Where checkpoints are kept; a folder that ends with this process when not given.
        version: The version of Landlock to make do with, to see what boxes of an older kernel hold; by default this
            kernel's own.

    Raises:
        SandboxUnavailable: The kernel has no Landlock (Linux 5.13 and later do, unless started without it).
    """
    if network != "none":
        raise ValueError(f"a landlock sandbox has no network; network must be 'none', not {network!r}")
    return LandlockSandbox(
        snapshot, tuple(layers), _Options(limits or Limits(), scratch, dict(env or {}), store, version)
    )


class LandlockSandbox(DescriptorBox, Sandbox):
    """A box that is a private copy of files behind Landlock; see the module for what it holds and what it does not.

    Attributes:
        workdir: The repository's place on this machine, which is not /testbed.
        folder: What belongs to the box on this machine; gone when it is closed.
        gaps: What this kernel's version of Landlock leaves open.
    """

    tier = TIER
    capabilities = EVERYTHING - {
        "own root", "own processes", "own loopback", "own names", "shared memory", "closed directories", "disk in sum"
    }  # fmt: skip

    def __init__(self, snapshot: "Snapshot", layers: tuple[Layer, ...], options: _Options) -> None:
        top = layers[-1] if layers else None
        super().__init__(snapshot)
        version = min(ruleset.abi(), options.version or ruleset.abi())
        if version == 0:
            raise SandboxUnavailable(
                f"cannot make a sandbox of tier {TIER!r}: this kernel offers no Landlock; it needs Linux 5.13 or later, with "
                "'landlock' in the boot parameter lsm=, and a container runtime that lets its system calls through"
            )
        self.layers = layers
        self.gaps = _gaps(version)
        self._options = options
        self._still = threading.Lock()
        self._marks: set[int] = set()  # of commands that run
        self.folder = _new_folder(options.scratch, self.id)
        self._memory = os.memfd_create("lab-seen", os.MFD_CLOEXEC)  # what was seen at the last checkpoint
        self._places = private_tree.Places(f"{self.folder}/root")
        self.workdir = f"{self.folder}/root/{private_tree.WORKDIR}"
        self.sealed_git = str(snapshot.sealed_repository)
        self.private_temp = self.other_temp = f"{self.folder}/shm"
        if top is not None:
            self._session_cwd = self._places.directory(top.cwd)
            usual = {name: plan.ENVIRONMENT.get(name) for name in self._own()}  # what only says where another box lies
            variables = {name: value for name, value in top.env.items() if name not in usual or usual[name] != value}
            self._session_env = {name: self._places.in_text(value) for name, value in variables.items()}
        self._cgroup = cgroup_pool().take(options.limits)
        self.counts_kills = self._cgroup is not None and self._cgroup.counts_kills
        try:
            self._control, self._commands, self._process = self._start(version)
        except BaseException:
            self._give_back()
            raise

    def _start(self, version: int) -> tuple[socket.socket, socket.socket, subprocess.Popen[bytes]]:
        """Start the warden, and wait until the box is ready."""
        control, theirs = wire.pair()
        commands, others = wire.pair()
        argv = [
            os.path.abspath(sys.executable),
            "-I",
            "-S",
            warden.__file__,
            str(theirs.fileno()),
            str(others.fileno()),
        ]
        env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        if "LD_LIBRARY_PATH" in os.environ:  # the interpreter itself may need it
            env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        process = subprocess.Popen(argv, pass_fds=[theirs.fileno(), others.fileno()], stdin=subprocess.DEVNULL, cwd="/",
                                   stdout=subprocess.DEVNULL, start_new_session=True, env=env)  # fmt: skip
        theirs.close()
        others.close()
        wire.send(control, self._settings(version), [self._memory])
        poll = select.poll()
        poll.register(control, select.POLLIN)
        late: dict[str, Any] = {"error": [errno.ETIMEDOUT, "copying its files took too long"]}
        message = wire.receive(control)[0] if poll.poll(_START_SECONDS * 1000) else late
        if message is None or "error" in message:
            control.close()
            commands.close()
            process.kill()
            process.wait()
            remove(self.folder)
            reason = message["error"][1] if message else "the process that makes it died"
            raise SandboxUnavailable(f"cannot make a sandbox of tier {TIER!r}: {reason}")
        if self._cgroup is not None:
            self._cgroup.add(int(message["first"]))
        return control, commands, process

    def _settings(self, version: int) -> dict[str, Any]:
        """Everything the warden must know."""
        snapshot, limits, root = self.snapshot, self._options.limits, f"{self.folder}/root"
        binds = [str(path) for path in snapshot.binds]
        os.makedirs(self.private_temp, 0o700)
        os.makedirs(root, 0o700)
        Path(self._git_config()).write_text(plan.GIT_IDENTITY)
        allowed = ruleset.rules(
            [*_READABLE, *binds, self.sealed_git, self._git_config()], [root, self.private_temp], _USABLE
        )
        bounded = cgroup_pool().controllers
        file_size = min((size for size in (limits.file_size, limits.disk) if size is not None), default=None)
        layers = [*reversed([str(path) for path in snapshot.layers]), *(str(layer.path) for layer in self.layers)]
        return {
            "folder": self.folder,
            "layers": layers,
            "abi": version,
            "env": self._environment(),
            "cwd": self.workdir,
            "rules": [(rule.path, rule.rights) for rule in allowed],
            "processes": None if "pids" in bounded else limits.processes,
            "memory": None if "memory" in bounded else limits.memory,
            "rlimits": _with_others(limits.but(file_size=file_size).rlimits(bounded)),
            # The kernel bounds the processes of every user but root.
            "watch_forks": os.geteuid() == 0 and "pids" not in bounded,
        }

    def _own(self) -> dict[str, str]:
        """The variables that are other ones in every box."""
        root = f"{self.folder}/root"
        return {"HOME": f"{root}/root", "TMPDIR": f"{root}/tmp", "USER": "lab", "GIT_CONFIG_SYSTEM": self._git_config()}

    def _git_config(self) -> str:
        return f"{self.folder}/gitconfig"

    def _environment(self) -> dict[str, str]:
        variables = {**plan.ENVIRONMENT, **self.snapshot.env, **self._options.env}
        return {**{name: self._places.in_text(value) for name, value in variables.items()}, **self._own()}

    # --- the backend's part --------------------------------------------------------------------------------------------

    def _launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> "_Command":
        message = {"op": "run", "id": 0, "argv": list(argv), "cwd": cwd, "env": dict(env), "numbers": list(descriptors)}
        command = _Command(self, self._send(self._commands, message, list(descriptors.values())))
        if command.full:  # of what ended commands left; they give way
            command.close()
            self._sweep()
            command = _Command(self, self._send(self._commands, message, list(descriptors.values())))
        return command

    def _sweep(self) -> None:
        self._ask(self._control, {"op": "sweep", "living": list(self._marks)})

    def _open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        message = {"op": "open", "path": path, "flags": flags, "mode": mode, "parents": parents}
        return self._ask(self._commands, message)[1][0]

    def _send(
        self, channel: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()
    ) -> socket.socket:
        """Send a request to one of the box's processes; returns where its replies arrive."""
        ours, theirs = wire.pair()
        try:
            wire.send(channel, message, [theirs.fileno(), *descriptors])
        except OSError as error:
            ours.close()
            raise self._death_error(message["op"]) from error
        finally:
            theirs.close()
        return ours

    def _ask(self, channel: socket.socket, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Send a request and wait for its one reply; OSError when the box says it failed."""
        with self._send(channel, message) as replies:
            reply, received = wire.receive(replies)
        if reply is None:
            raise self._death_error(message["op"])
        if "error" in reply:
            raise OSError(*reply["error"])
        return reply, received

    def _death_error(self, doing: str) -> SandboxClosed:
        if self.closed:
            return SandboxClosed(f"sandbox {self.id} was closed during {doing!r}")
        return SandboxClosed(f"sandbox {self.id} died during {doing!r}: its first process is gone (killed from outside, or "
                             "out of memory); open another one")  # fmt: skip

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Layer:
        """Keep what changed since the last checkpoint as a layer; files are copied while the box's processes stand still.

        Names of this box's places inside files (scripts installed meanwhile, for example) are kept as they are; they are
        rewritten where the venv is known to hold them when a landlock box starts from the layer, and nowhere else.
        """
        with self._still:
            self._check_open()
            cwd, env = self._session_state()
            own = self._own()
            env = {name: self._places.anywhere(value) for name, value in env.items() if own.get(name) != value}
            below = tuple(layer.digest for layer in self.layers)
            root = os.open(f"{self.folder}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._ask(self._control, {"op": "pause"})
            try:
                layer = self._store.make("capture", [root, self._memory], marks=[], parents=below,
                                         cwd=self._places.anywhere(cwd), env=env)  # fmt: skip
            finally:
                os.close(root)
                self._ask(self._control, {"op": "resume"})
            self.layers = (*self.layers, layer)
            return layer

    def fork(self, at: Layer | None = None) -> "LandlockSandbox":
        """A second box from a checkpoint of this one; the Snapshot is copied again, and the layers on top of it."""
        at = at or self.checkpoint()
        history = [*at.parents, at.digest]
        if [layer.digest for layer in self.layers[: len(history)]] != history:
            raise SandboxError(f"fork sandbox {self.id}: {at!r} is not one of its checkpoints")
        return LandlockSandbox(self.snapshot, (*self.layers[: len(history) - 1], at), self._options)

    @property
    def _store(self) -> LayerStore:
        return self._options.store or passing_store()

    def alive(self) -> bool:
        return not self.closed and self._process.poll() is None

    # --- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._commands.close()
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its first process hears of it, and ends the box
            self._process.wait()
        self._control.close()
        if os.path.lexists(self.folder):
            remove(self.folder)
        self._give_back()

    def _give_back(self) -> None:
        os.close(self._memory)
        if self._cgroup is not None:
            cgroup_pool().give_back(self._cgroup)

    def _limit_hit(self, killed: bool) -> str:
        hit = self._cgroup.hit() if self._cgroup is not None else ""
        if not hit and killed and not self.closed:
            with contextlib.suppress(SandboxClosed, OSError):  # the next command will tell
                hit = str(self._ask(self._control, {"op": "hit"})[0]["hit"])
        if hit == "memory" and killed:
            self._sweep()
        return hit


class _Command:
    """A command running in a box, as `commands.Running` wants it."""

    def __init__(self, box: LandlockSandbox, replies: socket.socket) -> None:
        self._box = box
        self._replies = replies
        self._early: dict[str, Any] | None = None
        message, _ = wire.receive(replies)
        while message is not None and "limit" in message:
            message, _ = wire.receive(replies)
        if message is not None and "pid" in message:
            self._who = {name: message[name] for name in ("pid", "mark")}
            box._marks.add(self._who["mark"])
        else:
            self._early = message or {"gone": True}
            self._readable, writer = os.pipe2(os.O_CLOEXEC)
            os.close(writer)

    def fileno(self) -> int:
        return self._replies.fileno() if self._early is None else self._readable

    @property
    def full(self) -> bool:
        """Whether it could not be started because the box has no room for a process."""
        return self._early is not None and self._early.get("error", [0])[0] == errno.EAGAIN

    def finish(self) -> Exit:
        message = self._early if self._early is not None else wire.receive(self._replies)[0]
        if message is None or "gone" in message:
            raise self._box._death_error("run")
        if self.full:
            return Exit(-signal.SIGKILL, limit="processes")  # it never got to run
        if "error" in message:
            raise SandboxPathError(f"start a command in the box: {message['error'][1]}") from OSError(*message["error"])
        return Exit(message["exit"], message["cpu"])

    def kill(self, since: float | None = None, spared: Sequence[int] = ()) -> None:
        with contextlib.suppress(SandboxClosed, OSError):  # nothing of it is left
            if self._early is None:
                self._box._ask(self._box._control, {"op": "kill", "since": since, "spared": spared, **self._who})

    def living(self) -> Sequence[int]:
        if self._early is not None:
            return ()
        pids: list[int] = self._box._ask(self._box._control, {"op": "living", **self._who})[0]["living"]
        return pids

    def drain(self, descriptors: Sequence[int]) -> None:
        self._box._send(self._box._commands, {"op": "drain"}, descriptors).close()

    def close(self) -> None:
        self._replies.close()
        if self._early is not None:
            os.close(self._readable)
        else:
            self._box._marks.discard(self._who["mark"])


def _with_others(rlimits: list[list[int]]) -> list[list[int]]:
    """Bounds of processes, which the kernel counts by user, with what the user has running already."""
    others = process_table.threads_of_user()
    return [[kind, soft + others, hard + others] if kind == resource.RLIMIT_NPROC else [kind, soft, hard]
            for kind, soft, hard in rlimits]  # fmt: skip


def _gaps(version: int) -> tuple[str, ...]:
    """What a version of Landlock leaves open, beyond what the tier always does."""
    gaps = {
        ruleset.REFER_SINCE: "files cannot be moved or linked between directories (Landlock 1)",
        ruleset.SIGNALS_SINCE: "abstract Unix sockets of this machine's own names can be bound, "
        "signals are judged by a supervisor, and a box can end the process that serves it",
    }
    return tuple(text for since, text in gaps.items() if version < since)


def _new_folder(scratch: Path | None, name: str) -> str:
    """A folder for one box, for this user only; folders of boxes that died unseen are removed on the way."""
    home = str(scratch) if scratch is not None else os.path.join(tempfile.gettempdir(), f"swebench-lab-{os.geteuid()}")
    os.makedirs(home, 0o700, exist_ok=True)
    home = os.path.realpath(home)
    if os.stat(home).st_uid != os.geteuid():
        raise SandboxError(f"{home} belongs to somebody else; remove it, or name another folder as scratch")
    sweep(home)
    folder = f"{home}/{_PREFIX}{name}"
    os.mkdir(folder, 0o700)
    return folder


def sweep(home: str) -> list[Path]:
    """Remove the folders whose wardens are gone; returns which."""
    folders = []
    for name in os.listdir(home):
        if not name.startswith(_PREFIX):
            continue
        try:
            lease = os.open(f"{home}/{name}/lease", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # just being made, or just being removed
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(f"{home}/{name}")
            folders.append(Path(home, name))
        except OSError:
            pass  # its warden lives
        finally:
            os.close(lease)
    return folders
