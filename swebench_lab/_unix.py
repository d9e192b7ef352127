"""What only Unix has, so that the package can be imported everywhere.

`fcntl`, `resource` and `termios` are the standard library's where they exist; elsewhere, using them raises an error that
says what to do.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # see `sandbox/linux/record.py`: boxes' own processes import this
if TYPE_CHECKING:
    from typing import IO, Any


class _Absent:
    """Stands for a module that this system does not have."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from swebench_lab.errors import SandboxUnavailable

        raise SandboxUnavailable(
            f"this needs Linux ({self._name}.{name} does not exist on {sys.platform}): use Docker, a cluster, or a "
            "Linux machine; on Windows, WSL is one"
        )


try:
    import fcntl
except ImportError:
    fcntl = _Absent("fcntl")  # type: ignore[assignment]
try:
    import resource
except ImportError:
    resource = _Absent("resource")  # type: ignore[assignment]
try:
    import termios
except ImportError:
    termios = _Absent("termios")  # type: ignore[assignment]

__all__ = ["fcntl", "lock", "resource", "termios"]


def lock(file: IO[Any] | int, wait: bool = True, shared: bool = False) -> None:
    """Hold a file against every other process that locks it so, until it is closed.

    Args:
        file: An open file, or its descriptor.
        wait: Whether to wait for another holder.
        shared: Whether others may share it.

    Raises:
        BlockingIOError: Somebody holds it, and `wait` is False.
        SandboxUnavailable: This system has no such locks.
    """
    descriptor = file if isinstance(file, int) else file.fileno()
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
