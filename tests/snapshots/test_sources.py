"""Where repositories come from: the same files are the same commit everywhere; nothing is run on the way."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.repository.sources import open_source
from swebench_lab.snapshots.storage import store
from tests.sandbox.repositories import FILES, git, with_history, write


def sdist(path: Path, members: dict[str, bytes | tuple[str, str]]) -> None:
    """Write an archive; a pair is a link: its type and target."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                entry.type = tarfile.SYMTYPE if content[0] == "symlink" else tarfile.LNKTYPE
                entry.linkname = content[1]
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o600
                tar.addfile(entry, io.BytesIO(content))


def as_downloaded(cache: Path, members: dict[str, bytes | tuple[str, str]]) -> None:
    """Put an archive where a download would have put it."""
    folder = cache / "downloads" / "calc-1.0"
    folder.mkdir(parents=True)
    sdist(folder / "calc-1.0.tar.gz", members)
    _files.write_json(folder / store.MARKER, {"archive": "calc-1.0.tar.gz"})


def test_the_same_files_are_the_same_commit_wherever_they_lie_and_whatever_their_modes(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", FILES), write(tmp_path / "elsewhere" / "two", FILES)
    (two / "src" / "calc.py").chmod(0o777)
    write(two, {"src/__pycache__/calc.cpython-311.pyc": "x", ".venv/lib/a.py": "x"})
    a, b = open_source(str(one), tmp_path / "cache a"), open_source(str(two), tmp_path / "cache b")
    assert a.head == b.head
    assert git(a.git_dir, "ls-tree", "-r", "--name-only", "HEAD").split() == sorted(FILES)
    modes = dict(line.split()[::3] for line in git(a.git_dir, "ls-tree", "-r", "HEAD").splitlines())
    assert modes == {"100644": "tests/test_calc.py", "100755": "run.sh"}


def test_a_bundled_repository_has_one_commit_with_a_fixed_date(tmp_path: Path) -> None:
    source = open_source("", tmp_path, repo="demo/textgrid")
    assert git(source.git_dir, "rev-list", "--count", "HEAD") == "1"
    assert git(source.git_dir, "log", "--format=%an %at %ct") == "swebench_lab 1577836800 1577836800"
    assert open_source("demo:textgrid", tmp_path).head == source.head


def test_an_unknown_bundled_repository_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"'nowhere'.*known are .*textgrid"):
        open_source("demo:nowhere", tmp_path)


@pytest.mark.parametrize("form", ["path", "bare", "url", "linked work tree", "relative"])
def test_a_git_repository_is_found_in_every_form(tmp_path: Path, form: str) -> None:
    base, fix = with_history(tmp_path / "repo")
    place = str(tmp_path / "repo")
    if form == "bare":
        git(tmp_path, "clone", "-q", "--bare", "repo", "bare.git")
        place = str(tmp_path / "bare.git")
    elif form == "url":
        place = f"file://{tmp_path}/repo"
    elif form == "linked work tree":
        git(tmp_path / "repo", "worktree", "add", "-q", "../linked", "future")
        place = str(tmp_path / "linked")
    elif form == "relative":
        place = os.path.relpath(tmp_path / "repo")
    source = open_source(place, tmp_path / "cache")
    assert source.head == fix
    assert source.checkout(tmp_path / "out", base) == base
    assert "a - b" in (tmp_path / "out" / "src" / "calc.py").read_text()
    assert not (tmp_path / "out" / ".git").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server for the files below the test's folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    try:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
            socket.create_connection(running.server_address[:2], 1).close()
            thread = threading.Thread(target=running.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{running.server_address[1]}"
            running.shutdown()
            thread.join()
    except OSError as error:
        pytest.skip(f"this machine has no loopback network: {error}")


def test_a_remote_repository_is_mirrored_once_and_fetched_when_a_commit_is_missing(tmp_path: Path, server: str) -> None:
    with_history(tmp_path / "repo")
    git(tmp_path, "clone", "-q", "--bare", "repo", "web.git")
    git(tmp_path / "web.git", "update-server-info")
    url = f"{server}/web.git"
    first = open_source(url, tmp_path / "cache")
    write(tmp_path / "repo", {"later.py": ""})
    git(tmp_path / "repo", "add", "-A")
    git(tmp_path / "repo", "commit", "-qm", "later")
    later = git(tmp_path / "repo", "rev-parse", "HEAD")
    git(tmp_path / "repo", "push", "-q", str(tmp_path / "web.git"), "HEAD:refs/heads/more")
    git(tmp_path / "web.git", "update-server-info")
    assert open_source(url, tmp_path / "cache") == first, "no look at the server when nothing is missing"
    assert open_source(url, tmp_path / "cache", commit=later).resolve(later) == later
    shutil.rmtree(tmp_path / "web.git")
    assert open_source(url, tmp_path / "cache", commit=later).resolve(later) == later
    with pytest.raises(SnapshotError, match=r"cloning http://127.0.0.1.*SWEBENCH_LAB_REPOS"):
        open_source(f"{server}/none.git", tmp_path / "cache")


def test_a_password_in_a_url_is_in_no_message(tmp_path: Path, server: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        open_source(server.replace("://", "://me:secret@") + "/none.git", tmp_path / "cache")
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user_works(tmp_path: Path) -> None:
    base, _ = with_history(tmp_path / "repo")
    for path in [tmp_path / "repo", *_files.walk(tmp_path / "repo")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    assert open_source(str(tmp_path / "repo"), tmp_path / "cache").checkout(tmp_path / "out", base) == base


def test_configuration_and_hooks_of_the_source_and_of_the_user_are_not_run(tmp_path: Path) -> None:
    base, _ = with_history(tmp_path / "repo")
    write(tmp_path / "repo" / ".git" / "hooks", {"post-checkout": f"#!/bin/sh\ntouch {tmp_path}/ran\n"})
    (tmp_path / "repo" / ".git" / "hooks" / "post-checkout").chmod(0o755)
    git(tmp_path / "repo", "config", "core.fsmonitor", f"touch {tmp_path}/ran")
    git(tmp_path / "repo", "config", "filter.evil.smudge", f"touch {tmp_path}/ran")
    write(tmp_path / "repo" / ".git" / "info", {"attributes": "* filter=evil\n"})
    open_source(str(tmp_path / "repo"), tmp_path / "cache").checkout(tmp_path / "out", base)
    assert not (tmp_path / "ran").exists()


def test_a_missing_commit_names_commit_and_repository(tmp_path: Path) -> None:
    with_history(tmp_path / "repo")
    with pytest.raises(SnapshotError, match=f"'{'1' * 40}' in .*repo.*its head is"):
        open_source(str(tmp_path / "repo"), tmp_path / "cache").resolve("1" * 40)


@pytest.mark.parametrize("text", ["pypi:calc", "pypi:calc>=1", "pypi:../x==1", "/no/such/folder", "demo:../up"])
def test_a_source_that_makes_no_sense_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(SnapshotError, match=r"expected 'pypi:name==version'|no such folder|cannot be the name"):
        open_source(text, tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SnapshotError, match="empty"):
        open_source(str(tmp_path / "empty"), tmp_path / "cache")


def test_a_source_distribution_works_offline_once_it_was_downloaded(tmp_path: Path) -> None:
    files: dict[str, bytes | tuple[str, str]] = {f"calc-1.0/{n}": t.encode() for n, t in FILES.items()}
    as_downloaded(tmp_path / "cache", {**files, "calc-1.0/link": ("symlink", "src/calc.py")})
    source = open_source("pypi:Calc==1.0", tmp_path / "cache")
    source.checkout(tmp_path / "out")
    assert (tmp_path / "out" / "src" / "calc.py").read_text() == FILES["src/calc.py"]
    assert (tmp_path / "out" / "link").readlink() == Path("src/calc.py")
    assert open_source(str(tmp_path / "out"), tmp_path / "cache").head == source.head


@pytest.mark.parametrize(
    "member",
    [
        {"calc-1.0/../../evil": b"x"},
        {"calc-1.0/.git/hooks/x": b"x"},
        {"calc-1.0/a/.GIT/config": b"x"},
        {"calc-1.0/link": ("symlink", "/etc/passwd")},
        {"calc-1.0/a/link": ("symlink", "../../outside")},
    ],
)
def test_an_archive_that_reaches_out_of_its_tree_is_refused(tmp_path: Path, member: dict[str, bytes]) -> None:
    as_downloaded(tmp_path / "cache", {"calc-1.0/a.py": b"", **member})
    with pytest.raises(SnapshotError, match=r"is not a path inside the tree|leads out of the tree"):
        open_source("pypi:calc==1.0", tmp_path / "cache")


def test_a_damaged_archive_names_what_to_delete(tmp_path: Path) -> None:
    as_downloaded(tmp_path / "cache", {"calc-1.0/a.py": b"x" * 10000})
    archive = tmp_path / "cache" / "downloads" / "calc-1.0" / "calc-1.0.tar.gz"
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(SnapshotError, match=r"unpacking calc-1.0.tar.gz.*delete"):
        open_source("pypi:calc==1.0", tmp_path / "cache")


def test_a_marker_is_plain_json(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "one", FILES)), tmp_path / "cache")
    marker = json.loads((source.git_dir.parent / store.MARKER).read_text())
    assert marker["head"] == source.head


def test_a_plain_folder_is_read_again_only_when_something_in_it_was_changed(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n")
    first = open_source(str(folder), tmp_path / "cache")
    assert open_source(str(folder), tmp_path / "cache") is first
    times = (folder / "a.py").stat()
    (folder / "a.py").write_text("x = 2\n")  # the same size, and then the same time of change of its content
    os.utime(folder / "a.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_source(str(folder), tmp_path / "cache").head != first.head
    (folder / "a.py").write_text("x = 1\n")
    assert open_source(str(folder), tmp_path / "cache").head == first.head
