"""Benchmark `rollouts`: attempts a minute and processor time of each, beside what other agents' environments make of them.

Everybody does the same attempt: a clean tree of a task (a bundled one, and one with thousands of files), four commands
of a script that answers at once, the difference, nothing left. Grading is left out: the others have none. Ours goes
through the whole collector, each row kept; the others through a thread pool and nothing else. Ours has walls, those
of others that are local have none. What an engine and its containers use of the processors is told by the whole
machine's use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import swebench_lab as lab
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import UNRESOLVED, Verdict
from swebench_lab.snapshots.cache import SnapshotCache
from tests.benchmarks import contenders, peers_worker
from tests.benchmarks.measure import Account, busy
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAME = "rollouts"
WORKERS, ATTEMPTS = (16, 64), 320
FILES, LINES = 3_000, 120
"""The larger repository: about half of django's files and a third of its bytes."""
OURS = ("ours namespace", "ours namespace, step layers kept", "ours docker")
PEERS = tuple(peers_worker.KINDS)
IN_CONTAINERS = ("ours docker", "mini-swe-agent docker")
SLOW, FEWER = (*IN_CONTAINERS, "swe-rex local"), 5
"""These make one of so many attempts: they take that much longer."""
IMAGE = "swebench-lab-rollouts"
COMMANDS = (
    "ls",
    "grep -rn 'def ' --include=*.py . | wc -l",
    "echo something > note.txt",
    "git status --short",
)
EXPECTED = "+something"
_CALL = "<function={}>\n{}</function>"
_PARAMETER = "<parameter=command>\n{}\n</parameter>\n"


class Ungraded(lab.Evaluator):
    """Says of every patch that it does not solve the task, without looking."""

    def grade(self, task: lab.Task, patch: str, **_: Any) -> Verdict:
        """Return the same for all; a patch without the change is a fault."""
        if EXPECTED not in patch:
            raise RuntimeError(f"the attempt has not changed what it should: {patch[:300]!r}")
        return Verdict(UNRESOLVED, "not looked at", tier=self.sandboxes.tier)


def run(options: Options) -> Report:
    """Measure everybody at each number of workers, in turns."""
    report = Report(options.quick)
    whole = 8 if options.quick else options.reps or ATTEMPTS
    cache = options.cache / "snapshots"
    for size, workers in _cases(options):
        task = _task(options, size)
        with lab.SandboxFactory("namespace", cache=cache) as sandboxes:
            tree = str(sandboxes.snapshot(task).layers[0] / "testbed")
        case = f"{workers} workers, {size} repository"
        rates: dict[str, float] = {}
        for name in (*OURS, *PEERS):
            attempts = -(-whole // FEWER) if name in SLOW else whole
            what = {"kind": name, "attempts": attempts, "workers": workers, "tree": tree, "commands": COMMANDS,
                    "expected": EXPECTED, "at": str(options.memory), "cache": str(cache), "task": task.to_dict(),
                    "run_dir": str(options.folder / f"{name}-{size}-{workers}")}  # fmt: skip
            if why := _missing(options, name):
                report.rows.append(Row(NAME, case, name, "attempts a minute", None, "", 0, why))
                continue
            found = _measure(options, name, what)
            rates[name] = 60 * attempts / found["seconds"]
            note = f"{found['failed']} failed: {found['why']}" if found["failed"] else ""
            values = [("attempts", float(attempts), ""), ("attempts a minute", rates[name], ""),
                      ("CPU each attempt", found["cpu"], "s"), ("failed", float(found["failed"]), "")]  # fmt: skip
            report.rows += [Row(NAME, case, name, measure, v, unit, attempts, note) for measure, v, unit in values]
            options.say(f"rollouts: {case}, {name}: {rates[name]:.0f} a minute")
        report.gates += _gates(rates, case)
    return report


def _gates(rates: dict[str, float], case: str) -> list[Gate]:
    pairs = [(OURS[0], peer) for peer in PEERS] + [IN_CONTAINERS]
    return [
        Gate(
            f"rollouts: attempts a minute, {ours} over {peer}, {case}",
            rates[ours] / rates[peer] if ours in rates and peer in rates else None,
            1.0,
        )
        for ours, peer in pairs
    ]


def _missing(options: Options, name: str) -> str:
    """Return why a contender cannot take part; empty when it can."""
    why = options.missing_swe_rex() if name in PEERS else ""
    return why or (contenders.missing("docker") if name in IN_CONTAINERS else "")


def _cases(options: Options) -> list[tuple[str, int]]:
    """Return the sizes of repositories and numbers of workers that are measured."""
    return [("small", 4)] if options.quick else [(size, workers) for size in ("small", "large") for workers in WORKERS]


def _task(options: Options, size: str) -> lab.Task:
    """Return a bundled task of two dozen files, or one whose repository is as large as those of SWE-bench."""
    if size == "small":
        return lab.load_tasks("demo")[0]
    repository = options.cache / "large-repository"
    text = "".join(f"def function_{line}(value):\n    return value + {line}\n\n\n" for line in range(LINES))
    for number in range(FILES):
        folder = repository / f"package{number % 60}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{number}.py").write_text(f"NUMBER = {number}\n{text}")
    spec = {"packages": [], "paths": ["."]}
    task = lab.Task("large", "benchmark/large", "HEAD", "", "", (), (), source=str(repository), spec=spec)
    commit = SnapshotCache(options.cache / "snapshots").source(task).resolve("HEAD")
    return replace(task, base_commit=commit)  # as real tasks have it: nobody needs to look at the repository again


@contextmanager
def _image(tree: str) -> Iterator[str]:
    """Give the name of an image that holds a tree, and places for this machine's programs."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        root = Path(folder)
        shutil.copytree(tree, root / "testbed", symlinks=True)
        (root / "usr").mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        with subprocess.Popen(["tar", "-C", folder, "-cf", "-", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(["docker", "import", "-", IMAGE], stdin=packed.stdout, check=True, capture_output=True)
    try:
        yield IMAGE
    finally:
        subprocess.run(["docker", "rmi", "--force", IMAGE], check=True, capture_output=True)


def _measure(options: Options, name: str, what: dict[str, Any]) -> dict[str, Any]:
    """Run one contender in a process of its own, and count its processor time from here."""
    if name in PEERS and name in IN_CONTAINERS:
        with _image(what["tree"]) as image:
            return _run(options, name, what | {"tree": image})
    return _run(options, name, what)


def _run(options: Options, name: str, what: dict[str, Any]) -> dict[str, Any]:
    python = sys.executable if name in OURS else str(options.swe_rex)
    module = ["-m", f"{__package__}.{NAME}"] if name in OURS else [peers_worker.__file__]
    environment = {**os.environ, "MSWEA_SILENT_STARTUP": "1", "MSWEA_CONFIGURED": "true"}
    with Account(NAME) as account:
        used = busy if name in IN_CONTAINERS else account.cpu
        process = subprocess.Popen(
            [python, *module, json.dumps(what)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        account.enter(process.pid)
        assert process.stdin and process.stdout
        for line in process.stdout:
            if line.strip() == "ready":
                break
        before = used()
        process.stdin.write("go\n")
        process.stdin.flush()
        told = process.stdout.read()
        process.wait()
        after = used()
    if process.returncode:
        raise RuntimeError(f"{name} ended with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(told.strip().split("\n")[-1])
    found["cpu"] = None if before is None or after is None else (after - before) / what["attempts"]
    return found


def main(what: dict[str, Any]) -> None:
    """Be our contender."""
    script = [_CALL.format("bash", _PARAMETER.format(command)) for command in what["commands"]]
    policy = lab.ScriptedPolicy([*script, _CALL.format("submit", "")])
    tasks = lab.Tasks([lab.Task.from_dict(what["task"])])
    backend = "docker" if what["kind"] in IN_CONTAINERS else "namespace"
    with lab.SandboxFactory(backend, cache=what["cache"]) as sandboxes:
        collector = lab.RolloutCollector(
            sandboxes, Ungraded(sandboxes), workers=what["workers"], run_dir=what["run_dir"]
        )
        layers = what["kind"] == OURS[1]
        agent = lab.Agent(policy, keep_layers=layers)
        collector.collect(lab.Agent(policy, max_steps=39), tasks, progress=False)  # what is loaded once is loaded
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        began = time.perf_counter()
        wrong: list[Trajectory] = []
        for rollout in collector.stream(agent, tasks, attempts=what["attempts"]):
            if not rollout.verdict.graded:
                wrong.append(rollout.trajectory)
        seconds = time.perf_counter() - began
    said = {"seconds": seconds, "failed": len(wrong), "why": [trajectory.error[:200] for trajectory in wrong[:1]]}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
