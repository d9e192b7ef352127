"""Snapshot and SnapshotCache: the read-only tree a task starts from, built once and shared by every attempt.

```
<root>/sources  downloads  bases     repositories, archives, clean files of commits
<root>/histories/<key>               packs of a repository's past, linked into the .git of all tasks they are the past of
<root>/trees/<key>/layer/testbed     what a task starts from, .git sealed;   tests/: its true tests, never in a box
<root>/envs/<key>/layer/opt/venv     interpreter's venv, with lock.txt beside
<root>/packages/<key>/layer          a big package of such venvs, shared by all that have it
<root>/installs/<key>/layer          what a project's own build added, where it needs one
<root>/image-layers/<digest>/layer   one layer of a container image, shared by all images that have it
<root>/conda/<version>/layer         what lets scripts written for images with conda run in our venv
<root>/snapshots/<key>.json          which of them make a Snapshot
```

Every key is a hash of what goes in, so two tasks that need the same thing share it, and a changed input is another key.
"""

from __future__ import annotations

import contextlib
import os
import re
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import swebench_lab
from swebench_lab import _html
from swebench_lab.errors import SnapshotError
from swebench_lab.places import default_root
from swebench_lab.records.task import answer_digest
from swebench_lab.snapshots.environment import conda, packages
from swebench_lab.snapshots.environment import install as installs
from swebench_lab.snapshots.environment.interpreter import (
    Interpreter,
    find_interpreter,
    install_interpreter,
    other_than,
)
from swebench_lab.snapshots.environment.metadata import Metadata, read_metadata
from swebench_lab.snapshots.environment.specs import Spec, needs_checkout, spec_for
from swebench_lab.snapshots.environment.venv import VENV, WORKDIR, Pins, build_venv, known_pins, resolve
from swebench_lab.snapshots.image import oci
from swebench_lab.snapshots.image import snapshot as image_snapshots
from swebench_lab.snapshots.repository import history as histories
from swebench_lab.snapshots.repository import start as start_trees
from swebench_lab.snapshots.repository.seal import verify_seal
from swebench_lab.snapshots.repository.sources import Source, is_full_name, open_source
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.transfer import export as moving
from swebench_lab.snapshots.transfer import shared_cache as sharing

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.records.task import Task

BUILDER = 2
"""Part of every environment's key; a change of how environments are built must raise it."""

_DERIVED = 3  # version of what is read from a checkout
_BIN = f"/{VENV}/bin"
_PATH = f"{_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FAILURE_KEPT = 20.0  # seconds for which an error is repeated instead of tried again
_Made = TypeVar("_Made")
_Part = tuple[str, dict[str, Any]]  # key and marker of one folder
_KINDS = ("trees", "envs", "installs")
_BORROWED = (
    *_KINDS, oci.KIND, packages.KIND, histories.KIND, "bases", "conda", "metadata", "pins", "sources", "image-names",
    "snapshots",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The read-only tree a task starts from: sealed repository, interpreter, venv.

    Args:
        key: Hash of everything that goes in.
        layers: Read-only trees laid out from `/`, the top one first.
        binds: Host folders seen read-only at the same place: the interpreter's, unless it lies below /usr.
        git_dir: The sealed `.git` on the host.
        head: Its HEAD commit.
        env: Variables of every command.
        tests: Host folder with the true test and harness files, laid out from the repository's root; never in a box.
        meta: What it was built from: spec, pins, interpreter, source, audit line of the seal.
        hidden: What would be seen in a box and must not be: host folders below the binds or /usr (packages beside the
            interpreter, where this package, its bundled repositories or vendored copies may lie), and single files that
            hold another copy of the repaired code.
        own_root: Whether the layers hold a root file system of their own (a container image's), so that nothing of this
            machine's is shown.
    """

    key: str
    layers: tuple[Path, ...]
    binds: tuple[Path, ...]
    git_dir: Path
    head: str
    env: Mapping[str, str] = field(hash=False)
    tests: Path
    meta: Mapping[str, Any] = field(hash=False)
    hidden: tuple[Path, ...] = ()
    own_root: bool = False

    @property
    def spec(self) -> Spec:
        """How the repository is installed and tested, what was derived from its files included."""
        return Spec.from_dict(self.meta["spec"])

    def __repr__(self) -> str:
        """Return one line: key, repository, commit, Python."""
        meta = self.meta
        return f"Snapshot({self.key[:12]}, {meta['repo']} at {meta['base_commit'][:8]}, Python {meta['python']})"

    def _repr_html_(self) -> str:
        meta = self.meta
        names = ("repo", "source", "base_commit", "python", "interpreter", "packages_from", "seal")
        facts = {name.replace("_", " "): meta.get(name, "") for name in names} | {"layers": len(self.layers)}
        return _html.card(
            f"Snapshot {self.key[:12]}", _html.facts(facts) + _html.folded("pins", "\n".join(meta.get("pins", ())))
        )


class SnapshotCache:
    """Builds Snapshots, each once, and keeps them; safe for many threads and processes on one folder.

    Args:
        root: The folder, of one user; `default_root()` when not given.
        shared: A folder that several users reach: parts that one of them has built are there for all, packed. The
            cache remembers it; `$SWEBENCH_LAB_SHARED_CACHE` names one for every cache that was never told.
        images: Where the container images are found that tasks name: "engine", "registry", or a folder of archives
            called as the image with `/` and `:` replaced by `__`. Empty: not used, unless a task's `source` is
            `image:…`.
        beneath: Another cache's folder, which is read and never written: what is complete there is used from there.
        allow_python: What may be done where the Python that a spec wants is not on this machine: `"exact"` nothing (the
            build fails and says so), `"install"` uv may install it, `"nearest"` the nearest version is taken instead,
            and noted in the Snapshot's meta and in every Verdict.

    Raises:
        ValueError: `allow_python` is none of the three.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        shared: str | Path | None = None,
        *,
        images: str | Path = "",
        beneath: str | Path | None = None,
        allow_python: str = "exact",
    ) -> None:
        if allow_python not in ("exact", "install", "nearest"):
            raise ValueError(f"allow_python={allow_python!r} must be 'exact', 'install' or 'nearest'")
        self.allow_python = allow_python
        self.images = str(images)
        self.root = Path(root).expanduser().absolute() if root else default_root()
        self.beneath = Path(beneath).expanduser().absolute() if beneath else None
        self.borrow()
        if shared is not None:
            sharing.share(self.root, Path(shared))
        self._resolved: dict[Any, _Part] = {}  # environments found in this process, by spec
        self._failed: dict[Any, tuple[float, SnapshotError]] = {}

    def __repr__(self) -> str:
        return f"SnapshotCache({str(self.root)!r})"

    def borrow(self) -> int:
        """Take in what the cache beneath has by now, as links to it; returns how many folders are new."""
        count = 0
        for kind in _BORROWED if self.beneath else ():
            for found in (self.beneath / kind).glob("*") if self.beneath else ():
                mine = self.root / kind / found.name
                if (
                    mine.exists()
                    or mine.is_symlink()
                    or not (found.suffix == ".json" or (found / store.MARKER).is_file())
                ):
                    continue
                mine.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # another process did the same
                    mine.symlink_to(found)
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
            snapshot = self._of_image(task, source, build=True)
            assert snapshot is not None
            self._record(snapshot)
            return snapshot
        commit = self._commit(task)
        spec = spec_for(task, self._metadata(task, commit))
        env = self._environment(spec)
        built = self._install(task, commit, spec, env) if spec.install or spec.pre_install else None
        tree = self._tree(task, commit, built)
        snapshot = self._assemble(task, spec, tree, env, built)
        self._record(snapshot)
        if (self.root / "bases" / commit).exists():
            self._drop_base(task, commit)
        return snapshot

    def get(self, task: Task) -> Snapshot | None:
        """Return a task's Snapshot when all of it is there; nothing is built and no network used."""
        if source := self.image_source(task):
            return self._of_image(task, source, build=False)
        try:
            commit = self._commit(task)
        except SnapshotError:
            return None
        keys = self._keys(task, commit)
        if keys is None:
            return None
        spec, *names = keys
        tree, env, built = (self._part(kind, name) for kind, name in zip(_KINDS, names, strict=True))
        if tree is None or env is None or (names[2] and built is None):
            return None
        return self._assemble(task, spec, tree, env, built)

    def _part(self, kind: str, key: str) -> _Part | None:
        marker = store.read_marker(self.root / kind / key) if key else None
        if marker is None or not packages.complete(self.root, marker.get("packages", ())):
            return None
        return key, marker

    def key(self, task: Task) -> str:
        """Return the key that a task's Snapshot has or would have; empty when that takes building to know."""
        if source := self.image_source(task):
            snapshot = self._of_image(task, source, build=False)
            return snapshot.key if snapshot else ""
        try:
            commit = self._commit(task)
        except SnapshotError:
            return ""
        keys = self._keys(task, commit)
        return _snapshot_key(*keys, self.masks(task)) if keys else ""

    def spec(self, task: Task) -> Spec | None:
        """Return how a task is installed and tested, what is derived included; None when that takes building to know."""
        if self.image_source(task):
            snapshot = self.get(task)
            return snapshot.spec if snapshot else None
        try:
            keys = self._keys(task, self._commit(task))
        except SnapshotError:
            return None
        return keys[0] if keys else None

    def source(self, task: Task) -> Source:
        """Return a task's repository on the host, bringing it onto this machine when that is needed."""
        key = (task.source, task.repo, task.base_commit)
        return self._once(key, lambda: open_source(task.source, self.root, task.repo, task.base_commit))

    def _once(self, key: Any, make: Callable[[], _Made]) -> _Made:
        """Make something, or repeat the error of a moment ago: a hundred tasks need not wait for one dead network."""
        when, error = self._failed.get(key, (0.0, None))
        if error is not None and time.monotonic() - when < _FAILURE_KEPT:
            raise SnapshotError(str(error)) from error
        try:
            return make()
        except SnapshotError as failure:
            self._failed[key] = time.monotonic(), failure
            raise

    # --- from images --------------------------------------------------------------------------------------------------

    def image(self, source: str | Path) -> oci.Image:
        """Return an image whose layers are in this cache, unpacking those that are not there yet.

        Args:
            source: A `docker save` archive, an OCI layout, `engine:NAME` or `docker://NAME`.

        Raises:
            SnapshotError: It cannot be had or read.
        """
        return oci.open_image(str(source), self.root)

    def image_source(self, task: Task) -> str:
        """Return where a task's image is found; empty when its Snapshot is built from its repository."""
        if task.source.startswith(image_snapshots.PREFIX):
            return task.source.removeprefix(image_snapshots.PREFIX)
        if not (self.images and task.image) or task.source:  # a source that is stated counts more than an image's name
            return ""
        if self.images in ("engine", "registry"):
            return f"{'engine:' if self.images == 'engine' else 'docker://'}{task.image}"
        return str(Path(self.images).expanduser() / f"{task.image.replace('/', '__').replace(':', '__')}.tar")

    def _of_image(self, task: Task, source: str, build: bool) -> Snapshot | None:
        if not build and not oci.is_unpacked(source, self.root):
            return None
        image = self.image(source)
        folder = self.root / "trees" / image_snapshots.tree_key(task, image)
        marker = store.read_marker(folder)
        if marker is None:
            if not build:
                return None
            marker, _ = store.build_once(folder, lambda place: image_snapshots.build_tree(place, task, image))
        spec = spec_for(task) if not needs_checkout(task) else spec_for(task, read_metadata(folder / "layer" / WORKDIR))
        return image_snapshots.assemble(task, spec, image, folder, marker, self.masks(task))

    # --- its parts ----------------------------------------------------------------------------------------------------

    def _commit(self, task: Task) -> str:
        if is_full_name(task.base_commit):
            return task.base_commit
        return self.source(task).resolve(task.base_commit)

    @contextlib.contextmanager
    def _base(self, task: Task, commit: str) -> Iterator[Path]:
        """Give the folder of a commit's clean files, which stays as long as it is used."""
        folder = self.root / "bases" / commit

        def build(temporary: Path) -> dict[str, Any]:
            source = self.source(task)
            return start_trees.build_base(temporary, source, source.resolve(commit), self.root / "files")

        with store.use(self.root, f"base-{commit}"):
            store.build_once(folder, build)
            yield folder

    def _drop_base(self, task: Task, commit: str) -> None:
        """Remove clean files that a tree holds as they are, folders of its own and all; only few tasks share a commit.

        Tasks with a planted bug keep theirs: there are many of them for each commit.
        """
        if task.setup_patch or task.hide_tests:
            return
        with store.unused(self.root, [f"base-{commit}"]) as free:
            if free:
                store.evict(self.root / "bases" / commit)

    def _keys(self, task: Task, commit: str) -> tuple[Spec, str, str, str] | None:
        """Return spec, and keys of tree, environment and install (or ""); nothing when that takes building to know."""
        metadata = self._known_metadata(commit) if needs_checkout(task) else None
        if needs_checkout(task) and metadata is None:
            return None
        spec = spec_for(task, metadata)
        env_key = self._environment_key(spec)
        if not env_key:
            return None
        built = installs.key(spec, commit, env_key) if spec.install or spec.pre_install else ""
        return spec, start_trees.tree_key(task, commit, built), env_key, built

    def _tree(self, task: Task, commit: str, built: _Part | None = None) -> _Part:
        """Return the key and marker of a task's START tree, building it when it is not there."""
        key = start_trees.tree_key(task, commit, built[0] if built else "")
        ignored = built[1]["added"] if built else ()

        def build(folder: Path) -> dict[str, Any]:
            with self._base(task, commit) as base:
                return start_trees.build_tree(folder, task, self.source(task), commit, base, self.root, ignored)

        return key, store.build_once(self.root / "trees" / key, build)[0]

    def _install(self, task: Task, commit: str, spec: Spec, env: _Part) -> _Part:
        """Return the key and marker of the project's own build, which every task of its commit shares."""
        key = installs.key(spec, commit, env[0])

        def build(folder: Path) -> dict[str, Any]:
            clean = replace(task, id=f"{task.repo} at {commit[:12]}", setup_patch="", hide_tests=False, test_patch="",
                            fail_to_pass=(), pass_to_pass=())  # fmt: skip
            return installs.build(folder, self._assemble(clean, spec, self._tree(clean, commit), env, None), spec)

        return key, store.build_once(self.root / "installs" / key, build)[0]

    def mask(self, task: Task, paths: Iterable[str]) -> None:
        """Hide files from the boxes of a task, because they give its fix away; its Snapshot then has another key.

        Args:
            task: The task, as it is: another gold patch is another task.
            paths: Absolute paths in the box.
        """
        found = sorted({*self.masks(task), *paths})
        store.write_json(self.root / "masks" / f"{answer_digest(task)}.json", {"task": task.id, "paths": found})

    def unmask(self, task: Task, paths: Iterable[str]) -> None:
        """Show everything to the boxes of a task again but the paths that are named."""
        file = self.root / "masks" / f"{answer_digest(task)}.json"
        if kept := sorted(paths):
            store.write_json(file, {"task": task.id, "paths": kept})
        else:
            file.unlink(missing_ok=True)

    def masks(self, task: Task) -> tuple[str, ...]:
        """Return the paths that are hidden from the boxes of a task."""
        noted = store.read_json(self.root / "masks" / f"{answer_digest(task)}.json")
        return tuple(noted["paths"]) if noted else ()

    def _known_metadata(self, commit: str) -> Metadata | None:
        """Return what was read from a commit's files earlier; it outlives the files."""
        marker = store.read_marker(self.root / "metadata" / self._metadata_key(commit))
        return Metadata.from_dict(marker["metadata"]) if marker else None

    def _metadata(self, task: Task, commit: str) -> Metadata | None:
        """Return what a commit's files say of the project, reading them once; nothing when the task states it all."""
        if not needs_checkout(task):
            return None

        def build(_: Path) -> dict[str, Any]:
            with self._base(task, commit) as base:
                date = time.strftime("%Y-%m-%d", time.gmtime((store.read_marker(base) or {}).get("date", 0)))
                return {"commit": commit, "metadata": asdict(replace(read_metadata(base / "tree"), date=date))}

        store.build_once(self.root / "metadata" / self._metadata_key(commit), build)
        return self._known_metadata(commit)

    @staticmethod
    def _metadata_key(commit: str) -> str:
        # The running Python is in the key because "which Python" is answered relative to it.
        return store.digest_of(_DERIVED, commit, find_interpreter().version)

    def _environment_key(self, spec: Spec) -> str:
        """Return the key of a spec's environment; empty when its requirements were never resolved here."""
        known = self._resolved.get(_wanted(spec))
        if known:
            return known[0]
        try:
            interpreter = self._interpreter(spec)
        except SnapshotError:
            return ""
        pins = known_pins(spec.packages, interpreter, spec.exclude_newer, self.root, spec.pins)
        return _env_key(interpreter, pins, spec.paths) if pins else ""

    def _interpreter(self, spec: Spec, install: bool = False) -> Interpreter:
        """Return the interpreter for a spec; one is installed only where that is asked for and allowed."""
        allowed = spec.allow_python or self.allow_python
        if install and allowed == "install":
            return install_interpreter(spec.python)
        return find_interpreter(spec.python, nearest=allowed == "nearest")

    def _environment(self, spec: Spec) -> _Part:
        """Return the key and marker of a spec's environment, building it when it is not there."""
        known = self._resolved.get(_wanted(spec))
        if known and self._part("envs", known[0]):
            return known
        found = self._once(_wanted(spec), lambda: self._build_environment(spec))
        self._resolved[_wanted(spec)] = found
        return found

    def _build_environment(self, spec: Spec) -> _Part:
        interpreter = self._interpreter(spec, install=True)
        pins = resolve(spec.packages, interpreter, spec.exclude_newer, self.root, spec.pins)
        key = _env_key(interpreter, pins, spec.paths)

        def build(folder: Path) -> dict[str, Any]:
            layer = folder / "layer"
            facts = build_venv(layer, interpreter, pins, spec.paths, self.root)
            (folder / "lock.txt").write_text(pins.text())
            store.share_files(layer, self.root / "files")
            facts["binds"] = [str(path) for path in interpreter.binds]
            return facts | {"digest": store.digest_tree(layer), "bytes": store.size_of(layer)}

        marker, _ = store.build_once(self.root / "envs" / key, build)
        if not packages.complete(self.root, marker["packages"]):  # somebody has removed them since
            store.evict(self.root / "envs" / key)
            marker, _ = store.build_once(self.root / "envs" / key, build)
        return key, marker

    def _assemble(self, task: Task, spec: Spec, tree: _Part, env: _Part, built: _Part | None) -> Snapshot:
        tree_folder, env_folder = self.root / "trees" / tree[0], self.root / "envs" / env[0]
        middle = (self.root / "installs" / built[0] / "layer",) if built else ()
        facts = {
            name: env[1][name] for name in ("python", "interpreter", "pins", "packages_from", "paths", "site_packages")
        }
        facts["resolved_by"] = env[1].get("resolved_by", "")
        seen = {name: tree[1][name] for name in ("source", "base_commit", "head", "seal", "not_hidden", "bytes")}
        masks = self.masks(task)
        facts["masks"] = list(masks)
        facts["python_note"] = other_than(spec.python, str(facts["python"]))
        parts = {"tree": tree[0], "env": env[0], "install": built[0] if built else ""}
        shared = packages.layers(self.root, env[1])
        facts["packages"] = list(env[1].get("packages", ()))
        meta = {"task": task.id, "repo": task.repo, **seen, **facts, **parts, "spec": spec.to_dict(),
                "builder": [start_trees.VERSION, BUILDER]}  # fmt: skip
        return Snapshot(
            key=_snapshot_key(spec, parts["tree"], parts["env"], parts["install"], masks),
            layers=(tree_folder / "layer", *middle, env_folder / "layer", *shared, conda.layer(self.root)),
            binds=tuple(Path(path) for path in env[1]["binds"]),
            git_dir=tree_folder / "layer" / WORKDIR / ".git",
            head=tree[1]["head"],
            env={"PATH": _PATH, "VIRTUAL_ENV": f"/{VENV}", **spec.env},
            tests=tree_folder / "tests",
            meta=meta,
            hidden=(*_hidden(tuple(env[1]["binds"]), self.root), *map(Path, masks)),
        )

    def _record(self, snapshot: Snapshot) -> None:
        """Note which parts make a Snapshot, or that it was used again."""
        path = self.root / "snapshots" / f"{snapshot.key}.json"
        try:
            os.utime(path, follow_symlinks=False)  # a shared cache's record is not ours to touch
        except FileNotFoundError:
            store.write_json(path, {"key": snapshot.key, **snapshot.meta})

    # --- all of them --------------------------------------------------------------------------------------------------

    def _records(self) -> list[tuple[dict[str, Any], float]]:
        """Return the record of every Snapshot that is complete, with the time of its last use."""
        found: list[tuple[dict[str, Any], float]] = []
        for path in sorted((self.root / "snapshots").glob("*.json")):
            record = store.read_json(path)
            if record and all(store.read_marker(folder) is not None for folder in self._parts(record)):
                found.append((record, path.lstat().st_mtime))
        return found

    def _parts(self, record: Mapping[str, Any]) -> list[Path]:
        keys = (record["tree"], record["env"], record.get("install", ""))
        own = [self.root / kind / key for kind, key in zip(_KINDS, keys, strict=True) if key]
        own += [self.root / packages.KIND / key for key in record.get("packages", ())]
        return own + [self.root / oci.KIND / key for key in record.get("image_layers", ())]

    def ls(self) -> pl.DataFrame:
        """Return one row a Snapshot: key, first task, repository, commit, Python, own bytes, shared bytes, last use."""
        import polars as pl

        rows = []
        for record, used in self._records():
            sizes = [(store.read_marker(folder) or {}).get("bytes", 0) for folder in self._parts(record)]
            rows.append({
                "key": record["key"], "task": record["task"], "repo": record["repo"], "commit": record["base_commit"],
                "python": record["python"], "packages": len(record["pins"]), "tree_bytes": sizes[0],
                "env_bytes": sum(sizes[1:]), "used_at": used, "env": record["env"],
            })  # fmt: skip
        schema = {"key": pl.String, "task": pl.String, "repo": pl.String, "commit": pl.String, "python": pl.String,
                  "packages": pl.Int64, "tree_bytes": pl.Int64, "env_bytes": pl.Int64, "used_at": pl.Float64,
                  "env": pl.String}  # fmt: skip
        frame = pl.DataFrame(rows, schema=schema)
        return frame.with_columns(pl.from_epoch(pl.col("used_at").cast(pl.Int64), time_unit="s"))

    def du(self) -> dict[str, int]:
        """Return the bytes on the disk by kind, and their total; what several trees share counts once."""
        seen: set[tuple[int, int]] = set()
        kinds = (
            sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.is_symlink())
            if self.root.is_dir()
            else []
        )
        sizes = {kind: store.size_of(self.root / kind, seen) for kind in kinds}
        return sizes | {"total": sum(sizes.values())}

    def verify(self, key: str) -> str:
        """Check a Snapshot's layers against the digests noted when they were built, and its seal.

        Returns:
            The audit line of the seal.

        Raises:
            SnapshotError: There is no such Snapshot, a layer has changed, or the seal does not hold.
        """
        record = next((record for record, _ in self._records() if record["key"] == key), None)
        if record is None:
            raise SnapshotError(f"verifying Snapshot {key!r}: {self.root} holds none with this key")
        for folder in self._parts(record):
            marker = store.read_marker(folder) or {}
            start_trees.same_content(folder / "layer", str(marker.get("digest")), f"Snapshot {key}")
        return verify_seal(self.root / "trees" / record["tree"] / "layer" / WORKDIR / ".git")

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
        wanted = None if keys is None else set(keys)
        chosen = [record for record, _ in self._records() if wanted is None or record["key"] in wanted]
        if lost := (wanted or set()) - {record["key"] for record in chosen}:
            raise SnapshotError(f"exporting Snapshot {min(lost)!r}: {self.root} holds none with this key")
        folders = [folder for record in chosen for folder in self._parts(record)]
        kinds = ("conda", "metadata", "pins")
        folders += [mark.parent for kind in kinds for mark in sorted((self.root / kind).glob(f"*/{store.MARKER}"))]
        return moving.write(self.root, chosen, folders, Path(file).expanduser().absolute())

    def import_from(self, file: str | Path) -> list[str]:
        """Take in the Snapshots of an exported file; what is there already stays. Returns their keys.

        Raises:
            SnapshotError: The file is no export, or is damaged.
        """
        return moving.read(self.root, Path(file).expanduser().absolute())

    def rebuild(self, tasks: Iterable[Task], filter: str = "", verify: bool = True) -> list[str]:  # noqa: A002
        """Build the Snapshots of tasks anew that are not as they were built.

        Args:
            tasks: The tasks.
            filter: A regular expression searched in their ids; only these.
            verify: Keep those that pass `verify`; otherwise all are built anew.

        Returns:
            The keys that were built anew.
        """
        made = []
        for task in tasks:
            if filter and not re.search(filter, task.id):
                continue
            snapshot = self.get(task)
            if snapshot is not None and verify:
                try:
                    self.verify(snapshot.key)
                    continue
                except SnapshotError:
                    pass
            if snapshot is not None:
                for folder in self._parts(snapshot.meta):
                    store.evict(folder)
            self._resolved.clear()
            made.append(self.build(task).key)
        return made

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
        wanted = None if keys is None else set(keys)
        now = time.time()
        records = {record["key"]: (record, used) for record, used in self._records()}
        chosen = [
            key for key, (_, used) in records.items()
            if (wanted is None or key in wanted) and (older_than is None or now - used >= older_than)
        ]  # fmt: skip
        with store.unused(self.root, chosen) as free:
            gone = [record for key, (record, _) in records.items() if key in free]
            self._remove(gone, [record for key, (record, _) in records.items() if key not in free])
        return [record["key"] for record in gone]

    def use(self, snapshot: Snapshot) -> IO[str]:
        """Keep a Snapshot from being evicted, until the file that is returned is closed, or this process ends."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.root / "snapshots" / f"{snapshot.key}.json", follow_symlinks=False)
        return store.use(self.root, snapshot.key)

    def _remove(self, gone: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]) -> None:
        for record in gone:
            (self.root / "snapshots" / f"{record['key']}.json").unlink(missing_ok=True)
        needed = {folder for record in kept for folder in self._parts(record)}
        for folder in {folder for record in gone for folder in self._parts(record)} - needed:
            store.evict(folder)
        histories.drop_unused(self.root)
        for commit in {r["base_commit"] for r in gone} - {r["base_commit"] for r in kept}:
            store.evict(self.root / "bases" / commit)
        store.drop_unused(self.root / "files")


@lru_cache(maxsize=64)
def _hidden(binds: tuple[str, ...], root: Path) -> tuple[Path, ...]:
    """Return the folders of this machine that boxes with these binds must not show."""
    shown = (Path("/usr"), *map(Path, binds))
    beside = (p for place in (*shown, Path("/usr/local")) for p in place.glob("lib/python3*/*-packages"))
    own = (Path(swebench_lab.__file__).parent, root)
    found = {p.resolve() for p in (*beside, *own) if p.is_dir()}
    return tuple(sorted(p for p in found if any(p.is_relative_to(place) for place in shown)))


def _snapshot_key(spec: Spec, tree: str, env: str, built: str, masks: tuple[str, ...] = ()) -> str:
    return store.digest_of(tree, env, built, dict(spec.env), *masks)


def _wanted(spec: Spec) -> tuple[Any, ...]:
    return spec.python, spec.packages, spec.pins, spec.paths, spec.exclude_newer, spec.allow_python


def _env_key(interpreter: Interpreter, pins: Pins, paths: tuple[str, ...]) -> str:
    place = (interpreter.version, str(interpreter.path))
    return store.digest_of(BUILDER, place, sysconfig.get_platform(), pins.lines, paths)
