"""This side of the zygote: started when first needed, one per process and tier, shared by all threads."""

import contextlib
import errno
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
from swebench_lab.sandbox.zygote import layout, plan
from swebench_lab.sandbox.zygote import process as zygote
from swebench_lab.sandbox.zygote.refusals import explain

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


class Zygote(Channel):
    """A zygote process: one per process, tier and lifetime, shared by all threads."""

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self._bases: dict[tuple[Path, ...], str] = {}
        self._lock = threading.Lock()
        self._workers: list[Channel] = []
        self._turns = threading.BoundedSemaphore(_WORKERS)
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._mounts).atexit = False
        self._outdated = False
        ours, theirs = wire.pair()
        super().__init__(ours)
        command = [sys.executable, "-I", "-S", zygote.__file__, str(theirs.fileno()), _TIERS[tier]]
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
        """Have a function of `trees` run by a branch, with the zygote's rights over files."""
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

    def inherit(self, folder: Path) -> None:
        """Have a folder removed by the zygote should this process be killed."""
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.ask({"op": "inherit", "name": folder.name}, [parent])
        finally:
            os.close(parent)

    def base(self, binds: Sequence[Path]) -> str:
        """The key of the bottom layer for these binds, which is made the first time."""
        with self._lock:
            key = self._bases.get(tuple(binds))
            if key is None:
                operations = plan.base(binds)
                key = plan.base_key(operations)
                if key not in self._bases.values():
                    self.ask({"op": "base", "key": key, "layout": layout.to_wire(operations)})
                self._bases[tuple(binds)] = key
            return key


_zygotes: dict[tuple[int, str], Zygote] = {}
_zygotes_lock = threading.Lock()
_outdated: list[Zygote] = []
_heirlooms: dict[int, list[Path]] = {}  # by process: the folders that its zygote removes should it be killed


def zygote_of(tier: str) -> Zygote:
    """The living zygote of this process and tier; a process that was forked from this one starts its own."""
    with _zygotes_lock:
        found = _zygotes.get((os.getpid(), tier))
        return _replace(tier) if found is None or not found.alive else found


def renewed(zygote: Zygote) -> Zygote | None:
    """A zygote that sees what is mounted now, in place of one that may not; None when it would see nothing else."""
    with _zygotes_lock:
        found = _zygotes.get((os.getpid(), zygote.tier))
        if found is not zygote:
            return found
        if not zygote.outdated:
            return None
        _outdated.append(zygote)  # its boxes end with it, so it stays
        return _replace(zygote.tier)


def _replace(tier: str) -> Zygote:
    """Start a zygote, which others use from now on."""
    made = _zygotes[os.getpid(), tier] = Zygote(tier)
    if tier == default_tier():  # the one it takes the place of knew of these
        for folder in _heirlooms.get(os.getpid(), ()):
            with contextlib.suppress(FileNotFoundError):
                made.inherit(folder)
    return made


def retire() -> None:
    """End this process's zygotes, once no box is open; the next box starts a new one."""
    with _zygotes_lock:
        for key in [key for key in _zygotes if key[0] == os.getpid()]:
            _zygotes.pop(key).end()


def _forget() -> None:
    """In a forked child: the lock may be held by a thread that does not exist here."""
    global _zygotes_lock
    _zygotes_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def default_tier() -> str:
    """The strongest namespace tier this user can ask for."""
    return "namespace-root" if os.geteuid() == 0 else "namespace-rootless"


def bequeath(folder: Path) -> None:
    """Have a folder removed at once should this process be killed, where there is somebody to do it."""
    with contextlib.suppress(SandboxUnavailable):
        zygote_of(default_tier()).inherit(folder)
        _heirlooms.setdefault(os.getpid(), []).append(folder)


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
