"""Benchmark `soak`: create, run and kill again and again, any part of the engine at any moment; then count from outside.

Clients are processes of their own. Each opens boxes over and over: in memory and on disk, with a daemon left inside,
some checkpointed and forked. After every cycle one part is killed with signal 9 - the box's first process, the zygote,
the client itself, or nobody - at a moment that the seed decides. The counts are taken by this process, which has
nothing to do with the boxes, when all clients are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swebench_lab.testing import conformance
from tests.benchmarks.measure import Account, census, settled
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row
from tests.benchmarks.worker import PACKAGE
from tests.benchmarks.workload import Workload

NAME = "soak"
CYCLES, CLIENTS = 2000, 4
VICTIMS = ("nobody", "init", "zygote", "client")
_WEIGHTS = (50, 30, 12, 8)
_DELAY = 0.03  # seconds; the longest that a kill waits, so that it falls into any part of a cycle
_PATIENCE = 60.0  # seconds for one cycle before it counts as hung


@dataclass
class _Tally:
    """What happened, over all clients."""

    cycles: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    pids: set[int] = field(default_factory=set)
    strange: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def run(options: Options, cycles: int | None = None, clients: int | None = None, seed: int = 0) -> Report:
    """Kill and count.

    Args:
        options: Where things may be put; a quick run has few cycles.
        cycles: How many, over all clients.
        clients: How many processes at once.
        seed: Decides who is killed when.
    """
    cycles = cycles or (24 if options.quick else CYCLES)
    clients = clients or (2 if options.quick else CLIENTS)
    report = Report(options.quick)
    tally, began = _Tally(), time.perf_counter()
    folder = options.folder / "soak"
    folder.mkdir(parents=True)
    with conformance.reference_snapshot() as snapshot, Account(NAME) as account:
        layers, binds = tuple(map(str, snapshot.layers)), tuple(map(str, snapshot.binds))
        start = Workload(layers, binds, str(snapshot.git_dir), snapshot.head, dict(snapshot.env), (), 0, 0)
        (folder / "workload.json").write_text(start.to_json())
        before = census(account, folder, os.getpid())
        threads = [
            threading.Thread(
                target=_keep_killing, args=(folder, number, cycles, clients, seed, account, tally, options)
            )
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        at_once = settled(account, folder / "none", os.getpid(), before, 15.0)
        kept = _files_left(folder)
        _collect_garbage(folder, clients)
        left = settled(account, folder / "none", os.getpid(), before, 15.0)
    left |= {"groups": _groups_left(tally.pids), "files": _files_left(folder)}
    told = {"processes left before gc": at_once["processes"], "files left before gc": kept}
    _tell(report, tally, seconds, left, told)
    report.gates += [
        Gate("soak: create, run and kill cycles", tally.cycles, cycles),
        Gate("soak: processes, mounts, control groups, files left", float(sum(left.values())), 0.0, False),
        Gate("soak: outcomes that are no named error", float(len(tally.strange)), 0.0, False),
    ]
    return report


def _tell(report: Report, tally: _Tally, seconds: float, left: dict[str, int], told: dict[str, int]) -> None:
    """Add the rows of a soak."""
    counts = {
        "cycles": tally.cycles,
        **{f"{victim} killed": tally.kills[victim] for victim in VICTIMS},
        **{f"{what} left": count for what, count in left.items()},
        **told,
    }
    case = f"{tally.cycles} cycles"
    report.rows.append(Row(NAME, case, "ours", "wall", seconds, "s"))
    report.rows += [Row(NAME, case, "ours", what, count) for what, count in counts.items()]
    strange = "; ".join(tally.strange[:3])
    report.rows.append(Row(NAME, case, "ours", "unexpected outcomes", len(tally.strange), note=strange))


def _keep_killing(
    folder: Path, number: int, cycles: int, clients: int, seed: int, account: Account, tally: _Tally, options: Options
) -> None:
    """Run one client after the other, each until it is killed, as long as there are cycles to do."""
    chance = random.Random(seed * 1000 + number)
    mine = cycles // clients + (number < cycles % clients)
    done = 0
    while done < mine:
        client = _Client(folder, number, account, tally)
        try:
            done += client.live(mine - done, chance, tally)
        finally:
            client.end()
        options.say(f"soak: client {number}, {done} of {mine} cycles")


class _Client:
    """One process that opens boxes, and this side of its pipe."""

    def __init__(self, folder: Path, number: int, account: Account, tally: _Tally) -> None:
        home = folder / f"client{number}"
        home.mkdir(exist_ok=True)
        command = [sys.executable, "-m", __spec__.name, str(home), str(folder / "workload.json")]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE), "HOME": str(home), "TMPDIR": str(home)}
        self._errors = (folder / f"client{number}.log").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env
        )
        account.enter(self._process.pid)
        tally.pids.add(self._process.pid)

    def live(self, cycles: int, chance: random.Random, tally: _Tally) -> int:
        """Have it do cycles until it is killed; how many it began."""
        assert self._process.stdin and self._process.stdout
        for done in range(cycles):
            victim = chance.choices(VICTIMS, _WEIGHTS)[0]
            order = {"seed": chance.randrange(1 << 30), "delay": chance.uniform(0, _DELAY), "victim": victim}
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()
            alarm = threading.Timer(_PATIENCE, self._process.kill)
            alarm.start()
            answer = self._process.stdout.readline()
            hung = not alarm.is_alive()
            alarm.cancel()
            with tally.lock:
                tally.cycles += 1
                tally.kills[victim] += 1
                if hung:
                    tally.strange.append(f"a cycle took more than {_PATIENCE:g} s: {order}")
                elif answer and (said := json.loads(answer)["strange"]):
                    tally.strange.append(said)
                elif not answer and victim != "client":
                    tally.strange.append(f"a client died by itself: {order}, exit {self._process.wait()}")
            if not answer:
                return done + 1
        return cycles

    def end(self) -> None:
        """Kill it if it lives, as a notebook is killed."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._errors.close()


def _collect_garbage(folder: Path, clients: int) -> None:
    """Do what `gc` does, as a process of its own for each place."""
    script = "import sys; from swebench_lab.testing.doctor.leftovers import remove_leftovers; remove_leftovers([sys.argv[1]])"
    for number in range(clients):
        home = folder / f"client{number}"
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE), "TMPDIR": str(home), "HOME": str(home)}
        subprocess.run([sys.executable, "-c", script, str(home / "scratch")], env=env, check=True)


def _groups_left(pids: set[int]) -> int:
    """Control groups that were made by one of these processes."""
    return sum(
        path.name.removeprefix("swebench-lab-") in map(str, pids)
        for path in Path("/sys/fs/cgroup").rglob("swebench-lab-*")
    )


def _files_left(folder: Path) -> int:
    """Files below the clients' folders, but for the empty homes of leases."""
    found = 0
    for home in folder.glob("client*/"):
        for path, folders, names in os.walk(home):
            empty_homes = {"scratch", f"swebench-lab-{os.geteuid()}"} if Path(path) == home else set()
            found += len(names) + len(set(folders) - empty_homes)
    return found


# --- the client -------------------------------------------------------------------------------------------------------


def _serve(home: Path, workload: Path) -> None:
    """Do one cycle for every line of standard input."""
    snapshot = Workload.from_json(workload.read_text()).snapshot()
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.write(json.dumps({"strange": _cycle(order, snapshot, home)}) + "\n")
        sys.stdout.flush()


def _cycle(order: dict[str, Any], snapshot: Any, home: Path) -> str:
    """Open, use and close a box while somebody is killed; what came of it that is neither right nor a named error."""
    from swebench_lab.errors import SandboxError
    from swebench_lab.sandbox.namespace.sandbox import open_namespace
    from swebench_lab.sandbox.zygote.client import default_tier, zygote_of

    chance = random.Random(order["seed"])
    zygote = zygote_of(default_tier())._process
    victims: dict[str, int] = {"client": os.getpid(), "zygote": zygote.pid}
    timer = threading.Timer(order["delay"], _kill, (order["victim"], victims))
    timer.start()
    try:
        with open_namespace(snapshot, scratch=home / "scratch" if chance.random() < 0.5 else None) as box:
            victims["init"] = box.first_pid
            box.run("setsid sleep 7654 >/dev/null 2>&1 & echo data > kept; sleep 7654 >/dev/null 2>&1 &")
            if chance.random() < 0.3:
                with box.fork() as other:
                    if other.read("kept") != "data\n":
                        return "a fork lost a file"
            if box.run("cat kept").output != "data\n":
                return "a box lost a file"
    except SandboxError as error:
        return "" if order["victim"] != "nobody" else f"although nobody was killed: {error}"
    finally:
        timer.join()
        if order["victim"] == "zygote":
            zygote.wait()
    return ""


def _kill(victim: str, victims: dict[str, int]) -> None:
    """Kill a part of the engine, as it stands."""
    if pid := victims.get(victim):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
