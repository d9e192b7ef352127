"""What every sandbox promises: run commands, keep a shell, move files, tell what changed, be forked and closed."""

import abc
import io
import itertools
import os
import secrets
import shlex
import signal
import socket
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.sandbox import commands, quotas, terminal
from swebench_lab.sandbox.checkpoints import Layer as Layer
from swebench_lab.sandbox.commands import Result as Result
from swebench_lab.sandbox.commands import Running
from swebench_lab.sandbox.diffs.changes import WorkTreeChanges
from swebench_lab.sandbox.diffs.patch import apply, diff
from swebench_lab.sandbox.layers.archive import unpack_download
from swebench_lab.sandbox.session import Session as Session

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

_MOST_ARGUMENT = 100_000  # bytes; the kernel refuses a single argument of 128 KiB
MOST_READ = 256 << 20
"""Bytes of a file of a box that are read into memory when nothing else is said."""

_BLOCK = 1 << 20
_SCRIPT = 9  # the descriptor through which bash reads a command too long for an argument


class Sandbox(abc.ABC):
    """A private writable view over a Snapshot.

    Backends implement `_launch`, `_open`, `checkpoint`, `fork` and `_end`; the rest is the same for all.

    Attributes:
        id: Name of this box, unique on the machine.
        tier: How strong its walls are: "namespace-root", "namespace-rootless", "landlock", "docker" or "local".
        workdir: Where commands run: the repository.
        snapshot: What it started from.
    """

    tier: str = ""
    has_terminals = False  # whether `start_on_terminal` works
    has_listeners = False  # whether `listen` works
    workdir: str = "/testbed"
    snapshot: "Snapshot"
    sealed_git = "/.lab/git"  # where the sealed repository is seen in the box
    private_temp = "/dev/shm"  # a place in the box that checkpoints leave out
    other_temp = "/tmp"  # where there may be room when that place is full

    def __init__(self, snapshot: "Snapshot", cwd: str = "", env: Mapping[str, str] | None = None) -> None:
        self.id = secrets.token_hex(6)
        self.snapshot = snapshot
        self.closed = False
        self._session_cwd = cwd
        self._session_env = dict(env or {})
        self._sessions: list[Session] = []
        self._seat = quotas.take_seat()

    # --- what a backend implements -----------------------------------------------------------------------------------

    @abc.abstractmethod
    def _launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> Running:
        """Start a command with these descriptors as its 0, 1, 2, ...; without one it reads nothing.

        A descriptor of a file that has a name on the host must never be among them: root in the box could change its
        mode.
        """

    @abc.abstractmethod
    def _open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        """Open a path as a command of the box would; raises OSError."""

    @abc.abstractmethod
    def checkpoint(self) -> Layer:
        """Keep what changed since the last checkpoint as a layer.

        Processes of the box are stopped while files are copied and go on afterwards. What a layer holds is files (with
        deletions, modes, owners, times, links); not processes, open files, or /dev/shm.

        Raises:
            SandboxError: The box has written more than a layer holds: directories nested deeper than 256, more than
                400,000 names, or more than can be copied in five minutes. The box goes on.
        """

    @abc.abstractmethod
    def fork(self, at: Layer | None = None) -> "Sandbox":
        """A second live box from a checkpoint of this one (default: one made now). No process is carried over."""

    @abc.abstractmethod
    def _end(self) -> None:
        """End every process and give back what the box holds; called once."""

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
            command: Text for `bash -c`, or a program with its arguments.
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
        with commands.Pipes(merge) as pipes:
            descriptors = {1: pipes.write_end(1), 2: pipes.write_end(2)}
            if stdin is not None:
                descriptors[0] = pipes.reader_of(stdin)
            argv = list(command)
            if isinstance(command, str):
                argv = ["bash", "-c", command]
                if len(os.fsencode(command)) > _MOST_ARGUMENT:
                    descriptors[_SCRIPT] = pipes.reader_of(command)
                    argv = ["bash", f"/dev/fd/{_SCRIPT}"]
            running = self._launch(argv, self._path(cwd or ""), env or {}, descriptors)
            return self._name_limit(commands.collect(running, pipes, timeout, max_output))

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
            SandboxClosed: The box was closed, or its first process is gone.
            SandboxPathError: When it is finished: `cwd` is no directory, or the program does not exist.
        """
        self._check_open()
        return self._launch(list(argv), self._path(cwd or ""), env or {}, {1: output, 2: output})

    def session(self, *, cwd: str | None = None, env: Mapping[str, str] | None = None) -> Session:
        """A bash that lives on between commands and keeps its directory and variables."""
        self._check_open()
        start = self._path(cwd) if cwd is not None else self._session_cwd or self.workdir
        session = Session(self._launch, self._name_limit, start, {**self._session_env, **(env or {})}, cwd is None)
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
        if not self.has_terminals:
            raise SandboxError(
                f"opening a terminal in a sandbox of tier {self.tier!r}: only namespace sandboxes have terminals of "
                "their own; run commands with `run` or `session` instead"
            )
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

    def listen(self, port: int = 0) -> socket.socket:
        """Listen on a port of the box's own loopback, from outside.

        Who accepts on the returned socket serves programs of this box, and of no other; nothing else becomes reachable
        from the box, whose network stays closed. Forks of the box start without it. Close the socket to stop.

        Args:
            port: On 127.0.0.1 in the box; 0 takes a free one.

        Raises:
            SandboxUnavailable: Boxes of this kind have no loopback that is theirs alone.
            SandboxError: The port is taken in the box.
        """
        self._check_open()
        raise SandboxUnavailable(
            f"listening inside a sandbox of tier {self.tier!r}: it has no loopback of its own that this process could "
            "serve; use SandboxFactory('namespace') with network='none'"
        )

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
        return b"".join(self._pieces(path, most))

    def read(self, path: str, most: int = MOST_READ) -> str:
        """The text of a regular file (UTF-8; invalid bytes become U+FFFD), as `read_bytes` has it."""
        return self.read_bytes(path, most).decode("utf-8", errors="replace")

    def write(self, path: str, content: str | bytes, mode: int | None = None) -> None:
        """Make or replace a regular file, with the directories above it."""
        data = content.encode("utf-8", errors="surrogateescape") if isinstance(content, str) else content
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with self._file("write", path, flags, mode, parents=True) as file:
            try:
                file.write(data)
            except OSError as error:
                raise SandboxPathError(f"write {len(data)} bytes to {path} in the box: {error.strerror}") from error

    def list(self, path: str = ".") -> list[str]:
        """The names in a directory, sorted; directories end with a slash."""
        descriptor = self._descriptor("list", path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as entries:
                return sorted(e.name + ("/" if e.is_dir(follow_symlinks=False) else "") for e in entries)
        finally:
            os.close(descriptor)

    def upload(self, host: str | Path, path: str) -> None:
        """Copy a file or directory of the host into the box (links stay links)."""
        source = Path(host)
        if not source.is_dir():
            self.write(path, source.read_bytes(), mode=source.stat().st_mode & 0o777)
            return
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=".")
        done = self.run(
            ["sh", "-c", 'mkdir -p "$0" && exec tar -xf - --no-same-owner -C "$0"', path],
            merge=True,
            stdin=packed.getvalue(),
        )
        if not done.ok:
            raise SandboxPathError(f"upload {host} to {path} in the box: {done.output.strip()}")

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
        pieces = self._pieces(path, most)
        try:
            first = next(pieces, b"")
        except SandboxPathError:
            if self.run(["test", "-d", path]).exit_code != 0:
                raise
        else:
            with target.open("wb") as file:
                for piece in itertools.chain([first], pieces):
                    file.write(piece)
            return
        spool = commands.Spool(most)
        with commands.Pipes(merge=False) as pipes, spool.file as packed:
            running = self._launch(
                ["tar", "-cf", "-", "-C", path, "."], self.workdir, {}, {1: pipes.write_end(1), 2: pipes.write_end(2)}
            )
            result = commands.collect(running, pipes, None, 100_000, spool)
            if not result.ok or spool.dropped:
                reason = f"more than {most} bytes" if spool.dropped else result.stderr.decode(errors="replace").strip()
                raise SandboxPathError(f"download {path}: {reason}")
            packed.seek(0)
            try:
                unpack_download(packed, str(target))
            except OSError as error:
                raise SandboxPathError(f"download {path} to {host}: {error.strerror}") from error

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

    def _limit_hit(self, killed: bool) -> str:
        """The bound this box has run into since it was last asked; "" where none was, or a backend cannot tell.

        Args:
            killed: Whether the command that asks was ended by SIGKILL, as a bound on memory does.
        """
        return ""

    def _name_limit(self, result: Result) -> Result:
        """A failed result with the bound that explains it."""
        hit = self._limit_hit(result.signal == signal.SIGKILL or result.exit_code == 128 + signal.SIGKILL)
        if not hit or result.ok or result.timed_out or result.limit not in ("", "output"):
            return result
        return replace(result, limit=hit, exit_code=None if result.signal else result.exit_code)

    def _session_state(self) -> tuple[str, dict[str, str]]:
        """Directory and variables of the newest open session that is not busy; where sessions start, without one."""
        for session in reversed(self._sessions):
            state = session.state()
            if state is not None:
                return state
        return self._session_cwd or self.workdir, dict(self._session_env)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed; open another one with SandboxFactory.open or fork()")

    def _path(self, path: str) -> str:
        return (
            os.path.normpath(os.path.join(self.workdir, path))
            if path in ("", ".")
            else os.path.join(self.workdir, path)
        )

    def _descriptor(self, doing: str, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        self._check_open()
        if "\0" in path:
            raise SandboxPathError(f"{doing} {path!r} in the box: a path cannot hold a NUL character")
        try:
            return self._open(self._path(path), flags, mode, parents)
        except OSError as error:
            raise SandboxPathError(f"{doing} {path} in the box: {error.strerror}") from error

    def _pieces(self, path: str, most: int) -> Iterator[bytes]:
        """The content of a regular file, piece by piece; an error once there is more than `most` bytes of it."""
        with self._file("read", path, os.O_RDONLY) as file:
            read = 0
            while data := file.read():
                read += len(data)
                if read > most:
                    raise too_large(path, most)
                yield data

    def _file(self, doing: str, path: str, flags: int, mode: int | None = None, parents: bool = False) -> "_HostFile":
        descriptor = self._descriptor(doing, path, flags, mode, parents)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SandboxPathError(f"{doing} {path} in the box: it is no regular file")
        return _HostFile(descriptor, flags)


class _HostFile:
    """An open regular file of the box, read or written from this side."""

    def __init__(self, descriptor: int, flags: int) -> None:
        self._file = os.fdopen(descriptor, "wb" if flags & os.O_WRONLY else "rb", buffering=0)

    def read(self) -> bytes:
        return self._file.read(min(os.fstat(self._file.fileno()).st_size + 1, _BLOCK))

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def __enter__(self) -> "_HostFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def too_large(path: str, most: int) -> SandboxPathError:
    """Say that a file of a box holds more than may be read."""
    return SandboxPathError(f"read {path} in the box: it holds more than {most} bytes; say how much is fine with most=")


def shell_line(command: str | Sequence[str]) -> str:
    """A command as one would type it."""
    return command if isinstance(command, str) else shlex.join(command)


__all__ = ["Layer", "Result", "Running", "Sandbox", "Session", "shell_line"]
