"""Patches: what changed since the start, whatever was done to git."""

from swebench_lab.errors import PatchError
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import FILES, Opener, equal, fails, in_a_box, needs, true, with_boxes


def _round_trip(open_box: Opener, change: str) -> str:
    """Make a change in one box; its patch must make the same change in another. Returns the patch."""
    look = (
        "find . -path ./.git -prune -o \\( -type f -printf '%p %m ' -exec md5sum {} \\; \\) -o "
        "\\( -type l -printf '%p %l\\n' \\) | sort"
    )
    with open_box() as box, open_box() as other:
        result = box.run(change)
        true(result.ok, f"the change was made: {result.output}")
        patch = box.diff()
        applied = other.apply_patch(patch) if patch else None
        true(applied is None or applied.ok, f"the patch applies: {applied and applied.output}")
        equal(other.run(look).output, box.run(look).output, "files after the patch")
        equal(other.diff(), patch, "the patch of the patched box")
    return patch


@in_a_box
def an_untouched_box_has_no_patch(box: Sandbox) -> None:
    """Nothing changed, nothing said."""
    equal(box.diff(), "")


@with_boxes
def edits_additions_and_deletions_are_in_the_patch(open_box: Opener) -> None:
    """Changed, new and deleted files are told."""
    patch = _round_trip(open_box, "echo more >> README.md; mkdir new; echo x > new/file; rm src/app.py")
    for name in ("README.md", "new/file", "src/app.py"):
        true(f"b/{name}" in patch, f"{name} is in the patch")


@with_boxes
def binary_files_are_in_the_patch(open_box: Opener) -> None:
    """Binary files, changed and new, and files of other encodings arrive byte by byte; the patch is text."""
    patch = _round_trip(
        open_box,
        "printf '\\001\\377' >> data.bin; head -c 3000 /dev/urandom > new.bin; "
        "printf 'caf\\351 cr\\350me\\n' > latin.txt; printf '\\351\\n' > 'odd \"name'",
    )
    patch.encode("utf-8")


@with_boxes
def modes_links_and_renames_are_in_the_patch(open_box: Opener) -> None:
    """Executable bits, links, and moved files are told."""
    _round_trip(
        open_box,
        "chmod +x README.md; chmod -x src/run.sh; ln -sf src/app.py link; ln -s nowhere dangling; "
        "mv src/app.py src/moved.py",
    )


@with_boxes
def odd_contents_are_in_the_patch(open_box: Opener) -> None:
    """No newline at the end, carriage returns, empty files and strange names make no difference."""
    _round_trip(
        open_box,
        "printf 'no newline' > a; printf 'dos\\r\\n' > b; : > empty; echo x > 'new\nline'; echo y > 'é'; "
        "printf 'x\\n' > 'with space'; printf 'dos\\r\\n' >> README.md",
    )


@in_a_box
def ignored_files_are_left_out(box: Sandbox) -> None:
    """What the repository ignores is not part of a patch."""
    box.run("echo x > debug.log; mkdir build; echo x > build/out")
    equal(box.diff(), "")


@in_a_box
def what_was_committed_is_still_in_the_patch(box: Sandbox) -> None:
    """Commits, staged changes, stashes and new branches in the box change nothing about the patch."""
    box.run(
        "echo more >> README.md; git -c user.name=x -c user.email=x@y commit -qam x; git checkout -q -b other; "
        "echo new > new; git add new"
    )
    patch = box.diff()
    true("+more" in patch and "+new" in patch, f"patch: {patch}")


@in_a_box
def a_destroyed_repository_does_not_matter(box: Sandbox) -> None:
    """Without a .git, or with rubbish for one, the patch is the same."""
    box.run("echo more >> README.md")
    patch = box.diff()
    for ruin in ("rm -rf .git", "ln -s / .git", "rm .git; echo rubbish > .git"):
        box.run(ruin)
        equal(box.diff(), patch, ruin)


@in_a_box
def a_work_tree_that_is_gone_is_told(box: Sandbox) -> None:
    """Without the work tree, or with a file in its place, the patch deletes every file."""
    for ruin in (f"rm -rf {box.workdir}", f"touch {box.workdir}"):
        box.run(ruin, cwd="/")
        equal(box.diff().count("deleted file mode"), len(FILES) + 1, ruin)


@in_a_box
def what_no_text_can_tell_is_an_error_that_says_so(box: Sandbox) -> None:
    """A link to a name that is no text cannot be part of a patch: a PatchError, and once it is gone all is well."""
    box.run(["python3", "-c", "import os; os.symlink(b'\\xff' * 300, b'odd')"])
    fails(PatchError, box.diff, "the patch")
    box.run("rm odd; echo more >> README.md")
    true("+more" in box.diff(), "the edit is in the patch")


@needs("shared memory")
@in_a_box
def a_full_temporary_directory_is_no_obstacle(box: Sandbox) -> None:
    """Where the box has filled the place that patches are made in, they are made elsewhere."""
    box.run(f"echo more >> README.md; mkfifo new; head -c 1G /dev/zero > {box.private_temp}/full")
    true("+more" in box.diff(), "the edit is in the patch")


@in_a_box
def filters_hooks_and_attributes_do_not_run(box: Sandbox) -> None:
    """Programs that the box set up for git are not run, and attributes do not bend the patch."""
    box.write(".gitattributes", "* filter=evil diff=evil\n*.py -diff\n* ident\n* text eol=crlf\n")
    box.run(
        "git config filter.evil.clean 'touch /tmp/ran; cat'; git config diff.evil.textconv 'touch /tmp/ran; cat'; "
        "git config diff.external 'touch /tmp/ran'; git config core.fsmonitor 'touch /tmp/ran'; "
        "git config core.hooksPath /tmp/hooks; printf '[filter \"evil\"]\\n clean = touch /tmp/ran\\n' > ~/.gitconfig; "
        "printf 'def answer():\\n    return 42\\n' > src/app.py"
    )
    patch = box.diff()
    true("+    return 42" in patch, f"the edit is told as text: {patch}")
    true(not box.run("test -e /tmp/ran").ok, "no program of the box was run")


@in_a_box
def a_repository_inside_hides_nothing(box: Sandbox) -> None:
    """Files below a repository that the box made in a directory are in the patch."""
    box.run(
        "mkdir -p sub/deep; cd sub; git init -q .; echo x > deep/file; git add -A; "
        "git -c user.name=x -c user.email=x@y commit -qm x; echo y > other; mkdir ../empty; cd ../empty; "
        "git init -q .; "
        "echo z > z; cd ../src; git init -q .; echo more >> app.py"
    )
    patch = box.diff()
    for name in ("sub/deep/file", "sub/other", "empty/z", "src/app.py"):
        true(f"b/{name}" in patch, f"{name} is in the patch: {patch}")


@in_a_box
def a_clever_time_stamp_hides_nothing(box: Sandbox) -> None:
    """An edit that keeps size and times is found all the same."""
    box.run('stat -c %y src/app.py > /tmp/when; sed -i s/41/42/ src/app.py; touch -d "$(cat /tmp/when)" src/app.py')
    true("+    return 42" in box.diff(), "the edit is in the patch")


@in_a_box
def a_patch_that_does_not_apply_changes_nothing(box: Sandbox) -> None:
    """A patch applies as a whole or not at all, and the result says why."""
    bad = (
        "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-# Reference\n+changed\n"
        "--- a/src/app.py\n+++ b/src/app.py\n@@ -1 +1 @@\n-nothing like it\n+x\n"
    )
    result = box.apply_patch(bad)
    true(not result.ok and "src/app.py" in result.output, f"it says why: {result.output}")
    equal(box.diff(), "")


@in_a_box
def a_patch_cannot_reach_outside(box: Sandbox) -> None:
    """A patch that names a path above the work tree, or behind a link, is refused."""
    for name in ("../outside", "/tmp/outside"):
        box.apply_patch(f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n")
    box.run("ln -s /tmp out")
    box.apply_patch("--- /dev/null\n+++ b/out/outside\n@@ -0,0 +1 @@\n+x\n")
    true(not box.run("ls /outside /tmp/outside").ok, "nothing was written")


@in_a_box
def making_a_patch_changes_nothing(box: Sandbox) -> None:
    """A patch can be asked for at any time: the box's own git and files stay as they are."""
    box.run("echo more >> README.md; echo staged > s; git add s")
    for _ in range(5):  # where a box has no /tmp of its own, others write there too; what a patch leaves, each one does
        before = box.run("git status --short; git rev-parse HEAD; ls -A; ls /tmp /dev/shm").output
        box.diff()
        after = box.run("git status --short; git rev-parse HEAD; ls -A; ls /tmp /dev/shm").output
        if after == before:
            break
    equal(after, before)
