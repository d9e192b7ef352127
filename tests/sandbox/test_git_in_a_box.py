"""Git in a box: somebody commits there, the work tree can be cloned, and what was added by force is in the patch."""

from __future__ import annotations

from pathlib import Path

import pytest

from swebench_lab.records.task import Task
from swebench_lab.snapshots.factory import SandboxFactory
from tests.sandbox.repositories import FILES, git, make_task, with_history, write

SPEC = {"packages": [], "paths": ["src"]}
NAMESPACES = ["namespace-root", "namespace-rootless"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def task(shared: Path) -> Task:
    base, _ = with_history(shared / "history")
    return make_task(shared / "history", base, spec=SPEC)


@pytest.mark.parametrize(
    "backend", [*NAMESPACES, "landlock", pytest.param("local", marks=pytest.mark.filterwarnings("ignore"))]
)
def test_a_box_commits_and_applies_mails(shared: Path, task: Task, backend: str) -> None:
    with SandboxFactory(backend, cache=shared / "cache") as sandboxes, sandboxes.open(task) as box:
        made = box.run(
            "echo 1 > new && git add new && git commit -qm one && git format-patch -q -1 -o $HOME && git reset -q --hard HEAD^"
        )
        assert made.ok, made.output
        assert (
            box.run("git am -q $HOME/0001-one.patch && git log -1 --format='%an %ae %s'").output
            == "lab lab@localhost one\n"
        )
        own = "git config user.name me && git commit -q --allow-empty -m two && git log -1 --format=%an"
        assert box.run(own).output == "me\n", "what a repository says of itself counts more"
        assert box.diff().count("diff --git") == 1


@pytest.mark.parametrize("backend", NAMESPACES)
@pytest.mark.parametrize(
    "what", ["/testbed", ".", "/testbed/.git", "file:///testbed", "--shared /testbed", "--depth 1 /testbed"]
)
def test_the_work_tree_can_be_cloned(shared: Path, task: Task, backend: str, what: str) -> None:
    with SandboxFactory(backend, cache=shared / "cache") as sandboxes, sandboxes.open(task) as box:
        done = box.run(
            f"git clone -q {what} /tmp/copy && cd /tmp/copy && git status --porcelain && git log --oneline | wc -l && ls"
        )
        assert done.ok, done.output
        assert "src" in done.output
        again = box.run(
            "cd /tmp/copy && echo x > y && git add y && git commit -qm y && git clone -q . /tmp/z && cat /tmp/z/y"
        )
        assert again.output == "x\n"
        assert box.diff() == ""


@pytest.mark.parametrize("backend", [*NAMESPACES, "landlock"])
def test_what_was_added_by_force_is_in_the_patch(tmp_path: Path, backend: str) -> None:
    folder = write(tmp_path / "plain", {**FILES, ".gitignore": "*.log\nbuild/\nother.txt\n"})
    with (
        SandboxFactory(backend, cache=tmp_path / "cache") as sandboxes,
        sandboxes.open(make_task(folder, spec=SPEC)) as box,
    ):
        box.run(
            "mkdir -p build && echo a > 'build/a b' && echo c > c.log && echo d > other.txt && git add -f 'build/a b' c.log"
        )
        assert box.run("git check-ignore -q other.txt").ok
        patch = box.diff()
        assert patch.count("diff --git") == 2, patch
        assert "+++ b/c.log" in patch and "build/a b" in patch and "other.txt" not in patch
        box.run("git commit -qm forced && echo more >> c.log")
        assert "+more" in box.diff()
        many = "for i in $(seq 600); do echo $i > f$i.txt; echo $i > g$i.log; done; git add -f g7.log"
        box.run(many)
        everything = box.diff()
        assert everything.count("diff --git") == 603
        assert "b/g7.log" in everything and "b/g8.log" not in everything
        box.run("rm -f f*.txt && git rm -q --cached c.log && rm g7.log")
        assert "c.log" not in box.diff(), "it is ignored again"
    bare = tmp_path / "check"
    bare.mkdir()
    git(bare, "init", "-q")
    write(bare, {**FILES, ".gitignore": "*.log\nbuild/\nother.txt\n"})
    (bare / "patch").write_text(patch)
    git(bare, "apply", "patch")
    assert (bare / "c.log").read_text() == "c\n"


@pytest.mark.parametrize("spoil", ["echo junk > .git/index", "rm -rf .git", "rm .git/index && ln -s /etc/passwd .git/index",
                                   "mv .git ../gone && ln -s ../gone .git"])  # fmt: skip
def test_a_spoilt_list_of_files_spoils_no_patch(shared: Path, task: Task, spoil: str) -> None:
    with SandboxFactory(cache=shared / "cache") as sandboxes, sandboxes.open(task) as box:
        box.write("a.py", "A = 1\n")
        box.write("__pycache__/a.pyc", "x")
        box.write("b.pyo", "x")
        box.run(spoil)
        assert box.diff().count("diff --git") == 1
