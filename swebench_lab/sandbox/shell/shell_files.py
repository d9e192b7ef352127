"""Reading, writing, listing and packing files of a box by nothing but single commands in it (sh and coreutils)."""

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from swebench_lab.sandbox.shell.commands import Kept, Result

_MISSING, _NO_FILE = 66, 67
_WHY = {_MISSING: "No such file or directory", _NO_FILE: "it is no regular file"}
_READ = f'test -e "$0" || exit {_MISSING}; test -f "$0" || exit {_NO_FILE}; head -c "$1" -- "$0"'
_WRITE = f'test ! -e "$0" || test -f "$0" || exit {_NO_FILE}; mkdir -p -- "${{0%/*}}/" && cat > "$0"'
_LIST = f'test -d "$0" || exit {_MISSING}; find "$0/" -mindepth 1 -maxdepth 1 -printf "%y%f\\0"'
_MOST_NAMES = 1 << 26  # bytes
_MOST_PACKED = 2 << 30  # bytes


class Exec(Protocol):
    """`Sandbox.exec`."""

    def __call__(
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
        """Run a program to its end."""


def read(execute: Exec, path: str, most: int) -> bytes:
    """The content of a regular file, up to one byte more than `most`; raises OSError."""
    return _shell(execute, _READ, path, str(most + 1), max_output=2 * most + 2).stdout


def write(execute: Exec, path: str, content: bytes, mode: int | None) -> None:
    """Make or replace a regular file, with the directories above it; raises OSError."""
    text = _WRITE if mode is None else f'{_WRITE} && chmod -- "$1" "$0"'
    _shell(execute, text, path, f"{mode or 0:o}", stdin=content)


def names(execute: Exec, path: str) -> list[str]:
    """The names in a directory, sorted; directories end with a slash. Raises OSError."""
    entries = _shell(execute, _LIST, path).stdout.split(b"\0")[:-1]
    return sorted(os.fsdecode(entry[1:]) + ("/" if entry.startswith(b"d") else "") for entry in entries)


def pack(execute: Exec, path: str, keep: Kept) -> Result:
    """Have a directory packed by tar, in memory on its way."""
    argv = ["tar", "-cf", "-", "-C", path, "."]
    result = execute(argv, cwd="/", env={}, merge=False, max_output=_MOST_PACKED)
    keep.add(result.stdout)
    keep.dropped += result.truncated_bytes
    return result


def _shell(execute: Exec, text: str, *words: str, stdin: bytes | None = None, max_output: int = _MOST_NAMES) -> Result:
    result = execute(["sh", "-c", text, *words], cwd="/", env={}, stdin=stdin, merge=False, max_output=max_output)
    if not result.ok:
        reason = _WHY.get(result.exit_code or 0) or result.stderr.decode(errors="replace").strip()
        raise OSError(errno.EIO, reason or f"it ended with {result.exit_code}")
    return result
