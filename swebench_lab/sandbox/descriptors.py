"""DescriptorBox: commands, files, sessions and streams where a box takes and gives descriptors of this machine.

It implements the coarse level of `contract.Sandbox` over two methods, `_launch` and `_open`. It imports little, because
the process that serves a container from the inside is one, too.
"""

import abc
import errno
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.shell import commands
from swebench_lab.sandbox.shell.bash_session import BashSession
from swebench_lab.sandbox.shell.commands import Kept, Result, Running

_BLOCK = 1 << 20
_SCRIPT = 9  # the descriptor through which bash reads a command too long for an argument


class DescriptorBox(abc.ABC):
    """A box that commands can be started in with descriptors of this machine, and whose files can be opened from it.

    Attributes:
        workdir: Where commands run.
    """

    workdir: str

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

    def _limit_hit(self, killed: bool) -> str:
        """The bound this box has run into since it was last asked; "" where none was, or a backend cannot tell.

        Args:
            killed: Whether the command that asks was ended by SIGKILL, as a bound on memory does.
        """
        return ""

    def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str | None],
        stdin: bytes | int | None = None,
        timeout: float | None = None,
        merge: bool = True,
        max_output: int,
        script: str | None = None,
        keep: Kept | None = None,
        on_start: Callable[[Running], object] = lambda _: None,
    ) -> Result:
        """Run a program to its end, as `Sandbox.exec` says.

        Args:
            argv: The program and its arguments.
            cwd: Where to run.
            env: Variables on top of the box's; None as a value removes one.
            stdin: What it reads, or a descriptor to read it from, which is closed.
            timeout: Seconds; None waits for ever.
            merge: Whether errors go into `stdout`.
            max_output: Bytes kept of each output.
            script: Text that it can read from descriptor 9.
            keep: Takes its standard output, which is then not in the result.
            on_start: Called once the command was launched.
        """
        with commands.Pipes(merge) as pipes:
            descriptors = {1: pipes.write_end(1), 2: pipes.write_end(2)}
            if stdin is not None:
                descriptors[0] = pipes.take(stdin) if isinstance(stdin, int) else pipes.reader_of(stdin)
            if script is not None:
                descriptors[_SCRIPT] = pipes.reader_of(script)
            running = self._launch(argv, cwd, env, descriptors)
            on_start(running)
            return self._name_limit(commands.collect(running, pipes, timeout, max_output, keep))

    def _exec_script(
        self,
        script: str,
        *,
        cwd: str,
        env: Mapping[str, str | None],
        stdin: bytes | int | None,
        timeout: float | None,
        merge: bool,
        max_output: int,
        on_start: Callable[[Running], object] = lambda _: None,
    ) -> Result:
        """Run shell text that is too long for an argument."""
        return self.exec(
            ["bash", f"/dev/fd/{_SCRIPT}"], cwd=cwd, env=env, stdin=stdin, timeout=timeout, merge=merge,
            max_output=max_output, script=script, on_start=on_start,
        )  # fmt: skip

    def _pack(self, path: str, keep: Kept) -> Result:
        """Have a directory packed by tar."""
        argv = ["tar", "-cf", "-", "-C", path, "."]
        return self.exec(argv, cwd=self.workdir, env={}, merge=False, max_output=100_000, keep=keep)

    def _name_limit(self, result: Result) -> Result:
        """A failed result with the bound that explains it."""
        hit = self._limit_hit(result.signal == signal.SIGKILL or result.exit_code == 128 + signal.SIGKILL)
        if not hit or result.ok or result.timed_out or result.limit not in ("", "output"):
            return result
        return replace(result, limit=hit, exit_code=None if result.signal else result.exit_code)

    def _session(self, cwd: str, env: Mapping[str, str], or_above: bool) -> BashSession:
        return BashSession(self._launch, self._name_limit, cwd, env, or_above)

    # --- streams ------------------------------------------------------------------------------------------------------

    def _stream(self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None]) -> socket.socket:
        """A channel that is standard input and output of a program that is started."""
        ours, theirs = socket.socketpair()
        try:
            self._launch(argv, cwd, env, {0: theirs.fileno(), 1: theirs.fileno()}).close()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _connect(self, port: int) -> socket.socket:
        raise SandboxError(f"connecting to port {port} of the box: this kind of sandbox has no ports of its own")

    # --- files --------------------------------------------------------------------------------------------------------

    def _get(self, path: str, most: int) -> Iterator[bytes]:
        """The content of a regular file, piece by piece, until there is more than `most` bytes of it."""
        with _HostFile(self._open(path, os.O_RDONLY), os.O_RDONLY) as file:
            read = 0
            while read <= most and (data := file.read()):
                read += len(data)
                yield data

    def _put(self, path: str, pieces: Iterable[bytes], mode: int | None) -> None:
        """Make or replace a regular file, with the directories above it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with _HostFile(self._open(path, flags, mode, True), flags) as file:
            for data in pieces:
                file.write(data)

    def _names(self, path: str) -> list[str]:
        """The names in a directory, sorted; directories end with a slash."""
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as entries:
                return sorted(e.name + ("/" if e.is_dir(follow_symlinks=False) else "") for e in entries)
        finally:
            os.close(descriptor)


class _HostFile:
    """An open regular file of the box, read or written from this side; takes over the descriptor."""

    def __init__(self, descriptor: int, flags: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file")
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
