"""Dockerfiles built without an engine: the same trees as an engine's, what is outside the subset refused by name."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import SandboxUnavailable, SnapshotError
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.dockerfile import stages, syntax, words
from swebench_lab.snapshots.image import oci
from tests.snapshots import dockerfiles
from tests.snapshots.dockerfiles import BASE, CASES, FAILING, REFUSED, Case

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("dockerfile_trees.json").read_text("utf-8"))
"""What a real engine (Docker 20.10.24 with BuildKit) made of the cases: `test_dockerfile_engine.py` makes them anew."""

DOCUMENTS = {
    "one": "file 644 0:0 '/bin/sh\\n'", "d": "dir 755 0:0", "two": "file 644 0:0 'tabs $HOME\\n'",
    "three": "file 644 0:0 'home /root\\n'", "four": "file 644 0:0 'script\\n'", "docs": "dir 755 0:0",
    "docs/EOF": "file 644 0:0 'value v\\n'", "docs/RAW": "file 644 0:0 'value $V\\n'",
}  # fmt: skip
"""What the here-documents come to, which that engine does not know."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a base, in which new files have the usual modes."""
    folder = tmp_path_factory.mktemp("dockerfiles")
    before = os.umask(0o022)
    if dockerfiles.base(folder / "base") is None:
        pytest.skip("needs a busybox that is linked statically (Debian: busybox-static)")
    try:
        with lab.SandboxFactory(cache=folder / "cache") as sandboxes:
            sandboxes.open(sandboxes.from_image(folder / "base")).close()
    except SandboxUnavailable as error:
        pytest.skip(f"needs namespaces: {error}")
    yield folder
    os.umask(before)


@pytest.fixture(scope="module")
def cache(place):
    return SnapshotCache(place / "cache")


def build(cache: SnapshotCache, place: Path, text: str, files: dict[str, Any] | None = None, **options: Any) -> Any:
    """The Snapshot of a Dockerfile with a context."""
    folder = place / f"context-{abs(hash((text, str(files))))}"
    dockerfiles.write(files or {}, folder / "context")
    (folder / "Dockerfile").write_text(text)
    return cache.from_dockerfile(folder, folder / "context", bases={BASE: place / "base"}, **options)


def without_owners(tree: dict[str, str]) -> dict[str, str]:
    return {path: re.sub(r" \d+:\d+", "", line) for path, line in tree.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_tree_is_the_one_that_an_engine_makes(cache, place, case: Case):
    if os.geteuid() and case.name in ("users", "add archives", "stages"):
        pytest.skip("needs root: the files that commands list belong to several users")
    snapshot = build(cache, place, case.text, dict(case.files), args=case.args, target=case.target)
    ours = dockerfiles.tree_of_layers(snapshot.layers)
    recorded = RECORDED.get(case.name, {"tree": DOCUMENTS, "gone": [], "config": None})
    base = {} if "FROM scratch" in case.text else dockerfiles.tree_of_layers([place / "base"])
    wanted = {p: line for p, line in base.items() if p not in recorded["gone"]} | recorded["tree"] | dict(case.differs)
    if os.geteuid():
        ours, wanted = without_owners(ours), without_owners(wanted)
    assert ours == wanted
    if recorded["config"] is not None:
        said = {name: snapshot.meta["config"].get(name) for name in recorded["config"]}
        assert said == recorded["config"] | dict(case.ours)


def test_most_of_the_suite_was_made_by_an_engine():
    assert len([case for case in CASES if case.name in RECORDED]) >= 25 and set(RECORDED) <= {
        case.name for case in CASES
    }


@pytest.mark.parametrize(("instruction", "message"), REFUSED, ids=[each[0].split("\n")[0] for each in REFUSED])
def test_what_is_outside_the_subset_is_refused_by_name_before_anything_is_built(tmp_path, instruction, message):
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo built\n{instruction}\n")
    cache = SnapshotCache(tmp_path / "cache")
    with pytest.raises(SnapshotError, match=f"Dockerfile, line 3: {message}"):
        cache.from_dockerfile(tmp_path, bases={BASE: tmp_path / "none"})
    assert not (cache.root / oci.KIND).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no FROM"),
        ("RUN true\nFROM x", "line 1: RUN before the first FROM"),
        ("# syntax=example.org/own\nFROM x", "line 1: the syntax directive asks for 'example.org/own'"),
        ("# escape=x\nFROM x", "line 1: the escape directive"),
        ("FROM a AS 1", "line 1: FROM: '1' cannot be the name of a stage"),
        ("FROM --platform=linux/riscv64 x", "line 1: FROM: --platform=linux/riscv64: this machine is linux/"),
        ("ARG A\nFROM $A", "line 2: FROM: '[$]A' comes to nothing"),
        ("FROM nobody/knows:1", "line 1: FROM: nothing says where the image nobody/knows:1 is found"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_says_so(tmp_path, text, message):
    (tmp_path / "Dockerfile").write_text(text)
    with pytest.raises(SnapshotError, match=message):
        SnapshotCache(tmp_path / "cache").from_dockerfile(tmp_path)


@pytest.mark.parametrize(("text", "files", "message"), FAILING, ids=[each[0] for each in FAILING])
def test_an_instruction_that_fails_names_its_line(cache, place, text, files, message):
    with pytest.raises(SnapshotError, match=f"Dockerfile, {message}"):
        build(cache, place, f"FROM {BASE}\n{text}\n", files)


def test_an_unknown_build_argument_or_stage_is_refused(cache, place):
    with pytest.raises(SnapshotError, match="no ARG declares the build argument 'B'; it declares A"):
        build(cache, place, f"FROM {BASE}\nARG A\n", args={"B": "1"})
    with pytest.raises(SnapshotError, match="there is no stage 'x'; its stages are one, 1"):
        build(cache, place, f"FROM {BASE} AS one\nFROM one\n", target="x")


def test_a_stage_that_is_not_needed_is_not_built(cache, place):
    build(cache, place, f"FROM {BASE} AS a\nRUN exit 1\nFROM {BASE}\nRUN true\n")


def test_only_what_changed_is_built_again(cache, place, caplog):
    text = f"FROM {BASE}\nRUN echo first > /first\nCOPY a /a\nRUN cat /a > /b\n"
    caplog.set_level(logging.INFO, logger="swebench_lab.snapshots.dockerfile.build")

    def built(text: str, content: str) -> list[str]:
        caplog.clear()
        build(cache, place, text, {"a": content})
        return [record.getMessage().split()[-1] for record in caplog.records]

    assert built(text, "1") == ["built", "built", "built"]
    assert built(text, "1") == ["there", "there", "there"]
    assert built(f"# a comment\n{text}\nCMD x\n", "1") == ["there", "there", "there"]
    assert built(text, "2") == ["there", "built", "built"]
    assert built(text.replace("first", "other"), "2") == ["built", "built", "built"]


def test_layers_that_only_the_build_needed_are_removed_with_the_snapshot(place, tmp_path):
    cache = SnapshotCache(tmp_path / "cache")
    text = f"FROM {BASE} AS a\nRUN echo x > /x\nFROM {BASE}\nCOPY --from=a /x /y\n"
    snapshot = build(cache, place, text)
    assert cache.verify(snapshot.key) == "2 layers of an image, no repository" and len(cache.ls()) == 1
    assert len(list((cache.root / oci.KIND).iterdir())) == 3
    assert cache.evict() == [snapshot.key] and not list((cache.root / oci.KIND).iterdir())


def test_layers_that_a_failed_build_left_are_removed_once_it_cannot_be_under_way_any_more(place, tmp_path):
    cache = SnapshotCache(tmp_path / "cache")
    with pytest.raises(SnapshotError):
        build(cache, place, f"FROM {BASE}\nRUN echo x > /x\nRUN exit 1\n")
    cache.evict()
    (step,) = [p for p in (cache.root / oci.KIND).iterdir() if "step" in (p / "complete.json").read_text()]
    marker = json.loads((step / "complete.json").read_text())
    (step / "complete.json").write_text(json.dumps({**marker, "built_at": marker["built_at"] - 100_000}))
    cache.evict()
    assert not step.exists()


@pytest.mark.parametrize(
    "tier", ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]
)
def test_boxes_have_its_user_directory_and_variables(cache, place, tier):
    text = f"FROM {BASE}\nWORKDIR /work\nRUN chmod 777 /work\nENV OWN='a b'\nUSER app:extra\n"
    snapshot = build(cache, place, text)
    with open_namespace(snapshot, tier=tier) as box:
        assert box.run("id -u; id -g; pwd; echo $OWN $HOME $USER").output == "1000\n2000\n/work\na b /home/app app\n"
        box.write("new/mine", "x")
        assert box.run("stat -c '%u:%g' new/mine; echo y > /dev/stdout").output == "1000:2000\ny\n"
        assert box.run("touch /etc/mine", merge=True).ok == (
            tier == "namespace-rootless"
        )  # there all files are its user's
        held = box.checkpoint()
        with box.fork(at=held) as other:
            assert other.run("cat new/mine; id -u").output == "x1000\n"
    with open_namespace(snapshot, tier=tier, layers=[held], user="root") as box:
        assert box.run("id -u; touch /etc/mine && cat new/mine").output == "0\nx"


def test_the_box_of_a_build_has_no_network_unless_it_is_given(cache, place):
    text = f"FROM {BASE}\nRUN cat /proc/net/dev | grep -c : > /devices\n"
    tree = dockerfiles.tree_of_layers(build(cache, place, text).layers)
    assert tree["devices"].endswith("'1\\n'")
    with pytest.raises(ValueError, match="unknown network 'internet'"):
        build(cache, place, text, network="internet")


def test_a_base_that_would_run_more_is_refused(cache, place, tmp_path):
    from tests.snapshots.test_oci import image, layer

    image(tmp_path / "base.tar", layer(("a", "file", "1")), config={"OnBuild": ["RUN true"]})
    (tmp_path / "Dockerfile").write_text("FROM ./base.tar\n")
    with pytest.raises(SnapshotError, match=r"line 1: FROM: the image ./base\.tar has ONBUILD instructions"):
        cache.from_dockerfile(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a${x}b$x", "a1b1"), ("$y|${y}|${y-d}|${y:-d}", "|||d"), ("${z-d}${z:-$x}${z+n}${x:+s}${x+t}", "d1st"),
        ("'$x' \"$x\" \\$x \"\\$x\" '\\'", "$x 1 $x $x \\"), ("${z:-a ${x} 'b}'}", "a 1 b}"), ("$", "$"), ("$x$", "1$"),
        ("a\\ b", "a b"), ("\"a\\b\"", "a\\b"), ("$1$@x", "x"), ("${x:?no}", "1"),
    ],
)  # fmt: skip
def test_words_are_understood_as_engines_do(text, value):
    assert words.expand(text, {"x": "1", "y": ""}) == value


def test_lines_and_here_documents_are_put_together():
    read = syntax.read(
        "RUN a \\\n# comment\n\n  b \\  \n\n c\ncopy --from=x --chown=1 <<E <<-'F' /to\n1\nE\n\t2\nF\nCMD [ \"a\", 1 ]\n"
    )
    run, copy, command = read.instructions
    assert (run.name, run.text) == ("RUN", "a   b  c") and run.line == 1
    assert copy.flags == (("from", "x"), ("chown", "1")) and copy.line == 7
    assert [(h.name, h.content, h.expands) for h in copy.heredocs] == [("E", "1\n", True), ("F", "2\n", False)]
    assert stages.places(copy) == ["/to"] and command.words is None
