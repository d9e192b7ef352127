"""Benchmark `command`: how fast commands get in and out of a box that is there already, and what their output costs."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.benchmarks import contenders, workload
from tests.benchmarks.measure import quantile
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row
from tests.benchmarks.worker import Worker, WorkerError, start

NAME = "command"
SESSION, RUN, BARE, REX = "ours (session)", "ours (run)", "subprocess", "swe-rex"
_BIG = "${TMPDIR:-/tmp}/big"
_MAKE_BIG = f"head -c %d /dev/zero | tr '\\0' a | fold -w 100 > {_BIG}"
_MEGA = 1_000_000

Runner = tuple[Worker, str]


def run(options: Options) -> Report:
    """Measure our session, our `run`, SWE-ReX's session and a plain subprocess, alternated."""
    report = Report(options.quick)
    load = workload.build(options.cache, options.quick).to_json()
    with ExitStack() as stack:
        runners: dict[str, Runner] = {}
        for name, why in ((SESSION, ""), (BARE, ""), (REX, options.missing_swe_rex())):
            if why:
                report.rows += [
                    Row(NAME, case, name, "latency", None, "s", 0, why) for case in ("echo hi", "/bin/true")
                ]
                continue
            runners[name] = stack.enter_context(_worker(name, load, options)), "session"
        runners[RUN] = runners[SESSION][0], "run"
        for text in ("echo hi", "/bin/true"):
            report.rows += _latencies(runners, text, options)
        report.rows += _big_outputs(runners, options)
        report.rows += _growth(runners, options)
    report.gates += _gates(report)
    return report


def _worker(name: str, load: str, options: Options) -> Worker:
    folder = options.folder / name.replace(" ", "-")
    if name == REX:
        return Worker(name, [str(options.swe_rex), str(Path(__file__).with_name("swerex_worker.py"))], folder)
    tier = "ours (root)" if contenders.is_root() else "ours (rootless)"
    return start(tier if name == SESSION else name, load, folder, options.memory)


def _latencies(runners: dict[str, Runner], text: str, options: Options) -> list[Row]:
    """Run a small command again and again, a few at each runner before the next one's turn."""
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(options.times(10)):
        for name, (worker, how) in runners.items():
            times = 2 if name == REX else 20
            if turn == 0:
                worker.ask("command", text=text, times=3, how=how)
            found[name] += worker.ask("command", text=text, times=times, how=how)["each"]
    options.say(f"command: {text}")
    rows = []
    for name, values in found.items():
        rows.append(Row(NAME, text, name, "latency", median(values), "s", len(values)))
        rows.append(Row(NAME, text, name, "p95", quantile(values, 0.95), "s", len(values)))
    return rows


def _big_outputs(runners: dict[str, Runner], options: Options) -> list[Row]:
    """Print a file of 10 MB."""
    size = (1 if options.quick else 10) * _MEGA
    case = f"{size // _MEGA} MB of output"
    found: dict[str, list[float]] = defaultdict(list)
    notes: dict[str, str] = {}
    for turn in range(options.times(5)):
        for name, (worker, how) in runners.items():
            if name == REX and turn:
                continue
            try:
                if turn == 0:
                    worker.ask("command", text=_MAKE_BIG % (size * 100 // 101), times=1, how=how)
                answer = worker.ask("command", text=f"cat {_BIG}", times=1, how=how)
            except WorkerError as error:
                notes[name] = str(error)[:200]
                continue
            if answer["bytes"] < size * 0.98:
                notes[name] = f"only {answer['bytes']} of {size} bytes arrived"
            found[name] += answer["each"]
        options.say(f"command: {case}, turn {turn + 1}")
    rows = [Row(NAME, case, name, "latency", median(v), "s", len(v), notes.get(name, "")) for name, v in found.items()]
    return rows + [Row(NAME, case, n, "latency", None, "s", 0, note) for n, note in notes.items() if n not in found]


def _growth(runners: dict[str, Runner], options: Options) -> list[Row]:
    """Print 100 MB, of which we keep 10: how much more memory the client held at its worst than after 10 MB."""
    size = (10 if options.quick else 100) * _MEGA
    case = f"{size // _MEGA} MB of output"
    rows = []
    for name, (worker, how) in runners.items():
        if name == REX:
            rows.append(Row(NAME, case, name, "latency", None, "s", 0, "not run: it would take minutes"))
            continue
        worker.ask("forget_peak")
        before = worker.ask("peak")["bytes"]
        worker.ask("command", text=_MAKE_BIG % (size * 100 // 101), times=1, how=how)
        each = worker.ask("command", text=f"cat {_BIG}", times=1, how=how)["each"]
        grown = worker.ask("peak")["bytes"] - before
        rows.append(Row(NAME, case, name, "latency", each[0], "s"))
        rows.append(Row(NAME, case, name, "memory growth", max(0, grown), "bytes"))
    return rows


def _gates(report: Report) -> list[Gate]:
    def ratio(case: str) -> float | None:
        theirs, ours = (report.value(NAME, case, name, "latency") for name in (REX, SESSION))
        return theirs / ours if theirs and ours else None

    grown = report.value(NAME, "100 MB of output", SESSION, "memory growth")
    return [
        Gate("command: `echo hi` in a session, times faster than swe-rex", ratio("echo hi"), 300.0),
        Gate("command: 10 MB of output, times faster than swe-rex", ratio("10 MB of output"), 50.0),
        Gate("command: 100 MB of output, MB of memory growth", grown / 1e6 if grown is not None else None, 32.0, False),
    ]
