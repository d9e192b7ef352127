"""Checkpoints: what a box changed, kept as read-only trees that other boxes start from.

A store is a folder with one tree per digest. Its trees were written by agents: only functions of `layers` touch what
is in them, and the folder is closed to other users, because a tree may hold set-user-id programs.
"""

import hashlib
import json
import os
import secrets
import tempfile
import threading
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swebench_lab.errors import SandboxError, SandboxUnavailable
from swebench_lab.sandbox.layers.tasks import task as local_task
from swebench_lab.sandbox.leases import leased_folder
from swebench_lab.sandbox.linux.per_process import PerProcess
from swebench_lab.sandbox.zygote.client import default_tier, remove_on_exit, renewed, zygote_of

MOST_LAYERS = 50
"""How many layers of checkpoints a box is opened with; beyond, runs of older ones are merged."""

NOTHING = hashlib.sha256().hexdigest()
"""Digest of a layer without changes."""

_MANY = 64  # layers that wait to be removed together
_RUN = 32  # layers merged into one; runs start at fixed places, so that all forks of a history share them


@dataclass(frozen=True)
class Layer:
    """What a box changed between two checkpoints, as a read-only tree that other boxes can start from.

    It holds files. What it does not hold: running processes, open files, the content of /dev/shm. A program that keeps
    writing through a memory map it made before the last checkpoint is seen only when its file's times change.

    Attributes:
        digest: SHA-256 over all that it holds: equal changes, equal digest.
        parents: Digests of the layers below it, oldest first.
        entries: What changed, as (kind, path) with kind "file", "dir", "link", "fifo" or "deleted"; paths from "/",
            without it.
        size: Bytes of the files in it.
        path: The folder that holds it.
        cwd: Where the box's session stood.
        env: The variables of the box's session; empty when it had none.
    """

    digest: str
    parents: tuple[str, ...]
    entries: tuple[tuple[str, str], ...]
    size: int
    path: Path
    cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def pack(self, file: str | Path) -> None:
        """Write the layer as one portable tar.gz: equal layers, equal bytes."""
        with open(file, "wb") as target:
            run_task("pack", [target.fileno()], tree=str(self.path))

    @staticmethod
    def unpack(
        file: str | Path,
        folder: str | Path,
        parents: Sequence[str] = (),
        cwd: str = "",
        env: Mapping[str, str] | None = None,
    ) -> "Layer":
        """Add a packed layer to the store in a folder; its digest is computed anew from what was written."""
        store = LayerStore(folder)
        with open(file, "rb") as source:
            return store.make("unpack", [source.fileno()], parents=parents, cwd=cwd, env=env)

    def __repr__(self) -> str:
        return f"<Layer {self.digest[:12]}: {len(self.entries)} changes, {self.size} bytes; files only, no processes>"


class LayerStore:
    """Layers in a folder, one tree per digest.

    Args:
        folder: Made if it does not exist, for its owner only.
        passing: Whether a layer goes when nothing holds it any more: no variable, no box, no fork.
    """

    def __init__(self, folder: str | Path, passing: bool = False) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._passing = passing
        self._lock = threading.Lock()
        self._holders: Counter[str] = Counter()
        self._dropped: deque[str] = deque()

    def make(
        self,
        task: str,
        descriptors: Sequence[int] = (),
        *,
        parents: Sequence[str] = (),
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        name: str = "",
        **arguments: Any,
    ) -> Layer:
        """Make a tree by a task of `layers` and keep it under its digest (or a name)."""
        draft = self.folder / f".draft-{secrets.token_hex(6)}"
        try:
            result = run_task(task, descriptors, target=str(draft), **arguments)
        except OSError as error:
            remove_tree(draft)
            raise SandboxError(f"{task} a layer into {self.folder}: {error.strerror}") from error
        digest = name or result["digest"]
        record = {"entries": result["entries"], "size": result["size"]}
        file = self.folder / f"{digest}.json"
        with self._lock:
            try:
                if not file.exists():
                    _write_whole(file, json.dumps(record))
            except OSError as error:
                remove_tree(draft)
                raise SandboxError(f"{task} a layer into {self.folder}: {error.strerror}") from error
            try:
                draft.rename(self.folder / digest)
            except OSError:  # another one made the same; theirs is as good
                remove_tree(draft)
            layer = self._hold(self._layer(digest, record, parents, cwd, env))
        if len(self._dropped) >= _MANY:
            self._remove_dropped()
        return layer

    def _hold(self, layer: Layer) -> Layer:
        """A layer whose tree stays while somebody holds it."""
        if self._passing:
            self._holders[layer.digest] += 1
            # Called wherever the interpreter drops the last reference, so it must do next to nothing.
            weakref.finalize(layer, self._dropped.append, layer.digest).atexit = False
        return layer

    def _remove_dropped(self) -> None:
        """Remove the trees that nobody holds any more."""
        folders = []
        with self._lock:
            while self._dropped:
                digest = self._dropped.popleft()
                self._holders[digest] -= 1
                if self._holders[digest] <= 0:
                    del self._holders[digest]
                    trash = self.folder / f".trash-{secrets.token_hex(6)}"
                    (self.folder / digest).rename(trash)
                    (self.folder / f"{digest}.json").unlink()
                    folders.append(str(trash))
        run_task("remove_all", folders=folders)

    def get(
        self, digest: str, parents: Sequence[str] = (), cwd: str = "", env: Mapping[str, str] | None = None
    ) -> Layer:
        """A layer of the store by its digest.

        Raises:
            SandboxError: The store does not hold it.
        """
        with self._lock:
            return self._hold(self._read(digest, parents, cwd, env))

    def _read(self, digest: str, parents: Sequence[str], cwd: str, env: Mapping[str, str] | None) -> Layer:
        try:
            record = json.loads((self.folder / f"{digest}.json").read_text())
        except FileNotFoundError:
            raise SandboxError(
                f"layer {digest} is not in {self.folder}; it was removed, or is kept elsewhere"
            ) from None
        return self._layer(digest, record, parents, cwd, env)

    def _layer(
        self, digest: str, record: Any, parents: Sequence[str], cwd: str, env: Mapping[str, str] | None
    ) -> Layer:
        entries = tuple((kind, path) for kind, path in record["entries"])
        return Layer(digest, tuple(parents), entries, record["size"], self.folder / digest, cwd, dict(env or {}))

    def chain(self, digests: Sequence[str]) -> tuple[Layer, ...]:
        """Layers of the store by their digests, oldest first, each with its parents."""
        return tuple(self.get(digest, digests[:index]) for index, digest in enumerate(digests))

    def shortened(self, layers: Sequence[Layer]) -> list[Layer]:
        """What a box is to be opened with, oldest first: at most `MOST_LAYERS`, runs of older ones merged."""
        remaining = [layer for layer in layers if layer.entries]
        while len(remaining) > MOST_LAYERS:
            run = min(_RUN, len(remaining))
            whole = len(remaining) // run * run
            remaining = [self._merge(remaining[at : at + run]) for at in range(0, whole, run)] + remaining[whole:]
        return remaining

    def _merge(self, layers: Sequence[Layer]) -> Layer:
        name = "run-" + hashlib.sha256("\n".join(layer.digest for layer in layers).encode()).hexdigest()
        if (self.folder / f"{name}.json").exists():
            return self.get(name)
        return self.make("squash", name=name, layers=[str(layer.path) for layer in layers])

    def remove(self, digest: str) -> None:
        """Forget a layer."""
        (self.folder / f"{digest}.json").unlink(missing_ok=True)
        run_task("remove", tree=str(self.folder / digest))

    def __repr__(self) -> str:
        return f"<LayerStore {self.folder}>"


def run_task(name: str, descriptors: Sequence[int] = (), **arguments: Any) -> Any:
    """Have a task of `layers` run where it has the rights that the root of a box had; raises OSError."""
    try:
        zygote = zygote_of(default_tier())
    except SandboxUnavailable:  # without namespaces there are no boxes of other owners either
        return local_task(name)(*descriptors, **arguments)
    try:
        return zygote.task(name, descriptors, **arguments)
    except FileNotFoundError:
        newer = renewed(zygote)
        if newer is None:
            raise
        return newer.task(name, descriptors, **arguments)


def remove_tree(folder: Path) -> None:
    """Delete a folder that agents may have written to, with all it holds."""
    run_task("remove", tree=str(folder))


def passing_home() -> Path:
    """Where processes of this user keep what need not outlive them."""
    return Path(tempfile.gettempdir()).resolve() / f"swebench-lab-{os.geteuid()}"


def passing_store() -> LayerStore:
    """The store for layers that need not outlive this process; one that nothing holds any more is removed before."""
    folder = leased_folder(passing_home(), remove_tree, remove_on_exit) / "layers"
    return _passing.get_or_make(folder, lambda: LayerStore(folder, passing=True))


_passing: PerProcess[Path, LayerStore] = PerProcess()


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        draft.write_text(text)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
