"""Seal: the `.git` that an agent finds, holding the start and its past and nothing that came later.

A task with a planted bug, or with hidden tests, gets one commit without parents; otherwise the history up to the base
commit is kept. In both cases the folder is written new, file by file: no other commit, tag, branch, remote, reflog,
stash, hook, alternate or unreachable object is there to be found, and `verify_seal` counts the objects to prove it.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.repository.history import Stretch, link, pack_names
from swebench_lab.snapshots.repository.sources import IDENTITY

EXCLUDE = """\
__pycache__/
*.py[co]
.pytest_cache/
.hypothesis/
.mypy_cache/
.ruff_cache/
.coverage
*.egg-info/
"""
"""What running tests leaves behind; a patch must not carry it even where the repository has no `.gitignore`."""

_ALLOWED = {"HEAD", "config", "index", "shallow", "info", "objects", "refs"}
_ALLOWED_REFS = {"refs/heads", "refs/heads/main"}


def commit_start(git_dir: Path, work_tree: Path, objects: Sequence[Path], date: int, task: str) -> str:
    """Commit the work tree as the one commit of an unborn branch and return its name.

    The index must list the tracked files already; new files are taken from it, edits and deletions from the work tree.

    Args:
        git_dir: The repository; its HEAD names a branch that does not exist yet.
        work_tree: Its files.
        objects: Folders in which objects of unchanged files are found; `seal` copies them.
        date: Seconds since 1970; author, message and date are fixed, so the same files give the same name.
        task: Named in errors.
    """
    name, _, address = IDENTITY.rstrip(">").partition(" <")
    who = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
           for part, value in (("NAME", name), ("EMAIL", address), ("DATE", f"{date} +0000"))}  # fmt: skip
    git("commit", "--quiet", "--all", "--no-verify", "--allow-empty", "--cleanup=verbatim", "-m", "Initial commit",
        git_dir=git_dir, work_tree=work_tree, objects=objects, env=who,
        doing=f"sealing the tree of {task}")  # fmt: skip
    return (git_dir / "refs" / "heads" / "main").read_text().strip()


def seal(
    git_dir: Path, head: str, objects: Sequence[Path], shallow: Sequence[str], task: str, past: Sequence[Stretch] = ()
) -> None:
    """Make a repository hold exactly what can be reached from `head`: the packs of its past that are shared, or one pack.

    Args:
        git_dir: The repository, with its index in place; changed in place.
        head: The commit it shall show.
        objects: Folders in which further objects are found.
        shallow: Commits of those folders whose parents are not there.
        task: Named in errors.
        past: The chain of stretches that ends at `head`, oldest first; none: everything is packed here.
    """
    (git_dir / "refs" / "heads" / "main").write_text(head + "\n")
    if shallow:
        (git_dir / "shallow").write_text("".join(f"{sha}\n" for sha in sorted(shallow)))
    pack = git_dir / "objects" / "pack" / "pack"
    if not past:
        # --no-reuse-delta would make the pack's bytes independent of the source's packing, and take minutes on large ones.
        git("pack-objects", "--quiet", "--revs", "--non-empty", "--threads=1", pack, git_dir=git_dir,
            objects=objects, data=f"{head}\n", doing=f"sealing the history of {task}")  # fmt: skip
    link(past, pack.parent)
    for folder in (git_dir / "objects").iterdir():
        if len(folder.name) == 2:
            for loose in folder.iterdir():
                loose.unlink()
            folder.rmdir()
    (git_dir / "COMMIT_EDITMSG").unlink(missing_ok=True)
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "exclude").write_text(EXCLUDE)
    _forget_places(git_dir / "index")


def exclude(git_dir: Path, paths: Iterable[str]) -> None:
    """Make git ignore further files, named from the root of the tree."""
    with (git_dir / "info" / "exclude").open("a") as file:
        for path in sorted(paths):
            file.write("/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", path) + "\n")


def verify_seal(git_dir: Path, commits: int | None = None, past: Sequence[Stretch] = ()) -> str:
    """Prove that a `.git` folder holds what its HEAD reaches and nothing else.

    Args:
        git_dir: The folder, written by this package (never one that an agent could write to).
        commits: How many commits there must be; any number when not given.
        past: Stretches whose packs were proved when they were built; where they are found by name and size they are not
            read again. They must be of HEAD's own past, which is checked.

    Returns:
        The audit line.

    Raises:
        SnapshotError: Something else is in it; the message names it.
    """
    for path in sorted(git_dir.iterdir()):
        if path.name not in _ALLOWED:
            raise SnapshotError(f"verifying the seal of {git_dir}: it holds {path.name!r}, which may lead to the fix")
    for where, folders, names in os.walk(git_dir / "refs"):
        for name in (*folders, *names):
            reference = Path(where, name).relative_to(git_dir).as_posix()
            if reference not in _ALLOWED_REFS:
                raise SnapshotError(f"verifying the seal of {git_dir}: it holds the reference {reference!r}")
    doing = f"verifying the seal of {git_dir}"
    below = past[-1].head if past else ""
    if below:
        git("merge-base", "--is-ancestor", below, "HEAD", git_dir=git_dir, doing=f"{doing}: {below} is no ancestor")
    object_names = _object_names(git_dir, {path.name: path.stat().st_size for part in past for path in part.files})
    revisions = "HEAD\n" + (f"^{below}\n" if below else "")
    lines = git("rev-list", "--objects", "--stdin", git_dir=git_dir, data=revisions, doing=doing).splitlines()
    reached = {line[:40].decode() for line in lines}
    if surplus := sorted(set(object_names) - reached):
        raise SnapshotError(
            f"verifying the seal of {git_dir}: {len(surplus)} objects cannot be reached from HEAD, {surplus[0]} first"
        )
    count = sum(part.commits for part in past)
    count += sum(b" " not in line for line in lines)  # every tree and blob is listed with its path after a space
    if commits is not None and count != commits:
        raise SnapshotError(f"verifying the seal of {git_dir}: {count} commits where {commits} must be")
    head = (git_dir / "refs" / "heads" / "main").read_text().strip()
    objects = len(object_names) + sum(part.objects for part in past)
    return (
        f"sealed at {head}: {count} commit{'s' if count != 1 else ''}, {objects} objects, all reachable from HEAD; "
        "no tag, remote, reflog, stash, hook or alternate"
    )


def _object_names(git_dir: Path, proved: Mapping[str, int]) -> list[str]:
    """Return the names of all objects in the folder, from its packs' indexes and its loose files.

    Args:
        git_dir: The folder.
        proved: Sizes of files among the packs that are left out.
    """
    names: list[str] = []
    for path in (git_dir / "objects").iterdir():
        if len(path.name) == 2:
            names += [path.name + loose.name for loose in path.iterdir()]
        elif path.name not in ("info", "pack") or (path.name == "info" and any(path.iterdir())):
            raise SnapshotError(f"verifying the seal of {git_dir}: objects/{path.name} may lead to other objects")
    for path in sorted((git_dir / "objects" / "pack").iterdir()):
        if path.suffix not in (".idx", ".pack", ".rev"):
            raise SnapshotError(f"verifying the seal of {git_dir}: unexpected {path.name} among the packs")
        if path.suffix == ".idx" and proved.get(path.name) != path.stat().st_size:
            names += pack_names(path)
    return names


def _forget_places(index: Path) -> None:
    """Zero what an index says of device, inode, owner and change time, so that its bytes are the same everywhere.

    Git ignores these fields under `core.checkStat = minimal` and `core.trustctime = false`.
    """
    data = bytearray(index.read_bytes())
    signature, version, count = struct.unpack_from(">4sII", data)
    if signature != b"DIRC" or version not in (2, 3) or hashlib.sha1(data[:-20]).digest() != bytes(data[-20:]):
        return  # another git's format: only the reproducible bytes are lost
    at = 12
    for _ in range(count):
        struct.pack_into(">II", data, at, 0, 0)  # ctime
        struct.pack_into(">I", data, at + 12, 0)  # nanoseconds of mtime
        struct.pack_into(">II", data, at + 16, 0, 0)  # device, inode
        struct.pack_into(">II", data, at + 28, 0, 0)  # owner, group
        flags = struct.unpack_from(">H", data, at + 60)[0]
        begin = at + 62 + (2 if flags & 0x4000 else 0)
        end = data.index(0, begin)
        at += ((end - at) + 8) // 8 * 8
    data[-20:] = hashlib.sha1(data[:-20]).digest()
    index.write_bytes(data)


def start_repository(git_dir: Path, index: Path) -> None:
    """Write the repository a task's tree begins with: empty, not bare, with a copy of the clean tree's index."""
    make_repository(git_dir, bare=False)
    (git_dir / "index").write_bytes(index.read_bytes())
