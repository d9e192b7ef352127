"""Start trees: the files a task starts from and its sealed `.git`, written as one read-only layer.

A *base* is the clean files of one commit, written once and shared by hard links with every tree made from it; an edited
file gets a new inode, so a base never changes. All files carry one fixed time, so that links can be shared and a file
that an agent touches is always newer than what was compiled or built from it.
"""

from __future__ import annotations

import configparser
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.records.patches.diff import touched_files
from swebench_lab.snapshots.environment.venv import WORKDIR
from swebench_lab.snapshots.repository import history, submodules
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.repository.hidden_tests import by_file, cut_tests
from swebench_lab.snapshots.repository.seal import commit_start, exclude, seal, start_repository, verify_seal
from swebench_lab.snapshots.repository.sources import IMPORT_DATE, Source, read_tree
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

if TYPE_CHECKING:
    from swebench_lab.records.task import Task

VERSION = 4
"""Part of every tree's key; a change of what is written here must raise it."""

log = logging.getLogger(__name__)

_HARNESS = ("conftest.py", "pytest.ini", ".pytest.ini", "tox.ini")


def tree_key(task: Task, commit: str, build: str = "") -> str:
    """Return the key of a task's START tree: a hash of all that goes into it, the project's own build included."""
    tests = sorted(task.fail_to_pass) if task.hide_tests else []
    return _files.digest_of(VERSION, commit, task.setup_patch, tests, sorted(test_paths(task)), build)


def test_paths(task: Task) -> set[str]:
    """Return the files that hold the deciding tests, as far as ids and test patch name them."""
    paths = {test.partition("::")[0] for test in (*task.fail_to_pass, *task.pass_to_pass) if "::" in test}
    return paths | set(touched_files(task.test_patch) if task.test_patch else ())


# --- the clean files of a commit --------------------------------------------------------------------------------------


def build_base(folder: Path, source: Source, commit: str, pool: Path) -> dict[str, Any]:
    """Write a commit's clean files (`tree/`) and the index that describes them (`index`) into an empty folder.

    Args:
        folder: Where to.
        source: The repository.
        commit: Full name of the commit.
        pool: Files of other commits, which equal ones become hard links of.
    """
    tree, git_dir = folder / "tree", folder / "repository"
    tree.mkdir()
    make_repository(git_dir, bare=False)
    read_tree(source, commit, git_dir, tree)
    filled, missing = submodules.fill(tree, git_dir, source)
    if missing:
        log.warning("%s at %s: no files of its submodules %s", source.name, commit[:12], ", ".join(missing))
    for path in _files.walk(tree):
        _stamp(path)
    store.share_files(tree, pool)
    git("update-index", "-q", "--refresh", git_dir=git_dir, work_tree=tree, objects=[source.objects])
    doing = f"reading commit {commit[:12]} of {source.name}"
    # Not `git log`: in a shallow repository that would look for parents that are not there.
    content = git("cat-file", "commit", commit, git_dir=git_dir, objects=[source.objects], doing=doing).decode(
        "latin-1"
    )
    date = re.search(r"^committer .* (\d+) [+-]\d+$", content, re.MULTILINE)
    (git_dir / "index").rename(folder / "index")
    store.remove(git_dir)
    return {
        "commit": commit,
        "source": source.name,
        "date": int(date[1]) if date else IMPORT_DATE,
        "bytes": _files.size_of(tree),
        "submodules": filled,
        "submodules_missing": missing,
    }


def _stamp(path: Path) -> None:
    os.utime(path, (IMPORT_DATE, IMPORT_DATE), follow_symlinks=False)


def link_tree(source: Path, target: Path) -> None:
    """Reproduce a folder by hard links, or by copies where the file system does not link."""
    target.mkdir(parents=True)
    for where, folders, names in os.walk(source):
        here = target / Path(where).relative_to(source)
        for name in (*folders, *names):
            path = Path(where, name)
            if name in folders and not path.is_symlink():
                (here / name).mkdir()
            else:
                _link(path, here / name)


def _link(path: Path, target: Path) -> None:
    if path.is_symlink():
        target.symlink_to(os.readlink(path))
        _stamp(target)
        return
    try:
        os.link(path, target)
    except OSError:  # another file system, too many links, or not permitted: a copy serves as well
        shutil.copy2(path, target)


# --- the tree of a task -----------------------------------------------------------------------------------------------


def build_tree(
    folder: Path,
    task: Task,
    source: Source,
    commit: str,
    base: Path,
    root: Path,
    ignored: Iterable[str] = (),
    build_once: BuildOnce = store.build_once,
) -> dict[str, Any]:
    """Write a task's layer (`layer/testbed`) and its true test files (`tests/`) into an empty folder.

    Args:
        folder: Where to.
        task: The task.
        source: The repository.
        commit: The full name of the task's base commit.
        base: The base folder of that commit.
        root: Of the cache, where packs of the history are kept.
        ignored: Files that the project's own build adds below the tree; git ignores them, so that no patch holds them.
        build_once: Builds a pack of the history where it is not there.

    Returns:
        Facts for the Snapshot's meta: sealed head, audit line, hidden tests, digest, bytes.

    Raises:
        SnapshotError: The setup patch does not apply, or the seal does not hold.
    """
    tree = folder / "layer" / WORKDIR
    link_tree(base / "tree", tree)
    git_dir = tree / ".git"
    start_repository(git_dir, base / "index")
    objects = [source.objects]
    if task.setup_patch:
        git("apply", "--index", "--whitespace=nowarn", "-", git_dir=git_dir, work_tree=tree, objects=objects,
            data=task.setup_patch.encode("utf-8", "surrogateescape"),
            doing=f"applying the setup patch of task {task.id} to {source.name} at {commit[:12]}")  # fmt: skip
    not_hidden, change_count = hide_tests(tree, task.fail_to_pass) if task.hide_tests else ([], 0)
    for path in _files.walk(tree):
        if path.relative_to(tree).parts[0] != ".git" and path.lstat().st_mtime != IMPORT_DATE:
            _stamp(path)
    head = commit
    if task.setup_patch or change_count:
        marker = store.read_marker(base) or {}
        head = commit_start(git_dir, tree, objects, int(marker.get("date", IMPORT_DATE)), f"task {task.id}")
        seal(git_dir, head, objects, (), f"task {task.id}")
        audit = verify_seal(git_dir, commits=1)
    else:
        past = () if source.shallow else history.stretches(root, source.objects, commit, source.name, build_once)
        seal(git_dir, head, objects, source.shallow, f"task {task.id}", past)
        audit = verify_seal(git_dir, past=past)
    exclude(git_dir, ignored)
    tests = keep_tests(base / "tree", folder / "tests", test_paths(task))
    return {
        "task": task.id, "repo": task.repo, "source": source.name, "base_commit": commit, "head": head, "seal": audit,
        "submodules_missing": list((store.read_marker(base) or {}).get("submodules_missing", ())),
        "not_hidden": not_hidden, "tests": tests, "digest": store.digest_tree(folder / "layer"),
        "bytes": _files.size_of(folder),
    }  # fmt: skip


def hide_tests(tree: Path, tests: Iterable[str]) -> tuple[list[str], int]:
    """Cut test functions out of a tree's files; a file without any test left is removed.

    Returns:
        Those that were not found, as `file::Class::name`, and how many files were changed.
    """
    missing: list[str] = []
    count = 0
    for name, functions in by_file(tests).items():
        path = regular_file(tree, name)
        text = _text(path) if path else None
        if path is None or text is None:
            missing += ["::".join((name, *names)) for names in functions]
            continue
        rest, not_found = cut_tests(text, functions)
        missing += ["::".join((name, *names)) for names in not_found]
        if rest != text:
            count += 1
            mode = path.stat().st_mode
            path.unlink()  # never write in place: the file is the clean tree's too
            if rest is not None:
                path.write_bytes(rest.encode())
                path.chmod(mode)
    return missing, count


def regular_file(tree: Path, name: str) -> Path | None:
    """Return a file of a tree when no part of its path is a link or leads outside."""
    path = tree
    for part in Path(name).parts:
        path = path / part
        if part in ("..", "/", ".git") or path.is_symlink():
            return None
    return path if path.is_file() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return None


def keep_tests(clean: Path, folder: Path, paths: Iterable[str]) -> list[str]:
    """Link the true test and harness files of the clean tree into a folder that no box sees; return their names."""
    paths = set(paths)
    names = {name for name in paths | _test_packages(paths) if regular_file(clean, name)} | set(_harness_files(clean))
    folder.mkdir()
    for name in sorted(names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(clean / name, target)
    return sorted(names)


def _test_packages(names: Iterable[str]) -> set[str]:
    """Return the `__init__.py` of the folders that hold tests, from a folder called `test` or `tests` downwards.

    Those above it belong to the code, which a patch may rightly change.
    """
    packages: set[str] = set()
    for parts in (Path(name).parts[:-1] for name in names):
        first = next((at for at, part in enumerate(parts) if part in ("test", "tests")), len(parts))
        packages |= {"/".join((*parts[: end + 1], "__init__.py")) for end in range(first, len(parts))}
    return packages


def _harness_files(clean: Path) -> Iterator[str]:
    """Yield the files that steer pytest: conftest.py, its own settings files, and setup.cfg where it holds settings."""
    for path in _files.walk(clean):
        relative = path.relative_to(clean).as_posix()
        if path.is_symlink() or not path.is_file():
            continue
        if path.name in _HARNESS or (path.name == "setup.cfg" and _has_pytest_section(path)):
            yield relative


def _has_pytest_section(path: Path) -> bool:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text("utf-8", errors="replace"))
    except configparser.Error:
        return True  # not readable here, perhaps readable for pytest: rather restored once too often
    return any("pytest" in section for section in parser.sections())


def same_content(layer: Path, digest: str, what: str) -> None:
    """Check a layer against the digest noted when it was built.

    Raises:
        SnapshotError: It has changed.
    """
    if store.digest_tree(layer) != digest:
        raise SnapshotError(f"verifying {what}: {layer} is not as it was built; evict it and build it again")
