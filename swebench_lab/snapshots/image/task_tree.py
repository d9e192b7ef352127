"""The tree of a task on an image, or another published file system, with a repository that is sealed like any other.

What the task starts from is its work directory (/testbed, unless the task or the image names another) as the image has it,
edits and build products included. Its `.git` is replaced: by the history up to the image's HEAD, one commit on top where
tracked files were edited; or by a single commit where the task plants a bug or hides tests. The image's own git
configuration and hooks are never read on this machine.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.records.patches.diff import touched_files
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.environment.image_pins import read_image_pins
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.image.root import Root
from swebench_lab.snapshots.repository import start
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.repository.seal import commit_start, exclude, seal, verify_seal
from swebench_lab.snapshots.repository.sources import IDENTITY, IMPORT_DATE
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.snapshots.environment.specs import Spec

VERSION = 1
"""Part of every key; a change of what is made here must raise it."""

PREFIX = "image:"
"""A task's `source` that begins so names an image: an archive, an OCI layout, `engine:NAME` or `docker://NAME`."""

_SHA = re.compile(r"^[0-9a-f]{40}$")


def tree_key(task: Task, image: Root) -> str:
    """Return the key of the START tree of a task on an image."""
    place = workdir_of(task, image)
    more = [place, sorted(task.removed)] if (place, task.removed) != ("testbed", ()) else []
    return _files.digest_of("image", VERSION, image.digest, start.tree_key(task, task.base_commit), *more)


def workdir_of(task: Task, image: Root) -> str:
    """Return where a task's repository lies in an image, from its root.

    Raises:
        SnapshotError: It is the root itself: what an attempt leaves is a patch of that folder.
    """
    place = os.path.normpath(task.workdir or image.workdir or "/").strip("/")
    if not place or place == "." or ".." in place.split("/"):
        raise SnapshotError(
            f"task {task.id}: its work directory is {task.workdir or image.workdir or '/'!r}; what an attempt leaves is a "
            "patch of that folder, so it must be one below the root: state it (`workdir`)"
        )
    return place


def environment(image: Root) -> dict[str, str]:
    """Return the variables of every command: the image's, with the environment that `conda activate testbed` gives."""
    prefix = read_image_pins(image.layers).prefix
    path = image.env.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    variables = {name: value for name, value in image.env.items() if name != "HOME"}
    if prefix.startswith("usr") or not prefix:
        return {**variables, "PATH": path}
    conda = (
        {"CONDA_PREFIX": f"/{prefix}", "CONDA_DEFAULT_ENV": "testbed"}
        if "/envs/" in prefix
        else {"VIRTUAL_ENV": f"/{prefix}"}
    )
    return {**variables, **conda, "PATH": f"/{prefix}/bin:{path}"}


def assemble(
    task: Task, spec: Spec, image: Root, folder: Path, marker: Mapping[str, Any], masks: tuple[str, ...] = (),
    beneath: tuple[Path, ...] = (), hidden: tuple[Path, ...] = (),
) -> Snapshot:  # fmt: skip
    """Return the Snapshot of a task on an image, all of which is there; its boxes do not show the masked files.

    Args:
        task: The task.
        spec: How it is tested.
        image: What it starts from.
        folder: The task's own tree.
        marker: What was noted of that.
        masks: Files that boxes do not show.
        beneath: Further layers, below the image's.
        hidden: Folders of this machine that boxes do not show.
    """
    workdir = workdir_of(task, image)
    pins = read_image_pins(image.layers)
    env = {**environment(image), **spec.env}
    name = task.image or next(iter(image.names), image.source.removeprefix("engine:").removeprefix("docker://"))
    tree_facts = {field: marker[field] for field in ("source", "base_commit", "head", "seal", "not_hidden", "bytes")}
    meta = {"task": task.id, "repo": task.repo, **tree_facts, "python": pins.python, "interpreter": f"/{pins.prefix}/bin/python",
            "pins": list(pins.packages), "packages_from": "image", "paths": [], "site_packages": f"/{pins.site_packages}",
            "tree": folder.name, "env": "", "install": "", "image_layers": list(image.keys), "image": name,
            "workdir": f"/{workdir}", "image_source": image.source, "spec": spec.to_dict(), "masks": list(masks),
            "python_note": image.note, "builder": [VERSION]}  # fmt: skip
    return Snapshot(
        key=_files.digest_of(folder.name, image.digest, env, *masks),
        layers=(folder / "layer", *image.layers, *beneath),
        binds=(),
        git_dir=folder / "layer" / workdir / ".git",
        head=marker["head"],
        env=env,
        tests=folder / "tests",
        meta=meta,
        hidden=(*hidden, *map(Path, masks)),
        own_root=image.own_root,
        workdir=f"/{workdir}",
        user=image.user,
    )


def build_tree(folder: Path, task: Task, image: Root) -> dict[str, Any]:
    """Write a task's layer, what of it differs from the image (`delta/`) and its true tests into an empty folder.

    Raises:
        SnapshotError: The image does not hold the work directory, its HEAD is not where the task starts from, or the
            seal does not hold.
    """
    workdir = workdir_of(task, image)
    folders = oci.stacked(image.layers, workdir)
    if not folders and task.verifier is None:  # where a script grades, an empty folder may be what it starts from
        raise SnapshotError(f"task {task.id}: the image {image.source} holds no /{workdir}")
    tree, old = folder / "layer" / workdir, folder / "git"
    tree.parent.mkdir(parents=True)
    _take(folders, tree, image, skip=(".git",))
    tests = start.keep_tests(tree, folder / "tests", start.test_paths(task))
    _take(oci.stacked(image.layers, f"{workdir}/.git"), old, image)
    changes, facts = _seal(tree, old, task, image.source)
    store.remove(old)
    store.make_opaque(tree)
    _delta(folder / "delta" / workdir, tree, changes)
    _remove(folder / "layer", task.removed)
    return {
        "task": task.id, "repo": task.repo, "source": f"{PREFIX}{image.source}", "tests": tests,
        "bytes": _files.size_of(tree / ".git"), "digest": store.digest_tree(folder / "layer"), **facts,
    }  # fmt: skip


def _take(folders: list[Path], target: Path, image: Root, skip: tuple[str, ...] = ()) -> None:
    """Reproduce a folder of an image; by links, unless its files are somebody's."""
    if not image.in_place:
        oci.lay_out(folders, target, skip)
        return
    target.mkdir()
    for entry in (entry for place in reversed(folders) for entry in place.iterdir() if entry.name not in skip):
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target / entry.name, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(entry, target / entry.name, follow_symlinks=False)


def _remove(layer: Path, paths: tuple[str, ...]) -> None:
    """Mark paths of an image as deleted."""
    for path in paths:
        place = layer / os.path.normpath(path).strip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(place, 0o020000, os.makedev(0, 0))


def _seal(tree: Path, old: Path, task: Task, source: str) -> tuple[set[str], dict[str, Any]]:
    """Give a tree its sealed repository; returns the files that differ from the image's, and facts."""
    git_dir = tree / ".git"
    make_repository(git_dir, bare=False)
    (old / "objects" / "info" / "alternates").unlink(missing_ok=True)  # would lead to objects of this machine
    objects = [old / "objects"] if (old / "objects").is_dir() else []
    head = _head(old) if objects else ""
    places: dict[str, Any] = {"git_dir": git_dir, "work_tree": tree, "objects": objects}
    if head:
        _check_start(head, task, source, places)
        git("read-tree", head, **places, doing=f"reading the repository of {source}")
        (git_dir / "refs" / "heads" / "main").write_text(f"{head}\n")
    else:
        git("add", "--all", **places)
    status = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", **places).decode(
        "utf-8", "surrogateescape"
    )
    entries = [line for line in status.split("\0") if line]
    untracked = [line[3:] for line in entries if line.startswith("??")] if head else []
    dirty = any(not line.startswith("??") for line in entries)
    git("add", "--update", **places)
    changes = _plant(task, tree, places)
    (git_dir / "refs" / "heads" / "main").unlink(missing_ok=True)
    shallow: tuple[str, ...] = ()
    commits: int | None = None
    if changes or not head:
        tip, commits = commit_start(git_dir, tree, objects, IMPORT_DATE, f"task {task.id}"), 1
    else:
        tip = _on_top(head, places) if dirty else head
        shallow = _lines(old / "shallow")
    seal(git_dir, tip, objects, shallow, f"task {task.id}")
    audit = verify_seal(git_dir, commits=commits)
    exclude(git_dir, [path.rstrip("/") for path in untracked])
    return changes, {"base_commit": task.base_commit or head, "head": tip, "seal": audit, "not_hidden": []}


def _plant(task: Task, tree: Path, places: Mapping[str, Any]) -> set[str]:
    """Plant the task's bug and cut out its hidden tests; returns the files that changed."""
    changes: set[str] = set()
    if task.setup_patch:
        data = task.setup_patch.encode("utf-8", "surrogateescape")
        git(
            "apply",
            "--index",
            "--whitespace=nowarn",
            "-",
            **places,
            data=data,
            doing=f"applying the setup patch of task {task.id}",
        )
        changes |= set(touched_files(task.setup_patch))
    if task.hide_tests:
        start.hide_tests(tree, task.fail_to_pass)
        changes |= {test.partition("::")[0] for test in task.fail_to_pass}
    return changes


def _check_start(head: str, task: Task, source: str, places: Mapping[str, Any]) -> None:
    """Refuse an image whose HEAD is beyond where the task starts from: what comes later may be the fix."""
    doing = f"reading the repository of {source}"
    if not _SHA.match(task.base_commit) or not _has(task.base_commit, places):
        return  # tasks made on copies of repositories name commits that the image does not have
    beyond = git("rev-list", "--count", f"{task.base_commit}..{head}", **places, doing=doing).decode().strip()
    if int(beyond) > 1:  # one commit of the environment's own edits is what such images have
        raise SnapshotError(
            f"task {task.id}: HEAD of the image {source} is {beyond} commits beyond the task's base {task.base_commit[:12]}; "
            "it may hold the fix"
        )


def _has(commit: str, places: Mapping[str, Any]) -> bool:
    try:
        git("cat-file", "-e", f"{commit}^{{commit}}", **places)
    except SnapshotError:
        return False
    return True


def _on_top(head: str, places: Mapping[str, Any]) -> str:
    """Commit the image's own edits on top of its HEAD; the same edits give the same name."""
    name, _, address = IDENTITY.rstrip(">").partition(" <")
    who = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
           for part, value in (("NAME", name), ("EMAIL", address), ("DATE", f"{IMPORT_DATE} +0000"))}  # fmt: skip
    tree = git("write-tree", **places).decode().strip()
    return git("commit-tree", tree, "-p", head, "-m", "Environment", **places, env=who).decode().strip()


def _head(old: Path) -> str:
    """The commit that a repository's HEAD names, read without running git in it."""
    text = _text(old / "HEAD")
    for _ in range(5):
        if _SHA.match(text):
            return text
        name = text.removeprefix("ref: ").strip()
        if not re.fullmatch(r"refs/[\w./-]+", name) or ".." in name:
            return ""
        text = _text(old / name) or _ref_commit(old, name)
    return ""


def _ref_commit(old: Path, name: str) -> str:
    lines = (line.split(" ") for line in _lines(old / "packed-refs", words=False) if not line.startswith(("#", "^")))
    return next((line[0] for line in lines if line[1:] == [name]), "")


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace").strip() if path.is_file() and not path.is_symlink() else ""


def _lines(path: Path, words: bool = True) -> tuple[str, ...]:
    text = _text(path)
    return tuple(text.split() if words else text.split("\n"))


def _delta(target: Path, tree: Path, changes: set[str]) -> None:
    """Write what an engine's own image lacks: the sealed repository and the changed files, as a tree of changes."""
    target.mkdir(parents=True)
    start.link_tree(tree / ".git", target / ".git")
    store.make_opaque(target / ".git")
    for path in sorted(changes):
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if (tree / path).exists():
            os.link(tree / path, place, follow_symlinks=False)
        else:
            os.mknod(place, 0o020000, os.makedev(0, 0))
