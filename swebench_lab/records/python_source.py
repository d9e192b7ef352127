"""Python's parser, one thread at a time: up to 3.12 the depth that it counts belongs to the interpreter, not to the thread."""

from __future__ import annotations

import ast
import threading

_LOCK = threading.RLock()
_TRIES = 5


def parse(source: str | bytes) -> ast.Module:
    """Parse a program; another thread's parser disturbs nothing.

    Raises:
        SyntaxError: It is no Python.
        ValueError: It holds a null byte.
        SystemError: A thread outside of this package parsed at the same moment, five times in a row.
    """
    with _LOCK:
        for _ in range(_TRIES - 1):
            try:
                return ast.parse(source)
            except SystemError:  # code of others parses too, and does not ask for the lock
                continue
        return ast.parse(source)
