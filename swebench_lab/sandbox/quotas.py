"""Quotas: what one user's sandboxes may take together on a machine that many share; an administrator's file says it.

```toml
# /etc/swebench-lab/quota.toml
[everybody]
sandboxes = 16         # open at once, in all processes of a user
memory = "24 GiB"      # of the sandboxes of one process together, and of each
cpus = 4.0             # processors' worth, likewise
disk = "40 GiB"        # of a user's Snapshot cache, and the run directory that is written to
wait = 30              # seconds without any sandbox being closed, after which no more are waited for

[users.ada]            # what differs for one of them
sandboxes = 64
```

This is how users keep out of each other's way; it is no wall against somebody who wants to get round it. The walls are
the kernel's: a cgroup around all that a user runs, and quotas of the file system.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab._files import size_of
from swebench_lab._unix import lock
from swebench_lab.errors import QuotaExceeded, SandboxError

if TYPE_CHECKING:
    from swebench_lab.sandbox.limits import Limits

FILE = Path("/etc/swebench-lab/quota.toml")
VARIABLE = "SWEBENCH_LAB_QUOTA"
"""Names another file; it is only looked at where the administrator's is not there."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_POLL = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Quota:
    """What one user may take; None means unbounded.

    Args:
        sandboxes: Open at once, in all processes of the user on this machine.
        memory: Bytes of memory of all sandboxes of a process together; each is bounded by it, too.
        cpus: Processors' worth of time of all sandboxes of a process together; each is bounded by it, too.
        disk: Bytes of the Snapshot cache and of the run directory that is written to, together.
        wait: Seconds to wait for a place while none of the user's sandboxes is closed.
        counted_in: Folder in which places are counted; the user's cache folder when empty.
    """

    sandboxes: int | None = None
    memory: int | None = None
    cpus: float | None = None
    disk: int | None = None
    wait: float = 30.0
    counted_in: str = ""

    def cap(self, limits: Limits) -> Limits:
        """Return the limits of one sandbox, none of them above what the user may have altogether."""
        changes: dict[str, Any] = {}
        if self.memory is not None and (limits.memory is None or limits.memory > self.memory):
            changes["memory"] = self.memory
        if self.cpus is not None and (limits.cpus is None or limits.cpus > self.cpus):
            changes["cpus"] = self.cpus
        return replace(limits, **changes) if changes else limits

    def check_disk(self, doing: str, *folders: Path) -> None:
        """See that folders together are within the quota.

        Raises:
            QuotaExceeded: They are not.
        """
        if self.disk is None:
            return
        seen: set[tuple[int, int]] = set()
        total = sum(size_of(folder, seen) for folder in folders if folder.is_dir())
        if total >= self.disk:
            places = " and ".join(str(folder) for folder in folders)
            raise QuotaExceeded(
                "disk", f"{doing}: {places} take {_size(total)} of the {_size(self.disk)} that this user may have; "
                "`swebench-lab gc` removes Snapshots that are not used, and old run directories can be deleted"
            )  # fmt: skip

    def __str__(self) -> str:
        """Say what is bounded."""
        bounds = [
            f"{self.sandboxes} sandboxes" if self.sandboxes is not None else "",
            f"{_size(self.memory)} of memory" if self.memory is not None else "",
            f"{self.cpus:g} processors" if self.cpus is not None else "",
            f"{_size(self.disk)} of disk" if self.disk is not None else "",
        ]
        return ", ".join(filter(None, bounds)) or "nothing is bounded"


def _size(count: int) -> str:
    return f"{count / (1 << 30):.3g} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.3g} MiB"


# --- the file ---------------------------------------------------------------------------------------------------------


def quota_file() -> Path | None:
    """Return the file that says what users may take, if there is one."""
    if FILE.is_file():
        return FILE
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


def quota_of(user: str | None = None) -> Quota:
    """Return what a user may take; this process's own by default.

    Raises:
        SandboxError: The file cannot be read.
    """
    path = quota_file()
    if path is None:
        return Quota()
    try:
        return _quota_in(path, path.stat().st_mtime_ns, user or _own_name())
    except (OSError, ValueError, TypeError) as error:
        raise SandboxError(f"reading the quotas in {path}: {error}; ask an administrator to fix it") from error


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's number without a name
        return str(os.geteuid())


def _home() -> Path:
    """The user's folder, whatever the environment says it is."""
    import pwd

    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return Path(tempfile.gettempdir()) / f"swebench-lab-{os.geteuid()}"


@lru_cache(maxsize=16)
def _quota_in(path: Path, _: int, user: str) -> Quota:
    values = tomllib.loads(path.read_text("utf-8"))
    unknown = set(values) - {"everybody", "users"}
    if unknown:
        raise ValueError(f"unknown table {min(unknown)!r}; known are 'everybody' and 'users'")
    return Quota(**_read({**values.get("everybody", {}), **values.get("users", {}).get(user, {})}))


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(Quota)}
    if unknown := set(values) - names:
        raise ValueError(f"unknown quota {min(unknown)!r}; known are {', '.join(sorted(names))}")
    read = {name: _bytes(value) if name in ("memory", "disk") else value for name, value in values.items()}
    for name, value in read.items():
        if name != "counted_in" and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
            raise ValueError(f"{name} must be a number above 0, not {value!r}")
    return read


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(?:i?B)?\s*", value)
    if not match:
        raise ValueError(f"{value!r} is not a size; write e.g. '24 GiB'")
    return int(float(match[1]) * _UNITS[match[2]])


# --- places -----------------------------------------------------------------------------------------------------------


class Seat:
    """A place that an open sandbox takes; given back when it is closed, or its process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def leave(self) -> None:
        """Give it back; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.utime(descriptor)  # those who wait see that it goes on
            os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Seats:
    """The places of one user on this machine: one file each, locked by whoever sits there.

    Args:
        quota: How many there are.
        folder: Where the files are.
    """

    def __init__(self, quota: Quota, folder: str | Path) -> None:
        self.quota, self.folder = quota, Path(folder)

    def take(self, spare: int = 0, given_up: Callable[[], bool] | None = None) -> Seat | None:
        """Return a place, waiting for one.

        Args:
            spare: How many places to leave to others, where there are more than that.
            given_up: Whether to stop waiting; None: wait as the quota says.

        Returns:
            The place; None when waiting was given up, or nothing is counted.

        Raises:
            QuotaExceeded: All are taken, and for as long as the quota says nobody left.
        """
        most = self.quota.sandboxes
        if most is None:
            return None
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        began = time.time()
        while (seat := self._free(max(1, most - spare))) is None:
            if given_up is not None:
                if given_up():
                    return None
            elif time.time() - max(began, self._latest(most)) > self.quota.wait:
                raise QuotaExceeded(
                    "sandboxes", f"opening a sandbox: all {most} that this user may have open are, and none was closed "
                    f"for {self.quota.wait:g} s; close some, or end the kernels and runs that hold them"
                )  # fmt: skip
            time.sleep(_POLL)
        return seat

    def in_use(self) -> int:
        """Return how many places are taken now."""
        return sum(self._is_taken(number) for number in range(self.quota.sandboxes or 0))

    def _free(self, most: int) -> Seat | None:
        for number in range(most):
            descriptor = os.open(self.folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                lock(descriptor, wait=False)
                return Seat(descriptor)
            except BlockingIOError:
                os.close(descriptor)
        return None

    def _is_taken(self, number: int) -> bool:
        try:
            descriptor = os.open(self.folder / str(number), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            lock(descriptor, wait=False)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    def _latest(self, most: int) -> float:
        """When the latest place was left."""
        times = [0.0]
        for number in range(most):
            with suppress(FileNotFoundError):
                times.append((self.folder / str(number)).stat().st_mtime)
        return max(times)


def seats() -> Seats:
    """Return the places of this user on this machine."""
    quota = quota_of()
    if quota.sandboxes is None:
        return Seats(quota, "")
    if quota.counted_in:
        return Seats(quota, Path(quota.counted_in) / str(os.geteuid()))
    return Seats(quota, _home() / ".cache" / "swebench_lab" / "seats" / socket.gethostname())


_reserved: ContextVar[list[Seat] | None] = ContextVar("swebench_lab_reserved", default=None)


def take_seat() -> Seat | None:
    """Return the place of a sandbox that is about to be made: the one that was reserved for it, or a free one."""
    reserve = _reserved.get()
    return reserve.pop() if reserve else seats().take()


@contextmanager
def reserved(given_up: Callable[[], bool]) -> Iterator[None]:
    """Wait, however long, for a place for the next sandbox of this thread; the last place is left to others.

    Args:
        given_up: Whether to stop waiting.
    """
    seat = seats().take(spare=1, given_up=given_up)
    reserve = [seat] if seat is not None else []
    token = _reserved.set(reserve)
    try:
        yield
    finally:
        _reserved.reset(token)
        for left in reserve:
            left.leave()
