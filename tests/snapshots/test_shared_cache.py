"""A cache for several users: parts are taken from packs, as one's own, and only from who is trusted."""

import os
import shutil
import subprocess
import textwrap
import warnings
from pathlib import Path

import pytest

from swebench_lab.snapshots.parts import build_part
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.transfer import shared_cache

ROOT = os.geteuid() == 0
PYTHON = "/usr/bin/python3"
PACKAGE = Path(shared_cache.__file__).parents[3]


def build(folder: Path) -> dict[str, str]:
    """A small part, with what is hard to carry: a program, a link to an absolute place, a hard link, no rights."""
    layer = folder / "layer"
    (layer / "opt").mkdir(parents=True)
    (layer / "opt/program").write_text("#!/bin/sh\necho on\n")
    (layer / "opt/program").chmod(0o755)
    (layer / "opt/again").hardlink_to(layer / "opt/program")
    (layer / "opt/python").symlink_to("/usr/bin/python3")
    (layer / "opt/closed").mkdir(mode=0o700)
    return {"digest": store.digest_tree(layer), "from": "built"}


def refuse(folder: Path) -> dict[str, str]:
    raise AssertionError("it should have been taken from the pack")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    for name in ("mine", "yours"):
        shared_cache.share(tmp_path / name, tmp_path / "packs")
    return tmp_path


def test_what_one_cache_built_another_unpacks(shared: Path) -> None:
    mine, built = build_part(shared / "mine/envs/k", build)
    assert built and [path.name for path in (shared / "packs/envs").iterdir()] == ["k.tar.gz"]
    yours, _ = build_part(shared / "yours/envs/k", refuse)
    assert yours["from"] == "built" and yours["digest"] == mine["digest"]
    assert store.digest_tree(shared / "yours/envs/k/layer") == mine["digest"]
    assert (shared / "yours/envs/k/layer/opt/again").samefile(shared / "yours/envs/k/layer/opt/program")
    assert not (shared / "yours/envs/k/layer/opt/again").samefile(shared / "mine/envs/k/layer/opt/again")


def test_what_is_no_part_of_a_snapshot_is_not_shared(shared: Path) -> None:
    build_part(shared / "mine/bases/k", build)
    assert not (shared / "packs").exists()


def test_a_damaged_pack_is_passed_over_with_a_warning(shared: Path) -> None:
    build_part(shared / "mine/envs/k", build)
    pack = shared / "packs/envs/k.tar.gz"
    whole = pack.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:200] + bytes(40) + whole[240:]):
        pack.write_bytes(content)
        shutil.rmtree(shared / "yours/envs", ignore_errors=True)
        with pytest.warns(UserWarning, match=r"k\.tar\.gz"):
            assert build_part(shared / "yours/envs/k", build)[0]["from"] == "built"


def test_a_pack_that_others_could_have_written_to_is_not_taken(shared: Path) -> None:
    build_part(shared / "mine/envs/k", build)
    pack = shared / "packs/envs/k.tar.gz"
    taken = []

    def own(folder: Path) -> dict[str, str]:
        taken.append(folder)
        return build(folder)

    pack.chmod(0o666)
    build_part(shared / "yours/envs/k", own)
    assert len(taken) == 1
    pack.chmod(0o644)
    if ROOT:
        os.chown(pack, 1234, 1234)
        shutil.rmtree(shared / "yours/envs")
        build_part(shared / "yours/envs/k", own)
        assert len(taken) == 2


def test_a_folder_that_cannot_be_written_to_is_only_read(shared: Path) -> None:
    build_part(shared / "mine/envs/k", build)
    (shared / "packs").rename(shared / "elsewhere")
    (shared / "packs").write_text("not a folder")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_part(shared / "mine/envs/other", build)[1]


def test_the_variable_names_a_folder_for_caches_that_were_told_none(tmp_path: Path) -> None:
    assert shared_cache.packs_of(tmp_path) is None
    script = "import sys; from pathlib import Path; from swebench_lab.snapshots.transfer import shared_cache; print(shared_cache.packs_of(Path()))"
    env = {**os.environ, shared_cache.VARIABLE: "/srv/packs", "PYTHONPATH": str(PACKAGE)}
    import sys

    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "Packs('/srv/packs')\n", done.stderr


# --- two users ------------------------------------------------------------------------------------------------------

ALICE = """
    import os, shutil, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from swebench_lab.testing import conformance; from swebench_lab.snapshots.transfer import shared_cache
    from swebench_lab.snapshots.parts import build_part; from swebench_lab.snapshots.storage import store
    shared_cache.share(Path("cache"), Path(sys.argv[2]))
    with conformance.reference_snapshot() as snapshot:
        def build(folder):
            shutil.copytree(snapshot.layers[0], folder / "layer", symlinks=True)
            return {"digest": store.digest_tree(folder / "layer"), "head": snapshot.head}
        build_part(Path("cache/trees/k"), build)
"""

BOB = """
    import dataclasses, os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from swebench_lab.testing import conformance; from swebench_lab.snapshots.transfer import shared_cache
    from swebench_lab.snapshots.parts import build_part; from swebench_lab.snapshots.storage import store
    from swebench_lab.sandbox.namespace.sandbox import open_namespace
    shared_cache.share(Path("cache"), Path(sys.argv[2]))
    def refuse(folder):
        raise SystemExit("built again")
    marker, _ = build_part(Path("cache/trees/k").absolute(), refuse)
    edit = "echo more >> README.md && mv src moved && rm link && chmod 700 moved && git status --short | wc -l"
    with conformance.reference_snapshot() as shape:
        for name, layer in (("own", Path("cache/trees/k/layer").absolute()), ("theirs", Path(sys.argv[3]))):
            files = (layer / "testbed/README.md").stat()
            snapshot = dataclasses.replace(shape, layers=(layer,), git_dir=layer / "testbed/.git", head=marker["head"])
            with open_namespace(snapshot) as box:
                assert box.tier == "namespace-rootless" and os.getuid() == 1235
                done = box.run(edit)
                again = box.run("cat README.md | tail -1").output.strip()
                with box.fork() as other:
                    forked = other.run("tail -1 README.md").output.strip()
                print(name, files.st_uid, done.exit_code, again == "more", forked == "more", "README.md" in box.diff())
"""


@pytest.mark.skipif(not ROOT, reason="acting as two users needs root")
def test_a_second_user_changes_files_that_came_from_the_firsts_cache() -> None:
    if subprocess.run([PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode:
        pytest.skip(f"needs a Python 3.11 that every user can run, at {PYTHON}")
    home = Path("/tmp") / f"swebench-lab-sharing-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        shutil.copytree(PACKAGE / "swebench_lab", home / "code/swebench_lab",
                        ignore=shutil.ignore_patterns("__pycache__", "bundled"))  # fmt: skip
        for user, name in ((1234, "alice"), (1235, "bob"), (1234, "packs")):
            (home / name).mkdir()
            os.chown(home / name, user, user)
        as_user(1234, home / "alice", ALICE, home / "code", home / "packs")
        theirs = home / "alice/cache/trees/k/layer"
        seen = as_user(1235, home / "bob", BOB, home / "code", home / "packs", theirs).splitlines()
        assert seen[0] == "own 1235 0 True True True"
        assert seen[1].startswith("theirs 1234 1 False"), (
            "a tree of somebody else's could be changed: no pack is needed"
        )
    finally:
        shutil.rmtree(home)


def as_user(user: int, folder: Path, script: str, *arguments: Path) -> str:
    done = subprocess.run(
        [PYTHON, "-I", "-c", textwrap.dedent(script), *map(str, arguments)], cwd=folder, user=user, group=user,
        extra_groups=[], capture_output=True, text=True,
        env={"HOME": str(folder), "TMPDIR": str(folder), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
