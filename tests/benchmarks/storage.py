"""Benchmark `storage`: what environments cost on the disk, beside a tar.gz of each, made in the same run."""

from __future__ import annotations

import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.records.task import Task
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.tasks.loading import load_tasks
from tests.benchmarks.measure import middle
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAME = "storage"
SHARED = ("numpy==2.2.1", "sympy==1.13.3", "pytest==8.3.4", "requests==2.32.3", "jinja2==3.1.4", "django==4.2.16")
"""What all environments hold."""

OWN = ("23.1.0", "23.2.0", "24.1.0", "24.2.0", "24.3.0", "25.1.0", "25.2.0", "25.3.0", "22.2.0", "22.1.0")
"""Versions of one package (attrs) by which they differ."""


def run(options: Options) -> Report:
    """Build ten environments that share most packages, pack each as tar.gz too, and count bytes."""
    report = Report(options.quick)
    options.folder.mkdir(parents=True, exist_ok=True)
    cache = SnapshotCache(options.folder / "cache")
    _environments(cache, options, report)
    return report


def environments(quick: bool = False) -> list[Task]:
    """Tasks of one repository whose environments share most packages."""
    task = load_tasks("demo")[0]
    packages = [["pytest"], ["pytest", "click"]] if quick else [[*SHARED, f"attrs=={version}"] for version in OWN]
    return [
        replace(task, id=f"{task.id}-{n}", spec={"packages": wanted, "paths": ["src"]})
        for n, wanted in enumerate(packages)
    ]


def _environments(cache: SnapshotCache, options: Options, report: Report) -> None:
    tasks = environments(options.quick)
    case = f"{len(tasks)} environments"
    snapshots, built = [], []
    for task in tasks:
        began = time.monotonic()
        snapshots.append(cache.build(task))
        built.append(time.monotonic() - began)
        options.say(f"storage: {task.id} built in {built[-1]:.1f} s")
    seen: set[tuple[int, int]] = set()
    hot = sum(_files.size_of(cache.root / kind, seen) for kind in ("envs", "packages", "trees", "conda"))
    again = min(_seconds(lambda: SnapshotCache(cache.root).build(tasks[-1])) for _ in range(3))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        packed = sum(pool.map(_packed, snapshots, [options.folder / f"{n}.tar.gz" for n in range(len(tasks))]))
    options.say(f"storage: tar.gz of each together {packed / 1e6:.0f} MB; ours hot {hot / 1e6:.0f} MB")
    began = time.monotonic()
    exported = cache.export(options.folder / "all.tar.xz", [snapshot.key for snapshot in snapshots])["bytes"]
    seconds = time.monotonic() - began
    options.say(f"storage: as one export {exported / 1e6:.0f} MB; a second preparation {again:.2f} s")
    values = (
        ("on the disk", "ours", float(hot), "bytes"), ("on the disk", "tar.gz each", float(packed), "bytes"),
        ("one export", "ours", float(exported), "bytes"), ("time to export", "ours", seconds, "s"),
        ("first build", "ours", built[0], "s"), ("further build", "ours", middle(built[1:]), "s"),
        ("second preparation", "ours", again, "s"),
    )  # fmt: skip
    report.rows += [Row(NAME, case, method, measure, value, unit) for measure, method, value, unit in values]
    report.gates += [
        Gate(f"storage: {case} on the disk, of their tar.gz", hot / packed, 0.55, at_least=False),
        Gate(f"storage: {case} as one export, of their tar.gz", exported / packed, 0.15, at_least=False),
        Gate("storage: seconds of a second preparation", again, 1.0, at_least=False),
    ]


def _packed(snapshot: Snapshot, path: Path) -> int:
    """Return the bytes of a tar.gz of everything a Snapshot holds."""
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        for layer in snapshot.layers:
            archive.add(layer, arcname=".")
    size = path.stat().st_size
    path.unlink()
    return size


def _seconds(call: Any) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
