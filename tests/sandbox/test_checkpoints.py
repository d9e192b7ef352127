"""Checkpoints as things: digests, packing, damaged and hostile archives, stores that forget what nobody holds."""

import gc
import io
import os
import tarfile
from pathlib import Path

import pytest

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.checkpoints import MOST_LAYERS, Layer, LayerStore, passing_store
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.testing import conformance


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        yield made


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as packed:
        for member, content in members:
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **headers: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, 0o755
    made.pax_headers = headers
    return made


def test_equal_changes_have_equal_digests(snapshot):
    change = "mkdir d; echo 1 > d/f; touch -d 2001-01-01 d/f; rm README.md"
    with open_namespace(snapshot) as one, open_namespace(snapshot) as two, open_namespace(snapshot) as three:
        one.run(change)
        two.run(f"echo 1 > other; {change}; rm other")
        three.run(f"{change}; chmod 600 d/f")
        digests = [box.checkpoint().digest for box in (one, two, three)]
    assert digests[0] == digests[1] != digests[2]


def test_a_layer_tells_what_it_is(snapshot):
    with open_namespace(snapshot) as box:
        box.write("f", "12345")
        layer = box.checkpoint()
        assert ("file", "testbed/f") in layer.entries
        assert layer.size == 5
        assert "no processes" in repr(layer)


def test_a_store_finds_chains_again(snapshot, tmp_path):
    store = LayerStore(tmp_path / "store")
    with open_namespace(snapshot, store=store) as box:
        for number in range(3):
            box.write("f", str(number))
            box.checkpoint()
        digests = [layer.digest for layer in box.layers]
    layers = LayerStore(tmp_path / "store").chain(digests)
    assert [layer.parents for layer in layers] == [(), tuple(digests[:1]), tuple(digests[:2])]
    with open_namespace(snapshot, layers=layers[:2], store=store) as box:
        assert box.read("f") == "1"
    store.remove(digests[0])
    with pytest.raises(SandboxError, match=digests[0]):
        store.get(digests[0])


def test_a_store_is_closed_to_others(tmp_path):
    LayerStore(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_layers_that_nobody_holds_are_removed(snapshot):
    store = passing_store()
    before = {path.name for path in store.folder.iterdir()}
    with open_namespace(snapshot) as box:
        for number in range(70):
            box.write("f", f"gone {number}")
            last = box.checkpoint()
        kept = box.fork(at=last)
    del box, last
    gc.collect()
    for number in range(2):
        kept.write("g", str(number))
        kept.checkpoint()
    assert kept.read("f") == "gone 69"
    with kept.fork() as again:
        assert again.read("f") == "gone 69"
    kept.close()
    del kept, again
    gc.collect()
    with open_namespace(snapshot) as box:
        box.write("h", "1")
        box.checkpoint()
        box.write("h", "2")
        box.checkpoint()
        left = {path.name for path in store.folder.iterdir()} - before
    assert len(left) < 20, left


def test_long_histories_are_shortened_and_share_their_runs(snapshot, tmp_path):
    store = LayerStore(tmp_path / "store")
    with open_namespace(snapshot, store=store) as box:
        for number in range(MOST_LAYERS + 20):
            box.write(f"f{number}", str(number))
            box.checkpoint()
        shortened = store.shortened(box.layers)
        assert len(shortened) <= MOST_LAYERS
        assert store.shortened(box.layers[:-1])[0].digest == shortened[0].digest
        first = next(path for kind, path in shortened[0].entries if kind == "file")
        assert (shortened[0].path / first).stat().st_nlink > 1, "merged layers share their files"


@pytest.mark.parametrize(
    "members",
    [
        [(member("../out"), b"x")],
        [(member("/tmp/out"), b"x")],
        [(member("a/../../out"), b"x")],
        [(member("l", tarfile.SYMTYPE, "/tmp"), b""), (member("l/out"), b"x")],
        [(member("l", tarfile.SYMTYPE, "/etc"), b""), (member("h", tarfile.LNKTYPE, "l/passwd"), b"")],
        [(member("h", tarfile.LNKTYPE, "../../../etc/passwd"), b"")],
        [(member("h", tarfile.LNKTYPE, "l", **{"LAB.inode": "/etc/passwd"}), b"")],
        [(member("dev", tarfile.CHRTYPE), b"")],
        [(member("no/parent"), b"x")],
        [(member("f"), b"x"), (member("f"), b"y")],
    ],
    ids=[
        "climb",
        "absolute",
        "dots",
        "through a link",
        "link to a link",
        "link out",
        "false inode",
        "device",
        "orphan",
        "twice",
    ],
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path, members):
    passwd = Path("/etc/passwd").stat()
    packed = archive(tmp_path / "packed.tar.gz", *members)
    try:
        layer = Layer.unpack(packed, tmp_path / "store")
    except SandboxError:
        assert not list((tmp_path / "store").iterdir()), "nothing half-made is left"
    else:
        assert all((layer.path / path).lstat().st_ino != passwd.st_ino for _, path in layer.entries)
    assert not Path("/tmp/out").exists() and not (tmp_path / "out").exists()
    assert Path("/etc/passwd").stat().st_nlink == passwd.st_nlink


def test_a_damaged_archive_is_an_error(tmp_path):
    packed = archive(tmp_path / "packed.tar.gz", (member("f"), b"x" * 10_000))
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(SandboxError, match="unpack a layer"):
        Layer.unpack(packed, tmp_path / "store")
    packed.write_bytes(b"no archive at all")
    with pytest.raises(SandboxError, match="unpack a layer"):
        Layer.unpack(packed, tmp_path / "store")


def test_set_user_id_files_of_a_layer_are_out_of_reach(snapshot):
    with open_namespace(snapshot) as box:
        box.run("cp /bin/true evil; chmod 4755 evil")
        layer = box.checkpoint()
        place = layer.path
        assert any(folder.stat().st_mode & 0o077 == 0 for folder in (place, *place.parents))
        assert os.stat(place / "testbed" / "evil").st_mode & 0o4000
