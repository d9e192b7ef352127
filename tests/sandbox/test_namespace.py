"""What the namespace backend promises beyond the conformance kit: crashes, descriptors, other users, refusals."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxUnavailable
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.namespace.services import Service
from swebench_lab.sandbox.zygote import client
from swebench_lab.sandbox.zygote.refusals import explain
from swebench_lab.testing import conformance

ROOT = os.geteuid() == 0
TIERS = ["namespace-root", "namespace-rootless"] if ROOT else ["namespace-rootless"]
PACKAGE = Path(client.__file__).parents[3]


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


def names_in(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def our_mounts() -> list[str]:
    """Mounts of this process's namespace whose source bears a name that boxes give."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.partition(" - ")[2].split()[1] in ("lab", "stage", "box", "empty")]


def processes_with(word: str) -> list[int]:
    found = []
    for name in names_in("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if word.encode() in command and state not in "ZX":
                found.append(int(name))
    return found


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition did not come to hold"
        time.sleep(0.02)


VICTIM = """
    import json, os, sys, time
    from swebench_lab.sandbox.zygote import client; from swebench_lab.testing import conformance
    from swebench_lab.sandbox.namespace.sandbox import open_namespace
    scratch = sys.argv[3] if len(sys.argv) > 3 else None
    from pathlib import Path
    with conformance.reference_snapshot() as snapshot:
        box = open_namespace(snapshot, tier=sys.argv[1], scratch=Path(scratch) if scratch else None)
        box.run(f"(setsid nohup sleep {sys.argv[2]} >/dev/null 2>&1 &); sleep {sys.argv[2]} >/dev/null 2>&1 & true")
        session = box.session()
        session.run(f"sleep {sys.argv[2]} &")
        if os.fork() == 0:  # a child that inherits every descriptor must not keep the box alive
            time.sleep(30)
            os._exit(0)
        print(json.dumps({"zygote": client.zygote_of(sys.argv[1])._process.pid, "init": box.first_pid}), flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("target", ["client", "zygote", "init"])
def test_kill_9_of_any_part_leaves_no_process(tier, target):
    mark = f"{os.getpid()}{TIERS.index(tier)}{len(target)}"
    victim = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VICTIM), tier, mark], stdout=subprocess.PIPE, text=True, cwd=PACKAGE
    )
    try:
        pids = json.loads(victim.stdout.readline())
        wait_until(lambda: len(processes_with(f"sleep\0{mark}")) == 3)  # a shell that forked may not be `sleep` yet
        os.kill({"client": victim.pid, **pids}[target], signal.SIGKILL)
        wait_until(lambda: not processes_with(f"sleep\0{mark}"))
        wait_until(lambda: pids["init"] not in processes_with("lab-init"))
        if target != "init":
            wait_until(lambda: pids["zygote"] not in processes_with("lab-zygote"))
    finally:
        for pid in [victim.pid, *children_of(victim.pid)]:
            os.kill(pid, signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
    assert not our_mounts()


def children_of(parent: int) -> list[int]:
    found = []
    for name in names_in("/proc"):
        if name.isdigit():
            try:
                if int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def test_what_a_killed_client_left_on_disk_is_removed_by_the_next(tmp_path, snapshot):
    victim = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VICTIM), TIERS[0], "77123", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PACKAGE,
    )
    victim.stdout.readline()
    left = list(tmp_path.iterdir())
    assert left
    for pid in [victim.pid, *children_of(victim.pid)]:
        os.kill(pid, signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    with open_namespace(snapshot, scratch=tmp_path) as box:
        assert box.run("echo on > f; cat f").output == "on\n"
        wait_until(lambda: not left[0].exists())
    wait_until(lambda: [path.name for folder in tmp_path.iterdir() for path in folder.iterdir()] == [".lease"])


def test_a_dead_zygote_is_replaced(snapshot):
    box = open_namespace(snapshot)
    process = client.zygote_of(box.tier)._process  # asked for again, it may be the next one already
    process.kill()
    process.wait()
    wait_until(lambda: box.first_pid not in processes_with("lab-init"))
    with pytest.raises(SandboxClosed, match="died"):
        box.run("true")
    box.close()
    with open_namespace(snapshot) as other:
        assert other.run("echo on").output == "on\n"


def test_a_forked_process_makes_boxes_of_its_own(snapshot):
    with open_namespace(snapshot) as box:
        child = os.fork()
        if child == 0:
            with open_namespace(snapshot) as other:
                os._exit(0 if other.run("echo hi").output == "hi\n" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert box.run("echo on").output == "on\n"


def test_received_descriptors_are_closed_on_exec():
    ours, theirs = wire.pair()
    with ours, theirs:
        wire.send(ours, {"x": 1}, [0])
        message, descriptors = wire.receive(theirs)
        assert message == {"x": 1}
        assert not os.get_inheritable(descriptors[0])
        os.close(descriptors[0])


def test_large_messages_arrive_whole():
    ours, theirs = wire.pair()
    with ours, theirs:
        body = {"text": "ab\udc80\n" * 300_000}
        wire.send(ours, body, [0])
        message, descriptors = wire.receive(theirs)
        assert message == body
        wire.close_all(descriptors)


@pytest.mark.parametrize("tier", TIERS)
def test_many_cycles_leave_nothing(snapshot, tier):
    with open_namespace(snapshot, tier=tier) as box:
        box.run("true")
    before = len(names_in("/proc/self/fd"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mark = f"{os.getpid()}99"

    def cycle(number: int) -> None:
        with open_namespace(snapshot, tier=tier) as box, box.session() as session:
            assert session.run(f"echo {number}").output == f"{number}\n"
            assert box.run("exit 3").exit_code == 3
            box.run(f"setsid sleep {mark} >/dev/null 2>&1 &")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cycle, range(100)))
    wait_until(lambda: len(processes_with(mark)) == 0)
    assert len(names_in("/proc/self/fd")) <= before + 64  # kept: cgroups of boxes open at once, branches
    assert not our_mounts()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 20_000


@pytest.mark.skipif(not ROOT, reason="becoming another user needs root")
def test_every_behaviour_holds_for_an_ordinary_user(tmp_path):
    python = "/usr/bin/python3"
    if (
        not Path(python).exists()
        or subprocess.run([python, "-c", "import sys; assert sys.version_info >= (3, 11)"]).returncode
    ):
        pytest.skip("needs a Python 3.11 that every user can run, at /usr/bin/python3")
    home = Path("/tmp") / f"swebench-lab-test-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        shutil.copytree(
            PACKAGE / "swebench_lab",
            home / "swebench_lab",
            ignore=shutil.ignore_patterns("__pycache__", "bundled"),
        )
        for path in [home, *home.rglob("*")]:
            os.chown(path, 1234, 1234, follow_symlinks=False)
        script = (
            "import os, sys; sys.path.insert(0, '.')\n"
            "from swebench_lab.testing import conformance\nfrom swebench_lab.sandbox.namespace.sandbox import open_namespace\n"
            "assert os.getuid() == 1234\n"
            "outcomes = list(conformance.run(open_namespace))\n"
            "print(len(outcomes), *[outcome for outcome in outcomes if not outcome.passed], sep='\\n')"
        )
        done = subprocess.run(
            [python, "-I", "-c", script],
            cwd=home,
            user=1234,
            group=1234,
            extra_groups=[],
            text=True,
            capture_output=True,
            env={"HOME": str(home), "TMPDIR": str(home), "PATH": os.environ["PATH"]},
        )
        assert done.stdout == f"{len(conformance.behaviours())}\n", done.stdout + done.stderr
    finally:
        shutil.rmtree(home)


def test_network_host_is_the_hosts(snapshot):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, open_namespace(snapshot, network="host") as box:
        text = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5); print('reached')"
        assert box.run(["python3", "-c", text]).output == "reached\n"


def test_an_unknown_network_or_limit_is_refused(snapshot):
    with pytest.raises(ValueError, match="network"):
        open_namespace(snapshot, network="some")
    with pytest.raises(ValueError, match="memory"):
        Limits(memory=0)
    with pytest.raises(TypeError):
        Limits(colour=1)


def test_a_missing_layer_is_named(snapshot, tmp_path):
    from dataclasses import replace

    with pytest.raises(SandboxUnavailable, match="overlay"):
        open_namespace(replace(snapshot, layers=(tmp_path / "missing",)))


@pytest.mark.parametrize(
    ("tier", "code", "text", "expected"),
    [
        ("namespace-rootless", 1, "unshare 0x10020000: Operation not permitted", "user"),
        ("namespace-rootless", 1, "own process table on /proc, read-only: fsconfig create proc", "systempaths"),
        ("namespace-root", 1, "unshare 0x20000: Operation not permitted", "SYS_ADMIN"),
        ("namespace-root", 38, "fsopen overlay: Function not implemented", "5.12"),
        ("namespace-rootless", 22, "overlay on /root: Invalid argument", "scratch"),
    ],
)
def test_a_refusal_says_what_to_do(tier, code, text, expected):
    paragraph = explain(tier, code, text)
    assert expected in paragraph and text in paragraph and "\n" not in paragraph


@pytest.mark.skipif(not ROOT, reason="changing a limit of the machine for a child needs root")
def test_switched_off_user_namespaces_are_explained(tmp_path):
    script = textwrap.dedent("""
        from swebench_lab.testing import conformance
        from swebench_lab.sandbox.namespace.sandbox import open_namespace
        from swebench_lab.errors import SandboxUnavailable
        from pathlib import Path
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        with conformance.reference_snapshot() as snapshot:
            try:
                open_namespace(snapshot, tier="namespace-rootless")
            except SandboxUnavailable as error:
                print(error)
    """)
    # The setting is one of the user namespace, so a namespace of its own keeps the machine's as it is.
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount-proc", "--fork", "--pid", sys.executable, "-c", script],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
    )
    assert "sysctl user.max_user_namespaces" in done.stdout, done.stdout + done.stderr


def test_interrupting_a_command_ends_it(snapshot):
    script = textwrap.dedent("""
        import signal, threading, os, time
        from swebench_lab.testing import conformance
        from swebench_lab.sandbox.namespace.sandbox import open_namespace
        with conformance.reference_snapshot() as snapshot, open_namespace(snapshot) as box:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                box.run("sleep 60")
            except KeyboardInterrupt:
                pass
            time.sleep(0.1)
            print(box.run("ps ax -o args | grep -c '^sleep'").output)
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE, capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "0", done.stderr


def test_services_answer_when_a_box_is_open_and_in_its_forks(snapshot):
    server = Service("python3 -m http.server 8123 --bind 127.0.0.1", 8123)
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8123/README.md').read().decode())"
    with open_namespace(snapshot, services=[server]) as box:
        assert "# Reference" in box.run(["python3", "-c", fetch]).output
        assert box.checkpoint().entries == ()
        with box.fork() as other:
            assert "# Reference" in other.run(["python3", "-c", fetch]).output


def test_a_service_that_fails_is_an_error_with_what_it_wrote(snapshot):
    with pytest.raises(SandboxError, match="no such luck"):
        open_namespace(snapshot, services=[Service("echo no such luck; exit 1", 8124)])
    with pytest.raises(SandboxError, match="did not answer within"):
        open_namespace(snapshot, services=[Service("sleep 60", 8125, seconds=0.5)])
