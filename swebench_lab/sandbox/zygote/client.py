"""This side of the zygote: started when first needed, one per process and tier, shared by all threads."""

import contextlib
import errno
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxUnavailable
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.linux.per_process import PerProcess
from swebench_lab.sandbox.zygote import layout, plan, process
from swebench_lab.sandbox.zygote.refusals import explain

log = logging.getLogger(__name__)

_START_SECONDS = 30.0
_WORKERS = 8  # do work on trees at once; each further one would be forked for its task, and all share the processors
_TIERS = {"namespace-root": "root", "namespace-rootless": "rootless"}


class Channel:
    """A way to ask a zygote, or a branch of one, for something."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = (), attached: bytes = b"") -> socket.socket:
        """Send a request; returns where its replies arrive."""
        ours, theirs = wire.pair()
        try:
            wire.send(self._socket, message, [theirs.fileno(), *descriptors], attached)
        except OSError as error:
            ours.close()
            raise SandboxClosed(f"the process that makes boxes is gone ({error}); open the sandbox again") from error
        finally:
            theirs.close()
        return ours

    def ask(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Send a request and wait for its one reply."""
        with self.send(message, descriptors) as replies:
            reply, _ = wire.receive(replies)
        if reply is None:
            raise SandboxClosed(f"the process that makes boxes died during {message['op']!r}; open the sandbox again")
        if "error" in reply:
            raise OSError(*reply["error"])
        return reply

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """End a branch."""
        self._socket.close()


class ZygoteClient(Channel):
    """A zygote process: one per process, tier and lifetime, shared by all threads."""

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self._bases: dict[tuple[Path, ...] | None, str] = {}
        self._lock = threading.Lock()
        self._workers: list[Channel] = []
        self._turns = threading.BoundedSemaphore(_WORKERS)
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._mounts).atexit = False
        self._outdated = False
        ours, theirs = wire.pair()
        super().__init__(ours)
        command = [os.path.abspath(sys.executable), "-I", "-S", process.__file__, str(theirs.fileno()), _TIERS[tier]]
        env = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        if "LD_LIBRARY_PATH" in os.environ:  # the interpreter itself may need it
            env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd="/",
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=env,
        )
        theirs.close()
        message, _ = receive_soon(self._socket, "the zygote to start")
        if message is None or "error" in message:
            self._socket.close()
            self._process.wait()
            raise unavailable(tier, message)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still make boxes."""
        return self._process.poll() is None

    @property
    def outdated(self) -> bool:
        """Whether file systems were mounted or unmounted here since it was started: it still has the old ones."""
        poll = select.poll()
        poll.register(self._mounts, select.POLLPRI)
        self._outdated = self._outdated or bool(poll.poll(0))
        return self._outdated

    def end(self) -> None:
        """End the process, on behalf of a client that lives on."""
        with contextlib.suppress(SandboxClosed):
            self.send({"op": "end"}).close()
        self.close()
        self._process.wait()

    def branch(self) -> tuple[Channel, int]:
        """A process that serves as this one does, beside it; with its process id."""
        ours, theirs = wire.pair()
        with theirs:
            try:
                pid = self.ask({"op": "branch"}, [theirs.fileno()])["pid"]
            except BaseException:
                ours.close()
                raise
        return Channel(ours), pid

    def task(self, name: str, descriptors: Sequence[int] = (), **arguments: Any) -> Any:
        """Have one of the tasks on trees run by a branch, with the zygote's rights over files."""
        with self._turns:
            with self._lock:
                worker = self._workers.pop() if self._workers else None
            worker = worker or self.branch()[0]
            try:
                return worker.ask({"op": "task", "task": name, "arguments": arguments}, descriptors)["done"]
            except SandboxClosed:
                worker.close()
                raise
            finally:
                if not worker.closed:
                    with self._lock:
                        self._workers.append(worker)

    def remove_on_exit(self, folder: Path) -> None:
        """Have a folder removed by the zygote should this process be killed."""
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.ask({"op": "remove_on_exit", "name": folder.name}, [parent])
        finally:
            os.close(parent)

    def base(self, binds: Sequence[Path] | None) -> str:
        """The key of the bottom layer for these binds (None: for boxes of nothing but their own files), made the first time."""
        paths = None if binds is None else tuple(binds)
        with self._lock:
            key = self._bases.get(paths)
            if key is None:
                operations = plan.bare_base() if binds is None else plan.base(binds)
                key = plan.base_key(operations)
                if key not in self._bases.values():
                    self.ask({"op": "base", "key": key, "layout": layout.to_wire(operations)})
                self._bases[paths] = key
            return key


_zygotes: PerProcess[str, ZygoteClient] = PerProcess()  # by tier
_outdated: PerProcess[ZygoteClient, None] = PerProcess()  # boxes still live by them
_exit_folders: PerProcess[Path, None] = PerProcess()  # what a zygote removes should this process be killed


def zygote_of(tier: str) -> ZygoteClient:
    """The living zygote of this process and tier; a process that was forked from this one starts its own."""
    with _zygotes.lock:
        zygote = _zygotes.get(tier)
        return _replace(tier) if zygote is None or not zygote.alive else zygote


def renewed(zygote: ZygoteClient) -> ZygoteClient | None:
    """A zygote that sees what is mounted now, in place of one that may not; None when it would see nothing else."""
    with _zygotes.lock:
        current = _zygotes.get(zygote.tier)
        if current is not zygote:
            return current
        if not zygote.outdated:
            return None
        _outdated.set(zygote, None)
        return _replace(zygote.tier)


def _replace(tier: str) -> ZygoteClient:
    """Start a zygote, which others use from now on."""
    before = _zygotes.get(tier)
    zygote = _zygotes.set(tier, ZygoteClient(tier))
    log.debug("zygote of tier %s %s, process %d", tier, "restarted" if before else "started", zygote.pid)
    if tier == default_tier():  # the one it takes the place of knew of these
        for folder, _ in _exit_folders.items():
            with contextlib.suppress(FileNotFoundError):
                zygote.remove_on_exit(folder)
    return zygote


def retire() -> None:
    """End this process's zygotes, once no box is open; the next box starts a new one."""
    with _zygotes.lock:
        for tier, zygote in _zygotes.items():
            _zygotes.pop(tier)
            zygote.end()


def default_tier() -> str:
    """The strongest namespace tier this user can ask for."""
    return "namespace-root" if os.geteuid() == 0 else "namespace-rootless"


def remove_on_exit(folder: Path) -> None:
    """Have a folder removed at once should this process be killed, where there is somebody to do it."""
    with contextlib.suppress(SandboxUnavailable):
        zygote_of(default_tier()).remove_on_exit(folder)
        _exit_folders.set(folder, None)


def receive_soon(channel: socket.socket, what: str) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message, which has to come within half a minute."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    if not poll.poll(_START_SECONDS * 1000):
        raise SandboxError(f"waited {_START_SECONDS:g} s for {what}; the machine may be overloaded, try again")
    return wire.receive(channel)


def unavailable(tier: str, message: Mapping[str, Any] | None) -> SandboxError:
    """Why no box could be made, with what to do."""
    code, text = message["error"] if message else (errno.EPIPE, "the process that makes boxes died")
    return SandboxUnavailable(explain(tier, code, text))
