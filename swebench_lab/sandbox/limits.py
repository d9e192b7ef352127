"""What one box may use, as a small frozen value; what enforces it is chosen by what the machine offers."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from swebench_lab._unix import resource

_GIB = 1 << 30
_MARGIN = 1 << 20  # bytes by which a file may pass the room on disk, so that it is the disk that is full first


@dataclass(frozen=True)
class Limits:
    """Bounds of one box; None means unbounded.

    Attributes:
        memory: Bytes of memory of all processes together and of what the box writes, where there is a memory cgroup;
            otherwise bytes of address space of each process.
        processes: Processes and threads alive at once, where there is a pids cgroup; otherwise per user (rootless).
        cpus: Processors' worth of time, e.g. 1.5, where there is a cpu cgroup.
        disk: Bytes the box may write, when it writes to memory (`scratch=None`); at most three quarters of `memory`.
        files: Files, directories and links the box may have written, when it writes to memory; as many as a layer holds.
        file_size: Bytes of one file, holes included; `disk` when None.
        open_files: Descriptors of one process.
        shared_memory: Bytes of /dev/shm.
    """

    memory: int | None = 8 * _GIB
    processes: int | None = 4096
    cpus: float | None = None
    disk: int | None = 4 * _GIB
    file_size: int | None = None
    open_files: int | None = None
    shared_memory: int = 256 << 20
    files: int | None = 400_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value <= 0:
                raise ValueError(f"limit {name} must be above 0, not {value!r}; leave it out or say None for no bound")

    def but(self, **changes: Any) -> "Limits":
        """The same limits with some of them changed."""
        return replace(self, **changes)

    def room(self, bounded: Collection[str]) -> int:
        """Bytes that a box may write to memory; 0 means unbounded.

        What it writes counts as its memory, and cannot be given back as a process can be ended: so it may have three
        quarters of that, and the rest is for processes.

        Args:
            bounded: What a cgroup bounds.
        """
        bounds = [self.disk] if self.disk is not None else []
        if "memory" in bounded and self.memory is not None:
            bounds.append(self.memory // 4 * 3)
        return min(bounds, default=0)

    def rlimits(self, bounded: Collection[str]) -> list[list[int]]:
        """The (resource, soft, hard) triples every command starts with.

        Args:
            bounded: What a cgroup bounds already ("memory", "pids"); limits of single processes stand in for the rest.
        """
        # A core limit of exactly 1 byte is the one value that also keeps the kernel from starting a crash handler on
        # the host.
        limits = {
            resource.RLIMIT_CORE: 1,
            resource.RLIMIT_FSIZE: self.file_size or (self.disk and self.disk + _MARGIN),
            resource.RLIMIT_NOFILE: self.open_files,
        }
        if "memory" not in bounded:
            limits[resource.RLIMIT_AS] = self.memory
        if "pids" not in bounded:
            limits[resource.RLIMIT_NPROC] = self.processes and self.processes + 1
        values = []
        for kind, value in limits.items():
            if value is not None:
                hard = resource.getrlimit(kind)[1]
                soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
                values.append([kind, soft, soft])
        return values
