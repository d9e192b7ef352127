"""The process table of this pid namespace, and ending a set of processes that may be forking."""

from __future__ import annotations

import os
import signal
import time

from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STILL = "TtZX"
"""States of processes that do nothing."""

_USUAL = ["HUP", "INT", "QUIT", "PIPE", "ALRM", "TERM", "USR1", "USR2", "CHLD", "TSTP", "TTIN", "TTOU", "XCPU", "XFSZ"]
USUAL = tuple(getattr(signal, f"SIG{name}") for name in _USUAL if hasattr(signal, f"SIG{name}"))
"""Signals that a program is started with as usual: `nohup`, or a shell that starts in the background, ignores some."""

STOP_SECONDS = 1.0
"""How long processes may take to hold still before they are killed as they stand."""


@record
class Process:
    """One line of the process table of this pid namespace."""

    pid: int
    parent: int
    group: int
    state: str
    started: int  # clock ticks since boot


class Newcomers:
    """What a session's line started, told apart from what ran before it and from what that has started since.

    Args:
        leader: The shell, which is neither.
        since: When the line began, in seconds since boot. Processes are dated by clock ticks.
        before: Processes known to have begun earlier, whatever their date.
    """

    def __init__(self, leader: int, since: float, before: Iterable[int]) -> None:
        self._leader = leader
        self._tick = int(since * os.sysconf("SC_CLK_TCK"))
        self._before = set(before) - {leader}

    def include(self, process: Process) -> bool:
        """Whether a process is one; parents are to be asked for before their children."""
        if process.pid == self._leader:
            return False
        if process.pid in self._before or process.started < self._tick or process.parent in self._before:
            self._before.add(process.pid)
            return False
        return True


def send(pid: int, number: int) -> None:
    """Send a signal to a process (or a group, or all) that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def table() -> Iterator[Process]:
    """The process table of this pid namespace."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(int(name))) is not None:
            yield process


def read_process(pid: int) -> Process | None:
    """A process's line in the table; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, int(fields[1]), int(fields[2]), fields[0].decode(), int(fields[19]))


def end(chosen: Callable[[Process], bool], whole_groups: bool) -> None:
    """Stop the chosen processes until none of them moves, then kill them; what they fork meanwhile is found next round.

    Args:
        chosen: Which processes; asked again each round.
        whole_groups: Stop process groups at one instant, with their forks under way.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        targets = [process for process in table() if process.pid != 1 and chosen(process)]
        moving = [process for process in targets if process.state not in STILL]
        if not moving or time.monotonic() > deadline:
            break
        for process in moving:
            send(-process.group if whole_groups and process.group > 1 else process.pid, signal.SIGSTOP)
        time.sleep(0.0005)
    for process in targets:
        send(process.pid, signal.SIGKILL)
    identities = {(process.pid, process.started) for process in targets}

    def alive(process: Process) -> bool:
        is_target = chosen(process) if whole_groups else (process.pid, process.started) in identities
        return is_target and process.pid != 1 and process.state not in "ZX"

    while any(alive(process) for process in table()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.0005)
