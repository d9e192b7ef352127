"""The cluster: work is split over nodes, and what a node that dies had is made by the others."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SnapshotError
from swebench_lab.rollouts.executors import cluster
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.transfer import ship
from tests.benchmarks.scale import SlowScript
from tests.policies.serving.test_server import ENGINE, living


@pytest.fixture(scope="module")
def tasks() -> lab.Tasks:
    chosen = lab.load_tasks("demo").sample(3, seed=1)
    with lab.SandboxFactory("namespace") as sandboxes:
        sandboxes.prepare(chosen)
    return chosen


def test_a_cluster_that_gave_up_on_its_helpers_is_started_again_and_nothing_of_it_stays() -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def start() -> str:
        mark = "/ray/helper" if len(begun) < 2 else "other"
        begun.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", mark]))
        if len(begun) < 3:
            raise Exception("The current node timed out during startup")
        return "a cluster"

    assert cluster.start_ray(start) == "a cluster"
    assert [helper.wait(10) for helper in begun[:2]] == [-signal.SIGKILL] * 2 and begun[2].poll() is None
    begun[2].kill()
    begun[2].wait()

    def never() -> None:
        raise Exception("The current node timed out during startup")

    with pytest.raises(lab.LabError, match="try again when less runs"):
        cluster.start_ray(never)


def test_a_snapshot_arrives_whole_under_the_same_key_and_works(tasks: lab.Tasks, tmp_path: Path) -> None:
    here, there = SnapshotCache(), SnapshotCache(tmp_path / "there")
    assert there.get(tasks[0]) is None and ship.pack(there, tasks[0]) is None
    packed = ship.pack(here, tasks[0])
    assert packed is not None
    brought = ship.unpack(there, packed)
    assert {name.split("/")[0] for name in brought} >= {"trees", "envs"}
    arrived = there.get(tasks[0])
    assert arrived is not None and arrived.key == here.key(tasks[0])
    with lab.SandboxFactory("namespace", cache=there) as sandboxes:
        assert lab.Evaluator(sandboxes).grade(tasks[0], tasks[0].gold_patch).resolved
    again = ship.pack(here, tasks[0], there=brought)
    assert again is not None and ship.unpack(there, again) == []


def test_a_snapshot_that_was_changed_on_its_way_is_refused(tasks: lab.Tasks, tmp_path: Path) -> None:
    packed = ship.pack(SnapshotCache(), tasks[0])
    assert packed is not None
    data = packed.read()
    place = data.index(b"\n", data.index(b"def ")) - 3  # in the text of some file
    spoilt = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    with pytest.raises(SnapshotError):
        ship.unpack(SnapshotCache(tmp_path), io.BytesIO(spoilt))
    assert not list(tmp_path.glob("trees/*"))


def test_an_unknown_executor_is_an_error() -> None:
    with pytest.raises(ValueError, match="known are 'threads', 'ray'"):
        lab.RolloutCollector(lab.SandboxFactory("namespace"), executor="rai")


@pytest.mark.slow
def test_two_nodes_share_the_work_and_the_death_of_one_loses_nothing(tasks: lab.Tasks, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    agent = lab.Agent(SlowScript(tuple((task.id, task.gold_patch) for task in tasks), 0.5, patches=2))
    with lab.cluster(2) as joined, lab.SandboxFactory("namespace") as sandboxes:
        collector = lab.RolloutCollector(sandboxes, workers=3, run_dir=tmp_path, executor=joined)

        def lose_one() -> None:
            rows = tmp_path / "attempts.jsonl"
            while not rows.exists() or rows.read_bytes().count(b"\n") < 8:
                time.sleep(0.1)
            joined.remove_node(joined.simulated[-1])

        threading.Thread(target=lose_one, daemon=True).start()
        rollouts = collector.collect(agent, tasks, attempts=10, progress=False)
    assert len(rollouts) == 30 and not rollouts.not_graded
    assert len(Counter(rollout.node for rollout in rollouts)) == 2
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["what"] for event in events].count("node died") == 1
    assert sum(rollout.tries > 1 for rollout in rollouts) >= 1
    assert len(lab.attach(tmp_path)) == 30
    with lab.SandboxFactory("namespace") as sandboxes, sandboxes.reenter(rollouts.resolved[0], 1) as box:
        assert box.diff() == rollouts.resolved[0].trajectory.patch  # layers came over from the nodes


@pytest.mark.slow
def test_a_model_is_served_on_nodes_and_each_server_ends_with_its_node(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    program = tmp_path / "engine"
    program.write_text(ENGINE)
    program.chmod(0o755)
    options = {"executable": str(program), "env": {"PIDS": str(tmp_path / "pids")}, "updates": True}
    with lab.cluster(2) as joined:
        first, second = (machine["id"] for machine in joined.machines())
        with joined.serve("org/tiny", [first, second], **options) as server:
            assert server.healthy and server.alive and len(set(server.urls)) == 2 and server.max_length == 512
            assert len(living(tmp_path)) == 4 and "loading org/tiny" in server.tail()
            joined.remove_node(joined.simulated[-1])
            ends = time.monotonic() + 60
            while len(living(tmp_path)) > 2 and time.monotonic() < ends:
                time.sleep(0.1)
            assert len(living(tmp_path)) == 2 and not server.alive
        assert living(tmp_path) == []
        with pytest.raises(lab.ServingError, match="no node has 1 GPUs; name the nodes"):
            joined.serve("org/tiny", **options)
        with pytest.raises(lab.ServingError, match="0 nodes are called elsewhere"):
            joined.serve("org/tiny", ["elsewhere"], **options)
        with pytest.raises(lab.ServingError, match=r"(?s)exit code 3.*the model does not fit"):
            joined.serve("org/tiny", [first], **{**options, "env": {**options["env"], "BEHAVIOUR": "fail"}})
        with pytest.raises(ValueError, match="each node decides"):
            joined.serve("org/tiny", [first], host="0.0.0.0", **options)
