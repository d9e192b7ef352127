"""Checkpoints: every step can be gone back to."""

import tempfile
import time
from pathlib import Path

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.checkpoints import Layer, LayerStore
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import Opener, equal, fails, in_a_box, needs, true, with_boxes

_LOOK = (
    "for place in . ${TMPDIR:-/tmp} ~; do (cd $place; "
    "find . -xdev -path ./.git -prune -o \\( -type f -printf '%p %m %n %T@ ' -exec md5sum {} \\; \\) -o "
    "-not -type d -printf '%p %y %l\\n' -o -printf '%p %m\\n' | sort); done"
)
_COUNTING = "(i=0; while :; do i=$((i+1)); echo $i > {0}.new; mv {0}.new {0}; sleep 0.005; done) >/dev/null 2>&1 &"
"""A job that counts in a file, which is never found empty."""


def _same(box: Sandbox, other: Sandbox, what: str = "files of the fork") -> None:
    equal(other.run(_LOOK).output, box.run(_LOOK).output, what)


@in_a_box
def a_fork_has_the_files_and_then_goes_its_way(box: Sandbox) -> None:
    """A fork starts with the files of its parent; afterwards neither sees the other."""
    box.run("echo one > a; mkdir d; echo two > d/b; rm README.md; chmod 700 src")
    with box.fork() as other:
        _same(box, other)
        box.run("echo parent > a; echo new > p")
        other.run("echo fork > a; rm -r d")
        equal((box.read("a"), other.read("a")), ("parent\n", "fork\n"))
        true(
            box.run("test -e d/b && test ! -e README.md").ok and not other.run("test -e p || test -e d").ok,
            "they diverge",
        )


@in_a_box
def a_fork_can_start_at_any_checkpoint(box: Sandbox) -> None:
    """Every checkpoint can be started from, in any order."""
    layers = []
    for number in range(5):
        box.run(f"echo {number} > n; echo {number} > f{number}; rm -f f{number - 2}")
        layers.append(box.checkpoint())
    for number in (3, 0, 4, 1):
        with box.fork(at=layers[number]) as other:
            names = sorted(name for name in other.list() if name.startswith("f"))
            equal((other.read("n"), names), (f"{number}\n", [f"f{n}" for n in range(max(0, number - 1), number + 1)]))


@in_a_box
def a_checkpoint_holds_what_changed_since_the_last(box: Sandbox) -> None:
    """A layer lists exactly the files that changed, and nothing when nothing did."""
    box.run("echo 1 > a; echo 1 > b")
    first = box.checkpoint()
    box.run("echo 2 >> b; rm a; rm README.md")
    second = box.checkpoint()
    third = box.checkpoint()
    kinds = [
        {path.rpartition("/")[2]: kind for kind, path in layer.entries if kind != "dir"} for layer in (first, second)
    ]
    equal(kinds, [{"a": "file", "b": "file"}, {"b": "file", "a": "deleted", "README.md": "deleted"}])
    equal((third.entries, third.parents), ((), (first.digest, second.digest)))


@in_a_box
def replaced_and_deleted_directories_stay_so(box: Sandbox) -> None:
    """Directories deleted, made again, or replaced by files hide what was below them, over several layers."""
    for change in (
        "mkdir -p x/y; echo 1 > x/y/z; echo 1 > x/w",
        "rm -r x; mkdir x; echo 2 > x/new",
        "rm -r src; mkdir src; echo 3 > src/only",
        "rm -r src; echo file > src",
        "rm src; mkdir src; echo 4 > src/a",
        "rm -r x; ln -s src x",
        "rm x; mkdir x",
        "mkdir -p src/app.py",
    ):
        true(box.run(change).ok, change)
        with box.fork() as other:
            _same(box, other, f"after {change!r}")


@in_a_box
def links_modes_times_and_holes_are_kept(box: Sandbox) -> None:
    """Hard links, symbolic links, pipes, modes, times and sparse files come through."""
    box.run(
        "echo 1 > a; ln a b; ln -s /etc/passwd c; mkfifo p; chmod 4751 a; mkdir m; chmod 1777 m; ln a m/d; "
        "touch -d '2001-02-03 04:05:06.789' a; truncate -s 50M sparse; printf x >> sparse; "
        "touch .wh.odd .wh..wh..opq; echo name > 'new\nline'"
    )
    layer = box.checkpoint()
    true(
        layer.path.stat().st_mode & 0o077 == 0 or layer.path.parent.stat().st_mode & 0o077 == 0, "closed to other users"
    )
    with box.fork(at=layer) as other:
        _same(box, other)
        equal(other.run("stat -c %s sparse; [ a -ef b ] && [ a -ef m/d ] && echo linked").output, "52428801\nlinked\n")


@needs("names of any bytes")
@in_a_box
def odd_files_do_not_keep_a_checkpoint_from_being_made(box: Sandbox) -> None:
    """More attributes and more names than a disk holds of one file, names that are no text: a layer is made all the same."""
    box.run(
        [
            "python3",
            "-c",
            "import os\n"
            "for name in (b'\\xff\\xfe', b'a' * 255, b'large', b'many'): open(name, 'wb').write(b'1')\n"
            "os.symlink(b'\\xff' * 300, b'link-to-odd')\n"
            "try:\n"
            "    os.setxattr('large', 'user.large', bytes(60000))\n"
            "    for n in range(3000): os.setxattr('large', f'user.n{n}', b'x' * 20)\n"
            "except OSError: pass\n",
        ]
    )
    with box.fork() as other:
        _same(box, other)


@in_a_box
def marks_that_a_box_sets_hide_nothing(box: Sandbox) -> None:
    """Attributes by which layers hide files mean nothing when it is the box that set them."""
    for space in ("user", "trusted"):
        box.run(["python3", "-c", f"import os; os.setxattr('src', '{space}.overlay.opaque', b'y')"])
    box.write("src/new", "1")
    with box.fork() as other:
        _same(box, other)
        equal(other.list("src"), ["app.py", "new", "run.sh"])


@needs("closed directories")
@in_a_box
def what_its_owner_may_not_read_is_kept(box: Sandbox) -> None:
    """Files and directories without any right come through, with what is in them."""
    box.run("mkdir m; echo x > m/x; chmod 000 m/x; chmod 0 m")
    with box.fork() as other:
        equal(other.run("stat -c %a m; chmod 700 m; stat -c %a m/x; chmod 600 m/x; cat m/x").output, "0\n0\nx\n")


@in_a_box
def renames_are_kept(box: Sandbox) -> None:
    """Renamed files and directories, old and new, come through."""
    for change in (
        "mkdir -p n/m; echo 1 > n/m/f; mv README.md n/",
        "mv n k",
        "mv src moved",
        "mv k/m/f src; mv moved k/m",
    ):
        true(box.run(change).ok, change)
        with box.fork() as other:
            _same(box, other, f"after {change!r}")


@needs("session")
@in_a_box
def a_checkpoint_of_a_living_box_is_possible(box: Sandbox) -> None:
    """With an open session, a background writer and an open file, a checkpoint is made and everything goes on."""
    with box.session() as session:
        session.run(
            "cd src; export A=1; exec 5>open.txt; echo before >&5; "
            + _COUNTING.format("count")
            + " until test -e count; do sleep 0.01; done"
        )
        layer = box.checkpoint()
        first = int(box.read("src/count"))
        session.run("echo after >&5")
        equal(session.run("pwd; echo $A; cat open.txt").output, f"{box.workdir}/src\n1\nbefore\nafter\n")
        _goes_on(box, "src/count", first)
        with box.fork(at=layer) as other:
            equal(other.read("src/open.txt"), "before\n")
            before = other.read("src/count")
            time.sleep(0.1)
            equal(other.read("src/count"), before, "no process is carried over, so the count of the fork")


@in_a_box
def directory_and_variables_are_restored(box: Sandbox) -> None:
    """A session of a fork stands where the parent's stood, with its variables."""
    with box.session() as session:
        session.run("cd src; export A='some value'")
        layer = box.checkpoint()
        session.run("cd /; export A=other")
    equal((layer.cwd, layer.env["A"]), ("/testbed/src", "some value"))
    with box.fork(at=layer) as other, other.session() as session:
        equal(session.run("pwd; echo $A").output, f"{other.workdir}/src\nsome value\n")
        home = session.run("echo $HOME").output
        equal(home, other.run("echo $HOME").output, "no variable leads into the box that was forked")


@needs("command trees")
@in_a_box
def a_stopped_process_stays_stopped(box: Sandbox) -> None:
    """A checkpoint lets go only what it stopped itself."""
    box.run(
        f"{_COUNTING.format('one')} {_COUNTING.format('two')} "
        "until test -e one -a -e two; do sleep 0.01; done; kill -STOP $!; sleep 0.05"
    )
    stopped = box.read("two")
    first = int(box.read("one"))
    box.checkpoint()
    _goes_on(box, "one", first)
    equal(box.read("two"), stopped, "the count of the stopped process")


def _goes_on(box: Sandbox, path: str, before: int) -> None:
    """Demand that a job still counts in a file."""
    deadline = time.monotonic() + 10
    while int(box.read(path)) <= before + 1:
        true(time.monotonic() < deadline, f"the job that counts in {path} goes on")
        time.sleep(0.02)


@with_boxes
def a_packed_layer_is_the_same_elsewhere(open_box: Opener) -> None:
    """A layer packed into a file and unpacked in another store has the same digest, and boxes start from it."""
    with open_box() as box, tempfile.TemporaryDirectory() as folder:
        box.run(
            "echo 1 > a; ln a b; rm README.md; rm -r src; mkdir src; echo 2 > src/new; ln -s /etc/passwd c; mkfifo p; "
            "chmod 700 a; truncate -s 100M sparse; echo end >> sparse; touch .wh.odd; mkdir -p .wh.dir/.wh..wh..opq"
        )
        layer = box.checkpoint()
        layer.pack(Path(folder) / "one.tar.gz")
        layer.pack(Path(folder) / "two.tar.gz")
        equal((Path(folder) / "one.tar.gz").read_bytes(), (Path(folder) / "two.tar.gz").read_bytes(), "packed twice")
        true((Path(folder) / "one.tar.gz").stat().st_size < 1_000_000, "holes take no room")
        again = Layer.unpack(Path(folder) / "one.tar.gz", Path(folder) / "store")
        equal(again.digest, layer.digest)
        with open_box(layers=[again]) as other:
            _same(box, other)
        LayerStore(Path(folder) / "store").remove(again.digest)


@in_a_box
def a_long_history_is_merged(box: Sandbox) -> None:
    """A fork after many steps has the same files: older layers were merged."""
    for number in range(60):
        box.write(f"step/{number % 7}/f{number}", str(number))
        box.run(f"rm -f step/{number % 7}/f{number - 7}; [ $(({number} % 20)) != 0 ] || rm -rf step/3")
        box.checkpoint()
    with box.fork() as other:
        _same(box, other)
        equal(other.run("echo on").output, "on\n")


@in_a_box
def a_foreign_checkpoint_is_refused(box: Sandbox) -> None:
    """A box forks only at its own checkpoints."""
    with box.fork() as other:
        other.write("x", "1")
        foreign = other.checkpoint()
    fails(SandboxError, lambda: box.fork(at=foreign), "a checkpoint of another box")


@in_a_box
def a_fork_can_be_forked(box: Sandbox) -> None:
    """Forks of forks keep the whole history."""
    box.write("a", "1")
    with box.fork() as child:
        child.write("b", "2")
        with child.fork() as grandchild:
            grandchild.write("c", "3")
            equal([grandchild.read(name) for name in "abc"], ["1", "2", "3"])
            _round = grandchild.checkpoint()
            equal(len(_round.parents), 2)
