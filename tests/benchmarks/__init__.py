"""Benchmarks: ratios in one run against other ways to do the same; `python -m tests.benchmarks`.

Ratios and counts gate, milliseconds are only reported: machines differ and are noisy, so methods are alternated in one
run and medians compared. Each contender runs in a process of its own, whose control group counts its processor time and
processes from outside.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAMES = (
    "create",
    "command",
    "fork",
    "density",
    "collect",
    "scale",
    "soak",
    "rollouts",
    "storage",
    "history",
    "overlap",
)
"""Every benchmark; each is a module of this package with `run(options) -> Report`."""


def run(names: Iterable[str] = NAMES, *, reps: int | None = None, quick: bool = False, cache: Path | None = None,
        swe_rex: Path | None = None, patience: float = 900.0) -> Report:  # fmt: skip
    """Run benchmarks one after the other.

    Args:
        names: Which; all by default.
        reps: Repetitions; by default each benchmark's own number.
        quick: Small numbers, no network: shows that everything runs.
        cache: Keeps environments between runs; by default below the cache of Snapshots.
        swe_rex: Interpreter of an environment with `swe-rex`; by default one below the cache.
        patience: Seconds that one batch of a slow way may be expected to take.

    Returns:
        All rows and gates. A quick run has no gates: its numbers mean nothing.
    """
    from swebench_lab.places import default_root

    cache = cache or default_root() / "benchmarks"
    report = Report(quick)
    with tempfile.TemporaryDirectory(prefix="lab-benchmarks-") as folder:
        memory = Path(
            tempfile.mkdtemp(prefix="lab-benchmarks-", dir="/dev/shm" if Path("/dev/shm").is_dir() else folder)
        )
        Path(folder).chmod(0o755)
        python = swe_rex or cache / "swe-rex/bin/python"
        options = Options(Path(folder), memory, cache, reps, quick, python, patience)
        try:
            for name in names:
                part = import_module(f"{__name__}.{name}").run(replace(options, folder=Path(folder, name)))
                report.merge(part)
        finally:
            shutil.rmtree(memory)
    if quick:
        report.gates.clear()
    return report


__all__ = ["NAMES", "Gate", "Options", "Report", "Row", "run"]
