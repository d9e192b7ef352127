"""Two real Ray nodes, each in a network of its own, on one machine: work is split, one dies, and every row arrives.

`python -m tests.benchmarks.nodes` (as root, with `ip`). The head and the worker are started by the commands that
users type; when the second one has finished some attempts it is harmed: everything on it is killed at once, its cable is
cut, or its worker alone is killed. All patches are honest, so no attempt may be unresolved; `--load` keeps the machine at
so many times its load meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

import swebench_lab as lab
from swebench_lab.rollouts.executors.cluster import Cluster
from tests.benchmarks.scale import SlowScript

HEAD, WORKER, PORT = "10.77.0.1", "10.77.0.2", 6390
_CLI = [sys.executable, "-c", "from swebench_lab.cli.main import main; main()"]
_START_SECONDS = 300.0


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextmanager
def networks(names: Sequence[str] = ("lab-a", "lab-b")) -> Iterator[Sequence[str]]:
    """Make two networks with a cable between them, and remove them."""
    for name in names:
        _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", "va", "netns", names[0], "type", "veth", "peer", "name", "vb", "netns", names[1])
        for name, link, address in ((names[0], "va", HEAD), (names[1], "vb", WORKER)):
            _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", link)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            kill_all(name)
            _run("ip", "netns", "del", name)


def kill_all(network: str) -> int:
    """Kill every process in a network at once, as if its machine lost power; return how many there were."""
    count = 0
    for _ in range(20):
        found = subprocess.run(["ip", "netns", "pids", network], capture_output=True, text=True).stdout.split()
        for pid in found:
            try:
                os.kill(int(pid), signal.SIGKILL)
                count += 1
            except ProcessLookupError:
                continue
        if not found:
            break
        time.sleep(0.1)
    return count


@contextmanager
def node(network: str, folder: Path, arguments: Sequence[str], alone: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Start a node by the command users type; `alone` hides the other's temporary files from it."""
    temporary = folder / "ray"
    temporary.mkdir(exist_ok=True)
    ray = ["--num-cpus=1", "--object-store-memory=100000000"]
    # Ray gives up on a node whose helpers are not there after 30 s, which a busy machine makes of any start.
    command = [
        "nice",
        "-n",
        "-15",
        *_CLI,
        "cluster",
        *arguments,
        "--sandbox",
        "16",
        "--cache",
        str(folder / f"cache-{network}"),
        *ray,
    ]
    if alone:
        hide = f'mount -t tmpfs none {temporary} && exec "$@"'
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, "sh", *command]
    log = (folder / f"{network}.log").open("wb")
    process = subprocess.Popen(["ip", "netns", "exec", network, *command], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _await(network: str) -> None:
    """Wait until the head answers on its port."""
    look = ["ip", "netns", "exec", network, sys.executable, "-c",
            f"import socket; socket.create_connection(({HEAD!r}, {PORT}), 2)"]  # fmt: skip
    end = time.monotonic() + _START_SECONDS
    while subprocess.run(look, capture_output=True).returncode:
        if time.monotonic() > end:
            raise SystemExit("the head did not come up")
        time.sleep(2)


def joined() -> Cluster:
    """Join the cluster as soon as both nodes are there; in the head's network."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(lab.LabError):
            cluster = lab.cluster(f"{HEAD}:{PORT}")
            if len(cluster.machines()) == 2:
                return cluster
            cluster.close()
        time.sleep(3)
    raise SystemExit("the two nodes did not come up")


def drive(what: dict[str, Any]) -> None:
    """Collect on the cluster; runs in the head's network."""
    chosen = lab.load_tasks("demo").sample(what["tasks"], seed=0)
    cluster = joined()
    agent = lab.Agent(SlowScript(tuple((task.id, task.gold_patch) for task in chosen), what["latency"], patches=1))
    with lab.SandboxFactory("namespace", cache=what["cache"]) as sandboxes, cluster:
        collector = lab.RolloutCollector(sandboxes, workers=8, run_dir=what["run_dir"], executor=cluster)
        began = time.monotonic()
        rollouts = collector.collect(agent, chosen, attempts=what["attempts"], progress=False)
        seconds = time.monotonic() - began
    by_node = Counter(rollout.node.split("/")[1] for rollout in rollouts)
    again = sum(rollout.tries > 1 for rollout in rollouts)
    reasons = [rollout.verdict.reason[:300] for rollout in rollouts.not_graded]
    said = {
        "rows": len(rollouts),
        "not graded": reasons,
        "counts": rollouts.counts,
        "unresolved": [(rollout.task.id, rollout.verdict.reason[:300]) for rollout in rollouts.unresolved],
        "by_node": by_node,
        "again": again,
        "seconds": seconds,
    }
    sys.stdout.write(json.dumps(said) + "\n")


def _hurry(names: Sequence[str], stop: threading.Event) -> None:
    """Let nodes that start go before all others: Ray gives up on one whose helpers are not there after 15 s."""
    while not stop.wait(0.2):
        for name in names:
            found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for pid in found:
                with contextlib.suppress(OSError):  # gone, or a kernel without such groups
                    Path(f"/proc/{pid}/autogroup").write_text("-12")


def cut_cable(network: str) -> int:
    """Take a node's network away, and leave everything on it running."""
    _run("ip", "-n", network, "link", "set", "vb", "down")
    return 0


def kill_worker(network: str) -> int:
    """Kill the process that plays a node's attempts, as the kernel does for want of memory; Ray itself goes on."""
    count = 0
    for pid in subprocess.run(["ip", "netns", "pids", network], capture_output=True, text=True).stdout.split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::NodeAgent"):
                os.kill(int(pid), signal.SIGKILL)
                count += 1
    return count


HARMS = {"power": kill_all, "cable": cut_cable, "worker": kill_worker}
"""What befalls the second node; each says how many processes it killed."""


@contextmanager
def load(times: float) -> Iterator[None]:
    """Bring the machine to so many times its load, whatever else it does now."""
    lacking = round(times * len(os.sched_getaffinity(0)) - os.getloadavg()[0])
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(max(0, lacking))]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _rows(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "attempts.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[str, str, threading.Event]]:
    """Start both nodes; yield their networks, and what says that they have started."""
    with ExitStack() as stack:
        first, second = stack.enter_context(networks())
        started = threading.Event()
        threading.Thread(target=_hurry, args=((first, second), started), daemon=True).start()
        stack.callback(started.set)
        head = ["head", f"--port={PORT}", "--node-ip", HEAD, f"--temp-dir={folder}/ray", "--include-dashboard=false"]
        stack.enter_context(node(first, folder, head, alone=False))
        _await(first)
        worker = ["worker", f"--address={HEAD}:{PORT}", "--node-ip", WORKER]
        stack.enter_context(node(second, folder, worker, alone=True))
        yield first, second, started


def measure(tasks: int, attempts: int, latency: float, harm: str, times: float) -> dict[str, Any]:
    """Do it all, and return what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="lab-nodes-"))
    run_dir, cache = folder / "run", folder / "no-cache-here"
    what = {"tasks": tasks, "attempts": attempts, "latency": latency, "run_dir": str(run_dir), "cache": str(cache)}
    try:
        with ExitStack() as stack:
            first, second, started = stack.enter_context(two_nodes(folder))
            command = [sys.executable, "-m", f"{__package__}.nodes", "--drive", json.dumps(what)]
            driver = subprocess.Popen(["ip", "netns", "exec", first, *command], stdout=subprocess.PIPE, text=True)
            killed_at = 0
            while driver.poll() is None and not killed_at:
                rows = _rows(run_dir)
                if rows and not started.is_set():
                    started.set()
                    stack.enter_context(load(times))
                if sum(WORKER in row["node"] for row in rows) >= tasks * attempts // 6:
                    killed_at = len(rows)
                    processes = HARMS[harm](second)
                time.sleep(0.2)
            told, _ = driver.communicate(timeout=3000)
            if driver.returncode or not killed_at:
                logs = "\n".join(path.read_text("utf-8", "replace")[-1500:] for path in folder.glob("*.log"))
                raise SystemExit(f"the driver ended with {driver.returncode}; rows when killed: {killed_at}\n{logs}")
        found: dict[str, Any] = json.loads(told.strip().split("\n")[-1])
        events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
        found["events"] = Counter(event["what"] for event in events)
        found["died"] = next((event for event in events if event["what"] == "node died"), None)
        found["killed"] = {"by": harm, "rows then": killed_at, "processes": processes}
        trees = {name: (folder / f"cache-{name}").glob("trees/[!.]*") for name in (first, second)}
        found["environments"] = {name: len(list(made)) for name, made in trees.items()}
        found["where the collector looked"] = cache.exists()
        keys = [(rollout.task.id, rollout.trajectory.attempt) for rollout in lab.load_rollouts(run_dir)]
        found["each row once"] = len(keys) == len(set(keys)) == tasks * attempts
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@click.command()
@click.option("--tasks", default=8, show_default=True)
@click.option("--attempts", default=12, show_default=True)
@click.option("--latency", default=1.0, show_default=True, help="Seconds of a simulated call of the model.")
@click.option("--harm", default="power", type=click.Choice([*HARMS]), show_default=True)
@click.option("--load", "times", default=0.0, show_default=True, help="Bring the machine to so many times its load.")
@click.option("--drive", "what", hidden=True, default="")
def main(tasks: int, attempts: int, latency: float, harm: str, times: float, what: str) -> None:
    """Collect on two real nodes, harm one in the middle, and say what came of it."""
    if what:
        drive(json.loads(what))
        return
    click.echo(json.dumps(measure(tasks, attempts, latency, harm, times), indent=1))


if __name__ == "__main__":
    main()
