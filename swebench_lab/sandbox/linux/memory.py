"""Memory: what this machine has left of it, and what boxes take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from swebench_lab.sandbox.linux.processes import table

_BOUNDS = (("memory.max", "memory.current", "inactive_file"),
           ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"))  # fmt: skip


def available(groups: Path = Path("/sys/fs/cgroup"), table: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that can still be taken before somebody is killed; None where this system does not tell.

    Args:
        groups: Where a container sees the cgroup that bounds it.
        table: What the kernel says of the machine.
    """
    if not table.exists():
        return None
    rooms = [int(line.split()[1]) * 1024 for line in table.read_text().split("\n") if line.startswith("MemAvailable:")]
    for limit, usage, cached in _BOUNDS:
        try:
            most, current = (groups / limit).read_text().strip(), int((groups / usage).read_text())
            words = ((groups / limit).parent / "memory.stat").read_text().split()
            rooms += [int(most) - current + int(words[words.index(cached) + 1])] if most != "max" else []
        except (OSError, ValueError):
            continue
    return min(rooms, default=None)


def taken_below(firsts: Iterable[int]) -> dict[int, int]:
    """Return what processes take of memory that is theirs alone, in bytes, each with all that it has started.

    Args:
        firsts: Process ids.
    """
    sizes = dict.fromkeys(firsts, 0)
    parents = {process.pid: process.parent for process in table()}
    page = os.sysconf("SC_PAGE_SIZE")
    for pid in parents:
        above: int | None = pid
        while above and above not in sizes:
            above = parents.get(above)
        if above:
            try:
                words = Path(f"/proc/{pid}/statm").read_text().split()
            except OSError:  # it has ended
                continue
            sizes[above] += (int(words[1]) - int(words[2])) * page
    return sizes
