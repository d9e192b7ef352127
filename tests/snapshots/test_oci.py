"""Container images without an engine: unpacked by layer, shared, safe against hostile archives, and run as boxes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxUnavailable, SnapshotError
from swebench_lab.sandbox.docker.bundle import bundle
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.image import oci
from swebench_lab.testing import conformance
from tests.boxes import git
from tests.conftest import make_task


def layer(*members: tuple[str, str, object]) -> bytes:
    """A layer of (name, kind, content) with kinds file, dir, link, hard, char."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, kind, what in members:
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.mode = 1_700_000_000, 0o755 if kind == "dir" else 0o6644
            kinds = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}
            entry.type = kinds.get(kind, tarfile.CHRTYPE)
            if kind == "file":
                entry.size = len(str(what))
                archive.addfile(entry, io.BytesIO(str(what).encode()))
                continue
            entry.linkname = str(what) if kind in ("link", "hard") else ""
            archive.addfile(entry)
    return content.getvalue()


def image(
    path: Path, *layers: bytes, env: tuple[str, ...] = (), name: str = "made:1", config: dict[str, object] | None = None
) -> Path:
    """A file as `docker save` writes it."""
    diffs = ["sha256:" + hashlib.sha256(content).hexdigest() for content in layers]
    own = {"Env": list(env), **(config or {})}
    described = json.dumps({"rootfs": {"type": "layers", "diff_ids": diffs}, "config": own}).encode()
    files = {f"{number}/layer.tar": content for number, content in enumerate(layers)}
    listed = [{"Config": "config.json", "RepoTags": [name], "Layers": list(files)}]
    with tarfile.open(path, "w") as archive:
        for title, content in {**files, "config.json": described, "manifest.json": json.dumps(listed).encode()}.items():
            entry = tarfile.TarInfo(title)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def shown(layers: tuple[Path, ...], target: Path) -> dict[str, str]:
    """What the layers come to."""
    oci.lay_out(list(layers), target)
    return {str(p.relative_to(target)): p.read_text() for p in target.rglob("*") if p.is_file() and not p.is_symlink()}


def test_deletions_and_replaced_folders_are_honoured(tmp_path):
    below = layer(
        ("a", "file", "1"), ("d/x", "file", "2"), ("d/y", "file", "3"), ("e/z", "file", "4"), ("f/g", "file", "5")
    )
    above = layer(
        (".wh.a", "file", ""), ("d/new", "file", "6"), ("d/.wh..wh..opq", "file", ""), ("e/.wh.z", "file", ""),
        ("f", "file", "now a file"),
    )  # fmt: skip
    found = oci.open_image(str(image(tmp_path / "i.tar", below, above)), tmp_path / "cache")
    assert shown(found.layers, tmp_path / "all") == {"d/new": "6", "f": "now a file"}


def test_nothing_but_content_modes_and_times_is_kept(tmp_path):
    content = layer(("a", "file", "1"), ("b", "hard", "a"), ("c", "link", "/etc/passwd"), ("dev", "char", 0))
    found = oci.open_image(str(image(tmp_path / "i.tar", content)), tmp_path / "cache").layers[0]
    status = (found / "a").stat()
    assert stat.S_IMODE(status.st_mode) == 0o644 and status.st_mtime == 1_700_000_000 and status.st_uid == os.geteuid()
    assert (found / "b").stat().st_ino == status.st_ino and os.readlink(found / "c") == "/etc/passwd"
    assert not (found / "dev").exists()


@pytest.mark.parametrize(
    "members",
    [
        (("../out", "file", "x"),),
        (("a/../../out", "file", "x"),),
        (("d", "link", "{outside}"), ("d/out", "file", "x")),
        (("d", "link", ".."), ("d/d/out", "file", "x")),
        (("h", "hard", "../../secret"),),
        (("d", "link", "{outside}"), ("h", "hard", "d/secret")),
        (("d", "link", "{outside}"), ("d/.wh.secret", "file", "")),
        (("d", "link", "{outside}"), ("d/.wh..wh..opq", "file", "")),
        (("x/.wh...", "file", ""),),
    ],
    ids=["dots", "inner dots", "link", "link up", "hard dots", "hard link", "deletion", "opaque", "deleted dots"],
)
def test_a_hostile_layer_is_refused_and_leaves_nothing(tmp_path, members):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("host")
    named = [(name, kind, str(what).format(outside=outside)) for name, kind, what in members]
    with pytest.raises(SnapshotError, match="unpack a layer of an image"):
        oci.open_image(str(image(tmp_path / "i.tar", layer(*named))), tmp_path / "cache")
    assert sorted(p.name for p in outside.iterdir()) == ["secret"] and (outside / "secret").read_text() == "host"
    assert not list((tmp_path / "cache" / oci.KIND).iterdir())


def test_an_absolute_name_lands_inside(tmp_path):
    found = oci.open_image(str(image(tmp_path / "i.tar", layer(("/etc/x", "file", "1")))), tmp_path / "cache")
    assert (found.layers[0] / "etc/x").read_text() == "1"


def test_a_layer_that_is_not_what_it_says_is_refused(tmp_path):
    path = image(tmp_path / "i.tar", layer(("a", "file", "1")))
    path.write_bytes(path.read_bytes().replace(b"a" + bytes(99), b"b" + bytes(99)))
    with pytest.raises(SnapshotError, match=r"digest|archive|header"):
        oci.open_image(str(path), tmp_path / "cache")


def test_a_second_image_adds_only_its_own_layers(tmp_path):
    base = layer(("base", "file", "x" * 100_000))
    cache = tmp_path / "cache"
    first = oci.open_image(str(image(tmp_path / "1.tar", base, layer(("one", "file", "1")))), cache)
    second = oci.open_image(str(image(tmp_path / "2.tar", base, layer(("two", "file", "2")))), cache)
    assert first.layers[-1] == second.layers[-1] and len(list((cache / oci.KIND).iterdir())) == 3


def test_an_oci_layout_is_read(tmp_path):
    content = layer(("a", "file", "1"))
    folder = tmp_path / "layout"
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, str]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"digest": f"sha256:{name}"}

    import gzip

    diffs = [f"sha256:{hashlib.sha256(content).hexdigest()}"]
    config = blob(json.dumps({"rootfs": {"diff_ids": diffs}, "config": {"Env": ["A=b"]}}).encode())
    manifest = blob(json.dumps({"config": config, "layers": [blob(gzip.compress(content))]}).encode())
    (folder / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    found = oci.open_image(str(folder), tmp_path / "cache")
    assert found.env == {"A": "b"} and (found.layers[0] / "a").read_text() == "1"


def test_what_is_no_image_says_so(tmp_path):
    with pytest.raises(SnapshotError, match="no such file"):
        oci.open_image(str(tmp_path / "none.tar"), tmp_path / "cache")
    (tmp_path / "text").write_text("text")
    with pytest.raises(SnapshotError, match="no archive of an image"):
        oci.open_image(str(tmp_path / "text"), tmp_path / "cache")


@pytest.fixture
def task_image(tmp_path):
    """An image with a /testbed whose repository holds the future, and an interpreter of its own but no /usr."""
    work = tmp_path / "testbed"
    work.mkdir()
    (work / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (work / "test_calc.py").write_text("def test_zero():\n    pass\n")
    git(work, "init", "-q", "-b", "main")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "start")
    base = git(work, "rev-parse", "HEAD").strip()
    (work / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    git(work, "commit", "-qam", "the fix")
    git(work, "tag", "later")
    git(work, "reset", "-q", "--hard", base)
    (work / "built.so").write_text("built")
    (work / ".git" / "hooks").mkdir(exist_ok=True)
    (work / ".git" / "config").write_text("[core]\n\tfsmonitor = touch /tmp/swebench-lab-was-run\n")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(work, "testbed")
    packed = io.BytesIO(bundle().archive)
    interpreter = io.BytesIO()
    with tarfile.open(fileobj=packed) as source, tarfile.open(fileobj=interpreter, mode="w") as target:
        for member in source:
            file = source.extractfile(member) if member.isreg() else None
            member.name = f"python/{member.name}"
            target.addfile(member, file)
    path = image(tmp_path / "task.tar", interpreter.getvalue(), content.getvalue(), env=("PATH=/python/bin", "OWN=1"))
    spec = {"packages": [], "paths": []}
    return make_task(base_commit=base, source=f"image:{path}", spec=spec, hide_tests=False), tmp_path / "cache"


def test_the_history_of_an_image_is_sealed(task_image):
    task, cache = task_image
    snapshot = SnapshotCache(cache).build(task)
    assert "sealed at" in snapshot.meta["seal"] and ": 1 commit," in snapshot.meta["seal"]
    stored = b"".join(p.read_bytes() for p in snapshot.git_dir.rglob("*") if p.is_file())
    assert b"later" not in stored and b"the fix" not in stored and not Path("/tmp/swebench-lab-was-run").exists()
    assert snapshot.head == task.base_commit and snapshot.own_root
    again = SnapshotCache(cache)
    assert again.get(task) == snapshot and again.key(task) == snapshot.key
    assert again.verify(snapshot.key) == snapshot.meta["seal"]


def test_an_image_whose_head_is_beyond_the_task_is_refused(task_image, tmp_path):
    task, cache = task_image
    work = tmp_path / "testbed"
    git(work, "config", "core.fsmonitor", "false")
    for number in range(2):
        git(work, "commit", "-q", "--allow-empty", "-m", str(number))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(work, "testbed")
    path = image(tmp_path / "beyond.tar", content.getvalue())
    with pytest.raises(SnapshotError, match="2 commits beyond"):
        SnapshotCache(cache).build(make_task(base_commit=task.base_commit, source=f"image:{path}", spec=task.spec))


@pytest.mark.parametrize(
    "tier", ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]
)
def test_a_box_has_the_files_of_the_image_and_none_of_this_machine(task_image, tier):
    task, cache = task_image
    loader = Path(bundle().command[0]).name
    python = [f"/python/so/{loader}", "--library-path", "/python/so", "/python/bin/python3", "-I", "-S", "-c"]
    try:
        box = lab.SandboxFactory(tier, cache=cache).open(task)
    except SandboxUnavailable as error:
        pytest.skip(f"needs namespaces: {error}")
    with box:
        text = "import os; print(sorted(os.listdir('/testbed')), os.path.exists('/usr/bin/env'), os.environ['OWN'])"
        said = box.run([*python, text])
        assert said.output == "['.git', 'built.so', 'calc.py', 'test_calc.py'] False 1\n", said
        box.write("calc.py", "changed")
        assert box.read("calc.py") == "changed"
        held = box.checkpoint()
        assert ("file", "testbed/calc.py") in held.entries
        with box.fork(at=held) as other:
            assert other.read("calc.py") == "changed"


def test_other_backends_say_that_they_cannot(task_image):
    task, cache = task_image
    with (
        lab.SandboxFactory("landlock", cache=cache) as sandboxes,
        pytest.raises(SandboxUnavailable, match="'namespace' or"),
    ):
        sandboxes.open(task)


def test_pins_of_an_image_become_a_spec(tmp_path):
    site = "opt/miniconda3/envs/testbed/lib/python3.9/site-packages"
    content = layer(
        ("opt/miniconda3/envs/testbed/bin/python", "file", ""),
        (f"{site}/numpy-1.2.dist-info/METADATA", "file", "Name: numpy\nVersion: 1.2\n\ntext"),
        (f"{site}/mine-1.dist-info/METADATA", "file", "Name: mine\nVersion: 1\n"),
        (f"{site}/mine-1.dist-info/direct_url.json", "file", '{"url": "file:///testbed"}'),
    )
    above = layer((f"{site}/six-1.16.dist-info/METADATA", "file", "Name: six\nVersion: 1.16.0\n"))
    found = SnapshotCache(tmp_path / "cache").image(image(tmp_path / "i.tar", content, above))
    spec = lab.specs.from_image(found.layers)
    assert (spec.python, spec.packages) == ("3.9", ("numpy==1.2", "six==1.16.0"))


def test_scripts_written_for_conda_run_in_our_own_venv():
    with conformance.reference_snapshot() as plain:
        from dataclasses import replace

        from swebench_lab.snapshots.environment import conda

        snapshot = replace(plain, layers=(*plain.layers, conda.layer(plain.layers[0].parent / "cache")))
        try:
            box = open_namespace(snapshot)
        except SandboxUnavailable as error:
            pytest.skip(f"needs namespaces: {error}")
        with box:
            text = "set -uxo pipefail\nsource /opt/miniconda3/bin/activate\nconda activate testbed\necho $CONDA_DEFAULT_ENV $PATH"
            assert box.run(text).output.split("\n")[-2].startswith("testbed /opt/venv/bin:")
