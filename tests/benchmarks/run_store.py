"""Benchmark of run directories: many attempts of realistic size, what they cost on the disk, to append, to open, to read.

python -m tests.benchmarks.run_store --attempts 5000 --folder /somewhere/large --traces FOLDER_OF_TRACES

Texts are drawn from the traces (any folder of text files), none of them twice but for a task's own; token ids are random
over a vocabulary of 151,936, logprobs random float32 of full precision. What each operation takes is measured in a
process of its own. The yardsticks are one JSON line an attempt, as the layout of before kept it, and parquet of the same rows
(zstd, 100 attempts a file, token ids and logprobs as lists of numbers), written in the same run; with --inspect, also logs
of Inspect (250 attempts a file; the messages as its messages, ids and logprobs as its metadata).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from swebench_lab.records.reply import Message, Reply, VersionRun
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import Verdict
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.store import lines

STEPS, ATTEMPTS_A_TASK, VOCABULARY = 40, 4, 151_936
BASELINE = 200
"""Attempts that are written as JSON lines as well."""


class Texts:
    """Draws texts that are nowhere else.

    Args:
        folder: Text files to draw from; None: random words.
        seed: Seed of the random generator.
    """

    def __init__(self, folder: Path | None, seed: int) -> None:
        self.chance = random.Random(seed)
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder else []
        text = "\n".join(file.read_text("utf-8", "replace").replace("\\n", "\n") for file in files)
        self.lines = [line[:200] for line in text.split("\n") if len(line) > 20]
        if len(set(self.lines)) < 2000:
            words = ["".join(self.chance.choices("abcdefghijklmnopqrstuvwxyz", k=n % 9 + 2)) for n in range(20_000)]
            self.lines = [" ".join(self.chance.choices(words, k=12)) for _ in range(50_000)]

    def draw(self, characters: int) -> str:
        """Return a text of about so many characters: a few runs of lines, and a number that no other text has."""
        parts, size = [f"# {self.chance.getrandbits(64):x}"], 0
        while size < characters:
            at = self.chance.randrange(len(self.lines))
            run = self.lines[at : at + self.chance.randint(2, 8)]
            parts += run
            size += sum(map(len, run))
        return "\n".join(parts)


def attempt(number: int, texts: Texts, tasks: dict[int, Task], system: str) -> Rollout:
    """Return the attempt of a number: 40 steps with token ids and logprobs."""
    chance = np.random.default_rng(number)
    group = number // ATTEMPTS_A_TASK
    if group not in tasks:
        tasks.clear()
        names = [f"tests/test_{group}.py::test_{n}" for n in range(40)]
        tasks[group] = Task(f"owner__name-{group}", f"owner/name-{group % 97}", "c" * 40, texts.draw(2000), texts.draw(1500),
                            tuple(names[:3]), tuple(names[3:]))  # fmt: skip
    task, steps = tasks[group], []
    for index in range(STEPS):
        count = int(chance.integers(60, 400))
        ids = chance.integers(0, VOCABULARY, count, dtype=np.int32)
        context = chance.integers(0, VOCABULARY, int(chance.integers(100, 900)), dtype=np.int32)
        reply = Reply(texts.draw(count * 3), ids, -chance.exponential(0.6, count).astype(np.float32), context, 9000, count,
                      8000, None, 1.5, "model@1", "stop", index == 0, (VersionRun(count, number // 512),))  # fmt: skip
        steps.append(Step.of(index, reply, "thought", "bash", {"command": "pytest -q"}, "pytest -q",
                             texts.draw(len(context) * 3), index % 2, seconds=0.8, started_at=1e9 + index))  # fmt: skip
    opening: tuple[Message, ...] = ({"role": "system", "content": system}, {"role": "user", "content": task.issue})
    resolved = bool(chance.random() < 0.4)
    tests = dict.fromkeys((*task.fail_to_pass, *task.pass_to_pass), "PASSED")
    verdict = Verdict("resolved" if resolved else "unresolved", "", True, tests, log=texts.draw(3000), seconds=3.0,
                      fail_to_pass={"success": task.fail_to_pass, "failure": ()},
                      pass_to_pass={"success": task.pass_to_pass, "failure": ()})  # fmt: skip
    trajectory = Trajectory(task.id, number % ATTEMPTS_A_TASK, number, opening, tuple(steps), patch=texts.draw(1500),
                            agent="a" * 16, policy="model", flavour="xml", snapshot="k" * 16, tier="namespace",
                            seconds=90.0, started_at=1e9)  # fmt: skip
    return Rollout(task, trajectory, verdict, float(resolved))


class Parquet:
    """The same attempts as parquet: a row has columns to choose by, its ids and logprobs, and the rest as JSON."""

    SIZE = 100

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, 0
        self.rows: list[dict[str, Any]] = []
        folder.mkdir()

    def append(self, rollout: Rollout) -> None:
        """Take a row; every so many are a file."""
        steps = rollout.trajectory.steps
        row = rollout.to_row()
        for step in row["trajectory"]["steps"]:
            for name in ("token_ids", "logprobs", "context_ids"):
                step["reply"].pop(name, None)
        self.rows.append({
            "task": rollout.task.id, "attempt": rollout.trajectory.attempt, "status": rollout.verdict.status,
            "reward": rollout.reward, "seconds": rollout.trajectory.seconds, "rest": json.dumps(row),
            "token_ids": [np.asarray(step.reply.token_ids) for step in steps],
            "logprobs": [np.asarray(step.reply.logprobs) for step in steps],
            "context_ids": [np.asarray(step.reply.context_ids) for step in steps],
        })  # fmt: skip
        if len(self.rows) == self.SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if self.rows:
            pl.DataFrame(self.rows, schema_overrides=_PARQUET).write_parquet(self.folder / f"{self.files:05}.parquet")
            self.rows, self.files = [], self.files + 1


_PARQUET = {name: pl.List(pl.List(kind)) for name, kind in
            (("token_ids", pl.Int32), ("logprobs", pl.Float32), ("context_ids", pl.Int32))}  # fmt: skip


class InspectLogs:
    """The same attempts as logs of Inspect, each of which holds whole samples."""

    SIZE = 250

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, 0
        self.samples: list[Any] = []
        folder.mkdir()

    def append(self, rollout: Rollout) -> None:
        """Take an attempt; every so many are a file."""
        from inspect_ai.log import EvalSample
        from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ModelOutput
        from inspect_ai.scorer import Score

        t, verdict = rollout.trajectory, rollout.verdict
        messages: list[Any] = [
            ChatMessageSystem(content=str(t.opening[0]["content"])),
            ChatMessageUser(content=rollout.task.issue),
        ]
        for step in t.steps:
            messages += [ChatMessageAssistant(content=step.reply.text), ChatMessageUser(content=step.observation)]
        ids = {name: [np.asarray(getattr(step.reply, name)).tolist() for step in t.steps]
               for name in ("token_ids", "logprobs", "context_ids")}  # fmt: skip
        score = Score(value=float(rollout.reward or 0.0), answer=t.patch, explanation=verdict.log)
        self.samples.append(EvalSample(id=rollout.task.id, epoch=t.attempt + 1, input=rollout.task.issue, target=rollout.task.gold_patch,
                                       messages=messages, output=ModelOutput.from_content("model", t.steps[-1].reply.text),
                                       scores={"reward": score}, metadata=ids))  # fmt: skip
        if len(self.samples) == self.SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the samples that wait."""
        from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

        if self.samples:
            spec = EvalSpec(
                created="2026-01-01T00:00:00+00:00",
                task="run",
                dataset=EvalDataset(),
                model="model",
                config=EvalConfig(),
            )
            write_eval_log(
                EvalLog(eval=spec, samples=self.samples, status="success"), str(self.folder / f"{self.files:05}.eval")
            )
            self.samples, self.files = [], self.files + 1


def write(folder: Path, count: int, traces: Path | None, inspect: bool = False) -> dict[str, Any]:
    """Make the run; return what appending and the disk cost, beside JSON lines."""
    texts, run = Texts(traces, 0), RunDirectory(folder / "run")
    tasks: dict[int, Task] = {}
    system = texts.draw(9000)
    before = folder / "before.jsonl"
    others: dict[str, Parquet | InspectLogs] = {"parquet": Parquet(folder / "parquet")}
    if inspect:
        others["logs of Inspect"] = InspectLogs(folder / "inspect")
    appended, as_lines = [], []
    for number in range(count):
        rollout = attempt(number, texts, tasks, system)
        begin = time.perf_counter()
        run.append(rollout, "reward")
        appended.append(time.perf_counter() - begin)
        for other in others.values():
            other.append(rollout)
        if number % max(1, count // BASELINE) == 0:
            begin = time.perf_counter()
            lines.append(before, {**rollout.to_row(), "rewarded_by": "reward"})
            as_lines.append(time.perf_counter() - begin)
        if number % 1000 == 999:
            print(f"{number + 1} of {count} attempts", file=sys.stderr, flush=True)
    for other in others.values():
        other.flush()
    size = sum(file.stat().st_size for file in (folder / "run").rglob("*") if file.is_file())
    one, was = size / count, before.stat().st_size / len(as_lines)
    return {
        "attempts": count,
        "distinct lines of text": len(set(texts.lines)),
        "kB an attempt": one / 1e3,
        "kB an attempt as a JSON line": was / 1e3,
        **{
            f"kB an attempt as {name}": sum(file.stat().st_size for file in other.folder.iterdir()) / count / 1e3
            for name, other in others.items()
        },
        "share of JSON lines": one / was,
        "GB in all": size / 1e9,
        "GB as JSON lines": was * count / 1e9,
        "append, median ms": 1e3 * statistics.median(appended),
        "append a JSON line, median ms": 1e3 * statistics.median(as_lines),
    }


OPERATIONS = {
    "import only": "import polars, numpy; run_dir = None",
    "open, count": "run = lab.attach(run_dir); n = len(run), run.counts",
    "board": "state = lab.attach(run_dir).board.state()['rows']",
    "resume scan": "from swebench_lab.rollouts.run_directory import RunDirectory; RunDirectory(run_dir).recover(); "
    "n = len(RunDirectory(run_dir).entries())",
    "pass_at, filter, frame": "run = lab.attach(run_dir); run.pass_at(1), run.pass_at(4); "
    "import polars as pl; len(run.filter(verdict='resolved')), len(run.filter(pl.col('seconds') > 50)); run.to_frame()",
    "scan of all steps": "import polars as pl; lab.attach(run_dir).scan('steps').group_by('exit_code')"
    ".agg(pl.len(), pl.col('completion_tokens').sum()).collect()",
    "iterate over 500": "import itertools; sum(len(r.trajectory.steps) for r in itertools.islice(lab.attach(run_dir), 500))",
}

_AS_PARQUET = {
    "open, count": "import polars as pl; pl.scan_parquet(run_dir).group_by('status').len().collect()",
    "pass_at, filter, frame": "import polars as pl; s = pl.scan_parquet(run_dir); "
    "s.group_by('task').agg((pl.col('status') == 'resolved').mean()).collect(), s.filter(pl.col('seconds') > 50)"
    ".select(pl.len()).collect(), s.select('task', 'attempt', 'status', 'reward', 'seconds').collect()",
}
"""What corresponds to them in parquet."""
_AS_INSPECT = {
    "import only": "import inspect_ai.log",
    "open, count": "from inspect_ai.log import list_eval_logs, read_eval_log_sample_summaries as read; from collections import Counter; "
    "Counter(s.scores['reward'].value for log in list_eval_logs(run_dir) for s in read(log.name))",
}
"""What corresponds to them in logs of Inspect."""

_MEASURED = """
import sys, time, json
import swebench_lab as lab
lab.attach, lab.Board
import polars, numpy
run_dir = {run_dir!r}
begin, used = time.perf_counter(), time.process_time()
{code}
seconds, used = time.perf_counter() - begin, time.process_time() - used
most = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, used, int(most) / 1e3]))
"""


def measured(run_dir: Path, code: str) -> str:
    """Return what an operation takes in a process of its own: wall time, processor time, peak memory."""
    program = _MEASURED.format(run_dir=str(run_dir), code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, used, memory = json.loads(done.stdout.splitlines()[-1])
    return f"{seconds:.3f} s ({used:.3f} s of processors), {memory:.0f} MB at most"


def widened(folder: Path, rows: int) -> Path:
    """Return a run directory whose index has so many rows: each body stands for several attempts. Bodies are not copied."""
    run, wide = folder / "run", folder / "wide"
    shutil.copytree(run, wide, copy_function=os.link)
    (wide / "attempts.jsonl").unlink()
    known = [json.loads(line) for line in (run / "attempts.jsonl").read_bytes().splitlines()]
    with (wide / "attempts.jsonl").open("wb") as file:
        for number in range(rows):
            row = known[number % len(known)]
            row = {**row, "attempt": row["attempt"] + number // len(known) * ATTEMPTS_A_TASK, "seed": number}
            file.write(lines.line(row))
    return wide


def opened(folder: Path, attempts: int, count: int = 50) -> dict[str, str]:
    """Return what opening one attempt takes, all of its texts, ids and logprobs, by each format: milliseconds."""
    rollouts = RunDirectory(folder / "run", create=False).rollouts()
    table = pl.scan_parquet(folder / "parquet")

    def from_parquet(number: int) -> int:
        task, attempt = f"owner__name-{number // ATTEMPTS_A_TASK}", number % ATTEMPTS_A_TASK
        row = table.filter(pl.col("task") == task, pl.col("attempt") == attempt).collect().row(0, named=True)
        return len(json.loads(row["rest"])["trajectory"]["steps"])

    def from_inspect(number: int) -> int:
        from inspect_ai.log import read_eval_log_sample

        log = folder / "inspect" / f"{number // InspectLogs.SIZE:05}.eval"
        task, epoch = f"owner__name-{number // ATTEMPTS_A_TASK}", number % ATTEMPTS_A_TASK + 1
        return len(read_eval_log_sample(str(log), task, epoch).metadata["token_ids"])

    ways = {"": lambda number: len(rollouts[number].trajectory.steps), " (parquet)": from_parquet}
    if (folder / "inspect").is_dir():
        ways[" (Inspect)"] = from_inspect
    shown = {}
    for name, read in ways.items():
        took = []
        for number in random.Random(0).sample(range(attempts), min(count, attempts)):
            begin = time.perf_counter()
            assert read(number) == STEPS
            took.append(time.perf_counter() - begin)
        shown[f"open one attempt, ms{name}"] = (
            f"median {1e3 * statistics.median(took):.1f}, slowest of {len(took)} {1e3 * max(took):.1f}"
        )
    return shown


def main() -> None:
    """Make the run, unless it is there, and print what everything takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=5000)
    parser.add_argument(
        "--folder", type=Path, required=True, help="outside of the repository; made, and removed at the end"
    )
    parser.add_argument("--traces", type=Path, help="folder of text files that texts are drawn from")
    parser.add_argument(
        "--rows", type=int, default=0, help="also measure an index of so many rows over the same bodies"
    )
    parser.add_argument("--inspect", action="store_true", help="also write logs of Inspect (pip install inspect-ai)")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    facts = write(given.folder, given.attempts, given.traces, given.inspect)
    run_dir = given.folder / "run"
    for name, code in OPERATIONS.items():
        facts[name] = measured(run_dir, code)
    for name, code in _AS_PARQUET.items():
        facts[f"{name} (parquet)"] = measured(given.folder / "parquet", code)
    for name, code in _AS_INSPECT.items() if given.inspect else ():
        facts[f"{name} (Inspect)"] = measured(given.folder / "inspect", code)
    if given.rows:
        wide = widened(given.folder, given.rows)
        facts["rows of the wide index"] = given.rows
        for name in ("open, count", "resume scan", "pass_at, filter, frame"):
            facts[f"{name} (wide)"] = measured(wide, OPERATIONS[name])
    facts |= opened(given.folder, given.attempts)
    facts["load of the machine"] = os.getloadavg()[0]
    for name, value in facts.items():
        print(f"{name:32} {value:.3f}" if isinstance(value, float) else f"{name:32} {value}")
    if not given.keep:
        shutil.rmtree(given.folder)


if __name__ == "__main__":
    main()
