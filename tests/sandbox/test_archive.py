"""Archives that were written to do harm: every way to unpack one writes below its target, or refuses, and nowhere else."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swebench_lab.errors import LabError, SandboxError
from swebench_lab.sandbox.checkpoints import Layer, run_task
from swebench_lab.sandbox.docker import changes as docker_changes
from swebench_lab.sandbox.layers import archive, source
from swebench_lab.sandbox.layers.packed_layer import read_packed
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.transfer import ship

FILE, DIR, LINK, HARD, FIFO, CHAR = (
    tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
)  # fmt: skip
SECRET = "the host's own"


@dataclass
class Member:
    """One member of an archive; `{out}` in its names is the absolute path of a folder of the host."""

    name: str
    kind: bytes = FILE
    to: str = ""
    content: bytes = b"x"
    mode: int = 0o755
    headers: dict[str, str] = field(default_factory=dict)

    def info(self, out: Path, prefix: str) -> tarfile.TarInfo:
        def placed(name: str) -> str:
            name = name.replace("{out}", str(out))
            return name if name.startswith("/") else f"{prefix}{name}"

        info = tarfile.TarInfo(placed(self.name))
        info.type, info.mode, info.pax_headers = self.kind, self.mode, dict(self.headers)
        info.linkname = placed(self.to) if self.kind == HARD else self.to.replace("{out}", str(out))
        info.size = len(self.content) if self.kind == FILE else 0
        return info


def tar(members: list[Member], out: Path, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for member in members:
            info = member.info(out, prefix)
            packed.addfile(info, io.BytesIO(member.content) if info.size else None)
    return buffer.getvalue()


# --- every way to unpack -------------------------------------------------------------------------------------------


class Way:
    """One public way to unpack an archive: what it is given, where it writes, how it refuses."""

    prefix = ""
    errors: tuple[type[BaseException], ...] = (OSError,)
    keeps_set_id = False
    skips = False

    def unpack(self, plain: bytes, home: Path) -> Path:
        raise NotImplementedError

    def __repr__(self) -> str:
        return type(self).__name__


class StepLayer(Way):
    """`Layer.unpack`: the packed layers of a run directory."""

    errors = (SandboxError,)
    keeps_set_id = True  # in a store that is closed to other users, for boxes that give no rights for it

    def unpack(self, plain: bytes, home: Path) -> Path:
        (home / "l.tar.gz").write_bytes(gzip.compress(plain))
        return Layer.unpack(home / "l.tar.gz", home / "store").path


class SharedPack(Way):
    """The task by which packs of another user are unpacked."""

    def unpack(self, plain: bytes, home: Path) -> Path:
        (home / "p.tar.gz").write_bytes(gzip.compress(plain))
        with (home / "p.tar.gz").open("rb") as file:
            run_task("unpack", [file.fileno()], target=str(home / "unpacked"), mine=True)
        return home / "unpacked"


class ImageLayer(Way):
    """A layer of a container image."""

    errors = (LabError,)

    def unpack(self, plain: bytes, home: Path) -> Path:
        digest = "sha256:" + hashlib.sha256(plain).hexdigest()
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest]}, "config": {}}).encode()
        manifest = json.dumps([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["0.tar"]}]).encode()
        with tarfile.open(home / "image.tar", "w") as image:
            for name, content in {"0.tar": plain, "config.json": config, "manifest.json": manifest}.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                image.addfile(info, io.BytesIO(content))
        return oci.open_image(str(home / "image.tar"), home / "cache").layers[0]


class Shipment(Way):
    """A Snapshot that another machine sent."""

    prefix = "metadata/part/"
    errors = (LabError,)

    def unpack(self, plain: bytes, home: Path) -> Path:
        marker = tar([Member("complete.json", content=b"{}")], home, self.prefix)
        ship.unpack(SnapshotCache(home / "cache"), marker.rstrip(b"\0").ljust(1024 + 512, b"\0")[:1024] + plain)
        return home / "cache/metadata/part"


class Overlaid(Way):
    """The process in a container that lays a packed layer over its files: here, over those of a folder."""

    keeps_set_id = True  # they are a box's own, in the box

    def unpack(self, plain: bytes, home: Path) -> Path:
        if os.geteuid() != 0:
            pytest.skip("changing the root directory takes root")
        root = home / "root"
        root.mkdir()
        answer, question = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = "done"
            try:
                os.chroot(root)
                os.chdir("/")
                docker_changes.apply(io.BytesIO(gzip.compress(plain)))
            except OSError as error:
                said = f"refused: {error.strerror or error}"
            except BaseException as error:
                said = f"crashed: {error!r}"
            os.write(question, said.encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(question)
        with os.fdopen(answer) as file:
            said = file.read()
        assert said == "done" or said.startswith("refused"), said
        if said != "done":
            raise OSError(said)
        return root


class Download(Way):
    """What a box sends when a directory of it is downloaded."""

    skips = True

    def unpack(self, plain: bytes, home: Path) -> Path:
        archive.unpack_download(io.BytesIO(plain), str(home / "downloaded"))
        return home / "downloaded"


class Reading(Way):
    """A packed layer that is looked into without unpacking."""

    errors = (SandboxError,)
    keeps_set_id = True

    def unpack(self, plain: bytes, home: Path) -> Path:
        (home / "l.tar.gz").write_bytes(gzip.compress(plain))
        layer = read_packed(home / "l.tar.gz")
        assert not any(path.startswith("/") or ".." in path.split("/") for path in layer.kinds)
        (home / "nothing").mkdir()
        return home / "nothing"


WAYS: list[Way] = [StepLayer(), SharedPack(), ImageLayer(), Shipment(), Overlaid(), Download(), Reading()]

DEEP = "d/" * 400
HOSTILE: dict[str, list[Member]] = {
    "an absolute name": [Member("{out}/planted")],
    "dots": [Member("../planted")],
    "many dots": [Member("../" * 60 + "tmp/planted")],
    "inner dots": [Member("a", DIR), Member("a/../../planted")],
    "only dots": [Member("..", DIR)],
    "through a link": [Member("l", LINK, "{out}"), Member("l/planted")],
    "through a link to the parent": [Member("l", LINK, ".."), Member("l/planted")],
    "through two links": [Member("a", DIR), Member("a/b", LINK, ".."), Member("c", LINK, "a/b/.."), Member("c/planted")],
    "over a link": [Member("l", LINK, "{out}/secret"), Member("l", content=b"overwritten")],
    "a directory replaced by a link": [Member("d", DIR), Member("d/a"), Member("d", LINK, "{out}"), Member("d/planted")],
    "a directory over a link": [Member("d", LINK, "{out}"), Member("d", DIR, mode=0o777), Member("d/inside")],
    "a deletion through a link": [
        Member("l", LINK, "{out}"), Member("l/.wh.secret", headers={"LAB.mark": "deleted"}, content=b""),
    ],
    "a mark through a link": [
        Member("l", LINK, "{out}"), Member("l/.wh..wh..opq", headers={"LAB.mark": "opaque"}, content=b""),
    ],
    "a hard link out": [Member("h", HARD, "{out}/secret")],
    "a hard link up": [Member("h", HARD, "../" * 60 + "etc/passwd")],
    "a hard link through a link": [Member("l", LINK, "{out}"), Member("h", HARD, "l/secret")],
    "a hard link to a link": [Member("l", LINK, "{out}/secret"), Member("h", HARD, "l"), Member("h", content=b"over")],
    "a hard link to a file that became a link": [
        Member("f"), Member("f", LINK, "{out}/secret"), Member("h", HARD, "f"), Member("h", content=b"over"),
    ],
    "a hard link to nothing": [Member("h", HARD, "none")],
    "a hard link to itself": [Member("h", HARD, "h")],
    "a device": [Member("null", CHAR)],
    "a set-user-id file": [Member("f", mode=0o4755), Member("g", mode=0o2755), Member("t", mode=0o1755)],
    "a set-group-id directory": [Member("d", DIR, mode=0o6777), Member("d/f")],
    "a name that is too long": [Member("n" * 256)],
    "a folder's name that is too long": [Member("n" * 300, DIR), Member("n" * 300 + "/f")],
    "a name nested too deep": [*(Member(DEEP[: 2 * n - 1], DIR) for n in range(1, 401)), Member(DEEP + "f")],
    "a name twice": [Member("f", content=b"1"), Member("f", content=b"2")],
    "a file, then a directory": [Member("f"), Member("f", DIR), Member("f/g")],
    "a file as a directory": [Member("f"), Member("f/g")],
    "a link that is too long": [Member("l", LINK, "x/" * 3000)],
    "a link to nothing": [Member("l", LINK, "")],
    "holes in false places": [Member("f", headers={"LAB.sparse": "5 -70000"})],
    "holes that are not numbers": [Member("f", headers={"LAB.sparse": "five"})],
    "more blocks than places": [Member("f", content=b"x" * 200_000, headers={"LAB.sparse": "300000 0"})],
    "a time out of range": [Member("f", headers={"LAB.time": "9" * 40, "mtime": "1e300"})],
    "a time that is none": [Member("f", headers={"LAB.time": "soon", "mtime": "nan"})],
    "a mark out of place": [Member(".wh..wh..opq", headers={"LAB.mark": "opaque"}, content=b"")],
    "a deletion of dots": [Member(".wh...", headers={"LAB.mark": "deleted"}, content=b"")],
}  # fmt: skip
"""What each must not do is reach the host; the tables below say who has to refuse it, and where it may arrive."""

ARRIVES = {"a set-user-id file", "a set-group-id directory"}
"""Harmless once masked: has to arrive everywhere."""

REPLACED = {"over a link", "a directory over a link", "a name twice", "a file, then a directory"}
"""Where later entries replace earlier ones, the link goes and what is written lands inside."""

HARMLESS: dict[type[Way], set[str]] = {
    ImageLayer: {"an absolute name", "a device", "holes in false places", "holes that are not numbers",
                 "more blocks than places", "a mark out of place", *REPLACED},
    Overlaid: REPLACED,
    Shipment: set(),
    # Reading opens no name at all, so that only what no layer may be called is refused.
    Reading: set(HOSTILE) - {"an absolute name", "dots", "many dots", "inner dots", "a device", "a name nested too deep",
                             "a name that is too long", "a folder's name that is too long", "a hard link out",
                             "a hard link up", "holes in false places", "holes that are not numbers",
                             "a time that is none"},
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of the host, beside the one in which everything is unpacked."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    return folder


def check_host(tmp_path: Path, out: Path) -> None:
    """Nothing outside has changed."""
    assert sorted(path.name for path in out.iterdir()) == ["secret"]
    status = (out / "secret").stat()
    assert (out / "secret").read_text() == SECRET and status.st_nlink == 1
    assert not stat.S_IMODE(status.st_mode) & 0o7111 and stat.S_IMODE(out.stat().st_mode) & 0o7000 == 0
    assert Path("/etc/passwd").stat().st_nlink == 1
    assert not os.path.lexists(tmp_path / "planted") and not os.path.lexists("/tmp/planted")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "out"}


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_reaches_nothing_outside(way: Way, case: str, tmp_path: Path, out: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    refused = None
    try:
        target = way.unpack(tar(HOSTILE[case], out, way.prefix), home)
    except way.errors as error:
        refused = error
        assert str(error).strip(), "a refusal says why"
    check_host(tmp_path, out)
    if case in ARRIVES:
        assert refused is None
    elif case not in HARMLESS.get(type(way), set()) and not way.skips:
        assert refused is not None, "it was not refused"
    if refused is None:
        check_tree(target, way)


def check_tree(target: Path, way: Way) -> None:
    """What was unpacked holds nothing that harms whoever uses it."""
    inode = {(status.st_dev, status.st_ino) for status in (Path("/etc/passwd").stat(),)}
    for path in target.rglob("*"):
        status = path.lstat()
        assert (status.st_dev, status.st_ino) not in inode
        assert not stat.S_ISBLK(status.st_mode)
        assert not stat.S_ISCHR(status.st_mode) or status.st_rdev == 0
        if not way.keeps_set_id and not stat.S_ISLNK(status.st_mode):
            assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID), path
            assert stat.S_ISDIR(status.st_mode) or not status.st_mode & stat.S_ISVTX, path
        if way.skips and path.is_symlink():
            assert path.resolve().is_relative_to(target.resolve())


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_an_honest_archive_arrives(way: Way, tmp_path: Path, out: Path) -> None:
    odd = "new\nline \udcff\t"
    members = [
        Member("d", DIR), Member("d/f", content=b"content"), Member("d/h", HARD, "d/f"), Member("d/l", LINK, "f"),
        Member(odd, content=b"odd"), Member("e", DIR, mode=0o700), Member("e/.whatever"), Member("n" * 255, content=b""),
    ]  # fmt: skip
    home = tmp_path / "home"
    home.mkdir()
    target = way.unpack(tar(members, out, way.prefix), home)
    check_host(tmp_path, out)
    if isinstance(way, Reading):
        layer = read_packed(home / "l.tar.gz")
        assert layer.contents["d/h"] == b"content" and odd in layer.kinds
        return
    assert (target / "d/f").read_bytes() == (target / "d/h").read_bytes() == b"content"
    assert (target / "d/h").samefile(target / "d/f") is not way.skips, "hard links stay, but for downloads"
    assert os.readlink(target / "d/l") == "f" and (target / odd).read_bytes() == b"odd"
    assert (target / ("n" * 255)).read_bytes() == b"" and (target / "e/.whatever").read_bytes() == b"x"


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda plain: b"",
    "no archive": lambda plain: b"no archive at all" * 100,
    "cut in a header": lambda plain: plain[:700],
    "cut in a content": lambda plain: plain[: plain.index(b"yyyy") + 100],
    "a false checksum in the middle": lambda plain: plain.replace(b"second", b"sEcond", 1),
    "a size below zero": lambda plain: plain.replace(b"00000020000", b"\xff" * 11, 1),
}


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_archive_is_refused(way: Way, case: str, tmp_path: Path, out: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    members = [Member("first"), Member("long", content=b"y" * 0o20000), Member("second"), Member("third")]
    plain = tar(members, out, way.prefix)
    if case == "nothing" and isinstance(way, Shipment):
        return  # its marker alone is a whole archive
    with pytest.raises(way.errors):
        way.unpack(DAMAGED[case](plain), home)
    check_host(tmp_path, out)


@pytest.mark.parametrize("way", [way for way in WAYS if not isinstance(way, ImageLayer)], ids=repr)
@pytest.mark.parametrize("end", [b"", b"\0" * 300], ids=["no end", "half an end"])
def test_an_archive_without_its_end_is_refused(way: Way, end: bytes, tmp_path: Path, out: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    plain = tar([Member("first"), Member("second")], out, way.prefix)
    with pytest.raises(way.errors):
        way.unpack(plain.rstrip(b"\0") + b"\0" * 511 + end if end else plain[: -(len(plain) % 10240 or 10240)], home)


# --- bombs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_a_header_that_fills_the_memory_is_refused(way: Way, tmp_path: Path, out: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bomb = Member("f", headers={"comment": "x" * (source.MOST_HEADER + 1)})
    with pytest.raises(way.errors, match="header"):
        way.unpack(tar([bomb], out, way.prefix), home)


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_a_long_row_of_headers_is_refused(way: Way, tmp_path: Path, out: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1
    with pytest.raises(way.errors):
        way.unpack((name.tobuf() + b"x".ljust(512, b"\0")) * 20_000 + tar([Member("f")], out, way.prefix), home)


RULES = {rules.doing: rules for rules in (archive.LAYER, archive.OWN, archive.PARTS, archive.IMAGE, archive.OVERLAID,
                                          archive.DOWNLOAD)}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bound", ["most_bytes", "most_entries"])
def test_a_bomb_ends_at_the_bounds_of_its_kind(name: str, bound: str, tmp_path: Path, out: Path) -> None:
    few = archive.Rules(**{**RULES[name].__dict__, bound: 4})
    prefix = "trees/" if few.first_names else ""
    parents = [Member("", DIR)] if prefix else []
    exact = tar([*parents, *(Member(f"f{number}") for number in range(4 - len(parents)))], out, prefix)
    archive.extract_new(io.BytesIO(exact), str(tmp_path / "exact"), few)
    more = tar([*parents, *(Member(f"f{number}") for number in range(9))], out, prefix)
    with pytest.raises(OSError, match="more than 4"):
        archive.extract_new(io.BytesIO(more), str(tmp_path / "more"), few)
    assert len(list((tmp_path / "more").rglob("f?"))) <= 4


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_every_kind_has_bounds(rules: archive.Rules) -> None:
    assert 0 < rules.most_bytes <= 256 << 30 and 0 < rules.most_entries <= 4_000_000
    assert not rules.file_modes & 0o7000 or rules.style.owners, "rights are only kept for boxes"


# --- exports, whose entries are a list -----------------------------------------------------------------------------

TEXT = b"a content"
DIGEST = hashlib.sha256(TEXT).hexdigest()


def export(home: Path, *entries: list[object], extra: bytes = TEXT) -> Path:
    """A file as `SnapshotCache.export` writes it, of one part."""
    part = {"marker": {}, "entries": list(entries)}
    index = {"schema": 1, "snapshots": [], "parts": {"metadata/part": part}}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in {"index.json": json.dumps(index).encode(), DIGEST: extra}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    file = home / "export.tar.xz"
    file.write_bytes(lzma.compress(buffer.getvalue()))
    return file


HOSTILE_ENTRIES: dict[str, list[list[object]]] = {
    "an absolute name": [["file", "{out}/planted", 0o644, 1, DIGEST]],
    "dots": [["file", "../../../../../planted", 0o644, 1, DIGEST]],
    "inner dots": [["dir", "a", 0o755, 1, False], ["file", "a/../../../../../planted", 0o644, 1, DIGEST]],
    "through a link": [["link", "l", 0, 1, "{out}"], ["file", "l/planted", 0o644, 1, DIGEST]],
    "a directory through a link": [["link", "l", 0, 1, "{out}"], ["dir", "l/planted", 0o755, 1, True]],
    "a deletion through a link": [["link", "l", 0, 1, "{out}"], ["deleted", "l/planted", 0, 0, ""]],
    "over a link": [["link", "l", 0, 1, "{out}/secret"], ["file", "l", 0o777, 1, DIGEST]],
    "a directory over a link": [["link", "l", 0, 1, "{out}"], ["dir", "l", 0o6777, 1, True]],
    "a content from elsewhere": [["file", "f", 0o644, 1, "{out}/secret"]],
    "a content with dots": [["file", "f", 0o644, 1, "../../../out/secret"]],
    "an unknown kind": [["device", "f", 0o644, 1, DIGEST]],
    "a kind that is a method": [["__class__", "f", 0o644, 1, DIGEST]],
    "a name that is too long": [["file", "n" * 256, 0o644, 1, DIGEST]],
    "a name that no file has": [["file", "a\0b", 0o644, 1, DIGEST]],
    "a name of half a character": [["file", "\ud800", 0o644, 1, DIGEST]],
    "a name nested too deep": [["dir", DEEP[: 2 * n - 1], 0o755, 1, False] for n in range(1, 401)],
    "a name twice": [["file", "f", 0o644, 1, DIGEST], ["file", "f", 0o644, 1, DIGEST]],
    "no name": [["file", "", 0o644, 1, DIGEST]],
    "a number for a name": [["file", 5.5, "all", 1, DIGEST]],
    "too few values": [["file", "f"]],
    "a time out of range": [["file", "f", 0o644, 10**40, DIGEST]],
}


@pytest.mark.parametrize("case", HOSTILE_ENTRIES)
def test_a_hostile_export_reaches_nothing_outside(case: str, tmp_path: Path, out: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    entries = json.loads(json.dumps(HOSTILE_ENTRIES[case]).replace("{out}", str(out)))
    with pytest.raises(LabError, match="importing"):
        SnapshotCache(home / "cache").import_from(export(home, *entries))
    check_host(tmp_path, out)
    assert not list((home / "cache").glob("metadata/[!.]*")), "nothing half-made is seen"


def test_an_import_takes_set_user_id_bits_away(tmp_path: Path) -> None:
    entries = [["dir", "d", 0o7755, 1, False], ["file", "d/f", 0o6755, 1, DIGEST], ["file", "t", 0o1644, 1, DIGEST]]
    cache = SnapshotCache(tmp_path / "cache")
    cache.import_from(export(tmp_path, *entries))
    part = cache.root / "metadata/part"
    modes = {name: stat.S_IMODE((part / name).stat().st_mode) for name in ("d", "d/f", "t")}
    assert modes == {"d": 0o1755, "d/f": 0o755, "t": 0o644}


def test_a_tree_with_set_user_id_files_can_still_be_moved(tmp_path: Path) -> None:
    """Its digest does not count the bits that no copy has."""
    from swebench_lab.snapshots.storage import store
    from swebench_lab.snapshots.transfer import export as exports

    here, there = tmp_path / "here", tmp_path / "there"

    def build(folder: Path) -> dict[str, str]:
        (folder / "layer/d").mkdir(parents=True)
        (folder / "layer/d/f").write_text("text")
        (folder / "layer/d/f").chmod(0o4755)
        (folder / "layer/d").chmod(0o2755)
        return {"digest": store.digest_tree(folder / "layer")}

    store.build_once(here / "trees/part", build)
    exports.write(here, [], [here / "trees/part"], tmp_path / "export")
    exports.read(there, tmp_path / "export")
    assert stat.S_IMODE((there / "trees/part/layer/d/f").stat().st_mode) == 0o755
    assert stat.S_IMODE((there / "trees/part/layer/d").stat().st_mode) == 0o755


def test_a_false_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="digest"):
        SnapshotCache(tmp_path / "cache").import_from(export(tmp_path, ["file", "f", 0o644, 1, DIGEST], extra=b"false"))


# --- downloads, into a folder that somebody uses -------------------------------------------------------------------


def test_a_download_leaves_folders_and_replaces_files_and_links(tmp_path: Path, out: Path) -> None:
    target = tmp_path / "target"
    (target / "folder").mkdir(parents=True)
    (target / "folder/mine").write_text("mine")
    (target / "folder").chmod(0o700)
    (target / "old").write_text("old")
    (target / "away").symlink_to(out / "secret")
    members = [Member("folder", content=b"no folder"), Member("folder", DIR, mode=0o777), Member("old", content=b"new"),
               Member("away", content=b"inside")]  # fmt: skip
    assert archive.unpack_download(io.BytesIO(tar(members, out)), str(target)) == 1
    assert (target / "folder/mine").read_text() == "mine" and stat.S_IMODE((target / "folder").stat().st_mode) == 0o700
    assert (target / "old").read_bytes() == b"new" and (target / "away").read_bytes() == b"inside"
    assert (out / "secret").read_text() == SECRET
