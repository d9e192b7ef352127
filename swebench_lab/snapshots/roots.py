"""Roots: where the file system of a task comes from that no Python Spec describes: image, Dockerfile, or folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.image.root import Root, of_image
from swebench_lab.snapshots.parts import build_part

if TYPE_CHECKING:
    from swebench_lab.records.task import Task

IMAGE, FOLDER, DOCKERFILE = "image:", "folder:", "dockerfile:"
"""What a task's `source` begins with, where a place follows that its file system comes from."""

_NAMED = ("docker://", "engine:")


def source_of(task: Task, images: str) -> str:
    """Return where a task's file system comes from; empty where it is built from its repository by a Spec.

    Args:
        task: The task.
        images: Where images are found that tasks name; see `SnapshotCache`.
    """
    if task.source.startswith(IMAGE):
        return task.source.removeprefix(IMAGE)
    if task.source.startswith((FOLDER, DOCKERFILE)):
        return task.source
    if task.source or not task.image:  # a source that is stated counts more than an image's name
        return ""
    if not images:
        return f"docker://{task.image}" if task.verifier else ""
    if images in ("engine", "registry"):
        return f"{'engine:' if images == 'engine' else 'docker://'}{task.image}"
    return str(Path(images).expanduser() / f"{task.image.replace('/', '__').replace(':', '__')}.tar")


def is_there(source: str, root: Path, bases: Mapping[str, str]) -> bool:
    """Whether a file system can be had without fetching or building anything."""
    source, _ = _substituted(source, bases)
    if source.startswith(FOLDER):
        return Path(source.removeprefix(FOLDER)).is_dir()
    return not source.startswith(DOCKERFILE) and oci.is_unpacked(source, root)


def open_root(source: str, root: Path, bases: Mapping[str, str]) -> Root:
    """Return a file system, fetching and building what of it is not there.

    Args:
        source: As `source_of` returns it.
        root: Of the cache.
        bases: Name of an image → what is taken instead: an archive, an OCI layout, or `folder:PATH`.

    Raises:
        SnapshotError: It cannot be had or read.
    """
    source, note = _substituted(source, bases)
    if source.startswith(FOLDER):
        return replace(_folder(Path(source.removeprefix(FOLDER)).expanduser()), note=note)
    if source.startswith(DOCKERFILE):
        raise SnapshotError(
            f"building {source.removeprefix(DOCKERFILE)}: Dockerfiles are not built here; build the image elsewhere and "
            "name it (`docker_image`), or state what stands for it: SnapshotCache(bases={'dockerfile:…': 'folder:…'})"
        )
    return replace(of_image(oci.open_image(source, root, build_part)), note=note)


def _substituted(source: str, bases: Mapping[str, str]) -> tuple[str, str]:
    """Return what stands for a source, and a remark that says so."""
    name = source
    for prefix in _NAMED:
        name = name.removeprefix(prefix)
    if name not in bases:
        return source, ""
    return bases[name], f"base: {name} was substituted by {bases[name]}"


def _folder(folder: Path) -> Root:
    """Return a folder as a file system: a whole one where it has /usr, else one shown over this machine's programs."""
    if not folder.is_dir():
        raise SnapshotError(f"reading the root file system {folder}: there is no such folder")
    status = [
        (str(path.relative_to(folder)), at.st_mode, at.st_size, at.st_mtime_ns)
        for path in sorted(_files.walk(folder))
        if (at := path.lstat())
    ]
    whole = (folder / "usr" / "bin").is_dir() or (folder / "bin").is_dir()
    return Root(
        f"{FOLDER}{folder}", _files.digest_of(os.path.abspath(folder), status), (folder,), own_root=whole, in_place=True
    )
