"""What may have changed in a container's work tree, from what its engine and its first process say of single paths."""

import os
from collections.abc import Iterable
from pathlib import Path

from swebench_lab.sandbox.diffs.changes import CACHE, LARGE, WorkTreeChanges, checked, leaves_out_caches

_REPLACEMENT = "\ufffd"


def paths_below(paths: Iterable[tuple[str, int]], workdir: str) -> list[tuple[str, int]] | None:
    """Those paths that concern a work tree; None where one of them is no text, and so not said as it is."""
    top = workdir.strip("/")
    below = [
        (path, kind) for path, kind in paths if f"{path}/".startswith(f"{top}/") or f"{top}/".startswith(f"{path}/")
    ]
    return None if any(_REPLACEMENT in path for path, _ in below) else below


def work_tree_changes(found: Iterable[tuple[str, str, int]], workdir: str, git_dir: Path) -> WorkTreeChanges | None:
    """The changes that some paths are.

    Args:
        found: Path, kind and bytes of what is there now, as `changes.look` says.
        workdir: The work tree, as the box names it.
        git_dir: The sealed repository.

    Returns:
        None where only a look at every file can tell.
    """
    top, caches, changes = workdir.strip("/"), not leaves_out_caches(git_dir), WorkTreeChanges()
    for path, kind, size in found:
        if f"{top}/".startswith(f"{path}/"):
            if kind != "dir":
                return None  # the tree is not where it was
            continue
        name = os.fsencode(path[len(top) + 1 :])
        parts = name.lower().split(b"/")
        if b".git" in parts or (not caches and CACHE in parts):
            continue
        if kind in ("file", "link"):
            changes.written.add(name)
            changes.odd = changes.odd or size > LARGE
        elif kind != "dir":
            changes.gone.add(name)
            changes.odd = changes.odd or kind not in ("deleted", "replaced")
    return checked(changes)
