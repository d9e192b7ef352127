"""What every benchmark counts from outside: processor time and processes of a tree, memory, mounts and files left."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what was measured; None when nothing was."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


class Account:
    """A control group whose processes and processor time are counted, children and daemons included.

    Without the right to make one (not root, nothing delegated) it counts nothing and says None.

    Args:
        name: Part of the group's name.
    """

    def __init__(self, name: str) -> None:
        self.path: Path | None = None
        for parent in _groups():
            folder = parent / f"bench-{name}-{os.getpid()}-{secrets.token_hex(3)}"
            try:
                folder.mkdir()
                self.path = folder
                break
            except OSError:
                continue

    def enter(self, pid: int) -> None:
        """Move a process into the group; what it starts from then on is in it too."""
        if self.path:
            (self.path / "cgroup.procs").write_text(str(pid))

    def cpu(self) -> float | None:
        """Return processor seconds used by everything that is or was in the group, system time included."""
        if self.path is None:
            return None
        usage = self.path / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        for line in (self.path / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        return None

    def pids(self) -> list[int]:
        """Return the processes that are in the group now."""
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()] if self.path else []

    def close(self) -> None:
        """Remove the group; processes still in it move up first."""
        if self.path is None:
            return
        for pid in self.pids():
            try:
                (self.path.parent / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 5
        while self.path.exists():
            try:
                self.path.rmdir()
            except OSError:  # the kernel lets go of dead processes a little later
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def busy() -> float:
    """Return the seconds that all processors of this machine were at work since it started."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def _groups() -> Iterator[Path]:
    """Yield the folders of this process's own control groups that could count processor time."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for line in Path("/proc/mounts").read_text().splitlines():
        _, at, kind, options, *_ = line.split()
        controllers = options.split(",")
        if kind == "cgroup" and "cpuacct" in controllers:
            name = next((name for name in own if "cpuacct" in name.split(",")), "")
            yield Path(at) / own.get(name, "/").lstrip("/")
        elif kind == "cgroup2" and "" in own:
            yield Path(at) / own[""].lstrip("/")


@dataclass(frozen=True)
class Census:
    """What exists now that a sandbox could have left behind."""

    processes: int
    mounts: int
    files: int
    groups: int

    def since(self, before: Census) -> dict[str, int]:
        """Return what there is more of than before."""
        return {name: max(0, value - getattr(before, name)) for name, value in vars(self).items()}


def census(account: Account, folder: Path, pid: int) -> Census:
    """Count processes of an account, mounts here, files in a folder, control groups named after a process."""
    return Census(
        processes=len(account.pids()),
        mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
        files=sum(len(names) + len(files) for _, names, files in os.walk(folder)),
        groups=sum(1 for _ in Path("/sys/fs/cgroup").rglob(f"*lab-{pid}*")),
    )


def settled(account: Account, folder: Path, pid: int, before: Census, seconds: float = 5.0) -> dict[str, int]:
    """Return what is left over `before`, once nothing is or the seconds have passed."""
    deadline = time.monotonic() + seconds
    while True:
        left = census(account, folder, pid).since(before)
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def written_bytes(folder: Path) -> int:
    """Return the bytes that a folder takes on its file system, itself included."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in ("", *files):
            total += Path(path, name).lstat().st_blocks * 512
    return total


def memory(pid: int | str = "self", proportional: bool = False) -> int:
    """Return the bytes of memory a process holds; with `proportional` shared pages count by their share."""
    try:
        if proportional:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))
        return os.sysconf("SC_PAGE_SIZE") * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, StopIteration):
        return 0


def available_memory() -> int:
    """Return the bytes that could still be used without swapping."""
    text = Path("/proc/meminfo").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable")))


@dataclass
class Samples:
    """Values taken at regular moments while something runs."""

    at: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@contextmanager
def sampled(every: float) -> Iterator[Samples]:
    """Sample this process's memory while the block runs.

    Args:
        every: Seconds between samples.
    """
    samples, stop, started = Samples(), threading.Event(), time.monotonic()

    def work() -> None:
        while not stop.wait(every):
            samples.at.append(time.monotonic() - started)
            samples.values.append(float(memory()))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
