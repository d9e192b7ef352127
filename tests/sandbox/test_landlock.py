"""Boxes without namespaces: a private copy of files behind Landlock, filters and a supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.records.task import Task
from swebench_lab.sandbox.checkpoints import LayerStore
from swebench_lab.sandbox.landlock import ruleset
from swebench_lab.sandbox.landlock.private_tree import Places
from swebench_lab.sandbox.landlock.sandbox import LandlockSandbox, open_landlock
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux import seccomp
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.testing import conformance
from swebench_lab.testing.redteam import ATTACKS, Attack, Ground, attempt
from swebench_lab.testing.redteam.loads import tagged
from swebench_lab.testing.redteam.victim import make_victim

pytestmark = pytest.mark.skipif(
    ruleset.abi() < ruleset.SIGNALS_SINCE, reason="this kernel's Landlock is too old to judge"
)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxFactory]:
    with SandboxFactory("landlock", cache=tmp_path_factory.mktemp("cache")) as made:
        yield made


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return make_victim(tmp_path_factory.mktemp("victim"))


@pytest.fixture(scope="module")
def snapshot(factory: SandboxFactory, victim: Task) -> Snapshot:
    return factory.snapshot(victim)


@pytest.fixture(scope="module")
def shared(snapshot: Snapshot) -> Iterator[LandlockSandbox]:
    """A box for tests that leave it as they find it."""
    with open_landlock(snapshot) as box:
        yield box


@pytest.fixture
def box(snapshot: Snapshot) -> Iterator[LandlockSandbox]:
    with open_landlock(snapshot) as made:
        yield made


def python(box: LandlockSandbox, text: str, *arguments: str) -> str:
    return box.run(["python", "-c", textwrap.dedent(text), *arguments], timeout=30).output.strip()


def error_of(box: LandlockSandbox, expression: str) -> str:
    """The name of the error that a Python expression raises in a box."""
    code = f"import errno, os, socket, resource\ntry:\n    {expression}\n    print('done')\n"
    return python(box, f"{code}except OSError as error:\n    print(errno.errorcode[error.errno])")


# --- a box to work in -----------------------------------------------------------------------------------------------


def test_the_box_says_where_it_works(shared: LandlockSandbox) -> None:
    assert shared.tier == "landlock"
    assert shared.run("pwd").output.strip() == shared.workdir != "/testbed"
    assert shared.run("echo $HOME $TMPDIR").output.split() == [
        f"{shared.folder}/root/root",
        f"{shared.folder}/root/tmp",
    ]
    assert shared.gaps == ()


def test_files_are_read_and_written_at_relative_and_absolute_paths(box: LandlockSandbox) -> None:
    box.write("new/file.txt", "hi\n", mode=0o640)
    assert box.read(f"{box.workdir}/new/file.txt") == "hi\n"
    assert box.run("cat new/file.txt; stat -c %a new/file.txt").output == "hi\n640\n"
    assert "new/" in box.list()


def test_the_venv_works_where_it_lies(shared: LandlockSandbox) -> None:
    assert python(shared, "import sys, ledger; print(sys.prefix, ledger.__file__)").split() == [
        f"{shared.folder}/root/opt/venv",
        f"{shared.workdir}/src/ledger/__init__.py",
    ]
    assert shared.run("command -v pytest").output.strip() == f"{shared.folder}/root/opt/venv/bin/pytest"
    assert "2 passed" in shared.run("pytest -q -p no:cacheprovider").output


def test_nothing_of_the_callers_variables_is_passed_on(shared: LandlockSandbox) -> None:
    names = {line.partition("=")[0] for line in shared.run("env").output.splitlines()}
    assert not names & {"LD_LIBRARY_PATH", "PYTHONPATH", "SSH_AUTH_SOCK", "PYTEST_CURRENT_TEST", "OLDPWD"}


def test_a_patch_is_made_and_applied(box: LandlockSandbox, victim: Task) -> None:
    assert box.apply_patch(victim.gold_patch).ok
    box.run("echo more >new.txt; rm -rf .git")
    made = box.diff()
    assert made.count("diff --git") == 2
    with open_landlock(box.snapshot) as other:
        assert other.apply_patch(made).ok
        assert other.diff() == made


def test_a_session_keeps_its_place_and_ends_what_takes_too_long(box: LandlockSandbox) -> None:
    with box.session() as shell:
        shell.run("cd src; export A=1; sleep 300 &")
        assert shell.run("sleep 60", timeout=0.3).timed_out
        assert shell.run("echo $A; kill -0 %1 && basename $PWD").output == "1\nsrc\n"


def test_the_evaluator_grades_in_it(factory: SandboxFactory, victim: Task, tmp_path: Path) -> None:
    from swebench_lab.grading.evaluator import Evaluator

    evaluator = Evaluator(factory, certificates=tmp_path)
    gold, empty = evaluator.grade(victim, victim.gold_patch), evaluator.grade(victim, "")
    assert (gold.status, gold.tier, empty.status) == ("resolved", "landlock", "unresolved"), gold.reason


@pytest.fixture(scope="module")
def reference() -> Iterator[Snapshot]:
    with conformance.reference_snapshot() as made:
        yield made


# The conformance kit's behaviours are tried in `test_conformance`.

# --- walls ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ground(factory: SandboxFactory, snapshot: Snapshot) -> Iterator[Ground]:
    with Ground(factory, snapshot) as made:
        yield made


ALWAYS = {
    "read by path",
    "write by path",
    "change modes, owners and times",
    "signal processes of the host",
    "bound and slow processes of the host",
    "files of another box",
    "shared memory of the host",
    "the host's loopback",
    "sockets of the host",
    "planted links, downloaded",
    "filters and text conversion",
    "stay behind",
}
"""Attacks of the quick run."""


@pytest.mark.parametrize(
    "attack",
    [pytest.param(one, id=one.name, marks=[] if one.name in ALWAYS else [pytest.mark.slow]) for one in ATTACKS],
)
def test_an_attack_is_held_or_stated(attack: Attack, ground: Ground) -> None:
    outcome = attempt(attack, ground)
    assert outcome.held or outcome.stated, outcome.evidence


def test_names_in_this_file_are_names_of_attacks() -> None:
    assert {one.name for one in ATTACKS} >= ALWAYS


def test_files_outside_are_closed(shared: LandlockSandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    before = secret.stat()
    for path in (secret, secret.parent, Path.home(), Path("/proc/1/environ"), Path("/dev/shm"), shared.snapshot.tests):
        assert "ermission denied" in shared.run(["ls", f"{path}/"] if path.is_dir() else ["cat", str(path)]).output
    for call in ("os.truncate({0!r}, 0)", "os.remove({0!r})", "os.rename({0!r}, 'x')", "os.link({0!r}, 'x')",
                 "os.symlink('x', {0!r} + '2')", "os.mkfifo({0!r} + '2')", "os.mkdir({0!r} + '2')"):  # fmt: skip
        assert error_of(shared, call.format(str(secret))) in ("EACCES", "EXDEV")
    with pytest.raises(SandboxPathError, match="ermission"):
        shared.read(str(secret))
    assert secret.stat() == before


def test_what_is_kept_about_files_changes_inside_only(box: LandlockSandbox, tmp_path: Path) -> None:
    outside = tmp_path / "mine"
    outside.write_text("x")
    before = outside.stat()
    for call in ("os.chmod({0!r}, 0o777)", "os.chown({0!r}, os.getuid(), os.getgid())", "os.utime({0!r})",
                 "os.setxattr({0!r}, 'user.a', b'1')", "os.utime({0!r}, (1, 2))",
                 "os.chmod('/proc/self/root' + {0!r}, 0)"):  # fmt: skip
        assert error_of(box, call.format(str(outside))) in ("EPERM", "EACCES"), call
    assert outside.stat() == before
    box.run(f"ln -s {outside} to-mine")
    assert error_of(box, "os.chmod('to-mine', 0o777)") == "EPERM"
    assert outside.stat() == before


def test_a_descriptor_for_reading_gives_no_right_over_the_file(box: LandlockSandbox) -> None:
    interpreter = os.path.realpath(sys.executable)
    before = os.stat(interpreter)
    opened = f"os.open({interpreter!r}, os.O_RDONLY)"
    for call in (f"os.fchmod({opened}, 0)", f"os.fchown({opened}, os.getuid(), -1)", f"os.utime({opened}, (1, 1))"):
        assert error_of(box, call) == "EPERM"
    assert os.stat(interpreter) == before


def test_what_is_kept_about_own_files_changes_in_every_way(box: LandlockSandbox) -> None:
    said = python(
        box,
        """
        import os, tempfile
        def mode(path): return oct(os.lstat(path).st_mode & 0o7777)
        os.makedirs('d/e'); open('d/f', 'w').close(); os.symlink('f', 'd/l')
        os.chmod('d/f', 0o600); print(mode('d/f'))
        os.chmod('d/l', 0o640); print(mode('d/f'))
        fd = os.open('d', os.O_RDONLY); os.chmod('f', 0o604, dir_fd=fd); print(mode('d/f'))
        file = open('d/f', 'r+'); os.fchmod(file.fileno(), 0o611); print(mode('d/f'))
        os.chdir('d/e'); os.chmod('../f', 0o622); os.chdir('../..'); print(mode('d/f'))
        os.utime('d/f', (1, 2)); print(os.stat('d/f').st_mtime)
        os.utime('d/l', ns=(5, 7), follow_symlinks=False); print(os.lstat('d/l').st_mtime_ns, os.stat('d/f').st_mtime)
        os.utime(file.fileno(), (3, 4)); print(os.stat('d/f').st_mtime)
        os.chown('d/f', os.getuid(), os.getgid()); os.lchown('d/l', os.getuid(), -1); os.fchown(file.fileno(), -1, -1)
        os.setxattr('d/f', 'user.a', b'1'); print(os.getxattr('d/f', 'user.a')); os.removexattr('d/f', 'user.a')
        os.setxattr(file.fileno(), 'user.b', b'2'); print(os.listxattr('d/f'))
        temporary = tempfile.TemporaryFile(); os.fchmod(temporary.fileno(), 0o400)
        for call in (lambda: os.chmod('none', 0), lambda: os.chmod('', 0), lambda: os.fchmod(99, 0)):
            try: call()
            except OSError as error: print(type(error).__name__, error.errno)
        """,
    )
    assert said.splitlines() == [
        "0o600", "0o640", "0o604", "0o611", "0o622", "2.0", "7 2.0", "4.0", "b'1'", "['user.b']",
        "FileNotFoundError 2", "FileNotFoundError 2", "OSError 9",
    ]  # fmt: skip


def test_ordinary_tools_get_along_with_the_supervisor(box: LandlockSandbox) -> None:
    done = box.run(
        "cp -a src copy && install -m 750 setup.cfg tool && tar cf x.tar copy && mkdir y && tar xf x.tar -C y && "
        "touch -d 2020-02-02 y && stat -c '%a %Y' tool y && git add -A && git -c user.name=a -c user.email=b@c commit -qm x && "
        "python -m venv --without-pip v && v/bin/python -c 'print(1)'",
        timeout=60,
    )
    assert done.ok, done.output
    assert done.output.split()[0] == "750"


def test_no_socket_leads_anywhere(shared: LandlockSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert error_of(shared, f"socket.create_connection(('127.0.0.1', {port}))") == "EACCES"
        assert error_of(shared, "socket.create_server(('127.0.0.1', 0))") == "EACCES"
        fast = f"socket.socket(2, 1).sendto(b'x', 0x20000000, ('127.0.0.1', {port}))"
        assert error_of(shared, fast) == "EACCES"
        for family, kind, protocol in (
            (2, 2, 0),
            (10, 2, 0),
            (2, 3, 1),
            (2, 1, 262),
            (2, 1, 132),
            (16, 3, 0),
            (1, 2, 0),
            (17, 3, 0),
        ):
            assert error_of(shared, f"socket.socket({family}, {kind}, {protocol})") in (
                "EACCES",
                "EAFNOSUPPORT",
                "EPERM",
            )
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert python(shared, "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))") == "b'x'"


def test_signals_limits_and_priorities_stay_inside(shared: LandlockSandbox) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            pid = other.pid
            for call in (f"os.kill({pid}, 0)", f"os.kill({pid}, 9)", f"os.kill({os.getpid()}, 19)",
                         f"resource.prlimit({pid}, 7, (1, 1))", f"os.sched_setaffinity({pid}, [0])",
                         f"os.setpriority(0, {pid}, 19)", "os.setpriority(2, os.getuid(), 19)",
                         "os.setpriority(2, 0, 19)", "os.setpriority(1, 0, 19)"):  # fmt: skip
                assert error_of(shared, call) in ("EPERM", "EACCES"), call
            assert other.poll() is None
            assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) < 19
        finally:
            other.kill()
    assert shared.run("sleep 60 & kill $!; wait $!; echo $?").output.strip() == "143"
    assert error_of(shared, "os.setpriority(0, 0, 5)") == "done"


def test_a_device_flag_or_seal_of_a_foreign_file_cannot_be_set(shared: LandlockSandbox) -> None:
    code = f"import fcntl; fcntl.ioctl(os.open({os.path.realpath(sys.executable)!r}, 0), {{}}, bytes(128))"
    for request in (0x40086602, 0x40806685):
        assert error_of(shared, code.format(request)) == "EPERM"


@pytest.mark.parametrize("version", [1, 3, 5])
def test_older_kernels_hold_what_counts(version: int, snapshot: Snapshot, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with open_landlock(snapshot, version=version) as box, subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert box.gaps
            assert error_of(box, f"open({str(secret)!r})") == "EACCES"
            assert error_of(box, f"os.truncate({str(secret)!r}, 0)") in ("EACCES", "EPERM")
            assert error_of(box, "socket.create_connection(('127.0.0.1', 1))") == "EACCES"
            for call in (f"os.kill({other.pid}, 9)", f"os.kill(-{other.pid}, 9)", f"os.kill({os.getpid()}, 0)"):
                assert error_of(box, call) in ("EPERM", "ESRCH"), call
            assert box.run("sleep 60 & kill $!; wait $!; echo $?").output.strip() == "143"
            assert box.run("sh -c 'kill -9 $$'").signal == signal.SIGKILL
            assert "2 passed" in box.run("python -m pytest -q -p no:cacheprovider").output
            assert other.poll() is None
        finally:
            other.kill()
    assert secret.read_text() == "secret"


# --- bounds and the end -----------------------------------------------------------------------------------------------


def test_a_timeout_ends_daemons_too(box: LandlockSandbox) -> None:
    tag = f"LAB_TAG=timeout-{box.id}"
    box.run(f"export {tag}; (setsid nohup sleep 300 &); (setsid sh -c 'sleep 301 & wait' &) ; sleep 60", timeout=0.5)
    assert wait_for(lambda: not tagged(tag))
    assert box.run("echo on").output == "on\n"


def test_a_timeout_leaves_other_commands_alone(box: LandlockSandbox) -> None:
    tag = f"LAB_TAG=before-{box.id}"
    box.run(f"{tag} sleep 300 >/dev/null 2>&1 &")
    box.run("sleep 60", timeout=0.3)
    assert wait_for(lambda: len(tagged(tag)) == 1)


def test_a_mark_cannot_be_changed(shared: LandlockSandbox) -> None:
    for call in ("resource.setrlimit(15, (5, 5))", "resource.prlimit(0, 15, (5, 5))"):
        # Python tells EPERM of the first as a ValueError.
        assert error_of(shared, call).split("\n")[-1] in ("EPERM", "ValueError: not allowed to raise maximum limit")
    assert error_of(shared, "print(resource.getrlimit(15))").endswith("done")


def test_nothing_of_a_closed_box_is_left(snapshot: Snapshot) -> None:
    box = open_landlock(snapshot)
    tag = f"LAB_TAG=closed-{box.id}"
    box.run(f"({tag} setsid nohup sleep 300 >/dev/null 2>&1 &); true")
    assert wait_for(lambda: len(tagged(tag)) == 1)  # a process just made bears its tag once it has started its program
    box.close()
    box.close()
    assert tagged(tag) == []
    assert not Path(box.folder).exists()
    with pytest.raises(SandboxClosed):
        box.run("true")


@pytest.mark.skipif(ruleset.abi() < ruleset.SIGNALS_SINCE, reason="this kernel's Landlock keeps no signals inside")
def test_what_serves_a_box_cannot_be_ended_from_inside(box: LandlockSandbox) -> None:
    with box.session() as session:
        for ending in ("kill -9 $PPID", "kill -STOP $PPID", "(kill -9 -1) & wait", "exec kill -9 -1"):
            session.run(ending)
            box.run(ending)
            assert box.run("echo on").output == session.run("echo on").output == "on\n", ending


def test_a_box_that_ends_itself_says_so_and_is_cleared_away(snapshot: Snapshot) -> None:
    """Where Landlock keeps no signals inside, a box can."""
    with open_landlock(snapshot, version=5) as box:
        tag = f"LAB_TAG=itself-{box.id}"
        with pytest.raises(SandboxClosed, match="first process is gone"):
            box.run(f"({tag} setsid nohup sleep 300 >/dev/null 2>&1 &); kill -9 $PPID; sleep 5")
        assert wait_for(lambda: not tagged(tag) and not Path(box.folder).exists())


def test_a_killed_warden_leaves_no_process(snapshot: Snapshot) -> None:
    with open_landlock(snapshot) as box:
        tag = f"LAB_TAG=warden-{box.id}"
        box.run(f"({tag} setsid nohup sleep 300 >/dev/null 2>&1 &); true")
        assert wait_for(lambda: len(tagged(tag)) == 1)
        box._process.kill()
        assert wait_for(lambda: not tagged(tag))
        with pytest.raises(SandboxClosed):
            box.run("true")
    assert not Path(box.folder).exists()


CHILD = """
import os, sys, time
from pathlib import Path
from swebench_lab.sandbox.landlock.sandbox import open_landlock
from swebench_lab.sandbox.snapshot import Snapshot
layer, git, head, binds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], tuple(map(Path, sys.argv[4].split()))
snapshot = Snapshot(key="child", layers=(layer,), binds=binds, git_dir=git, head=head, env={}, tests=layer, meta={})
box = open_landlock(snapshot, scratch=Path(sys.argv[5]))
"""


def in_a_child(
    snapshot: Snapshot, scratch: Path, code: str, *, wrapper: tuple[str, ...] = (), prepare: str = ""
) -> subprocess.Popen[str]:
    """A process of its own that opens a box over a snapshot's repository."""
    own = snapshot.layers[0]
    binds = " ".join(map(str, snapshot.binds))
    arguments = [str(own), str(snapshot.git_dir), snapshot.head, binds, str(scratch)]
    argv = [*wrapper, sys.executable, "-c", prepare + CHILD + textwrap.dedent(code), *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_a_killed_client_leaves_nothing(reference: Snapshot, tmp_path: Path) -> None:
    tag = f"LAB_TAG=client-{tmp_path.name}"
    with in_a_child(reference, tmp_path, f"""
        box.run("({tag} setsid nohup sleep 300 >/dev/null 2>&1 &); true")
        print(box.folder, flush=True)
        time.sleep(60)
    """) as child:  # fmt: skip
        assert child.stdout
        folder = Path(child.stdout.readline().strip())
        assert folder.is_dir()
        assert wait_for(lambda: len(tagged(tag)) == 1)
        child.kill()
    assert wait_for(lambda: not tagged(tag) and not folder.exists())


def test_what_a_killed_warden_left_is_removed_by_the_next_box(reference: Snapshot, tmp_path: Path) -> None:
    with in_a_child(reference, tmp_path, """
        print(box.folder, box._process.pid, flush=True)
        time.sleep(60)
    """) as child:  # fmt: skip
        assert child.stdout
        folder, pid = child.stdout.readline().split()
        os.kill(int(pid), signal.SIGKILL)
        child.kill()
    assert Path(folder).is_dir()

    def goes() -> bool:  # who was killed holds the lease until the kernel has ended it
        with open_landlock(reference, scratch=tmp_path):
            return not Path(folder).exists()

    assert wait_for(goes)


def test_processes_are_bounded_and_named(snapshot: Snapshot) -> None:
    with open_landlock(snapshot, limits=Limits(processes=20)) as box:
        many = box.run("for i in $(seq 60); do sleep 5 & done; wait", timeout=20)
        assert many.limit == "processes" or "Resource temporarily unavailable" in many.output
        assert wait_for(lambda: box.run("echo on", timeout=10).output == "on\n")


def wait_for(true_now: object, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true_now():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


# --- checkpoints --------------------------------------------------------------------------------------------------------


def test_a_fork_has_what_the_box_had(box: LandlockSandbox) -> None:
    box.run(
        "mkdir -p d/e; echo 1 >d/one; ln d/one d/two; ln -s one d/link; mkfifo d/pipe; chmod 640 d/one; touch -d @7 d/one; "
        "truncate -s 1M d/hole; rm README.md; rm -r tests; mkdir tests; echo new >tests/only; echo tmp >$TMPDIR/t"
    )
    layer = box.checkpoint()
    box.run("echo later >d/one; rm d/link; echo x >README.md")
    look = "find . $TMPDIR -path ./.git -prune -o -printf '%P %y %m %l %s\\n' | sort; cat d/one $TMPDIR/t; stat -c %Y d/one"
    with box.fork(at=layer) as other:
        said = other.run(look).output
        assert "d/link l 777 one" in said
        assert "d/pipe p" in said
        assert "tests/only" in said
        assert "test_ledger.py" not in said
        assert "README.md" not in said
        assert said.endswith("1\ntmp\n7\n")
        assert other.read("d/one") == "1\n"
    assert box.read("d/one") == "later\n"
    assert {"deleted"} <= {kind for kind, _ in layer.entries}


def test_a_second_checkpoint_holds_only_what_changed_since(box: LandlockSandbox) -> None:
    box.write("a", "1")
    first = box.checkpoint()
    box.write("b", "2")
    second = box.checkpoint()
    assert [path for kind, path in first.entries if kind == "file"] == ["testbed/a"]
    assert [path for kind, path in second.entries if kind == "file"] == ["testbed/b"]
    assert second.parents == (first.digest,)
    assert box.checkpoint().entries == ()


def test_a_fork_stands_where_the_box_stood(box: LandlockSandbox) -> None:
    with box.session() as shell:
        shell.run("cd src; export KEPT=value WHERE=$PWD")
        shell.env()
        layer = box.checkpoint()
    with box.fork(at=layer) as other, other.session() as shell:
        assert shell.run("echo $KEPT; pwd; [ $WHERE = $PWD ] && echo same").output.split() == [
            "value",
            f"{other.workdir}/src",
            "same",
        ]


def test_a_checkpoint_holds_a_busy_box_still(box: LandlockSandbox) -> None:
    with box.session() as shell:
        shell.run(
            "(n=0; while :; do n=$((n+1)); echo $n >count.new; mv count.new count; chmod 600 count; done) >/dev/null 2>&1 &"
        )
        time.sleep(0.2)
        layers = [box.checkpoint() for _ in range(3)]
        before = box.read("count")
        time.sleep(0.3)
        assert box.read("count") != before, "it goes on afterwards"
    with box.fork(at=layers[0]) as other:
        assert other.read("count").strip().isdigit()


def test_layers_go_from_one_tier_to_the_other(snapshot: Snapshot, tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers")
    with open_namespace(snapshot, store=store) as box:
        box.run("echo from-namespace >a; rm setup.cfg; rm -rf tests; mkdir tests; touch tests/x")
        layer = box.checkpoint()
    with open_landlock(snapshot, layers=[layer], store=store) as box:
        assert box.run("cat a; ls tests; ls setup.cfg 2>&1 | wc -l").output == "from-namespace\nx\n1\n"
        box.run("echo from-landlock >b; rm a")
        more = box.checkpoint()
        assert more.parents == (layer.digest,)
    with open_namespace(snapshot, layers=[layer, more], store=store) as box:
        assert box.run("cat b; ls a 2>/dev/null; ls tests").output == "from-landlock\nx\n"


def test_the_cache_is_never_changed(snapshot: Snapshot) -> None:
    def state() -> list[tuple[str, int, int, int]]:
        found = []
        for layer in snapshot.layers:
            for path in sorted(layer.rglob("*")):
                status = path.lstat()
                found.append((str(path), status.st_mode, status.st_mtime_ns, status.st_size))
        return found

    before = state()
    with open_landlock(snapshot) as box:
        box.run(
            "chmod -R u+w $VIRTUAL_ENV . ; for f in setup.cfg src/ledger/*.py $VIRTUAL_ENV/bin/*; do echo x >>$f; done; rm -rf .git tests"
        )
    assert state() == before


def test_names_of_places_are_rewritten_and_nothing_else() -> None:
    root = "/scratch/lab-landlock-0123456789ab/root"
    places = Places(root)
    other = "/elsewhere/lab-landlock-ba9876543210/root"
    assert places.in_text("#!/opt/venv/bin/python -x") == f"#!{root}/opt/venv/bin/python -x"
    assert places.in_text("/testbed\n/testbed/src\n") == f"{root}/testbed\n{root}/testbed/src\n"
    assert places.in_text(f"home={other}/opt/venv/bin") == f"home={root}/opt/venv/bin"
    assert places.in_text("/opt/venv/bin:/usr/bin") == f"{root}/opt/venv/bin:/usr/bin"
    for same in ("/opt/venv2", "/testbeds", "/a/testbed", "my/testbed", "/usr/opt/venv", "testbed"):
        assert places.in_text(same) == same


# --- without namespaces ---------------------------------------------------------------------------------------------------


def refusing(*numbers: int, code: int = 1) -> bytes:
    """A filter that refuses system calls, and every clone into a namespace."""
    parts = [seccomp._op(0x20, 0)]
    parts += [seccomp._when(number, seccomp._op(0x06, 0x00050000 | code)) for number in numbers]
    clone = (
        seccomp._op(0x20, 16)
        + seccomp._op(0x45, 0x7E020000, 0, 1)
        + seccomp._op(0x06, 0x00050001)
        + seccomp._op(0x06, 0x7FFF0000)
    )
    parts.append(seccomp._when(56 if os.uname().machine == "x86_64" else 220, clone))
    return b"".join([*parts, seccomp._op(0x06, 0x7FFF0000)])


X86 = os.uname().machine == "x86_64"
NAMESPACES = (
    (272, 308, 165, 166, 155, 428, 429, 430, 431, 432, 442)
    if X86
    else (97, 268, 40, 39, 41, 428, 429, 430, 431, 432, 442)
)
UNDER = (
    "from swebench_lab.sandbox.linux import kernel\nkernel.no_new_privileges()\nkernel.seccomp(bytes.fromhex({!r}))\n"
)


def test_it_needs_no_namespace_and_no_mount(reference: Snapshot, tmp_path: Path) -> None:
    """A container's filter: unshare, setns, mount, pivot_root and clone into namespaces are refused."""
    code = """
        import subprocess
        from swebench_lab.errors import SandboxUnavailable
        from swebench_lab.sandbox.namespace.sandbox import open_namespace
        print(subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode != 0)
        for tier in ("namespace-root", "namespace-rootless"):
            try:
                open_namespace(snapshot, tier=tier)
                print("a namespace box was made")
            except SandboxUnavailable:
                print("unavailable")
        print(box.run("echo hi >x; cat x; ls /root || cat /etc/shadow || cat /proc/1/environ", merge=False).output.strip())
        layer = box.checkpoint()
        with box.fork(at=layer) as other:
            print(other.read("x").strip(), other.diff().count("diff --git"))
        box.close()
        print(os.path.exists(box.folder))
    """
    with in_a_child(reference, tmp_path, code, prepare=UNDER.format(refusing(*NAMESPACES).hex())) as child:
        said = child.communicate(timeout=120)[0].splitlines()
    assert said == ["True", "unavailable", "unavailable", "hi", "hi 1", "False"]


def test_without_landlock_it_says_so(reference: Snapshot, tmp_path: Path) -> None:
    code = refusing(444, 445, 446, code=38).hex()
    prepare = UNDER.format(code)
    script = f"{prepare}from swebench_lab.errors import SandboxUnavailable\ntry:\n{textwrap.indent(CHILD, '    ')}\nexcept SandboxUnavailable as error:\n    print(error)\n"
    arguments = [str(reference.layers[0]), str(reference.git_dir), reference.head, "", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert "offers no Landlock" in done.stdout
    assert "5.13" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_needs_nothing_more(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run as nobody, by the system's Python, from a copy of the package that nobody may read."""
    import shutil

    python = "/usr/bin/python3"
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True
    )
    if version.stdout.strip() != "True":
        pytest.skip("the system's Python is older than 3.11")
    with conformance.reference_snapshot() as made:
        place = Path("/tmp") / f"lab-nobody-{os.getpid()}"
        try:
            package = Path(ruleset.__file__).parents[2]
            shutil.copytree(package, place / "swebench_lab", ignore=shutil.ignore_patterns("bundled", "__pycache__"))
            shutil.copytree(made.layers[0], place / "layer", symlinks=True)
            subprocess.run(["chown", "-R", "65534:65534", place], check=True)
            code = UNDER.format(refusing(*NAMESPACES).hex()) + CHILD + textwrap.dedent("""
                print(os.getuid(), box.run("id -u; touch f; chmod 700 f; stat -c %a f; cat /etc/shadow || echo closed", merge=False).output.split())
                from swebench_lab.sandbox.limits import Limits
                with open_landlock(snapshot, scratch=Path(sys.argv[5]), limits=Limits(processes=20)) as small:
                    said = small.run("for i in $(seq 60); do sleep 2 & done; wait", timeout=20)
                    print(said.limit or "Resource temporarily unavailable" in said.output)
                box.write("x", "1"); layer = box.checkpoint(); print(len(layer.entries) > 0)
                box.close(); print(os.path.exists(box.folder))
            """)  # fmt: skip
            arguments = [str(place / "layer"), str(place / "layer/testbed/.git"), made.head, "", str(place / "scratch")]
            wrapper = [
                "setpriv",
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "env",
                f"PYTHONPATH={place}",
                f"TMPDIR={place}",
            ]
            done = subprocess.run(
                [*wrapper, python, "-c", code, *arguments], capture_output=True, text=True, cwd="/", timeout=120
            )
        finally:
            shutil.rmtree(place, ignore_errors=True)
    assert done.stdout.splitlines() == ["65534 ['65534', '700', 'closed']", "True", "True", "False"], done.stderr[
        -2000:
    ]
