"""Packages: the big folders of a venv's site-packages, each a layer of its own that all environments with it share.

Hard links store equal files once, but every environment would still have folders of its own (4 KiB each, and some packages
have thousands), and would compile the same modules again. A big folder is therefore moved to `<root>/packages/<key>`, where
the key is a hash of its files, and compiled there once. Only a few folders are, because each is one more layer of a box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

KIND = "packages"
VERSION = 1
"""Part of every key; a change of what is written here must raise it."""

_MOST = 4  # layers more than this would be felt when a box is made
_LEAST = 24  # folders below one of site-packages that are worth a layer: about 100 KB


def split(
    layer: Path,
    site: Path,
    root: Path,
    language: str,
    finish: Callable[[Path, Path], None],
    build_once: BuildOnce = store.build_once,
) -> list[str]:
    """Move the big folders of a venv into layers of their own, or drop them where the same ones are there already.

    Args:
        layer: The environment's layer, complete but for what is compiled.
        site: Its site-packages.
        root: Of the cache.
        language: What compiled modules depend on: the interpreter's version.
        finish: Compiles the modules of a folder; gets the layer and the folder in it.
        build_once: Builds a layer where it is not there.

    Returns:
        Their keys, those with the most folders first.
    """
    place = site.relative_to(layer)
    keys = []
    for folder in _big(site):
        key = _files.digest_of(VERSION, language, place.as_posix(), folder.name, store.digest_tree(folder))

        def build(temporary: Path, folder: Path = folder) -> dict[str, Any]:
            inside = temporary / "layer" / place / folder.name
            inside.parent.mkdir(parents=True)
            folder.rename(inside)
            finish(temporary / "layer", inside)
            store.share_files(temporary / "layer", root / "files")
            whole = temporary / "layer"
            return {"name": folder.name, "digest": store.digest_tree(whole), "bytes": _files.size_of(whole)}

        build_once(root / KIND / key, build)
        store.remove(folder)
        keys.append(key)
    return keys


def _big(site: Path) -> list[Path]:
    """Return the folders that are worth a layer, those with the most folders in them first."""
    counts = {}
    for folder in site.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            counts[folder] = sum(1 for path in _files.walk(folder) if path.is_dir() and not path.is_symlink())
    big = sorted((-count, folder.name) for folder, count in counts.items() if count >= _LEAST)
    return [site / name for _, name in big[:_MOST]]


def layers(root: Path, environment: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the layers of packages that belong to an environment, by its marker."""
    return tuple(root / KIND / key / "layer" for key in environment.get("packages", ()))


def complete(root: Path, keys: Iterable[str], build_once: BuildOnce = store.build_once) -> bool:
    """Whether packages are all there, after `build_once` has had the chance to take them from elsewhere."""
    for key in keys:
        if store.read_marker(root / KIND / key) is None:
            with suppress(SnapshotError):
                build_once(root / KIND / key, _absent)
        if store.read_marker(root / KIND / key) is None:
            return False
    return True


def _absent(_: Path) -> dict[str, Any]:
    raise SnapshotError("looking for the packages of an environment: they are gone")
