"""Values of one process: made once, and never a parent's in its child."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from swebench_lab.sandbox.linux.per_process import PerProcess


def in_child(answer: Callable[[], bool]) -> bool:
    """What a forked child says."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if answer() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_value_is_made_once_by_whichever_thread_comes_first() -> None:
    table: PerProcess[str, object] = PerProcess()

    def make() -> object:
        time.sleep(0.05)
        return object()

    values: list[object] = []
    threads = [threading.Thread(target=lambda: values.append(table.get_or_make("a", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values) == 8 and len(set(map(id, values))) == 1


def test_a_forked_child_starts_with_an_empty_table_and_keeps_its_own() -> None:
    table: PerProcess[str, int] = PerProcess()
    table.set("a", 1)
    assert in_child(lambda: table.get("a") is None and table.get_or_make("a", lambda: 2) == 2)
    assert table.get("a") == 1, "what a child makes is the child's"


def test_a_child_forked_while_another_thread_holds_the_lock_is_not_held_up() -> None:
    table: PerProcess[str, int] = PerProcess()
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with table.lock:
            taken.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    try:
        assert in_child(lambda: table.lock.acquire(timeout=2))
    finally:
        done.set()
        thread.join()


def test_what_a_parent_holds_is_not_finalized_in_its_child() -> None:
    class Served:
        def __del__(self) -> None:
            os.write(ends, b"x")

    reads, ends = os.pipe()
    os.set_blocking(reads, False)
    table: PerProcess[str, Served] = PerProcess()
    table.set("a", Served())
    assert in_child(lambda: table.get("a") is None)
    try:
        assert os.read(reads, 1) == b""
    except BlockingIOError:
        pass  # nothing was written
    table.pop("a")
    assert os.read(reads, 1) == b"x", "the parent's own end is seen"
    os.close(reads)
    os.close(ends)
