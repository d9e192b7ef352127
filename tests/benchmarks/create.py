"""Benchmark `create`: from nothing to the first answered command, at rising concurrency, against other ways."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks import contenders, workload
from tests.benchmarks.measure import available_memory, middle, quantile
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row
from tests.benchmarks.worker import Worker, WorkerError, readable_python, start

NAME = "create"
CONCURRENCY = (1, 8, 32, 128)
_REPETITIONS = {1: 31, 8: 9, 32: 5, 128: 3}
_SLOW = {
    "tar-extract": {1: 3},
    "tar-extract (in memory)": {1: 3, 8: 1, 32: 1},
    "tar-extract (in memory, native tar)": {1: 3, 8: 1},
}
_NOBODY = 65534
_SETTLING = 0.03  # seconds after the first answers, so that what is made ahead for the next boxes is paid for by these

Found = dict[str, list[float | None]]


def run(options: Options) -> Report:
    """Measure every contender that is there, alternated."""
    report = Report(options.quick)
    load = workload.build(options.cache, options.quick)
    options.say(f"create: environment of {load.bytes / 1e6:.0f} MB in {load.files} files")
    archived = sum(Path(archive).stat().st_size for archive in load.archives)
    report.rows.append(Row(NAME, "environment", "", "size", load.bytes, "bytes", load.files))
    report.rows.append(Row(NAME, "environment", "", "as tar.gz", archived, "bytes"))
    with ExitStack() as stack:
        workers = {}
        for name in _names(options):
            worker, why = _enlist(name, load, options)
            if worker:
                workers[name] = stack.enter_context(worker)
            report.rows += [Row(NAME, _case(n), name, "wall", None, "s", 0, why) for n in CONCURRENCY if why]
        alone: dict[str, float | None] = {}
        for count in (1, 4) if options.quick else CONCURRENCY:
            found, notes = _alternate(workers, count, options, load.bytes, alone)
            alone = alone or {name: middle(measures["wall"]) for name, measures in found.items()}
            report.rows += _rows(found, notes, count)
        report.rows += [
            Row(NAME, "left behind", name, what, left)
            for name, worker in workers.items()
            if name.startswith("ours")  # of the others, it would be what this benchmark's own mounting keeps
            for what, left in worker.left().items()
        ]
    report.gates += gates(report)
    return report


def _names(options: Options) -> list[str]:
    names = [*contenders.INSTALL, "swe-rex (no sandbox)"]
    return [name for name in names if not (options.quick and name == "docker")]


def _enlist(name: str, load: workload.Workload, options: Options) -> tuple[Worker | None, str]:
    """Return a warm worker for a contender, or why there is none."""
    folder = options.folder / name.replace(" ", "-")
    try:
        if name.startswith("swe-rex"):
            if why := options.missing_swe_rex():
                return None, why
            script = Path(__file__).with_name("swerex_worker.py")
            worker = Worker(name, [str(options.swe_rex), str(script)], folder)
        elif why := contenders.missing(name):
            return None, why
        elif name == "ours (rootless)" and contenders.is_root():
            if not readable_python():
                return None, "no Python ≥ 3.11 on this machine that another user could run"
            own = workload.owned_by(load, _NOBODY, options.folder / "owned")
            worker = start(name, own.to_json(), folder, options.memory, _NOBODY)
        else:
            worker = start(name, load.to_json(), folder, options.memory)
        if not name.startswith("tar-extract"):  # what stays alive between boxes is made now, and not part of them
            worker.ask("open", count=1)
            worker.ask("close")
    except (WorkerError, OSError) as error:
        return None, f"failed: {error}"
    return worker, ""


def _alternate(
    workers: dict[str, Worker], count: int, options: Options, size: int, alone: Mapping[str, float | None]
) -> tuple[dict[str, Found], dict[str, str]]:
    """Measure the contenders in turn, again and again; what each gave, and why some did not take part.

    Args:
        workers: The contenders.
        count: How many boxes at once.
        options: How much is measured.
        size: Bytes that a slow contender extracts for a box.
        alone: Seconds that each needs for one box.
    """
    found: dict[str, Found] = defaultdict(lambda: defaultdict(list))
    notes: dict[str, str] = {}
    turns = options.times(_REPETITIONS.get(count, 1))
    for name in _SLOW:
        seconds = (alone.get(name) or 0.0) * count / (os.cpu_count() or 1)
        if name in workers and seconds > options.patience and _SLOW[name].get(count):
            notes[name] = f"not run at {count}: it would take {seconds / 60:.0f} minutes here and now"
    for turn in range(turns):
        for name, worker in workers.items():
            if name in _SLOW and not _due(name, count, turn, turns, options.quick):
                if not found[name]:
                    notes[name] = notes.get(name) or f"not run at {count}: it would extract {size * count / 1e9:.0f} GB"
                continue
            if name in notes or (name in _SLOW and size * count * 1.3 > available_memory()):
                notes.setdefault(name, f"not run at {count}: {size * count / 1e9:.0f} GB do not fit into memory")
                continue
            try:
                _once(worker, count, found[name])
            except WorkerError as error:
                notes[name] = f"failed at {count}: {error}"
        options.say(f"create: concurrency {count}, turn {turn + 1}")
    return found, notes


def _due(name: str, count: int, turn: int, turns: int, quick: bool) -> bool:
    """Return whether a slow contender has its turn: few times, spread over all turns."""
    times = _SLOW[name].get(count, int(quick))
    return turn in {number * (turns - 1) // max(1, times - 1) for number in range(times)}


def _once(worker: Worker, count: int, found: Found) -> None:
    """Open and close a batch of boxes, and append what it took."""
    start_cpu = worker.account.cpu()
    opened = worker.ask("open", count=count)
    time.sleep(_SETTLING)
    open_cpu = worker.account.cpu()
    written = worker.ask("written")["bytes"]
    written_cpu = worker.account.cpu()
    closed = worker.ask("close")
    end_cpu = worker.account.cpu()
    found["wall"].append(opened["wall"])
    if count > 1:
        found["p95"].append(quantile(opened["each"], 0.95))
    found["bytes written"].append(written)
    found["teardown"].append(closed["wall"])
    if worker.name == "docker":  # the engine, which does the work, is not ours to account for
        return
    for measure, before, after in (("CPU each", start_cpu, open_cpu), ("teardown CPU each", written_cpu, end_cpu)):
        found[measure].append(None if before is None or after is None else (after - before) / count)


_UNITS = {"bytes written": "bytes"}


def _case(count: int) -> str:
    return f"concurrency {count}"


def _rows(found: dict[str, Found], notes: dict[str, str], count: int) -> list[Row]:
    rows = []
    for name, measures in found.items():
        for measure, values in measures.items():
            rows.append(Row(NAME, _case(count), name, measure, middle(values), _UNITS.get(measure, "s"), len(values)))
    rows += [Row(NAME, _case(count), name, "wall", None, "s", 0, note) for name, note in notes.items()]
    return rows


def gates(report: Report) -> list[Gate]:
    """Return the ratios that have to hold."""

    def get(count: int, method: str, measure: str = "wall") -> Any:
        return report.value(NAME, _case(count), method, measure)

    def ratio(above: float | None, below: float | None) -> float | None:
        return above / below if above is not None and below else None

    ours = "ours (root)" if get(1, "ours (root)") else "ours (rootless)"
    faster = f"{{}}: times faster than {{}}, concurrency {{}} ({ours})"
    found = [
        Gate(faster.format(NAME, other, n), ratio(get(n, other), get(n, ours)), bound)
        for n, other, bound in ((1, "tar-extract", 400.0), (32, "tar-extract (in memory)", 800.0))
    ]
    for n in (1, 32, 128):
        found.append(
            Gate(f"create: wall over bwrap's, concurrency {n}", ratio(get(n, ours), get(n, "bwrap")), 1.0, False)
        )
    for name in ("ours (root)", "ours (rootless)"):
        for n in (1, 32, 128):
            cpu = ratio(get(n, name, "CPU each"), get(n, "bwrap", "CPU each"))
            what = f"create: CPU each over bwrap's, the next box's clone included, concurrency {n} ({name})"
            found.append(Gate(what, cpu, 1.0, False))
    found.append(Gate("create: bytes copied each", get(1, ours, "bytes written"), 0.0, False))
    left = [row.value for row in report.rows if row.case == "left behind" and row.method.startswith("ours")]
    found.append(
        Gate("create: processes, mounts, files, groups left", sum(filter(None, left)) if left else None, 0, False)
    )
    return found
