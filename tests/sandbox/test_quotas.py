"""What one user may take of a shared machine: read from a file, counted over processes, and told by name."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from swebench_lab.errors import QuotaExceeded
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.quotas import Quota, Seats, _quota_in

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


def quota(folder: Path, text: str, user: str = "ada") -> Quota:
    path = folder / f"{abs(hash(text))}.toml"
    path.write_text(text)
    return _quota_in(path, 0, user)


def test_an_administrators_file_speaks_of_everybody_and_of_single_users(tmp_path: Path) -> None:
    text = '[everybody]\nsandboxes = 4\nmemory = "1.5 GiB"\ndisk = 1000\n[users.ada]\nsandboxes = 9\ncpus = 2\n'
    assert quota(tmp_path, text) == Quota(9, 3 * GIB // 2, 2, 1000)
    assert quota(tmp_path, text, "bob") == Quota(4, 3 * GIB // 2, None, 1000)
    assert str(quota(tmp_path, text)) == "9 sandboxes, 1.5 GiB of memory, 2 processors, 0.000954 MiB of disk"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[everybody]\nboxes = 4", "unknown quota 'boxes'"),
        ("[nobody]\nsandboxes = 4", "unknown table 'nobody'"),
        ("[everybody]\nsandboxes = 0", "above 0"),
        ("[everybody]\nsandboxes = true", "above 0"),
        ('[everybody]\nmemory = "much"', "is not a size"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quota(tmp_path, text)


def test_no_sandbox_may_have_more_than_its_user() -> None:
    bound = Quota(memory=GIB, cpus=2).cap
    assert bound(Limits()).memory == GIB and bound(Limits()).cpus == 2
    assert bound(Limits(memory=GIB // 2, cpus=1)) == Limits(memory=GIB // 2, cpus=1)
    assert Quota().cap(Limits()) == Limits()


def test_a_full_disk_quota_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    Quota(disk=200_000).check_disk("building", tmp_path)
    with pytest.raises(QuotaExceeded, match=r"quota of disk exceeded: building: .*swebench-lab gc") as raised:
        Quota(disk=50_000).check_disk("building", tmp_path)
    assert raised.value.what == "disk"


def test_the_last_place_is_taken_once_and_waited_for_while_others_leave(tmp_path: Path) -> None:
    seats = Seats(Quota(sandboxes=2, wait=0.5), tmp_path / "seats")
    first, second = seats.take(), seats.take()
    assert seats.in_use() == 2 and first is not None and second is not None
    with pytest.raises(QuotaExceeded, match=r"all 2 .* none was closed for 0\.5 s") as raised:
        seats.take()
    assert raised.value.what == "sandboxes"
    threading.Timer(0.2, first.leave).start()
    began = time.monotonic()
    third = seats.take()
    assert third is not None and 0.1 < time.monotonic() - began < 0.5
    second.leave()
    assert seats.in_use() == 1


def test_who_leaves_a_place_to_others_waits_until_told_otherwise(tmp_path: Path) -> None:
    seats = Seats(Quota(sandboxes=2, wait=0.1), tmp_path / "seats")
    kept = seats.take(spare=1)
    ends = time.monotonic() + 0.3
    assert seats.take(spare=1, given_up=lambda: time.monotonic() > ends) is None
    assert seats.in_use() == 1 and kept is not None
    assert Seats(Quota(sandboxes=1), tmp_path / "one").take(spare=1) is not None, "the only place is nobody's to spare"


SCRIPT = """
    import sys
    from pathlib import Path
    import swebench_lab as lab
    from swebench_lab.sandbox.quotas import seats
    from tests.boxes import make_snapshot

    snapshot = make_snapshot(Path("made").absolute(), {"a.txt": "a"})
    sandboxes = lab.SandboxFactory("local" if sys.argv[1] == "local" else "namespace", cache="cache")
    first = sandboxes.open(snapshot)
    second = first.fork()
    try:
        sandboxes.open(snapshot)
    except lab.QuotaExceeded as error:
        print(error.what, "first" if seats().in_use() == 2 else "counted wrongly")
    second.close()
    with sandboxes.open(snapshot) as third:
        print(third.run("cat a.txt").output, third.run("head -c 300000000 /dev/zero | tail").limit or "unbounded")
    first.close()
    print(seats().in_use())
"""


def run(folder: Path, script: str, *arguments: str) -> str:
    """Run a script for whose user two sandboxes and little memory are allowed."""
    (folder / "quota.toml").write_text(
        f'[everybody]\nsandboxes = 2\nwait = 0.2\nmemory = "128 MiB"\ncounted_in = "{folder}"\n'
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SWEBENCH_LAB_QUOTA": str(folder / "quota.toml")}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_forks_count_and_what_is_closed_makes_room(tmp_path: Path) -> None:
    said = run(tmp_path, SCRIPT, "local").splitlines()
    assert said[0] == "sandboxes first" and said[1].startswith("a ") and said[2] == "0"


def test_the_memory_of_a_sandbox_is_bounded_by_its_users(tmp_path: Path) -> None:
    from swebench_lab.errors import SandboxUnavailable
    from swebench_lab.sandbox.namespace.sandbox import open_namespace
    from tests.boxes import make_snapshot

    try:
        open_namespace(make_snapshot(tmp_path / "probe", {"a": "a"})).close()
    except SandboxUnavailable as error:
        pytest.skip(f"no namespaces here: {error}")
    said = run(tmp_path, SCRIPT, "namespace").splitlines()
    # "host memory": what ended it is its user's bound, not the one of this box
    assert said == ["sandboxes first", "a host memory", "0"]


COLLECT = """
    import swebench_lab as lab
    tasks = lab.load_tasks("demo").sample(3, seed=1)[:1]
    sandboxes = lab.SandboxFactory("namespace")
    collector = lab.RolloutCollector(sandboxes, workers=8, run_dir="run")
    rollouts = collector.collect(lab.Agent(lab.Teacher(tasks)), tasks, attempts=6, progress=False)
    print(len(rollouts.resolved), sorted({r.verdict.reason for r in rollouts}))
"""


@pytest.mark.slow
def test_a_collection_waits_for_its_turns_and_loses_none(tmp_path: Path) -> None:
    assert run(tmp_path, COLLECT) == "6 ['']\n"
