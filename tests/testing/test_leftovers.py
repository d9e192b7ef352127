"""gc: removes what killed processes left, and nothing that a living one has; two processes at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swebench_lab.sandbox.landlock import ruleset
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.testing.redteam.victim import make_victim

ROOT = Path(__file__).parents[2]
WORKER = """
import json, os, sys
from pathlib import Path
from swebench_lab.testing.redteam.victim import make_victim
from swebench_lab.sandbox.zygote import client
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.tasks.loading import load_tasks
(task,) = load_tasks(sys.argv[1], trust=True)
scratch = Path(sys.argv[2])
factory = SandboxFactory("namespace", scratch=scratch)
box = factory.open(task)
box.write("written", "1")
layer = box.checkpoint()
ends, mine = [client.zygote_of(box.tier)._process.pid], [box._folder, str(layer.path)]
if sys.argv[3] == "landlock":
    other = SandboxFactory("landlock", scratch=scratch).open(task)
    ends.append(other._process.pid)
    mine.append(other.folder)
print(json.dumps({"ends": ends, "mine": mine}), flush=True)
for line in sys.stdin:
    print(box.run(line).output.strip(), other.run(line).output.strip() if len(ends) > 1 else "", flush=True)
factory.close()
"""


class Worker:
    """A process with open boxes."""

    def __init__(self, folder: Path) -> None:
        kind = "landlock" if ruleset.abi() else ""
        argv = [sys.executable, "-c", WORKER, str(folder / "task.jsonl"), str(folder / "scratch"), kind]
        self.process = subprocess.Popen(
            argv, env=environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout
        said = json.loads(self.process.stdout.readline())
        self.ends, self.mine = said["ends"], [Path(place) for place in said["mine"]]

    def answers(self) -> bool:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("echo on; cat written 2>/dev/null\n")
        return self.process.stdout.readline().split()[:1] == ["on"]

    def kill(self) -> None:
        """The worst order: those who would clear away first, so that everything is left."""
        for pid in self.ends:
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def environment(folder: Path) -> dict[str, str]:
    own = {"TMPDIR": str(folder / "tmp"), "SWEBENCH_LAB_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own}


def gc(folder: Path, *arguments: str) -> str:
    code = "from swebench_lab.cli.main import main; main(prog_name='swebench-lab')"
    command = [sys.executable, "-c", code, "gc", "--scratch", str(folder / "scratch"), *arguments]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for name in ("tmp", "victim"):
        (tmp_path / name).mkdir()
    from swebench_lab.records.task import Tasks

    task = make_victim(tmp_path / "victim")
    Tasks([task]).save(tmp_path / "task.jsonl")
    with SandboxFactory("namespace", cache=tmp_path / "cache") as factory:
        factory.snapshot(task)
    yield tmp_path


def test_gc_removes_what_a_killed_process_left_and_nothing_of_a_living_one(folder: Path) -> None:
    living, killed = Worker(folder), Worker(folder)
    try:
        killed.kill()
        deadline = time.monotonic() + 30
        assert any(place.exists() for place in killed.mine)
        said = ""
        while any(place.exists() for place in killed.mine):  # a lease is let go a moment after its holder was killed
            said += gc(folder, "--all")
            assert "0 of 1 Snapshots" in said, "the living process uses it"
            assert time.monotonic() < deadline, said
        assert "removed folder of a process" in said
        assert "removed landlock sandbox" in said or not ruleset.abi()
        assert all(place.exists() for place in living.mine)
        assert living.answers()
    finally:
        living.end()
    deadline = time.monotonic() + 30  # the warden of a landlock sandbox clears away after its client
    while any(place.exists() for place in living.mine):
        assert time.monotonic() < deadline, "what ends well leaves nothing"
        time.sleep(0.1)
    assert "removed 1 of 1 Snapshots" in gc(folder, "--all")
    assert SnapshotCache(folder / "cache").ls().height == 0
