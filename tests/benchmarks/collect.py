"""Benchmark `collect`: many graded attempts at once, start to end, and what they leave behind."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import swebench_lab as lab
from swebench_lab.sandbox.cgroups import cgroup_pool
from swebench_lab.sandbox.zygote.client import retire
from tests.benchmarks.measure import Account, Samples, census, sampled, settled
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAME = "collect"
WORKERS, ATTEMPTS, TASKS = 16, 200, 50


@dataclass(frozen=True)
class _Run:
    """One collection, as it was seen from outside."""

    rollouts: lab.Rollouts
    seconds: float
    cpu: float | None
    own_cpu: float
    left: dict[str, int]
    memory: Samples


def run(options: Options) -> Report:
    """Have the Teacher attempt bundled tasks, with step layers kept, and count from outside before and after."""
    workers, wanted = (2, 2) if options.quick else (WORKERS, ATTEMPTS)
    tasks = lab.load_tasks("demo").sample(min(wanted, TASKS), seed=0)
    found = _collect(options, tasks, workers, -(-wanted // len(tasks)))
    options.say(f"collect: {len(found.rollouts)} attempts in {found.seconds:.0f} s")
    report = Report(options.quick, _rows(found, f"{len(found.rollouts)} attempts, {workers} workers"))
    report.series["collect memory"] = list(zip(found.memory.at, found.memory.values, strict=True))
    report.gates += [
        Gate("collect: attempts resolved of all", found.rollouts.counts["resolved"] / len(found.rollouts), 1.0),
        Gate("collect: processes, mounts, files, groups left", float(sum(found.left.values())), 0.0, False),
        Gate("collect: memory of the last quarter over the second", _growth(found.memory.values), 1.2, False),
    ]
    return report


def _collect(options: Options, tasks: lab.Tasks, workers: int, attempts: int) -> _Run:
    held = Path(options.folder, "temporary")
    held.mkdir(parents=True)
    cgroup_pool().close()
    retire()  # one that an earlier benchmark started would not be accounted for
    with (
        _temporary_files_in(held),
        Account(NAME) as account,
        lab.SandboxFactory("namespace", cache=options.cache / "snapshots") as sandboxes,
    ):
        account.enter(os.getpid())
        sandboxes.prepare(tasks, raise_errors=True)
        evaluator = lab.Evaluator(sandboxes)
        evaluator.grade(tasks[0], tasks[0].gold_patch)  # what is loaded once is loaded from here on
        before, cpu, began = census(account, held, os.getpid()), account.cpu(), time.perf_counter()
        own = _own_cpu()
        with sampled(0.5) as samples:
            collector = lab.RolloutCollector(sandboxes, evaluator, workers=workers, run_dir=options.folder / "run")
            rollouts = collector.collect(lab.Agent(lab.Teacher(tasks)), tasks, attempts=attempts, progress=False)
        seconds, used = time.perf_counter() - began, account.cpu()
        own = _own_cpu() - own
        cgroup_pool().close()  # with the processes that wait in it for the next boxes
        left = settled(account, held, os.getpid(), before)
    return _Run(rollouts, seconds, None if cpu is None or used is None else used - cpu, own, left, samples)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = usual


def _rows(found: _Run, case: str) -> list[Row]:
    count, seconds = len(found.rollouts), found.seconds
    cores = len(os.sched_getaffinity(0))
    trajectories = [rollout.trajectory for rollout in found.rollouts]
    tools = sum(step.seconds for trajectory in trajectories for step in trajectory.steps)
    values: list[tuple[str, float | None, str]] = [
        ("attempts a minute a core", count / seconds * 60 / cores, ""),
        ("wall", seconds, "s"),
        ("CPU each attempt", found.cpu / count if found.cpu is not None else None, "s"),
        ("CPU each attempt, the collecting process", found.own_cpu / count, "s"),
        ("share of the cores in use", found.cpu / (seconds * cores) if found.cpu is not None else None, ""),
        ("attempt, median", median(trajectory.seconds for trajectory in trajectories), "s"),
        ("tools of an attempt, mean", tools / count, "s"),
        ("grading, median", median(rollout.verdict.seconds for rollout in found.rollouts), "s"),
        ("steps", float(sum(len(trajectory.steps) for trajectory in trajectories)), ""),
        *((status, float(number), "") for status, number in found.rollouts.counts.items()),
        *((f"{what} left", float(number), "") for what, number in found.left.items()),
        ("memory at most", max(found.memory.values, default=None), "bytes"),
        ("memory, last quarter over second", _growth(found.memory.values), ""),
    ]
    return [Row(NAME, case, "ours", measure, value, unit, count) for measure, value, unit in values]


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _growth(values: list[float]) -> float | None:
    """Return how memory in the last quarter of a run compares with that in its second quarter."""
    quarter = len(values) // 4
    return max(values[-quarter:]) / max(values[quarter : 2 * quarter]) if quarter else None
