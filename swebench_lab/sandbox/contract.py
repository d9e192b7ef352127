"""What every sandbox promises: run commands, keep a shell, move files, tell what changed, be forked and closed."""

import abc
import contextlib
import itertools
import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.sandbox import quotas
from swebench_lab.sandbox.capabilities import CAPABILITIES
from swebench_lab.sandbox.checkpoints import Layer as Layer
from swebench_lab.sandbox.diffs.changes import WorkTreeChanges
from swebench_lab.sandbox.diffs.patch import apply, diff
from swebench_lab.sandbox.reading import MOST_READ, bounded, pack_directory, save_directory
from swebench_lab.sandbox.shell import shell_files
from swebench_lab.sandbox.shell.commands import Kept, Running
from swebench_lab.sandbox.shell.commands import Result as Result
from swebench_lab.sandbox.shell.session import Session as Session
from swebench_lab.sandbox.shell.stateless_session import StatelessSession

if TYPE_CHECKING:
    from swebench_lab.sandbox.relay import Relay
    from swebench_lab.sandbox.snapshot import Snapshot

_MOST_ARGUMENT = 100_000  # bytes; the kernel refuses a single argument of 128 KiB


class Sandbox(abc.ABC):
    """A private writable view over a Snapshot.

    A backend implements `exec`, `alive` and `_end`; the rest works through `exec` and may be done better. What only some
    kinds of sandboxes can do is declared in `capabilities`. A backend on this machine derives from `DescriptorBox` as
    well, which implements `exec`, files, sessions and streams over descriptors.

    Attributes:
        id: Name of this box, unique on the machine.
        tier: How strong its walls are: "namespace-root", "namespace-rootless", "landlock", "docker" or "local".
        capabilities: What of `CAPABILITIES` this kind of sandbox has.
        workdir: Where commands run: the repository.
        snapshot: What it started from.
        task_id: The task that a factory opened it for; empty where it was opened otherwise.
    """

    tier: str = ""
    task_id = ""
    capabilities: frozenset[str] = frozenset()
    has_terminals = False  # whether `start_on_terminal` works
    has_listeners = False  # whether `listen` works
    counts_kills = False  # whether `Result.limit` tells every kill for want of memory in it, and no other box's
    first_pid = 0  # of its first process, where that runs on this machine
    workdir: str = "/testbed"
    relay: "Relay | None" = None  # serves its allow-list, where it has one; forks have none
    snapshot: "Snapshot"
    sealed_git = "/.lab/git"  # where the sealed repository is seen in the box
    private_temp = "/dev/shm"  # a place in the box that checkpoints leave out
    other_temp = "/tmp"  # where there may be room when that place is full

    def __init__(self, snapshot: "Snapshot", cwd: str = "", env: Mapping[str, str] | None = None) -> None:
        self.id = secrets.token_hex(6)
        self.snapshot = snapshot
        self.closed = False
        self.workdir = snapshot.workdir
        self._session_cwd = cwd
        self._session_env = dict(env or {})
        self._sessions: list[Session] = []
        self._seat = quotas.take_seat()

    # --- what a backend implements -----------------------------------------------------------------------------------

    @abc.abstractmethod
    def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str | None],
        stdin: bytes | None = None,
        timeout: float | None = None,
        merge: bool = True,
        max_output: int,
    ) -> Result:
        """Run a program to its end; `run` is the same with defaults and shell text.

        Args:
            argv: The program and its arguments; no shell looks at them.
            cwd: Where to run, from "/".
            env: Variables on top of the box's; None as a value removes one.
            stdin: What it can read; nothing when not given.
            timeout: Seconds; None waits for ever.
            merge: Whether errors go into `stdout`, in order.
            max_output: Bytes kept of each output, half from its head and half from its tail.

        Raises:
            SandboxClosed: The box was closed, or is gone.
            SandboxPathError: `cwd` is no directory, or the program does not exist.
        """

    @abc.abstractmethod
    def alive(self) -> bool:
        """Whether the box is open and still there to be asked."""

    @abc.abstractmethod
    def _end(self) -> None:
        """End every process and give back what the box holds; called once."""

    # --- what a backend may implement, and declares then --------------------------------------------------------------

    def checkpoint(self) -> Layer:
        """Keep what changed since the last checkpoint as a layer.

        Processes of the box stop while files are copied. A layer holds files (with deletions, modes, owners, times, links);
        not processes, open files, or /dev/shm.

        Raises:
            SandboxError: This kind of sandbox has no checkpoints. Or the box, which goes on, has written more than a layer
                holds: directories nested deeper than 256, more than 400,000 names, more than five minutes can copy.
        """
        raise self._lacks("checkpoint", "making a checkpoint")

    def fork(self, at: Layer | None = None) -> "Sandbox":
        """A second live box from a checkpoint of this one (default: one made now). No process is carried over.

        Raises:
            SandboxError: This kind of sandbox cannot be forked, or the checkpoint is not one of this box's.
        """
        raise self._lacks("fork", "forking the box")

    def _session(self, cwd: str, env: Mapping[str, str], or_above: bool) -> Session:
        """A shell; `or_above`: in a directory above `cwd` where that is gone."""
        return StatelessSession(self.exec, cwd, env)

    def _stream(self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None]) -> socket.socket:
        """A channel that is standard input and output of a program that is started."""
        raise self._lacks("stream", "opening a stream")

    def _connect(self, port: int) -> socket.socket:
        """A connection to a port of the box's loopback."""
        raise self._lacks("stream", "opening a stream")

    def _beside(self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], output: int) -> Running:
        """A program that is started and left to run."""
        raise SandboxUnavailable(
            f"starting a program beside others in a sandbox of tier {self.tier!r}: it runs whole commands only; use "
            "SandboxFactory('namespace')"
        )

    def _listen(self, port: int) -> socket.socket:
        """A listening socket on a port of the box's loopback, where `has_listeners`; raises OSError."""
        raise NotImplementedError

    def _lacks(self, capability: str, doing: str) -> SandboxError:
        return SandboxError(
            f"{doing}: sandboxes of tier {self.tier!r} lack {capability!r} ({CAPABILITIES[capability]}); use another "
            "backend for it, such as 'namespace'"
        )

    # --- commands ----------------------------------------------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: bytes | str | None = None,
        merge: bool = True,
        max_output: int = 10_000_000,
    ) -> Result:
        """Run one command to its end.

        The command ends when its first process does; background processes it leaves live on and cannot hold it up. At
        the timeout everything it started ends, daemons included, and the box lives on.

        Args:
            command: Text for `bash -c` (the Snapshot's shell), or a program with its arguments.
            timeout: Seconds; None waits for ever.
            cwd: Where to run; relative to `workdir`.
            env: Variables on top of the box's; None as a value removes one.
            stdin: What it can read; nothing when not given.
            merge: Whether errors go into `stdout`, in order; otherwise they are in `stderr`.
            max_output: Bytes kept of each output, half from its head and half from its tail.

        Raises:
            SandboxClosed: The box was closed, or its first process is gone.
            SandboxPathError: `cwd` is no directory, or the program does not exist.
        """
        self._check_open()
        data = stdin.encode("utf-8", errors="surrogateescape") if isinstance(stdin, str) else stdin
        at, variables = self._path(cwd or ""), env or {}
        if isinstance(command, str) and len(os.fsencode(command)) > _MOST_ARGUMENT:
            return self._exec_script(command, cwd=at, env=variables, stdin=data, timeout=timeout, merge=merge,
                                     max_output=max_output)  # fmt: skip
        argv = [self.snapshot.shell, "-c", command] if isinstance(command, str) else list(command)
        return self.exec(argv, cwd=at, env=variables, stdin=data, timeout=timeout, merge=merge, max_output=max_output)

    def _exec_script(
        self,
        script: str,
        *,
        cwd: str,
        env: Mapping[str, str | None],
        stdin: bytes | None,
        timeout: float | None,
        merge: bool,
        max_output: int,
    ) -> Result:
        """Run shell text that is too long for an argument."""
        place = f"{self.private_temp}/lab-{secrets.token_hex(8)}"
        self._put(place, [os.fsencode(script)], 0o600)
        argv = ["bash", "-c", 'exec 9<"$0"; rm -f -- "$0"; exec bash /dev/fd/9', place]
        return self.exec(argv, cwd=cwd, env=env, stdin=stdin, timeout=timeout, merge=merge, max_output=max_output)

    def start(
        self,
        argv: Sequence[str],
        output: int,
        *,
        cwd: str | None = None,
        env: Mapping[str, str | None] | None = None,
    ) -> Running:
        """Start a program and return while it runs; the caller ends it with `kill`, or waits and calls `finish`.

        Args:
            argv: The program and its arguments.
            output: Descriptor of a pipe that its output and its errors go to.
            cwd: Where it starts; relative to `workdir`.
            env: Variables on top of the box's; None as a value removes one.

        Raises:
            SandboxUnavailable: Boxes of this kind run whole commands only.
            SandboxClosed: The box was closed, or its first process is gone.
            SandboxPathError: When it is finished: `cwd` is no directory, or the program does not exist.
        """
        self._check_open()
        return self._beside(list(argv), self._path(cwd or ""), env or {}, output)

    def session(self, *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> Session:
        """A shell that keeps its directory and variables from one command to the next.

        Functions, variables that are not exported, and jobs stay as well where the box has the capability "session".
        """
        self._check_open()
        start = self._path(cwd) if cwd is not None else self._session_cwd or self.workdir
        session = self._session(start, {**self._session_env, **(env or {})}, cwd is None)
        self._sessions = [other for other in self._sessions if not other.closed] + [session]
        return session

    def start_on_terminal(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str | None] | None = None,
        size: tuple[int, int] = (24, 80),
    ) -> tuple[Running, int]:
        """Start a program with a new terminal of the box's own as its input and output.

        Args:
            argv: The program and its arguments.
            cwd: Where it starts; relative to `workdir`.
            env: Variables on top of the box's; None as a value removes one.
            size: Rows and columns, in characters.

        Returns:
            The program, and the controlling end of the terminal: a descriptor that does not block, for the caller to
            read, write and close.

        Raises:
            SandboxError: This kind of sandbox has no terminals, or the terminal could not be opened.
            SandboxPathError: `cwd` is no directory, or the program does not exist.
        """
        self._check_open()
        raise SandboxError(
            f"opening a terminal in a sandbox of tier {self.tier!r}: only namespace sandboxes have terminals of "
            "their own; run commands with `run` or `session` instead"
        )

    def stream(
        self, to: int | Sequence[str], *, cwd: str | None = None, env: Mapping[str, str | None] | None = None
    ) -> socket.socket:
        """Open a byte channel into the box, for as long as both sides want.

        Args:
            to: A program with its arguments, which is started with the channel as its standard input and output (its
                errors are dropped); or the number of a TCP port on which a program of the box listens on 127.0.0.1.
            cwd: Where the program starts; relative to `workdir`.
            env: Variables of the program on top of the box's; None as a value removes one.

        Returns:
            A connected stream socket for the caller to close. It ends when the program does, and with the box. A
            program that cannot be started, or a port where nobody listens, is a stream that ends at once, or an error
            where that can be told before.

        Raises:
            SandboxError: This kind of sandbox has no streams, or no ports of its own; or nobody listens there.
            SandboxPathError: The program does not exist.
        """
        self._check_open()
        if isinstance(to, int):
            if not 0 < to < 1 << 16:
                raise ValueError(f"a port is a number from 1 to 65535, not {to}")
            return self._connect(to)
        return self._stream(list(to), self._path(cwd or ""), env or {})

    def listen(self, port: int = 0) -> socket.socket:
        """Listen on a port of the box's own loopback, from outside.

        Who accepts on the returned socket serves programs of this box and no other. Forks start without it. Close it to stop.

        Args:
            port: On 127.0.0.1 in the box; 0 takes a free one.

        Raises:
            SandboxUnavailable: Boxes of this kind have no loopback that is theirs alone.
            SandboxError: The port is taken in the box.
        """
        self._check_open()
        if not self.has_listeners:
            raise SandboxUnavailable(
                f"listening inside a sandbox of tier {self.tier!r}: it has no loopback of its own that this process could "
                "serve; use SandboxFactory('namespace') with network='none'"
            )
        try:
            return self._listen(port)
        except OSError as error:
            raise SandboxError(
                f"listen on port {port} of sandbox {self.id}: {error.strerror}; choose another port"
            ) from error

    def _sweep(self) -> None:  # noqa: B027 - not every backend can
        """End every process whose command has ended, where the backend can tell."""

    # --- files --------------------------------------------------------------------------------------------------------

    def read_bytes(self, path: str, most: int = MOST_READ) -> bytes:
        """The content of a regular file; relative paths are under `workdir`.

        Args:
            path: In the box.
            most: Bytes that are read into memory; a file that a box wrote can be far larger than it looks.

        Raises:
            SandboxPathError: It cannot be read, is no regular file, or holds more.
        """
        with self._naming("read", path) as place:
            return b"".join(bounded(self._get(place, most), path, most))

    def read(self, path: str, most: int = MOST_READ) -> str:
        """The text of a regular file (UTF-8; invalid bytes become U+FFFD), as `read_bytes` has it."""
        return self.read_bytes(path, most).decode("utf-8", errors="replace")

    def write(self, path: str, content: str | bytes, mode: int | None = None) -> None:
        """Make or replace a regular file, with the directories above it."""
        data = content.encode("utf-8", errors="surrogateescape") if isinstance(content, str) else content
        with self._naming("write", path) as place:
            self._put(place, [data], mode)

    def list(self, path: str = ".") -> list[str]:
        """The names in a directory, sorted; directories end with a slash."""
        with self._naming("list", path) as place:
            return [*self._names(place)]

    def upload(self, host: str | Path, path: str) -> None:
        """Copy a file or directory of the host into the box (links stay links)."""
        source = Path(host)
        if not source.is_dir():
            self.write(path, source.read_bytes(), mode=source.stat().st_mode & 0o777)
            return
        unpack = ["sh", "-c", 'mkdir -p "$0" && exec tar -xf - --no-same-owner -C "$0"', path]
        result = self.run(unpack, merge=True, stdin=pack_directory(source))
        if not result.ok:
            raise SandboxPathError(f"upload {host} to {path} in the box: {result.output.strip()}")

    def download(self, path: str, host: str | Path, most: int = 4 << 30) -> None:
        """Copy a regular file or a directory out of the box.

        Of a directory, regular files, directories and the links that stay inside it arrive; nothing is ever written
        outside `host`, whatever the box put into the tree.

        Args:
            path: In the box.
            host: Where it goes; a directory is made if needed.
            most: Bytes of the file, or of the packed directory.
        """
        target = Path(host)
        try:
            with self._naming("read", path) as place:
                pieces = bounded(self._get(place, most), path, most)
                first = next(pieces, b"")
                with target.open("wb") as file:
                    for piece in itertools.chain([first], pieces):
                        file.write(piece)
            return
        except SandboxPathError:
            if self.run(["test", "-d", path]).exit_code != 0:
                raise
        save_directory(lambda spool: self._pack(self._path(path), spool), path, target, most)

    # How a box that has nothing but `exec` moves files; each may be done better.

    def _get(self, path: str, most: int) -> Iterator[bytes]:
        """The content of a regular file, piece by piece, until there is more than `most` bytes of it; or OSError."""
        yield shell_files.read(self.exec, path, most)

    def _put(self, path: str, pieces: Iterable[bytes], mode: int | None) -> None:
        """Make or replace a regular file, with the directories above it; or OSError."""
        shell_files.write(self.exec, path, b"".join(pieces), mode)

    def _names(self, path: str) -> Sequence[str]:
        """The names in a directory, sorted; directories end with a slash. Or OSError."""
        return shell_files.names(self.exec, path)

    def _pack(self, path: str, keep: Kept) -> Result:
        """Have a directory packed by tar."""
        return shell_files.pack(self.exec, path, keep)

    # --- what changed -------------------------------------------------------------------------------------------------

    def diff(self) -> str:
        """A patch from the sealed start to the files of `workdir` as they are now.

        New files are in it, except those that git ignores; binary files are in it as binary patches. Nothing the box
        did to its own `.git` (commits, resets, hooks, filters, configuration, removal) changes what it says.
        """
        return diff(self)

    def _touched(self) -> WorkTreeChanges | None:
        """Return which paths of `workdir` may have changed, at least; None where this backend cannot tell."""
        return None

    def apply_patch(self, patch: str) -> Result:
        """Apply a patch to the files of `workdir`; the result says whether and why not."""
        return apply(self, patch)

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the box and everything in it; calling it again does nothing."""
        if not self.closed:
            self.closed = True
            for session in self._sessions:
                session.forget()
            self._sessions = []  # each holds the other: a closed box would wait for the collector of cycles
            if self.relay:
                self.relay.close()
            try:
                self._end()
            finally:
                if self._seat is not None:
                    self._seat.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sandbox {self.id} ({self.tier}{', closed' if self.closed else ''}) of {self.snapshot.key[:12]}>"

    def _session_state(self) -> tuple[str, dict[str, str]]:
        """Directory and variables of the newest open session that is not busy; where sessions start, without one."""
        for session in reversed(self._sessions):
            if (state := session.state()) is not None:
                return state
        return self._session_cwd or self.workdir, dict(self._session_env)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed; open another one with SandboxFactory.open or fork()")

    def _path(self, path: str) -> str:
        return os.path.normpath(self.workdir) if path in ("", ".") else os.path.join(self.workdir, path)

    @contextlib.contextmanager
    def _naming(self, doing: str, path: str) -> Iterator[str]:
        """The place in the box that a path means; an error about it says what was being done to which path."""
        self._check_open()
        if "\0" in path:
            raise SandboxPathError(f"{doing} {path!r} in the box: a path cannot hold a NUL character")
        try:
            yield self._path(path)
        except OSError as error:
            raise SandboxPathError(f"{doing} {path} in the box: {error.strerror}") from error


__all__ = ["Layer", "Result", "Running", "Sandbox", "Session"]
