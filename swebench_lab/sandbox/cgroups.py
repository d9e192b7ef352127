"""Bounds that hold for a whole box: cgroups of version 2 (delegated ones too) or 1, pooled, where there are any.

A pool belongs to one process. Its cgroups are made beside that process's own, used again after a box has ended, and
removed when the process ends; the pool of a killed process is removed by the next one.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux.per_process import PerProcess
from swebench_lab.sandbox.quotas import quota_of
from swebench_lab.sandbox.zygote.client import Channel, ZygoteClient, remove_on_exit

_PREFIX = "swebench-lab-"
_SEATS = 8  # cgroups of a pool that have a branch of the zygote in them; with more boxes at once, moving costs little
_END_SECONDS = 1.0
_PERIOD = 100_000  # microseconds, the kernel's default for processor quotas
_REACHED = "reached"  # counts how often the bound on memory itself was reached
_MEMORY, _PIDS, _CPU = "memory", "pids", "cpu"


@dataclass(frozen=True)
class _Hierarchy:
    """Where cgroups can be made for some controllers."""

    version: int
    folder: Path
    controllers: tuple[str, ...]


class Cgroup:
    """One set of bounds that a box runs under."""

    def __init__(self, folders: Mapping[str, tuple[int, Path]], seated: bool) -> None:
        self._folders = folders  # controller -> (version, folder)
        self._last_counts: dict[str, int] = {}
        self._limits: Limits | None = None
        self._counters = self._open_counters()
        self._seated = seated
        self._seat: tuple[ZygoteClient, Channel] | None = None

    def seat(self, zygote: ZygoteClient) -> Channel | None:
        """A branch of the zygote that lives in this cgroup, so that what it clones is in it from the beginning.

        Moving a process costs up to ten milliseconds of waiting (a grace period of the kernel), a branch a megabyte.
        """
        if not self._seated:
            return None
        if self._seat is None or self._seat[0] is not zygote:
            self.unseat()
            channel, pid = zygote.branch()
            self.add(pid)
            self._seat = (zygote, channel)
        return self._seat[1]

    def unseat(self) -> None:
        """End the branch that lives in it, or let go of one that has died; the next box gets a new one."""
        if self._seat is not None:
            self._seat[1].close()
            self._seat = None

    def set_limits(self, limits: Limits) -> None:
        """Set the bounds; to be called while nothing runs in it."""
        if self._limits == limits:
            self._last_counts = self._counts()
            return
        quota = -1 if limits.cpus is None else int(limits.cpus * _PERIOD)
        for controller, (version, folder) in self._folders.items():
            if controller == _MEMORY:
                self._write(folder, ("memory.max", "memory.limit_in_bytes"), version, limits.memory)
            elif controller == _PIDS:
                # Three more: the box's first process, the branch that clones it, and the spare for the next box.
                self._write(folder, ("pids.max", "pids.max"), version, limits.processes and limits.processes + 3)
            elif version == 2:
                (folder / "cpu.max").write_text(f"{quota if quota > 0 else 'max'} {_PERIOD}")
            else:
                (folder / "cpu.cfs_quota_us").write_text(str(quota))
        self._limits = limits
        self._last_counts = self._counts()

    @staticmethod
    def _write(folder: Path, names: tuple[str, str], version: int, value: int | None) -> None:
        unbounded = "-1" if version == 1 and names[1] != "pids.max" else "max"
        (folder / names[0 if version == 2 else 1]).write_text(unbounded if value is None else str(value))

    def add(self, pid: int) -> None:
        """Move a process in; what it starts follows."""
        for folder in {folder for _, folder in self._folders.values()}:
            (folder / "cgroup.procs").write_text(str(pid))

    @property
    def counts_kills(self) -> bool:
        """Whether `hit` tells when the kernel ended its processes for want of memory."""
        return _MEMORY in self._folders

    def hit(self) -> str:
        """The bound that was run into since the last call: "memory", "processes" or "".

        "host memory": processes were ended for want of memory, although this cgroup's own bound was not reached.
        """
        before, self._last_counts = self._last_counts, self._counts()
        more = [name for name, count in self._last_counts.items() if count > before.get(name, 0)]
        first = next((name for name in more if name != _REACHED), "")
        return "host memory" if first == "memory" and _REACHED in self._last_counts and _REACHED not in more else first

    def _open_counters(self) -> dict[str, tuple[int, bytes]]:
        """The files that count how often a bound was run into, kept open, each with the word that starts its line."""
        counters = {}
        for controller, name, files, key in (
            (_MEMORY, "memory", ("memory.events", "memory.oom_control"), b"oom_kill"),
            (_MEMORY, _REACHED, ("memory.events", "memory.failcnt"), b"oom"),
            (_PIDS, "processes", ("pids.events", "pids.events"), b"max"),
        ):
            if controller in self._folders:
                version, folder = self._folders[controller]
                counters[name] = (os.open(folder / files[0 if version == 2 else 1], os.O_RDONLY | os.O_CLOEXEC), key)
        return counters

    def _counts(self) -> dict[str, int]:
        counts = {}
        for name, (descriptor, key) in self._counters.items():
            words = os.pread(descriptor, 4096, 0).split()
            if len(words) == 1:  # a file of one number
                counts[name] = int(words[0])
            else:
                counts[name] = int(words[words.index(key) + 1]) if key in words else 0
        return counts

    def forget(self) -> None:
        """Look at it no longer; it stays as it is."""
        for descriptor, _ in self._counters.values():
            os.close(descriptor)
        self._counters = {}

    def remove(self, deadline: float) -> None:
        """Remove it; processes that are still ending may keep it in place up to a time on the monotonic clock."""
        self.unseat()
        self.forget()
        for folder in {folder for _, folder in self._folders.values()}:
            while not _remove(folder) and time.monotonic() < deadline:
                time.sleep(0.002)


class CgroupPool:
    """The cgroups of one process."""

    def __init__(self, remove_on_exit: Callable[[Path], object]) -> None:
        self._remove_on_exit = remove_on_exit
        self._hierarchies = find_hierarchies()
        self._free: dict[frozenset[str], list[Cgroup]] = {}
        self._all: list[Cgroup] = []
        self._pools: set[Path] = set()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._name = f"{_PREFIX}{self._owner}"
        for hierarchy in self._hierarchies:
            _sweep(hierarchy.folder)
        atexit.register(self.close)

    @property
    def controllers(self) -> frozenset[str]:
        """What can be bounded: some of "memory", "pids", "cpu"."""
        return frozenset(name for hierarchy in self._hierarchies for name in hierarchy.controllers)

    def take(self, limits: Limits) -> Cgroup | None:
        """A cgroup for a box with these bounds; None when nothing of them can be bounded here."""
        bounds = {_MEMORY: limits.memory, _PIDS: limits.processes, _CPU: limits.cpus}
        names = frozenset(name for name, value in bounds.items() if value is not None) & self.controllers
        if not names:
            return None
        with self._lock:
            free = self._free.setdefault(names, [])
            cgroup = free.pop() if free else self._make(names)
        cgroup.set_limits(limits)
        return cgroup

    def give_back(self, cgroup: Cgroup) -> None:
        """Return the cgroup of a box that has ended."""
        with self._lock:
            self._free.setdefault(frozenset(cgroup._folders), []).append(cgroup)

    def _make(self, names: frozenset[str]) -> Cgroup:
        folders: dict[str, tuple[int, Path]] = {}
        for hierarchy in self._hierarchies:
            ours = [name for name in hierarchy.controllers if name in names]
            if ours:
                folder = hierarchy.folder / self._name / f"box-{len(self._all)}"
                if folder.parent not in self._pools:
                    self._begin(hierarchy, folder.parent)
                folder.mkdir(exist_ok=True)
                folders.update((name, (hierarchy.version, folder)) for name in ours)
        cgroup = Cgroup(folders, seated=len(self._all) < _SEATS)
        self._all.append(cgroup)
        return cgroup

    def _begin(self, hierarchy: _Hierarchy, pool: Path) -> None:
        """Make the pool's folder; one that is there is of a gone process of this number, whose bounds are not ours."""
        pool.mkdir(exist_ok=True)
        _delegate(hierarchy, pool)
        _bound_pool(hierarchy, pool)
        self._remove_on_exit(pool)
        self._pools.add(pool)

    def close(self) -> None:
        """Remove every cgroup of the pool, with what waits in them; no box may be open. It can be used again."""
        if self._owner != os.getpid():
            return
        deadline = time.monotonic() + _END_SECONDS
        with self._lock:
            cgroups, self._all = self._all, []
            self._free.clear()
            self._pools.clear()
        for cgroup in cgroups:
            cgroup.unseat()
        for cgroup in cgroups:
            cgroup.remove(deadline)
        for hierarchy in self._hierarchies:
            _remove(hierarchy.folder / self._name)


_pool: PerProcess[None, CgroupPool] = PerProcess()


def cgroup_pool() -> CgroupPool:
    """The pool of this process."""
    return _pool.get_or_make(None, lambda: CgroupPool(remove_on_exit))


def find_hierarchies() -> list[_Hierarchy]:
    """The places where this process may make cgroups, each with the controllers that work there."""
    hierarchies: list[_Hierarchy] = []
    own = dict(_own_cgroups())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        root, mount = fields.split(" ")[3:5]
        in_use = {name for hierarchy in hierarchies for name in hierarchy.controllers}
        if kind == "cgroup2" and "" in own:
            hierarchies += _find_v2(Path(mount), _below(own[""], root), in_use)
        elif kind == "cgroup":
            names = tuple(name for name in (_MEMORY, _PIDS, _CPU) if name in options.split(",") and name not in in_use)
            controller = next((name for name in names if name in own), None)
            if controller:
                folder = Path(mount) / _below(own[controller], root)
                if os.access(folder, os.W_OK) and _really(folder):
                    hierarchies.append(_Hierarchy(1, folder, names))
    return hierarchies


def _find_v2(mount: Path, own: str, in_use: set[str]) -> list[_Hierarchy]:
    """The highest cgroup of version 2 above this process that is ours to write to and hands controllers down."""
    best: list[_Hierarchy] = []
    folder = mount / own
    while True:
        writable = os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)
        if not writable:
            break
        try:
            handed = set((folder / "cgroup.subtree_control").read_text().split())
            offered = set((folder / "cgroup.controllers").read_text().split())
        except OSError:
            break
        if folder == mount and _is_root_cgroup(mount):
            handed = offered  # the root may enable them although processes live in it
        names = tuple(name for name in (_MEMORY, _PIDS, _CPU) if name in handed and name not in in_use)
        if names and _really(folder):
            best = [_Hierarchy(2, folder, names)]
        if folder == mount:
            break
        folder = folder.parent
    return best


def _is_root_cgroup(mount: Path) -> bool:
    """Whether a mount shows the true root, which alone has no `cgroup.type`."""
    return not (mount / "cgroup.type").exists()


def _delegate(hierarchy: _Hierarchy, folder: Path) -> None:
    """Have a cgroup hand its controllers down to those made in it."""
    if hierarchy.version == 1:
        return
    request = " ".join(f"+{name}" for name in hierarchy.controllers)
    for place in (hierarchy.folder, folder):
        (place / "cgroup.subtree_control").write_text(request)


def _bound_pool(hierarchy: _Hierarchy, folder: Path) -> None:
    """Bound all boxes of this process together by what its user may take."""
    quota = quota_of()
    bounds = Cgroup({name: (hierarchy.version, folder) for name in hierarchy.controllers if name != _PIDS}, False)
    bounds.set_limits(Limits(memory=quota.memory, cpus=quota.cpus, processes=None))
    bounds.forget()


def _really(folder: Path) -> bool:
    """Whether a cgroup can be made here: some containers show the files and refuse."""
    probe = folder / f"{_PREFIX}probe-{os.getpid()}"
    try:
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError:
        return False
    return True


def _own_cgroups() -> list[tuple[str, str]]:
    """(controller, path) of this process; the controller is "" for version 2."""
    pairs = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        pairs += [(name, path) for name in names.split(",")]
    return pairs


def _below(path: str, root: str) -> str:
    """A cgroup's path as seen through a mount that shows the hierarchy from `root` on."""
    return path.removeprefix(root if root != "/" else "").lstrip("/")


def sweep_pools() -> list[Path]:
    """Remove the pools of processes that are gone, wherever this process could have one; returns which."""
    return [pool for hierarchy in find_hierarchies() for pool in _sweep(hierarchy.folder)]


def _sweep(folder: Path) -> list[Path]:
    """Remove the pools of processes that are gone; returns which."""
    stale = []
    for pool in folder.glob(f"{_PREFIX}[0-9]*"):
        owner = pool.name.removeprefix(_PREFIX)
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            for cgroup in pool.glob("box-*"):
                _remove(cgroup)
            if _remove(pool):
                stale.append(pool)
    return stale


def _remove(folder: Path) -> bool:
    """Try to remove a cgroup; whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
