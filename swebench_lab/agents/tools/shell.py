"""Shell: the one persistent bash of an attempt, opened when it is first used."""

from __future__ import annotations

from types import TracebackType

from swebench_lab.sandbox.contract import Result, Sandbox, Session


class Shell:
    """A bash session of an attempt: directory, variables and functions last from one command to the next.

    The session itself sees to commands that are killed or that end their shell: the next one finds a shell in the
    same directory.

    Args:
        sandbox: Where it runs.
        cwd: Directory to start in; empty: the repository.
    """

    def __init__(self, sandbox: Sandbox, cwd: str = "") -> None:
        self._sandbox = sandbox
        self._session: Session | None = None
        self._start = cwd or sandbox.workdir

    @property
    def cwd(self) -> str:
        """Where the next command starts, and where relative paths begin."""
        return self._session.cwd if self._session else self._start

    def run(self, command: str, timeout: float | None = None) -> Result:
        """Run one command to its end or its timeout.

        Raises:
            SandboxError: The sandbox failed.
        """
        if self._session is None:
            self._session = self._sandbox.session(cwd=self._start)
        return self._session.run(command, timeout=timeout)

    def close(self) -> None:
        """End the shell and what runs in it; the next `run` opens another in the same place."""
        session, self._session = self._session, None
        if session is not None:
            self._start = session.cwd
            session.close()

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
