"""Benchmark `scale`: thousands of short attempts over many workers, against the time that nobody can do without.

The policy is a script behind a simulated model: each call takes a time drawn from the attempt's seed. The least time a
run can take is the larger of what the model takes (all calls over the workers) and what the sandboxes compute
(processor seconds inside them over the processors); the rest is what scheduling costs.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import swebench_lab as lab
from swebench_lab.policies.policy import Conversation, fingerprint, replies_so_far
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import TaskView
from tests.benchmarks.collect import _growth, _own_cpu
from tests.benchmarks.measure import Account, Samples, census, sampled, settled
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAME = "scale"
ATTEMPTS, WORKERS, TASKS = 5000, 64, 20
LATENCY = 1.25
"""Seconds of a simulated call of the model, in the mean; three calls an attempt."""
CALLS = 3
PATCHES = 10
"""One attempt of so many hands in a patch, which the tests then decide on; the others hand in nothing."""

_CALL = "<function={}>\n{}</function>"
_PARAMETER = "<parameter=command>\n{}\n</parameter>\n"


def latencies(seed: int, mean: float) -> list[float]:
    """Return the seconds of each call in an attempt: half to one and a half times the mean."""
    chance = random.Random(seed)
    return [mean * chance.uniform(0.5, 1.5) for _ in range(CALLS)]


@dataclass(frozen=True)
class SlowScript:
    """Looks around, changes something in some attempts, hands in; as slowly as a model would.

    Args:
        gold: Task id → patch, for those attempts that hand one in.
        latency: Seconds of a call, in the mean.
        patches: One attempt of so many hands in a patch.
    """

    gold: tuple[tuple[str, str], ...]
    latency: float
    patches: int = PATCHES
    name: str = "simulated"

    @property
    def fingerprint(self) -> str:
        """A hash over everything."""
        return fingerprint("simulated", gold=self.gold, latency=self.latency, patches=self.patches)

    def start(self, view: TaskView, attempt: int, seed: int) -> _Talk:
        """Begin an attempt."""
        patch = dict(self.gold)[view.id] if seed % self.patches == 0 else ""
        return _Talk(latencies(seed, self.latency), patch)


class _Talk(Conversation):
    def __init__(self, seconds: list[float], patch: str) -> None:
        change = (
            f"git apply <<'END_OF_PATCH'\n{patch}\nEND_OF_PATCH" if patch else "head -n 20 *.md; echo nothing to do"
        )
        commands = ("ls; grep -rn 'def ' --include=*.py . | wc -l", change)
        self._replies = [_CALL.format("bash", _PARAMETER.format(c)) for c in commands] + [_CALL.format("submit", "")]
        self._seconds = seconds

    def reply(self, messages: Sequence[Message]) -> Reply:
        step = replies_so_far(messages)
        time.sleep(self._seconds[step])
        return Reply(self._replies[step], seconds=self._seconds[step])

    def close(self) -> None:
        """Hold nothing."""


@dataclass(frozen=True)
class _Found:
    rows: int
    counts: Counter[str]
    seconds: float
    latency: float
    cpu: float | None
    own: float
    zygotes: float
    left: dict[str, int]
    memory: Samples


def run(options: Options) -> Report:
    """Stream the attempts, keep nothing of them here, and count from outside."""
    wanted, workers = (24, 8) if options.quick else (options.reps or ATTEMPTS, WORKERS)
    latency = 0.05 if options.quick else LATENCY
    tasks = lab.load_tasks("demo").sample(min(wanted, TASKS), seed=0)
    found = _collect(options, tasks, workers, wanted // len(tasks), latency)
    wanted = wanted // len(tasks) * len(tasks)
    cores = len(os.sched_getaffinity(0))
    inside = None if found.cpu is None else max(0.0, found.cpu - found.own - found.zygotes)
    ideal = max(found.latency / workers, (inside or 0.0) / cores)
    case = f"{wanted} attempts, {workers} workers, {CALLS} calls of {latency:g} s"
    values: list[tuple[str, float | None, str]] = [
        ("wall", found.seconds, "s"),
        ("model latency over workers", found.latency / workers, "s"),
        ("CPU inside the sandboxes over processors", None if inside is None else inside / cores, "s"),
        ("over the ideal", found.seconds / ideal - 1, ""),
        ("attempts a minute", 60 * wanted / found.seconds, ""),
        ("CPU each attempt, inside the sandboxes", None if inside is None else inside / wanted, "s"),
        ("CPU each attempt, the collecting process", found.own / wanted, "s"),
        ("CPU each attempt, the processes that make sandboxes", found.zygotes / wanted, "s"),
        ("rows", float(found.rows), ""),
        *((status, float(count), "") for status, count in sorted(found.counts.items())),
        *((f"{what} left", float(count), "") for what, count in found.left.items()),
        ("memory at most", max(found.memory.values, default=None), "bytes"),
        ("memory, last quarter over second", _growth(found.memory.values), ""),
    ]
    report = Report(options.quick, [Row(NAME, case, "ours", name, value, unit, wanted) for name, value, unit in values])
    report.series["scale memory"] = list(zip(found.memory.at, found.memory.values, strict=True))
    report.gates += [
        Gate("scale: time over the ideal", found.seconds / ideal - 1, 0.05, False),
        Gate("scale: rows missing or too many", float(abs(found.rows - wanted)), 0.0, False),
        Gate("scale: processes, mounts, files, groups left", float(sum(found.left.values())), 0.0, False),
        Gate("scale: memory of the last quarter over the second", _growth(found.memory.values), 1.05, False),
    ]
    return report


def _collect(options: Options, tasks: lab.Tasks, workers: int, attempts: int, latency: float) -> _Found:
    """Run the collection in a process of its own, and count what it has used and left from here."""
    held, run_dir = Path(options.folder, "temporary"), Path(options.folder, "run")
    (held / f"swebench-lab-{os.geteuid()}").mkdir(parents=True, mode=0o700)  # home of such folders: it stays
    cache = options.cache / "snapshots"
    with lab.SandboxFactory("namespace", cache=cache) as sandboxes:
        sandboxes.prepare(tasks, raise_errors=True)
    with Account(NAME) as account:
        before = census(account, held, os.getpid())
        what = {"cache": str(cache), "tasks": tasks.ids, "workers": workers, "attempts": attempts, "latency": latency,
                "run_dir": str(run_dir)}  # fmt: skip
        command = [sys.executable, "-m", f"{__package__}.{NAME}", json.dumps(what)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(held)})
        account.enter(child.pid)
        told, _ = child.communicate()
        if child.returncode:
            raise RuntimeError(f"the collecting process ended with exit code {child.returncode}")
        values = json.loads(told.strip().split("\n")[-1])
        spent = account.cpu()
        left = settled(account, held, child.pid, before)
    rows = (run_dir / "attempts.jsonl").read_bytes().count(b"\n")
    return _Found(
        rows,
        Counter(values["counts"]),
        values["seconds"],
        values["latency"],
        None if spent is None else spent - values["start_cpu"],
        values["own"],
        values["zygotes"],
        left,
        Samples(**values["memory"]),
    )


def main(what: dict[str, Any]) -> dict[str, Any]:
    """Be the collecting process: stream all attempts, keep none, and say what that took."""
    tasks = lab.load_tasks("demo").filter(lambda task: task.id in set(what["tasks"]))
    counts: Counter[str] = Counter()
    total, latency = 0.0, what["latency"]
    with lab.SandboxFactory("namespace", cache=what["cache"]) as sandboxes:
        evaluator = lab.Evaluator(sandboxes)
        evaluator.grade(tasks[0], tasks[0].gold_patch)  # what is loaded once is loaded from here on
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own, zygotes, began = _own_cpu(), _zygote_cpu(), time.perf_counter()
        start_cpu = own + zygotes + children.ru_utime + children.ru_stime
        with sampled(0.5) as samples:
            collector = lab.RolloutCollector(sandboxes, evaluator, workers=what["workers"], run_dir=what["run_dir"])
            agent = lab.Agent(SlowScript(tuple((task.id, task.gold_patch) for task in tasks), latency))
            for rollout in collector.stream(agent, tasks, attempts=what["attempts"]):
                counts[rollout.verdict.status] += 1
                total += sum(latencies(rollout.trajectory.seed, latency))
        seconds = time.perf_counter() - began
        own, zygotes = _own_cpu() - own, _zygote_cpu() - zygotes
    return {"counts": counts, "seconds": seconds, "latency": total, "own": own, "zygotes": zygotes,
            "start_cpu": start_cpu, "memory": asdict(samples)}  # fmt: skip


def _zygote_cpu() -> float:
    """Return processor seconds of the processes that make sandboxes for this one, so far."""
    ticks, total = os.sysconf("SC_CLK_TCK"), 0.0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "lab-zygote":
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / ticks if _is_of(int(fields[1])) else 0.0
        except (OSError, ValueError):
            continue
    return total


def _is_of(parent: int) -> bool:
    """Say whether a process is this one or below it."""
    while parent > 1:
        if parent == os.getpid():
            return True
        try:
            parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return False
    return False


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
