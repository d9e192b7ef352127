"""A disk that is full is a named error, loses nothing that was finished, and can be worked on once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxError, SandboxPathError
from swebench_lab.sandbox.checkpoints import LayerStore
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system of its own needs root")


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB and 200 files."""
    options = "size=2m,nr_inodes=200"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", str(tmp_path)]).returncode:
        pytest.skip("this root may not mount")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_checkpoint_that_does_not_fit_is_an_error_and_the_next_one_has_it_all(snapshot, small):
    store = LayerStore(small / "layers")
    with open_namespace(snapshot, store=store) as box:
        box.write("one", "1")
        first = box.checkpoint()
        box.run("head -c 5M /dev/urandom > big; echo 2 > two")
        with pytest.raises(SandboxError, match="No space left"):
            box.checkpoint()
        assert sorted(path.name for path in (small / "layers").iterdir()) == [first.digest, f"{first.digest}.json"]
        assert box.run("cat one two").output == "12\n"
        box.run("rm big")
        second = box.checkpoint()
        assert ("file", "testbed/two") in second.entries
        with box.fork(at=second) as other:
            assert other.run("cat one two").output == "12\n"


def test_a_disk_without_inodes_is_an_error_too(snapshot, small):
    store = LayerStore(small / "layers")
    with open_namespace(snapshot, store=store) as box:
        box.run("for i in $(seq 300); do touch f$i; done")
        with pytest.raises(SandboxError, match="No space left"):
            box.checkpoint()
        assert list((small / "layers").iterdir()) == []


def test_a_box_that_writes_to_a_full_disk_says_so_and_goes_on(snapshot, small):
    with open_namespace(snapshot, scratch=small) as box:
        full = box.run("head -c 5M /dev/urandom > big")
        assert (full.ok, full.limit) == (False, "disk")
        assert box.run("rm big; echo on").output == "on\n"
        with pytest.raises(SandboxPathError, match="No space left"):
            box.write("big", b"x" * 5_000_000)
        assert box.run("rm -f big; echo on > f; cat f").output == "on\n"


def test_a_box_cannot_be_opened_where_there_is_no_room(snapshot, small):
    made = []
    with pytest.raises(OSError):
        for number in range(300):
            (small / str(number)).touch()
            made.append(number)
    with pytest.raises(SandboxError, match="choose another scratch"):
        open_namespace(snapshot, scratch=small / "scratch")
    for number in made:
        (small / str(number)).unlink()
    with open_namespace(snapshot, scratch=small / "scratch") as box:
        assert box.run("echo on").output == "on\n"
