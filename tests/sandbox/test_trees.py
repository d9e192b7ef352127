"""Trees as agents nest them: captured within bounds that are named, and removed however deep they are."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.layers import capture as capturing
from swebench_lab.sandbox.layers.pack import pack
from swebench_lab.sandbox.layers.remove import LEASE, clear, remove
from swebench_lab.sandbox.layers.tree import MOST_DEPTH
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance

NEST = "import os\nfor i in range({depth}):\n    os.mkdir('d'); os.chdir('d')\nopen('leaf', 'w').close()\n"


def nest(folder: Path, depth: int) -> None:
    """Make directories inside each other, deeper than any one name of them can be."""
    subprocess.run([sys.executable, "-c", NEST.format(depth=depth)], cwd=folder, check=True)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As in a process that may open few files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 12
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- removing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["remove", "clear"])
def test_a_tree_of_any_depth_goes_with_a_handful_of_descriptors(
    tmp_path: Path, how: str, few_descriptors: None
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    nest(tree, 3000)
    (tree / "wide").mkdir()
    for number in range(200):
        (tree / "wide" / str(number)).write_text("x")
    (tree / "away").symlink_to(tmp_path)
    gc.collect()  # what the tests before left open is closed now and not in between
    opened = len(os.listdir("/proc/self/fd"))
    if how == "remove":
        assert remove(str(tree)) == 3000 + 1 + 200 + 1 + 1 + 1
        assert remove(str(tree)) == 0
    else:
        parent = os.open(tmp_path, os.O_RDONLY)
        assert clear(parent, "tree") and clear(parent, "tree")
        os.close(parent)
    assert not tree.exists() and tmp_path.exists()
    assert len(os.listdir("/proc/self/fd")) <= opened


def test_a_lease_is_the_last_file_to_go(tmp_path: Path) -> None:
    """One who is stopped over a folder leaves what says whose it is."""
    tree = tmp_path / "tree"
    (tree / "mounted").mkdir(parents=True)
    (tree / LEASE).write_text("")
    (tree / "a").write_text("")
    script = f"""
        import os
        from swebench_lab.sandbox.layers import remove
        def unlink(name, *a, real=os.unlink, **k):
            print(name, flush=True)
            real(name, *a, **k)
        os.unlink = unlink
        remove.remove({str(tree)!r})
    """
    order = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert order.stdout.split()[-1] == LEASE


def test_a_tree_without_any_rights_goes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed/inner").mkdir(parents=True)
    (tree / "closed/inner/f").write_text("")
    (tree / "closed/inner").chmod(0)
    (tree / "closed").chmod(0)
    remove(str(tree))
    assert not tree.exists()


# --- capturing -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def snapshot():  # type: ignore[no-untyped-def]
    with conformance.reference_snapshot() as snapshot:
        yield snapshot


@pytest.mark.parametrize("depth", [MOST_DEPTH + 50, 3000, 12_000])
def test_a_box_that_nests_too_deep_is_told_so_and_lives_on(snapshot, depth: int) -> None:  # type: ignore[no-untyped-def]
    with open_namespace(snapshot) as box:
        box.write("before", "1")
        box.checkpoint()
        box.run(["python3", "-c", NEST.format(depth=depth)], timeout=60)
        began = time.monotonic()
        with pytest.raises(SandboxError, match=rf"the box has written directories nested deeper than {MOST_DEPTH}"):
            box.checkpoint()
        assert time.monotonic() - began < 20
        store = box._store.folder
        assert not [path for path in store.iterdir() if path.name.startswith(".draft-")]
        assert box.run("rm -rf d && echo still here").output == "still here\n"
        layer = box.checkpoint()
        with box.fork(at=layer) as fork:
            assert fork.read("before") == "1"


def test_a_depth_that_a_layer_holds_comes_back(snapshot, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with open_namespace(snapshot) as box:
        box.run(["python3", "-c", NEST.format(depth=MOST_DEPTH - 10)])
        layer = box.checkpoint()
        layer.pack(tmp_path / "layer.tar.gz")
        with box.fork(at=layer) as fork:
            assert fork.run("find . -name leaf | wc -l").output == "1\n"
    again = type(layer).unpack(tmp_path / "layer.tar.gz", tmp_path / "store")
    assert again.digest == layer.digest


@pytest.mark.parametrize(
    "bounds, reason",
    [
        (capturing.Bounds(entries=20), "more than 20 files and directories"),
        (capturing.Bounds(names=100), "paths of more than"),
        (capturing.Bounds(seconds=-1.0), "can be copied in"),
        (capturing.Bounds(depth=2), "nested deeper than 2"),
    ],
    ids=["entries", "names", "seconds", "depth"],
)
def test_every_bound_of_a_layer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: capturing.Bounds, reason: str
) -> None:
    monkeypatch.setattr(capturing, "BOUNDS", bounds)
    upper = tmp_path / "upper"
    (upper / "a/b/c").mkdir(parents=True)
    for number in range(30):
        (upper / f"file{number}").write_text("x")
    gc.collect()  # what the tests before left open is closed now and not in between
    opened = len(os.listdir("/proc/self/fd"))
    directory, memory = os.open(upper, os.O_RDONLY), os.memfd_create("seen")
    try:
        with pytest.raises(OSError, match="the box has written") as caught:
            capturing.capture(directory, memory, str(tmp_path / "layer"), ())
        assert reason in str(caught.value)
    finally:
        os.close(directory)
        os.close(memory)
    assert len(os.listdir("/proc/self/fd")) <= opened, "nothing stays open after a refusal"


def test_a_file_with_holes_is_packed_without_being_held_in_memory(tmp_path: Path) -> None:
    """Half a gigabyte of blocks between holes, by a process that may have a quarter of that."""
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/sparse").open("wb") as file:
        for place in range(0, 1 << 30, 1 << 17):
            file.seek(place)
            file.write(b"\1" * (1 << 16))
    script = f"""
        import resource
        from swebench_lab.sandbox.layers.pack import pack
        resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))
        with open({str(tmp_path / "packed")!r}, "wb") as file:
            pack(file.fileno(), {str(tmp_path / "tree")!r}, 1)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert (tmp_path / "packed").stat().st_size < 20 << 20


def test_equal_trees_are_packed_to_equal_bytes(tmp_path: Path) -> None:
    packed = []
    for name in ("one", "two"):
        tree = tmp_path / name
        (tree / "d").mkdir(parents=True)
        (tree / "d/f").write_text("x")
        os.link(tree / "d/f", tree / "d/g")
        for path in ("d/f", "d"):
            os.utime(tree / path, ns=(1, 1))
        with (tmp_path / f"{name}.tar.gz").open("wb") as file:
            assert pack(file.fileno(), str(tree)) == 3
        packed.append((tmp_path / f"{name}.tar.gz").read_bytes())
    assert packed[0] == packed[1]


# --- killed clients ------------------------------------------------------------------------------------------------


def test_a_killed_client_leaves_no_tree_however_deep() -> None:
    """With the scratch on a disk, so that trees are there to be left; boxes beside the deep one leave nothing either."""
    with tempfile.TemporaryDirectory(prefix="swebench-lab-test-scratch-") as scratch:
        script = f"""
            import os, signal
            from pathlib import Path
            from swebench_lab.sandbox.namespace.sandbox import open_namespace
            from swebench_lab.testing import conformance
            with conformance.reference_snapshot() as snapshot:
                one, other = (open_namespace(snapshot, scratch=Path({scratch!r})) for _ in range(2))
                other.write("/tmp/of-the-other", "x")
                one.run(["python3", "-c", {NEST.format(depth=1200)!r}], timeout=60)
                print(len(os.listdir({scratch!r})), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL and int(done.stdout) > 0, done.stderr[-2000:]
        deadline = time.monotonic() + 20
        while os.listdir(scratch) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert os.listdir(scratch) == []
