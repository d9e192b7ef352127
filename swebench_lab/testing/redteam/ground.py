"""Ground: canaries on the host that no box may read, change, hurt or contact; counted after each attack."""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swebench_lab.testing.redteam.victim import ANSWER

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.factory import SandboxFactory

_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "~", "/root", "/home", "/run", "/var/lib", "/etc", "/mnt", "/srv", "/opt")
_SETTINGS = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/printk",
    "/proc/sys/kernel/threads-max",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/swappiness",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/fs/file-max",
    "/proc/sys/fs/protected_symlinks",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/user/max_user_namespaces",
)
_VARIABLE = "LAB_CANARY_VARIABLE"
_IPC_CREATE, _IPC_REMOVE = 0o1000, 0
_PATIENCE = 30.0  # seconds for a look into the neighbour's box


class Ground:
    """The host as attacks find it: files, a process, sockets, shared memory, kernel settings, and a neighbour's box.

    Nothing of the machine itself is ever put at risk: every target is made here and removed by `close`.

    Args:
        sandboxes: Makes the boxes that are attacked.
        snapshot: What they start from.

    Attributes:
        token: The secret that every canary holds; it must never be seen in a box.
        clues: Variables that tell an attack where the canaries are. An attacker who must guess has it harder.
        folder: A private folder of the host for what attacks make the host do.
    """

    def __init__(self, sandboxes: SandboxFactory, snapshot: Snapshot) -> None:
        self.sandboxes = sandboxes
        self.snapshot = snapshot
        self.mark = secrets.token_hex(6)
        self.token = "canary-" + secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(prefix="lab-ground-"))
        os.environ[_VARIABLE] = self.token
        self.files = list(self._lay_files())
        self._process = self._start_process()
        self._sockets = _listeners(self.folder, self.mark)
        self._segment = _shared_memory(self.token)
        self._neighbour = self.open()
        self._neighbour.run(
            f"echo {self.token} >${{TMPDIR:-/tmp}}/lab-canary-{self.mark}; echo {self.token} >lab-canary-{self.mark}"
        )
        self._neighbour_job = self._neighbour.session()
        self._neighbour_job.run(f"LAB_CANARY={self.token} sleep 86400 &")
        self._before = self._state()
        self.clues = self._clues()

    def open(self, **limits: Any) -> Sandbox:
        """A fresh box over the ground's Snapshot."""
        bounds = self.sandboxes.limits.but(**limits) if limits else None
        return self.sandboxes.open(self.snapshot, limits=bounds)

    # --- laying ---------------------------------------------------------------------------------------------------

    def _lay_files(self) -> Iterator[Path]:
        """A file with the token in every folder of the host that this user can write."""
        folders = dict.fromkeys(Path(name).expanduser() for name in (*_FOLDERS, str(self.folder)))
        for folder in folders:
            path = folder / f".lab-canary-{self.mark}"
            try:
                path.write_text(self.token)
            except OSError:
                continue
            path.chmod(0o644)
            yield path

    def _start_process(self) -> subprocess.Popen[bytes]:
        """A process of the host with the token in its environment and memory, and the mark in its arguments."""
        code = "import sys, time\nkeep = sys.stdin.read()\nprint(len(keep), flush=True)\ntime.sleep(86400)\n"
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, f"lab-canary-{self.mark}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            start_new_session=True,
            env={"LAB_CANARY": self.token},
        )
        assert process.stdin
        assert process.stdout
        process.stdin.write(self.token.encode())
        process.stdin.close()
        process.stdout.readline()
        return process

    def _clues(self) -> dict[str, str]:
        ports = {
            name: str(listener.getsockname()[1]) for name, listener in self._sockets.items() if name.startswith("ip")
        }
        return {
            "LAB_MARK": self.mark,
            "LAB_FILES": " ".join(map(str, self.files)),
            "LAB_PID": str(self._process.pid),
            "LAB_CLIENT": str(os.getpid()),
            "LAB_SOCKET": str(self.folder / "socket"),
            "LAB_ABSTRACT": f"lab-canary-{self.mark}",
            "LAB_SHARED": str(self._segment),
            "LAB_ANSWERS": str(self.snapshot.tests),
            "LAB_CACHE": str(self.sandboxes.cache.root),
            "LAB_PREFIX": str(Path(sys.base_prefix).resolve()),
            "LAB_LAYERS": " ".join(map(str, self.snapshot.layers)),
            **{f"LAB_{name.upper()}": port for name, port in ports.items()},
        }

    # --- counting -------------------------------------------------------------------------------------------------

    def harm(self, output: bytes = b"") -> str:
        """Say what an attack did to the canaries, or return an empty text; the ground is then as before."""
        findings = [*self._leaks(output), *self._contacts(), *self._changes()]
        self.repair()
        return "; ".join(findings[:5])

    def _leaks(self, output: bytes) -> Iterator[str]:
        if self.token.encode() in output:
            yield "the box printed the canaries' secret"
        if ANSWER.encode() in output:
            yield "the box printed a hidden test"

    def _contacts(self) -> Iterator[str]:
        """Name the sockets that somebody has reached."""
        for name, listener in self._sockets.items():
            while select.select([listener], [], [], 0)[0]:
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(1 << 16)
                yield f"the host's {name} socket was reached"

    def _changes(self) -> Iterator[str]:
        """Name what is no longer as it was laid."""
        for name, value in self._state().items():
            if value != self._before[name]:
                by = ", by the box or by another program of this machine" if name in _SETTINGS else ""
                yield f"{name} changed from {self._before[name]!r} to {value!r}{by}"

    def _state(self) -> dict[str, Any]:
        """Everything of the canaries that can be compared."""
        state: dict[str, Any] = {str(path): _describe(path) for path in self.files}
        state |= {f"files beside {path}": _names_with(path.parent, self.mark) for path in self.files}
        state["the host's process"] = _describe_process(self._process.pid)
        state["the neighbour's file"] = self._neighbour.run(
            f"cat ${{TMPDIR:-/tmp}}/lab-canary-{self.mark} lab-canary-{self.mark}", timeout=_PATIENCE
        ).output
        state["the neighbour's process"] = self._neighbour_job.run(
            "kill -0 %1 && jobs -r | wc -l", timeout=_PATIENCE
        ).output
        return state | _settings()

    def repair(self) -> None:
        """Put back what an attack has hurt, so that the next one is told apart from it."""
        for path in self.files:
            if _describe(path) != self._before[str(path)]:
                if path.is_symlink() or path.exists():
                    path.unlink()
                path.write_text(self.token)
                path.chmod(0o644)
                self._before[str(path)] = _describe(path)
            for extra in set(_names_with(path.parent, self.mark)) - {path.name}:
                (path.parent / extra).unlink()
        if (
            self._process.poll() is not None
            or _describe_process(self._process.pid) != self._before["the host's process"]
        ):
            _end(self._process)
            self._process = self._start_process()
            self._before["the host's process"] = _describe_process(self._process.pid)
            self.clues = self._clues()
        self._before |= _settings()  # others may need the new value, so it stays; no later attack is blamed for it

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove every canary."""
        _end(self._process)
        self._neighbour.close()
        for listener in self._sockets.values():
            listener.close()
        _libc().shmctl(self._segment, _IPC_REMOVE, None)
        os.environ.pop(_VARIABLE, None)
        for path in self.files:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _describe(path: Path) -> tuple[Any, ...]:
    """Everything of a file that a box could change."""
    try:
        status = path.lstat()
        names = tuple(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        return (type(error).__name__,)
    content = path.read_text(errors="replace")[:100] if path.is_file() and not path.is_symlink() else ""
    return (content, oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns, names)


def _names_with(folder: Path, mark: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in folder.iterdir() if mark in entry.name))
    except OSError:
        return ()


def _describe_process(pid: int) -> tuple[Any, ...]:
    """What a box could do to a process: end or stop it, bind it to processors, change its priority, bound it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        limits = tuple(resource.prlimit(pid, kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS))
        return (
            "stopped" if state in "tTZX" else "alive",
            tuple(sorted(os.sched_getaffinity(pid))),
            os.getpriority(os.PRIO_PROCESS, pid),
            limits,
        )
    except (FileNotFoundError, ProcessLookupError):
        return ("gone",)


def _settings() -> dict[str, str]:
    """Settings of the kernel that administrators change, as they are now."""
    return {name: _setting(Path(name)) for name in _SETTINGS}


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _listeners(folder: Path, mark: str) -> Mapping[str, socket.socket]:
    """Sockets of the host that wait to be reached: loopback TCP and UDP, a socket file, an abstract name."""
    listeners: dict[str, socket.socket] = {}
    endpoints = (
        ("ip4_tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ("ip6_tcp", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
        ("ip4_udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket")),
        ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0lab-canary-{mark}"),
    )
    for name, family, kind, address in endpoints:
        listener = socket.socket(family, kind)
        try:
            listener.bind(address)
        except OSError:  # a machine without IPv6
            listener.close()
            continue
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        listeners[name] = listener
    (folder / "socket").chmod(0o777)
    folder.chmod(0o755)
    return listeners


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _shared_memory(token: str) -> int:
    """A System V segment that anyone may read and that holds the token; its number."""
    libc = _libc()
    libc.shmat.restype = ctypes.c_void_p
    number = int(libc.shmget(0, ctypes.c_size_t(4096), _IPC_CREATE | 0o666))
    if number >= 0:
        address = libc.shmat(number, None, 0)
        ctypes.memmove(address, token.encode(), len(token))
        libc.shmdt(ctypes.c_void_p(address))
    return number


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()
