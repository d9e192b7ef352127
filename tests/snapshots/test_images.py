"""Images and root file systems without a task: any base, its users and directory, several machines, registries."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxError, SandboxUnavailable, SnapshotError
from swebench_lab.sandbox.layers.view import View
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.sandbox.users import User, user_of
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.image import oci, registry
from tests.snapshots import dockerfiles
from tests.snapshots.layouts import Layout, Registry, several
from tests.snapshots.test_oci import layer

TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]


@pytest.fixture
def base(tmp_path):
    found = dockerfiles.base(tmp_path / "base")
    if found is None:
        pytest.skip("needs a busybox that is linked statically (Debian: busybox-static)")
    return found


def opened(snapshot, **options):
    try:
        return open_namespace(snapshot, **options)
    except SandboxUnavailable as error:
        pytest.skip(f"needs namespaces: {error}")


@pytest.mark.parametrize(
    ("kind", "tier"),
    [("folder", tier) for tier in TIERS] + [(f"tar{end}", TIERS[0]) for end in ("", ".gz", ".xz", ".zst")],
)
def test_a_root_file_system_is_a_base(base, tmp_path, kind, tier):
    source = base
    if kind != "folder":
        if kind == "tar.zst" and shutil.which("zstd") is None:
            pytest.skip("needs the program zstd")
        source = tmp_path / f"root.{kind}"
        subprocess.run(
            ["tar", "-C", str(base), "-caf", str(source), "."], check=True, env={**os.environ, "XZ_OPT": "-0"}
        )
    with lab.SandboxFactory(tier, cache=tmp_path / "cache") as sandboxes:
        snapshot = sandboxes.from_image(source, workdir="/made/here", env={"OWN": "1"})
        assert sandboxes.from_image(source, workdir="/made/here", env={"OWN": "1"}) == snapshot
        with opened(snapshot, tier=tier) as box:
            assert box.run("pwd; echo $OWN; ls -A / | tr '\\n' ' '; id -u").output == (
                "/made/here\n1\nbin dev etc home made proc root sys tmp 0\n"
            )
            assert box.run(["stat", "-c", "%a", "/tmp", "/root"]).output == "1777\n700\n"


def test_a_changed_folder_is_another_base(base, tmp_path):
    cache = SnapshotCache(tmp_path / "cache")
    first = cache.from_image(base)
    (base / "etc" / "new").write_text("x")
    second = cache.from_image(base)
    assert (
        first.key != second.key
        and View(second.layers).read("etc/new") == b"x"
        and not View(first.layers).read("etc/new")
    )


def test_what_is_mounted_below_or_special_is_not_taken_in(base, tmp_path):
    os.mkfifo(base / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(base / "door"))
    (base / "out").symlink_to("/etc/passwd")
    tree = dockerfiles.tree_of_layers(SnapshotCache(tmp_path / "cache").from_image(base).layers)
    assert tree["pipe"].startswith("fifo") and "door" not in tree and tree["out"].endswith("/etc/passwd")
    with pytest.raises(SnapshotError, match="/ is this machine itself"):
        SnapshotCache(tmp_path / "cache").from_image("/")


def test_what_cannot_be_a_base_says_so(base, tmp_path):
    cache = SnapshotCache(tmp_path / "cache")
    (tmp_path / "text").write_text("text")
    for source, message in ((tmp_path / "none", "no such file"), (tmp_path / "text", "nor of a root file system")):
        with pytest.raises(SnapshotError, match=message):
            cache.from_image(source)
    with pytest.raises(SnapshotError, match="the user 'who': /etc/passwd of the box names no such user"):
        cache.from_image(base, user="who")
    with pytest.raises(SnapshotError, match=r"/etc/passwd is no directory"):
        cache.from_image(base, workdir="/etc/passwd")
    with pytest.raises(SnapshotError, match="'made' is not absolute"):
        cache.from_image(base, workdir="made")


def test_users_are_those_of_the_tree(tmp_path):
    for place, text in (("etc/passwd", "app:x:5:6:a:/home/app:/bin/sh\n\nbad\n7:x:8:9::/h:\n"),
                        ("etc/group", "g:x:10:\nmore:x:11:you,app\nmain:x:6:app\n")):  # fmt: skip
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    assert user_of([tmp_path], "app") == user_of([tmp_path], "5") == User(5, 6, (11,), "app", "/home/app")
    assert user_of([tmp_path], "app:g") == User(5, 10, (), "app", "/home/app")
    assert user_of([tmp_path], "12:34") == User(12, 34, (), "12", "/") and user_of([], "") == User()
    for wrong in ("you", "app:none", "-1", "4294967295", "٣"):
        with pytest.raises(SandboxError, match="names no such"):
            user_of([tmp_path], wrong)


def test_links_of_a_tree_are_followed_inside_it(tmp_path):
    (tmp_path / "outside").write_text("host")
    root = tmp_path / "root"
    (root / "real/deep").mkdir(parents=True)
    (root / "real/deep/file").write_text("in")
    for name, target in (
        ("abs", "/real"),
        ("up", "../../../real/deep"),
        ("out", str(tmp_path / "outside")),
        ("a", "b"),
        ("b", "a"),
    ):
        (root / name).symlink_to(target)
    view = View([root])
    assert view.read("abs/deep/file") == view.read("up/file") == view.read("real/../abs/deep/./file") == b"in"
    assert view.resolve("abs/none/../x") == "real/x" and view.read("out") == b"" and view.find("a") is None
    with pytest.raises(OSError, match="circle"):
        view.resolve("a")


@pytest.mark.parametrize("tier", TIERS)
def test_a_user_of_a_box_cannot_be_more(base, tmp_path, tier):
    snapshot = SnapshotCache(tmp_path / "cache").from_image(base, user="app", workdir="/tmp")
    with opened(snapshot, tier=tier) as box:
        status = box.run("grep -E '^(Uid|Groups|CapPrm|CapEff|NoNewPrivs)' /proc/self/status").output.split("\n")
        assert status[0].split()[1:] == ["1000"] * 4 and {
            line.split()[1] for line in status if line.startswith("Cap")
        } == {"0" * 16}
        assert "NoNewPrivs:\t1" in status and ("2000" in status[1]) == (tier == "namespace-root")
        assert not box.run("chown 0 /tmp/x; touch /tmp/x && chown 0 /tmp/x").ok
        assert box.run("sleep 5 & sleep 5", timeout=0.2).timed_out and box.run("id -u").output == "1000\n"
    with opened(snapshot, tier=tier, user="nobody") as box:
        assert box.run("id -u; echo $HOME").output == "65534\n/\n"


def test_files_are_given_away_in_a_build_where_there_is_one_user(base, tmp_path):
    snapshot = SnapshotCache(tmp_path / "cache").from_image(base)
    give = "touch /a && chown 5:6 /a && chown -h 7 /a && stat -c %u:%g /a"
    with opened(snapshot, tier="namespace-rootless", builds=True) as box:
        assert box.run(give).output == "0:0\n"
    with opened(snapshot, tier="namespace-rootless") as box:
        assert not box.run(give).ok
    if os.geteuid() == 0:
        with opened(snapshot, tier="namespace-root", builds=True) as box:
            assert box.run(give).output == "7:6\n"


def test_a_box_without_a_repository_says_so(base, tmp_path):
    snapshot = SnapshotCache(tmp_path / "cache").from_image(base)
    with opened(snapshot) as box:
        box.write("/x", "1")
        with pytest.raises(SandboxError, match="without a repository"):
            box.diff()
        assert [path for _, path in box.checkpoint().entries] == ["x"]
    with lab.SandboxFactory("landlock", cache=tmp_path / "cache") as sandboxes, pytest.raises(SandboxUnavailable):
        sandboxes.open(snapshot)


def test_an_index_gives_the_image_of_this_machine(tmp_path):
    layout = Layout(tmp_path / "layout")
    compressions = ["", "gzip", *(["zstd"] if shutil.which("zstd") else [])]
    mine = layout.image(*((layer((f"of-{c or 'none'}", "file", "1"), ("h", "hard", f"of-{c or 'none'}")), c) for c in compressions),
                        config={"User": "5:6", "WorkingDir": "/w", "Env": ["A=b"], "Cmd": ["x"]})  # fmt: skip
    other = layout.image((layer(("other", "file", "1")), ""))
    nested = layout.blob(several(layout, mine, other), mediaType="application/vnd.oci.image.index.v1+json")
    snapshot = SnapshotCache(tmp_path / "cache").from_image(layout.close(nested))
    tree = dockerfiles.tree_of_layers(snapshot.layers)
    assert {name for name in tree if name.startswith("of-")} == {
        f"of-{c or 'none'}" for c in compressions
    } and "other" not in tree
    assert (snapshot.user, snapshot.workdir, snapshot.env["A"], snapshot.meta["config"]["Cmd"]) == (
        "5:6",
        "/w",
        "b",
        ["x"],
    )
    assert tree["h"].endswith(f"of-{compressions[-1]}") or " = " in tree["h"] or " = " in tree[f"of-{compressions[-1]}"]


def test_an_index_without_an_image_for_this_machine_says_what_it_has(tmp_path):
    layout = Layout(tmp_path / "layout")
    entry = {**layout.image((layer(("a", "file", "1")), "")), "platform": {"os": "linux", "architecture": "riscv64"}}
    with pytest.raises(SnapshotError, match=r"nothing for linux/\w+, only linux/riscv64"):
        SnapshotCache(tmp_path / "cache").from_image(layout.close(entry))


def test_a_changed_manifest_or_blob_is_refused(tmp_path):
    layout = Layout(tmp_path / "layout")
    entry = layout.image((layer(("a", "file", "1")), "gzip"))
    path = layout.blobs / entry["digest"].partition(":")[2]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(SnapshotError, match="its manifest is not what its digest says"):
        SnapshotCache(tmp_path / "cache").from_image(layout.close(entry))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of several users")
def test_files_belong_to_whom_the_image_says_and_other_people_of_the_machine_are_kept_out(tmp_path):
    cache = SnapshotCache(tmp_path / "cache")
    plain, owned = tmp_path / "plain.tar", tmp_path / "owned.tar"
    for path, user in ((plain, 0), (owned, 4242)):
        path.write_bytes(dockerfiles.tar("", ("a", "1", 0o6755, user, user)))
    first, second = cache.from_image(plain).layers[0], cache.from_image(owned).layers[0]
    assert (second / "a").stat().st_uid == 4242 and (second / "a").stat().st_mode & 0o7777 == 0o755
    assert first.parent.stat().st_mode & 0o777 == 0o755 and second.parent.stat().st_mode & 0o777 == 0o700


# --- registries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("debian", ("registry-1.docker.io", "library/debian", "latest")),
        ("debian:12", ("registry-1.docker.io", "library/debian", "12")),
        ("owner/name:1.2", ("registry-1.docker.io", "owner/name", "1.2")),
        ("ghcr.io/a/b/c@sha256:" + "a" * 64, ("ghcr.io", "a/b/c", "sha256:" + "a" * 64)),
        ("localhost:5000/x:y", ("localhost:5000", "x", "y")),
        ("docker.io/debian", ("registry-1.docker.io", "library/debian", "latest")),
    ],
)
def test_the_name_of_an_image_is_understood(name, meaning):
    reference = registry.Reference.parse(name)
    assert (reference.host, reference.repository, reference.version) == meaning


@pytest.mark.parametrize("name", ["", "A B", "x/../y:1", "host/x:", "x@sha256:1", "-x", "evil.org/x?y=1:2"])
def test_what_is_no_name_of_an_image_is_refused(name):
    with pytest.raises(SnapshotError, match="no name of an image"):
        registry.Reference.parse(name)


@pytest.fixture
def held(tmp_path):
    """A layout with two images and an index of them."""
    layout = Layout(tmp_path / "held")
    shared = (layer(("shared", "file", "1")), "gzip")
    mine = layout.image(
        shared, (layer(("mine", "file", "1"), ("d/.wh.gone", "file", "")), "gzip"), config={"Env": ["A=b"]}
    )
    return layout, several(layout, mine, layout.image((layer(("other", "file", "1")), ""))), layout.image(shared)


def login(monkeypatch, folder: Path, host: str, user: str) -> None:
    folder.mkdir(exist_ok=True)
    stored = {"auths": {host: {"auth": base64.b64encode(user.encode()).decode()}}} if user else {}
    (folder / "config.json").write_text(json.dumps(stored))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)


def test_an_image_is_fetched_with_a_token_that_goes_nowhere_else(tmp_path, monkeypatch, held):
    layout, top, _ = held
    with Registry(layout, top, "me:secret") as server:
        name = f"docker://127.0.0.1:{server.port}/team/x"
        login(monkeypatch, tmp_path / "docker", "", "")
        with pytest.raises(SnapshotError, match="gives no token"):
            SnapshotCache(tmp_path / "cache").from_image(name)
        login(monkeypatch, tmp_path / "docker", f"127.0.0.1:{server.port}", "me:secret")
        snapshot = SnapshotCache(tmp_path / "cache").from_image(name)
        assert set(dockerfiles.tree_of_layers(snapshot.layers)) >= {"shared", "mine"} and snapshot.env["A"] == "b"
        away = [sent for path, sent in server.asked if "/away/" in path]
        assert len(away) == 3 and not any(away), "the token was sent to another address"
        assert {sent.partition(" ")[0] for path, sent in server.asked if "/token" in path} == {"", "Basic"}
        before = len(server.asked)
        SnapshotCache(tmp_path / "cache").from_image(name)
        assert len(server.asked) == before, "what is there is not asked for again"


def test_layers_that_are_there_are_not_fetched_again(tmp_path, monkeypatch, held):
    layout, top, small = held
    login(monkeypatch, tmp_path / "docker", "", "")
    with Registry(layout, top) as server:
        cache = SnapshotCache(tmp_path / "cache")
        cache.from_image(f"docker://127.0.0.1:{server.port}/x@{small['digest']}")
        server.asked.clear()
        cache.from_image(f"docker://127.0.0.1:{server.port}/x:1")
        assert len([path for path, _ in server.asked if "/away/" in path]) == 2, "its configuration and one layer"


def test_what_a_registry_cannot_give_says_why(tmp_path, monkeypatch, held):
    layout, top, small = held
    login(monkeypatch, tmp_path / "docker", "", "")
    with Registry(layout, top) as server:
        cache = SnapshotCache(tmp_path / "cache")
        with pytest.raises(SnapshotError, match=r"answers 404 .*; there is no such image or tag"):
            cache.image(f"docker://127.0.0.1:{server.port}/x:none")
        for blob in layout.blobs.iterdir():
            if blob.read_bytes()[:2] == b"\x1f\x8b":
                blob.write_bytes(blob.read_bytes() + b"x")
        with pytest.raises(SnapshotError, match="is not what its digest says"):
            cache.image(f"docker://127.0.0.1:{server.port}/x@{small['digest']}")
        assert not list((cache.root / oci.KIND).glob("*"))
    with pytest.raises(SnapshotError, match="cannot be reached"):
        cache.image(f"docker://127.0.0.1:{server.port}/y")


def test_a_dockerfile_begins_with_any_of_them(tmp_path, monkeypatch, held):
    layout, top, small = held
    login(monkeypatch, tmp_path / "docker", "", "")
    layout.close({**small})
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "shared").write_text("1")
    subprocess.run(["tar", "-C", str(tmp_path / "root"), "-cf", str(tmp_path / "root.tar"), "."], check=True)
    with Registry(layout, top) as server:
        cache = SnapshotCache(tmp_path / "cache", images="registry", bases={"known": f"folder:{tmp_path / 'root'}"})
        for source in (f"127.0.0.1:{server.port}/x:1", f"docker://127.0.0.1:{server.port}/x:1", "./held", "./root", "./root.tar",
                       str(tmp_path / "root"), "known"):  # fmt: skip
            (tmp_path / "Dockerfile").write_text(f"FROM {source} AS a\nFROM scratch\nCOPY --from=a /shared /new/\n")
            snapshot = cache.from_dockerfile(tmp_path)
            assert View(snapshot.layers).read("new/shared") == b"1", source
            assert list(snapshot.meta["bases"]) == [source]


HTPASSWD = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
"""The user `me` with the password `secret`."""


@pytest.mark.slow
@pytest.mark.parametrize("user", ["", "me:secret"], ids=["open", "with a password"])
def test_a_real_registry_gives_what_was_pushed(tmp_path, monkeypatch, held, user):
    program = os.environ.get("LAB_TEST_REGISTRY") or shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("needs a registry: Debian's package docker-registry, or its path in LAB_TEST_REGISTRY")
    layout, top, _ = held
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(tmp_path / "store")}},
                "http": {"addr": f"127.0.0.1:{port}"}, "log": {"level": "error"}}  # fmt: skip
    if user:
        (tmp_path / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "lab", "path": str(tmp_path / "htpasswd")}}
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    with subprocess.Popen([program, "serve", str(tmp_path / "config.yml")], stderr=subprocess.DEVNULL) as server:
        try:
            push(f"http://127.0.0.1:{port}/v2/team/x", layout, top, user)
            login(monkeypatch, tmp_path / "docker", f"127.0.0.1:{port}", user)
            snapshot = SnapshotCache(tmp_path / "cache").from_image(f"docker://127.0.0.1:{port}/team/x:1")
            assert set(dockerfiles.tree_of_layers(snapshot.layers)) >= {"shared", "mine"} and snapshot.env["A"] == "b"
            if user:
                login(monkeypatch, tmp_path / "docker", "", "")
                with pytest.raises(SnapshotError, match="wants a user; log in with"):
                    SnapshotCache(tmp_path / "other").from_image(f"docker://127.0.0.1:{port}/team/x:1")
        finally:
            server.terminate()


def push(address: str, layout: Layout, top: bytes, user: str) -> None:
    """Put everything of a layout into a registry, as clients do."""
    basic = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}

    def send(method: str, url: str, data: bytes | None, kind: str = "application/octet-stream") -> str:
        request = urllib.request.Request(url, data, {**basic, "Content-Type": kind}, method=method)
        for attempt in range(100):
            try:
                with urllib.request.urlopen(request) as answer:
                    return str(answer.headers.get("Location", ""))
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError) or attempt == 99:
                    raise
                time.sleep(0.1)  # it has not begun to listen
        raise AssertionError

    def is_manifest(data: bytes) -> bool:
        return data[:1] == b"{" and b'"layers"' in data and b'"rootfs"' not in data

    contents = [path.read_bytes() for path in layout.blobs.iterdir()]
    for data in sorted(contents, key=is_manifest):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if is_manifest(data):
            send("PUT", f"{address}/manifests/{digest}", data, "application/vnd.oci.image.manifest.v1+json")
            continue
        place = send("POST", f"{address}/blobs/uploads/", b"")
        send("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
    send("PUT", f"{address}/manifests/1", top, "application/vnd.oci.image.index.v1+json")
