"""Guard: runs a server and ends it, with all it has started, when its owner says so or is gone.

Stdlib only, run by path: `python guard.py SECONDS COMMAND...`. The owner holds the other end of standard input; when
that closes, or the owner's process is gone (killed, crashed), the server is asked to stop and, after so many seconds,
killed. The guard adopts what the server's children leave behind, so nothing of it survives.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK = 0.5  # seconds between two looks at the owner and the server


def main(grace: float, command: list[str]) -> int:
    """Run the command; return its exit code, or 0 when it was stopped."""
    owner = os.getppid()
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: signals.append(got))
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    try:
        while server.poll() is None and not signals and os.getppid() == owner:
            ready, _, _ = select.select([0], [], [], LOOK)
            if ready and not os.read(0, 1):
                break
        stopped = server.poll() is None
        if stopped:
            stop(server, grace)
    finally:
        end_all()
    return 0 if stopped else server.returncode


def stop(server: subprocess.Popen[bytes], grace: float) -> None:
    """Ask the server's group to stop, and wait for it that long."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(grace)


def end_all() -> None:
    """Kill every process below this one, until there is none."""
    for _ in range(200):
        below = descendants(os.getpid())
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def descendants(root: int) -> list[int]:
    """Return the living processes below a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    processes = [root]
    for pid in processes:
        processes += [child for child, parent in parents.items() if parent == pid and child not in processes]
    return processes[1:]


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
