"""Histories: a repository's past in sealed packs, each of which later tasks share.

Tasks of one repository start from different commits, and the history of each contains most of the history of the others.
A *stretch* is one pack with what can be reached from one commit, its head, and not from the head of the stretch before;
it is built and proved once, below `<root>/histories`. A task's `.git` holds hard links to a chain of stretches that ends
at its own commit, and no other pack. Everything in a stretch is its head or older, and every head of the chain is an
ancestor of the task's commit: nothing newer can be seen.

A task goes on from the nearest head that is there already, be it another task's commit. Each pack has a whole copy of
every file that it says anything of, so few packs, each from one task to the next, take the least room. Where no head is
near, as for a repository's first task, the past is cut at the commits whose number along the first parents is a multiple
of fixed steps, so that tasks which are built from the newest to the oldest share packs as well.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.repository.sources import IMPORT_DATE
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

KIND = "histories"
VERSION = 2
"""Part of every key; a change of what is written here must raise it."""

STEPS = (2048, 128)
"""Cuts along the first parents; a smaller step cuts what is left after the last cut of the larger one."""

NEAR = 2048
"""Commits of all lines by which the head that a task goes on from may lie before its own commit."""

MOST = 96
"""Stretches of one chain: git looks for an object in one pack after the other."""

_FRESH = 4096  # commits up to which a pack is compressed anew, which takes a second and a sixth of the room less

_YOUNG = 600.0  # seconds for which a stretch that nobody links to may belong to a tree that is being built


@dataclass(frozen=True, slots=True)
class Stretch:
    """The pack between two commits.

    Args:
        key: The name of its folder.
        head: The later of the two commits it lies between.
        folder: Its object folder, with `pack/` in it.
        objects: How many objects it holds.
        commits: How many of them are commits.
    """

    key: str
    head: str
    folder: Path
    objects: int
    commits: int

    @property
    def files(self) -> tuple[Path, ...]:
        """The pack and its index."""
        return tuple(sorted((self.folder / "pack").iterdir()))


def cuts(line: Sequence[str], steps: Sequence[int] = STEPS) -> list[str]:
    """Return the commits of a line of first parents, oldest first, at which the history is cut."""
    places: list[int] = []
    position = 0
    for step in steps:
        places += range(position + step, len(line) + 1, step)
        position = places[-1] if places else 0
    return [line[place - 1] for place in places]


def stretches(
    root: Path, objects: Path, commit: str, name: str, build_once: BuildOnce = store.build_once
) -> tuple[Stretch, ...]:
    """Return the chain of stretches that ends at a commit, oldest first, building those that are not there yet.

    Args:
        root: Of the cache.
        objects: Object folder of the repository, whose history must be whole.
        commit: Full name of the commit.
        name: Of the repository, for errors.
        build_once: Builds a stretch where it is not there.
    """
    reading: dict[str, Any] = {
        "objects": [objects],
        "git_dir": _reader(root, build_once),
        "doing": f"reading the history of {name}",
    }
    past = git("rev-list", commit, **reading).decode().split()
    # One at a time for each repository, so that a task sees what the one before has packed.
    with _files.locked(root / "locks" / f"{KIND}-{past[-1]}.lock"):
        chain = _nearest(root, past[:NEAR])
        line = [] if chain else git("rev-list", "--first-parent", "--reverse", commit, **reading).decode().split()
        for head in (*cuts(line), commit):
            if not chain or chain[-1].head != head:
                chain = (*chain, _stretch(root, objects, chain, head, name, build_once))
        for stretch in chain:
            os.utime(root / KIND / stretch.key / store.MARKER)  # so that it is not taken for one that nobody needs
    return chain


def _nearest(root: Path, past: Sequence[str]) -> tuple[Stretch, ...]:
    """Return the chain to the first of some commits, newest first, that has one; the shortest, and none that is too long."""
    chains: dict[str, list[str]] = {}
    for mark in (root / KIND).glob(f"*/{store.MARKER}"):
        noted = store.read_marker(mark.parent) or {}
        chain = noted.get("chain", [])
        if 0 < len(chain) < MOST and len(chain) < len(chains.get(noted["head"], range(MOST))):
            chains[noted["head"]] = chain
    for head in past:
        parts = [_load(root, key) for key in chains.get(head, ())]
        if parts and None not in parts:
            return tuple(stretch for stretch in parts if stretch)
    return ()


def _load(root: Path, key: str) -> Stretch | None:
    noted = store.read_marker(root / KIND / key)
    if noted is None:
        return None
    return Stretch(key, noted["head"], root / KIND / key / "objects", noted["objects"], noted["commits"])


def _reader(root: Path, build_once: BuildOnce) -> Path:
    """Return an empty repository, through which those of others are read."""
    folder = root / KIND / "reader"

    def build(place: Path) -> dict[str, Any]:
        make_repository(place / "repository")
        return {}

    build_once(folder, build)
    return folder / "repository"


def _stretch(
    root: Path, objects: Path, below: Sequence[Stretch], head: str, name: str, build_once: BuildOnce
) -> Stretch:
    old = below[-1].head if below else ""
    key = _files.digest_of(VERSION, below[-1].key if below else "", head)
    reader = _reader(root, build_once)
    revisions = f"{head}\n" + (f"^{old}\n" if old else "")

    def build(place: Path) -> dict[str, Any]:
        packs = place / "objects" / "pack"
        packs.mkdir(parents=True)
        doing = f"packing the history of {name} up to {head[:12]}"
        count = int(
            git("rev-list", "--count", "--stdin", git_dir=reader, objects=[objects], data=revisions, doing=doing)
        )
        how = ["--no-reuse-object"] if count <= _FRESH else []
        # --no-sparse: otherwise git also takes objects that lie below already, without looking for them there.
        git("-c", "pack.compression=9", "pack-objects", "--quiet", "--revs", "--no-sparse", "--threads=1", *how,
            packs / "pack", git_dir=reader, objects=[objects], data=revisions, doing=doing)  # fmt: skip
        for path in packs.iterdir():
            os.utime(path, (IMPORT_DATE, IMPORT_DATE))
        # Read back from sealed packs alone: that nothing is missing is proved as well as that nothing is too much.
        sealed = [place / "objects", *(stretch.folder for stretch in below)]
        doing = f"verifying the history of {name} up to {head[:12]}"
        lines = git("rev-list", "--objects", "--stdin", git_dir=reader, objects=sealed, data=revisions, doing=doing)
        reached = {line[:40].decode() for line in lines.splitlines()}
        object_names = [name for index in packs.glob("*.idx") for name in pack_names(index)]
        if surplus := set(object_names) - reached:
            raise SnapshotError(f"{doing}: {len(surplus)} objects do not belong to it, {min(surplus)} first")
        commits = sum(b" " not in line for line in lines.splitlines())
        return {"head": head, "below": old, "chain": [*(stretch.key for stretch in below), key],
                "objects": len(object_names), "commits": commits, "bytes": _files.size_of(place)}  # fmt: skip

    marker, _ = build_once(root / KIND / key, build)
    return Stretch(key, head, root / KIND / key / "objects", int(marker["objects"]), int(marker["commits"]))


def pack_names(index: Path) -> list[str]:
    """Return the object names in a pack's index (version 2, sha1).

    Raises:
        SnapshotError: It is no such index.
    """
    data = index.read_bytes()
    if data[:8] != b"\xfftOc\0\0\0\x02":
        raise SnapshotError(f"verifying a seal: {index} is not a pack index of version 2")
    count = int.from_bytes(data[8 + 255 * 4 : 8 + 256 * 4], "big")
    start = 8 + 256 * 4
    names = data[start : start + 20 * count].hex()
    return [names[at : at + 40] for at in range(0, len(names), 40)]


def link(past: Sequence[Stretch], packs: Path) -> None:
    """Link the packs of stretches into the `objects/pack` of a task's repository."""
    for path in (path for stretch in past for path in stretch.files):
        target = packs / path.name
        try:
            os.link(path, target)
        except FileExistsError:  # two stretches of the same objects: a merge that brought nothing
            continue
        except OSError:  # too many links, or a file system without them
            shutil.copy2(path, target)


def drop_unused(root: Path) -> int:
    """Remove the stretches that no task's repository has any more; returns how many."""
    count = 0
    for mark in (root / KIND).glob(f"*/{store.MARKER}"):
        folder = mark.parent
        files = list((folder / "objects" / "pack").glob("*")) if (folder / "objects").is_dir() else []
        young = time.time() - mark.stat().st_mtime < _YOUNG
        if files and not young and not folder.is_symlink() and all(path.stat().st_nlink == 1 for path in files):
            store.evict(folder)
            count += 1
    return count
