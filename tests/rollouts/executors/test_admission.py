"""Admission: agents of others begin once memory has room for what those before them took."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.rollouts.executors.admission import UNKNOWN, Admission
from swebench_lab.rollouts.executors.flight import Flight
from swebench_lab.rollouts.executors.jobs import Batch, Job
from swebench_lab.sandbox.linux import memory
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.agents.external.agent_of_ours import FILES, kit
from tests.boxes import make_snapshot
from tests.conftest import make_task

MIB = 1 << 20
TAKES = "import time; x = bytearray({size}); print('there', flush=True); time.sleep(60)"


def flight() -> Flight:
    agent = lab.CLIAgent(kit(), lab.ScriptedPolicy([]))
    return Flight(Job(make_task(), 0, 0, Batch(agent, agent.fingerprint, 1)))


def enters(admission: Admission, one: Flight, seconds: float = 0.5) -> bool:
    """Whether it is admitted within some time; else it gives up."""
    end, inside = time.monotonic() + seconds, threading.Event()

    def enter() -> None:
        admission.enter(one, lambda: time.monotonic() > end)
        if time.monotonic() <= end:
            inside.set()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return inside.is_set()


def test_what_a_box_takes_is_measured_and_the_next_is_admitted_by_that(tmp_path: Path) -> None:
    left = [3 * UNKNOWN]
    admission, one, two, three = Admission(lambda: left[0]), flight(), flight(), flight()
    with open_namespace(make_snapshot(tmp_path, FILES)) as box:
        one.box = box
        assert enters(admission, one)
        with box.session() as shell:
            shell.run(
                f"python3 -c {TAKES.format(size=200 * MIB)!r} > /dev/shm/out & until [ -s /dev/shm/out ]; do sleep .05; done"
            )
            assert 200 * MIB < memory.taken_below([box.first_pid])[box.first_pid] < 300 * MIB
            while admission.peak < 200 * MIB:  # it looks once in a while only
                admission.measure()
                time.sleep(0.05)
            assert admission.peak < 300 * MIB
            left[0] = UNKNOWN
            assert not enters(admission, two), "nobody has ended yet: it counts for more than is left"
    admission.leave(one)
    assert admission.ended
    left[0] = int(0.3 * UNKNOWN) + 300 * MIB
    assert enters(admission, two) and not enters(admission, three), "what an admitted one will take is not free"
    admission.leave(two)
    assert enters(admission, three)


def test_one_is_always_admitted_and_one_that_is_given_up_does_not_wait() -> None:
    admission, one, two = Admission(lambda: 0), flight(), flight()
    assert enters(admission, one) and not enters(admission, two, 0.0)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1000 * 1024),
        ({"memory.max": "max", "memory.current": "5", "memory.stat": "inactive_file 1"}, 1000 * 1024),
        ({"memory.max": "900000", "memory.current": "500000", "memory.stat": "inactive_file 100000"}, 500000),
        ({"memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "500",
          "memory/memory.stat": "total_inactive_file 100"}, 500),
    ],
)  # fmt: skip
def test_what_is_left_is_the_least_of_machine_and_cgroup(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 4000 kB\nMemAvailable: 1000 kB\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.available(tmp_path, table) == expected
    assert memory.available(tmp_path, tmp_path / "nothing") is None
