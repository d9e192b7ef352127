"""Shell: the one persistent bash of an attempt, opened when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from swebench_lab.sandbox.contract import Result, Sandbox, Session


class Shell:
    """A bash session of an attempt: directory, variables and functions last from one command to the next.

    A command that ends its shell (`exit`, `set -e`, a loop that is killed) leaves the next one a new shell: in the same
    directory, with the exported variables as they were before that command, and nothing else. `new_shell` says so.

    Args:
        sandbox: Where it runs.
        cwd: Directory to start in; empty: the repository.
    """

    def __init__(self, sandbox: Sandbox, cwd: str = "") -> None:
        self._sandbox = sandbox
        self._session: Session | None = None
        self._start = cwd or sandbox.workdir
        self._first: dict[str, str] = {}
        self.new_shell = ""
        """What the latest command's end of its shell took and left, for whoever reads its output; empty: it goes on."""

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
            self._first = self._session.env()
        env = self._session.env() if self._session.alive else {}
        result = self._session.run(command, timeout=timeout)
        self.new_shell = "" if self._session.alive else self._notice(env)
        return result

    def _notice(self, env: Mapping[str, str]) -> str:
        """Say what a new shell keeps of the one that ended."""
        names = [name for name, value in env.items() if self._first.get(name) != value]
        variables = f" and the exported variables of before this command ({', '.join(sorted(names))})" if names else ""
        return (
            f"[the command ended its shell. The next command runs in a new one in {self.cwd}: the directory{variables} "
            f"{'are' if variables else 'is'} kept; other variables, functions, aliases, options and background jobs are gone]"
        )

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
