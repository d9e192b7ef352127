"""Submodules: fills the folders of a commit's submodules from clones that the source has already, and names the others.

Nothing is fetched: `.gitmodules` is the repository's, and may name any address.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.repository.sources import Source, common_dir, git_dir_of, read_tree

_LINK = "160000"  # git's mode of a submodule in a tree
_DEEPEST = 4


def fill(tree: Path, git_dir: Path, source: Source, depth: int = 0) -> tuple[list[str], list[str]]:
    """Write the files of the submodules of a tree.

    Args:
        tree: The clean files of a commit.
        git_dir: A repository whose index lists them.
        source: Where they came from; its `.git/modules` and its work tree are looked into.
        depth: How many submodules it is below.

    Returns:
        The paths of those that were filled, and of those whose files are not there.
    """
    filled: list[str] = []
    missing: list[str] = []
    names = _names(tree)
    for path, commit in _links(git_dir):
        place = tree / path
        result = None
        if depth < _DEEPEST and not place.is_symlink() and place.resolve().is_relative_to(tree.resolve()):
            result = _fill_one(place, commit, _clones(source, path, names.get(path, path), commit), depth)
        if result is None:
            missing.append(path)
            continue
        filled += [path, *(f"{path}/{name}" for name in result[0])]
        missing += [f"{path}/{name}" for name in result[1]]
    return filled, missing


def _fill_one(place: Path, commit: str, clones: Iterator[Source], depth: int) -> tuple[list[str], list[str]] | None:
    """Write the files of one submodule from the first clone that has its commit, and those below it."""
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as folder:
        own = Path(folder) / "git"
        make_repository(own, bare=False)
        for clone in clones:
            try:
                # Not by way of the clone's own settings, which may name a work tree that is gone.
                git("cat-file", "-e", f"{commit}^{{tree}}", git_dir=own, objects=[clone.objects])
            except SnapshotError:
                continue
            place.mkdir(parents=True, exist_ok=True)
            read_tree(clone, commit, own, place)
            return fill(place, own, clone, depth + 1)
    return None


def _links(git_dir: Path) -> list[tuple[str, str]]:
    listing = git("ls-files", "--stage", "-z", git_dir=git_dir).decode("utf-8", "surrogateescape")
    entries = [entry.partition("\t") for entry in listing.split("\0") if entry.startswith(_LINK + " ")]
    return [(path, facts.split()[1]) for facts, _, path in entries]


def _names(tree: Path) -> dict[str, str]:
    """Return the name of each submodule by its path, from `.gitmodules`."""
    file = tree / ".gitmodules"
    if file.is_symlink() or not file.is_file():
        return {}
    names: dict[str, str] = {}
    name = ""
    for line in file.read_text("utf-8", "replace").splitlines():
        if section := re.match(r'\s*\[submodule "([^"\\]+)"\]', line):
            name = section[1]
        elif name and (path := re.match(r"\s*path\s*=\s*(\S.*?)\s*$", line)):
            names[path[1].strip('"')] = name
    return names


def _clones(source: Source, path: str, name: str, commit: str) -> Iterator[Source]:
    """Yield the clones of a submodule: below `.git/modules`, and in the source's own work tree."""
    if any(part == ".." or part.startswith("/") for text in (path, name) for part in PurePosixPath(text).parts):
        return
    places = [common_dir(source.git_dir) / "modules" / name]
    if source.git_dir.name == ".git":
        places.append(source.git_dir.parent / path)
    for place in places:
        git_dir = git_dir_of(place) if place.is_dir() else None
        if git_dir is not None:
            yield Source(f"{source.name}, submodule {path}", git_dir, commit)
