"""Threads of an executor: daemons whose unforeseen errors end everything instead of passing unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable


def start_thread(name: str, work: Callable[[], None], fail: Callable[[BaseException], None]) -> threading.Thread:
    """Start a daemon thread.

    Args:
        name: What the thread is called in debuggers and dumps.
        work: What it does.
        fail: Called with whatever `work` raises: a mistake of the executor, or a full disk, after which nothing may go
            on as if all were well.
    """

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # no record can hold it: it ends the run, whose caller is shown it
            fail(error)

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread
