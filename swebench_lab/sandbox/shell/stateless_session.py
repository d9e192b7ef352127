"""StatelessSession: a shell for boxes that only run single commands; directory and exported variables are carried over."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.sandbox.shell.commands import Result, shortened
from swebench_lab.sandbox.shell.shell_files import Exec

_STATE_ROOM = 2 << 20  # bytes, for directory and variables
_OWN = ("_", "SHLVL", "PWD", "OLDPWD")
_STEP = r"""
lab_mark=$1; exec 3>&2 2>&1; eval "$0" </dev/null 3>&-; set -- "$?"
builtin printf '\n%s %s\0%s\0' "$lab_mark" "$1" "$PWD" >&3; /usr/bin/env -0 >&3
"""
"""Runs a command, with its errors among its output, and then says where it ended and with what, as the only errors."""


class StatelessSession:
    """Every command runs in a bash of its own, which starts where the last one ended.

    What does not stay: functions, variables that are not exported, shell options, and jobs. A command that ends its shell
    itself (`exit`) or is ended leaves directory and variables as they were before it.

    Args:
        execute: Runs a program in the box.
        cwd: Where the first command starts.
        env: Variables on top of the box's.
    """

    def __init__(self, execute: Exec, cwd: str, env: Mapping[str, str]) -> None:
        self._exec = execute
        self._cwd = cwd
        self._env: dict[str, str | None] = dict(env)
        self._last_env: dict[str, str] | None = None
        self._whole = True
        self.closed = False

    @property
    def cwd(self) -> str:
        """Where the next command starts."""
        return self._cwd

    @property
    def alive(self) -> bool:
        """Whether the last command came to its end, so that the next one finds its directory and variables."""
        return self._whole

    def run(self, command: str, timeout: float | None = None, max_output: int = 10_000_000) -> Result:
        """Run a command; see `Session.run`."""
        if self.closed:
            raise SandboxClosed("this session is closed; open another one with sandbox.session()")
        if "\0" in command:
            raise ValueError("a shell command cannot hold a NUL character")
        mark = f"lab-{secrets.token_hex(12)}"
        room = max(max_output, _STATE_ROOM)
        result = self._exec(
            ["bash", "--norc", "--noprofile", "-c", _STEP, command, mark],
            cwd=self._cwd,
            env=self._env,
            timeout=timeout,
            merge=False,
            max_output=room,
        )
        content, dropped = result.stdout, result.truncated_bytes
        _, separator, state = result.stderr.rpartition(f"\n{mark} ".encode())
        code, self._whole = result.exit_code, bool(separator)
        if separator:
            status, cwd, *variables = state.split(b"\0")
            self._cwd = os.fsdecode(cwd)
            self._remember(variables)
            code = None if result.timed_out else int(status)
        else:
            content += result.stderr  # bash itself had something to say
        content, dropped = shortened(content, dropped, room, max_output)
        limit = result.limit or ("output" if dropped else "")
        return replace(result, stdout=content, stderr=b"", exit_code=code, limit=limit, truncated_bytes=dropped)

    def _remember(self, records: list[bytes]) -> None:
        pairs = (record.decode("utf-8", errors="surrogateescape").partition("=") for record in records)
        now = {name: value for name, _, value in pairs if name and name not in _OWN}
        removals: dict[str, str | None] = {
            name: None for name in {*self._env, *(self._last_env or {})} if name not in now
        }
        self._env, self._last_env = {**now, **removals}, now

    def env(self) -> dict[str, str]:
        """The variables that programs started by the next command would see."""
        if self._last_env is None:
            self.run(":")
        return dict(self._last_env or {})

    def state(self) -> tuple[str, dict[str, str]] | None:
        """Directory and variables; None when the session is closed."""
        if self.closed:
            return None
        try:
            return self._cwd, self.env()
        except SandboxPathError:  # the directory is gone
            return self._cwd, {name: value for name, value in self._env.items() if value is not None}

    def close(self) -> None:
        """End the session; nothing of it runs between commands."""
        self.closed = True

    def forget(self) -> None:
        """Let go of it, as its box is ending."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session in {self._cwd}{' (closed)' if self.closed else ''}; keeps directory and variables only>"
