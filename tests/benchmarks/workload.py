"""The workload: one environment as a real repository needs it, as layers for overlays and as archives to extract."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

PACKAGES = (
    "sympy==1.14.0",
    "django==5.2.8",
    "numpy==2.3.4",
    "pytest==9.0.2",
)
"""What the full environment holds: the size and number of files of a SWE-bench environment, and pure Python mostly."""


_HISTORY = 18_000_000
"""Bytes that cannot be compressed, in the repository and again in its `.git`: 36 MB, as flask with its history."""


@dataclass(frozen=True)
class Workload:
    """Where everything is that a contender makes a sandbox from; plain values, so that workers can be told.

    Attributes:
        layers: Read-only trees laid out from `/`, the top one first.
        binds: Host folders seen at the same place.
        git_dir: The sealed `.git`.
        head: Its HEAD commit.
        env: Variables of commands.
        archives: The same environment and repository, each as one `.tar.gz`.
        bytes: What the layers hold.
        files: How many files and folders that is.
    """

    layers: tuple[str, ...]
    binds: tuple[str, ...]
    git_dir: str
    head: str
    env: dict[str, str]
    archives: tuple[str, ...]
    bytes: int
    files: int

    def snapshot(self) -> Snapshot:
        """Return it as what a sandbox starts from."""
        from swebench_lab.sandbox.snapshot import Snapshot

        layers, binds = tuple(map(Path, self.layers)), tuple(map(Path, self.binds))
        git = Path(self.git_dir)
        return Snapshot("benchmark", layers, binds, git, self.head, self.env, Path("/nonexistent"), {})

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Workload:
        """Return what `to_json` made."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
        }
        return cls(**values)


def build(cache: Path, quick: bool) -> Workload:
    """Build the workload, or find it built.

    Args:
        cache: Folder that keeps it between runs.
        quick: Without any package: small, and no network is needed.

    Raises:
        SnapshotError: A package cannot be had.
    """
    from swebench_lab.snapshots.cache import SnapshotCache

    snapshot = SnapshotCache(cache / "snapshots").build(_task(cache, () if quick else PACKAGES))
    archives = tuple(str(_archive(cache, layer)) for layer in snapshot.layers)
    size, files = _measure(snapshot.layers)
    return Workload(
        tuple(map(str, snapshot.layers)),
        tuple(map(str, snapshot.binds)),
        str(snapshot.git_dir),
        snapshot.head,
        dict(snapshot.env),
        archives,
        size,
        files,
    )


def owned_by(workload: Workload, user: int, folder: Path) -> Workload:
    """Return a copy of the workload whose files belong to another user, in a folder that user can reach."""
    layers = []
    for number, layer in enumerate(workload.layers):
        copy = folder / f"layer{number}"
        shutil.copytree(layer, copy, symlinks=True)
        subprocess.run(["chown", "-R", f"{user}:{user}", str(copy)], check=True)
        layers.append(str(copy))
    git = str(next(Path(layer) / "testbed/.git" for layer in layers if (Path(layer) / "testbed/.git").exists()))
    return Workload(tuple(layers), (), git, workload.head, workload.env, (), workload.bytes, workload.files)


def _task(cache: Path, packages: tuple[str, ...]) -> Any:
    """Return a task over a repository of its own; in full it weighs as much as a small one of SWE-bench."""
    from swebench_lab.records.task import Task

    repository = cache / ("repository" if packages else "small-repository")
    repository.mkdir(parents=True, exist_ok=True)
    if packages:
        (repository / "data.bin").write_bytes(random.Random(0).randbytes(_HISTORY))
    for number in range(40):
        text = "".join(f"def f{line}(x):\n    return x + {line}\n\n\n" for line in range(200))
        (repository / f"module{number}.py").write_text(text)
    spec = {"packages": list(packages), "paths": ["."]}
    return Task("benchmark", "benchmark/repository", "HEAD", "", "", (), (), source=str(repository), spec=spec)


def _archive(cache: Path, layer: Path) -> Path:
    """Return a layer as a `.tar.gz`."""
    target = cache / "archives" / f"{layer.parent.parent.name}-{layer.parent.name}.tar.gz"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        with tarfile.open(temporary, "w:gz", compresslevel=6) as archive:
            archive.add(layer, arcname=".")
        temporary.rename(target)
    return target


def _measure(layers: tuple[Path, ...]) -> tuple[int, int]:
    size = files = 0
    for layer in layers:
        for path, folders, names in os.walk(layer):
            files += len(folders) + len(names)
            size += sum(Path(path, name).lstat().st_size for name in names)
    return size, files
