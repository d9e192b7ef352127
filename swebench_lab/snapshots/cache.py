"""SnapshotCache: Task → Snapshot, each built once and shared by every attempt.

```
<root>/sources  downloads  bases     repositories, archives, clean files of commits
<root>/histories/<key>               packs of a repository's past, linked into the .git of all tasks they are the past of
<root>/trees/<key>/layer/testbed     what a task starts from, .git sealed;   tests/: its true tests, never in a box
<root>/envs/<key>/layer/opt/venv     interpreter's venv, with lock.txt beside
<root>/packages/<key>/layer          a big package of such venvs, shared by all that have it
<root>/installs/<key>/layer          what a project's own build added, where it needs one
<root>/system/<key>/layer            Debian packages that a spec wants and the machine lacks
<root>/image-layers/<digest>/layer   one layer of a container image, shared by all images that have it
<root>/conda/<version>/layer         what lets scripts written for images with conda run in our venv
<root>/snapshots/<key>.json          which of them make a Snapshot
```

Every key is a hash of what goes in, so two tasks that need the same thing share it, and a changed input is another key.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from swebench_lab.errors import SnapshotError
from swebench_lab.places import default_root
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.assembly import assemble, snapshot_key
from swebench_lab.snapshots.catalogue import Catalogue
from swebench_lab.snapshots.checkouts import Checkouts
from swebench_lab.snapshots.dockerfile.recipe import Recipe
from swebench_lab.snapshots.environment import debian, install, packages
from swebench_lab.snapshots.environment.metadata import Metadata, read_metadata
from swebench_lab.snapshots.environment.specs import Spec, Table, needs_checkout, scripted_spec, spec_for, spec_of
from swebench_lab.snapshots.environments import Environments
from swebench_lab.snapshots.image import oci, task_tree
from swebench_lab.snapshots.image import plain as image_alone
from swebench_lab.snapshots.image.rootfs import open_source
from swebench_lab.snapshots.masks import Masks
from swebench_lab.snapshots.parts import KINDS, Part, build_part, complete_part, folders_of
from swebench_lab.snapshots.recent_errors import RecentErrors
from swebench_lab.snapshots.repository import history, start
from swebench_lab.snapshots.repository.sources import Source
from swebench_lab.snapshots.roots import Roots
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.transfer import export, shared_cache

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.records.task import Task

_BORROWED = (
    *KINDS, oci.KIND, packages.KIND, history.KIND, "bases", "conda", "metadata", "pins", "sources", "image-names",
    "snapshots",
)  # fmt: skip


class SnapshotCache:
    """Builds Snapshots, each once, and keeps them; safe for many threads and processes on one folder.

    Args:
        root: The folder, of one user; `default_root()` when not given.
        shared: A folder that several users reach: parts that one of them has built are there for all, packed. The
            cache remembers it; `$SWEBENCH_LAB_SHARED_CACHE` names one for every cache that was never given one.
        images: Where the container images are found that tasks name: "engine", "registry", or a folder of archives
            called as the image with `/` and `:` replaced by `__`. Empty: not used, unless a task's `source` is
            `image:…`.
        beneath: Another cache's folder, which is read and never written: what is complete there is used from there.
        allow_python: What may be done where the Python that a spec wants is not on this machine: `"exact"` nothing (the
            build fails and says so), `"install"` uv may install it, `"nearest"` the nearest version is taken instead,
            and noted in the Snapshot's meta and in every Verdict.
        specs: Files of specs that override the known ones, or what was read from them; they are read here, once. Those
            that `$SWEBENCH_LAB_SPECS` names, read on every use, when not given.
        bases: Name of an image to what is taken instead: an archive, an OCI layout, or `folder:PATH`; every Verdict notes it.
        build_network: Of the commands of tasks' Dockerfiles: `"none"` or `"host"`.
        repos: Folders of clones (`owner/name`, `owner__name` or `name`, with or without `.git`) that are looked into
            before anything is fetched; those that `$SWEBENCH_LAB_REPOS` names, separated as in `PATH`, when not given.

    Raises:
        ValueError: `allow_python` is none of the three, or `build_network` neither of the two.
        TaskError: A file of specs cannot be read, or has a wrong field.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        shared: str | Path | None = None,
        *,
        images: str | Path = "",
        beneath: str | Path | None = None,
        allow_python: str = "exact",
        specs: str | Path | Sequence[str | Path | Table] | None = None,
        repos: str | Path | Sequence[str | Path] | None = None,
        bases: Mapping[str, str] | None = None,
        build_network: str = "none",
    ) -> None:
        if allow_python not in ("exact", "install", "nearest"):
            raise ValueError(f"allow_python={allow_python!r} must be 'exact', 'install' or 'nearest'")
        if build_network not in ("none", "host"):
            raise ValueError(f"build_network={build_network!r} must be 'none' or 'host'")
        self.allow_python = allow_python
        self.images = str(images)
        self.bases = dict(bases or {})
        self.build_network = build_network
        self.root = Path(root).expanduser().absolute() if root else default_root()
        self.beneath = Path(beneath).expanduser().absolute() if beneath else None
        files = [specs] if isinstance(specs, str | Path) else specs
        self.specs = None if files is None else tuple(f if isinstance(f, Table) else Table.read(f) for f in files)
        folders = [repos] if isinstance(repos, str | Path) else repos
        self.repos = None if folders is None else tuple(Path(folder).expanduser().absolute() for folder in folders)
        self.borrow()
        if shared is not None:
            shared_cache.share(self.root, Path(shared))
        errors = RecentErrors()
        self._checkouts = Checkouts(self.root, self.repos, errors)
        self._environments = Environments(self.root, allow_python, errors)
        self._masks = Masks(self.root)
        self._catalogue = Catalogue(self.root)

    def __repr__(self) -> str:
        return f"SnapshotCache({str(self.root)!r})"

    def borrow(self) -> int:
        """Take in what the cache beneath has by now, as links to it; returns how many folders are new."""
        count = 0
        for kind in _BORROWED if self.beneath else ():
            for theirs in (self.beneath / kind).glob("*") if self.beneath else ():
                mine = self.root / kind / theirs.name
                is_complete = theirs.suffix == ".json" or (theirs / store.MARKER).is_file()
                if mine.exists() or mine.is_symlink() or not is_complete:
                    continue
                mine.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # another process did the same
                    mine.symlink_to(theirs)
                    count += 1
        return count

    # --- one task -----------------------------------------------------------------------------------------------------

    def build(self, task: Task) -> Snapshot:
        """Return a task's Snapshot, building what of it is not there yet.

        Raises:
            SnapshotError: The repository, the interpreter or a package cannot be had, the setup patch does not apply,
                or the seal does not hold.
            TaskError: The task's `spec` is wrong.
        """
        if source := self.image_source(task):
            of_image = self._of_image(task, source, build=True)
            assert of_image is not None
            self._catalogue.add(of_image)
            return of_image
        commit = self._checkouts.commit(task)
        spec = self.spec_for(task, self._checkouts.metadata(task, commit) if self.needs_checkout(task) else None)
        env = self._environments.build(spec)
        system = self._environments.system(spec)
        builds = spec.install or spec.pre_install
        install_part = self._install(task, commit, spec, env, system) if builds else None
        tree = self._tree(task, commit, install_part)
        snapshot = assemble(self.root, task, spec, tree, env, install_part, self.masks(task), system)
        self._catalogue.add(snapshot)
        self._checkouts.drop_base(task, commit)
        return snapshot

    def get(self, task: Task) -> Snapshot | None:
        """Return a task's Snapshot when all of it is there; nothing is built and no network used."""
        if source := self.image_source(task):
            return self._of_image(task, source, build=False)
        keys = self._keys(task)
        if keys is None:
            return None
        spec, *names = keys
        parts = [complete_part(self.root, kind, name) for kind, name in zip(KINDS, names, strict=True)]
        tree, env, install_part, system = parts
        if tree is None or env is None or any(name and part is None for name, part in zip(names, parts, strict=True)):
            return None
        return assemble(self.root, task, spec, tree, env, install_part, self.masks(task), system)

    def key(self, task: Task) -> str:
        """Return the key that a task's Snapshot has or would have; empty when that takes building to know."""
        if source := self.image_source(task):
            of_image = self._of_image(task, source, build=False)
            return of_image.key if of_image else ""
        keys = self._keys(task)
        return snapshot_key(*keys[:4], self.masks(task), keys[4]) if keys else ""

    def spec(self, task: Task) -> Spec | None:
        """Return how a task is installed and tested, what is derived included; None when that takes building to know."""
        if self.image_source(task):
            if spec := scripted_spec(task):
                return spec
            of_image = self.get(task)
            return spec_of(of_image) if of_image else None
        keys = self._keys(task)
        return keys[0] if keys else None

    def spec_for(self, task: Task, checkout: Path | Metadata | None = None) -> Spec:
        """Return how a task is installed and tested, as `specs.spec_for` with this cache's files of specs.

        Raises:
            TaskError: The task's `spec` is wrong.
        """
        return spec_for(task, checkout, self.specs, self.allow_python)

    def needs_checkout(self, task: Task) -> bool:
        """Whether a task's files must be looked into, because nobody states packages and paths."""
        return needs_checkout(task, self.specs)

    def source(self, task: Task) -> Source:
        """Return a task's repository on the host, bringing it onto this machine when that is needed.

        Raises:
            SnapshotError: It cannot be had.
        """
        return self._checkouts.source(task)

    def parts(self, task: Task) -> tuple[str, ...]:
        """Return the folders, relative to the root, that another cache needs to have a task's Snapshot; none unless all is here.

        Layers of container images are not among them.
        """
        here = self.get(task)
        if here is None:
            return ()
        folders = [*folders_of(self.root, {**here.meta, "image_layers": ()})]
        if self.needs_checkout(task):
            folders.append(self._checkouts.metadata_folder(str(here.meta["base_commit"])))
        if pins := self._environments.pins_folder(spec_of(here)):
            folders.append(pins)
        return tuple(str(folder.relative_to(self.root)) for folder in folders if folder.is_dir())

    # --- from images --------------------------------------------------------------------------------------------------

    def image(self, source: str | Path) -> oci.Image:
        """Return an image whose layers are in this cache, unpacking those that are not there yet.

        Args:
            source: A `docker save` archive, an OCI layout, `engine:NAME`, `docker://NAME`; or a folder or tar that holds
                a root file system.

        Raises:
            SnapshotError: It cannot be had or read.
        """
        return open_source(str(source), self.root, build_part)

    def from_image(
        self, source: str | Path, *, workdir: str | None = None, env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Snapshot:  # fmt: skip
        """Return the Snapshot of an image alone, without a task: boxes have its files, variables, user and directory.

        Args:
            source: As `image` takes it; a root file system (a folder of debootstrap's, or a tar of one), too.
            workdir: Where commands run, instead of the image's own; made where it is missing.
            env: Variables on top of the image's.
            user: Who runs commands, as `USER[:GROUP]`, instead of the image's own.

        Raises:
            SnapshotError: It cannot be had or read, or has no such user.
        """
        plain = image_alone.assemble(self.image(source), self.root, build_part, workdir=workdir, env=env, user=user)
        self._catalogue.add(plain)
        return plain

    def from_dockerfile(
        self, path: str | Path, context: str | Path | None = None, *, target: str = "",
        args: Mapping[str, str] | None = None, bases: Mapping[str, str | Path] | None = None, network: str = "none",
        seconds: float = 3600.0, workdir: str | None = None, env: Mapping[str, str] | None = None, user: str | None = None,
    ) -> Snapshot:  # fmt: skip
        """Return the Snapshot of a Dockerfile, building in boxes of our own the layers that are not there yet.

        What is outside the subset is refused by name and line before anything is built.

        Args:
            path: The Dockerfile, or the folder that holds it.
            context: The folder whose files COPY takes; the Dockerfile's own when not given.
            target: Name or number of the stage; the last one when empty.
            args: Values of ARGs.
            bases: Where the images that FROM names are found, by the name that is written there: whatever `image` takes.
                They are added to the cache's own `bases`; others are looked for where its `images` says.
            network: Of RUN: `"none"` or `"host"`.
            seconds: That one RUN may take.
            workdir: Where commands run, instead of its WORKDIR.
            env: Variables on top of its own.
            user: Who runs commands, instead of its USER.

        Raises:
            SnapshotError: The file is wrong or outside the subset, a base cannot be had, or an instruction failed.
            SandboxUnavailable: This machine cannot make the boxes that RUN needs.
        """
        full_path = Path(path).expanduser().absolute()
        place = full_path / "Dockerfile" if full_path.is_dir() else full_path
        folder = None if context is None else Path(context).expanduser().absolute()
        base_paths = {
            name: str(location).removeprefix("folder:") for name, location in {**self.bases, **(bases or {})}.items()
        }
        recipe = Recipe(place, folder, target, args or {}, base_paths, self.images, network, seconds)
        snapshot = recipe.snapshot(self.root, build_part, workdir=workdir, env=env, user=user)
        self._catalogue.add(snapshot)
        return snapshot

    def image_source(self, task: Task) -> str:
        """Return where a task's file system is found; empty when its Snapshot is built from its repository."""
        return self._roots.source(task)

    @property
    def _roots(self) -> Roots:
        return Roots(self.root, self.images, self.bases, self.build_network)

    def root_of(self, source: str, like: Snapshot) -> Snapshot:
        """Return what boxes show of a published file system alone, without a task's tree.

        Args:
            source: In the form of `Task.source`; empty: this machine's programs alone.
            like: A Snapshot whose facts it shares.

        Raises:
            SnapshotError: It cannot be had or read.
        """
        return self._roots.alone(source, like)

    def _of_image(self, task: Task, source: str, build: bool) -> Snapshot | None:
        if not build and not self._roots.is_there(source):
            return None
        image = self._roots.open(source)
        folder = self.root / "trees" / task_tree.tree_key(task, image)
        marker = store.read_marker(folder)
        if marker is None:
            if not build:
                return None
            marker, _ = build_part(folder, lambda place: task_tree.build_tree(place, task, image))
        spec = scripted_spec(task)
        if spec is None:
            layer = folder / "layer" / task_tree.workdir_of(task, image)
            spec = self.spec_for(task, read_metadata(layer) if self.needs_checkout(task) else None)
        below, hidden = self._roots.beneath(image), self._roots.folders_to_hide(image)
        return task_tree.assemble(task, spec, image, folder, marker, self.masks(task), below, hidden)

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _keys(self, task: Task) -> tuple[Spec, str, str, str, str] | None:
        """Return spec, and keys of tree, environment, install and system (or ""); None when that takes building to know."""
        try:
            commit = self._checkouts.commit(task)
        except SnapshotError:
            return None
        metadata = self._checkouts.known_metadata(commit) if self.needs_checkout(task) else None
        if self.needs_checkout(task) and metadata is None:
            return None
        spec = self.spec_for(task, metadata)
        env = self._environments.key(spec)
        if not env:
            return None
        system = debian.key_of(spec.system)
        install_key = install.key(spec, commit, env, system) if spec.install or spec.pre_install else ""
        return spec, start.tree_key(task, commit, install_key), env, install_key, system

    def _tree(self, task: Task, commit: str, install_part: Part | None = None) -> Part:
        """Return the key and marker of a task's START tree, building it when it is not there."""
        key = start.tree_key(task, commit, install_part[0] if install_part else "")
        ignored = install_part[1]["added"] if install_part else ()

        def build(folder: Path) -> dict[str, Any]:
            with self._checkouts.base(task, commit) as base:
                source = self.source(task)
                return start.build_tree(folder, task, source, commit, base, self.root, ignored, build_part)

        return key, build_part(self.root / "trees" / key, build)[0]

    def _install(self, task: Task, commit: str, spec: Spec, env: Part, system: Part | None) -> Part:
        """Return the key and marker of the project's own build, which every task of its commit shares."""
        key = install.key(spec, commit, env[0], system[0] if system else "")

        def build(folder: Path) -> dict[str, Any]:
            clean = replace(task, id=f"{task.repo} at {commit[:12]}", setup_patch="", hide_tests=False, test_patch="",
                            fail_to_pass=(), pass_to_pass=())  # fmt: skip
            tree = self._tree(clean, commit)
            snapshot = assemble(self.root, clean, spec, tree, env, None, self.masks(clean), system)
            return install.build(folder, snapshot, spec)

        return key, build_part(self.root / "installs" / key, build)[0]

    # --- what boxes do not show ---------------------------------------------------------------------------------------

    def mask(self, task: Task, paths: Iterable[str]) -> None:
        """Hide files from the boxes of a task, because they give its fix away; its Snapshot then has another key.

        Args:
            task: The task, as it is: another gold patch is another task.
            paths: Absolute paths in the box.
        """
        self._masks.add(task, paths)

    def unmask(self, task: Task, paths: Iterable[str]) -> None:
        """Show everything to the boxes of a task again but the paths that are named."""
        self._masks.keep_only(task, paths)

    def masks(self, task: Task) -> tuple[str, ...]:
        """Return the paths that are hidden from the boxes of a task."""
        return self._masks.of(task)

    # --- all of them --------------------------------------------------------------------------------------------------

    def ls(self) -> pl.DataFrame:
        """Return one row a Snapshot: key, first task, repository, commit, Python, own bytes, shared bytes, last use."""
        return self._catalogue.frame()

    def du(self) -> dict[str, int]:
        """Return the bytes on the disk by kind, and their total; what several trees share counts once."""
        return self._catalogue.sizes()

    def verify(self, key: str) -> str:
        """Check a Snapshot's layers against the digests noted when they were built, and its seal.

        Returns:
            The audit line of the seal.

        Raises:
            SnapshotError: There is no such Snapshot, a layer has changed, or the seal does not hold.
        """
        return self._catalogue.verify(key)

    def export(self, file: str | Path, keys: Iterable[str] | None = None) -> dict[str, int]:
        """Write Snapshots into one compressed file, each content once.

        Args:
            file: Where to.
            keys: Which; all when not given.

        Returns:
            `snapshots`, `files`, `contents` (different ones) and `bytes` of the file.

        Raises:
            SnapshotError: There is none with such a key.
        """
        return self._catalogue.export(Path(file).expanduser().absolute(), keys)

    def import_from(self, file: str | Path) -> list[str]:
        """Take in the Snapshots of an exported file; what is there already stays. Returns their keys.

        Raises:
            SnapshotError: The file is no export, or is damaged.
        """
        return export.read(self.root, Path(file).expanduser().absolute())

    def rebuild(self, tasks: Iterable[Task], filter: str = "", verify: bool = True) -> list[str]:  # noqa: A002
        """Build the Snapshots of tasks anew that are not as they were built.

        Args:
            tasks: The tasks.
            filter: A regular expression searched in their ids; only these.
            verify: Keep those that pass `verify`; otherwise all are built anew.

        Returns:
            The keys that were built anew.
        """
        keys = []
        for task in tasks:
            if filter and not re.search(filter, task.id):
                continue
            there = self.get(task)
            if there is not None and verify:
                try:
                    self.verify(there.key)
                    continue
                except SnapshotError:
                    pass
            for folder in folders_of(self.root, there.meta) if there is not None else ():
                store.evict(folder)
            self._environments.forget()
            keys.append(self.build(task).key)
        return keys

    def sweep(self) -> int:
        """Remove what killed builders left behind, and return how many folders that were."""
        return store.sweep(self.root)

    def evict(self, keys: Iterable[str] | None = None, older_than: float | None = None) -> list[str]:
        """Remove Snapshots, and the layers and clean files that no other one needs; sources and pins stay.

        Those that a SandboxFactory of any process uses stay, whoever asks.

        Args:
            keys: Those to remove; all when neither argument is given.
            older_than: Seconds; remove those that were not used for so long.

        Returns:
            The keys that were removed.
        """
        return self._catalogue.evict(keys, older_than)

    def use(self, snapshot: Snapshot) -> IO[str]:
        """Keep a Snapshot from being evicted, until the file that is returned is closed, or this process ends."""
        return self._catalogue.use(snapshot)
