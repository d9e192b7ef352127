"""Benchmark `fork`: a checkpoint and a second live box after few and after many steps."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.benchmarks import workload
from tests.benchmarks.measure import middle
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

if TYPE_CHECKING:
    from swebench_lab.sandbox.namespace.sandbox import NamespaceSandbox

NAME = "fork"
STEPS = (1, 10, 50, 200)
_STEP = (
    "for n in 1 2 3 4; do head -c 16384 /dev/urandom > src/step{step}_$n.bin; done; "
    "echo 'x = {step}' >> module0.py; python -c 'print({step})' > last.txt"
)
"""What a step writes: four new files of 16 KiB, and two files changed again and again."""


def run(options: Options) -> Report:
    """Walk boxes through many steps, checkpointed after each, and measure at some of them."""
    report = Report(options.quick)
    snapshot = workload.build(options.cache, options.quick).snapshot()
    steps = (1, 3) if options.quick else STEPS
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    squashes: list[float] = []
    diverged: list[bool] = []
    for turn in range(options.times(3)):
        from swebench_lab.sandbox.namespace.sandbox import open_namespace

        with open_namespace(snapshot) as box, box.session() as shell:
            shell.run("mkdir src")
            for step in range(1, steps[-1] + 1):
                shell.run(_STEP.format(step=step))
                seconds = _checkpoint(box)
                if step in steps:
                    _measure(box, step, seconds, found, diverged, options.times(5))
                elif step > steps[0]:
                    squashes.append(seconds)
        options.say(f"fork: walk {turn + 1} of {steps[-1]} steps")
    for (step, measure), values in found.items():
        report.rows.append(Row(NAME, f"after {step} steps", "ours", measure, middle(values), "s", len(values)))
    if squashes:
        report.rows.append(
            Row(NAME, "between steps", "ours", "slowest checkpoint (squash)", max(squashes), "s", len(squashes))
        )
    report.gates += _gates(report, steps, diverged)
    return report


def _checkpoint(box: NamespaceSandbox) -> float:
    began = time.perf_counter()
    box.checkpoint()
    return time.perf_counter() - began


def _measure(box: NamespaceSandbox, step: int, seconds: float, found: dict[tuple[int, str], list[float]],
             diverged: list[bool], times: int) -> None:  # fmt: skip
    """Fork at a checkpoint a few times, and see that parent and child then go their own ways."""
    found[step, "checkpoint"].append(seconds)
    for turn in range(times):
        box.run(f"echo {step} >> again.txt")
        began = time.perf_counter()
        layer = box.checkpoint()
        kept = time.perf_counter()
        with box.fork(at=layer) as other:
            forked = time.perf_counter()
            count = other.run("ls src | wc -l; cat last.txt").output.split()
            answered = time.perf_counter()
            other.run("echo other > module0.py")
            box.run(f"echo parent > parent{step}-{turn}.txt")
            theirs = other.run(f"cat module0.py; ls parent{step}-{turn}.txt 2>/dev/null").output
            apart = theirs == "other\n" and "x = " in box.read("module0.py")
            diverged.append(apart and count == [str(4 * step), str(step)])
        for measure, value in (
            ("small checkpoint", kept - began),
            ("fork", forked - kept),
            ("checkpoint + fork", forked - began),
            ("first command in the fork", answered - forked),
        ):
            found[step, measure].append(value)


def _gates(report: Report, steps: tuple[int, ...], diverged: list[bool]) -> list[Gate]:
    def ratio(step: int) -> float | None:
        many, one = (report.value(NAME, f"after {n} steps", "ours", "checkpoint + fork") for n in (step, steps[0]))
        return many / one if many and one else None

    return [
        Gate("fork: checkpoint + fork after 50 steps over that after 1", ratio(50), 3.0, False),
        Gate("fork: checkpoint + fork after 200 steps over that after 1", ratio(200), 5.0, False),
        Gate("fork: forks that do not hold what they should", float(len(diverged) - sum(diverged)), 0.0, False),
    ]
