"""Roots: where the file system of a task comes from that no Python Spec describes: image, Dockerfile, or folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.assembly import hidden_folders
from swebench_lab.snapshots.dockerfile.recipe import Recipe
from swebench_lab.snapshots.image import git_layer, oci, task_tree
from swebench_lab.snapshots.image.root import Root, of_image
from swebench_lab.snapshots.image.rootfs import open_source
from swebench_lab.snapshots.parts import build_part
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.sandbox.snapshot import Snapshot

IMAGE, FOLDER, DOCKERFILE = "image:", "folder:", "dockerfile:"
"""What a task's `source` begins with, where a place follows that its file system comes from."""

_NAMED = ("docker://", "engine:")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Roots:
    """Where file systems are found, for one cache.

    Attributes:
        root: Of the cache.
        images: Where images are found that tasks and Dockerfiles name; see `SnapshotCache`.
        bases: Name of an image, or `dockerfile:PATH` → what is taken instead: an archive, an OCI layout, or a folder
            (also as `folder:PATH`) with a root file system.
        network: Of the commands of Dockerfiles: "none" or "host".
    """

    root: Path
    images: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)
    network: str = "none"

    def source(self, task: Task) -> str:
        """Return where a task's file system comes from; empty where it is built from its repository by a Spec."""
        if task.source.startswith(IMAGE):
            return task.source.removeprefix(IMAGE)
        if task.source.startswith((FOLDER, DOCKERFILE)):
            return task.source
        if task.source or not task.image:  # a source that is stated counts more than an image's name
            return ""
        if not self.images:
            return f"docker://{task.image}" if task.verifier else ""
        if self.images in ("engine", "registry"):
            return f"{'engine:' if self.images == 'engine' else 'docker://'}{task.image}"
        return str(Path(self.images).expanduser() / f"{task.image.replace('/', '__').replace(':', '__')}.tar")

    def is_there(self, source: str) -> bool:
        """Whether a file system can be had without fetching or building anything."""
        place, _ = self._substituted(source)
        if place.startswith(FOLDER):
            return _folder_of(place).is_dir()
        if place.startswith(DOCKERFILE):
            return self._find_build(_folder_of(place)) is not None
        return Path(place).is_dir() or oci.is_unpacked(place, self.root)

    def open(self, source: str) -> Root:
        """Return a file system, fetching and building what of it is not there.

        Args:
            source: As `source` returns it.

        Raises:
            SnapshotError: It cannot be had or read, or the Dockerfile is outside the subset.
        """
        place, note = self._substituted(source)
        if place.startswith(DOCKERFILE):
            return self._of_dockerfile(_folder_of(place))
        folder = _folder_of(place) if place.startswith(FOLDER) else None
        if folder is not None and not _is_whole(folder):
            return replace(_over_this_machine(folder), note=note)
        return replace(of_image(open_source(str(folder or place), self.root, build_part)), note=note)

    def _substituted(self, source: str) -> tuple[str, str]:
        """Return what stands for a source, and a remark that says so."""
        name = source
        for prefix in _NAMED:
            name = name.removeprefix(prefix)
        if name not in self.bases:
            return source, ""
        return self.bases[name], _note(name, self.bases[name])

    def beneath(self, root: Root) -> tuple[Path, ...]:
        """Return the layers that are shown below a file system's own: git, where it has none."""
        own = root.own_root and git_layer.lacks_git(root.layers)
        return (git_layer.layer(self.root, build_part),) if own else ()

    def folders_to_hide(self, root: Root) -> tuple[Path, ...]:
        """Return the folders of this machine that boxes over its own programs must not show."""
        return () if root.own_root else hidden_folders((), self.root)

    def alone(self, source: str, like: Snapshot) -> Snapshot:
        """Return what boxes show of a file system without a task's tree; see `SnapshotCache.root_of`."""
        if source:
            image = self.open(source.removeprefix(IMAGE))
            layers, env = (*image.layers, *self.beneath(image)), task_tree.environment(image)
            return replace(like, layers=layers, env=env, user=image.user, workdir=image.workdir or "/",
                           hidden=self.folders_to_hide(image), own_root=image.own_root)  # fmt: skip
        python = Path(sys.base_prefix)  # scripts of a set need one, and images in other languages have none
        binds = () if python.is_relative_to("/usr") else (python,)
        env = {"PATH": f"{python / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
        folders = hidden_folders(tuple(map(str, binds)), self.root)
        return replace(
            like, layers=(), binds=binds, usr=(), env=env, user="", workdir="/", hidden=folders, own_root=False
        )

    # --- Dockerfiles --------------------------------------------------------------------------------------------------

    def _of_dockerfile(self, folder: Path) -> Root:
        if (existing := self._find_build(folder)) is not None:
            return existing
        bases = {name: str(place).removeprefix(FOLDER) for name, place in self.bases.items()}
        recipe = Recipe(folder / "Dockerfile", folder, bases=bases, images=self.images, network=self.network)
        snapshot = recipe.snapshot(self.root, build_part, workdir=None, env=None, user=None)
        facts = {"keys": list(snapshot.meta["image_layers"]), "env": dict(snapshot.env), "workdir": snapshot.workdir,
                 "user": snapshot.user, "digest": snapshot.key, "notes": self._notes(folder)}  # fmt: skip
        _files.write_json(self._record(folder), facts)
        result = self._find_build(folder)
        if result is None:
            raise SnapshotError(f"building {folder / 'Dockerfile'}: its layers are not in {self.root}")
        return result

    def _find_build(self, folder: Path) -> Root | None:
        """Return what was built of a Dockerfile as it is now, where all of it is there."""
        record: dict[str, Any] | None = _files.read_json(self._record(folder))
        if record is None or not all(store.read_marker(self.root / oci.KIND / key) for key in record["keys"]):
            return None
        layers = tuple(self.root / oci.KIND / key / "layer" for key in record["keys"])
        return Root(
            f"{DOCKERFILE}{folder}", record["digest"], layers, tuple(record["keys"]), record["env"],
            workdir=record["workdir"], user=record["user"], note=record["notes"],
        )  # fmt: skip

    def _record(self, folder: Path) -> Path:
        return self.root / "image-names" / _files.digest_of(
            "dockerfile", 1, str(folder), self.images, dict(self.bases), self.network, _stamps(folder)
        )  # fmt: skip

    def _notes(self, folder: Path) -> str:
        """Return which images that a Dockerfile names are substituted."""
        names = dict.fromkeys(_FROM.findall((folder / "Dockerfile").read_text("utf-8", "replace")))
        return "; ".join(_note(name, self.bases[name]) for name in names if name in self.bases)


def _note(name: str, place: str) -> str:
    return f"base: {name} was substituted by {place}"


def _folder_of(source: str) -> Path:
    return Path(source.removeprefix(FOLDER).removeprefix(DOCKERFILE)).expanduser()


def _stamps(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return what tells one state of a folder's files from another."""
    places = [(path, path.lstat()) for path in sorted(_files.walk(folder))] if folder.is_dir() else []
    return [(str(path.relative_to(folder)), at.st_mode, at.st_size, at.st_mtime_ns) for path, at in places]


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a whole system, and not a few files to be shown over this machine's programs."""
    return (folder / "usr" / "bin").is_dir() or (folder / "bin").is_dir()


def _over_this_machine(folder: Path) -> Root:
    if not folder.is_dir():
        raise SnapshotError(f"reading the root file system {folder}: there is no such folder")
    digest = _files.digest_of(os.path.abspath(folder), _stamps(folder))
    return Root(f"{FOLDER}{folder}", digest, (folder,), own_root=False, in_place=True)
