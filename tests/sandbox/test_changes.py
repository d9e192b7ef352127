"""A patch made from the list of what a box wrote is the one that a look at every file makes, whatever was done."""

import os
import random
import shlex

import pytest

from swebench_lab.sandbox.diffs import patch
from swebench_lab.sandbox.diffs.changes import (
    MOST,
    NOTHING_WRITTEN,
    Tracked,
    WorkTreeChanges,
    fingerprint,
    stands_still,
    tracked,
)
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from swebench_lab.snapshots.repository.seal import EXCLUDE
from swebench_lab.testing import conformance

TIERS = ["namespace-root", "namespace-rootless"] if os.geteuid() == 0 else ["namespace-rootless"]


@pytest.fixture(scope="module")
def snapshot():
    with conformance.reference_snapshot() as made:
        (made.git_dir / "info").mkdir(exist_ok=True)
        (made.git_dir / "info" / "exclude").write_text(EXCLUDE)
        yield made


def looked_at_everything(box) -> str:
    return patch._git(box, f"{patch._STAGE}{patch._DIFF} {box.snapshot.head}").decode()


SCENES = {
    "nothing": "true",
    "an edit": "echo more >> $tracked",
    "the same size and time": "touch -r $tracked t; n=$(wc -c < $tracked); head -c $n /dev/zero | tr '\\0' a > u; cat u > $tracked; touch -r t $tracked; rm t u",
    "a mode": "chmod 755 $tracked; chmod 644 $tracked; chmod +x $tracked",
    "a new file in a new folder": "mkdir -p a/b; echo x > a/b/c",
    "ignored files": "mkdir -p pkg/__pycache__ x.egg-info; echo x > pkg/__pycache__/m.pyc; echo x > x.egg-info/y; echo x > n.pyo",
    "a deletion": "rm $tracked",
    "everything deleted": "rm -rf -- *",
    "a folder deleted and made again": "d=$(dirname $nested); rm -rf $d; mkdir $d; echo x > $d/other",
    "a file that becomes a folder": "rm $tracked; mkdir $tracked; echo x > $tracked/inner",
    "a file that becomes an empty folder": "rm $tracked; mkdir $tracked",
    "a folder that becomes a file": "d=$(dirname $nested); rm -rf $d; echo x > $d",
    "a folder that becomes a link": "d=$(dirname $nested); mv $d elsewhere; ln -s elsewhere $d",
    "a renamed folder": "d=$(dirname $nested); mv $d moved",
    "a link": "ln -s $tracked link; ln -sf /etc/passwd $tracked",
    "odd names": "touch -- ':(top)x' '*' '[a]' '-n' 'a b' $'new\\nline' 'q\"q' '$(touch pwned)' '`x`' ']' '@' $'\\xff\\xfe'",
    "pipes and sockets": "mkfifo p; rm $tracked; mkfifo $tracked",
    "a repository in it": "mkdir in; git -C in init -q; echo x > in/f; git -C in add f; git -C in -c user.name=a -c user.email=b commit -qm c",
    "rules about what is ignored": "echo '*.txt' > .gitignore; echo x > a.txt; echo x > b.py",
    "an attribute": "echo '* text eol=crlf diff=none filter=evil' > .gitattributes; echo more >> $tracked",
    "a commit and a reset": "echo more >> $tracked; git -c user.name=a -c user.email=b commit -qam c; git reset -q --hard HEAD~1; echo x > y",
    "no repository any more": "rm -rf .git; echo more >> $tracked",
    "an empty file": ": > $tracked; : > fresh",
    "a hard link": "ln $tracked hard; echo more >> hard",
    "a binary file": "head -c 3000 /dev/urandom > noise",
    "the tree moved away": "cd /; mv /testbed /gone; mkdir /testbed; cp -r /gone/.git /testbed; echo x > /testbed/y",
}  # fmt: skip


@pytest.mark.parametrize("tier", TIERS)
def test_every_kind_of_change_gives_the_same_patch_both_ways(snapshot, tier):
    names = [os.fsdecode(name) for name in tracked(snapshot.git_dir / "index").names]
    top = next(name for name in names if "/" not in name and not name.startswith("."))
    nested = next(name for name in names if "/" in name)
    given = f"tracked={shlex.quote(top)}; nested={shlex.quote(nested)}; "
    listed = compared = 0
    for scene, script in SCENES.items():
        with open_namespace(snapshot, tier=tier) as box:
            done = box.run(given + script)
            assert done.ok, (scene, done.output)
            told = box._touched()
            listed += bool(told) and patch._diff_by_hints(box, told) is not None
            if told:
                known = tracked(snapshot.git_dir / "index")
                compared += patch._compared(box, told, known, known.touched_by(told)) is not None
            assert box.diff() == patching_of_all(box), scene
    assert compared >= len(SCENES) - 7
    assert listed >= len(SCENES) - 4  # the others are told by a look at everything, and were compared all the same


def patching_of_all(box) -> str:
    try:
        return looked_at_everything(box)
    except UnicodeDecodeError:
        return patch._with_binary(box).decode()


def test_random_histories_over_checkpoints_and_forks_give_the_same_patch_both_ways(snapshot):
    for seed in range(6):
        chance = random.Random(seed)
        box = open_namespace(snapshot)
        try:
            for _ in range(4):
                box.run("; ".join(_random_deed(chance) for _ in range(6)) + "; true")
                assert box.diff() == patching_of_all(box), seed
                forked = box.fork()
                box.close()
                box = forked
                assert box.diff() == patching_of_all(box), seed
        finally:
            box.close()


def _random_deed(chance: random.Random) -> str:
    names = ["a", "b", "a/x", "a/y", "b/x", "b/c/z", "$(git ls-files | head -1)", "$(git ls-files | grep / | head -1)"]
    first, second = chance.choice(names), chance.choice(names)
    return chance.choice(
        [
            f"mkdir -p {first}",
            f"mkdir -p $(dirname {first}); echo {chance.random()} >> {first}",
            f"rm -rf {first}",
            f"mv {first} {second}",
            f"cp -r {first} {second}",
            f"ln -s {first} {second}",
            f"chmod +x {first}",
            "git checkout -q HEAD -- .",
            "git stash -q",
        ]
    )


def test_a_box_that_changed_nothing_runs_nothing_to_say_so(snapshot):
    with open_namespace(snapshot) as box:
        box.run("git status; cat $(git ls-files); echo x > /tmp/elsewhere")
        assert box._touched() == WorkTreeChanges()
        assert box.diff() == ""


def test_too_many_changes_are_left_to_git(snapshot):
    with open_namespace(snapshot) as box:
        box.run(f"mkdir many; cd many; for i in $(seq {MOST + 1}); do echo $i > f$i; done")
        assert box._touched() is None
        assert box.diff().count("new file mode") == MOST + 1


def test_a_tree_reached_through_a_link_is_left_to_git(tmp_path):
    (tmp_path / "layer/real").mkdir(parents=True)
    (tmp_path / "layer/testbed").symlink_to("real")
    (tmp_path / "other/testbed").mkdir(parents=True)
    assert not stands_still((tmp_path / "layer",), "/testbed")
    assert stands_still((tmp_path / "other",), "/testbed")


def test_tracked_files_are_found_by_path_by_folder_and_by_what_they_became(tmp_path):
    known = Tracked((b"a", b"d/x", b"d/y", b"d0", b"e"))
    assert known.touched_by(WorkTreeChanges({b"a", b"new"}, {b"d"})) == {b"a", b"d/x", b"d/y"}
    assert known.touched_by(WorkTreeChanges({b"d"}, set())) == {b"d/x", b"d/y"}
    assert tracked(tmp_path / "none") is None


WRITES = ["echo x > f", "echo y > f", "chmod 600 f", "touch f", "mv f g", "ln g h", "rm h", "mkdir d", "chmod 700 d", "mv g d",
          "ln -s d l", "chown 1:1 d/g", "rm $tracked", "mkdir $tracked", "rm -rf d"]  # fmt: skip


def test_whatever_is_written_is_noticed_and_reading_is_not(snapshot):
    name = os.fsdecode(tracked(snapshot.git_dir / "index").names[1])
    with open_namespace(snapshot) as box:
        seen = [NOTHING_WRITTEN]
        for script in WRITES:
            assert box.run(f"tracked={shlex.quote(name)}; {script}").ok, script
            seen.append(fingerprint(box._upper))
            box.run("ls -laR . /etc > /dev/null; cat $(git ls-files) > /dev/null 2>&1; pwd")
            assert fingerprint(box._upper) == seen[-1], script
        assert len(set(seen)) == len(seen) and None not in seen


def test_a_step_that_wrote_nothing_is_an_empty_layer_and_what_follows_is_kept(snapshot):
    with open_namespace(snapshot) as box, box.session() as shell:
        layers = []
        for script in ("ls", "echo 1 > one", "export A=b; cd src", "(sleep 0.3; echo 2 > ../two) &", "wait", "pwd"):
            shell.run(script)
            layers.append(box.checkpoint())
        names = [[path for kind, path in layer.entries if kind == "file"] for layer in layers]
        assert names == [[], ["testbed/one"], [], [], ["testbed/two"], []]
        assert layers[2].digest == layers[0].digest and layers[2].env["A"] == "b" and layers[2].cwd.endswith("/src")
        with box.fork(at=layers[3]) as other:
            assert other.run("test -e one && test ! -e two").ok
        with box.fork(at=layers[5]) as other:
            assert other.run("cat one two").output == "1\n2\n"


def test_more_than_is_worth_a_look_is_captured_without_one(snapshot):
    with open_namespace(snapshot) as box:
        box.run("mkdir many; cd many; for i in $(seq 2001); do : > f$i; done")
        assert fingerprint(box._upper) is None
        assert len(box.checkpoint().entries) == 2003 and box.checkpoint().entries == ()
