"""Session: commands in one shell of a box, one after the other, each starting where the last one ended."""

from types import TracebackType
from typing import Protocol, Self

from swebench_lab.sandbox.shell.commands import Result


class Session(Protocol):
    """Commands in one shell: directory, variables, functions and background jobs stay.

    Attributes:
        closed: Whether it was closed, or its box was.
    """

    closed: bool

    @property
    def cwd(self) -> str:
        """Where the shell stands."""

    @property
    def alive(self) -> bool:
        """Whether the shell of the last command still runs, so that the next one finds all that was set in it."""

    def run(self, command: str, timeout: float | None = None, max_output: int = ...) -> Result:
        """Run a command in the shell.

        Args:
            command: Shell text, of any number of lines.
            timeout: Seconds; at their end everything the command started ends, the shell and earlier jobs live on.
            max_output: Bytes of output kept, half from its head and half from its tail.
        """

    def env(self) -> dict[str, str]:
        """The variables that programs started by the shell would see."""

    def state(self) -> tuple[str, dict[str, str]] | None:
        """Directory and variables; the last known ones while a command runs, None when the session is closed."""

    def close(self) -> None:
        """End the shell and everything started in it; calling it again does nothing."""

    def forget(self) -> None:
        """Let go of a shell whose box is ending."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
