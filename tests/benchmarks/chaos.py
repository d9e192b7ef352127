"""Chaos: whatever is killed, filled up or stalled, the final table is the one of an undisturbed run.

`python -m tests.benchmarks.chaos [SCENARIO…]`. The policy is an endpoint on the loopback that answers each
conversation in one way only, so two runs can be compared to the letter. Each scenario collects in a process of its own
and disturbs it from outside until the table is full.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

import swebench_lab as lab

SCENARIOS = ("sandboxes", "makers", "collector", "stalls", "disk", "node")
"""What is disturbed: boxes; the processes that make them; the collector; the endpoint; the disk; a node of two."""

Table = dict[tuple[str, int], tuple[Any, ...]]

_STALLED = 30.0
_CALL = "<function={}>\n{}</function>"
_PARAMETER = "<parameter=command>\n{}\n</parameter>\n"


@dataclass(frozen=True)
class Plan:
    """One collection, as the process that makes it is told.

    Attributes:
        run_dir: Its run directory.
        url: The endpoint.
        tasks: How many tasks.
        attempts: Attempts at each.
        workers: Attempts at once.
        nodes: Simulated nodes of a cluster; 0: threads.
        cache: Where Snapshots are; empty: the user's.
    """

    run_dir: str
    url: str
    tasks: int
    attempts: int
    workers: int = 6
    nodes: int = 0
    cache: str = ""


# --- an endpoint that answers each conversation in one way ----------------------------------------------------------


class Endpoint:
    """An OpenAI-compatible endpoint whose answers follow from the conversation alone.

    Args:
        tasks: What it may be asked about; every second one it solves.
        latency: Seconds of an answer.
        stalls: One call of so many is not answered for a long time; 0: none. Asked again, it is answered.
    """

    def __init__(self, tasks: lab.Tasks, latency: float = 0.1, stalls: int = 0) -> None:
        self._gold = {task.issue.strip()[:200]: (task.gold_patch if n % 2 else "") for n, task in enumerate(tasks)}
        self._latency, self._stalls = latency, stalls
        self.calls = self.stalled = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """What `ChatPolicy` is given."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the one answer to a conversation."""
        step = sum(message["role"] == "assistant" for message in messages)
        said = "\n".join(message["content"] for message in messages[:2])
        patch = next((gold for issue, gold in self._gold.items() if issue in said), "")
        change = f"git apply <<'END_OF_PATCH'\n{patch}\nEND_OF_PATCH" if patch else "echo note > note.txt"
        commands = ("grep -rn 'def ' --include=*.py . | wc -l; sleep 0.2", change, "git status --short")
        if step < len(commands):
            return _CALL.format("bash", _PARAMETER.format(commands[step]))
        return _CALL.format("submit", "")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint._lock:
                    endpoint.calls += 1
                    stall = endpoint._stalls and endpoint.calls % endpoint._stalls == 0
                    endpoint.stalled += bool(stall)
                time.sleep(_STALLED if stall else endpoint._latency)
                message = {"role": "assistant", "content": endpoint.answer(asked["messages"])}
                body = json.dumps({
                    "id": "x", "object": "chat.completion", "created": 0, "model": "one-way",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }).encode()  # fmt: skip
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    return  # who asked has given up

        return Handler


# --- the process that collects --------------------------------------------------------------------------------------


def chosen(count: int) -> lab.Tasks:
    """Return the tasks of a plan."""
    return lab.load_tasks("demo").sample(count, seed=3)


def drive(plan: Plan) -> None:
    """Be the collecting process."""
    policy = lab.ChatPolicy(plan.url, model="one-way", revision="1", timeout=2 * _STALLED)
    joined = lab.cluster(plan.nodes) if plan.nodes else None
    deadlines = lab.Deadlines(model=6.0, retries=8, backoff=0.1)
    with lab.SandboxFactory("namespace", cache=plan.cache or None) as sandboxes:
        collector = lab.RolloutCollector(
            sandboxes,
            workers=plan.workers,
            run_dir=plan.run_dir,
            deadlines=deadlines,
            executor=joined or "threads",
        )
        if joined:
            threading.Thread(target=_lose_a_node, args=(joined, Path(plan.run_dir), plan), daemon=True).start()
        try:
            collector.collect(lab.Agent(policy), chosen(plan.tasks), attempts=plan.attempts, progress=False)
        finally:
            if joined:
                joined.close()


def _lose_a_node(joined: Any, run_dir: Path, plan: Plan) -> None:
    while rows(run_dir) < plan.tasks * plan.attempts // 3:
        time.sleep(0.2)
    joined.remove_node(joined.simulated[-1])


def start(plan: Plan) -> subprocess.Popen[str]:
    """Start the collecting process."""
    command = [sys.executable, "-m", f"{__package__}.chaos", "--drive", json.dumps(plan.__dict__)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(run_dir: Path) -> int:
    """Return how many rows there are."""
    path = run_dir / "attempts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def table(run_dir: Path) -> Table:
    """Return what must be equal: verdict, stop reason, patch, and each step's command, exit code and observation.

    Layers are not compared: they hold the files' times.
    """
    found: Table = {}
    for rollout in lab.attach(run_dir):
        t = rollout.trajectory
        steps = tuple((s.command, s.exit_code, s.observation) for s in t.steps)
        key = (rollout.task.id, t.attempt)
        if key in found:
            raise AssertionError(f"two rows of {key}")
        found[key] = (rollout.verdict.status, t.stop, t.patch, t.seed, steps)
    return found


# --- disturbances ---------------------------------------------------------------------------------------------------


def below(pid: int, name: str) -> list[int]:
    """Return the processes of this name below a process."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                names[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue

    def is_below(one: int) -> bool:
        while one in parents and one != pid:
            one = parents[one]
        return one == pid

    return sorted(one for one, called in names.items() if called == name and is_below(one))


def _kill_some(process: subprocess.Popen[str], name: str, chance: random.Random, most: int, every: float) -> int:
    """Kill random processes of a name below the collector, one at a time, until it ends."""
    count = 0
    while process.poll() is None:
        time.sleep(chance.uniform(0.5, 1.5) * every)
        found = below(process.pid, name)
        if found and count < most:
            try:
                os.kill(chance.choice(found), signal.SIGKILL)
                count += 1
            except ProcessLookupError:
                continue
    return count


def _to_the_end(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"the collecting process ended with exit code {process.returncode}: {errors[-3000:]}")


def _sandboxes(plan: Plan, chance: random.Random) -> int:
    process = start(plan)
    count = _kill_some(process, "lab-init", chance, plan.tasks * plan.attempts, 1.0)
    _to_the_end(process)
    return count


def _makers(plan: Plan, chance: random.Random) -> int:
    process = start(plan)
    count = _kill_some(process, "lab-zygote", chance, 3, 3.0)
    _to_the_end(process)
    return count


def _collector(plan: Plan, chance: random.Random) -> int:
    count, wanted = 0, plan.tasks * plan.attempts
    while True:
        process, before = start(plan), rows(Path(plan.run_dir))
        target = before + max(1, chance.randrange(wanted // 4, wanted // 2))
        while process.poll() is None and rows(Path(plan.run_dir)) < target:
            time.sleep(0.05)
        if process.poll() is not None or target >= wanted:
            _to_the_end(process)
            return count
        process.kill()
        process.communicate()
        count += 1


def _disk(plan: Plan, _: random.Random) -> int:
    """Fill the disk that the run directory is on, and free it when the collector has stopped."""
    count, wanted, filler = 0, plan.tasks * plan.attempts, Path(plan.run_dir) / "filler"
    for share in (4, 2):
        process = start(plan)
        while process.poll() is None and rows(Path(plan.run_dir)) < wanted // share:
            time.sleep(0.05)
        _fill(filler)
        errors = process.communicate(timeout=120)[1]
        if process.returncode == 0 or "No space left" not in errors:
            raise AssertionError(f"a full disk must end the collection, and say so: {errors[-2000:]}")
        filler.unlink()
        count += 1
    _to_the_end(start(plan))
    return count


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(block)) == block:
                    pass
            except OSError:
                continue


def _undisturbed(plan: Plan, _: random.Random) -> int:
    _to_the_end(start(plan))
    return 0


_DISTURB: dict[str, Callable[[Plan, random.Random], int]] = {
    "": _undisturbed,
    "sandboxes": _sandboxes,
    "makers": _makers,
    "collector": _collector,
    "stalls": _undisturbed,
    "disk": _disk,
    "node": _undisturbed,
}


@contextmanager
def small_disk(folder: Path, size: str = "24m") -> Iterator[Path]:
    """Mount a small file system in memory; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disturbed(scenario: str, tasks: int, attempts: int, folder: Path, seed: int = 0, cache: str = "") -> dict[str, Any]:
    """Collect while something is disturbed, and return the table and what was done to it."""
    endpoint = Endpoint(chosen(tasks), stalls=9 if scenario == "stalls" else 0)
    run_dir = folder / (scenario or "undisturbed")
    try:
        if scenario == "disk":
            with small_disk(run_dir):
                return _one(scenario, tasks, attempts, run_dir, endpoint, seed, cache)
        return _one(scenario, tasks, attempts, run_dir, endpoint, seed, cache)
    finally:
        endpoint.close()


def _one(
    scenario: str, tasks: int, attempts: int, run_dir: Path, endpoint: Endpoint, seed: int, cache: str
) -> dict[str, Any]:
    plan = Plan(str(run_dir), endpoint.url, tasks, attempts, nodes=2 if scenario == "node" else 0, cache=cache)
    began = time.monotonic()
    count = _DISTURB[scenario](plan, random.Random(seed))
    events = run_dir / "events.jsonl"
    told = [json.loads(line)["what"] for line in events.read_text().splitlines()] if events.exists() else []
    return {
        "table": table(run_dir),
        "disturbances": count or endpoint.stalled or told.count("node died"),
        "again": told.count("again"),
        "rows": rows(run_dir),
        "seconds": round(time.monotonic() - began, 1),
    }


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(SCENARIOS))
@click.option("--tasks", default=8, show_default=True)
@click.option("--attempts", default=6, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--drive", "what", hidden=True, default="")
def main(scenarios: tuple[str, ...], tasks: int, attempts: int, seed: int, what: str) -> None:
    """Disturb collections in every way, and compare their tables with that of an undisturbed one."""
    if what:
        drive(Plan(**json.loads(what)))
        return
    folder = Path(tempfile.mkdtemp(prefix="lab-chaos-"))
    wrong = False
    try:
        calm = disturbed("", tasks, attempts, folder, seed)
        click.echo(f"undisturbed: {calm['rows']} rows in {calm['seconds']} s")
        for scenario in scenarios or SCENARIOS:
            found = disturbed(scenario, tasks, attempts, folder, seed)
            same = found["table"] == calm["table"]
            wrong = wrong or not same or not found["disturbances"]
            click.echo(
                f"{scenario}: {found['disturbances']} disturbances, {found['again']} begun or graded again, "
                f"{found['rows']} rows in {found['seconds']} s; table {'equal' if same else 'DIFFERENT'}"
            )
            if not same:
                click.echo("\n".join(differences(calm["table"], found["table"])))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(int(wrong))


def differences(one: Table, other: Table) -> list[str]:
    """Return the first differences of two tables, one line each."""
    lines = [f"only in one: {key}" for key in sorted(set(one) ^ set(other))]
    for key in sorted(set(one) & set(other)):
        if one[key] != other[key]:
            parts = [(a, b) for a, b in zip(one[key], other[key], strict=True) if a != b]
            lines.append(f"{key}: " + "; ".join(f"{str(a)[:300]} ≠ {str(b)[:300]}" for a, b in parts))
    return lines[:6]


if __name__ == "__main__":
    main()
