"""Patches are made, reversed and listed as git itself would."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swebench_lab.records.patches.diff import file_diff, make_patch, parse_patch, reverse_patch, touched_files

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false"]


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run([*GIT, *arguments], cwd=folder, input=stdin, capture_output=True, check=True).stdout


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".git" not in p.relative_to(folder).parts
    }


def clear(folder: Path) -> None:
    for name in tree(folder):
        (folder / name).unlink()


def repository(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    fill(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "start")
    return folder


LINES = st.lists(
    st.sampled_from(["a", "b", "", "-x", "+y", "--- a/q", "+++ b/q", "@@ -1 +1 @@", " z", "é\x0c\x85", "w\r"]),
    max_size=12,
)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))
NAMES = st.sampled_from(["x.py", "sub/y.py", "a/b/z.txt", "with blank.md", 'q"uote.txt', "naïve.py", "b/b/x b/b/x"])
TREES = st.dictionaries(NAMES, TEXTS, max_size=5)


@given(before=TREES, after=TREES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reverse_undoes_what_git_diff_wrote(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, str], after: dict[str, str]
) -> None:
    old, new = ({name: text.encode() for name, text in side.items()} for side in (before, after))
    repo = repository(tmp_path_factory.mktemp("git") / "repo", old)
    clear(repo)
    fill(repo, new)
    git(repo, "add", "-A")
    patch = git(repo, "diff", "--cached", "--no-renames", "HEAD").decode()
    assert set(touched_files(patch)) == {name for name in old | new if old.get(name) != new.get(name)}
    assert reverse_patch(reverse_patch(patch)) == patch
    if patch:
        git(repo, "apply", "--whitespace=nowarn", stdin=reverse_patch(patch).encode())
    assert tree(repo) == old


@given(before=TREES, after=TREES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_made_patch_applies_and_its_reverse_restores(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, str], after: dict[str, str]
) -> None:
    old, new = ({name: text.encode() for name, text in side.items()} for side in (before, after))
    repo = repository(tmp_path_factory.mktemp("git") / "repo", old)
    patch = make_patch(before, {name: after.get(name) for name in before | after})
    if patch:
        git(repo, "apply", "--whitespace=nowarn", stdin=patch.encode())
    assert tree(repo) == new
    if patch:
        git(repo, "apply", "--whitespace=nowarn", stdin=reverse_patch(patch).encode())
    assert tree(repo) == old


@given(patch=st.builds(lambda a, b: file_diff("m.py", a, b), TEXTS, TEXTS))
def test_reversing_twice_gives_the_patch_back(patch: str) -> None:
    assert reverse_patch(reverse_patch(patch)) == patch
    _, files = parse_patch(patch)
    assert "".join(file.text() for file in files) == patch


def test_renames_modes_and_binary_files_are_reversed(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % i for i in range(30))
    repo = repository(
        tmp_path / "repo", {"old.py": text, "run.sh": b"echo\n", "pic.bin": bytes(range(256)) * 4, "gone.bin": b"\0\1"}
    )
    start = tree(repo)
    git(repo, "mv", "old.py", "new name.py")
    fill(
        repo,
        {
            "new name.py": text.replace(b"line 3\n", b"line three\n"),
            "pic.bin": bytes(range(255, -1, -1)) * 4,
            "born.bin": b"\0\2",
        },
    )
    (repo / "run.sh").chmod(0o755)
    (repo / "gone.bin").unlink()
    git(repo, "add", "-A")
    patch = git(repo, "diff", "--cached", "--binary", "-M", "HEAD").decode()
    assert "rename from old.py" in patch and "old mode 100644" in patch and "GIT binary patch" in patch
    assert set(touched_files(patch)) == {"old.py", "new name.py", "run.sh", "pic.bin", "gone.bin", "born.bin"}
    git(repo, "apply", "--index", stdin=reverse_patch(patch).encode())
    assert tree(repo) == start
    assert not git(repo, "status", "--porcelain")
    git(repo, "apply", "--index", stdin=patch.encode())
    assert git(repo, "diff", "--cached", "--binary", "-M", "HEAD").decode() == patch


def test_a_file_changed_twice_is_undone_last_change_first(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", {"m.py": b"one\n"})
    twice = file_diff("m.py", "one\n", "two\n") + file_diff("m.py", "two\n", "three\n")
    git(repo, "apply", stdin=twice.encode())
    assert tree(repo) == {"m.py": b"three\n"}
    git(repo, "apply", stdin=reverse_patch(twice).encode())
    assert tree(repo) == {"m.py": b"one\n"}


def test_text_around_the_diff_is_kept() -> None:
    mail = "From: me\nSubject: [PATCH] x\n\n---\n m.py | 2 +-\n\n" + file_diff("m.py", "a\n", "b\n") + "-- \n2.39.5\n\n"
    back = reverse_patch(mail)
    assert back.startswith("From: me\n") and back.endswith("-- \n2.39.5\n\n")
    assert "-b\n+a\n" in back
    assert touched_files(mail) == ("m.py",)


def test_a_bare_unified_diff_is_understood() -> None:
    bare = "--- a/m.py\n+++ b/m.py\n@@ -1,2 +1 @@\n keep\n-gone\n--- a/n.py\n+++ b/n.py\n@@ -0,0 +1 @@ def f():\n+new\n"
    assert touched_files(bare) == ("m.py", "n.py")
    assert "@@ -1 +1,2 @@\n keep\n+gone\n--- a/n.py\n+++ b/n.py\n@@ -1 +0,0 @@ def f():\n-new\n" in reverse_patch(bare)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("just words\n", "no file header"),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n", "too early"),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ one @@\n a\n", "not a hunk header"),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\nwhat\n", "no line of a hunk"),
        ("diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to y\n", "copied"),
        ("diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n", "without its data"),
        ("diff --cc x\nindex 1,2..3\n--- a/x\n+++ b/x\n@@@ -1 -1 +1 @@@\n++a\n", "combined"),
    ],
)
def test_what_cannot_be_reversed_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        reverse_patch(text)


def test_an_empty_patch_touches_nothing() -> None:
    assert reverse_patch("") == "" and touched_files("") == () and make_patch({"a": "x"}, {"a": "x"}) == ""
