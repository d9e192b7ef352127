"""What works on this machine, what does not, and how to fix it: `doctor()`."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import __version__, _html

if TYPE_CHECKING:
    import polars as pl

_GIB = 1 << 30
_LOW_DISK = 2 * _GIB
"""Free bytes below which the bundled tasks and a run beside them get tight (measured: under 1 GiB together)."""
_LOW_MEMORY = 2 * _GIB
_EXTRAS = {
    "notebook": ("papermill", "ipykernel", "ipywidgets", "anywidget", "nbconvert"),
    "chat": ("httpx",),
    "train": ("torch", "transformers", "trl", "peft", "datasets", "accelerate"),
    "ray": ("ray",),
    "docker": ("docker",),
    "vllm": ("vllm",),
}


class State(StrEnum):
    """How one thing stands."""

    OK = "ok"
    """It works."""
    ABSENT = "absent"
    """It is not there and nothing here needs it, but something might."""
    TIGHT = "tight"
    """It works and may not for long."""
    BROKEN = "broken"
    """It does not work, and the workbench needs it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: What it is.
        state: How it stands.
        said: What was found.
        fix: What to do about it; empty when there is nothing to do.
    """

    name: str
    state: State
    message: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """What `doctor` found.

    Args:
        findings: One for each thing looked at, in order.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that the workbench needs is there."""
        return all(finding.state != State.BROKEN for finding in self.findings)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of that name."""
        return next(finding for finding in self.findings if finding.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}

    def to_frame(self) -> pl.DataFrame:
        """Return one row a finding: `name`, `state`, `said`, `fix`."""
        import polars as pl

        rows = [{**asdict(finding), "state": str(finding.state)} for finding in self.findings]
        return pl.DataFrame(rows, schema=["name", "state", "said", "fix"])

    @property
    def frame(self) -> pl.DataFrame:
        """The same as `to_frame()`."""
        return self.to_frame()

    def _verdict(self) -> str:
        problems = [finding.name for finding in self.findings if finding.state == State.BROKEN]
        works = "".join(finding.message.partition(":")[0] for finding in self.findings if finding.name == "sandbox")
        return f"all that is needed works: {works}" if not problems else f"needs attention: {', '.join(problems)}"

    def _notable(self) -> list[Finding]:
        """Return what is wrong, and what a machine that many share has set up."""
        shared = ("packs", "quota")
        return [f for f in self.findings if f.state in _WRONG or (f.name in shared and f.state == State.OK)]

    def to_text(self) -> str:
        """Return everything that was looked at, one line each, and what to do about it below."""
        return "\n".join([*_lines(self.findings), self._verdict()])

    def __repr__(self) -> str:
        """Return one line that sums up, and what is wrong with what to do about it; `to_text()` has the rest."""
        return "\n".join([self._verdict(), *_lines(self._notable())])

    def _repr_html_(self) -> str:
        notable = self._notable()
        table = _table(notable) if notable else ""
        whole = f"<details><summary>all {len(self.findings)} findings</summary>{_table(self.findings)}</details>"
        return _html.card(f"doctor: {self._verdict()}", table + whole)


_WRONG = (State.BROKEN, State.TIGHT)


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.state:<7} {finding.name:<18} {finding.message}"
        if finding.fix:
            yield f"{'':<26} → {finding.fix}"


def _table(findings: Iterable[Finding]) -> str:
    rows = [[finding.state, finding.name, finding.message, finding.fix] for finding in findings]
    return _html.table(["state", "what", "found", "what to do"], rows)


def doctor() -> Report:
    """Look at everything the workbench stands on; sandboxes of every kind are really made, nothing is changed.

    Returns:
        A report whose repr says what is wrong and what to do about it; `to_text()` and `.frame` say all of it.
    """
    return Report(
        (
            _python(),
            _system(),
            *_sandboxes(),
            *_programs(),
            *_room(),
            *_watches(),
            *_sharing(),
            *_accelerator(),
            *_extras(),
        )
    )


def _python() -> Finding:
    detail = f"{platform.python_version()} at {sys.executable}, swebench_lab {__version__}"
    return Finding("python", State.OK, detail)


def _system() -> Finding:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = os.geteuid() if hasattr(os, "geteuid") else None
    user = "root" if number == 0 else f"user {number}" if number is not None else "a user"
    return Finding("machine", State.OK, f"{platform.platform()}, {processors} processors, as {user}")


def _sandboxes() -> Iterator[Finding]:
    """Make sandboxes of every kind, and do each thing that they are made of."""
    from swebench_lab.testing.doctor import probe

    findings = probe.probe()
    by_name = {one.name: one for one in findings}
    works = next((name for name in probe.BOXES if by_name[name].works), "")
    backend = works.partition("-")[0]
    if works:
        yield Finding(
            "sandbox", State.OK, f'SandboxFactory("{backend}") makes {works} sandboxes: {by_name[works].detail}'
        )
    else:
        fix = f'{by_name["namespace-rootless"].fix}; "local" works without any walls, for trying things out'
        yield Finding("sandbox", State.BROKEN, "no kind of sandbox with walls can be made on this machine", fix)
    for one in findings:
        yield Finding(one.name, State.OK if one.works else State.ABSENT, one.detail, "" if one.works else one.fix)


def _programs() -> Iterator[Finding]:
    """Look for the programs that sandboxes and snapshots are made with."""
    for name, why in (("git", "reads and seals repositories"), ("bash", "runs commands in sandboxes")):
        path = shutil.which(name)
        if path is None:
            yield Finding(name, State.BROKEN, f"not found; it {why}", f"install it: apt-get install {name}")
        else:
            yield Finding(name, State.OK, _first_line(path, "--version"))
    try:
        from uv import find_uv_bin

        yield Finding("uv", State.OK, _first_line(find_uv_bin(), "--version"))
    except (ImportError, FileNotFoundError) as error:
        yield Finding("uv", State.BROKEN, f"not found ({error}); it makes virtual environments", "pip install uv")


def _first_line(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return (result.stdout or result.stderr).strip().split("\n")[0]


def _room() -> Iterator[Finding]:
    """Look at the space for Snapshots, for runs and in memory, where sandboxes write by default."""
    from swebench_lab.snapshots.cache import SnapshotCache

    cache = SnapshotCache().root
    yield _disk("cache", cache, "set SWEBENCH_LAB_CACHE to a folder with more room, or run `swebench-lab gc`")
    yield _disk("runs", Path.cwd(), "give another --run-dir")
    memory = _available_memory()
    if not memory:
        yield Finding("memory", State.OK, "this system does not tell how much is free")
        return
    state = State.OK if memory >= _LOW_MEMORY else State.TIGHT
    fix = (
        ""
        if state == State.OK
        else "use fewer workers: sandboxes write to memory unless they are given a scratch folder"
    )
    yield Finding("memory", state, f"{memory / _GIB:.1f} GiB available", fix)


def _watches() -> Iterator[Finding]:
    """Count the instances of inotify of this user, which sandboxes share with everything else that runs as the user."""
    try:
        most, me = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text()), os.geteuid()
    except (OSError, ValueError, AttributeError):  # no such bound, or no such users
        return
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if process.stat().st_uid == me:
                count += sum(os.readlink(fd) == "anon_inode:inotify" for fd in (process / "fd").iterdir())
    state = State.OK if count < most // 2 else State.TIGHT
    fix = "" if state == State.OK else "sysctl fs.inotify.max_user_instances=1024, or end what watches files"
    yield Finding("inotify", state, f"{count} of {most} instances of this user in use, sandboxes included", fix)


def _sharing() -> Iterator[Finding]:
    """Look at what a machine that many share has for its users: a cache for all of them, and quotas."""
    from swebench_lab.errors import SandboxError
    from swebench_lab.sandbox import quotas
    from swebench_lab.snapshots.cache import SnapshotCache
    from swebench_lab.snapshots.transfer import shared_cache

    packs = shared_cache.packs_of(SnapshotCache().root)
    if packs is None:
        yield Finding(
            "packs",
            State.ABSENT,
            "Snapshots are built for this user alone; `swebench-lab docs hub` says how to share them",
        )
    else:
        problem = packs.problem()
        fix = "ask an administrator to fix the folder, as `swebench-lab docs hub` says" if problem else ""
        yield Finding("packs", State.BROKEN if problem else State.OK, problem or packs.described(), fix)
    path = quotas.quota_file()
    if path is None:
        yield Finding("quota", State.ABSENT, f"nobody bounds this user: there is no {quotas.FILE}")
        return
    try:
        seats = quotas.seats()
        yield Finding("quota", State.OK, f"{path}: {seats.quota}; {seats.in_use()} sandboxes open")
    except SandboxError as error:
        yield Finding("quota", State.BROKEN, str(error), "ask an administrator to fix the file")


def _disk(name: str, folder: Path, fix: str) -> Finding:
    there = folder
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, State.BROKEN, f"{folder} cannot be written", fix)
    free = shutil.disk_usage(there).free
    state = State.OK if free >= _LOW_DISK else State.TIGHT
    return Finding(name, state, f"{folder}, {free / _GIB:.1f} GiB free", "" if state == State.OK else fix)


def _available_memory() -> int:
    """Bytes; 0 where this system does not tell."""
    table = Path("/proc/meminfo")
    for line in table.read_text().split("\n") if table.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _accelerator() -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding(
            "accelerator", State.ABSENT, "no NVIDIA GPU found; training goes on the processor, tiny models only"
        )
        return
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    devices = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.strip()
    yield Finding("accelerator", State.OK if devices else State.ABSENT, devices.replace("\n", "; ") or "none answers")


def _extras() -> Iterator[Finding]:
    """Look for the packages of each extra, without importing them."""
    for extra, packages in _EXTRAS.items():
        missing = [package for package in packages if find_spec(package) is None]
        fix = f"if you want it: pip install 'swebench-lab[{extra}]'" if missing else ""
        detail = f"without {', '.join(missing)}" if missing else "installed"
        yield Finding(f"extra {extra}", State.ABSENT if missing else State.OK, detail, fix)
