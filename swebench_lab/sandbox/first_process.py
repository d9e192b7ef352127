"""FirstProcess: the client of a box's first process (`zygote/init.py`), which starts commands and opens files for it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.shell.commands import Exit

Reply = tuple[dict[str, Any], list[int]]


class FirstProcess:
    """Sends requests and waits for replies; many threads may do so at once.

    Args:
        control: The channel to it.
        gone: Says what happened when it is not there any more, given what was being done.
    """

    def __init__(self, control: socket.socket, gone: Callable[[str], SandboxClosed]) -> None:
        self.gone = gone
        self._control = control
        self._numbers = itertools.count(1)

    def launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> InitCommand:
        """Start a command, as `DescriptorBox._launch` says."""
        number = next(self._numbers)
        message = {
            "op": "run",
            "id": number,
            "argv": list(argv),
            "cwd": cwd,
            "env": dict(env),
            "numbers": list(descriptors),
        }
        return InitCommand(self, number, self.send(message, list(descriptors.values())))

    def open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        """Open a path, as `DescriptorBox._open` says."""
        message = {"op": "open", "path": path, "flags": flags, "mode": mode, "parents": parents}
        return self.ask(message)[1][0]

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> socket.socket:
        """Send a request; returns where its replies arrive."""
        ours, theirs = wire.pair()
        try:
            wire.send(self._control, message, [theirs.fileno(), *descriptors])
        except OSError as error:
            ours.close()
            raise self.gone(message["op"]) from error
        finally:
            theirs.close()
        return ours

    def ask(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> Reply:
        """Send a request and wait for its one reply; OSError when the box says it failed."""
        with self.send(message, descriptors) as replies:
            reply, received = wire.receive(replies)
        if reply is None:
            raise self.gone(message["op"])
        if "error" in reply:
            raise OSError(*reply["error"])
        return reply, received


class InitCommand:
    """A command that a first process runs, as `commands.Running` wants it."""

    def __init__(self, first: FirstProcess, number: int, replies: socket.socket) -> None:
        self._first = first
        self._number = number
        self._replies = replies

    def fileno(self) -> int:
        """Readable once it has ended."""
        return self._replies.fileno()

    def finish(self) -> Exit:
        """How it ended."""
        message, _ = wire.receive(self._replies)
        limit = ""
        if message and "limit" in message:
            limit = message["limit"]
            message, _ = wire.receive(self._replies)
        if message is None:
            raise self._first.gone("run")
        if "error" in message and message["error"][0] == errno.EAGAIN:
            return Exit(-signal.SIGKILL, limit="processes")  # it never got to run
        if "error" in message:
            raise SandboxPathError(f"start a command in the box: {message['error'][1]}") from OSError(*message["error"])
        return Exit(message["exit"], message["cpu"], limit)

    def kill(self, since: float | None = None, spared: Sequence[int] = ()) -> None:
        """End it with everything it started."""
        with contextlib.suppress(SandboxClosed):  # nothing of it is left
            self._first.ask({"op": "kill", "id": self._number, "since": since, "spared": spared})

    def living(self) -> Sequence[int]:
        """The processes that it has now."""
        pids: list[int] = self._first.ask({"op": "living", "id": self._number})[0]["living"]
        return pids

    def drain(self, descriptors: Sequence[int]) -> None:
        """Keep reading what background processes still write into these pipes."""
        self._first.send({"op": "drain"}, descriptors).close()

    def close(self) -> None:
        """Let go of it."""
        self._replies.close()
