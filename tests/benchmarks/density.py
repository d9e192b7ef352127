"""Benchmark `density`: how many boxes live at once, what an idle one costs, and how long commands take among many."""

from __future__ import annotations

import os
import random
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from swebench_lab.sandbox.cgroups import cgroup_pool
from swebench_lab.sandbox.zygote.client import retire
from tests.benchmarks import workload
from tests.benchmarks.measure import Account, available_memory, census, memory, quantile, settled
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

NAME = "density"
_COMMAND = "sleep 0.02"
_BUSY = 0.02  # seconds that the command is at work
_PERIOD = 1.0  # seconds from one command to the next in one box: 98 % idle


def run(options: Options) -> Report:
    """Open many idle boxes; then have few and many mostly idle ones run commands; then let all run at once."""
    report = Report(options.quick)
    snapshot = workload.build(options.cache, options.quick).snapshot()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cgroup_pool().close()
    retire()  # one that an earlier benchmark started would not be accounted for
    with Account(NAME) as account:
        account.enter(os.getpid())
        with _open(snapshot):
            pass  # what stays alive between boxes is there from here on
        options.folder.mkdir(parents=True, exist_ok=True)
        before = census(account, options.folder, os.getpid())
        report.rows += _idle(snapshot, 8 if options.quick else 1024, account, options)
        few, many = (2, 6) if options.quick else (8, 128)
        report.rows += _mostly_idle(snapshot, few, many, options)
        report.rows += _all_busy(snapshot, many, options)
        cgroup_pool().close()  # with the processes that wait in it for the next boxes
        left = settled(account, options.folder, os.getpid(), before)
    report.rows += [Row(NAME, "left behind", "ours", what, count) for what, count in left.items()]
    report.gates += _gates(report)
    return report


def _open(snapshot: Snapshot) -> Any:
    from swebench_lab.sandbox.namespace.sandbox import open_namespace

    return open_namespace(snapshot)


def _idle(snapshot: Snapshot, count: int, account: Account, options: Options) -> list[Row]:
    """Open boxes one after the other and keep them all; the last ones show whether many slow it down."""
    seconds: list[float] = []
    free, known = available_memory(), set(account.pids())
    with ExitStack() as stack:
        boxes = []
        for _ in range(count):
            began = time.perf_counter()
            boxes.append(stack.enter_context(_open(snapshot)))
            seconds.append(time.perf_counter() - began)
        taken = (free - available_memory()) / count
        firsts = [pid for pid in account.pids() if pid not in known]
        share = (
            median(memory(pid, proportional=True) for pid in random.Random(0).sample(firsts, min(40, len(firsts))))
            if firsts
            else None
        )
        commands = _each(boxes[-40:])
        alive = sum(box.run("true").ok for box in boxes)
        began = time.perf_counter()
    closing = time.perf_counter() - began
    options.say(f"density: {alive} of {count} idle boxes live")
    case = f"{count} idle"
    last = seconds[-20:]
    return [
        Row(NAME, case, "ours", "live", alive),
        Row(NAME, case, "ours", "open, first 20", median(seconds[:20]), "s", 20),
        Row(NAME, case, "ours", "open, last 20", median(last), "s", len(last)),
        Row(NAME, case, "ours", "run `echo hi`", median(commands), "s", len(commands)),
        Row(NAME, case, "ours", "memory each, first process (PSS)", share, "bytes"),
        Row(NAME, case, "ours", "memory each, whole machine", taken, "bytes", note="others on the machine count too"),
        Row(NAME, case, "ours", "close each", closing / count, "s", count),
    ]


def _each(boxes: list[Any]) -> list[float]:
    seconds = []
    for box in boxes:
        began = time.perf_counter()
        box.run("echo hi")
        seconds.append(time.perf_counter() - began)
    return seconds


def _mostly_idle(snapshot: Snapshot, few: int, many: int, options: Options) -> list[Row]:
    """Compare commands among few and many boxes that are idle 98 % of the time, in turns."""
    found: dict[int, list[float]] = {few: [], many: []}
    span = 3.0 if options.quick else 10.0
    for turn in range(options.times(3)):
        for count in (few, many):
            # Fewer boxes run longer, so that both percentiles stand on enough commands.
            found[count] += _paced(snapshot, count, span * (min(4, many / count)))
        options.say(f"density: mostly idle boxes, turn {turn + 1}")
    rows = []
    for count, values in found.items():
        case = f"{count} mostly idle"
        rows.append(
            Row(NAME, case, "ours", "median", median(values), "s", len(values), f"`{_COMMAND}` once a second each")
        )
        rows.append(Row(NAME, case, "ours", "p95", quantile(values, 0.95), "s", len(values)))
        over = [max(0.0, value - _BUSY) for value in values]
        rows.append(Row(NAME, case, "ours", "p95 above 20 ms", quantile(over, 0.95), "s", len(values)))
    return rows


def _paced(snapshot: Snapshot, count: int, span: float) -> list[float]:
    """Have each box run one short command a second, at moments of its own; seconds of each command."""
    seconds: list[float] = []

    def one(number: int) -> None:
        dice = random.Random(number)
        at = began + dice.random() * _PERIOD
        while at < began + span:
            time.sleep(max(0.0, at - time.perf_counter()))
            asked = time.perf_counter()
            shells[number].run(_COMMAND)
            seconds.append(time.perf_counter() - asked)
            at += _PERIOD * (0.5 + dice.random())

    with ExitStack() as stack:
        shells = [stack.enter_context(_open(snapshot)).session() for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            began = time.perf_counter()
            for future in [pool.submit(one, number) for number in range(count)]:
                future.result()
    return seconds


def _all_busy(snapshot: Snapshot, count: int, options: Options) -> list[Row]:
    """Let all boxes run commands without pause: what the machine gives, and how evenly it is shared out."""
    stop = threading.Event()
    done = [0] * count

    def one(number: int) -> None:
        while not stop.is_set():
            shells[number].run("/bin/true")
            done[number] += 1

    span = 1.0 if options.quick else 15.0
    with ExitStack() as stack:
        shells = [stack.enter_context(_open(snapshot)).session() for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            futures = [pool.submit(one, number) for number in range(count)]
            time.sleep(span)
            stop.set()
            for future in futures:
                future.result()
    even = sum(done) ** 2 / (count * sum(n * n for n in done)) if any(done) else 0.0
    case = f"{count} busy"
    return [
        Row(NAME, case, "ours", "commands a second", sum(done) / span, "", sum(done)),
        Row(NAME, case, "ours", "fairness (Jain: 1 is even)", even, "", count),
        Row(NAME, case, "ours", "fewest over median", min(done) / max(1.0, median(done)), "", count),
    ]


def _gates(report: Report) -> list[Gate]:
    few, many = (report.value(NAME, f"{n} mostly idle", "ours", "p95") for n in (8, 128))
    left = sum(row.value or 0 for row in report.rows if row.case == "left behind")
    return [
        Gate("density: live idle boxes", report.value(NAME, "1024 idle", "ours", "live"), 1024.0),
        Gate("density: p95 among 128 mostly idle boxes over 8", many / few if few and many else None, 3.0, False),
        Gate("density: processes, mounts, files, groups left", left, 0.0, False),
    ]
