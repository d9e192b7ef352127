"""Bounds: the value, how it falls back, the pools of cgroups, and folders that are leased."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox import cgroups, leases
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance

PACKAGE = Path(cgroups.__file__).parents[2]
needs_cgroups = pytest.mark.skipif(not cgroups.cgroup_pool().controllers, reason="this machine gives us no cgroups")


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


def test_limits_are_a_value():
    limits = Limits(memory=1 << 30)
    assert limits == Limits(memory=1 << 30)
    assert limits.but(cpus=2.0).memory == 1 << 30
    for wrong in ({"cpus": 0}, {"disk": -1}, {"shared_memory": 0}):
        with pytest.raises(ValueError, match="above 0"):
            Limits(**wrong)


def test_what_no_cgroup_bounds_is_bounded_for_each_process():
    limits = Limits(memory=1 << 30, processes=100)
    alone = {kind: soft for kind, soft, _ in limits.rlimits(())}
    beside = {kind: soft for kind, soft, _ in limits.rlimits({"memory", "pids"})}
    assert alone[resource.RLIMIT_AS] == 1 << 30 and alone[resource.RLIMIT_NPROC] == 101
    assert resource.RLIMIT_AS not in beside and resource.RLIMIT_NPROC not in beside
    assert beside[resource.RLIMIT_CORE] == 1


@needs_cgroups
def test_cgroups_are_used_again_and_removed_at_the_end():
    script = textwrap.dedent("""
        import os
        from pathlib import Path
        from swebench_lab.sandbox import cgroups; from swebench_lab.testing import conformance
        from swebench_lab.sandbox.namespace.sandbox import open_namespace
        with conformance.reference_snapshot() as snapshot:
            for _ in range(5):
                with open_namespace(snapshot) as box:
                    box.run("true")
            with open_namespace(snapshot) as one, open_namespace(snapshot) as two:
                one.run("true"), two.run("true")
        for hierarchy in cgroups.find_hierarchies():
            pool = hierarchy.folder / f"swebench-lab-{os.getpid()}"
            if pool.exists():  # none for processors, which are not bounded here
                print(pool, sum(path.is_dir() for path in pool.iterdir()))
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE, capture_output=True, text=True, check=True)
    found = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert found and {count for _, count in found} == {"2"}
    assert not any(Path(pool).exists() for pool, _ in found), done.stderr


@needs_cgroups
@pytest.mark.parametrize("earlier", [False, True], ids=["alone", "after-one-of-its-number"])
def test_cgroups_of_a_killed_process_are_removed(earlier):
    script = textwrap.dedent("""
        import os, signal, sys
        from swebench_lab.sandbox import cgroups; from swebench_lab.testing import conformance
        from swebench_lab.sandbox.limits import Limits
        from swebench_lab.sandbox.namespace.sandbox import open_namespace
        pools = [hierarchy.folder / f"swebench-lab-{os.getpid()}" for hierarchy in cgroups.find_hierarchies()]
        if "earlier" in sys.argv:  # the numbers of processes come round again
            for pool in pools:
                (pool / "box-0").mkdir(parents=True)
        with conformance.reference_snapshot() as snapshot:
            box = open_namespace(snapshot, limits=Limits(cpus=1.0))
            box.run("sleep 60 >/dev/null 2>&1 &")
            print(*pools, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    command = [sys.executable, "-c", script, *(["earlier"] if earlier else [])]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False)
    pools = [Path(word) for word in done.stdout.split()]
    assert pools
    deadline = time.monotonic() + 10
    while any(pool.exists() for pool in pools):
        assert time.monotonic() < deadline, pools
        time.sleep(0.05)


@needs_cgroups
def test_processors_are_bounded(snapshot):
    if "cpu" not in cgroups.cgroup_pool().controllers:
        pytest.skip("this machine gives us no cpu cgroup")
    with open_namespace(snapshot, limits=Limits(cpus=0.2)) as box:
        result = box.run(["python3", "-c", "import time; t = time.monotonic()\nwhile time.monotonic() - t < 1: pass"])
    assert result.cpu < 0.6


@needs_cgroups
def test_memory_written_to_files_counts(snapshot):
    with open_namespace(snapshot, limits=Limits(memory=64 << 20, disk=1 << 30)) as box:
        result = box.run("head -c 300M /dev/zero > big")
        assert (result.ok, result.limit) == (False, "disk")
        assert box.run("rm big; echo on").output == "on\n"
        assert Limits(memory=64 << 20, disk=1 << 30).room({"memory"}) == 48 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("tier", ["namespace-rootless", "landlock"])
def test_bounds_hold_without_any_cgroup(tier, tmp_path_factory):
    """As nobody, who may make no cgroup: limits of processes and sized file systems stand in; by the system's Python."""
    import shutil

    python = "/usr/bin/python3"
    newer = subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False)
    if newer.returncode:
        pytest.skip("the system's Python is older than 3.11")
    place = Path("/tmp") / f"lab-bounds-{os.getpid()}-{tier}"
    try:
        shutil.copytree(PACKAGE / "swebench_lab", place / "swebench_lab", ignore=shutil.ignore_patterns("bundled"))
        subprocess.run(["chown", "-R", "65534:65534", place], check=True)
        env = {"PATH": "/usr/bin:/bin", "HOME": str(place), "TMPDIR": str(place), "PYTHONPATH": str(place)}
        other = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        kit = [python, "-m", "swebench_lab.testing.conformance", tier, "--group", "bounds"]
        done = subprocess.run([*other, *kit], env=env, cwd="/", capture_output=True, text=True, timeout=120)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert done.returncode == 0 and "0 FAILED" in done.stdout, done.stdout + done.stderr
    for name in ("memory", "processes", "file_size"):
        assert f"ok   bounds: {name}" in done.stdout


def test_a_leased_folder_of_a_living_process_stays_and_of_a_dead_one_goes(tmp_path):
    script = textwrap.dedent("""
        import shutil, sys, time
        from pathlib import Path
        from swebench_lab.sandbox import leases
        print(leases.leased_folder(Path(sys.argv[1]), shutil.rmtree, lambda folder: None), flush=True)
        time.sleep(60)
    """)
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=PACKAGE, stdout=subprocess.PIPE, text=True
    )
    theirs = Path(other.stdout.readline().strip())
    mine = leases.leased_folder(tmp_path, shutil.rmtree, lambda folder: None)
    assert leases.sweep(tmp_path, shutil.rmtree) == []
    other.kill()
    other.wait()
    other.stdout.close()
    assert leases.sweep(tmp_path, shutil.rmtree) == [theirs]
    assert mine.exists() and mine.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_this_process_that_was_removed_does_not_make_its_others_look_abandoned(tmp_path):
    gone = leases.leased_folder(tmp_path / "one", shutil.rmtree, lambda folder: None)
    shutil.rmtree(gone)
    mine = leases.leased_folder(tmp_path / "two", shutil.rmtree, lambda folder: None)
    assert leases.sweep(tmp_path / "two", shutil.rmtree) == []
    assert mine.exists()


def test_a_child_that_outlives_a_killed_process_keeps_nothing_of_it(tmp_path):
    script = textwrap.dedent("""
        import os, shutil, sys, time
        from pathlib import Path
        from swebench_lab.sandbox import leases
        folder = leases.leased_folder(Path(sys.argv[1]), shutil.rmtree, lambda folder: None)
        (folder / "data").mkdir()
        child = os.fork()
        if child:
            print(child, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=PACKAGE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            (left,) = tmp_path.iterdir()
            assert leases.sweep(tmp_path, shutil.rmtree) == [left]
            assert not left.exists()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_removal_that_was_cut_short_is_found_again(tmp_path):
    half = tmp_path / "of-process-1-0"
    (half / "box").mkdir(parents=True)
    (half / ".lease").touch()

    def fail(path):
        raise OSError("in use")

    assert leases.sweep(tmp_path, fail) == []
    assert (half / ".lease").exists()
    assert leases.sweep(tmp_path, shutil.rmtree) == [half]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to somebody else needs root")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1234, 1234)
    with pytest.raises(SandboxError, match="belongs to somebody else"):
        leases.leased_folder(home, shutil.rmtree, lambda folder: None)


@pytest.mark.parametrize("tier", ["namespace-root", "namespace-rootless"])
def test_a_box_writes_no_more_files_than_it_may(snapshot, tier):
    with open_namespace(snapshot, tier=tier, limits=Limits(files=300)) as box:
        done = box.run("for i in $(seq 1000); do : > /tmp/f$i || exit 7; done")
        assert done.exit_code == 7 and "No space left" in done.output
        assert done.limit == "disk"
        assert int(box.run("ls /tmp | wc -l").output) < 300
        assert box.run("rm /tmp/f*; echo x > /tmp/y && cat /tmp/y").output == "x\n"
        box.checkpoint()


@pytest.mark.parametrize("tier", ["namespace-root", "namespace-rootless"])
def test_requests_that_the_whole_host_counts_together_are_refused(snapshot, tier):
    ask = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); p = ctypes.c_ulong(); "
    ask += "n = 206 if os.uname().machine == 'x86_64' else 0; "
    ask += "print(c.syscall(n, 100, ctypes.byref(p)), ctypes.get_errno())"
    with open_namespace(snapshot, tier=tier) as box:
        assert box.run(["python3", "-c", ask]).output == "-1 1\n"
