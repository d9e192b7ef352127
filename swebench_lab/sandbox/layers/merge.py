"""Merging trees of changes: several into one that means the same, or into one ordinary tree.

Trees are read-only once made, so merging them shares files by hard links.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from swebench_lab.sandbox.layers.tree import DIRECTORY, Entry, walk
from swebench_lab.sandbox.layers.writer import Writer
from swebench_lab.sandbox.linux import kernel

Merged = dict[str, tuple[Entry, str]]
"""For every path its entry, and the layer that has it."""


def squash(layers: list[str], target: str) -> Entry:
    """Merge read-only trees of changes (oldest first) into one new tree that means the same."""
    tree = _merge(layers)
    with _new_tree(target, layers) as (writer, holder_of):
        for path, (entry, layer) in _in_order(tree):
            if entry["kind"] != "file":
                writer.add(entry)
                continue
            with holder_of(layer, path) as holder:
                writer.share(entry, holder)
        return writer.finish()


def flatten(layers: list[str], target: str) -> int:
    """Copy layers (oldest first) into one ordinary tree, as an overlay would show them; returns how many entries."""
    tree = _merge(layers)
    with _new_tree(target, layers) as (writer, holder_of):
        for path, (entry, layer) in _in_order(tree):
            if entry["kind"] == "deleted":
                continue
            with holder_of(layer, path) as holder:
                writer.add({**entry, "opaque": False, "inode": f"{layer}:{entry['inode']}"}, source=holder)
        writer.finish()
    return len(tree)


def _in_order(tree: Merged) -> Iterator[tuple[str, tuple[Entry, str]]]:
    """Directories first, then what they hold."""
    return iter(sorted(tree.items(), key=lambda item: item[0].split("/")))


@contextmanager
def _new_tree(
    target: str, layers: list[str]
) -> Iterator[tuple[Writer, Callable[[str, str], AbstractContextManager[int]]]]:
    """A new folder to write a tree to, and how the directory that holds a path of a layer is opened."""
    os.mkdir(target, 0o755)
    with ExitStack() as stack:
        roots = {}
        for layer in (*layers, target):
            roots[layer] = os.open(layer, DIRECTORY)
            stack.callback(os.close, roots[layer])
        writer = stack.enter_context(Writer(roots[target]))
        yield writer, lambda layer, path: _holder(roots[layer], path)


@contextmanager
def _holder(root: int, path: str) -> Iterator[int]:
    """The open directory that holds a path of a layer."""
    descriptor = kernel.open_beneath(root, os.path.dirname(path), DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _merge(layers: list[str]) -> Merged:
    """What layers (oldest first) come to: for every path its entry and the layer that has it."""
    tree: Merged = {}
    for layer in layers:
        root = os.open(layer, DIRECTORY)
        try:
            for entry, _ in walk(root):
                _lay(tree, entry, layer)
        finally:
            os.close(root)
    return tree


def _lay(tree: Merged, entry: Entry, layer: str) -> None:
    """Put one entry of a newer tree on top of what older ones came to."""
    path = entry["path"]
    old = tree.get(path, ({"kind": ""}, ""))[0]
    if entry["kind"] == "dir" and old["kind"] == "dir" and not entry["opaque"]:
        entry["opaque"] = old["opaque"]
    else:
        if old["kind"] == "dir":
            for below in [other for other in tree if other.startswith(f"{path}/")]:
                del tree[below]
        elif entry["kind"] == "dir" and old["kind"]:
            entry["opaque"] = True  # what was hidden below the name stays hidden
    tree[path] = (entry, layer)
